//! Rules of topics and their identity.

use super::*;
use crate::log::Error;

pub fn a_topic_is_found_as_it_was_created(subject: &mut dyn Subject) {
    let log = subject.log();
    let spec = TopicSpec { cleanup: Cleanup::Compact, ..spec(3) };
    let created = log.create_topic(&spec).unwrap();
    assert_eq!(created.spec, spec);
    assert_eq!(log.topic(&spec.name).unwrap(), created);
    assert!(log.topics().unwrap().contains(&created));
    assert_eq!((log.start_offset(&spec.name, 2).unwrap(), end(log, &created, 2)), (0, 0));
}

pub fn a_topic_cannot_be_created_twice(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let again = log.create_topic(&TopicSpec { partitions: 7, ..topic.spec.clone() });
    assert!(matches!(again, Err(Error::TopicExists(name)) if name == topic.spec.name));
    assert_eq!(log.topic(&topic.spec.name).unwrap(), topic);
}

pub fn topics_that_kafka_would_refuse_are_refused(subject: &mut dyn Subject) {
    let too_long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", &too_long] {
        let refused = subject.log().create_topic(&TopicSpec { name: name.to_owned(), ..spec(1) });
        assert!(matches!(refused, Err(Error::InvalidTopic { .. })), "{name:?}: {refused:?}");
    }
    let refused = subject.log().create_topic(&spec(0));
    assert!(matches!(refused, Err(Error::InvalidTopic { .. })));
}

pub fn a_deleted_topic_is_unknown(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let name = &topic.spec.name;
    log.produce(&values(&topic, 0, &["a"])).unwrap();
    log.delete_topic(name).unwrap();
    let unknown = |result: Result<(), Error>| assert!(matches!(result, Err(Error::UnknownTopic(n)) if n == *name));
    unknown(log.topic(name).map(drop));
    unknown(log.produce(&values(&topic, 0, &["b"])).map(drop));
    unknown(log.end_offset(name, 0, Isolation::ReadCommitted).map(drop));
    unknown(log.delete_topic(name));
}

pub fn a_topic_made_again_has_another_id_and_no_records(subject: &mut dyn Subject) {
    let log = subject.log();
    let old = new_topic(log, 1);
    log.produce(&values(&old, 0, &["old"])).unwrap();
    log.delete_topic(&old.spec.name).unwrap();
    let new = log.create_topic(&old.spec).unwrap();
    assert_ne!(new.id, old.id);
    assert_eq!((log.start_offset(&new.spec.name, 0).unwrap(), end(log, &new, 0)), (0, 0));
    log.produce(&values(&new, 0, &["new"])).unwrap();
    assert_eq!(shown(&read_all(log, &new, 0)), [(0, "new".to_owned())]);
}

pub fn a_reader_of_a_topic_that_was_made_again_is_told(subject: &mut dyn Subject) {
    let log = subject.log();
    let old = new_topic(log, 1);
    let mut reader = reader(log, &[at(&old, 0, 0)]);
    log.delete_topic(&old.spec.name).unwrap();
    let new = log.create_topic(&old.spec).unwrap();
    log.produce(&values(&new, 0, &["new"])).unwrap();
    let told = reader.poll(PLENTY, PATIENCE, &mut PartitionBatch::default());
    assert!(
        matches!(told, Err(Error::TopicRecreated { expected, found, .. }) if expected == old.id && found == new.id)
    );
}

pub fn an_assignment_to_a_topic_that_was_made_again_is_refused(subject: &mut dyn Subject) {
    let log = subject.log();
    let old = new_topic(log, 1);
    log.delete_topic(&old.spec.name).unwrap();
    let mut reader = log.reader(Isolation::ReadCommitted).unwrap();
    assert!(matches!(reader.assign(&[at(&old, 0, 0)]), Err(Error::UnknownTopic(_))));
    log.create_topic(&old.spec).unwrap();
    assert!(matches!(reader.assign(&[at(&old, 0, 0)]), Err(Error::TopicRecreated { .. })));
}

pub fn a_partition_that_does_not_exist_is_named(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 2);
    for wrong in [2, -1] {
        let unknown = |result: Result<i64, Error>| {
            assert!(matches!(result, Err(Error::UnknownPartition { partition, partitions: 2, .. })
                if partition == wrong));
        };
        unknown(log.produce(&values(&topic, wrong, &["a"])));
        unknown(log.start_offset(&topic.spec.name, wrong));
        let mut reader = log.reader(Isolation::ReadCommitted).unwrap();
        unknown(reader.assign(&[at(&topic, wrong, 0)]).map(|()| 0));
    }
}

pub fn topics_survive_a_restart(subject: &mut dyn Subject) {
    let kept = new_topic(subject.log(), 3);
    let deleted = new_topic(subject.log(), 1);
    subject.log().delete_topic(&deleted.spec.name).unwrap();
    subject.restart();
    assert_eq!(subject.log().topic(&kept.spec.name).unwrap(), kept);
    assert!(matches!(subject.log().topic(&deleted.spec.name), Err(Error::UnknownTopic(_))));
}
