//! A cluster of real brokers on loopback, and the faults that can be done to it.
//!
//! Each node is broker and controller. Owns its folder, its ports and its processes: all three go when it is
//! dropped, and when its process dies. `Cluster::kept` is the exception, for people: it stays until it is stopped.
//! Nodes are counted from 1, as Kafka's ids of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{self, Shape};
use crate::installation::{Installation, finish};
use crate::place::{NODE, Place, is_free};
use crate::probe::{self, Coordinator, Metadata};
use crate::process::Process;
use crate::security::{Credentials, Listener, Security};

/// Generous: a loaded machine with two cores takes 20 s to start three nodes.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// A clean end takes seconds; a node that waits for a controller which is gone takes for ever.
const GRACE: Duration = Duration::from_secs(30);
const HEAP: [&str; 2] = ["-Xms256m", "-Xmx768m"];

/// What a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// 1, or 3 with replication 3 and `min.insync.replicas` 2.
    pub nodes: u32,
    pub security: Security,
    /// Broker properties beside those of the crate, and stronger than them.
    pub properties: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options { nodes: 1, security: Security::Plaintext, properties: Vec::new() }
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
}

pub struct Cluster {
    kafka: Installation,
    place: Place,
    credentials: Option<Credentials>,
    bootstrap: String,
    nodes: Vec<Mutex<Option<Process>>>,
}

impl Cluster {
    /// Starts a cluster that lives as long as the value, and returns when it answers.
    ///
    /// # Errors
    /// There is no Kafka to be had, or it did not start; with the end of its log.
    pub fn start(options: Options) -> Result<Cluster, String> {
        Cluster::start_with(Installation::get()?, options)
    }

    pub(crate) fn start_with(kafka: Installation, options: Options) -> Result<Cluster, String> {
        let place = Place::temporary(options.nodes)?;
        let mut cluster = Cluster::new(kafka, place, options.nodes);
        cluster.format(&options)?;
        cluster.up_all()?;
        Ok(cluster)
    }

    /// The cluster in this folder, which goes on when its process ends: started where it is down, made where it is
    /// not there. What it is was decided when it was made.
    ///
    /// # Errors
    /// As `start`; or the folder holds a cluster of another shape.
    pub fn kept(folder: &Path, port: u16, options: Options) -> Result<Cluster, String> {
        let shape = format!("{} {port} {}\n", options.nodes, u8::from(options.security == Security::All));
        let cluster = match fs::read_to_string(folder.join("shape")) {
            Err(_) => {
                let mut cluster = Cluster::new(Installation::get()?, Place::kept(folder, port)?, options.nodes);
                cluster.format(&options)?;
                let path = folder.join("shape");
                fs::write(&path, &shape).map_err(|error| format!("write {}: {error}", path.display()))?;
                cluster
            }
            Ok(found) if found == shape => Cluster::found(folder)?,
            Ok(_) => {
                return Err(format!("start a cluster: {} holds one of another shape: clean it first", folder.display()));
            }
        };
        cluster.up_all()?;
        Ok(cluster)
    }

    /// The cluster that `kept` made in this folder, whether it is up or not.
    ///
    /// # Errors
    /// There is none.
    pub fn found(folder: &Path) -> Result<Cluster, String> {
        let path = folder.join("shape");
        let shape =
            fs::read_to_string(&path).map_err(|_| format!("find a cluster in {}: there is none", folder.display()))?;
        let words: Vec<u16> = shape.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [nodes, port, secured] = words[..] else {
            return Err(format!("read {}: it says {shape:?}: remove the folder", path.display()));
        };
        let mut cluster = Cluster::new(Installation::get()?, Place::kept(folder, port)?, u32::from(nodes));
        cluster.credentials = (secured == 1).then(|| Credentials::in_folder(&folder.join("tls")));
        for node in 1..=cluster.len() {
            let pid = fs::read_to_string(cluster.folder(node).join("pid")).ok().and_then(|pid| pid.trim().parse().ok());
            *cluster.node(node) = pid.and_then(|pid| Process::found(pid, &cluster.properties_path(node)));
        }
        Ok(cluster)
    }

