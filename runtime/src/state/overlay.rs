//! Writes of values that are not in RocksDB: those of the open epoch, which no one else may see before
//! the commit, and committed ones that wait to go there together.
//!
//! Owns one arena of bytes and one table; both keep their memory when emptied, so a write allocates
//! nothing once they have grown. Knows no order: it is sorted once, when someone needs it sorted.

use hashbrown::HashTable;

use super::tagged::Tagged;
use super::value;

/// Memory that an emptied overlay may keep.
const KEEP_BYTES: usize = 64 << 20;

#[derive(Default)]
pub(super) struct Overlay {
    table: HashTable<Tagged>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
}

/// One written value. `value_room` bytes are its own in the arena, `value_len` of them in use;
/// none in use means deleted.
struct Entry {
    hash: u64,
    owner: u32,
    key_len: u32,
    key_start: usize,
    value_start: usize,
    value_len: u32,
    value_room: u32,
}

impl Overlay {
    pub(super) fn byte_len(&self) -> usize {
        self.arena.len() + self.entries.len() * size_of::<Entry>()
    }

    pub(super) fn find(&self, hash: u64, owner: u32, key: &[u8]) -> Option<u32> {
        let same = |entry: &Tagged| entry.may_be(hash) && self.is(entry.at, owner, key);
        self.table.find(hash, same).map(|entry| entry.at)
    }

    /// What [`Overlay::find`] will most likely find, without looking at the key.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        self.table.find(hash, |entry| entry.may_be(hash)).map(|entry| entry.at)
    }

    /// Whether the entry `at` is that of the key.
    pub(super) fn is(&self, at: u32, owner: u32, key: &[u8]) -> bool {
        let entry = &self.entries[at as usize];
        entry.owner == owner && self.key(entry) == key
    }

    /// The value at rest; empty where the key was deleted.
    pub(super) fn stored(&self, at: u32) -> &[u8] {
        let entry = &self.entries[at as usize];
        &self.arena[entry.value_start..][..entry.value_len as usize]
    }

    pub(super) fn put(&mut self, hash: u64, owner: u32, key: &[u8], version: u32, new: Option<&[u8]>) {
        let len = new.map_or(0, |value| value::stored_len(value.len()));
        let room = self.room(hash, owner, key, len);
        if let Some(new) = new {
            value::write(room, version, new);
        }
    }

    /// Puts a value that is encoded already; an empty one deletes.
    pub(super) fn put_stored(&mut self, hash: u64, owner: u32, key: &[u8], stored: &[u8]) {
        self.room(hash, owner, key, stored.len()).copy_from_slice(stored);
    }

    /// Every write as position, owner and key, in no order that means anything.
    pub(super) fn writes(&self) -> impl Iterator<Item = (u32, u64, u32, &[u8])> {
        self.entries.iter().enumerate().map(|(at, entry)| (at as u32, entry.hash, entry.owner, self.key(entry)))
    }

    pub(super) fn key_at(&self, at: u32) -> (u32, &[u8]) {
        let entry = &self.entries[at as usize];
        (entry.owner, self.key(entry))
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.entries.clear();
        self.arena.clear();
        self.arena.shrink_to(KEEP_BYTES);
        self.entries.shrink_to(KEEP_BYTES / size_of::<Entry>());
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.key_start..][..entry.key_len as usize]
    }

    /// Makes room for a key's value and hands it out.
    fn room(&mut self, hash: u64, owner: u32, key: &[u8], len: usize) -> &mut [u8] {
        let len = len as u32;
        let at = match self.find(hash, owner, key) {
            Some(at) if len <= self.entries[at as usize].value_room => at,
            Some(at) => self.grow(at, len),
            None => self.insert(hash, owner, key, len),
        };
        let entry = &mut self.entries[at as usize];
        entry.value_len = len;
        &mut self.arena[entry.value_start..][..len as usize]
    }

    fn insert(&mut self, hash: u64, owner: u32, key: &[u8], room: u32) -> u32 {
        let at = self.entries.len() as u32;
        let key_start = self.arena.len();
        self.arena.extend_from_slice(key);
        let value_start = self.reserve(room);
        let key_len = key.len() as u32;
        self.entries.push(Entry { hash, owner, key_len, key_start, value_start, value_len: 0, value_room: room });
        let entries = &self.entries;
        self.table.insert_unique(hash, Tagged::new(hash, at), |entry| entries[entry.at as usize].hash);
        at
    }

    /// Gives a written value more room. The old room stays unused until the epoch ends, and counts.
    fn grow(&mut self, at: u32, room: u32) -> u32 {
        let value_start = self.reserve(room);
        let entry = &mut self.entries[at as usize];
        entry.value_start = value_start;
        entry.value_room = room;
        at
    }

    fn reserve(&mut self, room: u32) -> usize {
        let start = self.arena.len();
        self.arena.resize(start + room as usize, 0);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(overlay: &Overlay, key: &[u8]) -> Option<Option<(u32, Vec<u8>)>> {
        let at = overlay.find(1, 0, key)?;
        let stored = overlay.stored(at);
        Some((!stored.is_empty()).then(|| value::parse(stored).map(|(v, b)| (v, b.to_vec())).unwrap()))
    }

    #[test]
    fn the_last_write_of_a_key_counts_also_when_it_is_longer_shorter_or_a_delete() {
        let mut overlay = Overlay::default();
        for value in [Some(&b"ab"[..]), Some(b"abcdef"), Some(b""), None, Some(b"abcdefgh")] {
            overlay.put(1, 0, b"k", 3, value);
            assert_eq!(read(&overlay, b"k"), Some(value.map(|value| (3, value.to_vec()))));
        }
        assert_eq!(overlay.entries.len(), 1);
        overlay.clear();
        assert_eq!(read(&overlay, b"k"), None);
        assert_eq!(overlay.byte_len(), 0);
    }

    #[test]
    fn equal_hashes_do_not_mix_keys_or_states() {
        let mut overlay = Overlay::default();
        overlay.put(1, 0, b"a", 1, Some(b"1"));
        overlay.put(1, 0, b"b", 1, Some(b"2"));
        overlay.put(1, 9, b"a", 1, Some(b"3"));
        assert_eq!(read(&overlay, b"a"), Some(Some((1, b"1".to_vec()))));
        assert_eq!(read(&overlay, b"b"), Some(Some((1, b"2".to_vec()))));
        assert_eq!(overlay.entries.len(), 3);
    }
}
