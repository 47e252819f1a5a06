//! The running tasks of one job: starts them, gives them the target that follows from the records, shows their status
//! and tells them to end.
//!
//! Owns the handles and the pace at which tasks that ended by themselves start again. Decides nothing about a job or
//! a swap, and never waits for a task.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::change::{Aim, Aims, Is, Report};
use super::error::Error;
use super::facts::JobModules;
use super::mirror::Positions;
use super::record::{JobRecord, SwapRecord, SwitchedTask};
use super::restart::{Restarts, Verdict};
use super::spec::JobSpec;
use super::store::Revision;
use crate::env::Clock;
use crate::log::TopicRules;
use crate::model::{Digest, NextOffset, PartitionId, TaskId, Uid};
use crate::task::handle::{Phase, TaskHandle, TaskStatus};
use crate::task::plan::{ModuleRef, ModuleSource, TaskPlan};
use crate::task::target::{Change, Target};

/// Starts tasks: real ones on threads, or stand-ins in tests.
pub trait Runner: Send + Sync {
    /// Commits header 0 where the task has none.
    fn deploy(&self, plan: &TaskPlan) -> Result<(), Error>;
    fn spawn(&self, plan: TaskPlan, modules: Arc<dyn ModuleSource>) -> Result<TaskHandle, Error>;
}

pub struct RunningJob {
    pub uid: Uid,
    pub name: String,
    /// Under which lag tools see its positions.
    pub consumer_group: String,
    /// The spec that it was started with, without the modules, which may be swapped while it runs.
    settings: JobSpec,
    tasks: Mutex<Vec<RunningTask>>,
    aim: Mutex<Aimed>,
    modules: Arc<JobModules>,
    /// Its tasks were told to end and are not started again.
    ending: AtomicBool,
}

struct RunningTask {
    plan: TaskPlan,
    handle: TaskHandle,
    /// A new one for every thread that is started for the task.
    life: Uid,
    restarts: Restarts,
    /// `clock.elapsed()` at which it is started again.
    due: Option<Duration>,
    /// It will not be started again by itself.
    given_up: bool,
}

/// The target of all tasks, and what it was made from.
#[derive(Default)]
struct Aimed {
    aims: Option<Aims>,
    records: Option<Records>,
    target: Target,
}

/// The revisions of the records that a target was made from: the job's, and that of its newest swap.
pub type Records = (Revision, Option<Revision>);

/// One task as others see it.
pub struct TaskView {
    pub status: TaskStatus,
    pub restarts: u32,
    /// It will not be started again by itself.
    pub down: bool,
    /// Its thread has ended.
    pub ended: bool,
}

/// A task that goes on, and where its changelog is as it knows it.
pub struct Owned {
    pub number: u32,
    pub topic: String,
    pub partition: PartitionId,
    pub end: i64,
    /// Of this life of the task.
    pub commits: u64,
}

impl TaskView {
    /// It does nothing until a person applies the job again, or another version of a module comes in.
    pub fn needs_help(&self) -> bool {
        self.down || self.status.phase == Phase::Held
    }
}

impl RunningJob {
    /// Starts every task, or none.
    pub fn start(
        job: &JobRecord,
        plans: Vec<TaskPlan>,
        modules: Arc<JobModules>,
        runner: &dyn Runner,
    ) -> Result<Self, Error> {
        let mut tasks: Vec<RunningTask> = Vec::new();
        for plan in plans {
            match runner.spawn(plan.clone(), Arc::clone(&modules) as Arc<dyn ModuleSource>) {
                Ok(handle) => {
                    let (life, restarts) = (Uid::random(), Restarts::default());
                    tasks.push(RunningTask { plan, handle, life, restarts, due: None, given_up: false });
                }
                Err(error) => {
                    tasks.iter().for_each(|task| task.handle.stop());
                    tasks.iter_mut().for_each(|task| task.handle.join());
                    return Err(error);
                }
            }
        }
        Ok(Self {
            uid: job.uid,
            name: job.name.clone(),
            consumer_group: job.spec.consumer_group(),
            settings: settings(&job.spec),
            tasks: Mutex::new(tasks),
            aim: Mutex::default(),
            modules,
            ending: AtomicBool::new(false),
        })
    }

    /// The record asks for other settings than it was started with.
    pub fn is_outdated(&self, job: &JobRecord) -> bool {
        self.settings != settings(&job.spec)
    }

