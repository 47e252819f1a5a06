//! Where everything lies in the store: its keys, and the small values that are no record batches.
//!
//! Owns the byte layout of keys and the sealing (version and CRC-32) of small values; the layout of a
//! record batch is in `batch`. Never touches RocksDB. Described in `docs/formats/embedded-log.md`.
//!
//! A record batch lies under its LAST offset. So the first entry at or behind an offset is the one
//! that holds it, or the next that exists: one seek answers, whatever aborts, truncation and
//! compaction have removed, and "all before offset n" is a range of keys.

use std::borrow::Cow;

use crate::log::{Error, TopicInfo};
use crate::model::{PartitionId, TopicId};

/// Version of the whole store; raised when keys change their shape.
pub const STORE_VERSION: u32 = 1;
/// The entry that holds [`STORE_VERSION`].
pub const STORE: &[u8] = b"f";
/// First byte of the keys of topics.
pub const TOPICS: u8 = b't';

const PARTITIONS: u8 = b'p';
const OWNERS: u8 = b'w';
const INDEX: u8 = b'i';
const BATCHES: u8 = b'r';
const SEALED_VERSION: u8 = 1;

/// Key of a topic's description.
pub fn topic(name: &str) -> Vec<u8> {
    [&[TOPICS], name.as_bytes()].concat()
}

/// Key of the producer epoch of a transactional id.
pub fn owner(transactional_id: &str) -> Vec<u8> {
    [&[OWNERS], transactional_id.as_bytes()].concat()
}

/// Names one partition in keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: TopicId,
    pub partition: PartitionId,
}

impl Place {
    /// Key of [`Bounds`].
    pub fn bounds(self) -> [u8; 21] {
        let mut key = [PARTITIONS; 21];
        key[1..17].copy_from_slice(&self.topic.0);
        key[17..].copy_from_slice(&self.partition.to_be_bytes());
        key
    }

    /// Key of the [`IndexEntry`] of the batch that ends with `last`.
    pub fn index(self, last: i64) -> [u8; 29] {
        self.entry(INDEX, last)
    }

    /// Key of the batch that ends with `last`.
    pub fn batch(self, last: i64) -> [u8; 29] {
        self.entry(BATCHES, last)
    }

    fn entry(self, family: u8, last: i64) -> [u8; 29] {
        let mut key = [family; 29];
        key[1..17].copy_from_slice(&self.topic.0);
        key[17..21].copy_from_slice(&self.partition.to_be_bytes());
        key[21..].copy_from_slice(&last.to_be_bytes());
        key
    }
}

/// The last offset that a key of [`Place::index`] or [`Place::batch`] names.
pub fn last_offset(key: &[u8]) -> Option<i64> {
    key.last_chunk::<8>().filter(|_| key.len() == 29).map(|bytes| i64::from_be_bytes(*bytes))
}

/// The key ranges that hold all partitions of a topic, each as first key and the key behind the last.
pub fn of_topic(id: TopicId) -> [(Vec<u8>, Vec<u8>); 3] {
    [PARTITIONS, INDEX, BATCHES].map(|family| {
        let from = [&[family], &id.0[..]].concat();
        // Partitions are never negative, so this lies behind all of them and before the next topic.
        let to = [&from[..], &[0xff; 12]].concat();
        (from, to)
    })
}

/// First and next offset of a partition; the next one counts markers and what was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: i64,
    pub end: i64,
}

impl Bounds {
    pub fn to_bytes(self) -> Vec<u8> {
        seal(&[self.start.to_le_bytes(), self.end.to_le_bytes()].concat())
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Cow<'static, str>> {
        let (words, rest) = unseal(bytes)?.as_chunks::<8>();
        match (words, rest) {
            ([start, end], []) => Ok(Self { start: i64::from_le_bytes(*start), end: i64::from_le_bytes(*end) })
                .and_then(|b: Self| if (0..=b.end).contains(&b.start) { Ok(b) } else { Err("bounds descend".into()) }),
            _ => Err("bounds are not 16 bytes long".into()),
        }
    }
}

/// What can be asked of a batch without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub max_timestamp_ms: i64,
    pub records: u32,
    /// Length of the stored batch.
    pub bytes: u32,
}

