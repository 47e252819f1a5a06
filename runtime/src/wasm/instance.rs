//! A loaded module and its instances: calls under limits, traps as values.
//!
//! Owns the stores. An instance that failed is never entered again: whatever state the guest's memory
//! is in, nobody asks it twice.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use wasmtime::{Store, Trap, WasmBacktrace};

use super::bindings::{self, Transform, TransformPre, lifecycle_types};
use super::budget::{Exhausted, Interrupted};
use super::check::check_migration;
use super::contract::{
    Answer, CallTime, Context, Description, Guest, GuestError, GuestFactory, Migration, Moment, RecordCall, TimerCall,
};
use super::error::Error;
use super::host::{LogGate, Measured, Measurement, State, TooManyHostCalls, Voice, is_of_system, printable};
use super::{EngineSettings, convert, describe};
use crate::model::{Blobs, Digest};

/// A component compiled, linked and asked what it is. Instances are cheap; this is shared.
pub struct Module {
    digest: Digest,
    description: Arc<Description>,
    maker: Maker,
    measured: Arc<Measured>,
}

/// Makes fresh instances under the engine's limits.
struct Maker {
    pre: TransformPre<State>,
    settings: EngineSettings,
    /// Who speaks when no job has been named.
    voice: Voice,
}

impl Module {
    /// Calls `describe` on two fresh instances: both must say the same, or the module is not a
    /// function of its arguments.
    pub(super) fn new(
        digest: Digest,
        pre: TransformPre<State>,
        settings: &EngineSettings,
        ticks: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let gate = Arc::new(LogGate::new(settings.log_lines_per_second, ticks));
        let voice = Voice { module: digest.short().into(), job: "".into(), operator: "".into(), gate };
        let mut maker = Maker { pre, settings: *settings, voice };
        let description = maker.describe(digest)?;
        if maker.describe(digest)? != description {
            let message = "two fresh instances described themselves differently".to_owned();
            return Err(Error::Describe { digest, source: GuestError::Answer(message) });
        }
        // From here on it speaks under the name that people know it by.
        maker.voice.module = format!("{}@{}", printable(&description.name), printable(&description.version)).into();
        let measured = Arc::new(Measured::of(description.metrics.len()));
        Ok(Self { digest, description: Arc::new(description), maker, measured })
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What its log lines call it.
    #[cfg(test)]
    pub(super) fn speaks_as(&self) -> &str {
        &self.maker.voice.module
    }

    /// What the module's instances measured, in the declared order of its metrics.
    pub fn measurements(&self) -> Vec<Measurement> {
        self.measured.read()
    }
}

impl GuestFactory for Module {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }

    fn instantiate(&self, context: &Context) -> Result<Box<dyn Guest>, GuestError> {
        let voice = self.maker.voice.of(context);
        let mut instance = self.maker.instance(voice, self.measured.clone())?;
        instance.open(context)?;
        Ok(Box::new(instance))
    }
}

impl Maker {
    fn describe(&self, digest: Digest) -> Result<Description, Error> {
        let failed = |source| Error::Describe { digest, source };
        let mut instance = self.instance(self.voice.clone(), Arc::default()).map_err(failed)?;
        let told = instance.call(|exports, store| exports.forebay_transform_lifecycle().call_describe(store));
        Ok(describe::description(told.map_err(failed)?)?)
    }

    fn instance(&self, voice: Voice, measured: Arc<Measured>) -> Result<Instance, GuestError> {
        let state = State::new(&self.settings, voice, measured);
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(self.settings.answer.lifted_bytes_max());
        store.epoch_deadline_callback(|mut store| store.data_mut().budget.ask());
        // A start function is a guest's code like any other.
        store.set_epoch_deadline(1);
        let exports = match self.pre.instantiate(&mut store) {
            Ok(exports) => exports,
            Err(error) => return Err(fault(error, store.data_mut(), &self.settings)),
        };
        Ok(Instance { store, exports, settings: self.settings, broken: false })
    }
}

impl Voice {
    fn of(&self, context: &Context) -> Self {
        Self { job: (&*context.job).into(), operator: (&*context.operator_id).into(), ..self.clone() }
    }
}

struct Instance {
    store: Store<State>,
    exports: Transform,
    settings: EngineSettings,
    /// A call failed in a way that leaves the guest's memory in doubt.
    broken: bool,
}

impl Instance {
    fn open(&mut self, context: &Context) -> Result<(), GuestError> {
        let parameters: Vec<_> = context.parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        let context = lifecycle_types::Context {
            job: &context.job,
            operator_id: &context.operator_id,
            parameters: &parameters,
            connected_outputs: &context.connected_outputs,
        };
        let opened = self.call(|exports, store| exports.forebay_transform_lifecycle().call_open(store, context));
        opened?.map_err(|message| GuestError::Open(printable(&message)))
    }

