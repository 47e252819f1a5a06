//! The counter with one more field in its state, for swaps: `counter`'s successor, migrating both ways.

pub mod counter;

/// Every value can be migrated.
const CANNOT_MIGRATE_SUM: Option<i64> = None;

forebay_sdk::export!(counter::Counter);
