//! Bytes to records: whether a value is well-formed, which key it has, when it happened.
//!
//! Owns nothing between calls; the buffers belong to [`Decoded`], which the caller keeps. Bad records
//! leave by the side, with a reason; nothing here reads a clock, so the same record is always judged
//! the same. Never changes a value: operators get the bytes that the log held.
//! Read [`SourceCodec::decode`] first; the rules of a spec are in `rules`, the pass over the JSON in `scan`.

use std::borrow::Cow;
use std::time::Duration;

use crate::error::Kind;
use crate::model::{BEFORE_ALL_TIME, Blobs, END_OF_INPUT, EventTime, PartitionBatch, PartitionId, murmur2};

mod rules;
mod scan;
mod time;

pub use rules::{Decode, EventTimeRule, FieldPath, KeyRule, TimeUnit};

/// Why a record was refused: the codes of the dead letters that a source makes.
pub mod code {
    pub const MALFORMED_JSON: &str = "malformed-json";
    pub const MISSING_KEY: &str = "missing-key";
    pub const MISSING_TIME: &str = "missing-time";
    pub const TIME_OUT_OF_RANGE: &str = "time-out-of-range";
    pub const NULL_VALUE: &str = "null-value";
    pub const OVERSIZED: &str = "oversized";
    pub const WRONG_PARTITION: &str = "wrong-partition";
    /// Not by a source: what came of the record was refused by the log.
    pub const OUTPUT_REFUSED: &str = "output-refused";
}

/// How a source's records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCodec {
    pub decode: Decode,
    pub key: KeyRule,
    pub event_time: EventTimeRule,
    /// An event time further than this ahead of the record's own Kafka timestamp is refused: one such
    /// record would move the watermark past all that follow. `None` = any is taken.
    pub max_ahead: Option<Duration>,
    /// The same for the past. `None` (history is read again) = any is taken.
    pub max_behind: Option<Duration>,
    /// A longer value is refused alone, before it is parsed.
    pub max_value_bytes: usize,
}

impl Default for SourceCodec {
    fn default() -> Self {
        Self {
            decode: Decode::default(),
            key: KeyRule::default(),
            event_time: EventTimeRule::default(),
            max_ahead: Some(Duration::from_secs(24 * 3_600)),
            max_behind: None,
            max_value_bytes: 1 << 20,
        }
    }
}

/// How a topic is spread over partitions, and these over tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    pub partitions: u32,
    /// Divides `partitions`.
    pub tasks: u32,
}

impl Spread {
    /// Whether Kafka's own partitioner gave `key` this partition, or did so when the topic had fewer. A topic may have
    /// grown, and still hold what was written before; every count that the tasks divide leads equal keys to one task.
    fn leads(self, key: &[u8], partition: PartitionId) -> bool {
        let hash = murmur2::hash(key);
        let given_by = |partitions: u32| (hash % partitions) as PartitionId == partition;
        let step = self.tasks.max(1);
        given_by(self.partitions) || (1..self.partitions.div_ceil(step)).any(|n| given_by(n * step))
    }
}

impl SourceCodec {
    /// Refuses rules that no record could satisfy. Called when a spec is planned.
    ///
    /// # Errors
    /// [`Error::NoFields`].
    pub fn check(&self) -> Result<(), Error> {
        let field = match (&self.key, &self.event_time) {
            (KeyRule::Field(path), _) | (_, EventTimeRule::Field { path, .. }) => path,
            _ => return Ok(()),
        };
        if self.decode == Decode::Bytes {
            return Err(Error::NoFields { field: field.clone() });
        }
        Ok(())
    }

    /// Judges every record of `batch`. `spread` is given where keyed state hangs on the key: the record must
    /// then have come from a partition that Kafka's own partitioner gives its key, or equal keys would meet
    /// in different tasks.
    pub fn decode(&self, batch: &PartitionBatch, spread: Option<Spread>, out: &mut Decoded) {
        out.reset(self.key != KeyRule::RecordKey);
        let judge = Judge { codec: self, batch, spread: spread.filter(|spread| spread.partitions > 0) };
        for index in 0..batch.len() {
            match judge.record(index) {
                Ok((key, event_time)) => {
                    out.kept.push(index as u32);
                    out.event_times.push(event_time);
                    if let Some(keys) = &mut out.keys {
                        keys.push(key.as_deref());
                    }
                }
                Err((code, message)) => out.rejects.push(Reject { index: index as u32, code, message }),
            }
        }
    }
}

