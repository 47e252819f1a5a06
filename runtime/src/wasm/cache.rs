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

/// The compiled form of `component`: from the cache, or compiled and put there.
pub(super) fn compiled(engine: &Engine, digest: Digest, component: &[u8], dir: &Path) -> Result<Component, Error> {
    let path = dir.join(file_name(engine, digest));
    if let Some(found) = read(engine, &path) {
        return Ok(found);
    }
    let code = compile(engine, digest, component)?;
    write(dir, &path, &code).map_err(|source| Error::Cache { action: "write compiled module", path, source })?;
    // SAFETY: `code` was made by this engine a moment ago and has not left this process.
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
    let temporary = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(MAGIC)?;
    file.write_all(blake3::hash(code).as_bytes())?;
    file.write_all(code)?;
    drop(file);
    // Not synced: a file torn by a crash fails its hash and is made anew.
    fs::rename(&temporary, path)
}

/// Compiles on a thread of its own with low priority, one function at a time: a compile takes
/// seconds for big modules and must not take the cores from running tasks.
///
/// Cranelift promises no bound on its time. The upload limit and wasmparser's limits (functions, bodies,
/// locals, nesting) bound the input; a compile that is slow all the same costs this thread and its
/// caller, which is why `load` is never called on the record path.
fn compile(engine: &Engine, digest: Digest, component: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |message: String| Error::Compile { digest, message };
    let compiled = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("forebay-compile".to_owned()).spawn_scoped(scope, || {
            yield_to_others();
            engine.precompile_component(component).map_err(|e| format!("{e:#}"))
        });
        thread.map(std::thread::ScopedJoinHandle::join)
    });
    match compiled {
        Ok(Ok(code)) => code.map_err(failed),
        Ok(Err(_)) => Err(failed("the compiler panicked".to_owned())),
        Err(error) => Err(failed(format!("start a thread: {error}"))),
    }
}

fn yield_to_others() {
    const NICENESS: i32 = 10;
    // SAFETY: no pointers. On Linux 0 means the calling thread; a refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
