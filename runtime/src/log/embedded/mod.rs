//! The embedded log: a durable log in one RocksDB inside the process, the default of `forebay dev`.
//!
//! Owns the topics, their partitions and the producer epochs of one data directory. Has Kafka's
//! semantics where they matter: an epoch burns a marker offset in every partition that it touched, an
//! abort leaves a gap, a takeover fences, nothing of an epoch shows before all of it does. Survives
//! `kill -9`; survives a power failure with [`Settings::sync`]. For one process only: it speaks no
//! network protocol and is no broker.
//!
//! Read [`Embedded`] first, then [`stored`] (the bytes of a batch), [`writer`] and [`reader`].

mod catalog;
mod compaction;
mod keys;
mod reader;
mod stored;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocksdb::{DB, DBCompressionType, IteratorMode, Options, WriteBatch, WriteOptions};

use self::catalog::{Catalog, Topic};
use super::{Error, Isolation, Log, Reader, TopicInfo, TopicSpec, Writer};
use crate::model::{PartitionBatch, PartitionId, TopicId};

#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Wait for the disk at every commit. Off, as it is in Kafka: a crash of the process loses nothing,
    /// a crash of the machine may lose the last moments.
    pub sync: bool,
}

/// Cheap to share; every reader and writer holds one.
pub struct Embedded {
    db: DB,
    settings: Settings,
    catalog: Mutex<Catalog>,
    /// Raised with everything that becomes visible.
    grown: Condvar,
}

impl Embedded {
    /// # Errors
    /// [`Error::Storage`] where another process holds the directory; [`Error::Corrupt`].
    pub fn open(dir: &Path, settings: Settings) -> Result<Arc<Self>, Error> {
        let mut options = Options::default();
        options.create_if_missing(true);
        // Batches are written once and read in order: large blocks, few levels, light compression.
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(64 << 20);
        options.set_target_file_size_base(128 << 20);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        let doing = format!("open the log in {}", dir.display());
        let db = DB::open(&options, dir).map_err(|error| storage(&doing, &error))?;
        let catalog = Catalog::load(&db)?;
        Ok(Arc::new(Self { db, settings, catalog: Mutex::new(catalog), grown: Condvar::new() }))
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        // Every change of the catalog is made after the write that it follows: it is whole.
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, doing: &str, batch: WriteBatch) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(self.settings.sync);
        self.db.write_opt(batch, &options).map_err(|error| storage(doing, &error))
    }

    /// Keeps only the newest record of every key of a compacted topic, and tombstones for a day.
    ///
    /// # Errors
    /// Those of storage.
    pub fn compact(&self, topic: &str) -> Result<(), Error> {
        let mut catalog = self.catalog();
        let topic = catalog.topic_mut(topic)?;
        compaction::compact(&self.db, topic, now_ms(), |batch| self.write("compact", batch))
    }
}

/// What readers and writers are made of: they need the log to outlive them.
#[derive(Clone)]
struct Handle(Arc<Embedded>);

