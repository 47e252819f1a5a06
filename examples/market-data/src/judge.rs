//! Compares what the jobs wrote with the plain computation: no output missing, none twice, none different.
//!
//! Owns no rule of its own but those of ticks, which the plain computation cannot foresee one by one. Reads what
//! any reader of committed records sees.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::api::Seen;
use crate::input::partitioned::Partitioned;
use crate::plain::Expected;
use crate::plain::liquidity::Summary;

/// Differences told in full; the rest is counted.
const TOLD: usize = 5;

/// What was compared, and how it differed.
#[derive(Debug, Default)]
pub struct Verdict {
    pub what: String,
    pub compared: usize,
    pub differences: usize,
    pub told: Vec<String>,
}

impl Verdict {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    fn differ(&mut self, tell: impl FnOnce() -> String) {
        self.differences += 1;
        if self.told.len() < TOLD {
            self.told.push(tell());
        }
    }

    pub fn is_good(&self) -> bool {
        self.differences == 0
    }
}

/// The topic holds what was sent, in place: what is judged next rests on it.
pub fn input(input: &Partitioned, seen: &[Seen]) -> Verdict {
    let mut verdict = Verdict::new(format!("input {}", input.topic));
    verdict.compared = seen.len();
    for record in seen {
        let sent = input.partitions.get(record.partition).and_then(|records| records.get(record.offset as usize));
        if sent.is_none_or(|sent| (&sent.key, &sent.value) != (&record.key, &record.value)) {
            verdict
                .differ(|| format!("{}/{} at {} is not what was sent", input.topic, record.partition, record.offset));
        }
    }
    if seen.len() != input.len() {
        verdict.differ(|| format!("{} records stand in {}, {} were sent", seen.len(), input.topic, input.len()));
    }
    verdict
}

/// Every accepted record led to exactly one output, in the order of its key, byte for byte.
pub fn outputs<T>(what: &str, expected: &Expected<T>, seen: &[Seen], of: impl Fn(&T) -> (&str, i64)) -> Verdict {
    let mut verdict = Verdict::new(what);
    let by_key = by_key(seen);
    for (key, expected) in &expected.outputs {
        let seen = by_key.get(key.as_str()).map_or(&[][..], Vec::as_slice);
        verdict.compared += seen.len();
        let wrong = (0..expected.len().max(seen.len()))
            .find(|at| expected.get(*at).map(&of) != seen.get(*at).map(|record| (text(record), record.timestamp_ms)));
        if let Some(at) = wrong {
            let expected_text = expected.get(at).map_or("nothing more", |output| of(output).0);
            let seen_text = seen.get(at).map_or("nothing more", |record| text(record));
            verdict.differ(|| {
                format!(
                    "key {key}, output {} of {} expected and {} seen:\n      expected {expected_text}\n      seen     {seen_text}",
                    at + 1,
                    expected.len(),
                    seen.len()
                )
            });
        }
    }
    for key in by_key.keys().filter(|key| !expected.outputs.contains_key(**key)) {
        verdict.differ(|| format!("key {key}: {} outputs, none expected", by_key[*key].len()));
    }
    verdict
}

/// Per key the `count` of the outputs runs 1, 2, 3, … without a gap: what a swap or a crash would break first.
pub fn counters(what: &str, seen: &[Seen]) -> Verdict {
    let mut verdict = Verdict::new(what);
    for (key, records) in by_key(seen) {
        verdict.compared += records.len();
        for (at, record) in records.iter().enumerate() {
            let count = field(text(record), "count");
            if count != Some(at as i64 + 1) {
                verdict.differ(|| format!("key {key}: count {count:?} where {} comes next", at + 1));
                break;
            }
        }
    }
    verdict
}

