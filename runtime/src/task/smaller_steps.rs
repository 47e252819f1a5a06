//! Going on after the log has refused a record of an epoch: in smaller and smaller steps, until the one input record
//! whose output it refuses stands alone and is dead-lettered.
//!
//! Owns how far an epoch may go meanwhile. Sinks check their records before they write them, so this is for rules
//! that were changed since, or that only the cluster knows. Nothing here decides what is committed.

use super::rules::rules;
use crate::model::PartitionId;

/// Of one task, across its sessions.
#[derive(Debug, Default)]
pub struct SmallerSteps {
    /// Records of an epoch, at most; 0 = as many as come.
    limit: u64,
    /// Records that were in the epoch that was refused and have not been committed since.
    left: u64,
    /// The input record that is to be dead-lettered, and why.
    condemned: Option<Condemned>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Position among the plan's sources.
    pub source: usize,
    pub partition: PartitionId,
    pub offset: i64,
    pub why: String,
}

impl Condemned {
    fn place(&self) -> (usize, PartitionId, i64) {
        (self.source, self.partition, self.offset)
    }
}

/// What an epoch held when the log refused one of its records.
#[derive(Clone, Debug)]
pub struct Refused {
    pub records: u64,
    /// Its first input record; the only one where `records` is 1.
    pub first: Option<(usize, PartitionId, i64)>,
    pub why: String,
}

impl SmallerSteps {
    pub fn is_on(&self) -> bool {
        self.limit > 0 || self.condemned.is_some()
    }

    /// How many more records an epoch that holds `records` may take.
    pub fn room(&self, records: u64) -> u64 {
        if self.limit == 0 { u64::MAX } else { self.limit.saturating_sub(records) }
    }

    pub fn condemned(&self, source: usize, partition: PartitionId) -> Option<&Condemned> {
        let is_there = |at: &&Condemned| at.source == source && at.partition == partition;
        self.condemned.as_ref().filter(|at| is_there(at) || !rules().refused_record_is_known_by_place)
    }

    /// An epoch with these records was refused. False where there is nothing left to try: what was refused is not
    /// the output of one record.
    pub fn refused(&mut self, refused: Refused) -> bool {
        self.left = self.left.max(refused.records);
        match (refused.records, refused.first) {
            (1, Some((source, partition, offset))) => {
                let at = Condemned { source, partition, offset, why: refused.why };
                let again = self.condemned.as_ref().is_some_and(|before| before.place() == at.place());
                (self.limit, self.condemned) = (1, Some(at));
                !again
            }
            (records, _) if records > 1 => {
                self.limit = records / 2;
                true
            }
            _ => false,
        }
    }

    /// An epoch with these records was committed.
    pub fn committed(&mut self, records: u64) {
        if !self.is_on() {
            return;
        }
        self.left = self.left.saturating_sub(records);
        if self.condemned.is_some() && records > 0 {
            // It has found its place; whether another one is refused will show.
            (self.limit, self.condemned) = (self.left, None);
        }
        if self.left == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `count` records of which those in `bad` are refused by the log; answers which were dead-lettered and how
    /// many epochs it took.
    fn run(count: i64, bad: &[i64]) -> (Vec<i64>, usize) {
        let (mut steps, mut next, mut letters, mut epochs) = (SmallerSteps::default(), 0, Vec::new(), 0);
        while next < count {
            epochs += 1;
            let to = count.min(next.saturating_add_unsigned(steps.room(0)));
            let condemned = steps.condemned(0, 0).map(|at| at.offset);
            let refused = (next..to).any(|at| bad.contains(&at) && Some(at) != condemned);
            let records = (to - next) as u64;
            if refused {
                let first = Some((0, 0, next));
                assert!(steps.refused(Refused { records, first, why: String::new() }));
            } else {
                letters.extend(condemned);
                steps.committed(records);
                next = to;
            }
        }
        (letters, epochs)
    }

    #[test]
    fn the_record_that_is_refused_is_found_by_halves() {
        assert_eq!(run(1_000, &[]), (vec![], 1));
        let (letters, epochs) = run(1_000, &[700]);
        assert_eq!(letters, [700]);
        assert!(epochs < 60, "{epochs}");
    }

    #[test]
    fn several_are_found_wherever_they_stand() {
        for bad in [vec![0], vec![999], vec![0, 1, 2], vec![0, 500, 501, 999]] {
            assert_eq!(run(1_000, &bad).0, bad);
        }
    }

    #[test]
    fn records_at_the_same_offset_of_two_partitions_are_not_taken_for_each_other() {
        let mut steps = SmallerSteps::default();
        for (source, partition) in [(0, 0), (0, 1), (1, 0)] {
            assert!(steps.refused(Refused { records: 1, first: Some((source, partition, 7)), why: String::new() }));
            assert!(steps.condemned(source, partition).is_some());
        }
    }

    #[test]
    fn what_no_record_is_to_blame_for_is_given_up() {
        let mut steps = SmallerSteps::default();
        let refused = |records, offset| Refused { records, first: Some((0, 0, offset)), why: String::new() };
        assert!(!steps.refused(Refused { records: 0, first: None, why: String::new() }), "only timers were in it");
        assert!(steps.refused(refused(1, 7)));
        assert!(!steps.refused(refused(1, 7)), "its dead letter was refused as well");
    }
}
