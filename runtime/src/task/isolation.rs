//! A batch that is taken apart, to find the records that cannot be processed: which part of it is tried next.
//!
//! Pure. Each part is an epoch of its own, and no transaction is open while it is processed: what a guest's faults take
//! may take long, and must not. Between two parts the task hears what it is to do. A part of one record is isolated by
//! the operators themselves, which know which of them it fails in.

use std::ops::Range;
use std::time::Duration;

use super::rules::rules;

/// CPU time of a call, once one of this batch has used all that it may have: the same record is in one of the next.
const SHORT_CALL: Duration = Duration::from_millis(50);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Isolation {
    /// The last one is next.
    waiting: Vec<Range<usize>>,
    deadline: bool,
}

impl Isolation {
    /// Of a batch of so many records, none of which has been processed.
    pub fn of(records: usize) -> Self {
        Self { waiting: (records > 0).then_some(0..records).into_iter().collect(), deadline: false }
    }

    pub fn next(&self) -> Option<Range<usize>> {
        self.waiting.last().cloned()
    }

    /// Less than the engine allows, where a call has taken too long already.
    pub fn call_max(&self) -> Option<Duration> {
        self.deadline.then_some(SHORT_CALL)
    }

    /// The part that was next has been processed.
    pub fn done(&mut self) {
        self.waiting.pop();
    }

    /// The part that was next has failed and left nothing: `at` is known to be the cause. A single record stays next.
    pub fn failed(&mut self, at: Option<usize>, deadline: bool) {
        self.deadline |= deadline;
        let Some(part) = self.waiting.pop() else { return };
        if !rules().every_part_is_processed {
            self.waiting.clear();
        }
        let cuts = match at.filter(|at| part.contains(at)) {
            Some(at) => vec![part.start, at, at + 1, part.end],
            None if part.len() == 1 => vec![part.start, part.end],
            None => vec![part.start, part.start + part.len() / 2, part.end],
        };
        self.waiting.extend(cuts.windows(2).rev().map(|cut| cut[0]..cut[1]).filter(|part| !part.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records given up, in which order the others went, and how many calls it took.
    fn run(records: usize, bad: &[usize], hints: bool) -> (Vec<usize>, Vec<usize>, u32) {
        let (mut isolation, mut given_up, mut order, mut calls) = (Isolation::of(records), Vec::new(), Vec::new(), 0);
        while let Some(part) = isolation.next() {
            calls += 1;
            let cause = bad.iter().copied().find(|at| part.contains(at));
            match cause {
                Some(at) if part.len() == 1 => given_up.push(at),
                Some(at) => {
                    isolation.failed(hints.then_some(at), true);
                    continue;
                }
                None => {}
            }
            order.extend(part);
            isolation.done();
        }
        (given_up, order, calls)
    }

    #[test]
    fn every_bad_record_is_found_and_the_order_is_kept() {
        for bad in [vec![], vec![0], vec![1_023], vec![300, 800], vec![0, 1, 2, 511, 512, 1_000]] {
            for hints in [false, true] {
                let (given_up, order, calls) = run(1_024, &bad, hints);
                assert_eq!(given_up, bad);
                assert!(order.iter().copied().eq(0..1_024));
                let bound = if hints { 4 } else { 22 } * bad.len() as u32 + 1;
                assert!(calls <= bound, "{calls} calls for {}", bad.len());
            }
        }
    }

    #[test]
    fn calls_are_short_once_one_took_too_long() {
        let mut isolation = Isolation::of(8);
        isolation.failed(None, false);
        assert_eq!(isolation.call_max(), None);
        isolation.failed(None, true);
        assert_eq!((isolation.call_max(), isolation.next()), (Some(SHORT_CALL), Some(0..2)));
    }
}
