//! Rules of what is written outside epochs and settled together.

use super::*;
use crate::log::Error;

pub fn an_outlet_has_written_everything_once_it_is_settled(subject: &mut dyn Subject) {
    let log = subject.log();
    let (topic, other) = (new_topic(log, 2), new_topic(log, 1));
    let mut outlet = log.outlet().unwrap();
    outlet.settle().unwrap();
    let text = |from: u32, to| -> Vec<String> { (from..to).map(|n| format!("record {n}")).collect() };
    let mut append = |topic: &TopicInfo, partition, from| {
        let texts = text(from, from + 10);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        outlet.append(&values(topic, partition, &texts)).unwrap();
    };
    (0..50).for_each(|n| append(&topic, 1, 10 * n));
    append(&topic, 0, 0);
    append(&other, 0, 0);
    outlet.settle().unwrap();
    assert_eq!(texts(&read_all(log, &topic, 1)), text(0, 500), "all, once, in their order");
    assert_eq!(texts(&read_all(log, &topic, 0)), text(0, 10));
    assert_eq!(texts(&read_all(log, &other, 0)), text(0, 10));
    outlet.append(&values(&topic, 0, &["later"])).unwrap();
    outlet.settle().unwrap();
    assert_eq!(texts(&read_from(log, &topic, 0, 10)), ["later"], "it goes on after it was settled");
}

pub fn an_outlet_refuses_what_the_topic_does_not_take(subject: &mut dyn Subject) {
    let log = subject.log();
    let topic = new_topic(log, 1);
    let compacted = log.create_topic(&TopicSpec { cleanup: Cleanup::Compact, ..spec(1) }).unwrap();
    let mut outlet = log.outlet().unwrap();
    let large = "x".repeat(topic.spec.max_record_bytes as usize + 1);
    let refused = outlet.append(&values(&topic, 0, &["a", &large]));
    assert!(matches!(refused, Err(Error::RecordTooLarge { .. })), "{refused:?}");
    let refused = outlet.append(&values(&compacted, 0, &["a"]));
    assert!(matches!(refused, Err(Error::InvalidRecord { .. })), "{refused:?}");
    let refused = outlet.append(&PartitionBatch::new(&spec(1).name, 0));
    assert!(matches!(refused, Err(Error::UnknownTopic(_))), "{refused:?}");
    let refused = outlet.append(&values(&topic, 1, &["a"]));
    assert!(matches!(refused, Err(Error::UnknownPartition { .. })), "{refused:?}");
    outlet.settle().unwrap();
    assert_eq!(end(log, &topic, 0), 0);
    outlet.append(&values(&topic, 0, &["b"])).unwrap();
    outlet.settle().unwrap();
    assert_eq!(texts(&read_all(log, &topic, 0)), ["b"]);
}
