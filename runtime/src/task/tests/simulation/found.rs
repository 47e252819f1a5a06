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
    (Bug::ApplyIndefinite, 3),
    (Bug::ReuseWriter, 3),
    (Bug::DeltaApart, 1),
    (Bug::PositionsFromGroup, 1),
    (Bug::LastOffset, 1),
    (Bug::ReadBeforeTakeover, 3),
    (Bug::TakeoverWithoutReading, 1),
    (Bug::ReopenWithoutReading, 7),
    (Bug::ReadToFirstEnd, 0),
    (Bug::TrustEpochNumber, 34),
    (Bug::IgnoreLostTail, 91),
    (Bug::IgnoreNote, 0),
    (Bug::AcceptTornDelta, 3),
    (Bug::ApplyDeltaInPart, 0),
    (Bug::StartWithoutHeader, 27),
    (Bug::ResolveStartTwice, 0),
    (Bug::ResetToEarliest, 98),
    (Bug::IgnoreTopicId, 42),
    (Bug::IgnoreLeaderEpoch, 64),
    (Bug::SkipClaim, 0),
    (Bug::ForgetWatermark, 0),
    (Bug::RepeatReset, 4),
    (Bug::ForgetTimers, 4),
    (Bug::KeepFailedState, 0),
    (Bug::KeepFailedOutput, 2),
];

/// Rules that only a real cluster and its client can break.
pub const NOT_HERE: &[Bug] = &[Bug::BelieveTroubledCommit];
