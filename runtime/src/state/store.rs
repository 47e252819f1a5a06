//! One task's RocksDB: committed values and timers, and the marker of the epoch they belong to.
//!
//! Owns how the store is tuned and when it is written and flushed. The write-ahead log is off, because
//! the changelog already holds every change: after a crash the store stands at the last epoch that was
//! flushed, its marker says which, and recovery replays the rest. One column family and the marker in
//! the same write batch make that point exact.

use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, LogLevel, Options, WriteBufferManager};
use rustc_hash::FxSeededState;

use super::budget::CacheBudget;
use super::disk::{Disk, Write};
use super::marker::{FORMAT, FORMAT_KEY, MARKER_KEY, Marker, decode_marker};
use super::note::{Note, Noted};
use super::waiting::{Waiting, Writing, Written};
use super::{Changes, Error};
use crate::env::failpoint;
use crate::error::Kind;
use crate::model::Blobs;

/// A task that writes so much at a time reads much of what is not yet on disk, and a filter there spares it a quarter of
/// what a read costs. Memory for it, more than all else that an idle task takes, is given only then.
const FILTER_FROM_BYTES: usize = 1 << 20;

/// Name of the file that says why a directory must not be used again.
const CONDEMNED: &str = "DAMAGED";

/// What all stores of a process share: memory for committed values, block cache and memory for unflushed writes.
#[derive(Clone)]
pub struct Shared {
    pub(super) caches: CacheBudget,
    blocks: Cache,
    write_buffers: WriteBufferManager,
}

impl Shared {
    /// `write_buffer_bytes` of unflushed writes are allowed to all stores together; past them RocksDB
    /// flushes earlier than the settings of the single store say.
    pub fn new(value_cache_bytes: usize, block_cache_bytes: usize, write_buffer_bytes: usize) -> Self {
        let blocks = Cache::new_lru_cache(block_cache_bytes);
        let write_buffers = WriteBufferManager::new_write_buffer_manager(write_buffer_bytes, false);
        Self { caches: CacheBudget::new(value_cache_bytes), blocks, write_buffers }
    }

    /// The one that all tasks of this process use.
    pub fn of_process() -> Self {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(1 << 30, 128 << 20, 256 << 20)).clone()
    }
}

/// When committed changes go to RocksDB, and from there to disk: what recovery has to replay stays
/// below the sum of the bytes, and below the epochs.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub write_bytes: usize,
    pub flush_bytes: usize,
    pub flush_epochs: u64,
}

pub(super) struct Store {
    db: Arc<Disk>,
    dir: PathBuf,
    note: Note,
    policy: Policy,
    hasher: FxSeededState,
    waiting: Waiting,
    writing: Option<Writing>,
    /// Emptied, for the next changes.
    spare: Waiting,
    /// In RocksDB's memory.
    unflushed_bytes: usize,
    /// Of the changes of all unflushed epochs, each key counted as often as it changed: what a restart has to replay.
    replay_bytes: usize,
    unflushed_epochs: u64,
    /// What is written from now on has a filter over it until it is on disk.
    filtered: bool,
}

impl Store {
    pub(super) fn open(
        dir: &Path,
        shared: &Shared,
        policy: Policy,
        hasher: FxSeededState,
    ) -> Result<(Self, Option<Marker>), Error> {
        let doing = "open the state";
        if let Ok(found) = std::fs::read_to_string(dir.join(CONDEMNED)) {
            return Err(Error::Damaged { doing, dir: dir.to_owned(), found });
        }
        #[cfg(test)]
        let (simulated, policy) = open_simulated(dir, policy)?;
        #[cfg(not(test))]
        let simulated: Option<Disk> = None;
        let db = match simulated {
            Some(disk) => disk,
            None => Disk::open(dir, &options(shared, policy)).map_err(|e| Error::rocksdb(doing, dir, &e))?,
        };
        let store = Self {
            db: Arc::new(db),
            dir: dir.to_owned(),
            note: Note::beside(dir),
            policy,
            hasher,
            waiting: Waiting::default(),
            writing: None,
            spare: Waiting::default(),
            unflushed_bytes: 0,
            replay_bytes: 0,
            unflushed_epochs: 0,
            filtered: false,
        };
        let marker = store.read_marker()?;
        Ok((store, marker))
    }

