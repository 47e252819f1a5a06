//! Rules broken on purpose, to prove that the tests find it: the simulation, the fault suite and the checker.
//!
//! The rules of a task stand on one page (`task::rules`), and a bug is another set of them. Further below (log, state,
//! operators) a switch stands at the place of the rule that it breaks, with a comment that names the rule. An ordinary
//! build has none of them: [`bug`] is constantly false there. A build with the feature `seeded-bugs` takes one
//! from `FOREBAY_BUG`; tests of this crate choose one for their thread.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])* $bug:ident = $name:literal,)*) => {
        /// One broken rule. What each breaks is the rule of its place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])* $bug,)*
        }

        impl Bug {
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// As `FOREBAY_BUG` names it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    /// The overlay goes to the store, and to its disk, before the commit.
    ApplyBeforeCommit = "apply-before-commit",
    /// A commit of unknown outcome is taken for one that happened.
    ApplyIndefinite = "apply-indefinite",
    /// A commit of unknown outcome is taken for one that did not happen: abort, and go on with the same writer.
    ReuseWriter = "reuse-writer",
    /// A success during which a connection was lost is believed.
    BelieveTroubledCommit = "believe-troubled-commit",
    /// Output is committed in one transaction, the delta with the positions in the next.
    DeltaApart = "delta-apart",
    /// Positions go to the consumer group before the commit, and are read from there.
    PositionsFromGroup = "positions-from-group",
    /// The last offset read is kept for the next one.
    LastOffset = "last-offset",
    /// The changelog is read first, and the transactional id taken over afterwards.
    ReadBeforeTakeover = "read-before-takeover",
    /// After a takeover the local store is believed, and what stands behind it in the changelog not read.
    TakeoverWithoutReading = "takeover-without-reading",
    /// After a rest the transactional id is taken over again, and the changelog not read.
    ReopenWithoutReading = "reopen-without-reading",
    /// The changelog is read until a poll brings nothing.
    ReadToFirstEnd = "read-to-first-end",
    /// A local store counts where its epoch's number is in the chain, whatever the hash.
    TrustEpochNumber = "trust-epoch-number",
    /// A changelog that has lost its tail is gone on with.
    IgnoreLostTail = "ignore-lost-tail",
    /// A changelog that ends before an epoch which was noted as committed is gone on with.
    IgnoreNote = "ignore-note",
    /// A delta whose last chunks are missing counts as one.
    AcceptTornDelta = "accept-torn-delta",
    /// Of a delta of several chunks the changes of the last are not applied.
    ApplyDeltaInPart = "apply-delta-in-part",
    /// A task without a header starts over.
    StartWithoutHeader = "start-without-header",
    /// A task that has read nothing yet looks for its start again, and finds the end.
    ResolveStartTwice = "resolve-start-twice",
    /// An input that no longer holds the position is read from its first offset.
    ResetToEarliest = "reset-to-earliest",
    /// A topic that was made again under its name is read as if it were the old one.
    IgnoreTopicId = "ignore-topic-id",
    /// An input that was cut back by an election, and has grown anew, is read on.
    IgnoreLeaderEpoch = "ignore-leader-epoch",
    /// A takeover commits no claim.
    SkipClaim = "skip-claim",
    /// Event time starts from nothing after a recovery.
    ForgetWatermark = "forget-watermark",
    /// A reset of event time is made again after each takeover.
    RepeatReset = "repeat-reset",
    /// Timers are in no delta.
    ForgetTimers = "forget-timers",
    /// A guest call that failed leaves its state writes behind.
    KeepFailedState = "keep-failed-state",
    /// A guest call that failed leaves what it emitted behind.
    KeepFailedOutput = "keep-failed-output",
    /// With the first part of a batch that is taken apart the position moves behind all of it.
    CountWholeBatch = "count-whole-batch",
    /// Positions move to where the reader stands while a batch is taken apart.
    SkipGapsInBatch = "skip-gaps-in-batch",
    /// What stands behind the record that a batch failed in is not processed.
    DropRestOfBatch = "drop-rest-of-batch",
    /// A batch is taken apart inside the transaction that was open.
    IsolateInTransaction = "isolate-in-transaction",
    /// The record whose output was refused is known by its offset alone, in whatever partition.
    CondemnByOffset = "condemn-by-offset",
    /// After a refused record the next session begins with steps as large as before.
    ForgetSmallerSteps = "forget-smaller-steps",
    /// A task whose module is at fault ends in place of being held.
    EndAtGuestFault = "end-at-guest-fault",
    /// A task that was held once is held again by every recovery.
    HoldForEver = "hold-for-ever",
    /// The watermark passes timers that are due.
    PassTimersBy = "pass-timers-by",
    /// A recovered task does not look at the target that it already had.
    DeafAfterRecovery = "deaf-after-recovery",
    /// What is on trial is switched to as if it were decided.
    CommitTrial = "commit-trial",
    /// No header names the module that migrates.
    ForgetMigrator = "forget-migrator",
}

/// Whether this build, as it was started, breaks the rule.
#[cfg(not(any(test, feature = "seeded-bugs")))]
#[inline(always)]
pub const fn bug(_: Bug) -> bool {
    false
}

#[cfg(any(test, feature = "seeded-bugs"))]
pub fn bug(bug: Bug) -> bool {
    seeded_bug() == Some(bug)
}

/// The rule that this build, as it was started, breaks.
#[cfg(any(test, feature = "seeded-bugs"))]
pub fn seeded_bug() -> Option<Bug> {
    chosen()
}

#[cfg(all(feature = "seeded-bugs", not(test)))]
fn chosen() -> Option<Bug> {
    static CHOSEN: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("FOREBAY_BUG").ok().filter(|name| !name.is_empty())?;
        let found = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
        match found {
            Some(bug) => eprintln!("this build breaks a rule on purpose: {name}: {bug:?}"),
            None => {
                let known: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
                eprintln!("FOREBAY_BUG: {name} is none of the seeded bugs: {}", known.join(", "));
                std::process::exit(2);
            }
        }
        found
    })
}

#[cfg(test)]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
fn chosen() -> Option<Bug> {
    CHOSEN.get()
}

/// Runs `test` with a broken rule, in this thread only.
#[cfg(test)]
pub fn with_bug<T>(bug: Option<Bug>, test: impl FnOnce() -> T) -> T {
    struct Restore(Option<Bug>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    let _restore = Restore(CHOSEN.replace(bug));
    test()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_seeded_in_its_thread_and_for_its_time_only() {
        with_bug(Some(Bug::SkipClaim), || {
            assert!(bug(Bug::SkipClaim) && !bug(Bug::LastOffset));
            std::thread::scope(|scope| scope.spawn(|| assert!(!bug(Bug::SkipClaim))).join().unwrap());
        });
        assert!(Bug::ALL.iter().all(|&each| !bug(each)));
    }

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        let mut names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Bug::ALL.len());
    }
}
