//! The thread of a task: sessions one after the other, and what happens between them.
//!
//! A session ends well (told to stop) or with an error. Trouble of the outside world is answered by a
//! new session after a pause; everything else ends the task's work. Where uploaded code is at fault
//! the thread stays and holds the task still, so that another version can be swapped in.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Error;
use super::handle::{Command, Phase, TaskHandle, TaskStatus};
use super::plan::{ModuleSource, TaskPlan};
use super::session::{Ended, Session};
use crate::env::Clock;
use crate::error::Kind;
use crate::log::Log;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What every session of a task works with.
pub(super) struct Surroundings {
    pub plan: TaskPlan,
    pub log: Arc<dyn Log>,
    pub modules: Arc<dyn ModuleSource>,
    pub clock: Arc<dyn Clock>,
    pub status: Arc<Mutex<TaskStatus>>,
}

impl Surroundings {
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
    log: Arc<dyn Log>,
    modules: Arc<dyn ModuleSource>,
    clock: Arc<dyn Clock>,
) -> std::io::Result<TaskHandle> {
    let (commands, inbox) = mpsc::channel();
    let status = Arc::new(Mutex::new(TaskStatus::default()));
    let name = format!("{}-{}", plan.job.name, plan.task);
    let around = Surroundings { plan, log, modules, clock, status: Arc::clone(&status) };
    let thread = std::thread::Builder::new().name(name).spawn(move || work(&around, &inbox))?;
    Ok(TaskHandle { commands, status, thread: Some(thread) })
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
            _ => return,
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
