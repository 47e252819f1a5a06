//! The spec's names resolved into a graph: topics, modules, who feeds whom, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use super::super::spec::{
    DecodeSpec, EventTimeSpec, JobSpec, KeySpec, NAME_MAX, OperatorSpec, PartitionerSpec, SinkSpec, SourceSpec,
    StartSpec, TimestampSpec, is_name, nearest,
};
use super::{Facts, Findings, FoundModule, module_ref};
use crate::codec::{FieldPath, Partitioner, code};
use crate::log::{Cleanup, TopicInfo};
use crate::model::murmur2::KEY_GROUPS;
use crate::model::names;
use crate::task::plan::{CODES_OF_OPERATORS, LETTER_BYTES_MIN, ModuleRef, Origin, Secret};

const DEFAULT_PARALLELISM_MAX: u32 = 4;
/// Every task of a job opens an instance of each, under a memory limit of its own.
const OPERATORS_MAX: usize = 64;
/// Positions of inputs and outputs cross to the guest in one byte.
const PORTS_MAX: usize = 255;

pub struct Graph {
    pub parallelism: u32,
    pub sources: Vec<ResolvedSource>,
    /// Every operator stands behind those that feed it.
    pub operators: Vec<ResolvedOperator>,
    pub sinks: Vec<ResolvedSink>,
}

pub struct ResolvedSource {
    pub spec: SourceSpec,
    pub topic: TopicInfo,
    /// Some operator behind it keeps state per key.
    pub keyed: bool,
}

pub struct ResolvedOperator {
    pub id: String,
    pub inputs: Vec<(Origin, u8)>,
    pub module: ModuleRef,
}

pub struct ResolvedSink {
    pub id: String,
    pub topic: TopicInfo,
    pub from: Origin,
}

impl Graph {
    /// Outputs of an operator that go anywhere, ascending.
    pub fn connected_outputs(&self, operator: usize) -> Vec<u8> {
        let fed = self.operators.iter().flat_map(|other| other.inputs.iter().map(|(origin, _)| *origin));
        let connected: BTreeSet<u8> = fed
            .chain(self.sinks.iter().map(|sink| sink.from))
            .filter_map(|origin| match origin {
                Origin::Output { operator: from, output } if from == operator => Some(output),
                _ => None,
            })
            .collect();
        connected.into_iter().collect()
    }
}

/// `None` where so much is wrong that nothing more can be said.
pub(super) fn resolve(spec: &JobSpec, facts: &Facts, findings: &mut Findings) -> Option<Graph> {
    check_names(spec, findings);
    check_settings(spec, findings);
    let topics = source_topics(spec, facts, findings);
    let modules = operator_modules(spec, facts, findings);
    check_written_topics(spec, facts, findings);
    if !findings.refusals.is_empty() {
        return None;
    }
    let order = order(spec, findings)?;
    let ordered: Vec<(&OperatorSpec, &FoundModule)> =
        order.into_iter().map(|i| (&spec.operators[i], &modules[i])).collect();
    let scope = Scope { spec, operators: &ordered };
    let operators: Vec<ResolvedOperator> =
        ordered.iter().map(|(operator, module)| scope.operator(operator, module, findings)).collect();
    let sinks = scope.sinks(facts, findings);
    if !findings.refusals.is_empty() {
        return None;
    }
    let keyed = keyed_sources(spec, &operators, findings);
    let sources: Vec<ResolvedSource> = spec
        .sources
        .iter()
        .zip(topics)
        .zip(keyed)
        .map(|((spec, topic), keyed)| ResolvedSource { spec: spec.clone(), topic: topic.clone(), keyed })
        .collect();
    check_codes(spec, &operators, findings);
    warn_of_unread(&sources, &operators, &sinks, findings);
    warn_of_old_times(spec, facts, &operators, &sinks, findings);
    let parallelism = parallelism(spec, &sources, facts, findings)?;
    warn_of_keys_elsewhere(&sources, parallelism, facts, findings);
    findings.refusals.is_empty().then_some(Graph { parallelism, sources, operators, sinks })
}

