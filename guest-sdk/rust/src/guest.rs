//! The guest's shell: bindings of world `transform`, and the moves between their types and the SDK's columns.
//!
//! Thin on purpose: everything that decides lives in [`crate::Runner`], which also runs natively.

use std::marker::PhantomData;
use std::sync::Once;

use crate::columns as plain;
use crate::{Context, Description, Failure, MetricKind, Runner, Transform};

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "transform",
        pub_export_macro: true,
        export_macro_name: "export_transform",
        default_bindings_module: "forebay_sdk::guest::bindings",
    });
}

use bindings::exports::forebay::transform::{lifecycle, processing};
use bindings::forebay::transform::{description as described, host, types};

/// Where the instance of a crate's transform lives; written by `export!`.
#[doc(hidden)]
pub trait Instance {
    type Transform: Transform;
    fn with<R>(use_instance: impl FnOnce(&mut Runner<Self::Transform>) -> R) -> R;
}

/// A transform behind the bindings.
#[doc(hidden)]
pub struct Shell<T>(PhantomData<T>);

/// Makes a place for the instance and exports the shell round it.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_guest {
    ($transform:ty) => {
        ::std::thread_local! {
            static INSTANCE: ::std::cell::RefCell<Option<$crate::Runner<$transform>>> =
                const { ::std::cell::RefCell::new(None) };
        }
        struct Exported;
        impl $crate::guest::Instance for Exported {
            type Transform = $transform;
            fn with<R>(use_instance: impl FnOnce(&mut $crate::Runner<$transform>) -> R) -> R {
                INSTANCE.with_borrow_mut(|instance| use_instance(instance.get_or_insert_default()))
            }
        }
        type Guest = $crate::guest::Shell<Exported>;
        $crate::guest::bindings::export_transform!(Guest with_types_in $crate::guest::bindings);
    };
}

impl<T: Instance> lifecycle::Guest for Shell<T> {
    fn describe() -> described::ModuleDescription {
        listen_for_panics();
        T::with(|runner| describe(runner.description()))
    }

    fn open(context: lifecycle::Context) -> Result<(), String> {
        listen_for_panics();
        let lifecycle::Context { job, operator_id, parameters, connected_outputs } = context;
        T::with(|runner| runner.open(&Context { job, operator_id, parameters, connected_outputs }))
    }

    fn migrate(values: lifecycle::Migration) -> Result<types::Blobs, lifecycle::MigrationFailure> {
        let lifecycle::Migration { state, from_version, to_version, values, .. } = values;
        T::with(|runner| runner.migrate(state, from_version, to_version, &blobs_in(values))).map(blobs_out).map_err(
            |failure| lifecycle::MigrationFailure { value_index: failure.value_index, message: failure.message },
        )
    }

    fn view(_: lifecycle::Viewed, _: String) -> Result<types::Blobs, String> {
        Err("this module answers no queries".into())
    }
}

impl<T: Instance> processing::Guest for Shell<T> {
    fn process(moment: types::Moment, batch: types::RecordBatch) -> Result<types::Answer, types::Failure> {
        let batch = record_batch_in(batch);
        T::with(|runner| runner.process(moment_in(moment), &batch)).map(answer_out).map_err(failure_out)
    }

    fn on_timer(moment: types::Moment, batch: types::TimerBatch) -> Result<types::Answer, types::Failure> {
        let batch = timer_batch_in(batch);
        T::with(|runner| runner.on_timer(moment_in(moment), &batch)).map(answer_out).map_err(failure_out)
    }
}

/// A panic ends the call as a trap; before that the host is told which record it was.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| host::dying(crate::runner::record_at_hand(), &panic.to_string())));
    });
}

/// Imports in the shape of [`crate::host`].
pub(crate) mod host_calls {
    use super::host;
    use crate::host::Level;

    pub(crate) fn log_level() -> Level {
        match host::log_level() {
            host::Level::Trace => Level::Trace,
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        }
    }

    pub(crate) fn log(level: Level, record: Option<u32>, message: &str) {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, record, message);
    }

    pub(crate) fn measure(ids: &[u8], amounts: &[f64]) {
        host::measure(ids, amounts);
    }
}

fn describe(from: &Description) -> described::ModuleDescription {
    described::ModuleDescription {
        name: from.name.clone(),
        version: from.version.clone(),
        about: from.about.clone(),
        sdk: from.sdk.clone(),
        keyed: from.keyed,
        inputs: from.inputs.iter().map(|name| input(name)).collect(),
        outputs: from.outputs.iter().map(|name| output(name)).collect(),
        states: from.states.iter().map(state).collect(),
        timers: from.timers.iter().map(|name| timer(name)).collect(),
        tables: Vec::new(),
        parameters: from.parameters.iter().map(parameter).collect(),
        metrics: from.metrics.iter().map(metric).collect(),
        refusal_codes: from.refusal_codes.clone(),
        needs: needs(from.needs),
        viewable: false,
    }
}

fn needs(from: crate::module::Needs) -> described::Needs {
    let flag = |needed: bool, flag| if needed { flag } else { described::Needs::empty() };
    flag(from.headers, described::Needs::HEADERS)
        | flag(from.coordinates, described::Needs::COORDINATES)
        | flag(from.seeds, described::Needs::SEEDS)
        | flag(from.processing_time, described::Needs::PROCESSING_TIME)
}

