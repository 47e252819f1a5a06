//! Changing the module of one operator while the task runs.
//!
//! Prepare, on a thread beside the task: try `migrate` over all stored values without writing any,
//! while the old version runs on. Switch, between two epochs: the old version's epoch commits, the
//! new version's first epoch carries it in its header. State, timers, positions and watermark stay
//! where they are; values of the old version are migrated on first touch and by a sweep.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};

use super::Error;
use super::handle::{ModuleStatus, Prepared, SwapStatus, Switched};
use super::plan::ModuleRef;
use super::recovery::{bindings, routes_from, routes_of};
use super::session::Session;
use crate::checkpoint::HeaderKind;
use crate::env::failpoint;
use crate::model::{Blobs, Uid};
use crate::operator::migration::{MIGRATION_BATCH, Migrations, Migrator, Sweep, migrates};
use crate::operator::transform::Transform;
use crate::state::{Snapshot, StoredValue};
use crate::task::plan::Origin;
use crate::wasm::contract::{Description, Guest};

#[derive(Default)]
pub(super) struct Swaps {
    /// The swap that the running version came by, for the headers.
    pub in_force: Option<Uid>,
    preparing: Option<Preparing>,
    sweeps: BTreeMap<usize, Sweep>,
    turns: u32,
}

struct Preparing {
    swap: Uid,
    operator: usize,
    module: ModuleRef,
    done: Receiver<Ready>,
}

/// Instances that were opened while the old version ran.
struct Ready {
    guest: Box<dyn Guest>,
    migrator: Option<Migrator>,
}

impl Swaps {
    pub fn abandon(&mut self, swap: Uid) {
        self.preparing.take_if(|preparing| preparing.swap == swap);
    }
}

/// What the thread beside the task works with.
struct Trial {
    job: String,
    operator_id: String,
    connected: Vec<u8>,
    current: ModuleRef,
    /// The module whose migrations have not ended: values of the versions that it reads may be left.
    migrating: Option<ModuleRef>,
    next: ModuleRef,
    snapshot: Snapshot,
}

