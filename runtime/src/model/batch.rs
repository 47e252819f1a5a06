//! Records as the log hands them out and takes them in: columns of one partition.

use std::ops::Range;

use super::{Blobs, PartitionId};

/// Headers of a batch. Record `i` owns the headers `ends[i-1]..ends[i]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// One entry per record; empty = no record has headers.
    pub ends: Vec<u32>,
    /// UTF-8, never null.
    pub names: Blobs,
    pub values: Blobs,
}

impl Headers {
    pub fn clear(&mut self) {
        self.ends.clear();
        self.names.clear();
        self.values.clear();
    }

    /// The headers of record `i`, as name and value.
    pub fn of(&self, i: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let range = match self.ends.get(i) {
            Some(&end) => (if i == 0 { 0 } else { self.ends[i - 1] as usize })..end as usize,
            None => 0..0,
        };
        range.map(|h| (self.names.bytes(h), self.values.get(h)))
    }

    /// Adds one header to the record that `end_record` will close next.
    pub fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.names.push(Some(name));
        self.values.push(value);
    }

    /// Closes record number `record` (counted from 0). Records before it that were never closed have
    /// no headers; a batch without any header keeps `ends` empty.
    pub fn end_record(&mut self, record: usize) {
        let end = self.names.len() as u32;
        if self.ends.is_empty() && end == 0 {
            return;
        }
        self.ends.resize(record, if self.ends.is_empty() { 0 } else { *self.ends.last().unwrap_or(&0) });
        self.ends.push(end);
    }
}

impl Headers {
    /// Appends the headers of the records `range` of another batch behind this batch's `records`.
    fn append_range(&mut self, records: usize, other: &Self, range: Range<usize>) {
        if other.ends.is_empty() && self.ends.is_empty() {
            return;
        }
        let before = self.names.len() as u32;
        self.ends.resize(records, before);
        if other.ends.is_empty() {
            self.ends.resize(records + range.len(), before);
            return;
        }
        let first = if range.start == 0 { 0 } else { other.ends[range.start - 1] };
        self.ends.extend(other.ends[range].iter().map(|end| end - first + before));
        let last = first + self.ends.last().map_or(0, |end| end - before);
        self.names.append_range(&other.names, first as usize..last as usize);
        self.values.append_range(&other.values, first as usize..last as usize);
    }
}

/// Records of one partition in offset order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionBatch {
    pub topic: String,
    pub partition: PartitionId,
    /// Ascending, not dense: markers, aborts and compaction leave gaps.
    pub offsets: Vec<i64>,
    /// Kafka's record timestamps, milliseconds.
    pub timestamps_ms: Vec<i64>,
    pub keys: Blobs,
    pub values: Blobs,
    pub headers: Headers,
}

impl PartitionBatch {
    pub fn new(topic: &str, partition: PartitionId) -> Self {
        Self { topic: topic.to_owned(), partition, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.offsets.clear();
        self.timestamps_ms.clear();
        self.keys.clear();
        self.values.clear();
        self.headers.clear();
    }

    /// Payload bytes: keys and values.
    pub fn byte_len(&self) -> usize {
        self.keys.byte_len() + self.values.byte_len()
    }

    /// Appends the records `range` of another batch in bulk, whatever its topic and partition.
    /// Panics where they are out of range, as a slice does.
    pub fn append_range(&mut self, other: &Self, range: Range<usize>) {
        self.headers.append_range(self.len(), &other.headers, range.clone());
        self.offsets.extend_from_slice(&other.offsets[range.clone()]);
        self.timestamps_ms.extend_from_slice(&other.timestamps_ms[range.clone()]);
        self.keys.append_range(&other.keys, range.clone());
        self.values.append_range(&other.values, range);
    }

    /// Appends a record without headers.
    pub fn push(&mut self, offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(offset, timestamp_ms, key, value, std::iter::empty());
    }

    pub fn push_with_headers<'a>(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        headers.for_each(|(name, value)| self.headers.push(name, value));
        self.headers.end_record(self.offsets.len());
        self.offsets.push(offset);
        self.timestamps_ms.push(timestamp_ms);
        self.keys.push(key);
        self.values.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stay_with_their_record_when_earlier_records_have_none() {
        let mut batch = PartitionBatch::new("t", 0);
        batch.push(0, 0, None, None);
        batch.push_with_headers(1, 0, None, None, [(&b"a"[..], Some(&b"1"[..]))].into_iter());
        batch.push(2, 0, None, None);
        let of = |i| batch.headers.of(i).map(|(n, _)| n.to_vec()).collect::<Vec<_>>();
        assert_eq!([of(0), of(1), of(2)], [vec![], vec![b"a".to_vec()], vec![]]);
    }

    #[test]
    fn a_range_of_another_batch_arrives_as_if_pushed_one_by_one() {
        let header = |n: &'static str| [(n.as_bytes(), None)].into_iter();
        let mut plain = PartitionBatch::new("t", 0);
        (0..3).for_each(|o| plain.push(o, o, Some(b"k"), None));
        let mut headed = PartitionBatch::new("t", 0);
        headed.push(3, 3, None, Some(b"v"));
        headed.push_with_headers(4, 4, None, None, header("a").chain(header("b")));
        headed.push_with_headers(5, 5, None, None, header("c"));
        headed.push(6, 6, None, None);
        for (first, second) in [(&plain, &headed), (&headed, &plain), (&headed, &headed), (&plain, &plain)] {
            for start in 0..=second.len() {
                for end in start..=second.len() {
                    let mut appended = first.clone();
                    appended.append_range(second, start..end);
                    let mut pushed = first.clone();
                    for i in start..end {
                        let (key, value) = (second.keys.get(i), second.values.get(i));
                        let (offset, time) = (second.offsets[i], second.timestamps_ms[i]);
                        pushed.push_with_headers(offset, time, key, value, second.headers.of(i));
                    }
                    let headers = |batch: &PartitionBatch, i| batch.headers.of(i).map(|h| h.0.to_vec()).collect();
                    for i in 0..pushed.len() {
                        let expected: Vec<Vec<u8>> = headers(&pushed, i);
                        assert_eq!(headers(&appended, i), expected);
                        assert_eq!(appended.values.get(i), pushed.values.get(i));
                    }
                    assert_eq!(
                        (appended.offsets, appended.headers.names.len()),
                        (pushed.offsets, pushed.headers.names.len())
                    );
                }
            }
        }
    }
}
