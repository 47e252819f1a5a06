//! Jobs on a real Kafka through the binary: what lag tools see, where a job starts, topics that grow, settings that
//! lose records, and what is said when the cluster is away. Kafka's own tools are the other side.
//!
//! All tests share one cluster, with names of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, PATIENCE, read_of, until};
use kafka_cluster::{Cluster, Listener, Options, Target};
use market_data::api::Client;
use market_data::api::proto::{Job, JobState, TaskPhase};
use market_data::input::partitioned::{Record, partition_of};
use market_data::server::Server;
use serde_json::Value;

const KEYS: usize = 40;

/// A server of the test's own on the shared cluster, and a job that counts per key.
struct OnKafka {
    target: Target,
    bench: Bench,
    /// Of the job and the server's namespace; its topics begin with it.
    name: String,
    /// How many records of each key were produced.
    sent: BTreeMap<String, u64>,
}

impl OnKafka {
    async fn start(test: &str, partitions: usize) -> Option<(Self, Client)> {
        let target = Target::for_tests()?;
        // A cluster that is named may outlive the process.
        let name = format!("{test}-{}", std::process::id());
        let mut bench = Bench::new();
        let server = Server::new(&e2e::binary("forebay"), bench.folder.path()).unwrap();
        bench.server = server.on_kafka(target.bootstrap(), &name);
        let client = bench.server.start(None).await.unwrap();
        client.push(&e2e::guest("counter")).await.unwrap();
        let this = Self { target, bench, name, sent: BTreeMap::new() };
        for topic in [this.input(), this.output()] {
            client.create_topic(&topic, partitions).await.unwrap();
        }
        Some((this, client))
    }

    fn input(&self) -> String {
        format!("{}-in", self.name)
    }

    fn output(&self) -> String {
        format!("{}-out", self.name)
    }

    fn group(&self) -> String {
        format!("forebay.{}", self.name)
    }

    fn spec(&self, start: &str) -> String {
        format!(
            "name: {name}\nparallelism: 2\nsources: [{{id: numbers, topic: {name}-in, start: {start}}}]\n\
             operators: [{{id: count, module: counter@1.0.0, inputs: {{input: numbers}}}}]\n\
             sinks: [{{id: out, topic: {name}-out, from: count.counts, timestamp: now}}]\n",
            name = self.name
        )
    }

