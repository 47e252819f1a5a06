//! A trial: a version tried over all state, on a thread beside the task, while another one runs.
//!
//! Owns a snapshot of the state and instances of its own. Writes nothing, whatever it finds.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Kind;
use crate::model::Blobs;
use crate::operator::migration::{MIGRATION_BATCH, Migrator, migrates};
use crate::state::{Snapshot, StoredValue};
use crate::task::plan::{ModuleRef, Origin, TaskPlan, Unavailable};
use crate::wasm::contract::{Description, Guest, GuestError};

/// Instances that were opened while the old version ran.
pub(super) struct Ready {
    pub guest: Box<dyn Guest>,
    pub migrator: Option<Migrator>,
    /// States of which values of other versions are to be thrown away.
    pub empty: BTreeSet<String>,
    pub values_tried: u64,
}

/// What the thread beside the task works with.
pub(super) struct Trial {
    pub job: String,
    pub operator_id: String,
    /// The outputs of the new version that lead anywhere, by its own numbers.
    pub connected: Vec<u8>,
    pub current: ModuleRef,
    /// The module whose migrations have not ended: values of the versions that it reads may be left.
    pub migrating: Option<ModuleRef>,
    /// States that begin empty with the new version.
    pub empty: BTreeSet<String>,
    /// States that began empty with the running one, and of which values of earlier versions may be left.
    pub emptying: BTreeSet<String>,
    pub next: ModuleRef,
    pub snapshot: Snapshot,
}

impl Trial {
    /// Opens the new version and migrates a copy of every value that needs it.
    pub fn run(self) -> Result<Ready, Unavailable> {
        let open = |module: &ModuleRef, connected: &[u8]| {
            module.instantiate(&self.job, &self.operator_id, connected).map_err(|error| Unavailable {
                why: format!("operator {}: module {module} {error}", self.operator_id),
                kind: error.kind(),
            })
        };
        let guest = open(&self.next, &self.connected)?;
        let empty = self.begin_empty()?;
        let migrator = self.migrator().map_err(|why| Unavailable { why, kind: Kind::Invalid })?;
        let mut migrator = match migrator {
            Some(module) => Some(Migrator::new(module.clone(), open(module, &[])?)),
            None => None,
        };
        let mut values_tried = 0;
        if let Some(migrator) = &mut migrator {
            for state in self.next.description().states.iter().filter(|state| !empty.contains(&state.name)) {
                values_tried += self.try_state(migrator, &state.name, state.version)?;
            }
        }
        Ok(Ready { guest, migrator, empty, values_tried })
    }

    /// States of which the new version finds no value of another schema version: those that it was said of, and those
    /// whose old values are still being thrown away.
    fn begin_empty(&self) -> Result<BTreeSet<String>, Unavailable> {
        let version = |module: &ModuleRef, name: &str| {
            module.description().states.iter().find(|state| state.name == name).map(|state| state.version)
        };
        // To a version that reads the given-up values they would come back, and one that reads neither could not tell
        // them from those of the version before it.
        let waits =
            |name: &&String| version(&self.next, name).is_some_and(|next| version(&self.current, name) != Some(next));
        match self.emptying.iter().find(waits) {
            None => Ok(self.empty.union(&self.emptying).cloned().collect()),
            Some(name) => Err(Unavailable {
                why: format!(
                    "state {name}: what an earlier swap gave up is still being thrown away, and {} reads another version; \
                     it is tried again when `migrating` is over",
                    self.next
                ),
                kind: Kind::Retry,
            }),
        }
    }

    /// The module whose `migrate` turns what may be stored into what the new version reads: the newer
    /// of the two, whichever direction the swap goes. `None` where there is nothing to migrate.
    fn migrator(&self) -> Result<Option<&ModuleRef>, String> {
        let needed: Vec<(&str, u32, u32)> = self
            .next
            .description()
            .states
            .iter()
            .filter(|after| !self.empty.contains(&after.name) && !self.emptying.contains(&after.name))
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
                 `reverts-to`, or let the state begin empty: --reset {name}",
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
pub(super) fn fits(plan: &TaskPlan, operator: usize, next: &Description) -> Result<(), String> {
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
