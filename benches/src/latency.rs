//! How long a record takes from the time it was meant to be sent to where readers see what became of it.
//!
//! An open loop: records are due at times fixed beforehand, and a sender that falls behind counts as delay. One output
//! topic, two readers: under read-committed each result once, under read-uncommitted as soon as it is written. Also
//! the end of an epoch alone: from the last write to the return of the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay::codec::TimeUnit;
use forebay::log::{CommitOutcome, Isolation, Writer};
use forebay::model::{PartitionBatch, Uid};
use forebay::operator::ModuleRef;
use forebay::task::plan::TaskSettings;
use hdrhistogram::Histogram;
use market_data::input::partitioned::Record;

use crate::bed::{Bed, Input, Job, LARGE};
use crate::measure::{median, spread};
use crate::modules::Loader;
use crate::{Outcome, Setup, enrichment, report};

/// Carries the time at which a record was due, nanoseconds since the start.
const DUE: &[u8] = b"due";
const TICK: Duration = Duration::from_millis(1);
const WARM_UP: Duration = Duration::from_secs(5);
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

#[derive(clap::Args)]
pub struct Options {
    /// Records a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How long records are counted, after a warm-up of five seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Commit intervals, one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 20])]
    commit_ms: Vec<u64>,
}

/// One histogram of microseconds per kind of reader.
type Views = [Histogram<u64>; 2];

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let module = Loader::new(setup)?.module("enrichment")?;
    let (mut rows, mut ends) = (Vec::new(), Vec::new());
    for &commit_ms in &options.commit_ms {
        let mut figures: [[Vec<f64>; 4]; 2] = Default::default();
        let mut commits: [Vec<f64>; 3] = Default::default();
        for _ in 0..setup.runs {
            let views = once(setup, options, &module, commit_ms)?;
            for (view, figures) in views.iter().zip(&mut figures) {
                let quantiles = QUANTILES.map(|q| view.value_at_quantile(q)).into_iter().chain([view.max()]);
                figures.iter_mut().zip(quantiles).for_each(|(all, us)| all.push(us as f64 / 1e3));
            }
            let ends = commits_alone(setup, options, commit_ms)?;
            commits.iter_mut().zip(QUANTILES).for_each(|(all, q)| all.push(ends.value_at_quantile(q) as f64 / 1e3));
        }
        for (name, figures) in ["read_committed", "read_uncommitted"].iter().zip(&figures) {
            let cells = figures.iter().map(|all| spread(all, 1));
            rows.push([format!("{commit_ms} ms"), (*name).into()].into_iter().chain(cells).collect());
        }
        ends.push([format!("{commit_ms} ms")].into_iter().chain(commits.iter().map(|all| spread(all, 1))).collect());
        eprintln!("commit every {commit_ms} ms: p99 committed {:.1} ms", median(figures[0][1].iter().copied()));
    }
    let header = ["commit every", "reader", "p50, ms", "p99, ms", "p99.9, ms", "max, ms"];
    report::print(&format!("From intended send to visible, over {}", setup.log_name()), &header, rows);
    let header = ["epochs of", "p50, ms", "p99, ms", "p99.9, ms"];
    report::print("End of an epoch: last write to the return of the commit", &header, ends);
    report::print_conditions(&format!(
        "enrichment with its Wasm guest, one task, one partition, {} records/s open loop for {} s after 5 s of warm-up, \
         broker on the same machine; median (range) of {} runs",
        options.rate, options.seconds, setup.runs
    ));
    Ok(())
}

fn once(setup: &Setup, options: &Options, module: &ModuleRef, commit_ms: u64) -> Outcome<Views> {
    let dir = tempfile::tempdir_in(&setup.dir)?;
    let bed = Bed::open(setup, dir.path())?;
    let input = enrichment::generate(100_000, 1, 1_000);
    let instruments = enrichment::fill(&bed, &input.instruments)?;
    bed.create_topic("orders", 1)?;
    bed.make_anew()?;
    let settings = TaskSettings { commit_interval: Duration::from_millis(commit_ms), ..TaskSettings::default() };
    let reference = Input { topic: "instruments", event_time: Some(("timestamp", TimeUnit::Ms)) };
    let events = Input { topic: "orders", event_time: Some(("exchange_timestamp", TimeUnit::Ms)) };
    let job = Job { inputs: vec![events, reference], module: module.clone(), settings };
    let plan = bed.plan(&job, Uid::random())?;
    bed.deploy(&plan)?;
    let running = bed.spawn(plan, vec![module.clone()])?;
    running.wait_for(instruments)?;

    let (start, done) = (Instant::now() + Duration::from_millis(200), Arc::new(AtomicBool::new(false)));
    let watchers =
        [Isolation::ReadCommitted, Isolation::ReadUncommitted].map(|isolation| watch(&bed, isolation, start, &done));
    let orders: Vec<Record> = input.orders.partitions.into_iter().flatten().collect();
    send(&bed, &orders, options, start)?;
    // The last epoch is to be seen.
    std::thread::sleep(Duration::from_millis(2 * commit_ms + 500));
    running.status()?;
    done.store(true, Ordering::Relaxed);
    running.stop();
    let [committed, uncommitted] = watchers.map(|watcher| watcher?.join().map_err(|_| "a reader panicked")?);
    Ok([committed?, uncommitted?])
}

