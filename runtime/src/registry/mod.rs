//! Uploaded components as bytes, by digest: files of one server, and records of a topic (`chunks`).
//!
//! Owns one directory of files `<sha256>.wasm`, written once and never changed. It is a cache: what is kept for good is
//! in the log. Knows nothing of names and versions (the control topic has those), and never runs or reads what it
//! stores: a file is given out only when its bytes still have the digest they are asked for by.

pub mod chunks;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Kind;
use crate::model::{Digest, Uid};

const EXTENSION: &str = "wasm";

/// A directory of modules. Several processes may share one: equal names have equal bytes.
#[derive(Clone, Debug)]
pub struct ModuleStore {
    dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("find module {digest} in {}: there is none", dir.display())]
    NotFound { digest: Digest, dir: PathBuf },
    #[error("read module {digest}: the file {} has digest {found}", path.display())]
    Damaged { digest: Digest, found: Digest, path: PathBuf },
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Damaged { .. } => Kind::Corrupt,
            Self::Io { .. } => Kind::Retry,
        }
    }
}

impl ModuleStore {
    pub fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(io_error("create directory", dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Stores the bytes durably; storing them again changes nothing, but mends a damaged file.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if self.get(digest).is_ok() {
            return Ok(digest);
        }
        let path = self.path(digest);
        let temporary = path.with_extension(format!("{}.tmp", Uid::random()));
        let written = write_durably(&temporary, &path, bytes);
        if written.is_err() {
            // The file that is left is useless; the first error is the one that is reported, whether removing it works
            // or not.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(io_error("write module", &path))?;
        Ok(digest)
    }

    /// The bytes with this digest, checked.
    pub fn get(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { digest, dir: self.dir.clone() });
            }
            read => read.map_err(io_error("read module", &path))?,
        };
        let found = Digest::of(&bytes);
        if found == digest { Ok(bytes) } else { Err(Error::Damaged { digest, found, path }) }
    }

    /// Whether there is a file, whatever it holds.
    pub fn has(&self, digest: Digest) -> bool {
        self.path(digest).exists()
    }

    /// Every digest there is a file of, sorted. Other files are left alone.
    pub fn list(&self) -> Result<Vec<Digest>, Error> {
        let failed = io_error("list directory", &self.dir);
        let entries = fs::read_dir(&self.dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
        let mut digests: Vec<_> = entries.iter().filter_map(|entry| digest_of(&entry.path())).collect();
        digests.sort();
        Ok(digests)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let hex = name.strip_prefix("sha256:").unwrap_or(&name);
        self.dir.join(hex).with_extension(EXTENSION)
    }
}

fn digest_of(path: &Path) -> Option<Digest> {
    let is_ours = path.extension().is_some_and(|extension| extension == EXTENSION);
    Digest::parse(path.file_stem()?.to_str()?).filter(|_| is_ours)
}

/// Writes to a temporary file and renames it: after a crash the name stands for the whole file, or for none.
fn write_durably(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ModuleStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(&dir.path().join("modules")).unwrap();
        (dir, store)
    }

    #[test]
    fn gives_back_what_was_put_and_lists_it_once() {
        let (_dir, store) = store();
        let digest = store.put(b"abc").unwrap();
        assert_eq!(store.put(b"abc").unwrap(), digest);
        assert_eq!(store.get(digest).unwrap(), b"abc");
        fs::write(store.dir.join("notes.txt"), b"not a module").unwrap();
        assert_eq!(store.list().unwrap(), [digest]);
    }

    #[test]
    fn a_damaged_file_is_never_given_out_and_mended_by_putting_again() {
        let (_dir, store) = store();
        let digest = store.put(b"abc").unwrap();
        fs::write(store.path(digest), b"abd").unwrap();
        assert_eq!(store.get(digest).unwrap_err().kind(), Kind::Corrupt);
        store.put(b"abc").unwrap();
        assert_eq!(store.get(digest).unwrap(), b"abc");
    }

    #[test]
    fn an_unknown_digest_is_not_found() {
        let (_dir, store) = store();
        assert_eq!(store.get(Digest::of(b"x")).unwrap_err().kind(), Kind::NotFound);
    }
}
