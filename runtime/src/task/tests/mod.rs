//! Tests of one task on the embedded log, stepped by hand: no threads, no waiting, a clock that stands.

mod guests;
mod harness;

mod bad_records;
mod event_time;
mod recovery;
mod simulation;
mod swap;
