//! The operators of one task, in order, with nothing between them but inboxes.
//!
//! Owns the operators and where records wait for them. The order is the same for every size of a
//! call: all records of a batch go through all operators; then the watermark advances and timers
//! fire, operator by operator, each operator seeing what the timers before it emitted.

use std::collections::HashMap;
use std::ops::Range;

use super::Error;
use super::dead_letter::BadRecord;
use super::flow::{Keys, Lineage};
use super::kind::Operator;
use super::outlet::{Outgoing, Outlet, Route};
use super::pace::Pace;
use super::transform::{CallContext, CallLimits};
use crate::codec::Decoded;
use crate::log::header_bytes;
use crate::model::{BEFORE_ALL_TIME, EventTime, PartitionBatch};
use crate::state::{DueTimer, NextTimer, TaskState};
use crate::wasm::contract::Moment;

/// A timer that sets itself again at its own time would fire for ever: so often it may, in one advance.
const MAX_REPEATS: u32 = 10_000;
/// Timers of one key that set each other, all of them due, in one advance: a step of a microsecond over a minute would
/// fire sixty million times. A step of a minute over a year is half a million.
const MAX_CHAINED: u32 = 1_000_000;

pub struct Chain {
    pub operators: Vec<Operator>,
    pub outlet: Outlet,
    /// Per source where its records go.
    source_routes: Vec<Vec<Route>>,
    /// Per source its id and topic.
    sources: Vec<(String, String)>,
    limits: CallLimits,
    timer_batch: usize,
    due: Vec<DueTimer>,
    advance: Advance,
}

/// What came of firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    Some,
    NoneLeft,
    /// Timers cannot be read yet: ask again.
    NotYet,
}

/// What is remembered until event time has passed all timers that are due.
#[derive(Default)]
struct Advance {
    repeats: Repeats,
    /// Timers are fired one time after the other: some of them set others in between.
    apart: bool,
    /// Per operator, timer and key how many were set while they were due.
    chained: HashMap<(usize, u8, Box<[u8]>), u32>,
}

/// The timer that stood first in the last rounds, and for how many.
#[derive(Default)]
struct Repeats {
    first: Option<(usize, EventTime, Box<[u8]>)>,
    count: u32,
}

impl Chain {
    pub fn new(
        operators: Vec<Operator>,
        outlet: Outlet,
        source_routes: Vec<Vec<Route>>,
        sources: Vec<(String, String)>,
        limits: CallLimits,
        timer_batch: usize,
    ) -> Self {
        let (due, advance) = (Vec::new(), Advance::default());
        Self { operators, outlet, source_routes, sources, limits, timer_batch, due, advance }
    }

    /// Puts the decoded records of one source before the operators that it feeds, and what could not
    /// be decoded before the bad-record policy: of those at these positions of the batch.
    pub fn feed(
        &mut self,
        source: usize,
        batch: &PartitionBatch,
        decoded: &Decoded,
        range: Range<usize>,
        moment: Moment,
    ) -> Result<(), Error> {
        let Self { outlet, source_routes, sources, .. } = self;
        outlet.now_ms = moment.now.div_euclid(1_000_000);
        for reject in decoded.rejects.iter().filter(|reject| range.contains(&(reject.index as usize))) {
            let i = reject.index as usize;
            let bad = bad_record(&sources[source], (source, batch, i), moment, (reject.code, &reject.message));
            outlet.bad.take(&bad).map_err(Error::BadRecord)?;
        }
        let to_sinks = source_routes[source].iter().any(|route| matches!(route, Route::Sink(_)));
        for position in decoded.kept_within(range) {
            let i = decoded.kept[position] as usize;
            let record = Outgoing {
                keys: Keys {
                    operator: decoded.keys.as_ref().map_or_else(|| batch.keys.get(i), |keys| keys.get(position)),
                    record: batch.keys.get(i),
                },
                value: batch.values.get(i),
                headers_of: (&batch.headers, i),
                header_bytes: batch.headers.of(i).map(|(name, value)| header_bytes(name, value)).sum(),
                event_time: decoded.event_times[position],
                partition: -1,
                lineage: Lineage::source_record(source, batch.partition, batch.offsets[i]),
            };
            // An operator behind the source checks what it emits; what goes to a sink as it is has nobody else.
            if to_sinks && let Err((code, message)) = outlet.check(&source_routes[source], &record) {
                let bad = bad_record(&sources[source], (source, batch, i), moment, (code, &message));
                let bad = BadRecord { event_time: Some(record.event_time), ..bad };
                outlet.bad.take(&bad).map_err(Error::BadRecord)?;
                continue;
            }
            outlet.emit(&source_routes[source], &record);
        }
        Ok(())
    }

