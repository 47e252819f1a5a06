//! Count and sum per record over many keys: a task over the embedded log, its keys in the cache or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::model::{PartitionBatch, Uid};
use forebay::operator::ModuleRef;
use forebay::task::plan::TaskSettings;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::bed::{Bed, Input, Job, Mark};
use crate::measure::{now_ms, spread};
use crate::modules::Loader;
use crate::{Outcome, Setup, report};

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Records per run; the first half warms the cache, the second is measured.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Cache that holds all keys, MiB.
    #[arg(long, default_value_t = 512)]
    cache_mib: usize,
    /// Cache that holds few of them, MiB.
    #[arg(long, default_value_t = 8)]
    small_cache_mib: usize,
}

/// The input of the counter: one integer, at a time that every topic takes.
pub fn record(key: u64, timestamp_ms: i64) -> (Vec<u8>, Vec<u8>, i64) {
    (format!("key-{key:010}").into_bytes(), br#"{"amount":1}"#.to_vec(), timestamp_ms)
}

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let module = Loader::new(setup)?.module("counter")?;
    let variants = [("in the cache", options.cache_mib), ("not in the cache", options.small_cache_mib)];
    let mut figures = [[Vec::new(), Vec::new(), Vec::new()], Default::default()];
    for run in 0..setup.runs {
        for ((_, cache_mib), figures) in variants.iter().zip(&mut figures) {
            let [from, to] = once(setup, options, &module, *cache_mib, run as u64)?;
            let records = (to.records - from.records) as f64;
            let per_million = |from: Duration, to: Duration| (to - from).as_secs_f64() * 1e6 / records;
            figures[0].push(records / (to.at - from.at).as_secs_f64());
            figures[1].push(per_million(from.thread_cpu, to.thread_cpu));
            figures[2].push(per_million(from.process_cpu, to.process_cpu));
        }
    }
    let rows = variants.iter().zip(&figures).map(|((name, cache), [rate, thread, process])| {
        vec![format!("{name} ({cache} MiB)"), spread(rate, 0), spread(thread, 2), spread(process, 2)]
    });
    let header = ["keys", "records/s", "CPU-s per million, task's thread", "CPU-s per million, process"];
    report::print("Count and sum per record", &header, rows.collect());
    report::print_conditions(&format!(
        "{} keys, every one there before; {} records a run on keys drawn evenly, of which the second half counts; a result \
         per record, commit every 100 ms; median (range) of {} runs in turn",
        options.keys, options.records, setup.runs
    ));
    Ok(())
}

fn once(setup: &Setup, options: &Options, module: &ModuleRef, cache_mib: usize, seed: u64) -> Outcome<[Mark; 2]> {
    let dir = tempfile::tempdir_in(&setup.dir)?;
    let bed = Bed::open(setup, dir.path())?;
    let topic = bed.create_topic("amounts", 1)?;
    bed.make_anew()?;
    let mut random = SmallRng::seed_from_u64(seed);
    let (keys, records) = (options.keys, options.records);
    let now = now_ms();
    bed.fill(&topic, (0..keys).map(|key| record(key, now)))?;
    bed.fill(&topic, (0..records).map(|_| record(random.random_range(0..keys), now)))?;
    let settings = TaskSettings { cache_bytes: cache_mib << 20, ..TaskSettings::default() };
    let job = Job { inputs: vec![Input { topic: "amounts", event_time: None }], module: module.clone(), settings };
    let plan = bed.plan(&job, Uid::random())?;
    bed.deploy(&plan)?;
    let running = bed.spawn(plan, vec![module.clone()])?;
    let marks = running.measure(keys + records / 2..keys + records)?;
    running.has_refused_nothing()?;
    running.stop();
    Ok(marks)
}

/// Sends at a fixed rate, in a batch every five milliseconds.
pub fn send(bed: &Bed, keys: u64, rate: u64, done: &Arc<AtomicBool>) -> std::thread::JoinHandle<Outcome> {
    const TICK: Duration = Duration::from_millis(5);
    let (log, name, done) = (bed.log.clone(), bed.name("amounts"), Arc::clone(done));
    let per_tick = rate * TICK.as_millis() as u64 / 1_000;
    std::thread::spawn(move || {
        let (start, mut sent) = (Instant::now(), 0);
        let mut batch = PartitionBatch::new(&name, 0);
        for tick in 1_u32.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            batch.clear();
            for _ in 0..per_tick {
                let (key, value, timestamp_ms) = record(sent * 7_919 % keys, now_ms());
                batch.push(-1, timestamp_ms, Some(&key), Some(&value));
                sent += 1;
            }
            log.produce(&batch)?;
            std::thread::sleep((start + TICK * tick).saturating_duration_since(Instant::now()));
        }
        Ok(())
    })
}
