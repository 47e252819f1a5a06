//! The harms, one function each: it does its rounds to a job that has input, and returns when the job writes again.
//!
//! Whether anything was lost or doubled is not asked here: that is the checker's part, when the input has ended.

pub mod brokers;
pub mod damage;
pub mod failpoints;
pub mod kills;
pub mod network;
pub mod operators;
pub mod refusals;
pub mod stops;
pub mod swaps;
pub mod transactions;
pub mod zombies;

use std::time::Duration;

use crate::bed::Bed;
use crate::judge::Guest;

/// A kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    KillAtRandom,
    KillAtFailpoints,
    KillInSwap,
    Zombie,
    SlowTakeover,
    BrokerKill,
    BrokerPause,
    ConnectionsCut,
    ConnectionsSlow,
    ConnectionsHalfOpen,
    CoordinatorAway,
    GroupsAway,
    TransactionTimeout,
    EndsSwallowed,
    ProduceHeld,
    EndLate,
    EndUnanswered,
    AnswersLost,
    GroupOffsets,
    StoreWiped,
    StoreOlder,
    KilledBeforeInput,
    SwapUnderFaults,
    OutputRefused,
    OutputTooLarge,
    OutputRetentionCut,
    InputTruncated,
    InputTruncatedLive,
    InputMadeAgain,
    ChangelogEmptied,
    ChangelogTailLost,
    ChangelogCut,
    ChangelogCutAfterKill,
    ChangelogMadeAgain,
    ChangelogDeleted,
    ChangelogDeletedLive,
    ControlDeleted,
}

