//! `forebay-checker`: makes the input of a job on Kafka and judges its output. See the library, and README.md.

use std::future::Future;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use checker::error::Error;
use checker::input::{Guest, Refusing};
use checker::produce::plan::Plan;
use checker::{judge, produce, report, verify};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Something is wrong with the job.
const VIOLATIONS: u8 = 1;
/// Nothing can be said of the job. Clap ends with the same code.
const UNCHECKED: u8 = 2;

/// Makes the input of a job on Kafka and judges what the job wrote.
///
/// Exit codes: 0 good, 1 the job is wrong, 2 nothing could be checked.
#[derive(Parser)]
#[command(name = "forebay-checker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How to answer.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output_format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Send records that can be told apart, and make sure that each is there once.
    Produce(Produce),
    /// Read input and output completely, and judge the job.
    Verify(Verify),
}

#[derive(Args)]
struct Produce {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    /// How many records to send.
    #[arg(long)]
    records: u64,
    /// Records a second, or `max` for as fast as it goes.
    #[arg(long, default_value = "max", value_parser = rate)]
    rate: Rate,
    /// How many keys there are.
    #[arg(long, default_value_t = 100)]
    keys: u64,
    /// A name that no other producer of the topic has.
    #[arg(long, default_value = "p1")]
    producer: String,
    /// The same seed makes the same records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sequence number of the first record: where the same producer has sent some before, how many.
    #[arg(long, default_value_t = 0)]
    first_sequence: u64,
    /// Length of every key, and so of what a job makes of it.
    #[arg(long, default_value_t = 0)]
    key_bytes: usize,
    /// Filling in each value.
    #[arg(long, default_value_t = 0)]
    payload_bytes: usize,
    /// Malformed records per thousand.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    poison: u32,
    /// Event time of sequence 0, milliseconds since 1970. Left out: so that the last record is not in the future. Where
    /// it is more than a day ago, a broker that restarts meanwhile may take a repetition for a second record.
    #[arg(long)]
    start_ms: Option<i64>,
    /// Event time between two records in microseconds. Left out: as the rate is, and 1000 for `max`.
    #[arg(long)]
    step_us: Option<u64>,
    /// Seconds that trouble may last.
    #[arg(long, default_value_t = 600)]
    patience: u64,
}

#[derive(Args)]
struct Verify {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// Topic that the job reads.
    #[arg(long)]
    input: String,
    /// Topic that the job writes.
    #[arg(long)]
    output: String,
    /// Topic of the job's dead letters.
    #[arg(long)]
    dead_letters: Option<String>,
    /// The test guest that the job runs.
    #[arg(long, value_enum, default_value = "checked")]
    guest: Guest,
    /// The input is not complete before it has so many records.
    #[arg(long)]
    expect_records: Option<u64>,
    /// A log without aborted records is a failure: nothing was tested.
    #[arg(long)]
    require_aborted: bool,
    /// Seconds to wait for what must come.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// Milliseconds to wait for what must not come, once everything else has.
    #[arg(long, default_value_t = 1_000)]
    settle_ms: u64,
    /// `watermark.out_of_orderness` of the job's source, in milliseconds.
    #[arg(long, default_value_t = 0)]
    out_of_orderness_ms: i64,
    /// Parameter `tick-every` of the guest, in milliseconds; 0 = it sets no timers.
    #[arg(long, default_value_t = 1_000)]
    tick_every_ms: i64,
    /// Tasks of the job. Left out, only timers that any number of tasks fires are demanded.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    parallelism: Option<i32>,
    /// Event time of the job was taken back so often (`forebay job reset-time`): as often a watermark may go back, and only
    /// timers that outputs show to be overdue are missed.
    #[arg(long, default_value_t = 0)]
    time_resets: u32,
    /// The job's source has `idle_after`.
    #[arg(long)]
    idle: bool,
    /// Output of records with keys of so many bytes or more is refused by the brokers: they must be dead letters.
    #[arg(long)]
    refused_key_bytes: Option<usize>,
    /// So is that of records whose event time is before this, milliseconds since 1970.
    #[arg(long)]
    refused_before_ms: Option<i64>,
    /// Command of Kafka's console consumer, to compare with what it reads. `{bootstrap}` stands for the address.
    #[arg(long)]
    third_opinion: Option<String>,
}

#[derive(Clone, Copy)]
struct Rate(Option<f64>);

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Rate(None)),
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate(Some(rate))),
        _ => Err("a number above 0, or `max`".to_owned()),
    }
}

impl Produce {
    fn settings(self) -> (produce::Settings, Plan) {
        let step_us = self.step_us.unwrap_or_else(|| self.rate.0.map_or(1_000, |rate| (1e6 / rate) as u64));
        let end = u128::from(self.first_sequence) + u128::from(self.records);
        let span_ms = i64::try_from(end * u128::from(step_us) / 1_000).unwrap_or(i64::MAX);
        // At a rate the records come while time goes on; at once they would lie ahead of it.
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let behind_ms = if self.rate.0.is_some() { 0 } else { span_ms };
        let plan = Plan {
            producer: self.producer,
            seed: self.seed,
            keys: self.keys,
            key_bytes: self.key_bytes,
            payload_bytes: self.payload_bytes,
            poison_per_mille: self.poison,
            start_ms: self.start_ms.unwrap_or_else(|| now_ms.saturating_sub(behind_ms).max(0)),
            step_us,
        };
        let settings = produce::Settings {
            bootstrap: self.bootstrap,
            topic: self.topic,
            records: self.records,
            first: self.first_sequence,
            rate: self.rate.0,
            patience: Duration::from_secs(self.patience),
        };
        (settings, plan)
    }
}

impl Verify {
    fn settings(self) -> verify::Settings {
        let job = judge::Settings {
            out_of_orderness_ms: self.out_of_orderness_ms,
            tick_every_ms: self.tick_every_ms,
            parallelism: self.parallelism,
            idle: self.idle,
            time_resets: self.time_resets,
        };
        verify::Settings {
            bootstrap: self.bootstrap,
            input: self.input,
            output: self.output,
            dead_letters: self.dead_letters,
            guest: self.guest,
            refusing: Refusing { key_bytes: self.refused_key_bytes, before_ms: self.refused_before_ms },
            job,
            expect_records: self.expect_records,
            require_aborted: self.require_aborted,
            wait: Duration::from_secs(self.wait),
            settle: Duration::from_millis(self.settle_ms),
            third_opinion: self.third_opinion,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { command, output_format } = Arguments::parse();
    match command {
        Command::Produce(arguments) => {
            let (settings, plan) = arguments.settings();
            let done = produce::produce(settings, plan);
            answer(output_format, done, report::sent, |_| true).await
        }
        Command::Verify(arguments) => {
            let settings = arguments.settings();
            let done = verify::verify(&settings);
            answer(output_format, done, report::verified, |report| report.is_good).await
        }
    }
}

async fn answer<T: Serialize>(
    format: Format,
    done: impl Future<Output = Result<T, Error>>,
    text: fn(&T) -> String,
    is_good: fn(&T) -> bool,
) -> ExitCode {
    let done = done.await;
    match (&done, format) {
        (Ok(done), Format::Text) => println!("{}", text(done)),
        (Ok(done), Format::Json) => println!("{}", serde_json::json!(done)),
        (Err(error), Format::Text) => eprintln!("forebay-checker: {error}"),
        (Err(error), Format::Json) => println!("{}", serde_json::json!({ "unchecked": error.to_string() })),
    }
    match done {
        Ok(done) if is_good(&done) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(VIOLATIONS),
        Err(_) => ExitCode::from(UNCHECKED),
    }
}
