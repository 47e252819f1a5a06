//! The log seam: everything the runtime knows of topics goes through the traits of this module.
//!
//! Implementations: `embedded` (RocksDB inside the process) and `kafka` (librdkafka). Callers see blocking calls; each reader and
//! writer belongs to one thread. Nothing here knows of jobs, tasks or state. [`clusters`] are the logs of one process by name.
//! Read [`Log`] first, then [`Writer`] (one epoch = one transaction), then [`Reader`]; [`Outlet`] is for other clusters.

pub mod clusters;
#[cfg(test)]
pub mod conformance;
pub mod embedded;
pub mod kafka;
pub mod read;
#[cfg(test)]
pub mod sim;
mod wake;

use std::time::Duration;

use serde::{Deserialize, Serialize};
pub use wake::Waker;

use crate::error::Kind;
use crate::model::{Headers, NextOffset, PartitionBatch, PartitionId, TopicId};

/// What becomes of old records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cleanup {
    /// Kept until truncated.
    Delete,
    /// The newest record of each key is kept, a tombstone for a while.
    Compact,
}

impl Cleanup {
    /// As Kafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        }
    }
}

/// What a topic is created with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: u32,
    pub cleanup: Cleanup,
    /// Largest record (key, value and headers) that the topic takes, bytes.
    pub max_record_bytes: u32,
}

/// A topic as it exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    pub id: TopicId,
    pub spec: TopicSpec,
    /// Which timestamps its records may have.
    #[serde(skip)]
    pub timestamps: TimestampBounds,
}

/// Timestamps that a topic keeps, as distances from now. Older ones its retention would delete at once (or the
/// broker refuses them), later ones the broker refuses. `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampBounds {
    pub max_behind_ms: Option<i64>,
    pub max_ahead_ms: Option<i64>,
}

/// What a record must be like for a topic to take and keep it: checked before it reaches a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRules {
    pub max_record_bytes: u32,
    /// Of a compacted topic.
    pub needs_key: bool,
    pub timestamps: TimestampBounds,
}

impl TopicInfo {
    pub fn rules(&self) -> TopicRules {
        TopicRules {
            max_record_bytes: self.spec.max_record_bytes,
            needs_key: self.spec.cleanup == Cleanup::Compact,
            timestamps: self.timestamps,
        }
    }
}

/// Which records a reader is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    /// Shows records of open and aborted epochs too. The embedded log never shows them: it makes an
    /// epoch's records visible at its commit, which this level allows.
    ReadUncommitted,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: i64,
    /// The end for readers of committed records.
    pub stable: i64,
    pub end: i64,
}

/// Where a reader starts. The topic id makes a topic that was made again under its name an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub topic: String,
    pub id: TopicId,
    pub partition: PartitionId,
    /// Absolute. There is no reset: an offset that the partition does not hold is [`Error::OffsetOutOfRange`].
    pub offset: i64,
    /// Of the record before `offset`, where it is known: so the log can tell whether it still is the one that was read.
    pub leader_epoch: Option<i32>,
}

impl Assignment {
    /// At an offset whose leader epoch is not known.
    pub fn new(topic: &str, id: TopicId, partition: PartitionId, offset: i64) -> Self {
        Self { topic: topic.to_owned(), id, partition, offset, leader_epoch: None }
    }
}

/// How far somebody has read in one partition, for tools that watch consumer groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPosition {
    pub topic: String,
    pub partition: PartitionId,
    pub next: NextOffset,
}

/// How much one poll may bring.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub max_records: usize,
    pub max_bytes: usize,
}

/// What the call that ended an epoch can be said to have done.
#[derive(Debug)]
pub enum CommitOutcome {
    /// It surely happened, and nothing went wrong on the way.
    Committed,
    /// Nobody here knows. The writer is spent: take over anew and read what the log says.
    Indefinite(Error),
}

