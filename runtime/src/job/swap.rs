//! Replacing one operator's module on every task of a job, or on none: the caller's side.
//!
//! Writes the first record of a swap and each next one as [`change`](super::change) computes it, and waits for an
//! answer. Where the caller leaves, `follow` carries the swap on: the record in the control topic decides, and every
//! step can be repeated. Read [`Manager::swap`], then `Manager::look`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use super::change::loss::{self, Accepted};
use super::change::{Aims, Report, in_force};
use super::error::Error;
use super::facts;
use super::follow::try_lock;
use super::manager::{Manager, SOON, exclusive};
use super::plan::{Fate, PlannedState, Refusal, compare_states};
use super::record::{Desired, FORMAT, JobRecord, ModuleId, Record, SwapPhase, SwapRecord};
use super::store::{Change, Expected};
use super::unknown::Unknown;
use crate::env::failpoint;
use crate::model::Uid;
use crate::task::handle::TrialOutcome;
use crate::wasm::contract::Description;

/// How long a caller waits for an answer. The swap goes on after that.
const PATIENCE: Duration = Duration::from_secs(720);
/// The same for a job that is just being started.
const START_PATIENCE: Duration = Duration::from_secs(60);
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a swap would do: everything that can be known before anything is changed.
#[derive(Debug)]
pub struct SwapPlan {
    pub operator: String,
    pub from: ModuleId,
    pub to: ModuleId,
    pub refusals: Vec<Refusal>,
    pub warnings: Vec<String>,
    pub states: Vec<PlannedState>,
}

impl Manager {
    /// What putting `reference` in place of the module that `operator` has would do. Changes nothing; what is wrong is
    /// in the answer.
    pub fn plan_swap(
        &self,
        name: &str,
        operator: &str,
        reference: &str,
        accepted: &Accepted,
    ) -> Result<SwapPlan, Error> {
        let (_, job) = self.record(name)?;
        let from = module_of(&job, operator)?;
        let to = self.modules.find(reference)?.id;
        self.judge(&job, operator, &from, to, accepted)
    }

    /// Puts `reference` in place of the module that `operator` has. A job that does not run is changed too: its tasks
    /// try the new version when they start.
    ///
    /// # Errors
    /// [`Error::SwapRefused`] by the plan; [`Error::SwapAbandoned`] where a task could not take it. Nothing has changed
    /// then.
    pub fn swap(&self, name: &str, operator: &str, reference: &str, accepted: &Accepted) -> Result<SwapRecord, Error> {
        self.until_started(name)?;
        let change = self.change_of(name);
        let one = exclusive(&change, name)?;
        let (_, job) = self.record(name)?;
        let module = module_of(&job, operator)?;
        let to = self.modules.find(reference)?.id;
        let view = self.store.view();
        let open = view.swap(job.uid).map(|(_, swap)| swap).filter(|swap| !swap.phase.is_over());
        // A task that does not run names in its last header what it ran then; the record may have moved on since.
        let from = open.filter(|open| open.operator == operator && open.phase != SwapPhase::Probation);
        let from = from.map_or_else(|| module.clone(), |open| open.from.clone());
        self.check_no_other(&job, operator, open)?;
        if module.digest == to.digest || from.digest == to.digest {
            return Err(Error::Conflict {
                doing: format!("swap operator {operator} of job {name}"),
                found: if module.digest == to.digest {
                    format!("it runs {to} already")
                } else {
                    format!("its tasks come from {to}")
                },
                remedy: "push another version and name it, or go back with `forebay job rollback`",
            });
        }
        let SwapPlan { refusals, states, .. } = self.judge(&job, operator, &from, to.clone(), accepted)?;
        if !refusals.is_empty() {
            return Err(Error::SwapRefused { job: name.to_owned(), operator: operator.to_owned(), refusals });
        }
        let empty = states.into_iter().filter(|state| state.fate == Fate::Emptied).map(|state| state.state).collect();
        let swap = self.begin(&job, operator, (from, to), empty, false)?;
        drop(one);
        answer_of(self.answer(name, swap)?)
    }

