//! An in-memory host: unit tests of a transform, natively and without WebAssembly.
//!
//! ```
//! # use forebay_sdk::prelude::*;
//! # struct Pass { out: Output }
//! # impl Transform for Pass {
//! #     const NAME: &'static str = "pass";
//! #     const VERSION: &'static str = "1.0.0";
//! #     fn define(module: &mut Module) -> Self { Self { out: module.output("out") } }
//! #     fn process(&mut self, _: &Record, ctx: &mut Ctx) -> Result<(), Refuse> { ctx.pass(self.out); Ok(()) }
//! # }
//! # forebay_sdk::transform!(Pass);
//! use forebay_sdk::testing::Host;
//!
//! let mut host = Host::<Pass>::new();
//! host.push("input", "some key", r#"{"price": 5}"#, 1_000);
//! assert_eq!(host.texts("out"), [r#"{"price": 5}"#]);
//! ```
//!
//! Records wait until a batch is full ([`Host::batch_size`]) or somebody looks; timers fire when the watermark is
//! [advanced](Host::advance), in the host's order: by time, timer, key. [`check_every_cut`] runs one script over several batch
//! sizes and with a fresh instance for every call, which shows whatever was kept outside of a state.

mod batch;
mod golden;

use std::collections::{BTreeMap, BTreeSet};

pub use golden::assert_golden;

use crate::columns::{Answer, Moment, NO_POSITION};
use crate::host::{Level, native};
use crate::module::Context;
use crate::record::Origins;
use crate::state::State;
use crate::{Coordinates, Description, Failure, Runner, Transform, state};

/// A record on its way in.
#[derive(Clone, Debug, Default)]
pub struct Pushed {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub event_time: i64,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Partition 0 and the number of the record where they are not given.
    pub coordinates: Option<Coordinates>,
}

/// A pushed record on its input, with its number.
struct Waiting {
    record: Pushed,
    input: u8,
    number: u64,
}

/// A record that came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub event_time: i64,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// -1 = by key.
    pub partition: i32,
}

/// A record or timer that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub event_time: i64,
    pub code: String,
    pub message: String,
}

/// A state's value as it lies: key, then schema version and bytes.
type Values = BTreeMap<Vec<u8>, (u32, Vec<u8>)>;

/// Runs one transform in memory. See the module's page.
pub struct Host<T> {
    runner: Runner<T>,
    context: Context,
    batch_size: usize,
    fresh_instances: bool,
    waiting: Vec<Waiting>,
    pushed: u64,
    watermark: i64,
    now: i64,
    /// By declared state.
    states: Vec<Values>,
    /// Time, timer, key: the order in which they fire.
    timers: BTreeSet<(i64, u8, Vec<u8>)>,
    outputs: Vec<Vec<Out>>,
    refused: Vec<Refused>,
    filtered: u64,
    lines: Vec<(Level, String)>,
    amounts: Vec<(String, f64)>,
}

impl<T: Transform> Host<T> {
    /// With the presets of all parameters.
    pub fn new() -> Self {
        match Self::open(&[]) {
            Ok(host) => host,
            Err(message) => fail(format_args!("the transform refuses to open: {message}")),
        }
    }

    /// With these parameters, and presets for the others.
    ///
    /// # Errors
    /// What the transform says of them; a parameter that is not declared, or is required and not given.
    pub fn open(parameters: &[(&str, &str)]) -> Result<Self, String> {
        let mut runner = Runner::<T>::new();
        let description = runner.description();
        let context = Context {
            job: "test".into(),
            operator_id: description.name.clone(),
            parameters: filled_in(description, parameters)?,
            connected_outputs: (0..description.outputs.len() as u8).collect(),
        };
        let (states, outputs) = (description.states.len(), description.outputs.len());
        runner.open(&context)?;
        Ok(Self {
            runner,
            context,
            batch_size: 256,
            fresh_instances: false,
            waiting: Vec::new(),
            pushed: 0,
            watermark: i64::MIN,
            now: 0,
            states: vec![Values::new(); states],
            timers: BTreeSet::new(),
            outputs: vec![Vec::new(); outputs],
            refused: Vec::new(),
            filtered: 0,
            lines: Vec::new(),
            amounts: Vec::new(),
        })
    }

