//! Uploaded code that fails: held, let go, taken apart, retried; and what is counted meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::guests::{Counter, Odd};
use super::harness::{Bench, settle};
use super::ownership::wait_for;
use crate::env::{Clock, ManualClock, SystemClock};
use crate::log::clusters::Clusters;
use crate::log::sim::{Hardship, Simulated};
use crate::log::{Cleanup, Isolation, Log, TopicSpec};
use crate::model::{PartitionBatch, Uid, murmur2};
use crate::task::context::TaskContext;
use crate::task::handle::{Phase, TaskHandle, TaskStatus};
use crate::task::plan::TopicRef;
use crate::task::session::Session;
use crate::task::spawn;
use crate::task::target::{Change, Target};

fn start(bench: &Bench) -> TaskHandle {
    let context = bench.context();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let task = spawn(bench.plan.clone(), bench.clusters.clone(), context.modules.clone(), clock).unwrap();
    wait_for(|| task.status().phase == Phase::Running);
    task
}

/// Held by a fault, freed by a swap, then a hiccup: it goes on.
fn held_then(hiccup: impl Fn(&Bench)) {
    let mut bench = Bench::new(&[("count", Odd { breaks: true, ..Odd::default() }.module(1))]);
    let good = Odd { retries: Arc::new(AtomicU32::new(1)), ..Odd::default() }.module(2);
    bench.modules.insert(good.digest, good.clone());
    let mut task = start(&bench);
    bench.send("a", "1", 1_000);
    bench.send("a", "break", 1_001);
    wait_for(|| task.status().phase == Phase::Held);
    let change = Change { swap: Uid([5; 16]), operator: 0, module: good, empty: Default::default() };
    task.aim(Target { modules: BTreeMap::from([(0, change)]), ..Target::default() });
    wait_for(|| bench.counts().len() == 2);
    let before = bench.counts().len();
    hiccup(&bench);
    wait_for(|| bench.counts().len() > before);
    wait_for(|| task.status().phase == Phase::Running);
    task.stop();
    task.join();
}

#[test]
fn a_task_that_a_swap_has_freed_goes_on_after_it_was_fenced_by_nobody() {
    held_then(|bench| {
        drop(Log::writer(bench.log.as_ref(), &bench.plan.transactional_id()).unwrap());
        bench.send("a", "7", 2_000);
    });
}

#[test]
fn a_task_that_a_swap_has_freed_goes_on_after_a_retry() {
    held_then(|bench| bench.send("a", "once", 2_000));
}

#[test]
fn a_task_stays_held_under_the_modules_that_failed_also_when_it_comes_back() {
    let bench = Bench::new(&[("count", Odd { breaks: true, ..Odd::default() }.module(1))]);
    let context = bench.context();
    context.memory().held_under = Some(vec![bench.plan.operators[0].module.digest]);
    let session = Session::recover(&context).unwrap();
    assert!(session.hold);
    assert_eq!(context.status.lock().unwrap().phase, Phase::Held);
}

#[test]
fn a_damaged_local_store_that_a_read_comes_upon_is_rebuilt_while_the_task_lives() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "5"), ("b", "6")]);
    bench.run().unwrap();
    crate::state::damage_value(&bench.plan.state_dir, "count", "tally", b"a");
    let mut plan = bench.plan.clone();
    plan.settings.cache_bytes = 0;
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let context = bench.context();
    let mut task = spawn(plan, bench.clusters.clone(), context.modules.clone(), clock).unwrap();
    bench.send_all(&[("a", "1"), ("b", "1")]);
    wait_for(|| bench.counts().len() == 4);
    task.stop();
    task.join();
    let counts = bench.counts();
    assert!(counts.iter().any(|line| line.starts_with("a v1 2,6")), "{counts:?}");
    assert!(counts.iter().any(|line| line.starts_with("b v1 2,7")), "{counts:?}");
}

