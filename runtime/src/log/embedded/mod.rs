//! The embedded log: topics, atomic epochs and fencing in one RocksDB inside the process.
//!
//! The default of `forebay dev`. It survives `kill -9`, is for one process, and speaks no Kafka protocol.
//! It does not flatter: an epoch burns a marker offset in each partition it touched, an aborted one the
//! offsets of its records, compaction leaves gaps, and [`Harsh`] shows what a cluster does on a bad day.
//! After a write that failed (a full disk) it is opened again by itself, which tells what is on the disk.
//! Read `keys` and `batch` for what is stored, then `append`, `writer`, `reader`.

mod append;
mod batch;
mod compaction;
mod harsh;
mod keys;
mod reader;
mod store;
#[cfg(test)]
mod tests;
mod topics;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use append::{Addition, Append, Appending, Marker, Trouble};
use compaction::Compactor;
use harsh::Hardship;
use keys::Bounds;
use store::Store;
use topics::{Topic, Topics};
use writer::Owners;

pub use harsh::{Harsh, Show};

use super::wake::Wake;
use super::{
    Cleanup, Error, GroupPosition, Isolation, Log, Outlet, Reader, TimestampBounds, TopicInfo, TopicSpec, Writer,
};
use crate::env::{Clock, SystemClock};
use crate::error::Kind;
use crate::model::{NextOffset, PartitionBatch, PartitionId, TopicId};

/// After a write that failed.
const OPEN_AGAIN_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Settings {
    /// Wait for the disk at each commit. Without it a commit survives the death of the process but not of
    /// the machine, as in Kafka, which leaves the same to replication.
    pub sync: bool,
    /// Memory that RocksDB fills before it writes a file; three of it may be in use at once.
    pub write_buffer_bytes: usize,
    /// How long a tombstone stays after the compaction that found it, so that slow readers see it.
    pub tombstone_grace: Duration,
    /// A compacted topic is compacted once so many bytes, and as many as it had left the last time, were added.
    pub compact_after_bytes: u64,
    /// Gives append times.
    pub clock: Arc<dyn Clock>,
    /// The test mode; `None` in production.
    pub harsh: Option<Harsh>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync: false,
            write_buffer_bytes: 64 << 20,
            tombstone_grace: Duration::from_secs(24 * 60 * 60),
            compact_after_bytes: 4 << 20,
            clock: SystemClock::shared(),
            harsh: None,
        }
    }
}

/// The log in one directory. Readers and writers keep what they need of it alive.
pub struct Embedded {
    shared: Arc<Shared>,
    compactor: Compactor,
}

/// What readers, writers and the log itself hold together.
struct Shared {
    /// Written to only to open it again, under the append lock. Nobody who holds it waits for the append lock.
    store: RwLock<Store>,
    topics: Topics,
    owners: Owners,
    appending: Appending,
    /// Wakes readers that wait for records.
    news: Arc<Wake>,
    hardship: Option<Hardship>,
    clock: Arc<dyn Clock>,
    tombstone_grace: Duration,
    compact_after_bytes: u64,
    compaction: compaction::Requests,
}

impl Embedded {
    /// Opens the log in `dir`, or starts one there.
    ///
    /// # Errors
    /// [`Error::Storage`] where another process has it open or the disk fails, [`Error::Corrupt`].
    pub fn open(dir: &Path, settings: Settings) -> Result<Arc<Self>, Error> {
        let store = Store::open(dir, &settings)?;
        let topics = Topics::load(&store)?;
        let (requests, inbox) = compaction::requests();
        let shared = Arc::new(Shared {
            store: RwLock::new(store),
            topics,
            owners: Owners::default(),
            appending: Appending::default(),
            news: Arc::default(),
            hardship: settings.harsh.map(Hardship::new),
            clock: settings.clock,
            tombstone_grace: settings.tombstone_grace,
            compact_after_bytes: settings.compact_after_bytes,
            compaction: requests,
        });
        let compactor = Compactor::start(&shared, inbox)?;
        Ok(Arc::new(Self { shared, compactor }))
    }

