//! One job of the tests under harm: its topics, its server, its input and who watches its output.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use market_data::api::Client;
use market_data::api::proto::{Job, Task, TaskPhase};
use market_data::random::Random;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use crate::binaries;
use crate::feed::{Feed, Input};
use crate::ground::Ground;
use crate::judge::{self, Case, Guest, Refused, Verdict};
use crate::server::{Place, Server};
use crate::watch::{Mark, Watch};

/// How long a job that was harmed may take to write again; generous, since the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// The cluster profile in a bed's folder.
const PROFILE: &str = "cluster.yaml";
const POLL: Duration = Duration::from_millis(20);
/// The checker's wait for what must still come.
const VERIFY_S: u64 = 120;

#[derive(Clone, Debug)]
pub struct Settings {
    pub guest: Guest,
    pub partitions: u32,
    pub parallelism: u32,
    pub commit_ms: u64,
    pub rate: u64,
    pub piece_s: u64,
    pub keys: u64,
    pub poison: u32,
    pub seed: u64,
    /// Of the cluster profile: longer than this, and the cluster ends a transaction by itself.
    pub transaction_timeout_ms: u64,
    /// Lines under `properties` of the cluster profile.
    pub properties: Vec<(String, String)>,
    /// How long the checker waits for output that must still come.
    pub verify_s: u64,
    /// A build that breaks a rule on purpose, and which.
    pub bug: Option<String>,
}

impl Settings {
    pub fn of(guest: Guest, seed: u64) -> Settings {
        Settings {
            guest,
            partitions: 4,
            parallelism: 2,
            commit_ms: 100,
            rate: 1_000,
            piece_s: 2,
            keys: 100,
            // A version that traps on them must do so often enough to be taken back while it is watched.
            poison: if guest == Guest::Counter { 60 } else { 2 },
            seed,
            transaction_timeout_ms: 10_000,
            // A connection that hangs is given up soon, so that rounds are short.
            properties: vec![("socket.timeout.ms".to_owned(), "2000".to_owned())],
            verify_s: VERIFY_S,
            bug: None,
        }
    }
}

pub struct Bed<'g> {
    pub ground: &'g Ground,
    pub name: String,
    pub settings: Settings,
    pub server: Server,
    pub watch: Watch,
    pub random: Random,
    pub folder: TempDir,
    /// Rounds done in it so far, for whoever watches.
    progress: fn(&str),
    feed: Option<Feed>,
    /// Records of feeds that have ended.
    fed: u64,
    refused: Refused,
}