    /// Removes a store that no one has open, whatever is left of it.
    pub(super) fn wipe(dir: &Path) -> Result<(), Error> {
        let doing = "remove the state";
        #[cfg(test)]
        if let Some(machine) = super::disk::simulated::machine() {
            return machine.wipe(dir).map_err(|_| Error::Locked { dir: dir.to_owned() });
        }
        let destroyed = DB::destroy(&Options::default(), dir).map_err(|e| Error::rocksdb(doing, dir, &e));
        // What RocksDB cannot make sense of is removed all the same; what someone has open is not.
        if let Err(locked @ Error::Locked { .. }) = destroyed {
            return Err(locked);
        }
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Store { doing, dir: dir.to_owned(), found: e.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// The last epoch that was committed from here, as far as it was noted.
    pub(super) fn noted(&self) -> Option<Noted> {
        self.note.read()
    }

    /// Notes an epoch that surely was committed.
    pub(super) fn note(&mut self, marker: Marker) {
        self.note.write(marker);
        failpoint("commit-noted");
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn db(&self) -> &Arc<Disk> {
        &self.db
    }

    /// Reads keys at rest that ascend; `values` gets every one's value in the same order.
    pub(super) fn multi_get(&self, keys: &Blobs, values: &mut Blobs) -> Result<(), Error> {
        let doing = "read the state";
        let waiting: Vec<_> = (0..keys.len()).map(|i| self.waiting_value(keys.bytes(i))).collect();
        let to_read = waiting.iter().enumerate().filter(|(_, value)| value.is_none()).map(|(i, _)| keys.bytes(i));
        let mut read = self.db.multi_get(to_read).into_iter();
        values.clear();
        for waiting in waiting {
            match waiting {
                Some(stored) => values.push((!stored.is_empty()).then_some(stored)),
                None => {
                    let value = read.next().transpose().map_err(|e| Error::rocksdb(doing, &self.dir, &e))?;
                    values.push(value.flatten().as_deref());
                }
            }
        }
        Ok(())
    }

    fn waiting_value(&self, full_key: &[u8]) -> Option<&[u8]> {
        if self.waiting.is_empty() && self.writing.is_none() {
            return None;
        }
        let hash = self.hasher.hash_one(full_key);
        let waiting = self.waiting.get(hash, full_key);
        waiting.or_else(|| self.writing.as_ref().and_then(|writing| writing.get(hash, full_key)))
    }

    /// Takes in one epoch's changes and its marker, all or none. They may wait in memory for a while:
    /// [`Store::multi_get`] sees them, [`Disk::scan`]s only after [`Store::write_out`].
    pub(super) fn write(&mut self, changes: &Changes, marker: Marker) -> Result<(), Error> {
        self.waiting.add(&self.hasher, changes, marker);
        self.replay_bytes += changes.keys.byte_len() + changes.values.byte_len();
        if self.writing.as_ref().is_some_and(Writing::is_finished) {
            self.finish_writing()?;
        }
        if self.waiting.byte_len() >= self.policy.write_bytes || self.is_flush_due() {
            self.start_writing()?;
        }
        Ok(())
    }

    /// Whether what RocksDB has in memory, and what waits for it, is to go to disk.
    fn is_flush_due(&self) -> bool {
        let Policy { flush_bytes, flush_epochs, .. } = self.policy;
        let (bytes, epochs) =
            (self.unflushed_bytes + self.waiting.byte_len(), self.unflushed_epochs + self.waiting.epochs());
        bytes >= flush_bytes || self.replay_bytes >= flush_bytes || epochs >= flush_epochs
    }

    /// Waits until everything is in RocksDB, if not on disk.
    pub(super) fn write_out(&mut self) -> Result<(), Error> {
        if !self.waiting.is_empty() {
            self.start_writing()?;
        }
        self.finish_writing()
    }

    /// Brings everything to RocksDB, and waits for nothing. False while some of it is on its way: ask again.
    pub(super) fn settle(&mut self) -> Result<bool, Error> {
        loop {
            if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
                return Ok(false);
            }
            self.finish_writing()?;
            if self.waiting.is_empty() {
                return Ok(true);
            }
            self.start_writing()?;
        }
    }

    /// Has what waits written to RocksDB too, and does not wait for it: whoever needs it there does, in another thread. None
    /// where it is there.
    pub(super) fn send_out(&mut self) -> Result<Option<Arc<Written>>, Error> {
        if !self.waiting.is_empty() {
            if self.writing.as_ref().is_some_and(Writing::is_behind_another) {
                self.finish_writing()?;
            }
            self.begin_writing()?;
        }
        Ok(self.writing.as_ref().map(Writing::written))
    }

    /// Holds writers back until it is told.
    #[cfg(test)]
    pub(super) fn hold(&mut self) -> Arc<Written> {
        let gate = Arc::<Written>::default();
        let nothing = Write { flush: false, filter: None };
        self.writing = Writing::start(&self.db, Waiting::default(), nothing, Some(Arc::clone(&gate))).ok();
        gate
    }

    /// For a task that has nothing to do: what is in memory goes to disk, by and by, and its memory is given back. A filter
    /// goes with what it is over.
    pub(super) fn rest(&mut self) -> Result<(), Error> {
        if self.writing.as_ref().is_some_and(Writing::is_finished) {
            self.finish_writing()?;
        }
        self.spare = Waiting::default();
        let is_on_disk = self.waiting.is_empty() && self.unflushed_epochs == 0;
        if is_on_disk || self.writing.is_some() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let filter = std::mem::take(&mut self.filtered).then_some(false);
        self.flushed();
        self.begin(waiting, Write { flush: true, filter })
    }

    /// Brings everything to disk and waits for it.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.write_out()?;
        self.db.flush().map_err(|e| Error::rocksdb("flush the state", &self.dir, &e))?;
        self.flushed();
        Ok(())
    }

    fn flushed(&mut self) {
        (self.unflushed_bytes, self.replay_bytes, self.unflushed_epochs) = (0, 0, 0);
    }

    fn start_writing(&mut self) -> Result<(), Error> {
        self.finish_writing()?;
        self.begin_writing()
    }

    fn begin_writing(&mut self) -> Result<(), Error> {
        failpoint("state-write-begins");
        let begin_to_filter = !self.filtered && self.waiting.byte_len() >= FILTER_FROM_BYTES;
        // Only memory that is begun after it has the filter.
        let flush = self.is_flush_due() || begin_to_filter;
        let waiting = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.spare));
        self.unflushed_bytes += waiting.byte_len();
        self.unflushed_epochs += waiting.epochs();
        if flush {
            self.flushed();
        }
        self.filtered |= begin_to_filter;
        self.begin(waiting, Write { flush, filter: begin_to_filter.then_some(true) })
    }

    fn begin(&mut self, waiting: Waiting, write: Write) -> Result<(), Error> {
        let behind = self.writing.as_ref().map(Writing::written);
        let started = Writing::start(&self.db, waiting, write, behind);
        let mut started = started.map_err(|e| self.failed("start the state's writer", e.to_string()))?;
        started.follow(self.writing.take());
        self.writing = Some(started);
        Ok(())
    }

    fn finish_writing(&mut self) -> Result<(), Error> {
        let doing = "write epochs to the state";
        match self.writing.take().map(Writing::finish) {
            None => Ok(()),
            Some(Some(Ok(spare))) => {
                self.spare = spare;
                Ok(())
            }
            Some(Some(Err(e))) => Err(Error::rocksdb(doing, &self.dir, &e)),
            Some(None) => Err(self.failed(doing, "the writer's thread ended without an answer".to_owned())),
        }
    }

    /// Where stored bytes turned out damaged, leaves a note in the directory: the next
    /// [`Store::open`] refuses it, and so recovery rebuilds it, although it may open well.
    pub(super) fn condemn_if_corrupt<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result
            && error.kind() == Kind::Corrupt
            && let Err(e) = std::fs::write(self.dir.join(CONDEMNED), error.to_string())
        {
            tracing::warn!(dir = %self.dir.display(), "leave a note that the state is damaged: {e}");
        }
        result
    }

    /// Bytes that wait in memory.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.byte_len() + self.writing.as_ref().map_or(0, Writing::byte_len)
    }

    /// Number of keys and bytes on disk, both estimated by RocksDB.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.db.property("rocksdb.estimate-num-keys"), self.db.property("rocksdb.total-sst-files-size"))
    }

    fn read_marker(&self) -> Result<Option<Marker>, Error> {
        let doing = "read the state's marker";
        let read = |key| self.db.get(key).map_err(|e| Error::rocksdb(doing, &self.dir, &e));
        let Some(format) = read(FORMAT_KEY)? else {
            return if self.is_empty() { Ok(None) } else { Err(self.damaged(doing, "keys, but no format number")) };
        };
        let format = <[u8; 4]>::try_from(format.as_slice()).map(u32::from_le_bytes);
        match format {
            Ok(FORMAT) => {}
            Ok(found) => return Err(Error::Format { dir: self.dir.clone(), found, known: FORMAT }),
            Err(_) => return Err(self.damaged(doing, "a format number that is not four bytes")),
        }
        let marker = read(MARKER_KEY)?.ok_or_else(|| self.damaged(doing, "a format number, but no marker"))?;
        decode_marker(&marker).map(Some).ok_or_else(|| self.damaged(doing, "a marker of the wrong length"))
    }

    fn is_empty(&self) -> bool {
        let mut keys = self.db.scan();
        keys.seek(&[]);
        keys.key().is_none() && keys.status().is_ok()
    }

    fn damaged(&self, doing: &'static str, found: &str) -> Error {
        Error::Damaged { doing, dir: self.dir.clone(), found: format!("found {found}") }
    }

    fn failed(&self, doing: &'static str, found: String) -> Error {
        Error::Store { doing, dir: self.dir.clone(), found }
    }
}

