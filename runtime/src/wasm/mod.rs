//! The Wasm host: engine, inspection of uploads, instances under limits, checked answers.
//!
//! Owns everything that knows wasmtime; it stops here. Bytes come in through [`Engine::inspect`],
//! become a [`Module`] through [`Engine::load`], and answer calls as a [`contract::Guest`]. Never
//! trusts a guest: what it says of itself is validated, every call has limits, and whatever goes
//! wrong inside one becomes a value ([`contract::GuestError`]), never a panic of the host.
//!
//! Read [`contract`] first, then `engine`, `instance` and `check`.

pub mod apart;
mod bindings;
mod budget;
mod cache;
mod check;
pub mod contract;
mod convert;
mod describe;
mod engine;
mod error;
mod host;
mod inspect;
mod instance;
mod settings;

pub use check::{Limits, Shape, check_migration};
pub use engine::Engine;
pub use error::{Error, Rejected};
pub use host::Measurement;
pub use inspect::Checked;
pub use instance::Module;
pub use settings::EngineSettings;

#[cfg(test)]
mod tests;
