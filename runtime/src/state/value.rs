//! Values at rest: `flags u8 | schema version u32 LE | bytes`.
//!
//! The same bytes stand in the overlay, the cache, the changelog and RocksDB, so a value is encoded
//! once and copied from then on. No bytes at all mean "no value": a value at rest is never empty.
//! A timer carries nothing, so its value at rest is the flags alone.

/// Nothing but the version and the bytes. Bit 0 is kept for an expiry time (i64 LE behind the version).
const PLAIN: u8 = 0;
const HEAD: usize = 5;
/// The value at rest of a timer.
pub(super) const TIMER: &[u8] = &[PLAIN];

/// The size at rest of a value of `len` bytes.
pub(super) fn stored_len(len: usize) -> usize {
    HEAD + len
}

/// Writes a value at rest over `out`, which is [`stored_len`] long.
pub(super) fn write(out: &mut [u8], version: u32, value: &[u8]) {
    out[0] = PLAIN;
    out[1..HEAD].copy_from_slice(&version.to_le_bytes());
    out[HEAD..].copy_from_slice(value);
}

/// The schema version and the value; the error says what is wrong.
pub(super) fn parse(stored: &[u8]) -> Result<(u32, &[u8]), String> {
    match stored.split_first_chunk::<HEAD>() {
        Some((&[PLAIN, a, b, c, d], value)) => Ok((u32::from_le_bytes([a, b, c, d]), value)),
        Some((&[flags, ..], _)) => Err(format!("found value flags {flags:#04x}, this build knows 0x00 only")),
        None => Err(format!("found {} bytes, a stored value has at least {HEAD}", stored.len())),
    }
}

/// What [`parse`] says of a key that is there without a value.
pub(super) fn empty() -> String {
    format!("found 0 bytes, a stored value has at least {HEAD}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_back_with_its_version() {
        let mut stored = vec![0; stored_len(3)];
        write(&mut stored, 7, b"abc");
        assert_eq!(parse(&stored), Ok((7, &b"abc"[..])));
    }

    #[test]
    fn unknown_flags_and_cut_values_are_refused() {
        assert!(parse(&[1, 0, 0, 0, 0, 9]).unwrap_err().contains("flags 0x01"));
        assert!(parse(&[0, 0, 0]).unwrap_err().contains("3 bytes"));
    }
}