    /// Compacts a [`Cleanup::Compact`] topic now: of each key only the newest record stays, at its offset.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::InvalidTopic`] where the topic is not a compacted one.
    pub fn compact(&self, topic: &str) -> Result<(), Error> {
        let topic = self.shared.topics.get(topic)?;
        if topic.info.spec.cleanup != Cleanup::Compact {
            let reason = "its cleanup is `delete`: it keeps all records until they are truncated".to_owned();
            return Err(Error::InvalidTopic { topic: topic.name().to_owned(), reason });
        }
        compaction::compact(&self.shared, &topic)
    }

    /// Test mode: shows the oldest commit that one partition holds back. False where nothing is held back.
    pub fn show_next(&self) -> bool {
        let shown = self.shared.hardship.as_ref().is_some_and(Hardship::show_next);
        self.shared.news.announce();
        shown
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.compactor.stop();
    }
}

impl Shared {
    fn store(&self) -> RwLockReadGuard<'_, Store> {
        // Whoever panicked while opening it left it open or closed.
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The append lock over a store that may be written to: after a write that failed it is opened again first.
    ///
    /// # Errors
    /// [`Error::Storage`] while that does not work. Nothing was written.
    fn append(&self) -> Result<Append<'_>, Error> {
        self.appending.lock(|trouble| self.mend(trouble))
    }

    /// Under the append lock: nothing is written meanwhile.
    fn mend(&self, trouble: &mut Option<Trouble>) -> Result<(), Error> {
        let Some(found) = trouble else { return Ok(()) };
        let now = self.clock.elapsed();
        if found.again_at.is_none_or(|at| now < at) {
            return Err(found.error());
        }
        if let Err(error) = self.open_again() {
            found.why = error.to_string();
            found.again_at = (error.kind() != Kind::Corrupt).then_some(now + OPEN_AGAIN_EVERY);
            return Err(found.error());
        }
        tracing::info!("the log is open again, after: {}", found.why);
        *trouble = None;
        self.news.announce();
        Ok(())
    }

    fn open_again(&self) -> Result<(), Error> {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        store.check_room()?;
        store.open_again()?;
        self.topics.adopt(&store)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().div_euclid(1_000_000)
    }

    /// Shows what was appended, or hands it to the test mode, and wakes readers.
    fn show(&self, owner: Option<&str>, ends: &[(Arc<Topic>, PartitionId, Bounds)]) {
        for (topic, id, bounds) in ends {
            match &self.hardship {
                Some(hardship) => hardship.hold(owner, topic, *id, bounds.end),
                None => {
                    if let Ok(partition) = topic.partition(*id) {
                        partition.stable.store(bounds.end, Ordering::Release);
                    }
                }
            }
            compaction::request_if_dirty(self, topic);
        }
        self.step();
        self.news.announce();
    }

    /// Lets the test mode show something. True where it holds back what it will show by itself.
    fn step(&self) -> bool {
        self.hardship.as_ref().is_some_and(Hardship::step)
    }

    fn produce(&self, records: &PartitionBatch) -> Result<i64, Error> {
        let topic = self.topics.get(&records.topic)?;
        let partition = records.partition;
        topic.partition(partition)?;
        writer::check_records(&topic, records)?;
        let batches = writer::seal_all(records, self.now_ms());
        let mut append = self.append()?;
        if topic.is_deleted() {
            return Err(self.topics.gone(&topic));
        }
        let addition = Addition { topic: topic.clone(), partition, records: records.len() as u64, batches };
        let first = append.add(addition, Marker::None)?;
        append.write(&self.store(), &|| format!("write to {}/{partition}", topic.name()), |ends| {
            self.show(None, ends);
        })?;
        Ok(first)
    }

    fn remove_topic(&self, topic: &Topic) -> Result<(), Error> {
        let doing = || format!("delete topic {}", topic.name());
        let _removal = topic.removal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut append = self.append()?;
        if topic.is_deleted() {
            return Err(Error::UnknownTopic(topic.name().to_owned()));
        }
        append.delete(&keys::topic(topic.name()));
        for (from, to) in keys::of_topic(topic.info.id) {
            append.delete_range(&from, &to);
        }
        // Before the lock is free again: nothing may be appended behind the range that was deleted.
        append.write(&self.store(), &doing, |_| self.topics.remove(topic))?;
        for (from, to) in keys::of_topic(topic.info.id) {
            self.store().drop_files(&from, &to);
        }
        Ok(())
    }

    fn truncate(&self, topic: &Arc<Topic>, id: PartitionId, offset: i64) -> Result<(), Error> {
        let doing = || format!("truncate {}/{id} before offset {offset}", topic.name());
        let _removal = topic.removal.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = topic.partition(id)?;
        let mut append = self.append()?;
        let (bounds, stable) = (partition.bounds(), partition.stable());
        if offset <= bounds.start {
            return Ok(());
        }
        if offset > stable {
            return Err(topic.out_of_range(id, offset, Bounds { end: stable, ..bounds }));
        }
        if topic.is_deleted() {
            return Err(self.topics.gone(topic));
        }
        let place = topic.place(id);
        let store = self.store();
        let mut scan = store.scan(place, 0, offset)?;
        while let Some((last, _)) = scan.current()? {
            // One by one: a range tombstone for each truncation would slow down every later read.
            append.delete(&place.index(last));
            append.delete(&place.batch(last));
            scan.advance();
        }
        append.set_bounds(topic.clone(), id, Bounds { start: offset, ..bounds });
        append.write(&store, &doing, |_| ())
    }
}

