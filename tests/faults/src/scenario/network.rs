//! What networks do between the server and its brokers. The server lives through it all.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::bed::Bed;
use crate::proxy::{Api, Deed, Flow, Rule, Way};

/// # Errors
/// The job does not come back.
pub async fn cut(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        for _ in 0..=bed.random.below(3) {
            bed.linger(150).await;
            bed.ground.cut();
        }
        recoveries.push(after(bed).await?);
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
        recoveries.push(after(bed).await?);
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
        recoveries.push(after(bed).await?);
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
        recoveries.push(after(bed).await?);
    }
    Ok(recoveries)
}

async fn after(bed: &mut Bed<'_>) -> Result<Duration, String> {
    let mark = bed.watch.mark(Instant::now())?;
    let recovery = bed.new_output(&mark).await?;
    bed.running().await?;
    bed.tick();
    Ok(recovery)
}
