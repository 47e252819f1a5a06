//! Looks up what a plan is made from: topics, modules, the job as it is, start offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::Error;
use super::modules::{self, Modules};
use super::plan::{
    Facts, FoundModule, Graph, Neighbour, Plan, Refusal, is_internal, module_ref, plan, resolve, source_codec,
};
use super::record::{Desired, JobRecord, ModuleId, SourceRecord};
use super::sample::{self, KeySample};
use super::spec::{JobSpec, KeySpec, SourceSpec};
use super::start;
use super::store::{Store, View};
use crate::error::Kind;
use crate::log::clusters::Clusters;
use crate::log::{Log, TopicInfo};
use crate::model::Digest;
use crate::task::plan::{ModuleRef, ModuleSource, Parameter, Unavailable};

pub fn gather(spec: &JobSpec, clusters: &Clusters, view: &View, modules: &Modules) -> Result<Facts, Error> {
    let mut facts = of_topics(spec, clusters)?;
    let references: BTreeSet<&String> = spec.operators.iter().map(|operator| &operator.module).collect();
    for reference in references {
        let found = match look_up(reference, view, modules) {
            // Only somebody who has the module can push it again, so it is reported together with the other refusals.
            Err(missing @ Error::NoBytes { .. }) => Err(missing.to_string()),
            found => or_refused(found)?,
        };
        facts.modules.insert(reference.clone(), found);
    }
    let others = view.jobs().map(|(_, job)| job);
    let others = others.filter(|job| job.name != spec.name && job.desired != Desired::Deleting);
    facts.neighbours = others.map(|job| Neighbour::of(&job.spec)).collect();
    if let Some((_, job)) = view.job(&spec.name) {
        for module in view.modules().filter(|module| job.modules.values().any(|id| id.digest == module.id.digest)) {
            facts.running.insert(module.id.digest, Arc::new(module.description.clone()));
        }
        facts.job = Some(job.clone());
    } else {
        facts.refused_starts = refused_starts(spec, &facts.topics, clusters.home().as_ref())?;
        facts.samples = samples(spec, &facts.topics, clusters.home().as_ref());
    }
    Ok(facts)
}

/// The graph of a job that was planned before, with exactly the modules that it is pinned to. They are not opened: the
/// plan has done so once, and every task does.
///
/// # Errors
/// [`Error::Refused`] where something that it needs has gone meanwhile; what may pass (a disk, a module whose bytes
/// somebody has to push again) with its own kind, so that the job is tried again.
pub fn graph_of(job: &JobRecord, clusters: &Clusters, view: &View, modules: &Modules) -> Result<Graph, Error> {
    let facts = of_job(job, clusters, view, modules)?;
    resolve(&job.spec, &facts).map_err(|refusals| Error::Refused { job: job.name.clone(), refusals })
}

/// The same, where every module is opened as its tasks will: for modules that the job has not run yet.
pub fn plan_of(job: &JobRecord, clusters: &Clusters, view: &View, modules: &Modules) -> Result<Graph, Error> {
    let facts = of_job(job, clusters, view, modules)?;
    let planned = judge(&job.spec, &facts)?;
    planned.graph.ok_or_else(|| Error::Refused { job: job.name.clone(), refusals: planned.refusals })
}

fn of_job(job: &JobRecord, clusters: &Clusters, view: &View, modules: &Modules) -> Result<Facts, Error> {
    let mut facts = of_topics(&job.spec, clusters)?;
    for operator in &job.spec.operators {
        let pinned = job.modules.get(&operator.id);
        let reference = pinned.map_or_else(|| operator.module.clone(), |id| id.digest.to_string());
        facts.modules.insert(operator.module.clone(), or_refused(look_up(&reference, view, modules))?);
    }
    facts.job = Some(job.clone());
    Ok(facts)
}

/// Makes the plan. An error where the system refused something (memory, descriptors) that the plan needed.
pub fn judge(spec: &JobSpec, facts: &Facts) -> Result<Plan, Error> {
    let plan = plan(spec, facts);
    match plan.trouble {
        Some(found) => {
            let doing = format!("open the modules of job {}", spec.name);
            Err(Error::Module { doing, found, kind: Kind::Retry })
        }
        None => Ok(plan),
    }
}

/// The topics that a spec names, each where it says that it is.
fn of_topics(spec: &JobSpec, clusters: &Clusters) -> Result<Facts, Error> {
    let sinks = |cluster: Option<&str>| -> BTreeSet<&str> {
        let there = spec.sinks.iter().filter(|sink| sink.cluster.as_deref() == cluster);
        there.map(|sink| sink.topic.as_str()).collect()
    };
    let sources = spec.sources.iter().map(|source| source.topic.as_str());
    let needed = sources.chain(sinks(None)).collect();
    let topics = topics(clusters.home().as_ref(), &needed, Some(&spec.dead_letter_topic()))?;
    let mut elsewhere = BTreeMap::new();
    for name in clusters.names() {
        let needed = sinks(Some(name));
        let found = if needed.is_empty() {
            BTreeMap::new()
        } else {
            self::topics(clusters.other(name)?.as_ref(), &needed, None)?
        };
        elsewhere.insert(name.to_owned(), found);
    }
    Ok(Facts { topics, elsewhere, ..Facts::default() })
}