fn input(name: &str) -> described::InputDecl {
    described::InputDecl { name: name.into(), fields: Vec::new(), payload: false }
}

fn output(name: &str) -> described::OutputDecl {
    described::OutputDecl { name: name.into(), fields: Vec::new() }
}

fn timer(name: &str) -> described::TimerDecl {
    described::TimerDecl { name: name.into(), domain: described::Domain::EventTime }
}

fn state(from: &crate::module::StateDecl) -> described::StateDecl {
    described::StateDecl {
        name: from.name.clone(),
        kind: described::StateKind::Value,
        version: from.version,
        reads: from.reads.clone(),
        reverts_to: from.reverts_to.clone(),
        encoding: from.encoding.name().into(),
        fingerprint: from.fingerprint.clone(),
        travels: true,
        ttl: None,
    }
}

fn parameter(from: &crate::Parameter) -> described::ParameterDecl {
    described::ParameterDecl {
        name: from.name.clone(),
        about: from.about.clone(),
        required: from.required,
        preset: from.preset.clone(),
        secret: from.secret,
    }
}

fn metric(from: &crate::module::MetricDecl) -> described::MetricDecl {
    let kind = match from.kind {
        MetricKind::Counter => described::MetricKind::Counter,
        MetricKind::Gauge => described::MetricKind::Gauge,
        MetricKind::Histogram => described::MetricKind::Histogram,
    };
    described::MetricDecl { name: from.name.clone(), kind, unit: from.unit.clone(), about: from.about.clone() }
}

fn moment_in(from: types::Moment) -> plain::Moment {
    plain::Moment { watermark: from.watermark, now: from.now }
}

fn blobs_in(from: types::Blobs) -> plain::Blobs {
    plain::Blobs { data: from.data, ends: plain::Numbers::from_bytes(from.ends), present: from.present }
}

fn blobs_out(from: plain::Blobs) -> types::Blobs {
    types::Blobs { data: from.data, ends: from.ends.into_bytes(), present: from.present }
}

fn keyed_in(from: types::Keyed) -> plain::Keyed {
    plain::Keyed { keys: blobs_in(from.keys), values: blobs_in(from.values) }
}

fn headers_in(from: types::Headers) -> plain::Headers {
    let ends = plain::Numbers::from_bytes(from.ends);
    plain::Headers { ends, names: blobs_in(from.names), values: blobs_in(from.values) }
}

fn headers_out(from: plain::Headers) -> types::Headers {
    types::Headers { ends: from.ends.into_bytes(), names: blobs_out(from.names), values: blobs_out(from.values) }
}

fn record_batch_in(from: types::RecordBatch) -> plain::RecordBatch {
    plain::RecordBatch {
        keyed: keyed_in(from.keyed),
        slots: plain::Numbers::from_bytes(from.slots),
        inputs: from.inputs,
        values: blobs_in(from.values),
        event_times: plain::Numbers::from_bytes(from.event_times),
        record_keys: from.record_keys.map(blobs_in),
        headers: from.headers.map(headers_in),
        coordinates: from.coordinates.map(|coordinates| {
            let partitions = plain::Numbers::from_bytes(coordinates.partitions);
            (partitions, plain::Numbers::from_bytes(coordinates.offsets))
        }),
        seeds: plain::Numbers::from_bytes(from.seeds),
    }
}

fn timer_batch_in(from: types::TimerBatch) -> plain::TimerBatch {
    plain::TimerBatch {
        keyed: keyed_in(from.keyed),
        slots: plain::Numbers::from_bytes(from.slots),
        timers: from.timers,
        times: plain::Numbers::from_bytes(from.times),
        seeds: plain::Numbers::from_bytes(from.seeds),
    }
}

fn answer_out(from: plain::Answer) -> types::Answer {
    let plain::Answer { emitted, writes, timers, refusals, filtered } = from;
    types::Answer {
        emitted: types::Emitted {
            origins: emitted.origins.into_bytes(),
            outputs: emitted.outputs,
            values: emitted.values.map(blobs_out),
            keys: emitted.keys.map(blobs_out),
            event_times: emitted.event_times.into_bytes(),
            headers: emitted.headers.map(headers_out),
            partitions: emitted.partitions.into_bytes(),
            columns: Vec::new(),
        },
        writes: types::StateWrites {
            states: writes.states,
            slots: writes.slots.into_bytes(),
            ops: writes.ops,
            entry_keys: blobs_out(plain::Blobs::default()),
            values: blobs_out(writes.values),
            expires: Vec::new(),
        },
        timers: types::TimerWrites {
            timers: timers.timers,
            slots: timers.slots.into_bytes(),
            times: timers.times.into_bytes(),
            ops: timers.ops,
        },
        refusals: refusals.into_iter().map(refusal_out).collect(),
        filtered,
    }
}

fn refusal_out(from: plain::Refusal) -> types::Refusal {
    types::Refusal { record_index: from.record_index, code: from.code, message: from.message }
}

fn failure_out(from: Failure) -> types::Failure {
    match from {
        Failure::Broken(message) => types::Failure::Broken(message),
        Failure::Retry(message) => types::Failure::Retry(message),
    }
}
