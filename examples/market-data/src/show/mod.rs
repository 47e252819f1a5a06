//! The main show: real and generated orders through both examples on the real binary, with a swap of code and a
//! crash on the way, and a summary that proves itself.
//!
//! Owns the course of events. Believes nothing that it has not read back from the log.

pub mod display;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use market_data::api::Client;
use market_data::api::proto::{Job, TaskPhase};
use market_data::feed::{Pace, feed};
use market_data::input::generator::{self, Settings};
use market_data::input::real;
use market_data::judge::Verdict;
use market_data::pipeline::{self, Pipeline};
use market_data::server::Server;
use tokio::task::{JoinHandle, JoinSet};

use display::{Display, Figures, thousands};

/// Real events begin and end here; generated ones cover the same half hour.
const START_MS: i64 = 1_777_689_380_521;
const SPAN_MS: i64 = 1_800_000;
const PARTITIONS: usize = 4;
const SYMBOLS: usize = 1_200;
const SEED: u64 = 20_260_502;
/// The course of the show, as shares of the input that is committed.
const SWAP_AT: f64 = 0.4;
const KILL_AT: f64 = 0.7;
/// What arrives after these shares of the input waits for the swap to begin, and for the crash: so neither can
/// come too late, however fast the rest goes.
const HOLD_FOR_SWAP: f64 = 0.6;
const HOLD_FOR_KILL: f64 = 0.85;
/// Of the show's jobs and topics on a cluster that others use too.
const NAMESPACE: &str = "market-data-show";
const PREFIX: &str = "forebay-show-";
/// Without any progress for this long something is wrong.
const PATIENCE: Duration = Duration::from_secs(90);

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

pub struct Options {
    /// Event time passes this many times as fast as the clock; `None` = as fast as it goes.
    pub speed: Option<f64>,
    pub generated: usize,
    /// `bootstrap.servers` of the cluster that holds the topics; `None` = the embedded log.
    pub kafka: Option<String>,
    pub keep: bool,
    pub binary: PathBuf,
    pub guests: PathBuf,
    pub orders_csv: PathBuf,
    pub folder: PathBuf,
}

pub async fn run(options: &Options) -> Result<bool, Failure> {
    let pipelines = prepare_input(options)?;
    let _ = std::fs::remove_dir_all(&options.folder);
    std::fs::create_dir_all(&options.folder)?;
    let mut server = Server::new(&options.binary, &options.folder)?;
    if let Some(bootstrap) = &options.kafka {
        server = server.on_kafka(bootstrap, NAMESPACE);
    }
    let client = server.start(None).await?;
    let topics = options.kafka.as_ref().map_or(String::new(), |bootstrap| format!(", topics on Kafka at {bootstrap}"));
    println!("forebay dev on {}, data in {}{topics}", server.address, server.data_dir().display());
    if options.kafka.is_some() {
        // An earlier show may have been interrupted.
        clean(&client).await?;
    }

    deploy(&client, &pipelines, options).await?;
    let mut show = Show::begin(client, pipelines, options.speed, server);
    show.play().await?;
    let good = show.prove().await?;
    if options.kafka.is_some() && !options.keep {
        clean(&show.client).await?;
    }
    farewell(&mut show.server, options.keep, &show.pipelines);
    Ok(good)
}

/// Deletes what shows have left on a cluster: their jobs, and the topics that carry their name.
async fn clean(client: &Client) -> Result<(), Failure> {
    for job in client.jobs_running().await? {
        client.delete_job(&job.name).await?;
    }
    for topic in client.list_topics().await?.iter().filter(|topic| topic.name.starts_with(PREFIX)) {
        client.delete_topic(&topic.name).await?;
    }
    Ok(())
}

fn prepare_input(options: &Options) -> Result<Vec<Pipeline>, Failure> {
    // What is on a cluster must be seen to be the show's.
    let prefix = if options.kafka.is_some() { PREFIX } else { "" };
    let settings = Settings {
        seed: SEED,
        records: options.generated,
        symbols: SYMBOLS,
        partitions: PARTITIONS,
        start_ms: START_MS,
        span_ms: SPAN_MS,
        late: 0.01,
        malformed: 0.002,
    };
    let mut pipelines = pipeline::generated(generator::generate(&settings), prefix);
    println!(
        "generated: {} order events of {SYMBOLS} symbols (Zipf) over {PARTITIONS} partitions, 1 % late, 0.2 % malformed",
        thousands(settings.records as u64)
    );
    if options.orders_csv.exists() {
        let events = real::read(&options.orders_csv)?;
        println!(
            "real:      {} order events, Bitstamp BTC/USD, keyed by order id and by price level",
            thousands(events.len() as u64)
        );
        pipelines.extend(pipeline::bitstamp(&events, PARTITIONS, prefix));
    } else {
        println!("real:      {} is not there: generated events only", options.orders_csv.display());
    }
    Ok(pipelines)
}

