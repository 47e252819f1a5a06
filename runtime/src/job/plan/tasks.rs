//! From a resolved job to what each of its tasks is told.

use std::path::{Path, PathBuf};

use super::super::error::Error;
use super::super::record::JobRecord;
use super::super::spec::{EventTimeSpec, KeySpec, SourceSpec};
use super::{Graph, ResolvedSource};
use crate::codec::{EventTimeRule, FieldPath, KeyRule, SourceCodec};
use crate::log::Log;
use crate::model::{NextOffset, StageName, TaskId};
use crate::task::plan::{JobIdentity, OperatorPlan, SinkPlan, SourcePlan, TaskPlan, TaskSettings, TopicRef};
use crate::watermark::WatermarkSettings;

/// What the things of a job are called that are made and removed with it, and its dead letters.
pub struct Names {
    pub changelog: String,
    pub dead_letters: String,
    pub directory: PathBuf,
}

impl Names {
    pub fn of(job: &JobRecord, data_dir: &Path) -> Self {
        let names = job.names();
        Self {
            changelog: names.changelog_topic(&StageName::main()),
            dead_letters: job.spec.dead_letter_topic(),
            directory: names.directory(data_dir),
        }
    }
}

/// One plan per task.
pub fn task_plans(job: &JobRecord, graph: &Graph, log: &dyn Log, data_dir: &Path) -> Result<Vec<TaskPlan>, Error> {
    let names = Names::of(job, data_dir);
    let changelog = TopicRef::from(log.topic(&names.changelog)?);
    let dead_letters = TopicRef::from(log.topic(&names.dead_letters)?);
    let stage = StageName::main();
    let plan = |number: u32| {
        let task = TaskId::new(stage.clone(), number);
        Ok(TaskPlan {
            job: JobIdentity { name: job.name.clone(), uid: job.uid, incarnation: job.incarnation },
            state_dir: job.names().task_directory(data_dir, &task),
            task,
            parallelism: job.parallelism,
            sources: graph
                .sources
                .iter()
                .map(|source| source_plan(job, source, number))
                .collect::<Result<_, Error>>()?,
            operators: operators(graph),
            sinks: sinks(job, graph),
            bad_records: job.spec.bad_records.policies(),
            dead_letters: dead_letters.clone(),
            changelog: changelog.clone(),
            settings: TaskSettings { commit_interval: job.spec.commit.interval, ..TaskSettings::default() },
        })
    };
    (0..job.parallelism).map(plan).collect()
}

fn source_plan(job: &JobRecord, source: &ResolvedSource, task: u32) -> Result<SourcePlan, Error> {
    let partitions: Vec<i32> =
        (0..source.topic.spec.partitions).filter(|p| p % job.parallelism == task).map(|p| p as i32).collect();
    let resolved = job.sources.get(&source.spec.id);
    let start = |p: &i32| resolved.and_then(|source| source.start.get(*p as usize)).map_or(0, |offset| *offset);
    Ok(SourcePlan {
        id: source.spec.id.clone(),
        topic: source.topic.clone().into(),
        start: partitions.iter().map(|p| NextOffset(start(p))).collect(),
        partitions,
        codec: source_codec(&source.spec)?,
        watermark: WatermarkSettings {
            out_of_orderness: source.spec.watermark.out_of_orderness,
            idle_after: source.spec.watermark.idle_after,
        },
        keyed: source.keyed,
    })
}

fn operators(graph: &Graph) -> Vec<OperatorPlan> {
    let operators = graph.operators.iter();
    let plan = |operator: &super::ResolvedOperator| OperatorPlan {
        id: operator.id.clone(),
        inputs: operator.inputs.clone(),
        module: operator.module.clone(),
    };
    operators.map(plan).collect()
}

fn sinks(job: &JobRecord, graph: &Graph) -> Vec<SinkPlan> {
    let specs = job.spec.sinks.iter();
    let plan = |(sink, spec): (&super::ResolvedSink, &super::super::spec::SinkSpec)| SinkPlan {
        id: sink.id.clone(),
        cluster: spec.cluster.clone(),
        topic: sink.topic.clone().into(),
        from: sink.from,
        timestamp: spec.timestamp.into(),
    };
    graph.sinks.iter().zip(specs).map(plan).collect()
}

/// How the records of a source are read.
///
/// # Errors
/// A field that is no path; the plan has refused it before.
pub fn source_codec(source: &SourceSpec) -> Result<SourceCodec, Error> {
    let path = |field: &str| {
        FieldPath::parse(field).map_err(|error| Error::Invalid {
            doing: format!("read source {}", source.id),
            found: error.to_string(),
            remedy: "correct the spec",
        })
    };
    let (event_time, max_ahead, max_behind) = match &source.event_time {
        EventTimeSpec::RecordTimestamp { max_ahead } => (EventTimeRule::RecordTimestamp, Some(*max_ahead), None),
        EventTimeSpec::Field(time) => {
            let assume_utc = time.assume.is_some();
            let rule = EventTimeRule::Field { path: path(&time.field)?, unit: time.unit.into(), assume_utc };
            (rule, Some(time.max_ahead), time.max_behind)
        }
    };
    let key = match &source.key {
        KeySpec::Field(field) => KeyRule::Field(path(field)?),
        KeySpec::RecordKey => KeyRule::RecordKey,
        KeySpec::None => KeyRule::None,
    };
    let max_value_bytes = source.max_value_bytes as usize;
    let (decode, partitioner) = (source.decode.into(), source.partitioner.into());
    Ok(SourceCodec { decode, key, event_time, max_ahead, max_behind, max_value_bytes, partitioner })
}
