//! Pins the bytes of a state's schema version.

use std::fmt::Write as _;

use super::fail;
use crate::state::{State, decode, encode};

/// Fails unless `value` is written as `bytes` (hexadecimal), `bytes` are read back as what is written the same, and the type
/// has this fingerprint. Keep one per schema version that is in use anywhere, with its type.
///
/// ```
/// # use forebay_sdk::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Count { records: u64 }
/// impl State for Count {}
///
/// forebay_sdk::testing::assert_golden(&Count { records: 300 }, "ac02", "a3567854bdb85798");
/// ```
pub fn assert_golden<V: State>(value: &V, bytes: &str, fingerprint: &str) {
    let mut encoded = Vec::new();
    if let Err(error) = encode(value, &mut encoded) {
        fail(format_args!("encode version {}: {error}", V::VERSION));
    }
    let written = hex(&encoded);
    let traced = crate::fingerprint::<V>();
    if written != bytes || traced != fingerprint {
        fail(format_args!(
            "version {} of this state is written as\n  {written:?}, fingerprint {traced:?}, and was\n  {bytes:?}, fingerprint \
             {fingerprint:?}\nValues at rest would be misread: raise VERSION, keep the old type, and migrate from it",
            V::VERSION
        ));
    }
    let again = decode::<V>(&encoded).and_then(|value| {
        let mut again = Vec::new();
        encode(&value, &mut again).map(|()| again)
    });
    assert_eq!(again.as_ref(), Ok(&encoded), "what was written is read back");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
