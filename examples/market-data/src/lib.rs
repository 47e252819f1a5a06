//! Market data to run Forebay on, and the judge of what comes out.
//!
//! `input` makes records, `plain` works out what must become of them, `server`, `api` and `feed` drive the real
//! binary as any client does, `judge` compares,
//! `pipeline` ties them together. Nothing here uses the runtime's code.

pub mod api;
pub mod decimal;
pub mod feed;
pub mod input;
pub mod judge;
pub mod pipeline;
pub mod plain;
pub mod random;
pub mod server;