fn check_names(spec: &JobSpec, findings: &mut Findings) {
    let mut check = |place: String, name: &str| {
        if !is_name(name) {
            let remedy = format!("use 1 to {NAME_MAX} letters, digits, - and _");
            findings.refuse(place, format!("`{}` cannot be a name", name.escape_debug()), remedy);
        }
    };
    check("name".to_owned(), &spec.name);
    spec.sources.iter().enumerate().for_each(|(i, source)| check(format!("sources[{i}].id"), &source.id));
    spec.operators.iter().enumerate().for_each(|(i, operator)| check(format!("operators[{i}].id"), &operator.id));
    spec.sinks.iter().enumerate().for_each(|(i, sink)| check(format!("sinks[{i}].id"), &sink.id));

    let origins =
        spec.sources.iter().map(|s| ("sources", &s.id)).chain(spec.operators.iter().map(|o| ("operators", &o.id)));
    duplicates(origins, "sources and operators need ids of their own", findings);
    duplicates(spec.sinks.iter().map(|s| ("sinks", &s.id)), "sinks need ids of their own", findings);
}

fn duplicates<'a>(ids: impl Iterator<Item = (&'static str, &'a String)>, remedy: &str, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (list, id) in ids {
        if !seen.insert(id) {
            findings.refuse(format!("{list}[{id}].id"), format!("`{id}` is used twice"), remedy);
        }
    }
}

/// What can be judged without looking anything up.
fn check_settings(spec: &JobSpec, findings: &mut Findings) {
    if spec.sources.is_empty() {
        findings.refuse("sources", "there is none", "a job needs at least one source");
    }
    if spec.operators.len() > OPERATORS_MAX {
        let found = format!("there are {}", spec.operators.len());
        let remedy = format!("a job has at most {OPERATORS_MAX}: make it several jobs, or fewer modules that do more");
        findings.refuse("operators", found, remedy);
    }
    if spec.sinks.is_empty() {
        findings.warn("sinks: there is none, so nothing that the job computes is written anywhere".to_owned());
    }
    if let Some(why) = spec.consumer_group.as_deref().and_then(no_group) {
        findings.refuse("consumer_group", why, GROUP_REMEDY);
    }
    let interval = spec.commit.interval;
    if interval.as_millis() < 10 || interval.as_secs() > 5 {
        let found = super::super::scalar::show_duration(interval);
        findings.refuse("commit.interval", format!("{found} is out of bounds"), "use 10ms to 5s");
    }
    for source in &spec.sources {
        let place = |field: &str| format!("sources[{}].{field}", source.id);
        let key = if let KeySpec::Field(field) = &source.key { Some(("key.field", field)) } else { None };
        let time = match &source.event_time {
            EventTimeSpec::Field(time) => Some(("event_time.field", &time.field)),
            EventTimeSpec::RecordTimestamp { .. } => None,
        };
        for (at, field) in key.into_iter().chain(time) {
            if source.decode == DecodeSpec::Bytes {
                findings.refuse(place(at), "a field cannot be read from `decode: bytes`", "set `decode: json`");
            }
            if let Err(why) = FieldPath::parse(field) {
                findings.refuse(place(at), "it is no path", why);
            }
        }
        if let StartSpec::Group(group) = &source.start
            && let Some(why) = no_group(group)
        {
            findings.refuse(place("start.group"), why, GROUP_REMEDY);
        }
        if let StartSpec::Timestamp(text) = &source.start
            && let Err(error) = text.parse::<jiff::Timestamp>()
        {
            let remedy = "write it like 2026-05-02T02:36:00Z";
            findings.refuse(place("start.timestamp"), format!("`{}` is no time: {error}", text.escape_debug()), remedy);
        }
    }
}

const GROUP_REMEDY: &str = "use 1 to 249 characters without control characters";

