//! The job spec: what a user writes (YAML, `docs/job-spec.md`).
//!
//! Owns the shape and its defaults. Knows nothing of topics or modules: whether what is named exists
//! is `plan`'s question. Unknown fields are refused with the place and the nearest known name.
//! Read [`JobSpec`] first; every field says what it trades.

mod parameters;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};

use super::scalar;
use crate::codec::{Decode, MAX_AHEAD, Partitioner, TimeUnit};
use crate::model::names;
use crate::task::plan::{BadRecordPolicies, BadRecordPolicy, Parameter, Secret, SinkTimestamp};

/// A spec is written by hand: one larger than this is something else.
const MAX_SPEC_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    pub name: String,
    /// Tasks. Must divide the partition count of every keyed source; not given: the greatest such
    /// number up to 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    pub sources: Vec<SourceSpec>,
    #[serde(default)]
    pub operators: Vec<OperatorSpec>,
    pub sinks: Vec<SinkSpec>,
    #[serde(default)]
    pub bad_records: BadRecordsSpec,
    #[serde(default)]
    pub commit: CommitSpec,
    /// Under which consumer group lag tools see the job's positions; nothing is read from it. Not given:
    /// `forebay.<job>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_group: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Stable: positions are kept under it.
    pub id: String,
    pub topic: String,
    #[serde(default)]
    pub decode: DecodeSpec,
    #[serde(default)]
    pub key: KeySpec,
    #[serde(default)]
    pub partitioner: PartitionerSpec,
    #[serde(default)]
    pub event_time: EventTimeSpec,
    #[serde(default)]
    pub watermark: WatermarkSpec,
    #[serde(default)]
    pub start: StartSpec,
    /// A larger value is a bad record.
    #[serde(default = "max_value_bytes")]
    pub max_value_bytes: u32,
}

