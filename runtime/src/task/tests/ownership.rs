//! Who owns a task: takeovers, rests, and giving way.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::harness::{Bench, settle};
use crate::env::{Clock, SystemClock};
use crate::error::Kind;
use crate::log::{Isolation, Log as _};
use crate::state::{Marker, OperatorStates, Shared, StateSettings, TaskState};
use crate::task::context::TaskContext;
use crate::task::handle::Phase;
use crate::task::session::Session;
use crate::task::{Error, spawn};

/// Another process on the same task: with a store of its own.
fn elsewhere(bench: &Bench) -> (TaskContext, TempDir) {
    let dir = TempDir::new().unwrap();
    let mut context = bench.context();
    context.plan.state_dir = dir.path().to_owned();
    (context, dir)
}

/// A session that has nothing to do and has given its writer up.
fn resting<'a>(bench: &Bench, context: &'a TaskContext) -> Session<'a> {
    let mut session = Session::recover(context).unwrap();
    settle(&mut session, bench).unwrap();
    bench.clock.advance(bench.plan.settings.writer_idle);
    session.step().unwrap();
    assert!(session.committer.writer.is_none(), "it goes on holding its transactional id");
    session
}

#[test]
fn a_task_at_rest_goes_on_where_nobody_owned_it_meanwhile() {
    let bench = Bench::counting();
    let context = bench.context();
    let mut session = resting(&bench, &context);
    bench.send_all(&[("a", "1"), ("a", "2")]);
    settle(&mut session, &bench).unwrap();
    assert_eq!(bench.counts().len(), 2);
    drop(session);
    bench.send("a", "3", 2_000);
    bench.run().unwrap();
    assert_eq!(bench.counts().len(), 3);
}

#[test]
fn a_task_that_has_nothing_to_do_leaves_its_cache_to_tasks_that_come() {
    const BYTES: usize = 4 << 20;
    let shared = Shared::new(BYTES, 1 << 20, 8 << 20);
    let open = |dir: &TempDir| {
        let settings = StateSettings { cache_bytes: BYTES, shared: shared.clone(), ..StateSettings::default() };
        TaskState::open(dir.path(), &settings).unwrap().0
    };
    let bench = Bench::counting();
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    let dirs: [_; 8] = std::array::from_fn(|_| TempDir::new().unwrap());
    session.lane.state = open(&dirs[0]);
    let names = OperatorStates { id: "count".into(), states: vec!["count".into()], timers: vec![] };
    session.lane.state.bind(&[names]).unwrap();
    (0..30_000_u64).for_each(|key| session.lane.state.put(0, 0, &key.to_le_bytes(), 1, Some(b"value")));
    session.lane.state.apply(Marker { epoch: 1, header_offset: 1, header_hash: [1; 32], task: [1; 32] }).unwrap();
    assert!(session.lane.state.statistics().cached_bytes > BYTES as u64 / 2);

    let others: Vec<_> = dirs[1..].iter().map(open).collect();
    while session.lane.state.can_shrink() {
        session.step().unwrap();
    }
    assert!(session.lane.state.statistics().cached_bytes <= BYTES as u64 / dirs.len() as u64);
    drop(others);
}

