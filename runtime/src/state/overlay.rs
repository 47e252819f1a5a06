//! Writes of values that are not in RocksDB: those of the open epoch, which no one else may see before
//! the commit, and committed ones that wait to go there together.
//!
//! Owns one arena of bytes and one table; both keep their memory when emptied, so a write allocates
//! nothing once they have grown. Knows no order: it is sorted once, when someone needs it sorted.
//! Since the last mark it never overwrites what stood before: so the writes of a batch can be taken back.

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
    mark: Mark,
    /// Entries from before the mark as they were then, those that were written since.
    before: Vec<(u32, ValuePlace)>,
}

/// How much there was at the last mark.
#[derive(Default)]
struct Mark {
    entries: usize,
    arena: usize,
}

/// Where an entry's value lies in the arena.
#[derive(Clone, Copy)]
struct ValuePlace {
    start: usize,
    len: u32,
    room: u32,
}

/// One written value. `room` bytes are its own in the arena, `len` of them in use; none in use means deleted.
struct Entry {
    hash: u64,
    owner: u32,
    key_len: u32,
    key_start: usize,
    value: ValuePlace,
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
        &self.arena[entry.value.start..][..entry.value.len as usize]
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
        self.mark();
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.arena[entry.key_start..][..entry.key_len as usize]
    }

    /// What is written from here on can be taken back by [`Overlay::undo`].
    pub(super) fn mark(&mut self) {
        self.mark = Mark { entries: self.entries.len(), arena: self.arena.len() };
        self.before.clear();
    }

    /// Takes back what was written since the mark.
    pub(super) fn undo(&mut self) {
        for (at, value) in self.before.drain(..).rev() {
            self.entries[at as usize].value = value;
        }
        for at in self.mark.entries..self.entries.len() {
            let hash = self.entries[at].hash;
            if let Ok(entry) = self.table.find_entry(hash, |entry| entry.at as usize == at) {
                entry.remove();
            }
        }
        self.entries.truncate(self.mark.entries);
        self.arena.truncate(self.mark.arena);
    }

    /// Makes room for a key's value and hands it out.
    fn room(&mut self, hash: u64, owner: u32, key: &[u8], len: usize) -> &mut [u8] {
        let len = len as u32;
        let at = match self.find(hash, owner, key) {
            Some(at) => self.make_room(at, len),
            None => self.insert(hash, owner, key, len),
        };
        let value = &mut self.entries[at as usize].value;
        value.len = len;
        &mut self.arena[value.start..][..len as usize]
    }

    fn insert(&mut self, hash: u64, owner: u32, key: &[u8], room: u32) -> u32 {
        let at = self.entries.len() as u32;
        let key_start = self.arena.len();
        self.arena.extend_from_slice(key);
        let value = ValuePlace { start: self.reserve(room), len: 0, room };
        let key_len = key.len() as u32;
        self.entries.push(Entry { hash, owner, key_len, key_start, value });
        let entries = &self.entries;
        self.table.insert_unique(hash, Tagged::new(hash, at), |entry| entries[entry.at as usize].hash);
        at
    }

    /// Gives a written value a place for `room` bytes. An old place that cannot be used stays until the epoch ends, and
    /// counts.
    fn make_room(&mut self, at: u32, room: u32) -> u32 {
        let value = self.entries[at as usize].value;
        if room <= value.room && value.start >= self.mark.arena {
            return at;
        }
        // A place of no bytes from before the mark may lie where the arena ended then.
        if (at as usize) < self.mark.entries && (value.start < self.mark.arena || value.room == 0) {
            self.before.push((at, value));
        }
        let start = self.reserve(room);
        self.entries[at as usize].value = ValuePlace { start, len: value.len, room };
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
    fn what_was_written_since_the_mark_can_be_taken_back_and_nothing_else() {
        let mut overlay = Overlay::default();
        let put = |overlay: &mut Overlay, key: u64, value: Option<&[u8]>| {
            overlay.put(key % 3, 0, &key.to_le_bytes(), 1, value);
        };
        let all = |overlay: &Overlay| -> Vec<Option<Vec<u8>>> {
            let found = |key: u64| overlay.find(key % 3, 0, &key.to_le_bytes());
            (0..20).map(|key| found(key).map(|at| overlay.stored(at).to_vec())).collect()
        };
        (0..10).for_each(|key| put(&mut overlay, key, Some(b"before")));
        put(&mut overlay, 3, None);
        let before = all(&overlay);
        for _ in 0..3 {
            overlay.mark();
            for round in [&b"shorter"[..3], b"much longer than before", b"", b"x"] {
                (5..15).for_each(|key| put(&mut overlay, key, Some(round)));
                put(&mut overlay, 3, Some(round));
                put(&mut overlay, 0, None);
            }
            assert_ne!(all(&overlay), before);
            overlay.undo();
            assert_eq!(all(&overlay), before);
        }
        put(&mut overlay, 12, Some(b"kept"));
        overlay.mark();
        overlay.undo();
        assert!(all(&overlay)[12].is_some());
    }

    #[test]
    fn a_delete_that_was_the_last_write_before_the_mark_comes_back() {
        let mut overlay = Overlay::default();
        overlay.put(1, 0, b"k", 1, None);
        overlay.mark();
        overlay.put(1, 0, b"k", 1, Some(b"since"));
        overlay.undo();
        assert_eq!(read(&overlay, b"k"), Some(None));
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
