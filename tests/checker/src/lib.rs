//! Judges a job on Kafka from outside: every input record exactly once, state the fold of the input, timers once and in
//! time, event time never back.
//!
//! Owns the producer of the input, the rules that the output must follow, and the readers of both. Uses none of the
//! runtime's code and another Kafka client than the runtime's, so that a fault of either cannot hide itself.
//! Read [`judge`] first: it is the rules, free of Kafka; [`verify`] reads the topics for it, [`produce`] makes the input,
//! [`model`] stands in for the job where the checker itself is tested.

pub mod record;

pub mod input;
pub mod judge;

pub mod kafka;
pub mod produce;
pub mod third_opinion;
pub mod verify;

pub mod error;
pub mod model;
pub mod random;
pub mod report;
