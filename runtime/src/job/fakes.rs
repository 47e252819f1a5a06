//! Stand-ins for tests: modules that only describe themselves, tasks that only do as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::Error;
use super::modules::{Admitted, ModuleHost};
use super::running::Runner;
use crate::error::Kind;
use crate::log::embedded::{Embedded, Settings};
use crate::log::{Cleanup, Log, TimestampBounds, TopicInfo, TopicSpec};
use crate::model::{Blobs, Digest, EventTime, TopicId};
use crate::task::handle::{ModuleStatus, Phase, SwapStatus, TaskHandle, TaskStatus, TrialOutcome, TrialStatus};
use crate::task::plan::{ModuleSource, TaskPlan};
use crate::task::target::{Change, TargetCell, TimeReset};
use crate::wasm::contract::{
    Answer, Context, Description, Guest, GuestError, GuestFactory, Migration, Moment, ParameterDecl, RecordCall,
    StateDecl, TimerCall,
};

pub fn state(name: &str, version: u32, reads: &[u32], reverts_to: &[u32], fingerprint: &str) -> StateDecl {
    StateDecl {
        name: name.to_owned(),
        version,
        reads: reads.to_vec(),
        reverts_to: reverts_to.to_vec(),
        encoding: "postcard".to_owned(),
        fingerprint: fingerprint.to_owned(),
    }
}

pub fn parameter(name: &str, required: bool, preset: Option<&str>) -> ParameterDecl {
    ParameterDecl {
        name: name.to_owned(),
        about: format!("the {name}"),
        required,
        preset: preset.map(str::to_owned),
        secret: false,
    }
}

/// A keyed module with one input `in`, one output `out` and one state `tally`.
pub fn description(version: &str, state_version: u32, reads: &[u32], reverts_to: &[u32]) -> Description {
    Description {
        name: "counter".to_owned(),
        version: version.to_owned(),
        keyed: true,
        inputs: vec!["in".to_owned()],
        outputs: vec!["out".to_owned()],
        states: vec![state("tally", state_version, reads, reverts_to, &format!("f{state_version}"))],
        ..Description::default()
    }
}

/// Opens unless the parameter `depth` is `bad`; the system has no memory for it where it is `no-memory`.
pub struct Factory(pub Arc<Description>);

struct Silent;

impl GuestFactory for Factory {
    fn description(&self) -> &Arc<Description> {
        &self.0
    }

    fn instantiate(&self, context: &Context) -> Result<Box<dyn Guest>, GuestError> {
        if context.parameters.contains(&("depth".to_owned(), "bad".to_owned())) {
            return Err(GuestError::Open("depth must be a number".to_owned()));
        }
        if context.parameters.contains(&("depth".to_owned(), "no-memory".to_owned())) {
            return Err(GuestError::System("Cannot allocate memory (os error 12)".to_owned()));
        }
        Ok(Box::new(Silent))
    }
}

impl Guest for Silent {
    fn process(&mut self, _: Moment, _: &RecordCall) -> Result<Answer, GuestError> {
        Ok(Answer::default())
    }
    fn on_timer(&mut self, _: Moment, _: &TimerCall) -> Result<Answer, GuestError> {
        Ok(Answer::default())
    }
    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        Ok(migration.values.clone())
    }
}

/// Takes descriptions as JSON for modules.
#[derive(Clone, Default)]
pub struct DescriptionHost {
    modules: Arc<Mutex<BTreeMap<Digest, Arc<Description>>>>,
    /// The disk has trouble.
    pub unreadable: Arc<AtomicBool>,
}

impl DescriptionHost {
    /// As a server that has lost its disk, and a log that never had the bytes.
    pub fn forget_all(&self) {
        self.modules.lock().unwrap().clear();
    }
}

pub fn module_bytes(description: &Description) -> Vec<u8> {
    serde_json::to_vec(description).unwrap()
}

