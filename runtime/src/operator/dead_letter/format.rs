//! The dead letter: how a record that could not be processed stands in its topic. Described in
//! `docs/formats/dead-letter.md`.
//!
//! A dead letter is the failing operator's own input with where it came from and why it failed. It always fits its topic,
//! whatever became of that: bytes are cut and marked, and a key is made where the topic needs one; for a letter that the
//! topic refuses would stop its job.

use crate::log::{TopicRules, header_bytes};
use crate::model::{BEFORE_ALL_TIME, Digest, EventTime, Headers, PartitionBatch, Uid};
use crate::operator::flow::Lineage;

/// Version of the dead letter's format, in its header `forebay.format`.
pub const FORMAT: &str = "1";

/// A topic that takes records of this size takes every letter with its whole cause; a plan asks for that.
pub const LETTER_BYTES_MIN: u32 = 8_192;

const MAX_MESSAGE_BYTES: usize = 1_024;
const MAX_KEY_BYTES: usize = 4_096;

/// A record (or a timer) that failed, where, and why.
pub struct BadRecord<'a> {
    /// Id of the failing operator; of the source where decoding failed.
    pub operator: &'a str,
    /// The operator's input by name; for a timer the timer's.
    pub input: &'a str,
    pub is_timer: bool,
    pub source: Option<&'a str>,
    pub topic: Option<&'a str>,
    /// The record's own key; for a timer the timer's.
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

impl BadRecord<'_> {
    /// Where it stands, for people.
    pub fn place(&self) -> String {
        match self.topic {
            Some(topic) => format!("{topic}/{}@{}", self.lineage.partition, self.lineage.offset),
            None => format!("timer {}", self.input),
        }
    }
}

/// Makes the dead letters of one job for its topic.
pub struct Encoder {
    job: String,
    /// A job made again under its name writes to the same topic, and its letters are its own.
    uid: Uid,
    max_record_bytes: usize,
    needs_key: bool,
}

impl Encoder {
    pub fn new((job, uid): (&str, Uid), rules: TopicRules) -> Self {
        let max_record_bytes = rules.max_record_bytes as usize;
        Self { job: job.to_owned(), uid, max_record_bytes, needs_key: rules.needs_key }
    }

    /// Appends the letter of a bad record.
    pub fn encode(&self, bad: &BadRecord<'_>, letters: &mut PartitionBatch) {
        let mut cut = Vec::new();
        let mut headers = self.facts(bad);
        self.fit_facts(&mut headers, &mut cut);
        let mut used: usize = headers.iter().map(fact_bytes).sum::<usize>() + CUT_BYTES;
        let made_key;
        let key = match bad.key {
            None if self.needs_key => {
                cut.push("key=null".to_owned());
                made_key = bad.place();
                Some(made_key.as_bytes())
            }
            key => key,
        };
        let room = MAX_KEY_BYTES.min(self.max_record_bytes / 8);
        let key = key.map(|key| shorten(key, room, "key", &mut cut));
        used += key.map_or(0, <[u8]>::len);
        let kept_headers = self.original_headers(bad, &mut used, &mut cut);
        let room = self.max_record_bytes.saturating_sub(used);
        let value = bad.value.map(|value| shorten(value, room, "value", &mut cut));
        let cut = cut.join(",");
        if !cut.is_empty() && header_bytes(b"forebay.cut", Some(cut.as_bytes())) <= self.max_record_bytes / 8 {
            headers.push(("forebay.cut", cut));
        }
        let ours = headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        letters.push_with_headers(-1, -1, key, value, ours.chain(kept_headers));
    }

