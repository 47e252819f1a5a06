//! What becomes of a record that cannot be processed: the job's policy, and the dead letter's format.
//!
//! Owns the dead letters that wait for the writer. A dead letter is the failing operator's own input
//! with where it came from and why it failed; it always fits its topic: bytes are cut and marked,
//! coordinates and cause never. The format is described in `docs/formats/dead-letter.md`.

use serde::{Deserialize, Serialize};

use crate::log::header_bytes;
use crate::model::{BEFORE_ALL_TIME, Digest, EventTime, Headers, PartitionBatch};

use super::flow::Lineage;

/// Version of the dead letter's format, in its header `forebay.format`.
pub const FORMAT: &str = "1";

const MAX_MESSAGE_BYTES: usize = 1_024;
const MAX_KEY_BYTES: usize = 4_096;

/// What becomes of a record that cannot be processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadRecordPolicy {
    #[default]
    DeadLetter,
    /// Counted, not kept.
    Skip,
    /// The task stops at it.
    Fail,
}

/// A record (or a timer) that failed, where, and why.
pub struct BadRecord<'a> {
    /// Id of the failing operator; of the source where decoding failed.
    pub operator: &'a str,
    /// The operator's input by name; for a timer the timer's.
    pub input: &'a str,
    pub is_timer: bool,
    pub source: Option<&'a str>,
    pub topic: Option<&'a str>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: (&'a Headers, usize),
    /// `None` where it could not be found out.
    pub event_time: Option<EventTime>,
    pub lineage: Lineage,
    pub module: Option<Digest>,
    pub watermark: EventTime,
    /// Short and stable: a metric label and the dead letter's cause.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
}

/// Applies the policy and keeps the epoch's dead letters.
pub struct BadRecords {
    job: String,
    policy: BadRecordPolicy,
    max_record_bytes: usize,
    letters: PartitionBatch,
    /// Since the task started: dead-lettered and skipped.
    pub dead_lettered: u64,
    pub skipped: u64,
}

impl BadRecords {
    /// `partition` is where this task writes its dead letters.
    pub fn new(job: &str, policy: BadRecordPolicy, topic: &str, partition: i32, max_record_bytes: u32) -> Self {
        Self {
            job: job.to_owned(),
            policy,
            max_record_bytes: max_record_bytes as usize,
            letters: PartitionBatch::new(topic, partition),
            dead_lettered: 0,
            skipped: 0,
        }
    }

    /// # Errors
    /// Under [`BadRecordPolicy::Fail`]: the sentence that the task fails with.
    pub fn take(&mut self, bad: &BadRecord<'_>) -> Result<(), String> {
        match self.policy {
            BadRecordPolicy::Fail => {
                let (place, operator) = (place(bad), bad.operator);
                let (code, message) = (bad.code, bad.message);
                Err(format!(
                    "{operator} refused {place}: {code}: {message}; the job's policy for bad records is `fail`"
                ))
            }
            BadRecordPolicy::Skip => {
                self.skipped += 1;
                Ok(())
            }
            BadRecordPolicy::DeadLetter => {
                self.dead_lettered += 1;
                self.write(bad);
                Ok(())
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    pub fn letters(&self) -> &PartitionBatch {
        &self.letters
    }

    pub fn clear(&mut self) {
        self.letters.clear();
    }

    fn write(&mut self, bad: &BadRecord<'_>) {
        let mut headers = self.facts(bad);
        let of = |(name, value): &(&str, String)| header_bytes(name.as_bytes(), Some(value.as_bytes()));
        let mut used: usize = headers.iter().map(of).sum();
        let mut cut = Vec::new();
        let key = bad.key.map(|key| shorten(key, MAX_KEY_BYTES.min(self.max_record_bytes / 8), "key", &mut cut));
        used += key.map_or(0, <[u8]>::len) + 64;
        let kept_headers = self.original_headers(bad, &mut used, &mut cut);
        let room = self.max_record_bytes.saturating_sub(used);
        let value = bad.value.map(|value| shorten(value, room, "value", &mut cut));
        if !cut.is_empty() {
            headers.push(("forebay.cut", cut.join(",")));
        }
        let ours = headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        self.letters.push_with_headers(-1, -1, key, value, ours.chain(kept_headers));
    }

    /// Coordinates and cause: what is never cut.
    fn facts(&self, bad: &BadRecord<'_>) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("forebay.format", FORMAT.to_owned()),
            ("forebay.job", self.job.clone()),
            ("forebay.operator", bad.operator.to_owned()),
            (if bad.is_timer { "forebay.timer" } else { "forebay.input" }, bad.input.to_owned()),
            ("forebay.code", bad.code.to_owned()),
            ("forebay.message", shorten_text(bad.message).to_owned()),
            ("forebay.emission", bad.lineage.emission.to_string()),
        ];
        if let Some(source) = bad.source {
            facts.push(("forebay.source", source.to_owned()));
            facts.push(("forebay.topic", bad.topic.unwrap_or_default().to_owned()));
            facts.push(("forebay.partition", bad.lineage.partition.to_string()));
            facts.push(("forebay.offset", bad.lineage.offset.to_string()));
        }
        if let Some(time) = bad.event_time {
            facts.push(("forebay.event-time", time.to_string()));
        }
        if let Some(module) = bad.module {
            facts.push(("forebay.module", module.to_string()));
        }
        if bad.watermark != BEFORE_ALL_TIME {
            facts.push(("forebay.watermark", bad.watermark.to_string()));
        }
        facts
    }

    /// The record's own headers where they fit beside the rest, all or none.
    fn original_headers<'a>(
        &self,
        bad: &BadRecord<'a>,
        used: &mut usize,
        cut: &mut Vec<String>,
    ) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
        let headers: Vec<_> = bad.headers.0.of(bad.headers.1).collect();
        let bytes: usize = headers.iter().map(|(name, value)| header_bytes(name, *value)).sum();
        if bytes > 0 && *used + bytes > self.max_record_bytes / 2 {
            cut.push(format!("headers={}", headers.len()));
            return Vec::new();
        }
        *used += bytes;
        headers
    }
}

