//! The Kafka log against a real cluster: the conformance suite, and what only Kafka does.
//!
//! `FOREBAY_KAFKA=host:port` points it at any cluster; else one is started (`tests/kafka`).

mod conform;
mod leaders;
mod security;
mod stalls;
mod starting;
mod transactions;

use std::sync::Arc;

use kafka_cluster::Target;

use super::*;

/// A connection of its own for each test. `None` where there is no Kafka, which has then been said.
fn connect() -> Option<Arc<Kafka>> {
    let target = Target::for_tests()?;
    Some(Kafka::connect(&Profile::plain(target.bootstrap())).unwrap())
}