/// Why this cannot be the name of a consumer group.
fn no_group(name: &str) -> Option<String> {
    let good = !name.is_empty() && name.len() <= 249 && !name.chars().any(char::is_control);
    (!good).then(|| format!("`{}` cannot be the name of a group", name.escape_debug()))
}

fn source_topics<'a>(spec: &JobSpec, facts: &'a Facts, findings: &mut Findings) -> Vec<&'a TopicInfo> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for source in &spec.sources {
        let place = format!("sources[{}].topic", source.id);
        if is_internal(&source.topic) {
            let found = format!("topic `{}` is internal", source.topic);
            findings.refuse(&place, found, "read a topic of your own: what internal ones hold is no output of anybody");
            continue;
        }
        if !seen.insert(&source.topic) {
            let found = format!("topic {} is read by another source already", source.topic);
            findings.refuse(&place, found, "feed both operators from one source");
        }
        match facts.topics.get(&source.topic) {
            Some(topic) => found.push(topic),
            None => refuse_topic(&place, &source.topic, &facts.topics, findings),
        }
    }
    found
}

fn refuse_topic(place: &str, topic: &str, topics: &BTreeMap<String, TopicInfo>, findings: &mut Findings) {
    let remedy = match near_topic(topic, topics) {
        Some(near) => format!("did you mean `{near}`? Or create it: `forebay topic create {topic}`"),
        None => format!("create it: `forebay topic create {topic}`"),
    };
    findings.refuse(place, format!("there is no topic `{}`", topic.escape_debug()), remedy);
}

fn near_topic<'a>(topic: &str, topics: &'a BTreeMap<String, TopicInfo>) -> Option<&'a str> {
    nearest(topic, topics.keys().map(String::as_str).filter(|name| !is_internal(name)))
}

/// Topics that Forebay or Kafka keep for themselves: who reads them reads what is no record, who writes to them breaks
/// what keeps them.
pub fn is_internal(topic: &str) -> bool {
    const KAFKAS: [&str; 5] = [
        "__consumer_offsets",
        "__transaction_state",
        "__share_group_state",
        "__cluster_metadata",
        "__remote_log_metadata",
    ];
    names::is_internal(topic) || KAFKAS.contains(&topic)
}

/// A job that reads what it writes runs for ever; internal topics have one writer each.
fn check_written_topics(spec: &JobSpec, facts: &Facts, findings: &mut Findings) {
    let dead_letters = spec.dead_letter_topic();
    let at_home = spec.sinks.iter().filter(|sink| sink.cluster.is_none());
    let sinks = at_home.map(|sink| (format!("sinks[{}].topic", sink.id), &sink.topic));
    for (place, topic) in sinks.chain([("bad_records.topic".to_owned(), &dead_letters)]) {
        if let Some(source) = spec.sources.iter().find(|source| source.topic == *topic) {
            let found = format!("topic `{topic}` is read by source {} of this job", source.id);
            findings.refuse(&place, found, "write to another topic: the job would read its own output");
        }
        if is_internal(topic) {
            findings.refuse(&place, format!("topic `{topic}` is internal"), "write to a topic of your own");
        }
    }
    check_dead_letters(spec, facts, findings);
    for sink in &spec.sinks {
        if let Some(cluster) = &sink.cluster {
            check_elsewhere(spec, sink, cluster, facts, findings);
            continue;
        }
        if sink.accept_duplicates {
            let place = format!("sinks[{}].accept_duplicates", sink.id);
            findings.refuse(place, "a sink of the job's own cluster has none", "leave it out, or name a `cluster`");
        }
        if sink.topic == dead_letters {
            let found = format!("topic `{dead_letters}` takes the job's dead letters");
            findings.refuse(format!("sinks[{}].topic", sink.id), found, "write to another topic");
        } else if !is_internal(&sink.topic) && !facts.topics.contains_key(&sink.topic) {
            refuse_topic(&format!("sinks[{}].topic", sink.id), &sink.topic, &facts.topics, findings);
        }
    }
}

