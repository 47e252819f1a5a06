//! Golden files: the bytes that a format's version writes, kept beside the code that writes them.
//!
//! Tests only. A file is never overwritten: whoever changes a format raises its version, which is part
//! of the file's name, and writes the new file with `FOREBAY_GOLDEN=write cargo test -p forebay --lib -- format release`.

use std::path::{Path, PathBuf};

/// Compares `bytes` with the golden file `name` (a path under `runtime/src`).
pub fn check(name: &str, bytes: &[u8]) {
    let stored = stored(name, || bytes.to_vec());
    let differs = stored.iter().zip(bytes).position(|(a, b)| a != b);
    assert!(
        stored == bytes,
        "{name}: the format's bytes have changed (first at byte {}): raise its version, keep reading the old one, \
         and write the new file with FOREBAY_GOLDEN=write",
        differs.unwrap_or(stored.len().min(bytes.len())),
    );
}

/// The folder of this crate's sources. Asked of cargo when a test runs: checkouts that share a target folder share the
/// binary too.
pub fn sources() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).join("src")
}

/// The golden file `name`; made by `write` where it does not exist and writing is asked for.
pub fn stored(name: &str, write: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = sources().join(name);
    if !path.exists() && std::env::var("FOREBAY_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, write()).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }
    std::fs::read(&path)
        .unwrap_or_else(|e| panic!("read {}: {e}; for a new version run with FOREBAY_GOLDEN=write", path.display()))
}
