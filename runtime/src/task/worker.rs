//! The thread of a task: sessions one after the other, and between them what the supervisor says.
//!
//! Owns the pauses, and looks at the target in them. Decides nothing: see [`Supervisor`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::context::TaskContext;
use super::handle::{Phase, TaskHandle, TaskStatus};
use super::plan::{ModuleSource, TaskPlan};
use super::session::{self, Session};
use super::supervisor::{Act, Ended, Supervisor};
use super::{Error, recovery};
use crate::env::Clock;
use crate::error::Kind;
use crate::log::clusters::Clusters;
use crate::model::Digest;

/// On the average. Long enough for whoever fenced this task to commit its claim.
const AFTER_FENCING: Duration = Duration::from_millis(500);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

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
    let status = Arc::new(Mutex::new(TaskStatus::default()));
    let name = format!("{}-{}", plan.job.name, plan.task.number);
    let context = TaskContext::new(plan, clusters, modules, clock, Arc::clone(&status));
    let target = Arc::clone(&context.target);
    let thread = std::thread::Builder::new().name(name).spawn(move || work(&context))?;
    Ok(TaskHandle::new(target, status, thread))
}

fn work(context: &TaskContext) {
    let mut supervisor = Supervisor::default();
    loop {
        let Some((error, mut act)) = run(context, &mut supervisor) else {
            return context.update(|status| status.phase = Phase::Stopped);
        };
        let mut last = error;
        let mut pause = AFTER_FENCING;
        loop {
            if context.target.is_stop() {
                // It is not told twice: where its last commit fails it stops without it.
                let (job, task) = (&context.plan.job.name, &context.plan.task);
                tracing::warn!(%job, %task, "the task stops without its open epoch: {last}");
                return context.update(|status| status.phase = Phase::Stopped);
            }
            match act {
                Act::Again => break,
                Act::AgainAfter(pause) => {
                    report(context, &last, Phase::Recovering);
                    rest(context, pause);
                    act = Act::Again;
                }
                Act::Hold => {
                    report(context, &last, Phase::Held);
                    break;
                }
                Act::LookForOwner => {
                    rest(context, pause.mul_f64(0.5 + crate::env::chance()));
                    pause = (pause * 2).min(LONGEST_LOOK);
                    (last, act) = look_for_owner(context, last, &mut supervisor);
                }
                Act::End => return report(context, &last, Phase::Failed),
            }
        }
    }
}

/// One session, and what comes after it; none where it was told to stop, and has.
fn run(context: &TaskContext, supervisor: &mut Supervisor) -> Option<(Error, Act)> {
    let before = context.memory().progress;
    let mut session = match Session::recover(context) {
        Ok(session) => session,
        Err(error) => return Some(judge(context, supervisor, error, None, before)),
    };
    match session.run() {
        Ok(session::Ended::Stopped) => None,
        Err(error) => {
            let facts = (session.lane.digests(), session.hold);
            Some(judge(context, supervisor, error, Some(facts), before))
        }
    }
}

/// What comes after a session that ended in an error. `session` has its modules and whether it was held; none where it
/// could not be recovered.
pub(super) fn judge(
    context: &TaskContext,
    supervisor: &mut Supervisor,
    error: Error,
    session: Option<(Vec<Digest>, bool)>,
    progress_before: u64,
) -> (Error, Act) {
    let mut memory = context.memory();
    let act = supervisor.next(&Ended {
        kind: error.kind(),
        local_damage: error.is_of_local_store(),
        smaller_steps: memory.steps.is_on(),
        recovered: session.is_some(),
        held: session.as_ref().is_some_and(|(_, held)| *held),
        progressed: memory.progress > progress_before,
    });
    if act == Act::Hold {
        memory.held_under = session.map(|(modules, _)| modules);
    }
    (error, act)
}

/// Who owns the task, after it was fenced: by the last claim, read without taking over. An error that says so where it is
/// somebody else's: only a new assignment brings it back here.
fn look_for_owner(context: &TaskContext, fenced: Error, supervisor: &mut Supervisor) -> (Error, Act) {
    let (job, task) = (&context.plan.job.name, &context.plan.task);
    tracing::warn!(%job, %task, "{fenced}; looks who owns the task");
    context.update(|status| {
        status.phase = Phase::Recovering;
        status.error = Some(format!("{fenced}; it looks who owns the task"));
        status.error_kind = Some(Kind::Fenced);
    });
    let seen = context.memory().seen;
    let Some((offset, session)) = seen else { return (fenced, Act::End) };
    match recovery::last_owner(&context.plan, context.log.as_ref(), offset) {
        Ok((_, owner)) if owner == session => (fenced, supervisor.after_look(Some(true))),
        Ok((epoch, owner)) => (Error::TakenOver { epoch, owner }, supervisor.after_look(Some(false))),
        Err(error) if error.kind() == Kind::Retry => {
            report(context, &error, Phase::Recovering);
            (fenced, supervisor.after_look(None))
        }
        Err(error) => (error, Act::End),
    }
}

fn report(context: &TaskContext, error: &Error, phase: Phase) {
    let (job, task, kind) = (&context.plan.job.name, &context.plan.task, error.kind());
    tracing::error!(%job, %task, ?kind, "task stopped: {error}");
    context.update(|status| {
        status.phase = phase;
        status.error = Some(error.to_string());
        status.error_kind = Some(kind);
        status.open_records = 0;
        status.trial = None;
    });
}

/// Waits out a pause, or until the target is another one: it may be what lets the task go on.
fn rest(context: &TaskContext, pause: Duration) {
    context.target.wait(context.target.generation(), pause);
}
