//! Bringing values of another schema version to the one that the running module reads, or throwing them away where a swap
//! said that their state begins empty: on first touch, and in a sweep that goes through the rest in the background.
//!
//! Owns the instance whose `migrate` is called. The newer module migrates both ways, so after a
//! rollback that is not the module that runs. A migrated value is written back at once, in the open
//! epoch. A value that cannot be migrated stays as it was and is an error of the module version.

use std::collections::BTreeSet;

use super::module::ModuleRef;
use crate::model::{Blobs, Digest};
use crate::state::{Cursor, Gathered, TaskState};
use crate::wasm::contract::{Guest, GuestError, Migration, StateDecl};
use crate::wasm::{Limits, check_migration};

/// Values brought to another version in one call.
pub const MIGRATION_BATCH: usize = 256;

/// The migrations of one operator.
pub struct Migrations {
    operator: usize,
    /// The states of the running module, in its order.
    declared: Vec<StateDecl>,
    /// The module whose `migrate` is called; `None` while no value of another version can exist, but of states that begin
    /// empty.
    migrator: Option<Migrator>,
    /// States that a swap made begin empty: values of other versions may be left of them, and are none.
    empty: BTreeSet<String>,
}

/// A module that can migrate, with an instance of it.
pub struct Migrator {
    pub module: ModuleRef,
    guest: Box<dyn Guest>,
}

impl Migrator {
    pub fn new(module: ModuleRef, guest: Box<dyn Guest>) -> Self {
        Self { module, guest }
    }

    /// Position of the state in the migrator's own declaration, if it turns `from` into `to`.
    fn position(&self, name: &str, from: u32, to: u32) -> Option<u8> {
        migrates(&self.module.description().states, name, from, to)
    }

    /// # Errors
    /// [`GuestError::Migration`] with a position within `values`; any other failure of a call.
    pub fn migrate(
        &mut self,
        state: &str,
        from: u32,
        to: u32,
        keys: Blobs,
        values: Blobs,
    ) -> Result<Blobs, GuestError> {
        let Some(position) = self.position(state, from, to) else {
            return Err(GuestError::Migration {
                value_index: 0,
                message: format!("{} does not migrate state {state} from version {from} to {to}", self.module),
            });
        };
        let migration = Migration { state: position, from_version: from, to_version: to, keys, values };
        // Checked here once more: whoever reads the answer uses its positions, and a native guest has nobody else.
        check_migration(self.guest.migrate(&migration), &migration, &Limits::default())
    }
}

/// Position of state `name` in `declared`, if a module with these states turns version `from` into `to`.
pub fn migrates(declared: &[StateDecl], name: &str, from: u32, to: u32) -> Option<u8> {
    let position = declared.iter().position(|state| state.name == name)?;
    let state = &declared[position];
    let forward = to == state.version && state.reads.contains(&from);
    let back = from == state.version && state.reverts_to.contains(&to);
    (forward || back).then_some(position as u8)
}

/// Where the sweep stands.
#[derive(Default)]
pub struct Sweep {
    state: usize,
    cursor: Cursor,
}

impl Migrations {
    pub fn new(
        operator: usize,
        declared: &[StateDecl],
        migrator: Option<Migrator>,
        empty: impl IntoIterator<Item = String>,
    ) -> Self {
        let empty = empty.into_iter().filter(|name| declared.iter().any(|state| state.name == *name)).collect();
        Self { operator, declared: declared.to_vec(), migrator, empty }
    }

    /// States of which values of other versions may be left, to be thrown away.
    pub fn begin_empty(&self) -> &BTreeSet<String> {
        &self.empty
    }

    /// The module whose `migrate` is in force, for the epoch's header.
    pub fn migrator(&self) -> Option<Digest> {
        self.migrator.as_ref().map(|migrator| migrator.module.digest)
    }

    pub fn migrator_module(&self) -> Option<&ModuleRef> {
        self.migrator.as_ref().map(|migrator| &migrator.module)
    }

