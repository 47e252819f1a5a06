//! A typed value per key: decoded once per call and key, written back once if it changed.
//!
//! Owns the decoded values of the call at hand, by slot. A record reaches the value of its own key and no other. A
//! record's first change keeps what was there before, so that a refusal can put it back.

use std::marker::PhantomData;

use crate::columns::StateWrites;
use crate::record::Origins;
use crate::refuse::fault;
use crate::state::{Migrations, State, decode, encode};
use crate::{Ctx, Refuse};

/// A state: one value of type `T` per key. Made by [`Module::state`](crate::Module::state).
pub struct Value<T> {
    index: u8,
    name: &'static str,
    /// By slot of the call. One more than the call has slots stands in for records without a key, which are refused.
    cells: Vec<Cell<T>>,
    undo: Option<Undo<T>>,
}

struct Cell<T> {
    value: Option<T>,
    loaded: bool,
    changed: bool,
}

/// A cell as it was before the record that changes it.
struct Undo<T> {
    record: usize,
    slot: usize,
    value: Option<T>,
    changed: bool,
}

impl<T: State> Value<T> {
    pub(crate) fn new(index: u8, name: &'static str, _: PhantomData<T>) -> Self {
        Self { index, name, cells: Vec::new(), undo: None }
    }

    /// The value of the record's key.
    #[inline]
    pub fn get(&mut self, ctx: &Ctx) -> Option<&T> {
        let slot = self.load(ctx);
        self.cells[slot].value.as_ref()
    }

    /// The value of the record's key, to be changed; the default where there is none yet.
    #[inline]
    pub fn modify(&mut self, ctx: &Ctx) -> &mut T
    where
        T: Default,
    {
        self.change(ctx).get_or_insert_with(T::default)
    }

    #[inline]
    pub fn set(&mut self, ctx: &Ctx, value: T) {
        *self.change(ctx) = Some(value);
    }

    /// Deletes the value of the record's key.
    pub fn clear(&mut self, ctx: &Ctx) {
        *self.change(ctx) = None;
    }

    /// The value to be changed in place, made or deleted.
    #[inline]
    pub fn change(&mut self, ctx: &Ctx) -> &mut Option<T> {
        let slot = self.load(ctx);
        let cell = &mut self.cells[slot];
        if self.undo.as_ref().is_none_or(|undo| undo.record != ctx.index) {
            self.undo = Some(Undo { record: ctx.index, slot, value: cell.value.clone(), changed: cell.changed });
        }
        cell.changed = true;
        &mut cell.value
    }

    #[inline]
    fn load(&mut self, ctx: &Ctx) -> usize {
        let Some(slot) = ctx.slot else {
            ctx.spoil(Refuse::NO_KEY, format_args!("state `{}` is kept per key, and this record has none", self.name));
            return self.cells.len() - 1;
        };
        let cell = &mut self.cells[slot];
        if !cell.loaded {
            cell.loaded = true;
            cell.value = ctx.origins.state(self.index.into(), slot).map(|bytes| match decode(bytes) {
                Ok(value) => value,
                Err(error) => fault(format_args!("state `{}`: decode version {}: {error}", self.name, T::VERSION)),
            });
        }
        slot
    }
}

/// A state without its type, as the SDK sees it.
pub trait AnyValue {
    #[doc(hidden)]
    fn index(&self) -> u8;
    #[doc(hidden)]
    fn begin(&mut self, slots: usize);
    #[doc(hidden)]
    fn undo(&mut self, record: usize);
    #[doc(hidden)]
    fn collect(&mut self, origins: Call<'_>, writes: &mut StateWrites) -> Result<(), String>;
    #[doc(hidden)]
    fn migrate(&self, from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, String>;
}

/// The call at hand, opaque to those outside of the SDK.
#[doc(hidden)]
pub struct Call<'a>(pub(crate) Origins<'a>);

impl<T: State> AnyValue for Value<T> {
    fn index(&self) -> u8 {
        self.index
    }

    fn begin(&mut self, slots: usize) {
        self.undo = None;
        self.cells.clear();
        self.cells.resize_with(slots + 1, || Cell { value: None, loaded: false, changed: false });
        self.cells[slots].loaded = true;
    }

    fn undo(&mut self, record: usize) {
        if let Some(undo) = self.undo.take_if(|undo| undo.record == record) {
            let cell = &mut self.cells[undo.slot];
            cell.value = undo.value;
            cell.changed = undo.changed;
        }
    }

    /// Writes back what changed, and only where its bytes did.
    fn collect(&mut self, call: Call<'_>, writes: &mut StateWrites) -> Result<(), String> {
        let slots = self.cells.len() - 1;
        for (slot, cell) in self.cells.iter().enumerate().take(slots).filter(|(_, cell)| cell.changed) {
            let before = call.0.state(self.index.into(), slot);
            let start = writes.values.data.len();
            if let Some(value) = &cell.value {
                encode(value, &mut writes.values.data)
                    .map_err(|error| format!("state `{}`: encode version {}: {error}", self.name, T::VERSION))?;
            }
            let after = cell.value.is_some().then(|| &writes.values.data[start..]);
            if before == after {
                writes.values.data.truncate(start);
                continue;
            }
            if cell.value.is_none() || !writes.ops.is_empty() {
                writes.ops.resize(writes.states.len(), 0);
                writes.ops.push(u8::from(cell.value.is_none()));
            }
            writes.states.push(self.index);
            writes.slots.push(slot as u32);
            writes.values.close(cell.value.is_some());
        }
        Ok(())
    }

    fn migrate(&self, from: u32, to: u32, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let migrations = Migrations::<T>::of_type();
        let way = migrations.way(from, to);
        way.ok_or_else(|| format!("state `{}`: there is no way from version {from} to {to}", self.name))?(bytes)
    }
}
