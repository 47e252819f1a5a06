//! The Wasm host: engine, inspection of uploads, instances under limits, checked answers.

pub mod contract;
