//! A bench for one task: a log, topics `numbers` and `counts`, and sessions stepped by hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::guests::Counter;
use crate::codec::{Decode, SourceCodec};
use crate::env::ManualClock;
use crate::error::Kind;
use crate::log::clusters::Clusters;
use crate::log::embedded::{Embedded, Settings};
use crate::log::{Assignment, Budget, Cleanup, Isolation, Log, TopicSpec};
use crate::model::{Digest, NextOffset, PartitionBatch, TaskId, Uid, murmur2};
use crate::operator::ModuleRef;
use crate::task::Error;
use crate::task::context::TaskContext;
use crate::task::handle::TaskStatus;
use crate::task::plan::*;
use crate::task::session::Session;
use crate::watermark::WatermarkSettings;

pub const PARTITIONS: u32 = 2;

pub struct Bench {
    pub dir: TempDir,
    pub log: Arc<Embedded>,
    pub clusters: Clusters,
    pub clock: Arc<ManualClock>,
    pub plan: TaskPlan,
    pub modules: HashMap<Digest, ModuleRef>,
}

struct Known(HashMap<Digest, ModuleRef>);

impl ModuleSource for Known {
    fn module(&self, operator: &str, digest: Digest) -> Result<ModuleRef, Unavailable> {
        let why = || format!("{operator}: module {digest} is not here");
        self.0.get(&digest).cloned().ok_or_else(|| Unavailable { why: why(), kind: Kind::Guest })
    }
}

