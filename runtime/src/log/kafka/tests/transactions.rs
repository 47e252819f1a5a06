//! What only a cluster shows: aborted records under read-uncommitted, groups, topics changed from outside.

use std::time::Duration;

use super::*;
use crate::log::{Assignment, Budget, CommitOutcome};
use crate::model::Uid;

const PLENTY: Budget = Budget { max_records: 10_000, max_bytes: 1 << 30 };
const PATIENCE: Duration = Duration::from_secs(20);

fn spec(name: &str) -> TopicSpec {
    let name = format!("{name}.{}", Uid::random());
    TopicSpec { name, partitions: 1, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 }
}

fn record(topic: &TopicInfo, value: &str) -> PartitionBatch {
    let mut batch = PartitionBatch::new(&topic.spec.name, 0);
    batch.push(-1, 1_000, Some(b"k"), Some(value.as_bytes()));
    batch
}

#[test]
fn an_open_epoch_is_seen_uncommitted_at_once_and_committed_at_its_end() {
    let Some(log) = connect() else { return };
    let topic = log.create_topic(&spec("views")).unwrap();
    let at = [Assignment::new(&topic.spec.name, topic.id, 0, 0)];
    let mut committed = log.reader(Isolation::ReadCommitted).unwrap();
    let mut uncommitted = log.reader(Isolation::ReadUncommitted).unwrap();
    committed.assign(&at).unwrap();
    uncommitted.assign(&at).unwrap();
    let mut writer = log.writer(&topic.spec.name).unwrap();
    let mut batch = PartitionBatch::default();
    writer.begin().unwrap();
    writer.append(&record(&topic, "a")).unwrap();
    assert!(uncommitted.poll(PLENTY, PATIENCE, &mut batch).unwrap());
    assert_eq!(batch.offsets, [0]);
    assert_eq!(log.end_offset(&topic.spec.name, 0, Isolation::ReadCommitted).unwrap(), 0);
    assert_eq!(log.end_offset(&topic.spec.name, 0, Isolation::ReadUncommitted).unwrap(), 1);
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    while !committed.poll(PLENTY, PATIENCE, &mut batch).unwrap() {}
    assert_eq!((batch.offsets.as_slice(), batch.values.bytes(0)), (&[0][..], &b"a"[..]));
}

#[test]
fn positions_are_mirrored_to_a_group_and_read_back_by_its_name() {
    let Some(log) = connect() else { return };
    let topic = log.create_topic(&spec("mirrored")).unwrap();
    log.produce(&record(&topic, "a")).unwrap();
    let group = format!("group.{}", Uid::random());
    assert_eq!(log.group_positions(&group, &topic.spec.name).unwrap(), [None]);
    let next = NextOffset(1);
    log.mirror(&group, &[GroupPosition { topic: topic.spec.name.clone(), partition: 0, next }]).unwrap();
    assert_eq!(log.group_positions(&group, &topic.spec.name).unwrap(), [Some(next)]);
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let refused = Kafka::connect(&Profile::plain("127.0.0.1:1")).map(drop).unwrap_err();
    assert_eq!(refused.kind(), crate::error::Kind::Retry);
    assert!(refused.to_string().contains("127.0.0.1:1"), "{refused}");
}
