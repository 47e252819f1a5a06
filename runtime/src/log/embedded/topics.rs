//! Topics and partitions as the process holds them: what exists, and how far each partition goes.
//!
//! Owns the catalogue by name and the bounds of each partition in memory. The bounds change only after the
//! store holds them, and only under the append lock. Topics are never renamed and never grow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::keys::{self, Bounds, Place};
use super::store::{Store, corrupt};
use crate::log::{Cleanup, Error, TopicInfo, TopicSpec};
use crate::model::PartitionId;

const NAME_LENGTH_MAX: usize = 249;
const PARTITIONS_MAX: u32 = 10_000;
const RECORD_BYTES_MAX: u32 = 256 << 20;

pub struct Topic {
    pub info: TopicInfo,
    pub partitions: Vec<Partition>,
    pub deleted: AtomicBool,
    /// Held by whatever removes records: compaction, truncation, deletion.
    pub removal: Mutex<()>,
    /// Bytes appended since the last compaction, and what it left.
    pub dirty_bytes: AtomicU64,
    pub clean_bytes: AtomicU64,
}

/// All offsets of a partition, start ≤ stable ≤ end.
#[derive(Default)]
pub struct Partition {
    pub start: AtomicI64,
    /// What readers are shown goes up to here. Behind `end` only in harsh mode.
    pub stable: AtomicI64,
    /// The offset that the next record gets.
    pub end: AtomicI64,
}

impl Partition {
    pub fn bounds(&self) -> Bounds {
        Bounds { start: self.start.load(Ordering::Acquire), end: self.end.load(Ordering::Acquire) }
    }

    pub fn stable(&self) -> i64 {
        self.stable.load(Ordering::Acquire)
    }

    fn become_as(&self, other: &Self) {
        let Bounds { start, end } = other.bounds();
        self.start.store(start, Ordering::Release);
        self.end.store(end, Ordering::Release);
        self.stable.store(end, Ordering::Release);
    }
}

impl Topic {
    fn new(info: TopicInfo) -> Self {
        let partitions = (0..info.spec.partitions).map(|_| Partition::default()).collect();
        Self {
            info,
            partitions,
            deleted: AtomicBool::new(false),
            removal: Mutex::new(()),
            dirty_bytes: AtomicU64::new(0),
            clean_bytes: AtomicU64::new(0),
        }
    }

    pub fn name(&self) -> &str {
        &self.info.spec.name
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub fn place(&self, partition: PartitionId) -> Place {
        Place { topic: self.info.id, partition }
    }

    pub fn partition(&self, partition: PartitionId) -> Result<&Partition, Error> {
        let found = usize::try_from(partition).ok().and_then(|p| self.partitions.get(p));
        found.ok_or_else(|| Error::UnknownPartition {
            topic: self.name().to_owned(),
            partition,
            partitions: self.info.spec.partitions,
        })
    }

    pub fn out_of_range(&self, partition: PartitionId, offset: i64, Bounds { start, end }: Bounds) -> Error {
        Error::OffsetOutOfRange { topic: self.name().to_owned(), partition, offset, start, end }
    }
}

/// The topics that exist, by name. Changed only under the append lock; its own lock is taken after that
/// one and never held across anything.
#[derive(Default)]
pub struct Topics(RwLock<HashMap<String, Arc<Topic>>>);

impl Topics {
    /// Reads what the store holds.
    pub fn load(store: &Store) -> Result<Self, Error> {
        let doing = || "read the topics of the log".to_owned();
        let mut topics = HashMap::new();
        for bytes in store.family(keys::TOPICS, &doing)? {
            let info = keys::topic_from_bytes(&bytes).map_err(|found| corrupt(doing(), found))?;
            let topic = Topic::new(info);
            for (id, partition) in topic.partitions.iter().enumerate() {
                load_bounds(store, &topic, id as PartitionId, partition)?;
            }
            if topic.info.spec.cleanup == Cleanup::Compact {
                topic.dirty_bytes.store(stored_bytes(store, &topic)?, Ordering::Relaxed);
            }
            topics.insert(topic.name().to_owned(), Arc::new(topic));
        }
        Ok(Self(RwLock::new(topics)))
    }

