//! What a session needs beside the state: the chain of operators, the inputs and event time, as the last header and the
//! plan say.
//!
//! Owns nothing. The header decides which module runs and where reading goes on; the plan decides what leads where.

use std::sync::Arc;

use super::takeover::TopicRulesNow;
use crate::checkpoint::{Header, InputPosition};
use crate::model::{Digest, PartitionId};
use crate::operator;
use crate::operator::chain::Chain;
use crate::operator::dead_letter::BadRecords;
use crate::operator::kind::Operator;
use crate::operator::migration::{Migrations, Migrator};
use crate::operator::outlet::{Outlet, Share};
use crate::operator::sink::Sink;
use crate::operator::transform::{CallLimits, Transform};
use crate::task::Error;
use crate::task::context::TaskContext;
use crate::task::plan::{ModuleRef, Origin, SinkPlan, SourcePlan, TaskPlan, TopicRef, Unavailable};
use crate::task::rules::rules;
use crate::task::wiring::{routes_from, routes_of};
use crate::wasm::contract::Description;

/// The inputs are those that the last header has positions in: also where a topic was made again before this process
/// made its plan.
pub(super) fn check_inputs(plan: &TaskPlan, header: &Header) -> Result<(), Error> {
    if !rules().topics_are_known_by_id {
        return Ok(());
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

pub(super) fn position<'a>(
    header: &'a Header,
    source: &SourcePlan,
    partition: PartitionId,
) -> Option<&'a InputPosition> {
    header.inputs.iter().find(|input| input.source == source.id && input.partition == partition)
}

/// The module of every operator, as the header says; the plan's own where it is the same.
pub(super) fn modules_of(context: &TaskContext, header: &Header) -> Result<Vec<ModuleRef>, Error> {
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

pub(super) fn descriptions(modules: &[ModuleRef]) -> Vec<Arc<Description>> {
    modules.iter().map(|module| Arc::clone(module.description())).collect()
}

pub(super) fn build_chain(
    context: &TaskContext,
    header: &Header,
    modules: &[ModuleRef],
    topics: &TopicRulesNow<'_>,
) -> Result<Chain, Error> {
    let plan = &context.plan;
    let now = descriptions(modules);
    let keyed: Vec<_> = now.iter().map(|description| description.keyed).collect();
    let mut operators = Vec::with_capacity(plan.operators.len());
    for (index, operator) in plan.operators.iter().enumerate() {
        let module = modules[index].clone();
        let version = header.operators.iter().find(|version| version.id == operator.id);
        let migrator = match version.and_then(|version| version.migrator) {
            Some(digest) => Some(instantiate_migrator(context, &operator.id, &module, digest)?),
            None => None,
        };
        let empty = version.into_iter().flat_map(|version| &version.states).filter(|state| state.begins_empty);
        let empty = empty.map(|state| state.name.clone());
        let migrations = Migrations::new(index, &module.description().states, migrator, empty);
        let mut transform = Transform::new(&plan.job.name, &operator.id, index, module, migrations);
        transform.head.reroute(routes_of(plan, &now, index), &keyed);
        operators.push(Operator::Transform(transform));
    }
    let share = Share { task: plan.task.number, parallelism: plan.parallelism, partitioner: plan.partitioner() };
    let outlet = Outlet::new(
        plan.sinks.iter().map(|plan| sink(plan, topics)).collect(),
        bad_records(plan, topics),
        share,
        keyed,
    );
    let source_routes = (0..plan.sources.len()).map(|s| routes_from(plan, &now, Origin::Source(s))).collect();
    let sources = plan.sources.iter().map(|source| (source.id.clone(), source.topic.name.clone())).collect();
    let settings = &plan.settings;
    let limits = CallLimits { max_records: settings.batch_max_records, max_bytes: settings.batch_max_bytes };
    Ok(Chain::new(operators, outlet, source_routes, sources, limits, settings.timer_batch))
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

fn sink(plan: &SinkPlan, topics: &TopicRulesNow<'_>) -> Sink {
    let TopicRef { name, partitions, rules: planned, .. } = &plan.topic;
    let now = topics.get(&(plan.cluster.as_deref(), name.as_str()));
    Sink::new(&plan.id, name, *partitions, *now.unwrap_or(planned), plan.timestamp)
}

fn bad_records(plan: &TaskPlan, topics: &TopicRulesNow<'_>) -> BadRecords {
    let topic = &plan.dead_letters;
    let now = *topics.get(&(None, topic.name.as_str())).unwrap_or(&topic.rules);
    let partition = (plan.task.number % topic.partitions.max(1)) as i32;
    let job = (plan.job.name.as_str(), plan.job.uid);
    BadRecords::new(job, plan.bad_records.clone(), &topic.name, partition, now)
}
