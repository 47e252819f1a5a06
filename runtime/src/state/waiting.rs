//! Committed changes on their way to RocksDB: gathered in memory, then written sorted by a thread of
//! their own, while the next ones gather.
//!
//! A key that many epochs change is so written once, and no record waits for RocksDB's write path.
//! Losing this memory loses nothing: the changelog holds every change, and the store's marker says from
//! where to replay.

use std::hash::BuildHasher;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
    written: Arc<Written>,
    /// Older changes that another thread is writing still: the newer ones are written behind them.
    before: Option<Box<Writing>>,
}

/// Whether changes are in RocksDB, for those who wait for it in other threads.
#[derive(Default)]
pub(super) struct Written {
    /// None: not yet. False: they will never be.
    outcome: Mutex<Option<bool>>,
    told: Condvar,
}

impl Written {
    pub(super) fn wait(&self) -> bool {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.told.wait_while(outcome, |outcome| outcome.is_none());
        outcome.unwrap_or_else(PoisonError::into_inner).unwrap_or(false)
    }

    /// The first word counts.
    pub(super) fn tell(&self, is_written: bool) {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(is_written);
        self.told.notify_all();
    }
}

/// Whoever waits is told also where the thread panics.
struct Telling(Arc<Written>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.tell(false);
    }
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
    /// Begins to write, behind older changes.
    pub(super) fn start(
        db: &Arc<Disk>,
        changes: Waiting,
        write: Write,
        behind: Option<Arc<Written>>,
    ) -> std::io::Result<Self> {
        let (changes, written, before) = (Arc::new(changes), Arc::<Written>::default(), None);
        if db.is_simulated() {
            let outcome = db.write(changes.batch(), write);
            written.tell(outcome.is_ok());
            return Ok(Self { changes, work: Work::Done(outcome), written, before });
        }
        let (db, to_write) = (Arc::clone(db), Arc::clone(&changes));
        let thread = std::thread::Builder::new().name("state-writer".to_owned());
        let telling = Telling(Arc::clone(&written));
        let thread = thread.spawn(move || {
            // What is older was lost: its marker must not be passed. Whoever finishes it learns why.
            if behind.is_some_and(|behind| !behind.wait()) {
                return Ok(());
            }
            db.write(to_write.batch(), write).inspect(|()| telling.0.tell(true))
        })?;
        Ok(Self { changes, work: Work::Thread(thread), written, before })
    }

    /// Is finished with those that it was begun behind.
    pub(super) fn follow(&mut self, before: Option<Writing>) {
        self.before = before.map(Box::new);
    }

    pub(super) fn is_behind_another(&self) -> bool {
        self.before.is_some()
    }

    pub(super) fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    pub(super) fn get(&self, hash: u64, full_key: &[u8]) -> Option<&[u8]> {
        let older = || self.before.as_ref().and_then(|before| before.get(hash, full_key));
        self.changes.get(hash, full_key).or_else(older)
    }

    pub(super) fn is_finished(&self) -> bool {
        match &self.work {
            Work::Thread(thread) => thread.is_finished(),
            Work::Done(_) => true,
        }
    }

    pub(super) fn byte_len(&self) -> usize {
        self.changes.byte_len() + self.before.as_ref().map_or(0, |before| before.byte_len())
    }

    /// Waits for the thread, and gives the memory back for the next changes. `None` where the thread
    /// ended by a panic.
    pub(super) fn finish(self) -> Option<Result<Waiting, rocksdb::Error>> {
        let older = self.before.map(|before| before.finish());
        let written = match self.work {
            Work::Thread(thread) => thread.join().ok()?,
            Work::Done(written) => written,
        };
        match older {
            None | Some(Some(Ok(_))) => {}
            Some(failed) => return failed,
        }
        let mut spare = Arc::into_inner(self.changes).unwrap_or_default();
        spare.clear();
        Some(written.map(|()| spare))
    }
}
