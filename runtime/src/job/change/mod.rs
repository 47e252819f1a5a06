//! What comes next in a swap: its record against what the tasks of the job report.
//!
//! Pure. Owns the rules by which a swap goes from one phase to the next, and the few facts that no record holds
//! ([`Watch`]): since when this process has seen the phase, and how many traps there were meanwhile. Never writes,
//! waits or tells a task anything: whoever looks writes down what comes out, aims the tasks at what the records then
//! say ([`Aims`]) and looks again. So nothing has to be sent twice, and a record that could not be written is simply
//! the answer of the next look.
//! Read [`SwapRecord`], then [`Watch::look`], then the four phases below it.

mod aims;
pub mod loss;

use std::collections::BTreeMap;
use std::time::Duration;

pub use aims::{Aim, Aims, in_force};

use super::record::{SwapPhase, SwapRecord, SwitchedTask};
use crate::error::Kind;
use crate::model::{Digest, TaskId, Uid};
use crate::task::handle::TrialOutcome;

/// Trying every value of a task's state may take long.
const TRIAL_PATIENCE: Duration = Duration::from_secs(600);
/// A task that is not up, or has not begun to try, is waited for so long before the swap is given up.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// One that stands still since its module failed may not be able to try anything: it has nothing to lose.
const HELD_PATIENCE: Duration = Duration::from_secs(2);
/// The shortest time that a new version is watched; longer while values are being migrated.
const PROBATION: Duration = Duration::from_secs(10);
/// Traps on probation that send the version back. One bad record costs up to a dozen while it is isolated.
const PROBATION_TRAPS_MAX: u64 = 50;

/// One task, as it reports itself.
#[derive(Clone, Debug)]
pub struct Report {
    pub task: TaskId,
    pub is: Is,
    /// What the task's last committed header runs at the swap's operator; unknown until it has recovered.
    pub runs: Option<Digest>,
    /// How the swap's version fares on trial there. Of another swap it is none.
    pub trial: Option<TrialOutcome>,
    /// The task's report of its switch, once it has switched to the version of this swap.
    pub switched: Option<SwitchedTask>,
    /// Changes with every thread that is started for the task.
    pub life: Uid,
    /// Traps since this thread was started.
    pub traps: u64,
    pub migrating: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Is {
    /// Recovering, or about to be started again.
    Coming,
    Running,
    /// It stands still until another version comes in.
    Held {
        why: String,
        kind: Kind,
    },
    /// It will not come back by itself.
    Down {
        why: String,
    },
}

/// The rules that decide. The simulation breaks them one at a time, and has to notice each.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Nothing is decided before every task has tried the new version.
    all_must_try: bool,
    /// A swap has come to its end only when every task runs the version.
    all_must_switch: bool,
    /// What a version is convicted of is its own doing, never trouble of the host.
    only_guests_convict: bool,
    /// Facts that decide do not go back where a task starts again.
    traps_never_fewer: bool,
    /// A rollback that a task cannot make comes to an end too.
    stuck_way_back_ends: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            all_must_try: true,
            all_must_switch: true,
            only_guests_convict: true,
            traps_never_fewer: true,
            stuck_way_back_ends: true,
        }
    }
}

/// What this process has seen of the newest swap of one job.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    rules: Rules,
    /// The swap that was begun here. One that is only being prepared, and was begun elsewhere, has nobody who asked.
    begun: Option<Uid>,
    seen: Option<(Uid, SwapPhase)>,
    /// When it was first seen in that phase.
    since: Duration,
    traps: BTreeMap<TaskId, Traps>,
    /// When the record that comes next could not be written.
    stumbled: Option<Duration>,
}

/// Traps of one task in this phase. They never become fewer, also where the task is started again and counts from 0.
#[derive(Clone, Copy, Debug, Default)]
struct Traps {
    life: Option<Uid>,
    last: u64,
    counted: u64,
}

/// What one look is made from.
struct Seen<'a> {
    rules: Rules,
    swap: &'a SwapRecord,
    reports: &'a [Report],
    /// For how long this process has seen the phase.
    lasted: Duration,
    /// Traps in this phase.
    traps: u64,
}

impl Watch {
    /// This process has recorded the swap, for somebody who waits for it.
    pub fn begin(&mut self, swap: Uid) {
        self.begun = Some(swap);
    }

    pub fn stumbled(&mut self, now: Duration) {
        self.stumbled = Some(now);
    }

    /// Nothing went wrong within the last `pause`.
    pub fn may_look(&self, now: Duration, pause: Duration) -> bool {
        self.stumbled.is_none_or(|at| now.saturating_sub(at) >= pause)
    }

