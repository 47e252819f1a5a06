//! Taking a task over and bringing its state to where the changelog says it stands.
//!
//! Order matters: the writer first (it fences and ends what a predecessor left open), then the
//! changelog to its end, then a claim; only then is anything read from the inputs. The changelog is
//! the truth; the local store is used only where exactly the header that it names stands in the chain.
//!
//! Read [`takeover`] first, then the three acts in their order: [`scan`] looks, [`foundation`] decides, [`replay`] does.
//! [`build`] makes a session of what they found; [`start`] is for a task that never ran.

#[cfg(any(test, feature = "seeded-bugs"))]
mod broken;
mod build;
mod foundation;
mod replay;
mod scan;
mod start;
mod takeover;

use std::time::Duration;

pub use start::deploy;

use build::{build_chain, check_inputs, descriptions, modules_of, position};
use foundation::{End, Foundation, Stop, Witness};
use replay::{Replayed, Store, open_store};
use takeover::{TopicRulesNow, beside, check_topics};

use super::change::Changes;
use super::commit::Committer;
use super::context::TaskContext;
use super::epoch::Head;
use super::inbox::Inbox;
use super::inputs::Inputs;
use super::lane::{Firing, Lane};
use super::plan::TaskPlan;
use super::report::Report;
use super::rules::{Act, rules};
use super::session::Session;
use super::wiring::bindings;
use super::{Error, changelog};
use crate::checkpoint::HeaderKind;
use crate::codec::Decoded;
use crate::env::{failpoint, machine_start};
use crate::log::{Isolation, Log, Writer};
use crate::model::{BEFORE_ALL_TIME, Uid};
use crate::state::TaskState;
use crate::watermark::TaskWatermark;

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

/// What a takeover has come to.
struct Takeover<'a> {
    context: &'a TaskContext,
    /// Opened beside the takeover: what a store holds is judged by the changelog, whenever it was opened.
    store: Option<Store>,
    fenced: Option<Fenced<'a>>,
    restored: Option<(TaskState, Head)>,
}

/// The task is owned.
struct Fenced<'a> {
    writer: Box<dyn Writer>,
    topics: TopicRulesNow<'a>,
    /// When, of the clock that counts from the start.
    at: Duration,
}

impl<'a> Takeover<'a> {
    fn act(&mut self, act: Act) -> Result<(), Error> {
        match act {
            Act::Fence => self.fence(),
            Act::Restore => self.restore(),
            #[cfg(any(test, feature = "seeded-bugs"))]
            Act::Wrong(wrong) => match &mut self.restored {
                Some((_, head)) => broken::act(wrong, &self.context.plan, self.context.log.as_ref(), &mut head.header),
                None => Ok(()),
            },
        }
    }

    fn fence(&mut self) -> Result<(), Error> {
        let context = self.context;
        let (plan, log) = (&context.plan, context.log.as_ref());
        let take_over = || log.writer(&plan.transactional_id());
        let is_restored = self.restored.is_some();
        let (writer, (topics, store)) = beside(context.overlap, take_over, || {
            let read = plan.sources.iter().map(|source| &source.topic).chain([&plan.changelog]);
            log.expect_readers(&read.map(|topic| topic.name.as_str()).collect::<Vec<_>>(), Isolation::ReadCommitted);
            let topics = check_topics(context)?;
            Ok((topics, if is_restored { None } else { Some(open_store(plan)?) }))
        })?;
        failpoint("recovery-after-init");
        self.store = store;
        self.fenced = Some(Fenced { writer, topics, at: context.clock.elapsed() });
        Ok(())
    }

    fn restore(&mut self) -> Result<(), Error> {
        let plan = &self.context.plan;
        let store = match self.store.take() {
            Some(store) => store,
            None => open_store(plan)?,
        };
        self.restored = Some(restore(plan, self.context.log.as_ref(), store)?);
        failpoint("recovery-after-read");
        Ok(())
    }
}

impl<'a> Session<'a> {
    /// Takes over and recovers. Where uploaded code was at fault under the modules that the last header names, the session
    /// is held: it reads no input.
    pub fn recover(context: &'a TaskContext) -> Result<Self, Error> {
        let started = context.clock.elapsed();
        let mut takeover = Takeover { context, store: None, fenced: None, restored: None };
        for &act in rules().takeover {
            takeover.act(act)?;
        }
        let restored = context.clock.elapsed();
        let Takeover { fenced: Some(fenced), restored: Some((mut state, mut head)), .. } = takeover else {
            unreachable!("a takeover fences and restores, in whatever order");
        };
        let plan = &context.plan;
        if !rules().watermarks_are_restored {
            head.header.watermark = BEFORE_ALL_TIME;
            head.header.inputs.iter_mut().for_each(|input| input.watermark = BEFORE_ALL_TIME);
        }
        check_inputs(plan, &head.header)?;
        let modules = modules_of(context, &head.header)?;
        let digests = modules.iter().map(|module| module.digest);
        let hold = context
            .memory()
            .held_under
            .as_ref()
            .is_some_and(|held| !rules().hold_ends_with_its_modules || digests.eq(held.iter().copied()));
        state.bind(&bindings(plan, &descriptions(&modules)))?;
        let chain = build_chain(context, &head.header, &modules, &fenced.topics)?;
        let inputs = Inputs::new(plan, |source, partition| position(&head.header, source, partition));
        let mut watermark = TaskWatermark::new(
            plan.sources.iter().flat_map(|source| source.partitions.iter().map(|_| source.watermark.clone())),
        );
        inputs.restore_watermark(&mut watermark, plan, &head.header);
        let mut inbox = Inbox::open(context, inputs)?;
        if !hold {
            inbox.assign(context)?;
            failpoint("recovery-assigned");
        }
        let lane = Lane {
            chain,
            state,
            watermark,
            emitted_watermark: head.header.watermark,
            shown_time: head.header.processing_time,
            decoded: Decoded::default(),
            firing: Firing::default(),
        };
        let committer = Committer::new(context, fenced.writer, head);
        let (changes, report) = (Changes::default(), Report::new(context));
        let mut session = Self { context, lane, inbox, committer, changes, hold, report };
        if rules().takeover_is_claimed {
            session.commit(HeaderKind::Claim)?;
        }
        failpoint("recovery-after-claim");
        session.report.recovered(&session.committer, &session.lane, [started, fenced.at, restored]);
        Ok(session)
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
        Err(Stop::Lost { store, .. } | Stop::Gap { store }) if !rules().lost_tail_is_a_stop => {
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
