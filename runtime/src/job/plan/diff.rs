//! A spec against the job as it runs: what changes, and what becomes of each state.

use std::sync::Arc;

use super::super::record::{JobRecord, ModuleId};
use super::super::spec::{JobSpec, OperatorSpec, SourceSpec};
use super::{Facts, Findings, Graph};
use crate::wasm::contract::{Description, StateDecl};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedState {
    pub operator: String,
    pub state: String,
    pub fate: Fate,
    /// 0 where there was none.
    pub from_version: u32,
    /// 0 where there is none any more.
    pub to_version: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    /// Every value goes through `migrate` of the newer module.
    Migrate {
        by_new: bool,
    },
    /// There is no such state yet: it starts empty.
    Reset,
    /// Bytes are kept under the old name, and nobody reads them.
    Orphan,
    /// Values of the old version can be brought to no other: it begins empty, or there is no swap.
    Stuck(String),
    /// The same, and the swap has named it: its values are thrown away.
    Emptied,
    Refuse(String),
}

#[derive(Default)]
pub(super) struct Difference {
    pub changes: Vec<String>,
    pub states: Vec<PlannedState>,
}

pub(super) fn against_running(
    spec: &JobSpec,
    graph: Option<&Graph>,
    facts: &Facts,
    findings: &mut Findings,
) -> Difference {
    let mut difference = Difference::default();
    let Some(job) = &facts.job else {
        difference.states = graph.map(new_states).unwrap_or_default();
        return difference;
    };
    compare_parallelism(spec, job, findings);
    compare_sources(spec, job, &mut difference, findings);
    compare_operators(spec, graph, job, facts, &mut difference, findings);
    compare_settings(spec, job, &mut difference);
    difference
}

fn new_states(graph: &Graph) -> Vec<PlannedState> {
    let operators = graph.operators.iter();
    operators
        .flat_map(|operator| compare_states(&operator.id, &[], &operator.module.factory.description().states))
        .collect()
}

const ANOTHER_JOB: &str = "keep it as it is, or deploy a job under another name (or delete this one first)";

fn compare_parallelism(spec: &JobSpec, job: &JobRecord, findings: &mut Findings) {
    // Not given: the job keeps what it has.
    let wanted = spec.parallelism.unwrap_or(job.parallelism);
    if wanted != job.parallelism {
        findings.refuse(
            "parallelism",
            format!("the job has {} tasks, the spec wants {wanted}", job.parallelism),
            ANOTHER_JOB,
        );
    }
}

/// Positions belong to sources, so their set and their topics stay; so does what decides keys.
fn compare_sources(spec: &JobSpec, job: &JobRecord, difference: &mut Difference, findings: &mut Findings) {
    for source in &spec.sources {
        let place = format!("sources[{}]", source.id);
        let Some(old) = job.spec.sources.iter().find(|old| old.id == source.id) else {
            findings.refuse(&place, "the running job has no such source", ANOTHER_JOB);
            continue;
        };
        if old.topic != source.topic {
            let found = format!("the job reads topic {}, the spec names {}", old.topic, source.topic);
            findings.refuse(format!("{place}.topic"), found, ANOTHER_JOB);
        }
        if (&old.key, old.decode) != (&source.key, source.decode) {
            let found = "the job keeps state by the key that it has now";
            findings.refuse(format!("{place}.key"), found, ANOTHER_JOB);
        }
        if old.partitioner != source.partitioner && job.parallelism > 1 {
            let found = "the job's keys are spread over its tasks by the partitioner that it has now";
            findings.refuse(format!("{place}.partitioner"), found, ANOTHER_JOB);
        }
        if old.start != source.start {
            difference.changes.push(format!("{place}.start: no effect, the job has positions"));
        }
        let rest = |source: &SourceSpec| SourceSpec { start: Default::default(), ..source.clone() };
        if rest(old) != rest(source) {
            difference.changes.push(format!("{place}: other settings"));
        }
    }
    for old in job.spec.sources.iter().filter(|old| !spec.sources.iter().any(|source| source.id == old.id)) {
        findings.refuse("sources", format!("source {} of the running job is missing", old.id), ANOTHER_JOB);
    }
}

