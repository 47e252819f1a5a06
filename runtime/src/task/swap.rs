//! Changing the module of one operator while the task runs: from what runs to what the target says.
//!
//! Trial, on a thread beside the task: try `migrate` over all stored values without writing any,
//! while the old version runs on. Install, between two epochs, once the target says that it is decided: the old
//! version's epoch commits, the new version's first epoch carries it in its header. State, timers, positions and
//! watermark stay where they are; values of the old version are migrated on first touch and by a sweep.
//! Whatever ends a session, the next one compares itself to the target anew: nothing has to be said again.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Duration;

use super::Error;
use super::handle::{ModuleStatus, SwapStatus, TrialOutcome, TrialStatus};
use super::plan::{ModuleRef, TaskPlan, Unavailable};
use super::recovery::{bindings, routes_from, routes_of};
use super::session::Session;
use super::target::{Change, Target};
use crate::checkpoint::HeaderKind;
use crate::env::failpoint;
use crate::error::Kind;
use crate::model::{Blobs, Uid};
use crate::operator::migration::{MIGRATION_BATCH, Migrations, Migrator, Sweep, migrates};
use crate::operator::transform::Transform;
use crate::state::{Snapshot, StoredValue};
use crate::task::plan::Origin;
use crate::wasm::contract::{Description, Guest, GuestError};

