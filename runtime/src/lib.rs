//! Forebay's runtime: a stream-processing host whose user code is WebAssembly.
//!
//! Modules stand in layers, and `use` goes down only (checked by `cargo xtask tidy`); see `ARCHITECTURE.md`.

// Tests wait for other threads and processes, which a clock of theirs cannot hurry.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

// 0: nouns, errors, the door to clock and crash
pub mod env;
pub mod error;
#[cfg(test)]
mod golden;
pub mod model;
// 1: one seam each; they do not know each other
pub mod checkpoint;
pub mod codec;
pub mod log;
pub mod registry;
pub mod state;
pub mod wasm;
pub mod watermark;
// between: what is done to records
pub mod operator;
// 2: one task
pub mod task;
// 3: jobs
pub mod job;
// 4: the outside
pub mod api;