fn compare_operators(
    spec: &JobSpec,
    graph: Option<&Graph>,
    job: &JobRecord,
    facts: &Facts,
    difference: &mut Difference,
    findings: &mut Findings,
) {
    for operator in &spec.operators {
        let place = format!("operators[{}]", operator.id);
        let Some(old) = job.spec.operators.iter().find(|old| old.id == operator.id) else {
            findings.refuse(&place, "the running job has no such operator", ANOTHER_JOB);
            continue;
        };
        if old.inputs != operator.inputs {
            findings.refuse(format!("{place}.inputs"), "they differ from those of the running job", ANOTHER_JOB);
        }
        if old.given() != operator.given() {
            difference.changes.push(format!("{place}.parameters: {}", changed_parameters(old, operator)));
        }
        if let Some(running) = job.modules.get(&operator.id) {
            compare_module((&job.name, operator), running, graph, facts, difference, findings);
        }
    }
    for old in job.spec.operators.iter().filter(|old| !spec.operators.iter().any(|new| new.id == old.id)) {
        findings.refuse("operators", format!("operator {} of the running job is missing", old.id), ANOTHER_JOB);
    }
}

/// Another module comes in by a swap, which keeps state and can be taken back; never by an apply.
fn compare_module(
    (job, operator): (&str, &OperatorSpec),
    running: &ModuleId,
    graph: Option<&Graph>,
    facts: &Facts,
    difference: &mut Difference,
    findings: &mut Findings,
) {
    let found = graph.and_then(|graph| graph.operators.iter().find(|resolved| resolved.id == operator.id));
    let (Some(found), Some(old)) = (found, facts.running.get(&running.digest)) else { return };
    let new: &Arc<Description> = found.module.factory.description();
    difference.states.extend(compare_states(&operator.id, &old.states, &new.states));
    if found.module.digest != running.digest {
        findings.refuse(
            format!("operators[{}].module", operator.id),
            format!("the job runs {running}, the spec names {}@{}", found.module.name, found.module.version),
            format!(
                "name {}@{} in the spec to keep it, or swap it, running or stopped: `forebay job swap {job} {} {}`",
                running.name, running.version, operator.id, operator.module
            ),
        );
    }
}

fn changed_parameters(old: &OperatorSpec, new: &OperatorSpec) -> String {
    let (old, new) = (old.given(), new.given());
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    // Names only: what a module is given is its own affair.
    changed.cloned().collect::<Vec<_>>().join(", ")
}

fn compare_settings(spec: &JobSpec, job: &JobRecord, difference: &mut Difference) {
    if spec.sinks != job.spec.sinks {
        difference.changes.push("sinks: other sinks".to_owned());
    }
    if spec.bad_records != job.spec.bad_records {
        difference.changes.push("bad_records: other policies or another topic".to_owned());
    }
    if spec.consumer_group() != job.spec.consumer_group() {
        let (old, new) = (job.spec.consumer_group(), spec.consumer_group());
        difference.changes.push(format!("consumer_group: {new} in place of {old}, whose offsets stay as they are"));
    }
    if spec.commit != job.spec.commit {
        difference.changes.push("commit: another interval".to_owned());
    }
}

/// What becomes of each state when a module with `new` takes the place of one with `old`.
pub fn compare_states(operator: &str, old: &[StateDecl], new: &[StateDecl]) -> Vec<PlannedState> {
    let state = |name: &str, fate, from_version, to_version| PlannedState {
        operator: operator.to_owned(),
        state: name.to_owned(),
        fate,
        from_version,
        to_version,
    };
    let mut states: Vec<PlannedState> = new
        .iter()
        .map(|after| match old.iter().find(|before| before.name == after.name) {
            Some(before) => state(&after.name, fate(before, after), before.version, after.version),
            None => state(&after.name, Fate::Reset, 0, after.version),
        })
        .collect();
    let gone = old.iter().filter(|before| !new.iter().any(|after| after.name == before.name));
    states.extend(gone.map(|before| state(&before.name, Fate::Orphan, before.version, 0)));
    states
}

fn fate(before: &StateDecl, after: &StateDecl) -> Fate {
    if before.version == after.version {
        if before.fingerprint == after.fingerprint && before.encoding == after.encoding {
            return Fate::Keep;
        }
        return Fate::Refuse(format!(
            "its type changed under version {}: raise the version, and let the module read the old one",
            after.version
        ));
    }
    if after.reads.contains(&before.version) {
        Fate::Migrate { by_new: true }
    } else if before.reverts_to.contains(&after.version) {
        Fate::Migrate { by_new: false }
    } else {
        Fate::Stuck(format!(
            "values have version {}, the new module reads {} and cannot migrate them, nor can the old one write that \
             version: declare it in `reads` or `reverts-to`",
            before.version, after.version
        ))
    }
}
