//! Taking a task over and bringing its state to where the changelog says it stands.
//!
//! Order matters: the writer first (it fences and ends what a predecessor left open), then the
//! changelog to its end, then a claim; only then is anything read from the inputs. The changelog is
//! the truth; the local store is used only where exactly the header that it names stands in the chain.
//!
//! Read [`takeover`] first, then the three acts in their order: [`scan`] looks, [`foundation`] decides, [`replay`] does.
//! [`build`] makes a session of what they found; [`start`] is for a task that never ran.

mod broken;
mod build;
mod foundation;
mod replay;
mod scan;
mod start;
mod takeover;

use std::time::Duration;

pub(super) use broken::group;
pub(super) use build::{bindings, restore_watermark, routes_from, routes_of};
pub(super) use replay::marker;
pub use start::deploy;
pub(super) use start::operator_version;

use build::{build_chain, check_inputs, modules_of, position};
use foundation::{End, Foundation, Stop, Witness};
use replay::{Replayed, Store, open_store};
use takeover::{beside, check_topics};

use super::context::TaskContext;
use super::inputs::{self, Inputs};
use super::outlets::Outlets;
use super::plan::TaskPlan;
use super::session::{Firing, Head, Intake, OpenEpoch, Session};
use super::swap::Swaps;
use super::{Error, changelog};
use crate::checkpoint::HeaderKind;
use crate::env::{Bug, bug, failpoint, machine_start};
use crate::log::{Isolation, Log};
use crate::model::{BEFORE_ALL_TIME, Uid};
use crate::state::TaskState;
use crate::watermark::TaskWatermark;

/// No target has this generation: a new session looks at it at once.
const NEVER_HEARD: u64 = u64::MAX;

/// Epoch and session of the last header, at `known` or behind it. Takes nothing over.
///
/// # Errors
/// Those of the log; [`Error::NoHeader`] where there is none.
pub(super) fn last_owner(plan: &TaskPlan, log: &dyn Log, known: i64) -> Result<(u64, Uid), Error> {
    let (topic, partition) = (plan.changelog.name.clone(), plan.task.changelog_partition());
    let last = changelog::last_committed(log, plan, known)?;
    let (_, delta) = last.ok_or(Error::NoHeader { topic, partition })?;
    Ok((delta.header.epoch, delta.header.owner.session))
}

impl<'a> Session<'a> {
    /// Takes over and recovers. Where uploaded code was at fault under the modules that the last header names, the session
    /// is held: it reads no input.
    pub fn recover(context: &'a TaskContext) -> Result<Self, Error> {
        let started = context.clock.elapsed();
        let (plan, log) = (&context.plan, context.log.as_ref());
        // Breaks: the takeover comes first, so that nobody can add to what is read then.
        let early = if bug(Bug::ReadBeforeTakeover) { Some(restore(plan, log, open_store(plan)?)?) } else { None };
        let take_over = || log.writer(&plan.transactional_id());
        let (writer, (rules, store)) = beside(context.overlap, take_over, || {
            let read = plan.sources.iter().map(|source| &source.topic).chain([&plan.changelog]);
            log.expect_readers(&read.map(|topic| topic.name.as_str()).collect::<Vec<_>>(), Isolation::ReadCommitted);
            let rules = check_topics(context)?;
            // What a store holds is judged by the changelog, whenever it was opened.
            Ok((rules, if early.is_none() { Some(open_store(plan)?) } else { None }))
        })?;
        failpoint("recovery-after-init");
        let fenced = context.clock.elapsed();
        let (mut state, mut head) = match (early, store) {
            (Some(early), _) => early,
            (None, Some(store)) => restore(plan, log, store)?,
            (None, None) => restore(plan, log, open_store(plan)?)?,
        };
        failpoint("recovery-after-read");
        let restored = context.clock.elapsed();
        if bug(Bug::PositionsFromGroup) {
            // Breaks: positions are never read from anywhere but the header.
            broken::positions_from_group(plan, log, &mut head.header)?;
        }
        if bug(Bug::ResolveStartTwice) {
            // Breaks: the start is resolved once, at deploy.
            broken::resolve_start_again(plan, log, &mut head.header)?;
        }
        if bug(Bug::ForgetWatermark) {
            // Breaks: watermarks are part of the commit and do not go back.
            head.header.watermark = BEFORE_ALL_TIME;
            head.header.inputs.iter_mut().for_each(|input| input.watermark = BEFORE_ALL_TIME);
        }
        check_inputs(plan, &head.header)?;
        let modules = modules_of(context, &head.header)?;
        let digests = modules.iter().map(|module| module.digest);
        let hold = context.memory().held_under.as_ref().is_some_and(|held| digests.eq(held.iter().copied()));
        state.bind(&bindings(plan, &modules))?;
        let chain = build_chain(context, &head.header, &modules, &rules)?;
        let inputs = Inputs::new(plan, |source, partition| position(&head.header, source, partition));
        let mut watermark = TaskWatermark::new(
            plan.sources.iter().flat_map(|source| source.partitions.iter().map(|_| source.watermark.clone())),
        );
        restore_watermark(&mut watermark, plan, &inputs, &head.header);
        let mut reader = log.reader(Isolation::ReadCommitted)?;
        context.target.wakes(reader.waker());
        if !hold {
            reader.assign(&inputs.assignments(plan, log)?).map_err(inputs::explain)?;
            failpoint("recovery-assigned");
        }
        let mut session = Self {
            context,
            owner: Uid::random(),
            reader,
            writer: Some(writer),
            outlets: Outlets::new(context.clusters.clone()),
            state,
            chain,
            watermark,
            inputs,
            emitted_watermark: head.header.watermark,
            shown_time: head.header.processing_time,
            head,
            epoch: OpenEpoch::default(),
            swaps: Swaps::default(),
            hold,
            heard: NEVER_HEARD,
            intake: Intake::default(),
            firing: Firing::default(),
            lag_asked: None,
            faults_shown: 0,
        };
        // Breaks: a takeover's first act is to commit a claim.
        if !bug(Bug::SkipClaim) {
            session.commit(HeaderKind::Claim)?;
        }
        failpoint("recovery-after-claim");
        session.announce([started, fenced, restored]);
        Ok(session)
    }