    /// The record that comes next, where one does. `reports` are those of all tasks, `None` where the job does not
    /// run; `now` never goes back.
    pub fn look(&mut self, swap: &SwapRecord, reports: Option<&[Report]>, now: Duration) -> Option<SwapRecord> {
        self.take_in(swap, reports.unwrap_or_default(), now);
        let Some(reports) = reports else {
            // While no task runs the new version is not being tested, so the time does not count.
            self.since = now;
            return self.without_tasks(swap);
        };
        let traps = self.traps.values().map(|traps| traps.counted).sum();
        let seen = Seen { rules: self.rules, swap, reports, lasted: now.saturating_sub(self.since), traps };
        match swap.phase {
            SwapPhase::Preparing if self.begun != Some(swap.swap) => Some(abandoned(swap, ORPHANED)),
            SwapPhase::Preparing => preparing(&seen),
            SwapPhase::Switching => switching(&seen),
            SwapPhase::Probation => probation(&seen),
            SwapPhase::RollingBack => rolling_back(&seen),
            SwapPhase::Done | SwapPhase::Abandoned | SwapPhase::RolledBack => None,
        }
    }

    fn take_in(&mut self, swap: &SwapRecord, reports: &[Report], now: Duration) {
        if self.seen != Some((swap.swap, swap.phase)) {
            self.seen = Some((swap.swap, swap.phase));
            self.since = now;
            self.traps.clear();
            for Report { task, life, traps, .. } in reports {
                self.traps.insert(task.clone(), Traps { life: Some(*life), last: *traps, counted: 0 });
            }
        }
        for Report { task, life, traps: now, .. } in reports {
            let traps = self.traps.entry(task.clone()).or_default();
            let last = if traps.life == Some(*life) { traps.last } else { 0 };
            traps.counted += now.saturating_sub(last);
            (traps.life, traps.last) = (Some(*life), *now);
            if !self.rules.traps_never_fewer {
                traps.counted = traps.counted.min(*now);
            }
        }
    }

    /// Nothing is undone, and nothing decided, while no task runs: what is decided goes on when the job starts.
    fn without_tasks(&self, swap: &SwapRecord) -> Option<SwapRecord> {
        let why = if self.begun == Some(swap.swap) { STOPPED } else { ORPHANED };
        (swap.phase == SwapPhase::Preparing).then(|| abandoned(swap, why))
    }
}

const ORPHANED: &str = "the server ended, or the log was away, while it was being prepared";
const STOPPED: &str = "the job was stopped while it was being prepared";

/// Every task tries the new version over all its values, while the old one runs. Only when all have succeeded is it
/// decided, and only then may any of them commit under it.
fn preparing(seen: &Seen) -> Option<SwapRecord> {
    let swap = seen.swap;
    if let Some(why) = seen.refusal(swap.to.digest) {
        return Some(abandoned(swap, &why));
    }
    if let Some((task, why)) = seen.reports.iter().find_map(|report| Some((report.task.number, report.down()?))) {
        return Some(abandoned(swap, &format!("task {task} is down: {why}")));
    }
    let unready = |report: &&Report| !(report.is_ready(swap.to.digest) || report.is_beyond_trying(seen.lasted));
    let judges = if seen.rules.all_must_try { seen.reports.len() } else { 1 };
    let Some(waits_for) = seen.reports.iter().take(judges).find(unready) else {
        return Some(SwapRecord { phase: SwapPhase::Switching, tasks: tried(seen.reports), ..swap.clone() });
    };
    let is_trying = seen.reports.iter().any(|report| report.trial == Some(TrialOutcome::Trying));
    let patience = if is_trying { TRIAL_PATIENCE } else { READY_PATIENCE };
    (seen.lasted >= patience).then(|| abandoned(swap, &waits_for.lateness(patience)))
}

/// Decided: every task changes at the edge of an epoch, or when it comes back. One that is down is waited for: what it
/// last committed may be under either version, and the record says which one it is to come to.
fn switching(seen: &Seen) -> Option<SwapRecord> {
    let swap = seen.swap;
    if let Some(why) = seen.refusal(swap.to.digest) {
        return Some(going_back(swap, why));
    }
    if !seen.all_run(swap.to.digest) {
        return None;
    }
    let phase = if swap.rollback { SwapPhase::Done } else { SwapPhase::Probation };
    Some(SwapRecord { phase, tasks: switched(swap, seen.reports), ..swap.clone() })
}

