//! From an error of ours to what gRPC says: the kind decides the code, the message goes along.

use std::fmt::Display;

use tonic::{Code, Status};

use crate::error::Kind;
use crate::{job, log};

/// The code that tells a client what to do, as `Kind` tells a caller.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::Retry => Code::Unavailable,
        Kind::Guest => Code::FailedPrecondition,
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Conflict => Code::AlreadyExists,
        Kind::Corrupt => Code::DataLoss,
        Kind::Fenced => Code::Aborted,
        Kind::Bug => Code::Internal,
    }
}

fn status(kind: Kind, error: &impl Display) -> Status {
    let code = code(kind);
    if matches!(code, Code::Internal | Code::DataLoss) {
        tracing::error!("{error}");
    }
    Status::new(code, error.to_string())
}

impl From<job::Error> for Status {
    fn from(error: job::Error) -> Self {
        match error {
            // ABORTED and not ALREADY_EXISTS: the job has changed, or is changing, since the caller looked at it.
            job::Error::Conflict { .. } => Status::aborted(error.to_string()),
            error => status(error.kind(), &error),
        }
    }
}

impl From<log::Error> for Status {
    fn from(error: log::Error) -> Self {
        status(error.kind(), &error)
    }
}

/// Runs what may block beside the threads that serve connections.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: Into<Status> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(error) => Err(Status::internal(format!("the call ended early: {error}"))),
    }
}
