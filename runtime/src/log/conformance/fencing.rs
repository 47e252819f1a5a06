//! Rules of transactional ids: one owner, the newest.

use super::*;
use crate::log::Error;

pub fn a_takeover_fences_the_older_writer(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let id = new_id();
    let fenced = |result: Result<(), Error>, call: &str| {
        assert!(matches!(&result, Err(Error::Fenced { .. })), "{call}: {result:?}");
    };
    let mut idle = log.writer(&id).unwrap();
    let mut open = log.writer(&id).unwrap();
    // A client may gather records before it learns of it; its commit fails at the latest.
    let write = |writer: &mut dyn Writer| {
        writer.append(&values(&topic, 0, &["never"])).and_then(|()| writer.commit().map(drop))
    };
    fenced(idle.begin().and_then(|()| write(&mut *idle)), "begin, append or commit");
    open.begin().unwrap();
    let mut newest = log.writer(&id).unwrap();
    fenced(write(&mut *open), "append or commit");
    commit(&mut *newest, &[values(&topic, 0, &["a"])]);
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a"]);
}

pub fn a_takeover_aborts_what_was_open(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let id = new_id();
    let mut old = log.writer(&id).unwrap();
    old.begin().unwrap();
    old.append(&values(&topic, 0, &["never"])).unwrap();
    let mut new = log.writer(&id).unwrap();
    commit(&mut *new, &[values(&topic, 0, &["a"])]);
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a"]);
    assert_eq!(log.end_offset(&topic.spec.name, 0, Isolation::ReadCommitted).unwrap(), end(log, &topic, 0));
}

pub fn a_commit_that_was_fenced_leaves_nothing(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    let id = new_id();
    let mut old = log.writer(&id).unwrap();
    old.begin().unwrap();
    old.append(&values(&topic, 0, &["never"])).unwrap();
    old.append(&values(&topic, 1, &["never"])).unwrap();
    let _new = log.writer(&id).unwrap();
    assert!(matches!(old.commit(), Err(Error::Fenced { .. })));
    assert!(read_all(log, &topic, 0).is_empty());
    assert!(read_all(log, &topic, 1).is_empty());
}

pub fn writers_of_different_ids_leave_each_other_alone(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut one = log.writer(&new_id()).unwrap();
    one.begin().unwrap();
    one.append(&values(&topic, 0, &["a"])).unwrap();
    let mut two = log.writer(&new_id()).unwrap();
    assert!(matches!(one.commit().unwrap(), CommitOutcome::Committed));
    commit(&mut *two, &[values(&topic, 0, &["b"])]);
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a", "b"]);
}

/// What recovery rests on: after the takeover, the end under read-uncommitted can be reached under
/// read-committed, and everything that the id ever committed lies before it.
pub fn what_an_id_committed_is_readable_when_its_takeover_returns(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let id = new_id();
    let mut expected = Vec::new();
    for round in 0..10 {
        let mut writer = log.writer(&id).unwrap();
        assert_eq!(texts(&read_all(log, &topic, 0)), expected);
        let value = round.to_string();
        commit(&mut *writer, &[values(&topic, 0, &[&value])]);
        expected.push(value);
    }
}
