//! Readers whose client no longer brings what the log has, and a broker that stands still for a while.

use std::time::{Duration, Instant};

use kafka_cluster::{Cluster, Options};
use rand::RngExt;

use super::super::native::PartitionList;
use super::super::profile::Pace;
use super::super::reader::KafkaReader;
use super::*;
use crate::log::{Assignment, Budget};
use crate::model::Uid;

const PLENTY: Budget = Budget { max_records: 10_000, max_bytes: 1 << 30 };
/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 4;

fn topic(log: &Kafka, name: &str) -> TopicInfo {
    let name = format!("{name}.{}", Uid::random());
    let spec = TopicSpec { name, partitions: PARTITIONS, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
    log.create_topic(&spec).unwrap()
}

fn produce(log: &Kafka, topic: &TopicInfo, partition: PartitionId) {
    let mut batch = PartitionBatch::new(&topic.spec.name, partition);
    batch.push(-1, 1_000, Some(b"k"), Some(b"v"));
    let since = Instant::now();
    // A broker that was just away may not take it at once.
    while let Err(error) = log.produce(&batch) {
        assert!(since.elapsed() < PATIENCE, "{error}");
    }
}

fn reader_of(log: &Kafka, topic: &TopicInfo) -> KafkaReader {
    let mut reader = KafkaReader::new(Arc::clone(&log.shared), Isolation::ReadCommitted);
    let all = (0..PARTITIONS as i32).map(|partition| Assignment::new(&topic.spec.name, topic.id, partition, 0));
    reader.assign(&all.collect::<Vec<_>>()).unwrap();
    reader
}

/// Reads on until `count` more records were brought.
fn bring(reader: &mut KafkaReader, count: usize) -> Duration {
    let (since, mut found, mut batch) = (Instant::now(), 0, PartitionBatch::default());
    while found < count {
        assert!(since.elapsed() < PATIENCE, "{found} of {count} records came");
        if reader.poll(PLENTY, Duration::from_millis(100), &mut batch).unwrap() {
            found += batch.len();
        }
    }
    since.elapsed()
}

#[test]
fn a_reader_whose_client_brings_nothing_is_given_another_one_and_misses_nothing() {
    let Some(log) = connect() else { return };
    let topic = topic(&log, "stalled");
    let mut reader = reader_of(&log, &topic);
    produce(&log, &topic, 0);
    bring(&mut reader, 1);
    let before = Arc::clone(reader.consumer_of(0));
    // Its client forgets one of the partitions, as it may after an outage.
    let mut forgotten = PartitionList::new();
    forgotten.add(&topic.spec.name, 1, 0, None).unwrap();
    before.client.hold_back(&forgotten).unwrap();
    for _ in 0..5 {
        produce(&log, &topic, 1);
    }
    bring(&mut reader, 5);
    assert!(before.is_given_up() && !Arc::ptr_eq(&before, reader.consumer_of(1)));
    // The one that still brings something is left where it is until it is quiet.
    produce(&log, &topic, 0);
    bring(&mut reader, 1);
    assert_eq!(reader.position(&topic.spec.name, 0), Some(2));
    assert_eq!(reader.position(&topic.spec.name, 1), Some(5));
    let mut batch = PartitionBatch::default();
    let since = Instant::now();
    while !Arc::ptr_eq(reader.consumer_of(0), reader.consumer_of(1)) {
        assert!(!reader.poll(PLENTY, Duration::from_millis(100), &mut batch).unwrap(), "a record came twice");
        assert!(since.elapsed() < PATIENCE, "it stays with a client that was given up");
    }
}

#[test]
fn the_end_that_a_reader_names_is_the_clusters_and_not_that_of_the_last_fetch() {
    let Some(log) = connect() else { return };
    let topic = topic(&log, "lagging");
    let mut reader = reader_of(&log, &topic);
    let name = topic.spec.name.as_str();
    produce(&log, &topic, 0);
    bring(&mut reader, 1);
    let mut batch = PartitionBatch::default();
    let since = Instant::now();
    while reader.end(name, 0) != Some(1) {
        assert!(since.elapsed() < PATIENCE && !reader.poll(PLENTY, Duration::from_millis(20), &mut batch).unwrap());
    }
    // Nobody reads on, and so nobody fetches: what is heard is an answer to a question.
    let mut forgotten = PartitionList::new();
    forgotten.add(name, 0, 0, None).unwrap();
    reader.consumer_of(0).client.hold_back(&forgotten).unwrap();
    for _ in 0..7 {
        produce(&log, &topic, 0);
    }
    while reader.end(name, 0) != Some(8) {
        assert!(since.elapsed() < PATIENCE, "{:?}", reader.end(name, 0));
        std::thread::yield_now();
    }
    assert_eq!(reader.position(name, 0), Some(1));
}

#[test]
fn a_client_tells_the_id_of_what_it_reads_which_is_how_a_topic_made_again_is_noticed() {
    let Some(log) = connect() else { return };
    let first = topic(&log, "told");
    let name = first.spec.name.clone();
    let mut reader = reader_of(&log, &first);
    produce(&log, &first, 0);
    bring(&mut reader, 1);
    assert!(
        reader.consumer_of(0).has_told(&name, first.id),
        "librdkafka no longer tells it in the words that are heard"
    );
    let consumer = Arc::clone(reader.consumer_of(0));
    log.delete_topic(&name).unwrap();
    let second = log.create_topic(&first.spec).unwrap();
    let (since, mut batch) = (Instant::now(), PartitionBatch::default());
    let error = loop {
        match reader.poll(PLENTY, Duration::from_millis(100), &mut batch) {
            Ok(_) => assert!(since.elapsed() < PATIENCE, "nobody notices"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::TopicRecreated { .. } | Error::UnknownTopic(_)), "{error}");
    while !consumer.has_told(&name, second.id) {
        assert!(since.elapsed() < PATIENCE, "the new id is not told");
        std::thread::yield_now();
    }
}

/// What comes one by one must come once each, whichever client reads meanwhile.
#[test]
fn a_quiet_partition_rests_with_clients_that_ask_seldom_and_is_read_on_at_once_when_something_comes() {
    let Some(log) = connect() else { return };
    let topic = topic(&log, "resting");
    let mut reader = reader_of(&log, &topic);
    produce(&log, &topic, 0);
    bring(&mut reader, 1);
    let pace = |reader: &KafkaReader, at| reader.consumer_of(at).pace();
    let (since, mut batch) = (Instant::now(), PartitionBatch::default());
    while (0..PARTITIONS as usize).any(|at| pace(&reader, at) == Pace::Prompt) {
        assert!(since.elapsed() < PATIENCE, "a partition does not rest");
        assert!(!reader.poll(PLENTY, Duration::from_secs(5), &mut batch).unwrap(), "a record came twice");
    }
    assert_eq!(reader.end(&topic.spec.name, 0), Some(1), "the end is still known");
    produce(&log, &topic, 0);
    let took = bring(&mut reader, 1);
    println!("what comes to a resting partition is brought after {took:?}");
    let mut count = 2;
    while pace(&reader, 0) == Pace::Resting {
        assert!(since.elapsed() < PATIENCE, "it rests on");
        produce(&log, &topic, 0);
        bring(&mut reader, 1);
        count += 1;
    }
    produce(&log, &topic, 0);
    bring(&mut reader, 1);
    assert_eq!(reader.position(&topic.spec.name, 0), Some(count + 1));
    assert_eq!(pace(&reader, 1), Pace::Resting, "others are left where they are");
}

#[test]
fn clients_that_nobody_uses_are_closed() {
    let Some(log) = connect() else { return };
    let topic = topic(&log, "unused");
    let (first, second) = (reader_of(&log, &topic), reader_of(&log, &topic));
    let (kept, closed) = (Arc::clone(first.consumer_of(0)), Arc::clone(second.consumer_of(0)));
    assert!(!Arc::ptr_eq(&kept, &closed), "a client holds a partition once");
    let at = GroupPosition { topic: topic.spec.name.clone(), partition: 0, next: NextOffset(0) };
    log.mirror("forebay.unused", &[at]).unwrap();
    assert_eq!(log.shared.groups.clients(), 1);
    drop(second);
    let since = Instant::now();
    while log.shared.groups.clients() > 0 || Arc::strong_count(&closed) > 1 {
        assert!(since.elapsed() < PATIENCE, "clients that nobody uses are kept");
        // sleep: what closes them tells nobody
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(Arc::strong_count(&kept) > 1);
}

/// Several readers by one client, and no mercy: a broker that is silent for longer than its session lasts.
#[test]
fn all_readers_read_on_after_a_broker_has_stood_still() {
    let Some(cluster) = Cluster::for_tests(Options::default()) else { return };
    let log = Kafka::connect(&Profile::plain(cluster.bootstrap())).unwrap();
    let topics: Vec<_> = (0..4).map(|i| topic(&log, &format!("blink{i}"))).collect();
    let mut readers: Vec<_> = topics.iter().map(|topic| reader_of(&log, topic)).collect();
    let mut dice = rand::rng();
    for round in 0..3 {
        cluster.pause(1).unwrap();
        let stall = Duration::from_millis(dice.random_range(5_000..9_000));
        let (since, mut batch) = (Instant::now(), PartitionBatch::default());
        while since.elapsed() < stall {
            for reader in &mut readers {
                assert!(!reader.poll(PLENTY, Duration::from_millis(10), &mut batch).unwrap());
            }
        }
        cluster.resume(1).unwrap();
        // By another process, as far as the cluster can tell.
        let other = Kafka::connect(&Profile::plain(cluster.bootstrap())).unwrap();
        for topic in &topics {
            (0..PARTITIONS as i32).for_each(|partition| produce(&other, topic, partition));
        }
        for (reader, topic) in readers.iter_mut().zip(&topics) {
            let took = bring(reader, PARTITIONS as usize);
            println!("round {round}, silent for {stall:?}: {} was read on after {took:?}", topic.spec.name);
        }
    }
}
