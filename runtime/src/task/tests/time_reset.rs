use std::collections::BTreeMap;
use std::time::Duration;

use super::guests::Counter;
use super::harness::{Bench, settle};
use crate::model::{BEFORE_ALL_TIME, Uid};
use crate::task::context::TaskContext;
use crate::task::handle::TaskStatus;
use crate::task::session::Session;
use crate::task::target::{Change, Target, TimeReset};

const MS: i64 = 1_000_000;
/// Times of records of now, and of a clock that is a year ahead, in milliseconds.
const NOW: i64 = 1_000_000;
const YEAR: i64 = 365 * 86_400 * 1_000;

/// Event time is a year ahead in both partitions. Two timers of now have fired for it, one is set for two years ahead.
fn a_year_ahead() -> Bench {
    let bench = Bench::counting();
    bench.send("a", &format!("timer:{}", (NOW + 10) * MS), NOW);
    bench.send("d", &format!("timer:{}", (NOW + 20) * MS), NOW);
    bench.send("a", &format!("timer:{}", (NOW + 2 * YEAR) * MS), NOW);
    bench.send("a", "1", NOW + YEAR);
    bench.send("d", "1", NOW + YEAR);
    assert_eq!(bench.run().unwrap().watermark, (NOW + YEAR) * MS - 1);
    assert_eq!(ticks(&bench), 2);
    bench
}

fn ticks(bench: &Bench) -> usize {
    bench.counts().iter().filter(|line| line.contains("tick@")).count()
}

fn aim(context: &TaskContext, number: u64, to: i64) {
    let target = Target { time_reset: Some(TimeReset { number, to }), ..context.target.get() };
    context.target.put(target);
}

fn status(session: &Session<'_>) -> TaskStatus {
    session.context.status.lock().unwrap().clone()
}

#[test]
fn event_time_follows_the_records_again_after_a_reset_and_state_stays() {
    let bench = a_year_ahead();
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    bench.send("a", "1", NOW + 100);
    settle(&mut session, &bench).unwrap();
    assert_eq!(status(&session).late, 1);
    aim(&context, 1, BEFORE_ALL_TIME);
    session.turn().unwrap();
    assert_eq!((status(&session).watermark, status(&session).time_reset), (BEFORE_ALL_TIME, 1));
    assert_eq!(session.committer.head.header.time_reset, 1);
    bench.send("a", &format!("timer:{}", (NOW + 250) * MS), NOW + 200);
    bench.send("d", "1", NOW + 200);
    bench.send("a", "1", NOW + 300);
    bench.send("d", "1", NOW + 300);
    settle(&mut session, &bench).unwrap();
    let now = status(&session);
    assert_eq!((now.watermark, now.late), ((NOW + 300) * MS - 1, 1), "none is late any more");
    assert_eq!(ticks(&bench), 3, "a timer of now fires, those that have fired do not again");
    let last = bench.counts().into_iter().rfind(|line| line.starts_with("a v1")).unwrap();
    assert!(last.starts_with("a v1 6,3"), "{last}");
    assert_eq!(now.fastest.unwrap().watermark, (NOW + 300) * MS - 1);
    let timers = now.timers["count"];
    assert_eq!((timers.known, timers.is_all, timers.first), (1, true, Some((NOW + 2 * YEAR) * MS)));
    // Event time comes to it in the end.
    bench.send("a", "1", NOW + 3 * YEAR);
    bench.send("d", "1", NOW + 3 * YEAR);
    settle(&mut session, &bench).unwrap();
    assert_eq!(ticks(&bench), 4);
}

