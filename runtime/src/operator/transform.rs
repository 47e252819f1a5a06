//! The wrapper round a transform: calls in, answers out, and what happens when a call fails.
//!
//! Owns the guest instance. An answer touches state and outputs only after all of it has been
//! checked, so a failed call has had no effect and can be run again in parts. A trap costs the
//! instance: it is never called again.
//! Read [`Transform::process`] first, then `run`, `attempt` (one call) and `isolate` (finding the bad record).

use std::convert::Infallible;
use std::ops::Range;

use super::Error;
use super::call::CallBuilder;
use super::dead_letter::BadRecord;
use super::flow::{Flow, Keys, Lineage};
use super::head::Head;
use super::migration::Migrations;
use super::module::ModuleRef;
use super::outlet::{Outgoing, Outlet, Route};
use super::pace::{OnFault, Pace};
use crate::env::{Bug, bug};
use crate::log::header_bytes;
use crate::model::{Blobs, EventTime, Headers, murmur2};
use crate::state::{DueTimer, Gathered, TaskState};
use crate::wasm::contract::{Answer, Emitted, Guest, GuestError, Moment};
use crate::wasm::{Limits, Shape};

/// The code of a call that took too long.
const DEADLINE: &str = "deadline";

/// What a call works with besides its records.
pub struct CallContext<'a> {
    pub state: &'a mut TaskState,
    pub outlet: &'a mut Outlet,
    pub moment: Moment,
    pub pace: &'a Pace<'a>,
    /// Names of the task's sources and their topics, for dead letters.
    pub sources: &'a [(String, String)],
    /// Timers at or before this time are due: what a call sets there is part of a chain.
    pub due_to: EventTime,
    /// Timers that were set there, by name and key.
    pub chained: &'a mut Vec<DueTimer>,
}

/// What one call is cut to.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    pub max_records: usize,
    pub max_bytes: usize,
}

pub struct Transform {
    pub head: Head,
    module: ModuleRef,
    job: String,
    guest: Option<Box<dyn Guest>>,
    pub migrations: Migrations,
    builder: CallBuilder,
    gathered: Gathered,
    /// Records of a call, at most, so that what is gathered for them fits. Learnt from the last calls.
    records_fit: usize,
    state_bytes_max: usize,
}

