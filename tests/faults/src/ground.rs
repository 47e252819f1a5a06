//! What everything stands on: a cluster, a proxy before each of its nodes, and a hand that meddles with topics.
//!
//! The system under test comes through the proxies; the checker, the feed and the meddling go past them.

use std::time::{Duration, Instant};

use kafka_cluster::{Cluster, Options};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::proxy::{Flow, Proxy};

const ADMIN_PATIENCE: Duration = Duration::from_secs(20);
const END_PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(50);

pub struct Ground {
    pub cluster: Cluster,
    pub proxies: Vec<Proxy>,
    admin: AdminClient<DefaultClientContext>,
}

impl Ground {
    /// Starts a cluster of its own, with a proxy before each node.
    ///
    /// # Errors
    /// There is no Kafka to be had, or it did not start.
    pub async fn start(nodes: u32) -> Result<Ground, String> {
        let options = Ground::options(nodes);
        let cluster = tokio::task::block_in_place(|| Cluster::start(options))?;
        Ground::on(cluster).await
    }

    /// What its cluster must be.
    pub fn options(nodes: u32) -> Options {
        Options::nodes(nodes).proxied()
    }

    /// On a cluster that was started with `options`.
    ///
    /// # Errors
    /// The proxies' ports are taken.
    pub async fn on(cluster: Cluster) -> Result<Ground, String> {
        let mut proxies = Vec::new();
        for node in 1..=cluster.len() {
            let ports = cluster.proxied(node);
            let proxy = Proxy::start(ports.before, ports.behind).await;
            proxies.push(proxy.map_err(|error| format!("start a proxy on port {}: {error}", ports.before))?);
        }
        let admin = client(cluster.bootstrap()).create().map_err(|error| format!("make an admin client: {error}"))?;
        Ok(Ground { cluster, proxies, admin })
    }

    /// `bootstrap.servers` past the proxies.
    pub fn direct(&self) -> &str {
        self.cluster.bootstrap()
    }

    /// `bootstrap.servers` through them.
    pub fn proxied(&self) -> String {
        let nodes = (1..=self.cluster.len()).map(|node| format!("127.0.0.1:{}", self.cluster.proxied(node).before));
        nodes.collect::<Vec<_>>().join(",")
    }

    pub fn set_flow(&self, flow: Flow) {
        self.proxies.iter().for_each(|proxy| proxy.set(flow));
    }

    pub fn cut(&self) {
        self.proxies.iter().for_each(Proxy::cut);
    }

    /// # Errors
    /// Kafka's.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), String> {
        let doing = || format!("delete topic {topic}");
        let outcomes = self.admin.delete_topics(&[topic], &options()).await;
        settled(outcomes.map_err(|error| format!("{}: {error}", doing()))?, &doing())
    }

    /// Deletes the records before `offset`; before the end where there is none.
    ///
    /// # Errors
    /// Kafka's.
    pub async fn truncate(&self, topic: &str, partition: i32, offset: Option<i64>) -> Result<(), String> {
        let doing = format!("truncate {topic}/{partition}");
        let mut list = TopicPartitionList::new();
        let offset = offset.map_or(Offset::End, Offset::Offset);
        list.add_partition_offset(topic, partition, offset).map_err(|error| format!("{doing}: {error}"))?;
        let deleted =
            self.admin.delete_records(&list, &options()).await.map_err(|error| format!("{doing}: {error}"))?;
        let failed = deleted.elements().into_iter().find_map(|element| element.error().err());
        failed.map_or(Ok(()), |error| Err(format!("{doing}: {error}")))
    }

    /// Where a partition ends.
    ///
    /// # Errors
    /// Kafka's.
    pub fn end(&self, topic: &str, partition: i32) -> Result<i64, String> {
        tokio::task::block_in_place(|| end(self.admin.inner(), topic, partition))
    }

    /// Sets one setting of a topic, and all others to what the cluster presets.
    ///
    /// # Errors
    /// Kafka's.
    pub async fn configure(&self, topic: &str, name: &str, value: &str) -> Result<(), String> {
        let doing = || format!("set {name} of topic {topic}");
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let outcomes = self.admin.alter_configs([&change], &options()).await;
        match outcomes.map_err(|error| format!("{}: {error}", doing()))?.pop() {
            Some(Err((_, code))) => Err(format!("{}: {code}", doing())),
            _ => Ok(()),
        }
    }

    /// Partitions of a topic.
    ///
    /// # Errors
    /// Kafka's.
    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>, String> {
        let found = self.cluster.metadata()?.partitions.into_iter().filter(|found| found.topic == topic);
        Ok(found.map(|found| found.partition).collect())
    }

    /// Names of topics that begin so.
    ///
    /// # Errors
    /// Kafka's.
    pub fn topics(&self, prefix: &str) -> Result<Vec<String>, String> {
        let metadata = self.cluster.metadata()?;
        let mut names: Vec<_> = metadata.partitions.into_iter().map(|partition| partition.topic).collect();
        names.retain(|name| name.starts_with(prefix));
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Where a partition ends for a client.
///
/// # Errors
/// Kafka's.
pub fn end<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Result<i64, String> {
    let begun = Instant::now();
    loop {
        match client.fetch_watermarks(topic, partition, ADMIN_PATIENCE) {
            Ok((_, end)) => return Ok(end),
            Err(error) if begun.elapsed() > END_PATIENCE => {
                return Err(format!("ask for the end of {topic}/{partition}: {error}"));
            }
            Err(_) => {
                // Who heard last that nobody leads is told no more by itself.
                let _ = client.fetch_metadata(Some(topic), ADMIN_PATIENCE);
                // sleep: a broker that has just come up does not lead yet
                std::thread::sleep(AGAIN);
            }
        }
    }
}

/// A client that goes past the proxies.
pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "500");
    // What it says of brokers that the tests kill is of no interest.
    config.set("log_level", "0");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ADMIN_PATIENCE)).operation_timeout(Some(ADMIN_PATIENCE))
}

fn settled(
    outcomes: Vec<Result<String, (String, rdkafka::types::RDKafkaErrorCode)>>,
    doing: &str,
) -> Result<(), String> {
    match outcomes.into_iter().find_map(Result::err) {
        Some((_, code)) => Err(format!("{doing}: {code}")),
        None => Ok(()),
    }
}
