//! Reading a partition up to an end that is known, the same for everyone who does.
//!
//! Offsets are not dense, and the last one is usually a marker that is never delivered: what counts is the position.

use std::time::Duration;

use super::{Assignment, Budget, Error, Isolation, Log, Reader};
use crate::model::{PartitionBatch, PartitionId};

/// How a stretch is read, and how long it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub budget: Budget,
    pub poll_wait: Duration,
    /// Polls without a record or a step forward, one after the other, before the partition counts as stuck.
    pub empty_polls_max: u32,
}

impl Patience {
    /// How long nothing may come.
    pub fn seconds(&self) -> u64 {
        (self.poll_wait * self.empty_polls_max).as_secs()
    }
}

/// Of those who read a few records: 10 s.
const USUAL: Patience = Patience {
    budget: Budget { max_records: 2_000, max_bytes: 8 << 20 },
    poll_wait: Duration::from_millis(20),
    empty_polls_max: 500,
};

/// The committed records of one partition from an offset up to an end, batch by batch.
pub struct Stretch {
    reader: Box<dyn Reader>,
    topic: String,
    partition: PartitionId,
    end: i64,
    patience: Patience,
    reached: i64,
    empty: u32,
}

/// What one poll of a stretch has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Records,
    /// Nothing, and the end is not reached: a marker that is on its way may hold it back.
    Nothing,
    End,
    /// Nothing for as long as the patience lasts.
    Stuck,
}

impl Stretch {
    /// # Errors
    /// Those of the log.
    pub fn open(log: &dyn Log, from: Assignment, end: i64, patience: Patience) -> Result<Self, Error> {
        let mut reader = log.reader(Isolation::ReadCommitted)?;
        reader.assign(std::slice::from_ref(&from))?;
        let Assignment { topic, partition, offset: reached, .. } = from;
        Ok(Self { reader, topic, partition, end, patience, reached, empty: 0 })
    }

    /// Up to where everything was read.
    pub fn reached(&self) -> i64 {
        self.reached
    }

    pub fn end(&self) -> i64 {
        self.end
    }

    /// # Errors
    /// Those of the log.
    pub fn poll(&mut self, batch: &mut PartitionBatch) -> Result<Polled, Error> {
        if self.reached >= self.end {
            return Ok(Polled::End);
        }
        let brought = self.reader.poll(self.patience.budget, self.patience.poll_wait, batch)?;
        let position = self.reader.position(&self.topic, self.partition).unwrap_or(self.reached);
        self.empty = if brought || position > self.reached { 0 } else { self.empty + 1 };
        self.reached = self.reached.max(position);
        match brought {
            true => Ok(Polled::Records),
            false if self.empty >= self.patience.empty_polls_max => Ok(Polled::Stuck),
            false => Ok(Polled::Nothing),
        }
    }
}

/// Hands the committed records of a partition from `from` up to `end` to `each`, in order, until it says that it has
/// had enough. Returns the next offset to read.
///
/// # Errors
/// [`Error::Unavailable`] where nothing comes, beside those of the log and of `each`.
pub fn read_to<E: From<Error>>(
    log: &dyn Log,
    (topic, partition): (&str, PartitionId),
    from: i64,
    end: i64,
    mut each: impl FnMut(&PartitionBatch) -> Result<Goes, E>,
) -> Result<i64, E> {
    if from >= end {
        return Ok(from);
    }
    let id = log.topic(topic)?.id;
    let mut stretch = Stretch::open(log, Assignment::new(topic, id, partition, from), end, USUAL)?;
    let mut batch = PartitionBatch::new(topic, partition);
    loop {
        match stretch.poll(&mut batch)? {
            Polled::Records if each(&batch)? == Goes::Enough => return Ok(stretch.reached()),
            Polled::Records | Polled::Nothing => {}
            Polled::End => return Ok(stretch.reached()),
            Polled::Stuck => {
                let (reached, seconds) = (stretch.reached(), USUAL.seconds());
                let doing = format!("read {topic}/{partition} to its end at {end}");
                let found =
                    format!("nothing came behind {reached} for {seconds} s; an open transaction may hold it back");
                return Err(Error::Unavailable { doing, found }.into());
            }
        }
    }
}

/// Whether reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    On,
    Enough,
}