pub trait Log: Send + Sync {
    /// # Errors
    /// [`Error::TopicExists`], [`Error::InvalidTopic`].
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, Error>;
    /// # Errors
    /// [`Error::UnknownTopic`].
    fn delete_topic(&self, name: &str) -> Result<(), Error>;
    /// # Errors
    /// [`Error::UnknownTopic`].
    fn topic(&self, name: &str) -> Result<TopicInfo, Error>;
    /// All topics by name, internal ones (`__forebay.…`) too.
    fn topics(&self) -> Result<Vec<TopicInfo>, Error>;
    /// Those of the named topics that exist. What a caller needs few of, it asks for by name: a cluster may have many.
    fn topics_named(&self, names: &[&str]) -> Result<Vec<TopicInfo>, Error> {
        let found = names.iter().map(|name| match self.topic(name) {
            Ok(topic) => Ok(Some(topic)),
            Err(Error::UnknownTopic(_)) => Ok(None),
            Err(error) => Err(error),
        });
        found.filter_map(Result::transpose).collect()
    }
    /// Refuses a topic of the runtime's own that does not have the settings which keep its records: they may have been
    /// changed since it was created.
    ///
    /// # Errors
    /// [`Error::UnsafeTopic`], [`Error::UnknownTopic`].
    fn check_internal(&self, name: &str, partitions: u32, cleanup: Cleanup) -> Result<(), Error> {
        let found = self.topic(name)?.spec;
        check_shape(&found, partitions, cleanup)
    }
    /// Creates a topic of the runtime's own; one that exists has to have the settings which keep its records.
    ///
    /// # Errors
    /// [`Error::UnsafeTopic`], [`Error::InvalidTopic`].
    fn ensure_internal(&self, spec: &TopicSpec) -> Result<(), Error> {
        match self.create_topic(spec) {
            Err(Error::TopicExists(_)) => self.check_internal(&spec.name, spec.partitions, spec.cleanup),
            created => created.map(drop),
        }
    }
    /// The first offset that the partition still holds (or will give to its next record).
    fn start_offset(&self, topic: &str, partition: PartitionId) -> Result<i64, Error>;
    /// Behind the last record and marker. Under [`Isolation::ReadCommitted`] the last stable offset.
    fn end_offset(&self, topic: &str, partition: PartitionId, isolation: Isolation) -> Result<i64, Error>;
    /// What each partition of a topic holds, from 0 on.
    fn spans(&self, topic: &TopicSpec) -> Result<Vec<Span>, Error> {
        let span = |partition| {
            Ok(Span {
                start: self.start_offset(&topic.name, partition)?,
                stable: self.end_offset(&topic.name, partition, Isolation::ReadCommitted)?,
                end: self.end_offset(&topic.name, partition, Isolation::ReadUncommitted)?,
            })
        };
        (0..topic.partitions as i32).map(span).collect()
    }
    /// The first offset whose timestamp is at or after `timestamp_ms`; the end offset where there is none.
    fn offset_for_timestamp(&self, topic: &str, partition: PartitionId, timestamp_ms: i64) -> Result<i64, Error>;
    /// Truncates: removes the records before `offset` for ever.
    fn delete_records(&self, topic: &str, partition: PartitionId, offset: i64) -> Result<(), Error>;
    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, Error>;
    /// Told that readers of these topics will be asked for soon: a log may connect meanwhile. Never fails.
    fn expect_readers(&self, _topics: &[&str], _isolation: Isolation) {}
    /// Takes over `transactional_id`: when this returns, an earlier writer of that id can commit
    /// nothing more, and what it had open is aborted or complete.
    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, Error>;
    /// How long an epoch may be open before the cluster aborts it; none where it may be open for ever.
    fn epoch_timeout(&self) -> Option<Duration> {
        None
    }
    /// Whether what was committed outlives the machine of this process. Where it does not, a machine that lost its power
    /// may have taken the newest epochs with it, of all topics alike.
    fn outlives_machine(&self) -> bool {
        true
    }
    /// Appends outside any epoch (a plain producer). Returns the offset of the first record.
    fn produce(&self, records: &PartitionBatch) -> Result<i64, Error>;
    /// A way to append outside any epoch that waits for many acknowledgements at once. A log without one says so.
    ///
    /// # Errors
    /// [`Error::Denied`].
    fn outlet(&self) -> Result<Box<dyn Outlet>, Error> {
        Err(Error::Denied {
            doing: "write at least once".to_owned(),
            found: "this log writes in epochs only".to_owned(),
            remedy: "write to a cluster that takes plain records",
        })
    }
    /// Shows positions as those of a consumer group, so that lag tools see them. A mirror: nothing here ever
    /// reads it to resume. A log without groups does nothing.
    fn mirror(&self, group: &str, positions: &[GroupPosition]) -> Result<(), Error>;
    /// What a consumer group has committed for a topic, per partition; none where it has nothing.
    ///
    /// # Errors
    /// [`Error::NoGroups`] where the log has no such thing.
    fn group_positions(&self, group: &str, topic: &str) -> Result<Vec<Option<NextOffset>>, Error>;
}

