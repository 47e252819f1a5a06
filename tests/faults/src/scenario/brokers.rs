//! Brokers that die or stand still. The server lives through it all.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::bed::Bed;

/// kill -9 of each node in turn.
///
/// # Errors
/// The broker or the job does not come back.
pub async fn kill(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let ground = bed.ground;
    for round in 0..rounds {
        let node = 1 + round % ground.cluster.len();
        bed.linger(300).await;
        block_in_place(|| ground.cluster.kill(node))?;
        bed.linger(3_000).await;
        block_in_place(|| ground.cluster.up(node))?;
        recoveries.push(bed.round_is_over().await?);
        // One at a time: a partition whose other replicas still lag behind would have lost its last one to the next kill.
        block_in_place(|| ground.cluster.await_in_sync())?;
    }
    Ok(recoveries)
}

/// SIGSTOP, and SIGCONT some seconds later.
///
/// # Errors
/// The job does not come back.
pub async fn pause(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let ground = bed.ground;
    for round in 0..rounds {
        let node = 1 + round % ground.cluster.len();
        bed.linger(300).await;
        ground.cluster.pause(node)?;
        // sleep: longer than a request may take
        sleep(Duration::from_millis(3_000 + bed.random.below(3_000))).await;
        ground.cluster.resume(node)?;
        recoveries.push(bed.round_is_over().await?);
    }
    Ok(recoveries)
}
