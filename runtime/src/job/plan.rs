//! What applying a spec would do: everything that can be known before anything is changed.
//!
//! Pure but for one thing: every module is opened once with its parameters, as each task will do.
//! Every refusal names the place in the spec, what was found there, and the remedy; all of them are
//! reported together. Read [`plan`] first, then `graph`, `diff` and `tasks`.

mod diff;
mod graph;
mod neighbours;
mod tasks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use diff::{Fate, PlannedState, compare_states};
pub use graph::{Graph, ResolvedOperator, ResolvedSink, ResolvedSource, is_internal};
pub use neighbours::Neighbour;
pub use tasks::{Names, source_codec, task_plans};

use super::record::{Desired, JobRecord, ModuleId};
use super::sample::KeySample;
use super::spec::{JobSpec, SinkSpec};
use crate::error::Kind;
use crate::log::TopicInfo;
use crate::model::names::JobNames;
use crate::model::{Digest, StageName};
use crate::task::plan::{ModuleRef, Parameter};
use crate::wasm::contract::{Description, GuestFactory};

/// Something in a spec that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub place: String,
    pub found: String,
    pub remedy: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.found, self.remedy)
    }
}

/// What the plan is made from, besides the spec.
#[derive(Default)]
pub struct Facts {
    pub topics: BTreeMap<String, TopicInfo>,
    /// Per other cluster that this server knows, the topics of it that were asked for.
    pub elsewhere: BTreeMap<String, BTreeMap<String, TopicInfo>>,
    /// Per reference in the spec what was found, or why nothing was.
    pub modules: BTreeMap<String, Result<FoundModule, String>>,
    /// The job of that name as it is.
    pub job: Option<JobRecord>,
    /// Descriptions of the modules that `job` runs.
    pub running: BTreeMap<Digest, Arc<Description>>,
    /// Why a new job cannot start where it is told to.
    pub refused_starts: Vec<Refusal>,
    /// Per source of a new job what its topic holds, where that could be looked at.
    pub samples: BTreeMap<String, KeySample>,
    /// The other jobs of this server.
    pub neighbours: Vec<Neighbour>,
}

impl Facts {
    fn topic_of(&self, sink: &SinkSpec) -> Option<&TopicInfo> {
        let topics = match &sink.cluster {
            None => Some(&self.topics),
            Some(cluster) => self.elsewhere.get(cluster),
        };
        topics?.get(&sink.topic)
    }

    /// A job keeps the number of tasks that it was made with, whatever becomes of its topics.
    fn parallelism(&self, spec: &JobSpec) -> Option<u32> {
        spec.parallelism.or_else(|| self.job.as_ref().map(|job| job.parallelism))
    }
}

#[derive(Clone)]
pub struct FoundModule {
    pub id: ModuleId,
    pub factory: Arc<dyn GuestFactory>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Nothing,
    Resume,
    Restart,
    Refused,
}

pub struct Plan {
    pub job: String,
    pub action: Action,
    pub refusals: Vec<Refusal>,
    pub warnings: Vec<String>,
    /// What differs from the job as it is, one sentence each.
    pub changes: Vec<String>,
    pub states: Vec<PlannedState>,
    pub topics_to_create: Vec<String>,
    /// The spec resolved; `None` only where it is refused.
    pub graph: Option<Graph>,
    /// What the system refused (memory, descriptors) while modules were opened. It says nothing about the spec and may
    /// pass.
    pub trouble: Option<String>,
}

/// Collects what is wrong while going on, so that one plan shows all of it.
#[derive(Default)]
struct Findings {
    refusals: Vec<Refusal>,
    warnings: Vec<String>,
    trouble: Option<String>,
}

impl Findings {
    fn refuse(&mut self, place: impl fmt::Display, found: impl fmt::Display, remedy: impl fmt::Display) {
        let (place, found, remedy) = (place.to_string(), found.to_string(), remedy.to_string());
        self.refusals.push(Refusal { place, found, remedy });
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

/// Judges a spec against what is there.
pub fn plan(spec: &JobSpec, facts: &Facts) -> Plan {
    let mut findings = Findings { refusals: facts.refused_starts.clone(), ..Findings::default() };
    let graph = graph::resolve(spec, facts, &mut findings);
    if let Some(graph) = graph.as_ref().filter(|_| findings.refusals.is_empty()) {
        open_all(spec, graph, &mut findings);
    }
    let difference = diff::against_running(spec, graph.as_ref(), facts, &mut findings);
    neighbours::warn(spec, &facts.neighbours, &mut findings);
    let refused = !findings.refusals.is_empty();
    let action = match &facts.job {
        _ if refused => Action::Refused,
        None => Action::Create,
        Some(job) if job.desired != Desired::Running => Action::Resume,
        Some(_) if difference.changes.is_empty() => Action::Nothing,
        Some(_) => Action::Restart,
    };
    Plan {
        job: spec.name.clone(),
        action,
        refusals: findings.refusals,
        warnings: findings.warnings,
        changes: difference.changes,
        states: difference.states,
        topics_to_create: if action == Action::Create { topics_to_create(spec, facts) } else { Vec::new() },
        graph: graph.filter(|_| !refused),
        trouble: findings.trouble,
    }
}

/// The graph of a spec that was planned before: no module is opened, and nothing is compared with the running job.
///
/// # Errors
/// Something that the spec needs has disappeared since.
pub fn resolve(spec: &JobSpec, facts: &Facts) -> Result<Graph, Vec<Refusal>> {
    let mut findings = Findings::default();
    let graph = graph::resolve(spec, facts, &mut findings);
    graph.filter(|_| findings.refusals.is_empty()).ok_or(findings.refusals)
}

/// Opens every module with its parameters, as every task will: a bad parameter fails here.
fn open_all(spec: &JobSpec, graph: &Graph, findings: &mut Findings) {
    for (index, operator) in graph.operators.iter().enumerate() {
        let opened = operator.module.instantiate(&spec.name, &operator.id, &graph.connected_outputs(index));
        if let Err(error) = opened {
            let module = &operator.module;
            if error.kind() == Kind::Retry {
                findings.trouble = Some(format!("module {}@{} {error}", module.name, module.version));
                return;
            }
            findings.refuse(
                format!("operators[{}]", operator.id),
                format!("module {}@{} {error}", module.name, module.version),
                "correct the parameters as the module asks, or push a module that opens",
            );
        }
    }
}

fn topics_to_create(spec: &JobSpec, facts: &Facts) -> Vec<String> {
    let dead_letters = spec.dead_letter_topic();
    let missing = !facts.topics.contains_key(&dead_letters);
    let changelog = JobNames::planned(&spec.name).changelog_topic(&StageName::main());
    missing.then_some(dead_letters).into_iter().chain([changelog]).collect()
}

/// A module with its parameters as this spec gives them, presets filled in, in declared order.
/// Parameters that the module does not declare are left out: another version may.
pub fn module_ref(found: &FoundModule, given: &BTreeMap<String, Parameter>) -> ModuleRef {
    let declared = &found.factory.description().parameters;
    let value =
        |name: &str, preset: &Option<String>| given.get(name).cloned().or_else(|| preset.clone().map(Parameter::Text));
    ModuleRef {
        name: found.id.name.clone(),
        version: found.id.version.clone(),
        digest: found.id.digest,
        factory: Arc::clone(&found.factory),
        parameters: declared.iter().filter_map(|p| Some((p.name.clone(), value(&p.name, &p.preset)?))).collect(),
    }
}

#[cfg(test)]
mod tests;
