//! The counter with one more field in its state, for swaps: `counter`'s successor, migrating both ways.

pub mod counter;

const VERSION: &str = "2.0.0";
/// What is no amount is refused.
const TRAPS: bool = false;

forebay_sdk::export!(counter::Counter);
