//! Which harms are done how often, and what came of them.
//!
//! Every scenario has a job, an input and a verdict of its own, on one cluster.

use std::time::{Duration, Instant};

use crate::bed::{Bed, Settings};
use crate::ground::Ground;
use crate::judge::Verdict;
use crate::scenario::Scenario;

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// For every change: minutes.
    Quick,
    Nightly,
    Release,
}

/// What one scenario came to.
pub struct Report {
    pub scenario: Scenario,
    pub rounds: u32,
    pub recoveries: Vec<Duration>,
    pub verdict: Verdict,
    pub took: Duration,
}

impl Tier {
    pub fn rounds(self, scenario: Scenario) -> u32 {
        let [quick, nightly, release] = match scenario {
            _ if scenario.stops() || scenario.comes_first() => [1, 1, 1],
            Scenario::OutputRetentionCut => [1, 1, 1],
            Scenario::KillAtRandom => [6, 60, 500],
            Scenario::Zombie => [2, 10, 50],
            // Every place: once, and twice.
            Scenario::KillAtFailpoints => [20, 37, 74],
            Scenario::KillInSwap => [2, 8, 16],
            Scenario::SwapUnderFaults => [1, 4, 12],
            _ => [2, 8, 20],
        };
        match self {
            Tier::Quick => quick,
            Tier::Nightly => nightly,
            Tier::Release => release,
        }
    }
}

/// Does one kind of harm to a job of its own, and has the checker judge it.
///
/// # Errors
/// The job could not be started, or did not come back; not that the verdict is bad.
pub async fn run(
    ground: &Ground,
    scenario: Scenario,
    rounds: u32,
    seed: u64,
    progress: fn(&str),
) -> Result<Report, String> {
    let mut settings = Settings::of(scenario.guest(), seed);
    if matches!(scenario, Scenario::OutputRefused | Scenario::OutputRetentionCut) {
        // It counts dead letters: there are to be no others.
        settings.poison = 0;
    }
    if scenario == Scenario::BrokerPause {
        // One task for each partition.
        settings.parallelism = settings.partitions;
    }
    run_with(ground, scenario.name(), scenario, rounds, settings, progress).await
}

/// The same under another name and other settings.
///
/// # Errors
/// As `run`.
pub async fn run_with(
    ground: &Ground,
    name: &str,
    scenario: Scenario,
    rounds: u32,
    settings: Settings,
    progress: fn(&str),
) -> Result<Report, String> {
    let begun = Instant::now();
    let mut bed = Bed::new(ground, name, settings).await?;
    bed.watched_by(progress);
    if !scenario.comes_first() {
        bed.start_feed()?;
        bed.goes_on().await?;
    }
    let harmed = scenario.run(&mut bed, rounds).await;
    // A broken build may go on where it must stop: its output is judged then like any other.
    let goes_on = scenario.stops() && harmed.is_err() && bed.settings.bug.is_some();
    let recoveries = if goes_on { Vec::new() } else { harmed? };
    let verdict = if scenario.stops() && !goes_on {
        bed.stop_feed().await?;
        Verdict { is_good: true, inputs: bed.fed(), ..Verdict::default() }
    } else {
        bed.judge(false).await?
    };
    Ok(Report { scenario, rounds, recoveries, verdict, took: begun.elapsed() })
}

impl Report {
    /// The recovery that this share of them did not exceed, milliseconds.
    pub fn recovery_ms(&self, quantile: f64) -> u128 {
        let mut sorted = self.recoveries.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * quantile).round() as usize).map_or(0, Duration::as_millis)
    }
}