    fn new(kafka: Installation, place: Place, nodes: u32) -> Cluster {
        let bootstrap = config::bootstrap(place.port, nodes, Listener::Plaintext);
        let nodes = (0..nodes).map(|_| Mutex::new(None)).collect();
        Cluster { kafka, place, credentials: None, bootstrap, nodes }
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

    /// What a node says, as a file.
    pub fn log(&self, node: u32) -> PathBuf {
        self.folder(node).join("log")
    }

    /// kill -9.
    ///
    /// # Errors
    /// The system did not let it.
    pub fn kill(&self, node: u32) -> Result<(), String> {
        match self.node(node).take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It did not end in time; it is then killed.
    pub fn stop_gracefully(&self, node: u32) -> Result<(), String> {
        self.terminate(node)?;
        self.await_end(node)
    }

    /// SIGTERM to all nodes at once. One that waits for the others' votes in vain is killed.
    ///
    /// # Errors
    /// One could not even be killed.
    pub fn stop_all(&self) -> Result<(), String> {
        (1..=self.len()).try_for_each(|node| self.terminate(node))?;
        for node in 1..=self.len() {
            // A majority may have ended before it.
            let _ = self.await_end(node);
            self.kill(node)?;
        }
        Ok(())
    }

    /// Starts a node that is down, and waits until it is a member again.
    ///
    /// # Errors
    /// It ended or did not answer in time; with the end of its log.
    pub fn up(&self, node: u32) -> Result<(), String> {
        self.spawn(node)?;
        self.await_answer(node, 1)
    }

    /// Starts all nodes that are down, and waits until the cluster is whole: all are members, all replicas in sync,
    /// groups and transactions have their coordinators.
    ///
    /// # Errors
    /// As `up`.
    pub fn up_all(&self) -> Result<(), String> {
        (1..=self.len()).try_for_each(|node| self.spawn(node))?;
        (1..=self.len()).try_for_each(|node| self.await_answer(node, self.len()))?;
        for which in [Coordinator::Group, Coordinator::Transaction] {
            let port = self.port_of(1, Listener::Plaintext);
            self.wait_for(1, &format!("{which:?} coordinator"), || {
                probe::has_coordinator(port, which).unwrap_or(false)
            })?;
        }
        self.await_in_sync()
    }

    /// Waits until all partitions have their leaders and all replicas are in sync: nothing is lost by the next kill.
    ///
    /// # Errors
    /// It does not come to that in time.
    pub fn await_in_sync(&self) -> Result<(), String> {
        self.wait_for(1, "replicas in sync", || self.metadata().is_ok_and(|metadata| metadata.is_in_sync()))
    }

    /// SIGSTOP: a node that is silent but not gone.
    ///
    /// # Errors
    /// It is down.
    pub fn pause(&self, node: u32) -> Result<(), String> {
        self.signal(node, libc::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It is down.
    pub fn resume(&self, node: u32) -> Result<(), String> {
        self.signal(node, libc::SIGCONT)
    }

    pub fn is_up(&self, node: u32) -> bool {
        self.node(node).as_mut().is_some_and(Process::is_alive)
    }

    /// Runs a console tool of Kafka's against the cluster and returns what it printed. `class` is a whole name, or
    /// its last part: `TopicCommand`, `ConsumerGroupCommand`, `GetOffsetShell`, `ConsoleConsumer`, …
    ///
    /// # Errors
    /// It says that it failed; with all that it said.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String, String> {
        self.kafka.tool(&self.bootstrap, class, arguments)
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
        let mut answers = (1..=self.len()).map(|node| probe::metadata(self.port_of(node, Listener::Plaintext)));
        let last = |error: std::io::Error| format!("ask {} for its metadata: {error}", self.bootstrap);
        let first = answers.next().unwrap_or_else(|| Ok(Metadata::default()));
        answers.fold(first, |found, next| found.or(next)).map_err(last)
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
        let shape = Shape { nodes, port, credentials: self.credentials.as_ref(), properties: &options.properties };
        let taken = (0..nodes as u16 * NODE).find(|at| at % NODE < 5 && !is_free(port + at));
        if let Some(at) = taken {
            return Err(format!("start a cluster on port {}: something listens there: name another port", port + at));
        }
        // Of its own, so that a client which has met another cluster on this port notices.
        let cluster = format!("forebay-{port}-{}", std::process::id());
        let mut running = Vec::new();
        for node in 1..=nodes {
            let (folder, path) = (self.folder(node), self.properties_path(node));
            fs::create_dir_all(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
            let properties = shape.properties(node, &folder.join("data"));
            fs::write(&path, properties).map_err(|error| format!("write {}: {error}", path.display()))?;
            let mut command = self.kafka.tool_command("StorageTool");
            command.args(["format", "--cluster-id", &cluster, "--config"]).arg(&path);
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
        let mut command = self.kafka.command(&HEAP);
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

    /// Until the node answers with at least so many members, itself among them.
    fn await_answer(&self, node: u32, members: u32) -> Result<(), String> {
        let port = self.port_of(node, Listener::Plaintext);
        self.wait_for(node, "answer", || {
            let brokers = probe::metadata(port).map(|metadata| metadata.brokers).unwrap_or_default();
            brokers.len() >= members as usize && brokers.contains(&(node as i32))
        })
    }

    fn wait_for(&self, node: u32, what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
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

    fn terminate(&self, node: u32) -> Result<(), String> {
        let mut node = self.node(node);
        let alive = node.as_mut().and_then(|process| process.is_alive().then_some(process));
        alive.map_or(Ok(()), |process| process.signal(libc::SIGTERM))
    }

    fn await_end(&self, node: u32) -> Result<(), String> {
        let Some(mut process) = self.node(node).take() else { return Ok(()) };
        if process.wait(GRACE) {
            return Ok(());
        }
        process.kill()?;
        Err(format!("stop node {node}: it was still there after {} s, and was killed", GRACE.as_secs()))
    }

    fn signal(&self, node: u32, signal: libc::c_int) -> Result<(), String> {
        match self.node(node).as_mut() {
            Some(process) => process.signal(signal),
            None => Err(format!("send signal {signal} to node {node}: it is down")),
        }
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
