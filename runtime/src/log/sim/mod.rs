//! A simulated cluster behind the log seam: Kafka's nastier habits in memory, decided by a seed. Only for tests.
//!
//! What it does to its clients on purpose: records of open and aborted transactions stand in the partitions and hold
//! back the last stable offset; markers come later than the call that ended the transaction, one partition at a time;
//! a commit may end indefinite: done, not done, or on its way and done only if it arrives before the next takeover; a
//! transaction that is open too long is aborted and its writer fenced by nobody; fetches bring less than there is,
//! nothing, or stop at an older end; calls fail. Never breaks a promise of the `Log` traits.
//! Read `partition`, then `cluster` (what happens on the cluster), then `writer` and `reader` (what clients see).

mod cluster;
mod partition;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use cluster::{Cluster, Hardship};
pub use partition::Committed;

use super::{
    Cleanup, Error, GroupPosition, Isolation, Log, Outlet, Reader, TimestampBounds, TopicInfo, TopicSpec, Writer,
    too_large,
};
use crate::env::Clock;
use crate::env::simulated::strike;
use crate::model::{NextOffset, PartitionBatch, PartitionId, TopicId};

/// One cluster; its clones are connections to it.
#[derive(Clone)]
pub struct Simulated {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Mutex<Cluster>,
    news: Condvar,
    /// Polls wait for records in real time. A simulation moves its own clock instead.
    waits: bool,
}

impl Simulated {
    pub fn new(seed: u64, hardship: Hardship, clock: Arc<dyn Clock>, waits: bool) -> Self {
        let cluster = Mutex::new(Cluster::new(seed, hardship, clock));
        Self { shared: Arc::new(Shared { cluster, news: Condvar::new(), waits }) }
    }

    /// The cluster itself, for whoever decides what happens to it.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.shared.lock()
    }

    /// A call of a client: something may happen on the cluster before it, and the caller may die before or after it.
    fn call<T>(&self, place: &str, call: impl FnOnce(&mut Cluster) -> Result<T, Error>) -> Result<T, Error> {
        strike(place);
        let mut cluster = self.shared.lock();
        cluster.tick();
        let answer = cluster.answers(place).and_then(|()| call(&mut cluster));
        drop(cluster);
        self.shared.news.notify_all();
        answer
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Simulated {
    fn epoch_timeout(&self) -> Option<Duration> {
        Some(self.shared.lock().hardship.transaction_timeout).filter(|timeout| !timeout.is_zero())
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        self.call("create topic", |cluster| {
            check_spec(spec)?;
            if cluster.topics.contains_key(&spec.name) {
                return Err(Error::TopicExists(spec.name.clone()));
            }
            let info = TopicInfo { id: TopicId::random(), spec: spec.clone(), timestamps: TimestampBounds::default() };
            cluster.add_topic(info.clone());
            Ok(info)
        })
    }

    fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.call("delete topic", |cluster| {
            cluster.topics.remove(name).map(drop).ok_or_else(|| Error::UnknownTopic(name.to_owned()))
        })
    }

    fn topic(&self, name: &str) -> Result<TopicInfo, Error> {
        self.call("describe topic", |cluster| Ok(cluster.topic(name)?.info.clone()))
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, Error> {
        self.call("list topics", |cluster| Ok(cluster.topics.values().map(|topic| topic.info.clone()).collect()))
    }

    fn start_offset(&self, topic: &str, partition: PartitionId) -> Result<i64, Error> {
        self.call("ask for a start", |cluster| Ok(cluster.partition(topic, partition)?.start))
    }

    fn end_offset(&self, topic: &str, partition: PartitionId, isolation: Isolation) -> Result<i64, Error> {
        self.call("ask for an end", |cluster| Ok(cluster.partition(topic, partition)?.end_for(isolation)))
    }

    fn offset_for_timestamp(&self, topic: &str, partition: PartitionId, timestamp_ms: i64) -> Result<i64, Error> {
        self.call("ask for a time", |cluster| Ok(cluster.partition(topic, partition)?.find_time(timestamp_ms)))
    }

    fn delete_records(&self, topic: &str, partition: PartitionId, offset: i64) -> Result<(), Error> {
        self.call("truncate", |cluster| {
            let found = cluster.partition(topic, partition)?;
            let (start, end) = (found.start, found.end);
            if offset > end {
                return Err(Error::OffsetOutOfRange { topic: topic.to_owned(), partition, offset, start, end });
            }
            found.truncate(offset);
            Ok(())
        })
    }

    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(reader::SimulatedReader::new(self.clone(), isolation)))
    }

    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, Error> {
        let epoch = self.call("take over", |cluster| Ok(cluster.take_over(transactional_id)))?;
        strike("taken over");
        Ok(Box::new(writer::SimulatedWriter::new(self.clone(), transactional_id, epoch)))
    }

    fn produce(&self, records: &PartitionBatch) -> Result<i64, Error> {
        self.call("produce", |cluster| {
            cluster.check(records)?;
            cluster.produce(records)
        })
    }

    fn outlet(&self) -> Result<Box<dyn Outlet>, Error> {
        Ok(Box::new(writer::SimulatedOutlet::new(self.clone())))
    }

    fn mirror(&self, group: &str, positions: &[GroupPosition]) -> Result<(), Error> {
        self.call("mirror", |cluster| {
            for GroupPosition { topic, partition, next } in positions {
                cluster.groups.insert((group.to_owned(), topic.clone(), *partition), *next);
            }
            Ok(())
        })
    }

    fn group_positions(&self, group: &str, topic: &str) -> Result<Vec<Option<NextOffset>>, Error> {
        self.call("read a group", |cluster| {
            let partitions = 0..cluster.topic(topic)?.info.spec.partitions as PartitionId;
            let of = |partition| cluster.groups.get(&(group.to_owned(), topic.to_owned(), partition)).copied();
            Ok(partitions.map(of).collect())
        })
    }
}

fn check_spec(spec: &TopicSpec) -> Result<(), Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = &spec.name;
    let named = (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != "..";
    if named && spec.partitions > 0 {
        return Ok(());
    }
    Err(Error::InvalidTopic { topic: name.clone(), reason: "its name or number of partitions is not allowed".into() })
}

/// Groups' positions by group, topic and partition.
type Groups = BTreeMap<(String, String, PartitionId), NextOffset>;

/// How long a poll that waits sleeps between two looks.
const LOOK: Duration = Duration::from_millis(1);