fn max_value_bytes() -> u32 {
    1 << 20
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecodeSpec {
    /// The whole value must be well-formed JSON; key and event time may be fields of it.
    #[default]
    Json,
    /// Anything.
    Bytes,
}

impl From<DecodeSpec> for Decode {
    fn from(spec: DecodeSpec) -> Self {
        match spec {
            DecodeSpec::Json => Self::Json,
            DecodeSpec::Bytes => Self::Bytes,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeySpec {
    /// The record's own key.
    #[default]
    RecordKey,
    /// A field of the JSON value, as a dotted path. The topic must be partitioned by it.
    Field(String),
    /// No key: then no keyed operator can be fed by this source.
    None,
}

/// How the producers of a topic choose the partition of a key. It is checked for every record where several tasks keep
/// state by key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionerSpec {
    /// Kafka's own, and librdkafka's `murmur2` and `murmur2_random`.
    #[default]
    Murmur2,
    /// librdkafka's own: `consistent`, and its default `consistent_random`.
    Crc32,
    /// Any. Then one task has to read the whole topic where state is kept by key.
    None,
}

impl From<PartitionerSpec> for Partitioner {
    fn from(spec: PartitionerSpec) -> Self {
        match spec {
            PartitionerSpec::Murmur2 => Self::Murmur2,
            PartitionerSpec::Crc32 => Self::Crc32,
            PartitionerSpec::None => Self::None,
        }
    }
}

/// `record-timestamp`, or a map that names the field, or only how far ahead a record's timestamp may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTimeSpec {
    /// The record's Kafka timestamp.
    RecordTimestamp {
        /// Further ahead of the time at which it is read than this is a bad record: it would carry the watermark with
        /// it, and one clock that runs ahead would make every other record late.
        max_ahead: Duration,
    },
    Field(EventTimeField),
}

impl Default for EventTimeSpec {
    fn default() -> Self {
        Self::RecordTimestamp { max_ahead: MAX_AHEAD }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTimeField {
    /// A field of the JSON value, as a dotted path; `[0]` is an item of an array.
    pub field: String,
    pub unit: UnitSpec,
    /// What text without an offset means. Not given: such a record is a bad one.
    pub assume: Option<AssumeSpec>,
    /// Further ahead of the record's own timestamp, or of the time at which it is read, is a bad record: it would carry
    /// the watermark with it.
    pub max_ahead: Duration,
    /// Further behind the record's own timestamp than this is a bad record. Not given: any age is welcome.
    pub max_behind: Option<Duration>,
}

/// Where a time was written that does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssumeSpec {
    #[serde(rename = "UTC")]
    Utc,
}

/// What a number in the field counts; text in RFC 3339 is taken under every unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitSpec {
    S,
    Ms,
    Us,
    Ns,
    Rfc3339,
}

impl From<UnitSpec> for TimeUnit {
    fn from(spec: UnitSpec) -> Self {
        match spec {
            UnitSpec::S => Self::S,
            UnitSpec::Ms => Self::Ms,
            UnitSpec::Us => Self::Us,
            UnitSpec::Ns => Self::Ns,
            UnitSpec::Rfc3339 => Self::Rfc3339,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatermarkSpec {
    /// How far behind the newest event time a record may be and still be in time.
    #[serde(with = "scalar::duration", default)]
    pub out_of_orderness: Duration,
    /// A partition that is silent for this long stops holding back event time. Not given: never.
    #[serde(default, with = "scalar::optional_duration", skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<Duration>,
}

impl Default for WatermarkSpec {
    fn default() -> Self {
        Self { out_of_orderness: Duration::ZERO, idle_after: None }
    }
}

/// Where a job that has no position yet starts. Resolved to offsets once, when the job is created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartSpec {
    #[default]
    Earliest,
    Latest,
    /// The first record at or after this time (RFC 3339).
    Timestamp(String),
    /// Where this consumer group has come to: what it has committed for every partition.
    Group(String),
    /// An offset for every partition.
    Offsets(BTreeMap<i32, i64>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSpec {
    /// Stable: state is kept under it.
    pub id: String,
    /// `name@version`, or a digest.
    pub module: String,
    /// Declared input of the module → a source's id, or `operator.output`.
    pub inputs: BTreeMap<String, String>,
    /// As they are written: what looks like a number or a boolean reaches the module as the same text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Parameters that nobody may see, by where they stand.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
}

impl OperatorSpec {
    /// Everything that its module is given, by name.
    pub fn given(&self) -> BTreeMap<String, Parameter> {
        let text = self.parameters.iter().map(|(name, text)| (name.clone(), Parameter::Text(text.clone())));
        let secrets = self.secrets.iter().map(|(name, secret)| (name.clone(), Parameter::Secret(secret.clone())));
        text.chain(secrets).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSpec {
    pub id: String,
    /// Another cluster that has the topic, by the name that the server was started with. Not given: home, the only one
    /// where output is exactly-once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    pub topic: String,
    /// A source's id, or `operator.output`.
    pub from: String,
    #[serde(default)]
    pub timestamp: TimestampSpec,
    /// On another cluster: also a compacted topic is written to, where an older value may come to stand over a newer one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_duplicates: bool,
}

/// The Kafka timestamp of records in a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampSpec {
    /// Event time, cut to milliseconds: what downstream readers of time expect.
    #[default]
    EventTime,
    /// Time of appending: for event times that the topic's retention would delete.
    Now,
}

impl From<TimestampSpec> for SinkTimestamp {
    fn from(spec: TimestampSpec) -> Self {
        match spec {
            TimestampSpec::EventTime => Self::EventTime,
            TimestampSpec::Now => Self::Now,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadRecordsSpec {
    #[serde(default = "dead_letter")]
    pub policy: BadRecordPolicy,
    /// Another policy for some causes: `{missing-time: skip}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_code: BTreeMap<String, BadRecordPolicy>,
    /// Not given: `<job>.dead-letters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

fn dead_letter() -> BadRecordPolicy {
    BadRecordPolicy::DeadLetter
}

impl Default for BadRecordsSpec {
    fn default() -> Self {
        Self { policy: dead_letter(), by_code: BTreeMap::new(), topic: None }
    }
}

impl BadRecordsSpec {
    pub fn policies(&self) -> BadRecordPolicies {
        BadRecordPolicies { otherwise: self.policy, by_code: self.by_code.clone() }
    }

    /// Some record may become a dead letter.
    pub fn keeps_letters(&self) -> bool {
        self.policy == BadRecordPolicy::DeadLetter || self.by_code.values().any(|p| *p == BadRecordPolicy::DeadLetter)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSpec {
    /// How long an epoch stays open: shorter is fresher, longer is cheaper.
    #[serde(with = "scalar::duration", default = "commit_interval")]
    pub interval: Duration,
}

fn commit_interval() -> Duration {
    Duration::from_millis(100)
}

impl Default for CommitSpec {
    fn default() -> Self {
        Self { interval: commit_interval() }
    }
}

impl JobSpec {
    /// Reads YAML.
    ///
    /// # Errors
    /// The first thing that is wrong: line, column, what was found and what is known instead.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        if yaml.len() > MAX_SPEC_BYTES {
            return Err(Error::TooLarge { bytes: yaml.len() });
        }
        serde_saphyr::from_str(yaml).map_err(|error| Error::from_yaml(&error, yaml))
    }

    /// As YAML, defaults written out.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    pub fn dead_letter_topic(&self) -> String {
        self.bad_records.topic.clone().unwrap_or_else(|| names::dead_letter_topic(&self.name))
    }

    pub fn consumer_group(&self) -> String {
        self.consumer_group.clone().unwrap_or_else(|| names::consumer_group(&self.name))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("job spec: {bytes} bytes; a spec has at most {MAX_SPEC_BYTES}")]
    TooLarge { bytes: usize },
    #[error("job spec, line {line}, column {column}: {message}")]
    At { line: u64, column: u64, message: String },
    #[error("job spec: {0}")]
    Whole(String),
}

impl Error {
    fn from_yaml(error: &serde_saphyr::Error, yaml: &str) -> Self {
        let error = error.without_snippet();
        let message = match error {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => unknown("field", field, expected),
            // The text may be the secret itself, so it is not shown.
            serde_saphyr::Error::SerdeUnknownVariant { expected, .. } if *expected == ["env", "file"] => {
                "this says nothing of where the secret stands: write `{env: VARIABLE}` or `{file: /path}`".to_owned()
            }
            serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
            serde_saphyr::Error::NullIntoString { .. } => {
                "there is no value here: write one (in quotes where it is empty or `null`), or leave the field out"
                    .to_owned()
            }
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("`{}` stands here a second time: keep one of the two", key.escape_debug())
            }
            serde_saphyr::Error::DuplicateMappingKey { key: None, .. } => {
                "a name stands here a second time: keep one of the two".to_owned()
            }
            serde_saphyr::Error::Unexpected { expected, location } => parameters::what_is_wrong(yaml, *location)
                .unwrap_or_else(|| {
                    format!("{} is expected here, and something else was found", kind_of_node(expected))
                }),
            serde_saphyr::Error::InvalidScalar { ty, .. } => format!("this is no {}", kind_of_value(ty)),
            serde_saphyr::Error::MultipleDocuments { .. } => {
                "a second document begins here (`---`): a spec is one document".to_owned()
            }
            other => UserMessageFormatter.format_message(other).into_owned(),
        };
        let message = one_line(&message);
        match error.location() {
            Some(at) if at.line() > 0 => Self::At { line: at.line(), column: at.column(), message },
            _ => Self::Whole(message),
        }
    }
}

fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    let hint = nearest(found, known.iter().copied()).map_or(String::new(), |name| format!("; did you mean `{name}`?"));
    format!("unknown {what} `{found}`{hint} (known: {})", known.join(", "))
}

/// The parser names its events; these are the words for people.
fn kind_of_node(event: &str) -> &str {
    match event {
        "string scalar" | "scalar" => "a single value",
        "mapping start" => "a map (`name: value`)",
        "sequence start" => "a list (`[one, other]`, or one `- ` a line)",
        other => other,
    }
}

/// The parser names Rust's types; these are the words for people.
fn kind_of_value(ty: &str) -> &str {
    match ty {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => "whole number from 0 on (or a greater one than can be)",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "whole number (or a greater one than can be)",
        "bool" | "boolean" => "`true` or `false`",
        "f32" | "f64" | "floating point" => "number",
        other => other,
    }
}

/// Text of a spec may stand in a message: control characters are shown, not sent.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Of names that users give: of jobs and their parts, of namespaces, of other clusters. They become parts of topic
/// names, which hold 249 characters.
pub const NAME_MAX: usize = names::PART_MAX;

/// Names become parts of topics, directories, labels and references.
pub fn is_name(text: &str) -> bool {
    names::is_part(text)
}

/// The known name that `found` was most likely meant to be, if any is near.
pub fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (edit_distance(found, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4)
        .map(|(_, name)| name)
}

/// Levenshtein's distance; both sides are short names.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