impl Log for Embedded {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        let mut append = self.shared.append()?;
        self.shared.topics.check_new(spec)?;
        let info = TopicInfo { id: TopicId::random(), spec: spec.clone(), timestamps: TimestampBounds::default() };
        append.put(&keys::topic(&spec.name), &keys::topic_to_bytes(&info)?);
        append.write(&self.shared.store(), &|| format!("create topic {}", spec.name), |_| {
            self.shared.topics.insert(info.clone());
        })?;
        Ok(info)
    }

    fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let topic = self.shared.topics.get(name)?;
        self.shared.remove_topic(&topic)?;
        self.shared.news.announce();
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<TopicInfo, Error> {
        Ok(self.shared.topics.get(name)?.info.clone())
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, Error> {
        Ok(self.shared.topics.all())
    }

    fn start_offset(&self, topic: &str, partition: PartitionId) -> Result<i64, Error> {
        Ok(self.shared.topics.get(topic)?.partition(partition)?.bounds().start)
    }

    fn end_offset(&self, topic: &str, partition: PartitionId, isolation: Isolation) -> Result<i64, Error> {
        if isolation == Isolation::ReadUncommitted {
            return Ok(self.shared.topics.get(topic)?.partition(partition)?.bounds().end);
        }
        self.shared.step();
        Ok(self.shared.topics.get(topic)?.partition(partition)?.stable())
    }

    fn offset_for_timestamp(&self, topic: &str, partition: PartitionId, timestamp_ms: i64) -> Result<i64, Error> {
        let topic = self.shared.topics.get(topic)?;
        reader::offset_for_timestamp(&self.shared.store(), &topic, partition, timestamp_ms)
    }

    fn delete_records(&self, topic: &str, partition: PartitionId, offset: i64) -> Result<(), Error> {
        let topic = self.shared.topics.get(topic)?;
        self.shared.truncate(&topic, partition, offset)?;
        self.shared.news.announce();
        Ok(())
    }

    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(reader::EmbeddedReader::new(self.shared.clone(), isolation)))
    }

    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, Error> {
        Ok(Box::new(writer::EmbeddedWriter::take_over(self.shared.clone(), transactional_id)?))
    }

    fn produce(&self, records: &PartitionBatch) -> Result<i64, Error> {
        self.shared.produce(records)
    }

    fn outlet(&self) -> Result<Box<dyn Outlet>, Error> {
        Ok(Box::new(writer::EmbeddedOutlet::new(self.shared.clone())))
    }

    fn outlives_machine(&self) -> bool {
        self.shared.store().is_synced()
    }

    fn mirror(&self, _group: &str, _positions: &[GroupPosition]) -> Result<(), Error> {
        Ok(())
    }

    fn group_positions(&self, group: &str, _topic: &str) -> Result<Vec<Option<NextOffset>>, Error> {
        Err(Error::NoGroups(group.to_owned()))
    }
}
