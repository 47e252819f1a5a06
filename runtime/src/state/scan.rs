//! Passes over all committed values of one state: for trying a migration, and for making it.
//!
//! Values lie by key group, then by operator and state; a pass jumps over what belongs to others.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, Entries};
use super::key::{self, VALUE};
use super::store::Store;
use super::waiting::Written;
use super::{Error, value};

/// A committed value with its key and the schema version that it was written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    pub key: Vec<u8>,
    pub version: u32,
    pub value: Vec<u8>,
}

/// How far a sweep over one state has come. Starts as the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    after: Option<Vec<u8>>,
    finished: bool,
}

impl Cursor {
    /// Every key that was there when the sweep passed has been seen.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

/// Committed state for another thread, while the task goes on. Keeps the store open (and its directory
/// locked) until it is dropped.
pub struct Snapshot {
    db: Arc<Disk>,
    dir: PathBuf,
    /// What was committed before and is on its way to RocksDB.
    on_its_way: Option<Arc<Written>>,
}

impl Snapshot {
    pub(super) fn new(store: &Store, on_its_way: Option<Arc<Written>>) -> Self {
        Self { db: Arc::clone(store.db()), dir: store.dir().to_owned(), on_its_way }
    }

    /// All values of one state. Waits until what was committed before is in RocksDB.
    ///
    /// What the pass sees is fixed when it begins: epochs that are applied
    /// meanwhile do not show.
    pub fn values(&self, operator: &str, state: &str) -> Values<'_> {
        let is_incomplete = self.on_its_way.as_ref().is_some_and(|written| !written.wait());
        let mut scan = Scan::new(&self.db, operator, state);
        scan.seek_to_group(0);
        Values { scan, is_incomplete, snapshot: self, operator: operator.to_owned(), state: state.to_owned() }
    }
}

/// See [`Snapshot::values`].
pub struct Values<'a> {
    scan: Scan<'a>,
    /// What was committed before did not reach RocksDB.
    is_incomplete: bool,
    snapshot: &'a Snapshot,
    operator: String,
    state: String,
}

impl Iterator for Values<'_> {
    type Item = Result<StoredValue, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::take(&mut self.is_incomplete) {
            let (doing, found) = ("read all values", "the last epochs could not be written to it".to_owned());
            return Some(Err(Error::Store { doing, dir: self.snapshot.dir.clone(), found }));
        }
        let found = match self.scan.current() {
            Ok((key, stored)) => value::parse(stored)
                .map(|(version, value)| StoredValue { key: key.to_vec(), version, value: value.to_vec() })
                .map_err(|found| corrupt(&self.operator, &self.state, key, found)),
            Err(End::Done) => return None,
            Err(End::Failed(e)) => return Some(Err(Error::rocksdb("read all values", &self.snapshot.dir, &e))),
        };
        self.scan.advance();
        Some(found)
    }
}

/// Collects up to `limit` values whose version is not `version`; looks at a bounded number of keys,
/// so that a sweep over a large state never holds up the records for long.
pub(super) fn stale(
    store: &Store,
    (operator, state): (&str, &str),
    version: u32,
    cursor: &mut Cursor,
    limit: usize,
    mut skip: impl FnMut(&[u8]) -> bool,
) -> Result<Vec<StoredValue>, Error> {
    let mut found = Vec::new();
    let mut scan = Scan::new(store.db(), operator, state);
    scan.seek_behind(cursor.after.as_deref());
    for _ in 0..limit.saturating_mul(KEYS_PER_STALE_VALUE) {
        if found.len() == limit {
            break;
        }
        let (key, stored) = match scan.current() {
            Ok(entry) => entry,
            Err(End::Done) => {
                cursor.finished = true;
                break;
            }
            Err(End::Failed(e)) => return Err(Error::rocksdb("sweep the state", store.dir(), &e)),
        };
        let (stored_version, value) = value::parse(stored).map_err(|found| corrupt(operator, state, key, found))?;
        if stored_version != version && !skip(key) {
            found.push(StoredValue { key: key.to_vec(), version: stored_version, value: value.to_vec() });
        }
        cursor.after = Some(scan.full_key().to_vec());
        scan.advance();
    }
    Ok(found)
}

/// Keys that a sweep may look at for each value it may return.
const KEYS_PER_STALE_VALUE: usize = 16;

/// Walks the keys of one state through all key groups.
struct Scan<'a> {
    entries: Entries<'a>,
    names: Vec<u8>,
}

enum End {
    Done,
    Failed(rocksdb::Error),
}

/// Kind byte and key group.
const HEAD: usize = 3;

impl<'a> Scan<'a> {
    fn new(db: &'a Disk, operator: &str, state: &str) -> Self {
        Self { entries: db.scan(), names: key::names(operator, state) }
    }

    fn seek_to_group(&mut self, group: u16) {
        let mut start = Vec::new();
        key::push_value_prefix(&mut start, group, &self.names);
        self.entries.seek(&start);
    }

    fn seek_behind(&mut self, full_key: Option<&[u8]>) {
        let Some(full_key) = full_key else { return self.seek_to_group(0) };
        self.entries.seek(full_key);
        if self.entries.key() == Some(full_key) {
            self.entries.next();
        }
    }

    fn advance(&mut self) {
        self.entries.next();
    }

    fn full_key(&self) -> &[u8] {
        self.entries.key().unwrap_or_default()
    }

    /// The record key and value at rest that the scan stands on, after jumping over others' keys.
    fn current(&mut self) -> Result<(&[u8], &[u8]), End> {
        loop {
            let Some(full) = self.entries.key() else {
                return Err(self.entries.status().map_or_else(End::Failed, |()| End::Done));
            };
            let Some((&[kind, high, low], rest)) = full.split_first_chunk::<HEAD>() else {
                self.entries.next(); // the store's own keys
                continue;
            };
            let group = u16::from_be_bytes([high, low]);
            match (kind, rest.starts_with(&self.names), rest < &self.names[..]) {
                (VALUE, true, _) => break,
                (VALUE, false, true) => self.seek_to_group(group),
                (VALUE, false, false) if group < u16::MAX => self.seek_to_group(group + 1),
                (kind, ..) if kind < VALUE => self.seek_to_group(0),
                _ => return Err(End::Done),
            }
        }
        let (full, stored) = self.entries.item().unwrap_or_default();
        Ok((&full[HEAD + self.names.len()..], stored))
    }
}

pub(super) fn corrupt(operator: &str, state: &str, key: &[u8], found: String) -> Error {
    Error::Corrupt {
        operator: operator.to_owned(),
        state: state.to_owned(),
        group: crate::model::murmur2::key_group(key),
        key: key.escape_ascii().to_string(),
        found,
    }
}
