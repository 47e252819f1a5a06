//! The rules of the protocol, on one page: what commit, recovery, isolation and swap do where doing otherwise would lose
//! records, count them twice, or stand still for ever.
//!
//! Pure: values, and functions of what was observed. Wherever the code has one of these choices it asks here. A build for
//! tests can be given another set, one rule broken at a time (`broken`); each such set is one that the tests must find.

use std::time::Duration;

#[cfg(any(test, feature = "seeded-bugs"))]
use super::wrong::{WrongAct, WrongDoubt, WrongStep};

/// One field a rule, so that one can be broken and the others stand.
#[derive(Clone, Copy)]
pub(in crate::task) struct Rules {
    // Taking a task over.
    /// Its acts, in their order.
    pub takeover: &'static [Act],
    /// The changelog is read to the end that it had behind the takeover: not to where a poll happens to bring nothing.
    pub changelog_is_read_to_its_end: bool,
    /// Also where the local store stands somewhere in it, …
    pub tail_is_replayed: bool,
    /// … and also where only a writer that had rested is taken over again: somebody else may have owned the task meanwhile.
    pub rest_is_followed_by_reading: bool,
    /// The store counts only where exactly the header that it names stands in the chain: the hash, not the number.
    pub store_is_known_by_hash: bool,
    /// A changelog that ends before what the store has taken in has lost committed epochs: a stop.
    pub lost_tail_is_a_stop: bool,
    /// The same before what was noted here as committed.
    pub note_is_believed: bool,
    /// A task without a header stops: nothing starts from earliest or latest by itself.
    pub no_header_is_a_stop: bool,
    /// The first commit is a claim, so that whoever was fenced can see by whom.
    pub takeover_is_claimed: bool,

    // Positions.
    /// What is kept is the offset to read next.
    pub position_is_the_next_offset: bool,
    /// Offsets count only in the topic that they are of, also where another has its name now.
    pub topics_are_known_by_id: bool,
    /// A position that the log no longer holds is a stop.
    pub positions_are_kept: bool,
    /// The log is told of which leader the record before was, and so whether it still is that one.
    pub leader_epoch_is_told: bool,
    /// A position moves behind what was processed, not behind all that was polled.
    pub only_what_was_processed_counts: bool,
    /// The reader stands behind the whole batch: while one is taken apart no position moves over a gap.
    pub gaps_wait_for_the_batch: bool,

    // The commit.
    /// Its steps, in their order.
    pub commit: &'static [Step],
    /// What a commit of unknown outcome means.
    pub in_doubt: InDoubt,

    // Guests that fail.
    /// A batch that failed has had no effect: nothing that it emitted is left.
    pub failed_batches_emit_nothing: bool,
    /// Of a batch that is taken apart every part is processed.
    pub every_part_is_processed: bool,
    /// What the epoch held is committed before a batch is taken apart: no transaction is open meanwhile.
    pub isolation_is_outside_transactions: bool,
    /// The record whose output the log refuses is known by source, partition and offset.
    pub refused_record_is_known_by_place: bool,
    /// How small the steps are that go on behind a refusal outlives the session that met it.
    pub smaller_steps_are_remembered: bool,
    /// Uploaded code that is at fault leaves the task held, so that a better version can be swapped in.
    pub faulty_code_is_held: bool,
    /// A task is held under the modules that were at fault, and under no others.
    pub hold_ends_with_its_modules: bool,

    // Event time.
    /// The watermark passes a time when no timer at or before it is left.
    pub time_waits_for_timers: bool,
    /// Watermarks are part of the commit: they do not go back, …
    pub watermarks_are_restored: bool,
    /// … but once for each reset: what a header says was done is not done again.
    pub resets_are_made_once: bool,

    // Targets and swaps.
    /// A recovered task compares itself to its target, whatever it was told before.
    pub recovered_tasks_look_at_their_target: bool,
    /// Nothing is committed under a version that is on trial.
    pub trials_commit_nothing: bool,
    /// A header names the module that migrates, as long as values of an older version may be left.
    pub headers_name_migrators: bool,
}

/// Acts of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum Act {
    /// The transactional id is taken over: it fences a predecessor and ends what it left open, so that nobody can add to
    /// what is read from here on.
    Fence,
    /// State, positions and watermarks are brought to where the changelog ends.
    Restore,
    #[cfg(any(test, feature = "seeded-bugs"))]
    Wrong(WrongAct),
}