    /// Gives every task the target that follows from the records. Setting the same target again changes nothing.
    ///
    /// # Errors
    /// A module cannot be loaded. The tasks then keep their old target.
    pub fn aim(&self, aims: Aims, records: Records) -> Result<(), Error> {
        let mut aimed = lock(&self.aim);
        if aimed.aims.as_ref() == Some(&aims) {
            aimed.records = Some(records);
            return Ok(());
        }
        drop(aimed);
        // The lock is released here, since a module may have to be read and compiled.
        let target = self.target(&aims)?;
        let mut aimed = lock(&self.aim);
        *aimed = Aimed { aims: Some(aims), records: Some(records), target };
        for task in self.lock().iter() {
            task.handle.aim(aimed.target.clone());
        }
        Ok(())
    }

    pub fn is_aimed_at(&self, records: Records) -> bool {
        lock(&self.aim).records == Some(records)
    }

    fn target(&self, aims: &Aims) -> Result<Target, Error> {
        let plan = self.lock().first().map(|task| task.plan.clone());
        let Some(plan) = plan else { return Ok(Target::default()) };
        let change = |aim: &Aim| -> Result<Option<Change>, Error> {
            let Some(operator) = plan.operators.iter().position(|operator| operator.id == aim.operator) else {
                return Ok(None);
            };
            let planned: &ModuleRef = &plan.operators[operator].module;
            let is_planned = planned.digest == aim.module.digest;
            let module = if is_planned { planned.clone() } else { self.modules.find(&aim.operator, &aim.module)? };
            Ok(Some(Change { swap: aim.swap, operator, module, empty: aim.empty.clone() }))
        };
        let mut target = Target { time_reset: aims.time_reset, ..Target::default() };
        if let Some(aim) = &aims.trial {
            target.trial = change(aim)?;
        }
        for aim in &aims.modules {
            target.modules.extend(change(aim)?.map(|change| (change.operator, change)));
        }
        Ok(target)
    }

    /// The topics that are read, with the partitions that its tasks have shared out.
    pub fn source_topics(&self) -> BTreeMap<String, u32> {
        let tasks = self.lock();
        let sources = tasks.first().into_iter().flat_map(|task| &task.plan.sources);
        sources.map(|source| (source.topic.name.clone(), source.topic.partitions)).collect()
    }

    /// The topics at home that are written to, with what the tasks were told that each takes.
    pub fn sink_topics(&self) -> BTreeMap<String, TopicRules> {
        let tasks = self.lock();
        let sinks = tasks.first().into_iter().flat_map(|task| &task.plan.sinks);
        let at_home = sinks.filter(|sink| sink.cluster.is_none());
        at_home.map(|sink| (sink.topic.name.clone(), sink.topic.rules)).collect()
    }

    /// The positions that the tasks reported after their last commits. A task that has failed is left out, since
    /// another process may own it by now.
    pub fn positions(&self) -> Positions {
        let mut positions = Positions::new();
        for task in self.lock().iter() {
            let status = task.handle.status();
            let of_sources = task.plan.sources.iter().filter(|_| status.phase != Phase::Failed);
            for source in of_sources {
                let of_partitions = status.positions.get(&source.id).into_iter().flatten();
                let topic = &source.topic.name;
                positions.extend(of_partitions.map(|(&p, &next)| ((topic.clone(), p), NextOffset(next))));
            }
        }
        positions
    }

    /// The tasks that are up and have committed.
    pub fn owned(&self) -> Vec<Owned> {
        let owned = |task: &RunningTask| {
            let status = task.handle.status();
            let end = status.changelog_end.filter(|_| status.phase == Phase::Running)?;
            let TaskPlan { task: id, changelog, .. } = &task.plan;
            let (topic, partition, commits) = (changelog.name.clone(), id.changelog_partition(), status.commits);
            Some(Owned { number: id.number, topic, partition, end, commits })
        };
        self.lock().iter().filter_map(owned).collect()
    }

    /// Has a task look whether it still owns itself.
    pub fn doubt(&self, number: u32) {
        self.lock().iter().filter(|task| task.plan.task.number == number).for_each(|task| task.handle.doubt());
    }

    pub fn tasks(&self) -> Vec<TaskView> {
        self.lock().iter().map(RunningTask::view).collect()
    }

