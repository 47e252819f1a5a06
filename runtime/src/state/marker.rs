//! The marker: which epoch a store has taken in, and in which format. It is in the same write as what it marks.
//!
//! Owns its bytes, and the store's own keys. Never reads or writes a disk.

#[cfg(test)]
use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use super::key::STORE;

/// Raised with every change of the keys, values or marker at rest. A store of another format is not
/// read but rebuilt from the changelog.
pub(super) const FORMAT: u32 = 2;

pub(super) const FORMAT_KEY: &[u8] = &[STORE, b'f'];
pub(super) const MARKER_KEY: &[u8] = &[STORE, b'm'];
pub(super) const MARKER_LEN: usize = 80;

/// The last epoch that the store has taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub epoch: u64,
    /// Changelog offset of the epoch's header, for finding it again.
    pub header_offset: i64,
    /// Hash of that header: the store counts only if exactly this header stands in the chain.
    pub header_hash: [u8; 32],
    /// Digest of the task whose state it is: a store that came here from elsewhere says nothing of this one's changelog.
    pub task: [u8; 32],
}

/// Adds the marker, and the format's number, to the batch of what it marks.
pub(super) fn put_marker(batch: &mut WriteBatch, marker: Marker) {
    batch.put(MARKER_KEY, encode_marker(marker));
    batch.put(FORMAT_KEY, FORMAT.to_le_bytes());
}

#[cfg(test)]
pub(super) fn marker_in(content: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Marker> {
    content.get(MARKER_KEY).and_then(|bytes| decode_marker(bytes))
}

#[cfg(test)]
pub(super) fn put_marker_in(content: &mut BTreeMap<Vec<u8>, Vec<u8>>, marker: Marker) {
    content.insert(MARKER_KEY.to_vec(), encode_marker(marker).to_vec());
    content.insert(FORMAT_KEY.to_vec(), FORMAT.to_le_bytes().to_vec());
}

pub(super) fn encode_marker(marker: Marker) -> [u8; MARKER_LEN] {
    let mut bytes = [0; MARKER_LEN];
    bytes[..8].copy_from_slice(&marker.epoch.to_le_bytes());
    bytes[8..16].copy_from_slice(&marker.header_offset.to_le_bytes());
    bytes[16..48].copy_from_slice(&marker.header_hash);
    bytes[48..].copy_from_slice(&marker.task);
    bytes
}

pub(super) fn decode_marker(bytes: &[u8]) -> Option<Marker> {
    let (epoch, rest) = bytes.split_first_chunk()?;
    let (header_offset, rest) = rest.split_first_chunk()?;
    let (header_hash, rest) = rest.split_first_chunk()?;
    let task = rest.try_into().ok()?;
    let (epoch, header_offset) = (u64::from_le_bytes(*epoch), i64::from_le_bytes(*header_offset));
    Some(Marker { epoch, header_offset, header_hash: *header_hash, task })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_one_of_another_length_does_not() {
        let marker = Marker { epoch: 7, header_offset: -3, header_hash: [9; 32], task: [8; 32] };
        let bytes = encode_marker(marker);
        assert_eq!(decode_marker(&bytes), Some(marker));
        assert_eq!(decode_marker(&bytes[..79]), None);
        assert_eq!(decode_marker(&[&bytes[..], &[0]].concat()), None);
    }
}
