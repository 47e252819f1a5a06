use std::path::Path;
use std::time::Duration;

use super::harness::{Bench, number, partition_of, settle};
use crate::error::Kind;
use crate::log::{CommitOutcome, Isolation, Log};
use crate::model::PartitionBatch;
use crate::state::{Marker, TaskState};
use crate::task::Error;
use crate::task::plan::Origin;
use crate::task::session::Session;

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Gives the local store another marker.
fn mark_store(bench: &Bench, change: impl FnOnce(Marker) -> Marker) {
    let (mut state, marker) = TaskState::open(&bench.plan.state_dir, &Default::default()).unwrap();
    state.apply(change(marker.unwrap())).unwrap();
    state.flush().unwrap();
}

#[test]
fn every_record_counts_once_over_sessions_that_end_and_sessions_that_die() {
    let bench = Bench::counting();
    for round in 0..3 {
        bench.send_all(&[("a", "1"), ("b", "10"), ("a", "2")]);
        bench.run_uncommitted();
        bench.run().unwrap();
        assert_eq!(bench.counts().len(), 3 * (round + 1));
    }
    let lines = bench.counts();
    let of = |key: &str| -> Vec<_> {
        let mine = lines.iter().filter(|line| line.starts_with(key));
        mine.map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
    };
    assert_eq!(of("a"), ["1,1", "2,3", "3,4", "4,6", "5,7", "6,9"]);
    assert_eq!(of("b"), ["1,10", "2,20", "3,30"]);
}

#[test]
fn a_record_of_no_bytes_is_written_in_its_epoch() {
    let mut bench = Bench::counting();
    bench.plan.operators.clear();
    bench.plan.sinks[0].from = Origin::Source(0);
    bench.deploy_again();
    bench.send("", "", 1_000);
    bench.run().unwrap();
    assert_eq!(bench.counts(), [""]);
}

#[test]
fn the_changelog_alone_is_enough() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1"), ("b", "2")]);
    bench.run().unwrap();
    TaskState::wipe(&bench.plan.state_dir).unwrap();
    bench.send_all(&[("a", "5"), ("b", "5")]);
    bench.run().unwrap();
    let lines = sorted(bench.counts());
    assert!(lines[1].starts_with("a v1 2,6"), "{lines:?}");
    assert!(lines[3].starts_with("b v1 2,7"), "{lines:?}");
}

#[test]
fn a_store_that_is_not_in_the_chain_is_rebuilt() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    mark_store(&bench, |marker| Marker { header_hash: [9; 32], ..marker });
    bench.send_all(&[("a", "2")]);
    bench.run().unwrap();
    assert!(bench.counts()[1].starts_with("a v1 2,3"), "{:?}", bench.counts());
}

#[test]
fn a_store_is_kept_where_the_changelog_below_it_was_deleted() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    let marker = || TaskState::open(&bench.plan.state_dir, &Default::default()).unwrap().1;
    let (topic, stands) = (&bench.plan.changelog.name, marker());
    assert!(stands.is_some());
    let end = bench.log.end_offset(topic, 0, crate::log::Isolation::ReadUncommitted).unwrap();
    bench.log.delete_records(topic, 0, end).unwrap();
    let error = bench.run().unwrap_err();
    assert!(matches!(error, Error::ChangelogLost { .. }), "{error}");
    assert_eq!(marker(), stands);
}

#[test]
fn a_damaged_store_is_rebuilt_from_the_changelog() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    std::fs::write(bench.plan.state_dir.join("CURRENT"), "no manifest of ours").unwrap();
    bench.send_all(&[("a", "2")]);
    bench.run().unwrap();
    assert!(bench.counts()[1].starts_with("a v1 2,3"), "{:?}", bench.counts());
}

#[test]
fn a_task_without_a_header_stops() {
    let mut bench = Bench::counting();
    bench.plan.job.uid = crate::model::Uid([8; 16]);
    bench.log.delete_topic(&bench.plan.changelog.name).unwrap();
    assert!(matches!(bench.run().unwrap_err(), Error::TopicGone { .. }));
}

#[test]
fn a_changelog_made_again_is_another_topic() {
    let bench = Bench::counting();
    let spec = bench.log.topic(&bench.plan.changelog.name).unwrap().spec;
    bench.log.delete_topic(&spec.name).unwrap();
    bench.log.create_topic(&spec).unwrap();
    assert!(matches!(bench.run().unwrap_err(), Error::TopicChanged { .. }));
}

