//! Rules of what a record keeps, and which records a topic takes.

use super::*;
use crate::log::Error;

pub fn records_come_back_as_they_were_written(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut written = PartitionBatch::new(&topic.spec.name, 0);
    let header = |name: &'static str, value: Option<&'static [u8]>| (name.as_bytes(), value);
    written.push(0, 1_700_000_000_000, Some(b"key"), Some(b"value"));
    written.push(1, 1_600_000_000_000, Some(b""), Some(b""));
    // Time 0 is the one that Kafka's client takes for "now".
    written.push(2, 1, None, None);
    let two = [header("a", Some(b"1")), header("a", None)];
    written.push_with_headers(3, 1_700_000_000_001, Some(&[0, 255]), None, two.into_iter());
    written.push(4, 1_700_000_000_002, None, Some(&[0; 500]));
    written.push_with_headers(5, 1_700_000_000_003, None, Some(b"v"), [header("", Some(b""))].into_iter());
    log.produce(&written).unwrap();
    let read = read_all(log, &topic, 0);
    assert_eq!(read.offsets, written.offsets);
    assert_eq!(read.timestamps_ms, written.timestamps_ms);
    for i in 0..written.len() {
        assert_eq!(read.keys.get(i), written.keys.get(i), "key {i}");
        assert_eq!(read.values.get(i), written.values.get(i), "value {i}");
        assert!(read.headers.of(i).eq(written.headers.of(i)), "headers {i}");
    }
}

pub fn a_negative_timestamp_becomes_the_append_time(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let mut batch = PartitionBatch::new(&topic.spec.name, 0);
    batch.push(0, -1, None, Some(b"now"));
    batch.push(0, 77, None, Some(b"then"));
    log.produce(&batch).unwrap();
    let read = read_all(log, &topic, 0);
    assert!(read.timestamps_ms[0] > 1_500_000_000_000, "{}", read.timestamps_ms[0]);
    assert_eq!(read.timestamps_ms[1], 77);
}

pub fn plain_records_get_dense_offsets(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    assert_eq!(log.produce(&values(&topic, 0, &["a", "b"])).unwrap(), 0);
    assert_eq!(log.produce(&values(&topic, 1, &["c"])).unwrap(), 0);
    assert_eq!(log.produce(&values(&topic, 0, &["d"])).unwrap(), 2);
    assert_eq!(read_all(log, &topic, 0).offsets, [0, 1, 2]);
    assert_eq!(read_all(log, &topic, 1).offsets, [0]);
}

pub fn a_record_over_the_limit_is_refused_before_anything_of_its_batch_is_added(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let max = topic.spec.max_record_bytes as usize;
    let large = "x".repeat(max + 1);
    let refused = log.produce(&values(&topic, 0, &["a", &large, "b"]));
    assert!(matches!(refused, Err(Error::RecordTooLarge { bytes, .. }) if bytes > max), "{refused:?}");
    assert_eq!(end(log, &topic, 0), 0);
    // Many records that are too large only together are fine.
    let fits = "x".repeat(max / 2);
    log.produce(&values(&topic, 0, &[&fits, &fits, &fits])).unwrap();
    assert_eq!(read_all(log, &topic, 0).len(), 3);
}

pub fn a_compacted_topic_refuses_a_record_without_a_key(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = log.create_topic(&TopicSpec { cleanup: Cleanup::Compact, ..spec(1) }).unwrap();
    let refused = log.produce(&values(&topic, 0, &["a"]));
    assert!(matches!(refused, Err(Error::InvalidRecord { .. })), "{refused:?}");
    log.produce(&keyed(&topic, &[("", Some("an empty key is a key"))])).unwrap();
}

pub fn many_records_at_once_come_back_whole(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = log.create_topic(&TopicSpec { max_record_bytes: 1 << 20, ..spec(1) }).unwrap();
    let mut batch = PartitionBatch::new(&topic.spec.name, 0);
    for i in 0..40_000_u64 {
        batch.push(-1, 1 + i as i64, Some(&i.to_le_bytes()), Some(&vec![i as u8; (i % 200) as usize]));
    }
    commit(&mut *log.writer(&new_id()).unwrap(), &[batch.clone()]);
    let read = read_all(log, &topic, 0);
    assert_eq!(read.offsets, (0..40_000).collect::<Vec<_>>());
    assert_eq!((read.keys, read.values), (batch.keys, batch.values));
    assert_eq!(read.timestamps_ms, batch.timestamps_ms);
}
