//! Compaction: of each key only the newest record stays.
//!
//! Owns which records go; offsets never change, so what goes leaves gaps. Runs on demand, and on a thread of
//! its own when a compacted topic has gathered enough. Only touches what readers were shown already, and
//! readers see a chunk either as it was or as it is.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::JoinHandle;

use rocksdb::WriteBatch;

use super::Shared;
use super::append::index_entry;
use super::batch::{self, FULL, Sealed};
use super::reader::unpack;
use super::store::Store;
use super::topics::Topic;
use crate::log::{Cleanup, Error};
use crate::model::{PartitionBatch, PartitionId};

pub type Requests = Sender<Option<Arc<Topic>>>;
pub type Inbox = Receiver<Option<Arc<Topic>>>;

pub fn requests() -> (Requests, Inbox) {
    channel()
}

/// The thread that compacts by itself.
pub struct Compactor {
    requests: Requests,
    thread: Option<JoinHandle<()>>,
}

impl Compactor {
    pub fn start(shared: &Arc<Shared>, inbox: Inbox) -> Result<Self, Error> {
        let (requests, weak) = (shared.compaction.clone(), Arc::downgrade(shared));
        let thread = std::thread::Builder::new()
            .name("log-compaction".to_owned())
            .spawn(move || run(&weak, &inbox))
            .map_err(|error| Error::Storage {
                doing: "start the compaction of the log".to_owned(),
                found: error.to_string(),
            })?;
        Ok(Self { requests, thread: Some(thread) })
    }

    /// Returns when nothing runs any more.
    pub fn stop(&mut self) {
        // Fails only where the thread is gone already.
        let _ = self.requests.send(None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Weak<Shared>, inbox: &Inbox) {
    while let Ok(Some(topic)) = inbox.recv() {
        let Some(shared) = shared.upgrade() else { return };
        if !is_dirty(&shared, &topic) {
            continue;
        }
        if let Err(error) = compact(&shared, &topic) {
            tracing::warn!(topic = topic.name(), %error, "compact a topic of the embedded log");
        }
    }
}

/// Asks for a compaction where enough has gathered.
pub fn request_if_dirty(shared: &Shared, topic: &Arc<Topic>) {
    if topic.info.spec.cleanup == Cleanup::Compact && is_dirty(shared, topic) {
        // Fails only while the log closes.
        let _ = shared.compaction.send(Some(topic.clone()));
    }
}

fn is_dirty(shared: &Shared, topic: &Topic) -> bool {
    let clean = topic.clean_bytes.load(Ordering::Relaxed);
    topic.dirty_bytes.load(Ordering::Relaxed) >= clean.max(shared.compact_after_bytes)
}

/// Compacts all partitions of a topic.
pub fn compact(shared: &Shared, topic: &Topic) -> Result<(), Error> {
    let _removal = topic.removal.lock().unwrap_or_else(PoisonError::into_inner);
    if topic.is_deleted() {
        return Ok(());
    }
    topic.dirty_bytes.store(0, Ordering::Relaxed);
    let store = shared.store();
    let mut kept_bytes = 0;
    for id in 0..topic.partitions.len() {
        kept_bytes += Pass::new(shared, &store, topic, id as PartitionId)?.run()?;
    }
    topic.clean_bytes.store(kept_bytes, Ordering::Relaxed);
    Ok(())
}

/// One run over one partition.
struct Pass<'a> {
    shared: &'a Shared,
    store: &'a Store,
    topic: &'a Topic,
    partition: PartitionId,
    start: i64,
    end: i64,
    now_ms: i64,
    newest: HashMap<Vec<u8>, i64>,
    kept: PartitionBatch,
    /// When the tombstones in `kept` may go; 0 where it has none.
    kept_until_ms: i64,
    write: WriteBatch,
    kept_bytes: u64,
}

impl<'a> Pass<'a> {
    fn new(shared: &'a Shared, store: &'a Store, topic: &'a Topic, partition: PartitionId) -> Result<Self, Error> {
        let found = topic.partition(partition)?;
        Ok(Self {
            shared,
            store,
            topic,
            partition,
            start: found.bounds().start,
            end: found.stable(),
            now_ms: shared.now_ms(),
            newest: HashMap::new(),
            kept: PartitionBatch::default(),
            kept_until_ms: 0,
            write: WriteBatch::default(),
            kept_bytes: 0,
        })
    }