/// A dead letter that its topic does not take would stop the job at the record that it is about.
fn check_dead_letters(spec: &JobSpec, facts: &Facts, findings: &mut Findings) {
    let name = spec.dead_letter_topic();
    let Some(topic) = facts.topics.get(&name).filter(|_| spec.bad_records.keeps_letters()) else { return };
    let place = "bad_records.topic";
    if topic.spec.cleanup == Cleanup::Compact {
        findings.refuse(
            place,
            format!("topic `{name}` is compacted: of the dead letters of one key it keeps the newest, and none without a key"),
            "name a topic with cleanup.policy=delete, or set `policy: skip`",
        );
    }
    if topic.spec.max_record_bytes < LETTER_BYTES_MIN {
        findings.refuse(
            place,
            format!("topic `{name}` takes records of at most {} bytes", topic.spec.max_record_bytes),
            format!(
                "raise its max.message.bytes to {LETTER_BYTES_MIN} at least: so much a dead letter's cause may need"
            ),
        );
    }
}

/// Another cluster takes no part in the job's commits: what its readers may then see is said before anything moves.
fn check_elsewhere(spec: &JobSpec, sink: &SinkSpec, cluster: &str, facts: &Facts, findings: &mut Findings) {
    let place = |field: &str| format!("sinks[{}].{field}", sink.id);
    let Some(topics) = facts.elsewhere.get(cluster) else {
        let known: Vec<String> = facts.elsewhere.keys().cloned().collect();
        let remedy =
            format!("{}; others are named by `forebay dev --other-cluster NAME=FILE`", one_of(cluster, &known));
        let found = format!("this server knows no cluster `{}`", cluster.escape_debug());
        return findings.refuse(place("cluster"), found, remedy);
    };
    if is_internal(&sink.topic) {
        let found = format!("topic `{}` is internal", sink.topic);
        return findings.refuse(place("topic"), found, "write to a topic of your own");
    }
    let Some(topic) = topics.get(&sink.topic) else {
        let near = near_topic(&sink.topic, topics).map_or(String::new(), |near| format!("did you mean `{near}`? Or "));
        let found = format!("cluster {cluster} has no topic `{}`", sink.topic.escape_debug());
        return findings.refuse(place("topic"), found, format!("{near}create it there"));
    };
    let is_it = |source: &&SourceSpec| facts.topics.get(&source.topic).is_some_and(|read| read.id == topic.id);
    if let Some(source) = spec.sources.iter().find(is_it) {
        let found = format!("topic `{}` of cluster {cluster} is read by source {} of this job", sink.topic, source.id);
        findings.refuse(place("topic"), found, "write to another topic: the job would read its own output");
    }
    if topic.spec.cleanup == Cleanup::Compact && !sink.accept_duplicates {
        findings.refuse(
            place("topic"),
            format!(
                "topic `{}` of cluster {cluster} keeps the newest record of each key, and a server that does not know yet \
                 that it was replaced may still write an older one, which then stays",
                sink.topic
            ),
            "write to a topic that is not compacted, or set `accept_duplicates: true` where readers can bear it",
        );
    }
    findings.warn(format!(
        "sinks[{}]: cluster {cluster} takes no part in the job's commits, so output to its topic {} is at-least-once: after \
         a failure records may be there twice, the later copies behind newer records",
        sink.id, sink.topic
    ));
}

/// As long as the spec's operators where nothing is refused.
fn operator_modules(spec: &JobSpec, facts: &Facts, findings: &mut Findings) -> Vec<FoundModule> {
    let mut found = Vec::new();
    for operator in &spec.operators {
        match facts.modules.get(&operator.module) {
            Some(Ok(module)) => found.push(module.clone()),
            Some(Err(why)) => {
                let remedy = "push the module: `forebay module push <file>`, or name one that is there";
                findings.refuse(format!("operators[{}].module", operator.id), why, remedy);
            }
            None => findings.refuse(format!("operators[{}].module", operator.id), "nobody looked for it", "try again"),
        }
    }
    found
}

