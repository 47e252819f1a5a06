//! Harm done to the real binary on a real Kafka.
pub mod proxy;