fn place(bad: &BadRecord<'_>) -> String {
    match bad.topic {
        Some(topic) => format!("{topic}/{}@{}", bad.lineage.partition, bad.lineage.offset),
        None => format!("timer {}", bad.input),
    }
}

/// Cuts `bytes` to `room` and marks it with the length it had.
fn shorten<'a>(bytes: &'a [u8], room: usize, what: &str, cut: &mut Vec<String>) -> &'a [u8] {
    if bytes.len() <= room {
        return bytes;
    }
    cut.push(format!("{what}={}", bytes.len()));
    &bytes[..room]
}

fn shorten_text(text: &str) -> &str {
    if text.len() <= MAX_MESSAGE_BYTES {
        return text;
    }
    let mut end = MAX_MESSAGE_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad<'a>(value: &'a [u8], message: &'a str, headers: &'a Headers) -> BadRecord<'a> {
        BadRecord {
            operator: "enrich",
            input: "orders",
            is_timer: false,
            source: Some("orders"),
            topic: Some("orders"),
            key: Some(b"k"),
            value: Some(value),
            headers: (headers, 0),
            event_time: Some(5),
            lineage: Lineage::source_record(0, 3, 4_711),
            module: None,
            watermark: 4,
            code: "trap",
            message,
        }
    }

    fn header(letters: &PartitionBatch, name: &str) -> Option<String> {
        let found = letters.headers.of(0).find(|(n, _)| *n == name.as_bytes());
        found.map(|(_, value)| String::from_utf8(value.unwrap().to_vec()).unwrap())
    }

    #[test]
    fn a_dead_letter_always_fits_and_says_what_was_cut() {
        let headers = Headers::default();
        let mut records = BadRecords::new("job", BadRecordPolicy::DeadLetter, "dlq", 0, 2_000);
        let message = "é".repeat(5_000);
        records.take(&bad(&[7; 100_000], &message, &headers)).unwrap();
        assert!(crate::log::record_bytes(records.letters(), 0) <= 2_000);
        assert_eq!(header(records.letters(), "forebay.offset").as_deref(), Some("4711"));
        assert_eq!(header(records.letters(), "forebay.cut").as_deref(), Some("value=100000"));
    }

    #[test]
    fn a_letter_that_fits_is_the_input_unchanged() {
        let mut headers = Headers::default();
        headers.push(b"trace", Some(b"abc"));
        headers.end_record(0);
        let mut records = BadRecords::new("job", BadRecordPolicy::DeadLetter, "dlq", 0, 1 << 20);
        records.take(&bad(b"payload", "why", &headers)).unwrap();
        assert_eq!(records.letters().values.get(0), Some(&b"payload"[..]));
        assert_eq!(header(records.letters(), "trace").as_deref(), Some("abc"));
        assert_eq!(header(records.letters(), "forebay.cut"), None);
    }

    #[test]
    fn the_policy_decides_between_keeping_counting_and_stopping() {
        let headers = Headers::default();
        let mut skip = BadRecords::new("job", BadRecordPolicy::Skip, "dlq", 0, 1_000);
        skip.take(&bad(b"", "why", &headers)).unwrap();
        assert_eq!((skip.skipped, skip.is_empty()), (1, true));
        let mut fail = BadRecords::new("job", BadRecordPolicy::Fail, "dlq", 0, 1_000);
        let error = fail.take(&bad(b"", "why", &headers)).unwrap_err();
        assert!(error.contains("orders/3@4711"), "{error}");
    }
}
