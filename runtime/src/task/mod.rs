//! One task: the straight loop, its epochs, its recovery.

pub mod handle;
pub mod plan;
