//! kill -9 at random moments, and before there is anything to read.

use std::time::{Duration, Instant};

use crate::bed::Bed;

/// From the first new output to the next kill, milliseconds at most: a few epochs.
const LIFE_MS: u64 = 350;

/// # Errors
/// It does not come back.
pub async fn at_random(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        bed.linger(LIFE_MS).await;
        recoveries.push(bed.kill_and_restart().await?);
        bed.tick();
    }
    Ok(recoveries)
}

/// A job that has read nothing yet has a start all the same: where it stood when the job was made.
///
/// # Errors
/// It does not come back.
pub async fn before_input(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.server.kill();
    bed.start_feed()?;
    bed.stop_feed().await?;
    bed.start_feed()?;
    let recovery = bed.come_back(Instant::now()).await?;
    bed.tick();
    Ok(vec![recovery])
}
