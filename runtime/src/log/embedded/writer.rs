//! Epochs: what a writer gathers until its commit, and who owns a transactional id.
//!
//! Owns the fencing. An id's producer epoch is durable and rises at each takeover; whoever holds an older
//! one is refused. Gathered records are in memory only: a kill, an abort or a takeover leaves none of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::append::{Addition, Append, Marker};
use super::batch::{self, FULL, Sealed};
use super::harsh::Fate;
use super::keys;
use super::store::corrupt;
use super::topics::Topic;
use crate::env::{Bug, bug};
use crate::log::{Cleanup, CommitOutcome, Error, Outlet, Writer, too_large};
use crate::model::{PartitionBatch, PartitionId};

/// The owners of transactional ids in this process.
#[derive(Default)]
pub struct Owners(Mutex<HashMap<String, Arc<Mutex<Owner>>>>);

/// What is known of a transactional id.
#[derive(Default)]
struct Owner {
    /// Rises at each takeover; 0 before the first in this process.
    producer_epoch: u64,
    /// What the open epoch has added so far: a takeover or abort burns these offsets.
    open: Vec<Touched>,
    /// Test mode: a commit whose fate the takeover decides.
    prepared: Vec<Addition>,
}

struct Touched {
    topic: Arc<Topic>,
    partition: PartitionId,
    records: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Open,
    /// The outcome of the last commit is unknown.
    Spent,
}

pub struct EmbeddedWriter {
    shared: Arc<Shared>,
    transactional_id: String,
    producer_epoch: u64,
    owner: Arc<Mutex<Owner>>,
    phase: Phase,
    gathered: Vec<Gathered>,
    /// Where the last committed epoch's first record stands, per partition that it touched.
    placed: Vec<(Arc<Topic>, PartitionId, i64)>,
}

/// The open epoch's records of one partition. Kept from epoch to epoch for its memory.
struct Gathered {
    topic: Arc<Topic>,
    full: Vec<Sealed>,
    filling: PartitionBatch,
    records: u64,
}

impl EmbeddedWriter {
    pub fn take_over(shared: Arc<Shared>, transactional_id: &str) -> Result<Self, Error> {
        let doing = || format!("take over {transactional_id}");
        let owner = shared.owners.get(transactional_id);
        let producer_epoch = {
            let mut append = shared.append()?;
            let mut state = lock(&owner);
            let key = keys::owner(transactional_id);
            let store = shared.store();
            let stored = store.get(&key, &doing)?;
            let stored = stored.map(|bytes| keys::number_from_bytes(&bytes)).transpose();
            let producer_epoch = 1 + stored.map_err(|found| corrupt(doing(), found))?.unwrap_or_default();
            append.put(&key, &keys::number_to_bytes(producer_epoch));
            finish_predecessor(&shared, &mut state, &mut append)?;
            append.write(&store, &doing, |ends| shared.show(Some(transactional_id), ends))?;
            state.producer_epoch = producer_epoch;
            producer_epoch
        };
        if let Some(hardship) = &shared.hardship {
            hardship.show_all_of(transactional_id);
            shared.news.announce();
        }
        let transactional_id = transactional_id.to_owned();
        Ok(Self {
            shared,
            transactional_id,
            producer_epoch,
            owner,
            phase: Phase::Idle,
            gathered: Vec::new(),
            placed: Vec::new(),
        })
    }

