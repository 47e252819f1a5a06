//! Replacing one operator's module on every task of a job, or on none.
//!
//! The record in the control topic decides, and every step is repeatable: after a restart a swap that
//! was only being prepared is abandoned, one that was decided goes on. Prepare tries the new version
//! on all tasks while the old one runs; only when all have succeeded may any task commit under it.
//! While a finished swap is on probation, traps or a failed migration take it back by themselves.
//! Read [`Manager::swap`], then `Manager::drive`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::Error;
use super::facts::{self, JobModules};
use super::manager::{Manager, exclusive};
use super::plan::{Fate, PlannedState, Refusal, compare_states};
use super::record::{Desired, FORMAT, JobRecord, ModuleId, Record, SwapPhase, SwapRecord, SwitchedTask};
use super::running::{RunningJob, TaskView};
use super::store::{Change, Expected};
use crate::env::failpoint;
use crate::error::Kind;
use crate::model::{Digest, Uid};
use crate::task::handle::{Phase, TaskStatus, TrialOutcome};
use crate::task::plan::ModuleRef;
use crate::task::target::{Change as Decided, Target};

/// Trying every value of a task's state may take long.
const PREPARE_PATIENCE: Duration = Duration::from_secs(600);
const SWITCH_PATIENCE: Duration = Duration::from_secs(60);
/// A task that is recovering is waited for so long.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// The shortest time that a new version is watched; longer while values are being migrated.
const PROBATION: Duration = Duration::from_secs(10);
/// Traps on probation that send the version back. One bad record costs up to a dozen while it is isolated.
const PROBATION_TRAPS_MAX: u64 = 50;

/// A swap that was left half way since the log was away is gone on with after so long.
const LEFT_PAUSE: Duration = Duration::from_secs(1);

/// Swaps on probation: since when, and how many traps each task had had before.
#[derive(Default)]
pub struct Probations(Mutex<BTreeMap<Uid, Watch>>);

/// Jobs whose swap could not be noted, and since when. Nobody drives it, and it must not stay open for ever.
#[derive(Default)]
pub struct Left(Mutex<BTreeMap<Uid, Duration>>);

#[derive(Clone)]
struct Watch {
    since: Duration,
    traps: u64,
}

impl Manager {
    /// Puts `reference` in place of the module that `operator` of a running job has.
    ///
    /// # Errors
    /// [`Error::Refused`] by the plan; [`Error::SwapAbandoned`] where a task could not prepare. Nothing
    /// has changed then.
    pub fn swap(&self, name: &str, operator: &str, reference: &str) -> Result<SwapRecord, Error> {
        let change = self.change_of(name);
        let _one = exclusive(&change, name)?;
        let (_, job) = self.record(name)?;
        let from = job.modules.get(operator).cloned().ok_or_else(|| unknown_operator(&job, operator))?;
        let to = self.modules.find(reference)?.id;
        self.begin(&job, operator, from, to, false)
    }

    /// Goes back to the version before the last swap. The newer module migrates the state back.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason where it cannot.
    pub fn rollback(&self, name: &str) -> Result<SwapRecord, Error> {
        let change = self.change_of(name);
        let _one = exclusive(&change, name)?;
        let (_, job) = self.record(name)?;
        let view = self.store.view();
        let last = view.swap(job.uid).map(|(_, swap)| swap.clone());
        match last {
            Some(swap) if matches!(swap.phase, SwapPhase::Done | SwapPhase::Probation) && !swap.rollback => {
                self.begin(&job, &swap.operator, swap.to, swap.from, true)
            }
            _ => Err(Error::Conflict {
                doing: format!("roll back job {name}"),
                found: "its last change was no swap that succeeded".to_owned(),
                remedy: "swap to the version that you want",
            }),
        }
    }

