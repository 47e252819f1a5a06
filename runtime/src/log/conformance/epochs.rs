//! Rules of epochs: all or nothing.

use super::*;
use crate::log::Error;

pub fn an_epoch_appears_at_its_commit_and_not_before(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    let mut writer = log.writer(&new_id()).unwrap();
    let mut reader = reader(log, &[at(&topic, 0, 0), at(&topic, 1, 0)]);
    let mut batch = PartitionBatch::default();
    writer.begin().unwrap();
    writer.append(&values(&topic, 0, &["a"])).unwrap();
    writer.append(&values(&topic, 1, &["b"])).unwrap();
    assert!(!reader.poll(PLENTY, Duration::from_millis(20), &mut batch).unwrap());
    assert_eq!(log.end_offset(&topic.spec.name, 0, Isolation::ReadCommitted).unwrap(), 0);
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a"]);
    assert_eq!(texts(&read_all(log, &topic, 1)), ["b"]);
}

pub fn an_epoch_burns_a_marker_offset_in_each_partition_that_it_touched(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 3);
    let mut writer = log.writer(&new_id()).unwrap();
    commit(&mut *writer, &[values(&topic, 0, &["a", "b"]), values(&topic, 1, &["c"])]);
    commit(&mut *writer, &[values(&topic, 0, &["d"])]);
    assert_eq!(read_all(log, &topic, 0).offsets, [0, 1, 3]);
    assert_eq!([0, 1, 2].map(|partition| settled_end(log, &topic, partition)), [5, 2, 0]);
}

pub fn a_writer_knows_where_its_last_epoch_stands(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    let mut writer = log.writer(&new_id()).unwrap();
    let first = |writer: &dyn Writer| [0, 1].map(|partition| writer.first_offset(&topic.spec.name, partition));
    commit(&mut *writer, &[values(&topic, 0, &["a", "b"]), values(&topic, 0, &["c"])]);
    assert_eq!(first(&*writer), [Some(0), None]);
    commit(&mut *writer, &[values(&topic, 1, &["x"]), values(&topic, 0, &["d"])]);
    assert_eq!(first(&*writer), [Some(4), Some(0)]);
}

pub fn an_epoch_takes_batches_of_several_calls_in_their_order(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    let mut writer = log.writer(&new_id()).unwrap();
    let parts = [(0, "a"), (1, "x"), (0, "b"), (0, "c"), (1, "y")];
    commit(&mut *writer, &parts.map(|(partition, value)| values(&topic, partition, &[value])));
    assert_eq!(shown(&read_all(log, &topic, 0)), [(0, "a".into()), (1, "b".into()), (2, "c".into())]);
    assert_eq!(shown(&read_all(log, &topic, 1)), [(0, "x".into()), (1, "y".into())]);
}

pub fn an_aborted_epoch_leaves_no_records(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut writer = log.writer(&new_id()).unwrap();
    writer.begin().unwrap();
    writer.append(&values(&topic, 0, &["never"])).unwrap();
    writer.abort().unwrap();
    commit(&mut *writer, &[values(&topic, 0, &["a"])]);
    let read = read_all(log, &topic, 0);
    assert_eq!(texts(&read), ["a"]);
    assert!(read.offsets[0] >= 2, "an aborted record and its marker have offsets of their own: {:?}", read.offsets);
}

pub fn an_epoch_that_was_open_when_the_process_died_is_never_seen(subject: &mut dyn Subject) {
    let (id, topic) = (new_id(), new_topic(subject.log(), 1));
    let mut writer = subject.log().writer(&id).unwrap();
    commit(&mut *writer, &[values(&topic, 0, &["a"])]);
    writer.begin().unwrap();
    writer.append(&values(&topic, 0, &["never"])).unwrap();
    drop(writer);
    subject.restart();
    let mut writer = subject.log().writer(&id).unwrap();
    commit(&mut *writer, &[values(&topic, 0, &["b"])]);
    assert_eq!(texts(&read_all(subject.log(), &topic, 0)), ["a", "b"]);
}

pub fn a_committed_epoch_survives_a_restart(subject: &mut dyn Subject) {
    let topic = new_topic(subject.log(), 2);
    let mut writer = subject.log().writer(&new_id()).unwrap();
    commit(&mut *writer, &[values(&topic, 0, &["a"]), values(&topic, 1, &["b"])]);
    drop(writer);
    settled_end(subject.log(), &topic, 0);
    subject.restart();
    let log = subject.log();
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a"]);
    assert_eq!(texts(&read_all(log, &topic, 1)), ["b"]);
    assert_eq!(log.produce(&values(&topic, 0, &["c"])).unwrap(), 2);
}

pub fn an_epoch_without_records_commits(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut writer = log.writer(&new_id()).unwrap();
    commit(&mut *writer, &[]);
    commit(&mut *writer, &[values(&topic, 0, &[])]);
    commit(&mut *writer, &[values(&topic, 0, &["a"])]);
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a"]);
}

pub fn epochs_of_two_ids_do_not_mix_in_a_partition(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let (mut one, mut two) = (log.writer(&new_id()).unwrap(), log.writer(&new_id()).unwrap());
    one.begin().unwrap();
    two.begin().unwrap();
    one.append(&values(&topic, 0, &["one"])).unwrap();
    two.append(&values(&topic, 0, &["two"])).unwrap();
    one.append(&values(&topic, 0, &["one more"])).unwrap();
    assert!(matches!(two.commit().unwrap(), CommitOutcome::Committed));
    one.abort().unwrap();
    assert_eq!(texts(&read_all(log, &topic, 0)), ["two"]);
}

pub fn a_writer_goes_on_after_a_refused_record(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let large = "x".repeat(topic.spec.max_record_bytes as usize + 1);
    let mut writer = log.writer(&new_id()).unwrap();
    writer.begin().unwrap();
    writer.append(&values(&topic, 0, &["a"])).unwrap();
    let refused = writer.append(&values(&topic, 0, &["never", &large]));
    assert!(matches!(refused, Err(Error::RecordTooLarge { .. })), "{refused:?}");
    writer.append(&values(&topic, 0, &["b"])).unwrap();
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a", "b"]);
}

pub fn calls_out_of_order_are_refused(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut writer = log.writer(&new_id()).unwrap();
    assert!(writer.append(&values(&topic, 0, &["a"])).is_err());
    assert!(writer.commit().is_err());
    assert!(writer.abort().is_err());
    writer.begin().unwrap();
    assert!(writer.begin().is_err());
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    assert!(writer.commit().is_err());
    assert_eq!(end(log, &topic, 0), 0);
}
