//! What a correct job must have written, and what it wrote instead.
//!
//! Owns the rules and what was found against them. Free of Kafka: it takes the input as facts and then the committed
//! records of output and dead letters one by one, in the order of their partitions, and keeps no record. It never
//! asks the job anything. Read [`Judge::output`] first; `time` holds the rules of watermarks and timers.

mod letters;
mod outputs;
mod time;
mod verdict;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::input::{Fate, Inputs};
use crate::record::Record;

pub use verdict::{Kind, Verdict};

/// What the judge must know of the job's spec.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `watermark.out_of_orderness` of the source.
    pub out_of_orderness_ms: i64,
    /// The guest's parameter `tick-every`.
    pub tick_every_ms: i64,
    /// Number of tasks; where it is not known, fewer timers are demanded.
    pub parallelism: Option<i32>,
    /// The source has `idle_after`: a task's event time may then be ahead of a silent partition's.
    pub idle: bool,
    /// So often the job's event time was taken back while it worked.
    pub time_resets: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { out_of_orderness_ms: 0, tick_every_ms: 1_000, parallelism: None, idle: false, time_resets: 0 }
    }
}

/// How far a key's outputs have come.
#[derive(Clone, Debug, Default)]
struct KeyProgress {
    /// Offset of the input whose output came last.
    last_offset: Option<i64>,
    count: u64,
    sum: i64,
}

pub struct Judge<'a> {
    inputs: &'a Inputs,
    settings: Settings,
    /// Partitions of the output topic.
    partitions: i32,
    /// Per input record whether its output, or its dead letter, has been seen.
    seen: Vec<Vec<bool>>,
    keys: Vec<KeyProgress>,
    clocks: Vec<time::Clock>,
    /// Outputs and dead letters that have not been seen.
    awaited: u64,
    verdict: Verdict,
}

/// Where something was found, for people.
#[derive(Clone, Copy)]
struct Place<'a> {
    what: &'a str,
    partition: i32,
    offset: i64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{}", self.what, self.partition, self.offset)
    }
}

fn output_at(record: &Record) -> Place<'static> {
    Place { what: "output", partition: record.partition, offset: record.offset }
}

fn letter_at(record: &Record) -> Place<'static> {
    Place { what: "dead letter", partition: record.partition, offset: record.offset }
}

fn input_at(partition: i32, offset: i64) -> Place<'static> {
    Place { what: "input", partition, offset }
}

impl<'a> Judge<'a> {
    /// `partitions` is the number of those of the output topic.
    pub fn new(inputs: &'a Inputs, settings: Settings, partitions: i32) -> Self {
        let verdict = Verdict { inputs: inputs.records(), keys: inputs.keys.len() as u64, ..Verdict::default() };
        Self {
            seen: inputs.partitions.iter().map(|partition| vec![false; partition.entries.len()]).collect(),
            keys: vec![KeyProgress::default(); inputs.keys.len()],
            clocks: (0..partitions).map(|_| time::Clock::default()).collect(),
            awaited: inputs.records(),
            inputs,
            settings,
            partitions,
            verdict,
        }
    }

    /// Whether everything that must come has come. What should not come may still come.
    pub fn is_complete(&self) -> bool {
        self.awaited == 0 && self.timers_awaited() == 0
    }

    /// What is_complete waits for, for people.
    pub fn awaited(&self) -> String {
        format!("{} outputs or dead letters and {} ticks are missing", self.awaited, self.timers_awaited())
    }

    /// The end of the log: what was not seen is missing.
    pub fn finish(mut self) -> Verdict {
        self.finish_clocks();
        for (partition, entries) in self.inputs.partitions.iter().enumerate() {
            let missing = entries.entries.iter().zip(&self.seen[partition]).filter(|(_, seen)| !**seen);
            for (entry, _) in missing {
                let place = input_at(partition as i32, entry.offset);
                match &entry.fate {
                    Fate::Counted { nth, .. } => {
                        let key = entry.key.map(|key| self.inputs.key_name(key)).unwrap_or_default();
                        let tell = || format!("{place} (key {key}, its record {nth}) has no output");
                        self.verdict.found(Kind::Lost, tell);
                    }
                    Fate::Refused(refusal) => {
                        let tell = || format!("{place} ({}) has no dead letter", refusal.code);
                        self.verdict.found(Kind::LetterLost, tell);
                    }
                }
            }
        }
        self.verdict
    }

    /// Notes that an input was seen; whether it is the first time.
    fn see(&mut self, partition: i32, position: usize) -> bool {
        let first = !std::mem::replace(&mut self.seen[partition as usize][position], true);
        self.awaited -= u64::from(first);
        first
    }
}