/// Modules, topics, reference data and jobs; returns when all reference data has been read.
async fn deploy(client: &Client, pipelines: &[Pipeline], options: &Options) -> Result<(), Failure> {
    for module in ["enrichment", "liquidity-v1", "liquidity-v2"] {
        let path = options.guests.join(format!("{module}.wasm"));
        let bytes = std::fs::read(&path)
            .map_err(|error| format!("read {}: {error}; build it with `cargo xtask guests`", path.display()))?;
        let pushed = client.push(&bytes).await?;
        println!("pushed     {pushed} ({} KiB)", bytes.len() / 1024);
    }
    let mut made = std::collections::HashSet::new();
    for topic in pipelines.iter().flat_map(Pipeline::topics) {
        if made.insert(topic) {
            client.create_topic(topic, PARTITIONS).await?;
        }
    }
    for instruments in pipelines.iter().filter_map(Pipeline::instruments) {
        feed(client.clone(), Arc::clone(instruments), Pace::at_once()).await?;
    }
    for pipeline in pipelines {
        let applied = client.apply(&pipeline.spec).await?;
        let refusals = applied.plan.unwrap_or_default().refusals;
        if let Some(refusal) = refusals.first() {
            return Err(format!("apply job {}: {}: {}", pipeline.job, refusal.place, refusal.found).into());
        }
        println!("applied    job {}", short(&pipeline.job));
    }
    wait_for_instruments(client, pipelines).await
}

