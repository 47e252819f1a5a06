//! Jobs from the first apply to the delete.
//!
//! Owns the running tasks of every job. What is to be stands in the control topic first, then it is
//! made so; after a restart of the process the record is followed to its end, so that nothing is ever
//! half-applied. One change of a job at a time.
//! Read [`Manager::apply`] first; `facts` gathers what a plan is made from, `swap` replaces modules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::Error;
use super::facts;
use super::modules::Modules;
use super::plan::{self, Action, Names, Plan};
use super::record::{Desired, FORMAT, JobRecord, Key, ModuleId, Record, SwapRecord};
use super::running::{Runner, RunningJob, TaskView};
use super::spec::JobSpec;
use super::store::{Change, Expected, Revision, Store};
use super::swap::{Left, Probations};
use super::watch::Watch;
use crate::env::{Clock, failpoint};
use crate::error::Kind;
use crate::log::clusters::Clusters;
use crate::log::{self, Cleanup, Log, TopicSpec};
use crate::model::Uid;
use crate::task::handle::Phase;

const LOOK_AFTER: Duration = Duration::from_millis(50);
const CHANGE_TRIES: u32 = 50;
const CHANGE_WAIT: Duration = Duration::from_millis(10);
const CHANGELOG_RECORD_BYTES: u32 = 1 << 20;
const DEAD_LETTER_RECORD_BYTES: u32 = 1 << 20;

pub struct Manager {
    /// The home cluster's.
    pub(super) log: Arc<dyn Log>,
    pub(super) clusters: Clusters,
    pub(super) store: Arc<Store>,
    pub(super) modules: Arc<Modules>,
    pub(super) clock: Arc<dyn Clock>,
    runner: Box<dyn Runner>,
    data_dir: PathBuf,
    running: Mutex<BTreeMap<String, Slot>>,
    pub(super) probations: Probations,
    pub(super) left: Left,
    pub(super) watch: Watch,
    stopping: AtomicBool,
    wake: (Mutex<()>, Condvar),
}

/// What this process has of a job.
#[derive(Clone, Default)]
struct Slot {
    job: Option<Arc<RunningJob>>,
    /// Why it could not be started.
    error: Option<Failure>,
    /// Held during a change.
    change: Arc<Mutex<()>>,
}

#[derive(Clone)]
struct Failure {
    why: String,
    /// It is tried again by itself: waiting may help.
    passes: bool,
}

/// A job as others see it.
pub struct JobView {
    pub record: JobRecord,
    pub revision: Revision,
    pub state: State,
    /// Why it could not be started.
    pub error: Option<String>,
    pub tasks: Vec<TaskView>,
    pub swap: Option<SwapRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Running,
    Restarting,
    Failed,
    Stopped,
}

