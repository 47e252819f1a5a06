//! The bytes of a stored batch. Described in `docs/formats/embedded-log.md`; held still by a golden file.
//!
//! `FBL` and a version byte; CRC-32 of the rest (u32); append time (i64); number of records (u32); flags
//! (bit 0: offsets are explicit; bit 1: there are headers); offsets (i64 each) where they are explicit;
//! timestamps (i64 each, -1 = append time); keys; values; then headers: ends (u32 each), names, values.
//! A column of byte strings is: length of the data (u32), number of entries (u32), length of `present`
//! (u32), data, ends (u32 each), present. All numbers are little endian.

use rocksdb::{DB, Direction, IteratorMode};

use super::{Error, keys};
use crate::model::{Blobs, Headers, PartitionBatch, PartitionId, TopicId};

pub const VERSION: u8 = 1;
const MAGIC: [u8; 4] = [b'F', b'B', b'L', VERSION];
/// Magic, CRC and append time: what [`seal`] fills in.
const FRONT_BYTES: usize = 4 + 4 + 8;
const EXPLICIT_OFFSETS: u8 = 1;
const HAS_HEADERS: u8 = 2;

/// Encodes the records `range`; [`seal`] makes it fit to be stored. Offsets are left out unless `explicit`.
pub fn encode(batch: &PartitionBatch, range: std::ops::Range<usize>, explicit: bool) -> Vec<u8> {
    let mut whole;
    let batch = if range == (0..batch.len()) {
        batch
    } else {
        whole = PartitionBatch::new(&batch.topic, batch.partition);
        for i in range {
            let (key, value) = (batch.keys.get(i), batch.values.get(i));
            let headers = batch.headers.of(i);
            whole.push_with_headers(batch.offsets[i], batch.timestamps_ms[i], key, value, headers);
        }
        &whole
    };
    let mut out = vec![0; FRONT_BYTES];
    out.reserve(batch.byte_len() + 40 * batch.len() + 64);
    let has_headers = !batch.headers.ends.is_empty();
    out.extend_from_slice(&(batch.len() as u32).to_le_bytes());
    out.push(if explicit { EXPLICIT_OFFSETS } else { 0 } | if has_headers { HAS_HEADERS } else { 0 });
    if explicit {
        batch.offsets.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes()));
    }
    batch.timestamps_ms.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
    encode_column(&batch.keys, &mut out);
    encode_column(&batch.values, &mut out);
    if has_headers {
        out.extend_from_slice(&(batch.headers.ends.len() as u32).to_le_bytes());
        batch.headers.ends.iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
        encode_column(&batch.headers.names, &mut out);
        encode_column(&batch.headers.values, &mut out);
    }
    out
}

/// Magic, append time and checksum go in front.
pub fn seal(encoded: &[u8], append_time_ms: i64) -> Vec<u8> {
    let mut sealed = encoded.to_vec();
    sealed[..4].copy_from_slice(&MAGIC);
    sealed[8..16].copy_from_slice(&append_time_ms.to_le_bytes());
    let crc = crc32fast::hash(&sealed[8..]);
    sealed[4..8].copy_from_slice(&crc.to_le_bytes());
    sealed
}

/// Appends the records of a stored batch to `into`.
///
/// # Errors
/// [`Error::Corrupt`].
pub fn decode(bytes: &[u8], base: i64, into: &mut PartitionBatch) -> Result<(), Error> {
    decode_parts(bytes, base, into).map_err(|found| Error::Corrupt {
        doing: format!("read {}/{} at offset {base}", into.topic, into.partition),
        found: found.to_owned(),
    })
}

fn decode_parts(bytes: &[u8], base: i64, into: &mut PartitionBatch) -> Result<(), &'static str> {
    let mut rest = Rest(bytes);
    if rest.take(4)? != MAGIC {
        return Err("it is no batch of this version");
    }
    if rest.u32()? != crc32fast::hash(rest.0) {
        return Err("its checksum does not hold");
    }
    let append_time = rest.i64()?;
    let count = rest.u32()? as usize;
    let flags = rest.take(1)?[0];
    if flags & EXPLICIT_OFFSETS != 0 {
        into.offsets.extend(numbers(rest.take(8 * count)?).map(i64::from_le_bytes));
    } else {
        into.offsets.extend((0..count as i64).map(|i| base + i));
    }
    let times = numbers(rest.take(8 * count)?).map(i64::from_le_bytes);
    into.timestamps_ms.extend(times.map(|time| if time < 0 { append_time } else { time }));
    let before = into.keys.len();
    let keys = rest.column()?;
    let values = rest.column()?;
    if keys.len() != count || values.len() != count {
        return Err("its columns differ in length");
    }
    append_column(&mut into.keys, keys);
    append_column(&mut into.values, values);
    if flags & HAS_HEADERS != 0 {
        append_headers(&mut into.headers, before, count, &mut rest)?;
    } else if !into.headers.ends.is_empty() {
        let end = into.headers.names.len() as u32;
        into.headers.ends.resize(before + count, end);
    }
    Ok(())
}

