//! Jobs: spec, plan, life cycle, swaps.
//!
//! Owns what is deployed: the control topic, the plan of every change before it is made, the running
//! tasks. Never touches a record. Read `spec`, then `plan`, then `manager`.

mod scalar;
pub mod spec;
