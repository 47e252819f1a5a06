use super::super::fakes::{self, Factory, description};
use super::super::record::{FORMAT, SourceRecord};
use super::super::unknown::Unknown;
use super::*;
use crate::log::{Cleanup, TimestampBounds, TopicSpec};
use crate::model::{TopicId, Uid};
use crate::task::plan::Secret;
use crate::wasm::contract::ParameterDecl;

const SPEC: &str = "
name: counts
sources:
  - {id: in, topic: orders}
operators:
  - {id: count, module: counter@1, inputs: {in: in}}
sinks:
  - {id: out, topic: results, from: count.out}
";

fn found(reference: &str, description: Description) -> (String, Result<FoundModule, String>) {
    let (name, version) = (description.name.clone(), description.version.clone());
    let digest = Digest([version.as_bytes()[0]; 32]);
    let factory = Arc::new(Factory(Arc::new(description)));
    (reference.to_owned(), Ok(FoundModule { id: ModuleId { name, version, digest }, factory }))
}

fn facts() -> Facts {
    let topic = |(name, partitions)| (String::from(name), fakes::info(name, partitions));
    let with_parameters = Description {
        parameters: vec![fakes::parameter("depth", false, Some("10")), fakes::parameter("venue", true, None)],
        keyed: false,
        inputs: vec!["left".into(), "right".into()],
        ..description("1", 1, &[], &[])
    };
    Facts {
        topics: [("orders", 12), ("prices", 6), ("results", 4)].into_iter().map(topic).collect(),
        modules: [
            found("counter@1", description("1", 1, &[], &[])),
            found("counter@2", description("2", 2, &[1], &[1])),
            found("join@1", with_parameters),
            ("lost@1".to_owned(), Err("no module is called lost@1".to_owned())),
        ]
        .into(),
        ..Facts::default()
    }
}

fn planned(yaml: &str, facts: &Facts) -> Plan {
    plan(&JobSpec::parse(yaml).unwrap(), facts)
}

/// The refusals of `SPEC` with one thing replaced.
#[track_caller]
fn refused(what: &str, with: &str, expected: &[&str]) {
    assert!(SPEC.contains(what), "{what}");
    let plan = planned(&SPEC.replace(what, with), &facts());
    let found: Vec<String> = plan.refusals.iter().map(Refusal::to_string).collect();
    assert_eq!(found, expected);
    assert_eq!(plan.action, Action::Refused);
}

#[test]
fn a_new_job_gets_the_greatest_parallelism_up_to_four_that_divides_its_keyed_sources() {
    let plan = planned(SPEC, &facts());
    assert_eq!((plan.action, plan.refusals), (Action::Create, Vec::new()));
    let graph = plan.graph.unwrap();
    assert_eq!((graph.parallelism, graph.sources[0].keyed), (4, true));
    let spec = SPEC.replace("orders}", "prices}");
    assert_eq!(planned(&spec, &facts()).graph.unwrap().parallelism, 3);
}

#[test]
fn a_job_of_too_many_operators_is_refused() {
    let one = "  - {id: count, module: counter@1, inputs: {in: in}}\n";
    let more: String = (0..64).map(|i| one.replace("count,", &format!("c{i},"))).collect();
    let plan = planned(&SPEC.replace(one, &format!("{one}{more}")), &facts());
    assert_eq!((plan.refusals[0].place.as_str(), plan.refusals[0].found.as_str()), ("operators", "there are 65"));
}

#[test]
fn names_and_topics_that_cannot_be_are_refused_with_place_and_remedy() {
    refused("name: counts", "name: a/b", &["name: `a/b` cannot be a name; use 1 to 64 letters, digits, - and _"]);
    refused(
        "topic: orders",
        "topic: order",
        &["sources[in].topic: there is no topic `order`; did you mean `orders`? Or create it: \
           `forebay topic create order`"],
    );
    refused(
        "topic: results",
        "topic: orders",
        &["sinks[out].topic: topic `orders` is read by source in of this job; write to another topic: the job \
           would read its own output"],
    );
    refused(
        "topic: results",
        "topic: __forebay.control",
        &["sinks[out].topic: topic `__forebay.control` is internal; write to a topic of your own"],
    );
    refused(
        "name: counts",
        "name: counts\nconsumer_group: \"\"",
        &["consumer_group: `` cannot be the name of a group; use 1 to 249 characters without control characters"],
    );
    refused(
        "id: count,",
        "id: in,",
        &["operators[in].id: `in` is used twice; sources and operators need ids of their own"],
    );
}

