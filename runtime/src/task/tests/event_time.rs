use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::guests::{Counter, Odd};
use super::harness::{Bench, settle};
use super::ownership::wait_for;
use crate::env::{Clock, SystemClock};
use crate::model::Uid;
use crate::task::handle::Phase;
use crate::task::session::Session;
use crate::task::spawn;
use crate::task::target::{Change, Target};

const MS: i64 = 1_000_000;

/// Two keys in both partitions; timers set out of order, in the past and for the same moment.
fn scenario(bench: &Bench) {
    for (key, value, at_ms) in [
        ("a", "1", 1_000),
        ("d", &format!("timer:{}", 1_500 * MS)[..], 1_001),
        ("a", &format!("timer:{}", 1_500 * MS), 1_002),
        ("a", &format!("timer:{}", 1_200 * MS), 1_003),
        ("a", &format!("timer:{}", 1_200 * MS), 1_003),
        ("d", &format!("timer:{}", 900 * MS), 1_004),
        ("a", "2", 2_000),
        ("d", "3", 1_400),
        ("d", "4", 2_000),
    ] {
        bench.send(key, value, at_ms);
    }
}

/// The order of records, watermark and timers. Records come first, each call sees the watermark before
/// the batch; then timers by (time, timer, key).
const GOLDEN: &str = include_str!("golden/event-time.txt");

#[test]
fn records_watermark_and_timers_keep_their_order_at_every_batch_size() {
    for batch in [1, 7, 256] {
        let mut bench = Bench::counting();
        bench.plan.settings.batch_max_records = batch;
        bench.plan.settings.timer_batch = batch;
        scenario(&bench);
        bench.run().unwrap();
        let found = bench.counts().join("\n") + "\n";
        if std::env::var_os("FOREBAY_GOLDEN").is_some() {
            std::fs::create_dir_all("src/task/tests/golden").unwrap();
            std::fs::write("src/task/tests/golden/event-time.txt", &found).unwrap();
        }
        assert_eq!(found, GOLDEN, "at batch size {batch}");
    }
}

#[test]
fn timers_survive_the_end_of_a_process_and_the_loss_of_its_store() {
    let bench = Bench::counting();
    bench.send("a", &format!("timer:{}", 5_000 * MS), 1_000);
    bench.send("d", "1", 1_000);
    bench.run().unwrap();
    assert_eq!(bench.counts().len(), 2);
    crate::state::TaskState::wipe(&bench.plan.state_dir).unwrap();
    bench.send("a", "1", 6_000);
    bench.run().unwrap();
    assert_eq!(bench.counts().len(), 3, "one partition still holds time back");
    bench.send("d", "1", 6_000);
    bench.run_uncommitted();
    bench.run().unwrap();
    let lines = bench.counts();
    assert_eq!(lines.len(), 5);
    assert!(lines[4].starts_with("a tick@5000000000 count=2"), "{lines:?}");
}

#[test]
fn a_watermark_in_the_header_never_goes_back() {
    let bench = Bench::counting();
    bench.send("a", "1", 3_000);
    bench.send("d", "1", 3_000);
    let first = bench.run().unwrap().watermark;
    assert_eq!(first, 3_000 * MS - 1);
    bench.send("a", "1", 1_000);
    let status = bench.run().unwrap();
    assert_eq!(status.watermark, first);
    assert_eq!(status.late, 1);
}

#[test]
fn many_timers_fire_across_epochs_and_hold_the_watermark_back_meanwhile() {
    let mut bench = Bench::new(&[("count", Counter::module(1))]);
    bench.plan.settings.timer_batch = 10;
    bench.plan.settings.commit_interval = Duration::ZERO;
    for n in 0..100 {
        bench.send(&format!("k{n}"), &format!("timer:{}", 2_000 * MS), 1_000);
    }
    bench.send("a", "1", 3_000);
    bench.send("d", "1", 3_000);
    let status = bench.run().unwrap();
    assert_eq!(bench.counts().iter().filter(|line| line.contains("tick@")).count(), 100);
    assert!(status.commits > 10, "{} commits", status.commits);
}

#[test]
fn a_timer_set_by_a_timer_fires_in_its_place_at_every_batch_size() {
    for batch in [1, 7, 256] {
        let mut bench = Bench::counting();
        bench.plan.settings.timer_batch = batch;
        bench.send("a", &format!("timer:{}", 1_500 * MS + 1), 1_000);
        bench.send("d", &format!("timer:{}", 1_500 * MS + 5), 1_000);
        bench.send("a", "1", 2_000);
        bench.send("d", "1", 2_000);
        bench.run().unwrap();
        let lines = bench.counts();
        let fired: Vec<_> = lines.iter().filter(|line| line.contains("tick@")).collect();
        let at: Vec<_> = fired.iter().map(|line| &line[..line.find(" count").unwrap()]).collect();
        assert_eq!(at, ["a tick@1500000001", "a tick@1500000002", "d tick@1500000005"], "at batch size {batch}");
    }
}

#[test]
fn timers_of_many_times_fire_in_one_call_and_each_at_its_own_time() {
    let bench = Bench::counting();
    for n in 0..500 {
        bench.send(&format!("k{n}"), &format!("timer:{}", 2_000 * MS + 10 + n), 1_000);
    }
    bench.send("a", "1", 3_000);
    bench.send("d", "1", 3_000);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    let lines = bench.counts();
    let fired: Vec<_> = lines.iter().filter_map(|line| line.split_once(" tick@")).collect();
    for (n, (key, rest)) in fired.iter().enumerate() {
        assert_eq!(*key, format!("k{n}"));
        assert!(rest.starts_with(&(2_000 * MS + 10 + n as i64).to_string()));
    }
    assert_eq!(fired.len(), 500);
}

/// A guest that sets its timer again a little later, for ever.
#[test]
fn timers_that_set_each_other_without_end_hold_the_task_and_do_not_make_it_deaf() {
    let mut bench = Bench::new(&[("count", Odd { walks: Some(1_000), ..Odd::default() }.module(1))]);
    bench.plan.settings.commit_interval = Duration::from_millis(10);
    let good = Counter::module(2);
    bench.modules.insert(good.digest, good.clone());
    let context = bench.context();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let task =
        || spawn(bench.plan.clone(), bench.clusters.clone(), context.modules.clone(), Arc::clone(&clock)).unwrap();
    bench.send("a", &format!("timer:{}", 1_000 * MS), 1_000);
    bench.send("a", "1", 61_000);
    bench.send("d", "1", 61_000);
    let mut first = task();
    wait_for(|| bench.counts().len() > 1_000);
    let asked = std::time::Instant::now();
    first.stop();
    first.join();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let mut second = task();
    wait_for(|| second.status().phase == Phase::Running);
    let change = Change { swap: Uid([5; 16]), operator: 0, module: good, empty: Default::default() };
    second.aim(Target { modules: BTreeMap::from([(0, change)]), ..Target::default() });
    wait_for(|| second.status().modules.get("count").is_some_and(|module| module.version == "2"));
    bench.send("a", "7", 62_000);
    wait_for(|| bench.counts().iter().any(|line| line.starts_with("a v2 3,8")));
    second.stop();
    second.join();
}