impl Manager {
    pub fn new(
        clusters: Clusters,
        store: Arc<Store>,
        modules: Arc<Modules>,
        runner: Box<dyn Runner>,
        clock: Arc<dyn Clock>,
        data_dir: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            log: Arc::clone(clusters.home()),
            clusters,
            store,
            modules,
            clock,
            runner,
            data_dir,
            running: Mutex::default(),
            probations: Probations::default(),
            left: Left::default(),
            watch: Watch::default(),
            stopping: AtomicBool::new(false),
            wake: (Mutex::new(()), Condvar::new()),
        })
    }

    /// Brings every job of the control topic to where its record says, and looks after them from then
    /// on. A job that cannot be started holds up no other.
    pub fn start(self: &Arc<Self>) -> Result<(), Error> {
        let view = self.store.view();
        for (_, job) in view.jobs().filter(|(_, job)| job.desired != Desired::Stopped) {
            self.bring_up(job);
        }
        let manager = Arc::clone(self);
        let supervisor = std::thread::Builder::new().name("supervisor".to_owned());
        supervisor
            .spawn(move || manager.look_after())
            .map_err(|source| Error::Io { doing: "start the supervisor".to_owned(), source })?;
        self.start_watch()
    }

    /// Commits what is open everywhere and ends all tasks. The records stay: the next start goes on.
    pub fn shutdown(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake.1.notify_all();
        let jobs: Vec<_> = self.slots().values().filter_map(|slot| slot.job.clone()).collect();
        jobs.iter().for_each(|job| job.stop());
        self.watch.end();
    }

    /// What applying a spec would do.
    pub fn plan(&self, spec: &JobSpec) -> Result<Plan, Error> {
        facts::judge(spec, &facts::gather(spec, &self.clusters, &self.store.view(), &self.modules)?)
    }

    /// Creates, changes or resumes a job.
    pub fn apply(&self, spec: &JobSpec, expected: Option<Revision>) -> Result<Plan, Error> {
        let change = self.change_of(&spec.name);
        let _one = exclusive(&change, &spec.name)?;
        let plan = self.plan(spec)?;
        let view = self.store.view();
        let current = view.job(&spec.name);
        if let Some(expected) = expected
            && current.map(|(revision, _)| revision) != Some(expected)
        {
            return Err(Error::Conflict {
                doing: format!("apply job {}", spec.name),
                found: "it has changed since the plan was made".to_owned(),
                remedy: "plan again",
            });
        }
        let applied = match (plan.action, current) {
            (Action::Refused, _) => {
                return Err(Error::Refused { job: spec.name.clone(), refusals: plan.refusals });
            }
            (Action::Nothing, Some((_, job))) => self.ensure_running(job),
            (_, Some((revision, job))) => self.change(spec, revision, job, &plan),
            (_, None) => self.create(spec, &plan),
        };
        // The record may stand already: then the job is to run, and is tried again.
        applied.inspect_err(|error| self.note_failure(&spec.name, error))?;
        Ok(plan)
    }

    pub fn get(&self, name: &str) -> Result<JobView, Error> {
        let view = self.store.view();
        let (revision, job) = view.job(name).ok_or_else(|| Error::UnknownJob(name.to_owned()))?;
        Ok(self.look_at(revision, job, view.swap(job.uid).map(|(_, swap)| swap.clone())))
    }

    /// A job that reads or writes a topic, running or not.
    pub fn job_on(&self, topic: &str) -> Option<String> {
        let view = self.store.view();
        let uses = |spec: &JobSpec| {
            spec.sources.iter().any(|source| source.topic == topic)
                || spec.sinks.iter().any(|sink| sink.cluster.is_none() && sink.topic == topic)
                || spec.dead_letter_topic() == topic
        };
        view.jobs().find(|(_, job)| uses(&job.spec)).map(|(_, job)| job.name.clone())
    }

    pub fn list(&self) -> Vec<JobView> {
        let view = self.store.view();
        view.jobs()
            .map(|(revision, job)| self.look_at(revision, job, view.swap(job.uid).map(|(_, swap)| swap.clone())))
            .collect()
    }

    /// Commits what is open and ends the tasks; state and positions stay.
    pub fn stop(&self, name: &str) -> Result<(), Error> {
        let change = self.change_of(name);
        let _one = exclusive(&change, name)?;
        let (revision, job) = self.record(name)?;
        if job.desired == Desired::Running {
            self.put(JobRecord { desired: Desired::Stopped, ..job }, Expected::At(revision))?;
            failpoint("stop-recorded");
        }
        self.end(name);
        Ok(())
    }

    /// Ends the job and removes all that is its own. Returns the topics that were deleted.
    pub fn delete(&self, name: &str) -> Result<Vec<String>, Error> {
        let change = self.change_of(name);
        let _one = exclusive(&change, name)?;
        let (revision, job) = self.record(name)?;
        let job = JobRecord { desired: Desired::Deleting, ..job };
        self.put(job.clone(), Expected::At(revision))?;
        failpoint("delete-recorded");
        self.end(name);
        self.remove(&job)
    }

    pub(super) fn record(&self, name: &str) -> Result<(Revision, JobRecord), Error> {
        let view = self.store.view();
        let (revision, job) = view.job(name).ok_or_else(|| Error::UnknownJob(name.to_owned()))?;
        Ok((revision, job.clone()))
    }

    pub(super) fn running_job(&self, name: &str) -> Option<Arc<RunningJob>> {
        self.slots().get(name).and_then(|slot| slot.job.clone())
    }

    pub(super) fn change_of(&self, name: &str) -> Arc<Mutex<()>> {
        let view = self.store.view();
        let mut slots = self.slots();
        // Callers may invent names: what no job is called, and nobody holds, does not stay.
        slots.retain(|known, slot| {
            slot.job.is_some() || Arc::strong_count(&slot.change) > 1 || view.job(known).is_some()
        });
        Arc::clone(&slots.entry(name.to_owned()).or_default().change)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn running_jobs(&self) -> BTreeMap<String, Arc<RunningJob>> {
        let slots = self.slots();
        slots.iter().filter_map(|(name, slot)| Some((name.clone(), slot.job.clone()?))).collect()
    }

    /// Jobs that are not running because of something that may pass.
    pub(super) fn waiting_jobs(&self) -> Vec<String> {
        let slots = self.slots();
        let waiting = slots.iter().filter(|(_, slot)| slot.error.as_ref().is_some_and(|error| error.passes));
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Follows a job's record; what hinders it is kept for whoever looks.
    pub(super) fn bring_up(self: &Arc<Self>, job: &JobRecord) {
        if let Err(error) = self.follow(job) {
            tracing::error!(job = %job.name, "job is not started: {error}");
            self.note_failure(&job.name, &error);
        }
    }

    fn note_failure(&self, name: &str, error: &Error) {
        let is_known = self.store.view().job(name).is_some();
        let mut slots = self.slots();
        let slot = slots.entry(name.to_owned()).or_default();
        if is_known && slot.job.is_none() {
            slot.error = Some(Failure { why: error.to_string(), passes: error.kind() == Kind::Retry });
        }
    }

    /// Goes on with whatever a record says is to be done, after a restart of the process.
    fn follow(self: &Arc<Self>, job: &JobRecord) -> Result<(), Error> {
        match job.desired {
            Desired::Creating => self.finish_creating(job)?,
            Desired::Running => self.launch(job)?,
            Desired::Deleting => return self.remove(job).map(drop),
            Desired::Stopped => return Ok(()),
        }
        self.follow_swap(job);
        Ok(())
    }

    /// The record comes first: a crash between its steps leaves a job that `follow` finishes.
    fn create(&self, spec: &JobSpec, plan: &Plan) -> Result<(), Error> {
        let graph = plan.graph.as_ref().ok_or_else(|| Error::UnknownJob(spec.name.clone()))?;
        let modules = graph.operators.iter().map(|operator| {
            let module = &operator.module;
            let (name, version) = (module.name.clone(), module.version.clone());
            (operator.id.clone(), ModuleId { name, version, digest: module.digest })
        });
        let job = JobRecord {
            format: FORMAT,
            uid: Uid::random(),
            name: spec.name.clone(),
            incarnation: 1,
            created_at_ms: self.clock.now() / 1_000_000,
            desired: Desired::Creating,
            parallelism: graph.parallelism,
            spec: spec.clone(),
            modules: modules.collect(),
            sources: facts::resolve_starts(&spec.name, graph, self.log.as_ref())?,
        };
        self.put(job.clone(), Expected::Absent)?;
        failpoint("create-recorded");
        self.finish_creating(&job)
    }

    fn finish_creating(&self, job: &JobRecord) -> Result<(), Error> {
        self.ensure_topics(job)?;
        failpoint("create-topics-made");
        for plan in self.task_plans(job)? {
            self.runner.deploy(&plan)?;
        }
        failpoint("create-deployed");
        let (revision, _) = self.record(&job.name)?;
        let job = JobRecord { desired: Desired::Running, ..job.clone() };
        self.put(job.clone(), Expected::At(revision))?;
        self.launch(&job)
    }

    /// A resume, or other settings under which the tasks start again.
    fn change(&self, spec: &JobSpec, revision: Revision, job: &JobRecord, plan: &Plan) -> Result<(), Error> {
        if job.desired == Desired::Deleting {
            return Err(Error::Conflict {
                doing: format!("apply job {}", job.name),
                found: "it is being deleted".to_owned(),
                remedy: "delete it again to finish, then apply",
            });
        }
        self.end(&job.name);
        let creating = job.desired == Desired::Creating;
        let desired = if creating { Desired::Creating } else { Desired::Running };
        let job = JobRecord { desired, spec: spec.clone(), ..job.clone() };
        tracing::info!(job = %job.name, changes = plan.changes.join("; "), "{:?}", plan.action);
        self.put(job.clone(), Expected::At(revision))?;
        if creating { self.finish_creating(&job) } else { self.launch(&job) }
    }

    /// Tasks that have failed for good are tried again.
    fn ensure_running(&self, job: &JobRecord) -> Result<(), Error> {
        let healthy = self.running_job(&job.name).is_some_and(|running| !running.tasks().iter().any(|t| t.given_up));
        if healthy {
            return Ok(());
        }
        self.end(&job.name);
        self.launch(job)
    }

    fn launch(&self, job: &JobRecord) -> Result<(), Error> {
        self.ensure_topics(job)?;
        let plans = self.task_plans(job)?;
        let source = facts::JobModules::of(job, Arc::clone(&self.store), Arc::clone(&self.modules));
        let running = RunningJob::start(job, plans, Arc::new(source), self.runner.as_ref())?;
        let mut slots = self.slots();
        let slot = slots.entry(job.name.clone()).or_default();
        slot.job = Some(Arc::new(running));
        slot.error = None;
        Ok(())
    }

    fn task_plans(&self, job: &JobRecord) -> Result<Vec<crate::task::plan::TaskPlan>, Error> {
        let graph = facts::graph_of(job, &self.clusters, &self.store.view(), &self.modules)?;
        plan::task_plans(job, &graph, self.log.as_ref(), &self.data_dir)
    }

    /// Internal topics exist with the settings that the job relies on; checked at every start.
    fn ensure_topics(&self, job: &JobRecord) -> Result<(), Error> {
        let names = Names::of(job, &self.data_dir);
        self.ensure_topic(&names.changelog, job.parallelism, CHANGELOG_RECORD_BYTES, true)?;
        self.ensure_topic(&names.dead_letters, job.parallelism, DEAD_LETTER_RECORD_BYTES, false)
    }

    fn ensure_topic(&self, name: &str, partitions: u32, max_record_bytes: u32, internal: bool) -> Result<(), Error> {
        let spec = TopicSpec { name: name.to_owned(), partitions, cleanup: Cleanup::Delete, max_record_bytes };
        match self.log.create_topic(&spec) {
            Err(log::Error::TopicExists(_)) if internal => {
                self.log.check_internal(name, partitions, Cleanup::Delete)?;
            }
            Err(log::Error::TopicExists(_)) => {}
            created => drop(created?),
        }
        Ok(())
    }

    fn remove(&self, job: &JobRecord) -> Result<Vec<String>, Error> {
        let names = Names::of(job, &self.data_dir);
        let mut deleted = Vec::new();
        match self.log.delete_topic(&names.changelog) {
            Ok(()) => deleted.push(names.changelog),
            Err(log::Error::UnknownTopic(_)) => {}
            Err(error) => return Err(error.into()),
        }
        failpoint("delete-changelog-gone");
        match std::fs::remove_dir_all(&names.directory) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Io { doing: format!("remove {}", names.directory.display()), source });
            }
            _ => {}
        }
        failpoint("delete-state-gone");
        let swap = Change::remove(Key::Swap { job: job.uid });
        self.store.commit(&[swap, Change::remove(Key::Job { name: job.name.clone() })])?;
        self.slots().remove(&job.name);
        Ok(deleted)
    }

    pub(super) fn end(&self, name: &str) {
        let job = self.slots().get_mut(name).and_then(|slot| {
            slot.error = None;
            slot.job.take()
        });
        if let Some(job) = job {
            job.stop();
        }
    }

    fn put(&self, job: JobRecord, expected: Expected) -> Result<(), Error> {
        self.store.commit(&[Change::put(Record::Job(Box::new(job)), expected)]).map(drop)
    }

    fn look_at(&self, revision: Revision, job: &JobRecord, swap: Option<SwapRecord>) -> JobView {
        let slot = self.slots().get(&job.name).cloned().unwrap_or_default();
        let tasks = slot.job.as_ref().map(|running| running.tasks()).unwrap_or_default();
        let state = state(job, slot.error.is_some(), &tasks);
        JobView { record: job.clone(), revision, state, error: slot.error.map(|error| error.why), tasks, swap }
    }

    fn look_after(self: &Arc<Self>) {
        while !self.is_stopping() {
            let jobs: Vec<_> = self
                .slots()
                .iter()
                .filter_map(|(name, slot)| Some((name.clone(), slot.job.clone()?, Arc::clone(&slot.change))))
                .collect();
            for (name, job, change) in jobs {
                // A change under way looks after its tasks itself, and nothing is decided beside it.
                if let Ok(_one) = change.try_lock() {
                    job.supervise(self.runner.as_ref(), self.clock.as_ref());
                    self.watch_probation(&name, &job);
                    self.resume_swap(&name, &job);
                }
            }
            let guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.wake.1.wait_timeout(guard, LOOK_AFTER));
        }
    }

    /// Lets tasks that ended during a change come back.
    pub(super) fn supervise(&self, job: &RunningJob) {
        job.supervise(self.runner.as_ref(), self.clock.as_ref());
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One change of a job at a time; a second one is told so. The supervisor holds the lock for moments
/// only, which is what the patience is for.
pub(super) fn exclusive<'a>(change: &'a Mutex<()>, job: &str) -> Result<MutexGuard<'a, ()>, Error> {
    for _ in 0..CHANGE_TRIES {
        match change.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => std::thread::sleep(CHANGE_WAIT),
        }
    }
    Err(Error::Conflict {
        doing: format!("change job {job}"),
        found: "another change of it is under way".to_owned(),
        remedy: "try again when it is over",
    })
}

fn state(job: &JobRecord, failed: bool, tasks: &[TaskView]) -> State {
    if job.desired == Desired::Stopped {
        return State::Stopped;
    }
    if failed || tasks.iter().any(|task| task.given_up) {
        return State::Failed;
    }
    let all = |phase: Phase| !tasks.is_empty() && tasks.iter().all(|task| task.status.phase == phase);
    if all(Phase::Running) {
        State::Running
    } else if tasks.iter().any(|task| task.restarts > 0 || task.status.phase == Phase::Failed) {
        State::Restarting
    } else {
        State::Starting
    }
}

#[cfg(test)]
mod tests;
