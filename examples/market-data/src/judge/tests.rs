//! The judge is itself judged: every way in which a broken runtime would betray itself must be seen.

use super::*;
use crate::input::partitioned::Record;
use crate::plain::decode::Rules;
use crate::plain::liquidity::{SwapAt, expected};

const RULES: Rules =
    Rules { time_field: "exchange_timestamp", max_value_bytes: 1_000, max_ahead_ms: 10_000, max_behind_ms: 10_000 };

fn orders() -> Partitioned {
    let mut input = Partitioned::new("orders", 1);
    for time in [1_000, 1_500, 2_500] {
        let value = format!(
            r#"{{"id":1,"action":"created","direction":"bid","price":"10","volume":"1","exchange_timestamp":{time}}}"#
        );
        input.push(Record { key: Some(b"K".to_vec()), value: Some(value.into_bytes()), timestamp_ms: time });
    }
    input.push(Record { key: Some(b"K".to_vec()), value: Some(b"{".to_vec()), timestamp_ms: 3_000 });
    input
}

fn seen(value: &str, timestamp_ms: i64) -> Seen {
    let (key, value) = (Some(b"K".to_vec()), Some(value.as_bytes().to_vec()));
    Seen { partition: 0, offset: 0, timestamp_ms, key, value, headers: Vec::new() }
}

fn summaries() -> (Expected<Summary>, Vec<Seen>) {
    let expected = expected(&orders(), &RULES, &SwapAt::from([(0, 2)]));
    let written = expected.outputs["K"].iter().map(|summary| seen(&summary.text, summary.event_time_ms)).collect();
    (expected, written)
}

fn of(summary: &Summary) -> (&str, i64) {
    (&summary.text, summary.event_time_ms)
}

#[test]
fn the_right_output_is_found_right() {
    let (expected, written) = summaries();
    let verdict = outputs("summaries", &expected, &written, of);
    assert!(verdict.is_good(), "{verdict:?}");
    assert_eq!(verdict.compared, 3);
    assert!(counters("counts", &written).is_good());
}

#[test]
fn an_output_missing_twice_different_or_late_in_order_is_found() {
    let (expected, written) = summaries();
    let without = |at: usize| written.iter().enumerate().filter(move |(i, _)| *i != at).map(|(_, seen)| seen.clone());
    for wrong in [
        without(0).collect::<Vec<_>>(),
        without(2).collect(),
        [written.clone(), vec![written[2].clone()]].concat(),
        vec![written[1].clone(), written[0].clone(), written[2].clone()],
        [vec![seen(&expected.outputs["K"][0].text, 999)], written[1..].to_vec()].concat(),
        [written.clone(), vec![Seen { key: Some(b"other".to_vec()), ..written[0].clone() }]].concat(),
    ] {
        assert!(!outputs("summaries", &expected, &wrong, of).is_good(), "{wrong:?}");
    }
    assert!(!counters("counts", &without(1).collect::<Vec<_>>()).is_good());
}

#[test]
fn a_dead_letter_missing_twice_or_under_another_code_is_found() {
    let refusals = summaries().0.refusals;
    let headers = |code: &str| {
        let pairs =
            [("forebay.topic", "orders"), ("forebay.partition", "0"), ("forebay.offset", "3"), ("forebay.code", code)];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    let letter = |code: &str, value: &str| Seen { headers: headers(code), ..seen(value, 0) };
    let judged = |letters: &[Seen]| dead_letters(&orders(), &refusals, letters).is_good();
    assert!(judged(&[letter("malformed-json", "{")]));
    assert!(!judged(&[]));
    assert!(!judged(&[letter("malformed-json", "{"), letter("malformed-json", "{")]));
    assert!(!judged(&[letter("bad-order", "{")]));
    assert!(!judged(&[letter("malformed-json", "}")]));
}

#[test]
fn a_tick_missing_twice_or_with_fields_of_another_moment_is_found() {
    let (expected, _) = summaries();
    let tick = |at: i64, of: usize, version: u8| {
        let summary = &expected.outputs["K"][of];
        let peak = if version == 2 { format!(r#","peak_volume":"{}""#, summary.peak_volume) } else { String::new() };
        seen(&format!(r#"{{"key":"K","version":{version},"at":{at},{}{peak}}}"#, summary.fields), at)
    };
    let judged = |ticks_seen: &[Seen]| ticks("ticks", &expected, ticks_seen, 2_999).is_good();
    assert!(judged(&[tick(2_000, 1, 1)]));
    assert!(judged(&[tick(2_000, 1, 2), tick(3_000, 2, 2)]));
    assert!(!judged(&[]), "a second without its tick");
    assert!(!judged(&[tick(2_000, 1, 1), tick(2_000, 1, 1)]), "a tick twice");
    assert!(!judged(&[tick(2_000, 1, 1), tick(4_000, 2, 2)]), "a tick that nobody set");
    assert!(!judged(&[tick(2_000, 0, 2)]), "fields of v2 for a state that v1 changed again");
}
