//! Taking a task over and bringing its state to where the changelog says it stands.
//!
//! Order matters: the writer first (it fences and ends what a predecessor left open), then the
//! changelog to its end, then a claim; only then is anything read from the inputs. The changelog is
//! the truth; the local store is used only where exactly the header that it names stands in the chain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::context::TaskContext;
use super::inputs::{self, Inputs};
use super::outlets::Outlets;
use super::plan::{ModuleRef, Origin, SinkPlan, SourcePlan, TaskPlan, TopicRef, Unavailable};
use super::session::{Firing, Head, Intake, OpenEpoch, Session};
use super::swap::Swaps;
use super::{Error, broken, changelog};
use crate::checkpoint::{
    self, Chain as HeaderChain, Delta, Header, HeaderKind, InputPosition, OperatorVersion, Owner, StateVersion,
    TaskIdentity,
};
use crate::env::{Bug, bug, failpoint};
use crate::error::Kind;
use crate::log::{self, Cleanup, CommitOutcome, Isolation, Log, TopicRules};
use crate::model::{BEFORE_ALL_TIME, Digest, NextOffset, PartitionId, Uid};
use crate::operator;
use crate::operator::bad_record::BadRecords;
use crate::operator::chain::Chain;
use crate::operator::migration::{Migrations, Migrator};
use crate::operator::outlet::{Outlet, Route, Share};
use crate::operator::sink::Sink;
use crate::operator::transform::{CallLimits, Transform};
use crate::state::{Changes, Marker, OperatorStates, StateSettings, TaskState};
use crate::wasm::contract::Description;
use crate::watermark::TaskWatermark;

/// No target has this generation: a new session looks at it at once.
const NEVER_HEARD: u64 = u64::MAX;

/// Commits header 0: where the task starts, resolved once. Does nothing where the task has headers.
///
/// # Errors
/// Those of the log; [`Error::Indefinite`] where the caller must try again.
pub fn deploy(plan: &TaskPlan, log: &dyn Log) -> Result<(), Error> {
    let mut writer = log.writer(&plan.transactional_id())?;
    let mut found = false;
    let start = log.start_offset(&plan.changelog.name, plan.task as i32)?;
    changelog::read_to_end(log, plan, start, |_, _| {
        found = true;
        Ok(())
    })?;
    if found {
        return Ok(());
    }
    failpoint("deploy-before-header");
    let header = header_zero(plan);
    let chunks = checkpoint::encode_delta(
        &header,
        &Default::default(),
        &Default::default(),
        changelog::chunk_bytes(&plan.changelog),
    )
    .map_err(|source| Error::Encode { epoch: 0, source })?;
    writer.begin()?;
    changelog::append(writer.as_mut(), &plan.changelog, plan.task, &chunks)?;
    let outcome = writer.commit()?;
    failpoint("deploy-after-header");
    match outcome {
        CommitOutcome::Committed => Ok(()),
        CommitOutcome::Indefinite(source) => Err(Error::Indefinite { epoch: 0, source }),
    }
}

/// Epoch and session of the last header, at `known` or behind it. Takes nothing over.
///
/// # Errors
/// Those of the log; [`Error::ChangelogLost`] where there is none.
pub(super) fn last_owner(plan: &TaskPlan, log: &dyn Log, known: i64) -> Result<(u64, Uid), Error> {
    let mut last = None;
    changelog::read_to_stable_end(log, plan, known, |_, delta| {
        last = Some((delta.header.epoch, delta.header.owner.session));
        Ok(())
    })?;
    let (topic, partition) = (plan.changelog.name.clone(), plan.task as i32);
    last.ok_or(Error::ChangelogLost { topic, partition, stored: 0, last: 0 })
}

pub(super) fn header_zero(plan: &TaskPlan) -> Header {
    let inputs = plan.sources.iter().flat_map(|source| {
        source.partitions.iter().zip(&source.start).map(|(&partition, &next)| InputPosition {
            source: source.id.clone(),
            topic: source.topic.id,
            partition,
            next_offset: next,
            leader_epoch: None,
            watermark: BEFORE_ALL_TIME,
            idle: false,
            upstream: Vec::new(),
        })
    });
    Header {
        kind: HeaderKind::Start,
        task: identity(plan),
        owner: Owner { session: Uid::random(), claim: 0, generation: 0 },
        epoch: 0,
        previous: [0; 32],
        inputs: inputs.collect(),
        watermark: BEFORE_ALL_TIME,
        processing_time: BEFORE_ALL_TIME,
        base: None,
        swap: None,
        operators: plan.operators.iter().map(|op| operator_version(&op.id, &op.module, None)).collect(),
    }
}