/// The needed topics, and one that may be missing. Where a needed one is missing all topics are returned, so that one
/// with a similar name can be suggested.
fn topics(
    log: &dyn Log,
    needed: &BTreeSet<&str>,
    optional: Option<&str>,
) -> Result<BTreeMap<String, TopicInfo>, Error> {
    let named: Vec<&str> = needed.iter().copied().chain(optional).collect();
    let found = log.topics_named(&named)?;
    let is_missing = |name: &&str| !found.iter().any(|topic| topic.spec.name == **name);
    let topics = if needed.iter().any(is_missing) { log.topics()? } else { found };
    Ok(topics.into_iter().map(|topic| (topic.spec.name.clone(), topic)).collect())
}

fn look_up(reference: &str, view: &View, modules: &Modules) -> Result<FoundModule, Error> {
    let record = modules::find(view, reference).map_err(Error::UnknownModule)?;
    let factory = modules.load(record.id.digest)?;
    Ok(FoundModule { id: record.id, factory })
}

/// An error of the host (kind Retry) says nothing about the spec and ends the plan. Everything else is one refusal
/// among others.
fn or_refused(found: Result<FoundModule, Error>) -> Result<Result<FoundModule, String>, Error> {
    match found {
        Err(Error::UnknownModule(why)) => Ok(Err(format!("no module {why}"))),
        Err(error) if error.kind() == Kind::Retry => Err(error),
        found => Ok(found.map_err(|error| error.to_string())),
    }
}

/// Where a new job starts, per partition of every source. Resolved once and then kept in the job's record.
pub fn resolve_starts(job: &str, graph: &Graph, log: &dyn Log) -> Result<BTreeMap<String, SourceRecord>, Error> {
    let mut resolved = BTreeMap::new();
    for source in &graph.sources {
        let start = start::resolve(&source.spec, &source.topic, log).map_err(|error| match error {
            start::Error::Refused(refusal) => Error::Refused { job: job.to_owned(), refusals: vec![refusal] },
            start::Error::Log(error) => error.into(),
        })?;
        let (topic, topic_id) = (source.topic.spec.name.clone(), source.topic.id.to_string());
        resolved.insert(source.spec.id.clone(), SourceRecord { topic, topic_id, start });
    }
    Ok(resolved)
}

/// Starts of a new job that cannot be resolved, so that a plan shows them beside all else.
fn refused_starts(spec: &JobSpec, topics: &BTreeMap<String, TopicInfo>, log: &dyn Log) -> Result<Vec<Refusal>, Error> {
    let mut refused = Vec::new();
    for source in spec.sources.iter().filter(|source| start::may_be_missing(&source.start)) {
        let Some(topic) = topics.get(&source.topic) else { continue };
        match start::resolve(source, topic, log) {
            Ok(_) => {}
            Err(start::Error::Refused(refusal)) => refused.push(refusal),
            Err(start::Error::Log(error)) => return Err(error.into()),
        }
    }
    Ok(refused)
}

/// What the topics of sources with a key hold at present.
fn samples(spec: &JobSpec, topics: &BTreeMap<String, TopicInfo>, log: &dyn Log) -> BTreeMap<String, KeySample> {
    let sources = spec.sources.iter().filter(|source| source.key != KeySpec::None && !is_internal(&source.topic));
    let sample = |source: &SourceSpec| {
        let topic = topics.get(&source.topic).filter(|topic| topic.spec.partitions > 1)?;
        let sample = sample::keys(source, topic, &source_codec(source).ok()?, log)?;
        Some((source.id.clone(), sample))
    };
    sources.filter_map(sample).collect()
}

/// Finds the modules that the headers of one job's tasks name, with the parameters of its spec.
pub struct JobModules {
    store: Arc<Store>,
    modules: Arc<Modules>,
    given: BTreeMap<String, BTreeMap<String, Parameter>>,
}

impl JobModules {
    pub fn of(job: &JobRecord, store: Arc<Store>, modules: Arc<Modules>) -> Self {
        let operators = job.spec.operators.iter();
        let given = operators.map(|operator| (operator.id.clone(), operator.given())).collect();
        Self { store, modules, given }
    }

    pub fn find(&self, operator: &str, id: &ModuleId) -> Result<ModuleRef, Error> {
        let factory = self.modules.load(id.digest)?;
        let none = BTreeMap::new();
        let given = self.given.get(operator).unwrap_or(&none);
        let in_clear = |name: &str| matches!(given.get(name), Some(Parameter::Text(_)));
        let declared = &factory.description().parameters;
        if let Some(shown) = declared.iter().find(|parameter| parameter.secret && in_clear(&parameter.name)) {
            return Err(Error::Invalid {
                doing: format!("open module {id} for operator {operator}"),
                found: format!("it declares parameter {} secret, and the job's spec gives it in clear", shown.name),
                remedy: "apply the job with it under `secrets` first, by {env: VARIABLE} or {file: PATH}",
            });
        }
        Ok(module_ref(&FoundModule { id: id.clone(), factory }, given))
    }
}

impl ModuleSource for JobModules {
    fn module(&self, operator: &str, digest: Digest) -> Result<ModuleRef, Unavailable> {
        let record = modules::find(&self.store.view(), &digest.to_string());
        let missing = |why| Unavailable { why: format!("no module {why}: push it again"), kind: Kind::Guest };
        let record = record.map_err(missing)?;
        let unavailable = |error: Error| Unavailable { why: error.to_string(), kind: error.kind() };
        self.find(operator, &record.id).map_err(unavailable)
    }
}