fn append_headers(headers: &mut Headers, before: usize, count: usize, rest: &mut Rest<'_>) -> Result<(), &'static str> {
    let entries = rest.u32()? as usize;
    let ends: Vec<u32> = numbers(rest.take(4 * entries)?).map(u32::from_le_bytes).collect();
    let (names, values) = (rest.column()?, rest.column()?);
    let last = ends.last().copied().unwrap_or(0) as usize;
    if entries != count || !ends.is_sorted() || names.len() != last || values.len() != last {
        return Err("its headers do not fit its records");
    }
    let shift = headers.names.len() as u32;
    headers.ends.resize(before, shift);
    headers.ends.extend(ends.iter().map(|end| end + shift));
    append_column(&mut headers.names, names);
    append_column(&mut headers.values, values);
    Ok(())
}

fn encode_column(column: &Blobs, out: &mut Vec<u8>) {
    for length in [column.byte_len(), column.len(), column.present().len()] {
        out.extend_from_slice(&(length as u32).to_le_bytes());
    }
    out.extend_from_slice(column.data());
    column.ends().iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
    out.extend_from_slice(column.present());
}

/// Takes the column over where there is nothing yet, which is the way of most reads.
fn append_column(into: &mut Blobs, column: Blobs) {
    if into.is_empty() {
        *into = column;
    } else {
        let all = 0..column.len();
        into.append_range(&column, all);
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(self.take(4)?.try_into().map_or(0, u32::from_le_bytes))
    }

    fn i64(&mut self) -> Result<i64, &'static str> {
        Ok(self.take(8)?.try_into().map_or(0, i64::from_le_bytes))
    }

    fn column(&mut self) -> Result<Blobs, &'static str> {
        let (data, entries, present) = (self.u32()? as usize, self.u32()? as usize, self.u32()? as usize);
        let data = self.take(data)?.to_vec();
        let ends = numbers(self.take(4 * entries)?).map(u32::from_le_bytes).collect();
        let present = self.take(present)?.to_vec();
        Blobs::from_parts(data, ends, present).map_err(|malformed| malformed.what)
    }
}

fn numbers<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().copied()
}

/// The batch that holds `offset`, or that begins last before it.
pub fn batch_at(db: &DB, id: TopicId, partition: PartitionId, offset: i64) -> Result<Option<(i64, Box<[u8]>)>, Error> {
    let key = keys::batch(id, partition, offset);
    let mut entries = db.iterator(IteratorMode::From(&key, Direction::Reverse));
    match entries.next() {
        None => Ok(None),
        Some(Err(error)) => Err(super::storage("read the log", &error)),
        Some(Ok((key, value))) => Ok(keys::base_offset(&key, id, partition).map(|base| (base, value))),
    }
}

/// Stored batches in order, from the one that holds `offset`.
pub fn scan(
    db: &DB,
    id: TopicId,
    partition: PartitionId,
    offset: i64,
) -> impl Iterator<Item = Result<(i64, Box<[u8]>), Error>> + '_ {
    let from = match batch_at(db, id, partition, offset) {
        Ok(found) => Ok(found.map_or(offset, |(base, _)| base)),
        Err(error) => Err(error),
    };
    let (from, failed) = match from {
        Ok(from) => (from, None),
        Err(error) => (i64::MAX, Some(Err(error))),
    };
    let key = keys::batch(id, partition, from);
    let entries = db.iterator(IteratorMode::From(&key, Direction::Forward)).map_while(move |entry| match entry {
        Ok((key, value)) => keys::base_offset(&key, id, partition).map(|base| Ok((base, value))),
        Err(error) => Some(Err(super::storage("read the log", &error))),
    });
    failed.into_iter().chain(entries)
}
