//! Keys at rest: bytes whose order is the order of what they name.
//!
//! ```text
//! value  0x01 | key group u16 BE | operator, terminated | state, terminated | key
//! timer  0x02 | operator, terminated | time, sign bit flipped, u64 BE | timer, terminated | key
//! ```
//! A terminated part has every 0x00 written as 0x00 0xFF and ends with 0x00 0x01, so that a part
//! sorts before every longer one that begins with it. The last part stands as it is.
//!
//! Values lie by key group, so that rescaling moves ranges. Timers lie by time, so that a task finds
//! the next ones without reading the others, however many there are.

use crate::model::{EventTime, murmur2};

/// Keys that belong to the store itself (marker, format); never part of a delta.
pub(super) const STORE: u8 = 0x00;
pub(super) const VALUE: u8 = 0x01;
pub(super) const TIMER: u8 = 0x02;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xFF;
const TERMINATOR: u8 = 0x01;
const SIGN_BIT: u64 = 1 << 63;

/// What a key at rest names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address<'a> {
    Value { group: u16, operator: Vec<u8>, state: Vec<u8>, key: &'a [u8] },
    Timer { operator: Vec<u8>, time: EventTime, timer: Vec<u8>, key: &'a [u8] },
}

/// `operator, terminated | state, terminated`: what the keys of one state share behind the key group.
pub(super) fn names(operator: &str, state: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(operator.len() + state.len() + 4);
    push_terminated(&mut out, operator.as_bytes());
    push_terminated(&mut out, state.as_bytes());
    out
}

pub(super) fn push_value_key(out: &mut Vec<u8>, names: &[u8], key: &[u8]) {
    push_value_prefix(out, murmur2::key_group(key), names);
    out.extend_from_slice(key);
}

/// What all keys of one state in one key group begin with.
pub(super) fn push_value_prefix(out: &mut Vec<u8>, group: u16, names: &[u8]) {
    out.push(VALUE);
    out.extend_from_slice(&group.to_be_bytes());
    out.extend_from_slice(names);
}

pub(super) fn push_timer_key(out: &mut Vec<u8>, operator: &str, time: EventTime, timer: &str, key: &[u8]) {
    push_timer_prefix(out, operator);
    out.extend_from_slice(&sortable(time).to_be_bytes());
    push_terminated(out, timer.as_bytes());
    out.extend_from_slice(key);
}

/// What all timers of one operator begin with.
pub(super) fn push_timer_prefix(out: &mut Vec<u8>, operator: &str) {
    out.push(TIMER);
    push_terminated(out, operator.as_bytes());
}

/// The first possible timer of an operator at `time`.
pub(super) fn push_timer_start(out: &mut Vec<u8>, operator: &str, time: EventTime) {
    push_timer_prefix(out, operator);
    out.extend_from_slice(&sortable(time).to_be_bytes());
}

/// Reads a key back; the error says what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Address<'_>, &'static str> {
    match bytes.split_first() {
        Some((&VALUE, rest)) => {
            let (group, rest) = rest.split_first_chunk::<2>().ok_or("ends inside its key group")?;
            let (operator, rest) = terminated(rest)?;
            let (state, key) = terminated(rest)?;
            Ok(Address::Value { group: u16::from_be_bytes(*group), operator, state, key })
        }
        Some((&TIMER, rest)) => {
            let (operator, rest) = terminated(rest)?;
            let (time, rest) = rest.split_first_chunk::<8>().ok_or("ends inside its time")?;
            let (timer, key) = terminated(rest)?;
            let time = (u64::from_be_bytes(*time) ^ SIGN_BIT) as EventTime;
            Ok(Address::Timer { operator, time, timer, key })
        }
        _ => Err("is neither of a value nor of a timer"),
    }
}

fn sortable(time: EventTime) -> u64 {
    time as u64 ^ SIGN_BIT
}

fn push_terminated(out: &mut Vec<u8>, part: &[u8]) {
    for &byte in part {
        out.push(byte);
        if byte == ESCAPE {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[ESCAPE, TERMINATOR]);
}

/// Takes a terminated part off the front.
fn terminated(bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut part = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        if byte != ESCAPE {
            part.push(byte);
            rest = behind;
            continue;
        }
        match behind.split_first() {
            Some((&ESCAPED_ZERO, behind)) => {
                part.push(ESCAPE);
                rest = behind;
            }
            Some((&TERMINATOR, behind)) => return Ok((part, behind)),
            _ => return Err("holds a zero byte that is neither escaped nor a terminator"),
        }
    }
    Err("ends inside a name")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value_key(operator: &str, state: &str, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_value_key(&mut out, &names(operator, state), key);
        out
    }

    fn timer_key(operator: &str, time: EventTime, timer: &str, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_timer_key(&mut out, operator, time, timer, key);
        out
    }

    /// Few distinct bytes, zeros and 0xFF-like neighbours among them: collisions and prefixes are likely.
    fn name() -> impl Strategy<Value = String> {
        "[\u{0}\u{1}ab]{0,4}"
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0_u8, 1, 0x61, 0xFE, 0xFF]), 0..5)
    }

    proptest! {
        #[test]
        fn value_keys_sort_as_what_they_name_and_read_back(
            a in (name(), name(), key()),
            b in (name(), name(), key()),
        ) {
            let (left, right) = (value_key(&a.0, &a.1, &a.2), value_key(&b.0, &b.1, &b.2));
            let (named_left, named_right) = (parse(&left).unwrap(), parse(&right).unwrap());
            prop_assert_eq!(left.cmp(&right), named_left.cmp(&named_right));
            let group = murmur2::key_group(&a.2);
            let (operator, state) = (a.0.into_bytes(), a.1.into_bytes());
            prop_assert_eq!(named_left, Address::Value { group, operator, state, key: &a.2 });
        }

        #[test]
        fn timer_keys_sort_as_what_they_name_and_read_back(
            a in (name(), any::<i64>(), name(), key()),
            b in (name(), -2_i64..2, name(), key()),
        ) {
            let (left, right) = (timer_key(&a.0, a.1, &a.2, &a.3), timer_key(&b.0, b.1, &b.2, &b.3));
            let (named_left, named_right) = (parse(&left).unwrap(), parse(&right).unwrap());
            prop_assert_eq!(left.cmp(&right), named_left.cmp(&named_right));
            let (operator, timer) = (a.0.into_bytes(), a.2.into_bytes());
            prop_assert_eq!(named_left, Address::Timer { operator, time: a.1, timer, key: &a.3 });
        }

        #[test]
        fn damaged_keys_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
