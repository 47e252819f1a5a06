//! The operators of one task, in order, with nothing between them but inboxes.
//!
//! Owns the transforms and where records wait for them. The order is the same for every size of a
//! call: all records of a batch go through all operators; then the watermark advances and timers
//! fire, operator by operator, each operator seeing what the timers before it emitted.

use super::Error;
use super::bad_record::BadRecord;
use super::flow::{Keys, Lineage};
use super::outlet::{Outgoing, Outlet, Route};
use super::transform::{CallContext, CallLimits, Transform};
use crate::codec::Decoded;
use crate::log::header_bytes;
use crate::model::{EventTime, PartitionBatch};
use crate::state::{DueTimer, TaskState};
use crate::wasm::contract::Moment;

/// A timer that sets itself again at its own time would fire for ever: so often it may, in one advance.
const MAX_REPEATS: u32 = 10_000;

pub struct Chain {
    pub transforms: Vec<Transform>,
    pub outlet: Outlet,
    /// Per source where its records go.
    source_routes: Vec<Vec<Route>>,
    /// Per source its id and topic.
    sources: Vec<(String, String)>,
    limits: CallLimits,
    timer_batch: usize,
    due: Vec<DueTimer>,
    repeats: Repeats,
}

/// The timer that stood first in the last rounds, and for how many.
#[derive(Default)]
struct Repeats {
    first: Option<(usize, EventTime, Box<[u8]>)>,
    count: u32,
}

impl Chain {
    pub fn new(
        transforms: Vec<Transform>,
        outlet: Outlet,
        source_routes: Vec<Vec<Route>>,
        sources: Vec<(String, String)>,
        limits: CallLimits,
        timer_batch: usize,
    ) -> Self {
        let (due, repeats) = (Vec::new(), Repeats::default());
        Self { transforms, outlet, source_routes, sources, limits, timer_batch, due, repeats }
    }

    /// Puts the decoded records of one source before the operators that it feeds, and what could not
    /// be decoded before the bad-record policy.
    pub fn feed(
        &mut self,
        source: usize,
        batch: &PartitionBatch,
        decoded: &Decoded,
        moment: Moment,
    ) -> Result<(), Error> {
        let Self { outlet, source_routes, sources, .. } = self;
        outlet.now_ms = moment.now.div_euclid(1_000_000);
        for reject in &decoded.rejects {
            let i = reject.index as usize;
            let bad = bad_record(&sources[source], (source, batch, i), moment, (reject.code, &reject.message));
            outlet.bad.take(&bad).map_err(Error::BadRecord)?;
        }
        let to_sinks = source_routes[source].iter().any(|route| matches!(route, Route::Sink(_)));
        for (position, &i) in decoded.kept.iter().enumerate() {
            let i = i as usize;
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
    pub fn process(&mut self, state: &mut TaskState, moment: Moment) -> Result<(), Error> {
        self.outlet.now_ms = moment.now.div_euclid(1_000_000);
        for k in 0..self.transforms.len() {
            if self.outlet.inboxes[k].is_empty() {
                continue;
            }
            let mut flow = std::mem::take(&mut self.outlet.inboxes[k]);
            let mut context =
                CallContext { state: &mut *state, outlet: &mut self.outlet, moment, sources: &self.sources };
            let result = self.transforms[k].process(&flow, self.limits, &mut context);
            flow.clear();
            self.outlet.inboxes[k] = flow;
            result?;
        }
        Ok(())
    }

    /// Fires a bounded number of the timers that are due at `up_to` and sends on what they emit.
    /// False when none is left: only then has the watermark passed.
    pub fn fire_next(&mut self, state: &mut TaskState, up_to: EventTime, moment: Moment) -> Result<bool, Error> {
        self.outlet.now_ms = moment.now.div_euclid(1_000_000);
        for k in 0..self.transforms.len() {
            self.due.clear();
            state.due_timers(k, up_to, self.timer_batch, &mut self.due)?;
            if self.due.is_empty() {
                continue;
            }
            // One timer and one time a call: what one of them sets in between must come before the next.
            let (time, timer) = (self.due[0].time, self.due[0].timer);
            self.due.truncate(self.due.partition_point(|due| (due.time, due.timer) == (time, timer)));
            self.repeats.check(k, &self.due[0], &self.transforms[k].id)?;
            let mut context =
                CallContext { state: &mut *state, outlet: &mut self.outlet, moment, sources: &self.sources };
            self.transforms[k].fire(&self.due, &mut context)?;
            self.process(state, moment)?;
            return Ok(true);
        }
        self.repeats = Repeats::default();
        Ok(false)
    }

    pub fn reroute_sources(&mut self, source_routes: Vec<Vec<Route>>) {
        self.source_routes = source_routes;
    }

    /// The earliest timer of all operators.
    pub fn next_timer(&self, state: &mut TaskState) -> Result<Option<EventTime>, Error> {
        let mut earliest = None;
        for k in 0..self.transforms.len() {
            let next = state.next_timer(k)?;
            earliest = [earliest, next].into_iter().flatten().min();
        }
        Ok(earliest)
    }

    /// Forgets everything that waits: the epoch is dropped.
    pub fn clear(&mut self) {
        self.outlet.clear();
    }

    /// Values of an older schema version may be left.
    pub fn is_migrating(&self) -> bool {
        self.transforms.iter().any(|transform| transform.migrations.pending())
    }

    pub fn faults(&self) -> u64 {
        self.transforms.iter().map(|transform| transform.faults).sum()
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