/// A trial that the host's trouble ended is made again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// What the sweep of a migration may take between two epochs.
const SWEEP_TURN: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Swaps {
    /// The swap that the running version came by, for the headers.
    pub in_force: Option<Uid>,
    trial: Option<(Change, TrialState)>,
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

/// Instances that were opened while the old version ran.
struct Ready {
    guest: Box<dyn Guest>,
    migrator: Option<Migrator>,
    values_tried: u64,
}

impl Swaps {
    /// A trial may have come to its end: worth a look although the target has not changed.
    pub fn has_news(&self) -> bool {
        let waits = |state: &TrialState| match state {
            TrialState::Trying(_) => true,
            TrialState::Failed { failure, .. } => failure.kind == Kind::Retry,
            TrialState::Ready(_) => false,
        };
        self.trial.as_ref().is_some_and(|(_, state)| waits(state))
    }
}

/// What the thread beside the task works with.
struct Trial {
    job: String,
    operator_id: String,
    /// The outputs of the new version that lead anywhere, by its own numbers.
    connected: Vec<u8>,
    current: ModuleRef,
    /// The module whose migrations have not ended: values of the versions that it reads may be left.
    migrating: Option<ModuleRef>,
    next: ModuleRef,
    snapshot: Snapshot,
}

impl Session<'_> {
    /// Goes one step towards the target.
    pub(super) fn follow(&mut self, target: &Target) -> Result<(), Error> {
        let decided = target.modules.values().find(|change| self.is_to_come(change)).cloned();
        let tried = || target.trial.clone().filter(|change| self.is_to_come(change));
        let Some(change) = decided.clone().or_else(tried) else {
            if self.swaps.trial.take().is_some() {
                self.show_trial(None);
            }
            return Ok(());
        };
        self.try_out(&change);
        let is_ready = matches!(&self.swaps.trial, Some((of, TrialState::Ready(_))) if *of == change);
        if decided.is_some() && is_ready {
            self.switch()?;
        }
        Ok(())
    }

    /// The operator runs something else.
    fn is_to_come(&self, change: &Change) -> bool {
        let transform = self.chain.transforms.get(change.operator);
        transform.is_none_or(|transform| transform.module().digest != change.module.digest)
    }

    /// Begins the trial of a version, or looks how it fares.
    fn try_out(&mut self, change: &Change) {
        let now = self.context.clock.elapsed();
        let known = self.swaps.trial.take_if(|(of, _)| of == change);
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
                self.begin_trial(change, now)
            }
            Some((_, state)) => state,
            None => self.begin_trial(change, now),
        };
        let outcome = match &state {
            TrialState::Trying(_) => TrialOutcome::Trying,
            TrialState::Ready(ready) => TrialOutcome::Ready { values_tried: ready.values_tried },
            TrialState::Failed { failure, .. } => TrialOutcome::Failed { why: failure.why.clone(), kind: failure.kind },
        };
        self.swaps.trial = Some((change.clone(), state));
        self.show_trial(Some(TrialStatus { swap: change.swap.to_string(), outcome }));
    }

    fn show_trial(&self, trial: Option<TrialStatus>) {
        self.context.update(|status| status.trial = trial);
    }

    fn begin_trial(&mut self, change: &Change, now: Duration) -> TrialState {
        let failed = |failure| TrialState::Failed { failure, at: now };
        let trial = match self.trial(change) {
            Ok(trial) => trial,
            Err(failure) => return failed(failure),
        };
        if !self.context.overlap {
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
            Err(error) => {
                failed(Unavailable { why: format!("the system gives no thread: {error}"), kind: Kind::Retry })
            }
        }
    }

    fn trial(&mut self, change: &Change) -> Result<Trial, Unavailable> {
        let Change { operator, module: next, .. } = change;
        let Some(transform) = self.chain.transforms.get(*operator) else {
            let why = format!("the job has no operator number {operator}");
            return Err(Unavailable { why, kind: Kind::Invalid });
        };
        let plan = &self.context.plan;
        fits(plan, *operator, next.description()).map_err(|why| Unavailable { why, kind: Kind::Invalid })?;
        let mut modules: Vec<_> = self.chain.transforms.iter().map(|t| t.module().clone()).collect();
        modules[*operator] = next.clone();
        Ok(Trial {
            job: plan.job.name.clone(),
            operator_id: transform.id.clone(),
            connected: Transform::connected_outputs(&routes_of(plan, &modules, *operator)),
            current: transform.module().clone(),
            migrating: transform.migrations.migrator_module().cloned(),
            next: next.clone(),
            snapshot: self.state.snapshot().map_err(|e| Unavailable { why: e.to_string(), kind: e.kind() })?,
        })
    }

    /// To the version that is ready, between two epochs.
    fn switch(&mut self) -> Result<(), Error> {
        let started = self.context.clock.elapsed();
        self.commit_if_changed()?;
        let Some((change, TrialState::Ready(ready))) = self.swaps.trial.take() else { return Ok(()) };
        failpoint("swap-before-switch");
        self.install(change.operator, change.module, ready)?;
        failpoint("swap-installed");
        self.swaps.in_force = Some(change.swap);
        if self.hold {
            self.release()?;
        }
        self.commit(HeaderKind::Epoch)?;
        failpoint("swap-after-switch");
        let pause_us = self.context.clock.elapsed().saturating_sub(started).as_micros() as u64;
        let epoch = self.head.header.epoch;
        let from = self.inputs.positions(self.plan());
        self.context.update(|status| {
            status.modules = self.module_status();
            status.last_swap = Some(SwapStatus { swap: change.swap.to_string(), epoch, pause_us, from });
            status.trial = None;
        });
        Ok(())
    }

    /// Puts the prepared version in place of the running one and leads every route to it by name.
    fn install(&mut self, operator: usize, module: ModuleRef, ready: Ready) -> Result<(), Error> {
        let plan = &self.context.plan;
        let mut modules: Vec<_> = self.chain.transforms.iter().map(|t| t.module().clone()).collect();
        modules[operator] = module.clone();
        let migrations = Migrations::new(operator, &module.description().states, ready.migrator);
        let id = self.chain.transforms[operator].id.clone();
        let mut transform = Transform::new(&plan.job.name, &id, operator, module, migrations);
        transform.adopt(ready.guest);
        transform.faults = self.chain.transforms[operator].faults;
        self.chain.transforms[operator] = transform;
        let keyed: Vec<_> = modules.iter().map(|module| module.description().keyed).collect();
        for (other, transform) in self.chain.transforms.iter_mut().enumerate() {
            transform.reroute(routes_of(plan, &modules, other), &keyed);
        }
        let sources = (0..plan.sources.len()).map(|s| routes_from(plan, &modules, Origin::Source(s)));
        self.chain.reroute_sources(sources.collect());
        self.swaps.sweeps.remove(&operator);
        Ok(self.state.bind(&bindings(plan, &modules))?)
    }

    /// A held task reads again once another version is in place.
    fn release(&mut self) -> Result<(), Error> {
        let plan = &self.context.plan;
        self.reader.assign(&self.inputs.assignments(plan, self.context.log.as_ref())?)?;
        self.context.memory().held_under = None;
        self.hold = false;
        Ok(())
    }

    /// Goes on migrating what no record has touched, for a moment between two epochs: what a guest's `migrate` takes must
    /// not be taken inside a transaction.
    pub(super) fn sweep(&mut self, idle: bool) -> Result<(), Error> {
        if !self.chain.is_migrating() || self.epoch.writing && !idle {
            return Ok(());
        }
        if self.epoch.writing {
            self.commit(HeaderKind::Epoch)?;
        }
        let until = self.context.clock.elapsed() + SWEEP_TURN;
        while self.sweep_some()? && !idle && self.context.clock.elapsed() < until {}
        Ok(())
    }

    /// False where nothing is left to be swept, or only by another operator.
    fn sweep_some(&mut self) -> Result<bool, Error> {
        for (operator, transform) in self.chain.transforms.iter_mut().enumerate() {
            if transform.migrations.pending() {
                let sweep = self.swaps.sweeps.entry(operator).or_default();
                if transform.migrations.sweep(sweep, &mut self.state)? {
                    self.swaps.sweeps.remove(&operator);
                    tracing::info!(operator = %transform.id, "all values have been migrated");
                    // The header says so at once: a restart need not look for them again.
                    self.commit(HeaderKind::Epoch)?;
                    return Ok(false);
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn module_status(&self) -> BTreeMap<String, ModuleStatus> {
        let transforms = self.chain.transforms.iter();
        transforms
            .map(|transform| {
                let module = transform.module();
                let (name, version) = (module.name.clone(), module.version.clone());
                (transform.id.clone(), ModuleStatus { name, version, digest: module.digest.to_string() })
            })
            .collect()
    }
}

impl Trial {
    /// Opens the new version and migrates a copy of every value that needs it.
    fn run(self) -> Result<Ready, Unavailable> {
        let open = |module: &ModuleRef, connected: &[u8]| {
            module.instantiate(&self.job, &self.operator_id, connected).map_err(|error| Unavailable {
                why: format!("operator {}: module {module} {error}", self.operator_id),
                kind: error.kind(),
            })
        };
        let guest = open(&self.next, &self.connected)?;
        let migrator = self.migrator().map_err(|why| Unavailable { why, kind: Kind::Invalid })?;
        let mut migrator = match migrator {
            Some(module) => Some(Migrator::new(module.clone(), open(module, &[])?)),
            None => None,
        };
        let mut values_tried = 0;
        if let Some(migrator) = &mut migrator {
            for state in &self.next.description().states {
                values_tried += self.try_state(migrator, &state.name, state.version)?;
            }
        }
        Ok(Ready { guest, migrator, values_tried })
    }

    /// The module whose `migrate` turns what may be stored into what the new version reads: the newer
    /// of the two, whichever direction the swap goes. `None` where there is nothing to migrate.
    fn migrator(&self) -> Result<Option<&ModuleRef>, String> {
        let needed: Vec<(&str, u32, u32)> = self
            .next
            .description()
            .states
            .iter()
            .flat_map(|after| {
                let stored = self.stored_versions(&after.name).into_iter();
                stored.filter(|&from| from != after.version).map(|from| (after.name.as_str(), from, after.version))
            })
            .collect();
        let Some(&(name, from, to)) = needed.first() else { return Ok(None) };
        let able =
            [Some(&self.next), Some(&self.current), self.migrating.as_ref()].into_iter().flatten().find(|module| {
                needed.iter().all(|&(name, from, to)| migrates(&module.description().states, name, from, to).is_some())
            });
        able.map(Some).ok_or_else(|| match &self.migrating {
            Some(migrating) => format!(
                "values of earlier versions are still being migrated by {migrating}, and no single module brings all of \
                 them to what {} reads; try again when `migrating` is over",
                self.next
            ),
            None => format!(
                "state {name}: neither {} nor {} migrates version {from} to {to}; declare it in `reads` or \
                 `reverts-to`, or give the state another name to start it empty",
                self.next, self.current
            ),
        })
    }

    /// The schema versions that values of a state may have.
    fn stored_versions(&self, name: &str) -> Vec<u32> {
        let of = |module: &ModuleRef| module.description().states.iter().find(|state| state.name == name).cloned();
        let Some(current) = of(&self.current) else { return Vec::new() };
        let mut versions = vec![current.version];
        match self.migrating.as_ref().and_then(of) {
            Some(migrating) if migrating.version == current.version => versions.extend(migrating.reads),
            Some(migrating) => versions.push(migrating.version),
            None => {}
        }
        versions
    }

    fn try_state(&self, migrator: &mut Migrator, name: &str, to: u32) -> Result<u64, Unavailable> {
        let mut tried = 0;
        let mut waiting: BTreeMap<u32, (Blobs, Blobs)> = BTreeMap::new();
        let mut attempt = |from: u32, keys: Blobs, values: Blobs| {
            tried += keys.len() as u64;
            let of_keys = keys.clone();
            migrator.migrate(name, from, to, keys, values).map(drop).map_err(|error| {
                let key = match error {
                    GuestError::Migration { value_index, .. } if (value_index as usize) < of_keys.len() => {
                        format!(", key {:?}", String::from_utf8_lossy(of_keys.bytes(value_index as usize)))
                    }
                    _ => String::new(),
                };
                Unavailable { why: format!("state {name}{key}, version {from}: {error}"), kind: error.kind() }
            })
        };
        for entry in self.snapshot.values(&self.operator_id, name) {
            let read = entry.map_err(|error| Unavailable { why: error.to_string(), kind: error.kind() });
            let StoredValue { key, version, value } = read?;
            if version == to {
                continue;
            }
            let (keys, values) = waiting.entry(version).or_default();
            keys.push(Some(&key));
            values.push(Some(&value));
            if keys.len() == MIGRATION_BATCH {
                attempt(version, std::mem::take(keys), std::mem::take(values))?;
            }
        }
        for (version, (keys, values)) in waiting {
            if !keys.is_empty() {
                attempt(version, keys, values)?;
            }
        }
        Ok(tried)
    }
}

/// Whether a module has every input and output that the job connects at this operator, and is keyed
/// alike.
fn fits(plan: &TaskPlan, operator: usize, next: &Description) -> Result<(), String> {
    let planned = plan.operators[operator].module.description();
    let id = &plan.operators[operator].id;
    for &(_, input) in &plan.operators[operator].inputs {
        let name = planned.inputs.get(input as usize).map_or("", String::as_str);
        if !next.inputs.iter().any(|input| input == name) {
            return Err(format!(
                "operator {id}: the job connects input {name}, {}@{} has none of that name",
                next.name, next.version
            ));
        }
    }
    for (output, name) in planned.outputs.iter().enumerate() {
        let from = Origin::Output { operator, output: output as u8 };
        let connected = plan.sinks.iter().any(|sink| sink.from == from)
            || plan.operators.iter().any(|other| other.inputs.iter().any(|(origin, _)| *origin == from));
        if connected && !next.outputs.iter().any(|output| output == name) {
            return Err(format!(
                "operator {id}: the job connects output {name}, {}@{} has none of that name",
                next.name, next.version
            ));
        }
    }
    if planned.keyed != next.keyed {
        return Err(format!(
            "operator {id}: the running module and {}@{} are not keyed alike",
            next.name, next.version
        ));
    }
    Ok(())
}
