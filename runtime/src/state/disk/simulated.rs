//! The disk of a simulated machine: what RocksDB keeps there, and what a kill leaves of it.
//!
//! Owns, per directory, what has reached the disk and the batches behind it that are in memory only. A kill keeps a
//! prefix of these, chosen by the dice: a flush that was asked for may or may not have ended, and RocksDB may
//! flush at any time. Never keeps half of a batch. A store that is closed well keeps everything, as RocksDB flushes
//! when it is closed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::{WriteBatch, WriteBatchIterator};

use crate::env::simulated::Dice;
use crate::state::Marker;
use crate::state::key::STORE;
use crate::state::marker;

pub type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// How soon stores on this disk write and flush.
#[derive(Clone, Copy, Debug)]
pub struct Haste {
    pub write_bytes: usize,
    pub flush_bytes: usize,
    pub flush_epochs: u64,
}

#[derive(Clone)]
pub struct Machine(Arc<Mutex<Inner>>);

struct Inner {
    dirs: BTreeMap<PathBuf, Dir>,
    /// Files that are none of RocksDB's. A process that dies leaves them to the system, which keeps them.
    files: BTreeMap<PathBuf, Vec<u8>>,
    haste: Haste,
    /// Rises with each kill: what was open before has no hold on the disk any more.
    life: u64,
}

#[derive(Default)]
struct Dir {
    durable: Arc<Content>,
    /// What a reader of the open store sees.
    current: Arc<Content>,
    unflushed: Vec<Vec<Change>>,
    open: bool,
    damaged: bool,
}

/// A put, or (no value) a delete.
type Change = (Vec<u8>, Option<Vec<u8>>);

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// The machine that stores are opened on in this thread; none: on the real disk.
pub fn set_machine(machine: Option<&Machine>) {
    MACHINE.set(machine.cloned());
}

pub fn machine() -> Option<Machine> {
    MACHINE.with_borrow(Clone::clone)
}

impl Machine {
    pub fn new(haste: Haste) -> Self {
        Self(Arc::new(Mutex::new(Inner { dirs: BTreeMap::new(), files: BTreeMap::new(), haste, life: 0 })))
    }

    pub fn haste(&self) -> Haste {
        self.inner().haste
    }

    /// The process dies without a word.
    pub fn kill(&self, dice: &mut Dice) {
        let mut inner = self.inner();
        inner.life += 1;
        for dir in inner.dirs.values_mut() {
            let kept = dice.index(dir.unflushed.len() + 1);
            dir.keep(kept);
        }
    }

    /// What the disk itself holds.
    pub fn content(&self, dir: &Path) -> Option<Arc<Content>> {
        self.inner().dirs.get(dir).map(|dir| Arc::clone(&dir.durable))
    }

    /// What the open store holds, on disk and in memory; what the disk holds where it is closed.
    pub fn current(&self, dir: &Path) -> Option<Arc<Content>> {
        self.inner().dirs.get(dir).map(|dir| Arc::clone(&dir.current))
    }

    /// Puts other content in place of a closed store's; none: the disk is lost.
    pub fn replace(&self, path: &Path, content: Option<Arc<Content>>) {
        let mut inner = self.inner();
        match content {
            Some(content) => {
                let dir = Dir { durable: Arc::clone(&content), current: content, ..Dir::default() };
                inner.dirs.insert(path.to_owned(), dir);
            }
            None => drop(inner.dirs.remove(path)),
        }
    }

    /// A file that is none of RocksDB's.
    pub fn file(&self, path: &Path) -> Option<Vec<u8>> {
        self.inner().files.get(path).cloned()
    }

    pub fn put_file(&self, path: &Path, bytes: Vec<u8>) {
        self.inner().files.insert(path.to_owned(), bytes);
    }

    pub fn remove_file(&self, path: &Path) {
        self.inner().files.remove(path);
    }

    /// Flipped bits in what RocksDB reads when it opens.
    pub fn damage(&self, path: &Path) {
        if let Some(dir) = self.inner().dirs.get_mut(path) {
            dir.damaged = true;
        }
    }

