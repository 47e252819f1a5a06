//! Reading and writing one task's partition of the changelog topic.
//!
//! Owns no state. "Read to the end" means: the end is asked for after the writer was taken over (so a
//! predecessor can add nothing), and reading goes on until the position has reached it; offsets are
//! not dense, and the last one is usually a marker that is never delivered.

use std::time::Duration;

use super::Error;
use super::plan::{TaskPlan, TopicRef};
use super::rules::rules;
use crate::checkpoint::{self, Assembler, Delta};
use crate::log::read::{Patience, Polled, Stretch};
use crate::log::{Assignment, Budget, Isolation, Log, Writer};
use crate::model::{PartitionBatch, PartitionId};

/// A poll may bring nothing before the end: a marker that is on its way holds it back. So many polls of this length
/// without a step forward, and the caller is given another try.
const PATIENCE: Patience = Patience {
    budget: Budget { max_records: 4_096, max_bytes: 8 << 20 },
    poll_wait: Duration::from_secs(1),
    empty_polls_max: 30,
};
/// Room that a chunk leaves below the topic's record limit.
const CHUNK_MARGIN: u32 = 4_096;

/// Calls `visit` with every complete delta from `from` to the end of the task's partition, and with the
/// offset of its first chunk.
pub fn read_to_end(
    log: &dyn Log,
    plan: &TaskPlan,
    from: i64,
    mut visit: impl FnMut(i64, Delta) -> Result<(), Error>,
) -> Result<(), Error> {
    let end = log.end_offset(&plan.changelog.name, plan.task.changelog_partition(), Isolation::ReadUncommitted)?;
    let mut deltas = Deltas::open(log, plan, from, end)?;
    while let Some((offset, delta)) = deltas.next()? {
        visit(offset, delta)?;
    }
    Ok(())
}

/// The last complete delta from `from` to what is committed now, and where it begins. For those who do not own the task:
/// whoever does may have an epoch open.
pub fn last_committed(log: &dyn Log, plan: &TaskPlan, from: i64) -> Result<Option<(i64, Delta)>, Error> {
    let end = log.end_offset(&plan.changelog.name, plan.task.changelog_partition(), Isolation::ReadCommitted)?;
    let mut deltas = Deltas::open(log, plan, from, end)?;
    let mut last = None;
    while let Some(found) = deltas.next()? {
        last = Some(found);
    }
    Ok(last)
}

/// The complete deltas of a stretch of the task's partition, one after the other: no more than one poll's records and
/// one delta are in memory, however long the stretch is.
pub struct Deltas<'a> {
    log: &'a dyn Log,
    plan: &'a TaskPlan,
    /// None: it was read to its end.
    stretch: Option<Stretch>,
    assembler: Assembler,
    batch: PartitionBatch,
    /// The next record of `batch` to look at.
    next: usize,
    /// Offset of the chunk that began the delta which is being put together.
    first_chunk: i64,
}

impl<'a> Deltas<'a> {
    pub fn open(log: &'a dyn Log, plan: &'a TaskPlan, from: i64, end: i64) -> Result<Self, Error> {
        let topic = &plan.changelog;
        let id = if rules().topics_are_known_by_id { topic.id } else { log.topic(&topic.name)?.id };
        let at = Assignment::new(&topic.name, id, plan.task.changelog_partition(), from);
        Ok(Self {
            log,
            plan,
            stretch: Some(Stretch::open(log, at, end, PATIENCE)?),
            assembler: Assembler::default(),
            batch: PartitionBatch::default(),
            next: 0,
            first_chunk: from,
        })
    }

    /// The next delta and the offset of its first chunk; none at the end.
    pub fn next(&mut self) -> Result<Option<(i64, Delta)>, Error> {
        loop {
            while self.next < self.batch.len() {
                let (chunk, offset) = (self.batch.values.bytes(self.next), self.batch.offsets[self.next]);
                self.next += 1;
                if Assembler::starts(chunk) {
                    self.first_chunk = offset;
                }
                let delta = self.assembler.push(chunk);
                if let Some(delta) =
                    delta.map_err(|e| error(&self.plan.changelog, self.plan.task.changelog_partition(), offset, e))?
                {
                    return Ok(Some((self.first_chunk, delta)));
                }
            }
            self.batch.clear();
            self.next = 0;
            let Some(stretch) = &mut self.stretch else { return Ok(None) };
            match stretch.poll(&mut self.batch)? {
                Polled::Records => {}
                Polled::Nothing if !rules().changelog_is_read_to_its_end => self.stretch = None,
                Polled::Nothing => {}
                Polled::End => self.stretch = None,
                Polled::Stuck => return Err(stuck(self.log, self.plan, stretch.end(), stretch.reached())),
            }
        }
    }
}

/// Why nothing came, as far as the log says.
fn stuck(log: &dyn Log, plan: &TaskPlan, end: i64, reached: i64) -> Error {
    let (topic, partition) = (plan.changelog.name.clone(), plan.task.changelog_partition());
    let why = match log.end_offset(&topic, partition, Isolation::ReadCommitted) {
        // Only this task's transactional id writes there, and whoever reads has just taken it over.
        Ok(stable) if stable < end => {
            "a transaction that is open there holds readers back, and none of this task is: Kafka has left its end out, see \
             \"A fault of Kafka's own\" in docs/kafka.md before anything is ended by hand"
        }
        Ok(_) => "nothing holds it back: the cluster is slow, or the way to it",
        Err(_) => "the cluster does not say why",
    };
    Error::ChangelogStuck { topic, partition, end, reached, seconds: PATIENCE.seconds(), why }
}

pub fn error(topic: &TopicRef, partition: PartitionId, offset: i64, source: checkpoint::Error) -> Error {
    Error::Changelog { topic: topic.name.clone(), partition, offset, source }
}

/// Appends the chunks of a delta to the open epoch.
pub fn append(
    writer: &mut dyn Writer,
    topic: &TopicRef,
    partition: PartitionId,
    chunks: &[Vec<u8>],
) -> Result<(), Error> {
    let mut batch = PartitionBatch::new(&topic.name, partition);
    chunks.iter().for_each(|chunk| batch.push(-1, -1, None, Some(chunk)));
    Ok(writer.append(&batch)?)
}

/// Bytes that a chunk may have.
pub fn chunk_bytes(topic: &TopicRef) -> usize {
    topic.rules.max_record_bytes.saturating_sub(CHUNK_MARGIN).max(1_024) as usize
}
