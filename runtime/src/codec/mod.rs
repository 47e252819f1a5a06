//! Bytes to records: whether a value is well-formed, which key it has, when it happened.
//!
//! Owns nothing between calls but buffers. Bad records leave by the side, with a reason; nothing here
//! reads a clock, so the same record is always judged the same.
//! Read [`SourceCodec::decode`] first, then [`json`] (one pass over a value, without a tree).

mod json;
mod time;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use json::FieldPath;
pub use time::TimeUnit;

use crate::model::{Blobs, EventTime, PartitionBatch, murmur2};

const NANOS_PER_MS: i64 = 1_000_000;

/// How a source's values are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decode {
    #[default]
    Json,
    /// Any bytes, null ones too.
    Bytes,
}

/// Where a record's key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyRule {
    /// The record's own (Kafka) key.
    #[default]
    RecordKey,
    /// A field of the payload: a string's content, or the literal text of a number.
    Field(FieldPath),
}

/// Where a record's event time comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventTimeRule {
    /// The record's timestamp in the log, milliseconds.
    #[default]
    RecordTimestamp,
    Field {
        path: FieldPath,
        unit: TimeUnit,
    },
}

/// How a source's records are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCodec {
    pub decode: Decode,
    pub key: KeyRule,
    pub event_time: EventTimeRule,
    /// An event time that lies further ahead of the record's own timestamp is refused: one such record
    /// would carry the watermark with it. Against the record, not the clock, so that a replay judges alike.
    pub max_ahead: Option<Duration>,
    /// An event time that lies further behind the record's own timestamp is refused.
    pub max_behind: Option<Duration>,
    /// A larger value is refused, bytes.
    pub max_value_bytes: usize,
}

impl Default for SourceCodec {
    fn default() -> Self {
        Self {
            decode: Decode::Json,
            key: KeyRule::RecordKey,
            event_time: EventTimeRule::RecordTimestamp,
            max_ahead: Some(Duration::from_secs(24 * 3_600)),
            max_behind: None,
            max_value_bytes: 1 << 20,
        }
    }
}

/// What became of a batch; buffers are reused from batch to batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Positions in the batch, ascending.
    pub kept: Vec<u32>,
    /// One key per kept record, where keys are not the records' own.
    pub keys: Option<Blobs>,
    /// One per kept record.
    pub event_times: Vec<EventTime>,
    pub rejects: Vec<Reject>,
}

/// A record that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Position in the batch.
    pub index: u32,
    /// Short and stable.
    pub code: &'static str,
    pub message: String,
}

type Rejection = (&'static str, String);

impl SourceCodec {
    /// Judges every record of `batch`. `keyed_partitions` is the topic's partition count where the
    /// records are keyed together: then each must have a key and lie in the partition that Kafka's
    /// default partitioner gives that key.
    pub fn decode(&self, batch: &PartitionBatch, keyed_partitions: Option<u32>, out: &mut Decoded) {
        out.kept.clear();
        out.event_times.clear();
        out.rejects.clear();
        match self.key {
            KeyRule::RecordKey => out.keys = None,
            KeyRule::Field(_) => out.keys.get_or_insert_default().clear(),
        }
        for i in 0..batch.len() {
            if let Err((code, message)) = self.record(batch, i, keyed_partitions, out) {
                out.rejects.push(Reject { index: i as u32, code, message });
            }
        }
    }

    fn record(
        &self,
        batch: &PartitionBatch,
        i: usize,
        keyed_partitions: Option<u32>,
        out: &mut Decoded,
    ) -> Result<(), Rejection> {
        let value = batch.values.get(i);
        if let Some(bytes) = value.map(<[u8]>::len).filter(|&bytes| bytes > self.max_value_bytes) {
            let max = self.max_value_bytes;
            return Err(("oversized", format!("the value has {bytes} bytes, the source takes {max}")));
        }
        let fields = self.fields(value)?;
        let event_time = self.event_time(batch.timestamps_ms[i], &fields)?;
        match (&self.key, out.keys.as_mut()) {
            (KeyRule::Field(path), Some(keys)) => {
                let Some(key) = &fields.key else {
                    return Err(("missing-key", format!("the value has no string or number at {path}")));
                };
                check_partition(Some(key.as_bytes()), batch.partition, keyed_partitions)?;
                keys.push(Some(key.as_bytes()));
            }
            _ => check_partition(batch.keys.get(i), batch.partition, keyed_partitions)?,
        }
        out.kept.push(i as u32);
        out.event_times.push(event_time);
        Ok(())
    }

    /// The fields that the rules name, out of a well-formed value.
    fn fields<'v>(&self, value: Option<&'v [u8]>) -> Result<json::Fields<'v>, Rejection> {
        let key = if let KeyRule::Field(path) = &self.key { Some(path) } else { None };
        let time = if let EventTimeRule::Field { path, .. } = &self.event_time { Some(path) } else { None };
        match (self.decode, value) {
            (Decode::Bytes, _) if key.is_none() && time.is_none() => Ok(json::Fields::default()),
            (_, None) => Err(("null-value", "the value is null".to_owned())),
            (_, Some(value)) => json::scan(value, key, time).map_err(|why| ("malformed-json", why)),
        }
    }

    fn event_time(&self, timestamp_ms: i64, fields: &json::Fields<'_>) -> Result<EventTime, Rejection> {
        let out_of_range = |found: String| ("time-out-of-range", found);
        let timestamp = timestamp_ms.checked_mul(NANOS_PER_MS).filter(|&ns| ns >= 0);
        let time = match &self.event_time {
            EventTimeRule::RecordTimestamp => timestamp.ok_or_else(|| {
                out_of_range(format!("the record's timestamp is {timestamp_ms} ms, outside 1970 to 2262"))
            })?,
            EventTimeRule::Field { path, unit } => {
                let Some(text) = &fields.time else {
                    return Err(("missing-time", format!("the value has no number or string at {path}")));
                };
                time::parse(text, *unit).map_err(|why| (why.code(), format!("{path} {why}")))?
            }
        };
        let Some(timestamp) = timestamp else { return Ok(time) };
        let apart = i128::from(time) - i128::from(timestamp);
        let beyond = |limit: Option<Duration>, apart: i128| limit.is_some_and(|limit| apart > limit.as_nanos() as i128);
        if beyond(self.max_ahead, apart) {
            return Err(out_of_range(format!(
                "event time {time} ns is {} s ahead of the record's timestamp",
                apart / 1_000_000_000
            )));
        }
        if beyond(self.max_behind, -apart) {
            return Err(out_of_range(format!(
                "event time {time} ns is {} s behind the record's timestamp",
                -apart / 1_000_000_000
            )));
        }
        Ok(time)
    }
}

fn check_partition(key: Option<&[u8]>, found: i32, keyed_partitions: Option<u32>) -> Result<(), Rejection> {
    let Some(partitions) = keyed_partitions else { return Ok(()) };
    let Some(key) = key else {
        return Err((
            "missing-key",
            "the record has no key, and the operators behind this source keep state by key".to_owned(),
        ));
    };
    let expected = murmur2::partition(key, partitions);
    if expected != found {
        return Err((
            "wrong-partition",
            format!(
                "key {:?} lies in partition {found}, Kafka's default partitioner gives {expected}: repartition the \
                 topic, or set partitioner=murmur2_random at its producers",
                String::from_utf8_lossy(&key[..key.len().min(64)])
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
