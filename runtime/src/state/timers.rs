//! Event-time timers of one operator, in the order in which they fire.
//!
//! Owns the soonest part of them in memory: every timer up to a *horizon*, with the open epoch's sets
//! and unsets already in it. What lies behind the horizon stays in RocksDB, where timers sort by time,
//! and is read when time comes near. So neither memory nor a restart grows with the number of timers
//! that are set.
//! Never fires anything: the caller takes what is due and unsets it.

use std::collections::{BTreeMap, BTreeSet};

use super::store::Store;
use super::{Error, key};
use crate::model::EventTime;

/// Timers read from RocksDB at once, and about how many of the committed ones stay in memory.
const LOAD: usize = 4_096;

/// A set timer. The order of the fields is the order of firing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueTimer {
    pub time: EventTime,
    /// Position among the operator's declared timers.
    pub timer: u8,
    pub key: Box<[u8]>,
}

impl DueTimer {
    fn bytes(&self) -> usize {
        self.key.len() + size_of::<Self>()
    }
}

/// The timers that are registered at one operator, as far as they are known without reading more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RegisteredTimers {
    /// All of them where `is_all`, else those of them that were read: there are more, later ones.
    pub known: u64,
    pub is_all: bool,
    pub first: Option<EventTime>,
    /// Of the known ones.
    pub last: Option<EventTime>,
}

/// When the next timer of an operator is due; the sooner the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextTimer {
    /// It cannot be said yet: what was committed is on its way to where timers are read. Whoever asks has something else to
    /// do meanwhile, and asks again.
    NotYet,
    At(EventTime),
    Never,
}

