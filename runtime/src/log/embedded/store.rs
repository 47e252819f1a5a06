//! RocksDB as the embedded log uses it: one column family, write-ahead log on, batches in blob files.
//!
//! Owns the database and its options, and turns its errors into the log's. Knows keys only by `keys`.
//! A record batch is written to a blob file once, at the flush; compactions move only keys.

use std::borrow::Cow;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rocksdb::{DBPinnableSlice, DBRawIterator, DBRecoveryMode, ReadOptions, Snapshot, WriteBatch, WriteOptions};

use super::Settings;
use super::keys::{self, IndexEntry, Place};
use crate::log::Error;

/// What an opening needs beside what it reads back: a manifest, and room to go on.
const ROOM_BYTES: u64 = 1 << 20;

pub struct Store {
    /// None after an opening that failed: the next one tries again.
    db: Option<rocksdb::DB>,
    dir: PathBuf,
    settings: Settings,
    /// What the next writes do in place of what they should.
    #[cfg(test)]
    pub sick: std::sync::Mutex<std::collections::VecDeque<Sick>>,
    /// As if the disk had none.
    #[cfg(test)]
    pub no_room: std::sync::atomic::AtomicBool,
}

/// A write that fails, in a test.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sick {
    /// And nothing of it is on the disk.
    Lost,
    /// And all of it is.
    Written,
}

impl Store {
    pub fn open(dir: &Path, settings: &Settings) -> Result<Self, Error> {
        let mut store = Self {
            db: None,
            dir: dir.to_owned(),
            settings: settings.clone(),
            #[cfg(test)]
            sick: std::sync::Mutex::default(),
            #[cfg(test)]
            no_room: std::sync::atomic::AtomicBool::default(),
        };
        store.open_again()?;
        Ok(store)
    }

    /// Closes what is open and reads what is on the disk: after a write that failed only that tells what happened.
    pub fn open_again(&mut self) -> Result<(), Error> {
        self.db = None;
        let dir = self.dir.clone();
        let doing = || format!("open the log in {}", dir.display());
        let db = rocksdb::DB::open(&options(&self.settings), &dir).map_err(|error| failed(doing(), &error))?;
        self.db = Some(db);
        let checked = self.check_version(&doing);
        if checked.is_err() {
            self.db = None;
        }
        checked
    }

    /// Commits wait for the disk.
    pub fn is_synced(&self) -> bool {
        self.settings.sync
    }

    fn check_version(&self, doing: &dyn Fn() -> String) -> Result<(), Error> {
        let store = self;
        match store.get(keys::STORE, doing)? {
            Some(bytes) => {
                let version = keys::number_from_bytes(&bytes).map_err(|found| corrupt(doing(), found))?;
                if version != u64::from(keys::STORE_VERSION) {
                    let found = format!("its format is {version}, this program reads {}", keys::STORE_VERSION);
                    return Err(Error::Storage { doing: doing(), found });
                }
            }
            None => {
                let mut batch = WriteBatch::default();
                batch.put(keys::STORE, keys::number_to_bytes(keys::STORE_VERSION.into()));
                store.write(batch, doing)?;
            }
        }
        Ok(())
    }

    fn db(&self, doing: &dyn Fn() -> String) -> Result<&rocksdb::DB, Error> {
        self.db.as_ref().ok_or_else(|| {
            let found = "the log is closed since an earlier failure, and is opened again as soon as that works";
            Error::Storage { doing: doing(), found: found.to_owned() }
        })
    }

    /// # Errors
    /// The disk has no room for what an opening writes: the write-ahead log goes into files. It then is not tried, so
    /// that what is open can still be read.
    pub fn check_room(&self) -> Result<(), Error> {
        let logs = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let logs = logs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
        let unflushed: u64 = logs.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
        let needed = unflushed + ROOM_BYTES;
        match self.free_bytes() {
            Some(free) if free < needed => Err(Error::Storage {
                doing: format!("write to the log in {}", self.dir.display()),
                found: format!(
                    "its disk has {free} bytes free, {needed} are needed; free some, and it goes on by itself"
                ),
            }),
            _ => Ok(()),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        #[cfg(test)]
        if self.no_room.load(std::sync::atomic::Ordering::SeqCst) {
            return Some(0);
        }
        free_bytes(&self.dir)
    }

    pub fn get(&self, key: &[u8], doing: &dyn Fn() -> String) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        self.db(doing)?.get_pinned(key).map_err(|error| failed(doing(), &error))
    }

