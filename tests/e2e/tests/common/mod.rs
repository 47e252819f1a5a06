//! A server under test with the example jobs on it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "helpers of tests, and not every test needs all of them"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use market_data::api::Client;
use market_data::api::proto::{Job, TaskPhase};
use market_data::feed::{Pace, feed};
use market_data::input::generator::{Settings, generate};
use market_data::pipeline::{self, Pipeline};
use market_data::server::Server;
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(120);
pub const START_MS: i64 = 1_777_689_380_521;

pub struct Bench {
    pub server: Server,
    pub folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::new(&e2e::binary("forebay"), folder.path()).unwrap();
        Self { server, folder }
    }
}

/// Generated orders with everything a feed gets wrong, through both examples.
pub fn pipelines(seed: u64, records: usize, span_ms: i64) -> Vec<Pipeline> {
    let settings = Settings {
        seed,
        records,
        symbols: 1_000,
        partitions: 4,
        start_ms: START_MS,
        span_ms,
        late: 0.02,
        malformed: 0.01,
    };
    pipeline::generated(generate(&settings), "")
}

/// Modules, topics, reference data and jobs; returns once the reference data is read.
pub async fn deploy(client: &Client, pipelines: &[Pipeline]) {
    for module in ["enrichment", "liquidity-v1", "liquidity-v2"] {
        client.push(&e2e::guest(module)).await.unwrap();
    }
    let mut made = std::collections::HashSet::new();
    for topic in pipelines.iter().flat_map(Pipeline::topics) {
        if made.insert(topic) {
            client.create_topic(topic, 4).await.unwrap();
        }
    }
    for instruments in pipelines.iter().filter_map(Pipeline::instruments) {
        feed(client.clone(), Arc::clone(instruments), Pace::at_once()).await.unwrap();
    }
    for pipeline in pipelines {
        client.apply(&pipeline.spec).await.unwrap();
        let expected = pipeline.instruments().map_or(0, |instruments| instruments.len() as i64);
        until(client, &pipeline.job, |job| read_of(job, "instruments") == expected).await;
    }
}

pub fn read_of(job: &Job, source: &str) -> i64 {
    let positions = job.tasks.iter().flat_map(|task| &task.positions);
    positions.filter(|position| position.source == source).map(|position| position.next_offset).sum()
}

/// Waits until the running job is as asked; a failed task fails the test with its reason.
pub async fn until(client: &Client, name: &str, is_so: impl Fn(&Job) -> bool) -> Job {
    let since = Instant::now();
    loop {
        let job = client.job(name).await.unwrap();
        if let Some(task) = job.tasks.iter().find(|task| task.phase == TaskPhase::Failed as i32) {
            panic!("job {name} task {}: {}", task.number, task.error);
        }
        let running = !job.tasks.is_empty() && job.tasks.iter().all(|task| task.phase == TaskPhase::Running as i32);
        if running && is_so(&job) {
            return job;
        }
        assert!(since.elapsed() < PATIENCE, "job {name} does not get there: {job:?}");
        // sleep: polls a status; nothing is concluded from the time that has passed
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Feeds what is left, waits for the end and compares everything with the plain computation.
pub async fn finish(client: &Client, pipelines: &[Pipeline]) {
    for pipeline in pipelines {
        feed(client.clone(), Arc::clone(&pipeline.orders), Pace::at_once()).await.unwrap();
    }
    for pipeline in pipelines {
        until(client, &pipeline.job, |job| pipeline.is_done(job)).await;
        for verdict in pipeline.judge(client).await.unwrap() {
            assert!(
                verdict.is_good(),
                "job {}, {}: {} differ\n{}",
                pipeline.job,
                verdict.what,
                verdict.differences,
                verdict.told.join("\n")
            );
            println!("{}: {} compared {}", pipeline.job, verdict.what, verdict.compared);
        }
    }
}