/// Whose headers the changelog partition holds.
fn identity(plan: &TaskPlan) -> TaskIdentity {
    TaskIdentity {
        job: plan.job.uid,
        incarnation: plan.job.incarnation,
        stage: plan.stage.clone(),
        task: plan.task,
        parallelism: plan.parallelism,
    }
}

/// What a header says of the module that an operator runs.
pub(super) fn operator_version(id: &str, module: &ModuleRef, migrator: Option<Digest>) -> OperatorVersion {
    let states = module.description().states.iter();
    OperatorVersion {
        id: id.to_owned(),
        module: module.digest,
        migrator,
        states: states.map(|s| StateVersion { name: s.name.clone(), version: s.version }).collect(),
    }
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
        let (job, task, epoch) = (&self.plan().job.name, self.plan().task, self.head.header.epoch);
        let (fence_ms, restore_ms, claim_ms) = (ms(started, fenced), ms(fenced, restored), ms(restored, now));
        tracing::info!(%job, task, epoch, fence_ms, restore_ms, claim_ms, "task recovered");
        let took = now.saturating_sub(started);
        self.context.update(|status| {
            status.recovery_us = took.as_micros() as u64;
            status.modules = self.module_status();
            status.trial = None;
        });
    }
}

/// The rules of topics as they are now (they may have changed since the plan was made), by other cluster and name.
type Rules<'a> = BTreeMap<(Option<&'a str>, &'a str), TopicRules>;

/// A topic that was made again under its name is another topic. Each is asked for where it is.
fn check_topics(context: &TaskContext) -> Result<Rules<'_>, Error> {
    let TaskContext { plan, log, clusters, .. } = context;
    let mut rules = Rules::new();
    let sources = plan.sources.iter().map(|source| &source.topic);
    let at_home = sources.chain(sinks_on(plan, None)).chain([&plan.changelog, &plan.dead_letters]).collect();
    check_same(log.as_ref(), None, at_home, &mut rules)?;
    let elsewhere: BTreeSet<&str> = plan.sinks.iter().filter_map(|sink| sink.cluster.as_deref()).collect();
    for cluster in elsewhere {
        check_same(clusters.other(cluster)?.as_ref(), Some(cluster), sinks_on(plan, Some(cluster)), &mut rules)?;
    }
    log.check_internal(&plan.changelog.name, plan.changelog.partitions, Cleanup::Delete)?;
    Ok(rules)
}

fn sinks_on<'a>(plan: &'a TaskPlan, cluster: Option<&str>) -> Vec<&'a TopicRef> {
    plan.sinks.iter().filter(|sink| sink.cluster.as_deref() == cluster).map(|sink| &sink.topic).collect()
}

fn check_same<'a>(
    log: &dyn Log,
    cluster: Option<&'a str>,
    needed: Vec<&'a TopicRef>,
    rules: &mut Rules<'a>,
) -> Result<(), Error> {
    let names: Vec<_> = needed.iter().map(|topic| topic.name.as_str()).collect();
    let there = log.topics_named(&names)?;
    for TopicRef { name, id, .. } in needed {
        let found = there.iter().find(|topic| topic.spec.name == *name);
        let found = found.ok_or_else(|| Error::TopicGone { topic: name.clone() })?;
        // Breaks: offsets count only in the topic that they are of.
        if found.id != *id && !bug(Bug::IgnoreTopicId) {
            return Err(Error::TopicChanged { topic: name.clone(), expected: *id, found: found.id });
        }
        rules.insert((cluster, name), found.rules());
    }
    Ok(())
}

/// The inputs are those that the last header has positions in: also where a topic was made again before this process
/// made its plan.
fn check_inputs(plan: &TaskPlan, header: &Header) -> Result<(), Error> {
    if bug(Bug::IgnoreTopicId) {
        return Ok(()); // Breaks: offsets count only in the topic that they are of.
    }
    for source in &plan.sources {
        let TopicRef { name, id, .. } = &source.topic;
        let other = header.inputs.iter().find(|input| input.source == source.id && input.topic != *id);
        if let Some(input) = other {
            return Err(Error::TopicChanged { topic: name.clone(), expected: input.topic, found: *id });
        }
    }
    Ok(())
}