impl<'g> Bed<'g> {
    /// Starts a server, makes the topics and the job, and returns when it runs. There is no input yet.
    ///
    /// # Errors
    /// Anything that did not come up.
    pub async fn new(ground: &'g Ground, name: &str, settings: Settings) -> Result<Bed<'g>, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("make a folder for {name}: {error}"))?;
        write(&folder.path().join(PROFILE), &profile_of(&ground.proxied(), &settings))?;
        let mut server = server_of(folder.path(), "a", name, &settings)?;
        let client = server.start(None).await?;
        push(&client, settings.guest.name()).await?;
        for topic in [format!("{name}.in"), format!("{name}.out")] {
            client.create_topic(&topic, settings.partitions as usize).await.map_err(|error| error.to_string())?;
        }
        let watch = Watch::start(ground.direct(), &format!("{name}.out"), settings.partitions as i32)?;
        let random = Random::new(settings.seed ^ fnv(name));
        let bed = Bed {
            ground,
            name: name.to_owned(),
            settings,
            server,
            watch,
            random,
            folder,
            progress: |_| {},
            feed: None,
            fed: 0,
            refused: Refused::default(),
        };
        client.apply(&bed.spec(name)).await.map_err(|error| error.to_string())?;
        bed.running().await?;
        Ok(bed)
    }

    /// Another process for the same jobs, with a data directory of its own. It is not started.
    ///
    /// # Errors
    /// As `Server::of`.
    pub fn another_server(&self, folder: &str) -> Result<Server, String> {
        server_of(self.folder.path(), folder, &self.name, &self.settings)
    }

    pub fn input(&self) -> String {
        format!("{}.in", self.name)
    }

    pub fn output(&self) -> String {
        format!("{}.out", self.name)
    }

    /// Of a job that reads the bed's input; each has an output of its name.
    pub fn spec(&self, job: &str) -> String {
        let Settings { guest, parallelism, commit_ms, .. } = &self.settings;
        let (guest, input) = (guest.name(), self.input());
        let result = match self.settings.guest {
            Guest::Checked => "results",
            Guest::Counter => "counts",
        };
        format!(
            "name: {job}\nparallelism: {parallelism}\nsources:\n  - {{id: in, topic: {input}}}\noperators:\n  - {{id: \
             op, module: {guest}@1.0.0, inputs: {{input: in}}}}\nsinks:\n  - {{id: out, topic: {job}.out, from: \
             op.{result}}}\ncommit: {{interval: {commit_ms}ms}}\n"
        )
    }

    /// # Errors
    /// The checker is not built.
    pub fn start_feed(&mut self) -> Result<(), String> {
        if self.feed.is_none() {
            let Settings { rate, keys, poison, seed, piece_s, .. } = self.settings;
            let (bootstrap, topic) = (self.ground.direct().to_owned(), self.input());
            let from = self.fed;
            self.feed = Some(Feed::start(Input { bootstrap, topic, rate, keys, poison, seed, piece_s, from })?);
        }
        Ok(())
    }

    /// # Errors
    /// The checker's.
    pub async fn stop_feed(&mut self) -> Result<(), String> {
        if let Some(feed) = self.feed.take() {
            self.fed += feed.stop().await?;
        }
        Ok(())
    }

    /// Waits until every task of the job runs.
    ///
    /// # Errors
    /// One has failed, with its reason; or it takes too long.
    pub async fn running(&self) -> Result<Job, String> {
        running(&self.server.client()?, &self.name).await
    }

    /// What a fault cost: from its moment to the first new output.
    ///
    /// # Errors
    /// There is none, and why as far as the server says.
    pub async fn new_output(&mut self, mark: &Mark) -> Result<Duration, String> {
        let begun = Instant::now();
        loop {
            match self.watch.new_output(mark, Duration::from_millis(250)).await {
                Ok(recovery) => return Ok(recovery),
                Err(why) if begun.elapsed() > PATIENCE => return Err(self.server.complaint(&why)),
                Err(_) => {}
            }
            if let Some(status) = self.server.exited() {
                return Err(self.server.complaint(&format!("it ended with {status}")));
            }
        }
    }

    /// Marks the end of the output now, and waits until there is more.
    ///
    /// # Errors
    /// As `new_output`.
    pub async fn goes_on(&mut self) -> Result<Duration, String> {
        let mark = self.watch.mark(Instant::now())?;
        self.new_output(&mark).await
    }

    /// Waits until there is new output behind the mark in every partition that is watched: each task of a job writes then.
    /// Answers how long that is after the mark's moment.
    ///
    /// # Errors
    /// Some task does not, and why as far as the server says.
    pub async fn new_output_everywhere(&self, watch: &Watch, mark: &Mark) -> Result<Duration, String> {
        watch.new_output_everywhere(mark, PATIENCE).await.map_err(|why| self.server.complaint(&why))
    }

    /// Another job on the same input, and who watches its output.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn another_job(&self, job: &str) -> Result<(String, Watch), String> {
        let client = self.server.client()?;
        let output = format!("{job}.out");
        client.create_topic(&output, self.settings.partitions as usize).await.map_err(|error| error.to_string())?;
        let watch = Watch::start(self.ground.direct(), &output, self.settings.partitions as i32)?;
        client.apply(&self.spec(job)).await.map_err(|error| error.to_string())?;
        running(&client, job).await?;
        Ok((job.to_owned(), watch))
    }

    /// The harm has ended: waits until the job writes and all its tasks run. Answers how long that took.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn round_is_over(&mut self) -> Result<Duration, String> {
        let recovery = self.goes_on().await?;
        self.running().await?;
        self.tick();
        Ok(recovery)
    }

    /// kill -9, and the same again at once. Answers how long there was no new output.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn kill_and_restart(&mut self) -> Result<Duration, String> {
        let at = Instant::now();
        self.server.kill();
        self.come_back(at).await
    }

    /// Starts the server, which died at `at`, and waits for new output.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn come_back(&mut self, at: Instant) -> Result<Duration, String> {
        let mark = self.watch.mark(at)?;
        self.server.spawn(None)?;
        self.new_output(&mark).await
    }

    /// A pause of up to so many milliseconds, by the seed.
    pub async fn linger(&mut self, most_ms: u64) {
        // sleep: the moment of a fault is meant to fall anywhere in an epoch
        sleep(Duration::from_millis(self.random.below(most_ms))).await;
    }

    /// Ends the input, and has the checker judge all of it.
    ///
    /// # Errors
    /// The job does not come to the end, or nothing can be said of it.
    pub async fn judge(&mut self, require_aborted: bool) -> Result<Verdict, String> {
        self.stop_feed().await?;
        let verdict = judge::verify(&self.case(&self.name, self.fed, require_aborted)).await;
        verdict.map_err(|why| self.server.complaint(&why))
    }

    pub fn case(&self, job: &str, records: u64, require_aborted: bool) -> Case {
        Case {
            bootstrap: self.ground.direct().to_owned(),
            input: self.input(),
            output: format!("{job}.out"),
            dead_letters: format!("{job}.dead-letters"),
            guest: self.settings.guest,
            parallelism: self.settings.parallelism,
            records,
            require_aborted,
            wait_s: self.settings.verify_s,
            refused: self.refused.clone(),
        }
    }

    /// A round is done.
    pub fn tick(&self) {
        (self.progress)(&self.name);
    }

    pub fn watched_by(&mut self, progress: fn(&str)) {
        self.progress = progress;
    }

    pub fn fed(&self) -> u64 {
        self.fed
    }

    /// Something beside the feed has sent so many records.
    pub fn has_been_fed(&mut self, records: u64) {
        self.fed += records;
    }

    /// Of the input, what the brokers are to refuse the output of.
    pub fn expect_refused(&mut self, refused: Refused) {
        self.refused = refused;
    }

    /// Runs a command of the CLI against the server.
    ///
    /// # Errors
    /// It fails; with what it said.
    pub async fn forebay(&self, arguments: &[&str]) -> Result<String, String> {
        let program = binaries::program("forebay")?;
        let mut command = Command::new(&program);
        command.args(arguments).args(["--server", self.server.address()]).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|error| format!("run {}: {error}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        // Some commands say what they have found and fail for it.
        let failed = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("forebay {}: {}\n{}", arguments.join(" "), said.trim(), failed.trim()))
    }

    /// Local state of the job's tasks under a server's data directory.
    ///
    /// # Errors
    /// There is none.
    pub fn state_dir(&self, server: &Server) -> Result<PathBuf, String> {
        let jobs = server.data().join("jobs");
        let entries = std::fs::read_dir(&jobs).map_err(|error| format!("read {}: {error}", jobs.display()))?;
        let ours = entries.flatten().map(|entry| entry.path()).find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('.'))
        });
        ours.ok_or_else(|| format!("find the state of {} in {}: it is not there", self.name, jobs.display()))
    }

    /// Removes the local state of the job's tasks. The server must not run.
    ///
    /// # Errors
    /// There is none, or the system's.
    pub fn wipe_state(&self) -> Result<(), String> {
        let state = self.state_dir(&self.server)?;
        std::fs::remove_dir_all(&state).map_err(|error| format!("remove {}: {error}", state.display()))
    }

    /// The job's changelog topic.
    ///
    /// # Errors
    /// Kafka's, or there is none.
    pub fn changelog(&self, job: &str) -> Result<String, String> {
        let found = self.ground.topics(&format!("__forebay.{job}."))?;
        found
            .into_iter()
            .find(|topic| topic.ends_with(".changelog"))
            .ok_or_else(|| format!("find the changelog of {job}: there is none"))
    }
}

