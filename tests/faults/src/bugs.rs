//! The checker put to the proof: a build of the real binary that breaks one rule on purpose, under the harm that shows
//! it, must be found out.
//!
//! Owns which harm shows which bug. The bugs themselves are the runtime's (`runtime/src/env/bugs.rs`); what finds them
//! here knows nothing of it: the checker reads topics.

use crate::bed::Settings;
use crate::course;
use crate::ground::Ground;
use crate::judge::Verdict;
use crate::scenario::Scenario;

/// Malformed records per thousand: some bugs show only in what a call leaves behind that failed.
const POISON: u32 = 50;

/// Short, so that a transaction whose end does not arrive is aborted within a round.
const TRANSACTION_TIMEOUT_MS: u64 = 2_000;

/// Whoever loses records waits for them in vain: not for long.
const VERIFY_S: u64 = 20;
const ATTEMPTS: u64 = 5;

/// A bug by its name, the harm, and how many rounds of it show it.
pub struct Trial {
    pub bug: &'static str,
    pub scenario: Scenario,
    pub rounds: u32,
}

const fn trial(bug: &'static str, scenario: Scenario, rounds: u32) -> Trial {
    Trial { bug, scenario, rounds }
}

pub const TRIALS: &[Trial] = &[
    trial("last-offset", Scenario::KillAtRandom, 2),
    trial("apply-before-commit", Scenario::KillAtFailpoints, 1),
    trial("start-without-header", Scenario::ChangelogEmptied, 1),
    trial("delta-apart", Scenario::KillAtFailpoints, 3),
    trial("positions-from-group", Scenario::GroupOffsets, 2),
    trial("forget-watermark", Scenario::KillAtRandom, 3),
    trial("forget-timers", Scenario::StoreWiped, 2),
    trial("resolve-start-twice", Scenario::KilledBeforeInput, 1),
    trial("takeover-without-reading", Scenario::StoreOlder, 2),
    trial("read-before-takeover", Scenario::SlowTakeover, 1),
    trial("apply-indefinite", Scenario::EndsSwallowed, 1),
    trial("keep-failed-state", Scenario::OutputTooLarge, 1),
    trial("keep-failed-output", Scenario::OutputTooLarge, 1),
    trial("ignore-lost-tail", Scenario::ChangelogCut, 1),
    trial("ignore-note", Scenario::ChangelogCutAfterKill, 1),
];

/// How a broken build showed itself.
pub enum Outcome {
    /// The checker found this wrong, at the last of so many attempts.
    Caught { verdict: Verdict, attempts: u64 },
    /// The job did not come back, or the program's own checks stopped it: no output that could be judged.
    Stopped(String),
    /// Nothing was found.
    Missed,
}

/// Runs one broken build, with one seed after the other: a harm may miss the moment that shows a bug.
pub async fn put_to_trial(ground: &Ground, trial: &Trial, seed: u64) -> Outcome {
    let mut outcome = Outcome::Missed;
    for attempt in 0..ATTEMPTS {
        outcome = attempt_at(ground, trial, seed + attempt, attempt).await;
        if matches!(outcome, Outcome::Caught { .. }) {
            break;
        }
    }
    outcome
}

async fn attempt_at(ground: &Ground, trial: &Trial, seed: u64, attempt: u64) -> Outcome {
    let settings = Settings {
        bug: Some(trial.bug.to_owned()),
        poison: POISON,
        transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
        verify_s: VERIFY_S,
        ..Settings::of(trial.scenario.guest(), seed)
    };
    let name = format!("{}-{}-{attempt}", trial.bug, trial.scenario.name());
    match course::run_with(ground, &name, trial.scenario, trial.rounds, settings, |_| {}).await {
        Ok(report) if report.verdict.is_good => Outcome::Missed,
        Ok(report) => Outcome::Caught { verdict: report.verdict, attempts: attempt + 1 },
        Err(why) => Outcome::Stopped(why),
    }
}
