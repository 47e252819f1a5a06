//! The state of one task as its operators see it.

use std::path::{Path, PathBuf};

use rustc_hash::FxSeededState;
use std::hash::{BuildHasher, Hasher};

use super::cache::Cache;
use super::gather::Lookup;
use super::marker::Marker;
use super::note::{self, Noted};
use super::overlay::Overlay;
use super::scan::{self, Cursor, Snapshot, StoredValue};
use super::store::{Policy, Shared, Store};
use super::timers::{DueTimer, NextTimer, RegisteredTimers, Timers};
use super::{Changes, Error, key, value};
use crate::env::{Bug, bug};
use crate::model::{EventTime, Uid, murmur2};

/// Of the cache, at a time.
const SHRINK_STEPS: usize = 20_000;

#[derive(Clone)]
pub struct StateSettings {
    /// Most memory for committed values, of what all tasks of the process share. Too little, and reads of the hot set go
    /// to RocksDB at forty times the cost.
    pub cache_bytes: usize,
    /// Committed changes that gather in memory before they are written to RocksDB. More means fewer
    /// writes of hot keys, and twice as much memory.
    pub write_bytes: usize,
    /// Bytes written, or changes of so many bytes, before a flush. More means larger files and more to replay after a crash:
    /// with four tasks and a million keys, 32 MiB cost a second until the first output, 8 MiB half of one, and neither
    /// more nor less CPU time (`forebay-bench outage`, `keyed`).
    pub flush_bytes: usize,
    /// Epochs before a flush, for tasks that change little.
    pub flush_epochs: u64,
    /// Shared by all tasks of a process.
    pub shared: Shared,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            write_bytes: 8 << 20,
            flush_bytes: 8 << 20,
            flush_epochs: 300,
            shared: Shared::of_process(),
        }
    }
}

/// The states and timers of one operator, in the order in which its module declares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorStates {
    pub id: String,
    pub states: Vec<String>,
    pub timers: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateStatistics {
    /// Keys and bytes in RocksDB, as it estimates them.
    pub stored_keys: u64,
    pub stored_bytes: u64,
    pub cached_values: u64,
    pub cached_bytes: u64,
    /// Committed changes that wait in memory to be written to RocksDB.
    pub waiting_bytes: u64,
    /// Values read since the state was opened, by where they were found.
    pub reads_overlay: u64,
    pub reads_cache: u64,
    pub reads_store: u64,
}

/// Keyed state and timers of one task; belongs to the task's thread. Operators, states and timers are
/// given by their positions in the last [`TaskState::bind`]; a position that was not bound is a mistake
/// of the caller and panics, as an index into a slice does.
pub struct TaskState {
    pub(super) store: Store,
    pub(super) cache: Cache,
    pub(super) overlay: Overlay,
    pub(super) operators: Vec<Operator>,
    /// Every state ever bound. Its position here marks its entries in cache and overlay, and stays the
    /// same through a swap, so that the cache stays warm.
    pub(super) owners: Vec<Owner>,
    pub(super) hasher: FxSeededState,
    changes: Changes,
    /// `changes` is what the overlay holds.
    changes_are_current: bool,
    pub(super) lookup: Lookup,
    pub(super) statistics: StateStatistics,
}

pub(super) struct Operator {
    pub id: String,
    /// Per declared state its position in `owners`.
    pub states: Vec<u32>,
    timers: Timers,
}

pub(super) struct Owner {
    pub operator: String,
    pub state: String,
    /// As in the keys at rest.
    pub names: Vec<u8>,
    /// Position among all owners by `names`.
    rank: u16,
}

impl TaskState {
    /// Opens or creates the store in `dir`, with the marker of the last epoch that reached the disk.
    ///
    /// # Errors
    /// `Retry` where another owner holds the directory or the disk fails; `Corrupt` where the store is
    /// not what was written or has another format: [`TaskState::wipe`] it and recover from the changelog.
    pub fn open(dir: &Path, settings: &StateSettings) -> Result<(Self, Option<Marker>), Error> {
        let policy = Policy {
            write_bytes: settings.write_bytes,
            flush_bytes: settings.flush_bytes,
            flush_epochs: settings.flush_epochs,
        };
        // Keys come from outside: with a seed of its own no one can choose keys that collide.
        let hasher = FxSeededState::with_seed(seed());
        let (store, marker) = Store::open(dir, &settings.shared, policy, hasher.clone())?;
        let state = Self {
            store,
            cache: Cache::new(settings.shared.caches.part(settings.cache_bytes)),
            overlay: Overlay::default(),
            operators: Vec::new(),
            owners: Vec::new(),
            hasher,
            changes: Changes::default(),
            changes_are_current: true,
            lookup: Lookup::default(),
            statistics: StateStatistics::default(),
        };
        Ok((state, marker))
    }

