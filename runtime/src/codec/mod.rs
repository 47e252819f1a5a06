//! Bytes to records: whether a value is well-formed, which key it has, when it happened.
//!
//! Owns nothing between calls but buffers. Bad records leave by the side, with a reason; nothing here
//! reads a clock, so the same record is always judged the same.

/// How a source's records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCodec {}