/// Takes the task over, and does beside it what needs no ownership: the cluster may let a takeover wait.
fn beside<A: Send, B>(
    overlap: bool,
    take_over: impl FnOnce() -> Result<A, log::Error> + Send,
    prepare: impl FnOnce() -> Result<B, Error>,
) -> Result<(A, B), Error> {
    if !overlap {
        let prepared = prepare()?;
        return Ok((take_over()?, prepared));
    }
    std::thread::scope(|scope| {
        let taking = scope.spawn(take_over);
        let prepared = prepare();
        let taken = taking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What is wrong with the topics says more than that the takeover came to nothing.
        let prepared = prepared?;
        Ok((taken?, prepared))
    })
}

type Store = (TaskState, Option<Marker>);

/// State and last header: from the local store and the tail behind it, or from the whole changelog.
fn restore(plan: &TaskPlan, log: &dyn Log, (mut state, marker): Store) -> Result<(TaskState, Head), Error> {
    failpoint("recovery-store-opened");
    if let Some(marker) = marker {
        let replayed = match replay_behind(plan, log, &mut state, marker) {
            // Breaks: a store ahead of the changelog means that the changelog lost data, and is a stop.
            Err(Error::ChangelogLost { .. }) if bug(Bug::IgnoreLostTail) => None,
            replayed => replayed?,
        };
        match replayed {
            Some(head) => return Ok((state, head)),
            None => {
                tracing::warn!(dir = %plan.state_dir.display(), epoch = marker.epoch, "local store is not in the chain: rebuilding it");
                drop(state);
                state = fresh_store(plan)?;
            }
        }
    }
    let start = log.start_offset(&plan.changelog.name, plan.task as i32)?;
    let mut chain = HeaderChain::at_start(identity(plan));
    let mut head: Option<Head> = None;
    changelog::read_to_end(log, plan, start, |offset, delta| {
        head = Some(replay(plan, &mut state, &mut chain, offset, delta)?);
        Ok(())
    })?;
    match head {
        Some(head) => Ok((state, head)),
        // Breaks: a task that finds no header stops.
        None if bug(Bug::StartWithoutHeader) => Ok((state, broken::start_over(plan)?)),
        None => Err(Error::NoHeader { topic: plan.changelog.name.clone(), partition: plan.task as i32 }),
    }
}

/// A store that is damaged, or that another build wrote, is only a cache of the changelog.
fn open_store(plan: &TaskPlan) -> Result<Store, Error> {
    match TaskState::open(&plan.state_dir, &state_settings(plan)) {
        Err(error) if error.kind() == Kind::Corrupt => {
            tracing::warn!("rebuilding the local store from the changelog: {error}");
            Ok((fresh_store(plan)?, None))
        }
        opened => Ok(opened?),
    }
}

fn fresh_store(plan: &TaskPlan) -> Result<TaskState, Error> {
    TaskState::wipe(&plan.state_dir)?;
    failpoint("recovery-store-wiped");
    Ok(TaskState::open(&plan.state_dir, &state_settings(plan))?.0)
}

fn state_settings(plan: &TaskPlan) -> StateSettings {
    StateSettings { cache_bytes: plan.settings.cache_bytes, ..StateSettings::default() }
}

