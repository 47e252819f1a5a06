//! The stored form of a record batch: columns end to end, so that reading is a handful of bulk copies.
//!
//! Owns the layout (described in `docs/formats/embedded-log.md`, held by a golden file). Knows nothing of
//! RocksDB. Bytes that were not written by [`Sealed`] are refused with what is wrong, whatever they are.

use std::ops::Range;

use crate::log::Budget;
use crate::model::{Blobs, Headers, PartitionBatch};

pub const VERSION: u8 = 1;
/// A stored batch holds at most so much, unless one record alone is larger: a reader unpacks whole batches.
pub const FULL: Budget = Budget { max_records: 16_384, max_bytes: 1 << 20 };

const HEAD: usize = 44;
const SPARSE: u8 = 1;
const NULL_KEYS: u8 = 2;
const NULL_VALUES: u8 = 4;
const HEADERS: u8 = 8;
const NULL_HEADER_VALUES: u8 = 16;

/// An encoded batch that does not know its offsets yet: they are given under the append lock, by the
/// key that it is stored under, and everything costly is done by then.
pub struct Sealed {
    bytes: Vec<u8>,
    crc: crc32fast::Hasher,
    pub records: u32,
    /// Last offset minus first offset.
    pub span: u32,
    pub max_timestamp_ms: i64,
}

impl Sealed {
    /// Records that are appended: their offsets will be dense.
    pub fn of_new(batch: &PartitionBatch) -> Self {
        Self::encode(batch, &[], 0)
    }

    /// Records that compaction kept: their offsets stay. `tombstones_until_ms` is when the tombstones among
    /// them may go, 0 where that is not decided.
    pub fn of_kept(batch: &PartitionBatch, tombstones_until_ms: i64) -> Self {
        let dense = batch.offsets.windows(2).all(|pair| pair[1] == pair[0] + 1);
        Self::encode(batch, if dense { &[] } else { &batch.offsets }, tombstones_until_ms)
    }

    fn encode(batch: &PartitionBatch, sparse: &[i64], tombstones_until_ms: i64) -> Self {
        let records = batch.len() as u32;
        let first = sparse.first().copied().unwrap_or_default();
        let span = sparse.last().map_or(records.saturating_sub(1), |last| (last - first) as u32);
        let headers = &batch.headers;
        let mut bytes = Vec::with_capacity(HEAD + 32 + batch.byte_len() + batch.len() * 26);
        bytes.extend_from_slice(&[VERSION, flags(batch, sparse), 0, 0]);
        put_u32s(&mut bytes, [0, records, span].into_iter());
        bytes.extend_from_slice(&tombstones_until_ms.to_le_bytes());
        let lengths = [&batch.keys, &batch.values, &headers.names, &headers.values].map(|c| c.byte_len() as u32);
        put_u32s(&mut bytes, lengths.into_iter().chain([headers.names.len() as u32]));
        put_u64s(&mut bytes, &batch.timestamps_ms);
        put_u32s(&mut bytes, sparse.iter().map(|offset| (offset - first) as u32));
        put_column(&mut bytes, &batch.keys);
        put_column(&mut bytes, &batch.values);
        if !headers.ends.is_empty() {
            put_u32s(&mut bytes, headers.ends.iter().copied());
            put_column(&mut bytes, &headers.names);
            put_column(&mut bytes, &headers.values);
        }
        let max_timestamp_ms = batch.timestamps_ms.iter().copied().max().unwrap_or(i64::MIN);
        Self { crc: covered(&bytes), bytes, records, span, max_timestamp_ms }
    }

    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes to store under `key`. The checksum covers the key too: a batch under another's key is damage.
    pub fn under(mut self, key: &[u8]) -> Vec<u8> {
        self.crc.update(key);
        self.bytes[4..8].copy_from_slice(&self.crc.finalize().to_le_bytes());
        self.bytes
    }
}

/// Why stored bytes are no batch.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the batch ends before its {0}")]
    Short(&'static str),
    #[error("the batch has {0} bytes behind its columns")]
    Long(usize),
    #[error("the batch was written in version {0}, this program reads {VERSION}")]
    Version(u8),
    #[error("the checksum is {stored:08x}, the bytes give {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("column {column}: {found}")]
    Column { column: &'static str, found: String },
}

/// Replaces the columns of `into` by the batch that `key` (whose last offset is `last`) leads to. Returns
/// when its tombstones may go, in milliseconds since 1970, or 0. After an error `into` is empty.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(key: &[u8], last: i64, bytes: &[u8], into: &mut PartitionBatch) -> Result<i64, Malformed> {
    into.clear();
    check(key, bytes)?;
    decode_columns(last, bytes, into).inspect_err(|_| into.clear())
}

fn check(key: &[u8], bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() < HEAD {
        return Err(Malformed::Short("head"));
    }
    let stored = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let mut crc = covered(bytes);
    crc.update(key);
    let computed = crc.finalize();
    if stored != computed {
        return Err(Malformed::Checksum { stored, computed });
    }
    if bytes[0] != VERSION {
        return Err(Malformed::Version(bytes[0]));
    }
    Ok(())
}

