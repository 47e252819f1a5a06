//! Stand-ins for tests: modules that only describe themselves, tasks that only do as they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::Error;
use super::modules::{Admitted, ModuleHost};
use super::running::Runner;
use crate::error::Kind;
use crate::log::embedded::{Embedded, Settings};
use crate::log::{Cleanup, Log, TimestampBounds, TopicInfo, TopicSpec};
use crate::model::{Blobs, Digest, TopicId};
use crate::task::handle::{ModuleStatus, Phase, SwapStatus, TaskHandle, TaskStatus, TrialOutcome, TrialStatus};
use crate::task::plan::{ModuleSource, TaskPlan};
use crate::task::target::TargetCell;
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
pub struct DescriptionHost(Arc<Mutex<BTreeMap<Digest, Arc<Description>>>>);

impl DescriptionHost {
    /// As a server that has lost its disk, and a log that never had the bytes.
    pub fn forget_all(&self) {
        self.0.lock().unwrap().clear();
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
        let existed = self.0.lock().unwrap().insert(digest, Arc::new(description)).is_some();
        let factory = self.load(digest)?;
        Ok(Admitted { digest, size_bytes: bytes.len() as u64, existed, factory })
    }

    fn load(&self, digest: Digest) -> Result<Arc<dyn GuestFactory>, Error> {
        let found = self.0.lock().unwrap().get(&digest).cloned();
        let lost = || Error::NoBytes { digest, topic: "modules".to_owned(), found: "there is none".to_owned() };
        let description = found.ok_or_else(lost)?;
        Ok(Arc::new(Factory(description)))
    }
}

/// What the tasks of a test do, and what was done to them.
#[derive(Default)]
pub struct Script {
    /// Prepare answers this on task 1.
    pub prepare_fails: Option<String>,
    pub deployed: Vec<String>,
    pub spawned: Vec<String>,
    /// Per task the module that its last "header" names.
    modules: BTreeMap<u32, Digest>,
    /// A task that switches to this module is stopped by it, and holds.
    pub faulty: Option<Digest>,
    /// The next task to be spawned ends at once with this kind.
    pub fails_at_start: Option<Kind>,
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
        let target = Arc::new(TargetCell::default());
        let status = Arc::new(Mutex::new(TaskStatus::default()));
        let planned = plan.operators[0].module.digest;
        let digest = *script.modules.entry(plan.task).or_insert(planned);
        let fails = script.fails_at_start.take();
        show(&status, &plan, digest, Phase::Running);
        let (script, shown, aimed) = (Arc::clone(&self.0), Arc::clone(&status), Arc::clone(&target));
        let thread = std::thread::spawn(move || match fails {
            Some(kind) => {
                let mut status = shown.lock().unwrap();
                (status.phase, status.error_kind, status.error) = (Phase::Failed, Some(kind), Some("as told".into()));
            }
            None => act(&plan, &aimed, &shown, &script),
        });
        Ok(TaskHandle::new(target, status, thread))
    }
}

fn show(status: &Mutex<TaskStatus>, plan: &TaskPlan, digest: Digest, phase: Phase) {
    let mut status = status.lock().unwrap();
    let module = ModuleStatus { name: String::new(), version: String::new(), digest: digest.to_string() };
    status.modules = BTreeMap::from([(plan.operators[0].id.clone(), module)]);
    status.phase = phase;
}

fn act(plan: &TaskPlan, target: &TargetCell, status: &Mutex<TaskStatus>, script: &Mutex<Script>) {
    let mut seen = u64::MAX;
    loop {
        if target.generation() == seen {
            target.wait(seen, Duration::from_secs(1));
            continue;
        }
        seen = target.generation();
        let aim = target.get();
        if aim.stop {
            status.lock().unwrap().phase = Phase::Stopped;
            return;
        }
        let fails = script.lock().unwrap().prepare_fails.clone().filter(|_| plan.task == 1);
        if let Some(change) = aim.trial.as_ref().or(aim.modules.values().next()) {
            let kind = Kind::Invalid;
            let outcome =
                fails.map_or(TrialOutcome::Ready { values_tried: 7 }, |why| TrialOutcome::Failed { why, kind });
            status.lock().unwrap().trial = Some(TrialStatus { swap: change.swap.to_string(), outcome });
        }
        if let Some(change) = aim.modules.values().next() {
            let digest = change.module.digest;
            script.lock().unwrap().modules.insert(plan.task, digest);
            let faulty = script.lock().unwrap().faulty == Some(digest);
            let (swap, from) = (change.swap.to_string(), BTreeMap::new());
            show(status, plan, digest, if faulty { Phase::Held } else { Phase::Running });
            let mut status = status.lock().unwrap();
            status.error_kind = faulty.then_some(Kind::Guest);
            status.last_swap = Some(SwapStatus { swap, epoch: 5, pause_us: 100, from });
        }
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
