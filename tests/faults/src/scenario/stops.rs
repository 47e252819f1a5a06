//! Harm after which a job must not go on: what it needs is gone, and only a person can say what is right.
//!
//! Each ends the bed's job. A scenario is passed when every task has stopped by itself, says why, and wrote nothing more.
//! The server is ended well first: the abort of a transaction that was left open would look like output.
//! A job that goes on all the same is left running: its output is for the checker.

use std::time::{Duration, Instant};

use market_data::api::proto::TaskPhase;
use tokio::time::sleep;

use crate::bed::{Bed, until};
use crate::server::replace_folder;

/// Retention deletes records that the job has not read.
///
/// # Errors
/// It goes on, or does not say why it stopped.
pub async fn input_truncated(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.stop_feed().await?;
    bed.server.end_well().await?;
    bed.start_feed()?;
    bed.stop_feed().await?;
    truncate(bed, &bed.input()).await?;
    stops(bed, &["are gone", "by retention", "start"]).await
}

/// # Errors
/// As `input_truncated`.
pub async fn input_made_again(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.stop_feed().await?;
    bed.server.end_well().await?;
    make_again(bed, &bed.input(), bed.settings.partitions, &[]).await?;
    bed.start_feed()?;
    bed.stop_feed().await?;
    stops(bed, &[&bed.input(), "made again under its name"]).await
}

/// All records of the changelog are deleted, and the local state is lost too.
///
/// # Errors
/// As `input_truncated`.
pub async fn changelog_emptied(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.server.end_well().await?;
    bed.wipe_state()?;
    truncate(bed, &bed.changelog(&bed.name)?).await?;
    stops(bed, &["changelog", "holds no header"]).await
}

/// The changelog has lost its end, and the local store is an older one: nobody knows what was committed behind it.
///
/// # Errors
/// As `input_truncated`.
pub async fn changelog_tail_lost(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.server.end_well().await?;
    let (state, kept) = (bed.state_dir(&bed.server)?, bed.folder.path().join("kept"));
    replace_folder(&state, &kept)?;
    bed.come_back(Instant::now()).await?;
    bed.server.end_well().await?;
    replace_folder(&kept, &state)?;
    truncate(bed, &bed.changelog(&bed.name)?).await?;
    stops(bed, &["changelog"]).await
}

/// The changelog is deleted and made again, and the local state is lost too.
///
/// # Errors
/// As `input_truncated`.
pub async fn changelog_made_again(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.server.end_well().await?;
    bed.wipe_state()?;
    let changelog = bed.changelog(&bed.name)?;
    // With the settings that it must have: without them the job would not even begin.
    make_again(bed, &changelog, bed.settings.parallelism, &[("retention.ms", "-1")]).await?;
    stops(bed, &[&changelog]).await
}

async fn truncate(bed: &Bed<'_>, topic: &str) -> Result<(), String> {
    for partition in bed.ground.partitions(topic)? {
        bed.ground.truncate(topic, partition, None).await?;
    }
    Ok(())
}

async fn make_again(bed: &Bed<'_>, topic: &str, partitions: u32, settings: &[(&str, &str)]) -> Result<(), String> {
    bed.ground.delete_topic(topic).await?;
    let begun = Instant::now();
    while let Err(why) = bed.ground.cluster.create_topic(topic, partitions, settings) {
        if begun.elapsed() > crate::bed::PATIENCE {
            return Err(why);
        }
        // sleep: a broker deletes a topic in the background, and refuses its name until then
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Starts the server. All tasks stop and say these words, and the output has not grown. Answers how long that took.
async fn stops(bed: &mut Bed<'_>, words: &[&str]) -> Result<Vec<Duration>, String> {
    let before = bed.watch.ends()?;
    let begun = Instant::now();
    let client = bed.server.start(None).await?;
    let stopped = |phase: i32| phase == TaskPhase::Failed as i32;
    let seen = until(&client, &bed.name, |job| {
        let went_on = job.tasks.iter().find(|task| task.phase == TaskPhase::Running as i32 && task.records_in > 0);
        match went_on {
            Some(task) => Err(format!("task {} goes on as if nothing had happened", task.number)),
            None => Ok(!job.tasks.is_empty() && job.tasks.iter().all(|task| stopped(task.phase))),
        }
    });
    let job = seen.await.map_err(|why| bed.server.complaint(&why))?;
    for task in &job.tasks {
        if let Some(word) = words.iter().find(|word| !task.error.contains(**word)) {
            return Err(format!("task {} stopped and does not say `{word}`: {}", task.number, task.error));
        }
    }
    if bed.watch.ends()? != before {
        return Err("the job stopped, and wrote all the same".to_owned());
    }
    bed.tick();
    Ok(vec![begun.elapsed()])
}
