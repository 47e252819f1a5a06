//! The text of an event time to nanoseconds.
//!
//! Decimal numbers are read digit by digit: through a float, nanoseconds of today would be off by
//! hundreds, and differently under another compiler.

use super::TimeUnit;
use crate::model::EventTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NotATime,
    /// Date and time of day, but not where: it could be any of 26 hours.
    NoOffset,
    /// A time, but none that 64-bit nanoseconds since 1970 can hold.
    OutOfRange,
}

/// Reads a number of `unit` (sign, fraction and exponent allowed, rounded down to nanoseconds) or RFC 3339; text without
/// an offset only where it is to be taken for UTC.
pub(super) fn nanos(text: &str, unit: TimeUnit, assume_utc: bool) -> Result<EventTime, Fault> {
    if let (Some(unit), Some(number)) = (unit.nanos(), Decimal::parse(text)) {
        return number.scale(unit).ok_or(Fault::OutOfRange);
    }
    let timestamp = match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => without_offset(text, assume_utc)?,
    };
    EventTime::try_from(timestamp.as_nanosecond()).map_err(|_| Fault::OutOfRange)
}

fn without_offset(text: &str, assume_utc: bool) -> Result<jiff::Timestamp, Fault> {
    // A date alone is no time, and a zone in brackets is not UTC.
    if !text.contains(':') || text.contains('[') {
        return Err(Fault::NotATime);
    }
    let time: jiff::civil::DateTime = text.parse().map_err(|_| Fault::NotATime)?;
    if !assume_utc {
        return Err(Fault::NoOffset);
    }
    jiff::tz::TimeZone::UTC.to_timestamp(time).map_err(|_| Fault::OutOfRange)
}

/// The unit under which a number is a time near `stamp`, where it is none under `unit`: digits do not come near the
/// present under two units.
pub(super) fn likelier_unit(text: &str, unit: TimeUnit, stamp: EventTime) -> Option<(TimeUnit, EventTime)> {
    const NEAR: u64 = 30 * 86_400_000_000_000;
    let number = Decimal::parse(text)?;
    let others = TimeUnit::NUMBERS.into_iter().filter(|other| *other != unit);
    let mut read = others.filter_map(|other| Some((other, number.scale(other.nanos()?)?)));
    read.find(|(_, time)| time.abs_diff(stamp) <= NEAR)
}

/// A time as people read it.
pub(super) fn show(time: EventTime) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time)).map_or_else(|_| format!("{time} ns"), |time| time.to_string())
}

/// (−1)^negative · mantissa · 10^exponent. Digits behind the 19th significant one are dropped: they
/// are below a nanosecond, or the number is out of range anyway.
struct Decimal {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

impl Decimal {
    /// 10^19 − 1 is the greatest number of nines that fits 64 bits.
    const ROOM: u64 = 1_000_000_000_000_000_000;

    fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut number = Self { negative, mantissa: 0, exponent: 0 };
        let rest = number.digits(rest.as_bytes(), 1)?;
        let rest = match rest {
            [b'.', fraction @ ..] => number.digits(fraction, 0)?,
            rest => rest,
        };
        match rest {
            [] => Some(number),
            [b'e' | b'E', exponent @ ..] => {
                number.exponent = number.exponent.saturating_add(parse_exponent(exponent)?);
                Some(number)
            }
            _ => None,
        }
    }

    /// Takes one or more digits; each dropped one moves the exponent by `dropped`, each kept one by one less.
    fn digits<'t>(&mut self, text: &'t [u8], dropped: i32) -> Option<&'t [u8]> {
        let count = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        if count == 0 {
            return None;
        }
        for digit in &text[..count] {
            if self.mantissa < Self::ROOM {
                self.mantissa = self.mantissa * 10 + u64::from(digit - b'0');
                self.exponent = self.exponent.saturating_add(dropped - 1);
            } else {
                self.exponent = self.exponent.saturating_add(dropped);
            }
        }
        Some(&text[count..])
    }

    fn scale(&self, unit: u32) -> Option<EventTime> {
        let value = i128::from(self.mantissa) * i128::from(unit) * if self.negative { -1 } else { 1 };
        let power = || 10_i128.checked_pow(self.exponent.unsigned_abs());
        let scaled = match self.exponent {
            _ if value == 0 => 0,
            0 => value,
            1.. => value.checked_mul(power()?)?,
            ..0 => power().map_or(if self.negative { -1 } else { 0 }, |power| value.div_euclid(power)),
        };
        EventTime::try_from(scaled).ok()
    }
}

