//! What every session of a task works with, and what one session leaves to the next.

use std::cell::{RefCell, RefMut};
use std::sync::{Arc, Mutex, PoisonError};

use super::handle::TaskStatus;
use super::plan::{ModuleSource, TaskPlan};
use super::smaller_steps::SmallerSteps;
use super::target::TargetCell;
use crate::env::Clock;
use crate::log::Log;
use crate::log::clusters::Clusters;
use crate::model::{Digest, Uid};

pub(super) struct TaskContext {
    pub plan: TaskPlan,
    /// The home cluster's.
    pub log: Arc<dyn Log>,
    pub clusters: Clusters,
    pub modules: Arc<dyn ModuleSource>,
    pub clock: Arc<dyn Clock>,
    pub target: Arc<TargetCell>,
    pub status: Arc<Mutex<TaskStatus>>,
    /// Recovery may do things side by side. Not where each step is to be repeatable.
    pub overlap: bool,
    pub(super) memory: RefCell<Memory>,
}

/// What outlives a session. None of it is believed where the changelog says otherwise.
#[derive(Default)]
pub(super) struct Memory {
    /// Where the last header known here stands, and whose it is.
    pub seen: Option<(i64, Uid)>,
    /// How to go on after a delivery that was refused.
    pub steps: SmallerSteps,
    /// The modules, operator by operator, under which uploaded code was at fault: while they run the task stands still.
    pub held_under: Option<Vec<Digest>>,
    /// Epochs that brought something further, by any session.
    pub progress: u64,
}

impl TaskContext {
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
            target: Arc::default(),
            status,
            overlap: true,
            memory: RefCell::default(),
        }
    }

    /// For moments only: whoever holds it calls nothing else of the task.
    pub fn memory(&self) -> RefMut<'_, Memory> {
        self.memory.borrow_mut()
    }

    pub fn update(&self, change: impl FnOnce(&mut TaskStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
