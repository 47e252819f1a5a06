//! A bed to measure one task in: a log (embedded, or a Kafka cluster), its topics, and a task with one operator.
//!
//! The task is the runtime's own, on a thread of its own, with its defaults: nothing is shortened.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::codec::{Decode, EventTimeRule, FieldPath, KeyRule, SourceCodec, TimeUnit};
use forebay::env::SystemClock;
use forebay::log::clusters::Clusters;
use forebay::log::embedded::{Embedded, Settings};
use forebay::log::kafka::{Kafka, Profile};
use forebay::log::{Assignment, Budget, Cleanup, Isolation, Log, TopicSpec};
use forebay::model::{NextOffset, PartitionBatch, PartitionId, TaskId, Uid, murmur2};
use forebay::operator::ModuleRef;
use forebay::task::handle::{Phase, TaskHandle, TaskStatus};
use forebay::task::plan::*;
use forebay::task::target::Target;
use forebay::watermark::WatermarkSettings;

use crate::modules::Known;
use crate::{Outcome, Setup};

const JOB: &str = "bench";
const MAX_RECORD_BYTES: u32 = 1 << 20;
const OUTPUT: &str = "output";
const CHANGELOG: &str = "changelog";

/// A log and what is needed to run tasks over it.
pub struct Bed {
    pub log: Arc<dyn Log>,
    /// Begins the names of this bed's topics: a cluster keeps those of other runs.
    run: String,
    state_dir: std::path::PathBuf,
}

/// One input of the operator.
pub struct Input {
    pub topic: &'static str,
    /// Field and unit of the event time; `None` = the record's timestamp.
    pub event_time: Option<(&'static str, TimeUnit)>,
}

/// What a task is to run.
pub struct Job {
    pub inputs: Vec<Input>,
    pub module: ModuleRef,
    pub settings: TaskSettings,
}

impl Bed {
    /// A bed of its own in `dir`; on a cluster under a name that no other run has.
    pub fn open(setup: &Setup, dir: &Path) -> Outcome<Self> {
        Self::again(setup, dir, &format!("{:.8}", Uid::random().to_string()))
    }

    /// The bed of that run as it was left.
    pub fn again(setup: &Setup, dir: &Path, run: &str) -> Outcome<Self> {
        let (log, run): (Arc<dyn Log>, _) = match &setup.kafka {
            Some(bootstrap) => (Kafka::connect(&Profile::plain(bootstrap))?, format!("bench.{run}.")),
            None => (Embedded::open(&dir.join("log"), Settings::default())?, String::new()),
        };
        Ok(Self { log, run, state_dir: dir.join("state") })
    }

    /// The name of one of the bed's topics in the log.
    pub fn name(&self, topic: &str) -> String {
        // Internal topics have settings of their own on a cluster.
        let internal = if topic == CHANGELOG { "__forebay." } else { "" };
        format!("{internal}{}{topic}", self.run)
    }

    /// The end of the output, as such readers see it.
    pub fn output_end(&self, isolation: Isolation) -> Outcome<i64> {
        Ok(self.log.end_offset(&self.name(OUTPUT), 0, isolation)?)
    }

    pub fn create_topic(&self, name: &str, partitions: u32) -> Outcome<TopicRef> {
        let spec = TopicSpec {
            name: self.name(name),
            partitions,
            cleanup: Cleanup::Delete,
            max_record_bytes: MAX_RECORD_BYTES,
        };
        self.log.create_topic(&spec)?;
        self.topic(name)
    }

    pub fn topic(&self, name: &str) -> Outcome<TopicRef> {
        Ok(self.log.topic(&self.name(name))?.into())
    }