    /// The owner's state, where it is still us.
    fn own(&self) -> Result<MutexGuard<'_, Owner>, Error> {
        let owner = lock(&self.owner);
        if owner.producer_epoch == self.producer_epoch {
            return Ok(owner);
        }
        Err(Error::Fenced { transactional_id: self.transactional_id.clone() })
    }

    fn expect(&self, phase: Phase, doing: &str) -> Result<(), Error> {
        let found = match self.phase {
            now if now == phase => return Ok(()),
            Phase::Idle => "no epoch is open: begin one first",
            Phase::Open => "an epoch is open: commit or abort it first",
            Phase::Spent => "the outcome of the last commit is unknown: take over anew",
        };
        Err(Error::OutOfOrder { doing: format!("{doing} as {}", self.transactional_id), found })
    }

    /// Position of a partition in `gathered`.
    fn place(&mut self, records: &PartitionBatch) -> Result<usize, Error> {
        let same = |g: &Gathered| g.filling.partition == records.partition && g.filling.topic == records.topic;
        if let Some(place) = self.gathered.iter().position(same) {
            if !self.gathered[place].topic.is_deleted() {
                return Ok(place);
            }
            if self.gathered[place].records > 0 {
                return Err(self.shared.topics.gone(&self.gathered[place].topic));
            }
            self.gathered.swap_remove(place);
        }
        let topic = self.shared.topics.get(&records.topic)?;
        topic.partition(records.partition)?;
        let filling = PartitionBatch::new(&records.topic, records.partition);
        self.gathered.push(Gathered { topic, full: Vec::new(), filling, records: 0 });
        Ok(self.gathered.len() - 1)
    }

    /// Everything gathered, encoded.
    fn additions(&mut self) -> Vec<Addition> {
        self.gathered.iter_mut().filter(|g| g.records > 0).map(Gathered::finish).collect()
    }

    fn write_epoch(&mut self, additions: Vec<Addition>) -> Result<CommitOutcome, Error> {
        let shared = &self.shared;
        let mut append = match shared.append() {
            Ok(append) => append,
            Err(error) => return Ok(CommitOutcome::Indefinite(error)),
        };
        let mut owner = self.own()?;
        if let Some(gone) = additions.iter().find(|a| a.topic.is_deleted()) {
            return Err(shared.topics.gone(&gone.topic));
        }
        owner.open.clear();
        append.put(&keys::owner(&self.transactional_id), &keys::number_to_bytes(self.producer_epoch));
        let mut placed = Vec::with_capacity(additions.len());
        for addition in additions {
            let (topic, partition) = (addition.topic.clone(), addition.partition);
            placed.push((topic, partition, append.add(addition, Marker::Burnt)?));
        }
        let doing = || format!("commit an epoch as {}", self.transactional_id);
        let written = append.write(&shared.store(), &doing, |ends| shared.show(Some(&self.transactional_id), ends));
        drop(owner);
        Ok(match written {
            Ok(()) => {
                self.placed = placed;
                CommitOutcome::Committed
            }
            Err(error) => CommitOutcome::Indefinite(error),
        })
    }

    /// Gives the offsets of the open epoch away for nothing.
    fn burn_open(&self) -> Result<(), Error> {
        let doing = || format!("abort an epoch as {}", self.transactional_id);
        let mut append = self.shared.append()?;
        let mut owner = self.own()?;
        for touched in owner.open.drain(..).filter(|touched| !touched.topic.is_deleted()) {
            append.add(touched.burnt(), Marker::Burnt)?;
        }
        append.write(&self.shared.store(), &doing, |ends| self.shared.show(Some(&self.transactional_id), ends))
    }

    /// Test mode: a commit whose outcome is kept from the caller.
    fn write_in_the_dark(&mut self, fate: Fate, additions: Vec<Addition>) -> Result<CommitOutcome, Error> {
        match fate {
            Fate::Done => drop(self.write_epoch(additions)?),
            Fate::Prepared => {
                let mut owner = self.own()?;
                owner.open.clear();
                owner.prepared = additions;
            }
            Fate::NotDone | Fate::Sure => drop(self.own()?),
        }
        // Breaks: a commit of unknown outcome spends the writer.
        self.phase = if bug(Bug::ReuseWriter) { Phase::Open } else { Phase::Spent };
        Ok(CommitOutcome::Indefinite(Error::Storage {
            doing: format!("commit an epoch as {}", self.transactional_id),
            found: "no answer".to_owned(),
        }))
    }
}

impl Writer for EmbeddedWriter {
    fn begin(&mut self) -> Result<(), Error> {
        drop(self.own()?);
        self.expect(Phase::Idle, "begin an epoch")?;
        self.phase = Phase::Open;
        Ok(())
    }

    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        drop(self.own()?);
        self.expect(Phase::Open, "append")?;
        let place = self.place(records)?;
        check_records(&self.gathered[place].topic, records)?;
        let added = Touched {
            topic: self.gathered[place].topic.clone(),
            partition: records.partition,
            records: records.len() as u64,
        };
        self.own()?.touch(added);
        let now_ms = self.shared.now_ms();
        self.gathered[place].add(records, now_ms);
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitOutcome, Error> {
        self.expect(Phase::Open, "commit")?;
        self.phase = Phase::Idle;
        let additions = self.additions();
        let fate = self.shared.hardship.as_ref().map_or(Fate::Sure, |hardship| hardship.fate());
        if fate != Fate::Sure {
            return self.write_in_the_dark(fate, additions);
        }
        let outcome = self.write_epoch(additions);
        match outcome {
            Ok(CommitOutcome::Committed) => {}
            Ok(CommitOutcome::Indefinite(_)) => self.phase = Phase::Spent,
            // Surely not committed. Where we still own the id (a topic is gone), the rest is burnt as by an abort.
            Err(_) => self.burn_open().or_else(|error| match error {
                Error::Fenced { .. } => Ok(()),
                other => Err(other),
            })?,
        }
        outcome
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.expect(Phase::Open, "abort an epoch")?;
        self.phase = Phase::Idle;
        self.gathered.iter_mut().for_each(Gathered::clear);
        self.burn_open()
    }