    /// Records in a call.
    pub fn batch_size(mut self, records: usize) -> Self {
        self.batch_size = records.max(1);
        self
    }

    /// A new instance for every call, as a host may do at any time.
    pub fn fresh_instances(mut self) -> Self {
        self.fresh_instances = true;
        self
    }

    /// What the transform says of itself.
    pub fn description(&self) -> &Description {
        self.runner.description()
    }

    /// A record for an input, with key, value and event time.
    pub fn push(&mut self, input: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, event_time: i64) -> &mut Self {
        let (key, value) = (Some(key.as_ref().to_vec()), Some(value.as_ref().to_vec()));
        self.push_record(input, Pushed { key, value, event_time, ..Pushed::default() })
    }

    /// A record for an input, with everything a record can have.
    pub fn push_record(&mut self, input: &str, record: Pushed) -> &mut Self {
        let input = position(&self.description().inputs, input, "input");
        self.waiting.push(Waiting { record, input, number: self.pushed });
        self.pushed += 1;
        if self.waiting.len() >= self.batch_size {
            self.run();
        }
        self
    }

    /// Processes what is waiting.
    pub fn run(&mut self) -> &mut Self {
        while !self.waiting.is_empty() {
            let rest = self.waiting.split_off(self.waiting.len().min(self.batch_size));
            let records = std::mem::replace(&mut self.waiting, rest);
            self.process(&records);
        }
        self
    }

    /// Processes what is waiting, then moves the watermark and fires the timers up to it, also those set meanwhile.
    pub fn advance(&mut self, watermark: i64) -> &mut Self {
        self.run();
        while self.timers.first().is_some_and(|timer| timer.0 <= watermark) {
            self.fire();
        }
        self.watermark = self.watermark.max(watermark);
        self
    }

    /// The processing time of later calls, where the module asks for it.
    pub fn set_processing_time(&mut self, now: i64) -> &mut Self {
        self.run();
        self.now = now;
        self
    }

    /// What came out so far.
    pub fn outputs(&mut self, output: &str) -> &[Out] {
        self.run();
        let position = position(&self.description().outputs, output, "output");
        &self.outputs[usize::from(position)]
    }

    /// The values of [`outputs`](Self::outputs) as text; a tombstone is `null`.
    pub fn texts(&mut self, output: &str) -> Vec<String> {
        let text =
            |out: &Out| out.value.as_ref().map_or("null".into(), |value| String::from_utf8_lossy(value).into_owned());
        self.outputs(output).iter().map(text).collect()
    }

    pub fn refused(&mut self) -> &[Refused] {
        self.run();
        &self.refused
    }

    pub fn filtered(&mut self) -> u64 {
        self.run();
        self.filtered
    }

    /// The value of a key, in the version that the module declares.
    pub fn state<V: State>(&mut self, name: &str, key: impl AsRef<[u8]>) -> Option<V> {
        self.run();
        let (version, bytes) = self.states[self.state_position(name)].get(key.as_ref())?;
        if *version != V::VERSION {
            fail(format_args!("state `{name}` lies in version {version}, the type asked for is {}", V::VERSION));
        }
        match state::decode(bytes) {
            Ok(value) => Some(value),
            Err(error) => fail(format_args!("state `{name}`: {error}")),
        }
    }

    /// How many keys have a value.
    pub fn keys(&mut self, name: &str) -> usize {
        self.run();
        self.states[self.state_position(name)].len()
    }

    /// Puts a value as a module with this version of the state would have left it. It is migrated when it is touched.
    pub fn put_state<V: State>(&mut self, name: &str, key: impl AsRef<[u8]>, value: &V) -> &mut Self {
        let mut bytes = Vec::new();
        if let Err(error) = state::encode(value, &mut bytes) {
            fail(format_args!("state `{name}`: {error}"));
        }
        let position = self.state_position(name);
        self.states[position].insert(key.as_ref().to_vec(), (V::VERSION, bytes));
        self
    }