#[test]
fn a_task_that_has_nothing_to_do_sleeps_until_a_record_or_a_target_wakes_it() {
    let bench = Bench::counting();
    let context = bench.context();
    let mut plan = bench.plan.clone();
    let hour = Duration::from_secs(3_600);
    (plan.settings.idle_look, plan.settings.commit_interval) = (hour, Duration::from_millis(1));
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let mut task = spawn(plan, bench.clusters.clone(), context.modules.clone(), clock).unwrap();
    wait_for(|| task.status().phase == Phase::Running);
    bench.send_all(&[("a", "1")]);
    wait_for(|| bench.counts().len() == 1);
    task.stop();
    wait_for(|| task.has_ended());
    task.join();
    assert_eq!(task.status().phase, Phase::Stopped);
}

#[test]
fn counters_live_as_long_as_the_task_whatever_becomes_of_its_sessions() {
    let bench = Bench::counting();
    let context = bench.context();
    let counted = || {
        let status = context.status.lock().unwrap();
        (status.dead_letters, status.traps, status.late)
    };
    bench.send("a", "1", 5_000);
    bench.send("a", "trap", 5_000);
    bench.send("d", "1", 5_000);
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    bench.send("a", "1", 1_000);
    settle(&mut session, &bench).unwrap();
    let before = counted();
    assert!(before.0 == 1 && before.1 >= 1 && before.2 == 1, "{before:?}");
    drop(session);
    bench.send("a", "trap", 6_000);
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    let after = counted();
    assert!(after.0 == 2 && after.1 > before.1 && after.2 == 1, "{after:?}");
}

#[test]
fn a_record_is_not_given_up_for_what_the_one_before_it_did_to_the_instance() {
    let bench = Bench::new(&[("count", Odd { spoils: true, ..Odd::default() }.module(1))]);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    for round in 0..3 {
        bench.send_all(&[("a", "1"), ("b", "2"), ("c", "3")]);
        settle(&mut session, &bench).unwrap();
        assert_eq!(bench.counts().len(), 3 * (round + 1));
    }
    assert_eq!(bench.dead_letters().len(), 0);
}

#[test]
fn a_call_is_cut_by_what_is_gathered_for_it_and_no_fault_is_counted() {
    let mut bench = Bench::counting();
    bench.plan.settings.batch_max_bytes = 300;
    let keys: Vec<String> = (0..200).map(|n| format!("key-{n}")).collect();
    let context = TaskContext { plan: bench.plan.clone(), ..bench.context() };
    let mut session = Session::recover(&context).unwrap();
    for round in 1..=3 {
        keys.iter().for_each(|key| bench.send(key, "1", 1_000 * round));
        settle(&mut session, &bench).unwrap();
    }
    let of_last = bench.counts().iter().filter(|line| line.contains(" v1 3,3 ")).count();
    assert_eq!((of_last, context.status.lock().unwrap().traps), (200, 0));
}

