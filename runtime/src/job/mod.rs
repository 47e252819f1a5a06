//! Jobs: spec, plan, life cycle, swaps.
//!
//! Owns what is deployed: the control topic, the plan of every change before it is made, the running
//! tasks. Never touches a record. Read `spec`, then `plan`, then `life` and `manager`, then `change` and `swap`.

pub mod change;
pub mod check;
mod error;
mod facts;
mod follow;
pub mod host;
mod life;
pub mod manager;
mod mirror;
pub mod module_log;
pub mod modules;
pub mod plan;
pub mod record;
mod restart;
pub mod running;
mod sample;
mod scalar;
pub mod spec;
mod start;
pub mod store;
pub mod swap;
pub mod time_reset;
mod unknown;
mod watch;

pub use error::Error;

#[cfg(test)]
mod fakes;
