//! Partitions that nobody leads for a while: a cluster of three nodes, and a topic with one replica of each partition.

use std::time::{Duration, Instant};

use kafka_cluster::{Cluster, Options};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
const AWAY: u32 = 2;

/// Of the topic's partitions on the node that goes away, one, as soon as it is led as asked.
fn await_leader(cluster: &Cluster, topic: &str, is_led: bool) -> PartitionId {
    let begun = Instant::now();
    loop {
        let partitions = cluster.metadata().map_or_else(|_| Vec::new(), |metadata| metadata.partitions);
        let found = partitions.iter().find(|p| p.topic == topic && p.replicas == [AWAY as i32]);
        if let Some(found) = found.filter(|found| (found.leader >= 0) == is_led) {
            return found.partition;
        }
        assert!(begun.elapsed() < PATIENCE, "{topic} is not led as asked: {partitions:?}");
        // sleep: polls the cluster
        std::thread::sleep(PAUSE);
    }
}

#[test]
fn a_client_that_has_heard_that_nobody_leads_a_partition_hears_of_its_next_leader() {
    let Some(cluster) = Cluster::for_tests(Options::nodes(3)) else { return };
    let mut profile = Profile::plain(cluster.bootstrap());
    profile.replication = Some(1);
    let log = Kafka::connect(&profile).unwrap();
    let spec = TopicSpec { name: "led".to_owned(), partitions: 3, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
    let topic = log.create_topic(&spec).unwrap();
    let partition = await_leader(&cluster, &spec.name, true);
    let mut batch = PartitionBatch::new(&spec.name, partition);
    batch.push(-1, 1_000, Some(b"k"), Some(b"v"));
    assert_eq!(log.produce(&batch).unwrap(), 0);

    cluster.kill(AWAY).unwrap();
    await_leader(&cluster, &spec.name, false);
    assert!(log.topics().unwrap().iter().any(|found| found.id == topic.id));
    cluster.up(AWAY).unwrap();
    await_leader(&cluster, &spec.name, true);

    let asked = Instant::now();
    assert_eq!(log.end_offset(&spec.name, partition, Isolation::ReadUncommitted).unwrap(), 1);
    assert!(asked.elapsed() < PATIENCE / 4);
}

/// librdkafka keeps no pause by itself where a request waits for a broker that refuses it.
#[test]
fn a_cluster_that_refuses_connections_is_not_tried_without_a_pause() {
    let Some(cluster) = Cluster::for_tests(Options::default()) else { return };
    let log = Kafka::connect(&Profile::plain(cluster.bootstrap())).unwrap();
    let spec =
        TopicSpec { name: "refused".to_owned(), partitions: 1, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
    log.create_topic(&spec).unwrap();
    let answers = || {
        let found = log.shared.admin.ends(&[("refused", 0)], Isolation::ReadCommitted);
        found.is_ok_and(|found| found.values().any(Result::is_ok))
    };
    assert!(answers());
    cluster.kill(1).unwrap();
    assert!(!answers());
    for _ in 0..3 {
        let (before, since) = (log.shared.admin.disconnects(), Instant::now());
        assert!(!answers());
        let tries = log.shared.admin.disconnects().saturating_sub(before);
        println!("{tries} connections were refused in {:?}", since.elapsed());
        assert!(tries < 200, "{tries} connections in {:?}", since.elapsed());
    }
    cluster.up(1).unwrap();
    let since = Instant::now();
    while !answers() {
        assert!(since.elapsed() < PATIENCE, "the cluster is there again, and is not asked");
    }
}
