//! The input partitions of one task and how far each has been read.
//!
//! Owns the positions of the open epoch. They become true only in a committed header; a position is
//! always the next offset. Every batch is checked against the position that was asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Error;
use super::handle::InputTime;
use super::plan::{SourcePlan, TaskPlan};
use super::rules::rules;
use crate::checkpoint::{Header, InputPosition};
use crate::log::{self, Assignment, Isolation, Log, Reader};
use crate::model::{EventTime, NextOffset, PartitionBatch, PartitionId};
use crate::watermark::TaskWatermark;

/// Positions that moved over gaps only are committed so long after they did. Until then a crash loses nothing: the gaps
/// are moved over again. But once the log has removed what was read, a position before the gap is one that it no longer
/// holds.
const GAPS_KEPT_AFTER: Duration = Duration::from_secs(5);

pub struct Input {
    /// Position among the plan's sources.
    pub source: usize,
    pub partition: PartitionId,
    pub next: NextOffset,
    /// Of the last committed header.
    pub committed: NextOffset,
    /// Of the last record before `next`; none where the log has no such thing.
    pub leader_epoch: Option<i32>,
    /// Offsets between that record and `next`, which hold nothing that is ever delivered.
    pub gap: u64,
}

/// What a reader finds wrong with an input while it is read is what [`Inputs::assignments`] finds before, and leaves
/// the operator the same choices.
pub fn explain(found: log::Error) -> Error {
    match found {
        log::Error::OffsetOutOfRange { topic, partition, offset, start, .. } if offset < start => {
            Error::InputGone { topic, partition, offset, start }
        }
        log::Error::OffsetOutOfRange { topic, partition, offset, end, .. } if offset > end => {
            Error::InputShrunk { topic, partition, offset, end }
        }
        log::Error::TopicRecreated { topic, expected, found } => Error::TopicChanged { topic, expected, found },
        log::Error::UnknownTopic(topic) => Error::TopicGone { topic },
        found => Error::Log(found),
    }
}

/// In the order of the plan's sources and their partitions; the watermark counts inputs the same way.
pub struct Inputs {
    entries: Vec<Input>,
    /// When the first position since the last commit moved over a gap, of the clock that counts from the start.
    gaps_since: Option<Duration>,
}