    /// # Errors
    /// Why it cannot be opened.
    pub fn open(&self, path: &Path) -> Result<Open, Refused> {
        let mut inner = self.inner();
        let life = inner.life;
        let dir = inner.dirs.entry(path.to_owned()).or_default();
        if dir.open {
            return Err(Refused::Locked);
        }
        if dir.damaged {
            return Err(Refused::Damaged);
        }
        dir.open = true;
        drop(inner);
        Ok(Open { machine: self.clone(), path: path.to_owned(), life })
    }

    /// # Errors
    /// Where it is open.
    pub fn wipe(&self, path: &Path) -> Result<(), Refused> {
        let mut inner = self.inner();
        if inner.dirs.get(path).is_some_and(|dir| dir.open) {
            return Err(Refused::Locked);
        }
        inner.dirs.remove(path);
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The epoch that a store's content says it stands at.
pub fn marker(content: &Content) -> Option<Marker> {
    marker::marker_in(content)
}

/// Whether a key is the store's own, and no state.
pub fn is_own(key: &[u8]) -> bool {
    key.first() == Some(&STORE)
}

/// The same content under another marker.
pub fn with_marker(content: &Content, marker: Marker) -> Content {
    let mut content = content.clone();
    marker::put_marker_in(&mut content, marker);
    content
}

pub enum Refused {
    Locked,
    Damaged,
}

impl Dir {
    /// Closes the store with the first of its unflushed batches on disk.
    fn keep(&mut self, batches: usize) {
        let durable = Arc::make_mut(&mut self.durable);
        for (key, value) in self.unflushed.drain(..).take(batches).flatten() {
            apply(durable, key, value);
        }
        self.current = Arc::clone(&self.durable);
        self.open = false;
    }
}

fn apply(content: &mut Content, key: Vec<u8>, value: Option<Vec<u8>>) {
    match value {
        Some(value) => drop(content.insert(key, value)),
        None => drop(content.remove(&key)),
    }
}

/// A store's hold on its directory.
pub struct Open {
    machine: Machine,
    path: PathBuf,
    life: u64,
}

impl Open {
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.with(|dir| dir.current.get(key).cloned()).flatten()
    }

    pub fn write(&self, batch: &WriteBatch) {
        let mut changes = Changes(Vec::new());
        batch.iterate(&mut changes);
        self.with(|dir| {
            let current = Arc::make_mut(&mut dir.current);
            changes.0.iter().cloned().for_each(|(key, value)| apply(current, key, value));
            dir.unflushed.push(changes.0);
        });
    }

    pub fn flush(&self) {
        self.with(|dir| {
            dir.unflushed.clear();
            dir.durable = Arc::clone(&dir.current);
        });
    }

    pub fn cursor(&self) -> Cursor {
        let content = self.with(|dir| Arc::clone(&dir.current)).unwrap_or_default();
        Cursor { content, at: None }
    }

    /// Nothing where the process that opened it was killed since.
    fn with<T>(&self, act: impl FnOnce(&mut Dir) -> T) -> Option<T> {
        let mut inner = self.machine.inner();
        let alive = inner.life == self.life;
        inner.dirs.get_mut(&self.path).filter(|_| alive).map(act)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.with(|dir| dir.keep(usize::MAX));
    }
}

struct Changes(Vec<Change>);

impl WriteBatchIterator for Changes {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.push((key.to_vec(), Some(value.to_vec())));
    }

    fn delete(&mut self, key: &[u8]) {
        self.0.push((key.to_vec(), None));
    }
}

/// Walks what the store held when it was made.
pub struct Cursor {
    content: Arc<Content>,
    at: Option<Vec<u8>>,
}

impl Cursor {
    pub fn seek(&mut self, key: &[u8]) {
        self.at = self.content.range(key.to_vec()..).next().map(|(key, _)| key.clone());
    }

    pub fn next(&mut self) {
        use std::ops::Bound::{Excluded, Unbounded};
        let Some(at) = self.at.take() else { return };
        self.at = self.content.range((Excluded(at), Unbounded)).next().map(|(key, _)| key.clone());
    }

    pub fn item(&self) -> Option<(&[u8], &[u8])> {
        let (key, value) = self.content.get_key_value(self.at.as_ref()?)?;
        Some((key, value))
    }
}
