//! How a delta lies in the log: cut into chunks that fit the log's record limit.
//!
//! ```text
//! "FBYD" | format u16 LE | flags u8 (1 first, 2 last) | 0 u8 | epoch u64 LE | session 16 bytes
//!        | position u32 LE | payload length u32 LE | payload
//! last chunk, behind the payload: chunks u32 LE | bytes of all payloads u64 LE | CRC-32 (IEEE) of them u32 LE
//! ```
//! A delta without its last chunk does not exist.

use super::Error;
use crate::model::Uid;

pub(super) const FORMAT: u16 = 1;
const MAGIC: &[u8; 4] = b"FBYD";
const FIRST: u8 = 1;
const LAST: u8 = 2;
const FRAME: usize = 40;
const TRAILER: usize = 16;
const WHAT: &str = "chunk of a delta";

/// One chunk, read but not yet believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub epoch: u64,
    pub session: Uid,
    pub position: u32,
    pub first: bool,
    pub payload: &'a [u8],
    pub last: Option<Trailer>,
}

/// What the last chunk says of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub chunks: u32,
    pub bytes: u64,
    pub crc: u32,
}

/// Cuts a delta's bytes into chunks of at most `max_chunk_bytes` with their frames.
pub(super) fn cut(epoch: u64, session: Uid, bytes: &[u8], max_chunk_bytes: usize) -> Result<Vec<Vec<u8>>, Error> {
    let room = max_chunk_bytes.saturating_sub(FRAME + TRAILER);
    if room == 0 {
        let found = format!("chunks of {max_chunk_bytes} bytes have no room behind their frame of {}", FRAME + TRAILER);
        return Err(Error::TooLarge { epoch, found });
    }
    let count = bytes.len().div_ceil(room).max(1);
    let chunks = u32::try_from(count)
        .map_err(|_| Error::TooLarge { epoch, found: format!("{count} chunks, a delta has at most {}", u32::MAX) })?;
    let trailer = Trailer { chunks, bytes: bytes.len() as u64, crc: crc32fast::hash(bytes) };
    let payloads = bytes.chunks(room).enumerate();
    Ok(payloads
        .map(|(at, payload)| {
            let last = (at + 1 == count).then_some(trailer);
            encode(Chunk { epoch, session, position: at as u32, first: at == 0, payload, last })
        })
        .collect())
}

fn encode(chunk: Chunk<'_>) -> Vec<u8> {
    let flags = if chunk.first { FIRST } else { 0 } | if chunk.last.is_some() { LAST } else { 0 };
    let mut out = Vec::with_capacity(FRAME + chunk.payload.len() + TRAILER);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[flags, 0]);
    out.extend_from_slice(&chunk.epoch.to_le_bytes());
    out.extend_from_slice(&chunk.session.0);
    out.extend_from_slice(&chunk.position.to_le_bytes());
    out.extend_from_slice(&(chunk.payload.len() as u32).to_le_bytes());
    out.extend_from_slice(chunk.payload);
    if let Some(trailer) = chunk.last {
        out.extend_from_slice(&trailer.chunks.to_le_bytes());
        out.extend_from_slice(&trailer.bytes.to_le_bytes());
        out.extend_from_slice(&trailer.crc.to_le_bytes());
    }
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Chunk<'_>, Error> {
    let malformed = |found: &str| Error::Malformed { what: WHAT, found: found.to_owned() };
    let (frame, rest) = bytes.split_first_chunk::<FRAME>().ok_or_else(|| malformed("it ends inside its frame"))?;
    if &frame[..4] != MAGIC {
        return Err(malformed("it does not begin with FBYD"));
    }
    let format = u16::from_le_bytes([frame[4], frame[5]]);
    if format != FORMAT {
        return Err(Error::Version { what: WHAT, found: format, known: FORMAT });
    }
    let (flags, position, len) = (frame[6], u32_at(frame, 32), u32_at(frame, 36));
    if flags & !(FIRST | LAST) != 0 || frame[7] != 0 {
        return Err(malformed("it has flags that this format does not know"));
    }
    let first = flags & FIRST != 0;
    if first != (position == 0) {
        return Err(malformed("its position and its first-chunk flag disagree"));
    }
    let split = rest.split_at_checked(len as usize);
    let (payload, behind) = split.ok_or_else(|| malformed("it ends inside its payload"))?;
    let last = match (flags & LAST != 0, behind.first_chunk::<TRAILER>()) {
        (true, Some(trailer)) if behind.len() == TRAILER => Some(decode_trailer(trailer)),
        (false, _) if behind.is_empty() => None,
        _ => return Err(malformed("what stands behind its payload is not a trailer")),
    };
    let mut session = [0; 16];
    session.copy_from_slice(&frame[16..32]);
    Ok(Chunk { epoch: u64_at(frame, 8), session: Uid(session), position, first, payload, last })
}

fn decode_trailer(bytes: &[u8; TRAILER]) -> Trailer {
    Trailer { chunks: u32_at(bytes, 0), bytes: u64_at(bytes, 4), crc: u32_at(bytes, 12) }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}