/// Every task has run the new version. It goes back by what its code does, never by trouble of the host.
fn probation(seen: &Seen) -> Option<SwapRecord> {
    let swap = seen.swap;
    let convicted = seen.reports.iter().find_map(|report| match &report.is {
        Is::Held { why, kind } if *kind == Kind::Guest || !seen.rules.only_guests_convict => {
            (report.runs == Some(swap.to.digest)).then(|| format!("task {}: {why}", report.task.number))
        }
        _ => None,
    });
    if let Some(why) = convicted {
        return Some(going_back(swap, why));
    }
    if seen.traps > PROBATION_TRAPS_MAX {
        return Some(going_back(swap, format!("{} traps while on probation", seen.traps)));
    }
    let is_settled = |report: &Report| report.is == Is::Running && !report.migrating;
    let is_over = seen.lasted >= PROBATION && seen.reports.iter().all(is_settled) && seen.all_run(swap.to.digest);
    is_over.then(|| SwapRecord { phase: SwapPhase::Done, ..swap.clone() })
}

/// The new version has failed: every task goes back to the one before. Where one cannot, since that version is at fault
/// too or takes the state no more, all stay on the newer one, which takes it: a job is never left on two versions.
fn rolling_back(seen: &Seen) -> Option<SwapRecord> {
    let swap = seen.swap;
    if seen.all_run(swap.from.digest) {
        return Some(SwapRecord { phase: SwapPhase::RolledBack, ..swap.clone() });
    }
    let why = seen.refusal(swap.from.digest).filter(|_| seen.rules.stuck_way_back_ends)?;
    let reason = format!(
        "it could not be taken back: {why}; the job stays on {}, which was to be taken back because: {}",
        swap.to,
        swap.reason.as_deref().unwrap_or("it was asked for")
    );
    Some(SwapRecord { phase: SwapPhase::Done, reason: Some(reason), ..swap.clone() })
}

impl Seen<'_> {
    fn all_run(&self, module: Digest) -> bool {
        let elsewhere = self.reports.iter().filter(|report| report.runs != Some(module)).count();
        elsewhere <= usize::from(!self.rules.all_must_switch)
    }

    fn refusal(&self, module: Digest) -> Option<String> {
        self.reports.iter().find_map(|report| report.refusal(module, self.rules))
    }
}

impl Report {
    /// Why it cannot come to `module`, where waiting does not help.
    fn refusal(&self, module: Digest, rules: Rules) -> Option<String> {
        match &self.trial {
            Some(TrialOutcome::Failed { why, kind }) if self.runs != Some(module) => (*kind != Kind::Retry
                || !rules.only_guests_convict)
                .then(|| format!("task {}: {why}", self.task.number)),
            _ => None,
        }
    }

    fn down(&self) -> Option<&str> {
        match &self.is {
            Is::Down { why } => Some(why),
            _ => None,
        }
    }

    fn is_ready(&self, module: Digest) -> bool {
        matches!(self.trial, Some(TrialOutcome::Ready { .. })) || self.runs == Some(module)
    }

    fn is_beyond_trying(&self, lasted: Duration) -> bool {
        matches!(self.is, Is::Held { .. }) && self.trial.is_none() && lasted >= HELD_PATIENCE
    }

    fn lateness(&self, patience: Duration) -> String {
        let (task, seconds) = (self.task.number, patience.as_secs());
        match &self.trial {
            Some(TrialOutcome::Failed { why, .. }) => format!("task {task}: {why}; for {seconds} s"),
            Some(TrialOutcome::Trying) => format!("task {task} has not tried all of its values within {seconds} s"),
            _ => format!("task {task} has not come to try it within {seconds} s: see `forebay job get`"),
        }
    }
}

fn abandoned(swap: &SwapRecord, why: &str) -> SwapRecord {
    SwapRecord { phase: SwapPhase::Abandoned, reason: Some(why.to_owned()), ..swap.clone() }
}

fn going_back(swap: &SwapRecord, why: String) -> SwapRecord {
    SwapRecord { phase: SwapPhase::RollingBack, reason: Some(why), ..swap.clone() }
}

fn tried(reports: &[Report]) -> BTreeMap<TaskId, SwitchedTask> {
    let values = |report: &Report| match report.trial {
        Some(TrialOutcome::Ready { values_tried }) => values_tried,
        _ => 0,
    };
    let tried = |report: &Report| SwitchedTask { values_tried: values(report), ..SwitchedTask::default() };
    reports.iter().map(|report| (report.task.clone(), tried(report))).collect()
}

/// Adds what the tasks report of their switch to what was recorded of their trials.
fn switched(swap: &SwapRecord, reports: &[Report]) -> BTreeMap<TaskId, SwitchedTask> {
    let mut tasks = swap.tasks.clone();
    for report in reports {
        let entry = tasks.entry(report.task.clone()).or_default();
        if let Some(switched) = &report.switched {
            let values_tried = entry.values_tried.max(switched.values_tried);
            *entry = SwitchedTask { values_tried, ..switched.clone() };
        }
    }
    tasks
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
