//! The real binary as a process: started, stopped for a while, killed, started again on the same data.
//!
//! Owns one data directory, one address and at most one process. What the process says goes to a file in its folder.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use market_data::api::Client;
use tokio::time::sleep;

use crate::binaries;

const POLL: Duration = Duration::from_millis(5);
/// To commit what is open, and to bring the store to disk.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// Generous: the machine may be busy with three brokers.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Where a server finds its topics and which jobs are its own.
#[derive(Clone, Debug)]
pub struct Place {
    /// A cluster profile.
    pub profile: PathBuf,
    pub namespace: String,
}

pub struct Server {
    program: PathBuf,
    folder: PathBuf,
    place: Place,
    address: String,
    child: Option<Child>,
    environment: Vec<(String, String)>,
}

impl Server {
    /// `folder` will hold its data and what it says. Nothing is started yet.
    ///
    /// # Errors
    /// The binary is not built, or the folder cannot be made.
    pub fn new(folder: &Path, place: &Place) -> Result<Server, String> {
        Server::of("forebay", folder, place)
    }

    /// The same with another build of the binary.
    ///
    /// # Errors
    /// As `new`.
    pub fn of(program: &str, folder: &Path, place: &Place) -> Result<Server, String> {
        fs::create_dir_all(folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| format!("find a free port: {error}"))?.to_string();
        Ok(Server {
            program: binaries::program(program)?,
            folder: folder.to_owned(),
            place: place.clone(),
            address,
            child: None,
            environment: Vec::new(),
        })
    }

    /// For every later start.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Takes the data of another server for its own, as a copied disk would.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copy_data_of(&self, other: &Server) -> Result<(), String> {
        replace_folder(&other.data(), &self.data())
    }

    /// Starts the process and does not wait.
    ///
    /// # Errors
    /// The system's.
    pub fn spawn(&mut self, failpoint: Option<&Failpoint>) -> Result<(), String> {
        let path = self.log_path();
        let open = || File::options().create(true).append(true).open(&path);
        let log = open().map_err(|error| format!("open {}: {error}", path.display()))?;
        let copy = log.try_clone().map_err(|error| format!("open {}: {error}", path.display()))?;
        // The binary that people use has no failpoints.
        let program = match failpoint {
            Some(_) => binaries::program("forebay-seeded")?,
            None => self.program.clone(),
        };
        let mut command = Command::new(&program);
        command.arg("dev").arg("--data-dir").arg(self.data()).args(["--listen", &self.address]);
        command.arg("--cluster").arg(&self.place.profile).args(["--namespace", &self.place.namespace]);
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        command.env_remove("FOREBAY_FAILPOINT").env_remove("FOREBAY_BUG").env("FOREBAY_LOG_FORMAT", "text");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(failpoint) = failpoint {
            command.env("FOREBAY_FAILPOINT", failpoint.setting());
        }
        let child = command.spawn().map_err(|error| format!("start {}: {error}", program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ended or does not answer in time; with the end of what it said.
    pub async fn ready(&mut self) -> Result<Client, String> {
        let client = Client::new(&self.address).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        loop {
            match client.jobs_running().await {
                Ok(_) => return Ok(client),
                Err(error) if begun.elapsed() > START_PATIENCE => {
                    return Err(self.complaint(&format!("it does not answer: {error}")));
                }
                Err(_) => {}
            }
            if let Some(status) = self.exited() {
                return Err(self.complaint(&format!("it ended with {status}")));
            }
            // sleep: a process tells nobody when it listens
            sleep(POLL).await;
        }
    }

    /// # Errors
    /// As `spawn` and `ready`.
    pub async fn start(&mut self, failpoint: Option<&Failpoint>) -> Result<Client, String> {
        self.spawn(failpoint)?;
        self.ready().await
    }

    /// A client of the running process; it connects with its first call.
    ///
    /// # Errors
    /// The address is none.
    pub fn client(&self) -> Result<Client, String> {
        Client::new(&self.address).map_err(|error| error.to_string())
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// The id of the process; none where it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It lives on.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus, String> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return Ok(status);
            }
            if begun.elapsed() > patience {
                return Err(self.complaint("it should have ended and lives on"));
            }
            // sleep: polls for the end of a process
            sleep(POLL).await;
        }
    }

    /// SIGSTOP: it stands still and does not know it.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(libc::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> Result<(), String> {
        self.signal(libc::SIGCONT)
    }

    /// SIGTERM: it commits what is open and ends.
    ///
    /// # Errors
    /// It does not run.
    pub fn terminate(&self) -> Result<(), String> {
        self.signal(libc::SIGTERM)
    }

    /// Ends it so: its store holds everything then, and no transaction is left open.
    ///
    /// # Errors
    /// It does not run, or lives on.
    pub async fn end_well(&mut self) -> Result<(), String> {
        self.terminate()?;
        self.ended(END_PATIENCE).await.map(drop)
    }

    fn signal(&self, signal: libc::c_int) -> Result<(), String> {
        let child = self.child.as_ref().ok_or("send a signal to the server: it does not run")?;
        // SAFETY: two numbers, and the id is that of a child that was not waited for.
        match unsafe { libc::kill(child.id() as libc::pid_t, signal) } {
            0 => Ok(()),
            _ => Err(format!("send signal {signal} to the server: {}", std::io::Error::last_os_error())),
        }
    }

    /// Everything that it has said in all its lives.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    pub fn complaint(&self, found: &str) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let end = lines[lines.len().saturating_sub(25)..].join("\n");
        format!("the server in {}: {found}; the end of what it said:\n{end}", self.folder.display())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes the server kill itself with SIGKILL where it passes a named place.
pub struct Failpoint {
    name: String,
    strikes: Strikes,
}

enum Strikes {
    At(u64),
    Armed(PathBuf),
}

impl Failpoint {
    /// At the `count`th time that the place is passed.
    pub fn counted(name: &str, count: u64) -> Failpoint {
        Failpoint { name: name.to_owned(), strikes: Strikes::At(count) }
    }

    /// At the first time that it is passed after `arm`.
    pub fn armed_later(name: &str, folder: &Path) -> Failpoint {
        let file = folder.join(format!("failpoint-{name}"));
        // There is one where an earlier round used the same place.
        let _ = fs::remove_file(&file);
        Failpoint { name: name.to_owned(), strikes: Strikes::Armed(file) }
    }

    /// # Errors
    /// The file cannot be made.
    pub fn arm(&self) -> Result<(), String> {
        match &self.strikes {
            Strikes::At(_) => Ok(()),
            Strikes::Armed(file) => {
                File::create(file).map(drop).map_err(|error| format!("make {}: {error}", file.display()))
            }
        }
    }

    fn setting(&self) -> String {
        match &self.strikes {
            Strikes::At(count) => format!("{}:{count}", self.name),
            Strikes::Armed(file) => format!("{}@{}", self.name, file.display()),
        }
    }
}

/// Puts a copy of one folder in place of another.
///
/// # Errors
/// The system's.
pub fn replace_folder(from: &Path, to: &Path) -> Result<(), String> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("remove {}: {error}", to.display()));
        }
        _ => {}
    }
    copy_folder(from, to).map_err(|error| format!("copy {} to {}: {error}", from.display(), to.display()))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
