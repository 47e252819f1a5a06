//! A cluster of real brokers on loopback, and the faults that can be done to it.
//!
//! Each node is broker and controller. Owns its folder, its ports and its processes: all three go when it is
//! dropped, and when its process dies. A kept one is the exception, for people: it stays until it is stopped.
//! Nodes are counted from 1, as Kafka's ids of them.

mod faults;
mod kept;
mod waits;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::{self, Shape};
use crate::installation::{Installation, QUICK, finish};
use crate::place::{NODE, Place, is_free};
use crate::process::Process;
use crate::security::{Credentials, Listener, Security};

const HEAP: [&str; 2] = ["-Xms256m", "-Xmx768m"];

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// 1, or 3 with replication 3 and `min.insync.replicas` 2.
    pub nodes: u32,
    pub security: Security,
    /// Broker properties beside those of the crate, and stronger than them.
    pub properties: Vec<(String, String)>,
    /// Each node has one more listener, which tells its clients to come to another port: `Cluster::proxied`.
    pub proxied: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { nodes: 1, security: Security::Plaintext, properties: Vec::new(), proxied: false }
    }
}

impl Options {
    pub fn nodes(nodes: u32) -> Options {
        Options { nodes, ..Options::default() }
    }

    pub fn secured() -> Options {
        Options { security: Security::All, ..Options::default() }
    }

    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Options {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leads the clients of one more listener through a proxy. For a cluster without security.
    #[must_use]
    pub fn proxied(self) -> Options {
        Options { proxied: true, ..self }
    }
}

/// The two ports of a node's proxied listener.
#[derive(Clone, Copy, Debug)]
pub struct Proxied {
    /// Where the proxy is to listen: the address that the node gives to clients of this listener.
    pub before: u16,
    /// Where the node listens for it.
    pub behind: u16,
}

pub struct Cluster {
    kafka: Installation,
    place: Place,
    credentials: Option<Credentials>,
    bootstrap: String,
    /// Of the JVM, beside the heap's.
    flags: Vec<String>,
    nodes: Vec<Mutex<Option<Process>>>,
}

impl Cluster {
    /// Starts a cluster that lives as long as the value, and returns when it answers.
    ///
    /// # Errors
    /// There is no Kafka to be had, or it did not start; with the end of its log.
    pub fn start(options: Options) -> Result<Cluster, String> {
        Cluster::start_with_flags(Installation::prepared()?, &options, Vec::new())
    }

    /// Brokers for tests: up sooner and with less work for the machine, but never as fast as they can be.
    pub(crate) fn start_quick(kafka: Installation, options: &Options) -> Result<Cluster, String> {
        Cluster::start_with_flags(kafka, options, vec![QUICK.to_owned()])
    }

    pub(crate) fn start_with_flags(
        kafka: Installation,
        options: &Options,
        flags: Vec<String>,
    ) -> Result<Cluster, String> {
        let place = Place::temporary(options.nodes)?;
        let mut cluster = Cluster::new(kafka, place, options.nodes);
        cluster.flags = flags;
        cluster.format(options)?;
        cluster.up_all()?;
        Ok(cluster)
    }

    fn new(kafka: Installation, place: Place, nodes: u32) -> Cluster {
        let bootstrap = config::bootstrap(place.port, nodes, Listener::Plaintext);
        let nodes = (0..nodes).map(|_| Mutex::new(None)).collect();
        Cluster { kafka, place, credentials: None, bootstrap, flags: Vec::new(), nodes }
    }

    /// `bootstrap.servers` of the listener without security.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// `bootstrap.servers` of any listener that the cluster has.
    pub fn bootstrap_of(&self, listener: Listener) -> String {
        config::bootstrap(self.place.port, self.len(), listener)
    }

    /// What clients of the secured listeners need; None where there are none.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// How many nodes it has, up or not.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The port of a node's listener.
    pub fn port_of(&self, node: u32, listener: Listener) -> u16 {
        config::port(self.place.port, node, listener)
    }

    /// The ports of a node's proxied listener. Something must listen on the one before it: the cluster does not.
    pub fn proxied(&self, node: u32) -> Proxied {
        let first = self.port_of(node, Listener::Plaintext);
        Proxied { before: first + config::BEFORE_PROXIED, behind: first + config::PROXIED }
    }

    /// Where a node keeps the partitions, one folder each: to be meddled with while it is down.
    pub fn data(&self, node: u32) -> PathBuf {
        self.folder(node).join("data")
    }

