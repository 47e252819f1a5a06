//! What every test of the real binary needs: where the binary and the guests are.
//!
//! Nothing is skipped: a test that lacks something says what to build.

#![allow(clippy::panic, reason = "support for tests: what is missing fails them")]

use std::path::PathBuf;

/// The server's binary beside the tests, as `cargo build --workspace` puts it.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test knows its own path");
    // target/<profile>/deps/<test>
    let beside = test.ancestors().nth(2).map(|folder| folder.join(name)).unwrap_or_default();
    assert!(
        beside.exists(),
        "{} is not built: run `./xtask/test`, or `cargo build --workspace` first",
        beside.display()
    );
    beside
}

/// Bytes of a guest that `cargo xtask guests` has built.
pub fn guest(name: &str) -> Vec<u8> {
    let cache = std::env::var_os("FOREBAY_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/forebay");
    let path = cache.unwrap_or_else(home).join("guests").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}: run `cargo xtask guests`", path.display()))
}
