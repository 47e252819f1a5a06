//! The listeners with TLS and SASL: each lets the right client in, and no other.

use std::path::Path;

use kafka_cluster::{Cluster, Installation, Listener, Options};

const SASL: [(Listener, &str); 4] = [
    (Listener::SaslPlaintext, "PLAIN"),
    (Listener::SaslSsl, "PLAIN"),
    (Listener::SaslSsl, "SCRAM-SHA-256"),
    (Listener::SaslSsl, "SCRAM-SHA-512"),
];

/// Lists the topics over a listener, as Kafka's own client with these properties.
fn list(cluster: &Cluster, listener: Listener, properties: &str) -> Result<String, String> {
    let path = std::env::temp_dir().join(format!("forebay-client-{}.properties", std::process::id()));
    let properties = format!("{properties}default.api.timeout.ms=10000\nrequest.timeout.ms=5000\n");
    std::fs::write(&path, properties).map_err(|error| error.to_string())?;
    let arguments = ["--list", "--command-config", &path.display().to_string()];
    let listed = Installation::get()?.tool(&cluster.bootstrap_of(listener), "TopicCommand", &arguments);
    std::fs::remove_file(&path).map_err(|error| error.to_string())?;
    listed
}

#[test]
fn every_secured_listener_lets_the_right_client_in_and_no_other() {
    let Some(cluster) = Cluster::for_tests(Options::secured()) else { return };
    let credentials = cluster.credentials().unwrap();
    cluster.create_topic("orders", 1, &[]).unwrap();
    assert!(list(&cluster, Listener::Plaintext, "").unwrap().contains("orders"));

    for (listener, mechanism) in SASL {
        let right = credentials.java_client(listener, mechanism);
        let listed = list(&cluster, listener, &right).unwrap();
        assert!(listed.contains("orders"), "{listener:?} {mechanism}: {listed}");
        let wrong = right.replace(credentials.password, "guessed");
        let refused = list(&cluster, listener, &wrong).unwrap_err();
        assert!(refused.contains("uthentication failed"), "{listener:?} {mechanism}: {refused}");
    }

    let tls = credentials.java_client(Listener::Ssl, "");
    assert!(list(&cluster, Listener::Ssl, &tls).unwrap().contains("orders"));
    let keystore = |path: &Path| {
        let (path, password) = (path.display(), credentials.keystore_password);
        format!("ssl.keystore.type=PKCS12\nssl.keystore.location={path}\nssl.keystore.password={password}\n")
    };
    assert!(
        list(&cluster, Listener::Ssl, &(tls + &keystore(&credentials.client_keystore))).unwrap().contains("orders")
    );
    // The authority is no public one.
    let refused = list(&cluster, Listener::Ssl, "security.protocol=SSL\n").unwrap_err();
    assert!(refused.contains("SSL handshake failed"), "{refused}");
}
