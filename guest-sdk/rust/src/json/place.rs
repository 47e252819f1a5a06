//! A place in JSON text, and taking the next token from there.
//!
//! Knows nothing of serde's data model, but hands an odd token to serde_json and counts what it could not take.

use std::cell::Cell;

use serde::de;
use serde_json::de::SliceRead;

use super::word;

/// Something that is for serde_json to judge.
#[derive(Debug)]
pub(super) struct Odd(());

thread_local! {
    static ODDITIES: Cell<u32> = const { Cell::new(0) };
}

impl Odd {
    /// How many were met so far, in this thread.
    pub(super) fn count() -> u32 {
        ODDITIES.get()
    }

    #[cold]
    pub(super) fn met() -> Self {
        ODDITIES.set(ODDITIES.get().wrapping_add(1));
        Self(())
    }
}

impl std::fmt::Display for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not plain JSON")
    }
}

impl std::error::Error for Odd {}

impl de::Error for Odd {
    /// Its words would be thrown away.
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self::met()
    }
}

/// Deeper than this is for serde_json, which refuses it at 128.
const DEPTH_MAX: usize = 100;
/// So many digits fit 64 bits, with a sign too.
const DIGITS_MAX: usize = 18;

/// A place in a text.
pub(super) struct Reader<'de> {
    text: &'de str,
    at: usize,
    depth: usize,
}

impl<'de> Reader<'de> {
    pub(super) fn new(text: &'de str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The byte at hand.
    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no blank, not taken.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<u8, Odd> {
        match self.byte() {
            Some(byte) if byte > b' ' => Ok(byte),
            _ => self.peek_behind_blanks(),
        }
    }

    #[inline(never)]
    fn peek_behind_blanks(&mut self) -> Result<u8, Odd> {
        self.skip_blanks();
        self.byte().ok_or_else(Odd::met)
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_blanks();
        self.at == self.text.len()
    }

    /// Takes this byte, behind blanks.
    #[inline]
    pub(super) fn take(&mut self, expected: u8) -> Result<(), Odd> {
        if self.peek()? != expected {
            return Err(Odd::met());
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    pub(super) fn take_word(&mut self, word: &str) -> Result<(), Odd> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Odd::met());
        }
        self.at += word.len();
        Ok(())
    }

    /// Text between quotes, or none where there is an escape in it (nothing is taken then).
    #[inline]
    pub(super) fn take_text(&mut self) -> Result<Option<&'de str>, Odd> {
        if self.byte() != Some(b'"') {
            return Err(Odd::met());
        }
        let start = self.at + 1;
        let end = self.special_from(start);
        match self.text.as_bytes().get(end) {
            Some(b'"') => {
                self.at = end + 1;
                // SAFETY: `start` and `end` lie in the text, `start` behind an ASCII quote and `end` before one, and between
                // ASCII characters UTF-8 is whole.
                Ok(Some(unsafe { self.text.get_unchecked(start..end) }))
            }
            Some(b'\\') => Ok(None),
            _ => Err(Odd::met()),
        }
    }

    /// The next byte that does not stand for itself between quotes, or the end.
    #[inline]
    fn special_from(&self, mut at: usize) -> usize {
        let bytes = self.text.as_bytes();
        while let Some(word) = bytes.get(at..).and_then(word::of) {
            let special = word::special(word);
            if special != 0 {
                return at + special.trailing_zeros() as usize / 8;
            }
            at += 8;
        }
        let plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
        at + bytes.get(at..).unwrap_or_default().iter().take_while(plain).count()
    }

    /// Takes text with escapes, with its quotes.
    #[cold]
    pub(super) fn take_escaped(&mut self) -> Result<&'de str, Odd> {
        let start = self.at;
        let mut at = start + 1;
        loop {
            at = self.special_from(at);
            match self.text.as_bytes().get(at) {
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                _ => return Err(Odd::met()),
            }
        }
        self.at = at + 1;
        self.text.get(start..self.at).ok_or_else(Odd::met)
    }

    /// Takes a whole number with its sign; none where it is not plain (nothing is taken then).
    #[inline]
    pub(super) fn take_number(&mut self) -> Option<Number> {
        let bytes = self.text.as_bytes();
        let negative = self.byte() == Some(b'-');
        let start = self.at + usize::from(negative);
        let (mut at, mut number) = (start, 0_u64);
        while let Some(word) = bytes.get(at..).and_then(word::of) {
            let (len, digits) = word::leading_digits(word);
            number = number.wrapping_mul(POWERS_OF_TEN[len]).wrapping_add(digits);
            at += len;
            if len < 8 || at - start > DIGITS_MAX {
                break;
            }
        }
        // Fewer than eight bytes before the end of the text, or none that is a digit.
        while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            at += 1;
        }
        let leads_with_zero = bytes.get(start) == Some(&b'0');
        let goes_on = matches!(bytes.get(at), Some(b'.' | b'e' | b'E'));
        let digits = at - start;
        if digits == 0 || digits > DIGITS_MAX || goes_on || leads_with_zero && (digits > 1 || negative) {
            return None;
        }
        self.at = at;
        Some(if negative { Number::Negative(-(number as i64)) } else { Number::Positive(number) })
    }

    /// Takes what can belong to a number.
    pub(super) fn take_odd_number(&mut self) -> Result<&'de str, Odd> {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')).count();
        self.at += len;
        self.text.get(self.at - len..self.at).ok_or_else(Odd::met)
    }

    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Odd> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Odd::met()) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn leave(&mut self, close: u8) -> Result<(), Odd> {
        self.depth -= 1;
        self.take(close)
    }
}

pub(super) enum Number {
    Positive(u64),
    Negative(i64),
}

const POWERS_OF_TEN: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// What serde_json makes of one token, all of it.
pub(super) fn judged<'de, T>(
    token: &'de str,
    read: impl FnOnce(&mut serde_json::Deserializer<SliceRead<'de>>) -> serde_json::Result<T>,
) -> Result<T, Odd> {
    let mut deserializer = serde_json::Deserializer::from_slice(token.as_bytes());
    let value = read(&mut deserializer).map_err(|_| Odd::met())?;
    deserializer.end().map_err(|_| Odd::met())?;
    Ok(value)
}