#[test]
fn internal_topics_are_neither_read_nor_written() {
    let mut facts = facts();
    for name in ["__forebay.control", "__consumer_offsets"] {
        facts.topics.insert(name.to_owned(), fakes::info(name, 12));
        for (what, with, place) in [
            ("topic: orders", format!("topic: {name}"), "sources[in].topic"),
            ("topic: results", format!("topic: {name}"), "sinks[out].topic"),
            ("name: counts", format!("name: counts\nbad_records: {{topic: {name}}}"), "bad_records.topic"),
        ] {
            let plan = planned(&SPEC.replace(what, &with), &facts);
            let found: Vec<String> = plan.refusals.iter().map(Refusal::to_string).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{place}: topic `{name}` is internal; ")), "{found:?}");
        }
    }
}

#[test]
fn a_topic_that_does_not_take_every_dead_letter_is_refused_where_letters_are_kept() {
    let with = |cleanup, max_record_bytes| {
        let mut facts = facts();
        let mut info = fakes::info("counts.dead-letters", 1);
        info.spec = TopicSpec { cleanup, max_record_bytes, ..info.spec };
        facts.topics.insert(info.spec.name.clone(), info);
        facts
    };
    let refused = |facts: &Facts, policy: &str| -> Vec<String> {
        let spec = format!("{SPEC}bad_records: {policy}\n");
        planned(&spec, facts).refusals.iter().map(Refusal::to_string).collect()
    };
    let letters = "{policy: dead-letter}";
    assert_eq!(refused(&with(Cleanup::Delete, 8_192), letters), [""; 0]);
    assert_eq!(
        refused(&with(Cleanup::Compact, 8_191), letters),
        [
            "bad_records.topic: topic `counts.dead-letters` is compacted: of the dead letters of one key it keeps the newest, \
             and none without a key; name a topic with cleanup.policy=delete, or set `policy: skip`",
            "bad_records.topic: topic `counts.dead-letters` takes records of at most 8191 bytes; raise its max.message.bytes \
             to 8192 at least: so much a dead letter's cause may need",
        ]
    );
    assert_eq!(refused(&with(Cleanup::Compact, 100), "{policy: skip}"), [""; 0]);
    assert_eq!(refused(&with(Cleanup::Compact, 8_192), "{policy: skip, by_code: {trap: dead-letter}}").len(), 1);
}

#[test]
fn a_policy_for_a_cause_that_nothing_gives_is_refused_with_the_nearest_one() {
    let refused = |code: &str| {
        let spec = format!("{SPEC}bad_records: {{by_code: {{{code}: skip}}}}\n");
        planned(&spec, &facts()).refusals.iter().map(Refusal::to_string).collect::<Vec<_>>()
    };
    assert_eq!(refused("missing-time"), [""; 0]);
    let found = refused("mising-time");
    assert!(
        found[0].contains("no record of this job is refused as `mising-time`; did you mean `missing-time`?"),
        "{found:?}"
    );
}

#[test]
fn several_tasks_keep_state_by_key_only_where_one_partitioner_brings_equal_keys_together() {
    let tasks = |spec: &str| {
        let plan = planned(spec, &facts());
        plan.graph.map(|graph| graph.parallelism).ok_or_else(|| plan.refusals[0].to_string())
    };
    let with =
        |partitioner: &str| SPEC.replace("topic: orders}", &format!("topic: orders, partitioner: {partitioner}}}"));
    let four = |spec: String| spec.replace("name: counts", "name: counts\nparallelism: 4");
    assert_eq!(tasks(&with("crc32")), Ok(4));
    assert_eq!(tasks(&with("none")), Ok(1));
    assert_eq!(tasks(&with("none").replace("name: counts", "name: counts\nparallelism: 1")), Ok(1));
    assert_eq!(
        tasks(&four(with("none"))),
        Err("sources[in].partitioner: it is none, and state is kept by key behind it: in 4 tasks equal keys would not meet; \
             name the partitioner that the producers of all these topics use, or set `parallelism: 1`"
            .to_owned())
    );
    let two_sources = with("crc32").replace(
        "operators:",
        "  - {id: more, topic: prices}\noperators:\n  - {id: other, module: counter@1, inputs: {in: more}}",
    );
    assert_eq!(tasks(&two_sources), Ok(1));
    let found = tasks(&two_sources.replace("name: counts", "name: counts\nparallelism: 2")).unwrap_err();
    assert!(found.starts_with("sources[more].partitioner: it is murmur2, that of source in is crc32"), "{found}");
}

