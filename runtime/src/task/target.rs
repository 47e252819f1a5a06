//! What a task is to be, as the records of its job say: the level that it compares itself to.
//!
//! Owns the place where a target is put and looked at. Putting the same one again changes nothing, and a newer one
//! replaces an older one, so there is nothing to send again after a task has come back. Never tells a task how to get
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::plan::ModuleRef;
use crate::log::Waker;
use crate::model::{EventTime, Uid};

/// Another version of one operator's module.
#[derive(Clone)]
pub struct Change {
    pub swap: Uid,
    /// Position among the plan's operators.
    pub operator: usize,
    pub module: ModuleRef,
    /// States that begin empty: values of another schema version, which nobody migrates, are thrown away.
    pub empty: BTreeSet<String>,
}

impl PartialEq for Change {
    fn eq(&self, other: &Self) -> bool {
        (self.swap, self.operator, self.module.digest) == (other.swap, other.operator, other.module.digest)
    }
}

/// Event time is to go back, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeReset {
    /// Counts a job's resets from 1 on. Not an arbitrary id: a process whose records are old must not make an older
    /// reset again behind a newer one.
    pub number: u64,
    /// No watermark is beyond it afterwards. Before all time: as if no record had been seen.
    pub to: EventTime,
}

#[derive(Clone, Default, PartialEq)]
pub struct Target {
    /// Commit what is open and end.
    pub stop: bool,
    /// To be tried over all state beside the running version, without writing anything. Nothing may be committed under it.
    pub trial: Option<Change>,
    /// Decided: the operator at this position is to run this version. One that is not named runs what the task's last
    /// header says.
    pub modules: BTreeMap<usize, Change>,
    /// The job's newest reset of event time. Made unless the task's last header names it, or a newer one.
    pub time_reset: Option<TimeReset>,
}

/// Where the target of one task stands.
#[derive(Default)]
pub struct TargetCell {
    target: Mutex<Target>,
    /// Raised with every change, so that a task looks without taking the lock.
    generation: Arc<AtomicU64>,
    /// Somebody has seen what another owner of the task may have done.
    doubted: AtomicBool,
    changed: Condvar,
    /// Ends the task's wait for records.
    waker: Mutex<Option<Waker>>,
}

impl TargetCell {
    /// Does nothing where it is the target already.
    pub fn put(&self, target: Target) {
        self.change(|current| *current = target);
    }

    /// From now on, whatever is put later.
    pub fn stop(&self) {
        self.change(|current| current.stop = true);
    }

    /// Has the task look whether it is still its owner's.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Release);
        self.raise();
    }

    /// Whether it is to look; once for each doubt.
    pub fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Ordering::AcqRel)
    }

    /// Whoever waits for records is woken by this where the target changes.
    pub fn wakes(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    pub fn get(&self) -> Target {
        self.lock().clone()
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The generation itself, for whoever is to be interrupted by another one.
    pub fn raised(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.generation)
    }

    pub fn is_stop(&self) -> bool {
        self.lock().stop
    }

    /// As if it were the cell of another thread.
    #[cfg(test)]
    pub fn start_again(&self) {
        self.lock().stop = false;
    }

    /// Waits until there is another target than that of generation `seen`. False where the time passed first.
    pub fn wait(&self, seen: u64, patience: Duration) -> bool {
        let unchanged = |_: &mut Target| self.generation() == seen;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, unchanged);
        drop(waited);
        self.generation() != seen
    }

    fn change(&self, change: impl FnOnce(&mut Target)) {
        let mut current = self.lock();
        let before = current.clone();
        change(&mut current);
        current.stop |= before.stop;
        if *current != before {
            self.raise();
        }
    }

    fn raise(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_all();
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_target_again_is_no_change_and_a_stop_is_never_taken_back() {
        let cell = TargetCell::default();
        cell.put(Target::default());
        assert_eq!(cell.generation(), 0);
        cell.stop();
        cell.put(Target::default());
        assert!(cell.is_stop());
        assert_eq!(cell.generation(), 1);
        assert!(cell.wait(0, Duration::ZERO) && !cell.wait(1, Duration::ZERO));
    }
}
