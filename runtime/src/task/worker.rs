//! The thread of a task: sessions one after the other, and what happens between them.
//!
//! A session ends well (told to stop) or with an error. Trouble of the outside world is answered by a
//! new session after a pause, a refused delivery by a session in smaller steps; everything else ends the
//! task's work. A task that was fenced never fences back at once: it reads who owns it now, and gives way.
//! Where uploaded code is at fault the thread stays and holds the task still, so that another version can
//! be swapped in.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::careful::Careful;
use super::handle::{Command, Phase, TaskHandle, TaskStatus};
use super::plan::{ModuleSource, TaskPlan};
use super::session::{Ended, Session};
use super::target::TargetCell;
use super::{Error, recovery};
use crate::env::Clock;
use crate::error::Kind;
use crate::log::Log;
use crate::log::clusters::Clusters;
use crate::model::Uid;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// On the average. Long enough for whoever fenced this task to commit its claim.
const AFTER_FENCING: Duration = Duration::from_millis(500);

/// What every session of a task works with.
pub(super) struct Surroundings {
    pub plan: TaskPlan,
    /// The home cluster's.
    pub log: Arc<dyn Log>,
    pub clusters: Clusters,
    pub modules: Arc<dyn ModuleSource>,
    pub clock: Arc<dyn Clock>,
    pub status: Arc<Mutex<TaskStatus>>,
    /// Recovery may do things side by side. Not where each step is to be repeatable.
    pub overlap: bool,
    /// What the last session left to the next.
    pub legacy: Mutex<Legacy>,
}

/// What outlives a session. None of it is believed where the changelog says otherwise.
#[derive(Default)]
pub(super) struct Legacy {
    /// Where the last header known here stands, and whose it is.
    pub seen: Option<(i64, Uid)>,
    /// How to go on after a delivery that was refused.
    pub careful: Careful,
    /// The task was told to stop. It is not told twice: where its last commit fails it stops without it.
    pub stopping: bool,
}

impl Surroundings {
    pub fn new(
        plan: TaskPlan,
        clusters: Clusters,
        modules: Arc<dyn ModuleSource>,
        clock: Arc<dyn Clock>,
        status: Arc<Mutex<TaskStatus>>,
    ) -> Self {
        Self {
            plan,
            log: Arc::clone(clusters.home()),
            clusters,
            modules,
            clock,
            status,
            overlap: true,
            legacy: Mutex::default(),
        }
    }

    pub fn legacy(&self) -> MutexGuard<'_, Legacy> {
        self.legacy.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn update(&self, change: impl FnOnce(&mut TaskStatus)) {
        change(&mut self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

/// Starts the task on a thread of its own. It takes over from whoever ran it before.
///
/// # Errors
/// The system's, where it gives no thread.
pub fn spawn(
    plan: TaskPlan,
    clusters: Clusters,
    modules: Arc<dyn ModuleSource>,
    clock: Arc<dyn Clock>,
) -> std::io::Result<TaskHandle> {
    let (commands, inbox) = mpsc::channel();
    let status = Arc::new(Mutex::new(TaskStatus::default()));
    let name = format!("{}-{}", plan.job.name, plan.task);
    let around = Surroundings::new(plan, clusters, modules, clock, Arc::clone(&status));
    let thread = std::thread::Builder::new().name(name).spawn(move || work(&around, &inbox))?;
    Ok(TaskHandle { commands, target: Arc::new(TargetCell::default()), status, thread: Some(thread) })
}

fn work(around: &Surroundings, commands: &Receiver<Command>) {
    let mut pause = FIRST_PAUSE;
    let mut hold = false;
    loop {
        let error = match Session::recover(around, hold).and_then(|mut session| {
            pause = FIRST_PAUSE;
            session.run(commands)
        }) {
            Ok(Ended::Stopped) => return around.update(|status| status.phase = Phase::Stopped),
            Err(error) => error,
        };
        if around.legacy().stopping {
            let (job, task) = (&around.plan.job.name, around.plan.task);
            tracing::warn!(%job, task, "the task stops without its open epoch: {error}");
            return around.update(|status| status.phase = Phase::Stopped);
        }
        let error = match error.kind() {
            Kind::Fenced => match whose(around, commands, error) {
                Ok(Owned::ByUs) => continue,
                Ok(Owned::Stopped) => return around.update(|status| status.phase = Phase::Stopped),
                Err(error) => error,
            },
            _ => error,
        };
        report(around, &error);
        match error.kind() {
            Kind::Retry => {
                if stopped_within(commands, pause) {
                    return around.update(|status| status.phase = Phase::Stopped);
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // Only a session that could be recovered can be held; one that fails in recovery again ends.
            Kind::Guest if !hold => hold = true,
            // The next session goes on in smaller steps, until the record that is refused stands alone.
            Kind::Invalid if around.legacy().careful.is_on() => {}
            _ => return,
        }
    }
}

enum Owned {
    ByUs,
    Stopped,
}

/// Who owns the task, after it was fenced: by the last claim, read without taking over. An error that says so where
/// it is somebody else's: only a new assignment brings it back here. Fenced by nobody (the cluster ended a
/// transaction that took too long) is a reason to take over again.
fn whose(around: &Surroundings, commands: &Receiver<Command>, fenced: Error) -> Result<Owned, Error> {
    let (job, task) = (&around.plan.job.name, around.plan.task);
    tracing::warn!(%job, task, "{fenced}; looks who owns the task");
    let Some((offset, session)) = around.legacy().seen else { return Err(fenced) };
    let mut pause = AFTER_FENCING;
    loop {
        if stopped_within(commands, pause.mul_f64(0.5 + rand::random::<f64>())) {
            return Ok(Owned::Stopped);
        }
        match recovery::last_owner(&around.plan, around.log.as_ref(), offset) {
            Ok((_, owner)) if owner == session => return Ok(Owned::ByUs),
            Ok((epoch, owner)) => return Err(Error::TakenOver { epoch, owner }),
            Err(error) if error.kind() == Kind::Retry => {
                report(around, &error);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

fn report(around: &Surroundings, error: &Error) {
    let (job, task, kind) = (&around.plan.job.name, around.plan.task, error.kind());
    tracing::error!(%job, task, ?kind, "task stopped: {error}");
    around.update(|status| {
        status.phase = if kind == Kind::Retry { Phase::Recovering } else { Phase::Failed };
        status.error = Some(error.to_string());
        status.error_kind = Some(kind);
        status.open_records = 0;
    });
}

/// Waits out a pause; true where the task was told to stop meanwhile. Swaps are turned down.
fn stopped_within(commands: &Receiver<Command>, pause: Duration) -> bool {
    match commands.recv_timeout(pause) {
        Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => true,
        Ok(command) => {
            command.decline("the task is recovering: try again");
            false
        }
        Err(RecvTimeoutError::Timeout) => false,
    }
}
