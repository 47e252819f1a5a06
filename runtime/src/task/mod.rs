//! One task: the unit of parallelism, state, commit, failure and assignment.
//!
//! Owns one thread with a fixed set of input partitions, one state store, one changelog partition and
//! one transactional id. Nothing that user code did touches the state below before its epoch has
//! surely been committed; every failure is handled by dropping the overlay and starting again from
//! what the changelog says.
//!
//! Read [`session`] first (the straight loop) and [`rules`] (what must hold, on one page); then [`lane`] (a batch's way),
//! [`inbox`], [`commit`], [`recovery`] and [`change`]. [`supervisor`] decides what comes after a session.

mod change;
mod changelog;
mod commit;
mod context;
mod epoch;
mod error;
pub mod handle;
mod inbox;
mod inputs;
mod isolation;
mod lane;
mod outlets;
pub mod plan;
mod recovery;
mod report;
mod rules;
mod session;
mod smaller_steps;
mod supervisor;
pub mod target;
mod time_reset;
mod wiring;
mod worker;

pub use error::Error;
pub use recovery::deploy;
pub use worker::spawn;

#[cfg(test)]
mod tests;