    /// Removes a store, so that recovery starts over from the changelog.
    ///
    /// # Errors
    /// `Retry` where someone has it open, or the disk fails.
    pub fn wipe(dir: &Path) -> Result<(), Error> {
        Store::wipe(dir)
    }

    /// The last epoch that was committed from this directory, also where the store that lies there now stands before it or
    /// was removed.
    pub fn noted(&self) -> Option<Noted> {
        self.store.noted()
    }

    /// Where that is noted: a file beside the store.
    pub fn note_path(dir: &Path) -> PathBuf {
        note::path(dir)
    }

    /// Says which operators, states and timers the positions mean from now on. Called again after a
    /// swap, between two epochs; state of what is no longer declared is kept.
    ///
    /// # Errors
    /// `Invalid` where two operators have one id or an operator declares a name twice or too many.
    pub fn bind(&mut self, operators: &[OperatorStates]) -> Result<(), Error> {
        for (i, operator) in operators.iter().enumerate() {
            check_names(operator, &operators[..i])?;
        }
        let bound = operators.iter().map(|operator| Operator {
            id: operator.id.clone(),
            states: operator.states.iter().map(|state| self.owner(&operator.id, state)).collect(),
            timers: Timers::new(&operator.id, &operator.timers),
        });
        self.operators = bound.collect();
        self.rank_owners()
    }

    /// Writes a value with its schema version into the open epoch; none deletes the key.
    pub fn put(&mut self, operator: usize, state: u8, key: &[u8], version: u32, value: Option<&[u8]>) {
        let owner = self.operators[operator].states[state as usize];
        let hash = owned_hash(hash_of(&self.hasher, key), owner);
        self.overlay.put(hash, owner, key, version, value);
        self.changes_are_current = false;
    }

    /// Sets a timer in the open epoch; setting it again changes nothing.
    pub fn set_timer(&mut self, operator: usize, timer: u8, key: &[u8], time: EventTime) {
        self.operators[operator].timers.set(DueTimer { time, timer, key: key.into() });
        self.changes_are_current = false;
    }

    /// Unsets a timer in the open epoch: taken back, or fired.
    pub fn unset_timer(&mut self, operator: usize, timer: u8, key: &[u8], time: EventTime) {
        self.operators[operator].timers.unset(DueTimer { time, timer, key: key.into() });
        self.changes_are_current = false;
    }

    /// Appends the timers that are due at `up_to`, at most `limit`, in the order (time, timer, key),
    /// with those of the open epoch; with `one_time` only those of the first time and timer. They stay set until they
    /// are unset. False, and none, where more are due perhaps and cannot be read yet: ask again.
    ///
    /// # Errors
    /// `Corrupt` where a stored timer is damaged, `Retry` where the disk fails.
    pub fn due_timers(
        &mut self,
        operator: usize,
        up_to: EventTime,
        limit: usize,
        one_time: bool,
        out: &mut Vec<DueTimer>,
    ) -> Result<bool, Error> {
        let due = self.operators[operator].timers.due(&mut self.store, up_to, limit, one_time, out);
        self.store.condemn_if_corrupt(due)
    }

    /// The time of the operator's next timer.
    ///
    /// # Errors
    /// As [`TaskState::due_timers`].
    pub fn next_timer(&mut self, operator: usize) -> Result<NextTimer, Error> {
        let next = self.operators[operator].timers.next(&mut self.store);
        self.store.condemn_if_corrupt(next)
    }

    /// The operator's timers, as far as they are known; none before any was read.
    pub fn registered_timers(&self, operator: usize) -> Option<RegisteredTimers> {
        self.operators[operator].timers.registered_timers()
    }

    /// Memory that the open epoch takes.
    pub fn overlay_bytes(&self) -> usize {
        let timers = self.operators.iter().map(|operator| operator.timers.changed_bytes());
        self.overlay.byte_len() + timers.sum::<usize>()
    }

    /// What the open epoch has changed, sorted, each key once: the body of its delta.
    pub fn delta(&mut self) -> &Changes {
        if !self.changes_are_current {
            self.make_changes();
            self.changes_are_current = true;
        }
        &self.changes
    }

