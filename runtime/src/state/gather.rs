//! Reading the values of a batch's keys: from the overlay, the cache, and for what is left RocksDB.
//!
//! This is the record path's only read of state, so it works in passes over the whole batch (hash,
//! guess, confirm, copy): each pass reads memory for many keys at once instead of waiting for one.

use super::scan::corrupt;
use super::task_state::{TaskState, hash_of, owned_hash, place};
use super::{Error, key, value};
use crate::model::Blobs;

/// The values of some keys, state after state: entry `s * keys.len() + slot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    pub values: Blobs,
    /// The schema version that each value was written in; 0 where there is none.
    pub versions: Vec<u32>,
}

/// Buffers of one gather, kept for the next.
#[derive(Default)]
pub(super) struct Lookup {
    key_hashes: Vec<u64>,
    guesses: Vec<(Option<u32>, Option<u32>)>,
    found: Vec<Found>,
    misses: Vec<Miss>,
    full_keys: Blobs,
    read: Blobs,
    /// Bytes of a value that had to be read, on the average of the last gather that read any.
    miss_bytes: Option<usize>,
}

impl Lookup {
    fn read_bytes(&self) -> usize {
        self.read.byte_len()
    }
}

/// Values that are read to guess the size of many.
const PROBES: usize = 8;

/// About how many of the keys have values of `max` bytes together, if all have `bytes`.
fn share(keys: usize, max: usize, bytes: usize) -> usize {
    let share = keys as u128 * max as u128 / bytes.max(1) as u128;
    (share as usize).clamp(1, keys - 1)
}

#[derive(Clone, Copy)]
enum Found {
    Overlay(u32),
    Cache(u32),
    /// Position in `Lookup::read`.
    Store(u32),
}

/// A value to be read from the store: entry of the gather, its slot and owner.
#[derive(Clone, Copy)]
struct Miss {
    entry: u32,
    slot: u32,
    owner: u32,
}

impl TaskState {
    /// Values of all states of an operator for these distinct keys, each with its schema version. Where they are more
    /// than `max_bytes` (and of more than one key), `out` means nothing, and about how many of the keys are to be asked
    /// for instead is answered.
    ///
    /// # Errors
    /// `Corrupt` where a stored value is damaged, `Retry` where the disk fails.
    pub fn gather(
        &mut self,
        operator: usize,
        keys: &Blobs,
        max_bytes: usize,
        out: &mut Gathered,
    ) -> Result<Option<usize>, Error> {
        let gathered = self.try_gather(operator, keys, max_bytes, out);
        self.store.condemn_if_corrupt(gathered)
    }

    fn try_gather(
        &mut self,
        operator: usize,
        keys: &Blobs,
        max_bytes: usize,
        out: &mut Gathered,
    ) -> Result<Option<usize>, Error> {
        self.hash_keys(keys);
        for state in 0..self.operators[operator].states.len() {
            self.look_up(self.operators[operator].states[state], keys);
        }
        let in_memory = self.bytes_in_memory();
        let fits = |bytes: usize| (bytes > max_bytes && keys.len() > 1).then(|| share(keys.len(), max_bytes, bytes));
        let mut read = 0;
        if !self.lookup.misses.is_empty() {
            let expected = self.expect_misses(keys, max_bytes)?;
            if let Some(fewer) = fits(in_memory + expected) {
                return Ok(Some(fewer));
            }
            self.read_misses(keys)?;
            read = self.lookup.read_bytes();
        }
        if let Some(fewer) = fits(in_memory + read) {
            return Ok(Some(fewer));
        }
        self.assemble(operator, keys, out)?;
        self.remember_misses(keys);
        Ok(None)
    }

    /// Bytes of the values that were found in overlay and cache.
    fn bytes_in_memory(&self) -> usize {
        let found = self.lookup.found.iter().map(|found| match *found {
            Found::Overlay(at) => self.overlay.stored(at).len(),
            Found::Cache(at) => self.cache.stored(at).len(),
            Found::Store(_) => 0,
        });
        found.sum()
    }

    /// About how many bytes the values that have to be read take. A few of them are read to know, where there are many
    /// and the last ones were not small: reading them all may be more than there is memory for.
    fn expect_misses(&mut self, keys: &Blobs, max_bytes: usize) -> Result<usize, Error> {
        let misses = self.lookup.misses.len();
        let known = self.lookup.miss_bytes.filter(|bytes| bytes.saturating_mul(misses) < max_bytes / 8);
        if misses <= 4 * PROBES || known.is_some() {
            return Ok(known.unwrap_or(0) * misses);
        }
        let Lookup { misses: missed, full_keys, read, .. } = &mut self.lookup;
        full_keys.clear();
        for miss in missed.iter().step_by(misses / PROBES).take(PROBES) {
            let mut full_key = Vec::new();
            let names = &self.owners[miss.owner as usize].names;
            key::push_value_key(&mut full_key, names, keys.bytes(miss.slot as usize));
            full_keys.push(Some(&full_key));
        }
        self.store.multi_get(full_keys, read)?;
        Ok(self.lookup.read_bytes() / PROBES * misses)
    }

