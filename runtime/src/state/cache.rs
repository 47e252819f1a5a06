//! The cache of committed values, absent ones too: the hot set of a task in memory.
//!
//! Owns at most its part of the process's budget, in bytes. Evicts by CLOCK with a small count per entry, so that a key
//! seen once (a scan, a migration) leaves before a key that was read again. A hit allocates nothing.
//! Never holds anything uncommitted.

use hashbrown::HashTable;

use super::budget::CachePart;
use super::tagged::Tagged;

/// What an entry costs besides its key and value: slot, table, allocator.
const ENTRY_OVERHEAD: usize = size_of::<Slot>() + 24;
/// Room for so many entries is not worth being given back.
const SLOTS_MIN: usize = 256;
/// An entry survives at most this many passes of the hand without being read.
const MAX_CREDIT: u8 = 3;

pub(super) struct Cache {
    table: HashTable<Tagged>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    part: CachePart,
}

/// `bytes` is the key, then the value at rest (no bytes: the key is known to be absent).
#[derive(Default)]
struct Slot {
    hash: u64,
    bytes: Vec<u8>,
    key_len: u32,
    owner: u32,
    credit: u8,
    used: bool,
}

impl Cache {
    pub(super) fn new(part: CachePart) -> Self {
        Self { table: HashTable::new(), slots: Vec::new(), free: Vec::new(), hand: 0, bytes: 0, part }
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn find(&self, hash: u64, owner: u32, key: &[u8]) -> Option<u32> {
        let same = |entry: &Tagged| entry.may_be(hash) && self.is(entry.at, owner, key);
        self.table.find(hash, same).map(|entry| entry.at)
    }

    /// What [`Cache::find`] will most likely find, without looking at the key.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        self.table.find(hash, |entry| entry.may_be(hash)).map(|entry| entry.at)
    }

    /// Whether the entry `at` is that of the key.
    pub(super) fn is(&self, at: u32, owner: u32, key: &[u8]) -> bool {
        self.slots[at as usize].is(owner, key)
    }

    /// Counts a read of the entry `at`.
    pub(super) fn touch(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        slot.credit = MAX_CREDIT.min(slot.credit + 1);
    }

    /// The value at rest; empty where the key is known to be absent. `at` is good until the next
    /// [`Cache::put`].
    pub(super) fn stored(&self, at: u32) -> &[u8] {
        let slot = &self.slots[at as usize];
        &slot.bytes[slot.key_len as usize..]
    }

    /// Remembers a committed value (or, by an empty one, that there is none).
    pub(super) fn put(&mut self, hash: u64, owner: u32, key: &[u8], stored: &[u8]) {
        let found = self.find(hash, owner, key);
        let cost = key.len() + stored.len() + ENTRY_OVERHEAD;
        if cost > self.part.bytes() / 4 {
            // One giant must not push out everyone else.
            found.into_iter().for_each(|at| self.remove(at));
            return;
        }
        match found {
            Some(at) => self.replace(at, stored),
            None => {
                self.make_room(cost);
                self.insert(hash, owner, key, stored);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.table = HashTable::new();
        self.slots = Vec::new();
        self.free = Vec::new();
        (self.hand, self.bytes) = (0, 0);
    }

    /// Whether it holds more than its part, which has shrunk since, or many slots that nothing is in.
    pub(super) fn can_shrink(&self) -> bool {
        self.bytes > self.part.bytes() || self.has_many_free()
    }

    fn has_many_free(&self) -> bool {
        self.slots.len() > 2 * self.table.len().max(SLOTS_MIN)
    }

    /// Gives back what is no longer its part, in steps of some 100 ns each; to be called again while it can shrink.
    pub(super) fn shrink(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.bytes > self.part.bytes() && !self.table.is_empty() {
                self.move_hand();
            } else if self.has_many_free() {
                self.give_up_last_slot();
            } else {
                break;
            }
        }
        let slots = &mut self.slots;
        self.free.retain(|at| (*at as usize) < slots.len());
        // To move what is left is cheap where little is left of much, and only there.
        if slots.len() < slots.capacity() / 8 {
            slots.shrink_to(SLOTS_MIN);
            self.free.shrink_to(SLOTS_MIN);
        }
        if self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(SLOTS_MIN, |entry| slots[entry.at as usize].hash);
        }
    }

    /// What is in it moves to a free one before it.
    fn give_up_last_slot(&mut self) {
        let Some(slot) = self.slots.pop() else { return };
        let (from, free) = (self.slots.len() as u32, &mut self.free);
        let to = slot.used.then(|| std::iter::from_fn(|| free.pop()).find(|to| *to < from)).flatten();
        let Some(to) = to else { return };
        if let Some(entry) = self.table.find_mut(slot.hash, |entry| entry.at == from) {
            *entry = Tagged::new(slot.hash, to);
        }
        self.slots[to as usize] = slot;
    }

    fn replace(&mut self, at: u32, stored: &[u8]) {
        let slot = &mut self.slots[at as usize];
        let before = slot.cost();
        slot.bytes.truncate(slot.key_len as usize);
        slot.bytes.extend_from_slice(stored);
        self.bytes = self.bytes - before + slot.cost();
        if self.bytes > self.part.bytes() {
            slot.credit = MAX_CREDIT;
            self.make_room(0);
        }
    }