    /// Makes the open epoch part of the committed state. Only after its commit surely happened.
    ///
    /// # Errors
    /// `Retry` where the disk fails: the epoch stands in the changelog, so recover from there.
    pub fn apply(&mut self, marker: Marker) -> Result<(), Error> {
        self.store.note(marker);
        self.delta();
        let written = self.store.write(&self.changes, marker);
        self.store.condemn_if_corrupt(written)?;
        for (at, hash, owner, key) in self.overlay.writes() {
            self.cache.put(hash, owner, key, self.overlay.stored(at));
        }
        self.operators.iter_mut().for_each(|operator| operator.timers.committed());
        self.clear_epoch();
        Ok(())
    }

    /// What is changed from here on can be taken back by [`TaskState::undo`]: a batch.
    pub fn mark(&mut self) {
        self.overlay.mark();
        self.operators.iter_mut().for_each(|operator| operator.timers.mark());
    }

    /// Takes back what was changed since the mark; what the open epoch held before stays in it.
    pub fn undo(&mut self) {
        self.overlay.undo();
        self.operators.iter_mut().for_each(|operator| operator.timers.undo());
        self.changes_are_current = false;
    }

    /// Takes the open epoch back: state is as the last commit left it.
    pub fn discard(&mut self) {
        self.operators.iter_mut().for_each(|operator| operator.timers.reload());
        self.clear_epoch();
    }

    /// Takes in a delta from the changelog. The open epoch, if any, is dropped: it stood on older state.
    ///
    /// # Errors
    /// `Corrupt` where a key or value is not one that a delta may hold; nothing is written then.
    pub fn replay(&mut self, changes: &Changes, marker: Marker) -> Result<(), Error> {
        for (key, value) in changes.iter() {
            let empty = value.is_some_and(<[u8]>::is_empty);
            if let Some(found) = key::parse(key).err().or(empty.then_some("is put with no bytes at all")) {
                let key = key.escape_ascii().to_string();
                return Err(Error::Replay { epoch: marker.epoch, key, found });
            }
        }
        self.discard();
        self.cache.clear();
        self.store.write(changes, marker)
    }

    /// The committed state for a pass in another thread, which waits until all of it is in RocksDB; the task does not.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        let on_its_way = self.store.send_out()?;
        Ok(Snapshot::new(&self.store, on_its_way))
    }

    /// For the migration sweep: some committed values of a state that are not of `version` and that the
    /// open epoch has not written. Call until the cursor is finished; one call may find none.
    ///
    /// # Errors
    /// `Corrupt` where a stored value is damaged, `Retry` where the disk fails.
    pub fn stale_values(
        &mut self,
        operator: usize,
        state: u8,
        version: u32,
        cursor: &mut Cursor,
        limit: usize,
    ) -> Result<Vec<StoredValue>, Error> {
        self.store.write_out()?;
        let owner = self.operators[operator].states[state as usize];
        let written = |key: &[u8]| {
            let hash = owned_hash(hash_of(&self.hasher, key), owner);
            self.overlay.find(hash, owner, key).is_some()
        };
        let Owner { operator, state, .. } = &self.owners[owner as usize];
        let stale = scan::stale(&self.store, (operator, state), version, cursor, limit, written);
        self.store.condemn_if_corrupt(stale)
    }

    /// Sends unflushed epochs to the disk and waits: before a planned stop, so that the next start has
    /// nothing to replay.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.store.flush()
    }

    /// Whether the cache holds what has become the part of other tasks: [`TaskState::shrink`].
    pub fn can_shrink(&self) -> bool {
        self.cache.can_shrink()
    }

    /// Lets go of some of it; takes a few milliseconds. Writing does the same, but a task may have nothing to write.
    pub fn shrink(&mut self) {
        self.cache.shrink(SHRINK_STEPS);
    }

    /// Gives back the memory that only work needs. Between two epochs of a task that has had nothing to do for a while;
    /// to be called again as long as it has not.
    ///
    /// # Errors
    /// `Retry` where the disk fails.
    pub fn rest(&mut self) -> Result<(), Error> {
        (self.overlay, self.changes, self.lookup) = Default::default();
        self.store.rest()
    }

    pub fn statistics(&self) -> StateStatistics {
        let (stored_keys, stored_bytes) = self.store.size();
        let (cached_values, cached_bytes) = (self.cache.len() as u64, self.cache.byte_len() as u64);
        let waiting_bytes = self.store.waiting_bytes() as u64;
        StateStatistics { stored_keys, stored_bytes, cached_values, cached_bytes, waiting_bytes, ..self.statistics }
    }

    fn clear_epoch(&mut self) {
        self.overlay.clear();
        self.changes.clear();
        self.changes_are_current = true;
    }
}

