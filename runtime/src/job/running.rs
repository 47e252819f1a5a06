//! The tasks of one job as they run: started, asked, told, stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::Error;
use super::mirror::Positions;
use super::record::JobRecord;
use super::restart::{Restarts, Verdict};
use crate::env::Clock;
use crate::model::{NextOffset, Uid};
use crate::task::handle::{Phase, TaskHandle, TaskStatus};
use crate::task::plan::{ModuleSource, TaskPlan};
use crate::task::target::Target;

/// Makes tasks: real ones, or made up by tests.
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
    tasks: Mutex<Vec<RunningTask>>,
    modules: Arc<dyn ModuleSource>,
}

struct RunningTask {
    plan: TaskPlan,
    handle: TaskHandle,
    /// For a handle that takes the place of this one.
    target: Target,
    restarts: Restarts,
    /// `clock.elapsed()` at which it is started again.
    due: Option<Duration>,
    /// It will not be started again by itself.
    given_up: bool,
}

/// One task as others see it.
pub struct TaskView {
    pub status: TaskStatus,
    pub restarts: u32,
    /// Down for good, or held.
    pub given_up: bool,
    /// Its module failed: it stands still, and hears commands, so that another version can be swapped in.
    pub held: bool,
}

impl RunningJob {
    /// Starts every task, or none.
    pub fn start(
        job: &JobRecord,
        plans: Vec<TaskPlan>,
        modules: Arc<dyn ModuleSource>,
        runner: &dyn Runner,
    ) -> Result<Self, Error> {
        let mut tasks = Vec::new();
        for plan in plans {
            match runner.spawn(plan.clone(), Arc::clone(&modules)) {
                Ok(handle) => {
                    let (target, restarts) = (Target::default(), Restarts::default());
                    tasks.push(RunningTask { plan, handle, target, restarts, due: None, given_up: false });
                }
                Err(error) => {
                    end(&mut tasks);
                    return Err(error);
                }
            }
        }
        let (uid, name, consumer_group) = (job.uid, job.name.clone(), job.spec.consumer_group());
        Ok(Self { uid, name, consumer_group, tasks: Mutex::new(tasks), modules })
    }

    /// The topics that are read, with the partitions that its tasks have shared out.
    pub fn source_topics(&self) -> BTreeMap<String, u32> {
        let tasks = self.lock();
        let sources = tasks.first().into_iter().flat_map(|task| &task.plan.sources);
        sources.map(|source| (source.topic.name.clone(), source.topic.partitions)).collect()
    }

    /// As the tasks last reported them after a commit. Not of one that has failed: somebody else may own it.
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

    /// No task runs, or will again.
    pub fn has_ended(&self) -> bool {
        self.lock().iter().all(|task| task.given_up && task.handle.has_ended())
    }

    pub fn tasks(&self) -> Vec<TaskView> {
        self.lock().iter().map(RunningTask::view).collect()
    }

    /// Commits what is open, ends all tasks and waits for them.
    pub fn stop(&self) {
        end(&mut self.lock());
    }

    /// Starts tasks again that ended by themselves, when their time has come.
    pub fn supervise(&self, runner: &dyn Runner, clock: &dyn Clock) {
        let now = clock.elapsed();
        for task in self.lock().iter_mut().filter(|task| !task.given_up && task.handle.has_ended()) {
            match task.due {
                None => task.decide(now),
                Some(due) if now >= due => {
                    task.due = None;
                    match runner.spawn(task.plan.clone(), Arc::clone(&self.modules)) {
                        Ok(handle) => {
                            handle.aim(task.target.clone());
                            task.handle = handle;
                        }
                        Err(error) => tracing::error!(job = %task.plan.job.name, task = task.plan.task, "{error}"),
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// Says what all tasks are to be.
    pub fn aim(&self, target: &Target) {
        for task in self.lock().iter_mut() {
            task.target = target.clone();
            task.handle.aim(target.clone());
        }
    }

    /// Position of an operator among those of every task.
    pub fn operator(&self, id: &str) -> Option<usize> {
        self.lock().first().and_then(|task| task.plan.operators.iter().position(|operator| operator.id == id))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RunningTask>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningTask {
    fn view(&self) -> TaskView {
        let status = self.handle.status();
        let held = status.phase == Phase::Held;
        TaskView { status, restarts: self.restarts.total, given_up: self.given_up || held, held }
    }

    fn decide(&mut self, now: Duration) {
        let status = self.handle.status();
        let (job, task) = (&self.plan.job.name, self.plan.task);
        let why = status.error.as_deref().unwrap_or("it ended without saying why");
        match self.restarts.judge(status.error_kind, now, crate::env::chance()) {
            Verdict::After(pause) => {
                tracing::warn!(%job, task, "task starts again in {} ms: {why}", pause.as_millis());
                self.due = Some(now + pause);
            }
            Verdict::GiveUp => {
                tracing::error!(%job, task, "task stays down, `forebay job apply` tries again: {why}");
                self.given_up = true;
            }
        }
    }
}

fn end(tasks: &mut [RunningTask]) {
    for task in tasks.iter() {
        task.handle.stop();
    }
    for task in tasks.iter_mut() {
        task.handle.join();
        task.given_up = true;
    }
}
