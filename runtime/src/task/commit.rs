//! The one commit point: output, dead letters, state changes, timers, positions, watermark and module versions of an
//! epoch become durable together or not at all. Output to other clusters is there before.
//!
//! Owns nothing; all of it is [`Session`]'s. The rules that must hold here, and what breaks where one does not, are the
//! lines marked «Breaks:», each a build that a test must catch.

use std::time::Duration;

use super::context::TaskContext;
use super::plan::TaskPlan;
use super::recovery::{self, operator_version};
use super::session::{Head, OpenEpoch, Session};
use super::smaller_steps::{Refused, SmallerSteps};
use super::{Error, broken, changelog};
use crate::checkpoint::{self, Header, HeaderKind, InputPosition, Owner};
use crate::env::{Bug, bug, failpoint};
use crate::log::{self, CommitOutcome, Writer};

impl Session<'_> {
    /// Nothing has happened that a commit would have to keep.
    pub(super) fn is_unchanged(&self) -> bool {
        self.epoch.records == 0
            && !self.epoch.writing
            && self.state.overlay_bytes() == 0
            && self.emitted_watermark == self.head.header.watermark
    }

    pub(super) fn due(&self) -> bool {
        let settings = &self.plan().settings;
        let now = self.context.clock.elapsed();
        if self.is_unchanged() {
            return self.inputs.gaps_are_due(now);
        }
        // The first epoch behind a takeover ends with its first batch: after an outage somebody waits for output.
        if self.head.header.kind == HeaderKind::Claim && self.epoch.records > 0 {
            return true;
        }
        let age = now.saturating_sub(self.epoch.opened);
        age >= settings.commit_interval
            || self.state.overlay_bytes() >= settings.epoch_max_bytes
            || self.context.memory().steps.room(self.epoch.records) == 0
    }

    pub fn commit_if_changed(&mut self) -> Result<(), Error> {
        if self.is_unchanged() { Ok(()) } else { self.commit(HeaderKind::Epoch) }
    }

    /// What the guests have emitted goes to the writer, batch by batch; what is for other clusters to their outlets.
    pub(super) fn emit(&mut self) -> Result<(), Error> {
        if self.chain.outlet.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let (writer, outlet) = (opened(&mut self.writer), &mut self.chain.outlet);
        for (sink, plan) in outlet.sinks.iter_mut().zip(&self.context.plan.sinks) {
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

    /// Ends the epoch.
    pub fn commit(&mut self, kind: HeaderKind) -> Result<(), Error> {
        failpoint("epoch-open");
        let started = self.context.clock.elapsed();
        if kind == HeaderKind::Epoch && self.head.header.kind == HeaderKind::Claim {
            let (job, task) = (&self.plan().job.name, &self.plan().task);
            tracing::debug!(%job, %task, records = self.epoch.records, "first epoch worked on");
        }
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
        if self.is_first_epoch() {
            let (job, task) = (&self.plan().job.name, &self.plan().task);
            tracing::debug!(%job, %task, records = self.epoch.records, "first epoch committed");
        }
        self.committed(kind, started);
        Ok(())
    }

    /// The last header is of the first epoch behind this session's claim.
    fn is_first_epoch(&self) -> bool {
        let header = &self.head.header;
        header.epoch == header.owner.claim + 1
    }

    /// The header that this epoch would commit.
    fn next_header(&self, kind: HeaderKind) -> Header {
        let plan = self.plan();
        let last = &self.head.header;
        let epoch = last.epoch + 1;
        let claim = if kind == HeaderKind::Claim { epoch } else { last.owner.claim };
        let marks = self.watermark.snapshot();
        let inputs = self.inputs.iter().zip(marks).map(|(input, mark)| {
            let source = &plan.sources[input.source];
            InputPosition {
                source: source.id.clone(),
                topic: source.topic.id,
                partition: input.partition,
                next_offset: input.next,
                leader_epoch: input.leader_epoch,
                gap: input.gap,
                watermark: mark.watermark,
                idle: mark.idle,
                upstream: Vec::new(),
            }
        });
        let operators = self.chain.transforms.iter();
        Header {
            kind,
            task: last.task.clone(),
            owner: Owner { session: self.owner, claim, generation: 0 },
            epoch,
            previous: self.head.hash,
            inputs: inputs.collect(),
            watermark: self.emitted_watermark,
            processing_time: self.shown_time,
            base: last.base,
            swap: self.swaps.in_force.or(last.swap),
            time_reset: self.epoch.time_reset.unwrap_or(last.time_reset),
            operators: operators.map(|t| operator_version(&t.id, t.module(), t.migrations.migrator())).collect(),
        }
    }

    /// Where in the changelog the delta that was just committed begins.
    fn delta_offset(&self, epoch: u64) -> Result<i64, Error> {
        let TaskPlan { changelog, task, .. } = &self.context.plan;
        let offset =
            self.writer.as_ref().and_then(|writer| writer.first_offset(&changelog.name, task.changelog_partition()));
        offset.ok_or_else(|| Error::NoPlace {
            epoch,
            topic: changelog.name.clone(),
            partition: task.changelog_partition(),
        })
    }

    fn append_delta(&mut self, header: &Header) -> Result<(), Error> {
        let plan = &self.context.plan;
        let topic = &plan.changelog;
        let changes = self.state.delta();
        let chunks = checkpoint::encode_delta(header, &changes.keys, &changes.values, changelog::chunk_bytes(topic))
            .map_err(|source| Error::Encode { epoch: header.epoch, source })?;
        changelog::append(opened(&mut self.writer), topic, plan.task.changelog_partition(), &chunks)
    }

    /// Opens the next epoch and tells the world about the last one.
    fn committed(&mut self, kind: HeaderKind, started: Duration) {
        let context: &TaskContext = self.context;
        let now = context.clock.elapsed();
        let epoch = std::mem::replace(&mut self.epoch, OpenEpoch { opened: now, ..OpenEpoch::default() });
        {
            let mut memory = context.memory();
            memory.seen = Some((self.head.offset, self.owner));
            memory.steps.committed(epoch.records);
            memory.progress += u64::from(kind != HeaderKind::Claim && (epoch.records > 0 || epoch.emitted > 0));
        }
        self.watch_lag();
        self.show_phase();
        let clock = context.clock.now();
        let freshness = epoch.newest.map(|newest| clock.saturating_sub(newest));
        let ends = [self.watermark.slowest(), self.watermark.fastest()];
        let ends = ends.map(|input| input.map(|(input, time)| self.inputs.time_of(&context.plan, input, time)));
        let put_aside = self.chain.outlet.bad.take_counts();
        context.update(|status| {
            status.epoch = self.head.header.epoch;
            status.show_time(self.emitted_watermark, ends, clock);
            status.time_reset = self.head.header.time_reset;
            status.records_in += epoch.records;
            status.records_out += epoch.emitted;
            status.dead_letters += put_aside.dead_lettered;
            status.skipped += put_aside.skipped;
            put_aside.add_to(&mut status.bad_records);
            status.late += epoch.late;
            status.commits += 1;
            status.open_records = 0;
            status.freshness_ns = freshness.or(status.freshness_ns);
            status.commit_us = now.saturating_sub(started).as_micros() as u64;
            status.positions = self.inputs.positions(&context.plan);
            status.migrating = self.chain.is_migrating();
        });
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
        let mut memory = self.context.memory();
        if ours || !memory.steps.refused(refused) {
            memory.steps = SmallerSteps::default();
        }
        Error::Refused { epoch: self.head.header.epoch + 1, source }
    }
}

/// The writer of an epoch that has begun.
fn opened(writer: &mut Option<Box<dyn Writer>>) -> &mut dyn Writer {
    writer.as_deref_mut().expect("an epoch begins by opening the writer, and only a rest between epochs closes it")
}
