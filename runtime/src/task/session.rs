//! A session: one ownership of a task, from its recovery to its end. The straight loop and the commit.
//!
//! poll → decode → watermark → operators → state → emit → commit, in [`Session::step`].
//! Owns everything that belongs to the open epoch. After any error the whole session is dropped and
//! with it the overlay; nothing is repaired in place.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::careful::{Careful, Refused};
use super::handle::{Command, Phase};
use super::inputs::{self, Inputs};
use super::outlets::Outlets;
use super::plan::TaskPlan;
use super::swap::Swaps;
use super::worker::Surroundings;
use super::{Error, broken, changelog, recovery};
use crate::checkpoint::{self, Header, HeaderKind};
use crate::codec::{self, Decoded, Spread};
use crate::env::{Bug, bug, failpoint};
use crate::log::{self, Budget, CommitOutcome, Reader, Writer};
use crate::model::{BEFORE_ALL_TIME, EventTime, PartitionBatch, PartitionId, Uid};
use crate::operator::chain::Chain;
use crate::state::TaskState;
use crate::wasm::contract::Moment;
use crate::watermark::TaskWatermark;

/// How long a poll waits when nothing else is to be done; commands wait no longer than that.
const IDLE_WAIT: Duration = Duration::from_millis(20);
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
    opened: Duration,
    /// Input records; timers are none.
    records: u64,
    newest: Option<EventTime>,
    /// Source, partition and offset of its first input record.
    first: Option<(usize, PartitionId, i64)>,
    writing: bool,
    emitted: u64,
}

pub(super) struct Session<'a> {
    pub around: &'a Surroundings,
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
    /// Obeys commands and does nothing else, until another version is swapped in.
    pub hold: bool,
    pub batch: PartitionBatch,
    pub decoded: Decoded,
    pub lag_asked: Option<Duration>,
    pub late: u64,
}

