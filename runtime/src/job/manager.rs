//! Jobs from the first apply to the delete.
//!
//! Owns the running tasks of every job. Every change is first written to the control topic and then carried out step by
//! step ([`life`](super::life)). After a restart of the process the steps that are left are taken, so that no change
//! stays half-applied. One change of a job at a time. Waits for no task longer than it says. Read [`Manager::apply`]
//! first, then `Manager::step`; `facts` gathers what a plan is made from, `follow` does the work that no caller waits
//! for, `swap` replaces modules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::change::{Aims, Watch as SwapWatch};
use super::error::Error;
use super::facts;
use super::life::{self, Here, Step};
use super::modules::Modules;
use super::plan::{self, Action, Names, Plan};
use super::record::{Desired, FORMAT, JobRecord, Key, ModuleId, Record, SwapRecord};
use super::running::{Runner, RunningJob, TaskView};
use super::spec::JobSpec;
use super::store::{Change, Expected, Revision, Store};
use super::unknown::Unknown;
use super::watch::Watch;
use crate::env::{Clock, failpoint};
use crate::error::Kind;
use crate::log::clusters::Clusters;
use crate::log::{self, Cleanup, Log, TopicSpec};
use crate::model::Uid;
use crate::task::handle::Phase;

/// How long a caller waits for tasks to end. The change goes on in the background after that.
const END_PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How long the process waits for all tasks together at its own end. With writing the last positions and the last
/// answers it ends within five seconds.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 1_000 } else { 3_500 });
/// Pause between two looks at something that will happen within milliseconds.
pub(super) const SOON: Duration = Duration::from_millis(5);
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
    pub(super) runner: Box<dyn Runner>,
    data_dir: PathBuf,
    running: Mutex<BTreeMap<String, Slot>>,
    /// What this process has seen of each job's newest swap.
    pub(super) swaps: Mutex<BTreeMap<Uid, SwapWatch>>,
    pub(super) watch: Watch,
    /// Jobs that are being started on threads of their own.
    pub(super) coming: AtomicUsize,
    stopping: AtomicBool,
    wake: (Mutex<()>, Condvar),
}

/// What this process has of a job.
#[derive(Clone, Default)]
pub(super) struct Slot {
    pub job: Option<Arc<RunningJob>>,
    /// Why the last step towards what the job's record asks for has failed.
    pub error: Option<Failure>,
    /// Held by whoever changes the job.
    pub change: Arc<Mutex<()>>,
}

