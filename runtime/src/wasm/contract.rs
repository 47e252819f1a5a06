//! The guest contract as plain Rust: what goes into a call, what comes out, and who answers it.
//!
//! Mirrors `wit/transform.wit`, which holds the meaning of every column; names are the same. Knows
//! nothing of wasmtime, so that native code can stand in for a guest (benchmarks, tests).
//! Read [`Guest`] first.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Kind;
use crate::model::{Blobs, EventTime, Headers};

/// "None" wherever a position may be absent.
pub const NO_POSITION: u32 = u32::MAX;

/// One opened instance of a transform. May be thrown away between any two calls; after an error that
/// is a fault ([`GuestError::is_fault`]) it must be.
pub trait Guest: Send {
    /// What holds for the calls from here on. A guest that takes no time may leave it alone.
    fn limit(&mut self, _limits: &CallTime) {}
    fn process(&mut self, moment: Moment, batch: &RecordCall) -> Result<Answer, GuestError>;
    fn on_timer(&mut self, moment: Moment, batch: &TimerCall) -> Result<Answer, GuestError>;
    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError>;
}

/// How long a call may take.
#[derive(Clone, Debug, Default)]
pub struct CallTime {
    /// CPU time, where that is less than the engine allows.
    pub cpu_max: Option<Duration>,
    pub interrupt: Interrupt,
}

/// Tells a call that has taken long already to end, because its task has something else to do.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    pub generation: Arc<AtomicU64>,
    /// What the task has heard of.
    pub heard: u64,
}

impl Interrupt {
    pub fn is_raised(&self) -> bool {
        self.generation.load(Ordering::Acquire) != self.heard
    }
}

/// Makes opened instances of one module with one set of parameters.
pub trait GuestFactory: Send + Sync {
    fn description(&self) -> &Arc<Description>;
    /// Instantiates and opens.
    fn instantiate(&self, context: &Context) -> Result<Box<dyn Guest>, GuestError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub watermark: EventTime,
    /// `i64::MIN` unless the module declared the need for it.
    pub now: EventTime,
}

/// `keyed` of the contract: the distinct keys of a call and the values of its travelling states.
#[derive(Clone, Debug, Default)]
pub struct Keyed {
    pub keys: Blobs,
    /// Entry `s * keys.len() + slot`, in the schema version that the module declares.
    pub values: Blobs,
}

/// `record-batch` of the contract.
#[derive(Clone, Debug, Default)]
pub struct RecordCall {
    pub keyed: Keyed,
    /// Per record its key's slot; empty = the operator is not keyed.
    pub slots: Vec<u32>,
    /// Per record the declared input; empty = all by input 0.
    pub inputs: Vec<u8>,
    pub values: Blobs,
    pub event_times: Vec<EventTime>,
    /// The record keys where they are not the operator's keys (an operator that is not keyed).
    pub record_keys: Option<Blobs>,
    pub headers: Option<Headers>,
    pub coordinates: Option<Coordinates>,
    pub seeds: Vec<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coordinates {
    pub partitions: Vec<i32>,
    pub offsets: Vec<i64>,
}

/// `timer-batch` of the contract.
#[derive(Clone, Debug, Default)]
pub struct TimerCall {
    pub keyed: Keyed,
    pub slots: Vec<u32>,
    pub timers: Vec<u8>,
    pub times: Vec<EventTime>,
    pub seeds: Vec<u64>,
}

/// `answer` of the contract. As it came: call [`Answer::check`] before believing any of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub emitted: Emitted,
    pub writes: StateWrites,
    pub timers: TimerWrites,
    pub refusals: Vec<Refusal>,
    pub filtered: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Emitted {
    pub origins: Vec<u32>,
    pub outputs: Vec<u8>,
    pub values: Option<Blobs>,
    pub keys: Option<Blobs>,
    pub event_times: Vec<EventTime>,
    pub headers: Option<Headers>,
    pub partitions: Vec<i32>,
    /// Typed columns are a draft: an answer that holds any is refused.
    pub typed_columns: usize,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateWrites {
    pub states: Vec<u8>,
    pub slots: Vec<u32>,
    /// 0 put, 1 clear; 2 and 3 are drafts. Empty = all 0.
    pub ops: Vec<u8>,
    /// Entries belong to map states, a draft: must be empty.
    pub entry_keys: Blobs,
    pub values: Blobs,
    /// Empty = by the declared TTL; `i64::MAX` = never.
    pub expires: Vec<EventTime>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimerWrites {
    pub timers: Vec<u8>,
    pub slots: Vec<u32>,
    pub times: Vec<EventTime>,
    /// 1 set, 0 unset. Empty = all set.
    pub ops: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub record_index: u32,
    pub code: String,
    pub message: String,
}

/// One batch of values of one state in one version, to be brought to another.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    pub state: u8,
    pub from_version: u32,
    pub to_version: u32,
    pub keys: Blobs,
    pub values: Blobs,
}

/// Where an instance stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub job: String,
    pub operator_id: String,
    /// Declared parameters with presets filled in, in declared order.
    pub parameters: Vec<(String, String)>,
    pub connected_outputs: Vec<u8>,
}

/// What a module said of itself (`module-description` of the contract). Kept with the module as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub about: String,
    pub sdk: String,
    pub keyed: bool,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub states: Vec<StateDecl>,
    pub timers: Vec<TimerDecl>,
    pub parameters: Vec<ParameterDecl>,
    pub metrics: Vec<MetricDecl>,
    pub refusal_codes: Vec<String>,
    pub needs: Needs,
    pub viewable: bool,
}

