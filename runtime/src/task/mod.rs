//! One task: the unit of parallelism, state, commit, failure and assignment.
//!
//! Owns one thread with a fixed set of input partitions, one state store, one changelog partition and
//! one transactional id. Nothing that user code did touches the state below before its epoch has
//! surely been committed; every failure is handled by dropping the overlay and starting again from
//! what the changelog says.
//!
//! Read [`session`] first (the straight loop and the commit), then [`recovery`], then [`swap`].

mod broken;
mod careful;
mod changelog;
mod error;
pub mod handle;
mod inputs;
mod outlets;
pub mod plan;
mod recovery;
mod session;
mod swap;
pub mod target;
mod worker;

pub use error::Error;
pub use recovery::deploy;
pub use worker::spawn;

#[cfg(test)]
mod tests;
