//! Committed changes on their way to RocksDB: gathered in memory, then written sorted by a thread of
//! their own, while the next ones gather.
//!
//! A key that many epochs change is so written once, and no record waits for RocksDB's write path.
//! Losing this memory loses nothing: the changelog holds every change, and the store's marker says from
//! where to replay.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::thread::JoinHandle;

use rocksdb::WriteBatch;
use rustc_hash::FxSeededState;

use super::Changes;
use super::disk::{Disk, Write};
use super::marker::{self, Marker};
use super::overlay::Overlay;

/// Changes of the last epochs with the marker of the newest of them.
#[derive(Default)]
pub(super) struct Waiting {
    changes: Overlay,
    marker: Option<Marker>,
    epochs: u64,
}

/// Changes that a thread is writing; they stay readable until it is done.
pub(super) struct Writing {
    changes: Arc<Waiting>,
    work: Work,
}

enum Work {
    Thread(JoinHandle<Result<(), rocksdb::Error>>),
    /// Done at once, in the caller's thread.
    Done(Result<(), rocksdb::Error>),
}

impl Waiting {
    pub(super) fn add(&mut self, hasher: &FxSeededState, changes: &Changes, marker: Marker) {
        for (key, value) in changes.iter() {
            self.changes.put_stored(hasher.hash_one(key), 0, key, value.unwrap_or_default());
        }
        self.marker = Some(marker);
        self.epochs += 1;
    }

    /// The value at rest that waits for a key; empty where the key is to be deleted.
    pub(super) fn get(&self, hash: u64, full_key: &[u8]) -> Option<&[u8]> {
        self.changes.find(hash, 0, full_key).map(|at| self.changes.stored(at))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.marker.is_none()
    }

    pub(super) fn epochs(&self) -> u64 {
        self.epochs
    }

    pub(super) fn byte_len(&self) -> usize {
        self.changes.byte_len()
    }

    fn clear(&mut self) {
        self.changes.clear();
        (self.marker, self.epochs) = (None, 0);
    }

    /// One batch: all changes in order, with their marker.
    fn batch(&self) -> WriteBatch {
        let mut order: Vec<(&[u8], u32)> = self.changes.writes().map(|(at, _, _, key)| (key, at)).collect();
        order.sort_unstable();
        let mut batch = WriteBatch::default();
        for (key, at) in order {
            match self.changes.stored(at) {
                [] => batch.delete(key),
                stored => batch.put(key, stored),
            }
        }
        if let Some(of_newest) = self.marker {
            marker::put_marker(&mut batch, of_newest);
        }
        batch
    }
}

impl Writing {
    /// Begins to write.
    pub(super) fn start(db: &Arc<Disk>, changes: Waiting, write: Write) -> std::io::Result<Self> {
        let changes = Arc::new(changes);
        if db.is_simulated() {
            let work = Work::Done(db.write(changes.batch(), write));
            return Ok(Self { changes, work });
        }
        let (db, to_write) = (Arc::clone(db), Arc::clone(&changes));
        let thread = std::thread::Builder::new().name("state-writer".to_owned());
        let thread = thread.spawn(move || db.write(to_write.batch(), write))?;
        Ok(Self { changes, work: Work::Thread(thread) })
    }

    pub(super) fn get(&self, hash: u64, full_key: &[u8]) -> Option<&[u8]> {
        self.changes.get(hash, full_key)
    }

    pub(super) fn is_finished(&self) -> bool {
        match &self.work {
            Work::Thread(thread) => thread.is_finished(),
            Work::Done(_) => true,
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        self.changes.byte_len()
    }

    /// Waits for the thread, and gives the memory back for the next changes. `None` where the thread
    /// ended by a panic.
    pub(super) fn finish(self) -> Option<Result<Waiting, rocksdb::Error>> {
        let written = match self.work {
            Work::Thread(thread) => thread.join().ok()?,
            Work::Done(written) => written,
        };
        let mut spare = Arc::into_inner(self.changes).unwrap_or_default();
        spare.clear();
        Some(written.map(|()| spare))
    }
}