/// A simulated cluster that ends transactions after ten seconds, a guest that loops on its clock, and so many records of
/// which these loop, behind others of another partition.
fn looping(loops: &[i64], before: bool) -> (u32, TaskStatus, Duration) {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(1_000));
    let bench = Bench::new(&[("count", Odd { clock: Some(Arc::clone(&clock)), ..Odd::default() }.module(1))]);
    let hardship = Hardship { transaction_timeout: Duration::from_secs(10), ..Hardship::default() };
    let log = Arc::new(Simulated::new(1, hardship, clock.clone(), false));
    let topic = |name: &str, partitions| {
        let spec = TopicSpec { name: name.into(), partitions, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
        TopicRef::from(log.create_topic(&spec).unwrap())
    };
    let mut plan = bench.plan.clone();
    plan.sources[0].topic = topic("numbers", 2);
    plan.sinks[0].topic = topic("counts", 1);
    plan.dead_letters = topic("job.dead-letters", 1);
    plan.changelog = topic("__forebay.job.changelog", 1);
    plan.state_dir = bench.dir.path().join("state-of-simulation");
    crate::task::deploy(&plan, log.as_ref()).unwrap();
    let key =
        |partition| (0..).map(|n: u32| format!("k{n}").into_bytes()).find(|k| murmur2::partition(k, 2) == partition);
    let send = |partition: i32, of: &dyn Fn(i64) -> &'static [u8]| {
        let mut batch = PartitionBatch::new("numbers", partition);
        let key = key(partition);
        (0..1_000).for_each(|i| batch.push(-1, 1_000 + i, key.as_deref(), Some(of(i))));
        log.produce(&batch).unwrap();
    };
    if before {
        send(0, &|_| b"1");
    }
    send(1, &|i| if loops.contains(&i) { b"loop" } else { b"1" });
    let status = Arc::new(Mutex::new(TaskStatus::default()));
    let modules = bench.context().modules;
    let clusters = Clusters::at_home(log.clone());
    let context = TaskContext::new(plan.clone(), clusters, modules, clock.clone() as _, Arc::clone(&status));
    let context = TaskContext { overlap: false, ..context };
    let started = clock.elapsed();
    let mut session = Session::recover(&context).unwrap();
    let mut shown_first = None;
    loop {
        session.turn().unwrap();
        let traps = status.lock().unwrap().traps;
        if traps > 0 && shown_first.is_none() {
            shown_first = Some(clock.elapsed() - started);
        }
        if session.is_caught_up() {
            break;
        }
    }
    clock.advance(Duration::from_secs(1));
    session.turn().unwrap();
    assert!(loops.is_empty() || shown_first.is_some_and(|at| at <= Duration::from_secs(2)), "{shown_first:?}");
    let letters = log.end_offset("job.dead-letters", 0, Isolation::ReadCommitted).unwrap();
    assert!(letters >= loops.len() as i64);
    let status = status.lock().unwrap().clone();
    (status.dead_letters as u32, status, clock.elapsed() - started)
}

#[test]
fn records_that_loop_are_dead_lettered_whatever_stands_before_them_and_no_transaction_ends_for_it() {
    for before in [false, true] {
        let (letters, status, _) = looping(&[300, 800], before);
        assert_eq!((letters, status.records_in), (2, 1_000 + u64::from(before) * 1_000));
    }
}

#[test]
fn many_records_that_loop_cost_little_more_than_one_call_each() {
    let loops: Vec<i64> = (0..12).map(|i| i * 83 + 5).collect();
    let (letters, _, took) = looping(&loops, false);
    assert_eq!(letters, 12);
    assert!(took < Duration::from_secs(35), "{took:?}");
}

#[test]
fn a_guest_that_asks_to_be_tried_again_is_tried_ever_more_seldom() {
    let bench = Bench::counting();
    bench.send("a", "retry", 1_000);
    let context = bench.context();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let mut task = spawn(bench.plan.clone(), bench.clusters.clone(), context.modules.clone(), clock).unwrap();
    // Pauses of 50 ms and then 100: without growing, the seventh session would come after 350 ms.
    let since = std::time::Instant::now();
    let end = || bench.log.end_offset(&bench.plan.changelog.name, 0, Isolation::ReadUncommitted).unwrap();
    wait_for(|| end() >= 2 + 2 * 6);
    assert!(since.elapsed() >= Duration::from_millis(50 + 100 + 200 + 400 + 800), "{:?}", since.elapsed());
    task.stop();
    task.join();
}

#[test]
fn a_version_on_trial_for_ever_does_not_keep_a_task_from_its_records() {
    let mut bench = Bench::counting();
    let next = Counter::module(2);
    bench.modules.insert(next.digest, next.clone());
    let mut task = start(&bench);
    let change = Change { swap: Uid([5; 16]), operator: 0, module: next, empty: Default::default() };
    task.aim(Target { trial: Some(change), ..Target::default() });
    bench.send_all(&[("a", "1"), ("b", "2")]);
    wait_for(|| bench.counts().len() == 2 && task.status().trial.is_some());
    assert_eq!(task.status().modules["count"].version, "1");
    task.aim(Target::default());
    wait_for(|| task.status().trial.is_none());
    task.stop();
    task.join();
}
