//! One task: the unit of parallelism, state, commit, failure and assignment.
//!
//! Owns one thread with a fixed set of input partitions, one state store, one changelog partition and
//! one transactional id. Nothing that user code did touches the state below before its epoch has
//! surely been committed; every failure is handled by dropping the overlay and starting again from
//! what the changelog says.
//!
//! Read [`session`] first (the straight loop), then [`commit`], [`recovery`] and [`swap`]; [`supervisor`] decides what comes
//! after a session.

mod broken;
mod changelog;
mod commit;
mod context;
mod error;
pub mod handle;
mod inputs;
mod isolation;
mod outlets;
pub mod plan;
mod recovery;
mod session;
mod smaller_steps;
mod supervisor;
mod swap;
pub mod target;
mod time_reset;
mod worker;

pub use error::Error;
pub use recovery::deploy;
pub use worker::spawn;

#[cfg(test)]
mod tests;
