//! Decimals as prices and volumes need them: exact, 8 digits behind the point, 64 bits.
//!
//! In JSON a string in its shortest form; in compact encodings the 64-bit integer itself.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number in units of 10^-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(pub i64);

const DIGITS: usize = 8;
/// Up to here every unit is told apart from its neighbours in a 64-bit float.
const FLOAT_MAX_UNITS: f64 = 9_007_199_254_740_992.0;

impl Decimal {
    pub const ZERO: Self = Self(0);
    /// Units in 1.
    pub const ONE: Self = Self(100_000_000);

    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product, rounded down; `None` where it does not fit.
    pub fn times(self, other: Self) -> Option<Self> {
        // In parts, as a 128-bit division is a slow call in WebAssembly. With a = w + r and b = v + s, of whole ones and
        // rests: ab = wb + rv + rs. A rest is below 10^8, so the last two fit.
        let one = Self::ONE.0;
        let (whole, rest) = (self.0.div_euclid(one), self.0.rem_euclid(one));
        let (other_whole, other_rest) = (other.0.div_euclid(one), other.0.rem_euclid(one));
        let parts = rest * other_whole + rest * other_rest / one;
        if let Some(units) = whole.checked_mul(other.0).and_then(|units| units.checked_add(parts)) {
            return Some(Self(units));
        }
        // What is too large for the parts can still fit as a whole.
        let units = (i128::from(self.0) * i128::from(other.0)).div_euclid(i128::from(one));
        i64::try_from(units).ok().map(Self)
    }

    /// The mean of two, rounded down.
    pub fn mean(self, other: Self) -> Self {
        Self(((i128::from(self.0) + i128::from(other.0)) >> 1) as i64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADecimal;

impl fmt::Display for NotADecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a decimal of at most 8 digits behind the point and 64 bits")
    }
}

impl FromStr for Decimal {
    type Err = NotADecimal;

    fn from_str(text: &str) -> Result<Self, NotADecimal> {
        let bytes = text.as_bytes();
        let (negative, digits) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, bytes),
        };
        let point = digits.iter().position(|&byte| byte == b'.');
        let (whole, fraction) = match point {
            Some(point) => (&digits[..point], &digits[point + 1..]),
            None => (digits, &[][..]),
        };
        if whole.is_empty() || fraction.len() > DIGITS || point.is_some() && fraction.is_empty() {
            return Err(NotADecimal);
        }
        // Summed below zero, where there is room for one more.
        let units = if whole.len() <= SAFE_WHOLE_DIGITS {
            let (whole, fraction) = (summed(whole)?, summed(fraction)? * SCALES[DIGITS - fraction.len()]);
            whole * Self::ONE.0 + fraction
        } else {
            summed_with_care(whole, fraction)?
        };
        if negative { Ok(Self(units)) } else { units.checked_neg().map(Self).ok_or(NotADecimal) }
    }
}

/// So many whole digits and all behind the point fit 64 bits, whatever they are.
const SAFE_WHOLE_DIGITS: usize = 10;
const SCALES: [i64; DIGITS + 1] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Digits that cannot overflow, as a number below zero.
fn summed(digits: &[u8]) -> Result<i64, NotADecimal> {
    digits.iter().try_fold(0, |units, &digit| match digit {
        b'0'..=b'9' => Ok(units * 10 - i64::from(digit - b'0')),
        _ => Err(NotADecimal),
    })
}

/// Digits that may overflow. Checked arithmetic on 64 bits is slow in WebAssembly, so this is for long numbers only.
fn summed_with_care(whole: &[u8], fraction: &[u8]) -> Result<i64, NotADecimal> {
    let zeros = std::iter::repeat_n(&b'0', DIGITS - fraction.len());
    whole.iter().chain(fraction).chain(zeros).try_fold(0_i64, |units, &digit| {
        let digit = i64::from(digit.is_ascii_digit().then(|| digit - b'0').ok_or(NotADecimal)?);
        units.checked_mul(10).and_then(|units| units.checked_sub(digit)).ok_or(NotADecimal)
    })
}

/// The shortest form: no zeros at the end, no point without digits behind it.
struct Written {
    bytes: [u8; 32],
    len: usize,
}

