//! Why the checker could not judge. None of these says anything about the job.

use std::fmt;

use krafka::KrafkaError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}: {source}")]
    Kafka { doing: String, source: Box<KrafkaError> },
    /// What Kafka answered cannot be.
    #[error("{doing}: {found}")]
    Reading { doing: String, found: String },
    /// The input or the output is not such that anything follows from it.
    #[error("{what}")]
    Unfit { what: String },
    #[error("{doing}: {found} within {waited_s} s")]
    Patience { doing: String, found: String, waited_s: u64 },
}

impl Error {
    pub fn unfit(what: impl fmt::Display) -> Self {
        Self::Unfit { what: what.to_string() }
    }

    pub fn reading(doing: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::Reading { doing: doing.to_string(), found: found.to_string() }
    }
}

/// Says what was being done when the client failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, KrafkaError> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Kafka { doing: what(), source: Box::new(source) })
    }
}
