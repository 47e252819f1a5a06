//! Rules of readers: positions, budgets, turns and waiting.

use super::*;
use crate::log::Error;

pub fn reading_starts_at_exactly_the_offset_asked_for(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut writer = log.writer(&new_id()).unwrap();
    log.produce(&values(&topic, 0, &["0", "1", "2"])).unwrap();
    commit(&mut *writer, &[values(&topic, 0, &["3", "4"])]);
    settled_end(log, &topic, 0);
    log.produce(&values(&topic, 0, &["6"])).unwrap();
    let all = [(0, "0"), (1, "1"), (2, "2"), (3, "3"), (4, "4"), (6, "6")];
    for from in 0..=7 {
        let expected: Vec<_> = all.iter().filter(|(o, _)| *o >= from).map(|(o, v)| (*o, (*v).to_owned())).collect();
        assert_eq!(shown(&read_from(log, &topic, 0, from)), expected, "from {from}");
    }
}

pub fn a_poll_keeps_to_its_budget_and_always_brings_a_record(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let hundred = "x".repeat(100);
    for _ in 0..4 {
        log.produce(&values(&topic, 0, &[hundred.as_str(); 5])).unwrap();
    }
    for (budget, at_most) in [
        (Budget { max_records: 3, max_bytes: 1 << 20 }, 3),
        (Budget { max_records: 1, max_bytes: 1 << 20 }, 1),
        (Budget { max_records: 100, max_bytes: 799 }, 7),
        (Budget { max_records: 100, max_bytes: 99 }, 1),
        (Budget { max_records: 100, max_bytes: 0 }, 1),
    ] {
        let mut reader = reader(log, &[at(&topic, 0, 0)]);
        let mut batch = PartitionBatch::default();
        let mut offsets = Vec::new();
        while offsets.len() < 20 {
            assert!(reader.poll(budget, PATIENCE, &mut batch).unwrap(), "{budget:?} after {offsets:?}");
            assert!((1..=at_most).contains(&batch.len()), "{budget:?} brought {}", batch.len());
            offsets.extend_from_slice(&batch.offsets);
        }
        assert_eq!(offsets, (0..20).collect::<Vec<_>>(), "{budget:?}");
    }
}

pub fn partitions_take_turns(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 3);
    for partition in 0..3 {
        log.produce(&values(&topic, partition, &["x"; 30])).unwrap();
        read_all(log, &topic, partition);
    }
    let mut reader = reader(log, &[at(&topic, 0, 0), at(&topic, 1, 0), at(&topic, 2, 0)]);
    let mut batch = PartitionBatch::default();
    let one = Budget { max_records: 1, max_bytes: 1 };
    // Turns are taken by partitions that have something: a client that fetches is given the time to, and a partition
    // that has shown its first record waits for the others.
    let name = &topic.spec.name;
    for _ in 0..3 {
        assert!(reader.poll(one, PATIENCE, &mut batch).unwrap());
        reader.pause(name, batch.partition, true).unwrap();
    }
    (0..3).for_each(|partition| reader.pause(name, partition, false).unwrap());
    let mut polls = [0; 3];
    for _ in 0..12 {
        assert!(reader.poll(one, PATIENCE, &mut batch).unwrap());
        polls[batch.partition as usize] += 1;
    }
    assert!(polls.iter().all(|&n| n >= 2), "one partition starved: {polls:?}");
}

pub fn a_paused_partition_brings_nothing_and_keeps_its_position(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    let name = &topic.spec.name;
    for partition in 0..2 {
        log.produce(&values(&topic, partition, &["a", "b"])).unwrap();
        read_all(log, &topic, partition);
    }
    let mut reader = reader(log, &[at(&topic, 0, 0), at(&topic, 1, 0)]);
    reader.pause(name, 0, true).unwrap();
    let mut batch = PartitionBatch::default();
    assert!(reader.poll(PLENTY, PATIENCE, &mut batch).unwrap());
    assert_eq!(batch.partition, 1);
    while reader.poll(PLENTY, Duration::ZERO, &mut batch).unwrap() {
        assert_eq!(batch.partition, 1);
    }
    assert_eq!(reader.position(name, 0), Some(0));
    reader.pause(name, 0, false).unwrap();
    assert!(reader.poll(PLENTY, PATIENCE, &mut batch).unwrap());
    assert_eq!((batch.partition, batch.offsets[0]), (0, 0));
    assert!(reader.pause(name, 7, true).is_err());
}

