//! Reading: cursors over partitions, and waiting for what they have not got yet.
//!
//! Owns positions and whose turn it is. A stored batch is unpacked once, straight into the caller's columns
//! where all of it is wanted, and beside them where the position or the budget falls inside it.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::batch;
use super::keys::Bounds;
use super::store::{Scan, Store, corrupt};
use super::topics::Topic;
use crate::log::{Assignment, Budget, Error, Isolation, Reader, Waker};
use crate::model::{PartitionBatch, PartitionId};

pub struct EmbeddedReader {
    shared: Arc<Shared>,
    isolation: Isolation,
    cursors: Vec<Cursor>,
    /// Whose turn it is, as an index of `cursors`.
    turn: usize,
    waker: Waker,
}

struct Cursor {
    topic: Arc<Topic>,
    partition: PartitionId,
    position: i64,
    paused: bool,
    /// The stored batch that the position stands in, unpacked, and how much of it was handed out.
    ahead: PartitionBatch,
    taken: usize,
}

/// What one look at a partition brought.
#[derive(PartialEq, Eq)]
enum Look {
    Records,
    /// Only the position moved, over a gap or a marker.
    Gap,
    Nothing,
}

impl EmbeddedReader {
    pub fn new(shared: Arc<Shared>, isolation: Isolation) -> Self {
        let waker = Waker::new(&shared.news);
        Self { shared, isolation, cursors: Vec::new(), turn: 0, waker }
    }

    /// Looks at each partition once, in turn, until one brings records.
    fn look_around(&mut self, budget: Budget, into: &mut PartitionBatch) -> Result<Look, Error> {
        let mut found = Look::Nothing;
        for step in 0..self.cursors.len() {
            let i = (self.turn + step) % self.cursors.len();
            if self.cursors[i].paused {
                continue;
            }
            match self.cursors[i].read(&self.shared, self.isolation, budget, into)? {
                Look::Records => {
                    self.turn = i + 1;
                    return Ok(Look::Records);
                }
                Look::Gap => found = Look::Gap,
                Look::Nothing => {}
            }
        }
        Ok(found)
    }

    fn cursor(&self, topic: &str, partition: PartitionId) -> Option<usize> {
        self.cursors.iter().position(|cursor| cursor.partition == partition && cursor.topic.name() == topic)
    }
}

impl Reader for EmbeddedReader {
    fn assign(&mut self, assignments: &[Assignment]) -> Result<(), Error> {
        let cursors = assignments.iter().map(|assignment| Cursor::start(&self.shared, assignment));
        self.cursors = cursors.collect::<Result<_, _>>()?;
        self.turn = 0;
        Ok(())
    }

    fn pause(&mut self, topic: &str, partition: PartitionId, paused: bool) -> Result<(), Error> {
        match self.cursor(topic, partition) {
            Some(i) => self.cursors[i].paused = paused,
            None => return Err(Error::NotAssigned { topic: topic.to_owned(), partition }),
        }
        Ok(())
    }

    fn poll(&mut self, budget: Budget, wait: Duration, into: &mut PartitionBatch) -> Result<bool, Error> {
        into.clear();
        let deadline = crate::env::instant() + wait;
        loop {
            let seen = self.shared.news.generation();
            let more_is_coming = self.shared.step();
            match self.look_around(budget, into)? {
                Look::Records => return Ok(true),
                Look::Gap => return Ok(false),
                Look::Nothing => {}
            }
            // The test mode shows what it holds back when it is asked, not when time passes.
            if more_is_coming && crate::env::instant() < deadline {
                continue;
            }
            if self.waker.was_asked() || !self.shared.news.wait(seen, deadline) {
                return Ok(false);
            }
        }
    }

    fn position(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        self.cursor(topic, partition).map(|i| self.cursors[i].position)
    }

    fn end(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        self.shared.step();
        let cursor = &self.cursors[self.cursor(topic, partition)?];
        let partition = cursor.topic.partition(cursor.partition).ok()?;
        let end = if self.isolation == Isolation::ReadCommitted { partition.stable() } else { partition.bounds().end };
        Some(end.max(cursor.position))
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn leader_epoch(&self, _topic: &str, _partition: PartitionId) -> Option<i32> {
        None
    }
}

impl Cursor {
    fn start(shared: &Shared, assignment: &Assignment) -> Result<Self, Error> {
        let Assignment { topic: name, id, partition, offset, leader_epoch: _ } = assignment;
        let topic = shared.topics.get(name)?;
        if topic.info.id != *id {
            let (topic, expected, found) = (name.clone(), *id, topic.info.id);
            return Err(Error::TopicRecreated { topic, expected, found });
        }
        let bounds = topic.partition(*partition)?.bounds();
        if !(bounds.start..=bounds.end).contains(offset) {
            return Err(topic.out_of_range(*partition, *offset, bounds));
        }
        let ahead = PartitionBatch::default();
        Ok(Self { topic, partition: *partition, position: *offset, paused: false, ahead, taken: 0 })
    }

