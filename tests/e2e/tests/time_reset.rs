//! A clock that was a year ahead, and the way back: the real binary, killed at every place of a reset of event time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::{Duration, SystemTime};

use common::{Bench, until};
use market_data::api::Client;
use market_data::api::proto::Job;
use market_data::input::partitioned::Record;
use market_data::server::Failpoint;

const SPEC: &str = "name: ring
sources: [{id: in, topic: in, event_time: {max_ahead: 20000h}}]
operators: [{id: timers, module: timers@1.0.0, inputs: {input: in}}]
sinks: [{id: out, topic: out, from: timers.fired}]
";
const PARTITIONS: usize = 2;
/// One whose records come to each partition.
const KEYS: [&str; PARTITIONS] = ["a", "d"];
const YEAR_MS: i64 = 365 * 86_400_000;
const NS: i64 = 1_000_000;

/// One record in each partition, each of which sets a timer for `timer_ms`.
async fn send(client: &Client, time_ms: i64, timer_ms: Option<i64>) {
    let value = timer_ms.map_or("{}".to_owned(), |timer| format!("{{\"set\":[{}]}}", timer * NS));
    let record = |key: &str| Record {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.clone().into_bytes()),
        timestamp_ms: time_ms,
    };
    let records = KEYS.map(record);
    let parts = records.iter().enumerate().map(|(partition, record)| (partition, std::slice::from_ref(record)));
    client.produce("in", parts.collect()).await.unwrap();
}

fn is_at(job: &Job, time_ms: i64) -> bool {
    job.tasks.iter().all(|task| task.watermark_ns == time_ms * NS - 1)
}

async fn fired(client: &Client) -> usize {
    client.consume("out").await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn event_time_is_taken_back_once_wherever_the_server_dies() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    for place in ["time-reset-recorded", "time-reset-begun", "time-reset-committed"] {
        let mut bench = Bench::new();
        let failpoint = Failpoint::on_demand(place, bench.folder.path());
        let client = bench.server.start(Some(&failpoint)).await.unwrap();
        client.push(&e2e::guest("timers")).await.unwrap();
        for topic in ["in", "out"] {
            client.create_topic(topic, PARTITIONS).await.unwrap();
        }
        client.apply(SPEC).await.unwrap();
        send(&client, now, Some(now + 2 * YEAR_MS)).await;
        send(&client, now + YEAR_MS, None).await;
        until(&client, "ring", |job| is_at(job, now + YEAR_MS)).await;
        // A minute off, and fired at once.
        send(&client, now + 1, Some(now + 60_000)).await;
        until(&client, "ring", |job| job.tasks.iter().map(|task| task.late).sum::<u64>() == 2).await;
        assert_eq!(fired(&client).await, 2, "{place}");

        failpoint.arm().unwrap();
        let _broken_by_the_crash = client.reset_time("ring").await;
        assert!(bench.server.died(Duration::from_secs(20)).await, "{place} was never passed");
        let client = bench.server.start(None).await.unwrap();
        until(&client, "ring", |job| job.tasks.iter().all(|task| task.time_reset == 1)).await;
        send(&client, now + 2, Some(now + 120_000)).await;
        send(&client, now + 3, None).await;
        let job = until(&client, "ring", |job| is_at(job, now + 3)).await;
        assert_eq!(job.tasks.iter().map(|task| task.late).sum::<u64>(), 0, "{place}: event time follows the records");
        assert_eq!(fired(&client).await, 2, "{place}: it is not their time");

        // It is not made again.
        bench.server.kill();
        let client = bench.server.start(None).await.unwrap();
        until(&client, "ring", |job| is_at(job, now + 3)).await;
        send(&client, now + 120_001, None).await;
        until(&client, "ring", |job| is_at(job, now + 120_001)).await;
        assert_eq!(fired(&client).await, 4, "{place}: two fire at their time");
        // The timers of two years ahead have stayed.
        send(&client, now + 2 * YEAR_MS + 1, None).await;
        until(&client, "ring", |job| is_at(job, now + 2 * YEAR_MS + 1)).await;
        assert_eq!(fired(&client).await, 6, "{place}");
    }
}
