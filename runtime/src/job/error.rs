//! Why something could not be done to a job, and what the caller should do about it.

use crate::error::Kind;
use crate::model::{Digest, Uid};
use crate::{log, registry, task, wasm};

use super::plan::Refusal;
use super::spec;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Spec(#[from] spec::Error),
    #[error("job {job} cannot be applied:{}", list(refusals))]
    Refused { job: String, refusals: Vec<Refusal> },
    #[error("the swap of operator {operator} of job {job} is refused:{}", list(refusals))]
    SwapRefused { job: String, operator: String, refusals: Vec<Refusal> },
    #[error("event time of job {job} is not taken back:{}", list(refusals))]
    TimeResetRefused { job: String, refusals: Vec<Refusal> },
    #[error("no job is called {0}: see `forebay job list`")]
    UnknownJob(String),
    #[error("no module {0}: see `forebay module list`, or push it")]
    UnknownModule(String),
    #[error("job {job} has no operator {operator}; it has {known}")]
    UnknownOperator { job: String, operator: String, known: String },
    #[error("{doing}: {found}; {remedy}")]
    Invalid { doing: String, found: String, remedy: &'static str },
    #[error("{doing}: {found}; {remedy}")]
    Conflict { doing: String, found: String, remedy: &'static str },
    /// The name stands for something else.
    #[error("{doing}: {found}; {remedy}")]
    Taken { doing: String, found: String, remedy: &'static str },
    #[error("the module is refused:{}", lines(reasons))]
    Rejected { reasons: Vec<String> },
    #[error("{doing}: {found}")]
    Module { doing: String, found: String, kind: Kind },
    #[error("swap {swap} of job {job} was not made: {reason}")]
    SwapAbandoned { job: String, swap: Uid, reason: String },
    #[error("{doing}: no answer within {seconds} s; see `forebay job get`")]
    TimedOut { doing: String, seconds: u64 },
    #[error(
        "{doing}: task {tasks} has not ended within {seconds} s, it may be in a long call of its module; it goes on by \
         itself as soon as it has: see `forebay job get`"
    )]
    Ending { doing: String, tasks: String, seconds: u64 },
    #[error(
        "read record {key} of the control topic {topic}: {found}; the topic is damaged, or something else writes to it"
    )]
    Damaged { topic: String, key: String, found: String },
    #[error(
        "read record {key} of the control topic {topic}: it is written in format {found}, this release reads {major}.0 and \
         every {major}.x; start a release that reads it (the one that wrote it, or a later one); to come back to this one, \
         remove there what {key} stands for first"
    )]
    OtherFormat { topic: String, key: String, found: String, major: u32 },
    #[error(
        "start job {job}: its changelog, topic {topic}, is gone, and with it its positions and its state; restore the topic \
         with its records and apply the job, or delete the job and apply it to start anew"
    )]
    ChangelogGone { job: String, topic: String },
    #[error(
        "write to the control topic {topic}: it was deleted, and with it the records of all jobs; those that run go on, and \
         none can be changed: restore the topic with its records"
    )]
    ControlGone { topic: String },
    #[error("write to topic {topic}: still fenced by another server after {attempts} attempts")]
    Contended { topic: String, attempts: u32 },
    /// The module is known by name; waiting helps once its bytes are there again.
    #[error(
        "load module {digest}: topic {topic} does not have its bytes, and this server neither ({found}): push the \
         module again, and what waits for it starts by itself"
    )]
    NoBytes { digest: Digest, topic: String, found: String },
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Task(#[from] task::Error),
    #[error(transparent)]
    Wasm(#[from] wasm::Error),
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Spec(_)
            | Self::Rejected { .. }
            | Self::Refused { .. }
            | Self::SwapRefused { .. }
            | Self::TimeResetRefused { .. }
            | Self::Invalid { .. } => Kind::Invalid,
            Self::UnknownJob(_) | Self::UnknownModule(_) | Self::UnknownOperator { .. } => Kind::NotFound,
            Self::Conflict { .. } | Self::Taken { .. } => Kind::Conflict,
            Self::Module { kind, .. } => *kind,
            Self::SwapAbandoned { .. } => Kind::Guest,
            Self::TimedOut { .. }
            | Self::Ending { .. }
            | Self::Contended { .. }
            | Self::NoBytes { .. }
            | Self::Io { .. }
            | Self::ShuttingDown => Kind::Retry,
            Self::Damaged { .. } | Self::OtherFormat { .. } | Self::ChangelogGone { .. } | Self::ControlGone { .. } => {
                Kind::Corrupt
            }
            Self::Log(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Task(error) => error.kind(),
            Self::Wasm(error) => error.kind(),
        }
    }
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(|refusal| format!("\n  {refusal}")).collect()
}

fn lines(reasons: &[String]) -> String {
    reasons.iter().map(|reason| format!("\n  {reason}")).collect()
}
