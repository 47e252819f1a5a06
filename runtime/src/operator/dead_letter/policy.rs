//! What becomes of a record that cannot be processed, by the job's policy.
//!
//! Owns the dead letters that wait for the writer, and the counts of an epoch. What a letter looks like is `format`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::{BadRecord, Encoder};
use crate::log::TopicRules;
use crate::model::{PartitionBatch, Uid};

/// Causes that are counted apart; a module has at most 64 of its own.
const MAX_CODES: usize = 128;
/// For all causes beyond those.
const OTHER_CODES: &str = "other";

/// Causes that the host gives behind the sources; a module adds its own.
pub const CODES_OF_OPERATORS: [&str; 7] =
    ["trap", "deadline", "memory", "wrong-answer", "output-refused", "missing-key", "foreign-key"];

/// What becomes of a record that cannot be processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadRecordPolicy {
    #[default]
    DeadLetter,
    /// Counted, not kept.
    Skip,
    /// The task stops at it.
    Fail,
}

/// What becomes of bad records by their cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadRecordPolicies {
    pub otherwise: BadRecordPolicy,
    pub by_code: BTreeMap<String, BadRecordPolicy>,
}

impl BadRecordPolicies {
    fn of(&self, code: &str) -> BadRecordPolicy {
        self.by_code.get(code).copied().unwrap_or(self.otherwise)
    }
}

impl From<BadRecordPolicy> for BadRecordPolicies {
    fn from(otherwise: BadRecordPolicy) -> Self {
        Self { otherwise, by_code: BTreeMap::new() }
    }
}

/// What was put aside.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub dead_lettered: u64,
    pub skipped: u64,
    /// Both together by cause.
    pub by_code: BTreeMap<String, u64>,
}

impl Counts {
    fn count(&mut self, code: &str) {
        self.add(code, 1);
    }

    /// Adds those of an epoch to those of a task.
    pub fn add_to(self, bad_records: &mut BTreeMap<String, u64>) {
        let mut all = Self { by_code: std::mem::take(bad_records), ..Self::default() };
        self.by_code.iter().for_each(|(code, count)| all.add(code, *count));
        *bad_records = all.by_code;
    }

    fn add(&mut self, code: &str, more: u64) {
        let known = self.by_code.len() < MAX_CODES || self.by_code.contains_key(code);
        let code = if known { code } else { OTHER_CODES };
        match self.by_code.get_mut(code) {
            Some(count) => *count += more,
            None => drop(self.by_code.insert(code.to_owned(), more)),
        }
    }
}

/// Applies the policy and keeps the epoch's dead letters.
pub struct BadRecords {
    policies: BadRecordPolicies,
    encoder: Encoder,
    letters: PartitionBatch,
    /// Of the open epoch.
    counts: Counts,
    /// The same at the last mark.
    before: Counts,
}

impl BadRecords {
    /// `partition` is where this task writes its dead letters.
    pub fn new(job: (&str, Uid), policies: BadRecordPolicies, topic: &str, partition: i32, rules: TopicRules) -> Self {
        Self {
            policies,
            encoder: Encoder::new(job, rules),
            letters: PartitionBatch::new(topic, partition),
            counts: Counts::default(),
            before: Counts::default(),
        }
    }

    /// # Errors
    /// Under [`BadRecordPolicy::Fail`]: the sentence that the task fails with.
    pub fn take(&mut self, bad: &BadRecord<'_>) -> Result<(), String> {
        match self.policies.of(bad.code) {
            BadRecordPolicy::Fail => {
                let (place, operator) = (bad.place(), bad.operator);
                let (code, message) = (bad.code, bad.message);
                Err(format!(
                    "{operator} refused {place}: {code}: {message}; the job's policy for such records is `fail`"
                ))
            }
            BadRecordPolicy::Skip => {
                self.counts.skipped += 1;
                self.counts.count(bad.code);
                Ok(())
            }
            BadRecordPolicy::DeadLetter => {
                self.counts.dead_lettered += 1;
                self.counts.count(bad.code);
                self.encoder.encode(bad, &mut self.letters);
                Ok(())
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    pub fn letters(&self) -> &PartitionBatch {
        &self.letters
    }

    /// What waited is with the writer.
    pub fn clear(&mut self) {
        self.letters.clear();
    }

    /// What comes from here on can be taken back. Nothing waits for the writer.
    pub fn mark(&mut self) {
        self.before.clone_from(&self.counts);
    }

    /// What came since the mark has never been.
    pub fn take_back(&mut self) {
        self.letters.clear();
        self.counts.clone_from(&self.before);
    }

    /// What the epoch that was just committed has put aside.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::TimestampBounds;
    use crate::model::Headers;
    use crate::operator::dead_letter::format::tests::bad;

    fn keeping(policies: BadRecordPolicies) -> BadRecords {
        let rules = TopicRules { max_record_bytes: 1 << 20, needs_key: false, timestamps: TimestampBounds::default() };
        BadRecords::new(("job", Uid([7; 16])), policies, "dlq", 0, rules)
    }

    #[test]
    fn the_policy_decides_between_keeping_counting_and_stopping() {
        let headers = Headers::default();
        let mut skip = keeping(BadRecordPolicy::Skip.into());
        skip.take(&bad(b"", "why", &headers)).unwrap();
        assert_eq!((skip.counts.skipped, skip.is_empty()), (1, true));
        let mut fail = keeping(BadRecordPolicy::Fail.into());
        let error = fail.take(&bad(b"", "why", &headers)).unwrap_err();
        assert!(error.contains("orders/3@4711"), "{error}");
    }

    #[test]
    fn a_cause_may_have_a_policy_of_its_own_and_causes_are_counted_apart() {
        let headers = Headers::default();
        let by_code = BTreeMap::from([("no-time".to_owned(), BadRecordPolicy::Skip)]);
        let policies = BadRecordPolicies { otherwise: BadRecordPolicy::DeadLetter, by_code };
        let mut records = keeping(policies);
        for code in ["no-time", "trap", "no-time"] {
            records.take(&BadRecord { code, ..bad(b"v", "why", &headers) }).unwrap();
        }
        assert_eq!((records.counts.dead_lettered, records.counts.skipped, records.letters().len()), (1, 2, 1));
        assert_eq!(records.counts.by_code, BTreeMap::from([("no-time".to_owned(), 2), ("trap".to_owned(), 1)]));
        for i in 0..500 {
            records.take(&BadRecord { code: &format!("c{i}"), ..bad(b"v", "why", &headers) }).unwrap();
        }
        assert!(records.counts.by_code.len() <= MAX_CODES + 1);
    }
}
