use std::sync::mpsc;

use super::guests::Counter;
use super::harness::{Bench, settle};
use crate::model::Uid;
use crate::operator::ModuleRef;
use crate::task::handle::Switched;
use crate::task::session::Session;

const SWAP: Uid = Uid([5; 16]);

/// Prepares and switches; the answer of whichever failed.
fn swap(session: &mut Session<'_>, module: ModuleRef) -> Result<Switched, String> {
    let (reply, answer) = mpsc::channel();
    session.prepare_swap(SWAP, 0, module, reply);
    answer.recv().unwrap()?;
    let (reply, answer) = mpsc::channel();
    session.switch_swap(SWAP, &reply).unwrap();
    answer.recv().unwrap()
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
    let around = bench.around();
    let mut session = Session::recover(&around, false).unwrap();
    settle(&mut session, &bench).unwrap();
    let switched = swap(&mut session, Counter::module(2)).unwrap();
    bench.send_all(&[("a", "3")]);
    settle(&mut session, &bench).unwrap();
    let header = &session.head.header;
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
    let around = bench.around();
    let mut session = Session::recover(&around, false).unwrap();
    swap(&mut session, Counter::module(2)).unwrap();
    assert!(session.head.header.operators[0].migrator.is_some());
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
    let around = bench.around();
    let mut session = Session::recover(&around, false).unwrap();
    settle(&mut session, &bench).unwrap();
    let epoch = session.head.header.epoch;
    let refused = swap(&mut session, Counter::build(2, true, Some("c"))).unwrap_err();
    assert!(refused.contains("\"c\""), "{refused}");
    assert_eq!(session.head.header.epoch, epoch);
    bench.send_all(&[("a", "1")]);
    settle(&mut session, &bench).unwrap();
    assert!(lines(&bench).contains(&"a v1 2,6".to_owned()));
}

#[test]
fn a_held_task_goes_on_with_the_version_that_is_swapped_in() {
    let bench = bench();
    bench.send_all(&[("a", "5")]);
    bench.run().unwrap();
    let around = bench.around();
    let mut session = Session::recover(&around, true).unwrap();
    swap(&mut session, Counter::module(2)).unwrap();
    assert!(!session.hold);
    bench.send_all(&[("a", "1")]);
    settle(&mut session, &bench).unwrap();
    assert!(lines(&bench).contains(&"a v2 2,6,1".to_owned()), "{:?}", lines(&bench));
}
