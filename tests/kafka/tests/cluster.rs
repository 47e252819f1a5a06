//! The clusters that other tests are given: that they start, answer, and can be harmed.

use kafka_cluster::{Cluster, Options, Target};

#[test]
fn a_node_keeps_its_topics_through_kill_and_stop() {
    let Some(cluster) = Cluster::for_tests(Options::default()) else { return };
    cluster.create_topic("orders", 3, &[("cleanup.policy", "compact")]).unwrap();
    cluster.kill(1).unwrap();
    assert!(!cluster.is_up(1) && cluster.metadata().is_err());
    cluster.up(1).unwrap();
    assert!(cluster.tool("TopicCommand", &["--list"]).unwrap().contains("orders"));
    cluster.stop_gracefully(1).unwrap();
    cluster.up(1).unwrap();
    let described = cluster.tool("TopicCommand", &["--describe", "--topic", "orders"]).unwrap();
    assert!(described.contains("PartitionCount: 3") && described.contains("cleanup.policy=compact"), "{described}");
}

#[test]
fn a_paused_node_is_silent_and_goes_on_when_it_is_resumed() {
    let Some(cluster) = Cluster::for_tests(Options::default()) else { return };
    cluster.pause(1).unwrap();
    assert!(cluster.is_up(1) && cluster.metadata().is_err());
    cluster.resume(1).unwrap();
    assert!(cluster.metadata().is_ok());
}

#[test]
fn three_nodes_go_on_without_one_and_take_it_back() {
    let Some(cluster) = Cluster::for_tests(Options::nodes(3)) else { return };
    assert_eq!(cluster.bootstrap().split(',').count(), 3);
    cluster.create_topic("orders", 4, &[]).unwrap();
    let replicas = |cluster: &Cluster| {
        let partitions = cluster.metadata().unwrap().partitions;
        let orders = partitions.into_iter().filter(|partition| partition.topic == "orders");
        orders.map(|partition| (partition.replicas.len(), partition.in_sync.len())).collect::<Vec<_>>()
    };
    assert_eq!(replicas(&cluster), [(3, 3); 4]);
    cluster.kill(2).unwrap();
    // Asks all three addresses and needs a leader for every partition.
    cluster.create_topic("made-by-two", 4, &[("min.insync.replicas", "1")]).unwrap();
    cluster.up(2).unwrap();
    cluster.await_in_sync().unwrap();
    assert_eq!(replicas(&cluster), [(3, 3); 4]);
}

#[test]
fn properties_of_the_test_are_stronger_than_the_crates() {
    let options = Options::default().property("auto.create.topics.enable", "true");
    let Some(cluster) = Cluster::for_tests(options) else { return };
    let described = ["--describe", "--all", "--entity-type", "brokers", "--entity-name", "1"];
    let described = cluster.tool("ConfigCommand", &described).unwrap();
    assert!(described.contains("auto.create.topics.enable=true"), "{described}");
}

#[test]
fn tests_share_one_cluster_and_tools_run_against_it() {
    let Some(target) = Target::for_tests() else { return };
    let again = Target::for_tests().unwrap();
    assert_eq!(target.bootstrap(), again.bootstrap());
    target.tool("TopicCommand", &["--list"]).unwrap();
    let error = target.tool("TopicCommand", &["--describe", "--topic", "nothing-here"]).unwrap_err();
    assert!(error.contains("nothing-here"), "{error}");
}
