//! The checker's own producer and reader under faults: what is said to be in the topic is there once, and is read.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use checker::input::identity;
use checker::kafka::{Reader, View};
use checker::produce::plan::Plan;
use checker::produce::{Settings, produce};
use checker::record::Record;
use common::{connect, create, plan, settings};
use kafka_cluster::{Cluster, Options};
use tokio::time::Instant;

const RECORDS: u64 = 20_000;

/// An hour ago: brokers forget a producer by the time of its records, after a day.
fn recently() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64 - 3_600_000
}

#[test]
fn records_sent_while_the_broker_is_killed_are_there_once_and_read_while_it_is_away() {
    let Some(cluster) = Cluster::for_tests(Options::default()) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { create(&connect(cluster.bootstrap()).await, "killed-in", 4).await });
    let settings = Settings { rate: Some(6_000.0), ..settings(cluster.bootstrap(), "killed-in", RECORDS) };
    let plan = Plan { start_ms: recently(), ..plan("p1") };
    let sent = thread::scope(|scope| {
        scope.spawn(|| {
            // sleep: the kill is to fall into the middle of the sending
            thread::sleep(Duration::from_millis(1_500));
            cluster.kill(1).unwrap();
            cluster.up(1).unwrap();
        });
        runtime.block_on(produce(settings, plan)).unwrap()
    });
    // It has read its records back, or it would not say so.
    assert_eq!(sent.records, RECORDS);

    let read = thread::scope(|scope| {
        cluster.kill(1).unwrap();
        scope.spawn(|| cluster.up(1).unwrap());
        runtime.block_on(sequences(cluster.bootstrap(), "killed-in"))
    });
    assert_eq!(read, (0..RECORDS).collect::<Vec<u64>>());
}

/// Of all records of the topic, sorted.
async fn sequences(bootstrap: &str, topic: &str) -> Vec<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let cluster = checker::kafka::Cluster::connect(bootstrap, deadline).await.unwrap();
    let partitions = cluster.known_partitions(topic, deadline).await.unwrap();
    let bounds = cluster.bounds(topic, partitions, deadline).await.unwrap();
    let ends: Vec<i64> = bounds.iter().map(|bounds| bounds.end).collect();
    let mut reader = Reader::open(&cluster, topic, &bounds, View::Committed).await.unwrap();
    let mut read = Vec::new();
    let take = |record: Record| {
        read.extend(identity(&record).map(|(_, sequence)| sequence));
        Ok(())
    };
    assert!(reader.read_until(&ends, deadline, take).await.unwrap());
    read.sort_unstable();
    read
}
