//! What a session needs beside the state: the chain of operators, the inputs and event time, as the last header and the
//! plan say.
//!
//! Owns nothing. The header decides which module runs and where reading goes on; the plan decides what leads where.

use std::sync::Arc;

use super::takeover::Rules;
use crate::checkpoint::{Header, InputPosition};
use crate::env::{Bug, bug};
use crate::model::{Digest, PartitionId};
use crate::operator;
use crate::operator::bad_record::BadRecords;
use crate::operator::chain::Chain;
use crate::operator::migration::{Migrations, Migrator};
use crate::operator::outlet::{Outlet, Route, Share};
use crate::operator::sink::Sink;
use crate::operator::transform::{CallLimits, Transform};
use crate::state::OperatorStates;
use crate::task::Error;
use crate::task::context::TaskContext;
use crate::task::inputs::Inputs;
use crate::task::plan::{ModuleRef, Origin, SinkPlan, SourcePlan, TaskPlan, TopicRef, Unavailable};
use crate::wasm::contract::Description;
use crate::watermark::TaskWatermark;

/// The inputs are those that the last header has positions in: also where a topic was made again before this process
/// made its plan.
pub(super) fn check_inputs(plan: &TaskPlan, header: &Header) -> Result<(), Error> {
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

pub(super) fn position<'a>(
    header: &'a Header,
    source: &SourcePlan,
    partition: PartitionId,
) -> Option<&'a InputPosition> {
    header.inputs.iter().find(|input| input.source == source.id && input.partition == partition)
}

pub(in crate::task) fn restore_watermark(
    watermark: &mut TaskWatermark,
    plan: &TaskPlan,
    inputs: &Inputs,
    header: &Header,
) {
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

pub(in crate::task) fn bindings(plan: &TaskPlan, modules: &[ModuleRef]) -> Vec<OperatorStates> {
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

pub(super) fn build_chain(
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
    let share = Share { task: plan.task.number, parallelism: plan.parallelism, partitioner: plan.partitioner() };
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
    let partition = (plan.task.number % topic.partitions.max(1)) as i32;
    let job = (plan.job.name.as_str(), plan.job.uid);
    BadRecords::new(job, plan.bad_records.clone(), &topic.name, partition, now)
}

/// Per output of operator `index`, in its module's order, where it leads. The plan's numbers are those
/// of the plan's own module; outputs and inputs are matched by name, so that another version may
/// declare them in another order.
pub(in crate::task) fn routes_of(plan: &TaskPlan, modules: &[ModuleRef], index: usize) -> Vec<Vec<Route>> {
    let planned = plan.operators[index].module.description();
    let outputs = modules[index].description().outputs.iter();
    outputs
        .map(|name| match planned.outputs.iter().position(|output| output == name) {
            Some(output) => routes_from(plan, modules, Origin::Output { operator: index, output: output as u8 }),
            None => Vec::new(),
        })
        .collect()
}

pub(in crate::task) fn routes_from(plan: &TaskPlan, modules: &[ModuleRef], from: Origin) -> Vec<Route> {
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
