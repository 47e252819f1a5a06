//! kill -9 at random moments.

use std::time::Duration;

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