/// A value state (list and map states are drafts, refused when a module asks for one).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateDecl {
    pub name: String,
    pub version: u32,
    pub reads: Vec<u32>,
    pub reverts_to: Vec<u32>,
    pub encoding: String,
    pub fingerprint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimerDecl {
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterDecl {
    pub name: String,
    pub about: String,
    pub required: bool,
    pub preset: Option<String>,
    pub secret: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricDecl {
    pub name: String,
    pub kind: String,
    pub unit: String,
    pub about: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    pub headers: bool,
    pub coordinates: bool,
    pub seeds: bool,
    pub processing_time: bool,
}

/// What a guest left when its panic hook ran: the record being handled and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    pub record_index: Option<u32>,
    pub message: String,
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    #[error("trapped: {message}")]
    Trap { message: Cow<'static, str>, last_words: Option<LastWords> },
    /// CPU time of the thread, not wall time.
    #[error("used more than its {limit_ms} ms of CPU time in one call")]
    Deadline { limit_ms: u64 },
    #[error("asked for more than its {limit_bytes} bytes of memory")]
    Memory { limit_bytes: usize },
    /// The answer is larger than one call may give; of fewer records it may well be right.
    #[error("answered too much: {0}")]
    TooMuch(String),
    /// The host ended a call that took long, for reasons of its own.
    #[error("was interrupted")]
    Interrupted,
    /// The answer broke the contract: which column, where, and how.
    #[error("answered wrongly: {0}")]
    Answer(String),
    /// The module says of itself that it cannot work.
    #[error("reports that it is broken: {0}")]
    Broken(String),
    #[error("asks to be tried again: {0}")]
    Retry(String),
    /// `open` refused the parameters.
    #[error("refuses to open: {0}")]
    Open(String),
    #[error("cannot migrate value {value_index}: {message}")]
    Migration { value_index: u32, message: String },
    /// A secret that it is to be opened with is not where the job says.
    #[error("cannot be given its parameter {0}")]
    Secret(String),
    /// Ours, not the guest's.
    #[error("host: {0}")]
    Host(String),
    /// The system's, not the guest's: memory maps, descriptors or threads ran out on this machine.
    #[error("could not be run: the system refused: {0}")]
    System(String),
}

impl GuestError {
    /// The instance must not be called again.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Retry(_) | Self::Open(_) | Self::Secret(_) | Self::Migration { .. })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Retry(_) | Self::Interrupted | Self::System(_) | Self::Secret(_) => Kind::Retry,
            Self::Open(_) => Kind::Invalid,
            Self::Host(_) => Kind::Bug,
            _ => Kind::Guest,
        }
    }
}
