//! Changing the module of one operator while the task runs: from what runs to what the target says.
//!
//! Trial, on a thread beside the task: try `migrate` over all stored values without writing any, while the old version runs
//! on. Install, between two epochs, once the target says that it is decided: the old version's epoch commits, the new
//! version's first epoch carries it in its header. State, timers, positions and watermark stay where they are; values of
//! the old version are migrated on first touch and by a sweep. Whatever ends a session, the next one compares itself to the
//! target anew: nothing has to be said again.
//!
//! Owns trials and sweeps. Commits nothing: the session does, between the steps.

mod install;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;

use super::Error;
use super::context::TaskContext;
use super::handle::{TrialOutcome, TrialStatus};
use super::lane::Lane;
use super::plan::Unavailable;
use super::rules::rules;
use super::target::{Change, Target};
use super::wiring::routes_of;
use crate::error::Kind;
use crate::model::Uid;
use crate::operator::kind::Operator;
use crate::operator::migration::Sweep;
use crate::operator::transform::Transform;
use trial::{Ready, Trial, fits};

/// A trial that the host's trouble ended is made again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Changes {
    trial: Option<(Change, TrialState)>,
    /// By operator.
    sweeps: BTreeMap<usize, Sweep>,
}

enum TrialState {
    Trying(Receiver<Result<Ready, Unavailable>>),
    Ready(Ready),
    /// `at` = when, of the clock that counts from the start.
    Failed {
        failure: Unavailable,
        at: Duration,
    },
}

/// What a sweep has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// Some values of an older version, and more may be left.
    Some,
    /// The last ones of an operator.
    All,
    /// There was nothing to be swept.
    Nothing,
}

impl Changes {
    /// A trial may have come to its end: worth a look although the target has not changed.
    pub fn has_news(&self) -> bool {
        let waits = |state: &TrialState| match state {
            TrialState::Trying(_) => true,
            TrialState::Failed { failure, .. } => failure.kind == Kind::Retry,
            TrialState::Ready(_) => false,
        };
        self.trial.as_ref().is_some_and(|(_, state)| waits(state))
    }

    /// Goes one step towards the target. True where a version is ready that is decided: it is to be installed.
    pub fn follow(&mut self, context: &TaskContext, lane: &mut Lane, target: &Target) -> bool {
        let decided = target.modules.values().find(|change| is_to_come(lane, change)).cloned();
        let tried = || target.trial.clone().filter(|change| is_to_come(lane, change));
        let Some(change) = decided.clone().or_else(tried) else {
            if self.trial.take().is_some() {
                show_trial(context, None);
            }
            return false;
        };
        self.try_out(context, lane, &change);
        let is_ready = matches!(&self.trial, Some((of, TrialState::Ready(_))) if *of == change);
        is_ready && (decided.is_some() || !rules().trials_commit_nothing)
    }

    /// Puts the version that is ready in place of the one that runs. The swap that brought it; none where none is ready.
    pub fn install(&mut self, context: &TaskContext, lane: &mut Lane) -> Result<Option<Uid>, Error> {
        let Some((change, TrialState::Ready(ready))) = self.trial.take() else { return Ok(None) };
        self.sweeps.remove(&change.operator);
        install::install(&context.plan, lane, change.operator, change.module, ready)?;
        Ok(Some(change.swap))
    }

    /// Migrates some of what no record has touched. Of one operator only.
    pub fn sweep(&mut self, lane: &mut Lane) -> Result<Swept, Error> {
        let Lane { chain, state, .. } = lane;
        let Some(operator) = chain.operators.iter_mut().find(|operator| operator.is_migrating()) else {
            return Ok(Swept::Nothing);
        };
        let index = operator.head().index;
        let sweep = self.sweeps.entry(index).or_default();
        let is_done = operator.migrations_mut().map_or(Ok(true), |migrations| migrations.sweep(sweep, state))?;
        if !is_done {
            return Ok(Swept::Some);
        }
        self.sweeps.remove(&index);
        tracing::info!(operator = %operator.head().id, "all values have been migrated");
        Ok(Swept::All)
    }