    fn hash_keys(&mut self, keys: &Blobs) {
        let Lookup { key_hashes, found, misses, .. } = &mut self.lookup;
        key_hashes.clear();
        found.clear();
        misses.clear();
        key_hashes.extend((0..keys.len()).map(|slot| hash_of(&self.hasher, keys.bytes(slot))));
    }

    fn look_up(&mut self, owner: u32, keys: &Blobs) {
        let Lookup { key_hashes, guesses, found, misses, .. } = &mut self.lookup;
        let (overlay, cache) = (&self.overlay, &mut self.cache);
        guesses.clear();
        guesses.extend(key_hashes.iter().map(|&hash| {
            let hash = owned_hash(hash, owner);
            (overlay.guess(hash), cache.guess(hash))
        }));
        let before = (found.len(), misses.len());
        let mut in_overlay = 0;
        for (slot, (&hash, guess)) in key_hashes.iter().zip(guesses).enumerate() {
            let (hash, key) = (owned_hash(hash, owner), keys.bytes(slot));
            let written = guess.0.filter(|&at| overlay.is(at, owner, key));
            let written = written.or_else(|| guess.0.and_then(|_| overlay.find(hash, owner, key)));
            let cached = || {
                let at = guess.1.filter(|&at| cache.is(at, owner, key));
                at.or_else(|| guess.1.and_then(|_| cache.find(hash, owner, key)))
            };
            found.push(if let Some(at) = written {
                in_overlay += 1;
                Found::Overlay(at)
            } else if let Some(at) = cached() {
                cache.touch(at);
                Found::Cache(at)
            } else {
                misses.push(Miss { entry: found.len() as u32, slot: slot as u32, owner });
                Found::Store(0)
            });
        }
        let (looked_up, missed) = ((found.len() - before.0) as u64, (misses.len() - before.1) as u64);
        self.statistics.reads_overlay += in_overlay;
        self.statistics.reads_cache += looked_up - in_overlay - missed;
        self.statistics.reads_store += missed;
    }

    /// RocksDB reads keys that ascend with less work.
    fn read_misses(&mut self, keys: &Blobs) -> Result<(), Error> {
        let Lookup { found, misses, full_keys, read, .. } = &mut self.lookup;
        let owners = &self.owners;
        let place = |miss: &Miss| place(&owners[miss.owner as usize], keys.bytes(miss.slot as usize));
        let mut order: Vec<(u128, Miss)> = misses.iter().map(|miss| (place(miss), *miss)).collect();
        order.sort_unstable_by(|(a, left), (b, right)| {
            let full = |miss: &Miss| (&owners[miss.owner as usize].names, keys.bytes(miss.slot as usize));
            a.cmp(b).then_with(|| full(left).cmp(&full(right)))
        });
        full_keys.clear();
        let mut full_key = Vec::new();
        for (position, (_, miss)) in order.iter().enumerate() {
            full_key.clear();
            let key = keys.bytes(miss.slot as usize);
            key::push_value_key(&mut full_key, &owners[miss.owner as usize].names, key);
            full_keys.push(Some(&full_key));
            misses[position] = *miss;
            found[miss.entry as usize] = Found::Store(position as u32);
        }
        self.store.multi_get(full_keys, read)?;
        self.lookup.miss_bytes = Some(self.lookup.read_bytes().div_ceil(self.lookup.misses.len().max(1)));
        Ok(())
    }

    fn assemble(&mut self, operator: usize, keys: &Blobs, out: &mut Gathered) -> Result<(), Error> {
        out.values.clear();
        out.versions.clear();
        for (entry, found) in self.lookup.found.iter().enumerate() {
            let stored = match *found {
                Found::Overlay(at) => self.overlay.stored(at),
                Found::Cache(at) => self.cache.stored(at),
                Found::Store(at) => match self.lookup.read.get(at as usize) {
                    Some([]) => return Err(self.corrupt(operator, keys, entry, value::empty())),
                    stored => stored.unwrap_or_default(),
                },
            };
            if stored.is_empty() {
                out.values.push(None);
                out.versions.push(0);
                continue;
            }
            match value::parse(stored) {
                Ok((version, value)) => {
                    out.values.push(Some(value));
                    out.versions.push(version);
                }
                Err(found) => return Err(self.corrupt(operator, keys, entry, found)),
            }
        }
        Ok(())
    }

    fn remember_misses(&mut self, keys: &Blobs) {
        let Lookup { misses, read, key_hashes, .. } = &self.lookup;
        for (position, miss) in misses.iter().enumerate() {
            let hash = owned_hash(key_hashes[miss.slot as usize], miss.owner);
            self.cache.put(hash, miss.owner, keys.bytes(miss.slot as usize), read.bytes(position));
        }
    }

    fn corrupt(&self, operator: usize, keys: &Blobs, entry: usize, found: String) -> Error {
        let operator = &self.operators[operator];
        let owner = operator.states[entry / keys.len()];
        corrupt(&operator.id, &self.owners[owner as usize].state, keys.bytes(entry % keys.len()), found)
    }
}
