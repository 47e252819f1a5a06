//! The dead letter: how a record that could not be processed stands in its topic. Described in
//! `docs/formats/dead-letter.md`, written and read here and nowhere else in the runtime.
//!
//! A dead letter is the failing operator's own input with where it came from and why it failed. It always fits its topic,
//! whatever became of that: bytes are cut and marked, and a key is made where the topic needs one; for a letter that the
//! topic refuses would stop its job.
//!
//! Read [`Encoder::encode`] first, then [`decode`], which takes any record: the topic is the user's.

use crate::log::{TopicRules, header_bytes};
use crate::model::{BEFORE_ALL_TIME, Digest, EventTime, Headers, PartitionBatch, PartitionId, Uid};
use crate::operator::flow::Lineage;

/// Version of the dead letter's format, in its header `forebay.format`.
pub const FORMAT: &str = "1";

/// A topic that takes records of this size takes every letter with its whole cause; a plan asks for that.
pub const LETTER_BYTES_MIN: u32 = 8_192;

/// The names of the headers that say where a letter comes from and why it failed: its facts.
mod fact {
    pub const FORMAT: &str = "forebay.format";
    pub const JOB: &str = "forebay.job";
    pub const JOB_UID: &str = "forebay.job-uid";
    pub const OPERATOR: &str = "forebay.operator";
    pub const INPUT: &str = "forebay.input";
    pub const TIMER: &str = "forebay.timer";
    pub const CODE: &str = "forebay.code";
    pub const MESSAGE: &str = "forebay.message";
    pub const EMISSION: &str = "forebay.emission";
    pub const SOURCE: &str = "forebay.source";
    pub const TOPIC: &str = "forebay.topic";
    pub const PARTITION: &str = "forebay.partition";
    pub const OFFSET: &str = "forebay.offset";
    pub const EVENT_TIME: &str = "forebay.event-time";
    pub const MODULE: &str = "forebay.module";
    pub const WATERMARK: &str = "forebay.watermark";
    pub const CUT: &str = "forebay.cut";

    /// As they stand in a letter, the most important first; one of input and timer. A letter's own headers end where
    /// this order does: behind them stand those of the record, which may have been a dead letter itself.
    pub const ORDER: [&str; 17] = [
        FORMAT, JOB, JOB_UID, OPERATOR, INPUT, TIMER, CODE, MESSAGE, EMISSION, SOURCE, TOPIC, PARTITION, OFFSET,
        EVENT_TIME, MODULE, WATERMARK, CUT,
    ];
}

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
        if !cut.is_empty() && header_bytes(fact::CUT.as_bytes(), Some(cut.as_bytes())) <= self.max_record_bytes / 8 {
            headers.push((fact::CUT, cut));
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
        if let Some((_, message)) = facts.iter_mut().find(|(name, _)| *name == fact::MESSAGE) {
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
            (fact::FORMAT, FORMAT.to_owned()),
            (fact::JOB, self.job.clone()),
            (fact::JOB_UID, self.uid.to_string()),
            (fact::OPERATOR, bad.operator.to_owned()),
            (if bad.is_timer { fact::TIMER } else { fact::INPUT }, bad.input.to_owned()),
            (fact::CODE, bad.code.to_owned()),
            (fact::MESSAGE, shorten_text(bad.message).to_owned()),
            (fact::EMISSION, bad.lineage.emission.to_string()),
        ];
        if let Some(source) = bad.source {
            facts.push((fact::SOURCE, source.to_owned()));
            facts.push((fact::TOPIC, bad.topic.unwrap_or_default().to_owned()));
            facts.push((fact::PARTITION, bad.lineage.partition.to_string()));
            facts.push((fact::OFFSET, bad.lineage.offset.to_string()));
        }
        if let Some(time) = bad.event_time {
            facts.push((fact::EVENT_TIME, time.to_string()));
        }
        if let Some(module) = bad.module {
            facts.push((fact::MODULE, module.to_string()));
        }
        if bad.watermark != BEFORE_ALL_TIME {
            facts.push((fact::WATERMARK, bad.watermark.to_string()));
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

/// A dead letter as it was read. A field per header; none where the header is missing (a small topic took less, or it
/// does not apply) or is not what is written there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter<'a> {
    pub job: Option<&'a str>,
    pub job_uid: Option<Uid>,
    pub operator: Option<&'a str>,
    pub input: Option<&'a str>,
    pub timer: Option<&'a str>,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
    pub emission: Option<u64>,
    pub source: Option<&'a str>,
    pub topic: Option<&'a str>,
    pub partition: Option<PartitionId>,
    pub offset: Option<i64>,
    pub event_time: Option<EventTime>,
    pub module: Option<Digest>,
    pub watermark: Option<EventTime>,
    pub cut: Option<&'a str>,
}

/// Reads what [`Encoder::encode`] writes; its key and value are those of the record. None where it is no dead letter, or
/// one of another version.
pub fn decode(records: &PartitionBatch, i: usize) -> Option<Letter<'_>> {
    let mut facts = own_headers(records, i);
    if facts.next() != Some((fact::FORMAT, Some(FORMAT))) {
        return None;
    }
    let mut letter = Letter::default();
    for (name, value) in facts {
        let Some(text) = value else { continue };
        match name {
            fact::JOB => letter.job = Some(text),
            fact::JOB_UID => letter.job_uid = Uid::parse(text),
            fact::OPERATOR => letter.operator = Some(text),
            fact::INPUT => letter.input = Some(text),
            fact::TIMER => letter.timer = Some(text),
            fact::CODE => letter.code = Some(text),
            fact::MESSAGE => letter.message = Some(text),
            fact::EMISSION => letter.emission = text.parse().ok(),
            fact::SOURCE => letter.source = Some(text),
            fact::TOPIC => letter.topic = Some(text),
            fact::PARTITION => letter.partition = text.parse().ok(),
            fact::OFFSET => letter.offset = text.parse().ok(),
            fact::EVENT_TIME => letter.event_time = text.parse().ok(),
            fact::MODULE => letter.module = Digest::parse(text),
            fact::WATERMARK => letter.watermark = text.parse().ok(),
            fact::CUT => letter.cut = Some(text),
            _ => {}
        }
    }
    Some(letter)
}