    /// What a node says, as a file.
    pub fn log(&self, node: u32) -> PathBuf {
        self.folder(node).join("log")
    }

    pub fn is_up(&self, node: u32) -> bool {
        self.node(node).as_mut().is_some_and(Process::is_alive)
    }

    /// Its process; None where it is down.
    pub fn pid(&self, node: u32) -> Option<u32> {
        self.node(node).as_ref().map(Process::pid)
    }

    /// Runs a console tool of Kafka's against the cluster and returns what it printed. `class` is a whole name, or
    /// its last part: `TopicCommand`, `ConsumerGroupCommand`, `GetOffsetShell`, `ConsoleConsumer`, …
    ///
    /// # Errors
    /// It says that it failed; with all that it said.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String, String> {
        self.kafka.tool(&self.bootstrap, class, arguments)
    }

    /// The same as a command: for a tool that reads its input, or is stopped from outside.
    pub fn tool_command(&self, class: &str, arguments: &[&str]) -> Command {
        self.kafka.tool_command(&self.bootstrap, class, arguments)
    }

    /// Stops what is running and removes everything. For a process that ends without dropping its cluster.
    pub fn destroy(&self) {
        for node in &self.nodes {
            // Not one that another thread is busy with: this may be the end of the process.
            if let Ok(mut node) = node.try_lock()
                && let Some(mut process) = node.take()
            {
                let _ = process.kill();
            }
        }
        self.place.remove();
    }

    fn format(&mut self, options: &Options) -> Result<(), String> {
        if options.security == Security::All {
            self.credentials = Some(Credentials::make(&self.kafka, &self.place.folder.join("tls"))?);
        }
        let (nodes, port) = (self.len(), self.place.port);
        let (credentials, properties, proxied) = (self.credentials.as_ref(), &options.properties[..], options.proxied);
        let shape = Shape { nodes, port, credentials, properties, proxied };
        let taken = (0..nodes as u16 * NODE).find(|at| at % NODE < 7 && !is_free(port + at));
        if let Some(at) = taken {
            return Err(format!("start a cluster on port {}: something listens there: name another port", port + at));
        }
        // Of its own, so that a client which has met another cluster on this port notices.
        let cluster = format!("forebay-{port}-{}", std::process::id());
        let mut running = Vec::new();
        for node in 1..=nodes {
            let (folder, path) = (self.folder(node), self.properties_path(node));
            // Left by one that could not be made whole.
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
            let properties = shape.properties(node, &self.data(node));
            fs::write(&path, properties).map_err(|error| format!("write {}: {error}", path.display()))?;
            let mut command =
                self.kafka.tool_command("", "StorageTool", &["format", "--cluster-id", &cluster, "--config"]);
            command.arg(&path);
            command.args(self.credentials.iter().flat_map(Credentials::scram_users));
            running.push(std::thread::spawn(move || finish(&mut command, "StorageTool format")));
        }
        for formatted in running {
            formatted.join().map_err(|_| "format a node: its thread panicked".to_owned())??;
        }
        Ok(())
    }

    fn spawn(&self, node: u32) -> Result<(), String> {
        let mut process = self.node(node);
        if process.as_mut().is_some_and(Process::is_alive) {
            return Ok(());
        }
        let flags: Vec<&str> = HEAP.into_iter().chain(self.flags.iter().map(String::as_str)).collect();
        let mut command = self.kafka.command(&flags);
        let properties = self.properties_path(node);
        command.arg("kafka.Kafka").arg(&properties);
        let log = self.log(node);
        if self.place.is_temporary() {
            *process = Some(Process::bound(command, &log)?);
            return Ok(());
        }
        let started = Process::detached(command, &log, &properties)?;
        let path = self.folder(node).join("pid");
        fs::write(&path, started.pid().to_string()).map_err(|error| format!("write {}: {error}", path.display()))?;
        *process = Some(started);
        Ok(())
    }

    fn node(&self, node: u32) -> MutexGuard<'_, Option<Process>> {
        assert!((1..=self.len()).contains(&node), "there is no node {node}: they are counted from 1 to {}", self.len());
        self.nodes[node as usize - 1].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, node: u32) -> PathBuf {
        self.place.folder.join(format!("node{node}"))
    }

    fn properties_path(&self, node: u32) -> PathBuf {
        self.folder(node).join("server.properties")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.place.is_temporary() {
            self.destroy();
        }
    }
}
