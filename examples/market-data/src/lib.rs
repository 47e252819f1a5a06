//! Market data to run Forebay on, and the judge of what comes out.
//!
//! `input` makes records, `plain` works out what must become of them, `server` and `api` drive the real binary as
//! any client does, `judge` compares. Nothing here uses the runtime's code.

pub mod decimal;
pub mod input;
pub mod plain;
pub mod random;