    /// Says how long it took, and which part of it.
    fn announce(&self, [started, fenced, restored]: [Duration; 3]) {
        let now = self.context.clock.elapsed();
        let ms = |from: Duration, to: Duration| to.saturating_sub(from).as_millis() as u64;
        let (job, task, epoch) = (&self.plan().job.name, &self.plan().task, self.head.header.epoch);
        let (fence_ms, restore_ms, claim_ms) = (ms(started, fenced), ms(fenced, restored), ms(restored, now));
        tracing::info!(%job, %task, epoch, fence_ms, restore_ms, claim_ms, "task recovered");
        let took = now.saturating_sub(started);
        self.context.update(|status| {
            status.recovery_us = took.as_micros() as u64;
            status.modules = self.module_status();
            status.trial = None;
        });
    }
}

/// State and last header. Whoever calls owns the task.
fn restore(plan: &TaskPlan, log: &dyn Log, (state, marker): Store) -> Result<(TaskState, Head), Error> {
    failpoint("recovery-store-opened");
    let noted = state.noted().filter(|noted| log.outlives_machine() || noted.machine_start == machine_start());
    let noted = noted.map(|noted| noted.marker);
    let scan = scan::scan(plan, log, marker)?;
    let (task, end) = (scan.facts.task, scan.facts.end);
    let foundation = match foundation::choose(&scan.facts) {
        // Breaks: a store ahead of the changelog means that the changelog lost data, and is a stop.
        Err(Stop::Lost { store, .. } | Stop::Gap { store }) if bug(Bug::IgnoreLostTail) => {
            Foundation::ChangelogInPlaceOf(store)
        }
        chosen => chosen.map_err(|stop| explain(plan, stop, end))?,
    };
    let Replayed { state, head, at_noted } =
        replay::replay(plan, log, state, foundation, scan, noted.map(|noted| noted.epoch))?;
    let reached = End { epoch: head.header.epoch, at_noted };
    match foundation::check_end(task, noted, reached).map_err(|stop| explain(plan, stop, end))? {
        Witness::Agrees => {}
        Witness::WentOnWithout(noted) => tracing::warn!(
            job = %plan.job.name, task = %plan.task, epoch = noted.epoch,
            "the changelog holds another epoch than the one that was committed from here under this number: it has lost \
             its end, and another server that did not know of it has gone on; some output was written twice"
        ),
    }
    Ok((state, head))
}

fn explain(plan: &TaskPlan, stop: Stop, end: i64) -> Error {
    let (topic, partition) = (plan.changelog.name.clone(), plan.task.changelog_partition());
    match stop {
        Stop::Lost { store, last } => {
            let found = match last {
                Some(last) => format!("ends at epoch {last} (offset {end})"),
                None => format!("ends at offset {end}"),
            };
            let (stored, offset) = (store.epoch, store.header_offset);
            Error::ChangelogLost { topic, partition, stored, offset, found }
        }
        Stop::Gap { store } => {
            let found = "begins behind it".to_owned();
            Error::ChangelogLost { topic, partition, stored: store.epoch, offset: store.header_offset, found }
        }
        Stop::CutOff { noted, last } => {
            let note = TaskState::note_path(&plan.state_dir);
            Error::ChangelogCutOff {
                topic,
                partition,
                end,
                last,
                noted: noted.epoch,
                offset: noted.header_offset,
                note,
            }
        }
    }
}