    /// Works through everything that waits, operator by operator.
    pub fn process(&mut self, state: &mut TaskState, moment: Moment, pace: &Pace<'_>) -> Result<(), Error> {
        self.outlet.now_ms = moment.now.div_euclid(1_000_000);
        let mut none = Vec::new();
        for k in 0..self.operators.len() {
            if self.outlet.inboxes[k].is_empty() {
                continue;
            }
            let mut flow = std::mem::take(&mut self.outlet.inboxes[k]);
            let mut context = CallContext {
                state: &mut *state,
                outlet: &mut self.outlet,
                moment,
                pace,
                sources: &self.sources,
                due_to: BEFORE_ALL_TIME,
                chained: &mut none,
            };
            let result = self.operators[k].process(&flow, self.limits, &mut context);
            flow.clear();
            self.outlet.inboxes[k] = flow;
            result?;
        }
        Ok(())
    }

    /// Fires some of the timers that are due at `up_to`, at most `limit` of them, and sends on what they emit. Only when none
    /// is left has the watermark passed.
    pub fn fire_next(
        &mut self,
        state: &mut TaskState,
        up_to: EventTime,
        limit: usize,
        moment: Moment,
        pace: &Pace<'_>,
    ) -> Result<Fired, Error> {
        self.outlet.now_ms = moment.now.div_euclid(1_000_000);
        for k in 0..self.operators.len() {
            self.due.clear();
            // One time a call where they set each other: what one of them sets in between must come before the next.
            let limit = limit.min(self.timer_batch);
            if !state.due_timers(k, up_to, limit, self.advance.apart, &mut self.due)? {
                return Ok(Fired::NotYet);
            }
            if self.due.is_empty() {
                continue;
            }
            self.advance.repeats.check(k, &self.due[0], &self.operators[k].head().id)?;
            let mut chained = Vec::new();
            let mut context = CallContext {
                state: &mut *state,
                outlet: &mut self.outlet,
                moment,
                pace,
                sources: &self.sources,
                due_to: up_to,
                chained: &mut chained,
            };
            self.advance.apart |= self.operators[k].fire(&self.due, self.limits, &mut context)?;
            for timer in chained {
                self.advance.count(k, timer, &self.operators[k].head().id)?;
            }
            self.process(state, moment, pace)?;
            return Ok(Fired::Some);
        }
        self.advance = Advance::default();
        Ok(Fired::NoneLeft)
    }

    pub fn reroute_sources(&mut self, source_routes: Vec<Vec<Route>>) {
        self.source_routes = source_routes;
    }

    /// Event time no longer goes where it was on its way to: what was remembered until it had come there is forgotten.
    pub fn give_up_advance(&mut self) {
        self.advance = Advance::default();
    }

    /// The earliest timer of all operators.
    pub fn next_timer(&self, state: &mut TaskState) -> Result<NextTimer, Error> {
        let mut earliest = NextTimer::Never;
        for k in 0..self.operators.len() {
            earliest = earliest.min(state.next_timer(k)?);
        }
        Ok(earliest)
    }

    /// What comes from here on can be taken back.
    pub fn mark(&mut self) {
        self.outlet.bad.mark();
    }

    /// Takes back what came since the mark and has not been emitted.
    pub fn take_back(&mut self) {
        self.outlet.clear();
    }

    /// Values of an older schema version may be left.
    pub fn is_migrating(&self) -> bool {
        self.operators.iter().any(Operator::is_migrating)
    }

    pub fn faults(&self) -> u64 {
        self.operators.iter().map(|operator| operator.head().faults).sum()
    }
}

/// Record `i` of a source's batch as a bad one; `named` is the source's id and topic.
fn bad_record<'a>(
    named: &'a (String, String),
    (source, batch, i): (usize, &'a PartitionBatch, usize),
    moment: Moment,
    (code, message): (&'a str, &'a str),
) -> BadRecord<'a> {
    let (id, topic) = named;
    BadRecord {
        operator: id,
        input: id,
        is_timer: false,
        source: Some(id),
        topic: Some(topic),
        key: batch.keys.get(i),
        value: batch.values.get(i),
        headers: (&batch.headers, i),
        event_time: None,
        lineage: Lineage::source_record(source, batch.partition, batch.offsets[i]),
        module: None,
        watermark: moment.watermark,
        code,
        message,
    }
}

impl Advance {
    fn count(&mut self, operator: usize, timer: DueTimer, id: &str) -> Result<(), Error> {
        let DueTimer { time, timer, key } = timer;
        let count = self.chained.entry((operator, timer, key.clone())).or_default();
        *count += 1;
        if *count < MAX_CHAINED {
            return Ok(());
        }
        let key = String::from_utf8_lossy(&key).into_owned();
        Err(Error::TimerChain { operator: id.to_owned(), key, time, times: MAX_CHAINED })
    }
}

impl Repeats {
    fn check(&mut self, operator: usize, first: &DueTimer, id: &str) -> Result<(), Error> {
        let same = self
            .first
            .as_ref()
            .is_some_and(|(k, time, key)| *k == operator && *time == first.time && key[..] == first.key[..]);
        if !same {
            *self = Self { first: Some((operator, first.time, first.key.as_ref().into())), count: 0 };
            return Ok(());
        }
        self.count += 1;
        if self.count < MAX_REPEATS {
            return Ok(());
        }
        let key = String::from_utf8_lossy(&first.key).into_owned();
        let time = first.time;
        Err(Error::TimerLoop { operator: id.to_owned(), key, time, times: MAX_REPEATS })
    }
}
