//! The clusters that other tests are given: that they start, answer, can be harmed, and leave nothing behind.

use kafka_cluster::{Cluster, Options, Target};

#[test]
fn a_node_keeps_what_it_acknowledged_through_kill_and_stop() {
    let Some(cluster) = Cluster::for_tests(Options::default()) else { return };
    cluster.create_topic("orders", 3, &[("cleanup.policy", "compact")]).unwrap();
    cluster.kill(1).unwrap();
    assert!(!cluster.is_up(1));
    assert!(cluster.metadata().is_err());
    cluster.up(1).unwrap();
    assert!(cluster.tool("TopicCommand", &["--list"]).unwrap().contains("orders"));
    cluster.stop_gracefully(1).unwrap();
    cluster.up(1).unwrap();
    let described = cluster.tool("TopicCommand", &["--describe", "--topic", "orders"]).unwrap();
    assert!(described.contains("PartitionCount: 3") && described.contains("cleanup.policy=compact"), "{described}");
}

#[test]
fn tests_share_one_cluster_and_tools_run_against_it() {
    let Some(target) = Target::for_tests() else { return };
    let again = Target::for_tests().unwrap();
    assert_eq!(target.bootstrap(), again.bootstrap());
    assert!(target.tool("TopicCommand", &["--list"]).is_ok());
    let error = target.tool("TopicCommand", &["--describe", "--topic", "nothing-here"]).unwrap_err();
    assert!(error.contains("nothing-here"), "{error}");
}
