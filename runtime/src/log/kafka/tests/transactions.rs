//! What only a cluster shows: aborted records under read-uncommitted, groups, topics changed from outside.

use std::time::{Duration, Instant};

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

#[test]
fn partitions_that_are_added_are_written_to_and_read_by_clients_that_knew_fewer() {
    let Some(log) = connect() else { return };
    let target = Target::for_tests().unwrap();
    let topic = log.create_topic(&spec("grown")).unwrap();
    log.produce(&record(&topic, "a")).unwrap();
    target.tool("TopicCommand", &["--alter", "--topic", &topic.spec.name, "--partitions", "3"]).unwrap();
    let mut batch = record(&topic, "b");
    batch.partition = 2;
    assert_eq!(log.produce(&batch).unwrap(), 0);
    let mut reader = log.reader(Isolation::ReadCommitted).unwrap();
    reader.assign(&[Assignment::new(&topic.spec.name, topic.id, 2, 0)]).unwrap();
    while !reader.poll(PLENTY, PATIENCE, &mut batch).unwrap() {}
    assert_eq!(batch.values.bytes(0), b"b");
    batch.partition = 3;
    assert!(matches!(log.produce(&batch), Err(Error::UnknownPartition { partitions: 3, .. })));
}

#[test]
fn a_topic_of_forebays_own_is_refused_with_the_command_that_sets_its_setting_back() {
    let Some(log) = connect() else { return };
    let target = Target::for_tests().unwrap();
    let name = format!("__forebay.{}", Uid::random());
    let kept = TopicSpec { name: name.clone(), partitions: 2, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
    log.create_topic(&kept).unwrap();
    log.check_internal(&name, 2, Cleanup::Delete).unwrap();
    let wrong = |partitions, cleanup| log.check_internal(&name, partitions, cleanup).unwrap_err().to_string();
    assert!(wrong(3, Cleanup::Delete).contains("number of partitions is 2, and must be 3"));
    assert!(wrong(2, Cleanup::Compact).contains("cleanup.policy is delete, and must be compact"));
    for (setting, value) in
        [("retention.ms", "1000000"), ("retention.bytes", "1000000"), ("unclean.leader.election.enable", "true")]
    {
        let config = |change: &str| {
            let to = ["--alter", "--entity-type", "topics", "--entity-name", &name, "--add-config", change];
            target.tool("kafka.admin.ConfigCommand", &to).unwrap();
        };
        config(&format!("{setting}={value}"));
        let check = || log.check_internal(&name, 2, Cleanup::Delete);
        // The controller has the setting when its tool ends; the broker that is asked hears of it a little later.
        eventually(|| check().is_err());
        let refused = wrong(2, Cleanup::Delete);
        assert!(refused.contains(&format!("{setting} is {value}")), "{refused}");
        let (_, back) = refused.split_once("--add-config ").unwrap();
        config(back.trim_end_matches('`'));
        eventually(|| check().is_ok());
    }
}

fn eventually(is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(30), "it does not come to be so");
        // sleep: between two looks at another process; nothing is concluded from the time that has passed
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_record_that_the_cluster_refuses_is_named_as_the_cause_whichever_call_fails_first() {
    let Some(log) = connect() else { return };
    let target = Target::for_tests().unwrap();
    let topic = log.create_topic(&spec("refusing")).unwrap();
    let name = &topic.spec.name;
    let mut writer = log.writer(name).unwrap();
    writer.begin().unwrap();
    writer.append(&record(&topic, "a")).unwrap();
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    let lower = ["--alter", "--entity-type", "topics", "--entity-name", name, "--add-config", "max.message.bytes=1000"];
    target.tool("ConfigCommand", &lower).unwrap();
    let large: String = (0..4_000).map(|_| char::from(b'a' + rand::random::<u8>() % 26)).collect();
    writer.begin().unwrap();
    writer.append(&record(&topic, &large)).unwrap();
    let refused = loop {
        if let Err(error) = writer.append(&record(&topic, "b")) {
            break error;
        }
    };
    assert!(matches!(&refused, Error::RecordRefused { topic, .. } if topic == name), "{refused}");
}

/// librdkafka would free the reason of a fencing twice where the broker says it again of a request that was under way when
/// the producer was closed; many rounds, since it is a matter of moments.
#[test]
fn a_writer_that_was_fenced_goes_while_its_records_are_under_way() {
    const PARTITIONS: u32 = 48;
    let Some(log) = connect() else { return };
    let topic = log.create_topic(&TopicSpec { partitions: PARTITIONS, ..spec("fenced") }).unwrap();
    let name = &topic.spec.name;
    let value = "v".repeat(2_000);
    let mut batch = record(&topic, &value);
    for _ in 0..15 {
        let ends = log.spans(&topic.spec).unwrap().iter().map(|span| span.end).collect::<Vec<_>>();
        let mut old = log.writer(name).unwrap();
        old.begin().unwrap();
        for partition in 0..PARTITIONS {
            batch.partition = partition as i32;
            old.append(&batch).unwrap();
        }
        // All partitions are in the transaction, so that the next records go to them at once.
        while log.spans(&topic.spec).unwrap().iter().zip(&ends).any(|(span, end)| span.end <= *end) {}
        let _new = log.writer(name).unwrap();
        let fenced = (0..).find_map(|i: u32| {
            batch.partition = (i % PARTITIONS) as i32;
            old.append(&batch).err()
        });
        assert!(matches!(fenced, Some(Error::Fenced { .. })), "{fenced:?}");
        drop(old);
    }
}