pub fn a_poll_waits_for_records_that_come_later(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut reader = reader(log, &[at(&topic, 0, 0)]);
    let mut batch = PartitionBatch::default();
    assert!(!reader.poll(PLENTY, Duration::from_millis(1), &mut batch).unwrap());
    assert!(batch.is_empty());
    std::thread::scope(|scope| {
        scope.spawn(|| log.produce(&values(&topic, 0, &["late"])).unwrap());
        assert!(reader.poll(PLENTY, PATIENCE, &mut batch).unwrap());
    });
    assert_eq!(texts(&batch), ["late"]);
}

pub fn a_poll_that_waits_is_ended_by_a_waker_whenever_it_wakes(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut reader = reader(log, &[at(&topic, 0, 0)]);
    let mut batch = PartitionBatch::default();
    let began = std::time::Instant::now();
    // Until it has heard that there is nothing.
    while reader.poll(PLENTY, Duration::from_millis(100), &mut batch).unwrap() {}
    let waker = reader.waker();
    waker.wake();
    assert!(!reader.poll(PLENTY, PATIENCE, &mut batch).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        assert!(!reader.poll(PLENTY, PATIENCE, &mut batch).unwrap());
    });
    assert!(began.elapsed() < PATIENCE, "nobody woke it");
}

pub fn the_position_moves_over_markers_and_gaps_to_the_end(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let name = &topic.spec.name;
    let mut writer = log.writer(&new_id()).unwrap();
    commit(&mut *writer, &[values(&topic, 0, &["a"])]);
    writer.begin().unwrap();
    writer.append(&values(&topic, 0, &["never"])).unwrap();
    writer.abort().unwrap();
    let end = settled_end(log, &topic, 0);
    assert!(end >= 2, "no marker was burnt");
    let mut reader = reader(log, &[at(&topic, 0, 0)]);
    assert_eq!(reader.position(name, 0), Some(0));
    assert_eq!(reader.position(name, 1), None);
    move_to(&mut *reader, name, end);
    // And from exactly there it goes on.
    log.produce(&values(&topic, 0, &["b"])).unwrap();
    assert_eq!(shown(&read_from(log, &topic, 0, end)), [(end, "b".to_owned())]);
}

/// Polls, and throws away what comes, until the reader's position in partition 0 is `end`.
fn move_to(reader: &mut dyn Reader, topic: &str, end: i64) {
    let start = Instant::now();
    while reader.position(topic, 0) != Some(end) {
        reader.poll(PLENTY, Duration::from_millis(10), &mut PartitionBatch::default()).unwrap();
        assert!(start.elapsed() < PATIENCE, "stands at {:?}, the end is {end}", reader.position(topic, 0));
    }
}

pub fn a_reader_knows_the_end_that_it_has_reached(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    commit(&mut *log.writer(&new_id()).unwrap(), &[values(&topic, 0, &["a", "b"])]);
    let mut reader = reader(log, &[at(&topic, 0, 0)]);
    let mut batch = PartitionBatch::default();
    let one = Budget { max_records: 1, ..PLENTY };
    assert!(reader.poll(one, PATIENCE, &mut batch).unwrap());
    let name = &topic.spec.name;
    assert!(reader.end(name, 0) > reader.position(name, 0), "one record is left");
    move_to(&mut *reader, name, 3);
    assert_eq!(reader.end(name, 0), Some(3));
}

pub fn an_offset_that_is_not_held_is_an_error_and_no_reset(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    log.produce(&values(&topic, 0, &["a", "b", "c"])).unwrap();
    read_all(log, &topic, 0);
    log.delete_records(&topic.spec.name, 0, 1).unwrap();
    for offset in [-1, 0, 4, i64::MAX] {
        let mut reader = log.reader(Isolation::ReadCommitted).unwrap();
        // A client that learns it from the cluster may say so at the first poll.
        let assigned = reader.assign(&[at(&topic, 0, offset)]);
        let told = assigned.and_then(|()| reader.poll(PLENTY, PATIENCE, &mut PartitionBatch::default()).map(drop));
        assert!(matches!(told, Err(Error::OffsetOutOfRange { offset: o, .. }) if o == offset), "{told:?}");
    }
}

pub fn a_new_assignment_replaces_the_old_one(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    log.produce(&values(&topic, 0, &["a"; 10])).unwrap();
    log.produce(&values(&topic, 1, &["b", "c"])).unwrap();
    let mut reader = reader(log, &[at(&topic, 0, 0)]);
    let mut batch = PartitionBatch::default();
    assert!(reader.poll(Budget { max_records: 1, max_bytes: 1 }, PATIENCE, &mut batch).unwrap());
    reader.assign(&[at(&topic, 1, 1)]).unwrap();
    assert_eq!(reader.position(&topic.spec.name, 0), None);
    assert!(reader.poll(PLENTY, PATIENCE, &mut batch).unwrap());
    assert_eq!((batch.partition, shown(&batch)), (1, vec![(1, "c".to_owned())]));
}
