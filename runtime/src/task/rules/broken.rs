//! Sets of rules with one broken on purpose; see [`crate::env::Bug`]. Not in any build that is used.

use super::protocol::{Act, InDoubt, PROTOCOL, Rules, Step};
use super::wrong::{WrongAct, WrongDoubt, WrongStep};
use crate::env::{Bug, seeded_bug};

/// The rules of this build, as it was started.
pub(in crate::task) fn rules() -> Rules {
    let rules = PROTOCOL;
    let Some(bug) = seeded_bug() else { return rules };
    match bug {
        Bug::ApplyBeforeCommit => Rules {
            commit: &[
                Step::AppendDelta,
                Step::Wrong(WrongStep::ApplyEarly),
                Step::SettleElsewhere,
                Step::Commit,
                Step::Apply,
            ],
            ..rules
        },
        Bug::DeltaApart => Rules {
            commit: &[
                Step::Wrong(WrongStep::CommitOutputAlone),
                Step::AppendDelta,
                Step::SettleElsewhere,
                Step::Commit,
                Step::Apply,
            ],
            ..rules
        },
        Bug::PositionsFromGroup => Rules {
            takeover: &[Act::Fence, Act::Restore, Act::Wrong(WrongAct::PositionsFromGroup)],
            commit: &[
                Step::AppendDelta,
                Step::Wrong(WrongStep::MirrorEarly),
                Step::SettleElsewhere,
                Step::Commit,
                Step::Apply,
            ],
            ..rules
        },
        Bug::ApplyIndefinite => Rules { in_doubt: InDoubt::Wrong(WrongDoubt::Happened), ..rules },
        Bug::ReuseWriter => Rules { in_doubt: InDoubt::Wrong(WrongDoubt::DidNotHappen), ..rules },
        Bug::ReadBeforeTakeover => Rules { takeover: &[Act::Restore, Act::Fence], ..rules },
        Bug::ResolveStartTwice => {
            Rules { takeover: &[Act::Fence, Act::Restore, Act::Wrong(WrongAct::ResolveStartAgain)], ..rules }
        }
        Bug::TakeoverWithoutReading => Rules { tail_is_replayed: false, ..rules },
        Bug::ReopenWithoutReading => Rules { rest_is_followed_by_reading: false, ..rules },
        Bug::ReadToFirstEnd => Rules { changelog_is_read_to_its_end: false, ..rules },
        Bug::TrustEpochNumber => Rules { store_is_known_by_hash: false, ..rules },
        Bug::IgnoreLostTail => Rules { lost_tail_is_a_stop: false, note_is_believed: false, ..rules },
        Bug::IgnoreNote => Rules { note_is_believed: false, ..rules },
        Bug::StartWithoutHeader => Rules { no_header_is_a_stop: false, ..rules },
        Bug::SkipClaim => Rules { takeover_is_claimed: false, ..rules },
        Bug::LastOffset => Rules { position_is_the_next_offset: false, ..rules },
        Bug::IgnoreTopicId => Rules { topics_are_known_by_id: false, ..rules },
        Bug::ResetToEarliest => Rules { positions_are_kept: false, ..rules },
        Bug::IgnoreLeaderEpoch => Rules { leader_epoch_is_told: false, ..rules },
        Bug::CountWholeBatch => Rules { only_what_was_processed_counts: false, ..rules },
        Bug::SkipGapsInBatch => Rules { gaps_wait_for_the_batch: false, ..rules },
        Bug::KeepFailedOutput => Rules { failed_batches_emit_nothing: false, ..rules },
        Bug::DropRestOfBatch => Rules { every_part_is_processed: false, ..rules },
        Bug::IsolateInTransaction => Rules { isolation_is_outside_transactions: false, ..rules },
        Bug::CondemnByOffset => Rules { refused_record_is_known_by_place: false, ..rules },
        Bug::ForgetSmallerSteps => Rules { smaller_steps_are_remembered: false, ..rules },
        Bug::EndAtGuestFault => Rules { faulty_code_is_held: false, ..rules },
        Bug::HoldForEver => Rules { hold_ends_with_its_modules: false, ..rules },
        Bug::PassTimersBy => Rules { time_waits_for_timers: false, ..rules },
        Bug::ForgetWatermark => Rules { watermarks_are_restored: false, ..rules },
        Bug::RepeatReset => Rules { resets_are_made_once: false, ..rules },
        Bug::DeafAfterRecovery => Rules { recovered_tasks_look_at_their_target: false, ..rules },
        Bug::CommitTrial => Rules { trials_commit_nothing: false, ..rules },
        Bug::ForgetMigrator => Rules { headers_name_migrators: false, ..rules },
        // Broken further below, in the log, the state or the operators.
        Bug::BelieveTroubledCommit
        | Bug::AcceptTornDelta
        | Bug::ApplyDeltaInPart
        | Bug::ForgetTimers
        | Bug::KeepFailedState => rules,
    }
}