#[test]
fn a_store_ahead_of_the_changelog_stops_the_task() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    mark_store(&bench, |marker| Marker { epoch: 99, header_offset: 1_000, header_hash: [1; 32], ..marker });
    let error = bench.run().unwrap_err();
    assert!(matches!(error, Error::ChangelogLost { stored: 99, .. }), "{error}");
    assert!(error.to_string().contains("stands at epoch 99 (offset 1000)"), "{error}");
    assert!(error.to_string().contains("ends at offset"), "{error}");
}

/// Takes the last epochs off the changelog, as an unclean election does: the topic is made again with what is left, and
/// the plan goes by its new id.
fn cut_changelog(bench: &mut Bench, epochs: usize) {
    let name = bench.plan.changelog.name.clone();
    let spec = bench.log.topic(&name).unwrap().spec;
    let chunks = bench.batches(&name).remove(0);
    bench.log.delete_topic(&name).unwrap();
    bench.plan.changelog = bench.log.create_topic(&spec).unwrap().into();
    // Each epoch of so few records is one chunk, and one marker.
    for i in 0..chunks.len() - epochs {
        let mut writer = bench.log.writer("mender").unwrap();
        let mut batch = PartitionBatch::new(&name, 0);
        batch.push(-1, -1, None, Some(chunks.values.bytes(i)));
        writer.begin().unwrap();
        writer.append(&batch).unwrap();
        writer.commit().unwrap();
    }
}

/// As a kill leaves it: the store as it was copied, the note as it is.
fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_changelog_that_lost_its_end_is_noticed_though_the_store_lies_behind() {
    let mut bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    let (state, older) = (bench.plan.state_dir.clone(), bench.dir.path().join("older"));
    copy_store(&state, &older);
    bench.send_all(&[("a", "2")]);
    bench.run().unwrap();
    // Start, then claim and epoch of each of the two runs: epoch 4 is the last.
    cut_changelog(&mut bench, 1);
    for is_there in [true, false] {
        TaskState::wipe(&state).unwrap();
        if is_there {
            copy_store(&older, &state);
        }
        let error = bench.run().unwrap_err();
        assert!(matches!(error, Error::ChangelogCutOff { last: 3, noted: 4, .. }), "{error}");
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains("state.committed"), "{error}");
        assert_eq!(bench.counts().len(), 2, "nothing was written");
    }
    // Whoever removes the note has decided that output may come twice.
    std::fs::remove_file(TaskState::note_path(&state)).unwrap();
    bench.run().unwrap();
    let counts = bench.counts();
    let of = |count: &str| counts.iter().filter(|line| line.starts_with(&format!("a v1 {count}"))).count();
    assert_eq!((of("1,1"), of("2,3")), (1, 2), "{counts:?}");
}

#[test]
fn a_changelog_that_went_on_elsewhere_is_no_lost_end() {
    let mut bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    let here = bench.plan.state_dir.clone();
    bench.plan.state_dir = bench.dir.path().join("elsewhere");
    bench.send_all(&[("a", "2")]);
    bench.run().unwrap();
    bench.plan.state_dir = here;
    bench.send_all(&[("a", "3")]);
    bench.run().unwrap();
    assert!(bench.counts()[2].starts_with("a v1 3,6"), "{:?}", bench.counts());
}

#[test]
fn the_note_of_another_task_stops_nobody() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    let mut other = Bench::counting();
    other.plan.job.uid = crate::model::Uid([8; 16]);
    other.deploy_again();
    (0..5).for_each(|_| drop(other.run().unwrap()));
    std::fs::copy(TaskState::note_path(&other.plan.state_dir), TaskState::note_path(&bench.plan.state_dir)).unwrap();
    bench.send_all(&[("a", "2")]);
    bench.run().unwrap();
    assert!(bench.counts()[1].starts_with("a v1 2,3"), "{:?}", bench.counts());
}

#[test]
fn a_store_of_another_task_is_rebuilt_however_far_it_is() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    mark_store(&bench, |marker| Marker { epoch: 99, header_offset: 1_000, task: [1; 32], ..marker });
    bench.send_all(&[("a", "2")]);
    bench.run().unwrap();
    assert!(bench.counts()[1].starts_with("a v1 2,3"), "{:?}", bench.counts());
}

