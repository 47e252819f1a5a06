//! Decimals of the example records: whole numbers of 10^-8, written as strings in their shortest form.

pub const UNIT: i64 = 100_000_000;

/// Reads `-12.00000345`. `None` for anything else: no exponent, one to eight digits behind the point.
pub fn parse(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !numeric(whole) || !numeric(fraction) || fraction.len() > 8 {
        return None;
    }
    let scaled = fraction.parse::<i64>().ok()? * 10_i64.pow(8 - fraction.len() as u32);
    let units = whole.parse::<i64>().ok()?.checked_mul(UNIT)?.checked_add(scaled)?;
    Some(if negative { -units } else { units })
}

pub fn format(units: i64) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, fraction) = (units.unsigned_abs() / UNIT as u64, units.unsigned_abs() % UNIT as u64);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    format!("{sign}{whole}.{fraction:08}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_read_what_they_write() {
        for text in ["0", "78327", "-0.5", "0.00000001", "1.53453667", "-12.00000345"] {
            assert_eq!(parse(text).map(format).as_deref(), Some(text));
        }
        assert_eq!(parse("78318.0").map(format).as_deref(), Some("78318"));
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in ["", "-", "1.", ".5", "1e3", "0.123456789", "1_0", "99999999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