/// Replays what stands behind the header that the store names. `None` where that header is not the
/// one that stands at its place, or the store is another task's.
fn replay_behind(plan: &TaskPlan, log: &dyn Log, state: &mut TaskState, marker: Marker) -> Result<Option<Head>, Error> {
    let (topic, partition) = (&plan.changelog.name, plan.task as i32);
    if marker.task != identity(plan).digest() {
        return Ok(None);
    }
    let end = log.end_offset(topic, partition, Isolation::ReadUncommitted)?;
    let lost = |last| Error::ChangelogLost { topic: topic.clone(), partition, stored: marker.epoch, last };
    if marker.header_offset >= end {
        return Err(lost(0));
    }
    // What the store stands on was deleted. The store may be all that is left: it is kept.
    if marker.header_offset < log.start_offset(topic, partition)? {
        return Err(lost(0));
    }
    let mut chain = HeaderChain::behind(identity(plan), marker.epoch, marker.header_hash);
    let mut head: Option<Head> = None;
    let (mut foreign, mut last) = (false, 0);
    changelog::read_to_end(log, plan, marker.header_offset, |offset, delta| {
        last = delta.header.epoch;
        if head.is_none() {
            foreign = delta.hash != marker.header_hash;
            if bug(Bug::TrustEpochNumber) {
                // Breaks: the store counts only where exactly the header that it names stands in the chain.
                foreign = delta.header.epoch != marker.epoch;
                chain = HeaderChain::behind(identity(plan), marker.epoch, delta.hash);
            }
            head = Some(Head { hash: delta.hash, header: delta.header, offset });
        // Breaks: after a takeover the changelog is read to its end.
        } else if !foreign && !bug(Bug::TakeoverWithoutReading) {
            head = Some(replay(plan, state, &mut chain, offset, delta)?);
        }
        Ok(())
    })?;
    match head {
        None => Err(lost(0)),
        Some(_) if foreign && last < marker.epoch => Err(lost(last)),
        Some(_) if foreign => Ok(None),
        Some(head) => Ok(Some(head)),
    }
}

/// Checks one delta against the chain and puts its changes into the store.
fn replay(
    plan: &TaskPlan,
    state: &mut TaskState,
    chain: &mut HeaderChain,
    offset: i64,
    delta: Delta,
) -> Result<Head, Error> {
    let Delta { header, hash, keys, values } = delta;
    chain.follow(&header, hash).map_err(|source| changelog::error(&plan.changelog, plan.task, offset, source))?;
    state.replay(&Changes { keys, values }, marker(&header, hash, offset))?;
    failpoint("recovery-delta-replayed");
    Ok(Head { header, hash, offset })
}

/// What a store says that has taken in the epoch of a header which stands at this offset.
pub(super) fn marker(header: &Header, header_hash: [u8; 32], header_offset: i64) -> Marker {
    Marker { epoch: header.epoch, header_offset, header_hash, task: header.task.digest() }
}

fn position(header: &Header, source: &SourcePlan, partition: PartitionId) -> Option<(NextOffset, Option<i32>)> {
    let known = header.inputs.iter().find(|input| input.source == source.id && input.partition == partition);
    known.map(|input| (input.next_offset, input.leader_epoch))
}

pub(super) fn restore_watermark(watermark: &mut TaskWatermark, plan: &TaskPlan, inputs: &Inputs, header: &Header) {
    for (i, input) in inputs.iter().enumerate() {
        let source = &plan.sources[input.source].id;
        let known = header.inputs.iter().find(|at| at.source == *source && at.partition == input.partition);
        match known {
            Some(known) => watermark.restore(i, known.watermark, known.idle),
            // A partition that is new starts at the emitted watermark: it must not hold time back.
            None => watermark.restore(i, header.watermark, false),
        }
    }
}

/// The module of every operator, as the header says; the plan's own where it is the same.
fn modules_of(context: &TaskContext, header: &Header) -> Result<Vec<ModuleRef>, Error> {
    let operators = context.plan.operators.iter();
    operators
        .map(|operator| {
            let version = header.operators.iter().find(|version| version.id == operator.id);
            match version {
                Some(version) if version.module != operator.module.digest => {
                    load(context, &operator.id, version.module)
                }
                _ => Ok(operator.module.clone()),
            }
        })
        .collect()
}

fn load(context: &TaskContext, operator: &str, digest: Digest) -> Result<ModuleRef, Error> {
    context.modules.module(operator, digest).map_err(|Unavailable { why: found, kind }| Error::Module {
        operator: operator.to_owned(),
        found,
        kind,
    })
}

pub(super) fn bindings(plan: &TaskPlan, modules: &[ModuleRef]) -> Vec<OperatorStates> {
    let of = plan.operators.iter().zip(modules);
    of.map(|(operator, module)| {
        let description = module.description();
        OperatorStates {
            id: operator.id.clone(),
            states: description.states.iter().map(|state| state.name.clone()).collect(),
            timers: description.timers.iter().map(|timer| timer.name.clone()).collect(),
        }
    })
    .collect()
}

