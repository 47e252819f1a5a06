//! Reading: by assignment, in offset order, partitions in turn.
//!
//! Owns the positions and, per partition, what is left of the stored batch that was decoded last.

use std::time::{Duration, Instant};

use super::{Handle, stored};
use crate::log::{Assignment, Budget, Error, Reader};
use crate::model::{PartitionBatch, PartitionId};

pub struct EmbeddedReader {
    log: Handle,
    assigned: Vec<Assigned>,
    turn: usize,
}

struct Assigned {
    at: Assignment,
    paused: bool,
    /// Decoded and not yet handed out: records from `left_from` on.
    left: PartitionBatch,
    left_from: usize,
}

impl EmbeddedReader {
    pub fn new(log: Handle) -> Self {
        Self { log, assigned: Vec::new(), turn: 0 }
    }

    fn find(&self, topic: &str, partition: PartitionId) -> Option<usize> {
        self.assigned.iter().position(|held| held.at.partition == partition && held.at.topic == topic)
    }

    /// The next assigned partition that holds something, and its end.
    fn next_ready(&mut self) -> Result<Option<(usize, i64)>, Error> {
        let catalog = self.log.0.catalog();
        for step in 0..self.assigned.len() {
            let i = (self.turn + step) % self.assigned.len();
            let end = self.assigned[i].check(&catalog)?;
            if !self.assigned[i].paused && self.assigned[i].at.offset < end {
                self.turn = i + 1;
                return Ok(Some((i, end)));
            }
        }
        Ok(None)
    }
}

impl Reader for EmbeddedReader {
    fn assign(&mut self, assignments: &[Assignment]) -> Result<(), Error> {
        let held = |at: &Assignment| {
            let left = PartitionBatch::new(&at.topic, at.partition);
            Assigned { at: at.clone(), paused: false, left, left_from: 0 }
        };
        self.assigned = assignments.iter().map(held).collect();
        self.turn = 0;
        let catalog = self.log.0.catalog();
        self.assigned.iter().try_for_each(|held| held.check(&catalog).map(drop))
    }

    fn pause(&mut self, topic: &str, partition: PartitionId, paused: bool) -> Result<(), Error> {
        if let Some(i) = self.find(topic, partition) {
            self.assigned[i].paused = paused;
        }
        Ok(())
    }

    fn poll(&mut self, budget: Budget, wait: Duration, into: &mut PartitionBatch) -> Result<bool, Error> {
        into.clear();
        let until = Instant::now() + wait;
        loop {
            while let Some((i, end)) = self.next_ready()? {
                if self.assigned[i].read(&self.log, budget, end, into)? {
                    return Ok(true);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let catalog = self.log.0.catalog();
            // Looked at once more under the lock: what was published in between must not be slept over.
            if self
                .assigned
                .iter()
                .any(|held| held.check(&catalog).map_or(true, |end| !held.paused && held.at.offset < end))
            {
                continue;
            }
            drop(self.log.0.grown.wait_timeout(catalog, left));
        }
    }

    fn position(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        self.find(topic, partition).map(|i| self.assigned[i].at.offset)
    }
}

impl Assigned {
    /// The end of the partition, if the topic is still the one that was meant and holds the position.
    fn check(&self, catalog: &super::Catalog) -> Result<i64, Error> {
        let Assignment { topic: name, id, partition, offset } = &self.at;
        let topic = catalog.topic(name)?;
        if topic.info.id != *id {
            return Err(Error::TopicRecreated { topic: name.clone(), expected: *id, found: topic.info.id });
        }
        let held = topic.partition(*partition)?;
        if *offset < held.start || *offset > held.end {
            let (start, end) = (held.start, held.end);
            return Err(Error::OffsetOutOfRange {
                topic: name.clone(),
                partition: *partition,
                offset: *offset,
                start,
                end,
            });
        }
        Ok(held.end)
    }

    /// Fills `into` up to the budget; moves the position, over gaps too. False where only gaps were left.
    fn read(&mut self, log: &Handle, budget: Budget, end: i64, into: &mut PartitionBatch) -> Result<bool, Error> {
        into.topic.clone_from(&self.at.topic);
        into.partition = self.at.partition;
        self.hand_out(budget, into);
        if into.is_empty() || has_room(budget, into) {
            let (id, partition, offset) = (self.at.id, self.at.partition, self.at.offset);
            let mut reached_end = true;
            for entry in stored::scan(&log.0.db, id, partition, offset) {
                let (base, bytes) = entry?;
                if base >= end {
                    break;
                }
                self.left.clear();
                stored::decode(&bytes, base, &mut self.left)?;
                self.left_from = self.left.offsets.partition_point(|&at| at < self.at.offset);
                self.hand_out(budget, into);
                if !has_room(budget, into) {
                    reached_end = false;
                    break;
                }
            }
            if reached_end && self.left_from == self.left.len() {
                self.at.offset = end;
            }
        }
        Ok(!into.is_empty())
    }

    /// Moves decoded records to `into`, as far as the budget goes; the first one always goes.
    fn hand_out(&mut self, budget: Budget, into: &mut PartitionBatch) {
        let from = self.left_from;
        if from == self.left.len() {
            return;
        }
        let mut to = from;
        let mut bytes = into.byte_len();
        while to < self.left.len() && into.len() + (to - from) < budget.max_records {
            bytes += self.left.keys.bytes(to).len() + self.left.values.bytes(to).len();
            if bytes > budget.max_bytes && (to > from || !into.is_empty()) {
                break;
            }
            to += 1;
        }
        if to == from {
            return;
        }
        if from == 0 && to == self.left.len() && into.is_empty() {
            std::mem::swap(into, &mut self.left);
            self.left.clear();
            self.left_from = 0;
        } else {
            into.append_range(&self.left, from..to);
            self.left_from = to;
        }
        self.at.offset = into.offsets.last().map_or(self.at.offset, |last| last + 1);
    }
}

fn has_room(budget: Budget, into: &PartitionBatch) -> bool {
    into.len() < budget.max_records && into.byte_len() < budget.max_bytes
}
