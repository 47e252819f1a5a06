//! Clusters that want to know who comes: every listener of a secured one, and what is said to those who may not in.

use std::path::Path;
use std::time::{Duration, Instant};

use kafka_cluster::{Cluster, Credentials, Listener, Options};

use super::*;
use crate::log::{Assignment, Budget, CommitOutcome};
use crate::model::Uid;

/// The profile of one way in. Secrets stand in a file and in the environment, as they should.
fn profile(cluster: &Cluster, listener: Listener, mechanism: &str, secrets: &Path) -> String {
    let Credentials { ca, user, client_keystore, .. } = cluster.credentials().unwrap();
    let (bootstrap, protocol) = (cluster.bootstrap_of(listener), listener.name());
    let mut yaml = format!("bootstrap: {bootstrap}\nproperties:\n  security.protocol: {protocol}\n");
    if matches!(listener, Listener::SaslSsl | Listener::Ssl) {
        yaml += &format!("  ssl.ca.location: {}\n", ca.display());
    }
    if listener == Listener::Ssl {
        yaml += &format!("  ssl.keystore.location: {}\n", client_keystore.display());
        yaml += &format!("  ssl.keystore.password: {{ file: {} }}\n", secrets.join("password").display());
    }
    if matches!(listener, Listener::SaslPlaintext | Listener::SaslSsl) {
        yaml += &format!("  sasl.mechanism: {mechanism}\n  sasl.username: {user}\n");
        yaml += &format!("  sasl.password: {{ file: {} }}\n", secrets.join("password").display());
    }
    yaml
}

/// A cluster and a folder with the right password, and a wrong one.
fn secured() -> Option<(Cluster, tempfile::TempDir)> {
    let cluster = Cluster::for_tests(Options::secured())?;
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("password"), format!("{}\n", cluster.credentials().unwrap().password)).unwrap();
    std::fs::write(secrets.path().join("wrong"), "hunter2\n").unwrap();
    Some((cluster, secrets))
}

/// An epoch is written and read back: every kind of client connects.
fn write_and_read(log: &Kafka) {
    let name = format!("secured.{}", Uid::random());
    let spec = TopicSpec { name, partitions: 1, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
    let topic = log.create_topic(&spec).unwrap();
    let mut writer = log.writer(&topic.spec.name).unwrap();
    let mut batch = PartitionBatch::new(&topic.spec.name, 0);
    batch.push(-1, -1, Some(b"k"), Some(b"v"));
    writer.begin().unwrap();
    writer.append(&batch).unwrap();
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    log.produce(&batch).unwrap();
    let mut reader = log.reader(Isolation::ReadCommitted).unwrap();
    reader.assign(&[Assignment::new(&topic.spec.name, topic.id, 0, 0)]).unwrap();
    let (mut found, since) = (0, Instant::now());
    while found < 2 {
        let budget = Budget { max_records: 10, max_bytes: 1 << 20 };
        if reader.poll(budget, Duration::from_secs(1), &mut batch).unwrap() {
            found += batch.len();
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{found} records came");
    }
}

#[test]
fn every_way_in_is_found_with_its_profile_and_a_wrong_password_is_told_at_once() {
    let Some((cluster, secrets)) = secured() else { return };
    let ways = [
        (Listener::Plaintext, ""),
        (Listener::SaslPlaintext, "PLAIN"),
        (Listener::SaslSsl, "PLAIN"),
        (Listener::SaslSsl, "SCRAM-SHA-256"),
        (Listener::SaslSsl, "SCRAM-SHA-512"),
        (Listener::Ssl, ""),
    ];
    for (listener, mechanism) in ways {
        let yaml = profile(&cluster, listener, mechanism, secrets.path());
        let log = Kafka::connect(&Profile::parse(&yaml).unwrap()).unwrap_or_else(|error| panic!("{yaml}{error}"));
        write_and_read(&log);
        if mechanism.is_empty() {
            continue;
        }
        let wrong = yaml.replace("/password }", "/wrong }");
        assert_ne!(wrong, yaml);
        let since = Instant::now();
        let refused = Kafka::connect(&Profile::parse(&wrong).unwrap()).map(drop).unwrap_err();
        let (took, said) = (since.elapsed(), refused.to_string());
        assert_eq!(refused.kind(), crate::error::Kind::Invalid, "{said}");
        assert!(said.contains("check mechanism, user and password"), "{said}");
        assert!(!said.contains("hunter2") && took < Duration::from_secs(10), "{took:?}: {said}");
    }
}

#[test]
fn a_certificate_of_an_unknown_authority_is_told_at_once() {
    let Some((cluster, secrets)) = secured() else { return };
    let yaml = profile(&cluster, Listener::Ssl, "", secrets.path());
    let unknown = yaml.lines().filter(|line| !line.contains("ssl.ca.location")).collect::<Vec<_>>().join("\n");
    let since = Instant::now();
    let refused = Kafka::connect(&Profile::parse(&unknown).unwrap()).map(drop).unwrap_err();
    let (took, said) = (since.elapsed(), refused.to_string());
    assert!(said.contains("certificate") && took < Duration::from_secs(10), "{took:?}: {said}");
}