/// What became of a batch. Keep it: its buffers are used again by the next [`SourceCodec::decode`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Positions in the batch, ascending, of the records to process.
    pub kept: Vec<u32>,
    /// Per kept record its key, where that is not the record's own. Null under `key: none`.
    pub keys: Option<Blobs>,
    /// Per kept record.
    pub event_times: Vec<EventTime>,
    /// The others, ascending.
    pub rejects: Vec<Reject>,
}

impl Decoded {
    /// Moves a kept record to the rejects. Seldom: the columns behind it are written anew.
    pub fn refuse(&mut self, index: u32, code: &'static str, message: String) {
        let Ok(at) = self.kept.binary_search(&index) else { return };
        self.kept.remove(at);
        self.event_times.remove(at);
        if let Some(keys) = &mut self.keys {
            let all = std::mem::take(keys);
            (0..all.len()).filter(|&i| i != at).for_each(|i| keys.push(all.get(i)));
        }
        let place = self.rejects.partition_point(|reject| reject.index < index);
        self.rejects.insert(place, Reject { index, code, message });
    }

    fn reset(&mut self, own_keys: bool) {
        self.kept.clear();
        self.event_times.clear();
        self.rejects.clear();
        if own_keys {
            self.keys.get_or_insert_default().clear();
        } else {
            self.keys = None;
        }
    }
}

/// A record that will not be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Position in the batch.
    pub index: u32,
    /// One of [`code`].
    pub code: &'static str,
    /// What was found, and what to do where something can be done. Bounded, whatever the record holds.
    pub message: String,
}

type Verdict<T> = Result<T, (&'static str, String)>;

struct Judge<'a> {
    codec: &'a SourceCodec,
    batch: &'a PartitionBatch,
    spread: Option<Spread>,
}

impl<'a> Judge<'a> {
    fn record(&self, index: usize) -> Verdict<(Option<Cow<'a, [u8]>>, EventTime)> {
        let [key, time] = self.fields(index)?;
        let key = self.key(index, key)?;
        self.check_partition(key.as_deref())?;
        Ok((key, self.event_time(index, time)?))
    }

    /// The raw JSON of the fields that hold the key and the time, once the value is known to be well-formed.
    fn fields(&self, index: usize) -> Verdict<[Option<&'a str>; 2]> {
        let value = self.batch.values.get(index);
        if let Some(bytes) = value.map(<[u8]>::len).filter(|&bytes| bytes > self.codec.max_value_bytes) {
            let max = self.codec.max_value_bytes;
            return Err((code::OVERSIZED, format!("the value has {bytes} bytes, the source takes {max}")));
        }
        if self.codec.decode == Decode::Bytes {
            return Ok([None, None]);
        }
        let value = value.ok_or_else(|| {
            (code::NULL_VALUE, "the value is null: only a source with `decode: bytes` takes tombstones".to_owned())
        })?;
        let malformed = |found: String| (code::MALFORMED_JSON, found);
        let text = std::str::from_utf8(value).map_err(|e| malformed(format!("the value is not UTF-8: {e}")))?;
        scan::pick(text, self.codec.wanted()).map_err(|e| malformed(format!("the value is not JSON: {e}")))
    }

    fn key(&self, index: usize, field: Option<&'a str>) -> Verdict<Option<Cow<'a, [u8]>>> {
        let missing = |found: String| (code::MISSING_KEY, found);
        let key = match &self.codec.key {
            KeyRule::RecordKey => self.batch.keys.get(index).map(Cow::Borrowed),
            KeyRule::None => None,
            KeyRule::Field(path) => {
                let json = field.ok_or_else(|| missing(format!("the value has no field {path}")))?;
                let text = scan::scalar(json).ok_or_else(|| {
                    missing(format!("field {path} is {}: a key is a string or a number", scan::shape(json)))
                })?;
                Some(match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                })
            }
        };
        if key.is_none() && self.spread.is_some() {
            return Err(missing("the record has no key, and state is kept by it downstream".to_owned()));
        }
        Ok(key)
    }

