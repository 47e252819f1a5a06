//! Where things lie: the keys of the log's RocksDB. Numbers are big endian, so that batches sort by offset.

use crate::model::{PartitionId, TopicId};

pub const TOPICS: &[u8] = b"t";
pub const PARTITIONS: &[u8] = b"p";
pub const PRODUCERS: &[u8] = b"w";
const BATCHES: &[u8] = b"b";

pub fn topic(name: &str) -> Vec<u8> {
    [TOPICS, name.as_bytes()].concat()
}

pub fn producer(transactional_id: &str) -> Vec<u8> {
    [PRODUCERS, transactional_id.as_bytes()].concat()
}

pub fn partition(id: TopicId, partition: PartitionId) -> Vec<u8> {
    [PARTITIONS, &id.0, &partition.to_be_bytes()].concat()
}

/// Of the batch whose first record has offset `base`.
pub fn batch(id: TopicId, partition: PartitionId, base: i64) -> Vec<u8> {
    [BATCHES, &id.0, &partition.to_be_bytes(), &base.to_be_bytes()].concat()
}

/// The offset in a batch's key, if it is one of this partition.
pub fn base_offset(key: &[u8], id: TopicId, partition: PartitionId) -> Option<i64> {
    let rest = key.strip_prefix(BATCHES)?.strip_prefix(&id.0)?.strip_prefix(&partition.to_be_bytes())?;
    Some(i64::from_be_bytes(rest.try_into().ok()?))
}

/// Everything that a topic's deletion removes: from, to (exclusive) for batches and for partitions.
pub fn of_topic(id: TopicId) -> [(Vec<u8>, Vec<u8>); 2] {
    let range = |prefix: &[u8]| {
        let from = [prefix, &id.0].concat();
        (from.clone(), [&from[..], &[0xff; 13]].concat())
    };
    [range(BATCHES), range(PARTITIONS)]
}