#[test]
fn a_task_at_rest_commits_nothing_over_what_another_owner_has_committed() {
    let bench = Bench::counting();
    let context = bench.context();
    let mut session = resting(&bench, &context);
    let (other, _dir) = elsewhere(&bench);
    let mut successor = Session::recover(&other).unwrap();
    bench.send_all(&[("a", "1"), ("b", "2")]);
    settle(&mut successor, &bench).unwrap();
    drop(successor);

    let error = settle(&mut session, &bench).unwrap_err();
    assert!(matches!(error, Error::Overtaken { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Fenced);
    drop(session);
    bench.run().unwrap();
    assert_eq!(bench.counts().len(), 2, "{:?}", bench.counts());
}

#[test]
fn a_task_at_rest_that_looks_finds_who_has_taken_it_over_and_takes_nothing_back() {
    let bench = Bench::counting();
    let context = bench.context();
    let mut session = resting(&bench, &context);
    let end = || bench.log.end_offset(&bench.plan.changelog.name, 0, Isolation::ReadCommitted).unwrap();
    let known = || context.status.lock().unwrap().changelog_end;
    assert_eq!(known(), Some(end()), "what it expects by its own commits");
    context.target.doubt();
    assert!(session.turn().unwrap().is_none());

    let (other, _dir) = elsewhere(&bench);
    let mut successor = Session::recover(&other).unwrap();
    assert!(known() < Some(end()), "the claim of a successor shows, also where it has nothing to do");
    let generation = context.target.generation();
    context.target.doubt();
    assert!(context.target.generation() > generation, "it is woken");
    let error = session.turn().err().unwrap();
    assert!(matches!(error, Error::Overtaken { .. }), "{error}");
    drop(session);
    bench.send("a", "1", 1_000);
    settle(&mut successor, &bench).unwrap();
    assert_eq!(bench.counts().len(), 1, "the successor was not fenced by the look");
}

#[test]
fn a_fenced_task_gives_way_to_whoever_claimed_it_and_stops() {
    let bench = Bench::counting();
    let context = bench.context();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let mut first = spawn(bench.plan.clone(), bench.clusters.clone(), context.modules.clone(), clock).unwrap();
    wait_for(|| first.status().phase == Phase::Running);

    let (other, _dir) = elsewhere(&bench);
    let mut successor = Session::recover(&other).unwrap();
    bench.send_all(&[("a", "1"), ("b", "2")]);
    wait_for(|| first.has_ended());
    let status = first.status();
    assert_eq!((status.phase, status.error_kind), (Phase::Failed, Some(Kind::Fenced)));
    assert!(status.error.as_ref().is_some_and(|error| error.contains("another process owns the task")), "{status:?}");
    first.join();

    settle(&mut successor, &bench).unwrap();
    assert_eq!(bench.counts().len(), 2);
}

#[test]
fn a_task_that_was_fenced_by_nobody_takes_over_again() {
    let bench = Bench::counting();
    let context = bench.context();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let mut task = spawn(bench.plan.clone(), bench.clusters.clone(), context.modules.clone(), clock).unwrap();
    wait_for(|| task.status().phase == Phase::Running);
    // A cluster that aborts a transaction for its age raises the producer epoch, and nobody claims the task.
    drop(crate::log::Log::writer(bench.log.as_ref(), &bench.plan.transactional_id()).unwrap());
    bench.send_all(&[("a", "1"), ("b", "2")]);
    wait_for(|| bench.counts().len() == 2);
    task.stop();
    task.join();
    assert_eq!(bench.counts().len(), 2);
}

pub fn wait_for(is_so: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(30), "it does not get there");
        // sleep: looks at what another thread does; nothing is concluded from the time that has passed
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_task_that_is_told_to_stop_stops_where_its_last_commit_fails_too() {
    let bench = Bench::counting();
    let context = bench.context();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let mut plan = bench.plan.clone();
    plan.settings.commit_interval = Duration::from_secs(3_600);
    let mut task = spawn(plan, bench.clusters.clone(), context.modules.clone(), clock).unwrap();
    wait_for(|| task.status().phase == Phase::Running);
    // The first epoch does not wait for the interval.
    bench.send_all(&[("a", "0")]);
    wait_for(|| bench.counts().len() == 1);
    bench.send_all(&[("a", "1"), ("b", "2")]);
    wait_for(|| task.status().open_records == 2);
    // Its commit will find another owner of the transactional id.
    drop(crate::log::Log::writer(bench.log.as_ref(), &bench.plan.transactional_id()).unwrap());
    task.stop();
    wait_for(|| task.has_ended());
    assert_eq!(task.status().phase, Phase::Stopped);
    task.join();
    bench.run().unwrap();
    assert_eq!(bench.counts().len(), 3);
}
