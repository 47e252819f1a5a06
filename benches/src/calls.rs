//! The guest calls of the enrichment example by themselves: real orders and states, no log around them.
//!
//! Shows which part of a record's way is the guest's, and what WebAssembly makes of it.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use forebay::model::Blobs;
use forebay::operator::ModuleRef;
use forebay::wasm::contract::{Answer, Guest, Keyed, Moment, RecordCall};
use forebay::wasm::{Limits, Shape};
use market_data::input::generator::Generated;
use market_data::input::partitioned::Record;

use crate::Outcome;
use crate::measure::timed;

/// Different ones, so that no branch predictor learns a batch by heart.
const BATCHES: usize = 24;
const MOMENT: Moment = Moment { watermark: 0, now: i64::MIN };

/// Calls to make again and again.
pub struct Calls {
    batches: Vec<RecordCall>,
}

impl Calls {
    /// Some orders of every partition in calls of `batch`, with the states that they find.
    pub fn of(input: &Generated, batch: usize, module: &ModuleRef) -> Outcome<Self> {
        let mut guest = open(module)?;
        let references: HashMap<&[u8], Vec<u8>> = input
            .instruments
            .partitions
            .iter()
            .flatten()
            .map(|record| state_of(&mut *guest, record))
            .collect::<Outcome<_>>()?;
        let partitions = &input.orders.partitions;
        let of_partition = |partition: &'_ Vec<Record>| -> Vec<RecordCall> {
            let share = BATCHES.div_ceil(partitions.len());
            partition.chunks_exact(batch).take(share).map(|orders| call(orders, &references)).collect()
        };
        Ok(Self { batches: partitions.iter().flat_map(of_partition).collect() })
    }

    /// Per module ns per record of thread CPU time, over at least so many records. All take turns, so that what else the
    /// machine does troubles all alike.
    pub fn measure(&self, modules: &[&ModuleRef], records: usize) -> Outcome<Vec<f64>> {
        let mut guests = modules.iter().map(|module| open(module)).collect::<Outcome<Vec<_>>>()?;
        let mut took = vec![Duration::ZERO; modules.len()];
        let of_round: usize = self.batches.iter().map(|batch| batch.values.len()).sum();
        let rounds = records.div_ceil(of_round.max(1));
        // The first round warms caches and the guests' memories.
        for round in 0..=rounds {
            for ((module, guest), took) in modules.iter().zip(&mut guests).zip(&mut took) {
                let mut outcome = Ok(());
                let time = timed(|| outcome = self.round(module, &mut **guest));
                outcome?;
                *took += if round == 0 { Duration::ZERO } else { time };
            }
        }
        Ok(took.iter().map(|took| took.as_nanos() as f64 / (rounds * of_round) as f64).collect())
    }

    fn round(&self, module: &ModuleRef, guest: &mut dyn Guest) -> Outcome {
        for batch in &self.batches {
            let answer = guest.process(MOMENT, batch)?;
            let shape = Shape::of_records(module.factory.description(), batch, Limits::default());
            black_box(&answer).check(&shape)?;
        }
        Ok(())
    }
}

fn open(module: &ModuleRef) -> Outcome<Box<dyn Guest>> {
    Ok(module.instantiate("", "", &[])?)
}

/// What the example keeps of an instrument.
fn state_of<'a>(guest: &mut dyn Guest, instrument: &'a Record) -> Outcome<(&'a [u8], Vec<u8>)> {
    let key = instrument.key.as_deref().unwrap_or_default();
    let call = RecordCall {
        keyed: Keyed { keys: column([Some(key)]), values: column([None, None]) },
        slots: vec![0],
        inputs: vec![1],
        values: column([instrument.value.as_deref()]),
        event_times: vec![0],
        ..RecordCall::default()
    };
    let Answer { writes, .. } = guest.process(MOMENT, &call)?;
    Ok((key, writes.values.get(0).unwrap_or_default().to_vec()))
}

fn call(orders: &[Record], references: &HashMap<&[u8], Vec<u8>>) -> RecordCall {
    let mut slots_by_key: HashMap<&[u8], u32> = HashMap::new();
    let mut keys: Vec<&[u8]> = Vec::new();
    let mut slots = Vec::with_capacity(orders.len());
    for key in orders.iter().map(|order| order.key.as_deref().unwrap_or_default()) {
        let slot = *slots_by_key.entry(key).or_insert(keys.len() as u32);
        if slot as usize == keys.len() {
            keys.push(key);
        }
        slots.push(slot);
    }
    // Bid 105.62, ask 105.64, 300 orders so far; the first order of a key would find none.
    let quotes: &[u8] = &[1, 0x80, 0xb8, 0xa8, 0xd7, 0x4e, 1, 0x80, 0xf0, 0x9c, 0xd9, 0x4e, 0xac, 2];
    let reference = |key: &&[u8]| references.get(*key).map(Vec::as_slice);
    let values = keys.iter().map(reference).chain(keys.iter().map(|_| Some(quotes)));
    RecordCall {
        keyed: Keyed { values: column(values), keys: column(keys.iter().map(|key| Some(*key))) },
        slots,
        values: column(orders.iter().map(|order| order.value.as_deref())),
        event_times: vec![0; orders.len()],
        ..RecordCall::default()
    }
}

fn column<'a>(entries: impl IntoIterator<Item = Option<&'a [u8]>>) -> Blobs {
    entries.into_iter().collect()
}
