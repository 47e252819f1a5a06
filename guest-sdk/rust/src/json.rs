//! JSON for payloads: what serde_json reads and writes, to the byte, in half the time in WebAssembly.
//!
//! There every function and every turn of a loop asks whether the call has used up its time, and a copy of a few bytes is
//! a call of the host, so code that goes byte by byte loses most. Here text is taken eight bytes at a time in 64-bit words.
//!
//! Owns no rule of its own about what JSON is. The [reader](read) knows the plain case and hands anything else (escapes,
//! floats, errors) to serde_json, whose verdict and message count; the [writer](write) leaves floats to it. Tests
//! compare both with serde_json on random values and on damaged text.

mod read;
mod write;

mod place;
mod scratch;
#[cfg(test)]
mod tests;
mod word;

pub(crate) use read::from_text;
pub(crate) use scratch::Scratch;
pub(crate) use word::text;
pub(crate) use write::write;