impl Log for Arc<Embedded> {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        catalog::check_spec(spec)?;
        let mut catalog = self.catalog();
        if catalog.topic(&spec.name).is_ok() {
            return Err(Error::TopicExists(spec.name.clone()));
        }
        let topic = Topic::new(TopicInfo { id: TopicId::random(), spec: spec.clone() });
        let mut batch = WriteBatch::default();
        topic.put_info(&mut batch);
        self.write("create a topic", batch)?;
        let info = topic.info.clone();
        catalog.topics.insert(spec.name.clone(), topic);
        Ok(info)
    }

    fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let mut catalog = self.catalog();
        let topic = catalog.topic(name)?;
        let mut batch = WriteBatch::default();
        topic.delete(&mut batch);
        self.write("delete a topic", batch)?;
        catalog.topics.remove(name);
        drop(catalog);
        self.grown.notify_all();
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<TopicInfo, Error> {
        Ok(self.catalog().topic(name)?.info.clone())
    }

    fn topics(&self) -> Result<Vec<TopicInfo>, Error> {
        Ok(self.catalog().topics.values().map(|topic| topic.info.clone()).collect())
    }

    fn start_offset(&self, topic: &str, partition: PartitionId) -> Result<i64, Error> {
        Ok(self.catalog().topic(topic)?.partition(partition)?.start)
    }

    fn end_offset(&self, topic: &str, partition: PartitionId, _: Isolation) -> Result<i64, Error> {
        Ok(self.catalog().topic(topic)?.partition(partition)?.end)
    }

    fn offset_for_timestamp(&self, topic: &str, partition: PartitionId, timestamp_ms: i64) -> Result<i64, Error> {
        let (id, start, end) = {
            let catalog = self.catalog();
            let topic = catalog.topic(topic)?;
            let held = topic.partition(partition)?;
            (topic.info.id, held.start, held.end)
        };
        let mut batch = PartitionBatch::default();
        for entry in stored::scan(&self.db, id, partition, start) {
            let (base, bytes) = entry?;
            batch.clear();
            stored::decode(&bytes, base, &mut batch)?;
            let found = (0..batch.len()).find(|&i| batch.offsets[i] >= start && batch.timestamps_ms[i] >= timestamp_ms);
            if let Some(i) = found {
                return Ok(batch.offsets[i]);
            }
        }
        Ok(end)
    }

    fn delete_records(&self, topic: &str, partition: PartitionId, offset: i64) -> Result<(), Error> {
        let mut catalog = self.catalog();
        let topic = catalog.topic_mut(topic)?;
        let id = topic.info.id;
        let held = topic.partition(partition)?.clone();
        if offset < held.start || offset > held.end {
            let (topic, start, end) = (topic.info.spec.name.clone(), held.start, held.end);
            return Err(Error::OffsetOutOfRange { topic, partition, offset, start, end });
        }
        let mut batch = WriteBatch::default();
        // The batch that holds the offset stays whole; readers are shown what is behind it.
        let keep = stored::batch_at(&self.db, id, partition, offset)?.map_or(offset, |(base, _)| base);
        batch.delete_range(keys::batch(id, partition, 0), keys::batch(id, partition, keep));
        topic.partition_mut(partition)?.start = offset;
        topic.put_partition(partition, &mut batch);
        self.write("truncate a partition", batch)
    }

    fn reader(&self, _: Isolation) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(reader::EmbeddedReader::new(Handle(Arc::clone(self)))))
    }

    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, Error> {
        Ok(Box::new(writer::EmbeddedWriter::take_over(Handle(Arc::clone(self)), transactional_id)?))
    }

    fn produce(&self, records: &PartitionBatch) -> Result<i64, Error> {
        let mut pending = writer::Pending::default();
        let mut catalog = self.catalog();
        pending.add(catalog.topic(&records.topic)?, records)?;
        let first = catalog.topic(&records.topic)?.partition(records.partition)?.end;
        self.publish(&mut catalog, &pending, false)?;
        Ok(first)
    }
}

impl Embedded {
    /// Writes all pending batches in one atomic step and shows them.
    fn publish(&self, catalog: &mut Catalog, pending: &writer::Pending, marker: bool) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let mut ends: BTreeMap<(&str, PartitionId), i64> = BTreeMap::new();
        for part in &pending.parts {
            let topic = catalog.topic(&part.topic)?;
            if topic.info.id != part.id {
                let (expected, found) = (part.id, topic.info.id);
                return Err(Error::TopicRecreated { topic: part.topic.clone(), expected, found });
            }
            let end = match ends.get(&(part.topic.as_str(), part.partition)) {
                Some(end) => *end,
                None => topic.partition(part.partition)?.end,
            };
            batch.put(keys::batch(part.id, part.partition, end), stored::seal(&part.bytes, now_ms()));
            ends.insert((&part.topic, part.partition), end + i64::from(part.records));
        }
        for (&(topic, partition), end) in &ends {
            let topic = catalog.topic(topic)?;
            let mut held = topic.partition(partition)?.clone();
            held.end = end + i64::from(marker);
            batch.put(keys::partition(topic.info.id, partition), held.encode());
        }
        self.write("append", batch)?;
        for ((topic, partition), end) in ends {
            catalog.topic_mut(topic)?.grow(partition, end + i64::from(marker))?;
        }
        self.compact_where_due(catalog, pending);
        self.grown.notify_all();
        Ok(())
    }

    /// Garbage is collected where most of a compacted topic has become garbage. Not vital: a failure is
    /// told and tried again later.
    fn compact_where_due(&self, catalog: &mut Catalog, pending: &writer::Pending) {
        for part in &pending.parts {
            let Ok(topic) = catalog.topic_mut(&part.topic) else { continue };
            if topic.wants_compaction()
                && let Err(error) = compaction::compact(&self.db, topic, now_ms(), |batch| self.write("compact", batch))
            {
                tracing::warn!(topic = part.topic, "compaction failed: {error}");
            }
        }
    }
}

fn storage(doing: &str, error: &rocksdb::Error) -> Error {
    let (doing, found) = (doing.to_owned(), error.to_string());
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corrupt { doing, found },
        _ => Error::Storage { doing, found },
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}

/// All entries whose keys begin with `prefix`.
fn with_prefix<'a>(db: &'a DB, prefix: &'a [u8]) -> impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), Error>> + 'a {
    db.iterator(IteratorMode::From(prefix, rocksdb::Direction::Forward))
        .map(|entry| entry.map_err(|error| storage("read the log", &error)))
        .take_while(move |entry| entry.as_ref().map_or(true, |(key, _)| key.starts_with(prefix)))
}

#[cfg(test)]
mod tests;