    /// Hands the states and timers over to another version of the module, as a swap does: every value is brought to the version
    /// that `Next` declares where it can read it, else to one that the module at hand can go back to.
    ///
    /// # Errors
    /// Which value cannot be brought to its version.
    pub fn swap<Next: Transform>(mut self) -> Result<Host<Next>, String> {
        self.run();
        let mut next = Host::<Next>::open(&[])?.batch_size(self.batch_size);
        (next.fresh_instances, next.watermark, next.now) = (self.fresh_instances, self.watermark, self.now);
        next.timers = std::mem::take(&mut self.timers);
        for (index, declared) in self.description().states.clone().iter().enumerate() {
            let Some(position) = next.description().states.iter().position(|state| state.name == declared.name) else {
                continue;
            };
            let wanted = next.description().states[position].clone();
            for (key, (version, bytes)) in std::mem::take(&mut self.states[index]) {
                let migrated = if version == wanted.version || wanted.reads.contains(&version) {
                    next.migrated(position, version, bytes)?
                } else {
                    migrate(&mut self.runner, index, version, wanted.version, &bytes)?
                };
                next.states[position].insert(key, (wanted.version, migrated));
            }
        }
        Ok(next)
    }

    /// Timers that are set: name, key as text, time.
    pub fn timers(&mut self) -> Vec<(String, String, i64)> {
        self.run();
        let names = &self.description().timers;
        let timer = |(time, timer, key): &(i64, u8, Vec<u8>)| {
            (names[usize::from(*timer)].clone(), String::from_utf8_lossy(key).into_owned(), *time)
        };
        self.timers.iter().map(timer).collect()
    }

    /// Log lines so far.
    pub fn lines(&self) -> &[(Level, String)] {
        &self.lines
    }

    /// Amounts measured so far, by metric.
    pub fn amounts(&self) -> &[(String, f64)] {
        &self.amounts
    }

    fn process(&mut self, records: &[Waiting]) {
        let batch = batch::records(self, records);
        let answer = self.call(|runner, moment| runner.process(moment, &batch));
        self.take(&answer, Origins::Records(&batch), records.len());
    }

    fn fire(&mut self) {
        // Those of one time: a timer that one of them sets may come before those of a later time.
        let first = self.timers.first().map_or(i64::MAX, |timer| timer.0);
        let due = self.timers.iter().take_while(|timer| timer.0 == first).take(self.batch_size);
        let due: Vec<(i64, u8, Vec<u8>)> = due.cloned().collect();
        for timer in &due {
            self.timers.remove(timer);
        }
        let batch = batch::timers(self, &due);
        let answer = self.call(|runner, moment| runner.on_timer(moment, &batch));
        self.take(&answer, Origins::Timers(&batch), due.len());
    }

    fn call(&mut self, call: impl FnOnce(&mut Runner<T>, Moment) -> Result<Answer, Failure>) -> Answer {
        if self.fresh_instances {
            self.runner = Runner::new();
            if let Err(message) = self.runner.open(&self.context) {
                fail(format_args!("the transform refuses to open again: {message}"));
            }
        }
        let now = if self.description().needs.processing_time { self.now } else { i64::MIN };
        native::listen();
        let outcome = call(&mut self.runner, Moment { watermark: self.watermark, now });
        let heard = native::listen();
        self.lines.extend(heard.lines.into_iter().map(|(level, _, line)| (level, line)));
        let metrics = &self.runner.description().metrics;
        let name = |id: u8| metrics[usize::from(id)].name.clone();
        self.amounts.extend(heard.amounts.into_iter().map(|(id, amount)| (name(id), amount)));
        match outcome {
            Ok(answer) => answer,
            Err(failure) => fail(format_args!("the module cannot work: {failure:?}")),
        }
    }

    /// Does what the answer says, as the host would after it has checked it.
    fn take(&mut self, answer: &Answer, origins: Origins<'_>, count: usize) {
        batch::check(self.description(), answer, count);
        for refusal in &answer.refusals {
            let at = refusal.record_index as usize;
            self.refused.push(Refused {
                key: origins.key(at).map(<[u8]>::to_vec),
                value: origins.value(at).map(<[u8]>::to_vec),
                event_time: origins.event_time(at),
                code: refusal.code.clone(),
                message: refusal.message.clone(),
            });
        }
        self.filtered += u64::from(answer.filtered);
        for (i, out) in batch::emitted(answer, origins).enumerate() {
            self.outputs[usize::from(answer.emitted.outputs.get(i).copied().unwrap_or(0))].push(out);
        }
        self.write_states(answer, origins);
        self.write_timers(answer, origins);
    }