#[test]
fn a_reset_to_a_time_takes_back_what_is_beyond_it_and_nothing_else() {
    let bench = Bench::counting();
    bench.send("a", "1", NOW);
    bench.send("d", "1", NOW + YEAR);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    aim(&context, 1, (NOW + 500) * MS);
    session.turn().unwrap();
    let inputs: Vec<_> = session.committer.head.header.inputs.iter().map(|input| input.watermark).collect();
    let mut expected = [NOW * MS - 1, (NOW + 500) * MS];
    expected.rotate_left(super::harness::partition_of("a") as usize);
    assert_eq!(inputs, expected);
    assert_eq!(session.committer.head.header.watermark, NOW * MS - 1, "it was not beyond it");
}

#[test]
fn a_reset_is_made_once_whoever_comes_after() {
    let bench = a_year_ahead();
    let context = bench.context();
    aim(&context, 1, BEFORE_ALL_TIME);
    let mut session = Session::recover(&context).unwrap();
    session.turn().unwrap();
    bench.send("a", "1", NOW + 100);
    bench.send("d", "1", NOW + 100);
    settle(&mut session, &bench).unwrap();
    let reached = (NOW + 100) * MS - 1;
    assert_eq!(status(&session).watermark, reached);
    drop(session);
    for number in [1, 0] {
        let context = bench.context();
        aim(&context, number, BEFORE_ALL_TIME);
        let mut session = Session::recover(&context).unwrap();
        session.turn().unwrap();
        assert_eq!(session.committer.head.header.time_reset, 1);
        assert_eq!(session.committer.head.header.watermark, reached, "the header names this reset, or a newer one");
    }
    aim(&context, 2, NOW * MS);
    let mut session = Session::recover(&context).unwrap();
    session.turn().unwrap();
    assert_eq!((session.committer.head.header.time_reset, session.committer.head.header.watermark), (2, NOW * MS));
}

#[test]
fn a_reset_and_a_swap_that_come_at_once_both_come_through() {
    let mut bench = a_year_ahead();
    let module = Counter::module(2);
    bench.modules.insert(module.digest, module.clone());
    let context = bench.context();
    let change = Change { swap: Uid([5; 16]), operator: 0, module, empty: Default::default() };
    context.target.put(Target {
        modules: BTreeMap::from([(0, change)]),
        time_reset: Some(TimeReset { number: 1, to: BEFORE_ALL_TIME }),
        ..Target::default()
    });
    let mut session = Session::recover(&context).unwrap();
    session.turn().unwrap();
    settle(&mut session, &bench).unwrap();
    let header = &session.committer.head.header;
    assert_eq!((header.time_reset, header.swap), (1, Some(Uid([5; 16]))));
    bench.send("a", "1", NOW + 100);
    bench.send("d", "1", NOW + 100);
    settle(&mut session, &bench).unwrap();
    assert!(bench.counts().iter().any(|line| line.starts_with("a v2 4,2")), "{:?}", bench.counts());
    assert_eq!(status(&session).watermark, (NOW + 100) * MS - 1);
}

#[test]
fn a_reset_is_heard_while_timers_fire_and_the_others_stay_for_their_time() {
    let mut bench = Bench::counting();
    bench.plan.settings.timer_batch = 1;
    bench.plan.settings.commit_interval = Duration::ZERO;
    for n in 0..10 {
        bench.send("a", &format!("timer:{}", (NOW + 100 + n) * MS), NOW);
    }
    bench.send("a", "1", NOW + YEAR);
    bench.send("d", "1", NOW + YEAR);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    // Without a look at its target, which it takes for a newer one behind each call.
    while ticks(&bench) == 0 {
        session.step().unwrap();
    }
    let fired = ticks(&bench);
    assert!((1..10).contains(&fired), "{fired} timers have fired");
    aim(&context, 1, NOW * MS);
    session.turn().unwrap();
    assert_eq!((ticks(&bench), session.committer.head.header.time_reset), (fired, 1));
    settle(&mut session, &bench).unwrap();
    assert_eq!(ticks(&bench), fired, "the others are not due any more");
    bench.send("a", "1", NOW + 200);
    bench.send("d", "1", NOW + 200);
    settle(&mut session, &bench).unwrap();
    assert_eq!(ticks(&bench), 10);
}