/// The headers that are the letter's own, as far as they are text.
fn own_headers(records: &PartitionBatch, i: usize) -> impl Iterator<Item = (&'static str, Option<&str>)> {
    let mut left = fact::ORDER.iter();
    records.headers.of(i).map_while(move |(name, value)| {
        let name = left.find(|fact| fact.as_bytes() == name)?;
        Some((*name, value.and_then(|value| std::str::from_utf8(value).ok())))
    })
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
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::TimestampBounds;

    pub fn bad<'a>(value: &'a [u8], message: &'a str, headers: &'a Headers) -> BadRecord<'a> {
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

    /// A letter with every header that a record's may have, and those of the record behind them.
    fn whole(headers: &Headers) -> BadRecord<'_> {
        BadRecord { module: Some(Digest([255; 32])), ..bad(b"payload", "it trapped", headers) }
    }

    fn trace() -> Headers {
        let mut headers = Headers::default();
        headers.push(b"trace", Some(b"abc"));
        headers.push(b"empty", None);
        headers.end_record(0);
        headers
    }

    #[test]
    fn a_letter_is_read_as_it_was_written() {
        let headers = trace();
        let letters = encoded(&encoder(1 << 20, false), &whole(&headers));
        let expected = Letter {
            job: Some("job"),
            job_uid: Some(Uid([7; 16])),
            operator: Some("enrich"),
            input: Some("orders"),
            code: Some("trap"),
            message: Some("it trapped"),
            emission: Some(0),
            source: Some("orders"),
            topic: Some("orders"),
            partition: Some(3),
            offset: Some(4_711),
            event_time: Some(5),
            module: Some(Digest([255; 32])),
            watermark: Some(4),
            ..Letter::default()
        };
        assert_eq!(decode(&letters, 0), Some(expected));
    }

    #[test]
    fn a_letter_of_a_letter_says_why_it_failed_itself() {
        let headers = trace();
        let inner = encoded(&encoder(1 << 20, false), &whole(&headers));
        let undecodable = BadRecord {
            operator: "letters",
            topic: Some("job.dead-letters"),
            headers: (&inner.headers, 0),
            event_time: None,
            watermark: BEFORE_ALL_TIME,
            code: "malformed-json",
            ..bad(b"payload", "it is no JSON", &headers)
        };
        let letters = encoded(&encoder(1 << 20, false), &undecodable);
        assert!(header(&letters, "forebay.module").is_some(), "of the letter in it");
        let outer = decode(&letters, 0).unwrap();
        assert_eq!((outer.operator, outer.code), (Some("letters"), Some("malformed-json")));
        assert_eq!((outer.module, outer.event_time, outer.watermark), (None, None, None));
    }

    #[test]
    fn a_record_that_is_no_letter_of_this_version_is_not_read_as_one() {
        let headers = |names: &[(&str, &str)]| {
            let mut batch = PartitionBatch::new("dlq", 0);
            let headers = names.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
            batch.push_with_headers(0, 0, None, None, headers);
            decode(&batch, 0).map(|letter| letter.code.map(str::to_owned))
        };
        assert_eq!(headers(&[]), None);
        assert_eq!(headers(&[("forebay.code", "trap"), ("forebay.format", "1")]), None);
        assert_eq!(headers(&[("forebay.format", "2"), ("forebay.code", "trap")]), None);
        assert_eq!(headers(&[("forebay.format", "1"), ("forebay.code", "trap")]), Some(Some("trap".to_owned())));
        assert_eq!(headers(&[("forebay.format", "1"), ("x", ""), ("forebay.code", "trap")]), Some(None));
    }

    /// As lines: key, value, headers in their order.
    fn shown(letters: &PartitionBatch) -> String {
        let text = |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), |bytes| bytes.escape_ascii().to_string());
        let fields = [("key", letters.keys.get(0)), ("value", letters.values.get(0))];
        let headers = letters.headers.of(0).map(|(name, value)| (std::str::from_utf8(name).unwrap(), value));
        fields.into_iter().chain(headers).map(|(name, value)| format!("{name}: {}\n", text(value))).collect()
    }

    #[test]
    fn letters_are_written_as_the_golden_file_has_them() {
        let headers = trace();
        let none = Headers::default();
        let timer = BadRecord {
            input: "later",
            is_timer: true,
            source: None,
            topic: None,
            value: None,
            event_time: None,
            lineage: Lineage::timer(9).emitted(2),
            watermark: BEFORE_ALL_TIME,
            ..bad(b"", "too late", &none)
        };
        let (long, message) = ([b'x'; 3_000], "m".repeat(3_000));
        let cut = BadRecord { key: None, ..bad(&long, &message, &headers) };
        let letters = [
            encoded(&encoder(1 << 20, false), &whole(&headers)),
            encoded(&encoder(1 << 20, false), &timer),
            encoded(&encoder(1_500, true), &cut),
        ];
        let golden: Vec<String> = letters.iter().map(shown).collect();
        crate::golden::check("operator/dead_letter/golden/letter-v1.txt", golden.join("\n").as_bytes());
    }

    proptest! {
        /// Whatever the topic takes: what is left of a letter is true, and what is not there was cut.
        #[test]
        fn any_letter_fits_and_is_read_as_it_was_written(
            texts in proptest::array::uniform6(".{0,80}"),
            (key, value) in (any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>()),
            numbers in any::<(i32, i64, u64)>(),
            times in any::<(Option<i64>, i64)>(),
            module in any::<Option<[u8; 32]>>(),
            own in proptest::collection::vec(("(forebay\\.(code|module|cut|format)|.{0,9})", any::<Option<Vec<u8>>>()), 0..4),
            limit in prop_oneof![0..3_000_u32, Just(1 << 20)],
            needs_key in any::<bool>(),
        ) {
            let [operator, input, source, topic, code, message] = &texts;
            let mut headers = Headers::default();
            own.iter().for_each(|(name, value)| headers.push(name.as_bytes(), value.as_deref()));
            headers.end_record(0);
            let (partition, offset, emission) = numbers;
            let bad = BadRecord {
                operator, input, is_timer: false, source: Some(source), topic: Some(topic), key: key.as_deref(),
                value: value.as_deref(), headers: (&headers, 0), event_time: times.0,
                lineage: Lineage { emission, ..Lineage::source_record(0, partition, offset) },
                module: module.map(Digest), watermark: times.1, code, message,
            };
            let letters = encoded(&encoder(limit, needs_key), &bad);
            prop_assert!(crate::log::record_bytes(&letters, 0) <= limit as usize);
            let Some(letter) = decode(&letters, 0) else {
                prop_assert!(limit < 200);
                return Ok(());
            };
            let is_whole = limit == 1 << 20;
            prop_assert!(is_whole.then_some(code.as_str()).is_none_or(|code| letter.code == Some(code)));
            prop_assert!(letter.code.is_none_or(|found| found == code));
            prop_assert!(letter.message.is_none_or(|found| message.starts_with(found)));
            prop_assert!(letter.offset.is_none_or(|found| found == offset));
            prop_assert!(!is_whole || (letter.partition, letter.emission) == (Some(partition), Some(emission)));
            // A topic that takes less has no room to say what was cut.
            prop_assert!(limit < 8 * CUT_BYTES as u32 || letter.cut.is_some() || letters.values.get(0) == value.as_deref());
        }

        #[test]
        fn any_headers_are_read_without_a_panic(
            headers in proptest::collection::vec((0..fact::ORDER.len(), any::<Option<Vec<u8>>>()), 0..12),
        ) {
            let mut batch = PartitionBatch::new("dlq", 0);
            let headers = headers.iter().map(|(name, value)| (fact::ORDER[*name].as_bytes(), value.as_deref()));
            let format = (fact::FORMAT.as_bytes(), Some(FORMAT.as_bytes()));
            batch.push_with_headers(0, 0, None, None, std::iter::once(format).chain(headers));
            prop_assert!(decode(&batch, 0).is_some());
        }
    }
}