fn server_of(bed: &Path, folder: &str, name: &str, settings: &Settings) -> Result<Server, String> {
    let place = Place { profile: bed.join(PROFILE), namespace: name.to_owned() };
    let program = if settings.bug.is_some() { "forebay-seeded" } else { "forebay" };
    let mut server = Server::of(program, &bed.join(folder), &place)?;
    if let Some(bug) = &settings.bug {
        server.set("FOREBAY_BUG", bug);
    }
    Ok(server)
}

/// # Errors
/// The guest is not built, or refused.
pub async fn push(client: &Client, guest: &str) -> Result<(), String> {
    client.push(&binaries::guest(guest)?).await.map(drop).map_err(|error| error.to_string())
}

/// Waits until every task of a job runs.
///
/// # Errors
/// One has failed, with its reason; or it takes too long.
pub async fn running(client: &Client, name: &str) -> Result<Job, String> {
    until(client, name, |job| {
        if let Some(task) = failed(job) {
            return Err(format!("task {} of {name} has failed: {}", task.number, task.error));
        }
        let tasks = &job.tasks;
        Ok(!tasks.is_empty() && tasks.iter().all(|task| task.phase == TaskPhase::Running as i32))
    })
    .await
}

/// Waits until a job is as asked; an error of the question ends the wait.
///
/// # Errors
/// The question's, or it takes too long.
pub async fn until(client: &Client, name: &str, is_so: impl Fn(&Job) -> Result<bool, String>) -> Result<Job, String> {
    let begun = Instant::now();
    loop {
        let found = match client.job(name).await {
            Ok(job) if is_so(&job)? => return Ok(job),
            Ok(job) => format!("{job:?}"),
            Err(error) => error.to_string(),
        };
        if begun.elapsed() > PATIENCE {
            return Err(format!("wait for job {name}: after {} s it is still: {found}", PATIENCE.as_secs()));
        }
        // sleep: polls a status
        sleep(POLL).await;
    }
}

pub fn failed(job: &Job) -> Option<&Task> {
    job.tasks.iter().find(|task| task.phase == TaskPhase::Failed as i32)
}

fn profile_of(bootstrap: &str, settings: &Settings) -> String {
    let properties = settings.properties.iter().map(|(name, value)| format!("  {name}: {value}\n"));
    format!(
        "bootstrap: {bootstrap}\ntransaction_timeout_ms: {}\nproperties:\n{}",
        settings.transaction_timeout_ms,
        properties.collect::<String>()
    )
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}

/// So that beds of one seed differ.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
