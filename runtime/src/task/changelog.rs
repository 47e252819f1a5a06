//! Reading and writing one task's partition of the changelog topic.
//!
//! Owns no state. "Read to the end" means: the end is asked for after the writer was taken over (so a
//! predecessor can add nothing), and reading goes on until the position has reached it; offsets are
//! not dense, and the last one is usually a marker that is never delivered.

use std::time::Duration;

use super::Error;
use super::plan::{TaskPlan, TopicRef};
use crate::checkpoint::{self, Assembler, Delta};
use crate::env::{Bug, bug};
use crate::log::{Assignment, Budget, Isolation, Log, Writer};
use crate::model::PartitionBatch;

const READ_BUDGET: Budget = Budget { max_records: 4_096, max_bytes: 8 << 20 };
/// A poll may bring nothing before the end: a marker that is on its way holds it back. So many polls of this length
/// without a step forward, and the caller is given another try.
const READ_WAIT: Duration = Duration::from_secs(1);
const EMPTY_POLLS_MAX: u32 = 30;
/// Room that a chunk leaves below the topic's record limit.
const CHUNK_MARGIN: u32 = 4_096;

/// Calls `visit` with every complete delta from `from` to the end of the task's partition, and with the
/// offset of its first chunk. Returns the end.
pub fn read_to_end(
    log: &dyn Log,
    plan: &TaskPlan,
    from: i64,
    visit: impl FnMut(i64, Delta) -> Result<(), Error>,
) -> Result<i64, Error> {
    let end = log.end_offset(&plan.changelog.name, plan.task as i32, Isolation::ReadUncommitted)?;
    read_to(log, plan, from, end, visit)
}

/// The same up to what is committed now. For those who do not own the task: whoever does may have an epoch open.
pub fn read_to_stable_end(
    log: &dyn Log,
    plan: &TaskPlan,
    from: i64,
    visit: impl FnMut(i64, Delta) -> Result<(), Error>,
) -> Result<i64, Error> {
    let end = log.end_offset(&plan.changelog.name, plan.task as i32, Isolation::ReadCommitted)?;
    read_to(log, plan, from, end, visit)
}

fn read_to(
    log: &dyn Log,
    plan: &TaskPlan,
    from: i64,
    end: i64,
    mut visit: impl FnMut(i64, Delta) -> Result<(), Error>,
) -> Result<i64, Error> {
    let topic = &plan.changelog;
    let partition = plan.task as i32;
    let mut reader = log.reader(Isolation::ReadCommitted)?;
    // Breaks: offsets count only in the topic that they are of.
    let id = if bug(Bug::IgnoreTopicId) { log.topic(&topic.name)?.id } else { topic.id };
    reader.assign(&[Assignment::new(&topic.name, id, partition, from)])?;
    let mut assembler = Assembler::default();
    let mut batch = PartitionBatch::default();
    let (mut first_chunk, mut reached, mut empty) = (from, from, 0);
    while reached < end {
        let polled = reader.poll(READ_BUDGET, READ_WAIT, &mut batch)?;
        let position = reader.position(&topic.name, partition).unwrap_or(from);
        empty = if position > reached { 0 } else { empty + 1 };
        reached = position;
        if empty == EMPTY_POLLS_MAX {
            return Err(stuck(log, plan, end, reached));
        }
        // Breaks: read on until the position has reached the end that was asked for.
        if !polled && bug(Bug::ReadToFirstEnd) {
            break;
        }
        for i in 0..batch.len() {
            let chunk = batch.values.bytes(i);
            if Assembler::starts(chunk) {
                first_chunk = batch.offsets[i];
            }
            let delta = assembler.push(chunk).map_err(|source| error(topic, plan.task, batch.offsets[i], source))?;
            if let Some(delta) = delta {
                visit(first_chunk, delta)?;
            }
        }
    }
    Ok(end)
}

/// Why nothing came, as far as the log says.
fn stuck(log: &dyn Log, plan: &TaskPlan, end: i64, reached: i64) -> Error {
    let (topic, partition) = (plan.changelog.name.clone(), plan.task as i32);
    let why = match log.end_offset(&topic, partition, Isolation::ReadCommitted) {
        Ok(stable) if stable < end => "a transaction that is open there holds readers back: `forebay doctor` shows it",
        Ok(_) => "nothing holds it back: the cluster is slow, or the way to it",
        Err(_) => "the cluster does not say why",
    };
    let seconds = u64::from(EMPTY_POLLS_MAX) * READ_WAIT.as_secs();
    Error::ChangelogStuck { topic, partition, end, reached, seconds, why }
}

pub fn error(topic: &TopicRef, task: u32, offset: i64, source: checkpoint::Error) -> Error {
    Error::Changelog { topic: topic.name.clone(), partition: task as i32, offset, source }
}

/// Appends the chunks of a delta to the open epoch.
pub fn append(writer: &mut dyn Writer, topic: &TopicRef, task: u32, chunks: &[Vec<u8>]) -> Result<(), Error> {
    let mut batch = PartitionBatch::new(&topic.name, task as i32);
    chunks.iter().for_each(|chunk| batch.push(-1, -1, None, Some(chunk)));
    Ok(writer.append(&batch)?)
}

/// Bytes that a chunk may have.
pub fn chunk_bytes(topic: &TopicRef) -> usize {
    topic.rules.max_record_bytes.saturating_sub(CHUNK_MARGIN).max(1_024) as usize
}