    /// Refuses what cannot be, before anything moves; then records the swap and drives it.
    fn begin(
        &self,
        job: &JobRecord,
        operator: &str,
        from: ModuleId,
        to: ModuleId,
        rollback: bool,
    ) -> Result<SwapRecord, Error> {
        let running = self.swappable(job)?;
        if from.digest == to.digest {
            return Err(Error::Conflict {
                doing: format!("swap operator {operator} of job {}", job.name),
                found: format!("it runs {to} already"),
                remedy: "push another version and name it",
            });
        }
        self.check_fit(job, operator, &from, &to)?;
        let swap = SwapRecord {
            format: FORMAT,
            swap: Uid::random(),
            job_uid: job.uid,
            job: job.name.clone(),
            operator: operator.to_owned(),
            from,
            to,
            phase: SwapPhase::Preparing,
            reason: None,
            rollback,
            started_at_ms: self.clock.now() / 1_000_000,
            tasks: BTreeMap::new(),
        };
        let driven = self.note(&swap).and_then(|()| {
            failpoint("swap-preparing");
            self.drive(&running, swap)
        });
        let swap = driven.inspect_err(|error| self.leave(job.uid, error))?;
        match swap.phase {
            SwapPhase::Abandoned | SwapPhase::RolledBack => {
                Err(Error::SwapAbandoned { job: swap.job, swap: swap.swap, reason: swap.reason.unwrap_or_default() })
            }
            _ => Ok(swap),
        }
    }

    fn swappable(&self, job: &JobRecord) -> Result<Arc<RunningJob>, Error> {
        let conflict =
            |found: String, remedy| Error::Conflict { doing: format!("swap in job {}", job.name), found, remedy };
        let view = self.store.view();
        if let Some((_, open)) = view.swap(job.uid)
            && !(open.phase.is_over() || open.phase == SwapPhase::Probation)
        {
            return Err(conflict(format!("swap {} is still {:?}", open.swap, open.phase), "wait until it is over"));
        }
        let running = self.running_job(&job.name).filter(|_| job.desired == Desired::Running);
        running.ok_or_else(|| conflict("it does not run".to_owned(), "apply its spec, then swap"))
    }

    /// The plan of a swap: the graph with the new module, and what becomes of each state.
    fn check_fit(&self, job: &JobRecord, operator: &str, from: &ModuleId, to: &ModuleId) -> Result<(), Error> {
        let mut changed = job.clone();
        put_module(&mut changed, operator, to);
        facts::graph_of(&changed, &self.clusters, &self.store.view(), &self.modules)?;
        let refusals: Vec<Refusal> = self
            .planned_states(operator, from, to)?
            .into_iter()
            .filter_map(|state| match state.fate {
                Fate::Refuse(why) => Some(Refusal {
                    place: format!("operators[{operator}] state {}", state.state),
                    found: format!("version {} cannot become version {}", state.from_version, state.to_version),
                    remedy: why,
                }),
                _ => None,
            })
            .collect();
        if refusals.is_empty() { Ok(()) } else { Err(Error::Refused { job: job.name.clone(), refusals }) }
    }

    /// What a swap does to each state.
    pub fn planned_states(&self, operator: &str, from: &ModuleId, to: &ModuleId) -> Result<Vec<PlannedState>, Error> {
        let (old, new) = (self.modules.load(from.digest)?, self.modules.load(to.digest)?);
        Ok(compare_states(operator, &old.description().states, &new.description().states))
    }

    /// Goes on from the phase that is recorded until nothing more is to be done. Every step may be
    /// repeated: a task that has switched says so by the module it runs.
    fn drive(&self, job: &RunningJob, mut swap: SwapRecord) -> Result<SwapRecord, Error> {
        loop {
            match swap.phase {
                SwapPhase::Preparing => match self.prepare(job, &swap, &swap.to, |_| true) {
                    Ok(tried) => {
                        for (task, values_tried) in tried {
                            swap.tasks.insert(task, SwitchedTask { values_tried, ..SwitchedTask::default() });
                        }
                        swap.phase = SwapPhase::Switching;
                    }
                    Err(reason) => {
                        job.aim(&Target::default());
                        swap.phase = SwapPhase::Abandoned;
                        swap.reason = Some(reason);
                    }
                },
                SwapPhase::Switching => match self.switch_to(job, &mut swap, true) {
                    Ok(()) => swap.phase = if swap.rollback { SwapPhase::Done } else { SwapPhase::Probation },
                    Err(reason) => {
                        swap.phase = SwapPhase::RollingBack;
                        swap.reason = Some(reason);
                    }
                },
                SwapPhase::RollingBack => {
                    failpoint("swap-rolling-back");
                    if let Err(why) = self.switch_to(job, &mut swap, false) {
                        // The record stays at rolling back: the next start goes on from here.
                        return Err(Error::Module {
                            doing: format!("roll back swap {} of job {}", swap.swap, swap.job),
                            found: format!("{why}; it was rolled back because: {}", swap.reason.unwrap_or_default()),
                            kind: Kind::Guest,
                        });
                    }
                    swap.phase = SwapPhase::RolledBack;
                }
                SwapPhase::Probation | SwapPhase::Done | SwapPhase::Abandoned | SwapPhase::RolledBack => {
                    return Ok(swap);
                }
            }
            self.note(&swap)?;
            self.after(&swap, job);
        }
    }