    /// One call into the guest under its limits.
    fn call<R>(
        &mut self,
        enter: impl FnOnce(&Transform, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, GuestError> {
        if self.broken {
            return Err(GuestError::Host("called an instance again after it failed: take a fresh one".to_owned()));
        }
        self.store.data_mut().begin_call();
        self.store.set_epoch_deadline(1);
        enter(&self.exports, &mut self.store).map_err(|error| {
            self.broken = true;
            fault(error, self.store.data_mut(), &self.settings)
        })
    }

    /// Remembers a fault that shows only in what a call answered.
    fn judged<R>(&mut self, result: Result<R, GuestError>) -> Result<R, GuestError> {
        self.broken |= result.as_ref().is_err_and(GuestError::is_fault);
        result
    }
}

impl Guest for Instance {
    fn limit(&mut self, time: &CallTime) {
        self.store.data_mut().budget.set(time);
    }

    fn process(&mut self, moment: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        let (moment, batch) = (bindings::moment(moment), bindings::record_batch(batch));
        let told =
            self.call(|exports, store| exports.forebay_transform_processing().call_process(store, moment, batch))?;
        let answer = told.map_err(convert::failure).and_then(convert::answer);
        self.judged(answer)
    }

    fn on_timer(&mut self, moment: Moment, batch: &TimerCall) -> Result<Answer, GuestError> {
        let (moment, batch) = (bindings::moment(moment), bindings::timer_batch(batch));
        let told =
            self.call(|exports, store| exports.forebay_transform_processing().call_on_timer(store, moment, batch))?;
        let answer = told.map_err(convert::failure).and_then(convert::answer);
        self.judged(answer)
    }

    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        // Entry keys belong to map states.
        let no_entries = Blobs::new();
        let values = bindings::migration(migration, &no_entries);
        let told = self.call(|exports, store| exports.forebay_transform_lifecycle().call_migrate(store, values))?;
        let migrated = told
            .map_err(|failed| GuestError::Migration {
                value_index: failed.value_index,
                message: printable(&failed.message),
            })
            .and_then(|values| convert::blobs("migrated values", values));
        let migrated = check_migration(migrated, migration, &self.settings.answer);
        self.judged(migrated)
    }
}

/// Why a call into the guest did not return.
fn fault(error: wasmtime::Error, state: &mut State, settings: &EngineSettings) -> GuestError {
    if error.is::<Exhausted>() {
        return GuestError::Deadline { limit_ms: state.budget.limit().as_millis() as u64 };
    }
    if error.is::<Interrupted>() {
        return GuestError::Interrupted;
    }
    if is_of_system(&error) {
        return GuestError::System(format!("{error:#}"));
    }
    if state.memory_refused {
        return GuestError::Memory { limit_bytes: settings.memory_bytes_max };
    }
    if is_lift_limit(&error) {
        let limit = settings.answer.lifted_bytes_max();
        return GuestError::TooMuch(format!("it holds more than {limit} bytes: emit less in one call"));
    }
    let message = match (error.downcast_ref::<Trap>(), error.downcast_ref::<TooManyHostCalls>()) {
        (Some(trap), _) => trap.to_string().trim_start_matches("wasm trap: ").to_owned(),
        (None, Some(flood)) => flood.to_string(),
        (None, None) => error.root_cause().to_string(),
    };
    let message = printable(&format!("{message}{}", place(&error))).into();
    GuestError::Trap { message, last_words: state.last_words.take() }
}

/// wasmtime keeps the type of this error to itself; its text is pinned by a test.
fn is_lift_limit(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().starts_with("too much data is being copied between the host and the guest")
}

/// The innermost guest functions of a trap, for the author's eyes.
fn place(error: &wasmtime::Error) -> String {
    const FRAMES: usize = 4;
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    // Only the printed form has the names demangled: `<n>: <address> - <module>!<function>`.
    let trace = trace.to_string();
    let frames = trace.lines().filter_map(|line| line.split_once(" - ")?.1.split_once('!'));
    let names = frames.map(|(_, name)| name).skip_while(|name| is_panic_machinery(name)).take(FRAMES);
    let names: Vec<_> = names.collect();
    if names.is_empty() { String::new() } else { format!(" (in {})", names.join(" < ")) }
}

/// Rust's own functions between a panic and the trap: the same in every panic.
fn is_panic_machinery(function: &str) -> bool {
    ["__rust", "rust_panic", "panicking", "begin_unwind", "panic_handler"].iter().any(|part| function.contains(part))
}
