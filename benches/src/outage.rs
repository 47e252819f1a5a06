//! How long a user is without output when the server is killed: `forebay dev` over several tasks with a backlog, ended by
//! SIGKILL and started again from its command line, up to the first record that a reader of committed records is given.
//!
//! Knows the server from outside only: its command line, its API, and what it logs with `FOREBAY_LOG=forebay=debug`, from
//! which the steps are told. Owns the processes that it starts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forebay::api::client::Client;
use forebay::api::proto::consume_request::Start;
use forebay::api::proto::{ApplyJobRequest, ConsumeRequest, CreateTopicRequest, GetJobRequest, ProduceRequest, Record};
use forebay::model::{Uid, murmur2};

use crate::measure::{median, now_ms, spread};
use crate::{Outcome, Setup, keyed, report};

#[derive(clap::Args)]
pub struct Options {
    /// The server's program [default: `forebay` beside this one].
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Tasks of the job, and partitions of its topics.
    #[arg(long, default_value_t = 4)]
    tasks: u32,
    /// Records that must still wait when the server is killed the last time.
    #[arg(long, default_value_t = 300_000)]
    backlog: u64,
    /// Records that each life may work through.
    #[arg(long, default_value_t = 600_000)]
    per_life: u64,
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// How long output flows before the next kill, ms.
    #[arg(long, default_value_t = 500)]
    flow_ms: u64,
    #[arg(long, default_value = "100ms")]
    commit: String,
}

/// Records of one message.
const CHUNK: u64 = 4_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// What the server says of its own start, in the order in which it happens.
const STEPS: [&str; 8] = [
    "data directory locked",
    "log opened",
    "control topic read",
    "job planned",
    "tasks started",
    "task recovered",
    "first epoch worked on",
    "first epoch committed",
];

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(setup, options))
}

async fn measure(setup: &Setup, options: &Options) -> Outcome {
    let data = tempfile::tempdir_in(&setup.dir)?;
    let name = format!("outage-{:.8}", Uid::random().to_string());
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("forebay"),
    };
    let start = || Server::start(&binary, data.path(), setup.kafka.as_deref());
    let mut server = start()?;
    prepare(&server, setup, options, &name).await?;
    let (mut outages, mut steps, mut lags) = (Vec::new(), BTreeMap::<&str, Vec<f64>>::new(), Vec::new());
    for run in 0..=setup.runs {
        // Not in step with the commits.
        tokio::time::sleep(Duration::from_millis(options.flow_ms + 37 * run as u64)).await;
        let lag = lag(&server, &name).await?;
        server.kill()?;
        server = start()?;
        let took = server.first_output(&output(&name)).await?;
        // The first life is another one: it has made the state.
        if run > 0 {
            lags.push(lag as f64);
            outages.push(took.as_secs_f64() * 1e3);
            for (step, at) in server.steps() {
                steps.entry(step).or_default().push(at);
            }
        }
    }
    let lag = lag(&server, &name).await?;
    server.kill()?;
    let mut rows = vec![vec!["kill to the first committed output, seen by a reader".to_owned(), spread(&outages, 0)]];
    let told = STEPS.iter().filter_map(|step| Some((step, steps.get(step)?)));
    rows.extend(told.map(|(step, at)| vec![format!("  {step}"), spread(at, 0)]));
    report::print("Outage after kill -9", &["up to", "ms since the start of the new process"], rows);
    report::print_conditions(&format!(
        "counter over {}, {} tasks, {} keys, commit every {}; {:.0} records waited at a kill (median), {lag} at the end; the \
         last task counts, but for the first epochs, where the first one does; {} kills",
        setup.log_name(),
        options.tasks,
        options.keys,
        options.commit,
        median(lags),
        setup.runs
    ));
    Ok(())
}

fn input(name: &str) -> String {
    format!("{name}-amounts")
}

fn output(name: &str) -> String {
    format!("{name}-counts")
}

