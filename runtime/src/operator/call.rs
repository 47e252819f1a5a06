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

    /// The distinct keys of the last call of timers, by slot.
    pub fn timer_keys(&self) -> &Blobs {
        &self.timers.keyed.keys
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
        }
        // An operator that is not keyed knows no other key.
        let record_keys = if self.keyed { flow.record_keys() } else { Some(flow.record_keys().unwrap_or(&flow.keys)) };
        match record_keys {
            Some(record_keys) => {
                let keys = call.record_keys.get_or_insert_default();
                keys.clear();
                keys.append_range(record_keys, range.clone());
            }
            None => call.record_keys = None,
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
    use crate::operator::flow::Keys;

    fn flow(keys: &[&str]) -> Flow {
        let mut flow = Flow::default();
        for (i, key) in keys.iter().enumerate() {
            let lineage = Lineage::source_record(0, 3, i as i64);
            flow.push(Keys::same(Some(key.as_bytes())), Some(b"v"), i as i64, (&Headers::default(), 0), 0, lineage);
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
    fn a_call_has_the_records_own_keys_where_they_are_not_the_operators() {
        let mut flow = flow(&["a", "b"]);
        let mut keyed = CallBuilder::new(true, Needs::default(), 0);
        keyed.records(&flow, 0..2);
        assert_eq!(keyed.records.record_keys, None);
        let apart = Keys { operator: Some(b"c"), record: Some(b"own") };
        flow.push(apart, None, 0, (&Headers::default(), 0), 0, Lineage::source_record(0, 0, 2));
        keyed.records(&flow, 1..3);
        let own: Vec<_> = keyed.records.record_keys.as_ref().unwrap().iter().collect();
        assert_eq!(own, [Some(&b"b"[..]), Some(b"own")]);
        assert_eq!(keyed.records.keyed.keys.iter().collect::<Vec<_>>(), [Some(&b"b"[..]), Some(b"c")]);
        let mut plain = CallBuilder::new(false, Needs::default(), 0);
        plain.records(&flow, 1..3);
        assert_eq!(plain.records.record_keys, keyed.records.record_keys);
    }

    #[test]
    fn headers_are_there_when_asked_for_whether_no_record_has_any_or_some_or_all() {
        let needs = Needs { headers: true, ..Needs::default() };
        let mut builder = CallBuilder::new(true, needs, 0);
        let of = |builder: &mut CallBuilder, headed: &[bool]| {
            let mut flow = Flow::default();
            for (i, headed) in headed.iter().enumerate() {
                let mut headers = Headers::default();
                if *headed {
                    headers.push(b"h", Some(b"v"));
                }
                headers.end_record(0);
                let lineage = Lineage::source_record(0, 0, i as i64);
                flow.push(Keys::same(Some(b"k")), Some(b"v"), 0, (&headers, 0), 0, lineage);
            }
            builder.records(&flow, 0..headed.len());
            builder.records.headers.clone().unwrap()
        };
        assert_eq!(of(&mut builder, &[false; 3]), Headers::default());
        assert_eq!(of(&mut builder, &[false, true, false]).ends, [0, 1, 1]);
        assert_eq!(of(&mut builder, &[true; 3]).ends, [1, 2, 3]);
        assert_eq!(of(&mut builder, &[false; 3]), Headers::default());
        builder.timers(&[DueTimer { time: 5, timer: 0, key: b"k"[..].into() }]);
        assert_eq!(
            (&*builder.timers.slots, &*builder.timers.times, builder.timers.seeds.len()),
            (&[0][..], &[5][..], 0)
        );
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