    /// Takes what the store holds for what is so: it was opened again after a write that failed, and that write may be
    /// in it. Whoever holds a topic goes on with it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where something is gone that had been taken: nothing is changed then.
    pub fn adopt(&self, store: &Store) -> Result<(), Error> {
        let found = Self::load(store)?.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let same = |topic: &Arc<Topic>| found.get(topic.name()).filter(|other| other.info.id == topic.info.id);
        for topic in topics.values() {
            if let Some(other) = same(topic) {
                check_kept(topic, other)?;
            }
        }
        for topic in topics.values() {
            match same(topic) {
                Some(other) => topic.partitions.iter().zip(&other.partitions).for_each(|(old, new)| old.become_as(new)),
                // Its deletion is what had failed.
                None => topic.deleted.store(true, Ordering::Release),
            }
        }
        topics.retain(|_, topic| !topic.is_deleted());
        for (name, topic) in found {
            topics.entry(name).or_insert(topic);
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(name).cloned().ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    pub fn all(&self) -> Vec<TopicInfo> {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut infos: Vec<_> = topics.values().map(|topic| topic.info.clone()).collect();
        infos.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        infos
    }

    /// # Errors
    /// [`Error::TopicExists`], [`Error::InvalidTopic`].
    pub fn check_new(&self, spec: &TopicSpec) -> Result<(), Error> {
        check(spec)?;
        match self.get(&spec.name) {
            Ok(_) => Err(Error::TopicExists(spec.name.clone())),
            Err(_) => Ok(()),
        }
    }

    /// Adds a topic that the store holds.
    pub fn insert(&self, info: TopicInfo) {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(info.spec.name.clone(), Arc::new(Topic::new(info)));
    }

    /// Takes out a topic that the store holds no more.
    pub fn remove(&self, topic: &Topic) {
        topic.deleted.store(true, Ordering::Release);
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(topic.name());
    }

    /// The error for whoever still holds `topic` after it was deleted.
    pub fn gone(&self, topic: &Topic) -> Error {
        match self.get(topic.name()) {
            Ok(found) => {
                let (expected, found) = (topic.info.id, found.info.id);
                Error::TopicRecreated { topic: topic.name().to_owned(), expected, found }
            }
            Err(unknown) => unknown,
        }
    }
}

/// Offsets that were given away are not given away again.
fn check_kept(before: &Topic, now: &Topic) -> Result<(), Error> {
    for (id, (old, new)) in before.partitions.iter().zip(&now.partitions).enumerate() {
        let (old, new) = (old.bounds(), new.bounds());
        if new.end < old.end || new.start < old.start {
            let (Bounds { start, end }, Bounds { start: from, end: to }) = (old, new);
            let found = format!("it held offsets {start} to {end}, and holds {from} to {to} now");
            return Err(corrupt(format!("open {}/{id} again", before.name()), found));
        }
    }
    Ok(())
}

fn load_bounds(store: &Store, topic: &Topic, id: PartitionId, partition: &Partition) -> Result<(), Error> {
    let doing = || format!("read the bounds of {}/{id}", topic.name());
    // A partition that nothing was ever appended to has none.
    let Some(bytes) = store.get(&topic.place(id).bounds(), &doing)? else { return Ok(()) };
    let bounds = Bounds::from_bytes(&bytes).map_err(|found| corrupt(doing(), found))?;
    partition.start.store(bounds.start, Ordering::Relaxed);
    partition.stable.store(bounds.end, Ordering::Relaxed);
    partition.end.store(bounds.end, Ordering::Relaxed);
    Ok(())
}

fn stored_bytes(store: &Store, topic: &Topic) -> Result<u64, Error> {
    let mut bytes = 0;
    for id in 0..topic.info.spec.partitions {
        let mut scan = store.scan(topic.place(id as PartitionId), 0, i64::MAX)?;
        while let Some((_, entry)) = scan.current()? {
            bytes += u64::from(entry.bytes);
            scan.advance();
        }
    }
    Ok(bytes)
}

/// Kafka's own rules for names, so that a job moves to a Kafka cluster unchanged.
fn check(spec: &TopicSpec) -> Result<(), Error> {
    let name = &spec.name;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let reason = if name.is_empty() || name.len() > NAME_LENGTH_MAX {
        format!("its name has {} characters, 1 to {NAME_LENGTH_MAX} are allowed", name.len())
    } else if name == "." || name == ".." {
        "its name stands for a directory".to_owned()
    } else if let Some(c) = name.chars().find(|&c| !legal(c)) {
        format!("its name has {c:?}, allowed are letters, digits, `.`, `_` and `-`")
    } else if !(1..=PARTITIONS_MAX).contains(&spec.partitions) {
        format!("it has {} partitions, 1 to {PARTITIONS_MAX} are allowed", spec.partitions)
    } else if !(1..=RECORD_BYTES_MAX).contains(&spec.max_record_bytes) {
        format!("its largest record is {} bytes, 1 to {RECORD_BYTES_MAX} are allowed", spec.max_record_bytes)
    } else {
        return Ok(());
    };
    Err(Error::InvalidTopic { topic: name.clone(), reason })
}