pub(super) struct Timers {
    operator: String,
    names: Vec<String>,
    /// All set timers up to the horizon, and some behind it.
    near: BTreeSet<DueTimer>,
    horizon: Horizon,
    /// The open epoch's sets (true) and unsets (false), the last of each timer.
    changed: BTreeMap<DueTimer, bool>,
    changed_bytes: usize,
    /// What `changed` said before, of every timer that was changed since the mark.
    before: Vec<(DueTimer, Option<bool>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Horizon {
    NothingLoaded,
    Until(EventTime),
    AllLoaded,
}

impl Timers {
    pub(super) fn new(operator: &str, names: &[String]) -> Self {
        Self {
            operator: operator.to_owned(),
            names: names.to_vec(),
            near: BTreeSet::new(),
            horizon: Horizon::NothingLoaded,
            changed: BTreeMap::new(),
            changed_bytes: 0,
            before: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, timer: DueTimer) {
        self.note(timer.clone(), true);
        self.near.insert(timer);
    }

    pub(super) fn unset(&mut self, timer: DueTimer) {
        self.near.remove(&timer);
        self.note(timer, false);
    }

    fn note(&mut self, timer: DueTimer, set: bool) {
        let bytes = timer.bytes();
        let before = self.changed.insert(timer.clone(), set);
        if before.is_none() {
            self.changed_bytes += bytes;
        }
        self.before.push((timer, before));
    }

    /// What is changed from here on can be taken back by [`Timers::undo`].
    pub(super) fn mark(&mut self) {
        self.before.clear();
    }

    /// Takes back what was changed since the mark.
    pub(super) fn undo(&mut self) {
        if self.before.is_empty() {
            return;
        }
        for (timer, before) in std::mem::take(&mut self.before).into_iter().rev() {
            match before {
                Some(set) => drop(self.changed.insert(timer, set)),
                None => {
                    self.changed_bytes -= timer.bytes();
                    self.changed.remove(&timer);
                }
            }
        }
        // What is near is read anew; the open epoch's own sets stand nowhere else.
        self.near = self.changed.iter().filter(|(_, set)| **set).map(|(timer, _)| timer.clone()).collect();
        self.horizon = Horizon::NothingLoaded;
    }

    /// Fewer than there are, or false with none, where more cannot be read yet.
    pub(super) fn due(
        &mut self,
        store: &mut Store,
        up_to: EventTime,
        limit: usize,
        one_time: bool,
        out: &mut Vec<DueTimer>,
    ) -> Result<bool, Error> {
        // A horizon covers all timers of a time: the first of one time are together once it covers any of them.
        let enough = |near: &BTreeSet<DueTimer>, horizon: Horizon| {
            let limit = if one_time { 1 } else { limit };
            near.iter().take_while(|timer| timer.time <= up_to && horizon.covers(timer.time)).take(limit).count()
                >= limit
        };
        let mut is_read = true;
        while is_read && !self.horizon.covers(up_to) && !enough(&self.near, self.horizon) {
            is_read = self.load(store)?;
        }
        let horizon = self.horizon;
        let first = self.near.first().map(|timer| (timer.time, timer.timer));
        let due = self.near.iter().take_while(|timer| {
            let together = !one_time || Some((timer.time, timer.timer)) == first;
            together && timer.time <= up_to && horizon.covers(timer.time)
        });
        let before = out.len();
        out.extend(due.take(limit).cloned());
        Ok(is_read || out.len() > before)
    }

    pub(super) fn next(&mut self, store: &mut Store) -> Result<NextTimer, Error> {
        loop {
            match self.near.first().map(|first| first.time) {
                Some(first) if self.horizon.covers(first) => return Ok(NextTimer::At(first)),
                None if self.horizon == Horizon::AllLoaded => return Ok(NextTimer::Never),
                _ => {}
            }
            if !self.load(store)? {
                return Ok(NextTimer::NotYet);
            }
        }
    }

    /// What stands in memory; none before anything was read.
    pub(super) fn registered_timers(&self) -> Option<RegisteredTimers> {
        let time = |timer: Option<&DueTimer>| timer.map(|timer| timer.time);
        (self.horizon != Horizon::NothingLoaded).then(|| RegisteredTimers {
            known: self.near.len() as u64,
            is_all: self.horizon == Horizon::AllLoaded,
            first: time(self.near.first()),
            last: time(self.near.last()),
        })
    }

    /// Bytes that the open epoch's changes take.
    pub(super) fn changed_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Adds the open epoch's changes to a delta, in no particular order.
    pub(super) fn delta(&self, out: &mut Vec<(Vec<u8>, bool)>) {
        for (timer, &set) in &self.changed {
            let mut bytes = Vec::new();
            key::push_timer_key(&mut bytes, &self.operator, timer.time, &self.names[timer.timer as usize], &timer.key);
            out.push((bytes, set));
        }
    }

    /// The epoch is committed and in RocksDB.
    pub(super) fn committed(&mut self) {
        self.forget_changes();
        self.trim();
    }

    /// The epoch is taken back, or RocksDB was changed underneath: read anew when next asked.
    pub(super) fn reload(&mut self) {
        self.forget_changes();
        self.near.clear();
        self.horizon = Horizon::NothingLoaded;
    }

    fn forget_changes(&mut self) {
        self.changed.clear();
        self.changed_bytes = 0;
        self.before.clear();
    }

    /// Forgets what lies far ahead; it is in RocksDB.
    fn trim(&mut self) {
        if self.near.len() <= 2 * LOAD {
            return;
        }
        let Some(cut) = self.near.iter().nth(LOAD).map(|timer| timer.time) else { return };
        let behind = DueTimer { time: cut.saturating_add(1), timer: 0, key: Box::default() };
        if cut < EventTime::MAX && self.near.split_off(&behind).is_empty() {
            return;
        }
        self.horizon = self.horizon.min(Horizon::Until(cut));
    }

    /// Moves the horizon: reads the next timers from RocksDB, always all of one time. False where they are not all there yet.
    fn load(&mut self, store: &mut Store) -> Result<bool, Error> {
        let mut prefix = Vec::new();
        key::push_timer_prefix(&mut prefix, &self.operator);
        let mut start = prefix.clone();
        match self.horizon {
            Horizon::NothingLoaded => {}
            Horizon::Until(time) if time < EventTime::MAX => {
                start.clear();
                key::push_timer_start(&mut start, &self.operator, time + 1);
            }
            Horizon::Until(_) | Horizon::AllLoaded => {
                self.horizon = Horizon::AllLoaded;
                return Ok(true);
            }
        }
        if !store.settle()? {
            return Ok(false);
        }
        let mut keys = store.db().scan();
        keys.seek(&start);
        let (mut loaded, mut last) = (0, None);
        while let Some(bytes) = keys.key().filter(|bytes| bytes.starts_with(&prefix)) {
            let (time, timer) = self.read(bytes, store)?;
            if loaded >= LOAD && last.is_some_and(|last| last < time) {
                break;
            }
            loaded += 1;
            last = Some(time);
            self.near.extend(timer.filter(|timer| !self.changed.contains_key(timer)));
            keys.next();
        }
        keys.status().map_err(|e| Error::rocksdb("read timers", store.dir(), &e))?;
        self.horizon = match last {
            Some(last) if loaded >= LOAD => Horizon::Until(last),
            _ => Horizon::AllLoaded,
        };
        Ok(true)
    }

    /// A timer that the running module does not declare stays where it is and does not fire.
    fn read(&self, bytes: &[u8], store: &Store) -> Result<(EventTime, Option<DueTimer>), Error> {
        let damaged = |found: String| Error::Damaged { doing: "read timers", dir: store.dir().to_owned(), found };
        match key::parse(bytes) {
            Ok(key::Address::Timer { time, timer, key, .. }) => {
                let known = self.names.iter().position(|name| name.as_bytes() == timer);
                Ok((time, known.map(|timer| DueTimer { time, timer: timer as u8, key: key.into() })))
            }
            Ok(_) => Err(damaged(format!("operator {}: a value stands among the timers", self.operator))),
            Err(found) => Err(damaged(format!("operator {}: a timer's key {found}", self.operator))),
        }
    }
}

impl Horizon {
    fn covers(self, time: EventTime) -> bool {
        match self {
            Self::NothingLoaded => false,
            Self::Until(until) => time <= until,
            Self::AllLoaded => true,
        }
    }
}