/// Reads by explicit assignment at explicit offsets, in offset order per partition.
pub trait Reader: Send {
    /// Replaces the whole assignment.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::TopicRecreated`], [`Error::OffsetOutOfRange`].
    fn assign(&mut self, assignments: &[Assignment]) -> Result<(), Error>;
    /// A paused partition brings nothing and keeps its position.
    fn pause(&mut self, topic: &str, partition: PartitionId, paused: bool) -> Result<(), Error>;
    /// Clears `into` and fills it with records of one partition, waiting up to `wait` for the first.
    /// True where it brought any. Partitions take turns. May return false early where nothing but a gap
    /// or a marker was passed, so that a caller who reads up to an end sees its position arrive there.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] where truncation has passed the position.
    fn poll(&mut self, budget: Budget, wait: Duration, into: &mut PartitionBatch) -> Result<bool, Error>;
    /// The next offset that `poll` will read at or behind (moves over gaps and markers too).
    fn position(&self, topic: &str, partition: PartitionId) -> Option<i64>;
    /// The end of the partition as far as this reader has heard of it, without asking anybody. Never before the
    /// position; equal to it only where everything that readers are shown was read.
    fn end(&self, topic: &str, partition: PartitionId) -> Option<i64>;
    /// Ends a `poll` that waits, which then brings nothing.
    fn waker(&self) -> Waker;
    /// The leader epoch of the last record that `poll` brought of a partition; none where the log has no such thing.
    fn leader_epoch(&self, topic: &str, partition: PartitionId) -> Option<i32>;
}

/// Writes epochs: all records between `begin` and `commit` appear together or not at all.
pub trait Writer: Send {
    /// # Errors
    /// [`Error::Fenced`].
    fn begin(&mut self) -> Result<(), Error>;
    /// Adds records to the open epoch; `offsets` are ignored, a negative timestamp means append time.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] (nothing of the batch was added), [`Error::UnknownTopic`], [`Error::Fenced`].
    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error>;
    /// Ends the epoch.
    ///
    /// # Errors
    /// [`Error::Fenced`]: surely not committed, and somebody else owns the id.
    fn commit(&mut self) -> Result<CommitOutcome, Error>;
    /// Drops the open epoch. Offsets may have been burnt.
    fn abort(&mut self) -> Result<(), Error>;
    /// Where the first record of the last committed epoch stands in a partition; none where it wrote none there.
    fn first_offset(&self, topic: &str, partition: PartitionId) -> Option<i64>;
}

