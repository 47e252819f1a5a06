//! A cluster profile: how a Kafka cluster is reached.
//!
//! Owns the file's form, the resolution of secrets, and the defaults that the runtime relies on. A secret stands in
//! the environment or in a file of its own, never in what is shown or logged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::log::{Error, Isolation};

/// As it is written in a file. `docs/kafka.md` describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `host:port`, several with commas between.
    pub bootstrap: String,
    /// Any property of librdkafka, for every client.
    #[serde(default)]
    pub properties: BTreeMap<String, Setting>,
    /// For the clients that read; wins over `properties`.
    #[serde(default)]
    pub consumer: BTreeMap<String, Setting>,
    /// For the clients that write; wins over `properties`.
    #[serde(default)]
    pub producer: BTreeMap<String, Setting>,
    /// Of topics that Forebay creates. Not given: three, or as many as there are brokers.
    #[serde(default)]
    pub replication: Option<u16>,
    /// An epoch that is open for longer is aborted by the cluster; what it touched is held back from readers for as
    /// long at most.
    #[serde(default = "transaction_timeout_ms")]
    pub transaction_timeout_ms: u32,
}

/// A value, or where it stands.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    Text(String),
    Flag(bool),
    Number(i64),
    /// The content of a file, without the line's end.
    File {
        file: PathBuf,
    },
    /// A variable of the environment.
    Env {
        env: String,
    },
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) | Self::Flag(_) | Self::Number(_) => f.write_str("…"),
            Self::File { file } => write!(f, "the content of {}", file.display()),
            Self::Env { env } => write!(f, "${env}"),
        }
    }
}

fn transaction_timeout_ms() -> u32 {
    10_000
}

/// Properties that the runtime sets itself: another value would break what it promises.
const OURS: &[&str] = &[
    "transactional.id",
    "enable.idempotence",
    "transaction.timeout.ms",
    "acks",
    "request.required.acks",
    "isolation.level",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "allow.auto.create.topics",
    "socket.max.fails",
    "group.id",
    "bootstrap.servers",
    "metadata.broker.list",
    "batch.size",
    "message.max.bytes",
    "message.timeout.ms",
    "delivery.report.only.error",
];

/// A batch holds at most this, so that a topic with Kafka's default limit takes each; larger records go alone.
pub const BATCH_BYTES: usize = 512 << 10;

/// As `COMMON` says it.
const SOCKET_TIMEOUT_MS: u128 = 10_000;

/// What is good for every client, and may be overridden.
const COMMON: &[(&str, &str)] = &[
    // A connection that hangs is noticed within this; the default is a minute.
    ("socket.timeout.ms", "10000"),
    ("socket.keepalive.enable", "true"),
    ("socket.nagle.disable", "true"),
    // After an outage the cluster is tried again at least so often; the default waits up to 10 s.
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    // With 100 ms, the default, an epoch begun while the last one's markers are written waits that long.
    ("retry.backoff.ms", "5"),
    ("retry.backoff.max.ms", "500"),
];

const CONSUMER: &[(&str, &str)] = &[
    // With a second, the default, a job faster than the network starves once its queue was full.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "50"),
    ("queued.max.messages.kbytes", "32768"),
];

/// How soon a client that reads hears that there is nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once: somebody reads to the end and waits for it.
    Prompt,
    /// Seldom: what it reads has been quiet for long. Something new is told as soon as ever.
    Resting,
}

impl Pace {
    /// That a partition is read to its end is told by the answer behind the one with its last record, which comes
    /// after this where nothing more is written. Each answer names every partition, so many that rest would cost client
    /// and brokers much at the shorter wait. From a second on librdkafka lets a request block others.
    fn fetch_wait_ms(self) -> &'static str {
        match self {
            Pace::Prompt => "50",
            Pace::Resting => "950",
        }
    }
}

const PRODUCER: &[(&str, &str)] = &[
    // Output is to be seen under `read_uncommitted` as soon as it is computed.
    ("linger.ms", "1"),
    ("compression.type", "lz4"),
    ("queue.buffering.max.messages", "1000000"),
    ("queue.buffering.max.kbytes", "262144"),
];

/// The profile with its secrets looked up.
pub struct Cluster {
    pub bootstrap: String,
    pub replication: Option<u16>,
    pub transaction_timeout: Duration,
    common: Vec<(String, String)>,
    consumer: Vec<(String, String)>,
    producer: Vec<(String, String)>,
}