    fn check_partition(&self, key: Option<&[u8]>) -> Verdict<()> {
        let (Some(key), Some(spread)) = (key, self.spread) else { return Ok(()) };
        let found: PartitionId = self.batch.partition;
        if spread.leads(key, found) {
            return Ok(());
        }
        let (partitions, expected) = (spread.partitions, murmur2::partition(key, spread.partitions));
        Err((
            code::WRONG_PARTITION,
            format!(
                "the record came from partition {found}, its key belongs to {expected} of {partitions}: \
                 repartition the topic by this key, or set partitioner=murmur2_random in its producer"
            ),
        ))
    }

    fn event_time(&self, index: usize, field: Option<&str>) -> Verdict<EventTime> {
        let out_of_range = |found: String| (code::TIME_OUT_OF_RANGE, found);
        let stamp_ms = self.batch.timestamps_ms[index];
        let time = match &self.codec.event_time {
            EventTimeRule::RecordTimestamp if stamp_ms < 0 => {
                return Err((code::MISSING_TIME, "the record has no timestamp".to_owned()));
            }
            EventTimeRule::RecordTimestamp => Ok(stamp_ms.saturating_mul(1_000_000)),
            EventTimeRule::Field { path, unit } => {
                let missing = |found: String| (code::MISSING_TIME, found);
                let json = field.ok_or_else(|| missing(format!("the value has no field {path}")))?;
                let text = scan::scalar(json)
                    .ok_or_else(|| missing(format!("field {path} is {}: expected {unit}", scan::shape(json))))?;
                match time::nanos(&text, *unit) {
                    Err(time::Fault::NotATime) => {
                        return Err(missing(format!("field {path} is {}: expected {unit}", clip(json))));
                    }
                    Err(time::Fault::OutOfRange) => Err(clip(json)),
                    Ok(nanos) => Ok(nanos),
                }
            }
        };
        match time {
            Ok(time) if time > BEFORE_ALL_TIME && time < END_OF_INPUT => self.within_bounds(time, stamp_ms),
            Ok(time) => Err(out_of_range(format!("event time {time} ns is kept for the ends of time"))),
            Err(json) => Err(out_of_range(format!("event time {json} lies outside the years 1678 to 2261"))),
        }
    }

    fn within_bounds(&self, time: EventTime, stamp_ms: i64) -> Verdict<EventTime> {
        if stamp_ms < 0 {
            return Ok(time);
        }
        let ahead = i128::from(time) - i128::from(stamp_ms) * 1_000_000;
        let (bound, side) =
            if ahead > 0 { (self.codec.max_ahead, "ahead of") } else { (self.codec.max_behind, "behind") };
        match bound {
            Some(bound) if ahead.unsigned_abs() > bound.as_nanos() => Err((
                code::TIME_OUT_OF_RANGE,
                format!(
                    "event time is {} s {side} the record's timestamp, the source takes {} s",
                    ahead.unsigned_abs() / 1_000_000_000,
                    bound.as_secs_f64()
                ),
            )),
            _ => Ok(time),
        }
    }
}

impl SourceCodec {
    /// The paths that `Judge::fields` looks for: key, time. Empty = nothing.
    fn wanted(&self) -> scan::Wanted<'_> {
        let key = if let KeyRule::Field(path) = &self.key { path.segments() } else { &[] };
        let time = if let EventTimeRule::Field { path, .. } = &self.event_time { path.segments() } else { &[] };
        [key, time]
    }
}

/// The beginning of a piece of a record, fit for a message.
fn clip(json: &str) -> String {
    const MAX: usize = 48;
    match json.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json.to_owned(),
    }
}

/// Why a codec cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("take field {field} of a source with `decode: bytes`: bytes have no fields; set `decode: json`")]
    NoFields { field: FieldPath },
    #[error("read field path `{path}`: {found}; write names with a dot between them, `\\.` for a dot in a name")]
    FieldPath { path: String, found: &'static str },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoFields { .. } | Self::FieldPath { .. } => Kind::Invalid,
        }
    }
}

#[cfg(test)]
mod tests;