/// Sends what is due, in as few calls as the log's answers allow.
fn send(bed: &Bed, orders: &[Record], options: &Options, start: Instant) -> Outcome {
    let all = options.rate * (options.seconds + WARM_UP.as_secs());
    let gap_ns = 1_000_000_000 / options.rate;
    let mut batch = PartitionBatch::new(&bed.name("orders"), 0);
    let mut sent = 0;
    while sent < all {
        std::thread::sleep(
            (start + Duration::from_nanos(sent * gap_ns)).saturating_duration_since(Instant::now()).max(TICK),
        );
        batch.clear();
        let now = start.elapsed().as_nanos() as u64;
        while sent < all && sent * gap_ns <= now {
            let order = &orders[sent as usize % orders.len()];
            let due = (sent * gap_ns).to_le_bytes();
            let header = [(DUE, Some(&due[..]))].into_iter();
            batch.push_with_headers(-1, order.timestamp_ms, order.key.as_deref(), order.value.as_deref(), header);
            sent += 1;
        }
        bed.log.produce(&batch)?;
    }
    Ok(())
}

fn watch(
    bed: &Bed,
    isolation: Isolation,
    start: Instant,
    done: &Arc<AtomicBool>,
) -> Outcome<JoinHandle<Outcome<Histogram<u64>>>> {
    let (mut reader, done) = (bed.output_reader(isolation)?, Arc::clone(done));
    Ok(std::thread::spawn(move || {
        let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        let mut batch = PartitionBatch::default();
        while !done.load(Ordering::Relaxed) {
            if !reader.poll(LARGE, Duration::from_millis(20), &mut batch)? {
                continue;
            }
            let now = start.elapsed().as_nanos() as u64;
            for i in 0..batch.len() {
                let due = batch.headers.of(i).find(|(name, _)| *name == DUE).and_then(|(_, value)| value);
                let Some(due) = due.and_then(|due| due.try_into().ok()).map(u64::from_le_bytes) else { continue };
                if Duration::from_nanos(due) >= WARM_UP {
                    histogram.saturating_record(now.saturating_sub(due) / 1_000);
                }
            }
        }
        Ok(histogram)
    }))
}

/// Epochs of as many records as come in an interval, and a delta, without a task.
fn commits_alone(setup: &Setup, options: &Options, commit_ms: u64) -> Outcome<Histogram<u64>> {
    let dir = tempfile::tempdir_in(&setup.dir)?;
    let bed = Bed::open(setup, dir.path())?;
    bed.make_anew()?;
    let mut writer = bed.log.writer(&bed.name("commits"))?;
    let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let parts = 10;
    let per_part = (options.rate * commit_ms / 1_000 / parts).max(1);
    let mut output = PartitionBatch::new(&bed.name("output"), 0);
    (0..per_part).for_each(|_| output.push(-1, 1_777_680_000_000, Some(b"key"), Some(&[b'x'; 232])));
    let mut delta = PartitionBatch::new(&bed.name("changelog"), 0);
    delta.push(-1, -1, None, Some(&[b'd'; 2_000]));
    let epochs = (5_000 / commit_ms).clamp(50, 250);
    for epoch in 0..epochs {
        writer.begin()?;
        for _ in 0..parts {
            writer.append(&output)?;
            std::thread::sleep(Duration::from_millis(commit_ms) / parts as u32);
        }
        let took = end(writer.as_mut(), &delta)?;
        if epoch >= epochs / 10 {
            histogram.saturating_record(took.as_micros() as u64);
        }
    }
    Ok(histogram)
}

fn end(writer: &mut dyn Writer, delta: &PartitionBatch) -> Outcome<Duration> {
    writer.append(delta)?;
    let began = Instant::now();
    match writer.commit()? {
        CommitOutcome::Committed => Ok(began.elapsed()),
        CommitOutcome::Indefinite(error) => Err(error.into()),
    }
}