    /// Brings the facts into three quarters of what the topic takes: an eighth each is for the key and for what was cut.
    /// A plan sees to it that this never has to be; the topic may have got another limit since. The message goes first,
    /// then what stands last.
    fn fit_facts(&self, facts: &mut Vec<(&'static str, String)>, cut: &mut Vec<String>) {
        let room = self.max_record_bytes / 4 * 3;
        let all = |facts: &[(&str, String)]| facts.iter().map(fact_bytes).sum::<usize>();
        let excess = all(facts).saturating_sub(room);
        if excess == 0 {
            return;
        }
        if let Some((_, message)) = facts.iter_mut().find(|(name, _)| *name == "forebay.message") {
            cut.push(format!("message={}", message.len()));
            let kept = message.floor_char_boundary(message.len().saturating_sub(excess));
            message.truncate(kept);
        }
        let before = facts.len();
        while all(facts) > room && facts.pop().is_some() {}
        if facts.len() < before {
            cut.push(format!("facts={}", before - facts.len()));
        }
    }

    /// Coordinates and cause, the most important first.
    fn facts(&self, bad: &BadRecord<'_>) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("forebay.format", FORMAT.to_owned()),
            ("forebay.job", self.job.clone()),
            ("forebay.job-uid", self.uid.to_string()),
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

/// Room for the header that says what was cut: its name, and at most five lengths.
const CUT_BYTES: usize = 160;

fn fact_bytes((name, value): &(&str, String)) -> usize {
    header_bytes(name.as_bytes(), Some(value.as_bytes()))
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
    use crate::log::TimestampBounds;

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

    fn rules(max_record_bytes: u32, needs_key: bool) -> TopicRules {
        TopicRules { max_record_bytes, needs_key, timestamps: TimestampBounds::default() }
    }

    fn encoder(max_record_bytes: u32, needs_key: bool) -> Encoder {
        Encoder::new(("job", Uid([7; 16])), rules(max_record_bytes, needs_key))
    }

    fn encoded(encoder: &Encoder, bad: &BadRecord<'_>) -> PartitionBatch {
        let mut letters = PartitionBatch::new("dlq", 0);
        encoder.encode(bad, &mut letters);
        letters
    }

    fn header(letters: &PartitionBatch, name: &str) -> Option<String> {
        let found = letters.headers.of(0).find(|(n, _)| *n == name.as_bytes());
        found.map(|(_, value)| String::from_utf8(value.unwrap().to_vec()).unwrap())
    }

    #[test]
    fn a_dead_letter_always_fits_and_says_what_was_cut() {
        let headers = Headers::default();
        let message = "é".repeat(5_000);
        let letters = encoded(&encoder(2_000, false), &bad(&[7; 100_000], &message, &headers));
        assert!(crate::log::record_bytes(&letters, 0) <= 2_000);
        assert_eq!(header(&letters, "forebay.offset").as_deref(), Some("4711"));
        assert_eq!(header(&letters, "forebay.cut").as_deref(), Some("value=100000"));
    }

    #[test]
    fn a_letter_that_fits_is_the_input_unchanged() {
        let mut headers = Headers::default();
        headers.push(b"trace", Some(b"abc"));
        headers.end_record(0);
        let letters = encoded(&encoder(1 << 20, false), &bad(b"payload", "why", &headers));
        assert_eq!(letters.values.get(0), Some(&b"payload"[..]));
        assert_eq!(header(&letters, "trace").as_deref(), Some("abc"));
        assert_eq!(header(&letters, "forebay.cut"), None);
    }

    #[test]
    fn a_letter_fits_whatever_limit_its_topic_was_given_since() {
        let mut headers = Headers::default();
        headers.push(b"trace", Some(&[7; 500]));
        headers.end_record(0);
        let message = "é".repeat(5_000);
        for limit in [0, 1, 10, 60, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000] {
            for needs_key in [false, true] {
                let long_key = BadRecord { key: Some(&[7; 3_000]), ..bad(&[7; 3_000], &message, &headers) };
                let no_key = BadRecord { key: None, ..bad(&[7; 3_000], &message, &headers) };
                for bad in [long_key, no_key] {
                    let letters = encoded(&encoder(limit, needs_key), &bad);
                    let bytes = crate::log::record_bytes(&letters, 0);
                    assert!(bytes <= limit as usize, "{bytes} of {limit}, needs a key: {needs_key}");
                    assert!(!needs_key || letters.keys.get(0).is_some());
                }
            }
        }
    }

    #[test]
    fn a_letter_with_everything_keeps_its_whole_cause_where_a_plan_lets_it_in() {
        let headers = Headers::default();
        let (long, longest) = ("x".repeat(64), "x".repeat(249));
        let message = "é".repeat(5_000);
        let bad = BadRecord {
            operator: &long,
            input: &long,
            source: Some(&long),
            topic: Some(&longest),
            module: Some(Digest([255; 32])),
            event_time: Some(EventTime::MIN + 1),
            watermark: EventTime::MIN + 1,
            lineage: Lineage { emission: u64::MAX, ..Lineage::source_record(0, i32::MAX, i64::MAX) },
            code: &long,
            ..bad(&[7; 100_000], &message, &headers)
        };
        let encoder = Encoder::new((&long, Uid([7; 16])), rules(LETTER_BYTES_MIN, true));
        let letters = encoded(&encoder, &bad);
        assert_eq!(header(&letters, "forebay.message").unwrap().len(), 1_024);
        assert_eq!(header(&letters, "forebay.cut").as_deref(), Some("value=100000"));
    }

    #[test]
    fn a_letter_without_a_key_is_named_by_its_place_where_the_topic_needs_keys() {
        let headers = Headers::default();
        let letters = encoded(&encoder(1 << 20, true), &BadRecord { key: None, ..bad(b"v", "why", &headers) });
        assert_eq!(letters.keys.get(0), Some(&b"orders/3@4711"[..]));
        assert_eq!(header(&letters, "forebay.cut").as_deref(), Some("key=null"));
    }
}
