//! Measures keyed state alone: count and sum per record over a million keys, and restarts.
//!
//! Runs what a task runs per batch and per epoch (gather, put, delta, encode, apply) without log, codec
//! and guest. `cargo run --release --example state_bench -- [throughput|restart] [rounds]`; prints
//! medians. Restarts are measured in fresh processes after an end without any closing (as by kill -9);
//! the page cache is warm.

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use forebay::checkpoint::{Header, HeaderKind, Owner, TaskIdentity, encode_delta};
use forebay::model::{Blobs, TaskId, Uid};
use forebay::state::{Gathered, Marker, OperatorStates, StateSettings, TaskState};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

type Outcome<T> = Result<T, Box<dyn Error>>;

const BATCH: usize = 256;
const KEYS: u64 = 1_000_000;
const RECORDS: usize = 2_000_000;
/// Records of an epoch of 100 ms at 200,000 records a second.
const EPOCH_RECORDS: usize = 20_000;
const CHUNK_BYTES: usize = 1 << 20;
const MIB: usize = 1 << 20;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["fill", dir, keys] => fill(Path::new(dir), keys.parse()?),
        ["open", dir] => open_and_read(Path::new(dir)),
        ["throughput"] => throughput(5),
        ["throughput", rounds] => throughput(rounds.parse()?),
        ["restart"] => restart(5),
        ["restart", rounds] => restart(rounds.parse()?),
        [] => throughput(5).and_then(|()| restart(5)),
        _ => Err("usage: state_bench [throughput|restart] [rounds]".into()),
    }
}

/// One way to draw keys and one size of cache.
struct Case {
    name: &'static str,
    hot_keys: u64,
    cache_bytes: usize,
}

const CASES: &[Case] = &[
    Case { name: "1,000 hot of 1,000,000 keys, cached", hot_keys: 1_000, cache_bytes: 256 * MIB },
    Case { name: "50,000 hot of 1,000,000 keys, cached", hot_keys: 50_000, cache_bytes: 256 * MIB },
    Case { name: "all 1,000,000 keys hot, cached", hot_keys: KEYS, cache_bytes: 256 * MIB },
    Case { name: "all 1,000,000 keys hot, cache holds 7 %", hot_keys: KEYS, cache_bytes: 8 * MIB },
];

/// Where the time of a run went: CPU time of the record path's thread, which other programs on the
/// machine disturb little, and the time that passed.
#[derive(Clone, Default)]
struct Spent {
    records: usize,
    passed: Duration,
    slots: Duration,
    gather: Duration,
    put: Duration,
    delta: Duration,
    encode: Duration,
    apply: Duration,
    cpu: Duration,
}

fn throughput(rounds: usize) -> Outcome<()> {
    println!("{RECORDS} records in batches of {BATCH}, epochs of {EPOCH_RECORDS}; median of {rounds} runs");
    println!("CPU ns per record by step; in brackets per distinct key of a batch");
    for case in CASES {
        let dir = tempfile::tempdir()?;
        let mut task = Task::open(dir.path(), case.cache_bytes)?;
        task.fill(KEYS)?;
        task.run(case.hot_keys, RECORDS / 2)?; // warms the cache
        let mut runs = Vec::new();
        for _ in 0..rounds {
            runs.push(task.run(case.hot_keys, RECORDS)?);
        }
        report(case, &task, runs);
    }
    Ok(())
}

fn report(case: &Case, task: &Task, mut runs: Vec<Spent>) {
    runs.sort_by_key(Spent::total);
    let run = &runs[runs.len() / 2];
    let ns = |spent: Duration| spent.as_nanos() as f64 / run.records as f64;
    let per_key = run.records as f64 / task.distinct_per_batch / (run.records as f64 / BATCH as f64);
    println!(
        "\n{}: {:.0} records/s ({:.0} of undisturbed CPU), {:.3} CPU-s per million with RocksDB's threads",
        case.name,
        1e9 / ns(run.passed),
        1e9 / ns(run.total()),
        ns(run.cpu) / 1e3
    );
    println!(
        "  slots {:.0} | gather {:.0} ({:.0}) | put {:.0} ({:.0}) | delta {:.0} | encode {:.0} | apply {:.0}",
        ns(run.slots),
        ns(run.gather),
        ns(run.gather) * per_key,
        ns(run.put),
        ns(run.put) * per_key,
        ns(run.delta),
        ns(run.encode),
        ns(run.apply),
    );
    let seen = task.state.statistics();
    println!(
        "  {:.0} distinct keys a batch; read from overlay {}, cache {}, RocksDB {}; cache {} values, {} MiB",
        task.distinct_per_batch,
        seen.reads_overlay,
        seen.reads_cache,
        seen.reads_store,
        seen.cached_values,
        seen.cached_bytes as usize / MIB,
    );
}

