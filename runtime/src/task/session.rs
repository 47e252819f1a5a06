//! A session: one ownership of a task, from its recovery to its end. The straight loop.
//!
//! poll → decode → watermark → operators → state → emit → commit, in [`Session::step`]. Owns the parts and the order in
//! which they are asked: the [`Inbox`] reads, the [`Lane`] computes, the [`Committer`] makes it durable. Compares the task
//! to its target between two steps, and no step takes long: due timers fire for a turn at a time, and a batch that a guest
//! fails in is taken apart over many steps. After any error the whole session is dropped and with it the overlay; nothing
//! is repaired in place.

use std::ops::Range;
use std::time::Duration;

use super::Error;
use super::change::{Changes, Swept};
use super::commit::Committer;
use super::context::TaskContext;
use super::inbox::Inbox;
use super::isolation::Isolation;
use super::lane::Lane;
use super::report::Report;
use super::rules::rules;
use super::target::Target;
use crate::checkpoint::HeaderKind;
use crate::codec::Decoded;
use crate::env::failpoint;
use crate::error::Kind;
use crate::log::Budget;
use crate::model::{EventTime, PartitionBatch};
use crate::operator;
use crate::operator::chain::Fired;
use crate::operator::pace::{OnFault, Pace};
use crate::wasm::contract::Interrupt;

/// What nobody wakes a task for: that a trial has ended.
const TRIAL_LOOK: Duration = Duration::from_millis(20);
/// Due timers fire so long before the task looks up again. Also the time in which work that has begun is not disturbed.
const TURN: Duration = Duration::from_millis(20);
/// Timers that cannot be read yet are asked for again after so long.
const TIMERS_LOOK: Duration = Duration::from_millis(1);
/// What the sweep of a migration may take between two epochs.
const SWEEP_TURN: Duration = Duration::from_millis(10);

pub(super) enum Ended {
    Stopped,
}

pub(super) struct Session<'a> {
    pub context: &'a TaskContext,
    pub inbox: Inbox,
    pub lane: Lane,
    pub committer: Committer<'a>,
    pub changes: Changes,
    /// Looks at its target and does nothing else, until another version is swapped in.
    pub hold: bool,
    pub report: Report<'a>,
}

/// The loop.
impl Session<'_> {
    pub fn run(&mut self) -> Result<Ended, Error> {
        loop {
            if let Some(ended) = self.turn()? {
                return Ok(ended);
            }
            if self.hold {
                self.context.target.wait(self.inbox.heard, TRIAL_LOOK);
            }
        }
    }

    /// A look at the target, and a step where the task is not held.
    pub(super) fn turn(&mut self) -> Result<Option<Ended>, Error> {
        if let Some(ended) = self.obey().map_err(|error| self.committer.after_refusal(error))? {
            return Ok(Some(ended));
        }
        if !self.hold {
            let stepped = self.step();
            self.report.faults(&self.lane);
            stepped.map_err(|error| self.committer.after_refusal(error))?;
        }
        Ok(None)
    }

    /// A record's way. One batch, a part of one, or a turn of timers.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        let worked = if self.inbox.isolation.is_some() {
            self.work_on_part()?;
            true
        } else if self.lane.firing.up_to.is_some() {
            true
        } else {
            self.read()?
        };
        // Parts of a batch see the watermark that the whole would have seen.
        if self.inbox.isolation.is_none() {
            self.advance()?;
        }
        self.committer.emit(&mut self.lane.chain.outlet)?;
        if worked {
            self.report.progress(&self.committer);
        }
        if self.is_due() {
            self.commit(HeaderKind::Epoch)?;
        }
        self.sweep(!worked)
    }

    /// Ends the epoch.
    pub fn commit(&mut self, kind: HeaderKind) -> Result<(), Error> {
        let done = self.committer.commit(kind, &mut self.lane, &mut self.inbox)?;
        self.report.committed(&done, &self.committer, &mut self.lane, &self.inbox);
        self.report.phase(self.hold);
        Ok(())
    }

    pub(super) fn commit_if_changed(&mut self) -> Result<(), Error> {
        if self.is_unchanged() { Ok(()) } else { self.commit(HeaderKind::Epoch) }
    }

    fn is_due(&self) -> bool {
        let settings = &self.context.plan.settings;
        self.committer.open(&self.lane, &self.inbox).is_due(settings.commit_interval, settings.epoch_max_bytes)
    }

    fn is_unchanged(&self) -> bool {
        self.committer.open(&self.lane, &self.inbox).is_unchanged()
    }

    /// All that was read is worked through, and nothing waits to be fired or migrated.
    #[cfg(test)]
    pub(super) fn is_caught_up(&self) -> bool {
        self.inbox.batch.is_empty()
            && self.inbox.isolation.is_none()
            && self.lane.firing.up_to.is_none()
            && self.wait() > Duration::ZERO
    }
}

