//! The first header of a task: where it begins, resolved once and committed.
//!
//! Owns what a header says that no epoch has changed yet. Never takes a task with headers back to its start.

use crate::checkpoint::{self, Header, HeaderKind, InputPosition, Owner, TaskIdentity};
use crate::env::failpoint;
use crate::log::{CommitOutcome, Isolation, Log};
use crate::model::{BEFORE_ALL_TIME, Uid};
use crate::task::Error;
use crate::task::changelog::{self, Deltas};
use crate::task::epoch::{Head, operator_version};
use crate::task::plan::TaskPlan;

/// Commits header 0: where the task starts, resolved once. Does nothing where the task has headers.
///
/// # Errors
/// Those of the log; [`Error::Indefinite`] where the caller must try again.
pub fn deploy(plan: &TaskPlan, log: &dyn Log) -> Result<(), Error> {
    let mut writer = log.writer(&plan.transactional_id())?;
    let (topic, partition) = (&plan.changelog.name, plan.task.changelog_partition());
    let start = log.start_offset(topic, partition)?;
    let end = log.end_offset(topic, partition, Isolation::ReadUncommitted)?;
    if Deltas::open(log, plan, start, end)?.next()?.is_some() {
        return Ok(());
    }
    failpoint("deploy-before-header");
    let header = header_zero(plan);
    let chunks = checkpoint::encode_delta(
        &header,
        &Default::default(),
        &Default::default(),
        changelog::chunk_bytes(&plan.changelog),
    )
    .map_err(|source| Error::Encode { epoch: 0, source })?;
    writer.begin()?;
    changelog::append(writer.as_mut(), &plan.changelog, plan.task.changelog_partition(), &chunks)?;
    let outcome = writer.commit()?;
    failpoint("deploy-after-header");
    match outcome {
        CommitOutcome::Committed => Ok(()),
        CommitOutcome::Indefinite(source) => Err(Error::Indefinite { epoch: 0, source }),
    }
}

fn header_zero(plan: &TaskPlan) -> Header {
    let inputs = plan.sources.iter().flat_map(|source| {
        source.partitions.iter().zip(&source.start).map(|(&partition, &next)| InputPosition {
            source: source.id.clone(),
            topic: source.topic.id,
            partition,
            next_offset: next,
            leader_epoch: None,
            gap: 0,
            watermark: BEFORE_ALL_TIME,
            idle: false,
            upstream: Vec::new(),
        })
    });
    Header {
        kind: HeaderKind::Start,
        task: identity(plan),
        owner: Owner { session: Uid::random(), claim: 0, generation: 0 },
        epoch: 0,
        previous: [0; 32],
        inputs: inputs.collect(),
        watermark: BEFORE_ALL_TIME,
        processing_time: BEFORE_ALL_TIME,
        base: None,
        swap: None,
        time_reset: 0,
        operators: plan.operators.iter().map(|op| operator_version(&op.id, &op.module, None, None)).collect(),
    }
}

/// Whose headers the changelog partition holds.
pub(super) fn identity(plan: &TaskPlan) -> TaskIdentity {
    TaskIdentity {
        job: plan.job.uid,
        incarnation: plan.job.incarnation,
        task: plan.task.clone(),
        parallelism: plan.parallelism,
    }
}

/// The head of a task that begins again from its start, whatever it has done before.
pub(super) fn start_over(plan: &TaskPlan) -> Result<Head, Error> {
    let header = header_zero(plan);
    let hash = header.hash().map_err(|source| Error::Encode { epoch: 0, source })?;
    Ok(Head { header, hash, offset: 0 })
}
