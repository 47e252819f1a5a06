//! What the log knows of its topics, partitions and producers; a copy in memory of what is on disk.

use std::collections::{BTreeMap, HashMap};

use rocksdb::{DB, WriteBatch};

use super::{Error, keys, with_prefix};
use crate::log::{Cleanup, TopicInfo, TopicSpec};
use crate::model::PartitionId;

const MAX_PARTITIONS: u32 = 10_000;
/// A compacted topic is cleaned when so many records came since it was cleaned last, at the least …
const MIN_DIRTY: u64 = 4_096;

#[derive(Default)]
pub struct Catalog {
    pub topics: BTreeMap<String, Topic>,
    /// Producer epochs by transactional id.
    pub producers: HashMap<String, u64>,
}

pub struct Topic {
    pub info: TopicInfo,
    partitions: Vec<Partition>,
    /// Records that came since the last compaction, and those that it left.
    pub dirty: u64,
    pub clean: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// The first offset that is still held.
    pub start: i64,
    /// Behind the last record and marker.
    pub end: i64,
}

impl Partition {
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..].copy_from_slice(&self.end.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (start, end) = bytes.split_first_chunk::<8>()?;
        Some(Self { start: i64::from_le_bytes(*start), end: i64::from_le_bytes(end.try_into().ok()?) })
    }
}

impl Catalog {
    pub fn load(db: &DB) -> Result<Self, Error> {
        let mut catalog = Self::default();
        for entry in with_prefix(db, keys::TOPICS) {
            let (_, value) = entry?;
            let info: TopicInfo = serde_json::from_slice(&value).map_err(|error| corrupt("a topic", &error))?;
            let mut topic = Topic::new(info);
            for (number, partition) in topic.partitions.iter_mut().enumerate() {
                let key = keys::partition(topic.info.id, number as PartitionId);
                if let Some(bytes) = db.get(key).map_err(|error| super::storage("open the log", &error))? {
                    *partition = Partition::decode(&bytes).ok_or_else(|| corrupt("a partition", &"wrong length"))?;
                }
            }
            catalog.topics.insert(topic.info.spec.name.clone(), topic);
        }
        for entry in with_prefix(db, keys::PRODUCERS) {
            let (key, value) = entry?;
            let id = String::from_utf8_lossy(&key[keys::PRODUCERS.len()..]).into_owned();
            let epoch = value.as_ref().try_into().map_err(|error| corrupt("a producer", &error))?;
            catalog.producers.insert(id, u64::from_le_bytes(epoch));
        }
        Ok(catalog)
    }

    pub fn topic(&self, name: &str) -> Result<&Topic, Error> {
        self.topics.get(name).ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    pub fn topic_mut(&mut self, name: &str) -> Result<&mut Topic, Error> {
        self.topics.get_mut(name).ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }
}

impl Topic {
    pub fn new(info: TopicInfo) -> Self {
        let partitions = vec![Partition::default(); info.spec.partitions as usize];
        Self { info, partitions, dirty: 0, clean: 0 }
    }

    pub fn partition(&self, partition: PartitionId) -> Result<&Partition, Error> {
        let found = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p));
        found.ok_or_else(|| self.unknown(partition))
    }

    pub fn partition_mut(&mut self, partition: PartitionId) -> Result<&mut Partition, Error> {
        let unknown = self.unknown(partition);
        let found = usize::try_from(partition).ok().and_then(|p| self.partitions.get_mut(p));
        found.ok_or(unknown)
    }

    pub fn partition_count(&self) -> PartitionId {
        self.partitions.len() as PartitionId
    }

    pub fn grow(&mut self, partition: PartitionId, end: i64) -> Result<(), Error> {
        let held = self.partition_mut(partition)?;
        let grown = end - held.end;
        held.end = end;
        self.dirty += grown.unsigned_abs();
        Ok(())
    }

    pub fn wants_compaction(&self) -> bool {
        self.info.spec.cleanup == Cleanup::Compact && self.dirty >= MIN_DIRTY.max(self.clean)
    }

    pub fn put_info(&self, batch: &mut WriteBatch) {
        // Plain data with string keys always encodes.
        let value = serde_json::to_vec(&self.info).unwrap_or_default();
        batch.put(keys::topic(&self.info.spec.name), value);
    }

    pub fn put_partition(&self, partition: PartitionId, batch: &mut WriteBatch) {
        if let Ok(held) = self.partition(partition) {
            batch.put(keys::partition(self.info.id, partition), held.encode());
        }
    }

    pub fn delete(&self, batch: &mut WriteBatch) {
        batch.delete(keys::topic(&self.info.spec.name));
        for (from, to) in keys::of_topic(self.info.id) {
            batch.delete_range(from, to);
        }
    }

    fn unknown(&self, partition: PartitionId) -> Error {
        let TopicSpec { name, partitions, .. } = &self.info.spec;
        Error::UnknownPartition { topic: name.clone(), partition, partitions: *partitions }
    }
}

/// Kafka's rules for names, and limits of ours.
pub fn check_spec(spec: &TopicSpec) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::InvalidTopic { topic: spec.name.clone(), reason });
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if spec.name.is_empty() || spec.name.len() > 249 || spec.name == "." || spec.name == ".." {
        return refuse("a name has 1 to 249 characters and is neither `.` nor `..`".to_owned());
    }
    if let Some(c) = spec.name.chars().find(|&c| !allowed(c)) {
        return refuse(format!("{c:?} is not allowed: names are made of letters, digits, `.`, `_` and `-`"));
    }
    if spec.partitions == 0 || spec.partitions > MAX_PARTITIONS {
        return refuse(format!("{} partitions: 1 to {MAX_PARTITIONS} are possible", spec.partitions));
    }
    if spec.max_record_bytes == 0 {
        return refuse("records of no bytes at all: set a greater limit".to_owned());
    }
    Ok(())
}

fn corrupt(what: &str, found: &dyn std::fmt::Display) -> Error {
    Error::Corrupt { doing: format!("read {what} from the log's catalogue"), found: found.to_string() }
}
