//! What can go wrong with a task's state.

use std::path::{Path, PathBuf};

use crate::error::Kind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open the state in {dir}: another process or task holds its lock; stop that one first")]
    Locked { dir: PathBuf },
    #[error(
        "open the state in {dir}: it has format {found}, this build reads {known}; remove the directory to \
         rebuild it from the changelog"
    )]
    Format { dir: PathBuf, found: u32, known: u32 },
    #[error("{doing} in {dir}: {found}; remove the directory to rebuild it from the changelog")]
    Damaged { doing: &'static str, dir: PathBuf, found: String },
    #[error(
        "read state {state} of operator {operator}, key group {group}, key {key}: {found}; remove the task's \
         state directory to rebuild it from the changelog"
    )]
    Corrupt { operator: String, state: String, group: u16, key: String, found: String },
    #[error("{doing} in {dir}: {found}")]
    Store { doing: &'static str, dir: PathBuf, found: String },
    #[error("bind operator {operator}: {found}")]
    Bind { operator: String, found: String },
    #[error("replay changes up to epoch {epoch}: key {key} {found}")]
    Replay { epoch: u64, key: String, found: &'static str },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Locked { .. } | Self::Store { .. } => Kind::Retry,
            Self::Format { .. } | Self::Damaged { .. } | Self::Corrupt { .. } | Self::Replay { .. } => Kind::Corrupt,
            Self::Bind { .. } => Kind::Invalid,
        }
    }

    /// Sorts an error of RocksDB into what the caller can do about it.
    pub(super) fn rocksdb(doing: &'static str, dir: &Path, error: &rocksdb::Error) -> Self {
        let dir = dir.to_owned();
        let found = error.to_string();
        match error.kind() {
            rocksdb::ErrorKind::IOError if found.contains("lock") && found.contains("LOCK") => Self::Locked { dir },
            // A file that the store names and the disk does not have, or one that is not what was written.
            rocksdb::ErrorKind::IOError if found.contains("No such file") => Self::Damaged { doing, dir, found },
            rocksdb::ErrorKind::Corruption
            | rocksdb::ErrorKind::NotFound
            | rocksdb::ErrorKind::NotSupported
            | rocksdb::ErrorKind::InvalidArgument => Self::Damaged { doing, dir, found },
            _ => Self::Store { doing, dir, found },
        }
    }
}
