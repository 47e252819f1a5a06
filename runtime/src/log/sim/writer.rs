//! Clients that write, in transactions and plainly: what they gather, what they send, and what they are told.

use super::Simulated;
use super::cluster::unavailable;
use crate::env::simulated::strike;
use crate::env::{Bug, bug};
use crate::log::{CommitOutcome, Error, Outlet, Writer};
use crate::model::{PartitionBatch, PartitionId};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Open,
    Spent,
}

impl Simulated {
    /// Whether a client keeps these records to itself for now, where the topic takes them at all.
    fn gathers(&self, records: &PartitionBatch) -> Result<bool, Error> {
        let mut cluster = self.cluster();
        cluster.check(records)?;
        let lingers = cluster.hardship.lingers;
        Ok(cluster.dice.chance(lingers))
    }
}

pub struct SimulatedWriter {
    log: Simulated,
    id: String,
    producer_epoch: u64,
    phase: Phase,
    /// Not sent yet.
    gathered: Vec<PartitionBatch>,
    /// Of the open epoch: where its first record stands per partition.
    placing: Vec<(String, PartitionId, i64)>,
    placed: Vec<(String, PartitionId, i64)>,
}

impl SimulatedWriter {
    pub fn new(log: Simulated, id: &str, producer_epoch: u64) -> Self {
        let (gathered, placing, placed) = Default::default();
        Self { log, id: id.to_owned(), producer_epoch, phase: Phase::Idle, gathered, placing, placed }
    }

    fn expect(&self, phase: Phase, doing: &str) -> Result<(), Error> {
        let found = match self.phase {
            now if now == phase => return Ok(()),
            Phase::Idle => "no epoch is open: begin one first",
            Phase::Open => "an epoch is open: commit or abort it first",
            Phase::Spent => "the writer is spent: take over anew",
        };
        Err(Error::OutOfOrder { doing: format!("{doing} as {}", self.id), found })
    }

    fn send(&mut self) -> Result<(), Error> {
        for records in std::mem::take(&mut self.gathered) {
            let (id, epoch) = (self.id.clone(), self.producer_epoch);
            let first = self.log.call("write", |cluster| {
                cluster.takes("write")?;
                cluster.write(&id, epoch, &records)
            })?;
            let place = |(topic, partition, _): &(String, PartitionId, i64)| {
                *topic == records.topic && *partition == records.partition
            };
            if !records.is_empty() && !self.placing.iter().any(place) {
                self.placing.push((records.topic.clone(), records.partition, first));
            }
        }
        Ok(())
    }

    /// A failed call spends the writer.
    fn spent<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.phase = Phase::Spent;
        }
        result
    }

    fn indefinite(&mut self) -> CommitOutcome {
        // Breaks: a commit of unknown outcome spends the writer.
        self.phase = if bug(Bug::ReuseWriter) { Phase::Open } else { Phase::Spent };
        CommitOutcome::Indefinite(unavailable("commit", "no answer"))
    }
}

impl Writer for SimulatedWriter {
    fn begin(&mut self) -> Result<(), Error> {
        self.expect(Phase::Idle, "begin an epoch")?;
        self.phase = Phase::Open;
        self.placing.clear();
        Ok(())
    }

    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        self.expect(Phase::Open, "append")?;
        let lingers = self.log.gathers(records)?;
        self.gathered.push(records.clone());
        if lingers {
            return Ok(());
        }
        let sent = self.send();
        self.spent(sent)
    }

    fn commit(&mut self) -> Result<CommitOutcome, Error> {
        self.expect(Phase::Open, "commit")?;
        let sent = self.send();
        self.spent(sent)?;
        if self.placing.is_empty() {
            // Nothing was written: the cluster never hears of it.
            self.phase = Phase::Idle;
            self.placed.clear();
            return Ok(CommitOutcome::Committed);
        }
        strike("about to end");
        let (id, epoch) = (self.id.clone(), self.producer_epoch);
        let mut cluster = self.log.cluster();
        cluster.tick();
        let hardship = cluster.hardship;
        let indefinite = cluster.away || cluster.dice.chance(hardship.indefinite);
        let fate = if indefinite { 1 + cluster.dice.roll(3) } else { 0 };
        let ended = match fate {
            // It never arrives, or not yet.
            1 => Ok(()),
            2 => {
                cluster.end_late(&id, epoch);
                Ok(())
            }
            _ if cluster.away => Ok(()),
            _ => cluster.end(&id, epoch, true),
        };
        drop(cluster);
        self.log.shared.news.notify_all();
        if fate > 0 && ended.is_ok() {
            strike("ended in doubt");
            return Ok(self.indefinite());
        }
        self.spent(ended)?;
        strike("ended");
        self.phase = Phase::Idle;
        self.placed = std::mem::take(&mut self.placing);
        Ok(CommitOutcome::Committed)
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.expect(Phase::Open, "abort an epoch")?;
        let sent = self.send();
        self.spent(sent)?;
        let (id, epoch) = (self.id.clone(), self.producer_epoch);
        let ended = self.log.call("abort", |cluster| cluster.end(&id, epoch, false));
        self.spent(ended)?;
        self.phase = Phase::Idle;
        Ok(())
    }

    fn first_offset(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        let placed = self.placed.iter().find(|(of, p, _)| of == topic && *p == partition);
        placed.map(|(_, _, offset)| *offset)
    }
}

/// What a client that is gone had sent may still arrive.
impl Drop for SimulatedWriter {
    fn drop(&mut self) {
        let mut cluster = self.log.cluster();
        let lingers = cluster.hardship.lingers;
        if self.phase == Phase::Open && !cluster.away && cluster.dice.chance(lingers) {
            for records in &self.gathered {
                drop(cluster.write(&self.id, self.producer_epoch, records));
            }
        }
    }
}

/// Writes outside transactions. What it has gathered dies with it.
pub struct SimulatedOutlet {
    log: Simulated,
    /// Not sent yet.
    gathered: Vec<PartitionBatch>,
    failed: bool,
}

impl SimulatedOutlet {
    pub fn new(log: Simulated) -> Self {
        Self { log, gathered: Vec::new(), failed: false }
    }

    fn send(&mut self) -> Result<(), Error> {
        for records in std::mem::take(&mut self.gathered) {
            let sent = self.log.call("write plainly", |cluster| {
                cluster.takes("write")?;
                cluster.check_delivery(&records)?;
                cluster.produce(&records)
            });
            self.failed |= sent.is_err();
            sent?;
        }
        Ok(())
    }
}

impl Outlet for SimulatedOutlet {
    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        let lingers = self.log.gathers(records)?;
        self.gathered.push(records.clone());
        if lingers { Ok(()) } else { self.send() }
    }

    fn settle(&mut self) -> Result<(), Error> {
        self.send()?;
        if self.failed {
            return Err(unavailable("settle", "records of an earlier call were not acknowledged"));
        }
        strike("settled elsewhere");
        Ok(())
    }
}
