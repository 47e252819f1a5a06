//! Operators: what is done to records between decoding and the writer.
//!
//! Owns the chain of operators of one task, the columns between them, and what becomes of bad
//! records. Uses `state` for the overlay and `wasm` for its contract; knows nothing of logs, epochs
//! and commits. Read [`chain`] first, then [`kind`] (what every operator is) and
//! [`transform`] (one that is a module).

mod call;
pub mod chain;
pub mod dead_letter;
mod flow;
pub mod head;
pub mod kind;
pub mod migration;
mod module;
pub mod outlet;
pub mod pace;
pub mod sink;
pub mod transform;

pub use flow::Lineage;
pub use module::{ModuleRef, Parameter, Secret};

use crate::error::Kind;
use crate::model::EventTime;
use crate::wasm::contract::GuestError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("operator {operator}: module {module} {source}")]
    Guest { operator: String, module: String, source: GuestError },
    #[error("migrate {0}")]
    Migration(String),
    /// Under the policy `fail`.
    #[error("{0}")]
    BadRecord(String),
    #[error("operator {operator}: the timer of key {key:?} at {time} set itself again {times} times at the same time")]
    TimerLoop { operator: String, key: String, time: EventTime, times: u32 },
    #[error(
        "operator {operator}: the timer of key {key:?} at {time} is one of {times} that set each other before event \
         time had passed them; times are nanoseconds since 1970: look at the step between them"
    )]
    TimerChain { operator: String, key: String, time: EventTime, times: u32 },
    /// A call failed of which nothing was taken. The caller has asked to be told, so as to take the work apart itself.
    #[error("operator {operator}: a call failed: {message}")]
    Faulted {
        operator: String,
        /// The record that is known to be the cause.
        at: Option<Lineage>,
        code: &'static str,
        message: String,
    },
    /// The work took long, and the caller has something else to do first. Nothing of what it left is to be kept.
    #[error("operator {operator}: the work was interrupted")]
    Interrupted { operator: String },
    #[error(transparent)]
    State(#[from] crate::state::Error),
}

impl Error {
    pub(crate) fn guest(operator: &str, module: &ModuleRef, source: GuestError) -> Self {
        Self::Guest { operator: operator.to_owned(), module: module.to_string(), source }
    }

    pub fn kind(&self) -> Kind {
        match self {
            // It has opened under these parameters before: they were looked at when the job was planned.
            Self::Guest { source: GuestError::Open(_), .. } => Kind::Guest,
            Self::Guest { source, .. } => source.kind(),
            Self::Migration(_)
            | Self::BadRecord(_)
            | Self::TimerLoop { .. }
            | Self::TimerChain { .. }
            | Self::Faulted { .. } => Kind::Guest,
            Self::Interrupted { .. } => Kind::Retry,
            Self::State(error) => error.kind(),
        }
    }
}
