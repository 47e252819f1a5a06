//! Runs a transform over columns: what stands between the contract and the author's code, in a guest and
//! natively alike.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::columns::{Answer, Blobs, Moment, NO_POSITION, RecordBatch, StateWrites, TimerBatch};
use crate::effects::Effects;
use crate::json::Scratch;
use crate::module::{Context, Description, Module, Parameters};
use crate::record::{Fired, Origins, Record, Texts};
use crate::value::Call;
use crate::{Ctx, Failure, Refuse, States, Transform, host};

/// One instance of a transform. The native twin of a guest: same code, same columns, no WebAssembly.
pub struct Runner<T> {
    transform: T,
    description: Description,
    /// Emissions and bytes of the last call: the next one's are allocated as large at once.
    emitted: usize,
    emitted_bytes: usize,
    /// Memory for the JSON of one value.
    scratch: Scratch,
}

/// Which value could not be brought to another version, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationFailure {
    pub value_index: u32,
    pub message: String,
}

/// The record at hand, for the panic hook.
static AT_HAND: AtomicU32 = AtomicU32::new(NO_POSITION);

/// The record that is being processed, if any. One per process: of use where one instance runs, as in a guest.
#[cfg(target_arch = "wasm32")]
pub(crate) fn record_at_hand() -> Option<u32> {
    let record = AT_HAND.load(Ordering::Relaxed);
    (record != NO_POSITION).then_some(record)
}

impl<T: Transform> Runner<T> {
    /// An instance that has not been opened: good for its description.
    pub fn new() -> Self {
        let (mut transform, description) = Module::define::<T>();
        check_states(&mut transform, &description);
        Self { transform, description, emitted: 0, emitted_bytes: 0, scratch: Scratch::default() }
    }

    pub fn description(&self) -> &Description {
        &self.description
    }

    /// # Errors
    /// What the transform says of its parameters.
    pub fn open(&mut self, context: &Context) -> Result<(), String> {
        self.transform.open(&Parameters { context })
    }

    /// # Errors
    /// The module cannot work: a state cannot be encoded.
    pub fn process(&mut self, moment: Moment, batch: &RecordBatch) -> Result<Answer, Failure> {
        let texts = Texts::default();
        self.run(moment, Origins::Records(batch), batch.values.len(), |transform, index, ctx| {
            transform.process(&Record { batch, index, texts: &texts }, ctx)
        })
    }

    /// # Errors
    /// As [`process`](Self::process).
    pub fn on_timer(&mut self, moment: Moment, batch: &TimerBatch) -> Result<Answer, Failure> {
        self.run(moment, Origins::Timers(batch), batch.timers.len(), |transform, index, ctx| {
            transform.on_timer(&Fired { batch, index }, ctx)
        })
    }

    /// Values of one state from one version to another; null stays null.
    ///
    /// # Errors
    /// The first value that cannot be brought there.
    pub fn migrate(&mut self, state: u8, from: u32, to: u32, values: &Blobs) -> Result<Blobs, MigrationFailure> {
        let mut migrated = Blobs::with_capacity(values.len(), values.data.len());
        let mut outcome = Ok(());
        self.transform.visit_states(&mut |any| {
            if any.index() != state || outcome.is_err() {
                return;
            }
            for (index, value) in values.iter().enumerate() {
                match value.map(|bytes| any.migrate(from, to, bytes)).transpose() {
                    Ok(value) => migrated.push(value.as_deref()),
                    Err(message) => {
                        outcome = Err(MigrationFailure { value_index: index as u32, message });
                        return;
                    }
                }
            }
        });
        outcome.map(|()| migrated)
    }

    fn run(
        &mut self,
        moment: Moment,
        origins: Origins<'_>,
        count: usize,
        mut step: impl FnMut(&mut T, usize, &mut Ctx) -> Result<(), Refuse>,
    ) -> Result<Answer, Failure> {
        let mut effects = Effects::sized_like(self.emitted, self.emitted_bytes, std::mem::take(&mut self.scratch));
        self.transform.visit_states(&mut |state| state.begin(origins.keys().len()));
        for index in 0..count {
            AT_HAND.store(index as u32, Ordering::Relaxed);
            let mark = effects.mark();
            let slot = origins.slot(index);
            let mut ctx = Ctx { origins, index, slot, moment, effects: &mut effects, spoilt: RefCell::new(None) };
            let stepped = step(&mut self.transform, index, &mut ctx);
            let spoilt = ctx.spoilt.into_inner();
            if let Err(refuse) = stepped.and_then(|()| spoilt.map_or(Ok(()), Err)) {
                effects.undo(mark);
                self.transform.visit_states(&mut |state| state.undo(index));
                effects.refuse(index, refuse);
            }
        }
        AT_HAND.store(NO_POSITION, Ordering::Relaxed);
        self.finish(origins, effects)
    }

    fn finish(&mut self, origins: Origins<'_>, effects: Effects) -> Result<Answer, Failure> {
        if !effects.metric_ids.is_empty() {
            host::measure(&effects.metric_ids, &effects.metric_amounts);
        }
        let (mut answer, scratch) = effects.into_answer();
        self.scratch = scratch;
        self.emitted = answer.emitted.origins.len();
        self.emitted_bytes = answer.emitted.values.as_ref().map_or(0, |values| values.data.len());
        answer.writes = self.collect_writes(origins).map_err(Failure::Broken)?;
        Ok(answer)
    }

    fn collect_writes(&mut self, origins: Origins<'_>) -> Result<StateWrites, String> {
        let mut writes = StateWrites::default();
        let mut outcome = Ok(());
        self.transform.visit_states(&mut |state| {
            if outcome.is_ok() {
                outcome = state.collect(Call(origins), &mut writes);
            }
        });
        outcome.map(|()| writes)
    }
}

impl<T: Transform> Default for Runner<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A state that is declared and not named in `transform!` would silently never be written.
fn check_states(transform: &mut impl States, description: &Description) {
    let mut named = Vec::new();
    transform.visit_states(&mut |state| named.push(state.index()));
    let declared: Vec<u8> = (0..description.states.len() as u8).collect();
    if named != declared {
        let names: Vec<&str> = description.states.iter().map(|state| state.name.as_str()).collect();
        crate::refuse::fault(format_args!(
            "`define` declares the states {names:?}, and `transform!` names the positions {named:?} of them: name all, \
             in declared order"
        ));
    }
}
