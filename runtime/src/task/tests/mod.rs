//! Tests of one task on the embedded log, stepped by hand with a clock that stands (but for `ownership`, which also
//! watches a thread).

mod guests;
mod harness;

mod bad_records;
mod elsewhere;
mod event_time;
mod faults;
mod ownership;
mod records;
mod recovery;
mod simulation;
mod swap;
mod time_reset;
