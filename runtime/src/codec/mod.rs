//! Bytes to records: whether a value is well-formed, which key it has, when it happened.
//!
//! Owns nothing between calls; the buffers belong to [`Decoded`], which the caller keeps. Bad records
//! leave by the side, with a reason. Nothing here reads a clock: the one judgement that needs a present,
//! whether a time lies ahead of it, is told when the batch was read. Never changes a value: operators get the bytes that the log held.
//! Read [`SourceCodec::decode`] first; the rules of a spec are in `rules`, the pass over the JSON in `scan`.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use crate::error::Kind;
use crate::model::{BEFORE_ALL_TIME, Blobs, END_OF_INPUT, EventTime, PartitionBatch, PartitionId};

mod rules;
mod scan;
mod time;

pub use rules::{Decode, EventTimeRule, FieldPath, KeyRule, Partitioner, TimeUnit};

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

    /// Those that a source may give.
    pub const OF_SOURCES: [&str; 8] = [
        MALFORMED_JSON,
        MISSING_KEY,
        MISSING_TIME,
        TIME_OUT_OF_RANGE,
        NULL_VALUE,
        OVERSIZED,
        WRONG_PARTITION,
        OUTPUT_REFUSED,
    ];
}

/// How a source's records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCodec {
    pub decode: Decode,
    pub key: KeyRule,
    pub event_time: EventTimeRule,
    /// An event time further than this ahead of the record's own Kafka timestamp, or of the time at which it is
    /// read, is refused: one such record would move the watermark past all that follow. `None` = any is taken.
    pub max_ahead: Option<Duration>,
    /// An event time further than this behind the record's own timestamp is refused. `None` (history is read
    /// again) = any is taken.
    pub max_behind: Option<Duration>,
    /// A longer value is refused alone, before it is parsed.
    pub max_value_bytes: usize,
    /// By what the topic was spread over its partitions.
    pub partitioner: Partitioner,
}

/// How far ahead an event time may be where a spec says nothing: what a clock that runs ahead can cost at most, for
/// event time goes on by itself when the present has come that far. Brokers refuse timestamps further ahead than an
/// hour by their own preset, and clocks that are kept at all are nearer by orders of magnitude.
pub const MAX_AHEAD: Duration = Duration::from_secs(3_600);

