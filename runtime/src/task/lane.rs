//! A batch's way through a task: decode, event time, operators, state.
//!
//! Owns what user code and event time have done since the last commit, all of it in memory. Knows no log, no epoch and no
//! commit: batches are handed to it, what the operators emit waits in the chain's outlet, and what they change in the
//! overlay. So another lane can be given the same batch, and what it does can be compared or thrown away.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::plan::TaskPlan;
use super::rules::rules;
use super::smaller_steps::Condemned;
use crate::codec::{self, Decoded, Spread};
use crate::env::failpoint;
use crate::model::{BEFORE_ALL_TIME, Digest, EventTime, PartitionBatch};
use crate::operator::Error;
use crate::operator::chain::{Chain, Fired};
use crate::operator::pace::Pace;
use crate::state::{NextTimer, TaskState};
use crate::wasm::contract::{Description, Moment};
use crate::watermark::TaskWatermark;

pub(super) struct Lane {
    pub chain: Chain,
    pub state: TaskState,
    /// How far each input has come.
    pub watermark: TaskWatermark,
    /// How far the operators' event time has come.
    pub emitted_watermark: EventTime,
    /// The highest processing time that operators were shown; a clock that is set back does not take it back.
    pub shown_time: EventTime,
    /// The batch that was decoded last.
    pub decoded: Decoded,
    pub firing: Firing,
}

/// Event time on its way to where it has been seen to go: timers are due first.
#[derive(Default)]
pub(super) struct Firing {
    pub up_to: Option<EventTime>,
    /// Timers of one call, where a call of more has failed.
    limit: Option<usize>,
}

/// What a stretch of records said of event time.
pub(super) struct Seen {
    pub newest: Option<EventTime>,
    /// Behind the watermark that operators have been shown.
    pub late: u64,
}

impl Lane {
    /// Takes a batch of a source apart: values checked, keys and event times found. A record whose output the log has
    /// refused is among the bad ones.
    pub fn decode(&mut self, plan: &TaskPlan, source: usize, batch: &PartitionBatch, now: EventTime) {
        let of = &plan.sources[source];
        let spread = Spread { partitions: of.topic.partitions, tasks: plan.parallelism };
        of.codec.decode(batch, self.shown_time.max(now), of.keyed.then_some(spread), &mut self.decoded);
    }

    pub fn condemn(&mut self, batch: &PartitionBatch, condemned: &Condemned) {
        if let Ok(index) = batch.offsets.binary_search(&condemned.offset) {
            self.decoded.refuse(index as u32, codec::code::OUTPUT_REFUSED, condemned.why.clone());
        }
    }

    /// Takes a stretch of the decoded batch through the operators. After an error nothing of it is left.
    pub fn process(
        &mut self,
        source: usize,
        batch: &PartitionBatch,
        range: Range<usize>,
        now: EventTime,
        pace: &Pace<'_>,
    ) -> Result<(), Error> {
        let moment = self.moment(now);
        self.mark();
        let fed = self.chain.feed(source, batch, &self.decoded, range, moment);
        let processed = fed.and_then(|()| self.chain.process(&mut self.state, moment, pace));
        failpoint("batch-processed");
        processed.inspect_err(|_| self.take_back())
    }

    /// Event time sees a stretch of the decoded batch, which has been processed.
    pub fn observe(&mut self, input: usize, range: Range<usize>, elapsed: Duration) -> Seen {
        let times = &self.decoded.event_times[self.decoded.kept_within(range)];
        self.watermark.observe(input, times, elapsed);
        let is_late = |time: &&EventTime| self.emitted_watermark != BEFORE_ALL_TIME && **time <= self.emitted_watermark;
        Seen { newest: times.iter().copied().max(), late: times.iter().filter(is_late).count() as u64 }
    }

    /// Where event time may go now: where it was going, or as far as the inputs have come.
    pub fn time_to_reach(&mut self, elapsed: Duration, caught_up: impl FnMut(usize) -> bool) -> EventTime {
        match self.firing.up_to {
            Some(up_to) => up_to,
            None => self.watermark.advance(elapsed, caught_up).max(self.emitted_watermark),
        }
    }

    /// A timer is due before event time has come to `up_to`, as far as can be said.
    pub fn has_due(&mut self, up_to: EventTime) -> Result<bool, Error> {
        Ok(match self.chain.next_timer(&mut self.state)? {
            NextTimer::NotYet => true,
            NextTimer::At(time) => time <= up_to,
            NextTimer::Never => false,
        })
    }

    /// One call of timers, with what they lead to. After an error nothing of it is left.
    pub fn fire(&mut self, up_to: EventTime, limit: usize, now: EventTime, pace: &Pace<'_>) -> Result<Fired, Error> {
        let moment = self.moment(now);
        self.mark();
        let fired = self.chain.fire_next(&mut self.state, up_to, limit, moment, pace);
        fired.inspect_err(|_| self.take_back())
    }

    /// No timer at or before it is left.
    pub fn time_passed(&mut self, up_to: EventTime) {
        self.firing = Firing::default();
        self.emitted_watermark = up_to;
    }

    /// No watermark is beyond `to` from here on. Where event time was on its way to, it no longer goes.
    pub fn take_time_back(&mut self, to: EventTime) {
        self.firing = Firing::default();
        self.chain.give_up_advance();
        self.watermark.take_back(to);
        self.emitted_watermark = self.emitted_watermark.min(to);
    }

    /// The modules that run, operator by operator.
    pub fn digests(&self) -> Vec<Digest> {
        self.chain.operators.iter().filter_map(|operator| Some(operator.module()?.digest)).collect()
    }

    /// Per operator its inputs, outputs, states and timers, as they are now.
    pub fn descriptions(&self) -> Vec<Arc<Description>> {
        self.chain.operators.iter().map(|operator| Arc::clone(operator.description())).collect()
    }

    fn moment(&mut self, now: EventTime) -> Moment {
        self.shown_time = self.shown_time.max(now);
        Moment { watermark: self.emitted_watermark, now: self.shown_time }
    }

    /// What operators do from here on can be taken back.
    fn mark(&mut self) {
        self.state.mark();
        self.chain.mark();
    }

    fn take_back(&mut self) {
        self.state.undo();
        if rules().failed_batches_emit_nothing {
            self.chain.take_back();
        }
    }
}

impl Firing {
    /// Timers of the next call, of `most` where none has failed; whether they are taken apart.
    pub fn limit(&self, most: usize) -> (usize, bool) {
        (self.limit.unwrap_or(most), self.limit.is_some())
    }

    /// A call went well: the next may be twice as large.
    pub fn went_well(&mut self, most: usize) {
        self.limit = self.limit.map(|limit| limit * 2).filter(|&limit| limit < most);
    }

    /// A call failed in one of its timers: half as many are tried next.
    pub fn failed(&mut self, most: usize) {
        self.limit = Some((self.limit.unwrap_or(most) / 2).max(1));
    }

    /// A call was interrupted: it is made again in an epoch of its own.
    pub fn interrupted(&mut self, most: usize) {
        self.limit = Some(self.limit.unwrap_or(most));
    }
}