#[derive(Clone)]
pub(super) struct Failure {
    pub why: String,
    /// The step is tried again without anybody's doing, since the reason may pass.
    pub passes: bool,
    /// When it failed, as `clock.elapsed()`.
    pub at: Duration,
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
    /// It is to be stopped, or deleted, and some of its tasks have not ended.
    Stopping,
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
            swaps: Mutex::default(),
            watch: Watch::default(),
            coming: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            wake: (Mutex::new(()), Condvar::new()),
        })
    }

    /// Starts the background threads that bring every job to what its record asks for, and look after all jobs from
    /// then on. A job that cannot be started holds up no other.
    pub fn start(self: &Arc<Self>) -> Result<(), Error> {
        self.start_following()?;
        self.start_watch()
    }

    /// Tells all tasks to commit what is open and to end, and waits a moment for it. The records stay: the next start
    /// goes on. False where some have not ended: the process is to end without them.
    pub fn shutdown(&self) -> bool {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_up();
        let until = self.clock.elapsed() + SHUTDOWN_PATIENCE;
        let jobs: Vec<_> = self.slots().values().filter_map(|slot| slot.job.clone()).collect();
        jobs.iter().for_each(|job| job.stop());
        while self.clock.elapsed() < until && !jobs.iter().all(|job| job.has_ended()) {
            std::thread::sleep(SOON);
        }
        self.watch.end(until.saturating_sub(self.clock.elapsed()));
        let left = jobs.iter().filter(|job| !job.has_ended());
        let left: Vec<_> = left.map(|job| format!("{} (tasks {})", job.name, numbers(&job.unended()))).collect();
        if !left.is_empty() {
            let seconds = SHUTDOWN_PATIENCE.as_secs_f32();
            tracing::warn!(
                "ends without tasks that have not ended within {seconds} s; nothing is lost by it, the next start goes on \
                 from what they have committed: {}",
                left.join(", ")
            );
        }
        left.is_empty()
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
        match (plan.action, current) {
            (Action::Refused, _) => {
                return Err(Error::Refused { job: spec.name.clone(), refusals: plan.refusals });
            }
            (Action::Nothing, Some(_)) => self.try_again(&spec.name),
            (_, Some((revision, job))) => self.change(spec, revision, job, &plan)?,
            (_, None) => self.create(spec, &plan)?,
        }
        self.reach(&spec.name, "apply")?;
        Ok(plan)
    }

    /// What tasks say that were taken over by another server, each with its job.
    pub fn fenced(&self) -> Vec<String> {
        let jobs = self.running_jobs();
        let of_job = |(name, job): (&String, &Arc<RunningJob>)| {
            let fenced =
                job.tasks().into_iter().filter(|task| task.down && task.status.error_kind == Some(Kind::Fenced));
            fenced.map(|task| format!("job {name}: {}", task.status.error.unwrap_or_default())).collect::<Vec<_>>()
        };
        jobs.iter().flat_map(of_job).collect()
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

    /// Commits what is open and ends the tasks; state and positions stay. Answers when they have ended, or after a
    /// while: the job is then [`State::Stopping`], and ends as soon as they do.
    pub fn stop(&self, name: &str) -> Result<(), Error> {
        let change = self.change_of(name);
        let _one = exclusive(&change, name)?;
        let (revision, job) = self.record(name)?;
        if job.desired == Desired::Running {
            self.put(JobRecord { desired: Desired::Stopped, ..job }, Expected::At(revision))?;
            failpoint("stop-recorded");
        }
        match self.reach(name, "stop") {
            Err(Error::Ending { .. }) => Ok(()),
            reached => reached,
        }
    }

    /// Ends the job and removes all that is its own. Returns the topics that were deleted.
    ///
    /// # Errors
    /// [`Error::Ending`] where tasks take long to end: it goes on by itself.
    pub fn delete(&self, name: &str) -> Result<Vec<String>, Error> {
        let change = self.change_of(name);
        let _one = exclusive(&change, name)?;
        let (revision, job) = self.record(name)?;
        let topics = vec![Names::of(&job, &self.data_dir).changelog];
        self.put(JobRecord { desired: Desired::Deleting, ..job }, Expected::At(revision))?;
        failpoint("delete-recorded");
        self.reach(name, "delete")?;
        Ok(topics)
    }

    pub(super) fn record(&self, name: &str) -> Result<(Revision, JobRecord), Error> {
        let view = self.store.view();
        let (revision, job) = view.job(name).ok_or_else(|| Error::UnknownJob(name.to_owned()))?;
        Ok((revision, job.clone()))
    }

    /// The job's tasks, unless they were told to end.
    pub(super) fn running_job(&self, name: &str) -> Option<Arc<RunningJob>> {
        self.slots().get(name).and_then(|slot| slot.job.clone()).filter(|job| !job.is_ending())
    }

    pub(super) fn change_of(&self, name: &str) -> Arc<Mutex<()>> {
        let view = self.store.view();
        let mut slots = self.slots();
        // A caller may ask for a job that does not exist. Entries that belong to no job and that nobody holds are
        // removed.
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

    /// Takes one step after the other towards what the record asks for, and gives up waiting after [`END_PATIENCE`].
    /// The caller holds the job's `change` lock.
    pub(super) fn reach(&self, name: &str, doing: &str) -> Result<(), Error> {
        let until = self.clock.elapsed() + END_PATIENCE;
        loop {
            match self.step(name)? {
                Step::Reached => return Ok(()),
                Step::Wait if self.clock.elapsed() >= until || self.is_stopping() => {
                    let tasks = self.slots().get(name).and_then(|slot| Some(slot.job.as_ref()?.unended()));
                    let (doing, tasks) = (format!("{doing} job {name}"), numbers(&tasks.unwrap_or_default()));
                    return Err(Error::Ending { doing, tasks, seconds: END_PATIENCE.as_secs() });
                }
                Step::Wait => self.pause(SOON),
                Step::Create | Step::Launch | Step::End | Step::Remove => {}
            }
        }
    }

    /// Takes one step towards what the record asks for. Where it fails, the reason is kept and shown with the job.
    pub(super) fn step(&self, name: &str) -> Result<Step, Error> {
        let view = self.store.view();
        // The job has been removed, and this process has nothing left of it.
        let Some((_, job)) = view.job(name) else { return Ok(Step::Reached) };
        let step = life::next(job.desired, self.here(job));
        let taken = match step {
            Step::Create => self.finish_creating(job),
            Step::Launch => self.launch(job),
            Step::Remove => self.remove(job),
            Step::End => {
                self.running_job(name).into_iter().for_each(|job| job.stop());
                Ok(())
            }
            Step::Reached => {
                self.slots().get_mut(name).into_iter().for_each(|slot| slot.error = None);
                Ok(())
            }
            Step::Wait => Ok(()),
        };
        taken.inspect_err(|error| self.note_failure(name, error))?;
        Ok(step)
    }

    /// What this process has of a job. Forgets tasks that have all ended.
    pub(super) fn here(&self, job: &JobRecord) -> Here {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&job.name) else { return Here::Nothing };
        match &slot.job {
            None => Here::Nothing,
            Some(running) if !running.is_ending() => Here::Up { outdated: running.is_outdated(job) },
            Some(running) if running.has_ended() => {
                slot.job = None;
                Here::Nothing
            }
            Some(_) => Here::Ending,
        }
    }

    fn note_failure(&self, name: &str, error: &Error) {
        let is_known = self.store.view().job(name).is_some();
        let mut slots = self.slots();
        let slot = slots.entry(name.to_owned()).or_default();
        if is_known {
            let (why, passes) = (error.to_string(), error.kind() == Kind::Retry);
            slot.error = Some(Failure { why, passes, at: self.clock.elapsed() });
        }
    }

    /// The record is written first: after a crash between the steps the next start takes those that are left.
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
            time_reset: None,
            unknown: Unknown::default(),
        };
        self.put(job, Expected::Absent)?;
        failpoint("create-recorded");
        Ok(())
    }

    fn finish_creating(&self, job: &JobRecord) -> Result<(), Error> {
        self.ensure_topics(job)?;
        failpoint("create-topics-made");
        for plan in self.task_plans(job)? {
            self.runner.deploy(&plan)?;
        }
        failpoint("create-deployed");
        let (revision, _) = self.record(&job.name)?;
        self.put(JobRecord { desired: Desired::Running, ..job.clone() }, Expected::At(revision))
    }

    /// Resumes a stopped job, or gives a job other settings, for which its tasks are started again.
    fn change(&self, spec: &JobSpec, revision: Revision, job: &JobRecord, plan: &Plan) -> Result<(), Error> {
        if job.desired == Desired::Deleting {
            return Err(Error::Conflict {
                doing: format!("apply job {}", job.name),
                found: "it is being deleted".to_owned(),
                remedy: "wait until it is gone (`forebay job list`), then apply",
            });
        }
        let creating = job.desired == Desired::Creating;
        let desired = if creating { Desired::Creating } else { Desired::Running };
        let mut job = JobRecord { desired, ..job.clone() };
        job.put_spec(spec.clone());
        tracing::info!(job = %job.name, changes = plan.changes.join("; "), "{:?}", plan.action);
        self.try_again(&job.name);
        self.put(job, Expected::At(revision))
    }

    /// Forgets why the job does not run, and ends tasks that wait for a person, so that they are started again.
    fn try_again(&self, name: &str) {
        let running = {
            let mut slots = self.slots();
            let slot = slots.entry(name.to_owned()).or_default();
            slot.error = None;
            slot.job.clone()
        };
        if let Some(running) = running
            && running.tasks().iter().any(TaskView::needs_help)
        {
            running.stop();
        }
    }

    fn launch(&self, job: &JobRecord) -> Result<(), Error> {
        self.check_topics(job)?;
        let plans = self.task_plans(job)?;
        tracing::debug!(job = %job.name, "job planned");
        let source = facts::JobModules::of(job, Arc::clone(&self.store), Arc::clone(&self.modules));
        let running = RunningJob::start(job, plans, Arc::new(source), self.runner.as_ref())?;
        let view = self.store.view();
        let swap = view.swap(job.uid);
        let records = (view.job(&job.name).map_or(0, |(revision, _)| revision), swap.map(|(revision, _)| revision));
        tracing::debug!(job = %job.name, "tasks started");
        // A module may be out of reach for the moment: `follow` sets the target again later.
        if let Err(error) = running.aim(Aims::of(job, swap.map(|(_, swap)| swap)), records) {
            tracing::warn!(job = %job.name, "the tasks start with the versions of their last headers: {error}");
        }
        let running = Arc::new(running);
        let mut slots = self.slots();
        let slot = slots.entry(job.name.clone()).or_default();
        slot.job = Some(Arc::clone(&running));
        slot.error = None;
        drop(slots);
        if self.is_stopping() {
            running.stop();
        }
        Ok(())
    }

    fn task_plans(&self, job: &JobRecord) -> Result<Vec<crate::task::plan::TaskPlan>, Error> {
        let graph = facts::graph_of(job, &self.clusters, &self.store.view(), &self.modules)?;
        plan::task_plans(job, &graph, self.log.as_ref(), &self.data_dir)
    }

    /// The topics of a job that was created before. Its changelog holds all that it has come to: an empty one in its place
    /// would look as if it had come to nothing, and would stand in the way of whoever restores it.
    fn check_topics(&self, job: &JobRecord) -> Result<(), Error> {
        let names = Names::of(job, &self.data_dir);
        match self.log.check_internal(&names.changelog, job.parallelism, Cleanup::Delete) {
            Err(log::Error::UnknownTopic(topic)) => Err(Error::ChangelogGone { job: job.name.clone(), topic }),
            checked => {
                checked?;
                self.ensure_dead_letters(job)
            }
        }
    }

    /// Internal topics exist with the settings that the job relies on.
    fn ensure_topics(&self, job: &JobRecord) -> Result<(), Error> {
        self.log.ensure_internal(&TopicSpec {
            name: Names::of(job, &self.data_dir).changelog,
            partitions: job.parallelism,
            cleanup: Cleanup::Delete,
            max_record_bytes: CHANGELOG_RECORD_BYTES,
        })?;
        self.ensure_dead_letters(job)
    }

    /// The topic for dead letters exists, with whatever settings: a user reads it and may have created it himself.
    fn ensure_dead_letters(&self, job: &JobRecord) -> Result<(), Error> {
        let spec = TopicSpec {
            name: Names::of(job, &self.data_dir).dead_letters,
            partitions: job.parallelism,
            cleanup: Cleanup::Delete,
            max_record_bytes: DEAD_LETTER_RECORD_BYTES,
        };
        match self.log.create_topic(&spec) {
            Ok(_) | Err(log::Error::TopicExists(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, job: &JobRecord) -> Result<(), Error> {
        let names = Names::of(job, &self.data_dir);
        match self.log.delete_topic(&names.changelog) {
            Ok(()) | Err(log::Error::UnknownTopic(_)) => {}
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
        self.swaps.lock().unwrap_or_else(PoisonError::into_inner).remove(&job.uid);
        Ok(())
    }

    pub(super) fn put(&self, job: JobRecord, expected: Expected) -> Result<(), Error> {
        self.store.commit(&[Change::put(Record::Job(Box::new(job)), expected)]).map(drop)
    }

    fn look_at(&self, revision: Revision, job: &JobRecord, swap: Option<SwapRecord>) -> JobView {
        let slot = self.slots().get(&job.name).cloned().unwrap_or_default();
        let tasks = slot.job.as_ref().map(|running| running.tasks()).unwrap_or_default();
        let state = state(job, slot.error.is_some(), &tasks);
        JobView { record: job.clone(), revision, state, error: slot.error.map(|error| error.why), tasks, swap }
    }

    /// Waits until somebody calls `wake_up`, at most for `at_most`.
    pub(super) fn pause(&self, at_most: Duration) {
        let guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.wake.1.wait_timeout(guard, at_most));
    }

    pub(super) fn wake_up(&self) {
        self.wake.1.notify_all();
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only one caller changes a job at a time; a second one gets an error. The background thread holds the lock for
/// moments only, so the lock is tried for half a second first.
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

/// `0, 3 and 7`.
fn numbers(tasks: &[u32]) -> String {
    let mut shown: Vec<String> = tasks.iter().map(u32::to_string).collect();
    let last = shown.pop().unwrap_or_default();
    if shown.is_empty() { last } else { format!("{} and {last}", shown.join(", ")) }
}

fn state(job: &JobRecord, failed: bool, tasks: &[TaskView]) -> State {
    match job.desired {
        Desired::Stopped if tasks.iter().all(|task| task.ended) => return State::Stopped,
        Desired::Stopped | Desired::Deleting => return State::Stopping,
        Desired::Creating | Desired::Running => {}
    }
    if failed || tasks.iter().any(TaskView::needs_help) {
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
