//! A module as records of a topic: cut into chunks, each with a checksum, put together again by its digest.
//!
//! Owns the bytes of such a record, described in `docs/formats/modules.md`. Pure: knows no topic and no file. A module
//! that is put together from chunks is returned only if its bytes have the expected digest.

use crate::model::Digest;

/// Small enough for a record of 1 MiB, which every cluster takes by default.
pub const CHUNK_BYTES: usize = 512 << 10;
const VERSION: u8 = 1;
/// Version, index, count, bytes of the module.
const HEADER_LEN: usize = 1 + 4 + 4 + 8;
const CRC_LEN: usize = 4;

/// One record's key and value.
pub struct ChunkRecord {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// A chunk as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    pub digest: Digest,
    pub index: u32,
    pub count: u32,
    /// Of the whole module.
    pub total_bytes: u64,
    pub payload: &'a [u8],
}

/// The records of a module, in order.
pub fn records(digest: Digest, module: &[u8]) -> impl Iterator<Item = ChunkRecord> {
    let count = module.len().div_ceil(CHUNK_BYTES).max(1);
    (0..count).map(move |index| {
        let payload = &module[index * CHUNK_BYTES..module.len().min((index + 1) * CHUNK_BYTES)];
        let mut value = Vec::with_capacity(HEADER_LEN + payload.len() + CRC_LEN);
        value.push(VERSION);
        value.extend_from_slice(&(index as u32).to_le_bytes());
        value.extend_from_slice(&(count as u32).to_le_bytes());
        value.extend_from_slice(&(module.len() as u64).to_le_bytes());
        value.extend_from_slice(payload);
        let key = key(digest, index as u32);
        let crc = checksum(&key, &value);
        value.extend_from_slice(&crc.to_le_bytes());
        ChunkRecord { key, value }
    })
}

/// Whether a key is one of a chunk's record.
pub fn is_chunk(key: &[u8]) -> bool {
    read_key(key).is_some()
}

/// Reads what [`records`] writes.
///
/// # Errors
/// What is wrong with the record.
pub fn read<'a>(key: &[u8], value: &'a [u8]) -> Result<Chunk<'a>, String> {
    let (digest, index) = read_key(key).ok_or("its key is none of a chunk")?;
    let (covered, crc) = value.split_last_chunk::<CRC_LEN>().ok_or("it is too short for a checksum")?;
    if checksum(key, covered) != u32::from_le_bytes(*crc) {
        return Err("its checksum is wrong".to_owned());
    }
    let (version, rest) = covered.split_first().ok_or("it has no version")?;
    if *version != VERSION {
        return Err(format!("it is written in version {version}, this program reads {VERSION}"));
    }
    let header = rest.split_at_checked(HEADER_LEN - 1).ok_or("its header is cut off")?;
    let ((Some(([stored_index, count], [])), Some(total_bytes)), payload) =
        ((header.0.first_chunk::<8>().map(|words| words.as_chunks::<4>()), header.0.last_chunk::<8>()), header.1)
    else {
        return Err("its header is cut off".to_owned());
    };
    let (stored_index, count) = (u32::from_le_bytes(*stored_index), u32::from_le_bytes(*count));
    if stored_index != index || index >= count || payload.len() > CHUNK_BYTES {
        return Err(format!("it says that it is chunk {stored_index} of {count}, its key says {index}"));
    }
    Ok(Chunk { digest, index, count, total_bytes: u64::from_le_bytes(*total_bytes), payload })
}

/// Puts the chunks of one module after the other together, as they come.
#[derive(Default)]
pub struct Assembly {
    digest: Option<Digest>,
    next: u32,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Takes the next record of the topic. A module that is now complete, with its digest; one whose chunks do not
    /// follow each other is dropped.
    ///
    /// # Errors
    /// All chunks are there, but their bytes do not have the module's digest.
    pub fn add(&mut self, chunk: &Chunk<'_>) -> Result<Option<(Digest, Vec<u8>)>, String> {
        if chunk.index == 0 {
            (self.digest, self.next) = (Some(chunk.digest), 0);
            self.bytes.clear();
        } else if self.digest != Some(chunk.digest) || self.next != chunk.index {
            *self = Self::default();
            return Ok(None);
        }
        self.bytes.extend_from_slice(chunk.payload);
        self.next = chunk.index + 1;
        if self.next < chunk.count {
            return Ok(None);
        }
        let bytes = std::mem::take(self).bytes;
        let found = Digest::of(&bytes);
        if found != chunk.digest || bytes.len() as u64 != chunk.total_bytes {
            let (len, total) = (bytes.len(), chunk.total_bytes);
            return Err(format!("its chunks make {found} of {len} bytes, {} of {total} was meant", chunk.digest));
        }
        Ok(Some((chunk.digest, bytes)))
    }