impl ModuleHost for DescriptionHost {
    fn admit(&self, bytes: &[u8]) -> Result<Admitted, Error> {
        let Ok(description) = serde_json::from_slice(bytes) else {
            return Err(Error::Rejected { reasons: vec!["it is no description".to_owned()] });
        };
        let digest = Digest::of(bytes);
        let existed = self.modules.lock().unwrap().insert(digest, Arc::new(description)).is_some();
        let factory = self.load(digest)?;
        Ok(Admitted { digest, size_bytes: bytes.len() as u64, existed, factory })
    }

    fn load(&self, digest: Digest) -> Result<Arc<dyn GuestFactory>, Error> {
        if self.unreadable.load(Ordering::SeqCst) {
            let source = std::io::Error::other("too many open files");
            return Err(Error::Io { doing: format!("read module {digest}"), source });
        }
        let found = self.modules.lock().unwrap().get(&digest).cloned();
        let lost = || Error::NoBytes { digest, topic: "modules".to_owned(), found: "there is none".to_owned() };
        let description = found.ok_or_else(lost)?;
        Ok(Arc::new(Factory(description)))
    }
}

/// What the tasks of a test do, and what was done to them.
#[derive(Default)]
pub struct Script {
    /// A trial on task 1 ends so.
    pub trial_fails: Option<(String, Kind)>,
    /// Trials take until this is false again.
    pub trials_last: bool,
    pub deployed: Vec<String>,
    pub spawned: Vec<String>,
    /// Per task the module that its last "header" names.
    pub modules: BTreeMap<u32, Digest>,
    /// A task that switches to this module is stopped by it, and holds: so, and with this kind.
    pub faulty: Option<(Digest, Kind)>,
    /// The next task to be spawned ends at once with this kind.
    pub fails_at_start: Option<Kind>,
    /// Tasks do not hear that they are to end.
    pub deaf: bool,
    /// Per task the states that began empty with the last version that it switched to.
    pub emptied: BTreeMap<u32, BTreeSet<String>>,
    /// Per task the resets of event time that its headers have named.
    pub resets: BTreeMap<u32, Vec<u64>>,
    /// How far event time is said to have come in a task that was started since.
    pub watermark: Option<EventTime>,
    /// Traps that every task has had since it was started.
    pub traps: u64,
    /// How often every task has committed, and where it takes its changelog to end.
    pub commits: Option<(u64, i64)>,
    /// Tasks that were told to look whether they still own themselves, in the order in which they heard it.
    pub doubted: Vec<u32>,
}

#[derive(Clone, Default)]
pub struct Actors(pub Arc<Mutex<Script>>);

impl Runner for Actors {
    fn deploy(&self, plan: &TaskPlan) -> Result<(), Error> {
        self.0.lock().unwrap().deployed.push(plan.transactional_id());
        Ok(())
    }

    fn spawn(&self, plan: TaskPlan, _: Arc<dyn ModuleSource>) -> Result<TaskHandle, Error> {
        let mut script = self.0.lock().unwrap();
        script.spawned.push(plan.transactional_id());
        let (target, status) = (Arc::new(TargetCell::default()), Arc::new(Mutex::new(TaskStatus::default())));
        let planned = plan.operators[0].module.digest;
        let digest = *script.modules.entry(plan.task.number).or_insert(planned);
        let fails = script.fails_at_start.take();
        let actor =
            Actor { plan, target: Arc::clone(&target), status: Arc::clone(&status), script: Arc::clone(&self.0) };
        drop(script);
        if fails.is_none() {
            actor.show(digest, Phase::Running);
        }
        let thread = std::thread::spawn(move || match fails {
            Some(kind) => {
                let mut status = actor.status.lock().unwrap();
                (status.phase, status.error_kind, status.error) = (Phase::Failed, Some(kind), Some("as told".into()));
            }
            None => actor.act(),
        });
        Ok(TaskHandle::new(target, status, thread))
    }
}

/// A task that only does what a target asks of it.
struct Actor {
    plan: TaskPlan,
    target: Arc<TargetCell>,
    status: Arc<Mutex<TaskStatus>>,
    script: Arc<Mutex<Script>>,
}

