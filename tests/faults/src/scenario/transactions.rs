//! Harm that is aimed at single steps of a transaction.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE};
use crate::proxy::{Api, Deed, Proxy, Rule, Trap, Way};

/// How often the cluster looks for transactions that take too long; the cluster of the tests is told so.
const SWEEP: Duration = Duration::from_millis(1_000);

/// The process stands still for longer than its transactions may take: the cluster ends them, and the process, which
/// nobody has taken over, must notice, take over anew and go on.
///
/// # Errors
/// The job does not come back.
pub async fn time_out(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        bed.linger(300).await;
        bed.server.pause()?;
        // sleep: longer than a transaction may be open
        sleep(timeout(bed) + SWEEP + SWEEP / 2).await;
        bed.server.resume()?;
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// Records of an open transaction are on the way for longer than it may take, and then arrive all the same.
///
/// # Errors
/// Nothing was held, or the job does not come back.
pub async fn produce_held(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        let traps = trap(bed, &Rule::once(Api::PRODUCE, Way::Request, Deed::Hold).naming("forebay."));
        let held = caught(&traps).await?;
        // sleep: longer than a transaction may be open
        sleep(timeout(bed) + SWEEP + SWEEP / 2).await;
        traps[held].release();
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// A request to end a transaction is held until the job, whose request timed out, has long written on; then it
/// arrives. It must end nothing that it was not meant for.
///
/// # Errors
/// Nothing was held, or the job does not come back.
pub async fn end_late(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        let traps = trap(bed, &Rule::once(Api::END_TXN, Way::Request, Deed::Hold).naming("forebay."));
        let held = caught(&traps).await?;
        let ended = bed.ground.proxies[held].seen(Api::END_TXN);
        let at = Instant::now();
        // The other task may hold its own course meanwhile: its ends are not the retry, but many are enough.
        let many = 10 + bed.random.below(10);
        while bed.ground.proxies.iter().map(|proxy| proxy.seen(Api::END_TXN)).sum::<u64>() < ended + many {
            if at.elapsed() > PATIENCE {
                return Err(bed.server.complaint("no transaction ends while one request is held"));
            }
            // sleep: polls a counter; the release is meant to fall anywhere in a later transaction
            sleep(Duration::from_millis(5)).await;
        }
        bed.linger(100).await;
        traps[held].release();
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// No request to end a transaction arrives, until the cluster has given it up: what was written is aborted, whatever the
/// job may think of it.
///
/// # Errors
/// Nothing was lost, or the job does not come back.
pub async fn ends_swallowed(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        bed.linger(150).await;
        let traps = trap(bed, &Rule::always(Api::END_TXN, Way::Request, Deed::Swallow).naming("forebay."));
        caught(&traps).await?;
        // sleep: longer than a transaction may be open
        sleep(timeout(bed) + SWEEP + SWEEP / 2).await;
        drop(traps);
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

/// # Errors
/// Nothing was lost, or the job does not come back.
pub async fn end_unanswered(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    lose_answers(bed, rounds, &[Api::END_TXN]).await
}

/// # Errors
/// Nothing was lost, or the job does not come back.
pub async fn answers_lost(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let asked = [Api::PRODUCE, Api::ADD_PARTITIONS_TO_TXN, Api::FETCH, Api::LIST_OFFSETS, Api::INIT_PRODUCER_ID];
    lose_answers(bed, rounds, &asked).await
}

async fn lose_answers(bed: &mut Bed<'_>, rounds: u32, asked: &[Api]) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for round in 0..rounds {
        bed.linger(150).await;
        let api = asked[round as usize % asked.len()];
        let traps = trap(bed, &Rule::once(api, Way::Answer, Deed::SwallowAndCut));
        if [Api::INIT_PRODUCER_ID, Api::LIST_OFFSETS].contains(&api) {
            // Only a takeover asks for these.
            bed.ground.cut();
        }
        caught(&traps).await?;
        drop(traps);
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}

fn timeout(bed: &Bed<'_>) -> Duration {
    Duration::from_millis(bed.settings.transaction_timeout_ms)
}

/// The same trap before every node.
pub(super) fn trap(bed: &Bed<'_>, rule: &Rule) -> Vec<Trap> {
    let set = |proxy: &Proxy| proxy.trap(rule.clone());
    bed.ground.proxies.iter().map(set).collect()
}

/// Which trap has caught something first.
pub(super) async fn caught(traps: &[Trap]) -> Result<usize, String> {
    let begun = Instant::now();
    loop {
        for (at, trap) in traps.iter().enumerate() {
            if trap.wait(1, Duration::from_millis(20)).await {
                return Ok(at);
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err("wait for a request that a trap was set for: none came".to_owned());
        }
    }
}
