//! From the start of a process that was killed to its first committed output, by the size of its state.
//!
//! A child process of this program runs the task; it is killed with SIGKILL while records flow and
//! started again over the same directory. Time is taken by the parent, from before the start of the
//! process, so opening the log, loading the module and recovery are all in it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use forebay::log::Isolation;
use forebay::model::{PartitionBatch, Uid};
use forebay::task::plan::TaskSettings;

use crate::bed::{Bed, Input, Job, LARGE};
use crate::measure::{now_ms, spread};
use crate::modules::Loader;
use crate::{Outcome, Setup, keyed, report};

#[derive(clap::Args)]
pub struct Options {
    /// Keys with state, one table row each.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 10_000_000])]
    keys: Vec<u64>,
    /// Records a second while it runs and is killed.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
}

#[derive(clap::Args)]
pub struct ChildOptions {
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    keys: u64,
    #[arg(long)]
    rate: u64,
    /// Names the topics on a cluster.
    #[arg(long)]
    run: String,
    /// Make the state first.
    #[arg(long)]
    fill: bool,
}

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let mut rows = Vec::new();
    for &keys in &options.keys {
        let data = tempfile::tempdir_in(&setup.dir)?;
        let run_name = format!("{:.8}", Uid::random().to_string());
        let begin = |fill| start(setup, options, (data.path(), &run_name), keys, fill);
        let mut first = begin(true)?;
        first.wait()?;
        let mut figures: [Vec<f64>; 2] = Default::default();
        for run in 0..=setup.runs {
            let began = Instant::now();
            let mut child = begin(false)?;
            let recovery_us = first_output(&mut child)?;
            let took = began.elapsed();
            // A while of records flowing, and not in step with the commits.
            std::thread::sleep(Duration::from_millis(1_500 + 37 * run as u64));
            child.kill()?;
            child.wait()?;
            if run > 0 {
                figures[0].push(took.as_secs_f64() * 1e3);
                figures[1].push(recovery_us / 1e3);
            }
        }
        rows.push(vec![keys.to_string(), spread(&figures[0], 0), spread(&figures[1], 0)]);
    }
    report::print(
        "Restart after kill -9",
        &["keys", "ms to the first committed output", "of which recovery of the task, ms"],
        rows,
    );
    report::print_conditions(&format!(
        "counter over {}, {} records/s while it was killed, commit every 100 ms, local disk and page cache \
         as the kill left them; {} kills each",
        setup.log_name(),
        options.rate,
        setup.runs
    ));
    Ok(())
}

fn start(setup: &Setup, options: &Options, (data, run): (&Path, &str), keys: u64, fill: bool) -> Outcome<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("restart-child").arg("--guests").arg(&setup.guests).arg("--data").arg(data);
    command.args(["--keys", &keys.to_string(), "--rate", &options.rate.to_string()]);
    command.args(["--run", run]);
    if let Some(kafka) = &setup.kafka {
        command.args(["--kafka", kafka]);
    }
    if fill {
        command.arg("--fill");
    }
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

/// Waits for the child's line; the number in it.
fn first_output(child: &mut Child) -> Outcome<f64> {
    let out = child.stdout.take().ok_or("the child has no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let number = line.strip_prefix("first output; recovery took us ").ok_or("the child ended without output")?;
    Ok(number.trim().parse()?)
}

/// Runs the task and says when the first output of this process is committed; goes on until killed.
pub fn child(setup: &Setup, options: &ChildOptions) -> Outcome {
    let bed = Bed::again(setup, &options.data, &options.run)?;
    let module = Loader::new(setup)?.module("counter")?;
    if options.fill {
        let topic = bed.create_topic("amounts", 1)?;
        bed.make_anew()?;
        let now = now_ms();
        bed.fill(&topic, (0..options.keys).map(|key| keyed::record(key, now)))?;
    }
    let inputs = vec![Input { topic: "amounts", event_time: None }];
    let job = Job { inputs, module: module.clone(), settings: TaskSettings::default() };
    let plan = bed.plan(&job, Uid([7; 16]))?;
    if options.fill {
        bed.deploy(&plan)?;
    }
    // What the killed process had under way may still be committed or aborted: only what lies behind it is ours.
    let before = bed.output_end(Isolation::ReadUncommitted)?;
    let running = bed.spawn(plan, vec![module])?;
    if options.fill {
        running.wait_for(options.keys)?;
        running.has_refused_nothing()?;
        running.stop();
        return Ok(());
    }
    let done = Arc::new(AtomicBool::new(false));
    let _sender = keyed::send(&bed, options.keys, options.rate, &done);
    let mut reader = bed.output_reader(Isolation::ReadCommitted)?;
    let mut batch = PartitionBatch::default();
    while !(reader.poll(LARGE, Duration::from_millis(5), &mut batch)? && batch.offsets.iter().any(|&at| at >= before)) {
        running.status()?;
    }
    println!("first output; recovery took us {}", running.status()?.recovery_us);
    loop {
        running.status()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}
