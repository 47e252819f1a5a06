//! A process that stands still while another one takes its jobs over, and then goes on as if nothing had happened.

use std::time::{Duration, Instant};

use market_data::api::proto::{Job, TaskPhase};

use super::transactions::{caught, trap};
use crate::bed::{Bed, until};
use crate::proxy::{Api, Deed, Rule, Way};

/// What a task says that has given way.
const GAVE_WAY: &str = "another process owns the task";

/// Two data directories take turns; each round one is stopped, the other takes over, the first goes on and is refused.
///
/// # Errors
/// The successor does not write, or the zombie does not give way.
pub async fn take_turns(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let mut other = bed.another_server("b")?;
    for round in 0..rounds {
        bed.linger(300).await;
        bed.server.pause()?;
        let at = Instant::now();
        let mark = bed.watch.mark(at)?;
        if round == 0 {
            other.copy_data_of(&bed.server)?;
        }
        other.spawn(None)?;
        std::mem::swap(&mut bed.server, &mut other);
        let zombie = &mut other;
        recoveries.push(bed.new_output(&mark).await?);
        // Somewhere between the takeover and some epochs behind it.
        bed.linger(200).await;
        zombie.resume()?;
        let gave_way = until(&zombie.client()?, &bed.name, all_gave_way).await;
        gave_way.map_err(|why| zombie.complaint(&why))?;
        bed.goes_on().await?;
        bed.running().await?;
        zombie.kill();
        bed.tick();
    }
    Ok(recoveries)
}

/// A second process reads what there is, and takes the tasks over only some epochs later: its requests for a producer's
/// id come to nothing meanwhile. The first, which goes on until then, gives way.
///
/// # Errors
/// The successor does not write.
pub async fn slow_takeover(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let mut other = bed.another_server("b")?;
    for round in 0..rounds {
        if round == 0 {
            other.copy_data_of(&bed.server)?;
        }
        // A task's id; the control topic may be taken over at once.
        let traps = trap(bed, &Rule::always(Api::INIT_PRODUCER_ID, Way::Request, Deed::Swallow).naming(".main."));
        other.spawn(None)?;
        caught(&traps).await?;
        bed.goes_on().await?;
        bed.goes_on().await?;
        let at = Instant::now();
        drop(traps);
        std::mem::swap(&mut bed.server, &mut other);
        let gave_way = until(&other.client()?, &bed.name, all_gave_way).await;
        gave_way.map_err(|why| other.complaint(&why))?;
        let mark = bed.watch.mark(at)?;
        recoveries.push(bed.new_output(&mark).await?);
        other.kill();
        bed.tick();
    }
    Ok(recoveries)
}

/// All tasks have stopped by themselves and say why; an error where one has stopped for another reason.
fn all_gave_way(job: &Job) -> Result<bool, String> {
    let stopped = |phase: i32| phase == TaskPhase::Failed as i32;
    match job.tasks.iter().find(|task| stopped(task.phase) && !task.error.contains(GAVE_WAY)) {
        Some(task) => Err(format!("task {} should have given way and says: {}", task.number, task.error)),
        None => Ok(!job.tasks.is_empty() && job.tasks.iter().all(|task| stopped(task.phase))),
    }
}