/// Topics, the module, the backlog and the job.
async fn prepare(server: &Server, setup: &Setup, options: &Options, name: &str) -> Outcome {
    let mut client = server.client().await?;
    for topic in [input(name), output(name)] {
        let create = CreateTopicRequest { name: topic, partitions: options.tasks, ..CreateTopicRequest::default() };
        client.topics.create(create).await?;
    }
    client.push_module_file(&setup.guests.join("counter.wasm")).await?;
    let total = options.backlog + options.per_life * (setup.runs as u64 + 2);
    let (keys, tasks, topic) = (options.keys, options.tasks, input(name));
    let now = now_ms();
    let chunks = (0..total).step_by(CHUNK as usize).flat_map(move |first| {
        let mut parts: Vec<Vec<Record>> = vec![Vec::new(); tasks as usize];
        for sent in first..(first + CHUNK).min(total) {
            let (key, value, timestamp_ms) = keyed::record(sent * 7_919 % keys, now);
            let part = murmur2::partition(&key, tasks) as usize;
            let (key, value) = (Some(key.into()), Some(value.into()));
            parts[part].push(Record { key, value, timestamp_ms: Some(timestamp_ms), headers: Vec::new() });
        }
        let topic = topic.clone();
        let requests = parts.into_iter().enumerate();
        requests.map(move |(partition, records)| ProduceRequest {
            topic: topic.clone(),
            partition: Some(partition as i32),
            records,
        })
    });
    client.produce(tokio_stream::iter(chunks)).await?;
    let spec = format!(
        "name: {name}\nparallelism: {tasks}\nsources: [{{id: amounts, topic: {}, start: earliest}}]\n\
         operators: [{{id: count, module: counter@1.0.0, inputs: {{input: amounts}}}}]\n\
         sinks: [{{id: counts, topic: {}, from: count.counts, timestamp: now}}]\ncommit: {{interval: {}}}\n",
        input(name),
        output(name),
        options.commit
    );
    client.jobs.apply(ApplyJobRequest { spec, expected_revision: None }).await?;
    server.first_output(&output(name)).await?;
    Ok(())
}

/// Records that the job has not worked through.
async fn lag(server: &Server, name: &str) -> Outcome<u64> {
    let answer = server.client().await?.jobs.get(GetJobRequest { name: name.to_owned() }).await?.into_inner();
    Ok(answer.job.ok_or("the job is gone")?.tasks.iter().map(|task| task.lag).sum())
}

struct Server {
    process: Child,
    address: String,
    began: Instant,
    began_ms: i64,
    /// What it has logged, and when that was since it began.
    said: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Server {
    fn start(binary: &Path, data: &Path, kafka: Option<&str>) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(binary);
        command.arg("dev").arg("--data-dir").arg(data).args(["--listen", &address]);
        if let Some(kafka) = kafka {
            command.args(["--kafka", kafka]);
        }
        command.env("FOREBAY_LOG", "warn,forebay=debug").stdout(Stdio::null()).stderr(Stdio::piped());
        let (began, began_ms) = (Instant::now(), now_ms());
        let mut process = command.spawn().map_err(|error| format!("start {}: {error}", binary.display()))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let stderr = process.stderr.take().ok_or("the server has no stderr")?;
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push((began.elapsed(), line));
            }
        });
        Ok(Self { process, address, began, began_ms, said })
    }

    /// Waits until it listens.
    async fn client(&self) -> Outcome<Client> {
        while self.began.elapsed() < PATIENCE {
            if let Ok(client) = Client::connect(&self.address).await {
                return Ok(client);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err("the server does not listen".into())
    }

    /// How long after its start a reader of committed records is given the first one that it wrote.
    async fn first_output(&self, topic: &str) -> Outcome<Duration> {
        let mut client = self.client().await?;
        let start = Some(Start::TimestampMs(self.began_ms));
        let request = ConsumeRequest { topic: topic.to_owned(), start, follow: true, ..ConsumeRequest::default() };
        let mut answers = tokio::time::timeout(PATIENCE, client.topics.consume(request)).await??.into_inner();
        loop {
            let answer = tokio::time::timeout(PATIENCE, answers.message()).await??;
            let answer = answer.ok_or("the server ended its answer")?;
            if answer.records.iter().any(|record| record.timestamp_ms >= self.began_ms) {
                return Ok(self.began.elapsed());
            }
        }
    }

    /// When each step was over, ms since the start.
    fn steps(&self) -> Vec<(&'static str, f64)> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |step: &&'static str| {
            let mut of = said.iter().filter(|(_, line)| line.contains(*step)).map(|(at, _)| at.as_secs_f64() * 1e3);
            let at = if step.starts_with("first") { of.next() } else { of.next_back() };
            at.map(|at| (*step, at))
        };
        STEPS.iter().filter_map(at).collect()
    }

    fn kill(&mut self) -> Outcome {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or it ends now.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