impl IndexEntry {
    pub fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.records.to_le_bytes(), self.bytes.to_le_bytes()].concat();
        seal(&[&self.max_timestamp_ms.to_le_bytes()[..], &numbers].concat())
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Cow<'static, str>> {
        let (words, rest) = unseal(bytes)?.as_chunks::<4>();
        match (words, rest) {
            ([low, high, records, bytes], []) => Ok(Self {
                max_timestamp_ms: i64::from(u32::from_le_bytes(*low)) | i64::from(i32::from_le_bytes(*high)) << 32,
                records: u32::from_le_bytes(*records),
                bytes: u32::from_le_bytes(*bytes),
            }),
            _ => Err("the index entry is not 16 bytes long".into()),
        }
    }
}

pub fn topic_to_bytes(info: &TopicInfo) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(info).map_err(|error| Error::Storage {
        doing: format!("describe topic {}", info.spec.name),
        found: error.to_string(),
    })?;
    Ok(seal(&json))
}

pub fn topic_from_bytes(bytes: &[u8]) -> Result<TopicInfo, Cow<'static, str>> {
    serde_json::from_slice(unseal(bytes)?).map_err(|error| error.to_string().into())
}

/// A producer epoch, or the store's version.
pub fn number_to_bytes(number: u64) -> Vec<u8> {
    seal(&number.to_le_bytes())
}

pub fn number_from_bytes(bytes: &[u8]) -> Result<u64, Cow<'static, str>> {
    let body = unseal(bytes)?;
    Ok(u64::from_le_bytes(body.try_into().map_err(|_| "the number is not 8 bytes long")?))
}

/// version u8 | body | CRC-32 of both, little-endian
fn seal(body: &[u8]) -> Vec<u8> {
    let mut bytes = [&[SEALED_VERSION], body].concat();
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn unseal(bytes: &[u8]) -> Result<&[u8], Cow<'static, str>> {
    let (covered, crc) = bytes.split_last_chunk::<4>().ok_or("too short for a checksum")?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return Err("the checksum is wrong".into());
    }
    match covered.split_first() {
        Some((&SEALED_VERSION, body)) => Ok(body),
        Some((version, _)) => Err(format!("written in version {version}, this program reads {SEALED_VERSION}").into()),
        None => Err("no version".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { topic: TopicId([7; 16]), partition: 3 };

    #[test]
    fn keys_of_a_partition_sort_by_offset() {
        let offsets = [0, 1, 255, 256, i64::from(u32::MAX), i64::MAX];
        assert!(offsets.map(|o| PLACE.batch(o)).is_sorted());
        assert_eq!(offsets.map(|o| last_offset(&PLACE.batch(o))), offsets.map(Some));
    }

    #[test]
    fn the_ranges_of_a_topic_hold_its_keys_and_no_others() {
        let [_, index, batches] = of_topic(PLACE.topic);
        let inside = |(from, to): &(Vec<u8>, Vec<u8>), key: &[u8]| &from[..] <= key && key < &to[..];
        assert!(inside(&index, &PLACE.index(i64::MAX)));
        assert!(inside(&batches, &Place { partition: PartitionId::MAX, ..PLACE }.batch(i64::MAX)));
        let next = Place { topic: TopicId([7; 16].map(|b: u8| b + 1)), partition: 0 };
        assert!(!inside(&batches, &next.batch(0)));
        assert!(!inside(&index, &PLACE.batch(0)));
    }

    #[test]
    fn small_values_read_what_they_write_and_refuse_a_flipped_bit() {
        let bounds = Bounds { start: 4, end: 1 << 40 };
        assert_eq!(Bounds::from_bytes(&bounds.to_bytes()), Ok(bounds));
        let entry = IndexEntry { max_timestamp_ms: -5_000_000_000, records: 7, bytes: 9 };
        assert_eq!(IndexEntry::from_bytes(&entry.to_bytes()), Ok(entry));
        assert_eq!(number_from_bytes(&number_to_bytes(12)), Ok(12));
        for bit in 0..entry.to_bytes().len() * 8 {
            let mut bytes = entry.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            IndexEntry::from_bytes(&bytes).unwrap_err();
        }
        Bounds::from_bytes(&[]).unwrap_err();
    }
}
