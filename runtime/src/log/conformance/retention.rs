//! Rules of truncation, time look-up and compaction.

use super::*;
use crate::log::Error;

pub fn truncation_moves_the_start_and_removes_what_lies_before(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let name = &topic.spec.name;
    for pair in [["0", "1"], ["2", "3"], ["4", "5"]] {
        log.produce(&values(&topic, 0, &pair)).unwrap();
    }
    read_all(log, &topic, 0);
    // Inside a batch, back again (nothing happens), and at a border.
    for (offset, start) in [(3, 3), (1, 3), (4, 4)] {
        log.delete_records(name, 0, offset).unwrap();
        assert_eq!(log.start_offset(name, 0).unwrap(), start);
        let expected: Vec<String> = (start..6).map(|o| o.to_string()).collect();
        assert_eq!(texts(&read_all(log, &topic, 0)), expected);
    }
}

pub fn truncation_behind_the_end_is_refused(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    log.produce(&values(&topic, 0, &["a"])).unwrap();
    read_all(log, &topic, 0);
    let refused = log.delete_records(&topic.spec.name, 0, 2);
    assert!(matches!(refused, Err(Error::OffsetOutOfRange { offset: 2, .. })), "{refused:?}");
    assert_eq!(texts(&read_all(log, &topic, 0)), ["a"]);
}

pub fn a_reader_that_truncation_has_passed_is_told(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    log.produce(&values(&topic, 0, &["a", "b", "c"])).unwrap();
    read_all(log, &topic, 0);
    let mut reader = reader(log, &[at(&topic, 0, 1)]);
    log.delete_records(&topic.spec.name, 0, 2).unwrap();
    // A client that had fetched them already may show the records; what it may not do is go on behind them in silence.
    let mut batch = PartitionBatch::default();
    let told = reader.poll(PLENTY, PATIENCE, &mut batch);
    let had_them = told.is_ok() && batch.offsets == [1, 2];
    assert!(had_them || matches!(told, Err(Error::OffsetOutOfRange { offset: 1, start: 2, .. })), "{told:?}");
}

pub fn truncation_survives_a_restart(subject: &mut dyn Subject) {
    let topic = new_topic(subject.log(), 1);
    subject.log().produce(&values(&topic, 0, &["a", "b", "c"])).unwrap();
    read_all(subject.log(), &topic, 0);
    subject.log().delete_records(&topic.spec.name, 0, 2).unwrap();
    subject.restart();
    let log = subject.log();
    assert_eq!(log.start_offset(&topic.spec.name, 0).unwrap(), 2);
    assert_eq!(shown(&read_all(log, &topic, 0)), [(2, "c".to_owned())]);
}

pub fn offsets_are_never_given_twice_after_truncation_of_everything(subject: &mut dyn Subject) {
    let topic = new_topic(subject.log(), 1);
    subject.log().produce(&values(&topic, 0, &["a", "b"])).unwrap();
    read_all(subject.log(), &topic, 0);
    subject.log().delete_records(&topic.spec.name, 0, 2).unwrap();
    assert!(read_all(subject.log(), &topic, 0).is_empty());
    subject.restart();
    assert_eq!(subject.log().produce(&values(&topic, 0, &["c"])).unwrap(), 2);
}

pub fn an_offset_is_found_by_its_timestamp(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    for times in [[100, 300], [200, 400], [350, 500]] {
        let mut batch = PartitionBatch::new(&topic.spec.name, 0);
        times.iter().for_each(|&time| batch.push(-1, time, None, Some(b"x")));
        log.produce(&batch).unwrap();
    }
    read_all(log, &topic, 0);
    let find = |time| log.offset_for_timestamp(&topic.spec.name, 0, time).unwrap();
    assert_eq!([0, 100, 101, 300, 301, 400, 401, 500, 501].map(find), [0, 0, 1, 1, 3, 3, 5, 5, 6]);
    log.delete_records(&topic.spec.name, 0, 2).unwrap();
    assert_eq!([0, 100, 301].map(find), [2, 2, 3]);
}

pub fn compaction_keeps_the_newest_record_of_each_key_at_its_offset(subject: &mut dyn Subject) {
    let topic = subject.log().create_topic(&TopicSpec { cleanup: Cleanup::Compact, ..spec(1) }).unwrap();
    let log = subject.log();
    log.produce(&keyed(&topic, &[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))])).unwrap();
    log.produce(&keyed(&topic, &[("c", Some("4")), ("b", None)])).unwrap();
    log.produce(&keyed(&topic, &[("d", Some("5")), ("a", Some("6"))])).unwrap();
    read_all(log, &topic, 0);
    let appended = subject.compact(&topic.spec.name);
    let kept = |subject: &dyn Subject| {
        let read = read_all(subject.log(), &topic, 0);
        let key = |i| String::from_utf8_lossy(read.keys.bytes(i)).into_owned();
        (0..read.len() - appended).map(|i| (read.offsets[i], key(i))).collect::<Vec<_>>()
    };
    let expected = [(3, "c"), (4, "b"), (5, "d"), (6, "a")].map(|(offset, key)| (offset, key.to_owned()));
    assert_eq!(kept(subject), expected, "a tombstone stays for a while");
    subject.restart();
    assert_eq!(kept(subject), expected);
    assert_eq!(subject.log().produce(&keyed(&topic, &[("e", Some("7"))])).unwrap(), 7 + appended as i64);
}

pub fn a_reader_crosses_what_compaction_removed(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = log.create_topic(&TopicSpec { cleanup: Cleanup::Compact, ..spec(1) }).unwrap();
    for round in 0..10 {
        let value = round.to_string();
        log.produce(&keyed(&topic, &[("a", Some(&value)), ("b", Some(&value))])).unwrap();
    }
    let mut reader = reader(log, &[at(&topic, 0, 0)]);
    let mut batch = PartitionBatch::default();
    assert!(reader.poll(Budget { max_records: 3, max_bytes: 1 << 20 }, PATIENCE, &mut batch).unwrap());
    read_all(log, &topic, 0);
    let end = 20 + subject.compact(&topic.spec.name) as i64;
    let mut last = batch.offsets.last().copied().unwrap();
    while last < 19 {
        assert!(reader.poll(PLENTY, PATIENCE, &mut batch).unwrap());
        assert!(batch.offsets[0] > last, "went back from {last} to {:?}", batch.offsets);
        last = batch.offsets.last().copied().unwrap();
    }
    for from in 0..20 {
        assert_eq!(read_from(log, &topic, 0, from).offsets, (from.max(18)..end).collect::<Vec<_>>());
    }
}
