//! Brokers that die or stand still. The server lives through it all.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::bed::Bed;
use crate::judge;

/// By one server.
const JOBS: u32 = 5;
/// What is promised; later than this is told.
const BACK: Duration = Duration::from_secs(5);
/// The server is ended after so many rounds, and at last.
const END_EVERY: u32 = 10;
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
        let stall = Duration::from_millis(8_500 + bed.random.below(3_500));
        // sleep: about as long as the broker's session lasts, and longer than a request may take
        sleep(stall).await;
        ground.cluster.resume(node)?;
        let resumed = Instant::now();
        let watches: Vec<_> = std::iter::once(&bed.watch).chain(others.iter().map(|(_, watch)| watch)).collect();
        let marks = watches.iter().map(|watch| watch.mark(resumed)).collect::<Result<Vec<_>, _>>()?;
        let mut back = Duration::ZERO;
        for (watch, mark) in watches.into_iter().zip(&marks) {
            back = back.max(bed.new_output_everywhere(watch, mark).await?);
        }
        bed.running().await?;
        if back > BACK {
            eprintln!(
                "round {round}: after {} ms without node {node} all are back in {} ms",
                stall.as_millis(),
                back.as_millis()
            );
        }
        recoveries.push(back);
        bed.tick();
        if round % END_EVERY == END_EVERY - 1 {
            ends_while_away(bed).await?;
        }
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
    let asked = Instant::now();
    let ended = bed.server.ended(END_PATIENCE).await;
    let took = asked.elapsed();
    nodes.clone().try_for_each(|node| bed.ground.cluster.resume(node))?;
    ended?;
    if took > BACK {
        eprintln!("the server ended {} ms after it was asked to, while no broker answered", took.as_millis());
    }
    bed.come_back(Instant::now()).await?;
    bed.running().await.map(drop)
}
