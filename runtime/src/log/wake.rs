//! Waking who waits for a log: because there is something to read, or because the reader's owner has something else to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Counts what happened, so that nothing that happens between a look and a wait is missed.
#[derive(Default)]
pub struct Wake {
    generation: Mutex<u64>,
    changed: Condvar,
}

impl Wake {
    pub fn generation(&self) -> u64 {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn announce(&self) {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits until there is something newer than `seen`; false at the deadline.
    pub fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        while *generation == seen {
            let left = deadline.saturating_duration_since(crate::env::instant());
            if left.is_zero() {
                return false;
            }
            generation = self.changed.wait_timeout(generation, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Ends the wait of a reader's poll from another thread; where it does not wait at the moment, that of its next one.
#[derive(Clone, Default)]
pub struct Waker {
    asked: Arc<AtomicBool>,
    wake: Arc<Wake>,
}

impl Waker {
    /// Of a reader that waits for `wake`.
    pub fn new(wake: &Arc<Wake>) -> Self {
        Self { asked: Arc::default(), wake: Arc::clone(wake) }
    }

    pub fn wake(&self) {
        self.asked.store(true, Ordering::Release);
        self.wake.announce();
    }

    /// For the reader, before it waits: whether it was woken since it asked last.
    pub fn was_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }
}
