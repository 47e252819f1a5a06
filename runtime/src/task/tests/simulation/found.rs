//! Seeds that have found something: they are run before all others, and stay.

use crate::env::Bug;

/// Where the runtime was wrong, before it was put right.
pub const FAULTS: &[(u64, &str)] = &[
    (3, "a clock that was set back showed operators a time before one that they had been shown"),
    (7, "an epoch whose output the log refused was tried for ever where a timer had fired in it"),
    (59, "records at one offset of two partitions were taken for each other, and the task stopped"),
];

/// A seed that finds each seeded bug.
pub const BUGS: &[(Bug, u64)] = &[
    (Bug::ApplyBeforeCommit, 0),
    (Bug::ApplyIndefinite, 0),
    (Bug::ReuseWriter, 0),
    (Bug::DeltaApart, 1),
    (Bug::PositionsFromGroup, 0),
    (Bug::LastOffset, 1),
    (Bug::ReadBeforeTakeover, 0),
    (Bug::TakeoverWithoutReading, 1),
    (Bug::ReopenWithoutReading, 26),
    (Bug::ReadToFirstEnd, 0),
    (Bug::TrustEpochNumber, 5),
    (Bug::IgnoreLostTail, 12),
    (Bug::IgnoreNote, 32),
    (Bug::AcceptTornDelta, 12),
    (Bug::ApplyDeltaInPart, 0),
    (Bug::StartWithoutHeader, 66),
    (Bug::ResolveStartTwice, 0),
    (Bug::ResetToEarliest, 38),
    (Bug::IgnoreTopicId, 48),
    (Bug::IgnoreLeaderEpoch, 213),
    (Bug::SkipClaim, 0),
    (Bug::ForgetWatermark, 0),
    (Bug::RepeatReset, 4),
    (Bug::ForgetTimers, 0),
    (Bug::KeepFailedState, 1),
    (Bug::KeepFailedOutput, 2),
    (Bug::CountWholeBatch, 0),
    (Bug::SkipGapsInBatch, 25),
    (Bug::DropRestOfBatch, 2),
    (Bug::IsolateInTransaction, 2),
    (Bug::CondemnByOffset, 24),
    (Bug::ForgetSmallerSteps, 0),
    (Bug::EndAtGuestFault, 0),
    (Bug::HoldForEver, 19),
    (Bug::PassTimersBy, 0),
    (Bug::DeafAfterRecovery, 0),
    (Bug::CommitTrial, 14),
    (Bug::ForgetMigrator, 0),
];

/// Rules that only a real cluster and its client can break.
pub const NOT_HERE: &[Bug] = &[Bug::BelieveTroubledCommit];