impl Session<'_> {
    pub fn plan(&self) -> &TaskPlan {
        &self.around.plan
    }

    pub fn run(&mut self, commands: &Receiver<Command>) -> Result<Ended, Error> {
        loop {
            if let Some(ended) = self.obey(commands).map_err(|error| self.after_refusal(error))? {
                return Ok(ended);
            }
            if !self.hold {
                self.step().map_err(|error| self.after_refusal(error))?;
            }
        }
    }

    fn obey(&mut self, commands: &Receiver<Command>) -> Result<Option<Ended>, Error> {
        loop {
            let command =
                if self.hold { commands.recv().map_err(|_| TryRecvError::Disconnected) } else { commands.try_recv() };
            match command {
                Ok(Command::PrepareSwap { swap, operator, module, reply }) => {
                    self.prepare_swap(swap, operator, module, reply);
                }
                Ok(Command::SwitchSwap { swap, reply }) => self.switch_swap(swap, &reply)?,
                Ok(Command::AbandonSwap { swap }) => self.swaps.abandon(swap),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.around.legacy().stopping = true;
                    if !self.hold {
                        self.commit_if_changed()?;
                        failpoint("stop-committed");
                        self.state.flush()?;
                        failpoint("stop-flushed");
                    }
                    return Ok(Some(Ended::Stopped));
                }
                Err(TryRecvError::Empty) => return Ok(None),
            }
        }
    }

    /// A record's way. One batch.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        let budget = self.budget();
        let wait = self.wait();
        let polled = self.reader.poll(budget, wait, &mut self.batch).map_err(inputs::explain)?;
        if polled {
            let (input, source) = self.inputs.accept(&self.around.plan, &self.batch, self.reader.as_ref())?;
            let plan = &self.around.plan.sources[source];
            let spread = Spread { partitions: plan.topic.partitions, tasks: self.around.plan.parallelism };
            let read_at = self.shown_time.max(self.around.clock.now());
            plan.codec.decode(&self.batch, read_at, plan.keyed.then_some(spread), &mut self.decoded);
            self.condemn(source);
            self.epoch.first = self.epoch.first.or(Some((source, self.batch.partition, self.batch.offsets[0])));
            self.observe(input);
            let moment = self.moment();
            self.chain.feed(source, &self.batch, &self.decoded, moment)?;
            self.chain.process(&mut self.state, moment)?;
            failpoint("batch-processed");
            self.epoch.records += self.batch.len() as u64;
        } else {
            self.inputs.skip_gaps(&self.around.plan, self.reader.as_ref());
            self.watch_lag();
            self.rest();
        }
        self.advance()?;
        self.emit()?;
        if polled {
            self.show_progress();
        }
        self.sweep(!polled)?;
        if self.due() {
            self.commit(HeaderKind::Epoch)?;
        }
        Ok(())
    }

    /// The last poll brought nothing and nothing waits to be migrated.
    #[cfg(test)]
    pub(super) fn is_caught_up(&self) -> bool {
        self.batch.is_empty() && self.wait() > Duration::ZERO
    }

    fn budget(&self) -> Budget {
        let settings = &self.plan().settings;
        let room = self.around.legacy().careful.room(self.epoch.records).max(1);
        let max_records = usize::try_from(room).unwrap_or(usize::MAX).min(settings.poll_max_records);
        Budget { max_records, max_bytes: settings.batch_max_bytes }
    }

    /// Until the open epoch is due; not at all while there is something to sweep.
    fn wait(&self) -> Duration {
        if self.chain.is_migrating() {
            return Duration::ZERO;
        }
        if self.is_unchanged() {
            return IDLE_WAIT;
        }
        let age = self.around.clock.elapsed().saturating_sub(self.epoch.opened);
        self.plan().settings.commit_interval.saturating_sub(age).min(IDLE_WAIT)
    }

    fn moment(&mut self) -> Moment {
        self.shown_time = self.shown_time.max(self.around.clock.now());
        Moment { watermark: self.emitted_watermark, now: self.shown_time }
    }

    fn observe(&mut self, input: usize) {
        let times = &self.decoded.event_times;
        self.watermark.observe(input, times, self.around.clock.elapsed());
        if self.emitted_watermark != BEFORE_ALL_TIME {
            self.late += times.iter().filter(|&&time| time <= self.emitted_watermark).count() as u64;
        }
        self.epoch.newest = self.epoch.newest.max(times.iter().copied().max());
    }

    /// Event time advances behind a batch; then the timers that have come due fire, in bounded
    /// batches and across as many epochs as it takes. Only when none is left has the watermark passed.
    fn advance(&mut self) -> Result<(), Error> {
        let (inputs, reader, around) = (&self.inputs, self.reader.as_ref(), self.around);
        let caught_up = |input| inputs.is_read(input, &around.plan, reader);
        let reached = self.watermark.advance(around.clock.elapsed(), caught_up).max(self.emitted_watermark);
        let overdue = self.chain.next_timer(&mut self.state)?.is_some_and(|time| time <= reached);
        if overdue {
            let moment = self.moment();
            while self.chain.fire_next(&mut self.state, reached, moment)? {
                self.emit()?;
                failpoint("timers-fired");
                if self.due() {
                    self.commit(HeaderKind::Epoch)?;
                }
            }
        }
        self.emitted_watermark = reached;
        Ok(())
    }

    /// What the guests have emitted goes to the writer, batch by batch; what is for other clusters to their outlets.
    fn emit(&mut self) -> Result<(), Error> {
        if self.chain.outlet.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let (writer, outlet) = (opened(&mut self.writer), &mut self.chain.outlet);
        for (sink, plan) in outlet.sinks.iter_mut().zip(&self.around.plan.sinks) {
            self.epoch.emitted += match &plan.cluster {
                None => sink.drain(|batch| writer.append(batch))?,
                Some(cluster) => sink.drain(|batch| self.outlets.append(cluster, batch))?,
            };
        }
        if !outlet.bad.is_empty() {
            writer.append(outlet.bad.letters())?;
            outlet.bad.clear();
        }
        failpoint("output-written");
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        if !self.epoch.writing {
            self.reopen()?;
            opened(&mut self.writer).begin()?;
            self.epoch.writing = true;
            failpoint("epoch-begun");
        }
        Ok(())
    }

    /// Gives the writer up when there has been nothing to write for a while.
    fn rest(&mut self) {
        let now = self.around.clock.elapsed();
        if self.is_unchanged() && now.saturating_sub(self.epoch.opened) >= self.plan().settings.writer_idle {
            self.writer = None;
            self.outlets.close();
        }
    }

    /// Takes the transactional id over again after a rest. Meanwhile somebody else may have owned the task: then the
    /// changelog holds what this session does not know, and nothing that it has computed may be committed.
    fn reopen(&mut self) -> Result<(), Error> {
        if self.writer.is_some() {
            return Ok(());
        }
        let (plan, log) = (&self.around.plan, self.around.log.as_ref());
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
        Err(Error::Overtaken { topic: plan.changelog.name.clone(), partition: plan.task as i32 })
    }

    /// Puts the record whose output the log has refused among the bad ones.
    fn condemn(&mut self, source: usize) {
        let legacy = self.around.legacy();
        let Some(condemned) = legacy.careful.condemned(source, self.batch.partition) else { return };
        if let Ok(index) = self.batch.offsets.binary_search(&condemned.offset) {
            self.decoded.refuse(index as u32, codec::code::OUTPUT_REFUSED, condemned.why.clone());
        }
    }

    /// The log has refused a record that had passed all checks: the next session goes on in smaller steps.
    pub(super) fn after_refusal(&self, error: Error) -> Error {
        let Error::Log(source) = error else { return error };
        let (log::Error::RecordRefused { topic, .. }
        | log::Error::RecordTooLarge { topic, .. }
        | log::Error::InvalidRecord { topic, .. }) = &source
        else {
            return Error::Log(source);
        };
        let ours = *topic == self.plan().changelog.name;
        let refused = Refused { records: self.epoch.records, first: self.epoch.first, why: source.to_string() };
        let mut legacy = self.around.legacy();
        if ours || !legacy.careful.refused(refused) {
            legacy.careful = Careful::default();
        }
        Error::Refused { epoch: self.head.header.epoch + 1, source }
    }

    /// Nothing has happened that a commit would have to keep.
    fn is_unchanged(&self) -> bool {
        self.epoch.records == 0
            && !self.epoch.writing
            && self.state.overlay_bytes() == 0
            && self.emitted_watermark == self.head.header.watermark
    }

    fn due(&self) -> bool {
        let settings = &self.plan().settings;
        if self.is_unchanged() {
            return false;
        }
        let age = self.around.clock.elapsed().saturating_sub(self.epoch.opened);
        age >= settings.commit_interval
            || self.state.overlay_bytes() >= settings.epoch_max_bytes
            || self.around.legacy().careful.room(self.epoch.records) == 0
    }

    pub fn commit_if_changed(&mut self) -> Result<(), Error> {
        if self.is_unchanged() { Ok(()) } else { self.commit(HeaderKind::Epoch) }
    }

    /// The only commit point: output, dead letters, state changes, timers, positions, watermark and
    /// module versions become durable together or not at all. Output to other clusters is there before.
    pub fn commit(&mut self, kind: HeaderKind) -> Result<(), Error> {
        failpoint("epoch-open");
        let started = self.around.clock.elapsed();
        self.emit()?;
        self.begin()?;
        let header = self.next_header(kind);
        let hash = header.hash().map_err(|source| Error::Encode { epoch: header.epoch, source })?;
        if bug(Bug::DeltaApart) {
            // Breaks: output and delta in one transaction.
            if let CommitOutcome::Indefinite(source) = opened(&mut self.writer).commit()? {
                return Err(Error::Indefinite { epoch: header.epoch, source });
            }
            opened(&mut self.writer).begin()?;
        }
        self.append_delta(&header)?;
        if bug(Bug::ApplyBeforeCommit) {
            // Breaks: nothing is applied, and nothing persisted, ahead of its commit.
            broken::apply_before_commit(self, &header, hash)?;
        }
        if bug(Bug::PositionsFromGroup) {
            // Breaks: the group is a mirror, never ahead of a committed header.
            broken::mirror_open_positions(self)?;
        }
        // Ahead of the commit: behind it nobody would write again what was not taken elsewhere.
        self.outlets.settle()?;
        failpoint("before-commit");
        let offset = match opened(&mut self.writer).commit()? {
            CommitOutcome::Committed => self.delta_offset(header.epoch)?,
            // Breaks: only a commit that surely happened lets the overlay be applied.
            CommitOutcome::Indefinite(_) if bug(Bug::ApplyIndefinite) => broken::apply_indefinite(self, &header, hash)?,
            // Breaks: a commit of unknown outcome spends the writer; abort and going on is not a way.
            CommitOutcome::Indefinite(_) if bug(Bug::ReuseWriter) => return broken::abort_and_go_on(self),
            CommitOutcome::Indefinite(source) => return Err(Error::Indefinite { epoch: header.epoch, source }),
        };
        failpoint("after-commit");
        self.state.apply(recovery::marker(&header, hash, offset))?;
        failpoint("after-apply");
        self.head = Head { header, hash, offset };
        self.inputs.committed();
        self.committed(started);
        Ok(())
    }

    /// Where in the changelog the delta that was just committed begins.
    fn delta_offset(&self, epoch: u64) -> Result<i64, Error> {
        let TaskPlan { changelog, task, .. } = &self.around.plan;
        let offset = self.writer.as_ref().and_then(|writer| writer.first_offset(&changelog.name, *task as i32));
        offset.ok_or_else(|| Error::NoPlace { epoch, topic: changelog.name.clone(), partition: *task as i32 })
    }

    fn append_delta(&mut self, header: &Header) -> Result<(), Error> {
        let plan = &self.around.plan;
        let topic = &plan.changelog;
        let changes = self.state.delta();
        let chunks = checkpoint::encode_delta(header, &changes.keys, &changes.values, changelog::chunk_bytes(topic))
            .map_err(|source| Error::Encode { epoch: header.epoch, source })?;
        changelog::append(opened(&mut self.writer), topic, plan.task, &chunks)
    }

    /// Opens the next epoch and tells the world about the last one.
    fn committed(&mut self, started: Duration) {
        let now = self.around.clock.elapsed();
        let epoch = std::mem::replace(&mut self.epoch, OpenEpoch { opened: now, ..OpenEpoch::default() });
        let mut legacy = self.around.legacy();
        legacy.seen = Some((self.head.offset, self.owner));
        legacy.careful.committed(epoch.records);
        drop(legacy);
        self.watch_lag();
        let freshness = epoch.newest.map(|newest| self.around.clock.now().saturating_sub(newest));
        self.around.update(|status| {
            if !self.hold {
                status.phase = Phase::Running;
                status.error = None;
                status.error_kind = None;
            }
            status.epoch = self.head.header.epoch;
            status.watermark = self.emitted_watermark;
            status.records_in += epoch.records;
            status.records_out += epoch.emitted;
            status.dead_letters = self.chain.outlet.bad.dead_lettered;
            status.skipped = self.chain.outlet.bad.skipped;
            status.bad_records.clone_from(&self.chain.outlet.bad.by_code);
            status.late = self.late;
            status.traps = self.chain.faults();
            status.commits += 1;
            status.open_records = 0;
            status.freshness_ns = freshness.or(status.freshness_ns);
            status.commit_us = now.saturating_sub(started).as_micros() as u64;
            status.positions = self.inputs.positions(&self.around.plan);
            status.migrating = self.chain.is_migrating();
        });
    }

    /// What a look at the open epoch is to show; once a batch.
    fn show_progress(&self) {
        let (open, now) = (self.epoch.records, self.around.clock.now());
        let written = self.epoch.newest.filter(|_| self.epoch.writing).map(|newest| now.saturating_sub(newest));
        self.around.update(|status| {
            status.open_records = open;
            status.written_freshness_ns = written.or(status.written_freshness_ns);
        });
    }

    fn watch_lag(&mut self) {
        let now = self.around.clock.elapsed();
        if self.lag_asked.is_some_and(|asked| now.saturating_sub(asked) < LAG_EVERY) {
            return;
        }
        self.lag_asked = Some(now);
        let lag = self.inputs.lag(&self.around.plan, self.reader.as_ref());
        self.around.update(|status| status.lag = lag);
    }
}

/// The writer of an epoch that has begun.
fn opened(writer: &mut Option<Box<dyn Writer>>) -> &mut dyn Writer {
    writer.as_deref_mut().expect("an epoch begins by opening the writer, and only a rest between epochs closes it")
}
