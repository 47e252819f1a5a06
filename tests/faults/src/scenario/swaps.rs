//! A swap, or the way back, while a fault is done.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::failpoints::{settled, version};
use crate::bed::{Bed, push};
use crate::proxy::{Api, Deed, Flow, Rule, Way};

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Cut,
    HalfOpen,
    EndUnanswered,
    Pause,
    BrokerPause,
    BrokerKill,
}

const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Cut,
    Fault::EndUnanswered,
    Fault::HalfOpen,
    Fault::BrokerKill,
    Fault::Pause,
    Fault::BrokerPause,
];

/// To and fro between two versions, one fault after the other.
///
/// # Errors
/// The job does not come back, or the swap hangs.
pub async fn under_faults(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    push(&bed.server.ready().await?, "counter-v2").await?;
    let mut recoveries = Vec::new();
    for round in 0..rounds {
        let fault = FAULTS[round as usize % FAULTS.len()];
        let next = if version(bed).await? == "1.0.0" { "counter@2.0.0" } else { "counter@1.0.0" };
        let client = bed.server.client()?;
        let (name, to) = (bed.name.clone(), next.to_owned());
        // Whether it happens is open: that it is whole or not at all is what counts.
        let swapping = tokio::spawn(async move { client.swap(&name, "op", &to).await });
        bed.linger(120).await;
        recoveries.push(strike(bed, fault).await.map_err(|why| format!("{fault:?} in a swap: {why}"))?);
        let _either_way = swapping.await;
        settled(bed).await.map_err(|why| format!("{fault:?} in a swap: {why}"))?;
        bed.tick();
    }
    Ok(recoveries)
}

async fn strike(bed: &mut Bed<'_>, fault: Fault) -> Result<Duration, String> {
    let ground = bed.ground;
    match fault {
        Fault::Kill => return bed.kill_and_restart().await,
        Fault::Cut => {
            ground.cut();
            bed.linger(100).await;
            ground.cut();
        }
        Fault::HalfOpen => {
            ground.set_flow(Flow::HalfOpen);
            // sleep: from a moment to longer than a request may take
            sleep(Duration::from_millis(200 + bed.random.below(2_500))).await;
            ground.set_flow(Flow::Open);
        }
        Fault::EndUnanswered => {
            let rule = Rule::once(Api::END_TXN, Way::Answer, Deed::SwallowAndCut);
            let traps: Vec<_> = ground.proxies.iter().map(|proxy| proxy.trap(rule.clone())).collect();
            traps[0].wait(1, Duration::from_secs(2)).await;
        }
        Fault::Pause => {
            bed.server.pause()?;
            // sleep: longer than a transaction may be open
            sleep(Duration::from_millis(bed.settings.transaction_timeout_ms + 1_500)).await;
            bed.server.resume()?;
        }
        Fault::BrokerPause => {
            ground.cluster.pause(1)?;
            // sleep: longer than a request may take
            sleep(Duration::from_millis(2_500)).await;
            ground.cluster.resume(1)?;
        }
        Fault::BrokerKill => {
            block_in_place(|| ground.cluster.kill(1))?;
            block_in_place(|| ground.cluster.up(1))?;
        }
    }
    let mark = bed.watch.mark(Instant::now())?;
    bed.new_output(&mark).await
}
