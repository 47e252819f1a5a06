//! Records on their way between the operators of one task: columns and where each record came from.
//!
//! Owns the columns between two calls; memory is kept from batch to batch.

use crate::model::{Blobs, EventTime, Headers, PartitionId};

/// Where a record came from: the source record that led to it, and its place in the fan-out on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Position among the task's sources; `None` for what a timer emitted.
    pub source: Option<u16>,
    pub partition: PartitionId,
    pub offset: i64,
    /// 0 for the source record itself; then 65,536 × that of the record it came from + its number
    /// among that record's emissions. So no two records of one operator share lineage and emission.
    pub emission: u64,
}

impl Lineage {
    pub fn source_record(source: usize, partition: PartitionId, offset: i64) -> Self {
        Self { source: Some(source as u16), partition, offset, emission: 0 }
    }

    /// What a timer emits has no source record; its time stands where the offset would.
    pub fn timer(time: EventTime) -> Self {
        Self { source: None, partition: -1, offset: time, emission: 0 }
    }

    pub fn emitted(self, number: u64) -> Self {
        Self { emission: self.emission.wrapping_mul(65_536).wrapping_add(number), ..self }
    }
}

/// The two keys of a record: by which operators keep state, and which the topic holds. They differ where a source takes
/// the first from a field, or from nowhere; what an operator emits under a key of its own has that one for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    pub operator: Option<&'a [u8]>,
    pub record: Option<&'a [u8]>,
}

impl<'a> Keys<'a> {
    pub fn same(key: Option<&'a [u8]>) -> Self {
        Self { operator: key, record: key }
    }
}

/// A column per property; entry `i` of each belongs to record `i`.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// By which operators keep state.
    pub keys: Blobs,
    /// What the topic holds. Empty = the same as `keys` for every record.
    record_keys: Blobs,
    pub values: Blobs,
    pub event_times: Vec<EventTime>,
    pub headers: Headers,
    /// The declared input of the receiving operator.
    pub inputs: Vec<u8>,
    pub lineage: Vec<Lineage>,
}

impl Flow {
    pub fn len(&self) -> usize {
        self.lineage.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lineage.is_empty()
    }

    pub fn clear(&mut self) {
        self.keys.clear();
        self.record_keys.clear();
        self.values.clear();
        self.event_times.clear();
        self.headers.clear();
        self.inputs.clear();
        self.lineage.clear();
    }

    /// Appends one record; its headers are those of record `headers_of.1` of `headers_of.0`.
    pub fn push(
        &mut self,
        keys: Keys<'_>,
        value: Option<&[u8]>,
        event_time: EventTime,
        headers_of: (&Headers, usize),
        input: u8,
        lineage: Lineage,
    ) {
        headers_of.0.of(headers_of.1).for_each(|(name, value)| self.headers.push(name, value));
        self.headers.end_record(self.lineage.len());
        if !self.record_keys.is_empty() || keys.operator != keys.record {
            if self.record_keys.is_empty() {
                self.record_keys.append_range(&self.keys, 0..self.keys.len());
            }
            self.record_keys.push(keys.record);
        }
        self.keys.push(keys.operator);
        self.values.push(value);
        self.event_times.push(event_time);
        self.inputs.push(input);
        self.lineage.push(lineage);
    }

    pub fn keys_of(&self, i: usize) -> Keys<'_> {
        let operator = self.keys.get(i);
        let record = if self.record_keys.is_empty() { operator } else { self.record_keys.get(i) };
        Keys { operator, record }
    }

    /// What the topic holds, where that is not what `keys` holds for every record.
    pub fn record_keys(&self) -> Option<&Blobs> {
        (!self.record_keys.is_empty()).then_some(&self.record_keys)
    }

    /// Where the next call ends, if it starts at `start`: at most `max_records`, and no more than
    /// `max_bytes` of payload unless a single record is larger.
    pub fn cut(&self, start: usize, max_records: usize, max_bytes: usize) -> usize {
        let mut end = start;
        let mut bytes = 0;
        while end < self.len() && end - start < max_records {
            bytes += self.values.bytes(end).len() + self.keys.bytes(end).len();
            if bytes > max_bytes && end > start {
                break;
            }
            end += 1;
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_cut_at_the_byte_limit_and_an_oversized_record_travels_alone() {
        let mut flow = Flow::default();
        for size in [10, 10, 500, 10] {
            let lineage = Lineage::source_record(0, 0, 0);
            flow.push(Keys::same(None), Some(&vec![0; size]), 0, (&Headers::default(), 0), 0, lineage);
        }
        assert_eq!(flow.cut(0, 100, 50), 2);
        assert_eq!(flow.cut(2, 100, 50), 3);
        assert_eq!(flow.cut(0, 1, 50), 1);
    }

    #[test]
    fn a_record_keeps_its_own_key_beside_that_of_the_operator() {
        let keys = [
            Keys::same(Some(&b"a"[..])),
            Keys { operator: Some(b"field"), record: None },
            Keys { operator: None, record: Some(b"own") },
            Keys::same(None),
        ];
        let mut flow = Flow::default();
        for round in 0..2 {
            assert_eq!(flow.record_keys(), None, "round {round}");
            for keys in keys {
                flow.push(keys, None, 0, (&Headers::default(), 0), 0, Lineage::source_record(0, 0, 0));
                assert_eq!(flow.record_keys().is_some(), flow.len() > 1);
            }
            assert_eq!([0, 1, 2, 3].map(|i| flow.keys_of(i)), keys);
            flow.clear();
        }
    }

    #[test]
    fn two_records_of_one_source_record_never_share_an_emission() {
        let source = Lineage::source_record(0, 0, 7);
        let of_two_hops: Vec<_> =
            (0..3).flat_map(|a| (0..3).map(move |b| source.emitted(a).emitted(b).emission)).collect();
        let distinct: std::collections::HashSet<_> = of_two_hops.iter().collect();
        assert_eq!(distinct.len(), of_two_hops.len());
    }
}
