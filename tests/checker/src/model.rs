//! Stands in for the job where the checker itself is tested: a correct job in a hundred lines, killed at random, and the
//! mistakes that it can be told to make.
//!
//! Owns the mistakes. Shares no rule with `judge`: what becomes of a record is known from how it was made. What it
//! returns can be laid into logs in memory ([`lay`]) or written to Kafka, epoch by epoch.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::input::Guest;
use crate::produce::plan::{Planned, Poison};
use crate::random::Random;
use crate::record::{Record, partition_of};

/// Mistakes of a runtime, each of a kind that has happened somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Positions move before the output is committed.
    PositionsAhead,
    /// Positions are kept apart from the commit, and one epoch behind it.
    PositionsBehind,
    /// The overlay reaches the store before the commit.
    StateBeforeCommit,
    TimersBeforeCommit,
    /// The deletion of fired timers is not part of the commit.
    TimersKept,
    /// The watermark is not in the checkpoint.
    WatermarkLost,
    /// The maximum over the partitions instead of the minimum.
    WatermarkAhead,
    /// Due timers fire only at every other advance.
    TimersLate,
    /// A refused record keeps what it did to the state.
    NoRollback,
    /// A commit is torn: its last record is missing.
    TornCommit,
    /// Output is written outside of the transaction.
    OutputOutside,
    LettersOutside,
    /// The records of a batch are processed from its end.
    Reversed,
    /// Event time that was taken back once is taken back again after each kill.
    ResetRepeated,
}

impl Bug {
    pub const ALL: [Self; 14] = [
        Self::PositionsAhead,
        Self::PositionsBehind,
        Self::StateBeforeCommit,
        Self::TimersBeforeCommit,
        Self::TimersKept,
        Self::WatermarkLost,
        Self::WatermarkAhead,
        Self::TimersLate,
        Self::NoRollback,
        Self::TornCommit,
        Self::OutputOutside,
        Self::LettersOutside,
        Self::Reversed,
        Self::ResetRepeated,
    ];
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub topic: String,
    pub guest: Guest,
    pub parallelism: i32,
    pub out_of_orderness_ms: i64,
    pub tick_every_ms: i64,
    /// Records of a batch and batches of an epoch, at most.
    pub batch: u64,
    pub batches: u64,
    /// Epochs that end in a kill before the commit, and that are followed by one.
    pub kills_per_mille: u32,
    /// Event time is taken back in each task behind so many epochs.
    pub reset_behind: Option<u64>,
    pub seed: u64,
    pub bug: Option<Bug>,
}

/// A record of the input with what it was made as.
#[derive(Clone, Debug)]
pub struct Source {
    pub offset: i64,
    pub planned: Planned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Output,
    Letters,
}

#[derive(Clone, Debug)]
pub struct Emission {
    pub to: To,
    pub record: Record,
}

/// All that one task does between two commits.
#[derive(Clone, Debug)]
pub struct Epoch {
    pub task: i32,
    pub emissions: Vec<Emission>,
    pub committed: bool,
}

/// What a task keeps over a kill.
#[derive(Clone, Default)]
struct Held {
    next: BTreeMap<i32, usize>,
    tallies: BTreeMap<Vec<u8>, (u64, i64)>,
    timers: BTreeSet<(i64, Vec<u8>)>,
    marks: BTreeMap<i32, i64>,
    watermark: Option<i64>,
    advances: u64,
    epochs: u64,
    is_reset: bool,
}

impl Held {
    /// Event time begins anew; timers stay.
    fn forget_time(&mut self) {
        (self.marks, self.watermark) = (BTreeMap::new(), None);
    }
}

struct Task<'a> {
    spec: &'a Spec,
    logs: &'a [Vec<Source>],
    number: i32,
    held: Held,
    random: Random,
}

/// All epochs of all tasks until the input is processed.
pub fn run(spec: &Spec, logs: &[Vec<Source>]) -> Vec<Epoch> {
    let mut epochs = Vec::new();
    for number in 0..spec.parallelism {
        let mut task =
            Task { spec, logs, number, held: Held::default(), random: Random::of(spec.seed, "task", number as u64) };
        while task.is_behind() {
            let epoch = task.epoch();
            epochs.extend(epoch);
        }
    }
    epochs
}

