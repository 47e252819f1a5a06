//! One task's RocksDB: committed values and timers, and the marker of the epoch they belong to.
//!
//! Owns how the store is tuned and when it is flushed. The write-ahead log is off, because the
//! changelog already holds every change: after a crash the store stands at the last epoch that was
//! flushed, its marker says which, and recovery replays the rest. One column family and the marker in
//! the same write batch make that point exact.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, FlushOptions, LogLevel,
    Options, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::key::STORE;
use super::{Changes, Error};

/// Raised with every change of the keys, values or marker at rest. A store of another format is not
/// read but rebuilt from the changelog.
pub(super) const FORMAT: u32 = 1;

const FORMAT_KEY: &[u8] = &[STORE, b'f'];
const MARKER_KEY: &[u8] = &[STORE, b'm'];
const MARKER_LEN: usize = 48;
const COLUMN_FAMILY: &str = "default";

/// The last epoch that the store has taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub epoch: u64,
    /// Changelog offset of the epoch's header, for finding it again.
    pub header_offset: i64,
    /// Hash of that header: the store counts only if exactly this header stands in the chain.
    pub header_hash: [u8; 32],
}

/// What all stores of a process share: block cache and memory for unflushed writes.
#[derive(Clone)]
pub struct Shared {
    blocks: Cache,
    write_buffers: WriteBufferManager,
}

impl Shared {
    /// `write_buffer_bytes` of unflushed writes are allowed to all stores together; past them RocksDB
    /// flushes earlier than the settings of the single store say.
    pub fn new(block_cache_bytes: usize, write_buffer_bytes: usize) -> Self {
        let blocks = Cache::new_lru_cache(block_cache_bytes);
        let write_buffers = WriteBufferManager::new_write_buffer_manager(write_buffer_bytes, false);
        Self { blocks, write_buffers }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(128 << 20, 256 << 20)
    }
}

/// When unflushed epochs go to disk: what recovery has to replay stays below both bounds.
#[derive(Clone, Copy)]
pub(super) struct FlushPolicy {
    pub bytes: usize,
    pub epochs: u64,
}

pub(super) struct Store {
    db: Arc<DB>,
    dir: PathBuf,
    policy: FlushPolicy,
    unflushed_bytes: usize,
    unflushed_epochs: u64,
    write_options: WriteOptions,
}

impl Store {
    pub(super) fn open(dir: &Path, shared: &Shared, policy: FlushPolicy) -> Result<(Self, Option<Marker>), Error> {
        let doing = "open the state";
        let options = options(shared, policy);
        let families = [ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone())];
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(|e| Error::rocksdb(doing, dir, &e))?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let (dir, db) = (dir.to_owned(), Arc::new(db));
        let store = Self { db, dir, policy, unflushed_bytes: 0, unflushed_epochs: 0, write_options };
        let marker = store.read_marker()?;
        Ok((store, marker))
    }

    /// Removes a store that no one has open, whatever is left of it.
    pub(super) fn wipe(dir: &Path) -> Result<(), Error> {
        let doing = "remove the state";
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

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn db(&self) -> &Arc<DB> {
        &self.db
    }

    /// Reads keys at rest that ascend; `found` gets every one with its value, in the same order.
    pub(super) fn multi_get<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        mut found: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), Error> {
        let doing = "read the state";
        let family = self.db.cf_handle(COLUMN_FAMILY).ok_or_else(|| self.damaged(doing, "no default column family"))?;
        for (i, value) in self.db.batched_multi_get_cf(family, keys, true).into_iter().enumerate() {
            let value = value.map_err(|e| Error::rocksdb(doing, &self.dir, &e))?;
            found(i, value.as_deref());
        }
        Ok(())
    }

    /// Takes in one epoch's changes (or several, replayed together) and its marker, all or none.
    pub(super) fn write(&mut self, changes: &Changes, marker: Marker) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for (key, value) in changes.iter() {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch.put(MARKER_KEY, encode_marker(marker));
        batch.put(FORMAT_KEY, FORMAT.to_le_bytes());
        self.unflushed_bytes += batch.size_in_bytes();
        self.unflushed_epochs += 1;
        let written = self.db.write_opt(batch, &self.write_options);
        written.map_err(|e| Error::rocksdb("write an epoch to the state", &self.dir, &e))?;
        if self.unflushed_bytes >= self.policy.bytes || self.unflushed_epochs >= self.policy.epochs {
            self.flush(false)?;
        }
        Ok(())
    }

    /// Sends what is unflushed to disk, in the background unless `wait`.
    pub(super) fn flush(&mut self, wait: bool) -> Result<(), Error> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.db.flush_opt(&options).map_err(|e| Error::rocksdb("flush the state", &self.dir, &e))?;
        (self.unflushed_bytes, self.unflushed_epochs) = (0, 0);
        Ok(())
    }

    /// Number of keys and bytes on disk, both estimated by RocksDB.
    pub(super) fn size(&self) -> (u64, u64) {
        let number = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        (number("rocksdb.estimate-num-keys"), number("rocksdb.total-sst-files-size"))
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
        let mut keys = self.db.raw_iterator();
        keys.seek_to_first();
        !keys.valid() && keys.status().is_ok()
    }

    fn damaged(&self, doing: &'static str, found: &str) -> Error {
        Error::Damaged { doing, dir: self.dir.clone(), found: format!("found {found}") }
    }
}

/// An iterator for passes over much of the store: leaves the block cache to the reads of records.
pub(super) fn scanner(db: &DB) -> DBRawIterator<'_> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    db.raw_iterator_opt(options)
}

pub(super) fn encode_marker(marker: Marker) -> [u8; MARKER_LEN] {
    let mut bytes = [0; MARKER_LEN];
    bytes[..8].copy_from_slice(&marker.epoch.to_le_bytes());
    bytes[8..16].copy_from_slice(&marker.header_offset.to_le_bytes());
    bytes[16..].copy_from_slice(&marker.header_hash);
    bytes
}

fn decode_marker(bytes: &[u8]) -> Option<Marker> {
    let (epoch, rest) = bytes.split_first_chunk()?;
    let (header_offset, rest) = rest.split_first_chunk()?;
    let header_hash = rest.try_into().ok()?;
    let (epoch, header_offset) = (u64::from_le_bytes(*epoch), i64::from_le_bytes(*header_offset));
    Some(Marker { epoch, header_offset, header_hash })
}

fn options(shared: &Shared, policy: FlushPolicy) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    // Twice what the policy flushes at: it is the policy that decides, and the size only backs it up.
    options.set_write_buffer_size(policy.bytes.saturating_mul(2).max(1 << 20));
    options.set_max_write_buffer_number(4);
    options.set_write_buffer_manager(&shared.write_buffers);
    options.set_allow_concurrent_memtable_write(false); // one thread writes
    options.set_memtable_prefix_bloom_ratio(0.02);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_one_of_another_length_does_not() {
        let marker = Marker { epoch: 7, header_offset: -3, header_hash: [9; 32] };
        let bytes = encode_marker(marker);
        assert_eq!(decode_marker(&bytes), Some(marker));
        assert_eq!(decode_marker(&bytes[..47]), None);
        assert_eq!(decode_marker(&[&bytes[..], &[0]].concat()), None);
    }
}