/// The records or timers of a call.
#[derive(Clone)]
enum Work<'a> {
    Records(&'a Flow, Range<usize>),
    Timers(&'a [DueTimer], Range<usize>),
}

/// What came of one call.
enum Attempt {
    Taken,
    /// Nothing was taken: the work is too large for one call, and so much of it (at least one) may not be.
    TooLarge(usize),
    Fault(Fault),
}

/// Why a stretch of work has to be taken apart.
struct Fault {
    /// The position within the stretch that is known to be bad.
    at: Option<usize>,
    code: &'static str,
    message: String,
}

impl Transform {
    pub fn new(job: &str, id: &str, index: usize, module: ModuleRef, migrations: Migrations) -> Self {
        let description = module.description();
        let seed = u64::from(murmur2::hash(id.as_bytes())) << 32 | u64::from(murmur2::hash(job.as_bytes()));
        let builder = CallBuilder::new(description.keyed, description.needs, seed);
        Self {
            head: Head::new(id, index),
            job: job.to_owned(),
            guest: None,
            migrations,
            builder,
            gathered: Gathered::default(),
            records_fit: usize::MAX,
            state_bytes_max: usize::MAX,
            module,
        }
    }

    pub fn module(&self) -> &ModuleRef {
        &self.module
    }

    /// Hands over an instance that was opened beforehand.
    pub fn adopt(&mut self, guest: Box<dyn Guest>) {
        self.guest = Some(guest);
    }

    /// Positions of the outputs that lead anywhere.
    pub fn connected_outputs(routes: &[Vec<Route>]) -> Vec<u8> {
        (0..routes.len()).filter(|&o| !routes[o].is_empty()).map(|o| o as u8).collect()
    }

    /// Works through all of `flow`, in order.
    pub fn process(&mut self, flow: &Flow, limits: CallLimits, context: &mut CallContext<'_>) -> Result<(), Error> {
        self.state_bytes_max = limits.max_bytes;
        let mut start = 0;
        while start < flow.len() {
            let end = flow.cut(start, limits.max_records.min(self.records_fit), limits.max_bytes);
            self.run(Work::Records(flow, start..end), context)?;
            start = end;
        }
        Ok(())
    }

    /// Fires timers, in the order given: all, or the first few where that is too much for one call. True for the latter:
    /// most often since one of them sets or unsets what comes before the last.
    pub fn fire(&mut self, due: &[DueTimer], limits: CallLimits, context: &mut CallContext<'_>) -> Result<bool, Error> {
        self.state_bytes_max = limits.max_bytes;
        self.run(Work::Timers(due, 0..due.len()), context)
    }

    /// Runs the work in as few calls as its size and its faults allow. Parts run in order, each on what the ones before
    /// it left in the overlay. True where it was too large for one call.
    fn run(&mut self, work: Work<'_>, context: &mut CallContext<'_>) -> Result<bool, Error> {
        let isolates = context.pace.on_fault == OnFault::Isolate;
        let (mut waiting, mut cut) = (vec![Tried { work, before: false }], false);
        while let Some(Tried { work, before }) = waiting.pop() {
            context.pace.check(&self.head.id)?;
            let lone = work.len() == 1;
            if lone && isolates {
                // What came before may have left the instance in any state: it is not to count against this record.
                self.guest = None;
            }
            match self.attempt(&work, before, context)? {
                Attempt::Taken => {}
                Attempt::TooLarge(fits) => {
                    cut = true;
                    // The timers behind the first stay set, and are asked for again: what the first set may come before them.
                    if matches!(work, Work::Records(..)) {
                        waiting.push(Tried { work: work.part(fits, work.len()), before: false });
                    }
                    waiting.push(Tried { work: work.part(0, fits), before: false });
                }
                Attempt::Fault(fault) if !isolates => return Err(self.report(&work, fault)),
                // Another may have used the time, and it may have had less than a call can have.
                Attempt::Fault(fault) if lone && fault.code == DEADLINE && !before => {
                    waiting.push(Tried { work, before: true });
                }
                Attempt::Fault(fault) if lone => self.give_up(&work, &fault, context)?,
                Attempt::Fault(fault) => isolate(&work, fault.at, &mut waiting),
            }
        }
        Ok(cut)
    }

    fn report(&self, work: &Work<'_>, fault: Fault) -> Error {
        let at = fault.at.or((work.len() == 1).then_some(0)).and_then(|at| match work {
            Work::Records(flow, range) => Some(flow.lineage[range.start + at]),
            Work::Timers(..) => None,
        });
        Error::Faulted { operator: self.head.id.clone(), at, code: fault.code, message: fault.message }
    }

    /// One guest call; `whole` gives it all the time that the engine allows.
    fn attempt(&mut self, work: &Work<'_>, whole: bool, context: &mut CallContext<'_>) -> Result<Attempt, Error> {
        if let Some(fits) = self.gather(work, context)? {
            return Ok(Attempt::TooLarge(fits));
        }
        let mut guest = self.instance()?;
        guest.limit(&context.pace.call_time(whole));
        let moment = context.moment;
        let answer = match work {
            Work::Records(..) => guest.process(moment, &self.builder.records),
            Work::Timers(..) => guest.on_timer(moment, &self.builder.timers),
        };
        let answer = answer.and_then(|answer| answer.check(&self.shape(work)).map(|()| answer));
        match answer {
            Ok(answer) => {
                self.guest = Some(guest);
                self.take(work, &answer, context)
            }
            Err(error) => {
                if !error.is_fault() {
                    self.guest = Some(guest);
                }
                self.fault(work, error)
            }
        }
    }

    fn instance(&mut self) -> Result<Box<dyn Guest>, Error> {
        match self.guest.take() {
            Some(guest) => Ok(guest),
            None => self
                .module
                .instantiate(&self.job, &self.head.id, &Self::connected_outputs(&self.head.routes))
                .map_err(|error| Error::guest(&self.head.id, &self.module, error)),
        }
    }

    /// Builds the call's columns and brings the states of its keys to the version that the module reads. Where they are
    /// too large for one call, how much of the work is to be tried instead.
    fn gather(&mut self, work: &Work<'_>, context: &mut CallContext<'_>) -> Result<Option<usize>, Error> {
        let keyed = match work {
            Work::Records(flow, range) => {
                self.builder.records(flow, range.clone());
                &mut self.builder.records.keyed
            }
            Work::Timers(due, range) => {
                self.builder.timers(&due[range.clone()]);
                &mut self.builder.timers.keyed
            }
        };
        let declared = &self.module.description().states;
        if declared.is_empty() || keyed.keys.is_empty() {
            return Ok(None);
        }
        let fitting = context.state.gather(self.head.index, &keyed.keys, self.state_bytes_max, &mut self.gathered)?;
        if let Some(keys) = fitting.filter(|_| work.len() > 1) {
            let fits = (work.len() * keys / keyed.keys.len()).clamp(1, work.len() - 1);
            self.records_fit = fits;
            return Ok(Some(fits));
        }
        if work.len() >= self.records_fit && self.gathered.values.byte_len() < self.state_bytes_max / 4 {
            self.records_fit = self.records_fit.saturating_mul(2);
        }
        self.migrations
            .on_first_touch(&keyed.keys, &mut self.gathered, context.state)
            .map_err(|error| Error::guest(&self.head.id, &self.module, error))?;
        std::mem::swap(&mut keyed.values, &mut self.gathered.values);
        Ok(None)
    }

    fn shape(&self, work: &Work<'_>) -> Shape<'_> {
        let description = self.module.description();
        let limits = Limits::default();
        let shape = match work {
            Work::Records(..) => Shape::of_records(description, &self.builder.records, limits),
            Work::Timers(..) => Shape::of_timers(description, &self.builder.timers, limits),
        };
        Shape { keyed_outputs: &self.head.keyed_outputs, ..shape }
    }

    /// What an error of the guest means for the work: a fault to be isolated, less in one call, or the end of the epoch.
    fn fault(&mut self, work: &Work<'_>, error: GuestError) -> Result<Attempt, Error> {
        let (at, code) = match &error {
            GuestError::Trap { last_words, .. } => {
                let hint = last_words.as_ref().and_then(|words| words.record_index).map(|i| i as usize);
                (hint.filter(|&at| at < work.len()), "trap")
            }
            GuestError::Deadline { .. } => (None, DEADLINE),
            // It is the host that cut the call so large: no fault before it is of one record.
            GuestError::Memory { .. } | GuestError::TooMuch(_) if work.len() > 1 => {
                let fits = work.len() / 2;
                self.records_fit = fits;
                return Ok(Attempt::TooLarge(fits));
            }
            GuestError::Memory { .. } => (None, "memory"),
            GuestError::TooMuch(_) | GuestError::Answer(_) => (None, "wrong-answer"),
            GuestError::Interrupted => return Err(Error::Interrupted { operator: self.head.id.clone() }),
            _ => return Err(Error::guest(&self.head.id, &self.module, error)),
        };
        self.head.faults += 1;
        let message = match &error {
            GuestError::Trap { last_words: Some(words), .. } => format!("{error}: {}", words.message),
            _ => error.to_string(),
        };
        tracing::warn!(operator = %self.head.id, module = %self.module, records = work.len(), "guest call failed: {message}");
        Ok(Attempt::Fault(Fault { at, code, message }))
    }

    /// Takes a checked answer: first whether every output takes its records, then refusals, state,
    /// timers and emissions.
    fn take(&mut self, work: &Work<'_>, answer: &Answer, context: &mut CallContext<'_>) -> Result<Attempt, Error> {
        if let Some(first) = work.out_of_turn(answer, self.builder.timer_keys()) {
            return Ok(Attempt::TooLarge(first));
        }
        let accepted = for_each_outgoing(work, &answer.emitted, |place, record| {
            context.outlet.check(self.head.routes_of(place.output), record).map_err(|(code, message)| Fault {
                at: Some(place.origin),
                code,
                message,
            })
        });
        if let Err(fault) = accepted {
            if bug(Bug::KeepFailedState) {
                self.change_state(work, answer, context); // Breaks: a failed call has had no effect.
            }
            return Ok(Attempt::Fault(fault));
        }
        for refusal in &answer.refusals {
            self.refuse(work, refusal.record_index as usize, &refusal.code, &refusal.message, context)?;
        }
        self.change_state(work, answer, context);
        let outlet = &mut *context.outlet;
        let Ok(()) = for_each_outgoing(work, &answer.emitted, |place, record| {
            outlet.emit(self.head.routes_of(place.output), record);
            Ok::<(), Infallible>(())
        });
        Ok(Attempt::Taken)
    }

    fn change_state(&self, work: &Work<'_>, answer: &Answer, context: &mut CallContext<'_>) {
        let keys = match work {
            Work::Records(..) => &self.builder.records.keyed.keys,
            Work::Timers(..) => &self.builder.timers.keyed.keys,
        };
        work.unset_timers(self.head.index, context.state);
        let declared = &self.module.description().states;
        let writes = &answer.writes;
        for (i, (&state, &slot)) in writes.states.iter().zip(&writes.slots).enumerate() {
            let cleared = writes.ops.get(i) == Some(&1);
            let value = if cleared { None } else { writes.values.get(i) };
            let version = declared[state as usize].version;
            context.state.put(self.head.index, state, keys.bytes(slot as usize), version, value);
        }
        let timers = &answer.timers;
        for (i, (&timer, &slot)) in timers.timers.iter().zip(&timers.slots).enumerate() {
            let (key, time) = (keys.bytes(slot as usize), timers.times[i]);
            if timers.ops.get(i) == Some(&0) {
                context.state.unset_timer(self.head.index, timer, key, time);
            } else {
                context.state.set_timer(self.head.index, timer, key, time);
                if time <= context.due_to && matches!(work, Work::Timers(..)) {
                    context.chained.push(DueTimer { time, timer, key: key.into() });
                }
            }
        }
    }

    /// A single record or timer that cannot be processed: it leaves by the side.
    fn give_up(&self, work: &Work<'_>, fault: &Fault, context: &mut CallContext<'_>) -> Result<(), Error> {
        work.unset_timers(self.head.index, context.state);
        self.refuse(work, 0, fault.code, &fault.message, context)
    }

    fn refuse(
        &self,
        work: &Work<'_>,
        at: usize,
        code: &str,
        message: &str,
        context: &mut CallContext<'_>,
    ) -> Result<(), Error> {
        let none = Headers::default();
        let description = self.module.description();
        let watermark = context.moment.watermark;
        let bad = match work {
            Work::Records(flow, range) => {
                let i = range.start + at;
                let lineage = flow.lineage[i];
                let source = lineage.source.map(|source| &context.sources[source as usize]);
                BadRecord {
                    operator: &self.head.id,
                    input: description.inputs.get(flow.inputs[i] as usize).map_or("", String::as_str),
                    is_timer: false,
                    source: source.map(|(id, _)| id.as_str()),
                    topic: source.map(|(_, topic)| topic.as_str()),
                    key: flow.keys_of(i).record,
                    value: flow.values.get(i),
                    headers: (&flow.headers, i),
                    event_time: Some(flow.event_times[i]),
                    lineage,
                    module: Some(self.module.digest),
                    watermark,
                    code,
                    message,
                }
            }
            Work::Timers(due, range) => {
                let timer = &due[range.start + at];
                BadRecord {
                    operator: &self.head.id,
                    input: description.timers.get(timer.timer as usize).map_or("", |timer| &timer.name),
                    is_timer: true,
                    source: None,
                    topic: None,
                    key: Some(&timer.key),
                    value: None,
                    headers: (&none, 0),
                    event_time: Some(timer.time),
                    lineage: Lineage::timer(timer.time),
                    module: Some(self.module.digest),
                    watermark,
                    code,
                    message,
                }
            }
        };
        context.outlet.bad.take(&bad).map_err(Error::BadRecord)
    }
}

impl Work<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Records(_, range) | Self::Timers(_, range) => range.len(),
        }
    }

    /// The part `from..to` of this work.
    fn part(&self, from: usize, to: usize) -> Self {
        match self {
            Self::Records(flow, range) => Self::Records(flow, range.start + from..range.start + to),
            Self::Timers(due, range) => Self::Timers(due, range.start + from..range.start + to),
        }
    }

    /// Timers of several times in one call: that the answer sets or unsets none of them at or before the last, which
    /// would have come in between. Else how many stand first, at one time.
    fn out_of_turn(&self, answer: &Answer, keys: &Blobs) -> Option<usize> {
        let Self::Timers(due, range) = self else { return None };
        let due = &due[range.clone()];
        let (first, last) = (due.first()?, due.last()?);
        let at_once = due.partition_point(|timer| (timer.time, timer.timer) == (first.time, first.timer));
        if at_once == due.len() {
            return None;
        }
        let timers = &answer.timers;
        let before_last = |(i, &time): (usize, &EventTime)| {
            let key = keys.bytes(timers.slots[i] as usize);
            (time, timers.timers[i], key) <= (last.time, last.timer, &*last.key)
        };
        timers.times.iter().enumerate().any(before_last).then_some(at_once)
    }

    /// A timer that was handed to the guest is spent, whatever became of it; done before the answer's
    /// own timers, so that it may set the same one again.
    fn unset_timers(&self, operator: usize, state: &mut TaskState) {
        if let Self::Timers(due, range) = self {
            due[range.clone()].iter().for_each(|t| state.unset_timer(operator, t.timer, &t.key, t.time));
        }
    }
}

