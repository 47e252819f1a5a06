//! The native twin of a guest: the same transform behind the host's own contract, called directly.
//!
//! The host's columns are moved into the SDK's and back, as bindings do it in a guest, so a twin pays
//! for columns too; what it does not pay for is WebAssembly, the boundary and their limits.

use std::marker::PhantomData;
use std::sync::Arc;

use forebay::model::{Blobs, Digest, Headers};
use forebay::operator::ModuleRef;
use forebay::wasm::contract::*;
use forebay_sdk::columns as sdk;
use forebay_sdk::{Failure, Runner, Transform};

use crate::modules;

/// A transform of the SDK as a module of the host.
pub fn module<T: Transform + Send + 'static>() -> ModuleRef {
    let description = describe(Runner::<T>::new().description());
    let digest = Digest::of(format!("native {} {}", description.name, description.version).as_bytes());
    modules::reference(digest, Arc::new(Native::<T> { description: Arc::new(description), transform: PhantomData }))
}

struct Native<T> {
    description: Arc<Description>,
    // Instances are made on the threads that use them; the factory itself holds none.
    transform: PhantomData<fn() -> T>,
}

impl<T: Transform + Send + 'static> GuestFactory for Native<T> {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }

    fn instantiate(&self, context: &Context) -> Result<Box<dyn Guest>, GuestError> {
        let Context { job, operator_id, parameters, connected_outputs } = context.clone();
        let mut runner = Runner::<T>::new();
        runner
            .open(&forebay_sdk::Context { job, operator_id, parameters, connected_outputs })
            .map_err(GuestError::Open)?;
        Ok(Box::new(Twin(runner)))
    }
}

struct Twin<T>(Runner<T>);

impl<T: Transform + Send> Guest for Twin<T> {
    fn process(&mut self, moment: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        self.0.process(moment_in(moment), &records_in(batch)).map_err(failure).and_then(answer_out)
    }

    fn on_timer(&mut self, moment: Moment, batch: &TimerCall) -> Result<Answer, GuestError> {
        self.0.on_timer(moment_in(moment), &timers_in(batch)).map_err(failure).and_then(answer_out)
    }

    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        let Migration { state, from_version, to_version, values, .. } = migration;
        let migrated = self.0.migrate(*state, *from_version, *to_version, &blobs_in(values));
        migrated
            .map_err(|failed| GuestError::Migration { value_index: failed.value_index, message: failed.message })
            .and_then(blobs_out)
    }
}

fn failure(failure: Failure) -> GuestError {
    match failure {
        Failure::Broken(message) => GuestError::Broken(message),
        Failure::Retry(message) => GuestError::Retry(message),
    }
}

fn describe(from: &forebay_sdk::Description) -> Description {
    Description {
        name: from.name.clone(),
        version: from.version.clone(),
        about: from.about.clone(),
        sdk: from.sdk.clone(),
        keyed: from.keyed,
        inputs: from.inputs.clone(),
        outputs: from.outputs.clone(),
        states: from
            .states
            .iter()
            .map(|state| StateDecl {
                name: state.name.clone(),
                version: state.version,
                reads: state.reads.clone(),
                reverts_to: state.reverts_to.clone(),
                encoding: state.encoding.name().to_owned(),
                fingerprint: state.fingerprint.clone(),
            })
            .collect(),
        timers: from.timers.iter().map(|name| TimerDecl { name: name.clone() }).collect(),
        parameters: from
            .parameters
            .iter()
            .map(|parameter| ParameterDecl {
                name: parameter.name.clone(),
                about: parameter.about.clone(),
                required: parameter.required,
                preset: parameter.preset.clone(),
                secret: parameter.secret,
            })
            .collect(),
        metrics: Vec::new(),
        refusal_codes: from.refusal_codes.clone(),
        needs: Needs {
            headers: from.needs.headers,
            coordinates: from.needs.coordinates,
            seeds: from.needs.seeds,
            processing_time: from.needs.processing_time,
        },
        viewable: false,
    }
}

fn moment_in(from: Moment) -> sdk::Moment {
    sdk::Moment { watermark: from.watermark, now: from.now }
}

fn numbers_in<N: sdk::Number>(numbers: &[N]) -> sdk::Numbers<N> {
    numbers.iter().copied().collect()
}

fn blobs_in(from: &Blobs) -> sdk::Blobs {
    sdk::Blobs { data: from.data().to_vec(), ends: numbers_in(from.ends()), present: from.present().to_vec() }
}

fn keyed_in(from: &Keyed) -> sdk::Keyed {
    sdk::Keyed { keys: blobs_in(&from.keys), values: blobs_in(&from.values) }
}

fn headers_in(from: &Headers) -> sdk::Headers {
    sdk::Headers { ends: numbers_in(&from.ends), names: blobs_in(&from.names), values: blobs_in(&from.values) }
}

fn records_in(from: &RecordCall) -> sdk::RecordBatch {
    sdk::RecordBatch {
        keyed: keyed_in(&from.keyed),
        slots: numbers_in(&from.slots),
        inputs: from.inputs.clone(),
        values: blobs_in(&from.values),
        event_times: numbers_in(&from.event_times),
        record_keys: from.record_keys.as_ref().map(blobs_in),
        headers: from.headers.as_ref().map(headers_in),
        coordinates: from.coordinates.as_ref().map(|at| (numbers_in(&at.partitions), numbers_in(&at.offsets))),
        seeds: numbers_in(&from.seeds),
    }
}

fn timers_in(from: &TimerCall) -> sdk::TimerBatch {
    sdk::TimerBatch {
        keyed: keyed_in(&from.keyed),
        slots: numbers_in(&from.slots),
        timers: from.timers.clone(),
        times: numbers_in(&from.times),
        seeds: numbers_in(&from.seeds),
    }
}

fn numbers_out<N: sdk::Number>(numbers: sdk::Numbers<N>) -> Vec<N> {
    numbers.iter().collect()
}

fn blobs_out(from: sdk::Blobs) -> Result<Blobs, GuestError> {
    Blobs::from_parts(from.data, numbers_out(from.ends), from.present).map_err(|e| GuestError::Answer(e.to_string()))
}

fn headers_out(from: sdk::Headers) -> Result<Headers, GuestError> {
    let ends = numbers_out(from.ends);
    Ok(Headers { ends, names: blobs_out(from.names)?, values: blobs_out(from.values)? })
}

fn answer_out(from: sdk::Answer) -> Result<Answer, GuestError> {
    let sdk::Answer { emitted, writes, timers, refusals, filtered } = from;
    let refusal = |r: sdk::Refusal| Refusal { record_index: r.record_index, code: r.code, message: r.message };
    Ok(Answer {
        emitted: Emitted {
            origins: numbers_out(emitted.origins),
            outputs: emitted.outputs,
            values: emitted.values.map(blobs_out).transpose()?,
            keys: emitted.keys.map(blobs_out).transpose()?,
            event_times: numbers_out(emitted.event_times),
            headers: emitted.headers.map(headers_out).transpose()?,
            partitions: numbers_out(emitted.partitions),
            typed_columns: 0,
        },
        writes: StateWrites {
            states: writes.states,
            slots: numbers_out(writes.slots),
            ops: writes.ops,
            entry_keys: Blobs::new(),
            values: blobs_out(writes.values)?,
            expires: Vec::new(),
        },
        timers: TimerWrites {
            timers: timers.timers,
            slots: numbers_out(timers.slots),
            times: numbers_out(timers.times),
            ops: timers.ops,
        },
        refusals: refusals.into_iter().map(refusal).collect(),
        filtered,
    })
}
