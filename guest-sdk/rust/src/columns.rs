//! Columns: how a batch crosses the boundary. Plain data that mirrors `wit/transform.wit`, which holds the
//! meaning of every column; names are the same.
//!
//! Knows nothing of WebAssembly, so a transform runs natively through the same columns (tests, benchmarks).
//! Never allocates per entry.

use std::marker::PhantomData;
use std::ops::Range;

/// "None" wherever a position may be absent.
pub const NO_POSITION: u32 = u32::MAX;

/// A number of fixed width, little endian in a column.
pub trait Number: Copy {
    const WIDTH: usize;
    fn read(bytes: &[u8]) -> Self;
    fn write(self, bytes: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Number for $number {
            const WIDTH: usize = size_of::<$number>();
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut number = [0; size_of::<$number>()];
                number.copy_from_slice(bytes);
                Self::from_le_bytes(number)
            }
            #[inline]
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
numbers!(u32, i32, u64, i64);

/// A column of numbers, as little-endian bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers<N> {
    bytes: Vec<u8>,
    kind: PhantomData<N>,
}

pub type U32s = Numbers<u32>;
pub type S32s = Numbers<i32>;
pub type U64s = Numbers<u64>;
pub type S64s = Numbers<i64>;

impl<N> Default for Numbers<N> {
    fn default() -> Self {
        Self { bytes: Vec::new(), kind: PhantomData }
    }
}

impl<N: Number> Numbers<N> {
    /// Takes the bytes as they came. Bytes behind the last whole number are never read.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, kind: PhantomData }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn with_capacity(numbers: usize) -> Self {
        Self::from_bytes(Vec::with_capacity(numbers * N::WIDTH))
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() / N::WIDTH
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number `i`. Panics where it is out of range, as a slice does.
    #[inline]
    pub fn at(&self, i: usize) -> N {
        N::read(&self.bytes[i * N::WIDTH..(i + 1) * N::WIDTH])
    }

    #[inline]
    pub fn push(&mut self, number: N) {
        number.write(&mut self.bytes);
    }

    pub fn truncate(&mut self, numbers: usize) {
        self.bytes.truncate(numbers * N::WIDTH);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = N> + '_ {
        (0..self.len()).map(|i| self.at(i))
    }
}

impl<N: Number> FromIterator<N> for Numbers<N> {
    fn from_iter<I: IntoIterator<Item = N>>(numbers: I) -> Self {
        let mut column = Self::default();
        numbers.into_iter().for_each(|number| column.push(number));
        column
    }
}

/// A column of byte strings: entry `i` is `data[ends[i-1]..ends[i]]`. Null is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blobs {
    pub data: Vec<u8>,
    pub ends: U32s,
    /// One byte per entry, 0 = null. Empty = none is null.
    pub present: Vec<u8>,
}

impl Blobs {
    pub fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self { data: Vec::with_capacity(bytes), ends: U32s::with_capacity(entries), present: Vec::new() }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Entry `i`; `None` where it is null. Panics where `i` is out of range, as a slice does.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        if self.present.get(i) == Some(&0) {
            return None;
        }
        Some(&self.data[self.range(i)])
    }

    /// Where entry `i` lies in `data`.
    #[inline]
    pub(crate) fn range(&self, i: usize) -> Range<usize> {
        let start = if i == 0 { 0 } else { self.ends.at(i - 1) as usize };
        start..self.ends.at(i) as usize
    }

    #[inline]
    pub fn push(&mut self, entry: Option<&[u8]>) {
        if let Some(bytes) = entry {
            self.data.extend_from_slice(bytes);
        }
        self.close(entry.is_some());
    }

    /// Ends an entry whose bytes were appended to `data`.
    #[inline]
    pub fn close(&mut self, present: bool) {
        if !present && self.present.is_empty() {
            self.present.resize(self.len(), 1);
        }
        if !present || !self.present.is_empty() {
            self.present.push(present.into());
        }
        self.ends.push(self.data.len() as u32);
    }

    /// Keeps the first `entries` and drops the rest, also bytes of an entry not closed.
    pub fn truncate(&mut self, entries: usize) {
        let end = if entries == 0 { 0 } else { self.ends.at(entries - 1) as usize };
        self.data.truncate(end);
        self.ends.truncate(entries);
        self.present.truncate(entries);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|i| self.get(i))
    }
}

impl<'a> FromIterator<Option<&'a [u8]>> for Blobs {
    fn from_iter<I: IntoIterator<Item = Option<&'a [u8]>>>(entries: I) -> Self {
        let mut blobs = Self::default();
        entries.into_iter().for_each(|entry| blobs.push(entry));
        blobs
    }
}

