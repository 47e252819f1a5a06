use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::guests::{Counter, Odd};
use super::harness::{Bench, settle};
use crate::model::Uid;
use crate::operator::ModuleRef;
use crate::task::handle::{SwapStatus, TrialOutcome};
use crate::task::session::Session;
use crate::task::target::{Change, Target};

const SWAP: Uid = Uid([5; 16]);

/// On trial first, then decided; why it was turned down, where it was.
fn swap(session: &mut Session<'_>, module: ModuleRef) -> Result<SwapStatus, String> {
    let change = Change { swap: SWAP, operator: 0, module, empty: Default::default() };
    session.context.target.put(Target { trial: Some(change.clone()), ..Target::default() });
    session.turn().unwrap();
    let trial = session.context.status.lock().unwrap().trial.clone().unwrap();
    if let TrialOutcome::Failed { why, .. } = trial.outcome {
        return Err(why);
    }
    assert!(matches!(trial.outcome, TrialOutcome::Ready { .. }), "{trial:?}");
    session.context.target.put(Target { modules: BTreeMap::from([(0, change)]), ..Target::default() });
    session.turn().unwrap();
    Ok(session.context.status.lock().unwrap().last_swap.clone().unwrap())
}

fn bench() -> Bench {
    let mut bench = Bench::counting();
    for version in [1, 2] {
        let module = Counter::module(version);
        bench.modules.insert(module.digest, module);
    }
    bench
}

fn lines(bench: &Bench) -> Vec<String> {
    bench.counts().iter().map(|line| line.rsplit_once(" w=").unwrap().0.to_owned()).collect()
}

#[test]
fn state_survives_a_swap_and_its_rollback() {
    let bench = bench();
    bench.send_all(&[("a", "5"), ("c", "1")]);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    let switched = swap(&mut session, Counter::module(2)).unwrap();
    bench.send_all(&[("a", "3")]);
    settle(&mut session, &bench).unwrap();
    let header = &session.committer.head.header;
    assert!(header.epoch > switched.epoch && header.swap == Some(SWAP));
    assert_eq!(header.operators[0].migrator, None, "the sweep has ended: no value of version 1 is left");
    swap(&mut session, Counter::module(1)).unwrap();
    bench.send_all(&[("a", "1"), ("c", "1")]);
    settle(&mut session, &bench).unwrap();
    let mut of_a: Vec<_> = lines(&bench).into_iter().filter(|line| line.starts_with('a')).collect();
    of_a.dedup();
    assert_eq!(of_a, ["a v1 1,5", "a v2 2,8,3", "a v1 3,9"]);
}

#[test]
fn a_task_starts_with_the_version_of_its_last_header_and_goes_on_migrating() {
    let bench = bench();
    bench.send_all(&[("a", "5"), ("c", "1")]);
    bench.run().unwrap();
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    swap(&mut session, Counter::module(2)).unwrap();
    assert!(session.committer.head.header.operators[0].migrator.is_some());
    drop(session);
    bench.send_all(&[("c", "4")]);
    let status = bench.run().unwrap();
    assert_eq!(status.modules["count"].version, "2");
    assert!(!status.migrating);
    assert!(lines(&bench).contains(&"c v2 2,5,4".to_owned()), "{:?}", lines(&bench));
}

#[test]
fn a_version_that_cannot_migrate_one_value_is_turned_down_before_anything_changes() {
    let bench = bench();
    bench.send_all(&[("a", "5"), ("c", "1")]);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    let epoch = session.committer.head.header.epoch;
    let refused = swap(&mut session, Counter::build(2, true, Some("c"))).unwrap_err();
    assert!(refused.contains("\"c\""), "{refused}");
    assert_eq!(session.committer.head.header.epoch, epoch);
    bench.send_all(&[("a", "1")]);
    settle(&mut session, &bench).unwrap();
    assert!(lines(&bench).contains(&"a v1 2,6".to_owned()));
}

#[test]
fn a_held_task_goes_on_with_the_version_that_is_swapped_in() {
    let bench = bench();
    bench.send_all(&[("a", "5")]);
    bench.run().unwrap();
    let context = bench.context();
    context.memory().held_under = Some(vec![Counter::module(1).digest]);
    let mut session = Session::recover(&context).unwrap();
    assert!(session.hold);
    swap(&mut session, Counter::module(2)).unwrap();
    assert!(!session.hold);
    bench.send_all(&[("a", "1")]);
    settle(&mut session, &bench).unwrap();
    assert!(lines(&bench).contains(&"a v2 2,6,1".to_owned()), "{:?}", lines(&bench));
}

#[test]
fn a_swapped_in_version_is_told_its_own_connected_outputs() {
    let mut bench = bench();
    let told = Arc::new(Mutex::new(Vec::new()));
    let next = Odd { outputs: vec!["extra", "counts"], told: Arc::clone(&told), ..Odd::default() }.module(2);
    bench.modules.insert(next.digest, next.clone());
    bench.send("a", "1", 1_000);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    swap(&mut session, next).unwrap();
    // An instance that only migrates is told of none.
    let told: Vec<_> = told.lock().unwrap().iter().filter(|told| !told.is_empty()).cloned().collect();
    assert!(!told.is_empty() && told.iter().all(|outputs| outputs == &[1]), "`counts` is its output 1: {told:?}");
}

