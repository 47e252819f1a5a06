//! A job on Kafka that can be told to be wrong: the model, written with real transactions that commit and abort.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests, and not every test needs all of them")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::process::{Command, Output};
use std::time::Duration;

use checker::input::{Guest, identity};
use checker::judge;
use checker::kafka::{Cluster, Reader, View};
use checker::model::{Bug, Emission, Epoch, Source, Spec, To, run};
use checker::produce::plan::Plan;
use checker::produce::{Settings, produce};
use checker::record::Record;
use checker::verify;
use krafka::Kafka;
use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::producer::TransactionalProducer;
use tokio::time::Instant;

pub const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster with one input, and as many jobs on it as are asked for.
pub struct Bed {
    pub bootstrap: String,
    pub input: String,
    pub plan: Plan,
    kafka: Kafka,
    logs: Vec<Vec<Source>>,
}

pub fn plan(producer: &str) -> Plan {
    Plan {
        producer: producer.to_owned(),
        seed: 5,
        keys: 15,
        key_bytes: 0,
        payload_bytes: 20,
        poison_per_mille: 100,
        start_ms: 1_777_689_380_000,
        step_us: 5_000,
    }
}

pub fn settings(bootstrap: &str, topic: &str, records: u64) -> Settings {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    Settings { bootstrap, topic, records, first: 0, rate: None, patience: PATIENCE }
}

pub async fn connect(bootstrap: &str) -> Kafka {
    Kafka::builder(bootstrap).connect().await.unwrap()
}

pub async fn create(kafka: &Kafka, topic: &str, partitions: i32) {
    // Event times lie in the past, and are to stay.
    let topic = NewTopic::new(topic, partitions, 1).unwrap().with_config("retention.ms", "-1");
    let created = kafka.admin().create_topics([topic], CreateTopicsOptions::default()).await.unwrap();
    created.into_values().for_each(|created| created.unwrap());
}

impl Bed {
    /// With an input that was made by the checker's producer and read back.
    pub async fn make(bootstrap: &str, input: &str, records: u64) -> Self {
        let kafka = connect(bootstrap).await;
        create(&kafka, input, PARTITIONS).await;
        let plan = plan("p1");
        let sent = produce(settings(bootstrap, input, records), plan.clone()).await.unwrap();
        assert!(sent.malformed > 0 && sent.resent == 0, "{sent:?}");
        let mut bed = Self { bootstrap: bootstrap.to_owned(), input: input.to_owned(), plan, kafka, logs: Vec::new() };
        bed.logs = bed.sources().await;
        bed
    }

    /// The input as the model needs it: coordinates from the log, everything else from the plan.
    async fn sources(&self) -> Vec<Vec<Source>> {
        let deadline = Instant::now() + PATIENCE;
        let cluster = Cluster::connect(&self.bootstrap, deadline).await.unwrap();
        let bounds = cluster.bounds(&self.input, PARTITIONS, deadline).await.unwrap();
        let ends: Vec<i64> = bounds.iter().map(|bounds| bounds.end).collect();
        let mut reader = Reader::open(&cluster, &self.input, &bounds, View::Committed).await.unwrap();
        let mut logs = vec![Vec::new(); PARTITIONS as usize];
        let take = |record: Record| {
            let (_, sequence) = identity(&record).unwrap();
            let planned = self.plan.record(sequence, PARTITIONS);
            assert_eq!(
                (&record.key, &record.value, record.timestamp_ms),
                (&planned.key, &planned.value, planned.timestamp_ms)
            );
            logs[record.partition as usize].push(Source { offset: record.offset, planned });
            Ok(())
        };
        assert!(reader.read_until(&ends, deadline, take).await.unwrap());
        logs
    }

    pub fn spec(&self, bug: Option<Bug>) -> Spec {
        Spec {
            topic: self.input.clone(),
            guest: Guest::Checked,
            parallelism: 2,
            out_of_orderness_ms: 20,
            tick_every_ms: 100,
            batch: 40,
            batches: 4,
            kills_per_mille: 200,
            reset_behind: None,
            seed: 11,
            bug,
        }
    }

    /// Runs a job over the input and writes its output and dead letters.
    pub async fn run(&self, spec: &Spec, output: &str) {
        let letters = format!("{output}.dead-letters");
        create(&self.kafka, output, PARTITIONS).await;
        create(&self.kafka, &letters, 1).await;
        let mut producers = HashMap::new();
        for epoch in run(spec, &self.logs) {
            let producer = match producers.entry(epoch.task) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(vacant) => vacant.insert(self.transaction(&format!("{output}-{}", epoch.task)).await),
            };
            write(producer, output, &letters, epoch).await;
        }
    }

    pub async fn transaction(&self, id: &str) -> TransactionalProducer {
        self.kafka.producer().build_transactional(id).await.unwrap()
    }

    pub fn verifying(&self, output: &str) -> verify::Settings {
        verify::Settings {
            bootstrap: self.bootstrap.clone(),
            input: self.input.clone(),
            output: output.to_owned(),
            dead_letters: Some(format!("{output}.dead-letters")),
            guest: Guest::Checked,
            job: judge::Settings {
                out_of_orderness_ms: 20,
                tick_every_ms: 100,
                parallelism: Some(2),
                idle: false,
                time_resets: 0,
            },
            expect_records: None,
            require_aborted: false,
            wait: Duration::from_secs(30),
            settle: Duration::from_millis(100),
            refusing: checker::input::Refusing::default(),
            third_opinion: None,
        }
    }

    /// The binary, as a harness calls it.
    pub fn verify_by_binary(&self, output: &str, more: &[&str]) -> Output {
        let letters = format!("{output}.dead-letters");
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-checker"));
        command.args(["verify", "--bootstrap", &self.bootstrap, "--input", &self.input, "--output", output]);
        command.args(["--dead-letters", &letters, "--out-of-orderness-ms", "20", "--tick-every-ms", "100"]);
        command.args(["--parallelism", "2", "--settle-ms", "100"]).args(more).output().unwrap()
    }
}

async fn write(producer: &TransactionalProducer, output: &str, letters: &str, epoch: Epoch) {
    producer.begin().unwrap();
    let mut handles = Vec::new();
    for Emission { to, record } in epoch.emissions {
        let topic = if to == To::Output { output } else { letters };
        handles.push(producer.enqueue(outgoing(topic, record)).await.unwrap());
    }
    // What is aborted must be in the log, or nobody would know whether readers skip it.
    producer.flush().await.unwrap();
    for handle in handles {
        handle.await.map(drop).unwrap();
    }
    let ended = if epoch.committed { producer.commit().await } else { producer.abort().await };
    ended.unwrap();
}

pub fn outgoing(topic: &str, record: Record) -> krafka::Record {
    let mut outgoing = krafka::Record::new(topic, record.value.clone().unwrap_or_default());
    if record.value.is_none() {
        outgoing = outgoing.without_value();
    }
    if let Some(key) = record.key {
        outgoing = outgoing.key(key);
    }
    for (name, value) in record.headers {
        outgoing = outgoing.header(name, value.unwrap_or_default());
    }
    outgoing.partition(record.partition).timestamp(record.timestamp_ms)
}