/// Headers of a batch: record `i` owns `ends[i-1]..ends[i]` of `names` and `values`. Empty `ends` = no record has any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pub ends: U32s,
    pub names: Blobs,
    pub values: Blobs,
}

impl Headers {
    /// The headers of record `i`, name and value.
    pub fn of(&self, i: usize) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let range = if self.ends.is_empty() { 0..0 } else { self.end(i)..self.end(i + 1) };
        range.map(|header| {
            let name = self.names.get(header).unwrap_or_default();
            (std::str::from_utf8(name).unwrap_or_default(), self.values.get(header))
        })
    }

    /// Where the headers of the first `records` records end, in a column that is not empty.
    fn end(&self, records: usize) -> usize {
        if records == 0 { 0 } else { self.ends.at(records - 1) as usize }
    }

    /// Keeps the headers of the first `records` records. A column that says nothing stays one.
    pub(crate) fn truncate(&mut self, records: usize) {
        if self.ends.is_empty() {
            return;
        }
        let headers = self.end(records);
        self.ends.truncate(records);
        self.names.truncate(headers);
        self.values.truncate(headers);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub watermark: i64,
    pub now: i64,
}

#[derive(Clone, Debug, Default)]
pub struct Keyed {
    pub keys: Blobs,
    pub values: Blobs,
}

#[derive(Clone, Debug, Default)]
pub struct RecordBatch {
    pub keyed: Keyed,
    pub slots: U32s,
    pub inputs: Vec<u8>,
    pub values: Blobs,
    pub event_times: S64s,
    pub record_keys: Option<Blobs>,
    pub headers: Option<Headers>,
    pub coordinates: Option<(S32s, S64s)>,
    pub seeds: U64s,
}

#[derive(Clone, Debug, Default)]
pub struct TimerBatch {
    pub keyed: Keyed,
    pub slots: U32s,
    pub timers: Vec<u8>,
    pub times: S64s,
    pub seeds: U64s,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub emitted: Emitted,
    pub writes: StateWrites,
    pub timers: TimerWrites,
    pub refusals: Vec<Refusal>,
    pub filtered: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emitted {
    pub origins: U32s,
    pub outputs: Vec<u8>,
    pub values: Option<Blobs>,
    pub keys: Option<Blobs>,
    pub event_times: S64s,
    pub headers: Option<Headers>,
    pub partitions: S32s,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateWrites {
    pub states: Vec<u8>,
    pub slots: U32s,
    pub ops: Vec<u8>,
    pub values: Blobs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerWrites {
    pub timers: Vec<u8>,
    pub slots: U32s,
    pub times: S64s,
    pub ops: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub record_index: u32,
    pub code: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_bytes_keeps_null_and_empty_apart_and_can_be_cut_back() {
        let entries = [Some(&b"a"[..]), None, Some(b""), Some(b"bc")];
        let mut blobs: Blobs = entries.into_iter().collect();
        assert_eq!(blobs.iter().collect::<Vec<_>>(), entries);
        blobs.truncate(2);
        assert_eq!(blobs.iter().collect::<Vec<_>>(), entries[..2]);
        assert_eq!(blobs.data, b"a");
    }

    #[test]
    fn headers_are_read_whether_no_record_has_any_or_some_or_all() {
        let names = |headers: &Headers, i| headers.of(i).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let absent = Headers::default();
        assert!((0..4).all(|i| names(&absent, i).is_empty()));
        let partly = Headers {
            ends: U32s::from_iter([0, 2, 2]),
            names: [Some(&b"a"[..]), Some(b"b")].into_iter().collect(),
            values: [Some(&b"1"[..]), None].into_iter().collect(),
        };
        assert_eq!([0, 1, 2].map(|i| names(&partly, i)), [vec![], vec!["a".to_owned(), "b".to_owned()], vec![]]);
        let whole = Headers { ends: U32s::from_iter([1, 2]), ..partly.clone() };
        assert_eq!([0, 1].map(|i| names(&whole, i)), [["a"], ["b"]]);
        let mut cut = partly;
        cut.truncate(1);
        assert_eq!((cut.ends.len(), cut.names.len()), (1, 0));
        let mut cut = absent;
        cut.truncate(1);
        assert_eq!(cut, Headers::default());
    }

    #[test]
    fn bytes_of_an_entry_that_was_not_closed_are_cut_off() {
        let mut blobs: Blobs = [Some(&b"a"[..])].into_iter().collect();
        blobs.data.extend_from_slice(b"half");
        blobs.truncate(1);
        assert_eq!(blobs.data, b"a");
    }
}
