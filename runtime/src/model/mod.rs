//! The nouns that three or more modules use. No behaviour beyond their own shape.

mod batch;
mod blobs;
mod ids;
pub mod murmur2;
pub mod names;
pub mod text;

pub use batch::{Headers, PartitionBatch};
pub use blobs::{Blobs, Malformed};
pub use ids::{Digest, NextOffset, StageName, TaskId, TopicId, Uid};

/// Event time: nanoseconds since 1970-01-01T00:00:00Z.
pub type EventTime = i64;

/// Before all time: the watermark of a task that has seen nothing.
pub const BEFORE_ALL_TIME: EventTime = EventTime::MIN;

/// End of input: the watermark behind the last record of a finished input.
pub const END_OF_INPUT: EventTime = EventTime::MAX;

/// A topic's partition, counted from 0 as Kafka does.
pub type PartitionId = i32;
