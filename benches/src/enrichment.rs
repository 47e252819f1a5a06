//! The enrichment example over a log: poll, decode, transform, state, encode, commit.
//!
//! Its input lies in the log beforehand, so the task reads as fast as it can. The twin is the same task
//! with the same settings; only the guest call is a direct one.

use std::path::PathBuf;

use forebay::codec::TimeUnit;
use forebay::model::Uid;
use forebay::operator::ModuleRef;
use forebay::task::plan::TaskSettings;
use market_data::input::generator::{self, Generated, Settings};
use market_data::input::partitioned::Partitioned;

use crate::bed::{Bed, Input, Job};
use crate::calls::Calls;
use crate::measure::{median, spread};
use crate::modules::Loader;
use crate::{Outcome, Setup, native, report};

#[derive(clap::Args)]
pub struct Options {
    /// Orders per run.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    #[arg(long, default_value_t = 1_000)]
    symbols: usize,
    #[arg(long, default_value_t = 4)]
    partitions: usize,
    /// Records of one poll and one guest call.
    #[arg(long, default_value_t = 1_024)]
    batch: usize,
    /// How long an epoch stays open.
    #[arg(long, default_value_t = 100)]
    commit_ms: u64,
    /// Only the guest's calls, without the log around them.
    #[arg(long)]
    calls_only: bool,
    /// Folders with other builds of the guest, to compare.
    #[arg(long)]
    other: Vec<PathBuf>,
}

/// Orders without lateness and faults, and their instruments; the first record is of 2026.
pub fn generate(records: usize, partitions: usize, symbols: usize) -> Generated {
    let start_ms = 1_777_680_000_000;
    let span_ms = records as i64 / 20;
    generator::generate(&Settings {
        seed: 1,
        records,
        symbols,
        partitions,
        start_ms,
        span_ms,
        late: 0.0,
        malformed: 0.0,
    })
}

/// What one run took: records/s, CPU-µs of the task's thread and of the process per record.
type Figures = [Vec<f64>; 3];

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let input = generate(options.records, options.partitions, options.symbols);
    let loader = Loader::new(setup)?;
    let mut variants = vec![
        ("native twin".to_owned(), native::module::<enrichment::Enrichment>()),
        ("guest".to_owned(), loader.module("enrichment")?),
    ];
    for dir in &options.other {
        variants.push((format!("guest of {}", dir.display()), loader.module_in(dir, "enrichment")?));
    }
    calls_alone(setup, options, &input, &variants)?;
    if options.calls_only {
        return Ok(());
    }
    let dir = tempfile::tempdir_in(&setup.dir)?;
    let bed = Bed::open(setup, dir.path())?;
    let (instruments, orders) = (fill(&bed, &input.instruments)?, fill(&bed, &input.orders)?);
    let bytes: usize = input.orders.partitions.iter().flatten().filter_map(|r| r.value.as_ref()).map(Vec::len).sum();
    drop(input);
    let mut figures: Vec<Figures> = vec![Figures::default(); variants.len()];
    for _ in 0..setup.runs {
        for ((_, module), figures) in variants.iter().zip(&mut figures) {
            let run = once(&bed, module, options, instruments, orders)?;
            figures.iter_mut().zip(run).for_each(|(all, one)| all.push(one));
        }
    }
    let rows = variants.iter().zip(&figures).map(|((name, _), [rate, thread, process])| {
        let share = median(rate.iter().copied()) / median(figures[0][0].iter().copied());
        let thread_share = median(figures[0][1].iter().copied()) / median(thread.iter().copied());
        let shares = [share, thread_share].map(|share| format!("{share:.2}×"));
        [vec![name.clone(), spread(rate, 0), spread(thread, 2), spread(process, 2)], shares.into()].concat()
    });
    let header =
        ["", "records/s", "µs/record, task's thread", "µs/record, process", "of the twin", "of the twin, thread CPU"];
    report::print(&format!("Enrichment over {}, one task", setup.log_name()), &header, rows.collect());
    report::print_conditions(&format!(
        "{orders} orders of {} B in {} partitions, {} symbols, commit every {} ms, polls and calls of at most {} records; \
         median (range) of {} runs in turn; from the {}th order on",
        bytes as u64 / orders,
        options.partitions,
        options.symbols,
        options.commit_ms,
        options.batch,
        setup.runs,
        orders / 10
    ));
    Ok(())
}

/// The guest's share: the same orders and states in calls by themselves.
fn calls_alone(setup: &Setup, options: &Options, input: &Generated, variants: &[(String, ModuleRef)]) -> Outcome {
    let calls = Calls::of(input, options.batch, &variants[0].1)?;
    let mut figures = vec![Vec::new(); variants.len()];
    let modules: Vec<&ModuleRef> = variants.iter().map(|(_, module)| module).collect();
    for _ in 0..setup.runs {
        let run = calls.measure(&modules, options.records)?;
        figures.iter_mut().zip(run).for_each(|(all, one)| all.push(one));
    }
    let of_twin = median(figures[0].iter().copied());
    let rows = variants.iter().zip(&figures).map(|((name, _), figures)| {
        let share = of_twin / median(figures.iter().copied());
        vec![name.clone(), spread(figures, 0), format!("{share:.2}×")]
    });
    report::print("The calls of enrichment alone", &["", "ns/record, thread CPU", "of the twin"], rows.collect());
    Ok(())
}

pub fn fill(bed: &Bed, input: &Partitioned) -> Outcome<u64> {
    let topic = bed.create_topic(&input.topic, input.partitions.len() as u32)?;
    let records = input.partitions.iter().flatten();
    bed.fill(
        &topic,
        records.map(|r| (r.key.clone().unwrap_or_default(), r.value.clone().unwrap_or_default(), r.timestamp_ms)),
    )
}

fn once(bed: &Bed, module: &ModuleRef, options: &Options, instruments: u64, orders: u64) -> Outcome<[f64; 3]> {
    bed.make_anew()?;
    let settings = TaskSettings {
        batch_max_records: options.batch,
        poll_max_records: options.batch,
        commit_interval: std::time::Duration::from_millis(options.commit_ms),
        ..TaskSettings::default()
    };
    let reference = Input { topic: "instruments", event_time: Some(("timestamp", TimeUnit::Ms)) };
    let events = Input { topic: "orders", event_time: Some(("exchange_timestamp", TimeUnit::Ms)) };
    let job = Job { inputs: vec![events, reference], module: module.clone(), settings };
    let plan = bed.plan(&job, Uid::random())?;
    bed.deploy(&plan)?;
    let running = bed.spawn(plan, vec![module.clone()])?;
    // The first tenth warms caches, the guest's memory and the state store.
    let [from, to] = running.measure(instruments + orders / 10..instruments + orders)?;
    running.stop();
    let records = (to.records - from.records) as f64;
    let micros = |from: std::time::Duration, to: std::time::Duration| (to - from).as_secs_f64() * 1e6 / records;
    Ok([
        records / (to.at - from.at).as_secs_f64(),
        micros(from.thread_cpu, to.thread_cpu),
        micros(from.process_cpu, to.process_cpu),
    ])
}