/// Appends outside any epoch: what its owner computes again is written again. Nothing fences it.
pub trait Outlet: Send {
    /// Adds records behind those of earlier calls; `offsets` are ignored, a negative timestamp means append time. They
    /// may be seen at once, or only when they are settled.
    ///
    /// # Errors
    /// As [`Writer::append`], but never [`Error::Fenced`]. Where the cluster is in trouble the outlet is spent.
    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error>;
    /// Waits until every record appended is acknowledged, but not for ever.
    ///
    /// # Errors
    /// Some records may not be there, now or later: the outlet is spent.
    fn settle(&mut self) -> Result<(), Error>;
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("topic {0} does not exist: create it with `forebay topic create {0}`")]
    UnknownTopic(String),
    #[error("topic {topic} has no partition {partition}: it has {partitions}")]
    UnknownPartition { topic: String, partition: PartitionId, partitions: u32 },
    #[error("create topic {0}: it exists already")]
    TopicExists(String),
    #[error("create topic {topic}: {reason}")]
    InvalidTopic { topic: String, reason: String },
    #[error("read the positions of group {0}: the embedded log has no consumer groups")]
    NoGroups(String),
    #[error("use topic {topic}: {found}; {remedy}")]
    UnsafeTopic { topic: String, found: String, remedy: String },
    #[error(
        "topic {topic} was made again: its id was {expected} and is {found}; offsets of the old one mean nothing in it"
    )]
    TopicRecreated { topic: String, expected: TopicId, found: TopicId },
    #[error("read {topic}/{partition} from offset {offset}: it holds {start} to {end}")]
    OffsetOutOfRange { topic: String, partition: PartitionId, offset: i64, start: i64, end: i64 },
    #[error("pause {topic}/{partition}: it is not assigned to this reader")]
    NotAssigned { topic: String, partition: PartitionId },
    #[error("write to {topic}: a record has {bytes} bytes, the topic takes {max}")]
    RecordTooLarge { topic: String, bytes: usize, max: u32 },
    #[error("write to {topic}: {reason}")]
    InvalidRecord { topic: String, reason: &'static str },
    #[error("{doing}: {found}")]
    OutOfOrder { doing: String, found: &'static str },
    #[error("write as {transactional_id}: fenced by a newer owner of that id")]
    Fenced { transactional_id: String },
    #[error("{doing}: {found}")]
    Storage { doing: String, found: String },
    /// The log is away, slow, or in trouble of its own: waiting may help.
    #[error("{doing}: {found}")]
    Unavailable { doing: String, found: String },
    /// The cluster refused a record for its own sake, after it had passed the checks here.
    #[error("write to {topic}: the cluster refused a record: {found}")]
    RecordRefused { topic: String, found: String },
    /// The log refuses for a reason that waiting does not mend.
    #[error("{doing}: {found}; {remedy}")]
    Denied { doing: String, found: String, remedy: &'static str },
    #[error(
        "read {topic}/{partition} from offset {offset}: the records before it are no longer those that were read: the \
         partition was cut back by an election and has grown anew"
    )]
    Diverged { topic: String, partition: PartitionId, offset: i64 },
    #[error("{doing}: stored bytes are damaged: {found}")]
    Corrupt { doing: String, found: String },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } => Kind::NotFound,
            Self::TopicExists(_) => Kind::Conflict,
            Self::InvalidTopic { .. }
            | Self::InvalidRecord { .. }
            | Self::RecordTooLarge { .. }
            | Self::RecordRefused { .. } => Kind::Invalid,
            Self::OutOfOrder { .. } | Self::NotAssigned { .. } => Kind::Bug,
            Self::TopicRecreated { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Diverged { .. }
            | Self::Corrupt { .. } => Kind::Corrupt,
            Self::Denied { .. } | Self::UnsafeTopic { .. } | Self::NoGroups(_) => Kind::Invalid,
            Self::Fenced { .. } => Kind::Fenced,
            Self::Storage { .. } | Self::Unavailable { .. } => Kind::Retry,
        }
    }
}

/// A topic of the runtime's own keeps its partitions and its way of cleaning up.
fn check_shape(found: &TopicSpec, partitions: u32, cleanup: Cleanup) -> Result<(), Error> {
    let topic = found.name.clone();
    if found.partitions != partitions {
        let found = format!("its number of partitions is {}, and must be {partitions}", found.partitions);
        let remedy = "a topic cannot have fewer again: delete what uses it and begin anew".to_owned();
        return Err(Error::UnsafeTopic { topic, found, remedy });
    }
    if found.cleanup != cleanup {
        return Err(unsafe_setting(topic, "cleanup.policy", found.cleanup.name(), cleanup.name()));
    }
    Ok(())
}

/// With the command that sets it back.
fn unsafe_setting(topic: String, setting: &str, found: &str, wanted: &str) -> Error {
    let found = format!("its {setting} is {found}, and must be {wanted} lest what was committed be lost");
    let remedy = format!(
        "set it back: `kafka-configs --alter --entity-type topics --entity-name {topic} --add-config \
         {setting}={wanted}`"
    );
    Error::UnsafeTopic { topic, found, remedy }
}

/// Bytes that a header counts for: beside name and value Kafka stores the lengths of both.
pub fn header_bytes(name: &[u8], value: Option<&[u8]>) -> usize {
    10 + name.len() + value.map_or(0, <[u8]>::len)
}

/// The size of the first record that is larger than `max`; the records are looked at one by one only where that may be.
fn too_large(records: &PartitionBatch, max: u32) -> Option<usize> {
    let Headers { names, values, .. } = &records.headers;
    let all = records.byte_len() + names.byte_len() + values.byte_len() + names.len() * header_bytes(b"", None);
    let sizes = (0..records.len()).map(|i| record_bytes(records, i));
    (all > max as usize).then_some(sizes)?.find(|&bytes| bytes > max as usize)
}

/// Bytes that a record counts for against [`TopicSpec::max_record_bytes`].
pub fn record_bytes(batch: &PartitionBatch, i: usize) -> usize {
    let headers: usize = batch.headers.of(i).map(|(name, value)| header_bytes(name, value)).sum();
    batch.keys.bytes(i).len() + batch.values.bytes(i).len() + headers
}
