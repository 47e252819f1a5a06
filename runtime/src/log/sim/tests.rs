//! The simulated cluster keeps the promises of the seam, at its gentlest and at its worst.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::env::SystemClock;
use crate::log::conformance::{Subject, log_conformance};
use crate::log::{Assignment, Budget, CommitOutcome};

struct Connected(Simulated);

impl Connected {
    fn new(hardship: Hardship) -> Self {
        Self(Simulated::new(7, hardship, SystemClock::shared(), true))
    }
}

impl Subject for Connected {
    fn log(&self) -> &dyn Log {
        &self.0
    }

    /// A process dies; the cluster does not.
    fn restart(&mut self) {
        self.0 = self.0.clone();
    }

    fn compact(&self, topic: &str) -> usize {
        self.0.cluster().compact(topic);
        0
    }
}

mod gentle {
    use super::*;

    log_conformance!(Some(Connected::new(Hardship::default())));
}

/// Markers late, polls short and empty, writes lingering. (No call fails and no commit is in doubt: the suite is about
/// what is kept and read.)
mod harsh {
    use super::*;

    fn harsh() -> Connected {
        Connected::new(Hardship {
            marker_waits: 500,
            empty_poll: 200,
            short_poll: 300,
            lingers: 500,
            ..Hardship::default()
        })
    }

    log_conformance!(Some(harsh()));
}

fn one(value: &str) -> PartitionBatch {
    let mut batch = PartitionBatch::new("t", 0);
    batch.push(-1, 1, None, Some(value.as_bytes()));
    batch
}

fn log(hardship: Hardship) -> Simulated {
    let log = Simulated::new(3, hardship, SystemClock::shared(), false);
    let spec = TopicSpec { name: "t".into(), partitions: 1, cleanup: Cleanup::Delete, max_record_bytes: 1_000 };
    log.create_topic(&spec).unwrap();
    log
}

fn write(writer: &mut dyn Writer, value: &str) -> CommitOutcome {
    writer.begin().unwrap();
    writer.append(&one(value)).unwrap();
    writer.commit().unwrap()
}

/// What a reader is shown up to the end of now.
fn shown(log: &Simulated, isolation: Isolation) -> Vec<String> {
    let (id, end) = (log.topic("t").unwrap().id, log.end_offset("t", 0, isolation).unwrap());
    let mut reader = log.reader(isolation).unwrap();
    reader.assign(&[Assignment::new("t", id, 0, 0)]).unwrap();
    let (mut batch, mut seen) = (PartitionBatch::default(), Vec::new());
    while reader.position("t", 0).unwrap() < end {
        reader.poll(Budget { max_records: 100, max_bytes: 1 << 20 }, Duration::ZERO, &mut batch).unwrap();
        seen.extend((0..batch.len()).map(|i| String::from_utf8_lossy(batch.values.bytes(i)).into_owned()));
    }
    seen
}

#[test]
fn records_of_an_open_and_of_an_aborted_transaction_stand_there_for_who_wants_to_see_them() {
    let log = log(Hardship::default());
    let mut writer = log.writer("id").unwrap();
    writer.begin().unwrap();
    writer.append(&one("open")).unwrap();
    log.produce(&one("plain")).unwrap();
    assert_eq!(shown(&log, Isolation::ReadUncommitted), ["open", "plain"]);
    assert_eq!(log.end_offset("t", 0, Isolation::ReadCommitted).unwrap(), 0, "it holds readers back");
    drop(log.writer("id").unwrap());
    assert_eq!(shown(&log, Isolation::ReadUncommitted), ["open", "plain"]);
    assert_eq!(shown(&log, Isolation::ReadCommitted), ["plain"]);
}

#[test]
fn after_a_takeover_a_commit_in_doubt_is_done_or_not_and_never_done_later() {
    let (mut done, mut not_done) = (0, 0);
    for _ in 0..50 {
        let log = log(Hardship { indefinite: 1_000, marker_waits: 900, ..Hardship::default() });
        log.cluster().dice = crate::env::simulated::Dice::new(done * 100 + not_done);
        let mut writer = log.writer("id").unwrap();
        assert!(matches!(write(&mut *writer, "in doubt"), CommitOutcome::Indefinite(_)));
        assert!(writer.begin().is_err(), "it is spent");
        drop(log.writer("id").unwrap());
        let after = shown(&log, Isolation::ReadCommitted);
        (0..100).for_each(|_| log.cluster().tick());
        assert_eq!(shown(&log, Isolation::ReadCommitted), after);
        if after.is_empty() { not_done += 1 } else { done += 1 }
    }
    assert!(done > 5 && not_done > 5, "{done} {not_done}");
}

#[test]
fn a_transaction_that_is_open_too_long_is_aborted_and_its_writer_fenced() {
    let clock = Arc::new(crate::env::simulated::JumpingClock::default());
    let hardship = Hardship { transaction_timeout: Duration::from_secs(10), ..Hardship::default() };
    let log = Simulated::new(3, hardship, clock.clone(), false);
    let spec = TopicSpec { name: "t".into(), partitions: 1, cleanup: Cleanup::Delete, max_record_bytes: 1_000 };
    log.create_topic(&spec).unwrap();
    let mut writer = log.writer("id").unwrap();
    writer.begin().unwrap();
    writer.append(&one("late")).unwrap();
    clock.pass(Duration::from_secs(11));
    assert_eq!(log.end_offset("t", 0, Isolation::ReadCommitted).unwrap(), 2);
    assert!(matches!(writer.commit(), Err(Error::Fenced { .. })));
}

#[test]
fn a_partition_that_was_cut_back_and_has_grown_anew_is_told_from_the_old_one() {
    let log = log(Hardship::default());
    let id = log.topic("t").unwrap().id;
    for value in ["a", "b", "c"] {
        log.produce(&one(value)).unwrap();
    }
    log.cluster().partition("t", 0).unwrap().cut_back(1);
    for value in ["x", "y", "z"] {
        log.produce(&one(value)).unwrap();
    }
    let mut reader = log.reader(Isolation::ReadCommitted).unwrap();
    let at = |offset, leader_epoch| Assignment { leader_epoch, ..Assignment::new("t", id, 0, offset) };
    assert!(matches!(reader.assign(&[at(2, Some(0))]), Err(Error::Diverged { offset: 2, .. })));
    reader.assign(&[at(1, Some(0))]).unwrap();
    reader.assign(&[at(2, Some(1))]).unwrap();
}