/// Steps of a commit. Output and dead letters are in its transaction already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum Step {
    /// The header with positions, watermarks and module versions, the changes of state and the timers go into the same
    /// transaction as the output.
    AppendDelta,
    /// What was written to other clusters is acknowledged there: behind the commit nobody would write it again.
    SettleElsewhere,
    /// All of it becomes durable, or none.
    Commit,
    /// Only now, and only where the commit surely happened, does the overlay go to the store.
    Apply,
    #[cfg(any(test, feature = "seeded-bugs"))]
    Wrong(WrongStep),
}

/// What a commit of unknown outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum InDoubt {
    /// Nothing is applied, the writer is thrown away, and the task recovers: the changelog knows. There is no abort and
    /// going on.
    Recover,
    #[cfg(any(test, feature = "seeded-bugs"))]
    Wrong(WrongDoubt),
}

/// As they are in every build that is used.
pub(in crate::task) const PROTOCOL: Rules = Rules {
    takeover: &[Act::Fence, Act::Restore],
    changelog_is_read_to_its_end: true,
    tail_is_replayed: true,
    rest_is_followed_by_reading: true,
    store_is_known_by_hash: true,
    lost_tail_is_a_stop: true,
    note_is_believed: true,
    no_header_is_a_stop: true,
    takeover_is_claimed: true,
    position_is_the_next_offset: true,
    topics_are_known_by_id: true,
    positions_are_kept: true,
    leader_epoch_is_told: true,
    only_what_was_processed_counts: true,
    gaps_wait_for_the_batch: true,
    commit: &[Step::AppendDelta, Step::SettleElsewhere, Step::Commit, Step::Apply],
    in_doubt: InDoubt::Recover,
    failed_batches_emit_nothing: true,
    every_part_is_processed: true,
    isolation_is_outside_transactions: true,
    refused_record_is_known_by_place: true,
    smaller_steps_are_remembered: true,
    faulty_code_is_held: true,
    hold_ends_with_its_modules: true,
    time_waits_for_timers: true,
    watermarks_are_restored: true,
    resets_are_made_once: true,
    recovered_tasks_look_at_their_target: true,
    trials_commit_nothing: true,
    headers_name_migrators: true,
};

/// What the open epoch has come to.
#[derive(Clone, Copy, Debug)]
pub(in crate::task) struct Open {
    /// Input records.
    pub records: u64,
    /// A transaction is open for it.
    pub writing: bool,
    pub overlay_bytes: usize,
    /// Event time has moved since the last commit.
    pub time_moved: bool,
    pub age: Duration,
    /// It is the first behind a takeover.
    pub behind_claim: bool,
    /// It holds as many records as it may, since the log has refused one.
    pub is_full: bool,
    /// Positions have moved over gaps for so long that they are worth a commit.
    pub gaps_are_due: bool,
}

impl Open {
    /// Nothing has happened that a commit would have to keep.
    pub fn is_unchanged(&self) -> bool {
        self.records == 0 && !self.writing && self.overlay_bytes == 0 && !self.time_moved
    }

    /// The epoch is to be committed now.
    pub fn is_due(&self, interval: Duration, epoch_max_bytes: usize) -> bool {
        if self.is_unchanged() {
            return self.gaps_are_due;
        }
        // After an outage somebody waits for output.
        (self.behind_claim && self.records > 0)
            || self.age >= interval
            || self.overlay_bytes >= epoch_max_bytes
            || self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Open = Open {
        records: 0,
        writing: false,
        overlay_bytes: 0,
        time_moved: false,
        age: Duration::from_secs(1),
        behind_claim: false,
        is_full: false,
        gaps_are_due: false,
    };

    #[test]
    fn an_epoch_that_holds_nothing_is_due_for_its_gaps_only() {
        let due = |open: Open| open.is_due(Duration::from_millis(100), 1_000);
        assert!(!due(OPEN) && due(Open { gaps_are_due: true, ..OPEN }));
        assert!(due(Open { time_moved: true, ..OPEN }) && due(Open { writing: true, ..OPEN }));
    }

    #[test]
    fn an_epoch_is_due_when_it_is_old_large_full_or_the_first_behind_a_claim() {
        let young = Open { records: 1, age: Duration::ZERO, ..OPEN };
        let due = |open: Open| open.is_due(Duration::from_millis(100), 1_000);
        assert!(!due(young));
        for open in [
            Open { age: Duration::from_millis(100), ..young },
            Open { overlay_bytes: 1_000, ..young },
            Open { is_full: true, ..young },
            Open { behind_claim: true, ..young },
        ] {
            assert!(due(open), "{open:?}");
        }
        assert!(!due(Open { behind_claim: true, records: 0, time_moved: true, ..young }));
    }
}
