//! The delta of an epoch: its header and the state changes that it commits.
//!
//! ```text
//! header length u32 LE | header | body format u8 | body length before compression u64 LE | body, LZ4 block
//! body: entries u32 LE, then per entry: key length u32 LE | value length u32 LE (0xFFFFFFFF: delete) | key | value
//! ```
//! Keys ascend and come once. These bytes are cut into chunks (`chunk`), wherever the cut falls.

use super::header::{Header, HeaderHash, hash};
use super::{Error, chunk};
use crate::model::{Blobs, Uid};

/// This layout of the body, compressed as an LZ4 block.
pub(super) const BODY_FORMAT: u8 = 1;
/// Against a damaged length: no delta comes near it, since epochs close long before.
pub(super) const MAX_BODY_BYTES: usize = 1 << 30;
const DELETE: u32 = u32::MAX;

/// A whole delta, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub header: Header,
    pub hash: HeaderHash,
    pub keys: Blobs,
    /// Null: the key is deleted.
    pub values: Blobs,
}

/// Makes the changelog records of one epoch, each at most `max_chunk_bytes` long, to be written in
/// order and in one transaction. `keys` ascend; a null value deletes.
///
/// # Errors
/// `TooLarge` where the changes pass what one delta holds, or the chunks are too small for their frame.
pub fn encode_delta(
    header: &Header,
    keys: &Blobs,
    values: &Blobs,
    max_chunk_bytes: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    let head = header.encode()?;
    let body = encode_body(keys, values);
    if body.len() > MAX_BODY_BYTES {
        let found = format!("{} bytes of changes, a delta holds {MAX_BODY_BYTES}", body.len());
        return Err(Error::TooLarge { epoch: header.epoch, found });
    }
    let compressed = lz4_flex::block::compress(&body);
    let mut bytes = Vec::with_capacity(head.len() + compressed.len() + 16);
    bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.push(BODY_FORMAT);
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&compressed);
    chunk::cut(header.epoch, header.owner.session, &bytes, max_chunk_bytes)
}

/// Reads what the chunks of one delta hold together. `epoch` and `session` are those of the chunks.
pub(super) fn decode(epoch: u64, session: Uid, bytes: &[u8]) -> Result<Delta, Error> {
    let damaged = |found: &str| Error::Damaged { epoch, found: found.to_owned() };
    let mut rest = Reader(bytes);
    let head =
        rest.u32().and_then(|len| rest.take(len as usize)).ok_or_else(|| damaged("it ends inside its header"))?;
    let header = Header::decode(head)?;
    if (header.epoch, header.owner.session) != (epoch, session) {
        return Err(damaged(&format!("its header is of epoch {}, session {}", header.epoch, header.owner.session)));
    }
    let (body_format, body_len) =
        rest.u8().zip(rest.u64()).ok_or_else(|| damaged("it ends inside its body's length"))?;
    if body_format != BODY_FORMAT {
        let (found, known) = (u16::from(body_format), u16::from(BODY_FORMAT));
        return Err(Error::Version { what: "delta's body", found, known });
    }
    let body_len = usize::try_from(body_len).ok().filter(|len| *len <= max_body(rest.0.len()));
    let body_len = body_len.ok_or_else(|| damaged("its body is longer than its bytes can hold"))?;
    let body = lz4_flex::block::decompress(rest.0, body_len).map_err(|e| damaged(&format!("decompress: {e}")))?;
    if body.len() != body_len {
        return Err(damaged(&format!("its body has {} bytes, {body_len} were written", body.len())));
    }
    let (keys, values) = decode_body(&body).map_err(damaged)?;
    Ok(Delta { header, hash: hash(head), keys, values })
}

/// For a build that breaks a rule on purpose: the header of a delta whose last chunks are missing, and no changes.
pub(super) fn decode_torn(epoch: u64, bytes: &[u8]) -> Option<Delta> {
    let mut rest = Reader(bytes);
    let head = rest.u32().and_then(|len| rest.take(len as usize))?;
    let header = Header::decode(head).ok().filter(|header| header.epoch == epoch)?;
    Some(Delta { header, hash: hash(head), keys: Blobs::new(), values: Blobs::new() })
}

impl Delta {
    /// For a build that breaks a rule on purpose.
    pub(super) fn forget_second_half(&mut self) {
        let half = self.keys.len().div_ceil(2);
        let first = |of: &Blobs| of.iter().take(half).collect();
        (self.keys, self.values) = (first(&self.keys), first(&self.values));
    }
}

/// LZ4 makes at most 255 bytes of one: a length past that is damage, seen before memory is taken for it.
fn max_body(compressed: usize) -> usize {
    compressed.saturating_mul(255).saturating_add(64).min(MAX_BODY_BYTES)
}

pub(super) fn encode_body(keys: &Blobs, values: &Blobs) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + keys.byte_len() + values.byte_len() + 8 * keys.len());
    body.extend_from_slice(&(keys.len() as u32).to_le_bytes());
    for (key, value) in keys.iter().zip(values.iter()) {
        let key = key.unwrap_or_default();
        body.extend_from_slice(&(key.len() as u32).to_le_bytes());
        body.extend_from_slice(&value.map_or(DELETE, |value| value.len() as u32).to_le_bytes());
        body.extend_from_slice(key);
        body.extend_from_slice(value.unwrap_or_default());
    }
    body
}

fn decode_body(body: &[u8]) -> Result<(Blobs, Blobs), &'static str> {
    let mut rest = Reader(body);
    let (mut keys, mut values) = (Blobs::new(), Blobs::new());
    let count = rest.u32().ok_or("its body ends inside its count")?;
    for entry in 0..count as usize {
        let (key, value) = rest.entry().ok_or("its body ends inside an entry")?;
        if entry > 0 && keys.bytes(entry - 1) >= key {
            return Err("its keys do not ascend");
        }
        keys.push(Some(key));
        values.push(value);
    }
    if rest.0.is_empty() { Ok((keys, values)) } else { Err("its body goes on behind the last entry") }
}

/// Takes fields off the front; `None` where they are not there whole.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    fn entry(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let (key_len, value_len) = (self.u32()?, self.u32()?);
        let key = self.take(key_len as usize)?;
        let value = if value_len == DELETE { None } else { Some(self.take(value_len as usize)?) };
        Some((key, value))
    }
}
