//! What is done in the place of a rule that is broken on purpose; see [`crate::env::Bug`]. Not in any build that is used.

/// What a takeover does that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum WrongAct {
    /// Puts the consumer group's positions in place of the header's.
    PositionsFromGroup,
    /// Looks for the start again where nothing was read yet, and finds the end.
    ResolveStartAgain,
}

/// What a commit does that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum WrongStep {
    /// Commits the output in a transaction of its own.
    CommitOutputAlone,
    /// Brings the overlay to the store, and to its disk, ahead of the commit.
    ApplyEarly,
    /// Gives the consumer group the positions of the open epoch.
    MirrorEarly,
}

/// What a commit of unknown outcome is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::task) enum WrongDoubt {
    Happened,
    DidNotHappen,
}