    /// Begins the trial of a version, or looks how it fares.
    fn try_out(&mut self, context: &TaskContext, lane: &mut Lane, change: &Change) {
        let now = context.clock.elapsed();
        let known = self.trial.take_if(|(of, _)| of == change);
        let state = match known {
            Some((_, TrialState::Trying(done))) => match done.try_recv() {
                Ok(Ok(ready)) => TrialState::Ready(ready),
                Ok(Err(failure)) => TrialState::Failed { failure, at: now },
                Err(TryRecvError::Empty) => TrialState::Trying(done),
                Err(TryRecvError::Disconnected) => {
                    let why = "its thread ended without an answer".to_owned();
                    TrialState::Failed { failure: Unavailable { why, kind: Kind::Bug }, at: now }
                }
            },
            Some((_, TrialState::Failed { failure, at })) if failure.kind == Kind::Retry && now - at >= TRY_AGAIN => {
                begin_trial(context, lane, change, now)
            }
            Some((_, state)) => state,
            None => begin_trial(context, lane, change, now),
        };
        let outcome = match &state {
            TrialState::Trying(_) => TrialOutcome::Trying,
            TrialState::Ready(ready) => TrialOutcome::Ready { values_tried: ready.values_tried },
            TrialState::Failed { failure, .. } => TrialOutcome::Failed { why: failure.why.clone(), kind: failure.kind },
        };
        self.trial = Some((change.clone(), state));
        show_trial(context, Some(TrialStatus { swap: change.swap.to_string(), outcome }));
    }
}

/// The operator runs something else.
fn is_to_come(lane: &Lane, change: &Change) -> bool {
    let running = lane.chain.operators.get(change.operator).and_then(Operator::module);
    running.is_none_or(|module| module.digest != change.module.digest)
}

fn show_trial(context: &TaskContext, trial: Option<TrialStatus>) {
    context.update(|status| status.trial = trial);
}

fn begin_trial(context: &TaskContext, lane: &mut Lane, change: &Change, now: Duration) -> TrialState {
    let failed = |failure| TrialState::Failed { failure, at: now };
    let trial = match trial_of(context, lane, change) {
        Ok(trial) => trial,
        Err(failure) => return failed(failure),
    };
    if !context.overlap {
        return match trial.run() {
            Ok(ready) => TrialState::Ready(ready),
            Err(failure) => failed(failure),
        };
    }
    let (ready, done) = mpsc::channel();
    let name = format!("{}-trial", std::thread::current().name().unwrap_or("task"));
    // Whoever began it may have ended; then nobody needs the answer.
    let thread = std::thread::Builder::new().name(name).spawn(move || drop(ready.send(trial.run())));
    match thread {
        Ok(_) => TrialState::Trying(done),
        Err(error) => failed(Unavailable { why: format!("the system gives no thread: {error}"), kind: Kind::Retry }),
    }
}

fn trial_of(context: &TaskContext, lane: &mut Lane, change: &Change) -> Result<Trial, Unavailable> {
    let Change { operator, module: next, .. } = change;
    let Some(Operator::Transform(transform)) = lane.chain.operators.get(*operator) else {
        let why = format!("the job has no operator number {operator} that is a module");
        return Err(Unavailable { why, kind: Kind::Invalid });
    };
    let plan = &context.plan;
    fits(plan, *operator, next.description()).map_err(|why| Unavailable { why, kind: Kind::Invalid })?;
    let mut now = lane.descriptions();
    now[*operator] = Arc::clone(next.description());
    Ok(Trial {
        job: plan.job.name.clone(),
        operator_id: transform.head.id.clone(),
        connected: Transform::connected_outputs(&routes_of(plan, &now, *operator)),
        current: transform.module().clone(),
        migrating: transform.migrations.migrator_module().cloned(),
        empty: change.empty.clone(),
        emptying: transform.migrations.begin_empty().clone(),
        next: next.clone(),
        snapshot: lane.state.snapshot().map_err(|e| Unavailable { why: e.to_string(), kind: e.kind() })?,
    })
}