/// Positions of the spec's operators, each behind those that feed it.
fn order(spec: &JobSpec, findings: &mut Findings) -> Option<Vec<usize>> {
    let feeders: Vec<BTreeSet<usize>> = spec
        .operators
        .iter()
        .map(|operator| {
            let names = operator.inputs.values().filter_map(|from| from.split_once('.'));
            names.filter_map(|(name, _)| spec.operators.iter().position(|other| other.id == name)).collect()
        })
        .collect();
    let mut order: Vec<usize> = Vec::new();
    while order.len() < feeders.len() {
        let ready = (0..feeders.len()).find(|i| !order.contains(i) && feeders[*i].iter().all(|f| order.contains(f)));
        let Some(ready) = ready else {
            let stuck: Vec<&str> =
                (0..feeders.len()).filter(|i| !order.contains(i)).map(|i| spec.operators[i].id.as_str()).collect();
            let found = format!("{} feed each other in a circle", stuck.join(", "));
            findings.refuse("operators", found, "a job's graph has no cycles: cut one of their inputs");
            return None;
        };
        order.push(ready);
    }
    Some(order)
}

/// Names of origins, and what they stand for.
struct Scope<'a> {
    spec: &'a JobSpec,
    operators: &'a [(&'a OperatorSpec, &'a FoundModule)],
}

impl Scope<'_> {
    fn operator(&self, operator: &OperatorSpec, found: &FoundModule, findings: &mut Findings) -> ResolvedOperator {
        let description = found.factory.description();
        let place = format!("operators[{}]", operator.id);
        if description.inputs.len() > PORTS_MAX || description.outputs.len() > PORTS_MAX {
            findings.refuse(&place, "the module declares too many inputs or outputs", "255 of each are the most");
        }
        let mut inputs = Vec::new();
        for (input, from) in &operator.inputs {
            let place = format!("{place}.inputs.{input}");
            let declared = description.inputs.iter().position(|name| name == input);
            if declared.is_none() {
                let found = format!("module {} has no input `{}`", found.id, input.escape_debug());
                findings.refuse(&place, found, one_of(input, &description.inputs));
            }
            if let (Some(origin), Some(declared)) = (self.origin(&place, from, findings), declared) {
                inputs.push((origin, declared as u8));
            }
        }
        for missing in description.inputs.iter().filter(|name| !operator.inputs.contains_key(*name)) {
            let found = format!("the module's input `{missing}` is fed by nothing");
            findings.refuse(format!("{place}.inputs"), found, format!("add `{missing}: <source or operator.output>`"));
        }
        self.parameters(operator, found, findings);
        let module = module_ref(found, &operator.given());
        ResolvedOperator { id: operator.id.clone(), inputs, module }
    }

    fn parameters(&self, operator: &OperatorSpec, found: &FoundModule, findings: &mut Findings) {
        let declared = &found.factory.description().parameters;
        let names: Vec<String> = declared.iter().map(|parameter| parameter.name.clone()).collect();
        let place = |list: &str, name: &str| format!("operators[{}].{list}.{name}", operator.id);
        let given = operator.parameters.keys().map(|name| ("parameters", name));
        let given = given.chain(operator.secrets.keys().map(|name| ("secrets", name)));
        for (list, name) in given.clone().filter(|(_, name)| !names.contains(name)) {
            let found = format!("module {} has no parameter `{}`", found.id, name.escape_debug());
            findings.refuse(place(list, name), found, one_of(name, &names));
        }
        for parameter in declared.iter().filter(|p| p.required && p.preset.is_none()) {
            if !given.clone().any(|(_, name)| *name == parameter.name) {
                let list = if parameter.secret { "secrets" } else { "parameters" };
                let remedy = format!("give it a value: {}", parameter.about);
                findings.refuse(
                    place(list, &parameter.name),
                    "the module requires it and it is not given",
                    if parameter.secret { format!("{remedy}; {}", by_reference(&parameter.name)) } else { remedy },
                );
            }
        }
        for parameter in declared.iter().filter(|parameter| parameter.secret) {
            if operator.parameters.contains_key(&parameter.name) {
                findings.refuse(
                    place("parameters", &parameter.name),
                    "the module declares it secret, and here it stands in clear",
                    by_reference(&parameter.name),
                );
            }
        }
        for (name, secret) in &operator.secrets {
            if operator.parameters.contains_key(name) {
                findings.refuse(place("secrets", name), "it stands under `parameters` too", "keep one of them");
            }
            let is_relative = matches!(secret, Secret::File(path) if path.is_relative());
            if is_relative {
                findings.refuse(place("secrets", name), "the path of its file is relative", "begin it with a slash");
            } else if let Err(why) = secret.read() {
                findings.refuse(place("secrets", name), "it cannot be had", why);
            }
        }
    }

    /// What `orders` or `enrich.enriched` stands for.
    fn origin(&self, place: &str, from: &str, findings: &mut Findings) -> Option<Origin> {
        if let Some(source) = self.spec.sources.iter().position(|source| source.id == from) {
            return Some(Origin::Source(source));
        }
        let name = from.split_once('.').map_or(from, |(name, _)| name);
        let Some(operator) = self.operators.iter().position(|(operator, _)| operator.id == name) else {
            findings.refuse(place, format!("there is no `{}`", from.escape_debug()), one_of(from, &self.origins()));
            return None;
        };
        let outputs = &self.operators[operator].1.factory.description().outputs;
        let output = from.split_once('.').and_then(|(_, output)| outputs.iter().position(|name| name == output));
        if output.is_none() {
            let found = format!("operator {name} has no output `{}`", from.escape_debug());
            findings.refuse(place, found, one_of(from, &self.origins()));
        }
        Some(Origin::Output { operator, output: output? as u8 })
    }

    fn origins(&self) -> Vec<String> {
        let outputs = self.operators.iter().flat_map(|(operator, module)| {
            module.factory.description().outputs.iter().map(|output| format!("{}.{output}", operator.id))
        });
        self.spec.sources.iter().map(|source| source.id.clone()).chain(outputs).collect()
    }

    fn sinks(&self, facts: &Facts, findings: &mut Findings) -> Vec<ResolvedSink> {
        let mut sinks = Vec::new();
        for sink in &self.spec.sinks {
            let origin = self.origin(&format!("sinks[{}].from", sink.id), &sink.from, findings);
            if let (Some(from), Some(topic)) = (origin, facts.topic_of(sink)) {
                sinks.push(ResolvedSink { id: sink.id.clone(), topic: topic.clone(), from });
            }
        }
        sinks
    }
}

