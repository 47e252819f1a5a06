//! The real binary as a child process: started, watched, killed without warning, started again on the same data.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::api::Client;

/// How long a start may take: it recovers every job's state from disk.
const START_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start {binary}: {found}; build it first (docs/testing.md)")]
    Spawn { binary: String, found: std::io::Error },
    #[error("wait for the server: {found}; the end of {log}:\n{tail}")]
    NotReady { found: String, log: String, tail: String },
    #[error("{doing}: {found}")]
    Io { doing: String, found: std::io::Error },
}

pub struct Server {
    binary: PathBuf,
    folder: PathBuf,
    pub address: String,
    /// Beside those that say where data are and where it listens.
    arguments: Vec<String>,
    /// A variable that only it sees.
    secret: Option<(String, String)>,
    child: Option<Child>,
}

/// The build of the binary that has failpoints; it lies beside the other.
const WITH_FAILPOINTS: &str = "forebay-seeded";

/// Makes the server kill itself with SIGKILL at a named place: at once, or when `arm` is called.
pub struct Failpoint {
    setting: String,
    armed_by: Option<PathBuf>,
}

impl Failpoint {
    /// At the `count`th time that the place is passed.
    pub fn counted(name: &str, count: u64) -> Self {
        Self { setting: format!("{name}:{count}"), armed_by: None }
    }

    /// At the first time that the place is passed after `arm`. The server must have been started with it.
    pub fn on_demand(name: &str, folder: &Path) -> Self {
        let file = folder.join(format!("failpoint-{name}"));
        let _ = std::fs::remove_file(&file);
        Self { setting: format!("{name}@{}", file.display()), armed_by: Some(file) }
    }

    pub fn arm(&self) -> Result<(), Error> {
        let Some(file) = &self.armed_by else { return Ok(()) };
        let made = File::create(file).map(drop);
        made.map_err(|found| Error::Io { doing: format!("arm the failpoint with {}", file.display()), found })
    }
}

impl Server {
    /// `folder` holds the server's data and its log, and must outlive it. Nothing is started yet.
    pub fn new(binary: &Path, folder: &Path) -> Result<Self, Error> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.map_err(|found| Error::Io { doing: "find a free port".to_owned(), found })?.to_string();
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        Ok(Self { binary, folder, address, arguments: Vec::new(), secret: None, child: None })
    }

    /// Over a Kafka cluster, apart from the jobs of others there.
    #[must_use]
    pub fn on_kafka(mut self, bootstrap: &str, namespace: &str) -> Self {
        self.arguments = ["--kafka", bootstrap, "--namespace", namespace].map(str::to_owned).into();
        self
    }

    /// Over the cluster that a profile describes, whose secret stands in the environment.
    #[must_use]
    pub fn on_cluster(mut self, profile: &Path, (variable, secret): (&str, &str)) -> Self {
        self.arguments = vec!["--cluster".to_owned(), profile.display().to_string()];
        self.secret = Some((variable.to_owned(), secret.to_owned()));
        self
    }

    /// From its next start on it knows another cluster, by the profile that describes it.
    pub fn know_cluster(&mut self, name: &str, profile: &Path) {
        self.arguments.extend(["--other-cluster".to_owned(), format!("{name}={}", profile.display())]);
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&mut self, failpoint: Option<&Failpoint>) -> Result<Client, Error> {
        self.spawn(failpoint)?;
        self.ready().await
    }

    pub fn spawn(&mut self, failpoint: Option<&Failpoint>) -> Result<(), Error> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.map_err(|found| Error::Io { doing: format!("open {}", self.log_path().display()), found })?;
        let doubled = log.try_clone().map_err(|found| Error::Io { doing: "open the log twice".to_owned(), found })?;
        // The binary that people use has none.
        let binary = failpoint.map_or_else(|| self.binary.clone(), |_| self.binary.with_file_name(WITH_FAILPOINTS));
        let mut command = Command::new(&binary);
        command.arg("dev").arg("--data-dir").arg(self.data_dir()).args(["--listen", &self.address]);
        command.args(&self.arguments).envs(self.secret.clone());
        command.stdin(Stdio::null()).stdout(log).stderr(doubled).env_remove("FOREBAY_FAILPOINT");
        if let Some(failpoint) = failpoint {
            command.env("FOREBAY_FAILPOINT", &failpoint.setting);
        }
        let spawned = command.spawn();
        let binary = binary.display().to_string();
        self.child = Some(spawned.map_err(|found| Error::Spawn { binary, found })?);
        Ok(())
    }

    /// Waits until the server answers a call.
    pub async fn ready(&mut self) -> Result<Client, Error> {
        let client = Client::new(&self.address).map_err(|error| self.not_ready(error.to_string()))?;
        let since = Instant::now();
        loop {
            match client.jobs_running().await {
                Ok(_) => return Ok(client),
                Err(error) if since.elapsed() > START_PATIENCE => return Err(self.not_ready(error.to_string())),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
            if let Some(status) = self.exited() {
                return Err(self.not_ready(format!("it ended with {status}")));
            }
        }
    }

    /// How the process ended, where it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills the process without warning (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to end (SIGTERM) and waits until it has; kills it where it does not.
    pub async fn stop(&mut self, patience: Duration) -> bool {
        let Some(id) = self.process_id().and_then(|id| i32::try_from(id).ok()) else { return true };
        // SAFETY: a signal to a child of ours that has not been waited for.
        unsafe { libc::kill(id, libc::SIGTERM) };
        let ended = self.died(patience).await;
        self.kill();
        ended
    }

    /// Waits until the process has died at its failpoint; false where it still lives after `patience`.
    pub async fn died(&mut self, patience: Duration) -> bool {
        let since = Instant::now();
        while self.exited().is_none() {
            if since.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.child = None;
        true
    }

    /// Lets the process live on when this value is dropped.
    pub fn leave_running(&mut self) {
        self.child = None;
    }

    fn not_ready(&self, found: String) -> Error {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        Error::NotReady { found, log: self.log_path().display().to_string(), tail }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
