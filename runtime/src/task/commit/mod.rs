//! The one commit point: output, dead letters, state changes, timers, positions, watermark and module versions of an
//! epoch become durable together or not at all. Output to other clusters is there before.
//!
//! Owns the writer, the open epoch and the last header. The steps of a commit and their order are rules of the protocol:
//! see [`rules`](super::rules).

#[cfg(any(test, feature = "seeded-bugs"))]
mod broken;

use std::time::Duration;

use super::context::TaskContext;
use super::epoch::{Head, OpenEpoch, marker};
use super::inbox::Inbox;
use super::lane::Lane;
use super::outlets::Outlets;
use super::plan::TaskPlan;
use super::rules::{InDoubt, Open, Step, rules};
use super::smaller_steps::{Refused, SmallerSteps};
use super::{Error, changelog};
use crate::checkpoint::{self, Header, HeaderKind};
use crate::env::failpoint;
use crate::log::{self, CommitOutcome, Isolation, Writer};
use crate::model::Uid;
use crate::operator::outlet::Outlet;

pub(super) struct Committer<'a> {
    context: &'a TaskContext,
    /// Random per takeover.
    owner: Uid,
    /// None while the task is idle: an open one costs the cluster and this process alike.
    pub writer: Option<Box<dyn Writer>>,
    outlets: Outlets,
    pub head: Head,
    pub epoch: OpenEpoch,
}

/// An epoch that has been committed.
pub(super) struct Committed {
    pub epoch: OpenEpoch,
    /// When the commit began, of the clock that counts from the start.
    pub started: Duration,
}

impl<'a> Committer<'a> {
    /// Of a task that has been taken over with this writer, behind its last header.
    pub fn new(context: &'a TaskContext, writer: Box<dyn Writer>, head: Head) -> Self {
        let outlets = Outlets::new(context.clusters.clone());
        Self { context, owner: Uid::random(), writer: Some(writer), outlets, head, epoch: OpenEpoch::default() }
    }

    /// What the open epoch has come to.
    pub fn open(&self, lane: &Lane, inbox: &Inbox) -> Open {
        let now = self.context.clock.elapsed();
        Open {
            records: self.epoch.records,
            writing: self.epoch.writing,
            overlay_bytes: lane.state.overlay_bytes(),
            time_moved: lane.emitted_watermark != self.head.header.watermark,
            age: now.saturating_sub(self.epoch.opened),
            behind_claim: self.head.header.kind == HeaderKind::Claim,
            is_full: self.context.memory().steps.room(self.epoch.records) == 0,
            gaps_are_due: inbox.inputs.gaps_are_due(now),
        }
    }