    /// Goes back to the version before the last swap. The newer module migrates the state back.
    ///
    /// # Errors
    /// [`Error::SwapRefused`] with the reason where it cannot.
    pub fn rollback(&self, name: &str) -> Result<SwapRecord, Error> {
        self.until_started(name)?;
        let change = self.change_of(name);
        let one = exclusive(&change, name)?;
        let (_, job) = self.record(name)?;
        let view = self.store.view();
        let last = view.swap(job.uid).map(|(revision, swap)| (revision, swap.clone()));
        let reason = Some("it was taken back by hand".to_owned());
        match last {
            Some((_, swap)) if matches!(swap.phase, SwapPhase::Done | SwapPhase::Probation) && !swap.rollback => {
                self.judge_way_back(&job, &swap)?;
                let back = self.begin(&job, &swap.operator, (swap.to, swap.from), BTreeSet::new(), true)?;
                drop(one);
                answer_of(self.answer(name, back)?)
            }
            Some((revision, swap)) if matches!(swap.phase, SwapPhase::Preparing | SwapPhase::Switching) => {
                let is_decided = swap.phase == SwapPhase::Switching;
                let phase = if is_decided { SwapPhase::RollingBack } else { SwapPhase::Abandoned };
                let swap = SwapRecord { phase, reason, ..swap };
                self.write_swap(&swap, Expected::At(revision))?;
                drop(one);
                self.answer(name, swap.swap)
            }
            Some((_, swap)) if swap.phase == SwapPhase::RollingBack => {
                drop(one);
                self.answer(name, swap.swap)
            }
            _ => Err(Error::Conflict {
                doing: format!("roll back job {name}"),
                found: "its last change was no swap that succeeded".to_owned(),
                remedy: "swap to the version that you want",
            }),
        }
    }

    /// One swap of a job at a time: two that are open at once would judge each other's tasks. Where the job does not
    /// run no task can carry an open swap on: then another swap of the same operator may replace it.
    fn check_no_other(&self, job: &JobRecord, operator: &str, open: Option<&SwapRecord>) -> Result<(), Error> {
        let is_up = self.is_up(job);
        let in_the_way =
            |open: &&SwapRecord| open.phase != SwapPhase::Probation && (is_up || open.operator != operator);
        let Some(open) = open.filter(in_the_way) else { return Ok(()) };
        let waits_for = self.running_job(&job.name).and_then(|running| {
            let mut tasks = running.tasks().into_iter().enumerate().filter(|(_, task)| task.needs_help());
            tasks.next().map(|(number, task)| {
                format!(", task {number} needs help: {}", task.status.error.as_deref().unwrap_or("it says no reason"))
            })
        });
        let (swap, phase, of) = (open.swap, open.phase.name(), &open.operator);
        Err(Error::Conflict {
            doing: format!("swap in job {}", job.name),
            found: format!("swap {swap} of operator {of} is still {phase}{}", waits_for.unwrap_or_default()),
            remedy: if is_up {
                "wait until it is over (`forebay job get`), or take it back with `forebay job rollback`"
            } else {
                "apply the job, so that its tasks come to one version, or take it back with `forebay job rollback`"
            },
        })
    }

    /// The plan of a swap: the graph with the new module, what becomes of each state, what would be lost.
    fn judge(
        &self,
        job: &JobRecord,
        operator: &str,
        from: &ModuleId,
        to: ModuleId,
        accepted: &Accepted,
    ) -> Result<SwapPlan, Error> {
        let (old, new) = (self.description(from)?, self.description(&to)?);
        let states = loss::with_resets(compare_states(operator, &old.states, &new.states), accepted);
        let mut refusals = loss::refusals(operator, &old, &new, &states, accepted);
        refusals.extend(self.misfits(job, operator, &to)?);
        let warnings = self.untried(job);
        Ok(SwapPlan { operator: operator.to_owned(), from: from.clone(), to, refusals, warnings, states })
    }

    /// What the rest of the job needs of this operator, and the new version lacks.
    fn misfits(&self, job: &JobRecord, operator: &str, to: &ModuleId) -> Result<Vec<Refusal>, Error> {
        let mut changed = job.clone();
        changed.put_module(operator, to);
        match facts::plan_of(&changed, &self.clusters, &self.store.view(), &self.modules) {
            Ok(_) => Ok(Vec::new()),
            Err(Error::Refused { refusals, .. }) => Ok(refusals),
            Err(error) => Err(error),
        }
    }

    /// States that only the newer version has are no reason to refuse a rollback: going back implies losing them.
    fn judge_way_back(&self, job: &JobRecord, swap: &SwapRecord) -> Result<(), Error> {
        let (old, new) = (self.description(&swap.to)?, self.description(&swap.from)?);
        let mut states = compare_states(&swap.operator, &old.states, &new.states);
        for state in &mut states {
            if let Fate::Stuck(why) = &state.fate {
                state.fate =
                    Fate::Refuse(format!("{why}; a swap to it with `--reset {}` begins it empty", state.state));
            }
        }
        let accepted = Accepted::all(&old, &new, &states);
        let mut refusals = loss::refusals(&swap.operator, &old, &new, &states, &accepted);
        refusals.extend(self.misfits(job, &swap.operator, &swap.from)?);
        if refusals.is_empty() {
            return Ok(());
        }
        let operator = swap.operator.clone();
        Err(Error::SwapRefused { job: job.name.clone(), operator, refusals })
    }

