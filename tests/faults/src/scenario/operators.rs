//! What people and tools do to a job's consumer group: nothing of it may matter.

use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use crate::bed::Bed;

/// Resets the group's offsets with Kafka's own tool, kills the server, and deletes the group in the next round.
///
/// # Errors
/// The tool's, or the job does not come back.
pub async fn group_offsets(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let (group, input, cluster) = (format!("forebay.{}", bed.name), bed.input(), &bed.ground.cluster);
    for round in 0..rounds {
        // With a server that runs the mirror would soon be back.
        bed.server.kill();
        let reset = ["--reset-offsets", "--group", &group, "--topic", &input, "--to-earliest", "--execute"];
        let delete = ["--delete", "--group", &group];
        let arguments = if round % 2 == 0 { &reset[..] } else { &delete[..] };
        block_in_place(|| cluster.tool("ConsumerGroupCommand", arguments))?;
        recoveries.push(bed.come_back(Instant::now()).await?);
        bed.tick();
    }
    Ok(recoveries)
}