fn decode_columns(last: i64, bytes: &[u8], into: &mut PartitionBatch) -> Result<i64, Malformed> {
    let flags = bytes[1];
    let mut rest = Rest(&bytes[8..]);
    let [records, span] = [rest.u32("count")?, rest.u32("span")?];
    let tombstones_until_ms = rest.i64("tombstones")?;
    let [keys, values, names, header_values] =
        [rest.u32("keys")?, rest.u32("values")?, rest.u32("names")?, rest.u32("header values")?];
    let headers = rest.u32("header count")?;
    let timestamps = rest.take(records as usize * 8, "timestamps")?;
    into.timestamps_ms.extend(timestamps.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)));
    let sparse = rest.take(if flags & SPARSE == 0 { 0 } else { records as usize * 4 }, "offsets")?;
    decode_offsets(last, span, records, sparse, &mut into.offsets)?;
    rest.column("keys", (records, keys), flags & NULL_KEYS != 0, &mut into.keys)?;
    rest.column("values", (records, values), flags & NULL_VALUES != 0, &mut into.values)?;
    if flags & HEADERS != 0 {
        let ends = rest.take(records as usize * 4, "header ends")?;
        into.headers.ends.extend(ends.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)));
        rest.column("header names", (headers, names), false, &mut into.headers.names)?;
        let nulls = flags & NULL_HEADER_VALUES != 0;
        rest.column("header values", (headers, header_values), nulls, &mut into.headers.values)?;
        check_header_ends(&into.headers)?;
    }
    if rest.0.is_empty() { Ok(tombstones_until_ms) } else { Err(Malformed::Long(rest.0.len())) }
}

fn decode_offsets(last: i64, span: u32, records: u32, sparse: &[u8], into: &mut Vec<i64>) -> Result<(), Malformed> {
    let wrong = |found: String| Malformed::Column { column: "offsets", found };
    let first = last - i64::from(span);
    if records == 0 || first < 0 {
        return Err(wrong(format!("{records} records from offset {first} to {last}")));
    }
    if sparse.is_empty() {
        into.extend(first..=first + i64::from(records) - 1);
    } else {
        into.extend(sparse.as_chunks::<4>().0.iter().map(|word| first + i64::from(u32::from_le_bytes(*word))));
    }
    let ascend = into.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascend || into.first() != Some(&first) || into.last() != Some(&last) {
        return Err(wrong(format!("do not ascend from {first} to {last}")));
    }
    Ok(())
}

fn check_header_ends(headers: &Headers) -> Result<(), Malformed> {
    let ascend = headers.ends.is_sorted() && headers.ends.last() == Some(&(headers.names.len() as u32));
    if ascend {
        return Ok(());
    }
    Err(Malformed::Column { column: "header ends", found: format!("do not ascend to {}", headers.names.len()) })
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short(what))?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*taken))
    }

    fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short(what))?;
        self.0 = rest;
        Ok(i64::from_le_bytes(*taken))
    }

    fn column(
        &mut self,
        column: &'static str,
        (entries, bytes): (u32, u32),
        nulls: bool,
        into: &mut Blobs,
    ) -> Result<(), Malformed> {
        let ends = self.take(entries as usize * 4, column)?;
        let present = self.take(if nulls { entries as usize } else { 0 }, column)?;
        let data = self.take(bytes as usize, column)?;
        into.assign_parts(data, ends, present)
            .map_err(|malformed| Malformed::Column { column, found: malformed.to_string() })
    }
}

/// Bytes of a batch's keys, values and headers.
pub fn byte_len(batch: &PartitionBatch) -> usize {
    bytes_before(batch, batch.len())
}

/// How many of the records `from..` fit into a budget, as the position behind the last that does; `from`
/// where even the first does not.
pub fn fit(batch: &PartitionBatch, from: usize, budget: Budget) -> usize {
    let limit = bytes_before(batch, from).saturating_add(budget.max_bytes);
    let Range { mut start, mut end } = from..from.saturating_add(budget.max_records).min(batch.len());
    while start < end {
        let middle = start + (end - start).div_ceil(2);
        if bytes_before(batch, middle) <= limit { start = middle } else { end = middle - 1 }
    }
    start
}

fn bytes_before(batch: &PartitionBatch, i: usize) -> usize {
    let headers = match i.checked_sub(1).and_then(|last| batch.headers.ends.get(last)) {
        Some(&end) => batch.headers.names.offset(end as usize) + batch.headers.values.offset(end as usize),
        None => 0,
    };
    batch.keys.offset(i) + batch.values.offset(i) + headers
}

fn flags(batch: &PartitionBatch, sparse: &[i64]) -> u8 {
    let headers = &batch.headers;
    [
        (SPARSE, !sparse.is_empty()),
        (NULL_KEYS, !batch.keys.present().is_empty()),
        (NULL_VALUES, !batch.values.present().is_empty()),
        (HEADERS, !headers.ends.is_empty()),
        (NULL_HEADER_VALUES, !headers.ends.is_empty() && !headers.values.present().is_empty()),
    ]
    .into_iter()
    .fold(0, |flags, (flag, set)| if set { flags | flag } else { flags })
}

/// The checksum of all but the checksum itself.
fn covered(bytes: &[u8]) -> crc32fast::Hasher {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..4]);
    crc.update(&bytes[8..]);
    crc
}

fn put_column(bytes: &mut Vec<u8>, column: &Blobs) {
    put_u32s(bytes, column.ends().iter().copied());
    bytes.extend_from_slice(column.present());
    bytes.extend_from_slice(column.data());
}

/// Space first, then words into it: the compiler makes wide copies of that, and not of pushes.
fn put_u32s(bytes: &mut Vec<u8>, words: impl Iterator<Item = u32> + Clone) {
    let start = bytes.len();
    bytes.resize(start + 4 * words.clone().count(), 0);
    for (place, word) in bytes[start..].as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
}

fn put_u64s(bytes: &mut Vec<u8>, words: &[i64]) {
    let start = bytes.len();
    bytes.resize(start + 8 * words.len(), 0);
    for (place, word) in bytes[start..].as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
}

#[cfg(test)]
mod tests;