    /// The description from the module's record, which is there even where its bytes cannot be read.
    fn description(&self, module: &ModuleId) -> Result<Description, Error> {
        Ok(self.modules.find(&module.digest.to_string())?.description)
    }

    /// Tasks that cannot try the new version beforehand.
    fn untried(&self, job: &JobRecord) -> Vec<String> {
        let Some(running) = self.running_job(&job.name).filter(|_| self.is_up(job)) else {
            return vec![
                "the job does not run, so nothing is tried now: its tasks try the new version when they start, and all \
                 go back where one cannot take it"
                    .to_owned(),
            ];
        };
        let tasks = running.tasks().into_iter().enumerate().filter(|(_, task)| task.needs_help());
        tasks
            .map(|(number, task)| {
                let why = task.status.error.as_deref().unwrap_or("it says no reason");
                format!("task {number} stands still and may not try the new version beforehand: {why}")
            })
            .collect()
    }

    /// Writes the first record. A job that does not run has no task that could try the new version: the swap begins as
    /// decided, and the tasks try the version when they start.
    fn begin(
        &self,
        job: &JobRecord,
        operator: &str,
        (from, to): (ModuleId, ModuleId),
        empty: BTreeSet<String>,
        rollback: bool,
    ) -> Result<Uid, Error> {
        let is_up = self.is_up(job);
        let swap = SwapRecord {
            format: FORMAT,
            swap: Uid::random(),
            job_uid: job.uid,
            job: job.name.clone(),
            operator: operator.to_owned(),
            from,
            to,
            phase: if is_up { SwapPhase::Preparing } else { SwapPhase::Switching },
            empty,
            reason: None,
            rollback,
            started_at_ms: self.clock.now() / 1_000_000,
            tasks: BTreeMap::new(),
            unknown: Unknown::default(),
        };
        let expected = self.store.view().swap(job.uid).map(|(revision, _)| revision);
        self.write_swap(&swap, expected.map_or(Expected::Absent, Expected::At))?;
        let mut watches = self.swaps.lock().unwrap_or_else(PoisonError::into_inner);
        watches.entry(job.uid).or_default().begin(swap.swap);
        drop(watches);
        failpoint("swap-preparing");
        // A job that could not be started with the old version may start with the new one.
        self.slots().get_mut(&job.name).into_iter().for_each(|slot| slot.error = None);
        self.wake_up();
        Ok(swap.swap)
    }

    /// Carries the swap on until the caller can be answered: it is over, on probation, or waits for the job to be
    /// started.
    fn answer(&self, name: &str, swap: Uid) -> Result<SwapRecord, Error> {
        let until = self.clock.elapsed() + PATIENCE;
        let change = self.change_of(name);
        loop {
            let (_, job) = self.record(name)?;
            if self.may_look(job.uid, WRITE_AGAIN_AFTER)
                && let Some(_one) = try_lock(&change)
            {
                self.look(name);
            }
            let view = self.store.view();
            let found = view.swap(job.uid).map(|(_, found)| found).filter(|found| found.swap == swap);
            let Some(found) = found else {
                return Err(Error::Conflict {
                    doing: format!("follow swap {swap} of job {name}"),
                    found: "another change has replaced it".to_owned(),
                    remedy: "see `forebay job get`",
                });
            };
            let waits_for_start = matches!(found.phase, SwapPhase::Switching | SwapPhase::RollingBack)
                && view.job(name).is_none_or(|(_, job)| !self.is_up(job));
            if found.phase.is_over() || found.phase == SwapPhase::Probation || waits_for_start {
                return Ok(found.clone());
            }
            if self.is_stopping() {
                return Err(Error::ShuttingDown);
            }
            if self.clock.elapsed() >= until {
                return Err(Error::TimedOut { doing: format!("swap {swap}"), seconds: PATIENCE.as_secs() });
            }
            self.pause(SOON);
        }
    }

    /// Compares the records with what the tasks report, writes the next record, and sets the tasks' target. The caller
    /// holds the job's `change` lock. Never waits for a task.
    pub(super) fn look(&self, name: &str) {
        loop {
            match self.look_once(name) {
                Ok(true) => self.wake_up(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(job = %name, "follow the swap, tried again: {error}");
                    let now = self.clock.elapsed();
                    if let Ok((_, job)) = self.record(name) {
                        let mut watches = self.swaps.lock().unwrap_or_else(PoisonError::into_inner);
                        watches.entry(job.uid).or_default().stumbled(now);
                    }
                    return;
                }
            }
        }
    }

    /// Whether nothing went wrong within the last `pause`.
    pub(super) fn may_look(&self, job: Uid, pause: Duration) -> bool {
        let watches = self.swaps.lock().unwrap_or_else(PoisonError::into_inner);
        watches.get(&job).is_none_or(|watch| watch.may_look(self.clock.elapsed(), pause))
    }

