//! The ordered map of bytes below a store: RocksDB, and in tests a simulated disk that loses what RocksDB would lose.
//!
//! Owns the calls that differ between the two, and nothing of what the bytes mean.

#[cfg(test)]
pub mod simulated;

use std::path::Path;

use rocksdb::{
    ColumnFamilyDescriptor, DB, DBPinnableSlice, DBRawIterator, FlushOptions, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use crate::env::failpoint;

const COLUMN_FAMILY: &str = "default";
/// Of the memory that is filled before a file is written.
const FILTER_PART: &str = "0.02";

pub(super) enum Disk {
    Rocks(DB),
    #[cfg(test)]
    Simulated(simulated::Open),
}

/// What goes with a batch.
#[derive(Clone, Copy)]
pub(super) struct Write {
    /// Ask for what is in memory to be brought to disk, and do not wait for it.
    pub flush: bool,
    /// Have, or no longer have, a filter over what is in memory, from the next memory on that is begun.
    pub filter: Option<bool>,
}

/// A value read, for as long as the disk is borrowed.
pub(super) enum Pinned<'a> {
    Rocks(DBPinnableSlice<'a>),
    #[cfg(test)]
    Simulated(Vec<u8>, std::marker::PhantomData<&'a ()>),
}

/// All entries in their order, as they were when this was made.
pub(super) enum Entries<'a> {
    Rocks(DBRawIterator<'a>),
    #[cfg(test)]
    Simulated(simulated::Cursor),
}

impl Disk {
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, rocksdb::Error> {
        let families = [ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone())];
        DB::open_cf_descriptors(options, dir, families).map(Self::Rocks)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, rocksdb::Error> {
        match self {
            Self::Rocks(db) => db.get(key),
            #[cfg(test)]
            Self::Simulated(open) => Ok(open.get(key)),
        }
    }

    /// Reads keys that ascend.
    pub(super) fn multi_get<'k>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Vec<Result<Option<Pinned<'_>>, rocksdb::Error>> {
        match self {
            Self::Rocks(db) => {
                let family = db.cf_handle(COLUMN_FAMILY).expect("it was opened with this column family");
                let read = db.batched_multi_get_cf(family, keys, true).into_iter();
                read.map(|value| value.map(|value| value.map(Pinned::Rocks))).collect()
            }
            #[cfg(test)]
            Self::Simulated(open) => {
                let pinned = |value| Pinned::Simulated(value, std::marker::PhantomData);
                keys.map(|key| Ok(open.get(key).map(pinned))).collect()
            }
        }
    }

    /// Writes a batch, all or none, into memory.
    pub(super) fn write(&self, batch: WriteBatch, Write { flush, filter }: Write) -> Result<(), rocksdb::Error> {
        match self {
            Self::Rocks(db) => {
                if let Some(filter) = filter {
                    let ratio = if filter { FILTER_PART } else { "0" };
                    db.set_options(&[("memtable_prefix_bloom_size_ratio", ratio)])?;
                }
                let mut options = WriteOptions::default();
                options.disable_wal(true);
                db.write_opt(batch, &options)?;
                failpoint("state-written");
                if flush {
                    let mut options = FlushOptions::default();
                    options.set_wait(false);
                    db.flush_opt(&options)?;
                    failpoint("state-flush-begun");
                }
            }
            #[cfg(test)]
            Self::Simulated(open) => {
                open.write(&batch);
                crate::env::simulated::strike("state-written");
            }
        }
        Ok(())
    }

    /// Brings everything to disk and waits for it.
    pub(super) fn flush(&self) -> Result<(), rocksdb::Error> {
        match self {
            Self::Rocks(db) => db.flush(),
            #[cfg(test)]
            Self::Simulated(open) => {
                open.flush();
                Ok(())
            }
        }
    }

    /// For passes over much of the store: leaves the block cache to the reads of records.
    pub(super) fn scan(&self) -> Entries<'_> {
        match self {
            Self::Rocks(db) => {
                let mut options = ReadOptions::default();
                options.fill_cache(false);
                Entries::Rocks(db.raw_iterator_opt(options))
            }
            #[cfg(test)]
            Self::Simulated(open) => Entries::Simulated(open.cursor()),
        }
    }

    /// A number that RocksDB keeps about itself.
    pub(super) fn property(&self, name: &str) -> u64 {
        match self {
            Self::Rocks(db) => db.property_int_value(name).ok().flatten().unwrap_or(0),
            #[cfg(test)]
            Self::Simulated(_) => 0,
        }
    }

    /// Whether writes are to be made in the caller's own thread, so that their order is always the same.
    pub(super) fn is_simulated(&self) -> bool {
        match self {
            Self::Rocks(_) => false,
            #[cfg(test)]
            Self::Simulated(_) => true,
        }
    }
}

impl std::ops::Deref for Pinned<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Rocks(value) => value,
            #[cfg(test)]
            Self::Simulated(value, _) => value,
        }
    }
}

impl Entries<'_> {
    pub(super) fn seek(&mut self, key: &[u8]) {
        match self {
            Self::Rocks(entries) => entries.seek(key),
            #[cfg(test)]
            Self::Simulated(cursor) => cursor.seek(key),
        }
    }

    pub(super) fn next(&mut self) {
        match self {
            Self::Rocks(entries) => entries.next(),
            #[cfg(test)]
            Self::Simulated(cursor) => cursor.next(),
        }
    }

    /// Key and value that it stands on; none behind the last, and where reading failed.
    pub(super) fn item(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Rocks(entries) => entries.item(),
            #[cfg(test)]
            Self::Simulated(cursor) => cursor.item(),
        }
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Rocks(entries) => entries.key(),
            #[cfg(test)]
            Self::Simulated(cursor) => cursor.item().map(|(key, _)| key),
        }
    }

    pub(super) fn status(&self) -> Result<(), rocksdb::Error> {
        match self {
            Self::Rocks(entries) => entries.status(),
            #[cfg(test)]
            Self::Simulated(_) => Ok(()),
        }
    }
}