/// Saturates: no exponent that does not fit can be a time.
fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0_i32, |value, byte| {
            byte.is_ascii_digit().then(|| value.saturating_mul(10).saturating_add(i32::from(byte - b'0')))
        })
        .map(|value| sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, unit: TimeUnit, expected: Result<EventTime, Fault>) {
        assert_eq!(nanos(text, unit, false), expected, "{text} {unit}");
    }

    #[test]
    fn every_unit_comes_out_in_nanoseconds() {
        check("1700000000", TimeUnit::S, Ok(1_700_000_000_000_000_000));
        check("1700000000123", TimeUnit::Ms, Ok(1_700_000_000_123_000_000));
        check("1700000000123456", TimeUnit::Us, Ok(1_700_000_000_123_456_000));
        check("1700000000123456789", TimeUnit::Ns, Ok(1_700_000_000_123_456_789));
        check("-1", TimeUnit::Ms, Ok(-1_000_000));
        check("000000000000000000000000001", TimeUnit::S, Ok(1_000_000_000));
    }

    #[test]
    fn fractions_and_exponents_are_exact_and_rounded_down() {
        check("1700000000.123456789", TimeUnit::S, Ok(1_700_000_000_123_456_789));
        check("1.7e9", TimeUnit::S, Ok(1_700_000_000_000_000_000));
        check("17000000001E-1", TimeUnit::S, Ok(1_700_000_000_100_000_000));
        check("0.9999999999", TimeUnit::S, Ok(999_999_999));
        check("-0.0000000001", TimeUnit::S, Ok(-1));
        check("5e-400", TimeUnit::S, Ok(0));
    }

    #[test]
    fn rfc_3339_is_taken_under_every_unit_and_numbers_not_under_it() {
        check("2023-11-14T22:13:20.5Z", TimeUnit::Us, Ok(1_700_000_000_500_000_000));
        check("2023-11-15T00:13:20+02:00", TimeUnit::Rfc3339, Ok(1_700_000_000_000_000_000));
        check("1700000000", TimeUnit::Rfc3339, Err(Fault::NotATime));
    }

    #[test]
    fn what_64_bits_cannot_hold_is_out_of_range() {
        for text in ["9223372037", "1e400", "99999999999999999999999999", "-1e30", "1e99999999999"] {
            check(text, TimeUnit::S, Err(Fault::OutOfRange));
        }
        check("9999-01-01T00:00:00Z", TimeUnit::S, Err(Fault::OutOfRange));
    }

    #[test]
    fn a_time_without_an_offset_is_told_from_no_time_and_taken_for_utc_where_that_is_said() {
        for text in ["2023-11-14T22:13:20.5", "2023-11-14 22:13:20.5"] {
            check(text, TimeUnit::Ms, Err(Fault::NoOffset));
            assert_eq!(nanos(text, TimeUnit::Rfc3339, true), Ok(1_700_000_000_500_000_000), "{text}");
        }
        assert_eq!(nanos("2023-11-15T00:13:20+02:00", TimeUnit::S, true), Ok(1_700_000_000_000_000_000));
        for text in ["2023-11-14", "22:13:20", "2023-11-14T22:13:20[Europe/Berlin]", "noon: 12"] {
            assert_eq!(nanos(text, TimeUnit::S, true), Err(Fault::NotATime), "{text}");
        }
        assert_eq!(nanos("9999-12-31T23:59:59", TimeUnit::S, true), Err(Fault::OutOfRange));
    }

    #[test]
    fn a_unit_that_brings_the_digits_to_the_present_is_likelier() {
        let stamp = 1_700_000_000_000_000_000;
        let likelier = |text, unit| likelier_unit(text, unit, stamp).map(|(unit, _)| unit);
        assert_eq!(likelier("1700000000", TimeUnit::Ms), Some(TimeUnit::S));
        assert_eq!(likelier("1700000000123.5", TimeUnit::S), Some(TimeUnit::Ms));
        assert_eq!(likelier("1700000000123456", TimeUnit::Ns), Some(TimeUnit::Us));
        assert_eq!(likelier("1700000000123456789", TimeUnit::S), Some(TimeUnit::Ns));
        assert_eq!(likelier("1600000000", TimeUnit::Ms), None);
        assert_eq!(likelier("1700000000", TimeUnit::S), None);
        assert_eq!(likelier("soon", TimeUnit::S), None);
    }

    #[test]
    fn what_is_no_time_is_called_so() {
        for text in ["", "-", "abc", "12a", "1.", ".5", "1e", "1e+", "+1", "0x10", "noon", "2023-11-14"] {
            check(text, TimeUnit::S, Err(Fault::NotATime));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,40}") {
            let _ = nanos(&text, TimeUnit::S, true);
            let _ = nanos(&text, TimeUnit::Ns, false);
        }

        #[test]
        fn whole_nanoseconds_come_back_as_they_were(time in proptest::num::i64::ANY) {
            proptest::prop_assert_eq!(nanos(&time.to_string(), TimeUnit::Ns, false), Ok(time));
        }
    }
}