impl Profile {
    /// A cluster without security at this address.
    pub fn plain(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            properties: BTreeMap::new(),
            consumer: BTreeMap::new(),
            producer: BTreeMap::new(),
            replication: None,
            transaction_timeout_ms: transaction_timeout_ms(),
        }
    }

    /// Reads YAML.
    ///
    /// # Errors
    /// [`Error::Denied`] with the place of what is wrong.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        serde_saphyr::from_str(yaml).map_err(|error| Error::Denied {
            doing: "read the cluster profile".to_owned(),
            found: error.without_snippet().to_string(),
            remedy: "see docs/kafka.md for what a profile holds",
        })
    }

    /// Looks up the secrets and refuses what would break a promise.
    ///
    /// # Errors
    /// [`Error::Denied`] that names the property.
    pub fn resolve(&self) -> Result<Cluster, Error> {
        let resolved = |settings: &BTreeMap<String, Setting>| -> Result<Vec<(String, String)>, Error> {
            settings.iter().map(|(name, setting)| Ok((name.clone(), look_up(name, setting)?))).collect()
        };
        if self.transaction_timeout_ms < 1_000 {
            return Err(Error::Denied {
                doing: "read the cluster profile".to_owned(),
                found: format!("transaction_timeout_ms is {}", self.transaction_timeout_ms),
                remedy: "set at least 1000: an epoch must have ended well before it",
            });
        }
        Ok(Cluster {
            bootstrap: self.bootstrap.clone(),
            replication: self.replication,
            transaction_timeout: Duration::from_millis(u64::from(self.transaction_timeout_ms)),
            common: resolved(&self.properties)?,
            consumer: resolved(&self.consumer)?,
            producer: resolved(&self.producer)?,
        })
    }
}

fn look_up(name: &str, setting: &Setting) -> Result<String, Error> {
    let denied = |found: String, remedy| Error::Denied { doing: format!("read Kafka property {name}"), found, remedy };
    if OURS.contains(&name) {
        return Err(denied("Forebay sets it itself".to_owned(), "leave it out of the cluster profile"));
    }
    match setting {
        Setting::Text(text) => Ok(text.clone()),
        Setting::Flag(flag) => Ok(flag.to_string()),
        Setting::Number(number) => Ok(number.to_string()),
        Setting::File { file } => match std::fs::read_to_string(file) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(denied(format!("{}: {error}", file.display()), "put the secret into that file")),
        },
        Setting::Env { env } => {
            std::env::var(env).map_err(|_| denied(format!("${env} is not set"), "set that variable"))
        }
    }
}

impl Cluster {
    pub fn admin(&self) -> Vec<(String, String)> {
        self.settings(&[], &[], &[])
    }

    pub fn reader(&self, isolation: Isolation, pace: Pace) -> Vec<(String, String)> {
        let isolation = match isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        };
        let ours = [
            ("isolation.level", isolation),
            // Assignments need a group's name; nothing is ever committed under it.
            ("group.id", "forebay-reader"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("allow.auto.create.topics", "false"),
        ];
        let defaults = [CONSUMER, &[("fetch.wait.max.ms", pace.fetch_wait_ms())]].concat();
        self.settings(&defaults, &self.consumer, &ours)
    }

    /// For the client of a consumer group without members.
    pub fn group(&self, name: &str) -> Vec<(String, String)> {
        let ours = [("group.id", name), ("enable.auto.commit", "false"), ("allow.auto.create.topics", "false")];
        self.settings(CONSUMER, &self.consumer, &ours)
    }

    /// For a producer; transactional where it has an id.
    pub fn writer(&self, transactional_id: Option<&str>) -> Vec<(String, String)> {
        let (timeout, batch) = (self.transaction_timeout.as_millis().to_string(), BATCH_BYTES.to_string());
        // A request may not outlast its transaction: librdkafka refuses such a pair.
        let socket_timeout = self.transaction_timeout.as_millis().min(SOCKET_TIMEOUT_MS).to_string();
        let defaults = [PRODUCER, &[("socket.timeout.ms", socket_timeout.as_str())]].concat();
        let mut ours = vec![
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("socket.max.fails", "1"),
            ("batch.size", &batch),
            // Records are checked against their topic's limit before they get here.
            ("message.max.bytes", "1000000000"),
            ("message.timeout.ms", &timeout),
        ];
        if let Some(id) = transactional_id {
            ours.extend([("transactional.id", id), ("transaction.timeout.ms", &timeout)]);
        }
        self.settings(&defaults, &self.producer, &ours)
    }

