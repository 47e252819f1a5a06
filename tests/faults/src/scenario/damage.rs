//! Harm to the local store, which is only a cache of the changelog.

use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::server::replace_folder;

/// # Errors
/// The job does not come back.
pub async fn store_wiped(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        bed.linger(300).await;
        let at = Instant::now();
        bed.server.kill();
        bed.wipe_state()?;
        recoveries.push(bed.come_back(at).await?);
        bed.tick();
    }
    Ok(recoveries)
}

/// A store that was copied while the server was down comes back some epochs, flushes and kills later.
///
/// # Errors
/// The job does not come back.
pub async fn store_older(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let kept = bed.folder.path().join("kept");
    for _ in 0..rounds {
        // Ended well, so that the copy holds all until here.
        bed.server.end_well().await?;
        let state = bed.state_dir(&bed.server)?;
        replace_folder(&state, &kept)?;
        bed.come_back(Instant::now()).await?;
        bed.linger(1_000).await;
        if bed.random.chance(0.5) {
            bed.server.end_well().await?;
            bed.come_back(Instant::now()).await?;
        }
        let at = Instant::now();
        bed.server.kill();
        replace_folder(&kept, &state)?;
        recoveries.push(bed.come_back(at).await?);
        bed.tick();
    }
    Ok(recoveries)
}