/// The writer's thread holds the directory's lock; whoever opens it next must not find it taken.
impl Drop for Store {
    fn drop(&mut self) {
        self.writing.take().map(Writing::finish);
    }
}

/// Where this thread simulates a machine, the store on its disk.
#[cfg(test)]
fn open_simulated(dir: &Path, policy: Policy) -> Result<(Option<Disk>, Policy), Error> {
    use super::disk::simulated::{Haste, Refused, machine};
    let Some(machine) = machine() else { return Ok((None, policy)) };
    let Haste { write_bytes, flush_bytes, flush_epochs } = machine.haste();
    let open = machine.open(dir).map_err(|refused| match refused {
        Refused::Locked => Error::Locked { dir: dir.to_owned() },
        Refused::Damaged => {
            let found = "flipped bits".to_owned();
            Error::Damaged { doing: "open the state", dir: dir.to_owned(), found }
        }
    })?;
    Ok((Some(Disk::Simulated(open)), Policy { write_bytes, flush_bytes, flush_epochs }))
}

fn options(shared: &Shared, policy: Policy) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    // Twice what the policy flushes at: it is the policy that decides, and the size only backs it up.
    options.set_write_buffer_size(policy.flush_bytes.saturating_mul(2).max(1 << 20));
    options.set_max_write_buffer_number(4);
    options.set_write_buffer_manager(&shared.write_buffers);
    options.set_allow_concurrent_memtable_write(false); // one thread writes
    // Without effect until a [`Write`] asks for a filter.
    options.set_memtable_whole_key_filtering(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    // Opening must not grow with the state: files are opened, and their indexes read, when first needed.
    options.set_max_open_files(512);
    options.set_skip_stats_update_on_db_open(true);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_stats_dump_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_block_based_table_factory(&table_options(shared));
    options
}

fn table_options(shared: &Shared) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&shared.blocks);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_bloom_filter(10.0, false);
    table.set_block_size(8 << 10);
    table.set_format_version(6);
    table
}