    fn first_offset(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        let placed = self.placed.iter().find(|(of, p, _)| *p == partition && of.name() == topic);
        placed.map(|(_, _, offset)| *offset)
    }
}

impl Gathered {
    fn add(&mut self, records: &PartitionBatch, now_ms: i64) {
        let mut from = 0;
        while from < records.len() {
            let to = take(&mut self.filling, records, from, now_ms);
            if to == from {
                self.full.push(Sealed::of_new(&self.filling));
                self.filling.clear();
            }
            from = to;
        }
        self.records += records.len() as u64;
    }

    fn finish(&mut self) -> Addition {
        if !self.filling.is_empty() {
            self.full.push(Sealed::of_new(&self.filling));
        }
        let batches = std::mem::take(&mut self.full);
        let (topic, partition, records) = (self.topic.clone(), self.filling.partition, self.records);
        self.clear();
        Addition { topic, partition, batches, records }
    }

    fn clear(&mut self) {
        self.full.clear();
        self.filling.clear();
        self.records = 0;
    }
}

impl Owners {
    fn get(&self, transactional_id: &str) -> Arc<Mutex<Owner>> {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.entry(transactional_id.to_owned()).or_default().clone()
    }
}

impl Owner {
    fn touch(&mut self, added: Touched) {
        let same = |t: &&mut Touched| t.partition == added.partition && Arc::ptr_eq(&t.topic, &added.topic);
        match self.open.iter_mut().find(same) {
            Some(touched) => touched.records += added.records,
            None => self.open.push(added),
        }
    }
}

impl Touched {
    /// The addition that only moves the end.
    fn burnt(self) -> Addition {
        Addition { topic: self.topic, partition: self.partition, batches: Vec::new(), records: self.records }
    }
}

/// Writes outside any epoch, at once.
pub struct EmbeddedOutlet(Arc<Shared>);

impl EmbeddedOutlet {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl Outlet for EmbeddedOutlet {
    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        self.0.produce(records).map(drop)
    }

    fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Refuses a batch of which any record is not for this topic, before anything of it is added.
pub fn check_records(topic: &Topic, records: &PartitionBatch) -> Result<(), Error> {
    let max = topic.info.spec.max_record_bytes;
    if let Some(bytes) = too_large(records, max) {
        return Err(Error::RecordTooLarge { topic: topic.name().to_owned(), bytes, max });
    }
    let without_key = records.keys.present().contains(&0);
    if topic.info.spec.cleanup == Cleanup::Compact && without_key {
        let reason = "a record has no key, and the topic keeps the newest of each key";
        return Err(Error::InvalidRecord { topic: topic.name().to_owned(), reason });
    }
    Ok(())
}

/// The stored batches of records that are written at once.
pub fn seal_all(records: &PartitionBatch, now_ms: i64) -> Vec<Sealed> {
    let mut filling = PartitionBatch::default();
    let mut sealed = Vec::new();
    let mut from = 0;
    while from < records.len() {
        from = take(&mut filling, records, from, now_ms);
        sealed.push(Sealed::of_new(&filling));
        filling.clear();
    }
    sealed
}

/// Moves as many of the records `from..` as still fit into a stored batch, at least one into an empty one.
/// Returns the position behind them.
fn take(filling: &mut PartitionBatch, records: &PartitionBatch, from: usize, now_ms: i64) -> usize {
    let mut left = FULL;
    left.max_records -= filling.len().min(left.max_records);
    left.max_bytes -= batch::byte_len(filling).min(left.max_bytes);
    let mut to = batch::fit(records, from, left);
    if to == from && filling.is_empty() {
        to += 1;
    }
    let first = filling.len();
    filling.append_range(records, from..to);
    for timestamp in filling.timestamps_ms[first..].iter_mut().filter(|timestamp| **timestamp < 0) {
        *timestamp = now_ms;
    }
    to
}

/// Aborts what the predecessor left open, and decides what it left prepared.
fn finish_predecessor(shared: &Shared, owner: &mut Owner, append: &mut Append<'_>) -> Result<(), Error> {
    let completes = shared.hardship.as_ref().is_some_and(|hardship| hardship.completes());
    for mut prepared in owner.prepared.drain(..).filter(|prepared| !prepared.topic.is_deleted()) {
        if !completes {
            prepared.batches.clear();
        }
        append.add(prepared, Marker::Burnt)?;
    }
    for touched in owner.open.drain(..).filter(|touched| !touched.topic.is_deleted()) {
        append.add(touched.burnt(), Marker::Burnt)?;
    }
    Ok(())
}

fn lock(owner: &Mutex<Owner>) -> MutexGuard<'_, Owner> {
    owner.lock().unwrap_or_else(PoisonError::into_inner)
}
