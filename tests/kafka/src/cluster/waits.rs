//! Waiting until a cluster is what it is said to be, and what it says of itself.

use std::fs;
use std::time::{Duration, Instant};

use super::Cluster;
use crate::probe::{self, Metadata};
use crate::security::Listener;

/// Generous: a loaded machine with two cores may take 20 s to start three nodes.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

impl Cluster {
    /// Waits until all partitions have their leaders and all replicas are in sync: nothing is lost by the next kill.
    ///
    /// # Errors
    /// It does not come to that in time.
    pub fn await_in_sync(&self) -> Result<(), String> {
        self.wait_for(1, "replicas in sync", || self.metadata().is_ok_and(|metadata| metadata.is_in_sync()))
    }

    /// Makes a topic with the cluster's replication, and waits until its partitions have leaders.
    ///
    /// # Errors
    /// It is there already, or could not be made.
    pub fn create_topic(&self, topic: &str, partitions: u32, settings: &[(&str, &str)]) -> Result<(), String> {
        let partitions_text = partitions.to_string();
        let mut arguments = vec!["--create", "--topic", topic, "--partitions", &partitions_text];
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        arguments.extend(settings.iter().flat_map(|setting| ["--config", setting]));
        self.tool("TopicCommand", &arguments)?;
        self.wait_for(1, &format!("leaders of {topic}"), || {
            let led = |metadata: Metadata| {
                let led =
                    metadata.partitions.iter().filter(|partition| partition.topic == topic && partition.leader >= 0);
                led.count() == partitions as usize
            };
            self.metadata().is_ok_and(led)
        })
    }

    /// What the first node that answers says of the cluster.
    ///
    /// # Errors
    /// None answers.
    pub fn metadata(&self) -> Result<Metadata, String> {
        let mut last = None;
        for node in 1..=self.len() {
            match probe::metadata(self.port_of(node, Listener::Plaintext)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => last = Some(error),
            }
        }
        let last = last.map_or_else(String::new, |error| error.to_string());
        Err(format!("ask {} for its metadata: {last}", self.bootstrap))
    }

    /// Until the node answers with at least so many members, itself among them.
    pub(super) fn await_answer(&self, node: u32, members: u32) -> Result<(), String> {
        let port = self.port_of(node, Listener::Plaintext);
        self.wait_for(node, "answer", || {
            let brokers = probe::metadata(port).map(|metadata| metadata.brokers).unwrap_or_default();
            brokers.len() >= members as usize && brokers.contains(&(node as i32))
        })
    }

    pub(super) fn wait_for(&self, node: u32, what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            let ended = (1..=self.len()).find(|node| self.node(*node).as_mut().is_some_and(|node| !node.is_alive()));
            if let Some(ended) = ended {
                return Err(format!("wait for {what}: node {ended} has ended: {}", self.end_of_log(ended)));
            }
            if Instant::now() > deadline {
                let log = self.end_of_log(node);
                return Err(format!("wait for {what} of node {node}: none after {} s: {log}", PATIENCE.as_secs()));
            }
            // sleep: a broker tells nobody when it is ready
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn end_of_log(&self, node: u32) -> String {
        let path = self.log(node);
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        format!("the end of {}:\n{}", path.display(), lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}