#[test]
fn a_topic_that_is_spread_otherwise_is_told_with_the_partitioner_that_fits() {
    let warned = |spec: &str, murmur2, crc32| {
        let mut facts = facts();
        facts.samples.insert("in".to_owned(), KeySample { keys: 100, murmur2, crc32 });
        planned(spec, &facts).warnings
    };
    let one = SPEC.replace("name: counts", "name: counts\nparallelism: 1");
    assert_eq!([warned(SPEC, 95, 20), warned(&one, 20, 100)], [vec![], Vec::<String>::new()]);
    assert_eq!(
        warned(SPEC, 20, 100),
        [
            "sources[in]: of the newest 100 records with a key in topic orders 80 are not in the partition that murmur2 gives \
          their key; such records become bad ones (wrong-partition); crc32 puts them there: set `partitioner: crc32`"
        ]
    );
    assert!(warned(SPEC, 20, 30)[0].ends_with("set `parallelism: 1`, or repartition the topic by this key"));
    let crc32 = SPEC.replace("topic: orders}", "topic: orders, partitioner: crc32}");
    assert_eq!(warned(&crc32, 20, 100), [""; 0]);
}

#[test]
fn graphs_that_do_not_fit_their_modules_are_refused() {
    refused(
        "counter@1",
        "lost@1",
        &["operators[count].module: no module is called lost@1; push the module: `forebay module push <file>`, or \
           name one that is there"],
    );
    refused(
        "inputs: {in: in}",
        "inputs: {inn: in}",
        &[
            "operators[count].inputs.inn: module counter@1 (313131313131) has no input `inn`; did you mean `in`? \
             There is: in",
            "operators[count].inputs: the module's input `in` is fed by nothing; add `in: <source or \
             operator.output>`",
        ],
    );
    refused(
        "from: count.out",
        "from: count.outt",
        &["sinks[out].from: operator count has no output `count.outt`; did you mean `count.out`? There is: in, \
           count.out"],
    );
    refused(
        "inputs: {in: in}}",
        "inputs: {in: again.out}}\n  - {id: again, module: counter@1, inputs: {in: count.out}}",
        &["operators: count, again feed each other in a circle; a job's graph has no cycles: cut one of their \
           inputs"],
    );
    refused(
        "topic: orders}",
        "topic: orders, key: none}",
        &["sources[in].key: it is none, and operator count keeps state per key; set `key: record-key`, or `key: \
           {field: …}` where the topic is partitioned by that field"],
    );
}

#[test]
fn a_parallelism_must_divide_the_partitions_of_keyed_sources() {
    refused(
        "name: counts",
        "name: counts\nparallelism: 5",
        &["parallelism: 5 does not divide the 12 partitions of topic orders; use 1, 2, 3, 4, 6 or 12, or leave it \
           out"],
    );
    refused(
        "name: counts",
        "name: counts\nparallelism: 0",
        &["parallelism: 0 tasks are not possible; use 1 to 12, a number that divides 20160"],
    );
}

