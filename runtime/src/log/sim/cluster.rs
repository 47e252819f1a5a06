//! What happens on the cluster: topics, transactional ids and their producer epochs, markers on their way.
//!
//! Owns everything that outlives a client. Each call of a client lets a little time pass here first: markers arrive,
//! ends of transactions that were on their way do, and transactions that are open too long are aborted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::partition::{Committed, Partition};
use super::{Groups, too_large};
use crate::env::Clock;
use crate::env::simulated::Dice;
use crate::log::{Cleanup, Error, TopicInfo};
use crate::model::{PartitionBatch, PartitionId};

/// How often out of 1,000 the cluster, or the way to it, does what it is allowed to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hardship {
    /// A commit ends indefinite.
    pub indefinite: u32,
    /// A write or commit fails, surely without effect.
    pub fails: u32,
    /// Another call fails.
    pub unanswered: u32,
    /// A marker stays on its way for one more call.
    pub marker_waits: u32,
    /// A poll brings nothing although there is something.
    pub empty_poll: u32,
    /// A poll brings less than there is, or stops at an older end.
    pub short_poll: u32,
    /// A client gathers what it is given to write, and sends it with a later call.
    pub lingers: u32,
    /// After so long an open transaction is aborted. Zero: never.
    pub transaction_timeout: Duration,
}

pub struct Topic {
    pub info: TopicInfo,
    pub partitions: Vec<Partition>,
}

/// What is known of a transactional id.
#[derive(Default)]
struct Owner {
    producer_epoch: u64,
    open: Option<Transaction>,
    /// Decided, and not marked everywhere.
    ending: Option<(Transaction, bool)>,
}

struct Transaction {
    number: u64,
    begun: Duration,
    partitions: Vec<(String, PartitionId)>,
}

/// A request to commit that its sender has given up waiting for. It names no transaction: whichever is open when it
/// arrives is the one that it ends.
struct LateEnd {
    id: String,
    producer_epoch: u64,
}

pub struct Cluster {
    pub topics: BTreeMap<String, Topic>,
    pub groups: Groups,
    pub hardship: Hardship,
    /// Nothing answers.
    pub away: bool,
    /// Records with these bytes in their value are refused by the topic, and only the cluster knows.
    pub refuses: Option<(String, Vec<u8>)>,
    owners: BTreeMap<String, Owner>,
    late_ends: Vec<LateEnd>,
    transactions: u64,
    clock: Arc<dyn Clock>,
    pub dice: Dice,
}

impl Cluster {
    pub fn new(seed: u64, hardship: Hardship, clock: Arc<dyn Clock>) -> Self {
        Self {
            topics: BTreeMap::new(),
            groups: Groups::new(),
            hardship,
            away: false,
            refuses: None,
            owners: BTreeMap::new(),
            late_ends: Vec::new(),
            transactions: 0,
            clock,
            dice: Dice::new(seed),
        }
    }

    pub fn add_topic(&mut self, info: TopicInfo) {
        let partitions = (0..info.spec.partitions).map(|_| Partition::default()).collect();
        self.topics.insert(info.spec.name.clone(), Topic { info, partitions });
    }

    pub fn topic(&self, name: &str) -> Result<&Topic, Error> {
        self.topics.get(name).ok_or_else(|| Error::UnknownTopic(name.to_owned()))
    }

    pub fn partition(&mut self, name: &str, partition: PartitionId) -> Result<&mut Partition, Error> {
        let topic = self.topics.get_mut(name).ok_or_else(|| Error::UnknownTopic(name.to_owned()))?;
        let partitions = topic.partitions.len() as u32;
        let found = usize::try_from(partition).ok().and_then(|at| topic.partitions.get_mut(at));
        found.ok_or_else(|| Error::UnknownPartition { topic: name.to_owned(), partition, partitions })
    }

    /// Whether the call reaches the cluster at all.
    pub fn answers(&mut self, doing: &str) -> Result<(), Error> {
        if self.away || self.dice.chance(self.hardship.unanswered) {
            return Err(unavailable(doing, "the cluster does not answer"));
        }
        Ok(())
    }

    /// A write that fails on its way, surely without effect.
    pub fn takes(&mut self, doing: &str) -> Result<(), Error> {
        if self.away || self.dice.chance(self.hardship.fails) {
            return Err(unavailable(doing, "records were not acknowledged"));
        }
        Ok(())
    }

    /// A little time passes.
    pub fn tick(&mut self) {
        self.abort_overdue();
        self.late_ends_arrive();
        let ids: Vec<String> = self.owners.keys().cloned().collect();
        for id in ids {
            self.markers_arrive(&id);
        }
    }

