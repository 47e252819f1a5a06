//! From a stretch of a [`Flow`] to the columns of one guest call.
//!
//! Owns the buffers that calls are built in and the table that finds the distinct keys; both are reused.

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;
use std::ops::Range;

use super::flow::{Flow, Lineage};
use crate::model::Blobs;
use crate::state::DueTimer;
use crate::wasm::contract::{Coordinates, NO_POSITION, Needs, RecordCall, TimerCall};

/// Builds calls for one operator.
pub struct CallBuilder {
    pub records: RecordCall,
    pub timers: TimerCall,
    keyed: bool,
    needs: Needs,
    seed: u64,
    slots_by_key: HashTable<u32>,
}

impl CallBuilder {
    /// `seed` stands for job and operator in the random numbers of records.
    pub fn new(keyed: bool, needs: Needs, seed: u64) -> Self {
        let records = RecordCall::default();
        Self { records, timers: TimerCall::default(), keyed, needs, seed, slots_by_key: HashTable::new() }
    }

    /// Fills `self.records` but for the state values.
    pub fn records(&mut self, flow: &Flow, range: Range<usize>) {
        let call = &mut self.records;
        call.keyed.keys.clear();
        call.keyed.values.clear();
        call.slots.clear();
        call.inputs.clear();
        call.event_times.clear();
        call.seeds.clear();
        call.values.clear();
        self.slots_by_key.clear();
        if self.keyed {
            for i in range.clone() {
                let slot = match flow.keys.get(i) {
                    Some(key) => slot_of(&mut self.slots_by_key, &mut call.keyed.keys, key),
                    None => NO_POSITION,
                };
                call.slots.push(slot);
            }
            call.record_keys = None;
        } else {
            let keys = call.record_keys.get_or_insert_default();
            keys.clear();
            keys.append_range(&flow.keys, range.clone());
        }
        if flow.inputs[range.clone()].iter().any(|&input| input != 0) {
            call.inputs.extend_from_slice(&flow.inputs[range.clone()]);
        }
        call.values.append_range(&flow.values, range.clone());
        call.event_times.extend_from_slice(&flow.event_times[range.clone()]);
        self.on_request(flow, range);
    }

    fn on_request(&mut self, flow: &Flow, range: Range<usize>) {
        let call = &mut self.records;
        if self.needs.headers {
            let headers = call.headers.get_or_insert_default();
            headers.clear();
            for (record, i) in range.clone().enumerate() {
                flow.headers.of(i).for_each(|(name, value)| headers.push(name, value));
                headers.end_record(record);
            }
        }
        if self.needs.coordinates {
            let coordinates = call.coordinates.get_or_insert_with(Coordinates::default);
            coordinates.partitions.clear();
            coordinates.offsets.clear();
            coordinates.partitions.extend(flow.lineage[range.clone()].iter().map(|l| l.partition));
            coordinates.offsets.extend(flow.lineage[range.clone()].iter().map(|l| l.offset));
        }
        if self.needs.seeds {
            call.seeds.extend(flow.lineage[range].iter().map(|lineage| seed(self.seed, lineage)));
        }
    }

    /// Fills `self.timers` but for the state values.
    pub fn timers(&mut self, due: &[DueTimer]) {
        let call = &mut self.timers;
        call.keyed.keys.clear();
        call.keyed.values.clear();
        call.slots.clear();
        call.timers.clear();
        call.times.clear();
        call.seeds.clear();
        self.slots_by_key.clear();
        for timer in due {
            call.slots.push(slot_of(&mut self.slots_by_key, &mut call.keyed.keys, &timer.key));
            call.timers.push(timer.timer);
            call.times.push(timer.time);
            if self.needs.seeds {
                let lineage = Lineage::timer(timer.time).emitted(FxBuildHasher.hash_one(&timer.key));
                call.seeds.push(seed(self.seed, &lineage));
            }
        }
    }
}

/// The slot of `key` among the distinct keys of the call, a new one where it is seen first.
fn slot_of(table: &mut HashTable<u32>, keys: &mut Blobs, key: &[u8]) -> u32 {
    let hash = FxBuildHasher.hash_one(key);
    if let Some(&slot) = table.find(hash, |&slot| keys.bytes(slot as usize) == key) {
        return slot;
    }
    let slot = keys.len() as u32;
    keys.push(Some(key));
    table.insert_unique(hash, slot, |&slot| FxBuildHasher.hash_one(keys.bytes(slot as usize)));
    slot
}

/// One random number per record: a function of job, operator, coordinates and fan-out, so that every
/// repetition and every cut of batches gets the same (SplitMix64's finaliser over the four).
fn seed(operator: u64, lineage: &Lineage) -> u64 {
    let mut x = operator;
    for part in
        [lineage.source.map_or(u64::MAX, u64::from), lineage.partition as u64, lineage.offset as u64, lineage.emission]
    {
        x = x.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Headers;

    fn flow(keys: &[&str]) -> Flow {
        let mut flow = Flow::default();
        for (i, key) in keys.iter().enumerate() {
            let lineage = Lineage::source_record(0, 3, i as i64);
            flow.push(Some(key.as_bytes()), Some(b"v"), i as i64, (&Headers::default(), 0), 0, lineage);
        }
        flow
    }

    #[test]
    fn records_of_one_key_share_a_slot() {
        let mut builder = CallBuilder::new(true, Needs::default(), 0);
        builder.records(&flow(&["a", "b", "a", "c", "b"]), 0..5);
        assert_eq!(builder.records.slots, [0, 1, 0, 2, 1]);
        assert_eq!(builder.records.keyed.keys.len(), 3);
        builder.records(&flow(&["a", "b", "a", "c", "b"]), 3..5);
        assert_eq!(builder.records.slots, [0, 1]);
        assert_eq!(builder.records.event_times, [3, 4]);
    }

    #[test]
    fn a_records_seed_does_not_depend_on_the_cut() {
        let needs = Needs { seeds: true, ..Needs::default() };
        let mut builder = CallBuilder::new(true, needs, 42);
        builder.records(&flow(&["a", "b", "c"]), 0..3);
        let whole = builder.records.seeds.clone();
        builder.records(&flow(&["a", "b", "c"]), 2..3);
        assert_eq!(builder.records.seeds, whole[2..]);
        assert_ne!(whole[0], whole[1]);
    }
}