async fn wait_for_instruments(client: &Client, pipelines: &[Pipeline]) -> Result<(), Failure> {
    let since = Instant::now();
    for pipeline in pipelines {
        let expected = pipeline.instruments().map_or(0, |instruments| instruments.len() as i64);
        loop {
            let job = client.job(&pipeline.job).await?;
            fail_with_its_task(&job)?;
            let positions = job.tasks.iter().flat_map(|task| &task.positions);
            let read: i64 = positions.filter(|p| p.source == "instruments").map(|p| p.next_offset).sum();
            if read == expected && all_running(&job) {
                break;
            }
            if since.elapsed() > PATIENCE {
                return Err(
                    format!("job {}: {read} of {expected} instruments read after {PATIENCE:?}", job.name).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The show from the first order on.
struct Show {
    client: Client,
    server: Server,
    pipelines: Vec<Pipeline>,
    pace: Pace,
    feeds: JoinSet<Result<(), market_data::api::Error>>,
    display: Display,
    swapped: bool,
    killed: bool,
    notes: Vec<String>,
}

impl Show {
    fn begin(client: Client, pipelines: Vec<Pipeline>, speed: Option<f64>, server: Server) -> Self {
        let pace = Pace::new(START_MS, speed);
        pace.hold_at(arrival_of(&pipelines, HOLD_FOR_SWAP));
        let mut feeds = JoinSet::new();
        let mut fed = std::collections::HashSet::new();
        for pipeline in &pipelines {
            if fed.insert(pipeline.orders.topic.clone()) {
                feeds.spawn(feed(client.clone(), Arc::clone(&pipeline.orders), pace.clone()));
            }
        }
        let (display, notes) = (Display::new(), Vec::new());
        Self { client, server, pipelines, pace, feeds, display, swapped: false, killed: false, notes }
    }

    /// Until every job has worked off everything.
    async fn play(&mut self) -> Result<(), Failure> {
        let total: usize = self.pipelines.iter().map(|pipeline| pipeline.orders.len()).sum();
        let (mut best, mut since) = (0, Instant::now());
        let mut swap: Option<JoinHandle<Result<Vec<String>, Failure>>> = None;
        loop {
            let jobs = self.look().await?;
            let committed: usize =
                self.pipelines.iter().zip(&jobs).map(|(pipeline, job)| pipeline.committed(job)).sum();
            if committed > best {
                (best, since) = (committed, Instant::now());
            }
            if let Some(ended) = take_finished(&mut swap) {
                ended.await??.into_iter().for_each(|note| self.note(note));
            }
            let share = committed as f64 / total as f64;
            if share >= SWAP_AT && !self.swapped {
                self.swapped = true;
                self.pace.hold_at(arrival_of(&self.pipelines, HOLD_FOR_KILL));
                swap = Some(tokio::spawn(swap_liquidity(self.client.clone(), self.liquidity_jobs())));
            } else if share >= KILL_AT && !self.killed && swap.is_none() {
                self.killed = true;
                self.crash().await?;
                since = Instant::now();
            } else if self.pipelines.iter().zip(&jobs).all(|(pipeline, job)| pipeline.is_done(job)) {
                break;
            } else if since.elapsed() > PATIENCE {
                return Err(format!(
                    "{} of {} records committed, and no more for {PATIENCE:?}",
                    thousands(best as u64),
                    thousands(total as u64)
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        while let Some(fed) = self.feeds.join_next().await {
            fed??;
        }
        self.display.finish();
        Ok(())
    }

    async fn look(&mut self) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::new();
        for pipeline in &self.pipelines {
            let job = self.client.job(&pipeline.job).await?;
            fail_with_its_task(&job)?;
            jobs.push(job);
        }
        let figures: Vec<Figures> = jobs.iter().map(|job| Figures::of(job, &self.pace)).collect();
        self.display.show(self.pace.started.elapsed(), &figures);
        Ok(jobs)
    }

    fn liquidity_jobs(&self) -> Vec<String> {
        self.pipelines.iter().filter(|pipeline| pipeline.is_liquidity()).map(|pipeline| pipeline.job.clone()).collect()
    }

    /// Kills the server while epochs are open and starts it again on the same data.
    async fn crash(&mut self) -> Result<(), Failure> {
        self.pace.hold_at(i64::MAX);
        let since = Instant::now();
        let open = loop {
            let jobs = self.look().await?;
            let open: u64 = jobs.iter().flat_map(|job| &job.tasks).map(|task| task.open_records).sum();
            if open > 0 {
                break open;
            }
            if since.elapsed() > PATIENCE {
                return Err("no epoch was open to kill the server in".into());
            }
        };
        self.server.kill();
        self.note(format!("kill -9 while {open} records were in epochs not yet committed"));
        let down = Instant::now();
        self.client = self.server.start(None).await?;
        let answers = down.elapsed();
        loop {
            let jobs = self.look().await?;
            if jobs.iter().all(all_running) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.note(format!(
            "restarted: the API answers after {} ms, all tasks run again after {} ms",
            answers.as_millis(),
            down.elapsed().as_millis()
        ));
        Ok(())
    }

    fn note(&mut self, note: String) {
        self.display.note(&note);
        self.notes.push(note);
    }

    /// Judges every job by the plain computation and prints the summary.
    async fn prove(&self) -> Result<bool, Failure> {
        println!(
            "\nproof: every output read back under read_committed and compared with a plain computation of the same input"
        );
        self.notes.iter().for_each(|note| println!("  {note}"));
        let mut good = self.swapped && self.killed;
        for pipeline in &self.pipelines {
            for verdict in pipeline.judge(&self.client).await? {
                good &= verdict.is_good();
                print_verdict(&pipeline.job, &verdict);
            }
        }
        println!(
            "{}",
            if good { "\nPROVED: nothing missing, nothing twice, nothing different" } else { "\nNOT PROVED" }
        );
        Ok(good)
    }
}

/// When this share of all orders has arrived.
fn arrival_of(pipelines: &[Pipeline], share: f64) -> i64 {
    let records = pipelines.iter().flat_map(|pipeline| pipeline.orders.partitions.iter().flatten());
    let mut times: Vec<i64> = records.map(|record| record.timestamp_ms).collect();
    let at = (times.len() as f64 * share) as usize;
    *times.select_nth_unstable(at).1
}

fn take_finished<T>(task: &mut Option<JoinHandle<T>>) -> Option<JoinHandle<T>> {
    task.take_if(|task| task.is_finished())
}

async fn swap_liquidity(client: Client, jobs: Vec<String>) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    for job in jobs {
        let swap = client.swap(&job, "liquidity", "liquidity@2.0.0").await?;
        let pauses = swap.tasks.iter().map(|task| format!("{:.1} ms", task.pause_us as f64 / 1e3));
        let tried: u64 = swap.tasks.iter().map(|task| task.values_tried).sum();
        notes.push(format!(
            "swapped liquidity@1.0.0 for @2.0.0 in job {}: gap {} per task, {} values migrated on trial, state kept",
            short(&job),
            pauses.collect::<Vec<_>>().join(" and "),
            thousands(tried)
        ));
    }
    Ok(notes)
}

fn all_running(job: &Job) -> bool {
    !job.tasks.is_empty() && job.tasks.iter().all(|task| task.phase == TaskPhase::Running as i32)
}

fn fail_with_its_task(job: &Job) -> Result<(), Failure> {
    match job.tasks.iter().find(|task| task.phase == TaskPhase::Failed as i32) {
        Some(task) => Err(format!("job {} task {}: {}", job.name, task.number, task.error).into()),
        None => Ok(()),
    }
}

fn print_verdict(job: &str, verdict: &Verdict) {
    let mark = if verdict.is_good() { "ok   " } else { "WRONG" };
    let differences = if verdict.is_good() { String::new() } else { format!(", {} differ", verdict.differences) };
    let (job, what) = (short(job), verdict.what.replace(PREFIX, ""));
    println!("  {mark} {job:<20} {what:<36} {:>9} compared{differences}", thousands(verdict.compared as u64));
    verdict.told.iter().for_each(|told| println!("      {told}"));
}

/// A job's name without what a cluster needs.
fn short(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

fn farewell(server: &mut Server, keep: bool, pipelines: &[Pipeline]) {
    if !keep {
        println!("\nrun again with --keep to leave the server running and look around");
        return;
    }
    let at = format!("--server {}", server.address);
    println!("\nthe server runs on as process {}; look around with:", server.process_id().unwrap_or_default());
    let Some(Pipeline { job, .. }) = pipelines.iter().find(|pipeline| pipeline.is_liquidity()) else { return };
    println!("  forebay {at} job list");
    println!("  forebay {at} job get {job}");
    println!("  forebay {at} module list");
    println!("  forebay {at} dlq list {job}");
    println!("  forebay {at} topic consume {job}-ticks");
    server.leave_running();
}