    /// What the tasks say of a swap.
    pub fn reports(&self, swap: &SwapRecord) -> Vec<Report> {
        self.lock().iter().map(|task| report(&task.plan.task, task.life, &task.view(), swap)).collect()
    }

    /// Tells all tasks to commit what is open and to end. Waits for none.
    pub fn stop(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.lock().iter().for_each(|task| task.handle.stop());
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// No task is running, and none will be started again.
    pub fn has_ended(&self) -> bool {
        let is_ending = self.is_ending();
        self.lock().iter().all(|task| (task.given_up || is_ending) && task.handle.has_ended())
    }

    /// Tasks whose threads have not ended.
    pub fn unended(&self) -> Vec<u32> {
        let tasks = self.lock();
        tasks.iter().filter(|task| !task.handle.has_ended()).map(|task| task.plan.task.number).collect()
    }

    /// Starts tasks that ended by themselves again, each after its pause.
    pub fn supervise(&self, runner: &dyn Runner, clock: &dyn Clock) {
        // The target is locked before the tasks, in the same order as in `aim`, so that a task that is started here
        // gets the newest target.
        let aimed = lock(&self.aim);
        let (now, mut tasks) = (clock.elapsed(), self.lock());
        if self.is_ending() {
            return;
        }
        for task in tasks.iter_mut().filter(|task| !task.given_up && task.handle.has_ended()) {
            match task.due {
                None => task.decide(now),
                Some(due) if now >= due => {
                    task.due = None;
                    match runner.spawn(task.plan.clone(), Arc::clone(&self.modules) as Arc<dyn ModuleSource>) {
                        Ok(handle) => {
                            handle.aim(aimed.target.clone());
                            (task.handle, task.life) = (handle, Uid::random());
                        }
                        Err(error) => tracing::error!(job = %task.plan.job.name, task = %task.plan.task, "{error}"),
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RunningTask>> {
        lock(&self.tasks)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunningTask {
    fn view(&self) -> TaskView {
        let (status, ended) = (self.handle.status(), self.handle.has_ended());
        TaskView { status, restarts: self.restarts.total, down: self.given_up, ended }
    }

    fn decide(&mut self, now: Duration) {
        let status = self.handle.status();
        let (job, task) = (&self.plan.job.name, &self.plan.task);
        let why = status.error.as_deref().unwrap_or("it ended without saying why");
        match self.restarts.judge(status.error_kind, now, crate::env::chance()) {
            Verdict::After(pause) => {
                tracing::warn!(%job, %task, "task starts again in {} ms: {why}", pause.as_millis());
                self.due = Some(now + pause);
            }
            Verdict::GiveUp => {
                tracing::error!(%job, %task, "task stays down, `forebay job apply` tries again: {why}");
                self.given_up = true;
            }
        }
    }
}

/// The spec without what a swap changes.
fn settings(spec: &JobSpec) -> JobSpec {
    let mut settings = spec.clone();
    settings.operators.iter_mut().for_each(|operator| operator.module.clear());
    settings
}

fn report(task: &TaskId, life: Uid, view: &TaskView, swap: &SwapRecord) -> Report {
    let status = &view.status;
    let why = || status.error.clone().unwrap_or_else(|| "no reason was given".to_owned());
    let is = match status.phase {
        _ if view.down => Is::Down { why: why() },
        _ if view.ended => Is::Coming,
        Phase::Running => Is::Running,
        Phase::Held => Is::Held { why: why(), kind: status.error_kind.unwrap_or(crate::error::Kind::Guest) },
        Phase::Recovering | Phase::Stopped | Phase::Failed => Is::Coming,
    };
    let id = swap.swap.to_string();
    let runs = status.modules.get(&swap.operator).and_then(|module| Digest::parse(&module.digest));
    let trial = status.trial.as_ref().filter(|trial| trial.swap == id).map(|trial| trial.outcome.clone());
    let switched = status.last_swap.as_ref().filter(|last| last.swap == id);
    let switched = switched.map(|last| SwitchedTask {
        values_tried: 0,
        epoch: last.epoch,
        pause_us: last.pause_us,
        from: last.from.clone(),
    });
    Report { task: task.clone(), is, runs, trial, switched, life, traps: status.traps, migrating: status.migrating }
}
