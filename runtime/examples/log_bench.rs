//! How fast the embedded log writes and reads: records of 200 B in epochs of 20,000 over 4 partitions.
//!
//! `cargo run --release --example log_bench [records] [directory]`. CPU time counts RocksDB's own threads too.

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::log::embedded::{Embedded, Settings};
use forebay::log::{Assignment, Budget, Cleanup, CommitOutcome, Isolation, Log, TopicInfo, TopicSpec};
use forebay::model::PartitionBatch;

const PARTITIONS: i32 = 4;
const EPOCH: usize = 20_000;
/// As a task gives them: some hundred records a call.
const CALL: usize = 250;
const KEY: usize = 16;
const VALUE: usize = 184;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: usize = arguments.next().map_or(Ok(5_000_000), |text| text.parse())?;
    let dir = arguments.next().map_or_else(|| std::env::temp_dir().join("forebay-log-bench"), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let log = Embedded::open(&dir, Settings::default())?;
    let spec = TopicSpec { name: "bench".into(), partitions: 4, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
    if log.topic("bench").is_ok() {
        log.delete_topic("bench")?;
    }
    let topic = log.create_topic(&spec)?;
    measure("write", records, || write(&*log, records))?;
    for max_records in [1_024, 65_536] {
        measure(&format!("read {max_records} at a time"), records, || read(&*log, &topic, max_records, records))?;
    }
    measure("write and read, one thread", records, || write_and_read(&*log, &topic, records))?;
    Ok(())
}

fn measure(what: &str, records: usize, run: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let (thread, process, start) = (cpu(libc::RUSAGE_THREAD), cpu(libc::RUSAGE_SELF), Instant::now());
    run()?;
    let elapsed = start.elapsed();
    let (thread, process) = (cpu(libc::RUSAGE_THREAD) - thread, cpu(libc::RUSAGE_SELF) - process);
    let rate = |time: Duration| records as f64 / time.as_secs_f64() / 1e3;
    println!(
        "{what}: {:.0} k records/s ({:.0} k per CPU-s of the calling thread, {:.0} k per CPU-s of the process)",
        rate(elapsed),
        rate(thread),
        rate(process),
    );
    Ok(())
}

fn batches() -> Vec<PartitionBatch> {
    let fill = |partition| {
        let mut batch = PartitionBatch::new("bench", partition);
        for i in 0..CALL {
            batch.push(-1, -1, Some(&[i as u8; KEY]), Some(&[i as u8; VALUE]));
        }
        batch
    };
    (0..PARTITIONS).map(fill).collect()
}

fn write(log: &dyn Log, records: usize) -> Result<(), Box<dyn Error>> {
    let batches = batches();
    let mut writer = log.writer("bench")?;
    for _ in 0..records / EPOCH {
        writer.begin()?;
        for call in 0..EPOCH / CALL {
            writer.append(&batches[call % batches.len()])?;
        }
        let CommitOutcome::Committed = writer.commit()? else { return Err("indefinite commit".into()) };
    }
    Ok(())
}

fn assignments(topic: &TopicInfo, offsets: impl Fn(i32) -> i64) -> Vec<Assignment> {
    let at = |partition| Assignment::new(&topic.spec.name, topic.id, partition, offsets(partition));
    (0..PARTITIONS).map(at).collect()
}

fn read(log: &dyn Log, topic: &TopicInfo, max_records: usize, records: usize) -> Result<(), Box<dyn Error>> {
    let mut reader = log.reader(Isolation::ReadCommitted)?;
    reader.assign(&assignments(topic, |_| 0))?;
    let mut batch = PartitionBatch::default();
    let mut left = records / EPOCH * EPOCH;
    while left > 0 {
        reader.poll(Budget { max_records, max_bytes: 8 << 20 }, Duration::from_secs(1), &mut batch)?;
        left -= batch.len().min(left);
    }
    Ok(())
}

fn write_and_read(log: &dyn Log, topic: &TopicInfo, records: usize) -> Result<(), Box<dyn Error>> {
    let batches = batches();
    let mut writer = log.writer("bench")?;
    let mut reader = log.reader(Isolation::ReadCommitted)?;
    let ends: Vec<i64> = (0..PARTITIONS)
        .map(|partition| log.end_offset("bench", partition, Isolation::ReadCommitted))
        .collect::<Result<_, _>>()?;
    reader.assign(&assignments(topic, |partition| ends[partition as usize]))?;
    let mut batch = PartitionBatch::default();
    let budget = Budget { max_records: 1_024, max_bytes: 1 << 20 };
    for _ in 0..records / EPOCH {
        writer.begin()?;
        for call in 0..EPOCH / CALL {
            writer.append(&batches[call % batches.len()])?;
        }
        let CommitOutcome::Committed = writer.commit()? else { return Err("indefinite commit".into()) };
        let mut left = EPOCH;
        while left > 0 {
            reader.poll(budget, Duration::from_secs(1), &mut batch)?;
            left -= batch.len();
        }
    }
    Ok(())
}

/// User and system time used so far.
fn cpu(who: libc::c_int) -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct that it is given, and all zeros are a valid one.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}
