//! Why a command failed, and the exit code that says so to scripts.

use std::process::ExitCode;

use forebay::api::client;
use forebay::api::server;
use forebay::error::Kind;
use forebay::model::text::printable_lines;
use tonic::Code;

/// The codes of `docs/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failure = 1,
    /// Usage, or a request that cannot be.
    Invalid = 2,
    NotFound = 3,
    Conflict = 4,
    /// Trying again may help.
    Unavailable = 5,
}

#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn other(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failure, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self { exit: Exit::Invalid, message: message.into() }
    }
}

/// Writes the failure to stderr.
pub fn report(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        eprintln!("error: {}", printable_lines(&failure.message));
    }
    ExitCode::from(failure.exit as u8)
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let exit = match &error {
            client::Error::Address(_) | client::Error::Encrypted(_) | client::Error::File { .. } => Exit::Invalid,
            client::Error::Unreachable { .. } | client::Error::Broken(_) => Exit::Unavailable,
            client::Error::Refused(status) => of_code(status.code()),
        };
        Self { exit, message: error.to_string() }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        client::Error::from(status).into()
    }
}

impl From<server::Error> for Failure {
    fn from(error: server::Error) -> Self {
        let exit = match error.kind() {
            Kind::Invalid => Exit::Invalid,
            Kind::NotFound => Exit::NotFound,
            Kind::Conflict | Kind::Fenced => Exit::Conflict,
            Kind::Retry => Exit::Unavailable,
            Kind::Guest | Kind::Corrupt | Kind::Bug => Exit::Failure,
        };
        Self { exit, message: error.to_string() }
    }
}

fn of_code(code: Code) -> Exit {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
        Code::NotFound => Exit::NotFound,
        Code::AlreadyExists | Code::Aborted => Exit::Conflict,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Exit::Unavailable,
        _ => Exit::Failure,
    }
}