impl Actor {
    fn show(&self, digest: Digest, phase: Phase) {
        let mut status = self.status.lock().unwrap();
        let module = ModuleStatus { name: String::new(), version: String::new(), digest: digest.to_string() };
        status.modules = BTreeMap::from([(self.plan.operators[0].id.clone(), module)]);
        status.phase = phase;
        if let Some(watermark) = self.script.lock().unwrap().watermark {
            (status.epoch, status.watermark) = (1, watermark);
        }
    }

    fn act(&self) {
        loop {
            let generation = self.target.generation();
            let target = self.target.get();
            let deaf = self.script.lock().unwrap().deaf;
            if target.stop && !deaf {
                self.status.lock().unwrap().phase = Phase::Stopped;
                return;
            }
            self.status.lock().unwrap().traps = self.script.lock().unwrap().traps;
            if let Some((commits, end)) = self.script.lock().unwrap().commits {
                let mut status = self.status.lock().unwrap();
                (status.commits, status.changelog_end) = (commits, Some(end));
            }
            if self.target.take_doubt() {
                self.script.lock().unwrap().doubted.push(self.plan.task.number);
            }
            if let Some(reset) = target.time_reset {
                self.reset_time(reset);
            }
            let runs = self.script.lock().unwrap().modules[&self.plan.task.number];
            let elsewhere = |change: &&Change| change.module.digest != runs;
            let decided = target.modules.get(&0).filter(elsewhere);
            let change = decided.or(target.trial.as_ref().filter(elsewhere));
            let outcome = change.map(|_| self.outcome());
            let trial = change.zip(outcome.clone());
            self.status.lock().unwrap().trial =
                trial.map(|(change, outcome)| TrialStatus { swap: change.swap.to_string(), outcome });
            if let (Some(change), Some(TrialOutcome::Ready { .. })) = (decided, outcome) {
                self.switch(change);
            }
            self.target.wait(generation, Duration::from_millis(2));
        }
    }

    fn reset_time(&self, reset: TimeReset) {
        let mut script = self.script.lock().unwrap();
        let made = script.resets.entry(self.plan.task.number).or_default();
        if made.last().is_none_or(|last| *last < reset.number) {
            made.push(reset.number);
        }
        self.status.lock().unwrap().time_reset = reset.number;
    }

    fn outcome(&self) -> TrialOutcome {
        let script = self.script.lock().unwrap();
        match script.trial_fails.clone().filter(|_| self.plan.task.number == 1) {
            Some((why, kind)) => TrialOutcome::Failed { why, kind },
            None if script.trials_last => TrialOutcome::Trying,
            None => TrialOutcome::Ready { values_tried: 7 },
        }
    }

    fn switch(&self, change: &Change) {
        let (task, digest) = (self.plan.task.number, change.module.digest);
        let faulty = {
            let mut script = self.script.lock().unwrap();
            script.modules.insert(task, digest);
            script.emptied.insert(task, change.empty.clone());
            script.faulty.filter(|(faulty, _)| *faulty == digest)
        };
        let mut status = self.status.lock().unwrap();
        status.error_kind = faulty.map(|(_, kind)| kind);
        status.error = faulty.map(|_| "it stopped the task".to_owned());
        status.last_swap =
            Some(SwapStatus { swap: change.swap.to_string(), epoch: 5, pause_us: 100, from: BTreeMap::new() });
        drop(status);
        self.show(digest, if faulty.is_some() { Phase::Held } else { Phase::Running });
    }
}

/// An embedded log in a directory of its own.
pub fn log() -> (tempfile::TempDir, Arc<dyn Log>) {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn Log> = Embedded::open(dir.path(), Settings::default()).unwrap();
    (dir, log)
}

pub fn topic(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 }
}

pub fn info(name: &str, partitions: u32) -> TopicInfo {
    TopicInfo { id: TopicId([1; 16]), spec: topic(name, partitions), timestamps: TimestampBounds::default() }
}