/// Batches.
impl Session<'_> {
    /// Polls a batch and takes it through the operators. False where there was none.
    fn read(&mut self) -> Result<bool, Error> {
        let (context, wait, budget) = (self.context, self.wait(), self.budget());
        if !self.inbox.poll(&context.plan, budget, wait)? {
            self.inbox.skip_gaps(&context.plan, context.clock.elapsed());
            self.report.lag(&self.inbox, &self.lane, self.committer.epoch.records > 0);
            self.rest()?;
            return Ok(false);
        }
        let Inbox { batch, source, .. } = &self.inbox;
        self.lane.decode(&context.plan, *source, batch, context.clock.now());
        if let Some(condemned) = context.memory().steps.condemned(*source, batch.partition) {
            self.lane.condemn(batch, condemned);
        }
        self.work_on_whole()?;
        Ok(true)
    }

    /// The batch that was just polled, as one. Where a guest fails in it, what the epoch held before it is committed, and it
    /// is taken apart: what a guest's faults take must not be taken inside a transaction.
    fn work_on_whole(&mut self) -> Result<(), Error> {
        let records = self.inbox.batch.len();
        let pace = self.pace(OnFault::Report, self.call_max());
        match self.process(0..records, &pace) {
            Err(error) => {
                let mut isolation = Isolation::of(records);
                self.take_apart(error, &mut isolation)?;
                self.inbox.isolation = Some(isolation);
                self.report.faults(&self.lane);
                if rules().isolation_is_outside_transactions { self.commit_if_changed() } else { Ok(()) }
            }
            Ok(()) => {
                self.processed(&(0..records));
                Ok(())
            }
        }
    }

    /// One part of a batch that is taken apart, in an epoch of its own.
    fn work_on_part(&mut self) -> Result<(), Error> {
        let Some(mut isolation) = self.inbox.isolation.take() else { return Ok(()) };
        let Some(part) = isolation.next() else { return Ok(()) };
        let on_fault = if part.len() == 1 { OnFault::Isolate } else { OnFault::Report };
        let pace = Pace { until: None, ..self.pace(on_fault, isolation.call_max()) };
        match self.process(part.clone(), &pace) {
            Err(error) => self.take_apart(error, &mut isolation)?,
            Ok(()) => {
                self.processed(&part);
                self.commit(HeaderKind::Epoch)?;
                isolation.done();
            }
        }
        self.inbox.isolation = isolation.next().is_some().then_some(isolation);
        Ok(())
    }

    fn process(&mut self, range: Range<usize>, pace: &Pace<'_>) -> Result<(), operator::Error> {
        let Inbox { batch, source, .. } = &self.inbox;
        self.lane.process(*source, batch, range, self.context.clock.now(), pace)
    }

    /// What is tried next after an error whose cause taking the batch apart (further) may find; any other is the session's
    /// end.
    fn take_apart(&self, error: operator::Error, isolation: &mut Isolation) -> Result<(), Error> {
        match error {
            operator::Error::Faulted { at, code, .. } => {
                isolation.failed(at.and_then(|at| self.inbox.find(&at)), code == "deadline");
                Ok(())
            }
            // The whole, or the part, is worked on again when the task has done what it was interrupted for.
            operator::Error::Interrupted { .. } => Ok(()),
            error => Err(Error::Operator(error)),
        }
    }

    /// The stretch is in the epoch: position, time and counters move.
    fn processed(&mut self, range: &Range<usize>) {
        let (epoch, Inbox { batch, input, source, .. }) = (&mut self.committer.epoch, &self.inbox);
        epoch.first = epoch.first.or(Some((*source, batch.partition, batch.offsets[range.start])));
        epoch.records += range.len() as u64;
        let seen = self.lane.observe(*input, range.clone(), self.context.clock.elapsed());
        epoch.late += seen.late;
        epoch.newest = epoch.newest.max(seen.newest);
        self.inbox.pass(range);
    }

    fn budget(&self) -> Budget {
        let settings = &self.context.plan.settings;
        let room = self.context.memory().steps.room(self.committer.epoch.records).max(1);
        let max_records = usize::try_from(room).unwrap_or(usize::MAX).min(settings.poll_max_records);
        Budget { max_records, max_bytes: settings.batch_max_bytes }
    }

    /// Until the open epoch is due; not at all while there is something to sweep or to give back.
    fn wait(&self) -> Duration {
        if self.lane.chain.is_migrating() || self.lane.state.can_shrink() {
            return Duration::ZERO;
        }
        let settings = &self.context.plan.settings;
        let longest = if self.changes.has_news() { TRIAL_LOOK } else { settings.idle_look };
        let open = self.committer.open(&self.lane, &self.inbox);
        if open.is_unchanged() { longest } else { settings.commit_interval.saturating_sub(open.age).min(longest) }
    }

    /// Gives up what others may need: at once what of the cache has become their part, and the writer and the memory that
    /// work takes when there has been nothing to write for a while.
    fn rest(&mut self) -> Result<(), Error> {
        self.lane.state.shrink();
        let open = self.committer.open(&self.lane, &self.inbox);
        if open.is_unchanged() && open.age >= self.context.plan.settings.writer_idle {
            self.committer.rest();
            self.inbox.batch = PartitionBatch::default();
            self.lane.decoded = Decoded::default();
            self.lane.state.rest()?;
        }
        Ok(())
    }
}

