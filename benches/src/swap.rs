//! How long output is silent while the code of a running task is swapped, under an open-loop load.
//!
//! Records are sent at times fixed beforehand, whatever the task does; a reader notes when committed
//! output appears. The gap of a swap is the longest time between two of them from the moment of the
//! switch until the new version has committed; the normal gap is the longest of the same number of
//! commits before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::log::Isolation;
use forebay::model::{PartitionBatch, Uid};
use forebay::operator::ModuleRef;
use forebay::task::handle::TrialOutcome;
use forebay::task::plan::TaskSettings;
use forebay::task::target::{Change, Target};

use crate::bed::{Bed, Input, Job, LARGE, Running};
use crate::measure::{now_ms, spread};
use crate::modules::Loader;
use crate::{Outcome, Setup, keyed, report};

#[derive(clap::Args)]
pub struct Options {
    /// Records a second, sent whatever the task does.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Keys with state, all of which the new version can read.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// The version that runs first, and the one that it is swapped for.
    #[arg(long, num_args = 2, default_values = ["counter", "counter-v2"])]
    modules: Vec<String>,
}

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let loader = Loader::new(setup)?;
    let versions = [loader.module(&options.modules[0])?, loader.module(&options.modules[1])?];
    let mut figures: [Vec<f64>; 4] = Default::default();
    for _ in 0..setup.runs {
        let one = once(setup, options, &versions)?;
        figures.iter_mut().zip(one).for_each(|(all, one)| all.push(one));
    }
    let names =
        ["longest gap before", "longest gap at the switch", "pause of the task", "preparing beside the old version"];
    let rows = names.iter().zip(&figures).map(|(name, figures)| vec![(*name).into(), spread(figures, 1)]);
    report::print("Swapping a running task's code", &["ms", "median (range)"], rows.collect());
    report::print_conditions(&format!(
        "{} records/s open loop over {} keys with state, commit every {} ms, {} for {}, state kept and migrated; {} runs",
        options.rate,
        options.keys,
        TaskSettings::default().commit_interval.as_millis(),
        options.modules[0],
        options.modules[1],
        setup.runs
    ));
    Ok(())
}

/// Longest gap before and at the switch, pause, preparation; milliseconds.
fn once(setup: &Setup, options: &Options, versions: &[ModuleRef; 2]) -> Outcome<[f64; 4]> {
    const BEFORE: Duration = Duration::from_secs(4);
    const AFTER: Duration = Duration::from_secs(2);
    let dir = tempfile::tempdir_in(&setup.dir)?;
    let bed = Bed::open(setup, dir.path())?;
    let topic = bed.create_topic("amounts", 1)?;
    bed.make_anew()?;
    let now = now_ms();
    bed.fill(&topic, (0..options.keys).map(|key| keyed::record(key, now)))?;
    let inputs = vec![Input { topic: "amounts", event_time: None }];
    let job = Job { inputs, module: versions[0].clone(), settings: TaskSettings::default() };
    let plan = bed.plan(&job, Uid::random())?;
    bed.deploy(&plan)?;
    let running = bed.spawn(plan, versions.to_vec())?;
    running.wait_for(options.keys)?;
    running.has_refused_nothing()?;

    let done = Arc::new(AtomicBool::new(false));
    let watcher = watch(&bed, &done)?;
    let sender = keyed::send(&bed, options.keys, options.rate, &done);
    std::thread::sleep(BEFORE);
    let prepared = Instant::now();
    let (switch, pause_us) = swap(&running, &versions[1])?;
    let preparing = switch - prepared;
    let switched = Instant::now();
    std::thread::sleep(AFTER);
    done.store(true, Ordering::Relaxed);
    sender.join().map_err(|_| "the sender panicked")??;
    let seen = watcher.join().map_err(|_| "the watcher panicked")??;
    running.stop();

    // Warm from the second second on; a gap belongs to the switch if it ends behind its beginning and
    // begins before the first commit of the new version can have been seen.
    let gaps = || seen.windows(2).map(|pair| (pair[0], pair[1]));
    let longest = |gaps: &mut dyn Iterator<Item = (Instant, Instant)>| {
        gaps.map(|(from, to)| (to - from).as_secs_f64() * 1e3).fold(0.0, f64::max)
    };
    let start = prepared - BEFORE / 2;
    let before = longest(&mut gaps().filter(|(from, to)| *from >= start && *to <= prepared));
    let during = longest(&mut gaps().filter(|(from, to)| *to >= switch && *from <= switched));
    Ok([before, during, pause_us as f64 / 1e3, preparing.as_secs_f64() * 1e3])
}

/// When the switch was asked for, and how long the task says that it paused.
fn swap(running: &Running, to: &ModuleRef) -> Outcome<(Instant, u64)> {
    let change = Change { swap: Uid::random(), operator: 0, module: to.clone(), empty: Default::default() };
    let swap = change.swap.to_string();
    running.aim(Target { trial: Some(change.clone()), ..Target::default() }, |status| {
        match &status.trial.as_ref().filter(|trial| trial.swap == swap)?.outcome {
            TrialOutcome::Trying => None,
            TrialOutcome::Ready { .. } => Some(Ok(())),
            TrialOutcome::Failed { why, .. } => Some(Err(why.clone().into())),
        }
    })?;
    let at = Instant::now();
    let modules = std::iter::once((0, change)).collect();
    let pause_us = running.aim(Target { modules, ..Target::default() }, |status| {
        status.last_swap.as_ref().filter(|last| last.swap == swap).map(|last| Ok(last.pause_us))
    })?;
    Ok((at, pause_us))
}

/// Notes when committed output appears.
fn watch(bed: &Bed, done: &Arc<AtomicBool>) -> Outcome<std::thread::JoinHandle<Outcome<Vec<Instant>>>> {
    let (mut reader, done) = (bed.output_reader(Isolation::ReadCommitted)?, Arc::clone(done));
    Ok(std::thread::spawn(move || {
        let (mut seen, mut batch) = (Vec::new(), PartitionBatch::default());
        while !done.load(Ordering::Relaxed) {
            if reader.poll(LARGE, Duration::from_millis(5), &mut batch)? {
                seen.push(Instant::now());
            }
        }
        Ok(seen)
    }))
}