#[test]
fn input_that_was_truncated_stops_the_task_and_names_the_gap() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1"), ("a", "2"), ("a", "3")]);
    bench.log.delete_records("numbers", partition_of("a"), 2).unwrap();
    let error = bench.run().unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("records 0 to 1 are gone"), "{error}");
}

/// Records in an epoch, which ends with a marker in the log.
fn send_in_an_epoch(bench: &Bench, records: &[(&str, &str)]) {
    let mut writer = bench.log.writer("upstream").unwrap();
    writer.begin().unwrap();
    for (key, value) in records {
        writer.append(&number(key, value, 1_000)).unwrap();
    }
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
}

/// Stops as it is asked to.
fn stop(session: &mut Session<'_>) {
    session.context.target.stop();
    session.run().unwrap();
}

#[test]
fn an_input_that_was_wholly_read_may_be_removed_by_retention_to_its_end() {
    for stops in [true, false] {
        let bench = Bench::counting();
        send_in_an_epoch(&bench, &[("a", "1"), ("a", "2")]);
        let end = bench.log.end_offset("numbers", partition_of("a"), Isolation::ReadUncommitted).unwrap();
        let context = bench.context();
        let mut session = Session::recover(&context).unwrap();
        settle(&mut session, &bench).unwrap();
        if stops {
            stop(&mut session);
        } else {
            bench.clock.advance(Duration::from_secs(5));
            session.step().unwrap();
        }
        drop(session);
        bench.log.delete_records("numbers", partition_of("a"), end).unwrap();
        bench.send_all(&[("a", "3")]);
        bench.run().unwrap();
        let counts: Vec<_> = bench.counts().iter().map(|line| line[..6].to_owned()).collect();
        assert_eq!(counts, ["a v1 1", "a v1 2", "a v1 3"], "stops: {stops}");
    }
}

#[test]
fn a_task_that_only_moved_over_gaps_commits_that_once_and_comes_to_rest() {
    let bench = Bench::counting();
    send_in_an_epoch(&bench, &[("a", "1")]);
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    settle(&mut session, &bench).unwrap();
    // What was aborted is never delivered.
    let mut writer = bench.log.writer("upstream").unwrap();
    writer.begin().unwrap();
    writer.append(&number("a", "2", 1_000)).unwrap();
    writer.abort().unwrap();
    let before = session.committer.head.header.epoch;
    session.step().unwrap();
    assert!(session.inbox.inputs.moved_over_gaps() && session.committer.head.header.epoch == before);
    for _ in 0..20 {
        bench.clock.advance(Duration::from_secs(5));
        session.step().unwrap();
    }
    assert_eq!(session.committer.head.header.epoch, before + 1);
    stop(&mut session);
    assert_eq!(session.committer.head.header.epoch, before + 1, "nothing was left to commit");
    assert_eq!(context.status.lock().unwrap().lag, 0);
}

#[test]
fn an_input_made_again_under_its_name_stops_the_task() {
    let bench = Bench::counting();
    let spec = bench.log.topic("numbers").unwrap().spec;
    bench.log.delete_topic("numbers").unwrap();
    bench.log.create_topic(&spec).unwrap();
    assert!(matches!(bench.run().unwrap_err(), Error::TopicChanged { .. }));
}

#[test]
fn a_session_that_was_taken_over_commits_nothing_more() {
    let mut bench = Bench::counting();
    bench.send_all(&[("a", "1")]);
    let context = bench.context();
    let mut zombie = Session::recover(&context).unwrap();
    while !zombie.is_caught_up() {
        zombie.step().unwrap();
    }
    // On another machine: a state directory of its own.
    bench.plan.state_dir = bench.dir.path().join("elsewhere");
    bench.run().unwrap();
    bench.clock.advance(Duration::from_secs(1));
    let error = settle(&mut zombie, &bench).unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
    drop(zombie);
    assert_eq!(bench.counts().len(), 1);
}

#[test]
fn a_foreign_header_in_the_changelog_is_refused() {
    let mut bench = Bench::counting();
    bench.plan.job.uid = crate::model::Uid([8; 16]);
    let error = bench.run().unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("is of job 0707"), "{error}");
}