    pub fn pending(&self) -> bool {
        self.migrator.is_some() || !self.empty.is_empty()
    }

    /// Migrates what a call has gathered, where it must, and writes it back.
    pub fn on_first_touch(
        &mut self,
        keys: &Blobs,
        gathered: &mut Gathered,
        state: &mut TaskState,
    ) -> Result<(), GuestError> {
        let slots = keys.len();
        for (s, declared) in self.declared.iter().enumerate() {
            let range = s * slots..(s + 1) * slots;
            let mut stale: Vec<usize> =
                range.filter(|&i| gathered.versions[i] != 0 && gathered.versions[i] != declared.version).collect();
            while let Some(&first) = stale.first() {
                let from = gathered.versions[first];
                let (now, later) = stale.iter().partition(|&&i| gathered.versions[i] == from);
                stale = later;
                let now: Vec<usize> = now;
                let of_keys = now.iter().map(|&i| keys.get(i % slots)).collect();
                let values = now.iter().map(|&i| gathered.values.get(i)).collect();
                let migrated = migrate_with((&mut self.migrator, &self.empty), declared, from, of_keys, values)?;
                replace(&mut gathered.values, &now, &migrated);
                for (position, &i) in now.iter().enumerate() {
                    let key = keys.bytes(i % slots);
                    state.put(self.operator, s as u8, key, declared.version, migrated.get(position));
                }
            }
        }
        Ok(())
    }

    /// Migrates some of the values that no record has touched yet; true when none is left.
    pub fn sweep(&mut self, sweep: &mut Sweep, state: &mut TaskState) -> Result<bool, super::Error> {
        let Some(declared) = self.declared.get(sweep.state) else {
            self.migrator = None;
            self.empty.clear();
            return Ok(true);
        };
        let s = sweep.state as u8;
        let mut rest = state.stale_values(self.operator, s, declared.version, &mut sweep.cursor, MIGRATION_BATCH)?;
        if sweep.cursor.is_finished() {
            *sweep = Sweep { state: sweep.state + 1, cursor: Cursor::default() };
        }
        while let Some(from) = rest.first().map(|value| value.version) {
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|value| value.version == from);
            rest = later;
            let keys: Blobs = now.iter().map(|value| Some(&value.key[..])).collect();
            let values = now.iter().map(|value| Some(&value.value[..])).collect();
            let migrated = migrate_with((&mut self.migrator, &self.empty), declared, from, keys.clone(), values)
                .map_err(|error| super::Error::Migration(named(&error, declared, &keys)))?;
            for (i, value) in migrated.iter().enumerate() {
                state.put(self.operator, s, keys.bytes(i), declared.version, value);
            }
        }
        Ok(false)
    }
}

fn migrate_with(
    (migrator, empty): (&mut Option<Migrator>, &BTreeSet<String>),
    declared: &StateDecl,
    from: u32,
    keys: Blobs,
    values: Blobs,
) -> Result<Blobs, GuestError> {
    if empty.contains(&declared.name) {
        return Ok(values.iter().map(|_| None).collect());
    }
    match migrator {
        Some(migrator) => migrator.migrate(&declared.name, from, declared.version, keys, values),
        None => Err(GuestError::Migration {
            value_index: 0,
            message: format!(
                "state {} holds a value of version {from}, the module reads {}, and no migration is in force",
                declared.name, declared.version
            ),
        }),
    }
}

fn named(error: &GuestError, declared: &StateDecl, keys: &Blobs) -> String {
    match error {
        GuestError::Migration { value_index, .. } if (*value_index as usize) < keys.len() => {
            let key = String::from_utf8_lossy(keys.bytes(*value_index as usize)).into_owned();
            format!("state {}, key {key:?}: {error}", declared.name)
        }
        _ => format!("state {}: {error}", declared.name),
    }
}

