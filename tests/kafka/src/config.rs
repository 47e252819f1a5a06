//! What a broker of tests is told: `server.properties`.

use std::fmt::Write;
use std::path::Path;

use crate::place::NODE;
use crate::security::{Credentials, Listener};

/// Added to a node's first port.
const CONTROLLER: u16 = 1;
pub const PROXIED: u16 = 5;
pub const BEFORE_PROXIED: u16 = 6;

/// What all nodes of a cluster have in common.
pub struct Shape<'a> {
    pub nodes: u32,
    pub port: u16,
    pub credentials: Option<&'a Credentials>,
    /// Written last, and so stronger than all others.
    pub properties: &'a [(String, String)],
    pub proxied: bool,
}

/// The port of a listener of node `node`, counted from 1.
pub fn port(first: u16, node: u32, listener: Listener) -> u16 {
    first + (node as u16 - 1) * NODE + listener.port_offset()
}

/// `bootstrap.servers` of a listener.
pub fn bootstrap(first: u16, nodes: u32, listener: Listener) -> String {
    let servers: Vec<String> = (1..=nodes).map(|node| format!("127.0.0.1:{}", port(first, node, listener))).collect();
    servers.join(",")
}

impl Shape<'_> {
    /// The properties of one node, whose data lies in `data`.
    pub fn properties(&self, node: u32, data: &Path) -> String {
        let replicas = self.nodes.min(3);
        let in_sync = if replicas < 3 { 1 } else { 2 };
        let controller = |node| port(self.port, node, Listener::Plaintext) + CONTROLLER;
        let voters: Vec<String> =
            (1..=self.nodes).map(|node| format!("{node}@127.0.0.1:{}", controller(node))).collect();
        let open: &[Listener] = if self.credentials.is_some() { &Listener::ALL } else { &[Listener::Plaintext] };
        let mut listeners: Vec<String> = open
            .iter()
            .map(|listener| format!("{}://127.0.0.1:{}", listener.name(), port(self.port, node, *listener)))
            .collect();
        let mut advertised = listeners.clone();
        if self.proxied {
            let first = port(self.port, node, Listener::Plaintext);
            listeners.push(format!("PROXIED://127.0.0.1:{}", first + PROXIED));
            advertised.push(format!("PROXIED://127.0.0.1:{}", first + BEFORE_PROXIED));
        }
        let (listeners, advertised) = (listeners.join(","), advertised.join(","));
        let mut text = format!(
            "process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# Tests say what topics there are.
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
# Internal topics as small as they can be.
offsets.topic.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
log.cleaner.dedupe.buffer.size=16777216
# Deaths are noticed while a test waits for it. A broker that was killed is let in again when its session is over.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.cleaner.backoff.ms=250
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
",
            voters = voters.join(","),
            controller = controller(node),
            data = data.display(),
        );
        if let Some(credentials) = self.credentials {
            text.push_str(&credentials.broker_properties());
        }
        if self.proxied {
            text.push_str(
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT\n",
            );
        }
        for (name, value) in self.properties {
            let _ = writeln!(text, "{name}={value}");
        }
        text
    }
}
