//! One guest call, with the host's checks, against its native twin.
//!
//! The same prepared batch again and again: what lies between the twin and the guest is WebAssembly,
//! the boundary and the limits on it, nothing else.

use std::hint::black_box;
use std::time::Duration;

use forebay::model::{Blobs, Headers};
use forebay::operator::ModuleRef;
use forebay::wasm::contract::{Guest, Keyed, Moment, RecordCall};
use forebay::wasm::{Limits, Shape};

use crate::measure::{median, spread, timed};
use crate::modules::Loader;
use crate::{Outcome, Setup, native, report};

#[derive(clap::Args)]
pub struct Options {
    /// Records in one call.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Records per run.
    #[arg(long, default_value_t = 2_000_000)]
    records: usize,
}

const VALUE_BYTES: usize = 100;
const KEY_BYTES: usize = 16;
const STATE_BYTES: usize = 64;
const KEYS: usize = 100;
const MOMENT: Moment = Moment { watermark: 0, now: i64::MIN };

/// A guest, its twin, and the batch that both are called with.
struct Case {
    name: &'static str,
    guests: [(ModuleRef, Box<dyn Guest>); 2],
    batch: RecordCall,
    target_ns: Option<f64>,
}

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let loader = Loader::new(setup)?;
    let mut cases = [
        case("copy values, keys, headers", native::module::<guest_copy::Copy>(), loader.module("copy")?, options)?,
        case("the same with state", native::module::<guest_ledger::Ledger>(), loader.module("ledger")?, options)?,
        case("pass through", native::module::<guest_relay::Relay>(), loader.module("relay")?, options)?,
    ];
    (cases[0].target_ns, cases[1].target_ns) = (Some(120.0), Some(250.0));
    let calls = options.records.div_ceil(options.batch);
    let mut samples = vec![[Vec::new(), Vec::new()]; cases.len()];
    for run in 0..=setup.runs {
        for (case, samples) in cases.iter_mut().zip(&mut samples) {
            for (side, samples) in samples.iter_mut().enumerate() {
                // The first round warms caches and the guests' memories.
                let took = measure(&mut case.guests[side], &case.batch, if run == 0 { calls / 10 + 1 } else { calls })?;
                if run > 0 {
                    samples.push(took.as_nanos() as f64 / (calls * options.batch) as f64);
                }
            }
        }
    }
    print(&cases, &samples);
    report::print_conditions(&format!(
        "batches of {}, values of {VALUE_BYTES} B, keys of {KEY_BYTES} B, two headers where they are copied, {KEYS} \
         distinct keys with {STATE_BYTES} B of state each; {} records a run, median (range) of {} runs, thread CPU time; \
         checks of the answer, epoch interruption and NaN canonicalization on",
        options.batch, options.records, setup.runs
    ));
    Ok(())
}

fn print(cases: &[Case], samples: &[[Vec<f64>; 2]]) {
    let rows = cases.iter().zip(samples).map(|(case, [native, wasm])| {
        let over = median(wasm.iter().copied()) - median(native.iter().copied());
        let target = case.target_ns.map_or("–".into(), |target| format!("{target:.0}"));
        vec![case.name.into(), spread(native, 0), spread(wasm, 0), format!("{over:.0}"), target]
    });
    let header = ["ns per record", "native twin", "guest", "over the twin", "to reach"];
    report::print("Crossing the boundary", &header, rows.collect());
}

fn case(name: &'static str, native: ModuleRef, wasm: ModuleRef, options: &Options) -> Outcome<Case> {
    let batch = batch(options.batch, &native);
    let open = |module: ModuleRef| -> Outcome<_> {
        let guest = module.instantiate("", "", &[])?;
        Ok((module, guest))
    };
    Ok(Case { name, guests: [open(native)?, open(wasm)?], batch, target_ns: None })
}

fn measure((module, guest): &mut (ModuleRef, Box<dyn Guest>), batch: &RecordCall, calls: usize) -> Outcome<Duration> {
    let shape = Shape::of_records(module.factory.description(), batch, Limits::default());
    let mut outcome = Ok(());
    let took = timed(|| {
        for _ in 0..calls {
            let answer = guest.process(MOMENT, batch);
            outcome = answer.and_then(|answer| black_box(&answer).check(&shape));
            if outcome.is_err() {
                return;
            }
        }
    });
    outcome?;
    Ok(took)
}

fn batch(records: usize, module: &ModuleRef) -> RecordCall {
    let description = module.factory.description();
    let keys: Blobs =
        (0..records).map(|i| key(i % KEYS)).collect::<Vec<_>>().iter().map(|key| Some(&key[..])).collect();
    let value = [b'v'; VALUE_BYTES];
    let mut call = RecordCall {
        values: (0..records).map(|_| Some(&value[..])).collect(),
        event_times: (0..records as i64).collect(),
        ..RecordCall::default()
    };
    if description.keyed {
        call.slots = (0..records).map(|i| (i % KEYS) as u32).collect();
        let distinct: Vec<_> = (0..KEYS.min(records)).map(key).collect();
        // Eight 64-bit floats, all 0.5.
        let state: Vec<u8> = 0.5_f64.to_le_bytes().repeat(STATE_BYTES / 8);
        call.keyed = Keyed {
            keys: distinct.iter().map(|key| Some(&key[..])).collect(),
            values: distinct.iter().map(|_| Some(&state[..])).collect(),
        };
    } else {
        call.record_keys = Some(keys);
    }
    if description.needs.headers {
        let mut headers = Headers::default();
        for record in 0..records {
            headers.push(b"trace-id", Some(b"0123456789abcdef"));
            headers.push(b"source", Some(b"venue-1"));
            headers.end_record(record);
        }
        call.headers = Some(headers);
    }
    call
}

fn key(i: usize) -> Vec<u8> {
    format!("{i:0>width$}", width = KEY_BYTES).into_bytes()
}