    /// Drops the chunks that were taken so far.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// 64 hex digits of the digest, a slash, the index in five digits: chunks sort in order.
fn key(digest: Digest, index: u32) -> Vec<u8> {
    let digest = digest.to_string();
    let hex = digest.strip_prefix("sha256:").unwrap_or(&digest);
    format!("{hex}/{index:05}").into_bytes()
}

fn read_key(key: &[u8]) -> Option<(Digest, u32)> {
    let (hex, index) = std::str::from_utf8(key).ok()?.split_once('/')?;
    Some((Digest::parse(hex)?, index.parse().ok()?))
}

/// Covers key and value, so that a value under the key of another chunk is noticed.
fn checksum(key: &[u8], covered: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(covered);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put_together(records: &[ChunkRecord]) -> Option<(Digest, Vec<u8>)> {
        let mut assembly = Assembly::default();
        let mut whole = None;
        for record in records {
            if let Some(module) = assembly.add(&read(&record.key, &record.value).unwrap()).unwrap() {
                whole = Some(module);
            }
        }
        whole
    }

    fn module(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    #[test]
    fn a_module_of_any_size_comes_out_as_it_went_in() {
        for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let bytes = module(len);
            let records: Vec<_> = records(Digest::of(&bytes), &bytes).collect();
            assert_eq!(records.len(), len.div_ceil(CHUNK_BYTES).max(1));
            assert_eq!(put_together(&records), Some((Digest::of(&bytes), bytes)), "{len} bytes");
        }
    }

    #[test]
    fn chunks_that_are_missing_or_mixed_up_make_no_module() {
        let bytes = module(2 * CHUNK_BYTES + 5);
        let chunks = || records(Digest::of(&bytes), &bytes).collect::<Vec<_>>();
        for left_out in 0..3 {
            let mut records = chunks();
            records.remove(left_out);
            assert_eq!(put_together(&records), None, "without chunk {left_out}");
        }
        let mut records = chunks();
        records.swap(1, 2);
        assert_eq!(put_together(&records), None);
        // A whole one behind a torn one is found.
        let mut records = chunks();
        records.truncate(2);
        records.extend(chunks());
        assert!(put_together(&records).is_some());
    }

    #[test]
    fn chunks_of_other_bytes_under_a_digest_are_an_error_and_never_given_out() {
        let (meant, written) = (module(10), module(11));
        let mut assembly = Assembly::default();
        for record in records(Digest::of(&meant), &written) {
            assembly.add(&read(&record.key, &record.value).unwrap()).unwrap_err();
        }
    }

    #[test]
    fn a_record_is_written_as_the_golden_file_has_it() {
        let bytes = module(40);
        let record = records(Digest::of(&bytes), &bytes).next().unwrap();
        crate::golden::check("registry/golden/chunk-v1.bin", &[record.key, record.value].concat());
    }

    #[test]
    fn a_record_of_another_version_is_refused_by_its_number() {
        let bytes = module(40);
        let mut record = records(Digest::of(&bytes), &bytes).next().unwrap();
        let covered = record.value.len() - CRC_LEN;
        record.value[0] = 9;
        let crc = checksum(&record.key, &record.value[..covered]).to_le_bytes();
        record.value[covered..].copy_from_slice(&crc);
        assert!(read(&record.key, &record.value).unwrap_err().contains("version 9"));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_a_record_is_noticed(at in 0..1_000_usize, bit in 0..8_u32) {
            let bytes = module(40);
            let mut record = records(Digest::of(&bytes), &bytes).next().unwrap();
            let len = record.key.len() + record.value.len();
            let at = at % len;
            match at.checked_sub(record.key.len()) {
                None => record.key[at] ^= 1 << bit,
                Some(at) => record.value[at] ^= 1 << bit,
            }
            read(&record.key, &record.value).unwrap_err();
        }

        #[test]
        fn no_bytes_panic(key in proptest::collection::vec(any::<u8>(), 0..80), value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&key, &value);
        }
    }
}