    fn read(
        &mut self,
        shared: &Shared,
        isolation: Isolation,
        budget: Budget,
        into: &mut PartitionBatch,
    ) -> Result<Look, Error> {
        if self.topic.is_deleted() {
            return Err(shared.topics.gone(&self.topic));
        }
        let partition = self.topic.partition(self.partition)?;
        let bounds = partition.bounds();
        let end = if isolation == Isolation::ReadCommitted { partition.stable() } else { bounds.end };
        if self.position < bounds.start {
            return Err(self.topic.out_of_range(self.partition, self.position, Bounds { end, ..bounds }));
        }
        if self.position >= end {
            return Ok(Look::Nothing);
        }
        into.partition = self.partition;
        into.topic.clear();
        into.topic.push_str(self.topic.name());
        self.fill(&shared.store(), end, budget, into).inspect_err(|_| into.clear())?;
        Ok(if into.is_empty() { Look::Gap } else { Look::Records })
    }

    /// Fills `into` with records from the position up to `end`, as many as the budget allows.
    fn fill(&mut self, store: &Store, end: i64, budget: Budget, into: &mut PartitionBatch) -> Result<(), Error> {
        if !self.hand_out(budget, into) {
            return Ok(());
        }
        let mut scan = store.scan(self.topic.place(self.partition), self.position, end)?;
        while let Some((last, entry)) = scan.current()? {
            let used = batch::byte_len(into);
            let full = into.len() >= budget.max_records || used >= budget.max_bytes;
            if full && !into.is_empty() {
                return Ok(());
            }
            let room = into.len() + entry.records as usize <= budget.max_records
                && used + entry.bytes as usize <= budget.max_bytes;
            if into.is_empty() && room {
                self.unpack(&scan, last, into)?;
                skip_before(self.position, into);
                self.position = last + 1;
            } else {
                let mut ahead = std::mem::take(&mut self.ahead);
                let unpacked = self.unpack(&scan, last, &mut ahead);
                self.taken = ahead.offsets.partition_point(|&offset| offset < self.position);
                self.ahead = ahead;
                unpacked?;
                if !self.hand_out(budget, into) {
                    return Ok(());
                }
            }
            scan.advance();
        }
        // Nothing else is there before the end: what lies between are markers and gaps.
        self.position = end;
        Ok(())
    }

    /// Hands out what is unpacked already, as far as the budget goes. True where none of it is left.
    fn hand_out(&mut self, budget: Budget, into: &mut PartitionBatch) -> bool {
        if self.taken == self.ahead.len() {
            return true;
        }
        let left = Budget {
            max_records: budget.max_records.saturating_sub(into.len()),
            max_bytes: budget.max_bytes.saturating_sub(batch::byte_len(into)),
        };
        let mut to = batch::fit(&self.ahead, self.taken, left);
        if to == self.taken && into.is_empty() {
            to += 1;
        }
        into.append_range(&self.ahead, self.taken..to);
        self.taken = to;
        if let Some(&last) = into.offsets.last() {
            self.position = last + 1;
        }
        if to < self.ahead.len() {
            return false;
        }
        self.taken = 0;
        self.ahead.clear();
        true
    }

    fn unpack(&self, scan: &Scan<'_>, last: i64, into: &mut PartitionBatch) -> Result<(), Error> {
        unpack(&self.topic, self.partition, scan, last, into).map(drop)
    }
}

/// Drops the records before `position` from a batch that was just unpacked.
fn skip_before(position: i64, batch: &mut PartitionBatch) {
    let skipped = batch.offsets.partition_point(|&offset| offset < position);
    if skipped > 0 {
        let mut kept = PartitionBatch::new(&batch.topic, batch.partition);
        kept.append_range(batch, skipped..batch.len());
        *batch = kept;
    }
}

/// Reads the stored batch that ends with `last`; returns when its tombstones may go.
pub fn unpack(
    topic: &Topic,
    partition: PartitionId,
    scan: &Scan<'_>,
    last: i64,
    into: &mut PartitionBatch,
) -> Result<i64, Error> {
    let bytes = scan.load(last)?;
    let key = topic.place(partition).batch(last);
    batch::decode(&key, last, &bytes, into).map_err(|malformed| {
        let doing = format!("read {}/{partition} up to offset {last}", topic.name());
        corrupt(doing, malformed.to_string())
    })
}

pub fn offset_for_timestamp(store: &Store, topic: &Topic, id: PartitionId, timestamp_ms: i64) -> Result<i64, Error> {
    let Bounds { start, end } = topic.partition(id)?.bounds();
    let mut scan = store.scan(topic.place(id), start, end)?;
    while let Some((last, entry)) = scan.current()? {
        if entry.max_timestamp_ms >= timestamp_ms {
            let mut batch = PartitionBatch::default();
            unpack(topic, id, &scan, last, &mut batch)?;
            // A batch that truncation cut through still has its older records.
            let found = (0..batch.len())
                .find(|&i| batch.offsets[i] >= start && batch.timestamps_ms[i] >= timestamp_ms)
                .map(|i| batch.offsets[i]);
            if let Some(offset) = found {
                return Ok(offset);
            }
        }
        scan.advance();
    }
    Ok(end)
}