/// Every refused record is a dead letter, once, under its code and with its own bytes; nothing else is.
pub fn dead_letters(input: &Partitioned, refusals: &BTreeMap<(usize, i64), &'static str>, seen: &[Seen]) -> Verdict {
    let mut verdict = Verdict::new(format!("dead letters of {}", input.topic));
    let mut missing = refusals.clone();
    for letter in seen.iter().filter(|letter| header(letter, "forebay.topic") == Some(&input.topic)) {
        verdict.compared += 1;
        let place = header(letter, "forebay.partition")
            .and_then(|partition| partition.parse().ok())
            .zip(header(letter, "forebay.offset").and_then(|offset| offset.parse().ok()));
        let code = header(letter, "forebay.code").map_or("none", String::as_str);
        let Some((partition, offset)) = place else {
            verdict.differ(|| format!("dead letter {}/{} names no source", letter.partition, letter.offset));
            continue;
        };
        match missing.remove(&(partition, offset)) {
            Some(expected) if expected == code => {}
            Some(expected) => verdict.differ(|| format!("{partition}/{offset}: code {code}, expected {expected}")),
            None => verdict.differ(|| format!("{partition}/{offset}: {code}, refused twice or wrongly")),
        }
        let sent = input.partitions.get(partition).and_then(|records| records.get(offset as usize));
        let cut = header(letter, "forebay.cut").is_some();
        if !cut && sent.is_none_or(|sent| sent.value != letter.value) {
            verdict.differ(|| format!("{partition}/{offset}: the dead letter does not hold the record's bytes"));
        }
    }
    for ((partition, offset), code) in missing {
        verdict.differ(|| format!("{partition}/{offset}: no dead letter, expected {code}"));
    }
    verdict
}

/// What a tick claims: its fields must be those of the summary with its count, its time that of a second in which
/// the key had a record. Every such second that event time has passed has a tick, and no tick is there twice.
pub fn ticks(what: &str, expected: &Expected<Summary>, seen: &[Seen], passed_ms: i64) -> Verdict {
    let mut verdict = Verdict::new(what);
    let by_key = by_key(seen);
    let mut told_before = HashSet::new();
    for (key, summaries) in &expected.outputs {
        let mut missing: HashSet<i64> =
            summaries.iter().map(|summary| next_second(summary.event_time_ms)).filter(|at| *at <= passed_ms).collect();
        for record in by_key.get(key.as_str()).map_or(&[][..], Vec::as_slice) {
            verdict.compared += 1;
            let tick = text(record);
            let (at, count) = (field(tick, "at").unwrap_or_default(), field(tick, "count").unwrap_or_default());
            missing.remove(&at);
            if let Err(why) = tick_is_right(key, tick, at, count, summaries) {
                verdict.differ(|| format!("key {key}: {why}\n      seen {tick}"));
            }
            if record.timestamp_ms != at {
                verdict.differ(|| format!("key {key}: the tick at {at} carries the time {}", record.timestamp_ms));
            }
            if !told_before.insert((key, at, count)) {
                verdict.differ(|| format!("key {key}: the tick at {at} with count {count} is there twice"));
            }
        }
        if let Some(at) = missing.iter().min() {
            verdict.differ(|| format!("key {key}: no tick at {at}, nor at {} other times", missing.len() - 1));
        }
    }
    for key in by_key.keys().filter(|key| !expected.outputs.contains_key(**key)) {
        verdict.differ(|| format!("key {key}: ticks, and no record that could have set them"));
    }
    verdict
}

fn tick_is_right(key: &str, tick: &str, at: i64, count: i64, summaries: &[Summary]) -> Result<(), String> {
    let before = usize::try_from(count).ok().and_then(|count| summaries.get(..count)).unwrap_or_default();
    let Some(summary) = before.last() else { return Err(format!("a tick with count {count} of {}", summaries.len())) };
    if !before.iter().any(|summary| next_second(summary.event_time_ms) == at) {
        return Err(format!("no record up to count {count} could have set a timer at {at}"));
    }
    let told = |version: u8| {
        let peak = if version == 2 { format!(r#","peak_volume":"{}""#, summary.peak_volume) } else { String::new() };
        format!(r#"{{"key":{},"version":{version},"at":{at},{}{peak}}}"#, Value::from(key), summary.fields)
    };
    // Between a key's last record under v1 and its first under v2 both may tell the second.
    let last_of_v1 = summary.version == 1 && summaries.get(before.len()).is_none_or(|next| next.version == 2);
    if tick == told(summary.version) || (last_of_v1 && tick == told(2)) {
        return Ok(());
    }
    Err(format!("expected {}", told(summary.version)))
}

fn next_second(event_time_ms: i64) -> i64 {
    (event_time_ms.div_euclid(1_000) + 1) * 1_000
}

fn by_key(seen: &[Seen]) -> HashMap<&str, Vec<&Seen>> {
    let mut by_key: HashMap<&str, Vec<&Seen>> = HashMap::new();
    for record in seen {
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or("(no key)");
        by_key.entry(key).or_default().push(record);
    }
    by_key
}

fn text(record: &Seen) -> &str {
    record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("(no text)")
}

fn field(json: &str, name: &str) -> Option<i64> {
    serde_json::from_str::<Value>(json).ok()?.get(name)?.as_i64()
}

fn header<'a>(record: &'a Seen, name: &str) -> Option<&'a String> {
    record.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
