//! The rules of outputs: each of one input, in the order of its key, with the fold of all inputs up to it.

use std::borrow::Cow;

use serde::Deserialize;

use super::time::Tick;
use super::{Judge, Kind, input_at, output_at};
use crate::input::{Fate, Guest, KeyId};
use crate::record::{Record, partition_of, shown};

/// What the guests emit: `partition` and `offset` of an input, or the time of a `tick`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Emitted<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    partition: Option<i32>,
    offset: Option<i64>,
    tick: Option<i64>,
    count: u64,
    sum: i64,
    watermark: Option<i64>,
    /// By the second version of `counter`; not judged, since it depends on when that took over.
    #[serde(rename = "max")]
    _max: Option<i64>,
}

/// The output of one input, as it tells itself.
struct Count {
    partition: i32,
    offset: i64,
    count: u64,
    sum: i64,
    watermark: Option<i64>,
}

impl Judge<'_> {
    /// The next committed record of a partition of the output.
    pub fn output(&mut self, record: &Record) {
        self.verdict.outputs += 1;
        let at = output_at(record);
        let value = record.value.as_deref().unwrap_or_default();
        let emitted: Emitted<'_> = match serde_json::from_slice(value) {
            Ok(emitted) => emitted,
            Err(error) => {
                let value = String::from_utf8_lossy(&value[..value.len().min(200)]);
                return self.verdict.found(Kind::Unreadable, || format!("{at}: {error}: {value}"));
            }
        };
        let key = emitted.key.as_bytes();
        if record.key.as_deref() != Some(key) {
            let (record_key, key) = (shown(record.key.as_deref()), &emitted.key);
            self.verdict.found(Kind::WrongKey, || format!("{at} of key {record_key} tells of key {key}"));
        }
        if record.partition != partition_of(key, self.partitions) {
            let (key, right) = (&emitted.key, partition_of(key, self.partitions));
            self.verdict.found(Kind::WrongPartition, || format!("{at}: its key {key} belongs to partition {right}"));
        }
        let Some(id) = self.inputs.key_id(key) else {
            let key = &emitted.key;
            return self.verdict.found(Kind::Foreign, || format!("{at}: no input has key {key}"));
        };
        match emitted {
            Emitted { partition: Some(partition), offset: Some(offset), tick: None, count, sum, watermark, .. } => {
                self.count(record, id, &Count { partition, offset, count, sum, watermark });
            }
            Emitted {
                partition: None, offset: None, tick: Some(time), count, sum, watermark: Some(watermark), ..
            } => {
                self.tick(record, id, &Tick { time, count, sum, watermark });
            }
            emitted => {
                self.verdict.found(Kind::Unreadable, || format!("{at} is neither a count nor a tick: {emitted:?}"))
            }
        }
    }

    fn count(&mut self, record: &Record, id: KeyId, told: &Count) {
        let at = output_at(record);
        let of = input_at(told.partition, told.offset);
        let inputs = self.inputs;
        let found = inputs.partitions.get(told.partition as usize).and_then(|partition| partition.at(told.offset));
        let Some((position, entry)) = found else {
            return self.verdict.found(Kind::Foreign, || format!("{at} is of {of}, which is not there"));
        };
        let (nth, sum) = match &entry.fate {
            Fate::Counted { nth, sum } => (*nth, *sum),
            Fate::Refused(refusal) => {
                let tell = || format!("{at} is of {of}, which had to be refused ({})", refusal.code);
                return self.verdict.found(Kind::NotRefused, tell);
            }
        };
        if entry.key != Some(id) {
            let (key, right) = (inputs.key_name(id), entry.key.map(|key| inputs.key_name(key)).unwrap_or_default());
            return self
                .verdict
                .found(Kind::WrongKey, || format!("{at} of key {key} is of {of}, which has key {right}"));
        }
        let key = || inputs.key_name(id);
        if !self.see(told.partition, position) {
            return self
                .verdict
                .found(Kind::Doubled, || format!("{at} is of {of} (key {}), like one before it", key()));
        }
        let progress = &mut self.keys[id as usize];
        if let Some(last) = progress.last_offset.filter(|last| *last > told.offset) {
            let tell = || format!("{at} is of {of} (key {}), the output before it is of offset {last}", key());
            self.verdict.found(Kind::OutOfOrder, tell);
        }
        progress.last_offset = progress.last_offset.max(Some(told.offset));
        (progress.count, progress.sum) = (told.count, told.sum);
        if told.count != nth {
            let tell = || format!("{at} of {of} (key {}) counts {}, the input is record {nth}", key(), told.count);
            self.verdict.found(Kind::WrongCount, tell);
        }
        if told.sum != sum {
            let tell = || format!("{at} of {of} (key {}) sums up to {}, the input to {sum}", key(), told.sum);
            self.verdict.found(Kind::WrongSum, tell);
        }
        if inputs.guest == Guest::Checked {
            match told.watermark {
                Some(watermark) => self.count_in_time(record, id, entry, watermark),
                None => self.verdict.found(Kind::Unreadable, || format!("{at} tells no watermark")),
            }
        }
    }
}