    fn switch_to(&self, job: &RunningJob, swap: &mut SwapRecord, forward: bool) -> Result<(), String> {
        let target = if forward { swap.to.clone() } else { swap.from.clone() };
        self.switch_all(job, swap, &target)
    }

    fn after(&self, swap: &SwapRecord, job: &RunningJob) {
        match swap.phase {
            SwapPhase::Switching => failpoint("swap-decided"),
            SwapPhase::Probation => {
                self.probations.watch(swap.swap, self.clock.elapsed(), traps(job));
                failpoint("swap-switched");
            }
            SwapPhase::RolledBack => failpoint("swap-rolled-back"),
            _ => {}
        }
        let reason = swap.reason.as_deref().unwrap_or("");
        tracing::info!(job = %swap.job, swap = %swap.swap, from = %swap.from, to = %swap.to, phase = ?swap.phase, reason);
    }

    /// Writes the swap; where it decides which module the job has, the job's record in the same epoch.
    fn note(&self, swap: &SwapRecord) -> Result<(), Error> {
        let record = Record::Swap(Box::new(swap.clone()));
        let mut changes = vec![Change::put(record, Expected::Any)];
        let (revision, mut job) = self.record(&swap.job)?;
        let in_force = match swap.phase {
            SwapPhase::Probation | SwapPhase::Done => Some(&swap.to),
            SwapPhase::RolledBack => Some(&swap.from),
            _ => None,
        };
        if let Some(module) = in_force.filter(|module| job.modules.get(&swap.operator) != Some(*module)) {
            put_module(&mut job, &swap.operator, module);
            changes.push(Change::put(Record::Job(Box::new(job)), Expected::At(revision)));
        }
        self.store.commit(&changes).map(drop)
    }