impl Spent {
    fn total(&self) -> Duration {
        self.slots + self.gather + self.put + self.delta + self.encode + self.apply
    }
}

/// What a task has, as far as state goes.
struct Task {
    state: TaskState,
    header: Header,
    random: SmallRng,
    distinct_per_batch: f64,
}

impl Task {
    fn open(dir: &Path, cache_bytes: usize) -> Outcome<Self> {
        let settings = StateSettings { cache_bytes, ..StateSettings::default() };
        let (mut state, _) = TaskState::open(dir, &settings)?;
        state.bind(&operators())?;
        Ok(Self { state, header: header(), random: SmallRng::seed_from_u64(7), distinct_per_batch: 0.0 })
    }

    fn fill(&mut self, keys: u64) -> Outcome<()> {
        for n in 0..keys {
            self.state.put(0, 0, &key(n), 1, Some(&[0; 16]));
            if (n + 1) % EPOCH_RECORDS as u64 == 0 || n + 1 == keys {
                self.commit(&mut Spent::default())?;
            }
        }
        Ok(())
    }

    fn run(&mut self, hot_keys: u64, records: usize) -> Outcome<Spent> {
        let mut spent = Spent { records, ..Spent::default() };
        let (cpu, start) = (cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID), Instant::now());
        let (mut keys, mut gathered, mut slots) = (Blobs::new(), Gathered::default(), Vec::new());
        let mut slot_of: HashMap<[u8; 16], u32> = HashMap::new();
        let (mut batches, mut distinct) = (0, 0);
        let stride = KEYS / hot_keys;
        for done in (0..records).step_by(BATCH) {
            let batch: Vec<_> = (0..BATCH).map(|_| key(self.random.random_range(0..hot_keys) * stride)).collect();
            clocked(&mut spent.slots, || assign_slots(&batch, &mut slot_of, &mut keys, &mut slots));
            clocked(&mut spent.gather, || self.state.gather(0, &keys, usize::MAX, &mut gathered))?;
            clocked(&mut spent.put, || self.count_and_sum(&keys, &gathered, &slots));
            (batches, distinct) = (batches + 1, distinct + keys.len());
            if done / EPOCH_RECORDS != (done + BATCH) / EPOCH_RECORDS {
                self.commit(&mut spent)?;
            }
        }
        self.commit(&mut spent)?;
        spent.cpu = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID) - cpu;
        spent.passed = start.elapsed();
        self.distinct_per_batch = f64::from(distinct as u32) / f64::from(batches);
        Ok(spent)
    }

    fn count_and_sum(&mut self, keys: &Blobs, gathered: &Gathered, slots: &[u32]) {
        let mut sums = vec![(0_u64, 0_u64); keys.len()];
        for (slot, sum) in sums.iter_mut().enumerate() {
            if let Some(&[a, b, c, d, e, f, g, h, ref rest @ ..]) = gathered.values.get(slot) {
                let total = rest.try_into().map_or(0, u64::from_le_bytes);
                *sum = (u64::from_le_bytes([a, b, c, d, e, f, g, h]), total);
            }
        }
        for (value, &slot) in slots.iter().enumerate() {
            let (count, sum) = &mut sums[slot as usize];
            (*count, *sum) = (*count + 1, sum.wrapping_add(value as u64));
        }
        for (slot, (count, sum)) in sums.into_iter().enumerate() {
            let mut value = [0; 16];
            value[..8].copy_from_slice(&count.to_le_bytes());
            value[8..].copy_from_slice(&sum.to_le_bytes());
            self.state.put(0, 0, keys.bytes(slot), 1, Some(&value));
        }
    }

    fn commit(&mut self, spent: &mut Spent) -> Outcome<()> {
        self.header.epoch += 1;
        let changes = clocked(&mut spent.delta, || self.state.delta());
        clocked(&mut spent.encode, || encode_delta(&self.header, &changes.keys, &changes.values, CHUNK_BYTES))?;
        let epoch = self.header.epoch;
        let marker = Marker { epoch, header_offset: epoch as i64, header_hash: [1; 32], task: [1; 32] };
        clocked(&mut spent.apply, || self.state.apply(marker))?;
        Ok(())
    }
}