/// Puts `new[n]` in place of entry `positions[n]`.
fn replace(values: &mut Blobs, positions: &[usize], new: &Blobs) {
    let mut replaced = Blobs::new();
    let mut next = positions.iter().enumerate().peekable();
    for i in 0..values.len() {
        match next.next_if(|(_, position)| **position == i) {
            Some((n, _)) => replaced.push(new.get(n)),
            None => replaced.push(values.get(i)),
        }
    }
    *values = replaced;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::wasm::contract::{Answer, Context, Description, GuestFactory, Moment, RecordCall, TimerCall};

    fn declared(version: u32, reads: &[u32], reverts_to: &[u32]) -> Vec<StateDecl> {
        vec![StateDecl {
            name: "depth".into(),
            version,
            reads: reads.to_vec(),
            reverts_to: reverts_to.to_vec(),
            encoding: "postcard".into(),
            fingerprint: String::new(),
        }]
    }

    #[test]
    fn the_newer_module_migrates_both_ways_and_nothing_else() {
        let v2 = declared(2, &[1], &[1]);
        assert_eq!(migrates(&v2, "depth", 1, 2), Some(0));
        assert_eq!(migrates(&v2, "depth", 2, 1), Some(0));
        assert_eq!(migrates(&v2, "depth", 3, 2), None);
        assert_eq!(migrates(&v2, "other", 1, 2), None);
        assert_eq!(migrates(&declared(1, &[], &[]), "depth", 2, 1), None);
    }

    /// Answers `migrate` as it was told to.
    struct Told(Result<Blobs, GuestError>);

    impl Guest for Told {
        fn process(&mut self, _: Moment, _: &RecordCall) -> Result<Answer, GuestError> {
            Ok(Answer::default())
        }
        fn on_timer(&mut self, _: Moment, _: &TimerCall) -> Result<Answer, GuestError> {
            Ok(Answer::default())
        }
        fn migrate(&mut self, _: &Migration) -> Result<Blobs, GuestError> {
            self.0.clone()
        }
    }

    struct Nothing(Arc<Description>);

    impl GuestFactory for Nothing {
        fn description(&self) -> &Arc<Description> {
            &self.0
        }
        fn instantiate(&self, _: &Context) -> Result<Box<dyn Guest>, GuestError> {
            Ok(Box::new(Told(Ok(Blobs::new()))))
        }
    }

    fn migrated(told: Result<Blobs, GuestError>) -> Result<Blobs, GuestError> {
        let description = Description { states: declared(2, &[1], &[]), ..Description::default() };
        let factory = Arc::new(Nothing(Arc::new(description)));
        let digest = Digest([0; 32]);
        let module = ModuleRef { name: "m".into(), version: "2".into(), digest, factory, parameters: Vec::new() };
        let two = || -> Blobs { [Some(&b"a"[..]), Some(b"b")].into_iter().collect() };
        Migrator::new(module, Box::new(Told(told))).migrate("depth", 1, 2, two(), two())
    }

    #[test]
    fn a_failure_that_names_a_value_which_never_came_is_a_wrong_answer() {
        let failure = |value_index| Err(GuestError::Migration { value_index, message: "no depth".into() });
        assert_eq!(migrated(failure(1)), failure(1));
        for past in [2, 3, u32::MAX] {
            let Err(GuestError::Answer(found)) = migrated(failure(past)) else { panic!("value {past}") };
            assert!(found.contains(&format!("it is {past}, only 2 values came")), "{found}");
        }
        assert!(matches!(migrated(Ok([None].into_iter().collect())), Err(GuestError::Answer(_))));
    }

    #[test]
    fn migrated_values_take_the_places_of_the_old_ones() {
        let mut values: Blobs = [Some(&b"a"[..]), Some(b"b"), None].into_iter().collect();
        let new: Blobs = [None, Some(&b"longer"[..])].into_iter().collect();
        replace(&mut values, &[0, 1], &new);
        assert_eq!(values.iter().collect::<Vec<_>>(), [None, Some(&b"longer"[..]), None]);
    }
}
