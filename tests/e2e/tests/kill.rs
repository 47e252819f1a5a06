//! kill -9 in a loop, at random moments and at every named failpoint, while records flow: nothing may be missing,
//! twice or different in the end. And a swap that dies at either side of its switch.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Bench, START_MS, deploy, finish, pipelines, until};
use market_data::feed::{Pace, feed};
use market_data::random::Random;
use market_data::server::Failpoint;

/// Where a round ends. The first two die with records in the overlay.
const PLACES: [Place; 9] = [
    Place::InFlight("epoch-open"),
    Place::InFlight("before-commit"),
    Place::AtRandom,
    Place::InFlight("epoch-open"),
    Place::InFlight("before-commit"),
    Place::InFlight("after-commit"),
    Place::InFlight("epoch-open"),
    Place::InFlight("after-apply"),
    Place::InFlight("before-commit"),
];
/// The places of a recovery, each tried once more with a recovery that has itself been cut short.
const RECOVERY: [&str; 3] = ["recovery-after-init", "recovery-after-read", "recovery-after-claim"];
const ROUNDS: usize = 21;

#[derive(Clone, Copy, Debug)]
enum Place {
    InFlight(&'static str),
    AtRandom,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_kills_at_any_place() {
    let mut bench = Bench::new();
    let pipelines = pipelines(11, 120_000, 1_800_000);
    let client = bench.server.start(None).await.unwrap();
    deploy(&client, &pipelines).await;
    bench.server.kill();

    // One feed lives through all rounds; it would take longer than they do.
    let pace = Pace::new(START_MS, Some(12.0));
    let feeding = tokio::spawn(feed(client, Arc::clone(&pipelines[0].orders), pace));
    let mut random = Random::new(4_711);
    let (mut inside, mut committed) = (0, 0);
    for round in 0..ROUNDS {
        let place = PLACES[round % PLACES.len()];
        committed = run_until_killed(&mut bench, place, &mut random, committed).await;
        inside += usize::from(matches!(place, Place::InFlight("epoch-open" | "before-commit")));
        if round % 3 == 2 {
            cut_recovery_short(&mut bench, RECOVERY[round / 3 % RECOVERY.len()]).await;
        }
    }
    assert!(inside * 2 >= ROUNDS, "only {inside} of {ROUNDS} rounds died inside an open epoch");

    // The feed's last call may still be under way: the server is dead when the feed is dropped.
    feeding.abort();
    let client = bench.server.start(None).await.unwrap();
    finish(&client, &pipelines).await;
}

/// One round: recover, make progress, die. Answers how far the jobs had come.
async fn run_until_killed(bench: &mut Bench, place: Place, random: &mut Random, before: i64) -> i64 {
    let failpoint = match place {
        Place::InFlight(name) => Some(Failpoint::on_demand(name, bench.folder.path())),
        Place::AtRandom => None,
    };
    let client = bench.server.start(failpoint.as_ref()).await.unwrap();
    let job = until(&client, "liquidity", |job| common::read_of(job, "orders") > before).await;
    // sleep: the moment of the kill is meant to fall anywhere in an epoch
    tokio::time::sleep(Duration::from_millis(random.below(250))).await;
    match failpoint {
        Some(failpoint) => {
            failpoint.arm().unwrap();
            assert!(bench.server.died(Duration::from_secs(20)).await, "{place:?} was never passed");
        }
        None => bench.server.kill(),
    }
    common::read_of(&job, "orders")
}

async fn cut_recovery_short(bench: &mut Bench, name: &str) {
    bench.server.spawn(Some(&Failpoint::counted(name, 2))).unwrap();
    assert!(bench.server.died(Duration::from_secs(20)).await, "{name} was never passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_dies_at_its_switch_is_whole_or_never_was() {
    for place in ["swap-before-switch", "swap-after-switch", "epoch-open"] {
        let mut bench = Bench::new();
        let pipelines = pipelines(12, 30_000, 600_000);
        let failpoint = Failpoint::on_demand(place, bench.folder.path());
        let client = bench.server.start(Some(&failpoint)).await.unwrap();
        deploy(&client, &pipelines).await;
        let pace = Pace::new(START_MS, Some(100.0));
        let feeding = tokio::spawn(feed(client.clone(), Arc::clone(&pipelines[0].orders), pace));
        until(&client, "liquidity", |job| common::read_of(job, "orders") > 5_000).await;

        failpoint.arm().unwrap();
        let _broken_by_the_crash = client.swap("liquidity", "liquidity", "liquidity@2.0.0").await;
        assert!(bench.server.died(Duration::from_secs(20)).await, "{place} was never passed");
        feeding.abort();

        let client = bench.server.start(None).await.unwrap();
        let job = until(&client, "liquidity", |job| common::read_of(job, "orders") > 5_000).await;
        let versions: Vec<_> = job.tasks.iter().flat_map(|task| &task.modules).map(|module| &module.version).collect();
        println!("{place}: after the crash the tasks run {versions:?}");
        finish(&client, &pipelines).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_set_before_a_crash_fire_once_after_it() {
    use market_data::input::partitioned::Partitioned;
    let mut bench = Bench::new();
    let pipelines = pipelines(13, 3_000, 60_000);
    let client = bench.server.start(None).await.unwrap();
    deploy(&client, &pipelines).await;

    // Everything but the heartbeats: event time stops short of the last timers.
    let orders = &pipelines[0].orders;
    let cut = |records: &Vec<_>| records[..records.len() - 1].to_vec();
    let first = Partitioned { topic: orders.topic.clone(), partitions: orders.partitions.iter().map(cut).collect() };
    let fed = first.len() as i64;
    feed(client.clone(), Arc::new(first), Pace::at_once()).await.unwrap();
    until(&client, "liquidity", |job| common::read_of(job, "orders") == fed).await;
    let before = client.consume("liquidity-ticks").await.unwrap().len();
    bench.server.kill();

    let client = bench.server.start(None).await.unwrap();
    finish(&client, &pipelines).await;
    let after = client.consume("liquidity-ticks").await.unwrap().len();
    assert!(after > before, "{before} ticks before the crash, {after} after it: no timer was left to fire");
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_are_in_the_log_and_their_files_a_cache() {
    let mut bench = Bench::new();
    let pipelines = pipelines(14, 10_000, 200_000);
    let client = bench.server.start(None).await.unwrap();
    deploy(&client, &pipelines).await;
    bench.server.kill();
    for folder in ["modules", "cache"] {
        std::fs::remove_dir_all(bench.server.data_dir().join(folder)).unwrap();
    }
    let client = bench.server.start(None).await.unwrap();
    finish(&client, &pipelines).await;
    // What is there no more while the server runs is fetched when it is needed.
    std::fs::remove_dir_all(bench.server.data_dir().join("modules")).unwrap();
    client.swap("liquidity", "liquidity", "liquidity@2.0.0").await.unwrap();
}
