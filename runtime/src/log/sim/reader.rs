//! A fetching client: cursors, and what a fetch brings of what there is.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::{LOOK, Simulated};
use crate::env::simulated::strike;
use crate::log::{Assignment, Budget, Error, Isolation, Reader, Waker};
use crate::model::{PartitionBatch, PartitionId, TopicId};

pub struct SimulatedReader {
    log: Simulated,
    isolation: Isolation,
    cursors: Vec<Cursor>,
    /// Whose turn it is, as an index of `cursors`.
    turn: usize,
    waker: Waker,
}

struct Cursor {
    topic: String,
    id: TopicId,
    partition: PartitionId,
    position: i64,
    leader_epoch: Option<i32>,
    paused: bool,
    /// The end that the last fetch told of.
    heard: Option<i64>,
}

#[derive(PartialEq, Eq)]
enum Look {
    Records,
    /// Only the position moved.
    Moved,
    Nothing,
}

impl SimulatedReader {
    pub fn new(log: Simulated, isolation: Isolation) -> Self {
        Self { log, isolation, cursors: Vec::new(), turn: 0, waker: Waker::default() }
    }

    fn look_around(&mut self, budget: Budget, into: &mut PartitionBatch) -> Result<Look, Error> {
        let log = self.log.clone();
        let mut cluster = log.cluster();
        cluster.tick();
        let empty = cluster.hardship.empty_poll;
        if cluster.away || cluster.dice.chance(empty) {
            return Ok(Look::Nothing);
        }
        let mut found = Look::Nothing;
        for step in 0..self.cursors.len() {
            let i = (self.turn + step) % self.cursors.len();
            if self.cursors[i].paused {
                self.cursors[i].hear(&mut cluster, self.isolation)?;
                continue;
            }
            match self.cursors[i].fetch(&mut cluster, self.isolation, budget, into)? {
                Look::Records => {
                    self.turn = i + 1;
                    return Ok(Look::Records);
                }
                Look::Moved => found = Look::Moved,
                Look::Nothing => {}
            }
        }
        Ok(found)
    }

    fn cursor(&self, topic: &str, partition: PartitionId) -> Option<&Cursor> {
        self.cursors.iter().find(|cursor| cursor.partition == partition && cursor.topic == topic)
    }
}

impl Reader for SimulatedReader {
    fn assign(&mut self, assignments: &[Assignment]) -> Result<(), Error> {
        self.cursors.clear();
        self.turn = 0;
        let cursors = self.log.call("assign", |cluster| {
            let cursors = assignments.iter().map(|at| {
                let cursor = Cursor {
                    topic: at.topic.clone(),
                    id: at.id,
                    partition: at.partition,
                    position: at.offset,
                    leader_epoch: at.leader_epoch,
                    paused: false,
                    heard: None,
                };
                cursor.check(cluster)?;
                Ok(cursor)
            });
            cursors.collect::<Result<Vec<_>, Error>>()
        })?;
        self.cursors = cursors;
        Ok(())
    }

    fn pause(&mut self, topic: &str, partition: PartitionId, paused: bool) -> Result<(), Error> {
        let found = self.cursors.iter_mut().find(|cursor| cursor.partition == partition && cursor.topic == topic);
        match found {
            Some(cursor) => cursor.paused = paused,
            None => return Err(Error::NotAssigned { topic: topic.to_owned(), partition }),
        }
        Ok(())
    }

    fn poll(&mut self, budget: Budget, wait: Duration, into: &mut PartitionBatch) -> Result<bool, Error> {
        strike("poll");
        into.clear();
        let deadline = Instant::now() + wait;
        // A simulation does not wait; a long wait is some more tries.
        let mut tries = if wait >= Duration::from_secs(1) { 30 } else { 1 };
        loop {
            match self.look_around(budget, into)? {
                Look::Records => return Ok(true),
                Look::Moved => return Ok(false),
                Look::Nothing => {}
            }
            tries -= 1;
            if self.log.shared.waits {
                if self.waker.was_asked() || Instant::now() >= deadline {
                    return Ok(false);
                }
                let cluster = self.log.shared.lock();
                drop(self.log.shared.news.wait_timeout(cluster, LOOK));
                tries = 1;
            } else if tries <= 0 {
                return Ok(false);
            }
        }
    }

    fn position(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        self.cursor(topic, partition).map(|cursor| cursor.position)
    }

    fn end(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        self.cursor(topic, partition)?.heard
    }

    /// Whoever waits here looks often.
    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn leader_epoch(&self, topic: &str, partition: PartitionId) -> Option<i32> {
        self.cursor(topic, partition)?.leader_epoch
    }
}

impl Cursor {
    /// Whether what the cursor stands on is what it means.
    fn check(&self, cluster: &mut Cluster) -> Result<(), Error> {
        let Self { topic, partition, position: offset, .. } = self;
        let found = cluster.topic(topic)?.info.id;
        if found != self.id {
            return Err(Error::TopicRecreated { topic: topic.clone(), expected: self.id, found });
        }
        let log = cluster.partition(topic, *partition)?;
        let (topic, partition, offset) = (topic.clone(), *partition, *offset);
        if self.leader_epoch.is_some_and(|leader_epoch| offset > 0 && !log.continues(offset, leader_epoch)) {
            return Err(Error::Diverged { topic, partition, offset });
        }
        let (start, end) = (log.start, log.end);
        if offset < start || offset > end {
            return Err(Error::OffsetOutOfRange { topic, partition, offset, start, end });
        }
        Ok(())
    }

    /// Fetches run ahead of what is handed out.
    fn hear(&mut self, cluster: &mut Cluster, isolation: Isolation) -> Result<(), Error> {
        let end = cluster.partition(&self.topic, self.partition)?.end_for(isolation);
        self.heard = Some(end.max(self.position));
        Ok(())
    }

    fn fetch(
        &mut self,
        cluster: &mut Cluster,
        isolation: Isolation,
        budget: Budget,
        into: &mut PartitionBatch,
    ) -> Result<Look, Error> {
        self.check(cluster)?;
        let short = cluster.hardship.short_poll;
        let is_short = cluster.dice.chance(short);
        let some = 1 + cluster.dice.index(8);
        let log = cluster.partition(&self.topic, self.partition)?;
        let end = log.end_for(isolation);
        // A fetch may tell of a moment that has passed.
        let limit = if is_short { end.min(self.position + some as i64) } else { end };
        let max_records = budget.max_records.max(1);
        let mut bytes = 0;
        let mut next = limit.max(self.position);
        for entry in log.from(self.position).iter().take_while(|entry| entry.offset < limit) {
            let Some(record) = entry.record.as_ref().filter(|record| log.is_shown(record, isolation)) else { continue };
            let size = record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len);
            if !into.is_empty() && (into.len() == max_records || bytes + size > budget.max_bytes) {
                next = entry.offset;
                break;
            }
            if into.is_empty() {
                into.topic.clone_from(&self.topic);
                into.partition = self.partition;
            }
            bytes += size;
            let headers = record.headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            into.push_with_headers(entry.offset, record.timestamp_ms, key, value, headers);
            self.leader_epoch = Some(entry.leader_epoch);
        }
        let moved = next > self.position;
        if let Some(&last) = into.offsets.last() {
            // What follows it, markers and gaps, is passed by a later fetch.
            self.position = last + 1;
        } else {
            self.position = next;
        }
        self.heard = Some(end.max(self.position));
        Ok(match (into.is_empty(), moved) {
            (false, _) => Look::Records,
            (true, true) => Look::Moved,
            (true, false) => Look::Nothing,
        })
    }
}
