//! Brokers that die or stand still. The server lives through it all.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::bed::Bed;
use crate::judge;

/// By one server.
const JOBS: u32 = 4;
/// Five seconds are what is promised; the machine may be busy.
const END_PATIENCE: Duration = Duration::from_secs(8);

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

/// SIGSTOP, and SIGCONT when the broker has been away for about as long as its session lasts, or longer. Several jobs of
/// several tasks: what a client loses then, it may lose in any of its partitions. At last the server is to end while
/// the broker is away.
///
/// # Errors
/// A task of a job does not come back, or what another job has written is not as it must be.
pub async fn pause(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let ground = bed.ground;
    let mut others = Vec::new();
    for number in 1..JOBS {
        others.push(bed.another_job(&format!("{}-{number}", bed.name)).await?);
    }
    for round in 0..rounds {
        let node = 1 + round % ground.cluster.len();
        bed.linger(300).await;
        ground.cluster.pause(node)?;
        // sleep: longer than a request may take
        sleep(Duration::from_millis(7_000 + bed.random.below(5_000))).await;
        ground.cluster.resume(node)?;
        let resumed = Instant::now();
        let mut back = bed.new_output_everywhere(&bed.watch, resumed).await?;
        for (_, watch) in &others {
            back = back.max(bed.new_output_everywhere(watch, resumed).await?);
        }
        bed.running().await?;
        recoveries.push(back);
        bed.tick();
    }
    ends_while_away(bed).await?;
    bed.stop_feed().await?;
    for (job, _) in others {
        let verdict =
            judge::verify(&bed.case(&job, bed.fed(), false)).await.map_err(|why| bed.server.complaint(&why))?;
        if !verdict.is_good {
            return Err(format!("{job}: {}", verdict.told.join("; ")));
        }
    }
    Ok(recoveries)
}

/// SIGTERM while nobody answers, at some moment of the outage.
async fn ends_while_away(bed: &mut Bed<'_>) -> Result<(), String> {
    let nodes = 1..=bed.ground.cluster.len();
    nodes.clone().try_for_each(|node| bed.ground.cluster.pause(node))?;
    bed.linger(4_000).await;
    bed.server.terminate()?;
    let ended = bed.server.ended(END_PATIENCE).await;
    nodes.clone().try_for_each(|node| bed.ground.cluster.resume(node))?;
    ended?;
    bed.come_back(Instant::now()).await?;
    bed.running().await.map(drop)
}