fn build_chain(
    context: &TaskContext,
    header: &Header,
    modules: &[ModuleRef],
    rules: &Rules<'_>,
) -> Result<Chain, Error> {
    let plan = &context.plan;
    let keyed: Vec<_> = modules.iter().map(|module| module.description().keyed).collect();
    let mut transforms = Vec::with_capacity(plan.operators.len());
    for (index, operator) in plan.operators.iter().enumerate() {
        let module = modules[index].clone();
        let version = header.operators.iter().find(|version| version.id == operator.id);
        let migrator = match version.and_then(|version| version.migrator) {
            Some(digest) => Some(instantiate_migrator(context, &operator.id, &module, digest)?),
            None => None,
        };
        let migrations = Migrations::new(index, &module.description().states, migrator);
        let mut transform = Transform::new(&plan.job.name, &operator.id, index, module, migrations);
        transform.reroute(routes_of(plan, modules, index), &keyed);
        transforms.push(transform);
    }
    let share = Share { task: plan.task, parallelism: plan.parallelism, partitioner: plan.partitioner() };
    let outlet =
        Outlet::new(plan.sinks.iter().map(|plan| sink(plan, rules)).collect(), bad_records(plan, rules), share, keyed);
    let source_routes = (0..plan.sources.len()).map(|s| routes_from(plan, modules, Origin::Source(s))).collect();
    let sources = plan.sources.iter().map(|source| (source.id.clone(), source.topic.name.clone())).collect();
    let settings = &plan.settings;
    let limits = CallLimits { max_records: settings.batch_max_records, max_bytes: settings.batch_max_bytes };
    Ok(Chain::new(transforms, outlet, source_routes, sources, limits, settings.timer_batch))
}

fn instantiate_migrator(
    context: &TaskContext,
    operator: &str,
    running: &ModuleRef,
    digest: Digest,
) -> Result<Migrator, Error> {
    let module = if digest == running.digest { running.clone() } else { load(context, operator, digest)? };
    let guest = module
        .instantiate(&context.plan.job.name, operator, &[])
        .map_err(|source| Error::Operator(operator::Error::guest(operator, &module, source)))?;
    Ok(Migrator::new(module, guest))
}

fn sink(plan: &SinkPlan, rules: &Rules<'_>) -> Sink {
    let TopicRef { name, partitions, rules: planned, .. } = &plan.topic;
    let now = rules.get(&(plan.cluster.as_deref(), name.as_str()));
    Sink::new(&plan.id, name, *partitions, *now.unwrap_or(planned), plan.timestamp)
}

fn bad_records(plan: &TaskPlan, rules: &Rules<'_>) -> BadRecords {
    let topic = &plan.dead_letters;
    let now = *rules.get(&(None, topic.name.as_str())).unwrap_or(&topic.rules);
    let partition = (plan.task % topic.partitions.max(1)) as i32;
    let job = (plan.job.name.as_str(), plan.job.uid);
    BadRecords::new(job, plan.bad_records.clone(), &topic.name, partition, now)
}

/// Per output of operator `index`, in its module's order, where it leads. The plan's numbers are those
/// of the plan's own module; outputs and inputs are matched by name, so that another version may
/// declare them in another order.
pub(super) fn routes_of(plan: &TaskPlan, modules: &[ModuleRef], index: usize) -> Vec<Vec<Route>> {
    let planned = plan.operators[index].module.description();
    let outputs = modules[index].description().outputs.iter();
    outputs
        .map(|name| match planned.outputs.iter().position(|output| output == name) {
            Some(output) => routes_from(plan, modules, Origin::Output { operator: index, output: output as u8 }),
            None => Vec::new(),
        })
        .collect()
}

pub(super) fn routes_from(plan: &TaskPlan, modules: &[ModuleRef], from: Origin) -> Vec<Route> {
    let sinks = plan.sinks.iter().enumerate().filter(|(_, sink)| sink.from == from).map(|(s, _)| Route::Sink(s));
    let operators = plan.operators.iter().enumerate().flat_map(|(operator, planned)| {
        let inputs = planned.inputs.iter().filter(move |(origin, _)| *origin == from);
        inputs.map(move |&(_, input)| {
            let input = renumber(planned.module.description(), modules[operator].description(), input);
            Route::Operator { operator, input }
        })
    });
    operators.chain(sinks).collect()
}

fn renumber(planned: &Arc<Description>, running: &Arc<Description>, input: u8) -> u8 {
    let name = planned.inputs.get(input as usize);
    let position = name.and_then(|name| running.inputs.iter().position(|input| input == name));
    position.map_or(input, |position| position as u8)
}