    /// What the operators have emitted goes to the writer, batch by batch; what is for other clusters to their outlets.
    pub fn emit(&mut self, outlet: &mut Outlet) -> Result<(), Error> {
        if outlet.is_empty() {
            return Ok(());
        }
        self.begin()?;
        let writer = opened(&mut self.writer);
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

    /// Ends the epoch, and opens the next one.
    pub fn commit(&mut self, kind: HeaderKind, lane: &mut Lane, inbox: &mut Inbox) -> Result<Committed, Error> {
        failpoint("epoch-open");
        let started = self.context.clock.elapsed();
        let plan = &self.context.plan;
        if kind == HeaderKind::Epoch && self.head.header.kind == HeaderKind::Claim {
            tracing::debug!(job = %plan.job.name, task = %plan.task, records = self.epoch.records, "first epoch worked on");
        }
        self.emit(&mut lane.chain.outlet)?;
        self.begin()?;
        let header = self.head.next(kind, self.owner, &self.epoch, plan, lane, &inbox.inputs);
        let hash = header.hash().map_err(|source| Error::Encode { epoch: header.epoch, source })?;
        // Where the delta stands in the changelog; known once it is there.
        let mut offset = None;
        for step in rules().commit {
            match step {
                Step::AppendDelta => self.append_delta(&header, lane)?,
                Step::SettleElsewhere => self.outlets.settle()?,
                Step::Commit => {
                    failpoint("before-commit");
                    offset = match (opened(&mut self.writer).commit()?, rules().in_doubt) {
                        (CommitOutcome::Committed, _) => Some(self.delta_offset(header.epoch)?),
                        (CommitOutcome::Indefinite(source), InDoubt::Recover) => {
                            return Err(Error::Indefinite { epoch: header.epoch, source });
                        }
                        #[cfg(any(test, feature = "seeded-bugs"))]
                        (CommitOutcome::Indefinite(_), InDoubt::Wrong(wrong)) => {
                            match broken::in_doubt(self, wrong, lane, inbox, (&header, hash))? {
                                Some(offset) => Some(offset),
                                None => return Ok(Committed { epoch: OpenEpoch::default(), started }),
                            }
                        }
                    };
                    failpoint("after-commit");
                }
                Step::Apply => {
                    let offset = offset.ok_or_else(|| self.no_place(header.epoch))?;
                    lane.state.apply(marker(&header, hash, offset))?;
                    failpoint("after-apply");
                }
                #[cfg(any(test, feature = "seeded-bugs"))]
                Step::Wrong(wrong) => broken::step(self, *wrong, lane, inbox, (&header, hash))?,
            }
        }
        let offset = offset.ok_or_else(|| self.no_place(header.epoch))?;
        Ok(self.committed(Head { header, hash, offset }, inbox, started))
    }

    /// Opens the next epoch.
    fn committed(&mut self, head: Head, inbox: &mut Inbox, started: Duration) -> Committed {
        let (context, kind) = (self.context, head.header.kind);
        self.head = head;
        inbox.inputs.committed();
        if self.head.is_first_behind_claim() {
            let (job, task) = (&context.plan.job.name, &context.plan.task);
            tracing::debug!(%job, %task, records = self.epoch.records, "first epoch committed");
        }
        let opened = context.clock.elapsed();
        let epoch = std::mem::replace(&mut self.epoch, OpenEpoch { opened, ..OpenEpoch::default() });
        let mut memory = context.memory();
        memory.seen = Some((self.head.offset, self.owner));
        memory.steps.committed(epoch.records);
        memory.progress += u64::from(kind != HeaderKind::Claim && (epoch.records > 0 || epoch.emitted > 0));
        Committed { epoch, started }
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

    /// Gives the writer up: between two epochs, when there has been nothing to write for a while.
    pub fn rest(&mut self) {
        self.writer = None;
        self.outlets.close();
    }

    /// Takes the transactional id over again after a rest. Meanwhile somebody else may have owned the task: then the
    /// changelog holds what this session does not know, and nothing that it has computed may be committed.
    fn reopen(&mut self) -> Result<(), Error> {
        if self.writer.is_some() {
            return Ok(());
        }
        let (plan, log) = (&self.context.plan, self.context.log.as_ref());
        self.writer = Some(log.writer(&plan.transactional_id())?);
        failpoint("writer-reopened");
        if !rules().rest_is_followed_by_reading {
            return Ok(());
        }
        let mut last = None;
        changelog::read_to_end(log, plan, self.head.offset, |_, delta| {
            last = Some(delta.hash);
            Ok(())
        })?;
        if last == Some(self.head.hash) { Ok(()) } else { Err(self.overtaken()) }
    }

    /// Whether the last epoch is still this session's, read without taking the transactional id over: that would fence
    /// whoever may own the task now. Answers where the changelog ends.
    pub fn verify(&self) -> Result<i64, Error> {
        let (plan, log) = (&self.context.plan, self.context.log.as_ref());
        let (topic, partition) = (&plan.changelog.name, plan.task.changelog_partition());
        let end = log.end_offset(topic, partition, Isolation::ReadCommitted)?;
        let last = changelog::last_committed(log, plan, self.head.offset)?;
        if last.is_some_and(|(_, delta)| delta.hash == self.head.hash) { Ok(end) } else { Err(self.overtaken()) }
    }

    fn overtaken(&self) -> Error {
        let TaskPlan { changelog, task, .. } = &self.context.plan;
        Error::Overtaken { topic: changelog.name.clone(), partition: task.changelog_partition() }
    }

    fn append_delta(&mut self, header: &Header, lane: &mut Lane) -> Result<(), Error> {
        let plan = &self.context.plan;
        let topic = &plan.changelog;
        let changes = lane.state.delta();
        let chunks = checkpoint::encode_delta(header, &changes.keys, &changes.values, changelog::chunk_bytes(topic))
            .map_err(|source| Error::Encode { epoch: header.epoch, source })?;
        self.epoch.chunks = chunks.len();
        changelog::append(opened(&mut self.writer), topic, plan.task.changelog_partition(), &chunks)
    }

    /// Where in the changelog the delta that was just committed begins.
    fn delta_offset(&self, epoch: u64) -> Result<i64, Error> {
        let TaskPlan { changelog, task, .. } = &self.context.plan;
        let offset =
            self.writer.as_ref().and_then(|writer| writer.first_offset(&changelog.name, task.changelog_partition()));
        offset.ok_or_else(|| self.no_place(epoch))
    }

    fn no_place(&self, epoch: u64) -> Error {
        let TaskPlan { changelog, task, .. } = &self.context.plan;
        Error::NoPlace { epoch, topic: changelog.name.clone(), partition: task.changelog_partition() }
    }

    /// The log has refused a record that had passed all checks: the next session goes on in smaller steps.
    pub fn after_refusal(&self, error: Error) -> Error {
        let Error::Log(source) = error else { return error };
        let (log::Error::RecordRefused { topic, .. }
        | log::Error::RecordTooLarge { topic, .. }
        | log::Error::InvalidRecord { topic, .. }) = &source
        else {
            return Error::Log(source);
        };
        let ours = *topic == self.context.plan.changelog.name;
        let refused = Refused { records: self.epoch.records, first: self.epoch.first, why: source.to_string() };
        let mut memory = self.context.memory();
        if ours || !memory.steps.refused(refused) || !rules().smaller_steps_are_remembered {
            memory.steps = SmallerSteps::default();
        }
        Error::Refused { epoch: self.head.header.epoch + 1, source }
    }
}

/// The writer of an epoch that has begun.
fn opened(writer: &mut Option<Box<dyn Writer>>) -> &mut dyn Writer {
    writer.as_deref_mut().expect("an epoch begins by opening the writer, and only a rest between epochs closes it")
}

/// A header and the hash of its bytes.
#[cfg(any(test, feature = "seeded-bugs"))]
type Hashed<'a> = (&'a Header, checkpoint::HeaderHash);
