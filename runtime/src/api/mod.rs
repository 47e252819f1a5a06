//! gRPC in, `job` out; protobuf types stop here.
//!
//! The API is `forebay.v1` (`runtime/proto`). Its types go no further down than this module; the CLI
//! and other clients use them through [`client`]. Calls that wait for the log or for tasks run on
//! threads that may block. Read [`server`] first.

pub mod client;
mod control;
mod dead_letters;
mod error;
mod health;
mod jobs;
pub mod json;
mod lag;
mod metrics;
mod modules;
pub mod server;
mod topics;
mod view;

/// Generated from `runtime/proto/forebay/v1`.
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
pub mod proto {
    tonic::include_proto!("forebay.v1");
    /// The API's descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/forebay.v1.descriptors.bin"));
}

#[cfg(test)]
mod tests;