/// Binding: names to owners.
impl TaskState {
    fn owner(&mut self, operator: &str, state: &str) -> u32 {
        let known = self.owners.iter().position(|owner| owner.operator == operator && owner.state == state);
        let at = known.unwrap_or_else(|| {
            let names = key::names(operator, state);
            self.owners.push(Owner { operator: operator.to_owned(), state: state.to_owned(), names, rank: 0 });
            self.owners.len() - 1
        });
        at as u32
    }

    fn rank_owners(&mut self) -> Result<(), Error> {
        let mut order: Vec<usize> = (0..self.owners.len()).collect();
        order.sort_unstable_by(|&a, &b| self.owners[a].names.cmp(&self.owners[b].names));
        for (rank, at) in order.into_iter().enumerate() {
            self.owners[at].rank = u16::try_from(rank).map_err(|_| Error::Bind {
                operator: self.owners[at].operator.clone(),
                found: format!("a task can have at most {} states", u16::MAX),
            })?;
        }
        Ok(())
    }
}

/// Making the delta.
impl TaskState {
    fn make_changes(&mut self) {
        let mut timers = Vec::new();
        self.operators.iter().for_each(|operator| operator.timers.delta(&mut timers));
        timers.sort_unstable();
        if bug(Bug::ForgetTimers) {
            timers.clear(); // Breaks: timers are part of the commit.
        }
        self.changes.clear();
        let mut full_key = Vec::new();
        for (_, at) in self.sorted_writes() {
            let (owner, key) = self.overlay.key_at(at);
            full_key.clear();
            key::push_value_key(&mut full_key, &self.owners[owner as usize].names, key);
            let stored = self.overlay.stored(at);
            self.changes.push(&full_key, (!stored.is_empty()).then_some(stored));
        }
        for (key, set) in &timers {
            self.changes.push(key, set.then_some(value::TIMER));
        }
    }

    /// The overlay's writes in the order of their keys at rest. Most comparisons are of one number.
    fn sorted_writes(&self) -> Vec<(u128, u32)> {
        let names_and_key = |at: u32| {
            let (owner, key) = self.overlay.key_at(at);
            (&self.owners[owner as usize].names, key)
        };
        let writes = self.overlay.writes();
        let mut order: Vec<_> =
            writes.map(|(at, _, owner, key)| (place(&self.owners[owner as usize], key), at)).collect();
        order.sort_unstable_by(|(a, left), (b, right)| {
            a.cmp(b).then_with(|| names_and_key(*left).cmp(&names_and_key(*right)))
        });
        order
    }
}

/// A number that sorts as the key at rest does, as far as it reaches: key group, rank of the owner, the
/// key's first twelve bytes.
pub(super) fn place(owner: &Owner, key: &[u8]) -> u128 {
    let mut first = [0; 16];
    let len = key.len().min(12);
    first[4..4 + len].copy_from_slice(&key[..len]);
    let group = u128::from(murmur2::key_group(key));
    group << 112 | u128::from(owner.rank) << 96 | u128::from_be_bytes(first)
}

pub(super) fn hash_of(hasher: &FxSeededState, key: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// The hash of a key in one state, from the hash of the key alone.
pub(super) fn owned_hash(key_hash: u64, owner: u32) -> u64 {
    key_hash ^ u64::from(owner).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn seed() -> usize {
    Uid::random().0.into_iter().take(8).fold(0, |seed, byte| seed << 8 | usize::from(byte))
}

fn check_names(operator: &OperatorStates, before: &[OperatorStates]) -> Result<(), Error> {
    let refuse = |found: String| Err(Error::Bind { operator: operator.id.clone(), found });
    if before.iter().any(|other| other.id == operator.id) {
        return refuse("another operator has the same id; ids are unique in a job".to_owned());
    }
    for (what, names) in [("state", &operator.states), ("timer", &operator.timers)] {
        if names.len() > usize::from(u8::MAX) {
            return refuse(format!("{} {what}s are declared, at most {} can be", names.len(), u8::MAX));
        }
        if let Some(twice) = names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then_some(name)) {
            return refuse(format!("{what} {twice} is declared twice"));
        }
    }
    Ok(())
}