impl Written {
    #[inline]
    fn of(decimal: Decimal) -> Self {
        let mut written = Self { bytes: [0; 32], len: 0 };
        let units = decimal.0.unsigned_abs();
        let (whole, fraction) = (units / 100_000_000, (units % 100_000_000) as u32);
        if decimal.0 < 0 {
            written.put(u64::from(b'-'), 1);
        }
        let (high, low) = ((whole / 100_000_000) as u32, (whole % 100_000_000) as u32);
        if high > 0 {
            written.put_number(high);
            written.put(digits(low) | ZEROS, 8);
        } else {
            written.put_number(low);
        }
        if fraction > 0 {
            let fraction = digits(fraction);
            written.put(u64::from(b'.'), 1);
            written.put(fraction | ZEROS, 8 - fraction.leading_zeros() as usize / 8);
        }
        written
    }

    /// A number below 10^8 without zeros in front.
    fn put_number(&mut self, number: u32) {
        let digits = digits(number);
        let zeros = (digits.trailing_zeros() as usize / 8).min(7);
        self.put((digits | ZEROS) >> (8 * zeros), 8 - zeros);
    }

    fn put(&mut self, text: u64, len: usize) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&text.to_le_bytes());
        self.len += len;
    }

    fn text(&self) -> &str {
        // SAFETY: digits, a sign and a point are all that is ever put, and they are ASCII. Looking at them again would cost
        // as much as writing them.
        unsafe { std::str::from_utf8_unchecked(&self.bytes[..self.len]) }
    }
}

const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// The eight digits of a number below 10^8, a byte each, the first one lowest. All are split at once, as loops are slow in
/// WebAssembly: 10,486 / 2^20 is 1 / 100 up to 10^4, and 103 / 2^10 is 1 / 10 up to 100.
fn digits(number: u32) -> u64 {
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let pairs = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F;
    tens | (pairs - 10 * tens) << 8
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Written::of(*self).text())
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(Written::of(*self).text())
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Text)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal as a string, or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
        text.parse().map_err(|NotADecimal| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Decimal, E> {
        let units = number.checked_mul(Decimal::ONE.0);
        units.map(Decimal).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Decimal, E> {
        let units = i64::try_from(number).ok().and_then(|number| number.checked_mul(Decimal::ONE.0));
        units.map(Decimal).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Decimal, E> {
        let units = (number * Decimal::ONE.0 as f64).round();
        if units.abs() <= FLOAT_MAX_UNITS {
            Ok(Decimal(units as i64))
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly_and_written_in_its_shortest_form() {
        for (text, units, shortest) in [
            ("0", 0, "0"),
            ("-0.0", 0, "0"),
            ("78318.50", 7_831_850_000_000, "78318.5"),
            ("0.00030644", 30_644, "0.00030644"),
            ("-0.5", -50_000_000, "-0.5"),
            ("007", 700_000_000, "7"),
            ("92233720368.54775807", i64::MAX, "92233720368.54775807"),
            ("-92233720368.54775808", i64::MIN, "-92233720368.54775808"),
        ] {
            assert_eq!(text.parse(), Ok(Decimal(units)), "{text}");
            assert_eq!(Decimal(units).to_string(), shortest);
        }
    }

    #[test]
    fn text_that_is_no_decimal_is_refused() {
        for text in
            ["", "-", ".5", "5.", "1e5", "+1", " 1", "1,5", "0.123456789", "92233720368.54775808", "1.2.3", "--1"]
        {
            assert_eq!(text.parse::<Decimal>(), Err(NotADecimal), "{text}");
        }
    }

    #[test]
    fn products_in_parts_are_those_of_wide_integers() {
        let numbers = [0, 1, -1, 7, 99_999_999, 100_000_000, -100_000_001, 1 << 40, -(1 << 52), i64::MAX, i64::MIN];
        for a in numbers {
            for b in numbers {
                let wide = (i128::from(a) * i128::from(b)).div_euclid(100_000_000);
                assert_eq!(Decimal(a).times(Decimal(b)), i64::try_from(wide).ok().map(Decimal), "{a} * {b}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for shift in 0..64 {
            for units in [i64::MIN >> shift, i64::MAX >> shift, (i64::MAX >> shift) / 100_000_000 * 100_000_000] {
                assert_eq!(Decimal(units).to_string().parse(), Ok(Decimal(units)));
            }
        }
    }

    #[test]
    fn products_and_means_round_down() {
        assert_eq!(Decimal(3).times(Decimal(50_000_000)), Some(Decimal(1)));
        assert_eq!(Decimal(-3).times(Decimal(50_000_000)), Some(Decimal(-2)));
        assert_eq!(Decimal(i64::MAX).times(Decimal(200_000_000)), None);
        assert_eq!(Decimal(1).mean(Decimal(2)), Decimal(1));
        assert_eq!(Decimal(-1).mean(Decimal(-2)), Decimal(-2));
    }
}