/// Timers.
impl Session<'_> {
    /// How fast event time may go: due timers fire first, in bounded calls and across as many steps and epochs as it takes.
    /// Only when none is left has the watermark passed.
    fn advance(&mut self) -> Result<(), Error> {
        let (context, inbox) = (self.context, &self.inbox);
        let up_to = self.lane.time_to_reach(context.clock.elapsed(), |input| inbox.is_read(&context.plan, input));
        if !rules().time_waits_for_timers || !self.lane.has_due(up_to)? {
            self.lane.time_passed(up_to);
            return Ok(());
        }
        self.lane.firing.up_to = Some(up_to);
        let until = context.clock.elapsed() + TURN;
        while self.fire(up_to)? {
            if context.clock.elapsed() >= until || context.target.generation() != self.inbox.heard {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One call of timers, with what they lead to. False where none is left that is due.
    fn fire(&mut self, up_to: EventTime) -> Result<bool, Error> {
        let most = self.context.plan.settings.timer_batch;
        let (limit, is_apart) = self.lane.firing.limit(most);
        let on_fault = if limit == 1 { OnFault::Isolate } else { OnFault::Report };
        let pace = match is_apart {
            true => Pace { until: None, ..self.pace(on_fault, None) },
            false => self.pace(on_fault, self.call_max()),
        };
        match self.lane.fire(up_to, limit, self.context.clock.now(), &pace) {
            Ok(Fired::NoneLeft) => {
                self.lane.time_passed(up_to);
                return Ok(false);
            }
            // Another target is heard meanwhile.
            Ok(Fired::NotYet) => drop(self.context.target.wait(self.inbox.heard, TIMERS_LOOK)),
            Ok(Fired::Some) => {
                self.committer.emit(&mut self.lane.chain.outlet)?;
                failpoint("timers-fired");
                // Those that are taken apart are epochs of their own.
                if is_apart || self.is_due() {
                    self.commit(HeaderKind::Epoch)?;
                }
                self.lane.firing.went_well(most);
            }
            Err(operator::Error::Faulted { .. }) => {
                self.report.faults(&self.lane);
                self.commit_if_changed()?;
                self.lane.firing.failed(most);
            }
            Err(operator::Error::Interrupted { .. }) => {
                self.commit_if_changed()?;
                self.lane.firing.interrupted(most);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}

/// What the task is to be.
impl Session<'_> {
    /// Compares the task to its target.
    fn obey(&mut self) -> Result<Option<Ended>, Error> {
        let Some(target) = self.inbox.hear(self.context, self.changes.has_news()) else { return Ok(None) };
        if target.stop {
            self.stop()?;
            return Ok(Some(Ended::Stopped));
        }
        if self.context.target.take_doubt() {
            self.look_for_successor()?;
        }
        if let Some(reset) = target.time_reset {
            self.reset_time(reset)?;
        }
        self.follow(&target)?;
        Ok(None)
    }

    /// Nobody tells a task that has nothing to write that it was fenced.
    fn look_for_successor(&self) -> Result<(), Error> {
        // The commit of an open epoch tells.
        if self.committer.epoch.writing {
            return Ok(());
        }
        match self.committer.verify() {
            Ok(end) => self.context.update(|status| status.changelog_end = Some(end)),
            // Whoever doubted it will again.
            Err(error) if error.kind() == Kind::Retry => tracing::debug!("look who owns the task: {error}"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        if self.hold {
            return Ok(());
        }
        self.inbox.skip_gaps(&self.context.plan, self.context.clock.elapsed());
        if !self.is_unchanged() || self.inbox.inputs.moved_over_gaps() {
            self.commit(HeaderKind::Epoch)?;
        }
        failpoint("stop-committed");
        self.lane.state.flush()?;
        failpoint("stop-flushed");
        Ok(())
    }

    /// Goes one step towards the target.
    fn follow(&mut self, target: &Target) -> Result<(), Error> {
        if !self.changes.follow(self.context, &mut self.lane, target) {
            return Ok(());
        }
        // To the version that is ready, between two epochs.
        let started = self.context.clock.elapsed();
        self.commit_if_changed()?;
        failpoint("swap-before-switch");
        let Some(swap) = self.changes.install(self.context, &mut self.lane)? else { return Ok(()) };
        failpoint("swap-installed");
        self.committer.epoch.swap = Some(swap);
        if self.hold {
            self.release()?;
        }
        self.commit(HeaderKind::Epoch)?;
        failpoint("swap-after-switch");
        self.report.swapped(swap, started, &self.committer, &self.lane, &self.inbox);
        Ok(())
    }

    /// A held task reads again once another version is in place.
    fn release(&mut self) -> Result<(), Error> {
        self.inbox.assign(self.context)?;
        if rules().hold_ends_with_its_modules {
            self.context.memory().held_under = None;
        }
        self.hold = false;
        Ok(())
    }

    /// Goes on migrating what no record has touched, for a moment between two epochs: what a guest's `migrate` takes must
    /// not be taken inside a transaction.
    fn sweep(&mut self, idle: bool) -> Result<(), Error> {
        if !self.lane.chain.is_migrating() || self.committer.epoch.writing && !idle {
            return Ok(());
        }
        if self.committer.epoch.writing {
            self.commit(HeaderKind::Epoch)?;
        }
        let until = self.context.clock.elapsed() + SWEEP_TURN;
        loop {
            match self.changes.sweep(&mut self.lane)? {
                Swept::Some if !idle && self.context.clock.elapsed() < until => {}
                Swept::Some | Swept::Nothing => return Ok(()),
                // The header says so at once: a restart need not look for them again.
                Swept::All => return self.commit(HeaderKind::Epoch),
            }
        }
    }
}

/// How fast guests may go.
impl<'a> Session<'a> {
    /// How work may go on that begins now. What an open transaction has left is never used up by guests.
    fn pace(&self, on_fault: OnFault, call_max: Option<Duration>) -> Pace<'a> {
        let context: &'a TaskContext = self.context;
        let epoch = &self.committer.epoch;
        let open = epoch.writing.then_some(epoch.opened);
        let until = open.zip(context.log.epoch_timeout()).map(|(opened, timeout)| opened + timeout / 4);
        Pace {
            on_fault,
            call_max,
            until,
            undisturbed_until: context.clock.elapsed() + TURN,
            interrupt: Interrupt { generation: context.target.raised(), heard: self.inbox.heard },
            clock: context.clock.as_ref(),
        }
    }

    /// CPU time of a call that may stand inside an open transaction, where the cluster's patience asks for less than what
    /// the engine allows.
    fn call_max(&self) -> Option<Duration> {
        self.context.log.epoch_timeout().map(|timeout| timeout / 4)
    }
}