#[test]
fn parameters_are_checked_by_name_and_by_opening_the_module() {
    let join = "counter@1, inputs: {in: in}}";
    let with = |parameters: &str| format!("join@1, inputs: {{left: in, right: in}}, parameters: {{{parameters}}}}}");
    refused(
        join,
        &with("dept: 5"),
        &[
            "operators[count].parameters.dept: module counter@1 (313131313131) has no parameter `dept`; did you \
             mean `depth`? There is: depth, venue",
            "operators[count].parameters.venue: the module requires it and it is not given; give it a value: the \
             venue",
        ],
    );
    refused(
        join,
        &with("venue: x, depth: bad"),
        &["operators[count]: module counter@1 refuses to open: depth must be a number; correct the parameters as \
           the module asks, or push a module that opens"],
    );
    let plan = planned(&SPEC.replace(join, &with("venue: x")), &facts());
    let module = &plan.graph.unwrap().operators[0].module;
    let text = |name: &str, value: &str| (name.to_owned(), Parameter::Text(value.to_owned()));
    assert_eq!(module.parameters, [text("depth", "10"), text("venue", "x")]);
}

#[test]
fn a_secret_stands_in_the_spec_by_where_it_is_and_never_in_clear() {
    let secret = ParameterDecl { secret: true, ..fakes::parameter("token", true, None) };
    let mut facts = facts();
    facts
        .modules
        .extend([found("guarded@1", Description { parameters: vec![secret], ..description("1", 1, &[], &[]) })]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let found = |given: &str| {
        let yaml = SPEC.replace("counter@1, inputs: {in: in}}", &format!("guarded@1, inputs: {{in: in}}, {given}}}"));
        let plan = planned(&yaml, &facts);
        (plan.refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n"), plan.graph)
    };
    let (none, graph) = found(&format!("secrets: {{token: {{file: {}}}}}", file.display()));
    assert_eq!(none, "");
    let module = &graph.unwrap().operators[0].module;
    assert_eq!(module.parameters, [("token".to_owned(), Parameter::Secret(Secret::File(file)))]);
    for (given, expected) in [
        (
            "parameters: {token: hunter2}",
            "parameters.token: the module declares it secret, and here it stands in clear; say",
        ),
        ("parameters: {}", "secrets.token: the module requires it and it is not given; give it a value"),
        (
            "secrets: {token: {env: FOREBAY_NOT_SET_ANYWHERE}}",
            "secrets.token: it cannot be had; $FOREBAY_NOT_SET_ANYWHERE is",
        ),
        ("secrets: {token: {file: token}}", "secrets.token: the path of its file is relative"),
        (
            "secrets: {tken: {env: PATH}}",
            "secrets.tken: module counter@1 (313131313131) has no parameter `tken`; did you mean `token`",
        ),
    ] {
        let (refused, _) = found(given);
        assert!(refused.contains(expected), "{given}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn what_the_system_refuses_says_nothing_of_the_spec() {
    let join = "counter@1, inputs: {in: in}}";
    let with = "join@1, inputs: {left: in, right: in}, parameters: {venue: x, depth: no-memory}}";
    let yaml = SPEC.replace(join, with);
    let plan = planned(&yaml, &facts());
    assert_eq!(plan.refusals, []);
    assert!(plan.trouble.as_ref().unwrap().contains("Cannot allocate memory"), "{:?}", plan.trouble);
}

#[test]
fn operators_stand_behind_those_that_feed_them_whatever_their_order_in_the_spec() {
    let spec = SPEC.replace("operators:\n", "operators:\n  - {id: last, module: counter@1, inputs: {in: count.out}}\n");
    let graph = planned(&spec, &facts()).graph.unwrap();
    let ids: Vec<_> = graph.operators.iter().map(|operator| operator.id.as_str()).collect();
    assert_eq!(ids, ["count", "last"]);
    assert_eq!(graph.connected_outputs(0), [0]);
    assert_eq!(graph.connected_outputs(1), Vec::<u8>::new());
}

fn running(facts: &mut Facts) -> JobRecord {
    let spec = JobSpec::parse(SPEC).unwrap();
    let graph = plan(&spec, facts).graph.unwrap();
    let found = facts.modules["counter@1"].clone().unwrap();
    facts.running.insert(found.id.digest, Arc::clone(found.factory.description()));
    JobRecord {
        format: FORMAT,
        uid: Uid::random(),
        name: spec.name.clone(),
        incarnation: 1,
        created_at_ms: 0,
        desired: Desired::Running,
        parallelism: graph.parallelism,
        spec,
        modules: [("count".to_owned(), found.id)].into(),
        sources: [("in".to_owned(), SourceRecord { topic: "orders".into(), topic_id: String::new(), start: vec![] })]
            .into(),
        time_reset: None,
        unknown: Unknown::default(),
    }
}

#[test]
fn a_running_job_keeps_its_graph_and_may_change_its_settings() {
    let mut facts = facts();
    facts.job = Some(running(&mut facts));
    assert_eq!(planned(SPEC, &facts).action, Action::Nothing);
    let faster = format!("{SPEC}\ncommit: {{interval: 50ms}}");
    let plan = planned(&faster, &facts);
    assert_eq!((plan.action, plan.changes), (Action::Restart, vec!["commit: another interval".to_owned()]));
    let moved = planned(&SPEC.replace("topic: orders", "topic: prices"), &facts);
    assert!(moved.refusals.iter().any(|refusal| refusal.place == "sources[in].topic"));
    facts.job.as_mut().unwrap().desired = Desired::Stopped;
    assert_eq!(planned(SPEC, &facts).action, Action::Resume);
}

#[test]
fn a_job_keeps_its_tasks_when_a_topic_grows_to_what_they_divide() {
    let mut facts = facts();
    facts.job = Some(running(&mut facts));
    facts.topics.insert("orders".into(), fakes::info("orders", 20));
    let plan = planned(SPEC, &facts);
    assert_eq!((plan.action, plan.graph.unwrap().parallelism), (Action::Nothing, 4));
    facts.topics.insert("orders".into(), fakes::info("orders", 18));
    let plan = planned(SPEC, &facts);
    let refused: Vec<String> = plan.refusals.iter().map(Refusal::to_string).collect();
    assert_eq!(
        refused,
        ["sources[in].topic: topic orders has 18 partitions now, which the job's 4 tasks do not divide: equal keys \
          would meet in different tasks; add partitions until there are 20 and apply the job again, or deploy another \
          job with a parallelism of 1, 2, 3, 6, 9 or 18"]
    );
}

#[test]
fn a_sink_that_does_not_hold_the_past_is_warned_of_before_a_job_reads_from_there() {
    let mut facts = facts();
    let week = TimestampBounds { max_behind_ms: Some(7 * 86_400_000), max_ahead_ms: None };
    facts.topics.get_mut("results").unwrap().timestamps = week;
    let warnings = |spec: &str, facts: &Facts| planned(spec, facts).warnings;
    let warned = warnings(SPEC, &facts);
    assert_eq!(
        warned,
        ["sinks[out]: topic results keeps timestamps of the last 7 days only, and source in is read from the past: \
          output with an older event time is a bad record; set `timestamp: now`, or raise the topic's retention.ms"]
    );
    assert!(warnings(&SPEC.replace("topic: orders}", "topic: orders, start: latest}"), &facts).is_empty());
    assert!(warnings(&SPEC.replace("from: count.out}", "from: count.out, timestamp: now}"), &facts).is_empty());
    facts.job = Some(running(&mut facts));
    assert!(warnings(SPEC, &facts).is_empty(), "a job that has positions reads no past");
}

/// The plan of `SPEC` with its sink on a cluster, where server and cluster have these topics.
fn planned_elsewhere(sink: &str, topics: Vec<TopicInfo>) -> Plan {
    let topics = topics.into_iter().map(|topic| (topic.spec.name.clone(), topic)).collect();
    let facts = Facts { elsewhere: [("lake".to_owned(), topics)].into(), ..facts() };
    planned(&SPEC.replace("topic: results,", &format!("topic: results, {sink},")), &facts)
}

fn there(cleanup: Cleanup) -> TopicInfo {
    let info = fakes::info("results", 4);
    TopicInfo { id: TopicId([2; 16]), spec: TopicSpec { cleanup, ..info.spec }, ..info }
}

#[test]
fn a_sink_on_another_cluster_is_at_least_once_and_the_plan_says_so() {
    let plan = planned_elsewhere("cluster: lake", vec![there(Cleanup::Delete)]);
    assert_eq!((plan.action, &plan.refusals), (Action::Create, &Vec::new()));
    assert_eq!(
        plan.warnings,
        [
            "sinks[out]: cluster lake takes no part in the job's commits, so output to its topic results is at-least-once: \
          after a failure records may be there twice, the later copies behind newer records"
        ]
    );
    assert_eq!(plan.graph.unwrap().sinks[0].topic.id, TopicId([2; 16]), "it is that of the other cluster");
}

#[test]
fn a_compacted_topic_of_another_cluster_is_written_to_only_where_that_was_accepted() {
    let compacted = || vec![there(Cleanup::Compact)];
    let plan = planned_elsewhere("cluster: lake", compacted());
    assert_eq!(
        plan.refusals.iter().map(Refusal::to_string).collect::<Vec<_>>(),
        [
            "sinks[out].topic: topic `results` of cluster lake keeps the newest record of each key, and a server that does \
          not know yet that it was replaced may still write an older one, which then stays; write to a topic that is not \
          compacted, or set `accept_duplicates: true` where readers can bear it"
        ]
    );
    let plan = planned_elsewhere("cluster: lake, accept_duplicates: true", compacted());
    assert_eq!((plan.refusals, plan.warnings.len()), (Vec::new(), 1));
}

#[test]
fn a_sink_on_a_cluster_or_topic_that_is_not_there_is_refused() {
    let refused = |sink: &str, topics| -> Vec<String> {
        planned_elsewhere(sink, topics).refusals.iter().map(Refusal::to_string).collect()
    };
    assert_eq!(
        refused("cluster: lakes", Vec::new()),
        ["sinks[out].cluster: this server knows no cluster `lakes`; did you mean `lake`? There is: lake; others are \
          named by `forebay dev --other-cluster NAME=FILE`"]
    );
    assert_eq!(
        refused("cluster: lake", vec![fakes::info("result", 1)]),
        ["sinks[out].topic: cluster lake has no topic `results`; did you mean `result`? Or create it there"]
    );
    let input = TopicInfo { id: fakes::info("orders", 1).id, ..there(Cleanup::Delete) };
    assert_eq!(
        refused("cluster: lake", vec![input]),
        [
            "sinks[out].topic: topic `results` of cluster lake is read by source in of this job; write to another topic: \
          the job would read its own output"
        ]
    );
    assert_eq!(
        refused("accept_duplicates: true", Vec::new()),
        ["sinks[out].accept_duplicates: a sink of the job's own cluster has none; leave it out, or name a `cluster`"]
    );
    let on_a_source = JobSpec::parse(&SPEC.replace("topic: orders}", "topic: orders, cluster: lake}"));
    assert!(on_a_source.unwrap_err().to_string().contains("unknown field `cluster`"));
}

#[test]
fn another_module_is_planned_state_by_state_and_comes_in_by_a_swap() {
    let mut facts = facts();
    facts.job = Some(running(&mut facts));
    let plan = planned(&SPEC.replace("counter@1", "counter@2"), &facts);
    assert_eq!(plan.action, Action::Refused);
    assert_eq!(
        plan.refusals[0].remedy,
        "name counter@1 in the spec to keep it, or swap it, running or stopped: `forebay job swap counts count counter@2`"
    );
    assert_eq!(plan.states[0].fate, Fate::Migrate { by_new: true });
}

#[test]
fn each_state_is_kept_migrated_reset_or_refused() {
    let fate = |old: &[_], new: &[_]| compare_states("op", old, new).remove(0).fate;
    let state = fakes::state;
    let v1 = [state("s", 1, &[], &[], "a")];
    assert_eq!(fate(&v1, &v1), Fate::Keep);
    assert_eq!(fate(&v1, &[state("s", 2, &[1], &[], "b")]), Fate::Migrate { by_new: true });
    assert_eq!(fate(&[state("s", 2, &[1], &[1], "b")], &v1), Fate::Migrate { by_new: false });
    assert_eq!(fate(&[], &v1), Fate::Reset);
    assert_eq!(fate(&v1, &[]), Fate::Orphan);
    assert!(matches!(fate(&v1, &[state("s", 1, &[], &[], "changed")]), Fate::Refuse(_)));
    assert!(matches!(fate(&[state("s", 2, &[1], &[], "b")], &v1), Fate::Stuck(_)));
}
