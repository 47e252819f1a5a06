//! What can be wrong with the bytes of a changelog.

use super::header::HeaderKind;
use crate::error::Kind;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "read a {what}: it has format {found}, this build reads up to {known}; run the build that wrote it or a newer one"
    )]
    Version { what: &'static str, found: u16, known: u16 },
    #[error("read a {what}: {found}")]
    Malformed { what: &'static str, found: String },
    #[error("read the delta of epoch {epoch}: {found}")]
    Damaged { epoch: u64, found: String },
    #[error(
        "follow the changelog: epoch {expected} was to come, found epoch {found}; part of the changelog is missing"
    )]
    Gap { expected: u64, found: u64 },
    #[error(
        "follow the changelog: the header of epoch {epoch} does not name the header before it; the changelog is not the one that was written"
    )]
    Unlinked { epoch: u64 },
    #[error("follow the changelog: the header of epoch {epoch} is of {found}, this task is {expected}")]
    Foreign { epoch: u64, expected: String, found: String },
    #[error("follow the changelog: epoch {epoch} is of kind {found:?}; exactly epoch 0 is a start")]
    Misplaced { epoch: u64, found: HeaderKind },
    #[error("write the delta of epoch {epoch}: {found}")]
    TooLarge { epoch: u64, found: String },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Version { .. } | Self::TooLarge { .. } => Kind::Invalid,
            _ => Kind::Corrupt,
        }
    }
}