impl Bench {
    pub fn new(operators: &[(&str, ModuleRef)]) -> Self {
        let dir = TempDir::new().unwrap();
        let log = Embedded::open(&dir.path().join("log"), Settings::default()).unwrap();
        let topic = |name: &str, partitions| {
            let spec = TopicSpec { name: name.into(), partitions, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
            TopicRef::from(log.create_topic(&spec).unwrap())
        };
        let numbers = topic("numbers", PARTITIONS);
        let last = operators.len() - 1;
        let plan = TaskPlan {
            job: JobIdentity { name: "job".into(), uid: Uid([7; 16]), incarnation: 1 },
            task: TaskId::main(0),
            parallelism: 1,
            sources: vec![SourcePlan {
                id: "in".into(),
                topic: numbers,
                partitions: (0..PARTITIONS as i32).collect(),
                start: vec![NextOffset(0); PARTITIONS as usize],
                codec: SourceCodec { decode: Decode::Bytes, max_ahead: None, ..SourceCodec::default() },
                watermark: WatermarkSettings { out_of_orderness: Duration::ZERO, idle_after: None },
                keyed: true,
            }],
            operators: operators
                .iter()
                .enumerate()
                .map(|(i, (id, module))| OperatorPlan {
                    id: (*id).into(),
                    inputs: vec![(
                        if i == 0 { Origin::Source(0) } else { Origin::Output { operator: i - 1, output: 0 } },
                        0,
                    )],
                    module: module.clone(),
                })
                .collect(),
            sinks: vec![SinkPlan {
                id: "out".into(),
                cluster: None,
                topic: topic("counts", 1),
                from: Origin::Output { operator: last, output: 0 },
                timestamp: SinkTimestamp::EventTime,
            }],
            bad_records: BadRecordPolicy::DeadLetter.into(),
            dead_letters: topic("job.dead-letters", 1),
            changelog: topic("__forebay.job.changelog", 1),
            settings: TaskSettings { idle_look: Duration::from_millis(1), ..TaskSettings::default() },
            state_dir: dir.path().join("state"),
        };
        let modules = operators.iter().map(|(_, module)| (module.digest, module.clone())).collect();
        let clusters = Clusters::at_home(log.clone());
        let bench = Self { dir, log, clusters, clock: Arc::default(), plan, modules };
        crate::task::deploy(&bench.plan, &*bench.log).unwrap();
        bench
    }

    pub fn counting() -> Self {
        Self::new(&[("count", Counter::module(1))])
    }

    /// With an empty changelog, for a plan that was changed since.
    pub fn deploy_again(&mut self) {
        let spec = self.log.topic(&self.plan.changelog.name).unwrap().spec;
        self.log.delete_topic(&spec.name).unwrap();
        self.plan.changelog = self.log.create_topic(&spec).unwrap().into();
        crate::task::deploy(&self.plan, &*self.log).unwrap();
    }

    /// Appends one record; the timestamp, in milliseconds, is the event time.
    pub fn send(&self, key: &str, value: &str, timestamp_ms: i64) {
        self.log.produce(&number(key, value, timestamp_ms)).unwrap();
    }

    pub fn send_all(&self, records: &[(&str, &str)]) {
        for (i, (key, value)) in records.iter().enumerate() {
            self.send(key, value, 1_000 + i as i64);
        }
    }

    pub fn context(&self) -> TaskContext {
        let (modules, status) = (Arc::new(Known(self.modules.clone())), Arc::new(Mutex::new(TaskStatus::default())));
        let clock = Arc::clone(&self.clock) as _;
        let context = TaskContext::new(self.plan.clone(), self.clusters.clone(), modules, clock, status);
        TaskContext { overlap: false, ..context }
    }

    /// A session that works through all input and commits it; then the process is gone.
    pub fn run(&self) -> Result<TaskStatus, Error> {
        let context = self.context();
        let mut session = Session::recover(&context)?;
        settle(&mut session, self)?;
        drop(session);
        Ok(context.status.lock().unwrap().clone())
    }

    /// A session that works through all input and dies before it commits.
    pub fn run_uncommitted(&self) {
        let context = self.context();
        let mut session = Session::recover(&context).unwrap();
        while !session.is_caught_up() {
            session.step().unwrap();
        }
    }

    /// Values of a topic, partition by partition.
    pub fn read(&self, topic: &str) -> Vec<String> {
        let batches = self.batches(topic);
        let text = |batch: &PartitionBatch| {
            (0..batch.len()).map(|i| String::from_utf8_lossy(batch.values.bytes(i)).into_owned()).collect::<Vec<_>>()
        };
        batches.iter().flat_map(text).collect()
    }

    pub fn counts(&self) -> Vec<String> {
        self.read("counts")
    }

    /// Per dead letter its value and the headers by name.
    pub fn dead_letters(&self) -> Vec<(String, HashMap<String, String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut letters = Vec::new();
        for batch in self.batches("job.dead-letters") {
            for i in 0..batch.len() {
                let headers = batch.headers.of(i).map(|(name, value)| (text(name), text(value.unwrap_or_default())));
                letters.push((text(batch.values.bytes(i)), headers.collect()));
            }
        }
        letters
    }

    /// What a topic holds, partition by partition.
    pub fn batches(&self, topic: &str) -> Vec<PartitionBatch> {
        let info = self.log.topic(topic).unwrap();
        let mut reader = self.log.reader(Isolation::ReadCommitted).unwrap();
        let at = |partition| Assignment::new(topic, info.id, partition, 0);
        let partitions = 0..info.spec.partitions as i32;
        reader.assign(&partitions.map(at).collect::<Vec<_>>()).unwrap();
        let mut batches = Vec::new();
        let mut batch = PartitionBatch::default();
        let budget = Budget { max_records: 1_000_000, max_bytes: 1 << 30 };
        while reader.poll(budget, Duration::ZERO, &mut batch).unwrap() {
            batches.push(batch.clone());
        }
        batches.sort_by_key(|batch| batch.partition);
        batches
    }
}

/// The partition of a key's records.
pub fn partition_of(key: &str) -> i32 {
    murmur2::partition(key.as_bytes(), PARTITIONS)
}

/// A record for the input, in the partition of its key.
pub fn number(key: &str, value: &str, timestamp_ms: i64) -> PartitionBatch {
    let mut batch = PartitionBatch::new("numbers", partition_of(key));
    batch.push(-1, timestamp_ms, Some(key.as_bytes()), Some(value.as_bytes()));
    batch
}

/// Steps until nothing is left to read, to sweep or to fire, and commits.
pub fn settle(session: &mut Session<'_>, bench: &Bench) -> Result<(), Error> {
    loop {
        session.step()?;
        if session.is_caught_up() {
            bench.clock.advance(Duration::from_secs(1));
            session.step()?;
            return Ok(());
        }
    }
}
