//! TLS and SASL for tests: certificates made by the JDK's keytool, one user, and what brokers and clients are told.
//!
//! Nothing here protects anything: the passwords are in the source, and everything ends with its cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::installation::{Installation, finish};

/// Which listeners a cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// PLAINTEXT only.
    #[default]
    Plaintext,
    /// Beside PLAINTEXT also SASL_PLAINTEXT, SASL_SSL and SSL.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Plaintext,
    /// Mechanism PLAIN.
    SaslPlaintext,
    /// Mechanisms PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
    SaslSsl,
    /// Asks for a client's certificate, and goes on without.
    Ssl,
}

impl Listener {
    pub const ALL: [Listener; 4] = [Listener::Plaintext, Listener::SaslPlaintext, Listener::SaslSsl, Listener::Ssl];

    /// Kafka's name of its protocol.
    pub fn name(self) -> &'static str {
        match self {
            Listener::Plaintext => "PLAINTEXT",
            Listener::SaslPlaintext => "SASL_PLAINTEXT",
            Listener::SaslSsl => "SASL_SSL",
            Listener::Ssl => "SSL",
        }
    }

    /// Added to a node's first port; 1 is the controller's.
    pub(crate) fn port_offset(self) -> u16 {
        match self {
            Listener::Plaintext => 0,
            Listener::SaslPlaintext => 2,
            Listener::SaslSsl => 3,
            Listener::Ssl => 4,
        }
    }
}

/// What a client of a secured cluster needs.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authority's certificate, PEM (`ssl.ca.location`).
    pub ca: PathBuf,
    /// For PLAIN and both SCRAMs.
    pub user: &'static str,
    pub password: &'static str,
    /// A client's certificate and key, PKCS#12 (`ssl.keystore.location`), and its password.
    pub client_keystore: PathBuf,
    pub keystore_password: &'static str,
    server_keystore: PathBuf,
}

const USER: &str = "forebay";
const PASSWORD: &str = "loopback-only";

impl Credentials {
    /// Those of a cluster whose files are in `folder`.
    pub fn in_folder(folder: &Path) -> Credentials {
        Credentials {
            ca: folder.join("ca.pem"),
            user: USER,
            password: PASSWORD,
            client_keystore: folder.join("client.p12"),
            keystore_password: PASSWORD,
            server_keystore: folder.join("server.p12"),
        }
    }

    /// Makes the authority and the two certificates that it signs.
    pub fn make(kafka: &Installation, folder: &Path) -> Result<Credentials, String> {
        let made = Credentials::in_folder(folder);
        fs::create_dir_all(folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
        let all = folder.join("all.p12").display().to_string();
        let keytool = |arguments: &[&str]| {
            let mut command = Command::new(kafka.java().keytool());
            command.args(["-J-XX:TieredStopAtLevel=1", "-J-Xmx64m"]).args(arguments);
            finish(&mut command, "keytool").map(drop)
        };
        let generate = |alias: &str, more: &[&str]| {
            let name = format!("CN=forebay-test-{alias}");
            let common = ["-genkeypair", "-keystore", &all, "-storepass", PASSWORD, "-alias", alias, "-dname", &name];
            keytool(&[&common[..], &["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30"], more].concat())
        };
        generate("ca", &["-ext", "bc:c", "-ext", "ku:c=keyCertSign,cRLSign"])?;
        generate("server", &["-signer", "ca", "-ext", "san=dns:localhost,ip:127.0.0.1"])?;
        generate("client", &["-signer", "ca"])?;
        // A broker takes any key of its store: each gets one with its own alone.
        for (alias, store) in [("server", &made.server_keystore), ("client", &made.client_keystore)] {
            let store = store.display().to_string();
            let from = ["-importkeystore", "-noprompt", "-srckeystore", &all, "-srcstorepass", PASSWORD];
            let to = ["-srcalias", alias, "-destkeystore", &store, "-deststorepass", PASSWORD];
            keytool(&[&from[..], &to].concat())?;
        }
        let ca = made.ca.display().to_string();
        keytool(&["-exportcert", "-rfc", "-keystore", &all, "-storepass", PASSWORD, "-alias", "ca", "-file", &ca])?;
        Ok(made)
    }

    /// What `kafka-storage format` is told, so that the SCRAM users are there before the first connection.
    pub(crate) fn scram_users(&self) -> Vec<String> {
        let of = |mechanism| format!("{mechanism}=[name={},password={}]", self.user, self.password);
        ["SCRAM-SHA-256", "SCRAM-SHA-512"].into_iter().flat_map(|name| ["--add-scram".to_owned(), of(name)]).collect()
    }

    pub(crate) fn broker_properties(&self) -> String {
        let (user, password) = (self.user, self.password);
        let plain =
            format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";");
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        format!(
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={plain}
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config={plain}
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}
listener.name.ssl.ssl.client.auth=requested
ssl.keystore.type=PKCS12
ssl.keystore.location={keystore}
ssl.keystore.password={password}
ssl.key.password={password}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
",
            keystore = self.server_keystore.display(),
            ca = self.ca.display(),
        )
    }

    /// Properties of a Java client, for `--command-config`. `mechanism` for the SASL listeners.
    pub fn java_client(&self, listener: Listener, mechanism: &str) -> String {
        let mut text = format!("security.protocol={}\n", listener.name());
        if matches!(listener, Listener::SaslSsl | Listener::Ssl) {
            text += &format!("ssl.truststore.type=PEM\nssl.truststore.location={}\n", self.ca.display());
        }
        if matches!(listener, Listener::SaslPlaintext | Listener::SaslSsl) {
            let module = if mechanism == "PLAIN" { "plain.PlainLoginModule" } else { "scram.ScramLoginModule" };
            text += &format!(
                "sasl.mechanism={mechanism}\nsasl.jaas.config=org.apache.kafka.common.security.{module} required username=\"{}\" password=\"{}\";\n",
                self.user, self.password
            );
        }
        text
    }
}
