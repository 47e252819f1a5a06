//! A session: one ownership of a task, from its recovery to its end. The straight loop.
//!
//! poll → decode → watermark → operators → state → emit → commit, in [`Session::step`]; the commit is in `commit`.
//! Owns everything that belongs to the open epoch. Compares the task to its target between two steps, and no step takes
//! long: due timers fire for a turn at a time, and a batch that a guest fails in is taken apart over many steps. After
//! any error the whole session is dropped and with it the overlay; nothing is repaired in place.

use std::ops::Range;
use std::time::Duration;

use super::context::TaskContext;
use super::handle::Phase;
use super::inputs::{self, Inputs};
use super::isolation::Isolation;
use super::outlets::Outlets;
use super::plan::TaskPlan;
use super::swap::Swaps;
use super::{Error, changelog};
use crate::checkpoint::{Header, HeaderKind};
use crate::codec::{self, Decoded, Spread};
use crate::env::{Bug, bug, failpoint};
use crate::log::{Budget, Reader, Writer};
use crate::model::{BEFORE_ALL_TIME, Digest, EventTime, NextOffset, PartitionBatch, PartitionId, Uid};
use crate::operator;
use crate::operator::chain::Chain;
use crate::operator::pace::{OnFault, Pace};
use crate::state::TaskState;
use crate::wasm::contract::{Interrupt, Moment};
use crate::watermark::TaskWatermark;

/// What nobody wakes a task for: that a trial has ended.
const TRIAL_LOOK: Duration = Duration::from_millis(20);
/// Due timers fire so long before the task looks up again. Also the time in which work that has begun is not disturbed.
const TURN: Duration = Duration::from_millis(20);
/// Often enough for whoever looks at it.
const LAG_EVERY: Duration = Duration::from_millis(250);

pub(super) enum Ended {
    Stopped,
}

/// The last committed header and what the next one repeats of it.
pub(super) struct Head {
    pub header: Header,
    pub hash: [u8; 32],
    /// Where it stands in the changelog.
    pub offset: i64,
}

/// What the open epoch has done so far.
#[derive(Default)]
pub(super) struct OpenEpoch {
    pub opened: Duration,
    /// Input records; timers are none.
    pub records: u64,
    pub newest: Option<EventTime>,
    /// Source, partition and offset of its first input record.
    pub first: Option<(usize, PartitionId, i64)>,
    pub writing: bool,
    pub emitted: u64,
    pub late: u64,
    /// The reset of event time that it makes.
    pub time_reset: Option<u64>,
}

/// The batch that was polled last, and how far it has been worked through.
#[derive(Default)]
pub(super) struct Intake {
    pub batch: PartitionBatch,
    pub decoded: Decoded,
    /// Which input it is of, and of which source.
    input: usize,
    source: usize,
    /// Where it is taken apart.
    isolation: Option<Isolation>,
}

/// Event time on its way to where it has been seen to go: timers are due first.
#[derive(Default)]
pub(super) struct Firing {
    up_to: Option<EventTime>,
    /// Timers of one call, where they are taken apart.
    limit: Option<usize>,
}

pub(super) struct Session<'a> {
    pub context: &'a TaskContext,
    /// Random per takeover.
    pub owner: Uid,
    pub reader: Box<dyn Reader>,
    /// None while the task is idle: an open one costs the cluster and this process alike.
    pub writer: Option<Box<dyn Writer>>,
    pub outlets: Outlets,
    pub state: TaskState,
    pub chain: Chain,
    pub watermark: TaskWatermark,
    pub inputs: Inputs,
    /// How far the operators' event time has come.
    pub emitted_watermark: EventTime,
    /// The highest processing time that operators were shown; a clock that is set back does not take it back.
    pub shown_time: EventTime,
    pub head: Head,
    pub epoch: OpenEpoch,
    pub swaps: Swaps,
    /// Looks at its target and does nothing else, until another version is swapped in.
    pub hold: bool,
    /// The generation of the target that was looked at last.
    pub heard: u64,
    pub intake: Intake,
    pub firing: Firing,
    pub lag_asked: Option<Duration>,
    /// Faults of guests that have been counted.
    pub faults_shown: u64,
}

