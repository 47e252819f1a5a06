//! The append path: gives offsets, writes once, then shows.
//!
//! Owns the order in which an epoch becomes durable and visible: all of it happens under one lock, and an
//! epoch is one RocksDB write. Everything costly (copying, encoding, checksums) was done before the lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocksdb::WriteBatch;

use super::batch::Sealed;
use super::keys::{Bounds, IndexEntry};
use super::store::Store;
use super::topics::Topic;
use crate::log::Error;
use crate::model::PartitionId;

/// What is added to one partition.
pub struct Addition {
    pub topic: Arc<Topic>,
    pub partition: PartitionId,
    /// Empty where the records were aborted: their offsets are burnt.
    pub batches: Vec<Sealed>,
    pub records: u64,
}

/// Whether an end-of-epoch marker takes an offset behind the records, as in Kafka.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Burnt,
    None,
}

/// The append lock, and why the store may not be written to for the moment.
#[derive(Default)]
pub struct Appending {
    lock: Mutex<Option<Trouble>>,
    broken: AtomicBool,
}

/// A write has failed: whether it is on the disk only opening the store again can tell, so nothing is written before.
pub struct Trouble {
    pub why: String,
    /// `Clock::elapsed` at which opening it is tried again; none: it cannot help.
    pub again_at: Option<Duration>,
}

/// Proof that the append lock is held.
pub struct Append<'a> {
    trouble: MutexGuard<'a, Option<Trouble>>,
    broken: &'a AtomicBool,
    batch: WriteBatch,
    ends: Vec<(Arc<Topic>, PartitionId, Bounds)>,
}

impl Appending {
    /// `mend` is given the trouble that there is, if any, and takes it away or says why it stays.
    pub fn lock(&self, mend: impl FnOnce(&mut Option<Trouble>) -> Result<(), Error>) -> Result<Append<'_>, Error> {
        let mut trouble = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_some() {
            mend(&mut trouble)?;
            self.broken.store(false, Ordering::Relaxed);
        }
        Ok(Append { trouble, broken: &self.broken, batch: WriteBatch::default(), ends: Vec::new() })
    }

    /// For those who write without giving offsets, and without the lock.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Trouble {
    pub fn error(&self) -> Error {
        let found = match self.again_at {
            Some(_) => format!("an earlier write failed, and opening the log again is tried each second: {}", self.why),
            None => format!("the log has lost records that it had taken; restart this process to go on: {}", self.why),
        };
        Error::Storage { doing: "write to the log".to_owned(), found }
    }
}

impl Append<'_> {
    /// Adds an entry that goes with the records.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.batch.put(key, value);
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.batch.delete(key);
    }

    pub fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        self.batch.delete_range(from, to);
    }

    /// Gives offsets to an addition. Returns the first one. A partition is added to once per append.
    pub fn add(&mut self, addition: Addition, marker: Marker) -> Result<i64, Error> {
        let Addition { topic, partition, batches, records } = addition;
        let bounds = topic.partition(partition)?.bounds();
        let place = topic.place(partition);
        let mut next = bounds.end;
        let mut bytes = 0;
        if batches.is_empty() {
            next += records as i64;
        }
        for sealed in batches {
            let last = next + i64::from(sealed.span);
            bytes += sealed.byte_len() as u64;
            self.batch.put(place.index(last), index_entry(&sealed).to_bytes());
            let key = place.batch(last);
            self.batch.put(key, sealed.under(&key));
            next = last + 1;
        }
        if marker == Marker::Burnt {
            next += 1;
        }
        topic.dirty_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.set_bounds(topic, partition, Bounds { end: next, ..bounds });
        Ok(bounds.end)
    }

    pub fn set_bounds(&mut self, topic: Arc<Topic>, partition: PartitionId, bounds: Bounds) {
        self.batch.put(topic.place(partition).bounds(), bounds.to_bytes());
        self.ends.push((topic, partition, bounds));
    }

    /// Makes everything durable and moves the ends; `show` then decides what readers see, still under the lock.
    pub fn write(
        mut self,
        store: &Store,
        doing: &dyn Fn() -> String,
        show: impl FnOnce(&[(Arc<Topic>, PartitionId, Bounds)]),
    ) -> Result<(), Error> {
        if let Err(error) = store.write(self.batch, doing) {
            self.broken.store(true, Ordering::Relaxed);
            *self.trouble = Some(Trouble { why: error.to_string(), again_at: Some(Duration::ZERO) });
            return Err(error);
        }
        for (topic, id, bounds) in &self.ends {
            let partition = topic.partition(*id)?;
            partition.start.store(bounds.start, Ordering::Release);
            partition.end.store(bounds.end, Ordering::Release);
        }
        show(&self.ends);
        Ok(())
    }
}

pub fn index_entry(sealed: &Sealed) -> IndexEntry {
    let Sealed { max_timestamp_ms, records, .. } = *sealed;
    IndexEntry { max_timestamp_ms, records, bytes: sealed.byte_len() as u32 }
}
