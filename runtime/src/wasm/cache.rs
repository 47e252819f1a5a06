//! Compiled modules on disk, by digest of the component and by engine version and settings.
//!
//! Owns the files `<digest>-<engine>.cwasm` in one directory. Deserializing compiled code is only as
//! safe as the code is ours, so the directory must be the host's own; each file carries a BLAKE3 of
//! its code, and a file that does not match it, or that this engine did not write, is made anew.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::error::Error;
use crate::model::Digest;

const MAGIC: &[u8; 8] = b"FOREBAY1";
const HASH_LEN: usize = 32;

/// The compiled form of a component: from the cache, or made by `compile` and put there.
pub(super) fn compiled(
    engine: &Engine,
    digest: Digest,
    dir: &Path,
    compile: impl FnOnce() -> Result<Vec<u8>, Error>,
) -> Result<Component, Error> {
    let path = dir.join(file_name(engine, digest));
    if let Some(found) = read(engine, &path) {
        return Ok(found);
    }
    let code = compile()?;
    write(dir, &path, &code).map_err(|source| Error::Cache { action: "write compiled module", path, source })?;
    // SAFETY: `code` was made a moment ago by this program, here or in a process of its own; wasmtime itself refuses
    // that of another version or other settings.
    unsafe { Component::deserialize(engine, &code) }
        .map_err(|e| Error::Compile { digest, message: format!("load what was compiled: {e:#}") })
}

fn file_name(engine: &Engine, digest: Digest) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = digest.to_string();
    let hex = digest.strip_prefix("sha256:").unwrap_or(&digest);
    format!("{hex}-{:016x}.cwasm", hasher.finish())
}

/// `None` where there is no such file or it is not as we wrote it.
fn read(engine: &Engine, path: &Path) -> Option<Component> {
    let file = fs::read(path).ok()?;
    let Some(code) = intact(&file) else {
        tracing::warn!(path = %path.display(), "compiled module is damaged: it is compiled again");
        return None;
    };
    // SAFETY: the hash says that these are bytes that `write` was given, and `write` is given only
    // what `precompile_component` made; wasmtime itself refuses another version's or setting's code.
    match unsafe { Component::deserialize(engine, code) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "compiled module does not load: it is compiled again");
            None
        }
    }
}

fn intact(file: &[u8]) -> Option<&[u8]> {
    let rest = file.strip_prefix(MAGIC)?;
    let (hash, code) = rest.split_at_checked(HASH_LEN)?;
    (blake3::hash(code).as_bytes() == hash).then_some(code)
}

/// Whoever can write here can run native code as the host: nobody else may.
fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write(dir: &Path, path: &PathBuf, code: &[u8]) -> io::Result<()> {
    create_private(dir)?;
    let temporary = path.with_extension(format!("{}.tmp", crate::model::Uid::random()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(MAGIC)?;
    file.write_all(blake3::hash(code).as_bytes())?;
    file.write_all(code)?;
    drop(file);
    // Not synced: a file torn by a crash fails its hash and is made anew.
    fs::rename(&temporary, path)
}