    /// True where a record was written: the next look may find more to do.
    fn look_once(&self, name: &str) -> Result<bool, Error> {
        let view = self.store.view();
        let Some((job_revision, job)) = view.job(name) else { return Ok(false) };
        let (swap_revision, swap) = view.swap(job.uid).unzip();
        let running = self.running_job(name);
        let aimed = running.as_ref().map(|running| running.aim(Aims::of(job, swap), (job_revision, swap_revision)));
        let aimed = aimed.unwrap_or(Ok(()));
        let (Some(revision), Some(swap)) = (swap_revision, swap.filter(|swap| !swap.phase.is_over())) else {
            return aimed.map(|()| false);
        };
        let mut reports = running.map(|running| running.reports(swap));
        if let Err(error) = aimed {
            reports.iter_mut().flatten().for_each(|report| unaimed(report, &error));
        }
        let next = {
            let mut watches = self.swaps.lock().unwrap_or_else(PoisonError::into_inner);
            watches.entry(job.uid).or_default().look(swap, reports.as_deref(), self.clock.elapsed())
        };
        let Some(next) = next else { return Ok(false) };
        self.write_swap(&next, Expected::At(revision))?;
        failpoint_after(&next);
        Ok(true)
    }

    /// Whether the job's tasks run, so that they can try a version.
    fn is_up(&self, job: &JobRecord) -> bool {
        job.desired == Desired::Running && self.running_job(&job.name).is_some()
    }

    /// Waits for a job that is just being started, so that its tasks can try the new version before it is decided.
    fn until_started(&self, name: &str) -> Result<(), Error> {
        let until = self.clock.elapsed() + START_PATIENCE;
        loop {
            let (_, job) = self.record(name)?;
            let is_failed = self.slots().get(name).is_some_and(|slot| slot.error.is_some());
            let is_coming = matches!(job.desired, Desired::Creating | Desired::Running) && !is_failed;
            if !is_coming || self.is_up(&job) || self.is_stopping() {
                return Ok(());
            }
            if self.clock.elapsed() >= until {
                return Err(Error::Conflict {
                    doing: format!("swap in job {name}"),
                    found: "it is still being started".to_owned(),
                    remedy: "try again when it runs",
                });
            }
            self.pause(SOON);
        }
    }

    /// Writes the swap's record, and in the same epoch the job's record where the swap changes which module the job
    /// has.
    pub(super) fn write_swap(&self, swap: &SwapRecord, expected: Expected) -> Result<(), Error> {
        let record = Record::Swap(Box::new(swap.clone()));
        let mut changes = vec![Change::put(record, expected)];
        let (revision, mut job) = self.record(&swap.job)?;
        let decided = in_force(swap).filter(|module| job.modules.get(&swap.operator) != Some(*module));
        if let Some(module) = decided {
            job.put_module(&swap.operator, module);
            changes.push(Change::put(Record::Job(Box::new(job)), Expected::At(revision)));
        }
        self.store.commit(&changes)?;
        let reason = swap.reason.as_deref().unwrap_or("");
        tracing::info!(job = %swap.job, swap = %swap.swap, from = %swap.from, to = %swap.to, phase = swap.phase.name(), reason);
        Ok(())
    }
}

/// What the caller who asked for the version is told.
fn answer_of(swap: SwapRecord) -> Result<SwapRecord, Error> {
    match swap.phase {
        SwapPhase::Abandoned | SwapPhase::RolledBack => {
            let SwapRecord { job, swap, reason, .. } = swap;
            Err(Error::SwapAbandoned { job, swap, reason: reason.unwrap_or_default() })
        }
        _ => Ok(swap),
    }
}

/// A task whose target could not be set counts as one that has failed to come to the new version.
fn unaimed(report: &mut Report, error: &Error) {
    if report.trial.is_none() {
        report.trial = Some(TrialOutcome::Failed { why: error.to_string(), kind: error.kind() });
    }
}

fn failpoint_after(swap: &SwapRecord) {
    match swap.phase {
        SwapPhase::Switching => failpoint("swap-decided"),
        SwapPhase::Probation => failpoint("swap-switched"),
        SwapPhase::RollingBack => failpoint("swap-rolling-back"),
        SwapPhase::RolledBack => failpoint("swap-rolled-back"),
        SwapPhase::Preparing | SwapPhase::Done | SwapPhase::Abandoned => {}
    }
}

fn module_of(job: &JobRecord, operator: &str) -> Result<ModuleId, Error> {
    job.modules.get(operator).cloned().ok_or_else(|| {
        let known = job.modules.keys().cloned().collect::<Vec<_>>().join(", ");
        Error::UnknownOperator { job: job.name.clone(), operator: operator.to_owned(), known }
    })
}