    /// Has every chosen task try a version; per task the values that were tried.
    fn prepare(
        &self,
        job: &RunningJob,
        swap: &SwapRecord,
        to: &ModuleId,
        _chosen: impl Fn(&TaskStatus) -> bool,
    ) -> Result<BTreeMap<u32, u64>, String> {
        self.wait_until_ready(job)?;
        let change = self.decided(job, swap, to)?;
        job.aim(&Target { trial: Some(change), ..Target::default() });
        let id = swap.swap.to_string();
        let until = self.clock.elapsed() + PREPARE_PATIENCE;
        loop {
            let mut tried = BTreeMap::new();
            let tasks = job.tasks();
            for (number, task) in (0..).zip(&tasks) {
                match task.status.trial.as_ref().filter(|trial| trial.swap == id).map(|trial| &trial.outcome) {
                    Some(TrialOutcome::Ready { values_tried }) => drop(tried.insert(number, *values_tried)),
                    Some(TrialOutcome::Failed { why, kind }) if *kind != Kind::Retry => {
                        return Err(format!("task {number}: {why}"));
                    }
                    _ if runs(&task.status, &swap.operator, to.digest) => drop(tried.insert(number, 0)),
                    _ => {}
                }
            }
            if tried.len() == tasks.len() {
                return Ok(tried);
            }
            if self.is_stopping() || self.clock.elapsed() > until {
                return Err("not every task has tried it in time".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn decided(&self, job: &RunningJob, swap: &SwapRecord, id: &ModuleId) -> Result<Decided, String> {
        let operator = job.operator(&swap.operator).ok_or_else(|| format!("there is no operator {}", swap.operator))?;
        Ok(Decided { swap: swap.swap, operator, module: self.module_of(swap, id)? })
    }

    fn module_of(&self, swap: &SwapRecord, id: &ModuleId) -> Result<ModuleRef, String> {
        let (_, job) = self.record(&swap.job).map_err(|error| error.to_string())?;
        let source = JobModules::of(&job, Arc::clone(&self.store), Arc::clone(&self.modules));
        source.find(&swap.operator, id).map_err(|error| error.to_string())
    }

    /// Brings every task to `target`: those that recover meanwhile find it there when they come back.
    fn switch_all(&self, job: &RunningJob, swap: &mut SwapRecord, target: &ModuleId) -> Result<(), String> {
        let change = self.decided(job, swap, target)?;
        job.aim(&Target { modules: BTreeMap::from([(change.operator, change)]), ..Target::default() });
        let until = self.clock.elapsed() + SWITCH_PATIENCE;
        let id = swap.swap.to_string();
        loop {
            let tasks = job.tasks();
            if tasks.iter().all(|task| runs(&task.status, &swap.operator, target.digest)) {
                for (number, task) in (0..).zip(tasks) {
                    if let Some(last) = task.status.last_swap.filter(|last| last.swap == id) {
                        let entry = swap.tasks.entry(number).or_default();
                        (entry.epoch, entry.pause_us, entry.from) = (last.epoch, last.pause_us, last.from);
                    }
                }
                return Ok(());
            }
            if let Some((number, why)) = (0..).zip(&tasks).find_map(|(number, task)| Some((number, failed(task, &id)?)))
            {
                return Err(format!("task {number}: {why}"));
            }
            if self.is_stopping() || self.clock.elapsed() > until {
                return Err("not every task came up in time".to_owned());
            }
            self.supervise(job);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every task runs, or is held by a fault of its module: both hear commands.
    fn wait_until_ready(&self, job: &RunningJob) -> Result<(), String> {
        let until = self.clock.elapsed() + READY_PATIENCE;
        loop {
            self.supervise(job);
            let tasks = job.tasks();
            if tasks.iter().all(|task| task.status.phase == Phase::Running || task.held) {
                return Ok(());
            }
            if let Some((number, task)) = tasks.iter().enumerate().find(|(_, task)| task.given_up && !task.held) {
                return Err(format!("task {number} is down: {}", task.status.error.as_deref().unwrap_or("no reason")));
            }
            if self.is_stopping() || self.clock.elapsed() > until {
                return Err("not every task came up in time".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where nobody drives it, as after a restart: an undecided swap is abandoned, a decided one goes on.
    pub(super) fn follow_swap(self: &Arc<Self>, job: &JobRecord) {
        let view = self.store.view();
        let Some((_, swap)) = view.swap(job.uid) else { return };
        match swap.phase {
            SwapPhase::Preparing => {
                let reason = Some("the server ended, or the log was away, while it was being prepared".to_owned());
                let swap = SwapRecord { phase: SwapPhase::Abandoned, reason, ..swap.clone() };
                if let Some(running) = self.running_job(&job.name) {
                    running.aim(&Target::default());
                }
                if let Err(error) = self.note(&swap) {
                    self.leave(job.uid, &error);
                    tracing::error!(job = %job.name, "abandon swap {}: {error}", swap.swap);
                }
            }
            SwapPhase::Switching | SwapPhase::RollingBack => self.drive_beside(swap.clone()),
            SwapPhase::Probation | SwapPhase::Done | SwapPhase::Abandoned | SwapPhase::RolledBack => {}
        }
    }

    /// Remembers a job whose swap may stand half way since the log could not be written.
    pub(super) fn leave(&self, job: Uid, error: &Error) {
        if error.kind() == Kind::Retry {
            let mut left = self.left.0.lock().unwrap_or_else(PoisonError::into_inner);
            left.insert(job, self.clock.elapsed());
        }
    }

    /// Goes on with a swap that was left half way. Called where no change of the job is under way.
    pub(super) fn resume_swap(self: &Arc<Self>, name: &str, job: &RunningJob) {
        let due = |since: &Duration| self.clock.elapsed().saturating_sub(*since) >= LEFT_PAUSE;
        let mut left = self.left.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !left.get(&job.uid).is_some_and(due) {
            return;
        }
        left.remove(&job.uid);
        drop(left);
        if let Ok((_, record)) = self.record(name) {
            self.follow_swap(&record);
        }
    }

    /// Looks at a swap on probation: takes it back, or ends the probation.
    pub(super) fn watch_probation(self: &Arc<Self>, name: &str, job: &RunningJob) {
        let view = self.store.view();
        let Some((_, swap)) = view.swap(job.uid).filter(|(_, swap)| swap.phase == SwapPhase::Probation) else { return };
        let now = self.clock.elapsed();
        let watch = self.probations.watch(swap.swap, now, 0);
        let tasks = job.tasks();
        let broken = tasks.iter().find(|task| task.held && task.status.error_kind == Some(Kind::Guest));
        let trapped = traps(job).saturating_sub(watch.traps);
        let reason = match broken {
            Some(task) => Some(task.status.error.clone().unwrap_or_default()),
            None if trapped > PROBATION_TRAPS_MAX => Some(format!("{trapped} traps while on probation")),
            None => None,
        };
        if let Some(reason) = reason {
            tracing::warn!(job = %name, swap = %swap.swap, "rolling back: {reason}");
            self.drive_beside(SwapRecord { phase: SwapPhase::RollingBack, reason: Some(reason), ..swap.clone() });
            return;
        }
        let settled = tasks.iter().all(|task| task.status.phase == Phase::Running && !task.status.migrating);
        if settled && now.saturating_sub(watch.since) >= PROBATION {
            self.probations.forget(swap.swap);
            if let Err(error) = self.note(&SwapRecord { phase: SwapPhase::Done, ..swap.clone() }) {
                tracing::error!(job = %name, "end the probation of swap {}: {error}", swap.swap);
            }
        }
    }

    /// On a thread of its own, as the one change of the job.
    fn drive_beside(self: &Arc<Self>, swap: SwapRecord) {
        let manager = Arc::clone(self);
        let (name, id) = (swap.job.clone(), swap.swap);
        let work = move || {
            let change = manager.change_of(&swap.job);
            let Ok(_one) = exclusive(&change, &swap.job) else { return };
            // Another change may have come first: it has replaced the record that this was begun for.
            let view = manager.store.view();
            let current = view.swap(swap.job_uid).filter(|(_, current)| current.swap == swap.swap);
            if current.is_none_or(|(_, current)| current.phase.is_over()) {
                return;
            }
            let Some(job) = manager.running_job(&swap.job) else { return };
            let (name, id) = (swap.job.clone(), swap.swap);
            if let Err(error) = manager.note(&swap).and_then(|()| manager.drive(&job, swap)) {
                manager.leave(job.uid, &error);
                tracing::error!(job = %name, "follow swap {id}: {error}");
            }
        };
        if let Err(error) = std::thread::Builder::new().name(format!("{name}-swap")).spawn(work) {
            tracing::error!(job = %name, "follow swap {id}: the system gives no thread: {error}");
        }
    }
}

impl Probations {
    /// The watch of a swap, begun now where there is none.
    fn watch(&self, swap: Uid, since: Duration, traps: u64) -> Watch {
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watches.entry(swap).or_insert(Watch { since, traps }).clone()
    }

    fn forget(&self, swap: Uid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&swap);
    }
}

/// Why a task will not get there, of itself.
fn failed(task: &TaskView, swap: &str) -> Option<String> {
    match task.status.trial.as_ref().filter(|trial| trial.swap == swap).map(|trial| &trial.outcome) {
        Some(TrialOutcome::Failed { why, kind }) if *kind != Kind::Retry => Some(why.clone()),
        _ if task.given_up && !task.held => Some(task.status.error.clone().unwrap_or_default()),
        _ => None,
    }
}

fn traps(job: &RunningJob) -> u64 {
    job.tasks().iter().map(|task| task.status.traps).sum()
}

fn runs(status: &TaskStatus, operator: &str, digest: Digest) -> bool {
    status.modules.get(operator).is_some_and(|module| module.digest == digest.to_string())
}

fn put_module(job: &mut JobRecord, operator: &str, module: &ModuleId) {
    job.modules.insert(operator.to_owned(), module.clone());
    if let Some(spec) = job.spec.operators.iter_mut().find(|spec| spec.id == operator) {
        spec.module = format!("{}@{}", module.name, module.version);
    }
}

fn unknown_operator(job: &JobRecord, operator: &str) -> Error {
    let known = job.modules.keys().cloned().collect::<Vec<_>>().join(", ");
    Error::UnknownOperator { job: job.name.clone(), operator: operator.to_owned(), known }
}
