//! What the control topic holds: modules by name, jobs, swaps. JSON, described in `docs/formats/control.md`.
//!
//! Plain data, each with the format that it is written in. A neighbouring release may have written it: fields that this
//! program does not know are kept and written again. A format with another major number is refused, never half-read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::spec::JobSpec;
use super::unknown::{self, Unknown};
use crate::model::names::{JobNames, is_part};
use crate::model::{Digest, EventTime, TaskId, Uid};
use crate::wasm::contract::Description;

/// The newest format that this program writes.
pub const FORMAT: Format = Format { major: 2, minor: 0 };

/// What a record is written in, `2.0`. A greater minor number has fields that an older program may leave alone; a greater
/// major number says something that it must not leave alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Format {
    pub major: u32,
    pub minor: u32,
}

impl Format {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let format = Self { major: major.parse().ok()?, minor: minor.parse().ok()? };
        (format.to_string() == text).then_some(format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{}` is no format", text.escape_debug())))
    }
}

/// Key of a record. One topic, one namespace for each kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Module {
        name: String,
        version: String,
    },
    Job {
        name: String,
    },
    /// The newest swap of a job.
    Swap {
        job: Uid,
    },
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module { name, version } => write!(f, "module/{name}/{version}"),
            Self::Job { name } => write!(f, "job/{name}"),
            Self::Swap { job } => write!(f, "swap/{job}"),
        }
    }
}

impl Key {
    /// Reads what `Display` writes. None where the key is of a kind that this program does not know.
    pub fn parse(text: &str) -> Option<Self> {
        let key = match *text.split('/').collect::<Vec<_>>() {
            ["module", name, version] => Self::Module { name: name.to_owned(), version: version.to_owned() },
            ["job", name] if is_part(name) => Self::Job { name: name.to_owned() },
            ["swap", job] => Self::Swap { job: Uid::parse(job)? },
            _ => return None,
        };
        (key.to_string() == text).then_some(key)
    }
}

/// A module's name and version, and the bytes that they stand for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleId {
    pub name: String,
    pub version: String,
    #[serde(with = "as_text")]
    pub digest: Digest,
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({})", self.name, self.version, self.digest.short())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRecord {
    pub format: Format,
    pub id: ModuleId,
    /// Of the component.
    pub size_bytes: u64,
    pub pushed_at_ms: i64,
    pub description: Description,
    #[serde(skip)]
    pub unknown: Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    pub format: Format,
    /// A job created again under an old name is another job.
    #[serde(with = "as_text")]
    pub uid: Uid,
    pub name: String,
    pub incarnation: u64,
    pub created_at_ms: i64,
    pub desired: Desired,
    pub parallelism: u32,
    /// The spec in force; its modules are those of `modules`.
    pub spec: JobSpec,
    /// Per operator id the pinned module.
    pub modules: BTreeMap<String, ModuleId>,
    /// Per source id what it was resolved to when the job was created.
    pub sources: BTreeMap<String, SourceRecord>,
    /// The newest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_reset: Option<TimeResetRecord>,
    #[serde(skip)]
    pub unknown: Unknown,
}

impl JobRecord {
    /// Another spec takes the place of the one in force, and of all that this program does not know of that one.
    pub fn put_spec(&mut self, spec: JobSpec) {
        self.spec = spec;
        self.unknown.forget(&["spec"]);
    }

    /// Another module takes the operator's place.
    pub fn put_module(&mut self, operator: &str, module: &ModuleId) {
        self.modules.insert(operator.to_owned(), module.clone());
        self.unknown.forget(&["modules", operator]);
        if let Some(spec) = self.spec.operators.iter_mut().find(|spec| spec.id == operator) {
            spec.module = format!("{}@{}", module.name, module.version);
        }
    }

    /// A newer reset of event time takes the place of the last one.
    pub fn put_time_reset(&mut self, reset: TimeResetRecord) {
        self.time_reset = Some(reset);
        self.unknown.forget(&["time_reset"]);
    }

    pub fn names(&self) -> JobNames<'_> {
        JobNames::new(&self.name, self.uid)
    }
}

/// What is to become of a job. Every step is repeated after a restart until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// Internal topics and first headers are being written.
    Creating,
    Running,
    Stopped,
    /// Topics and directories are being removed, the record last.
    Deleting,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    pub topic: String,
    /// As 32 hex digits.
    pub topic_id: String,
    /// Where the job started, per partition from 0 on. Resolved once; never read again once every
    /// task has a header.
    pub start: Vec<i64>,
}

/// Event time is taken back, once by each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeResetRecord {
    /// Counts the job's resets from 1 on.
    pub number: u64,
    /// Nanoseconds since 1970; none: before all records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ns: Option<EventTime>,
    pub asked_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRecord {
    pub format: Format,
    #[serde(with = "as_text")]
    pub swap: Uid,
    #[serde(with = "as_text")]
    pub job_uid: Uid,
    pub job: String,
    pub operator: String,
    pub from: ModuleId,
    pub to: ModuleId,
    pub phase: SwapPhase,
    /// States of which the new version finds no value of the old one's: nobody migrates them, and the swap named them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub empty: BTreeSet<String>,
    /// Why it was abandoned or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// This swap takes back another one, by hand or by itself.
    pub rollback: bool,
    pub started_at_ms: i64,
    #[serde(default, with = "by_task")]
    pub tasks: BTreeMap<TaskId, SwitchedTask>,
    #[serde(skip)]
    pub unknown: Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapPhase {
    /// Tasks try the new version; nothing is committed under it. A restart abandons.
    Preparing,
    /// Decided. A restart goes on.
    Switching,
    /// Every task runs the new version and is watched.
    Probation,
    Done,
    Abandoned,
    /// The new version failed: tasks go back. A restart goes on.
    RollingBack,
    RolledBack,
}

impl SwapPhase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Switching => "switching",
            Self::Probation => "probation",
            Self::Done => "done",
            Self::Abandoned => "abandoned",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
        }
    }

    /// Nothing more will happen by itself.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Abandoned | Self::RolledBack)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchedTask {
    pub values_tried: u64,
    /// The first epoch under the new version; 0 = not yet.
    pub epoch: u64,
    pub pause_us: u64,
    /// Per source id and partition the first offset that the new version read.
    #[serde(default)]
    pub from: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// A record of the control topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Module(Box<ModuleRecord>),
    Job(Box<JobRecord>),
    Swap(Box<SwapRecord>),
}

impl Record {
    pub fn key(&self) -> Key {
        match self {
            Self::Module(module) => Key::Module { name: module.id.name.clone(), version: module.id.version.clone() },
            Self::Job(job) => Key::Job { name: job.name.clone() },
            Self::Swap(swap) => Key::Swap { job: swap.job_uid },
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        let (json, unknown) = match self {
            Self::Module(module) => (serde_json::to_value(module), &module.unknown),
            Self::Job(job) => (serde_json::to_value(job), &job.unknown),
            Self::Swap(swap) => (serde_json::to_value(swap), &swap.unknown),
        };
        let mut json = json.expect("records are plain data with text keys, which always have a JSON form");
        unknown.put_back(&mut json);
        json.to_string().into_bytes()
    }

    /// # Errors
    /// The format, where this program must not read it; or where the JSON is not a record.
    pub fn from_json(key: &Key, json: &[u8]) -> Result<Self, Unreadable> {
        let json: Value = serde_json::from_slice(json).map_err(|error| Unreadable::Damaged(error.to_string()))?;
        let format = readable_format(&json)?;
        // What is written again may hold fields of both programs.
        let format = format.max(FORMAT);
        let record = match key {
            Key::Module { .. } => unknown::read(json)
                .map(|(record, unknown)| Self::Module(Box::new(ModuleRecord { format, unknown, ..record }))),
            Key::Job { .. } => unknown::read(json)
                .map(|(record, unknown)| Self::Job(Box::new(JobRecord { format, unknown, ..record }))),
            Key::Swap { .. } => unknown::read(json)
                .map(|(record, unknown)| Self::Swap(Box::new(SwapRecord { format, unknown, ..record }))),
        };
        let record = record.map_err(Unreadable::Damaged)?;
        let found = record.key();
        if found == *key { Ok(record) } else { Err(Unreadable::Damaged(format!("it says that it is {found}"))) }
    }
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is written in this format.
    Format(String),
    Damaged(String),
}

fn readable_format(json: &Value) -> Result<Format, Unreadable> {
    let found = match json.get("format") {
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(other) => other.to_string(),
        None => return Err(Unreadable::Damaged("it does not say its format".to_owned())),
    };
    Format::parse(&found).filter(|format| format.major == FORMAT.major).ok_or(Unreadable::Format(found))
}

/// Tasks as the text that people see everywhere else, `main/3`.
mod by_task {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::SwitchedTask;
    use crate::model::TaskId;
    use crate::model::names::parse_task;

    pub fn serialize<S: Serializer>(tasks: &BTreeMap<TaskId, SwitchedTask>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(tasks.iter().map(|(id, task)| (id.to_string(), task)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<TaskId, SwitchedTask>, D::Error> {
        let id = |text: &str| {
            parse_task(text).ok_or_else(|| serde::de::Error::custom(format!("`{}` is no task", text.escape_debug())))
        };
        let tasks = BTreeMap::<String, SwitchedTask>::deserialize(from)?;
        tasks.into_iter().map(|(text, task)| Ok((id(&text)?, task))).collect()
    }
}

/// Identities as the text that people see everywhere else.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::{Digest, Uid};

    pub trait Text: Sized + std::fmt::Display {
        fn read(text: &str) -> Option<Self>;
    }

    impl Text for Digest {
        fn read(text: &str) -> Option<Self> {
            Self::parse(text)
        }
    }

    impl Text for Uid {
        fn read(text: &str) -> Option<Self> {
            Self::parse(text)
        }
    }

    pub fn serialize<T: Text, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        T::read(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no identity in hex digits")))
    }
}

#[cfg(test)]
mod tests;
