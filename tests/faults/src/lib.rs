//! Harm done to the real binary on a real Kafka, judged by the independent checker.
//!
//! Owns the faults and their rounds, never the verdict: that a record was lost or doubled is for the checker to say,
//! and no code of the runtime is used here. Read [`scenario`] for what is done, then [`bed`] for what it is done to;
//! [`course`] says in which order, [`proxy`] is the network between.

pub mod bed;
pub mod binaries;
pub mod bugs;
pub mod course;
pub mod feed;
pub mod ground;
pub mod idle;
pub mod judge;
pub mod proxy;
pub mod scenario;
pub mod server;
pub mod watch;
