//! Records as the log hands them out and takes them in: columns of one partition.

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
}
