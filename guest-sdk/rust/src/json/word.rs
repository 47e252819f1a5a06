//! Eight bytes of text at a time, as one 64-bit word: the first byte is the lowest.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = ONES << 7;
/// Eight digits `0`.
const ZEROS: u64 = ONES * b'0' as u64;

/// Bytes as text, if they are UTF-8.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    const WORDS: usize = 4;
    let (blocks, rest) = bytes.as_chunks::<{ 8 * WORDS }>();
    let joined = |block: &[u8]| block.as_chunks::<8>().0.iter().fold(0, |all, word| all | u64::from_le_bytes(*word));
    if blocks.iter().all(|block| is_ascii(joined(block))) && rest.is_ascii() {
        // SAFETY: every byte was seen to be ASCII, and ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

/// The first eight bytes of `bytes`, if there are as many.
#[inline]
pub(super) fn of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Fewer than eight bytes, the rest zero.
#[inline]
pub(super) fn of_few(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // Where the halves overlap, they say the same.
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (len & 7) - 32);
    }
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(a) | u64::from(b) << 8,
        [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
    }
}

/// The mark of the first byte that does not stand for itself between quotes: a quote, a backslash, or below 0x20. Zero if
/// there is none; else its byte is at `trailing_zeros() / 8`. What is marked behind it means nothing.
#[inline]
pub(super) fn special(word: u64) -> u64 {
    // With bit 1 flipped, a quote and whatever is below a blank are below 0x21, and nothing else is.
    let quote_or_control = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    // What is not ASCII stands for itself.
    (quote_or_control | backslash) & !word & HIGH
}

/// Like [`special`] of the first `len` bytes, fewer than eight.
#[inline]
pub(super) fn special_of_few(word: u64, len: usize) -> u64 {
    special(word | (ONES * u64::from(b' ')) << (8 * len))
}

#[inline]
pub(super) fn is_ascii(word: u64) -> bool {
    word & HIGH == 0
}

/// How many of the first bytes are digits, and the number that they make.
#[inline]
pub(super) fn leading_digits(word: u64) -> (usize, u64) {
    let digits = word ^ ZEROS;
    // Above nine, or not ASCII at all.
    let others = (digits.wrapping_add(ONES * 0x76) | digits) & HIGH;
    let len = others.trailing_zeros() as usize / 8;
    if len == 0 {
        return (0, 0);
    }
    // Zeros in front, then pairs, fours, and all eight.
    let digits = digits << (64 - 8 * len);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    (len, fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF)
}

/// The eight digits of a number below 10^8.
#[inline]
pub(super) fn eight_digits(number: u32) -> u64 {
    digits(number) | ZEROS
}

/// The digits of a number below 10^8 without zeros in front, and how many.
#[inline]
pub(super) fn few_digits(number: u32) -> (u64, usize) {
    let digits = digits(number);
    // The last digit stays, also where it is zero.
    let zeros = digits.trailing_zeros() as usize / 8;
    let zeros = zeros.min(7);
    ((digits | ZEROS) >> (8 * zeros), 8 - zeros)
}

/// One digit a byte. Halves, quarters and digits are split all at once: a division by 100 is a multiplication by
/// 10,486 / 2^20, exact below 10^4, and one by 10 is 103 / 2^10, exact below 100.
#[inline]
fn digits(number: u32) -> u64 {
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let pairs = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F;
    tens | (pairs - 10 * tens) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_is_told_apart() {
        for byte in 0..=u8::MAX {
            let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for place in 0..8 {
                let mut text = *b"abcd\xC3\xA9\x7Fz";
                text[place] = byte;
                let mark = special(u64::from_le_bytes(text));
                assert_eq!(mark != 0, is_special, "{byte} at {place}");
                assert!(!is_special || mark.trailing_zeros() as usize / 8 == place, "{byte} at {place}");
                for len in 0..8 {
                    let few = of_few(&text[..len]);
                    assert_eq!(few.to_le_bytes()[..len], text[..len]);
                    assert_eq!(special_of_few(few, len) != 0, is_special && place < len, "{byte} at {place} of {len}");
                }
                let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
                assert_eq!(leading_digits(u64::from_le_bytes(text)).0, digits);
            }
        }
    }

    #[test]
    fn digits_are_read_and_written() {
        let numbers = (0..20_000).chain((0..200).map(|n| n * 499_979)).chain(99_980_000..100_000_000);
        for number in numbers {
            assert_eq!(eight_digits(number).to_le_bytes(), format!("{number:08}").as_bytes());
            let (digits, len) = few_digits(number);
            let text = number.to_string();
            assert_eq!(digits.to_le_bytes()[..len], *text.as_bytes(), "{number}");
            let mut padded = *b"        ";
            padded[..len].copy_from_slice(text.as_bytes());
            assert_eq!(leading_digits(u64::from_le_bytes(padded)), (len, u64::from(number)));
        }
    }
}