impl Default for SourceCodec {
    fn default() -> Self {
        Self {
            decode: Decode::default(),
            key: KeyRule::default(),
            event_time: EventTimeRule::default(),
            max_ahead: Some(MAX_AHEAD),
            max_behind: None,
            max_value_bytes: 1 << 20,
            partitioner: Partitioner::default(),
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
    /// Whether the record stands where the partitioner put its key, or where it did when the topic had fewer partitions.
    /// A topic may have grown, and still hold what was written before; every count that the tasks divide leads equal
    /// keys to one task. Where one task reads all partitions, equal keys meet wherever they are.
    fn leads(self, partitioner: Partitioner, key: &[u8], partition: PartitionId) -> bool {
        if self.tasks <= 1 {
            return true;
        }
        let Some(hash) = partitioner.hash(key) else { return true };
        let given_by = |partitions: u32| (hash % partitions) as PartitionId == partition;
        given_by(self.partitions) || (1..self.partitions.div_ceil(self.tasks)).any(|n| given_by(n * self.tasks))
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

    /// Judges every record of `batch`, which was read at `read_at`. `spread` is given where keyed state hangs on the
    /// key: the record must then have come from a partition that the source's partitioner gives its key, or equal keys
    /// would meet in different tasks.
    pub fn decode(&self, batch: &PartitionBatch, read_at: EventTime, spread: Option<Spread>, out: &mut Decoded) {
        out.reset(self.key != KeyRule::RecordKey);
        let spread = spread.filter(|spread| spread.partitions > 0);
        let judge = Judge { codec: self, batch, read_at, spread };
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
    /// The positions in `kept` of those records that stand in this stretch of the batch.
    pub fn kept_within(&self, range: Range<usize>) -> Range<usize> {
        let at = |index: usize| self.kept.partition_point(|&kept| (kept as usize) < index);
        at(range.start)..at(range.end)
    }

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

const NANOS_PER_MS: i64 = 1_000_000;

struct Judge<'a> {
    codec: &'a SourceCodec,
    batch: &'a PartitionBatch,
    read_at: EventTime,
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
        let (found, partitioner, partitions) = (self.batch.partition, self.codec.partitioner, spread.partitions);
        if spread.leads(partitioner, key, found) {
            return Ok(());
        }
        let other = [Partitioner::Murmur2, Partitioner::Crc32].into_iter().find(|other| *other != partitioner);
        let remedy = match other.filter(|other| other.partition(key, partitions) == Some(found)) {
            Some(other) => format!(
                "{} gives it the one it came from: set `partitioner: {}` on the source if its producers use that",
                other.name(),
                other.name()
            ),
            None => "repartition the topic by this key, name what its producers use with `partitioner` on the source, \
                     or read it with `parallelism: 1`"
                .to_owned(),
        };
        let (expected, name) = (partitioner.partition(key, partitions).unwrap_or_default(), partitioner.name());
        Err((
            code::WRONG_PARTITION,
            format!(
                "the record came from partition {found}, its key belongs to {expected} of {partitions} by {name}: {remedy}"
            ),
        ))
    }

    fn event_time(&self, index: usize, field: Option<&str>) -> Verdict<EventTime> {
        let out_of_range = |found: String| (code::TIME_OUT_OF_RANGE, found);
        let stamp_ms = self.batch.timestamps_ms[index];
        let time = match &self.codec.event_time {
            EventTimeRule::RecordTimestamp => self.record_timestamp(stamp_ms)?,
            EventTimeRule::Field { path, unit, assume_utc } => {
                self.time_of_field(stamp_ms, field, (path, *unit, *assume_utc))?
            }
        };
        if time == BEFORE_ALL_TIME || time == END_OF_INPUT {
            return Err(out_of_range(format!("event time {time} ns is kept for the ends of time")));
        }
        self.within_bounds(time, stamp_ms)
    }

    fn record_timestamp(&self, stamp_ms: i64) -> Verdict<EventTime> {
        match stamp_ms {
            // What Kafka says where there is none.
            -1 => Err((code::MISSING_TIME, "the record has no timestamp".to_owned())),
            ..0 => Err((
                code::TIME_OUT_OF_RANGE,
                format!(
                    "the record's timestamp is {stamp_ms} ms: Kafka has none before 1970, so its producer is wrong"
                ),
            )),
            _ => stamp_ms.checked_mul(NANOS_PER_MS).ok_or_else(|| {
                let found = format!("the record's timestamp {stamp_ms} ms lies outside the years 1678 to 2261");
                (code::TIME_OUT_OF_RANGE, found)
            }),
        }
    }

    fn time_of_field(
        &self,
        stamp_ms: i64,
        field: Option<&str>,
        (path, unit, assume_utc): (&FieldPath, TimeUnit, bool),
    ) -> Verdict<EventTime> {
        let missing = |found: String| (code::MISSING_TIME, found);
        let json = field.ok_or_else(|| missing(format!("the value has no field {path}")))?;
        let text = scan::scalar(json)
            .ok_or_else(|| missing(format!("field {path} is {}: expected {unit}", scan::shape(json))))?;
        let time = match time::nanos(&text, unit, assume_utc) {
            Err(time::Fault::NotATime) => {
                return Err(missing(format!("field {path} is {}: expected {unit}", clip(json))));
            }
            Err(time::Fault::NoOffset) => {
                return Err(missing(format!(
                    "field {path} is {}: it lacks its offset from UTC; write one (`Z`, `+02:00`), or set `assume: UTC` in \
                     the source's event_time",
                    clip(json)
                )));
            }
            Err(time::Fault::OutOfRange) => None,
            Ok(nanos) => Some(nanos),
        };
        self.check_unit(stamp_ms, (&text, json), (path, unit), time)?;
        time.ok_or_else(|| {
            let found = format!("event time {} lies outside the years 1678 to 2261", clip(json));
            (code::TIME_OUT_OF_RANGE, found)
        })
    }

    /// A number that is years from the record's own timestamp, and within days of it under another unit, is in that unit.
    fn check_unit(
        &self,
        stamp_ms: i64,
        (text, json): (&str, &str),
        (path, unit): (&FieldPath, TimeUnit),
        time: Option<EventTime>,
    ) -> Verdict<()> {
        const YEAR: u64 = 365 * 86_400_000_000_000;
        // Earlier ones are no time at which a record was written, and so nothing to compare with.
        const YEAR_2000_MS: i64 = 946_684_800_000;
        let Some(stamp) = stamp_ms.checked_mul(NANOS_PER_MS).filter(|_| stamp_ms >= YEAR_2000_MS) else {
            return Ok(());
        };
        if time.is_some_and(|time| time.abs_diff(stamp) <= YEAR) {
            return Ok(());
        }
        let Some((likelier, meant)) = time::likelier_unit(text, unit, stamp) else { return Ok(()) };
        let found = time.map_or_else(|| "no time of 64 bits".to_owned(), time::show);
        Err((
            code::TIME_OUT_OF_RANGE,
            format!(
                "field {path} is {}, under `unit: {}` {found}; it looks like `unit: {}`, then it is {}",
                clip(json),
                unit.name(),
                likelier.name(),
                time::show(meant)
            ),
        ))
    }

    fn within_bounds(&self, time: EventTime, stamp_ms: i64) -> Verdict<EventTime> {
        let SourceCodec { max_ahead, max_behind, .. } = *self.codec;
        let refused = |distance: i128, side: &str, bound: Duration| {
            let bound = bound.as_secs_f64();
            let seconds = distance / 1_000_000_000;
            let found = format!("event time {} is {seconds} s {side}, the source takes {bound} s", time::show(time));
            Err((code::TIME_OUT_OF_RANGE, found))
        };
        let beyond = |distance: i128, bound: Option<Duration>| {
            bound.filter(|bound| distance > 0 && distance.unsigned_abs() > bound.as_nanos())
        };
        let of_present = i128::from(time) - i128::from(self.read_at);
        if let Some(bound) = beyond(of_present, max_ahead) {
            return refused(of_present, "ahead of the time at which it was read: a clock is wrong", bound);
        }
        if stamp_ms < 0 {
            return Ok(time);
        }
        let ahead = i128::from(time) - i128::from(stamp_ms) * i128::from(NANOS_PER_MS);
        match (beyond(ahead, max_ahead), beyond(-ahead, max_behind)) {
            (Some(bound), _) => refused(ahead, "ahead of the record's timestamp", bound),
            (_, Some(bound)) => refused(-ahead, "behind the record's timestamp", bound),
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
    #[error(
        "read field path `{path}`: {found}; write names with a dot between them, `[0]` for an item of an array, `\\.` and \
         `\\[` for these in a name"
    )]
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