    /// All or nothing, and after a kill still so; after a power cut too where `sync` is set.
    pub fn write(&self, batch: WriteBatch, doing: &dyn Fn() -> String) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        options.set_sync(self.settings.sync);
        let db = self.db(doing)?;
        #[cfg(test)]
        if let Some(sick) = self.sick.lock().unwrap().pop_front() {
            if sick == Sick::Written {
                db.write_opt(batch, &options).unwrap();
            }
            return Err(Error::Storage { doing: doing(), found: "no space left on device".to_owned() });
        }
        db.write_opt(batch, &options).map_err(|error| failed(doing(), &error))
    }

    /// The values of all keys that start with this byte.
    pub fn family(&self, first: u8, doing: &dyn Fn() -> String) -> Result<Vec<Vec<u8>>, Error> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(vec![first + 1]);
        let mut entries = self.db(doing)?.raw_iterator_opt(options);
        let mut found = Vec::new();
        entries.seek([first]);
        while let Some(value) = entries.value() {
            found.push(value.to_vec());
            entries.next();
        }
        entries.status().map_err(|error| failed(doing(), &error))?;
        Ok(found)
    }

    /// The batches of a partition that hold offsets of `from..below`, as they are at this moment.
    pub fn scan(&self, place: Place, from: i64, below: i64) -> Result<Scan<'_>, Error> {
        let db = self.db(&|| place.doing())?;
        let snapshot = db.snapshot();
        let mut options = ReadOptions::default();
        options.set_snapshot(&snapshot);
        options.set_iterate_upper_bound(place.index(below));
        let mut entries = db.raw_iterator_opt(options);
        entries.seek(place.index(from));
        Ok(Scan { entries, snapshot, place })
    }

    /// Frees whole files that hold nothing but the given range, which was deleted before.
    pub fn drop_files(&self, from: &[u8], to: &[u8]) {
        let dropped = self.db.as_ref().map_or(Ok(()), |db| db.delete_file_in_range(from, to));
        if let Err(error) = dropped {
            tracing::warn!(%error, "free the files of deleted records");
        }
    }
}

/// Walks over the index of one partition; batches are loaded only where asked for.
pub struct Scan<'a> {
    // Before the snapshot, which it reads from: fields are dropped in this order.
    entries: DBRawIterator<'a>,
    snapshot: Snapshot<'a>,
    place: Place,
}

impl Scan<'_> {
    /// The batch that the scan stands on: its last offset and its index entry.
    pub fn current(&self) -> Result<Option<(i64, IndexEntry)>, Error> {
        let Some((key, value)) = self.entries.item() else {
            self.entries.status().map_err(|error| failed(self.doing(), &error))?;
            return Ok(None);
        };
        let last = keys::last_offset(key).ok_or_else(|| corrupt(self.doing(), "an index key has another length"))?;
        let entry = IndexEntry::from_bytes(value).map_err(|found| corrupt(self.doing(), found))?;
        Ok(Some((last, entry)))
    }

    pub fn advance(&mut self) {
        self.entries.next();
    }

    /// The stored bytes of the batch that ends with `last`.
    pub fn load(&self, last: i64) -> Result<DBPinnableSlice<'_>, Error> {
        let mut options = ReadOptions::default();
        // A batch has a checksum of its own, and a log is read once and on: it would only push out the index.
        options.set_verify_checksums(false);
        options.fill_cache(false);
        let found = self.snapshot.get_pinned_opt(self.place.batch(last), options);
        found
            .map_err(|error| failed(self.doing(), &error))?
            .ok_or_else(|| corrupt(self.doing(), format!("the batch that ends with offset {last} is missing")))
    }

    fn doing(&self) -> String {
        self.place.doing()
    }
}

impl Place {
    fn doing(self) -> String {
        format!("read partition {} of topic id {}", self.partition, self.topic)
    }
}

/// What an unprivileged process may still write there; none where the system does not say.
fn free_bytes(dir: &Path) -> Option<u64> {
    let path = CString::new(dir.as_os_str().as_bytes()).ok()?;
    // SAFETY: plain numbers, for which zeros are valid.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a living text that ends with a zero, and a struct that the call fills.
    let answer = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    (answer == 0).then(|| found.f_bavail as u64 * found.f_frsize as u64)
}

fn options(settings: &Settings) -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(settings.write_buffer_bytes);
    options.set_max_write_buffer_number(3);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    options.set_max_total_wal_size(4 * settings.write_buffer_bytes as u64);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(4096);
    options.set_enable_blob_gc(true);
    // A torn last write is what a kill leaves behind. Anything else that is wrong in the write-ahead log
    // stops the open: going on before it would silently lose committed epochs.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options
}

pub fn failed(doing: String, error: &rocksdb::Error) -> Error {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corrupt { doing, found: error.to_string() },
        _ => Error::Storage { doing, found: error.to_string() },
    }
}

pub fn corrupt(doing: String, found: impl Into<Cow<'static, str>>) -> Error {
    Error::Corrupt { doing, found: found.into().into_owned() }
}