    /// Appends records whose keys take turns, where a producer puts them who sees so many partitions.
    async fn produce(&mut self, client: &Client, count: usize, partitions: usize) {
        let mut parts: Vec<Vec<Record>> = vec![Vec::new(); partitions];
        for key in (0..count).map(|n| format!("key-{}", n % KEYS)) {
            let partition = partition_of(key.as_bytes(), partitions);
            *self.sent.entry(key.clone()).or_default() += 1;
            let value = Some(br#"{"amount": 1}"#.to_vec());
            parts[partition].push(Record { key: Some(key.into_bytes()), value, timestamp_ms: 1_000 });
        }
        let parts = parts.iter().enumerate().filter(|(_, part)| !part.is_empty());
        let parts = parts.map(|(partition, records)| (partition, records.as_slice())).collect();
        client.produce(&self.input(), parts).await.unwrap();
    }

    fn tool(&self, class: &str, arguments: &[&str]) -> String {
        self.target.tool(class, arguments).unwrap()
    }

    /// Per partition of the input what `kafka-consumer-groups --describe` says: position, end and lag.
    fn described(&self) -> BTreeMap<i32, (i64, i64, i64)> {
        let text = self.tool("ConsumerGroupCommand", &["--describe", "--group", &self.group()]);
        let input = self.input();
        let of_input = text.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |i: usize| words.get(i)?.parse::<i64>().ok();
            (words.get(1) == Some(&input.as_str()))
                .then(|| Some((number(2)? as i32, (number(3)?, number(4)?, number(5)?))))?
        });
        of_input.collect()
    }

    /// Waits until the group stands at the end of all records, as a lag tool sees it.
    fn await_no_lag(&self, records: i64) {
        let since = Instant::now();
        loop {
            let found = self.described();
            let read: i64 = found.values().map(|(position, ..)| position).sum();
            if read == records && found.values().all(|(_, _, lag)| *lag == 0) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "group {} does not get to {records}: {found:?}", self.group());
        }
    }

    /// Every record was counted once, in the order of its key, whatever happened: the counts of each key are 1 to
    /// the number that was sent.
    async fn judge(&self, client: &Client) {
        let mut counts = counts(client, &self.output()).await;
        for (key, sent) in &self.sent {
            let mut found = counts.remove(key).unwrap_or_default();
            found.sort_unstable();
            assert_eq!(found, (1..=*sent).collect::<Vec<_>>(), "{key}");
        }
        assert!(counts.is_empty(), "{counts:?}");
        assert!(client.consume(&format!("{}.dead-letters", self.name)).await.unwrap().is_empty());
    }

    async fn await_failure(&self, client: &Client) -> String {
        let since = Instant::now();
        loop {
            let job = client.job(&self.name).await.unwrap();
            if job.state == JobState::Failed as i32 {
                let errors = job.tasks.iter().map(|task| task.error.as_str()).chain([job.error.as_str()]);
                return errors.collect::<Vec<_>>().join("\n");
            }
            assert!(since.elapsed() < PATIENCE, "job {} does not fail: {job:?}", self.name);
            // sleep: polls a status; nothing is concluded from the time that has passed
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn partitions_of(job: &Job) -> usize {
    job.tasks.iter().map(|task| task.positions.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_tools_see_a_job_as_a_consumer_group_and_nothing_that_they_do_to_it_matters() {
    let Some((mut on, client)) = OnKafka::start("mirror", 4).await else { return };
    client.apply(&on.spec("earliest")).await.unwrap();
    on.produce(&client, 400, 4).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 400).await;
    on.await_no_lag(400);

    // Somebody resets the group, and the host dies: neither may make the job read anything twice.
    let reset = ["--reset-offsets", "--to-earliest", "--execute", "--group", &on.group(), "--topic", &on.input()];
    on.tool("ConsumerGroupCommand", &reset);
    on.bench.server.kill();
    let client = on.bench.server.start(None).await.unwrap();
    on.produce(&client, 100, 4).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 500).await;
    on.await_no_lag(500);

    // What was committed at the very end is shown too.
    on.produce(&client, 100, 4).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 600).await;
    assert!(on.bench.server.stop(PATIENCE).await);
    let shown: i64 = on.described().values().map(|(position, ..)| position).sum();
    assert_eq!(shown, 600);
    let client = on.bench.server.start(None).await.unwrap();
    on.judge(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_starts_where_another_group_has_come_to_and_only_where_it_has_come_everywhere() {
    let Some((mut on, client)) = OnKafka::start("group-start", 2).await else { return };
    on.produce(&client, 200, 2).await;
    let group = format!("{}-old", on.name);
    let spec = on.spec(&format!("{{group: {group}}}"));
    let refusal = |plan: market_data::api::proto::Plan| {
        let refusals: Vec<_> =
            plan.refusals.iter().map(|r| format!("{}: {}; {}", r.place, r.found, r.remedy)).collect();
        refusals.join("\n")
    };
    let refused = refusal(client.plan(&spec).await.unwrap());
    assert!(refused.contains("sources[numbers].start.group") && refused.contains("has committed nothing"), "{refused}");

    let commit = |partition: i32, offset: &str| {
        let topic = format!("{}:{partition}", on.input());
        let to = ["--reset-offsets", "--group", &group, "--topic", &topic, "--to-offset", offset, "--execute"];
        on.tool("ConsumerGroupCommand", &to);
    };
    commit(0, "30");
    let refused = refusal(client.plan(&spec).await.unwrap());
    assert!(refused.contains("has committed nothing for partition 1"), "{refused}");
    assert!(refused.contains(&format!("--topic {}:1 --reset-offsets", on.input())), "{refused}");

    commit(1, "20");
    client.apply(&spec).await.unwrap();
    until(&client, &on.name, |job| read_of(job, "numbers") == 200).await;
    let seen = client.consume(&on.output()).await.unwrap();
    assert_eq!(seen.len(), 150);
    // The other group is another's: it stays where it is.
    let text = on.tool("ConsumerGroupCommand", &["--describe", "--group", &group]);
    let positions = text.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse::<i64>().ok());
    assert_eq!(positions.sum::<i64>(), 50, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_while_a_job_runs_are_read_and_a_count_that_does_not_fit_stops_it() {
    let Some((mut on, client)) = OnKafka::start("grow", 2).await else { return };
    let grow = |on: &OnKafka, partitions: &str| {
        on.tool("TopicCommand", &["--alter", "--topic", &on.input(), "--partitions", partitions]);
    };
    client.apply(&on.spec("earliest")).await.unwrap();
    on.produce(&client, 200, 2).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 200).await;

    // What a producer wrote that has not seen the new partitions yet is still its key's.
    grow(&on, "4");
    on.produce(&client, 200, 2).await;
    on.produce(&client, 200, 4).await;
    until(&client, &on.name, |job| partitions_of(job) == 4 && read_of(job, "numbers") == 600).await;
    on.bench.server.kill();
    let client = on.bench.server.start(None).await.unwrap();
    on.produce(&client, 100, 4).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 700).await;

    grow(&on, "5");
    let why = on.await_failure(&client).await;
    assert!(why.contains("has 5 partitions now") && why.contains("add partitions until there are 6"), "{why}");
    grow(&on, "6");
    client.apply(&on.spec("earliest")).await.unwrap();
    on.produce(&client, 300, 6).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 1_000).await;
    on.judge(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_loop_in_a_backlog_are_dead_letters_and_no_transaction_times_out_over_them() {
    let Some((on, client)) = OnKafka::start("loops", 1).await else { return };
    client.push(&e2e::guest("poison")).await.unwrap();
    // Two in one batch: what the search for them takes is longer than a transaction may be open.
    let loops = [5_000, 5_300, 12_000];
    let record = |n: usize| {
        let wish = if loops.contains(&n) { r#"{"do":"loop"}"# } else { "{}" };
        let (key, value) = (format!("key-{}", n % KEYS).into_bytes(), wish.as_bytes().to_vec());
        Record { key: Some(key), value: Some(value), timestamp_ms: 1_000 }
    };
    let records: Vec<Record> = (0..20_000).map(record).collect();
    client.produce(&on.input(), vec![(0, records.as_slice())]).await.unwrap();
    let spec = format!(
        "name: {name}\nsources: [{{id: numbers, topic: {name}-in, decode: json}}]\n\
         operators: [{{id: count, module: poison@1.0.0, inputs: {{input: numbers}}}}]\n\
         sinks: [{{id: out, topic: {name}-out, from: count.out, timestamp: now}}]\n",
        name = on.name
    );
    client.apply(&spec).await.unwrap();
    until(&client, &on.name, |job| read_of(job, "numbers") == 20_000).await;
    let letters = client.consume(&format!("{}.dead-letters", on.name)).await.unwrap();
    let code =
        |letter: &market_data::api::Seen| letter.headers.iter().any(|h| h.0 == "forebay.code" && h.1 == "deadline");
    assert!(letters.len() == loops.len() && letters.iter().all(code), "{} letters", letters.len());
    assert_eq!(client.consume(&on.output()).await.unwrap().len(), 20_000 - loops.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_its_directory_needs_nobody() {
    let Some((mut on, client)) = OnKafka::start("directory", 2).await else { return };
    client.apply(&on.spec("earliest")).await.unwrap();
    on.produce(&client, 200, 2).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 200).await;
    on.bench.server.kill();
    std::fs::remove_dir_all(on.bench.server.data_dir()).unwrap();
    let client = on.bench.server.start(None).await.unwrap();
    on.produce(&client, 100, 2).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 300).await;
    on.judge(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_would_lose_what_was_committed_is_named_with_the_command_that_sets_it_back() {
    let Some((mut on, client)) = OnKafka::start("settings", 2).await else { return };
    let job = client.apply(&on.spec("earliest")).await.unwrap().job.unwrap();
    on.produce(&client, 100, 2).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 100).await;
    let changelog = format!("__forebay.{}.{}.main.changelog", on.name, &job.uid[..8]);
    let target = on.target;
    let alter = |setting: &str| {
        let to = ["--alter", "--entity-type", "topics", "--entity-name", &changelog, "--add-config", setting];
        target.tool("ConfigCommand", &to).unwrap();
    };
    alter("retention.ms=604800000");
    on.bench.server.kill();
    let client = on.bench.server.start(None).await.unwrap();
    let why = on.await_failure(&client).await;
    for part in [&changelog, "retention.ms is 604800000", "must be -1", "kafka-configs --alter"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    alter("retention.ms=-1");
    client.apply(&on.spec("earliest")).await.unwrap();
    on.produce(&client, 100, 2).await;
    until(&client, &on.name, |job| read_of(job, "numbers") == 200).await;
    on.judge(&client).await;
}

/// The API goes on answering, tasks wait and say so, and all goes on when the cluster is back.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_cluster_is_silent_the_server_answers_and_the_job_waits() {
    let Some(cluster) = Cluster::for_tests(Options::default()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&e2e::binary("forebay"), folder.path()).unwrap();
    let mut server = server.on_kafka(cluster.bootstrap(), "silence");
    let client = server.start(None).await.unwrap();
    client.push(&e2e::guest("counter")).await.unwrap();
    for topic in ["silence-in", "silence-out"] {
        client.create_topic(topic, 2).await.unwrap();
    }
    let spec = "name: silence\nsources: [{id: numbers, topic: silence-in}]\n\
                operators: [{id: count, module: counter@1.0.0, inputs: {input: numbers}}]\n\
                sinks: [{id: out, topic: silence-out, from: count.counts, timestamp: now}]\n";
    client.apply(spec).await.unwrap();
    let record = |n: usize| Record {
        key: Some(format!("key-{n}").into_bytes()),
        value: Some(b"{}".to_vec()),
        timestamp_ms: 1_000,
    };
    let records: Vec<Record> = (0..100).map(record).filter(|r| partition_of(r.key.as_ref().unwrap(), 2) == 0).collect();
    client.produce("silence-in", vec![(0, &records)]).await.unwrap();
    let all = records.len() as i64;
    until(&client, "silence", |job| read_of(job, "numbers") == all).await;

    cluster.pause(1).unwrap();
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(3) {
        let one = Instant::now();
        client.job("silence").await.unwrap();
        client.jobs_running().await.unwrap();
        assert!(one.elapsed() < Duration::from_secs(1), "the server waits for the cluster");
        // sleep: asks now and then for a while, as a person does
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.resume(1).unwrap();
    client.produce("silence-in", vec![(0, &records)]).await.unwrap();
    until(&client, "silence", |job| read_of(job, "numbers") == 2 * all).await;
    assert_eq!(client.consume("silence-out").await.unwrap().len() as i64, 2 * all);
}

/// The rights of `docs/kafka.md`, and no others.
fn grant(cluster: &Cluster, job: &str) {
    let [control, sink, letters] =
        ["__forebay.", &format!("{job}-out"), &format!("{job}.dead-letters")].map(str::to_owned);
    let (read, write) = (["Describe", "DescribeConfigs", "Read"], ["Describe", "DescribeConfigs", "Write"]);
    let source = format!("{job}-in");
    let all = ["Create", "Delete", "Describe", "DescribeConfigs", "Read", "Write"];
    let of_letters = ["Create", "Describe", "DescribeConfigs", "Write", "Read"];
    let grants: [(&[&str], &[&str]); 6] = [
        (&["--resource-pattern-type", "prefixed", "--topic", &control], &all),
        (&["--resource-pattern-type", "prefixed", "--transactional-id", "forebay."], &["Describe", "Write"]),
        (&["--resource-pattern-type", "prefixed", "--group", "forebay"], &["Read"]),
        (&["--topic", &source], &read),
        (&["--topic", &sink], &write),
        (&["--topic", &letters], &of_letters),
    ];
    let user = format!("User:{}", cluster.credentials().unwrap().user);
    for (resource, operations) in grants {
        let operations = operations.iter().flat_map(|operation| ["--operation", operation]);
        let arguments = ["--add", "--force", "--allow-principal", &user].into_iter();
        let arguments: Vec<&str> = arguments.chain(resource.iter().copied()).chain(operations).collect();
        cluster.tool("AclCommand", &arguments).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_with_secrets_elsewhere_and_the_rights_of_the_documentation_are_enough() {
    let options = Options::secured()
        .property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .property("super.users", "User:ANONYMOUS");
    let Some(cluster) = Cluster::for_tests(options) else { return };
    grant(&cluster, "secured");
    for topic in ["secured-in", "secured-out"] {
        cluster.create_topic(topic, 2, &[]).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let credentials = cluster.credentials().unwrap();
    let (user, profile) = (folder.path().join("user"), folder.path().join("profile.yaml"));
    std::fs::write(&user, format!("{}\n", credentials.user)).unwrap();
    let yaml = format!(
        "bootstrap: {}\nproperties:\n  security.protocol: SASL_SSL\n  sasl.mechanism: SCRAM-SHA-512\n  \
         ssl.ca.location: {}\n  sasl.username: {{ file: {} }}\n  sasl.password: {{ env: TEST_KAFKA_PASSWORD }}\n",
        cluster.bootstrap_of(Listener::SaslSsl),
        credentials.ca.display(),
        user.display()
    );
    std::fs::write(&profile, yaml).unwrap();
    let server = Server::new(&e2e::binary("forebay"), folder.path()).unwrap();
    let mut server = server.on_cluster(&profile, ("TEST_KAFKA_PASSWORD", credentials.password));
    let client = server.start(None).await.unwrap();
    client.push(&e2e::guest("counter")).await.unwrap();
    let spec = "name: secured\nsources: [{id: numbers, topic: secured-in}]\n\
                operators: [{id: count, module: counter@1.0.0, inputs: {input: numbers}}]\n\
                sinks: [{id: out, topic: secured-out, from: count.counts, timestamp: now}]\n";
    client.apply(spec).await.unwrap();
    // By somebody else: the host may only read there.
    let mut producer =
        cluster.tool_command("ConsoleProducer", &["--topic", "secured-in", "--property", "parse.key=true"]);
    let mut producer = producer.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    producer.stdin.take().unwrap().write_all(b"k\t{}\nl\t{}\n").unwrap();
    assert!(producer.wait().unwrap().success());
    until(&client, "secured", |job| read_of(job, "numbers") == 2).await;
    let described = || cluster.tool("ConsumerGroupCommand", &["--describe", "--group", "forebay.secured"]).unwrap();
    let since = Instant::now();
    while described().lines().filter(|line| line.contains("secured-in")).count() < 2 {
        assert!(since.elapsed() < PATIENCE, "{}", described());
    }
    client.delete_job("secured").await.unwrap();
    let log = std::fs::read_to_string(server.log_path()).unwrap();
    assert!(!log.contains(credentials.password), "{log}");
}

/// Per key what the counting job wrote to a topic, in no order.
async fn counts(client: &Client, topic: &str) -> HashMap<String, Vec<u64>> {
    let mut counts: HashMap<String, Vec<u64>> = HashMap::new();
    for seen in client.consume(topic).await.unwrap() {
        let value: Value = serde_json::from_slice(seen.value.as_deref().unwrap()).unwrap();
        let key = value["key"].as_str().unwrap().to_owned();
        counts.entry(key).or_default().push(value["count"].as_u64().unwrap());
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_on_another_cluster_gets_every_result_through_kills_and_outages() {
    let Some(lake) = Cluster::for_tests(Options::default()) else { return };
    lake.create_topic("results", 2, &[]).unwrap();
    let Some((mut on, _)) = OnKafka::start("elsewhere", 4).await else { return };
    let profile = on.bench.folder.path().join("lake.yaml");
    std::fs::write(&profile, format!("bootstrap: {}\ntransaction_timeout_ms: 3000\n", lake.bootstrap())).unwrap();
    on.bench.server.kill();
    on.bench.server.know_cluster("lake", &profile);
    let mut client = on.bench.server.start(None).await.unwrap();
    let output = format!("topic: {}", on.output());
    client.apply(&on.spec("earliest").replace(&output, "cluster: lake, topic: results")).await.unwrap();
    let mut sent = 0;
    for round in 0..6 {
        on.produce(&client, 2_000, 4).await;
        sent += 2_000;
        if round % 2 == 0 {
            until(&client, &on.name, |job| read_of(job, "numbers") > sent - 2_000).await;
            on.bench.server.kill();
            client = on.bench.server.start(None).await.unwrap();
        }
    }
    until(&client, &on.name, |job| read_of(job, "numbers") == sent).await;

    lake.kill(1).unwrap();
    on.produce(&client, 500, 4).await;
    let since = Instant::now();
    loop {
        let job = client.job(&on.name).await.unwrap();
        assert_eq!(read_of(&job, "numbers"), sent, "nothing is done that is not there");
        if job.tasks.iter().any(|task| task.phase == TaskPhase::Recovering as i32) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "the job does not notice: {job:?}");
        // sleep: polls a status; nothing is concluded from the time that has passed
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lake.up(1).unwrap();
    sent += 500;
    until(&client, &on.name, |job| read_of(job, "numbers") == sent).await;
    assert!(client.consume(&on.output()).await.unwrap().is_empty(), "nothing of it is at home");

    let folder = tempfile::tempdir().unwrap();
    let mut reader = Server::new(&e2e::binary("forebay"), folder.path()).unwrap().on_kafka(lake.bootstrap(), "reader");
    let found = counts(&reader.start(None).await.unwrap(), "results").await;
    let written: usize = found.values().map(Vec::len).sum();
    println!("{sent} results are there as {written} records");
    assert_eq!(found.len(), on.sent.len());
    for (key, sent) in &on.sent {
        let mut found = found[key].clone();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, (1..=*sent).collect::<Vec<_>>(), "{key}: none is missing, and none is of another's making");
    }
}

/// What `forebay dev` says when it does not start, and its exit code.
fn refused(arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(e2e::binary("forebay"));
    command.args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path()).args(arguments);
    let ended = command.output().unwrap();
    (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[test]
fn a_server_that_cannot_have_its_cluster_says_what_and_where_and_ends() {
    let (code, said) = refused(&["--kafka", "127.0.0.1:1"]);
    assert_eq!(code, 5, "{said}");
    for part in ["connect to Kafka at 127.0.0.1:1", "tried for", "see that the cluster runs"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = refused(&["--kafka", "127.0.0.1:1", "--cluster", "profile.yaml"]);
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
    let (code, said) = refused(&["--cluster", "/no/such/profile.yaml"]);
    assert!(code == 2 && said.contains("/no/such/profile.yaml"), "{said}");
    for wrong in ["lake", "a/b=profile.yaml", "lake=/no/such/profile.yaml"] {
        let (code, said) = refused(&["--other-cluster", wrong]);
        assert!(code == 2 && said.contains("--other-cluster"), "{said}");
    }
    let (code, said) = refused(&["--namespace", "a"]);
    assert!(code == 2 && said.contains("--namespace"), "{said}");
}
