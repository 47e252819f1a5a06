//! What goes wrong before a module is ready to be called.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::contract::GuestError;
use crate::error::Kind;
use crate::model::Digest;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start the Wasm engine: {0}")]
    Start(String),
    #[error("check the module: {0}")]
    Rejected(#[from] Rejected),
    #[error("{doing} {}, which compiles modules: {source}", program.display())]
    Process { doing: &'static str, program: PathBuf, source: io::Error },
    #[error("compile module {digest}: {message}")]
    Compile { digest: Digest, message: String },
    #[error("describe module {digest}: {source}")]
    Describe { digest: Digest, source: GuestError },
    #[error("load module {expected}: the bytes have digest {found}; upload the module again")]
    Digest { expected: Digest, found: Digest },
    #[error("{action} {}: {source}", path.display())]
    Cache { action: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Start(_) => Kind::Bug,
            Self::Rejected(_) => Kind::Invalid,
            Self::Describe { source, .. } if source.kind() == Kind::Retry => Kind::Retry,
            Self::Compile { .. } | Self::Describe { .. } => Kind::Guest,
            Self::Digest { .. } => Kind::Corrupt,
            Self::Cache { .. } | Self::Process { .. } => Kind::Retry,
        }
    }
}

/// Everything that is wrong with an upload, each as a sentence with its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub reasons: Vec<String>,
}

impl Rejected {
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()] }
    }
}

impl std::error::Error for Rejected {}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}
