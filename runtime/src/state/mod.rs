//! Keyed state and timers of one task.
//!
//! Owns the open epoch's overlay, the cache of committed values, the timers that are due next, and
//! the task's RocksDB. A read looks into them in that order; a write goes to the overlay and nowhere
//! else until the epoch is committed. So neither RocksDB nor the cache ever holds anything that was
//! not committed, and dropping the overlay takes an epoch back.
//!
//! Never commits by itself, never reads the log, and never knows what a value means: values are bytes
//! with the schema version that their module gave them.
//!
//! Read [`TaskState`] first, then `gather`, `overlay`, `cache`, `timers`, `store`; the bytes are in `key`
//! and `value` and in `docs/formats/state.md`.

mod budget;
mod cache;
mod changes;
mod disk;
mod error;
mod gather;
mod key;
mod marker;
mod note;
mod overlay;
mod scan;
mod store;
mod tagged;
mod task_state;
mod timers;
mod value;
mod waiting;

pub use changes::Changes;
#[cfg(test)]
pub use disk::simulated;
pub use error::Error;
pub use gather::Gathered;
pub use marker::Marker;
pub use note::Noted;
#[cfg(test)]
pub use note::{lose_note_on, noted_on};
pub use scan::{Cursor, Snapshot, StoredValue};
pub use store::Shared;
pub use task_state::{OperatorStates, StateSettings, StateStatistics, TaskState};
pub use timers::{DueTimer, NextTimer, RegisteredTimers};

/// Puts bytes that are no value in place of one at rest.
#[cfg(test)]
pub fn damage_value(dir: &std::path::Path, operator: &str, state: &str, key: &[u8]) {
    let (mut store, marker) = TaskState::open(dir, &StateSettings::default()).unwrap();
    let (mut full_key, mut changes) = (Vec::new(), Changes::default());
    key::push_value_key(&mut full_key, &key::names(operator, state), key);
    changes.push(&full_key, Some(b"\0\x01"));
    store.replay(&changes, marker.unwrap()).unwrap();
    store.flush().unwrap();
}

#[cfg(test)]
mod tests;
