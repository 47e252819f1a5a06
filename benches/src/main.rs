//! `forebay-bench`: what Forebay costs, measured and printed with the conditions of the measurement.
//!
//! Medians of several runs; variants take turns inside one process, so that a noisy machine troubles
//! all of them alike. Nothing is judged here: the figures are for people, and a timed test would be a
//! coin toss on a shared machine.

mod bed;
mod boundary;
mod calls;
mod decode;
mod enrichment;
mod keyed;
mod latency;
mod measure;
mod modules;
mod native;
mod outage;
mod report;
mod restart;
mod swap;
mod timers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures what Forebay costs. Build with `--release`, and the guests first: `cargo xtask guests`.
#[derive(Parser)]
#[command(name = "forebay-bench")]
struct Cli {
    /// Runs per variant; the median counts.
    #[arg(long, global = true, default_value_t = 5)]
    runs: usize,
    /// Where the guests' components are [default: the cache of `cargo xtask guests`].
    #[arg(long, global = true, env = "FOREBAY_GUESTS")]
    guests: Option<PathBuf>,
    /// Where logs and state are put while measuring [default: the system's temporary directory].
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// A Kafka cluster (`host:port`) in place of the embedded log. Its topics are left there.
    #[arg(long, global = true)]
    kafka: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A guest call against its native twin: copying, with state, passing through.
    Boundary(boundary::Options),
    /// Decoding alone: well-formedness, key and event time of order events.
    Decode(decode::Options),
    /// The enrichment example over the embedded log, end to end, against its native twin.
    Enrichment(enrichment::Options),
    /// From the intended time of sending to visible in the output, at a fixed rate, for both kinds of readers.
    Latency(latency::Options),
    /// Count and sum per record over many keys, with the keys in the cache and without.
    Keyed(keyed::Options),
    /// How long output is silent while the code of a running task is swapped.
    Swap(swap::Options),
    /// How soon a task hears a command while ten million of its timers fire.
    Timers(timers::Options),
    /// From the start of a process that was killed to its first committed output.
    Restart(restart::Options),
    /// From kill -9 of the server to the next committed output, as a user sees it, and what that is made of.
    Outage(outage::Options),
    /// The process that `restart` kills.
    #[command(hide = true)]
    RestartChild(restart::ChildOptions),
}

/// What every measurement needs to know.
pub struct Setup {
    pub runs: usize,
    pub guests: PathBuf,
    pub dir: PathBuf,
    pub kafka: Option<String>,
}

impl Setup {
    pub fn log_name(&self) -> &'static str {
        if self.kafka.is_some() { "Kafka" } else { "the embedded log" }
    }
}

/// A sentence: what was being done, and what was found.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let setup = Setup {
        runs: cli.runs.max(1),
        guests: cli.guests.unwrap_or_else(modules::default_dir),
        dir: cli.dir.unwrap_or_else(std::env::temp_dir),
        kafka: cli.kafka,
    };
    let outcome = match &cli.what {
        What::Boundary(options) => boundary::run(&setup, options),
        What::Decode(options) => decode::run(&setup, options),
        What::Enrichment(options) => enrichment::run(&setup, options),
        What::Latency(options) => latency::run(&setup, options),
        What::Keyed(options) => keyed::run(&setup, options),
        What::Swap(options) => swap::run(&setup, options),
        What::Timers(options) => timers::run(&setup, options),
        What::Restart(options) => restart::run(&setup, options),
        What::Outage(options) => outage::run(&setup, options),
        What::RestartChild(options) => restart::child(&setup, options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