impl Scenario {
    pub const ALL: [Scenario; 37] = [
        Scenario::KillAtRandom,
        Scenario::KillAtFailpoints,
        Scenario::KillInSwap,
        Scenario::Zombie,
        Scenario::SlowTakeover,
        Scenario::BrokerKill,
        Scenario::BrokerPause,
        Scenario::ConnectionsCut,
        Scenario::ConnectionsSlow,
        Scenario::ConnectionsHalfOpen,
        Scenario::CoordinatorAway,
        Scenario::GroupsAway,
        Scenario::TransactionTimeout,
        Scenario::EndsSwallowed,
        Scenario::ProduceHeld,
        Scenario::EndLate,
        Scenario::EndUnanswered,
        Scenario::AnswersLost,
        Scenario::GroupOffsets,
        Scenario::StoreWiped,
        Scenario::StoreOlder,
        Scenario::KilledBeforeInput,
        Scenario::SwapUnderFaults,
        Scenario::OutputRefused,
        Scenario::OutputTooLarge,
        Scenario::OutputRetentionCut,
        Scenario::InputTruncated,
        Scenario::InputTruncatedLive,
        Scenario::InputMadeAgain,
        Scenario::ChangelogEmptied,
        Scenario::ChangelogTailLost,
        Scenario::ChangelogCut,
        Scenario::ChangelogCutAfterKill,
        Scenario::ChangelogMadeAgain,
        Scenario::ChangelogDeleted,
        Scenario::ChangelogDeletedLive,
        Scenario::ControlDeleted,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Scenario::KillAtRandom => "kill-at-random",
            Scenario::KillAtFailpoints => "kill-at-failpoints",
            Scenario::KillInSwap => "kill-in-swap",
            Scenario::Zombie => "zombie",
            Scenario::SlowTakeover => "slow-takeover",
            Scenario::BrokerKill => "broker-kill",
            Scenario::BrokerPause => "broker-pause",
            Scenario::ConnectionsCut => "connections-cut",
            Scenario::ConnectionsSlow => "connections-slow",
            Scenario::ConnectionsHalfOpen => "connections-half-open",
            Scenario::CoordinatorAway => "coordinator-away",
            Scenario::GroupsAway => "groups-away",
            Scenario::TransactionTimeout => "transaction-timeout",
            Scenario::EndsSwallowed => "ends-swallowed",
            Scenario::ProduceHeld => "produce-held",
            Scenario::EndLate => "end-late",
            Scenario::EndUnanswered => "end-unanswered",
            Scenario::AnswersLost => "answers-lost",
            Scenario::GroupOffsets => "group-offsets",
            Scenario::StoreWiped => "store-wiped",
            Scenario::StoreOlder => "store-older",
            Scenario::KilledBeforeInput => "killed-before-input",
            Scenario::SwapUnderFaults => "swap-under-faults",
            Scenario::OutputRefused => "output-refused",
            Scenario::OutputTooLarge => "output-too-large",
            Scenario::OutputRetentionCut => "output-retention-cut",
            Scenario::InputTruncated => "input-truncated",
            Scenario::InputTruncatedLive => "input-truncated-live",
            Scenario::InputMadeAgain => "input-made-again",
            Scenario::ChangelogEmptied => "changelog-emptied",
            Scenario::ChangelogTailLost => "changelog-tail-lost",
            Scenario::ChangelogCut => "changelog-cut",
            Scenario::ChangelogCutAfterKill => "changelog-cut-after-kill",
            Scenario::ChangelogMadeAgain => "changelog-made-again",
            Scenario::ChangelogDeleted => "changelog-deleted",
            Scenario::ChangelogDeletedLive => "changelog-deleted-live",
            Scenario::ControlDeleted => "control-deleted",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Scenario::KillAtRandom => "kill -9 at a random moment",
            Scenario::KillAtFailpoints => {
                "kill -9 at each named place of the record's way, of recovery and of a job's life"
            }
            Scenario::KillInSwap => "kill -9 at each named place of a swap",
            Scenario::Zombie => "SIGSTOP, takeover by a second process, SIGCONT: the first must give way and say so",
            Scenario::SlowTakeover => "a second process that reads early and takes over late, while the first goes on",
            Scenario::BrokerKill => "kill -9 of the broker, and start it again",
            Scenario::BrokerPause => {
                "SIGSTOP of the broker for seconds, under several jobs of several tasks; SIGTERM of the server meanwhile"
            }
            Scenario::ConnectionsCut => "all connections cut, several times in a row",
            Scenario::ConnectionsSlow => "20 to 200 ms more each way, and cuts meanwhile",
            Scenario::ConnectionsHalfOpen => "connections that take everything and say nothing",
            Scenario::CoordinatorAway => "no answer from the transaction coordinator, all else well",
            Scenario::GroupsAway => "nobody says who coordinates the job's group, until nobody waits for it any more",
            Scenario::TransactionTimeout => "the process stands still for longer than a transaction may take",
            Scenario::EndsSwallowed => "no request to end a transaction arrives until the cluster has given it up",
            Scenario::ProduceHeld => "records held back for longer than a transaction may take, then let go",
            Scenario::EndLate => "the end of a transaction arrives after its retry, inside a later one",
            Scenario::EndUnanswered => "the answer to the end of a transaction is lost with its connection",
            Scenario::AnswersLost => "the same for every other request of a transaction",
            Scenario::GroupOffsets => "the group's offsets reset, then the group deleted: must not matter",
            Scenario::StoreWiped => "the local store gone",
            Scenario::StoreOlder => "the local store replaced by an older copy of itself",
            Scenario::KilledBeforeInput => "kill -9 before the first record, which comes while nobody reads",
            Scenario::SwapUnderFaults => "a swap or roll-back while a fault is done, one fault after the other",
            Scenario::OutputRefused => "the output topic takes less than the task knows: dead letters, nothing else",
            Scenario::OutputTooLarge => {
                "output that is too large for its topic, as the task knows: dead letters, nothing else"
            }
            Scenario::OutputRetentionCut => {
                "the retention of the output cut while the job runs: noticed, and old output becomes dead letters"
            }
            Scenario::InputTruncated => "input gone by retention before it was read: a clear stop",
            Scenario::InputTruncatedLive => "the same to a process that stands still meanwhile",
            Scenario::InputMadeAgain => "the input deleted and made again under its name: a clear stop",
            Scenario::ChangelogEmptied => "the changelog emptied and the local store gone: a clear stop",
            Scenario::ChangelogTailLost => "the end of the changelog gone, the local store kept: a clear stop",
            Scenario::ChangelogCut => "the last epochs cut from the changelog on the broker's disk: a clear stop",
            Scenario::ChangelogCutAfterKill => {
                "the same after kill -9, where the local store lies behind what was cut: a clear stop"
            }
            Scenario::ChangelogMadeAgain => "the changelog deleted and made again: a clear stop",
            Scenario::ChangelogDeleted => {
                "the changelog deleted while the server is down: a clear stop, and no empty one"
            }
            Scenario::ChangelogDeletedLive => "the changelog deleted while the job writes to it: a clear stop",
            Scenario::ControlDeleted => {
                "the control topic deleted under a server: it says so, and does not start without it"
            }
        }
    }

    /// The harm is done before the job has had any input.
    pub fn comes_first(self) -> bool {
        self == Scenario::KilledBeforeInput
    }

    /// It takes brokers away, and tells nothing where a partition has only one: Kafka 4.3.1 takes a transaction for complete
    /// without a marker in partitions that nobody leads at that moment (`docs/kafka.md`).
    pub fn needs_replicas(self) -> bool {
        matches!(self, Scenario::BrokerKill | Scenario::SwapUnderFaults)
    }

    /// It shows other things on one broker than on several.
    pub fn wants_both(self) -> bool {
        self == Scenario::BrokerPause
    }

    /// The job must stop and say why, in place of going on.
    pub fn stops(self) -> bool {
        matches!(
            self,
            Scenario::InputTruncated
                | Scenario::InputTruncatedLive
                | Scenario::InputMadeAgain
                | Scenario::ChangelogEmptied
                | Scenario::ChangelogTailLost
                | Scenario::ChangelogCut
                | Scenario::ChangelogCutAfterKill
                | Scenario::ChangelogMadeAgain
                | Scenario::ChangelogDeleted
                | Scenario::ChangelogDeletedLive
                | Scenario::ControlDeleted
        )
    }

    /// The guest whose job it needs.
    pub fn guest(self) -> Guest {
        match self {
            Scenario::KillInSwap | Scenario::SwapUnderFaults => Guest::Counter,
            _ => Guest::Checked,
        }
    }

    /// Does the rounds. Answers how long each kept the job from new output.
    ///
    /// # Errors
    /// The job did not come back, or not as it should.
    pub async fn run(self, bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
        match self {
            Scenario::KillAtRandom => kills::at_random(bed, rounds).await,
            Scenario::KillAtFailpoints => failpoints::everywhere(bed, rounds).await,
            Scenario::KillInSwap => failpoints::in_swap(bed, rounds).await,
            Scenario::Zombie => zombies::take_turns(bed, rounds).await,
            Scenario::SlowTakeover => zombies::slow_takeover(bed, rounds).await,
            Scenario::BrokerKill => brokers::kill(bed, rounds).await,
            Scenario::BrokerPause => brokers::pause(bed, rounds).await,
            Scenario::ConnectionsCut => network::cut(bed, rounds).await,
            Scenario::ConnectionsSlow => network::slow(bed, rounds).await,
            Scenario::ConnectionsHalfOpen => network::half_open(bed, rounds).await,
            Scenario::CoordinatorAway => network::coordinator_away(bed, rounds).await,
            Scenario::GroupsAway => network::groups_away(bed, rounds).await,
            Scenario::TransactionTimeout => transactions::time_out(bed, rounds).await,
            Scenario::EndsSwallowed => transactions::ends_swallowed(bed, rounds).await,
            Scenario::ProduceHeld => transactions::produce_held(bed, rounds).await,
            Scenario::EndLate => transactions::end_late(bed, rounds).await,
            Scenario::EndUnanswered => transactions::end_unanswered(bed, rounds).await,
            Scenario::AnswersLost => transactions::answers_lost(bed, rounds).await,
            Scenario::GroupOffsets => operators::group_offsets(bed, rounds).await,
            Scenario::StoreWiped => damage::store_wiped(bed, rounds).await,
            Scenario::StoreOlder => damage::store_older(bed, rounds).await,
            Scenario::KilledBeforeInput => kills::before_input(bed).await,
            Scenario::SwapUnderFaults => swaps::under_faults(bed, rounds).await,
            Scenario::OutputRefused => refusals::output_refused(bed, rounds).await,
            Scenario::OutputTooLarge => refusals::output_too_large(bed, rounds).await,
            Scenario::OutputRetentionCut => refusals::output_retention_cut(bed).await,
            // Once: the job has ended then.
            Scenario::InputTruncated => stops::input_truncated(bed).await,
            Scenario::InputTruncatedLive => stops::input_truncated_live(bed).await,
            Scenario::InputMadeAgain => stops::input_made_again(bed).await,
            Scenario::ChangelogEmptied => stops::changelog_emptied(bed).await,
            Scenario::ChangelogTailLost => stops::changelog_tail_lost(bed).await,
            Scenario::ChangelogCut => stops::changelog_cut(bed).await,
            Scenario::ChangelogCutAfterKill => stops::changelog_cut_after_kill(bed).await,
            Scenario::ChangelogMadeAgain => stops::changelog_made_again(bed).await,
            Scenario::ChangelogDeleted => stops::changelog_deleted(bed).await,
            Scenario::ChangelogDeletedLive => stops::changelog_deleted_live(bed).await,
            Scenario::ControlDeleted => stops::control_deleted(bed).await,
        }
    }
}