    /// Returns how many bytes are left.
    fn run(mut self) -> Result<u64, Error> {
        self.each_batch(|pass, _, batch, _| {
            for i in 0..batch.len() {
                match pass.newest.get_mut(batch.keys.bytes(i)) {
                    Some(newest) => *newest = batch.offsets[i],
                    None => drop(pass.newest.insert(batch.keys.bytes(i).to_vec(), batch.offsets[i])),
                }
            }
            Ok(())
        })?;
        self.each_batch(Self::rewrite)?;
        self.flush()?;
        Ok(self.kept_bytes)
    }

    fn each_batch(
        &mut self,
        mut visit: impl FnMut(&mut Self, i64, &PartitionBatch, i64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut scan = self.store.scan(self.topic.place(self.partition), self.start, self.end)?;
        let mut batch = PartitionBatch::default();
        while let Some((last, _)) = scan.current()? {
            let until_ms = unpack(self.topic, self.partition, &scan, last, &mut batch)?;
            visit(self, last, &batch, until_ms)?;
            scan.advance();
        }
        Ok(())
    }

    /// Moves what stays of one stored batch into the ones being built.
    fn rewrite(&mut self, last: i64, batch: &PartitionBatch, until_ms: i64) -> Result<(), Error> {
        let has_tombstones = batch.values.present().contains(&0);
        let until_ms = match until_ms {
            0 if has_tombstones => self.now_ms.saturating_add(self.shared.tombstone_grace.as_millis() as i64),
            found => found,
        };
        let too_wide = |first: &i64| last - first > i64::from(i32::MAX);
        let deadlines_differ = until_ms != 0 && self.kept_until_ms != 0 && until_ms != self.kept_until_ms;
        let full = batch::byte_len(&self.kept) + batch::byte_len(batch) > FULL.max_bytes
            || self.kept.len() + batch.len() > FULL.max_records;
        if full || deadlines_differ || self.kept.offsets.first().is_some_and(too_wide) {
            self.flush()?;
        }
        let place = self.topic.place(self.partition);
        self.write.delete(place.index(last));
        self.write.delete(place.batch(last));
        for i in 0..batch.len() {
            let expired = batch.values.is_null(i) && until_ms <= self.now_ms;
            let newest = self.newest.get(batch.keys.bytes(i)) == Some(&batch.offsets[i]);
            if newest && !expired && batch.offsets[i] >= self.start {
                self.kept.append_range(batch, i..i + 1);
            }
        }
        if self.kept.values.present().contains(&0) {
            self.kept_until_ms = self.kept_until_ms.max(until_ms);
        }
        Ok(())
    }

    /// Writes the batch being built together with the removal of those that it replaces.
    fn flush(&mut self) -> Result<(), Error> {
        if let Some(&last) = self.kept.offsets.last() {
            let sealed = Sealed::of_kept(&self.kept, self.kept_until_ms);
            let place = self.topic.place(self.partition);
            self.kept_bytes += sealed.byte_len() as u64;
            self.write.put(place.index(last), index_entry(&sealed).to_bytes());
            let key = place.batch(last);
            self.write.put(key, sealed.under(&key));
        }
        self.kept.clear();
        self.kept_until_ms = 0;
        let doing = || format!("compact {}/{}", self.topic.name(), self.partition);
        if self.shared.appending.is_broken() {
            let found = "an earlier write to the log failed".to_owned();
            return Err(Error::Storage { doing: doing(), found });
        }
        self.store.write(std::mem::take(&mut self.write), &doing)
    }
}
