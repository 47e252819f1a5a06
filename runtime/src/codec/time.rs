//! Text to event time: integers and decimals in a declared unit, or RFC 3339.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::EventTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    S,
    Ms,
    Us,
    Ns,
    /// `2026-05-02T02:36:00.123Z`
    Rfc3339,
}

#[derive(Debug, PartialEq, Eq)]
pub enum BadTime {
    NotATime(String),
    OutOfRange(String),
}

impl BadTime {
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotATime(_) => "missing-time",
            Self::OutOfRange(_) => "time-out-of-range",
        }
    }
}

impl fmt::Display for BadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATime(text) => write!(f, "holds {text:?}, which is no time in the declared unit"),
            Self::OutOfRange(text) => write!(f, "holds {text}, outside 1970 to 2262"),
        }
    }
}

impl TimeUnit {
    /// Digits behind the decimal point of a second that one step of the unit is.
    fn digits(self) -> u32 {
        match self {
            Self::S | Self::Rfc3339 => 0,
            Self::Ms => 3,
            Self::Us => 6,
            Self::Ns => 9,
        }
    }
}

/// # Errors
/// What stands there instead of a time.
pub fn parse(text: &str, unit: TimeUnit) -> Result<EventTime, BadTime> {
    let nanos = match unit {
        TimeUnit::Rfc3339 => {
            let time: jiff::Timestamp = text.parse().map_err(|_| BadTime::NotATime(shorten(text)))?;
            i64::try_from(time.as_nanosecond()).ok()
        }
        unit => decimal(text, 9 - unit.digits()).ok_or_else(|| BadTime::NotATime(shorten(text)))?,
    };
    nanos.filter(|&nanos| nanos >= 0).ok_or_else(|| BadTime::OutOfRange(shorten(text)))
}

/// `text` times ten to the power of `scale`, cut to an integer: exact, without floating point. `None`
/// where it is no decimal number, `Some(None)` where it does not fit.
fn decimal(text: &str, scale: u32) -> Option<Option<i64>> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if digits.contains(['e', 'E']) {
        let value: f64 = digits.parse().ok()?;
        let scaled = value * 10_f64.powi(scale as i32);
        return Some((scaled < i64::MAX as f64).then_some(if negative { -(scaled as i64) } else { scaled as i64 }));
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut value: Option<i64> = Some(0);
    let scaled_fraction = fraction.bytes().chain(std::iter::repeat(b'0')).take(scale as usize);
    for digit in whole.bytes().chain(scaled_fraction) {
        value = value.and_then(|value| value.checked_mul(10)?.checked_add(i64::from(digit - b'0')));
    }
    Some(value.map(|value| if negative { -value } else { value }))
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