/// Work that waits, and whether it was tried by itself before.
struct Tried<'a> {
    work: Work<'a>,
    before: bool,
}

/// Puts the parts of faulty work back so that they run in order: around the record that is known to
/// be bad, else in halves.
fn isolate<'a>(work: &Work<'a>, at: Option<usize>, waiting: &mut Vec<Tried<'a>>) {
    let cuts = match at {
        Some(at) => vec![0, at, at + 1, work.len()],
        None => vec![0, work.len() / 2, work.len()],
    };
    for cut in cuts.windows(2).rev().filter(|cut| cut[0] < cut[1]) {
        waiting.push(Tried { work: work.part(cut[0], cut[1]), before: false });
    }
}

/// Which output a record goes to, and which of the call's records it comes from.
struct Place {
    output: u8,
    origin: usize,
}

/// Goes through the emissions in order, everything that was left out filled in from the origin.
fn for_each_outgoing<E>(
    work: &Work<'_>,
    emitted: &Emitted,
    mut visit: impl FnMut(Place, &Outgoing<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let none = Headers::default();
    let mut emitted_by = vec![0_u64; work.len()];
    for (i, &origin) in emitted.origins.iter().enumerate() {
        let origin = origin as usize;
        let number = emitted_by[origin];
        emitted_by[origin] += 1;
        let (own, value, event_time, own_headers, lineage) = match work {
            Work::Records(flow, range) => {
                let at = range.start + origin;
                let headers = (&flow.headers, at);
                (flow.keys_of(at), flow.values.get(at), flow.event_times[at], headers, flow.lineage[at])
            }
            Work::Timers(due, range) => {
                let timer = &due[range.start + origin];
                (Keys::same(Some(&timer.key)), None, timer.time, (&none, 0), Lineage::timer(timer.time))
            }
        };
        let headers_of = emitted.headers.as_ref().map_or(own_headers, |headers| (headers, i));
        let header_bytes = headers_of.0.of(headers_of.1).map(|(n, v)| header_bytes(n, v)).sum();
        let record = Outgoing {
            // A key that is the origin's counts as left out: whether it is written down may hang on the cut of the call.
            keys: match emitted.keys.as_ref().map(|keys| keys.get(i)) {
                Some(stated) if stated != own.record => Keys::same(stated),
                _ => own,
            },
            value: emitted.values.as_ref().map_or(value, |values| values.get(i)),
            headers_of,
            header_bytes,
            event_time: emitted.event_times.get(i).copied().unwrap_or(event_time),
            partition: emitted.partitions.get(i).copied().unwrap_or(-1),
            lineage: lineage.emitted(number),
        };
        visit(Place { output: emitted.outputs.get(i).copied().unwrap_or(0), origin }, &record)?;
    }
    Ok(())
}
