//! The header of an epoch: where the task stands in all its inputs, in time, and in its versions.
//!
//! `"FBYH" | format u16 LE | fields`. The fields are those of [`Header`] in their order, as bincode
//! writes them: fixed-width little-endian integers, u64 lengths, u32 enum variants, u8 options.
//! A changed field is a new format: raise [`FORMAT`] and keep reading the old one.

use bincode::Options;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::{Digest, EventTime, NextOffset, PartitionId, TaskId, TopicId, Uid};

pub(super) const FORMAT: u16 = 1;
const MAGIC: &[u8; 4] = b"FBYH";
/// A header holds a few hundred bytes per input partition and operator; more is not a header of ours.
const MAX_BYTES: u64 = 64 << 20;

/// What one header is known by in the next one and in RocksDB's marker: BLAKE3 of its bytes.
pub type HeaderHash = [u8; 32];

/// The only truth about where a task stands. Committed in one transaction with the state changes and
/// the output that belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub kind: HeaderKind,
    pub task: TaskIdentity,
    pub owner: Owner,
    /// Counted from 0, one header each, without gaps.
    pub epoch: u64,
    /// Hash of the header of epoch − 1; zeros in epoch 0.
    pub previous: HeaderHash,
    /// One per input partition, by source and partition.
    pub inputs: Vec<InputPosition>,
    /// The emitted watermark: what operators behind this task have been told.
    pub watermark: EventTime,
    /// The highest processing time that operators have been shown; the clock never goes back behind it.
    pub processing_time: EventTime,
    /// The base that recovery may start from; repeated by every header until a newer one is named.
    pub base: Option<BaseInForce>,
    /// The last swap that this task has made.
    pub swap: Option<Uid>,
    /// Number of the last reset of event time that this task has come through; 0 before any.
    pub time_reset: u64,
    pub operators: Vec<OperatorVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderKind {
    /// Epoch 0: the start positions, resolved once.
    Start,
    /// A takeover: a new owner has read everything before it and goes on from there. No changes.
    Claim,
    Epoch,
}

/// Whose header it is. A changelog partition belongs to exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskIdentity {
    pub job: Uid,
    /// Raised by a restore or rescale: the same job with another past.
    pub incarnation: u64,
    pub task: TaskId,
    pub parallelism: u32,
}

/// Who committed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Random per takeover.
    pub session: Uid,
    /// Epoch of the claim (or start) by which this session took over.
    pub claim: u64,
    /// Generation of the worker group that gave the task to this owner; 0 where there is no group.
    pub generation: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputPosition {
    /// Id of the source in the job spec.
    pub source: String,
    /// A topic made again under the old name is another topic.
    pub topic: TopicId,
    pub partition: PartitionId,
    pub next_offset: NextOffset,
    /// Of the last record read; none before the first, or where the log has no such thing.
    pub leader_epoch: Option<i32>,
    /// Offsets between the last record read and `next_offset` that hold nothing that is ever delivered: markers, aborted
    /// and compacted records. The leader epoch is that of the record before them.
    pub gap: u64,
    pub watermark: EventTime,
    pub idle: bool,
    /// For repartition inputs: the time of each task that writes to it.
    pub upstream: Vec<UpstreamTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTime {
    pub task: u32,
    pub watermark: EventTime,
    pub idle: bool,
}

/// A checkpoint in the object store that this header stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseInForce {
    pub id: Uid,
    /// The last epoch in it.
    pub epoch: u64,
    /// Changelog offset to read on from.
    pub changelog_offset: NextOffset,
    pub manifest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorVersion {
    /// Id of the operator in the job spec.
    pub id: String,
    pub module: Digest,
    /// The module that brings older values to this one's version, or back to it, where it is another.
    pub migrator: Option<Digest>,
    pub states: Vec<StateVersion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVersion {
    pub name: String,
    pub version: u32,
    /// A swap made it begin empty, and values of other versions may be left: they are thrown away.
    pub begins_empty: bool,
}

impl Header {
    /// The header's bytes. Equal headers have equal bytes.
    ///
    /// # Errors
    /// Where it is larger than a header may be.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
        let too_large = |e: bincode::Error| Error::TooLarge { epoch: self.epoch, found: format!("its header: {e}") };
        fields().serialize_into(&mut bytes, self).map_err(too_large)?;
        Ok(bytes)
    }

    /// # Errors
    /// `Version` where a newer build wrote it, `Malformed` where it is not a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let what = "header";
        let malformed = |found: &str| Error::Malformed { what, found: found.to_owned() };
        let (magic, rest) = bytes.split_first_chunk().ok_or_else(|| malformed("it ends inside its magic"))?;
        let (format, rest) = rest.split_first_chunk().ok_or_else(|| malformed("it ends inside its format"))?;
        if magic != MAGIC {
            return Err(malformed("it does not begin with FBYH"));
        }
        match u16::from_le_bytes(*format) {
            FORMAT => fields().deserialize(rest).map_err(|e| malformed(&e.to_string())),
            found => Err(Error::Version { what, found, known: FORMAT }),
        }
    }

    /// # Errors
    /// As [`Header::encode`].
    pub fn hash(&self) -> Result<HeaderHash, Error> {
        self.encode().map(|bytes| hash(&bytes))
    }
}

impl TaskIdentity {
    /// Tells two tasks apart where there is no room for all of it.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.job.0).update(&self.incarnation.to_le_bytes());
        hasher.update(&self.task.number.to_le_bytes()).update(&self.parallelism.to_le_bytes());
        hasher.update(self.task.stage.as_str().as_bytes()).finalize().into()
    }
}

/// The hash of a header's bytes.
pub(super) fn hash(bytes: &[u8]) -> HeaderHash {
    blake3::hash(bytes).into()
}

fn fields() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_BYTES).reject_trailing_bytes()
}