fn by_reference(name: &str) -> String {
    format!("say where it stands: `secrets: {{{name}: {{env: VARIABLE}}}}`, or `{{file: /path}}`, on the server's side")
}

fn one_of(found: &str, known: &[String]) -> String {
    let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    match nearest(found, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? There is: {list}"),
        None => format!("there is: {list}"),
    }
}

/// Per source whether its records' keys decide where state lies.
fn keyed_sources(spec: &JobSpec, operators: &[ResolvedOperator], findings: &mut Findings) -> Vec<bool> {
    let mut keyed = vec![false; spec.sources.len()];
    for operator in operators.iter().filter(|operator| operator.module.factory.description().keyed) {
        for source in feeding_sources(operators, operator) {
            keyed[source] = true;
            if spec.sources[source].key == KeySpec::None {
                findings.refuse(
                    format!("sources[{}].key", spec.sources[source].id),
                    format!("it is none, and operator {} keeps state per key", operator.id),
                    "set `key: record-key`, or `key: {field: …}` where the topic is partitioned by that field",
                );
            }
        }
    }
    keyed
}

/// A policy for a cause that nothing gives is a word misspelt.
fn check_codes(spec: &JobSpec, operators: &[ResolvedOperator], findings: &mut Findings) {
    let refusals = operators.iter().flat_map(|operator| &operator.module.factory.description().refusal_codes);
    let ours = code::OF_SOURCES.into_iter().chain(CODES_OF_OPERATORS).map(str::to_owned);
    let mut known: Vec<String> = ours.chain(refusals.cloned()).collect();
    known.sort_unstable();
    known.dedup();
    for code in spec.bad_records.by_code.keys().filter(|code| !known.contains(code)) {
        let found = format!("no record of this job is refused as `{}`", code.escape_debug());
        findings.refuse(format!("bad_records.by_code.{}", code.escape_debug()), found, one_of(code, &known));
    }
}

