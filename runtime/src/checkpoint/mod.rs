//! The changelog's formats: what an epoch's commit consists of.
//!
//! Owns the header (all positions and identities), the delta (header and state changes, cut into
//! chunks that a log takes), and the rule by which headers follow each other. Pure functions of bytes:
//! never reads or writes a log, never looks at a clock, never knows what a key or value means.
//!
//! Recovery rests on these bytes alone, so they are versioned, checked by golden files, and described
//! in `docs/formats/changelog.md`. Bytes from the log are believed only after every check.
//!
//! Read `header`, then `delta` (what a delta is), `chunk` (how it lies in the log), `chain`.

mod assembler;
mod chain;
mod chunk;
mod delta;
mod error;
mod header;

pub use assembler::Assembler;
pub use chain::Chain;
pub use delta::{Delta, encode_delta};
pub use error::Error;
pub use header::{
    BaseInForce, Header, HeaderHash, HeaderKind, InputPosition, OperatorVersion, Owner, StateVersion, TaskIdentity,
    UpstreamTime,
};

#[cfg(test)]
mod tests;