#[test]
fn a_session_that_finds_another_version_decided_goes_there_without_being_told_again() {
    let bench = bench();
    bench.send_all(&[("a", "5")]);
    let context = bench.context();
    let change = Change { swap: SWAP, operator: 0, module: Counter::module(2), empty: Default::default() };
    context.target.put(Target { modules: BTreeMap::from([(0, change)]), ..Target::default() });
    let mut session = Session::recover(&context).unwrap();
    session.turn().unwrap();
    assert_eq!(session.committer.head.header.operators[0].module, Counter::module(2).digest);
    settle(&mut session, &bench).unwrap();
    drop(session);
    let mut session = Session::recover(&context).unwrap();
    let epoch = session.committer.head.header.epoch;
    session.turn().unwrap();
    assert_eq!(session.committer.head.header.epoch, epoch, "it is there already");
}

fn decided(session: &Session<'_>, module: ModuleRef, empty: &[&str]) {
    let swap = Uid(module.digest.0[..16].try_into().unwrap());
    let empty = empty.iter().map(|name| (*name).to_owned()).collect();
    let change = Change { swap, operator: 0, module, empty };
    session.context.target.put(Target { modules: BTreeMap::from([(0, change)]), ..Target::default() });
}

/// Of which nothing is known that migrates to it or from it.
fn third(bench: &mut Bench, hints: bool) -> ModuleRef {
    let module = Counter::build(3, hints, None);
    bench.modules.insert(module.digest, module.clone());
    module
}

#[test]
fn a_state_that_nobody_migrates_begins_empty_where_the_swap_says_so_and_not_otherwise() {
    let mut bench = bench();
    let module = third(&mut bench, true);
    bench.send_all(&[("a", "5"), ("b", "7"), ("c", "1")]);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    let refused = swap(&mut session, module.clone()).unwrap_err();
    assert!(refused.contains("migrates version 1 to 3") && refused.ends_with("--reset tally"), "{refused}");
    decided(&session, module, &["tally"]);
    session.turn().unwrap();
    let states = |session: &Session<'_>| session.committer.head.header.operators[0].states.clone();
    assert!(states(&session)[0].begins_empty);
    // Before the sweep has come to it, and again after it.
    bench.send_all(&[("a", "3")]);
    settle(&mut session, &bench).unwrap();
    bench.send_all(&[("b", "2"), ("a", "1")]);
    settle(&mut session, &bench).unwrap();
    assert!(!states(&session)[0].begins_empty, "nothing of version 1 is left");
    drop(session);
    crate::state::TaskState::wipe(&bench.plan.state_dir).unwrap();
    bench.send_all(&[("c", "4")]);
    bench.run().unwrap();
    let mut third: Vec<_> = lines(&bench).into_iter().filter(|line| line.contains(" v3 ")).collect();
    third.sort();
    let begun = |line: &String| line.split(',').take(2).collect::<Vec<_>>().join(",");
    assert_eq!(third.iter().map(begun).collect::<Vec<_>>(), ["a v3 1,3", "a v3 2,4", "b v3 1,2", "c v3 1,4"]);
}

#[test]
fn what_is_thrown_away_stays_so_over_a_death_and_a_version_that_follows_at_once() {
    let mut bench = bench();
    let (module, mended) = (third(&mut bench, true), third(&mut bench, false));
    bench.send_all(&[("a", "5"), ("b", "7"), ("c", "1")]);
    bench.run().unwrap();
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    decided(&session, module, &["tally"]);
    session.turn().unwrap();
    drop(session);
    // Nothing was swept: the next one knows it from the header.
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    assert!(session.committer.head.header.operators[0].states[0].begins_empty);
    decided(&session, mended, &[]);
    session.turn().unwrap();
    assert!(session.committer.head.header.operators[0].states[0].begins_empty, "it reads the same version");
    bench.send_all(&[("b", "2")]);
    settle(&mut session, &bench).unwrap();
    assert!(lines(&bench).iter().any(|line| line.starts_with("b v3 1,2")), "{:?}", lines(&bench));
    assert!(!session.committer.head.header.operators[0].states[0].begins_empty);
}

#[test]
fn a_version_that_reads_what_is_being_thrown_away_waits_until_it_is_gone() {
    let mut bench = bench();
    let module = third(&mut bench, true);
    bench.send_all(&[("a", "5"), ("b", "7"), ("c", "1")]);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    decided(&session, module, &["tally"]);
    session.turn().unwrap();
    decided(&session, Counter::module(1), &["tally"]);
    session.turn().unwrap();
    let trial = session.context.status.lock().unwrap().trial.clone().unwrap();
    let TrialOutcome::Failed { why, kind } = trial.outcome else { panic!("{trial:?}") };
    assert!(kind == crate::error::Kind::Retry && why.contains("still being thrown away"), "{why}");
    settle(&mut session, &bench).unwrap();
    bench.clock.advance(std::time::Duration::from_secs(2));
    session.turn().unwrap();
    bench.send_all(&[("a", "1"), ("b", "1")]);
    settle(&mut session, &bench).unwrap();
    let mut last: Vec<_> = lines(&bench).into_iter().rev().take(2).collect();
    last.sort();
    assert_eq!(last, ["a v1 1,1", "b v1 1,1"]);
}