/// The distinct keys of a batch and each record's place among them, as an operator makes them.
fn assign_slots(batch: &[[u8; 16]], slot_of: &mut HashMap<[u8; 16], u32>, keys: &mut Blobs, slots: &mut Vec<u32>) {
    slot_of.clear();
    keys.clear();
    slots.clear();
    for key in batch {
        let next = slot_of.len() as u32;
        slots.push(*slot_of.entry(*key).or_insert_with(|| {
            keys.push(Some(key));
            next
        }));
    }
}

fn restart(rounds: usize) -> Outcome<()> {
    println!("\nrestart after an end without closing: open, marker, bind, first batch of {BATCH} keys, next timer");
    for keys in [KEYS, 10 * KEYS] {
        let dir = tempfile::tempdir()?;
        let filled =
            Command::new(std::env::current_exe()?).arg("fill").arg(dir.path()).arg(keys.to_string()).output()?;
        print!("{}", String::from_utf8_lossy(&filled.stdout));
        let mut times = Vec::new();
        for _ in 0..rounds {
            let opened = Command::new(std::env::current_exe()?).arg("open").arg(dir.path()).output()?;
            times.push(String::from_utf8(opened.stdout)?.trim().to_owned());
        }
        times.sort_by_key(|line| line.split(' ').next().and_then(|us| us.parse::<u64>().ok()));
        println!("{keys} keys: {} (median of {rounds})", times[rounds / 2]);
    }
    Ok(())
}

/// Fills a store and ends the process on the spot, as kill -9 does.
fn fill(dir: &Path, keys: u64) -> Outcome<()> {
    let mut task = Task::open(dir, 64 * MIB)?;
    task.fill(keys)?;
    task.state.flush()?;
    for n in 0..EPOCH_RECORDS as u64 {
        task.state.put(0, 0, &key(n), 1, Some(&[1; 16]));
        task.state.set_timer(0, 0, &key(n), n as i64);
    }
    task.commit(&mut Spent::default())?;
    let size = task.state.statistics();
    println!("filled: about {} keys, {} MiB on disk", size.stored_keys, size.stored_bytes as usize / MIB);
    // SAFETY: takes no pointer; nothing of this process is needed any more, which is the point.
    unsafe { libc::_exit(0) }
}

fn open_and_read(dir: &Path) -> Outcome<()> {
    let start = Instant::now();
    let (mut state, marker) = TaskState::open(dir, &StateSettings::default())?;
    state.bind(&operators())?;
    let opened = start.elapsed();
    let mut random = SmallRng::seed_from_u64(7);
    let keys: Vec<_> = (0..BATCH).map(|_| key(random.random_range(0..KEYS))).collect();
    state.gather(0, &keys.iter().map(|key| Some(&key[..])).collect(), usize::MAX, &mut Gathered::default())?;
    state.next_timer(0)?;
    let epoch = marker.map_or(0, |marker| marker.epoch);
    println!(
        "{} us to the first batch read, {} us of it to the marker of epoch {epoch}",
        start.elapsed().as_micros(),
        opened.as_micros()
    );
    Ok(())
}

fn operators() -> [OperatorStates; 1] {
    let (states, timers) = (vec!["totals".to_owned()], vec!["flush".to_owned()]);
    [OperatorStates { id: "aggregate".to_owned(), states, timers }]
}

/// 16 bytes, spread so that neighbours do not share a prefix.
fn key(n: u64) -> [u8; 16] {
    let mut key = *b"0000000000000000";
    key[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

fn header() -> Header {
    Header {
        kind: HeaderKind::Epoch,
        task: TaskIdentity { job: Uid([1; 16]), incarnation: 0, task: TaskId::main(0), parallelism: 1 },
        owner: Owner { session: Uid([2; 16]), claim: 0, generation: 0 },
        epoch: 0,
        previous: [0; 32],
        inputs: vec![],
        watermark: 0,
        processing_time: 0,
        base: None,
        swap: None,
        time_reset: 0,
        operators: vec![],
    }
}

fn clocked<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = cpu_time(libc::CLOCK_THREAD_CPUTIME_ID);
    let result = work();
    *spent += cpu_time(libc::CLOCK_THREAD_CPUTIME_ID) - start;
    result
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