    /// # Errors
    /// What a client or broker refuses before anything is written.
    pub fn check(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        self.partition(&records.topic, records.partition)?;
        let rules = self.topic(&records.topic)?.info.rules();
        let topic = || records.topic.clone();
        if let Some(bytes) = too_large(records, rules.max_record_bytes) {
            return Err(Error::RecordTooLarge { topic: topic(), bytes, max: rules.max_record_bytes });
        }
        if rules.needs_key && records.keys.present().contains(&0) {
            return Err(Error::InvalidRecord { topic: topic(), reason: "a record has no key" });
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::RecordRefused`].
    pub fn check_delivery(&self, records: &PartitionBatch) -> Result<(), Error> {
        let Some((topic, bytes)) = self.refuses.as_ref().filter(|(topic, _)| *topic == records.topic) else {
            return Ok(());
        };
        let has = |i| records.values.bytes(i).windows(bytes.len()).any(|window| window == bytes);
        match (0..records.len()).any(has) {
            true => Err(Error::RecordRefused { topic: topic.clone(), found: "a rule of its own".to_owned() }),
            false => Ok(()),
        }
    }

    pub fn produce(&mut self, records: &PartitionBatch) -> Result<i64, Error> {
        let now_ms = self.now_ms();
        Ok(self.partition(&records.topic, records.partition)?.append(records, None, now_ms))
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().div_euclid(1_000_000)
    }

    pub fn compact(&mut self, name: &str) {
        if let Some(topic) = self.topics.get_mut(name) {
            let cleanup: Cleanup = topic.info.spec.cleanup;
            topic.partitions.iter_mut().for_each(|partition| partition.compact(cleanup));
        }
    }

    /// Records of a partition that are committed or sure to be, from `offset` on.
    pub fn committed(&self, topic: &str, partition: PartitionId, offset: i64) -> Vec<Committed> {
        let Some(topic) = self.topics.get(topic) else { return Vec::new() };
        let ending = |number| {
            let endings = self.owners.values().filter_map(|owner| owner.ending.as_ref());
            endings.filter(|(transaction, _)| transaction.number == number).map(|(_, commit)| *commit).next()
        };
        topic.partitions[partition as usize].committed(offset, ending)
    }
}

/// Transactions.
impl Cluster {
    /// The coordinator raises the producer epoch, aborts what is open and waits until everything is marked.
    pub fn take_over(&mut self, id: &str) -> u64 {
        let owner = self.owners.entry(id.to_owned()).or_default();
        owner.producer_epoch += 1;
        let epoch = owner.producer_epoch;
        self.finish_ending(id);
        self.decide(id, false);
        self.finish_ending(id);
        epoch
    }

    fn owner(&mut self, id: &str, producer_epoch: u64) -> Result<&mut Owner, Error> {
        let fenced = || Error::Fenced { transactional_id: id.to_owned() };
        self.owners.get_mut(id).filter(|owner| owner.producer_epoch == producer_epoch).ok_or_else(fenced)
    }

    /// Writes records of the id's open transaction, which begins with the first of them. Answers where they begin.
    pub fn write(&mut self, id: &str, producer_epoch: u64, records: &PartitionBatch) -> Result<i64, Error> {
        self.owner(id, producer_epoch)?;
        self.check_delivery(records)?;
        self.finish_ending(id);
        let (begun, now_ms) = (self.clock.elapsed(), self.now_ms());
        self.transactions += 1;
        let next = self.transactions;
        let owner = self.owner(id, producer_epoch)?;
        let transaction = owner.open.get_or_insert(Transaction { number: next, begun, partitions: Vec::new() });
        let place = (records.topic.clone(), records.partition);
        if !transaction.partitions.contains(&place) {
            transaction.partitions.push(place);
        }
        let number = transaction.number;
        Ok(self.partition(&records.topic, records.partition)?.append(records, Some(number), now_ms))
    }

    /// Ends the id's open transaction.
    pub fn end(&mut self, id: &str, producer_epoch: u64, commit: bool) -> Result<(), Error> {
        self.owner(id, producer_epoch)?;
        self.finish_ending(id);
        self.decide(id, commit);
        Ok(())
    }

    /// A commit that arrives later, or never.
    pub fn end_late(&mut self, id: &str, producer_epoch: u64) {
        self.late_ends.push(LateEnd { id: id.to_owned(), producer_epoch });
    }

    /// From here on the outcome stands; the markers are on their way.
    fn decide(&mut self, id: &str, commit: bool) {
        if let Some(owner) = self.owners.get_mut(id)
            && let Some(transaction) = owner.open.take()
        {
            owner.ending = Some((transaction, commit));
        }
    }

    fn finish_ending(&mut self, id: &str) {
        let ending = self.owners.get_mut(id).and_then(|owner| owner.ending.take());
        if let Some((transaction, commit)) = ending {
            for (topic, partition) in &transaction.partitions {
                if let Ok(partition) = self.partition(topic, *partition) {
                    partition.mark(transaction.number, commit);
                }
            }
        }
    }

    /// Markers are written one partition at a time, in any order.
    fn markers_arrive(&mut self, id: &str) {
        loop {
            if self.dice.chance(self.hardship.marker_waits) {
                return;
            }
            let Self { owners, dice, .. } = self;
            let Some((transaction, commit)) = owners.get_mut(id).and_then(|owner| owner.ending.as_mut()) else {
                return;
            };
            let (number, commit) = (transaction.number, *commit);
            if transaction.partitions.is_empty() {
                owners.entry(id.to_owned()).or_default().ending = None;
                return;
            }
            let at = dice.index(transaction.partitions.len());
            let (topic, partition) = transaction.partitions.swap_remove(at);
            if let Ok(partition) = self.partition(&topic, partition) {
                partition.mark(number, commit);
            }
        }
    }

    fn late_ends_arrive(&mut self) {
        let mut waiting = Vec::new();
        for end in std::mem::take(&mut self.late_ends) {
            if self.dice.chance(700) {
                waiting.push(end);
            } else {
                // Of an older producer epoch it is refused.
                drop(self.end(&end.id, end.producer_epoch, true));
            }
        }
        self.late_ends = waiting;
    }

    /// The coordinator aborts what is open too long, and raises the producer epoch to do so.
    fn abort_overdue(&mut self) {
        let (timeout, now) = (self.hardship.transaction_timeout, self.clock.elapsed());
        if timeout.is_zero() {
            return;
        }
        let overdue = |owner: &Owner| owner.open.as_ref().is_some_and(|open| now.saturating_sub(open.begun) > timeout);
        let ids: Vec<String> =
            self.owners.iter().filter(|(_, owner)| overdue(owner)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.take_over(&id);
        }
    }
}

pub fn unavailable(doing: &str, found: &str) -> Error {
    Error::Unavailable { doing: doing.to_owned(), found: found.to_owned() }
}