impl Inputs {
    /// `position` gives the committed position of a source's partition; a partition that no header
    /// knows yet starts at its first offset.
    pub fn new<'a>(plan: &TaskPlan, position: impl Fn(&SourcePlan, PartitionId) -> Option<&'a InputPosition>) -> Self {
        let mut entries = Vec::new();
        for (source, of) in plan.sources.iter().enumerate() {
            for &partition in &of.partitions {
                let known = position(of, partition);
                let next = known.map_or(NextOffset(0), |known| known.next_offset);
                let (leader_epoch, gap) = known.map_or((None, 0), |known| (known.leader_epoch, known.gap));
                entries.push(Input { source, partition, next, committed: next, leader_epoch, gap });
            }
        }
        Self { entries, gaps_since: None }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Input> {
        self.entries.iter()
    }

    /// Event time goes on from where the header has it. A partition that is new starts at the emitted watermark: it must not
    /// hold time back.
    pub fn restore_watermark(&self, watermark: &mut TaskWatermark, plan: &TaskPlan, header: &Header) {
        for (i, input) in self.entries.iter().enumerate() {
            let source = &plan.sources[input.source].id;
            let known = header.inputs.iter().find(|at| at.source == *source && at.partition == input.partition);
            let (time, idle) = known.map_or((header.watermark, false), |known| (known.watermark, known.idle));
            watermark.restore(i, time, idle);
        }
    }

    /// Where the reader starts, after checking that every topic is still the one that the plan means
    /// and still holds the position: nothing ever starts silently from anywhere else.
    pub fn assignments(&self, plan: &TaskPlan, log: &dyn Log) -> Result<Vec<Assignment>, Error> {
        let mut assignments = Vec::with_capacity(self.entries.len());
        for input in &self.entries {
            let topic = &plan.sources[input.source].topic;
            let (partition, mut offset) = (input.partition, input.next.0);
            let start = log.start_offset(&topic.name, partition)?;
            if !rules().positions_are_kept {
                offset = offset.max(start);
            }
            let end = log.end_offset(&topic.name, partition, Isolation::ReadUncommitted)?;
            if offset < start {
                let topic = topic.name.clone();
                return Err(Error::InputGone { topic, partition, offset, start });
            }
            if offset > end {
                let topic = topic.name.clone();
                return Err(Error::InputShrunk { topic, partition, offset, end });
            }
            // A leader epoch says something of the place behind its record only: markers behind it may be of later ones.
            let behind_record = offset.saturating_sub_unsigned(input.gap);
            let is_held = behind_record >= start;
            if is_held {
                offset = behind_record;
            }
            let leader_epoch = input.leader_epoch.filter(|_| is_held && rules().leader_epoch_is_told);
            let id = if rules().topics_are_known_by_id { topic.id } else { log.topic(&topic.name)?.id };
            assignments.push(Assignment { topic: topic.name.clone(), id, partition, offset, leader_epoch });
        }
        Ok(assignments)
    }

    /// Which input a batch is of, and of which source: one that was asked for, from where it was asked for.
    pub fn find(&self, plan: &TaskPlan, batch: &PartitionBatch) -> Result<(usize, usize), Error> {
        let found = self.entries.iter().enumerate().find(|(_, input)| {
            input.partition == batch.partition && plan.sources[input.source].topic.name == batch.topic
        });
        let (Some((index, input)), Some(&first)) = (found, batch.offsets.first()) else {
            return Err(Error::Unasked { topic: batch.topic.clone(), partition: batch.partition });
        };
        if first < input.next.0 {
            let (topic, partition) = (batch.topic.clone(), batch.partition);
            return Err(Error::OutOfPlace { topic, partition, offset: first, expected: input.next.0 });
        }
        Ok((index, input.source))
    }

    /// Moves the position behind what was processed.
    pub fn pass(&mut self, input: usize, next: NextOffset, leader_epoch: Option<i32>) {
        let input = &mut self.entries[input];
        input.next = next;
        input.leader_epoch = leader_epoch.or(input.leader_epoch);
        input.gap = 0;
    }

    /// Moves over what will never be delivered (markers, aborted records), so that nothing of an input that was wholly
    /// read is left before its end. Only where all that was delivered has been worked through.
    pub fn skip_gaps(&mut self, plan: &TaskPlan, reader: &dyn Reader, now: Duration) {
        for input in &mut self.entries {
            let topic = &plan.sources[input.source].topic.name;
            let Some(position) = reader.position(topic, input.partition) else { continue };
            if position > input.next.0 {
                input.gap += (position - input.next.0) as u64;
                input.next = NextOffset(position);
                self.gaps_since = self.gaps_since.or(Some(now));
            }
        }
    }

    /// Positions have moved over gaps since the last commit.
    pub fn moved_over_gaps(&self) -> bool {
        self.gaps_since.is_some()
    }

    /// They have for so long that an epoch is due that holds nothing else.
    pub fn gaps_are_due(&self, now: Duration) -> bool {
        self.gaps_since.is_some_and(|since| now.saturating_sub(since) >= GAPS_KEPT_AFTER)
    }

    /// Whether all that the log holds of an input was read. Unknown counts as no.
    pub fn is_read(&self, input: usize, plan: &TaskPlan, reader: &dyn Reader) -> bool {
        let Input { source, partition, .. } = self.entries[input];
        let topic = &plan.sources[source].topic.name;
        reader
            .end(topic, partition)
            .zip(reader.position(topic, partition))
            .is_some_and(|(end, position)| position >= end)
    }

    /// An input by the names that people know it by.
    pub fn time_of(&self, plan: &TaskPlan, input: usize, watermark: EventTime) -> InputTime {
        let Input { source, partition, .. } = self.entries[input];
        InputTime { source: plan.sources[source].id.clone(), partition, watermark }
    }

    /// For a build that breaks a rule on purpose: back to the last committed header.
    #[cfg(any(test, feature = "seeded-bugs"))]
    pub fn rewind(&mut self) {
        self.entries.iter_mut().for_each(|input| (input.next, input.gap) = (input.committed, 0));
        self.gaps_since = None;
    }

    /// The open epoch has been committed.
    pub fn committed(&mut self) {
        self.entries.iter_mut().for_each(|input| input.committed = input.next);
        self.gaps_since = None;
    }

    /// Committed positions by source id and partition.
    pub fn positions(&self, plan: &TaskPlan) -> BTreeMap<String, BTreeMap<i32, i64>> {
        let mut positions: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
        for input in &self.entries {
            let of_source = positions.entry(plan.sources[input.source].id.clone()).or_default();
            of_source.insert(input.partition, input.committed.0);
        }
        positions
    }

    /// Records and markers between the committed positions and the ends of the inputs. `worked`: the open epoch has
    /// records; without, what was moved over are gaps, and nobody has to wait for those.
    pub fn lag(&self, plan: &TaskPlan, reader: &dyn Reader, worked: bool) -> u64 {
        let of = |input: &Input| {
            let end = reader.end(&plan.sources[input.source].topic.name, input.partition)?;
            let position = if worked { input.committed } else { input.next };
            Some(end.saturating_sub(position.0).max(0) as u64)
        };
        self.entries.iter().filter_map(of).sum()
    }
}
