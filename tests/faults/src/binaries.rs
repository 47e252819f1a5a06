//! Where the programs under test and the modules are.

use std::path::PathBuf;

/// A program of this workspace, as `cargo build --workspace` puts it beside this one.
///
/// # Errors
/// It is not built.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("find the built programs: {error}"))?;
    // target/<profile>/forebay-faults, or target/<profile>/deps/<test>
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    let folder = own.parent().unwrap_or(&own).display();
    found.ok_or_else(|| {
        format!(
            "find {name} beside {folder}: it is not built: run `./xtask/test`, or `cargo build --release --workspace`"
        )
    })
}

/// Bytes of a guest that `cargo xtask guests` has built.
///
/// # Errors
/// It is not built.
pub fn guest(name: &str) -> Result<Vec<u8>, String> {
    let cache = std::env::var_os("FOREBAY_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/forebay");
    let path = cache.unwrap_or_else(home).join("guests").join(format!("{name}.wasm"));
    std::fs::read(&path).map_err(|error| format!("read {}: {error}: run `cargo xtask guests`", path.display()))
}
