//! What a task is told to be: everything resolved, nothing left to look up by name but modules.
//!
//! Made by `job` from a spec; read by `task` and `operator`. Plain data.

use std::path::PathBuf;
use std::time::Duration;

use crate::codec::{Partitioner, SourceCodec};
use crate::error::Kind;
use crate::log::{TopicInfo, TopicRules};
use crate::model::{Digest, NextOffset, PartitionId, TaskId, TopicId, Uid, names};
pub use crate::operator::dead_letter::{BadRecordPolicies, BadRecordPolicy, CODES_OF_OPERATORS, LETTER_BYTES_MIN};
pub use crate::operator::sink::SinkTimestamp;
pub use crate::operator::{ModuleRef, Parameter, Secret};
use crate::watermark::WatermarkSettings;

/// One task of one stage of one job. All that a task is told stands here, once, so that nothing else has to be passed beside
/// it.
#[derive(Clone)]
pub struct TaskPlan {
    pub job: JobIdentity,
    /// Part of the transactional id; its stage is part of the changelog's name.
    pub task: TaskId,
    pub parallelism: u32,
    pub sources: Vec<SourcePlan>,
    /// In an order in which every operator stands behind those that feed it.
    pub operators: Vec<OperatorPlan>,
    pub sinks: Vec<SinkPlan>,
    pub bad_records: BadRecordPolicies,
    pub dead_letters: TopicRef,
    pub changelog: TopicRef,
    pub settings: TaskSettings,
    /// Directory of this task's RocksDB; owned by it alone.
    pub state_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobIdentity {
    pub name: String,
    pub uid: Uid,
    pub incarnation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRef {
    pub name: String,
    pub id: TopicId,
    pub partitions: u32,
    pub rules: TopicRules,
}

impl From<TopicInfo> for TopicRef {
    fn from(info: TopicInfo) -> Self {
        let rules = info.rules();
        Self { name: info.spec.name, id: info.id, partitions: info.spec.partitions, rules }
    }
}

#[derive(Clone)]
pub struct SourcePlan {
    pub id: String,
    pub topic: TopicRef,
    /// The partitions of this task: p mod parallelism = task.
    pub partitions: Vec<PartitionId>,
    /// Where header 0 starts, per entry of `partitions`. Read only by a task without a header.
    pub start: Vec<NextOffset>,
    /// Decoding, key and event time.
    pub codec: SourceCodec,
    pub watermark: WatermarkSettings,
    /// Some operator fed by it (at any distance) keeps keyed state: partitions are checked per record.
    pub keyed: bool,
}

#[derive(Clone)]
pub struct OperatorPlan {
    pub id: String,
    /// What feeds the operator, and as which declared input of its module.
    pub inputs: Vec<(Origin, u8)>,
    /// The version that a task without a header starts with.
    pub module: ModuleRef,
}

/// Finds a module that a header names: the version is part of the commit.
pub trait ModuleSource: Send + Sync {
    /// # Errors
    /// Which module is missing or does not compile, and whose fault it is.
    fn module(&self, operator: &str, digest: Digest) -> Result<ModuleRef, Unavailable>;
}

/// Why a module cannot be had: a sentence, and whether waiting helps (trouble of the host) or only another module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    pub why: String,
    pub kind: Kind,
}

/// Where records come from inside a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Source(usize),
    Output { operator: usize, output: u8 },
}

#[derive(Clone)]
pub struct SinkPlan {
    pub id: String,
    /// The other cluster that has the topic; none: the job's home, the only one that takes part in the commit.
    pub cluster: Option<String>,
    pub topic: TopicRef,
    pub from: Origin,
    pub timestamp: SinkTimestamp,
}

#[derive(Clone, Debug)]
pub struct TaskSettings {
    pub commit_interval: Duration,
    /// An epoch closes when its overlay and output hold this many bytes.
    pub epoch_max_bytes: usize,
    /// Records of one poll; the watermark advances behind each poll.
    pub poll_max_records: usize,
    /// One guest call: at most this many records …
    pub batch_max_records: usize,
    /// … and about this many payload bytes.
    pub batch_max_bytes: usize,
    /// The value cache, bytes.
    pub cache_bytes: usize,
    /// Timers fired per guest call.
    pub timer_batch: usize,
    /// A task that has nothing to do looks up so often; records and another target wake it.
    pub idle_look: Duration,
    /// A task that has had nothing to write for so long gives up its writer.
    pub writer_idle: Duration,
}

impl TaskPlan {
    /// By what the keys of the task's records were spread. Sources that keep state by key agree on it where there are
    /// several tasks.
    pub fn partitioner(&self) -> Partitioner {
        let mut keyed = self.sources.iter().filter(|source| source.keyed);
        keyed.next().map_or_else(Partitioner::default, |source| source.codec.partitioner)
    }

    /// Fixed for the life of the job: what fences a predecessor of this task.
    pub fn transactional_id(&self) -> String {
        names::JobNames::new(&self.job.name, self.job.uid).transactional_id(&self.task)
    }
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(100),
            epoch_max_bytes: 32 << 20,
            poll_max_records: 1_024,
            batch_max_records: 1_024,
            batch_max_bytes: 1 << 20,
            cache_bytes: 256 << 20,
            timer_batch: 1_024,
            idle_look: Duration::from_millis(250),
            writer_idle: Duration::from_secs(60),
        }
    }
}