impl Session<'_> {
    pub fn prepare_swap(
        &mut self,
        swap: Uid,
        operator: usize,
        module: ModuleRef,
        reply: Sender<Result<Prepared, String>>,
    ) {
        let trial = match self.trial(operator, &module) {
            Ok(trial) => trial,
            // Whoever asked may have gone; then nobody needs the answer.
            Err(why) => return drop(reply.send(Err(why))),
        };
        let (ready, done) = mpsc::channel();
        self.swaps.preparing = Some(Preparing { swap, operator, module, done });
        let name = format!("{}-prepare", std::thread::current().name().unwrap_or("task"));
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let outcome = trial.run();
            let answer = outcome.map(|(prepared, instances)| {
                // Before the answer: a switch may follow it at once.
                let _ = ready.send(instances);
                prepared
            });
            let _ = reply.send(answer);
        });
        if let Err(error) = thread {
            tracing::error!("prepare swap {swap}: the system gives no thread: {error}");
            self.swaps.preparing = None;
        }
    }

    fn trial(&mut self, operator: usize, next: &ModuleRef) -> Result<Trial, String> {
        let Some(transform) = self.chain.transforms.get(operator) else {
            return Err(format!("the job has no operator number {operator}"));
        };
        let current = transform.module().clone();
        fits(&self.around.plan, operator, next.description())?;
        Ok(Trial {
            job: self.around.plan.job.name.clone(),
            operator_id: transform.id.clone(),
            connected: Transform::connected_outputs(transform.routes()),
            current,
            migrating: transform.migrations.migrator_module().cloned(),
            next: next.clone(),
            snapshot: self.state.snapshot().map_err(|e| e.to_string())?,
        })
    }

    pub fn switch_swap(&mut self, swap: Uid, reply: &Sender<Result<Switched, String>>) -> Result<(), Error> {
        let Some(Preparing { operator, module, done, .. }) = self.swaps.preparing.take_if(|p| p.swap == swap) else {
            let _ = reply.send(Err(format!("swap {swap} is not prepared on task {}", self.plan().task)));
            return Ok(());
        };
        let Ok(ready) = done.try_recv() else {
            let _ = reply.send(Err(format!("swap {swap} has failed to prepare on task {}", self.plan().task)));
            return Ok(());
        };
        let started = self.around.clock.elapsed();
        self.commit_if_changed()?;
        failpoint("swap-before-switch");
        self.install(operator, module, ready)?;
        failpoint("swap-installed");
        self.swaps.in_force = Some(swap);
        if self.hold {
            self.release()?;
        }
        self.commit(HeaderKind::Epoch)?;
        failpoint("swap-after-switch");
        let pause_us = self.around.clock.elapsed().saturating_sub(started).as_micros() as u64;
        let epoch = self.head.header.epoch;
        let from = self.inputs.positions(self.plan());
        self.around.update(|status| {
            status.modules = self.module_status();
            status.last_swap = Some(SwapStatus { swap: swap.to_string(), epoch, pause_us, from });
        });
        let _ = reply.send(Ok(Switched { epoch, pause_us }));
        Ok(())
    }

    /// Puts the prepared version in place of the running one and leads every route to it by name.
    fn install(&mut self, operator: usize, module: ModuleRef, ready: Ready) -> Result<(), Error> {
        let plan = &self.around.plan;
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
        let plan = &self.around.plan;
        self.reader.assign(&self.inputs.assignments(plan, self.around.log.as_ref())?)?;
        self.hold = false;
        Ok(())
    }

    /// Goes on migrating what no record has touched: whenever there is nothing else to do, and now and
    /// then beside the records.
    pub fn sweep(&mut self, idle: bool) -> Result<(), Error> {
        self.swaps.turns = self.swaps.turns.wrapping_add(1);
        if !idle && !self.swaps.turns.is_multiple_of(4) {
            return Ok(());
        }
        for (operator, transform) in self.chain.transforms.iter_mut().enumerate() {
            if transform.migrations.pending() {
                let sweep = self.swaps.sweeps.entry(operator).or_default();
                if transform.migrations.sweep(sweep, &mut self.state)? {
                    self.swaps.sweeps.remove(&operator);
                    tracing::info!(operator = %transform.id, "all values have been migrated");
                    // The header says so at once: a restart need not look for them again.
                    return self.commit(HeaderKind::Epoch);
                }
                break;
            }
        }
        Ok(())
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
    fn run(self) -> Result<(Prepared, Ready), String> {
        let open = |module: &ModuleRef| {
            module
                .instantiate(&self.job, &self.operator_id, &self.connected)
                .map_err(|error| format!("operator {}: module {module} {error}", self.operator_id))
        };
        let guest = open(&self.next)?;
        let mut migrator = match self.migrator()? {
            Some(module) => Some(Migrator::new(module.clone(), open(module)?)),
            None => None,
        };
        let mut values_tried = 0;
        if let Some(migrator) = &mut migrator {
            for state in &self.next.description().states {
                values_tried += self.try_state(migrator, &state.name, state.version)?;
            }
        }
        Ok((Prepared { values_tried }, Ready { guest, migrator }))
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

    fn try_state(&self, migrator: &mut Migrator, name: &str, to: u32) -> Result<u64, String> {
        let mut tried = 0;
        let mut waiting: BTreeMap<u32, (Blobs, Blobs)> = BTreeMap::new();
        let mut attempt = |from: u32, keys: Blobs, values: Blobs| {
            tried += keys.len() as u64;
            let of_keys = keys.clone();
            migrator.migrate(name, from, to, keys, values).map(drop).map_err(|error| match error {
                crate::wasm::contract::GuestError::Migration { value_index, .. } => {
                    let key =
                        String::from_utf8_lossy(of_keys.get(value_index as usize).unwrap_or_default()).into_owned();
                    format!("state {name}, key {key:?}, version {from}: {error}")
                }
                error => format!("state {name}, version {from}: {error}"),
            })
        };
        for entry in self.snapshot.values(&self.operator_id, name) {
            let StoredValue { key, version, value } = entry.map_err(|error| error.to_string())?;
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
fn fits(plan: &super::plan::TaskPlan, operator: usize, next: &Description) -> Result<(), String> {
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
