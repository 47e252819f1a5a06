//! A successor of `counter` that cannot migrate every value: one whose sum is 13 makes it fail.

#[path = "../../counter-v2/src/counter.rs"]
pub mod counter;

const CANNOT_MIGRATE_SUM: Option<i64> = Some(13);

forebay_sdk::export!(counter::Counter);