fn feeding_sources(operators: &[ResolvedOperator], operator: &ResolvedOperator) -> BTreeSet<usize> {
    let mut sources = BTreeSet::new();
    for (origin, _) in &operator.inputs {
        match *origin {
            Origin::Source(source) => drop(sources.insert(source)),
            Origin::Output { operator, .. } => sources.extend(feeding_sources(operators, &operators[operator])),
        }
    }
    sources
}

fn warn_of_unread(
    sources: &[ResolvedSource],
    operators: &[ResolvedOperator],
    sinks: &[ResolvedSink],
    findings: &mut Findings,
) {
    let read = |source: usize| {
        let inputs = operators.iter().flat_map(|operator| operator.inputs.iter().map(|(origin, _)| *origin));
        inputs.chain(sinks.iter().map(|sink| sink.from)).any(|origin| origin == Origin::Source(source))
    };
    for (i, source) in sources.iter().enumerate().filter(|(i, _)| !read(*i)) {
        findings.warn(format!("sources[{}]: nothing reads source number {i}", source.spec.id));
    }
}

/// A sink that carries event time and deletes by it, or refuses what is old, does not keep what a new job makes of
/// the past.
fn warn_of_old_times(
    spec: &JobSpec,
    facts: &Facts,
    operators: &[ResolvedOperator],
    sinks: &[ResolvedSink],
    findings: &mut Findings,
) {
    if facts.job.is_some() {
        return;
    }
    let from_the_past = |source: usize| !matches!(spec.sources[source].start, StartSpec::Latest);
    for (sink, of) in sinks.iter().zip(&spec.sinks).filter(|(_, of)| of.timestamp == TimestampSpec::EventTime) {
        let Some(held_ms) = sink.topic.timestamps.max_behind_ms else { continue };
        let feeding = match sink.from {
            Origin::Source(source) => BTreeSet::from([source]),
            Origin::Output { operator, .. } => feeding_sources(operators, &operators[operator]),
        };
        if let Some(source) = feeding.into_iter().find(|source| from_the_past(*source)) {
            findings.warn(format!(
                "sinks[{}]: topic {} keeps timestamps of the last {} only, and source {} is read from the past: output \
                 with an older event time is a bad record; set `timestamp: now`, or raise the topic's retention.ms",
                of.id,
                of.topic,
                approximately(held_ms),
                spec.sources[source].id,
            ));
        }
    }
}

/// Most records of a topic that is not spread as the source says become dead letters, while the job runs well.
fn warn_of_keys_elsewhere(sources: &[ResolvedSource], parallelism: u32, facts: &Facts, findings: &mut Findings) {
    for source in sources.iter().filter(|source| source.keyed && parallelism > 1) {
        let ResolvedSource { spec, topic, .. } = source;
        let partitioner = Partitioner::from(spec.partitioner);
        let Some(sample) = facts.samples.get(&spec.id) else { continue };
        let misplaced = sample.keys - sample.in_place(partitioner);
        // A few may be from before the topic grew.
        if misplaced * 20 <= sample.keys {
            continue;
        }
        let mut others = [Partitioner::Murmur2, Partitioner::Crc32].into_iter().filter(|other| *other != partitioner);
        let remedy = match others.find(|other| sample.in_place(*other) * 20 >= sample.keys * 19) {
            Some(other) => format!("{} puts them there: set `partitioner: {}`", other.name(), other.name()),
            None => "set `parallelism: 1`, or repartition the topic by this key".to_owned(),
        };
        findings.warn(format!(
            "sources[{}]: of the newest {} records with a key in topic {} {misplaced} are not in the partition that {} gives \
             their key; such records become bad ones (wrong-partition); {remedy}",
            spec.id,
            sample.keys,
            topic.spec.name,
            partitioner.name(),
        ));
    }
}