    fn write_states(&mut self, answer: &Answer, origins: Origins<'_>) {
        let writes = &answer.writes;
        for (i, &state) in writes.states.iter().enumerate() {
            let key = origins.keys().get(writes.slots.at(i) as usize).unwrap_or_default().to_vec();
            let version = self.description().states[usize::from(state)].version;
            let values = &mut self.states[usize::from(state)];
            match writes.values.get(i) {
                Some(bytes) => values.insert(key, (version, bytes.to_vec())),
                None => values.remove(&key),
            };
        }
    }

    fn write_timers(&mut self, answer: &Answer, origins: Origins<'_>) {
        let writes = &answer.timers;
        for (i, &timer) in writes.timers.iter().enumerate() {
            let key = origins.keys().get(writes.slots.at(i) as usize).unwrap_or_default().to_vec();
            let timer = (writes.times.at(i), timer, key);
            if writes.ops.get(i) == Some(&0) {
                self.timers.remove(&timer);
            } else {
                self.timers.insert(timer);
            }
        }
    }

    /// A value in the version that the module declares.
    fn migrated(&mut self, index: usize, version: u32, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let wanted = self.description().states[index].version;
        if version == wanted { Ok(bytes) } else { migrate(&mut self.runner, index, version, wanted, &bytes) }
    }

    fn state_position(&self, name: &str) -> usize {
        let names: Vec<String> = self.description().states.iter().map(|state| state.name.clone()).collect();
        position(&names, name, "state").into()
    }
}

impl<T: Transform> Default for Host<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a script at batch sizes 1, 7 and 256, with one instance and with a fresh one for every call, and compares what
/// came out, was refused and is left in states and timers.
pub fn check_every_cut<T: Transform>(parameters: &[(&str, &str)], script: impl Fn(&mut Host<T>)) {
    let run = |batch_size: usize, fresh: bool| {
        let mut host = match Host::<T>::open(parameters) {
            Ok(host) => host.batch_size(batch_size),
            Err(message) => fail(format_args!("the transform refuses to open: {message}")),
        };
        host.fresh_instances = fresh;
        script(&mut host);
        host.run();
        (host.outputs, host.refused, host.states, host.timers)
    };
    let expected = run(1, false);
    for (batch_size, fresh) in [(1, true), (7, false), (7, true), (256, false), (256, true)] {
        assert_eq!(run(batch_size, fresh), expected, "batches of {batch_size}, fresh instances: {fresh}");
    }
}

fn filled_in(description: &Description, given: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    if let Some((name, _)) = given.iter().find(|given| description.parameters.iter().all(|known| known.name != given.0))
    {
        return Err(format!("parameter `{name}` is not declared"));
    }
    let mut filled = Vec::new();
    for parameter in &description.parameters {
        let value = given.iter().find(|given| given.0 == parameter.name).map(|given| given.1);
        match value.or(parameter.preset.as_deref()) {
            Some(value) => filled.push((parameter.name.clone(), value.to_owned())),
            None if parameter.required => return Err(format!("parameter `{}` is required", parameter.name)),
            None => {}
        }
    }
    Ok(filled)
}

fn migrate<T: Transform>(
    runner: &mut Runner<T>,
    index: usize,
    from: u32,
    to: u32,
    bytes: &[u8],
) -> Result<Vec<u8>, String> {
    let values = [Some(bytes)].into_iter().collect();
    let migrated = runner.migrate(index as u8, from, to, &values).map_err(|failure| failure.message)?;
    Ok(migrated.get(0).unwrap_or_default().to_vec())
}

fn position(names: &[String], wanted: &str, what: &str) -> u8 {
    match names.iter().position(|name| name == wanted) {
        Some(position) => position as u8,
        None => fail(format_args!("there is no {what} `{wanted}`; there are {names:?}")),
    }
}

#[allow(clippy::panic, reason = "a test fails by a panic")]
fn fail(message: std::fmt::Arguments<'_>) -> ! {
    panic!("{message}")
}