    /// Later ones win.
    fn settings(
        &self,
        defaults: &[(&str, &str)],
        given: &[(String, String)],
        ours: &[(&str, &str)],
    ) -> Vec<(String, String)> {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut all = owned(&[("bootstrap.servers", &self.bootstrap), ("client.id", "forebay")]);
        all.extend(owned(COMMON));
        all.extend(owned(defaults));
        all.extend(self.common.iter().chain(given).cloned());
        all.extend(owned(ours));
        // A topic that was made again is told in a debug line of this context and nowhere else.
        let debug = all.iter().rfind(|(name, _)| name == "debug").map_or(String::new(), |(_, set)| format!("{set},"));
        all.push(("debug".to_owned(), format!("{debug}metadata")));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::native::{Client, Role};
    use super::*;

    #[test]
    fn a_profile_names_its_secrets_and_shows_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let yaml = format!(
            "bootstrap: a:1,b:2\nproperties:\n  security.protocol: SASL_SSL\n  sasl.password: {{ file: {} }}\n  \
             retry.backoff.ms: 7\nconsumer:\n  check.crcs: true\n",
            file.display()
        );
        let profile = Profile::parse(&yaml).unwrap();
        assert!(!format!("{profile:?}").contains("SASL_SSL"), "{profile:?}");
        let settings = profile.resolve().unwrap().reader(Isolation::ReadCommitted, Pace::Prompt);
        let last = |name: &str| settings.iter().rfind(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!(last("sasl.password"), Some("hunter2"));
        assert_eq!(last("retry.backoff.ms"), Some("7"));
        assert_eq!(last("check.crcs"), Some("true"));
        assert_eq!(last("auto.offset.reset"), Some("error"));
    }

    #[test]
    fn every_timeout_that_a_profile_may_set_makes_clients() {
        let default = COMMON.iter().find(|(name, _)| *name == "socket.timeout.ms").unwrap();
        assert_eq!(default.1, SOCKET_TIMEOUT_MS.to_string());
        for timeout in [1_000, 3_000, 9_899, 10_000, 60_000] {
            let yaml = format!("bootstrap: 127.0.0.1:1\ntransaction_timeout_ms: {timeout}\n");
            let cluster = Profile::parse(&yaml).unwrap().resolve().unwrap();
            let isolation = Isolation::ReadCommitted;
            let all = [
                (Role::Producer, cluster.writer(Some("id"))),
                (Role::Producer, cluster.writer(None)),
                (Role::Producer, cluster.admin()),
                (Role::Consumer, cluster.reader(isolation, Pace::Prompt)),
                (Role::Consumer, cluster.reader(isolation, Pace::Resting)),
                (Role::Consumer, cluster.group("group")),
            ];
            for (role, settings) in all {
                Client::new(role, &settings, None).unwrap_or_else(|error| panic!("{timeout} ms: {error}"));
            }
        }
        let given = Profile::parse("bootstrap: a\nproperties: {socket.timeout.ms: 2000}\n").unwrap().resolve().unwrap();
        let last = given.writer(None).into_iter().rfind(|(name, _)| name == "socket.timeout.ms").unwrap();
        assert_eq!(last.1, "2000", "what a profile says wins");
    }

    #[test]
    fn what_forebay_sets_itself_is_refused_by_name() {
        for name in ["transactional.id", "auto.offset.reset", "isolation.level"] {
            let profile = Profile::parse(&format!("bootstrap: a:1\nproperties:\n  {name}: x\n")).unwrap();
            let refused = profile.resolve().map(drop).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
        assert!(Profile::parse("bootstrap: a:1\nbootstap: b\n").is_err());
        let missing = Profile::parse("bootstrap: a\nproperties:\n  x: { env: NOT_SET_ANYWHERE }\n").unwrap();
        assert!(missing.resolve().map(drop).unwrap_err().to_string().contains("NOT_SET_ANYWHERE"));
    }
}