/// In the largest unit of which there are two.
fn approximately(ms: i64) -> String {
    let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = units.iter().find(|(unit, _)| ms >= 2 * unit);
    unit.map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
}

/// Equal keys must meet in one task: the number of tasks divides the partitions of every keyed source.
fn parallelism(spec: &JobSpec, sources: &[ResolvedSource], facts: &Facts, findings: &mut Findings) -> Option<u32> {
    let apart = keys_apart(sources);
    let fits = |parallelism: u32| {
        let mut keyed = sources.iter().filter(|source| source.keyed);
        (parallelism == 1 || apart.is_none())
            && keyed.all(|source| source.topic.spec.partitions.is_multiple_of(parallelism))
    };
    let most = sources.iter().map(|source| source.topic.spec.partitions).max().unwrap_or(1);
    let default = || (1..=most.min(DEFAULT_PARALLELISM_MAX)).rev().find(|p| fits(*p) && KEY_GROUPS.is_multiple_of(*p));
    let Some(parallelism) = facts.parallelism(spec) else { return default().or(Some(1)) };
    if parallelism == 0 || !KEY_GROUPS.is_multiple_of(parallelism) || parallelism > most {
        let found = format!("{parallelism} tasks are not possible");
        findings.refuse("parallelism", found, format!("use 1 to {most}, a number that divides {KEY_GROUPS}"));
        return None;
    }
    if let Some((source, found)) = apart.filter(|_| parallelism > 1) {
        findings.refuse(
            format!("sources[{}].partitioner", source.spec.id),
            format!("{found}: in {parallelism} tasks equal keys would not meet"),
            "name the partitioner that the producers of all these topics use, or set `parallelism: 1`",
        );
    }
    for source in sources.iter().filter(|s| s.keyed && !s.topic.spec.partitions.is_multiple_of(parallelism)) {
        let partitions = source.topic.spec.partitions;
        if facts.job.is_some() {
            findings.refuse(
                format!("sources[{}].topic", source.spec.id),
                format!(
                    "topic {} has {partitions} partitions now, which the job's {parallelism} tasks do not divide: equal \
                     keys would meet in different tasks",
                    source.spec.topic
                ),
                format!(
                    "add partitions until there are {} and apply the job again, or deploy another job with a parallelism \
                     of {}",
                    partitions.next_multiple_of(parallelism),
                    divisors(partitions)
                ),
            );
            continue;
        }
        findings.refuse(
            "parallelism",
            format!("{parallelism} does not divide the {partitions} partitions of topic {}", source.spec.topic),
            format!("use {}, or leave it out", divisors(partitions)),
        );
    }
    Some(parallelism)
}

/// Why equal keys need not come to one task where there are several, and the source where that shows.
fn keys_apart(sources: &[ResolvedSource]) -> Option<(&ResolvedSource, String)> {
    let mut keyed = sources.iter().filter(|source| source.keyed);
    let first = keyed.clone().next()?;
    if let Some(any) = keyed.clone().find(|source| source.spec.partitioner == PartitionerSpec::None) {
        return Some((any, "it is none, and state is kept by key behind it".to_owned()));
    }
    let other = keyed.find(|source| source.spec.partitioner != first.spec.partitioner)?;
    let name = |source: &ResolvedSource| Partitioner::from(source.spec.partitioner).name();
    Some((other, format!("it is {}, that of source {} is {}", name(other), first.spec.id, name(first))))
}

fn divisors(partitions: u32) -> String {
    let divisors = (1..=partitions).filter(|d| partitions.is_multiple_of(*d));
    let mut shown: Vec<String> = divisors.map(|d| d.to_string()).collect();
    let last = shown.pop().unwrap_or_default();
    if shown.is_empty() { last } else { format!("{} or {last}", shown.join(", ")) }
}
