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
        let quick = match scenario {
            Scenario::KillAtRandom => 6,
            Scenario::KillAtFailpoints | Scenario::KillInSwap | Scenario::SwapUnderFaults => 1,
            _ => 2,
        };
        match self {
            Tier::Quick => quick,
            Tier::Nightly => 4 * quick,
            Tier::Release => 20 * quick,
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
    let begun = Instant::now();
    let mut bed = Bed::new(ground, scenario.name(), Settings::of(scenario.guest(), seed)).await?;
    bed.watched_by(progress);
    bed.start_feed()?;
    bed.goes_on().await?;
    let recoveries = scenario.run(&mut bed, rounds).await?;
    let verdict = bed.judge(false).await?;
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