    fn insert(&mut self, hash: u64, owner: u32, key: &[u8], stored: &[u8]) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[at as usize];
        slot.bytes = Vec::with_capacity(key.len() + stored.len());
        slot.bytes.extend_from_slice(key);
        slot.bytes.extend_from_slice(stored);
        (slot.hash, slot.owner, slot.key_len) = (hash, owner, key.len() as u32);
        (slot.credit, slot.used) = (0, true);
        self.bytes += slot.cost();
        let slots = &self.slots;
        self.table.insert_unique(hash, Tagged::new(hash, at), |entry| slots[entry.at as usize].hash);
    }

    /// Moves the hand until `cost` more bytes fit.
    fn make_room(&mut self, cost: usize) {
        let max_bytes = self.part.bytes();
        while self.bytes + cost > max_bytes && !self.table.is_empty() {
            self.move_hand();
        }
    }

    fn move_hand(&mut self) {
        if self.hand >= self.slots.len() {
            self.hand = 0;
        }
        let slot = &mut self.slots[self.hand];
        match slot.credit {
            _ if !slot.used => {}
            0 => self.remove(self.hand as u32),
            _ => slot.credit -= 1,
        }
        self.hand += 1;
    }

    fn remove(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        self.bytes -= slot.cost();
        (slot.bytes, slot.used) = (Vec::new(), false);
        if let Ok(entry) = self.table.find_entry(slot.hash, |entry| entry.at == at) {
            entry.remove();
        }
        self.free.push(at);
    }
}

impl Slot {
    fn is(&self, owner: u32, key: &[u8]) -> bool {
        self.owner == owner && self.bytes.get(..self.key_len as usize) == Some(key) && self.used
    }

    fn cost(&self) -> usize {
        self.bytes.capacity() + ENTRY_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::CacheBudget;
    use super::*;

    fn cache_of(bytes: usize) -> Cache {
        Cache::new(CacheBudget::new(bytes).part(bytes))
    }

    #[test]
    fn a_cache_makes_room_for_those_of_tasks_that_come_later() {
        let budget = CacheBudget::new(10_000);
        let mut first = Cache::new(budget.part(10_000));
        (0..100).for_each(|key| put(&mut first, key, &[7; 60]));
        assert!(first.byte_len() > 5_000);
        let _others: Vec<_> = (0..3).map(|_| Cache::new(budget.part(10_000))).collect();
        put(&mut first, 100, &[7; 60]);
        assert!(first.byte_len() <= 2_500, "{} bytes", first.byte_len());
    }

    #[test]
    fn a_cache_that_nobody_uses_gives_back_what_has_become_the_part_of_others() {
        const BYTES: usize = 1 << 20;
        let budget = CacheBudget::new(BYTES);
        let mut cache = Cache::new(budget.part(BYTES));
        let value = |key: u64| key.to_be_bytes().repeat(4);
        (0..8_000).for_each(|key| put(&mut cache, key, &value(key)));
        (0..50).for_each(|key| assert!(get(&mut cache, key).is_some()));
        assert!(!cache.can_shrink() && cache.byte_len() > BYTES / 2);

        let others: Vec<_> = (0..31).map(|_| budget.part(BYTES)).collect();
        let mut calls = 0;
        while cache.can_shrink() {
            cache.shrink(500);
            calls += 1;
            assert!(calls < 1_000, "it does not end");
        }
        assert!(calls > 4, "all at once");
        assert!(cache.byte_len() <= BYTES / 32 && cache.byte_len() > BYTES / 64, "{} bytes", cache.byte_len());
        assert!(cache.slots.capacity() <= 4 * SLOTS_MIN && cache.table.capacity() <= 8 * SLOTS_MIN);
        (0..50).for_each(|key| assert_eq!(get(&mut cache, key), Some(value(key)), "those that were read again stay"));

        drop(others);
        (0..8_000).for_each(|key| put(&mut cache, key, &value(key)));
        let kept = (0..8_000).filter(|&key| get(&mut cache, key).is_some_and(|found| found == value(key))).count();
        assert_eq!((kept, cache.len()), (8_000, 8_000));
    }

    fn get(cache: &mut Cache, key: u64) -> Option<Vec<u8>> {
        let at = cache.find(key, 0, &key.to_le_bytes())?;
        cache.touch(at);
        Some(cache.stored(at).to_vec())
    }

    fn put(cache: &mut Cache, key: u64, value: &[u8]) {
        cache.put(key, 0, &key.to_le_bytes(), value);
    }

    #[test]
    fn stays_within_its_bytes_whatever_is_put() {
        let mut cache = cache_of(10_000);
        for n in 0..5_000_u64 {
            put(&mut cache, n % 700, &vec![7; (n * 37 % 900) as usize]);
            assert!(cache.byte_len() <= 10_000, "{} bytes after {n}", cache.byte_len());
        }
        assert!(cache.len() > 3);
    }

    #[test]
    fn keys_that_are_read_again_survive_a_scan() {
        let mut cache = cache_of(100 * (ENTRY_OVERHEAD + 16));
        (0..50).for_each(|key| put(&mut cache, key, b"hot-----"));
        for scanned in 1_000..3_000 {
            put(&mut cache, scanned, b"cold----");
            (0..50).for_each(|key| assert!(get(&mut cache, key).is_some(), "{key} lost at {scanned}"));
        }
    }

    #[test]
    fn an_absent_key_is_remembered_as_absent_until_it_is_written() {
        let mut cache = cache_of(10_000);
        assert_eq!(get(&mut cache, 1), None);
        put(&mut cache, 1, b"");
        assert_eq!(get(&mut cache, 1), Some(vec![]));
        put(&mut cache, 1, b"now");
        assert_eq!(get(&mut cache, 1), Some(b"now".to_vec()));
    }

    #[test]
    fn a_value_too_big_for_the_cache_leaves_no_old_value_behind() {
        let mut cache = cache_of(10_000);
        put(&mut cache, 1, b"old");
        put(&mut cache, 1, &[0; 9_000]);
        assert_eq!(get(&mut cache, 1), None);
    }
}
