//! A successor of `counter` that is broken: a record that is malformed makes it trap. It is taken back by itself.

#[path = "../../counter-v2/src/counter.rs"]
pub mod counter;

const VERSION: &str = "2.0.1";
const TRAPS: bool = true;

forebay_sdk::export!(counter::Counter);
