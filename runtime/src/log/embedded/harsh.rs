//! The test mode that does not flatter: what Kafka does to its clients, on purpose and by a seed.
//!
//! Owns what is written but not shown yet, and the dice. In this mode a commit becomes visible partition by
//! partition, later than the call that made it; last stable offsets stay behind; and a commit may end
//! indefinite: done, not done, or prepared, so that only the takeover of its transactional id decides.
//! Never breaks a promise of the `Log` traits.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::topics::Topic;
use crate::model::PartitionId;

/// Settings of the test mode.
#[derive(Clone, Debug)]
pub struct Harsh {
    /// Decides everything below. The same calls in the same order meet the same fate.
    pub seed: u64,
    /// How many of 1,000 commits end indefinite.
    pub indefinite_per_mille: u32,
    pub show: Show,
}

/// When what was committed is shown to readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// By the dice, a partition at a time, whenever a reader polls or asks for a stable end.
    ByChance,
    /// Only by [`super::Embedded::show_next`].
    ByHand,
}

/// The fate of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sure,
    /// It happened, and the writer is not told.
    Done,
    /// It did not happen, and the writer is not told.
    NotDone,
    /// It stands prepared: the takeover completes or drops it.
    Prepared,
}

struct Held {
    owner: Option<String>,
    topic: Arc<Topic>,
    partition: PartitionId,
    end: i64,
}

pub struct Hardship {
    settings: Harsh,
    inner: Mutex<Inner>,
}

struct Inner {
    dice: u64,
    /// In the order of the commits, so that the first entry of a partition is the next to be shown.
    held: Vec<Held>,
}

impl Hardship {
    pub fn new(settings: Harsh) -> Self {
        let dice = settings.seed;
        Self { settings, inner: Mutex::new(Inner { dice, held: Vec::new() }) }
    }

    pub fn fate(&self) -> Fate {
        let mut inner = self.inner();
        if inner.roll(1000) >= u64::from(self.settings.indefinite_per_mille) {
            return Fate::Sure;
        }
        [Fate::Done, Fate::NotDone, Fate::Prepared][inner.roll(3) as usize]
    }

    /// Whether a takeover completes what it finds prepared.
    pub fn completes(&self) -> bool {
        self.inner().roll(2) == 0
    }

    /// Takes what a commit made durable, to be shown later.
    pub fn hold(&self, owner: Option<&str>, topic: &Arc<Topic>, partition: PartitionId, end: i64) {
        let owner = owner.map(str::to_owned);
        self.inner().held.push(Held { owner, topic: topic.clone(), partition, end });
    }

    /// Shows one partition's oldest, or nothing, by the dice. True where something is still held back that
    /// the dice will show.
    pub fn step(&self) -> bool {
        if self.settings.show == Show::ByHand {
            return false;
        }
        let mut inner = self.inner();
        if inner.held.is_empty() {
            return false;
        }
        if inner.roll(2) == 0 {
            inner.show_any();
        }
        !inner.held.is_empty()
    }

    /// Shows one partition's oldest. False where nothing is held back.
    pub fn show_next(&self) -> bool {
        self.inner().show_any()
    }

    /// Shows all that a transactional id has committed: its takeover waits for that.
    pub fn show_all_of(&self, owner: &str) {
        let mut inner = self.inner();
        while let Some(i) = inner.held.iter().position(|held| held.owner.as_deref() == Some(owner)) {
            inner.show_at(i);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn show_any(&mut self) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let any = self.roll(self.held.len() as u64) as usize;
        let same =
            |held: &Held| held.partition == self.held[any].partition && Arc::ptr_eq(&held.topic, &self.held[any].topic);
        let oldest = self.held.iter().position(same).unwrap_or(any);
        self.show_at(oldest);
        true
    }

    fn show_at(&mut self, i: usize) {
        let held = self.held.remove(i);
        if let Ok(partition) = held.topic.partition(held.partition) {
            partition.stable.fetch_max(held.end, Ordering::AcqRel);
        }
    }

    /// A number below `sides` (splitmix64).
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