    /// Empty topics and no state for what the job writes; its inputs stay.
    pub fn make_anew(&self) -> Outcome {
        for name in [OUTPUT, "dead-letters", CHANGELOG] {
            // Absent before the first run.
            drop(self.log.delete_topic(&self.name(name)));
            self.create_topic(name, 1)?;
        }
        match std::fs::remove_dir_all(&self.state_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn plan(&self, job: &Job, uid: Uid) -> Outcome<TaskPlan> {
        let sources = job.inputs.iter().map(|input| self.source(input)).collect::<Outcome<Vec<_>>>()?;
        Ok(TaskPlan {
            job: JobIdentity { name: JOB.into(), uid, incarnation: 1 },
            task: TaskId::main(0),
            parallelism: 1,
            operators: vec![OperatorPlan {
                id: "operator".into(),
                inputs: (0..sources.len()).map(|source| (Origin::Source(source), source as u8)).collect(),
                module: job.module.clone(),
            }],
            sources,
            sinks: vec![SinkPlan {
                id: "out".into(),
                cluster: None,
                topic: self.topic(OUTPUT)?,
                from: Origin::Output { operator: 0, output: 0 },
                timestamp: SinkTimestamp::EventTime,
            }],
            bad_records: BadRecordPolicy::DeadLetter.into(),
            dead_letters: self.topic("dead-letters")?,
            changelog: self.topic(CHANGELOG)?,
            settings: job.settings.clone(),
            state_dir: self.state_dir.clone(),
        })
    }

    fn source(&self, input: &Input) -> Outcome<SourcePlan> {
        let topic = self.topic(input.topic)?;
        let event_time = match input.event_time {
            Some((field, unit)) => EventTimeRule::Field { path: FieldPath::parse(field)?, unit, assume_utc: false },
            None => EventTimeRule::RecordTimestamp,
        };
        let codec = SourceCodec { decode: Decode::Json, key: KeyRule::RecordKey, event_time, ..SourceCodec::default() };
        Ok(SourcePlan {
            id: input.topic.into(),
            partitions: (0..topic.partitions as PartitionId).collect(),
            start: vec![NextOffset(0); topic.partitions as usize],
            topic,
            codec,
            watermark: WatermarkSettings {
                out_of_orderness: Duration::from_secs(2),
                idle_after: Some(Duration::from_secs(1)),
            },
            keyed: true,
        })
    }

    /// Writes header 0.
    pub fn deploy(&self, plan: &TaskPlan) -> Outcome {
        Ok(forebay::task::deploy(plan, self.log.as_ref())?)
    }

    pub fn spawn(&self, plan: TaskPlan, modules: Vec<ModuleRef>) -> Outcome<Running> {
        let handle = forebay::task::spawn(
            plan,
            Clusters::at_home(self.log.clone()),
            Arc::new(Known(modules)),
            SystemClock::shared(),
        )?;
        Ok(Running { handle })
    }

    /// Appends records where Kafka's partitioner puts them, in batches.
    pub fn fill(&self, topic: &TopicRef, records: impl Iterator<Item = (Vec<u8>, Vec<u8>, i64)>) -> Outcome<u64> {
        const BATCH: usize = 1_000;
        let partitions = 0..topic.partitions as PartitionId;
        let mut batches: Vec<_> = partitions.map(|partition| PartitionBatch::new(&topic.name, partition)).collect();
        let mut count = 0;
        for (key, value, timestamp_ms) in records {
            let batch = &mut batches[murmur2::partition(&key, topic.partitions) as usize];
            batch.push(-1, timestamp_ms, Some(&key), Some(&value));
            count += 1;
            if batch.len() == BATCH {
                self.log.produce(batch)?;
                batch.clear();
            }
        }
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            self.log.produce(batch)?;
        }
        Ok(count)
    }

    /// A reader of the output topic, at its present end.
    pub fn output_reader(&self, isolation: Isolation) -> Outcome<Box<dyn forebay::log::Reader>> {
        let topic = self.topic(OUTPUT)?;
        let mut reader = self.log.reader(isolation)?;
        let offset = self.output_end(Isolation::ReadCommitted)?;
        reader.assign(&[Assignment::new(&topic.name, topic.id, 0, offset)])?;
        Ok(reader)
    }
}

/// What one poll of a measuring reader may bring.
pub const LARGE: Budget = Budget { max_records: 100_000, max_bytes: 64 << 20 };

/// A task at work.
pub struct Running {
    handle: TaskHandle,
}

/// Where a task stood at a moment.
#[derive(Clone, Copy)]
pub struct Mark {
    pub at: Instant,
    pub records: u64,
    pub thread_cpu: Duration,
    pub process_cpu: Duration,
}

impl Running {
    pub fn status(&self) -> Outcome<TaskStatus> {
        let status = self.handle.status();
        match (status.phase, status.error) {
            (Phase::Failed, error) => Err(error.unwrap_or_default().into()),
            (_, error) => Ok(TaskStatus { error, ..self.handle.status() }),
        }
    }

    /// Waits until this many records have been read and processed; the last of them may be in an open epoch.
    pub fn wait_for(&self, records: u64) -> Outcome<Mark> {
        loop {
            let status = self.status()?;
            let reached = status.records_in + status.open_records;
            if reached >= records {
                return Ok(Mark {
                    at: Instant::now(),
                    records: reached,
                    thread_cpu: crate::measure::cpu_of_thread(&format!("{JOB}-0")).unwrap_or_default(),
                    process_cpu: crate::measure::process_cpu(),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Between the first epoch that has passed `from` records and the first that has passed `to`.
    pub fn measure(&self, records: Range<u64>) -> Outcome<[Mark; 2]> {
        Ok([self.wait_for(records.start)?, self.wait_for(records.end)?])
    }

    /// Measuring how records are refused would be another measurement.
    pub fn has_refused_nothing(&self) -> Outcome {
        match self.status()?.dead_letters {
            0 => Ok(()),
            refused => Err(format!("{refused} records ended as dead letters, none should have").into()),
        }
    }

    /// Sets the target and waits until the task is so.
    pub fn aim<T>(&self, target: Target, is_so: impl Fn(&TaskStatus) -> Option<Outcome<T>>) -> Outcome<T> {
        self.handle.aim(target);
        loop {
            if let Some(came) = is_so(&self.status()?) {
                return came;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    pub fn stop(mut self) {
        self.handle.stop();
        self.handle.join();
    }
}