impl Session<'_> {
    pub fn plan(&self) -> &TaskPlan {
        &self.context.plan
    }

    pub fn run(&mut self) -> Result<Ended, Error> {
        loop {
            if let Some(ended) = self.turn()? {
                return Ok(ended);
            }
            if self.hold {
                self.context.target.wait(self.heard, TRIAL_LOOK);
            }
        }
    }

    /// A look at the target, and a step where the task is not held.
    pub(super) fn turn(&mut self) -> Result<Option<Ended>, Error> {
        if let Some(ended) = self.obey().map_err(|error| self.after_refusal(error))? {
            return Ok(Some(ended));
        }
        if !self.hold {
            let stepped = self.step();
            self.show_faults();
            stepped.map_err(|error| self.after_refusal(error))?;
        }
        Ok(None)
    }

    /// Compares the task to what it is to be.
    fn obey(&mut self) -> Result<Option<Ended>, Error> {
        let generation = self.context.target.generation();
        if generation == self.heard && !self.swaps.has_news() {
            return Ok(None);
        }
        self.heard = generation;
        let target = self.context.target.get();
        if target.stop {
            if !self.hold {
                self.skip_gaps();
                if !self.is_unchanged() || self.inputs.moved_over_gaps() {
                    self.commit(HeaderKind::Epoch)?;
                }
                failpoint("stop-committed");
                self.state.flush()?;
                failpoint("stop-flushed");
            }
            return Ok(Some(Ended::Stopped));
        }
        if let Some(reset) = target.time_reset {
            self.reset_time(reset)?;
        }
        self.follow(&target)?;
        Ok(None)
    }

    /// A record's way. One batch, a part of one, or a turn of timers.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        let worked = if self.intake.isolation.is_some() {
            self.work_on_part()?;
            true
        } else if self.firing.up_to.is_some() {
            true
        } else {
            self.read()?
        };
        // Parts of a batch see the watermark that the whole would have seen.
        if self.intake.isolation.is_none() {
            self.advance()?;
        }
        self.emit()?;
        if worked {
            self.show_progress();
        }
        if self.due() {
            self.commit(HeaderKind::Epoch)?;
        }
        self.sweep(!worked)
    }

    /// Polls a batch and takes it through the operators. False where there was none.
    fn read(&mut self) -> Result<bool, Error> {
        let (budget, wait) = (self.budget(), self.wait());
        let intake = &mut self.intake;
        if !self.reader.poll(budget, wait, &mut intake.batch).map_err(inputs::explain)? {
            self.skip_gaps();
            self.watch_lag();
            self.rest();
            return Ok(false);
        }
        (intake.input, intake.source) = self.inputs.find(&self.context.plan, &intake.batch)?;
        let plan = &self.context.plan.sources[intake.source];
        let spread = Spread { partitions: plan.topic.partitions, tasks: self.context.plan.parallelism };
        let read_at = self.shown_time.max(self.context.clock.now());
        plan.codec.decode(&intake.batch, read_at, plan.keyed.then_some(spread), &mut intake.decoded);
        self.condemn();
        self.work_on_whole()?;
        Ok(true)
    }

    /// Positions move over gaps. Not while a batch is taken apart: the reader stands behind all of it.
    fn skip_gaps(&mut self) {
        if self.intake.isolation.is_none() {
            let now = self.context.clock.elapsed();
            self.inputs.skip_gaps(&self.context.plan, self.reader.as_ref(), now);
        }
    }

    /// The batch that was just polled, as one. Where a guest fails in it, what the epoch held before it is committed,
    /// and it is taken apart: what a guest's faults take must not be taken inside a transaction.
    fn work_on_whole(&mut self) -> Result<(), Error> {
        let records = self.intake.batch.len();
        let pace = self.pace(OnFault::Report, self.call_max());
        match self.process(0..records, &pace) {
            Err(error) => {
                let mut isolation = Isolation::of(records);
                if !self.note_fault(&error, &mut isolation) {
                    return Err(error);
                }
                self.intake.isolation = Some(isolation);
                self.show_faults();
                self.commit_if_changed()
            }
            Ok(()) => {
                self.processed(0..records);
                Ok(())
            }
        }
    }

    /// One part of a batch that is taken apart, in an epoch of its own.
    fn work_on_part(&mut self) -> Result<(), Error> {
        let Some(mut isolation) = self.intake.isolation.take() else { return Ok(()) };
        let Some(part) = isolation.next() else { return Ok(()) };
        let on_fault = if part.len() == 1 { OnFault::Isolate } else { OnFault::Report };
        let pace = Pace { until: None, ..self.pace(on_fault, isolation.call_max()) };
        match self.process(part.clone(), &pace) {
            Err(error) => {
                if !self.note_fault(&error, &mut isolation) {
                    return Err(error);
                }
            }
            Ok(()) => {
                self.processed(part);
                self.commit(HeaderKind::Epoch)?;
                isolation.done();
            }
        }
        self.intake.isolation = isolation.next().is_some().then_some(isolation);
        Ok(())
    }

    /// Takes a stretch of the batch through the operators. After an error nothing of it is left.
    fn process(&mut self, range: Range<usize>, pace: &Pace<'_>) -> Result<(), Error> {
        let moment = self.moment();
        self.mark();
        let Intake { batch, decoded, source, .. } = &self.intake;
        let fed = self.chain.feed(*source, batch, decoded, range, moment);
        let processed = fed.and_then(|()| self.chain.process(&mut self.state, moment, pace));
        failpoint("batch-processed");
        processed.map_err(|error| {
            self.take_back();
            Error::Operator(error)
        })
    }

    /// What operators do from here on can be taken back.
    fn mark(&mut self) {
        self.state.mark();
        self.chain.mark();
    }

    fn take_back(&mut self) {
        self.state.undo();
        // Breaks: a batch that failed has had no effect.
        if !bug(Bug::KeepFailedOutput) {
            self.chain.take_back();
        }
    }

    /// True where the error is one that taking the batch apart (further) may find the cause of.
    fn note_fault(&self, error: &Error, isolation: &mut Isolation) -> bool {
        match error {
            Error::Operator(operator::Error::Faulted { at, code, .. }) => {
                let Intake { batch, source, .. } = &self.intake;
                let ours = at.filter(|at| at.source == Some(*source as u16) && at.partition == batch.partition);
                let at = ours.and_then(|at| batch.offsets.binary_search(&at.offset).ok());
                isolation.failed(at, *code == "deadline");
                true
            }
            // The whole, or the part, is worked on again when the task has done what it was interrupted for.
            Error::Operator(operator::Error::Interrupted { .. }) => true,
            _ => false,
        }
    }

    /// The stretch is in the epoch: position, time and counters move.
    fn processed(&mut self, range: Range<usize>) {
        let Intake { batch, decoded, input, source, .. } = &self.intake;
        self.epoch.first = self.epoch.first.or(Some((*source, batch.partition, batch.offsets[range.start])));
        self.epoch.records += range.len() as u64;
        let last = batch.offsets[range.end - 1];
        // Breaks: what is kept is the offset to read next.
        let next = if bug(Bug::LastOffset) { NextOffset(last) } else { NextOffset::after(last) };
        self.inputs.pass(*input, next, self.reader.leader_epoch(&batch.topic, batch.partition));
        let times = &decoded.event_times[decoded.kept_within(range)];
        self.watermark.observe(*input, times, self.context.clock.elapsed());
        if self.emitted_watermark != BEFORE_ALL_TIME {
            self.epoch.late += times.iter().filter(|&&time| time <= self.emitted_watermark).count() as u64;
        }
        self.epoch.newest = self.epoch.newest.max(times.iter().copied().max());
    }

    /// All that was read is worked through, and nothing waits to be fired or migrated.
    #[cfg(test)]
    pub(super) fn is_caught_up(&self) -> bool {
        self.intake.batch.is_empty()
            && self.intake.isolation.is_none()
            && self.firing.up_to.is_none()
            && self.wait() > Duration::ZERO
    }

    fn budget(&self) -> Budget {
        let settings = &self.plan().settings;
        let room = self.context.memory().steps.room(self.epoch.records).max(1);
        let max_records = usize::try_from(room).unwrap_or(usize::MAX).min(settings.poll_max_records);
        Budget { max_records, max_bytes: settings.batch_max_bytes }
    }

    /// Until the open epoch is due; not at all while there is something to sweep.
    fn wait(&self) -> Duration {
        if self.chain.is_migrating() {
            return Duration::ZERO;
        }
        let settings = &self.plan().settings;
        let longest = if self.swaps.has_news() { TRIAL_LOOK } else { settings.idle_look };
        if self.is_unchanged() {
            return longest;
        }
        let age = self.context.clock.elapsed().saturating_sub(self.epoch.opened);
        settings.commit_interval.saturating_sub(age).min(longest)
    }

    fn moment(&mut self) -> Moment {
        self.shown_time = self.shown_time.max(self.context.clock.now());
        Moment { watermark: self.emitted_watermark, now: self.shown_time }
    }

    /// How fast event time may go: due timers fire first, in bounded calls and across as many steps and epochs as it takes.
    /// Only when none is left has the watermark passed.
    fn advance(&mut self) -> Result<(), Error> {
        let up_to = match self.firing.up_to {
            Some(up_to) => up_to,
            None => {
                let (inputs, reader, context) = (&self.inputs, self.reader.as_ref(), self.context);
                let caught_up = |input| inputs.is_read(input, &context.plan, reader);
                self.watermark.advance(context.clock.elapsed(), caught_up).max(self.emitted_watermark)
            }
        };
        if self.chain.next_timer(&mut self.state)?.is_none_or(|time| time > up_to) {
            return self.passed(up_to);
        }
        self.firing.up_to = Some(up_to);
        let until = self.context.clock.elapsed() + TURN;
        while self.fire(up_to)? {
            if self.context.clock.elapsed() >= until || self.context.target.generation() != self.heard {
                return Ok(());
            }
        }
        Ok(())
    }

    fn passed(&mut self, up_to: EventTime) -> Result<(), Error> {
        self.firing = Firing::default();
        self.emitted_watermark = up_to;
        Ok(())
    }

    /// One call of timers, with what they lead to. False where none is left that is due.
    fn fire(&mut self, up_to: EventTime) -> Result<bool, Error> {
        let most = self.plan().settings.timer_batch;
        let limit = self.firing.limit.unwrap_or(most);
        let on_fault = if limit == 1 { OnFault::Isolate } else { OnFault::Report };
        let pace = match self.firing.limit {
            Some(_) => Pace { until: None, ..self.pace(on_fault, None) },
            None => self.pace(on_fault, self.call_max()),
        };
        let moment = self.moment();
        self.mark();
        match self.chain.fire_next(&mut self.state, up_to, limit, moment, &pace) {
            Ok(0) => {
                self.passed(up_to)?;
                return Ok(false);
            }
            Ok(_) => {
                self.emit()?;
                failpoint("timers-fired");
                // Those that are taken apart are epochs of their own.
                if self.firing.limit.is_some() || self.due() {
                    self.commit(HeaderKind::Epoch)?;
                }
                self.firing.limit = self.firing.limit.map(|limit| limit * 2).filter(|&limit| limit < most);
            }
            Err(operator::Error::Faulted { .. }) => {
                self.take_back();
                self.show_faults();
                self.commit_if_changed()?;
                self.firing.limit = Some((limit / 2).max(1));
            }
            Err(operator::Error::Interrupted { .. }) => {
                self.take_back();
                self.commit_if_changed()?;
                self.firing.limit = Some(self.firing.limit.unwrap_or(most));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// CPU time of a call that may stand inside an open transaction, where the cluster's patience asks for less than what
    /// the engine allows.
    fn call_max(&self) -> Option<Duration> {
        self.context.log.epoch_timeout().map(|timeout| timeout / 4)
    }

    /// Puts the record whose output the log has refused among the bad ones.
    fn condemn(&mut self) {
        let Intake { batch, decoded, source, .. } = &mut self.intake;
        let memory = self.context.memory();
        let Some(condemned) = memory.steps.condemned(*source, batch.partition) else { return };
        if let Ok(index) = batch.offsets.binary_search(&condemned.offset) {
            decoded.refuse(index as u32, codec::code::OUTPUT_REFUSED, condemned.why.clone());
        }
    }

    /// Gives the writer up when there has been nothing to write for a while.
    fn rest(&mut self) {
        let now = self.context.clock.elapsed();
        if self.is_unchanged() && now.saturating_sub(self.epoch.opened) >= self.plan().settings.writer_idle {
            self.writer = None;
            self.outlets.close();
        }
    }

    /// Takes the transactional id over again after a rest. Meanwhile somebody else may have owned the task: then the
    /// changelog holds what this session does not know, and nothing that it has computed may be committed.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        if self.writer.is_some() {
            return Ok(());
        }
        let (plan, log) = (&self.context.plan, self.context.log.as_ref());
        self.writer = Some(log.writer(&plan.transactional_id())?);
        failpoint("writer-reopened");
        if bug(Bug::ReopenWithoutReading) {
            return Ok(()); // Breaks: every takeover, whatever its reason, is followed by reading the changelog.
        }
        let mut last = None;
        changelog::read_to_end(log, plan, self.head.offset, |_, delta| {
            last = Some(delta.hash);
            Ok(())
        })?;
        if last == Some(self.head.hash) {
            return Ok(());
        }
        Err(Error::Overtaken { topic: plan.changelog.name.clone(), partition: plan.task.changelog_partition() })
    }

    /// A fault shows when it happens, whatever becomes of the epoch.
    fn show_faults(&mut self) {
        let faults = self.chain.faults();
        let new = faults.saturating_sub(self.faults_shown);
        self.faults_shown = faults;
        if new > 0 {
            self.context.update(|status| status.traps += new);
        }
    }

    /// What a look at the open epoch is to show; once a batch.
    fn show_progress(&self) {
        let (open, now) = (self.epoch.records, self.context.clock.now());
        let written = self.epoch.newest.filter(|_| self.epoch.writing).map(|newest| now.saturating_sub(newest));
        self.context.update(|status| {
            status.open_records = open;
            status.written_freshness_ns = written.or(status.written_freshness_ns);
        });
    }

    pub(super) fn watch_lag(&mut self) {
        let now = self.context.clock.elapsed();
        if self.lag_asked.is_some_and(|asked| now.saturating_sub(asked) < LAG_EVERY) {
            return;
        }
        self.lag_asked = Some(now);
        let lag = self.inputs.lag(&self.context.plan, self.reader.as_ref(), self.epoch.records > 0);
        let timers = self.chain.transforms.iter().enumerate();
        let timers = timers.filter_map(|(k, transform)| Some((transform.id.clone(), self.state.registered_timers(k)?)));
        self.context.update(|status| {
            status.lag = lag;
            status.timers = timers.collect();
        });
    }

    /// The session runs again, after it has recovered or been let go.
    pub(super) fn show_phase(&self) {
        self.context.update(|status| {
            if self.hold {
                status.phase = Phase::Held;
            } else {
                status.phase = Phase::Running;
                status.error = None;
                status.error_kind = None;
            }
        });
    }

    /// The modules that run, operator by operator.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.chain.transforms.iter().map(|transform| transform.module().digest).collect()
    }
}

impl<'a> Session<'a> {
    /// How work may go on that begins now. What an open transaction has left is never used up by guests.
    fn pace(&self, on_fault: OnFault, call_max: Option<Duration>) -> Pace<'a> {
        let context: &'a TaskContext = self.context;
        let open = self.epoch.writing.then_some(self.epoch.opened);
        let until = open.zip(context.log.epoch_timeout()).map(|(opened, timeout)| opened + timeout / 4);
        Pace {
            on_fault,
            call_max,
            until,
            undisturbed_until: context.clock.elapsed() + TURN,
            interrupt: Interrupt { generation: context.target.raised(), heard: self.heard },
            clock: context.clock.as_ref(),
        }
    }
}
