//! What the control topic holds: modules by name, jobs, swaps. JSON, described in `docs/formats/control.md`.
//!
//! Plain data with a format version each. A record of a version that this program does not know is
//! refused, never half-read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::spec::JobSpec;
use crate::model::names::JobNames;
use crate::model::{Digest, Uid};
use crate::wasm::contract::Description;

/// Version of every record's format. Raised with any change that an older program would misread.
pub const FORMAT: u32 = 1;

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
    /// Reads what `Display` writes. Names hold no slash.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        match kind {
            "module" => {
                let (name, version) = rest.split_once('/')?;
                Some(Self::Module { name: name.to_owned(), version: version.to_owned() })
            }
            "job" => Some(Self::Job { name: rest.to_owned() }),
            "swap" => Uid::parse(rest).map(|job| Self::Swap { job }),
            _ => None,
        }
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
    pub format: u32,
    pub id: ModuleId,
    /// Of the component.
    pub size_bytes: u64,
    pub pushed_at_ms: i64,
    pub description: Description,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    pub format: u32,
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
}

impl JobRecord {
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRecord {
    pub format: u32,
    #[serde(with = "as_text")]
    pub swap: Uid,
    #[serde(with = "as_text")]
    pub job_uid: Uid,
    pub job: String,
    pub operator: String,
    pub from: ModuleId,
    pub to: ModuleId,
    pub phase: SwapPhase,
    /// Why it was abandoned or rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// This swap takes back another one, by hand or by itself.
    pub rollback: bool,
    pub started_at_ms: i64,
    #[serde(default)]
    pub tasks: BTreeMap<u32, SwitchedTask>,
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
        let json = match self {
            Self::Module(module) => serde_json::to_vec(module),
            Self::Job(job) => serde_json::to_vec(job),
            Self::Swap(swap) => serde_json::to_vec(swap),
        };
        json.expect("records are plain data with text keys, which always have a JSON form")
    }

    /// # Errors
    /// A sentence: which version was found, or where the JSON is not a record.
    pub fn from_json(key: &Key, json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let text = |error: serde_json::Error| error.to_string();
        let Versioned { format } = serde_json::from_slice(json).map_err(text)?;
        if format != FORMAT {
            return Err(format!("it has format {format}, this program knows {FORMAT}"));
        }
        let record = match key {
            Key::Module { .. } => Self::Module(serde_json::from_slice(json).map_err(text)?),
            Key::Job { .. } => Self::Job(serde_json::from_slice(json).map_err(text)?),
            Key::Swap { .. } => Self::Swap(serde_json::from_slice(json).map_err(text)?),
        };
        let found = record.key();
        if found == *key { Ok(record) } else { Err(format!("it says that it is {found}")) }
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
