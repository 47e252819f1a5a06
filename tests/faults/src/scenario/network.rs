//! What networks do between the server and its brokers. The server lives through it all.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::transactions::trap;
use crate::bed::{Bed, PATIENCE};
use crate::proxy::{Api, Deed, Flow, Rule, Way};

/// What a server says whose positions a group does not take, and takes again.
const NOT_SHOWN: &str = "positions are not shown";
const SHOWN_AGAIN: &str = "positions are shown as those of group";

/// # Errors
/// The job does not come back.
pub async fn cut(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        for _ in 0..=bed.random.below(3) {
            bed.linger(150).await;
            bed.ground.cut();
        }
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// # Errors
/// The job does not come back.
pub async fn slow(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for round in 0..rounds {
        let delay = Duration::from_millis(20 + bed.random.below(180));
        bed.ground.set_flow(Flow::Delayed(delay));
        bed.goes_on().await?;
        if round % 2 == 1 {
            bed.linger(500).await;
            bed.ground.cut();
            bed.goes_on().await?;
        }
        bed.ground.set_flow(Flow::Open);
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// # Errors
/// The job does not come back.
pub async fn half_open(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        bed.linger(300).await;
        bed.ground.set_flow(Flow::HalfOpen);
        // sleep: from a moment to longer than a request may take
        sleep(Duration::from_millis(200 + bed.random.below(3_000))).await;
        bed.ground.set_flow(Flow::Open);
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// The server reaches the leaders of its partitions and gets no answer from its coordinator.
///
/// # Errors
/// The job does not come back.
pub async fn coordinator_away(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let asked = [Api::FIND_COORDINATOR, Api::INIT_PRODUCER_ID, Api::ADD_PARTITIONS_TO_TXN, Api::END_TXN];
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        bed.linger(300).await;
        let traps: Vec<_> = bed
            .ground
            .proxies
            .iter()
            .flat_map(|proxy| asked.map(|api| proxy.trap(Rule::always(api, Way::Request, Deed::Swallow))))
            .collect();
        // sleep: until requests have timed out, or not quite
        sleep(Duration::from_millis(1_000 + bed.random.below(4_000))).await;
        drop(traps);
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// Nobody says who coordinates the job's group, for longer than its positions wait to be shown. When the answers come
/// again, nobody waits for them any more.
///
/// # Errors
/// It was not noticed, the job does not come back, or its positions are not shown again.
pub async fn groups_away(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let group = format!("forebay.{}", bed.name);
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        // A server that has never asked.
        bed.server.kill();
        let nobody = Rule::always(Api::FIND_COORDINATOR, Way::Request, Deed::Swallow);
        let exactly = [&[group.len() as u8], group.as_bytes()].concat();
        let exactly = String::from_utf8(exactly).map_err(|error| format!("name group {group}: {error}"))?;
        let traps = trap(bed, &nobody.naming(&exactly));
        let begun = bed.server.said().len();
        bed.come_back(Instant::now()).await?;
        says(bed, begun, NOT_SHOWN).await?;
        drop(traps);
        says(bed, begun, SHOWN_AGAIN).await?;
        // Whoever still asks is told at once.
        bed.ground.cut();
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// Waits until the server says something, behind what it had said before.
async fn says(bed: &mut Bed<'_>, before: usize, words: &str) -> Result<(), String> {
    let begun = Instant::now();
    while !bed.server.said().get(before..).is_some_and(|new| new.contains(words)) {
        if let Some(status) = bed.server.exited() {
            return Err(bed.server.complaint(&format!("it ended with {status}")));
        }
        if begun.elapsed() > PATIENCE {
            return Err(bed.server.complaint(&format!("wait for `{words}`: it is not said")));
        }
        // sleep: polls what a process says
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