impl Task<'_> {
    fn partitions(&self) -> impl Iterator<Item = i32> + use<> {
        let (number, parallelism) = (self.number, self.spec.parallelism);
        (0..self.logs.len() as i32).filter(move |partition| partition % parallelism == number)
    }

    fn unread(&self, held: &Held) -> Vec<i32> {
        let is_unread =
            |partition: &i32| held.next.get(partition).copied().unwrap_or(0) < self.logs[*partition as usize].len();
        self.partitions().filter(is_unread).collect()
    }

    fn is_behind(&self) -> bool {
        !self.unread(&self.held).is_empty()
    }

    fn is(&self, bug: Bug) -> bool {
        self.spec.bug == Some(bug)
    }

    fn epoch(&mut self) -> Vec<Epoch> {
        let before = self.held.clone();
        let mut now = self.held.clone();
        let mut emissions = Vec::new();
        if !now.is_reset && self.spec.reset_behind.is_some_and(|epochs| now.epochs >= epochs) {
            now.forget_time();
            now.is_reset = true;
        }
        now.epochs += 1;
        for _ in 0..=self.random.below(self.spec.batches) {
            self.step(&mut now, &mut emissions);
        }
        if self.random.per_mille(self.spec.kills_per_mille) {
            self.recover(before, &now);
            return self.aborted(emissions);
        }
        if self.random.per_mille(self.spec.kills_per_mille) {
            now = self.recover_committed(&before, now);
        }
        self.held = now;
        if self.is(Bug::TornCommit) && self.random.per_mille(100) {
            emissions.pop();
        }
        vec![Epoch { task: self.number, emissions, committed: true }]
    }

    /// Killed before the commit: what is left is what was held before, but for mistakes.
    fn recover(&mut self, before: Held, now: &Held) {
        self.held = before;
        match self.spec.bug {
            Some(Bug::PositionsAhead) => self.held.next = now.next.clone(),
            Some(Bug::StateBeforeCommit) => self.held.tallies = now.tallies.clone(),
            Some(Bug::TimersBeforeCommit) => self.held.timers = now.timers.clone(),
            Some(Bug::WatermarkLost) => self.held.forget_time(),
            Some(Bug::ResetRepeated) if self.held.is_reset => self.held.forget_time(),
            _ => {}
        }
    }

    /// Killed behind the commit.
    fn recover_committed(&self, before: &Held, mut now: Held) -> Held {
        match self.spec.bug {
            Some(Bug::PositionsBehind) => now.next = before.next.clone(),
            Some(Bug::TimersKept) => now.timers.extend(before.timers.iter().cloned()),
            Some(Bug::WatermarkLost) => now.forget_time(),
            Some(Bug::ResetRepeated) if now.is_reset => now.forget_time(),
            _ => {}
        }
        now
    }

    fn aborted(&self, emissions: Vec<Emission>) -> Vec<Epoch> {
        let outside = |emission: &Emission| match emission.to {
            To::Output => self.is(Bug::OutputOutside),
            To::Letters => self.is(Bug::LettersOutside),
        };
        let (outside, inside): (Vec<_>, Vec<_>) = emissions.into_iter().partition(outside);
        let epoch = |emissions, committed| Epoch { task: self.number, emissions, committed };
        [epoch(outside, true), epoch(inside, false)].into_iter().filter(|epoch| !epoch.emissions.is_empty()).collect()
    }

    /// One batch of one partition, then the timers.
    fn step(&mut self, now: &mut Held, out: &mut Vec<Emission>) {
        let unread = self.unread(now);
        let Some(&partition) = unread.get(self.random.below(unread.len() as u64) as usize) else { return };
        let log = &self.logs[partition as usize];
        let start = now.next.get(&partition).copied().unwrap_or(0);
        let end = log.len().min(start + 1 + self.random.below(self.spec.batch) as usize);
        let mut batch: Vec<&Source> = log[start..end].iter().collect();
        if self.is(Bug::Reversed) {
            batch.reverse();
        }
        for source in &batch {
            self.process(now, partition, source, out);
        }
        now.next.insert(partition, end);
        self.observe(now, partition, &batch);
        self.advance(now, out);
    }

    fn process(&self, now: &mut Held, partition: i32, source: &Source, out: &mut Vec<Emission>) {
        let planned = &source.planned;
        let by_guest = |poison| matches!(poison, Poison::Refused | Poison::Trap);
        // The plain counter knows nothing of traps and refusals.
        let is_counter = self.spec.guest == Guest::Counter;
        if let Some(poison) = planned.poison.filter(|poison| !(is_counter && by_guest(*poison))) {
            if by_guest(poison) && self.is(Bug::NoRollback) {
                let tally = now.tallies.entry(planned.key.clone().unwrap_or_default()).or_default();
                *tally = (tally.0 + 1, tally.1.wrapping_add(planned.amount));
            }
            out.push(self.letter(partition, source, poison));
            return;
        }
        let key = planned.key.clone().unwrap_or_default();
        let tally = now.tallies.entry(key.clone()).or_default();
        *tally = (tally.0 + 1, tally.1.wrapping_add(planned.amount));
        let (count, sum) = *tally;
        let name = String::from_utf8_lossy(&key).into_owned();
        let mut value =
            json!({"key": name, "partition": partition, "offset": source.offset, "count": count, "sum": sum});
        if self.spec.guest == Guest::Checked {
            value["watermark"] = json!(now.watermark.unwrap_or(i64::MIN));
            let (time, every) = (planned.timestamp_ms * 1_000_000, self.spec.tick_every_ms * 1_000_000);
            now.timers.insert(((time.div_euclid(every) + 1) * every, key.clone()));
        }
        out.push(self.emission(key, &value, planned.timestamp_ms));
    }

    fn observe(&self, now: &mut Held, partition: i32, batch: &[&Source]) {
        let by_source = |planned: &Planned| {
            let unread = [Poison::BrokenJson, Poison::NullValue, Poison::NoKey, Poison::WrongPartition];
            planned.poison.is_some_and(|poison| unread.contains(&poison))
        };
        let times = batch.iter().map(|source| &source.planned).filter(|planned| !by_source(planned));
        let Some(newest) = times.map(|planned| planned.timestamp_ms).max() else { return };
        let mark = (newest - self.spec.out_of_orderness_ms) * 1_000_000 - 1;
        let held = now.marks.entry(partition).or_insert(i64::MIN);
        *held = (*held).max(mark);
    }

    fn advance(&self, now: &mut Held, out: &mut Vec<Emission>) {
        now.advances += 1;
        let marks = self.partitions().map(|partition| now.marks.get(&partition).copied().unwrap_or(i64::MIN));
        let mark = if self.is(Bug::WatermarkAhead) { marks.max() } else { marks.min() };
        let reached = mark.unwrap_or(i64::MIN).max(now.watermark.unwrap_or(i64::MIN));
        let skips = self.is(Bug::TimersLate) && now.advances.is_multiple_of(2);
        while let Some((time, key)) = now.timers.first().filter(|(time, _)| *time <= reached && !skips).cloned() {
            now.timers.remove(&(time, key.clone()));
            let (count, sum) = now.tallies.get(&key).copied().unwrap_or_default();
            let watermark = now.watermark.unwrap_or(i64::MIN);
            let name = String::from_utf8_lossy(&key).into_owned();
            let value = json!({"key": name, "tick": time, "count": count, "sum": sum, "watermark": watermark});
            out.push(self.emission(key, &value, time / 1_000_000));
        }
        now.watermark = Some(reached);
    }

    fn emission(&self, key: Vec<u8>, value: &serde_json::Value, timestamp_ms: i64) -> Emission {
        let partition = partition_of(&key, self.logs.len() as i32);
        let (key, value) = (Some(key), Some(value.to_string().into_bytes()));
        Emission { to: To::Output, record: Record { partition, timestamp_ms, key, value, ..Record::default() } }
    }

    fn letter(&self, partition: i32, source: &Source, poison: Poison) -> Emission {
        let header = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
        let headers = vec![
            header("forebay.format", "1".to_owned()),
            header("forebay.topic", self.spec.topic.clone()),
            header("forebay.partition", partition.to_string()),
            header("forebay.offset", source.offset.to_string()),
            header("forebay.code", poison.code().to_owned()),
        ];
        let planned = &source.planned;
        let (key, value) = (planned.key.clone(), planned.value.clone());
        let record = Record { partition: 0, offset: 0, timestamp_ms: planned.timestamp_ms, key, value, headers };
        Emission { to: To::Letters, record }
    }
}

/// What readers of the logs would see.
#[derive(Clone, Debug, Default)]
pub struct Laid {
    pub outputs: Vec<Record>,
    pub letters: Vec<Record>,
    pub aborted: u64,
}

/// Lays epochs into logs as Kafka does: an aborted record takes an offset and is not read, and a marker ends every
/// transaction in every partition that it touched.
pub fn lay(epochs: &[Epoch]) -> Laid {
    let mut laid = Laid::default();
    let mut ends: BTreeMap<(bool, i32), i64> = BTreeMap::new();
    for epoch in epochs {
        let mut touched = BTreeSet::new();
        for Emission { to, record } in &epoch.emissions {
            let log = (*to == To::Output, record.partition);
            touched.insert(log);
            let end = ends.entry(log).or_default();
            let record = Record { offset: *end, ..record.clone() };
            *end += 1;
            match (epoch.committed, to) {
                (false, _) => laid.aborted += 1,
                (true, To::Output) => laid.outputs.push(record),
                (true, To::Letters) => laid.letters.push(record),
            }
        }
        touched.into_iter().for_each(|log| *ends.entry(log).or_default() += 1);
    }
    laid
}
