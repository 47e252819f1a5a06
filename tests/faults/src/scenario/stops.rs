//! Harm after which a job must not go on: what it needs is gone, and only a person can say what is right.
//!
//! Each ends the bed's job. A scenario is passed when every task has stopped by itself, says why, and wrote nothing more.
//! The server is ended well first: the abort of a transaction that was left open would look like output.
//! A job that goes on all the same is left running: its output is for the checker.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use market_data::api::proto::{Job, TaskPhase};
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, until};
use crate::ground::Ground;
use crate::server::replace_folder;

/// The last marker, and some of the delta before it: what a client was told is committed is so no more.
const LAST_BYTES: u64 = 200;
/// So many are committed before half of them are cut off: the open one is a small part of what stands there.
const EPOCHS: u64 = 8;
/// What must not come has no sign of its own, and is given this time to come.
const SETTLE: Duration = Duration::from_millis(1_000);

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

/// The same to a process that stands still, and finds out while it reads.
///
/// # Errors
/// As `input_truncated`.
pub async fn input_truncated_live(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.stop_feed().await?;
    let client = bed.server.client()?;
    until(&client, &bed.name, |job| Ok(job.tasks.iter().all(|task| task.lag == 0 && task.open_records == 0))).await?;
    bed.server.pause()?;
    bed.start_feed()?;
    bed.stop_feed().await?;
    let topic = bed.input();
    truncate(bed, &topic).await?;
    bed.server.resume()?;
    let begun = Instant::now();
    let job = stopped(bed, &["are gone", "by retention", "start"], false).await?;
    // An answer may have been on its way with records that are gone by now: it may go as far as that, not further.
    for position in job.tasks.iter().flat_map(|task| &task.positions) {
        let end = bed.ground.end(&topic, position.partition)?;
        if position.next_offset >= end {
            return Err(format!("the position in {topic}/{} has jumped to the end, {end}", position.partition));
        }
    }
    Ok(vec![begun.elapsed()])
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
    stops(bed, &["changelog", "has lost data", "restore"]).await
}

/// The last epochs of the changelog are gone from the only broker's disk, as after an unclean election; the local store
/// has them.
///
/// # Errors
/// As `input_truncated`.
pub async fn changelog_cut(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.server.end_well().await?;
    let (ground, changelog) = (bed.ground, bed.changelog(&bed.name)?);
    let partitions = ground.partitions(&changelog)?;
    tokio::task::block_in_place(|| {
        cut_tails(ground, &changelog, &partitions, |length| length.saturating_sub(LAST_BYTES))
    })?;
    stops(bed, &["changelog", "has lost data", "restore"]).await
}

/// The same where the server had no time to bring its local store to disk: only what it has noted of its last commit is
/// there to tell.
///
/// # Errors
/// As `input_truncated`.
pub async fn changelog_cut_after_kill(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    let client = bed.server.client()?;
    let committed = |job: &Job| Ok(job.tasks.iter().all(|task| task.epoch >= EPOCHS));
    until(&client, &bed.name, committed).await.map_err(|why| bed.server.complaint(&why))?;
    bed.server.kill();
    let (ground, changelog) = (bed.ground, bed.changelog(&bed.name)?);
    let partitions = ground.partitions(&changelog)?;
    // What stands last may be of an epoch that was never committed.
    tokio::task::block_in_place(|| cut_tails(ground, &changelog, &partitions, |length| length / 2))?;
    let begun = Instant::now();
    bed.server.start(None).await?;
    // Whoever takes over ends what the killed one left open: markers may come before the stop, and nothing after it.
    stopped(bed, &["changelog", "has lost its end", "restore"], true).await?;
    bed.tick();
    Ok(vec![begun.elapsed()])
}

/// Takes the end of each partition, and leaves so much of its file; the broker drops what is left of the batch in it.
fn cut_tails(ground: &Ground, topic: &str, partitions: &[i32], left_of: impl Fn(u64) -> u64) -> Result<(), String> {
    ground.cluster.kill(1)?;
    for partition in partitions {
        let folder = find(&ground.cluster.data(1), &format!("{topic}-{partition}"))?;
        let path = folder.join("00000000000000000000.log");
        let doing = |error: std::io::Error| format!("cut {}: {error}", path.display());
        let file = std::fs::File::options().write(true).open(&path).map_err(doing)?;
        let length = file.metadata().map_err(doing)?.len();
        file.set_len(left_of(length)).map_err(doing)?;
    }
    ground.cluster.up(1)
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let doing = |error: std::io::Error| format!("look for {name} in {}: {error}", folder.display());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(doing)?.flatten() {
            if entry.file_name().to_string_lossy() == name {
                return Ok(entry.path());
            }
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Err(format!("look for {name} in {}: it is not there", folder.display()))
}

/// The changelog is deleted while the job writes to it.
///
/// # Errors
/// As `input_truncated`.
pub async fn changelog_deleted_live(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    let changelog = bed.changelog(&bed.name)?;
    let begun = Instant::now();
    bed.ground.delete_topic(&changelog).await?;
    stopped(bed, &[&changelog, "is gone", "start"], false).await?;
    Ok(vec![begun.elapsed()])
}

/// The changelog is deleted while nobody runs the job. A start says so, and does not make an empty one in its place.
///
/// # Errors
/// As `input_truncated`, or it is made again.
pub async fn changelog_deleted(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    bed.server.end_well().await?;
    let changelog = bed.changelog(&bed.name)?;
    bed.ground.delete_topic(&changelog).await?;
    let before = bed.watch.ends()?;
    let begun = Instant::now();
    let client = bed.server.start(None).await?;
    let job = until(&client, &bed.name, |job| match job.tasks.is_empty() {
        true => Ok(!job.error.is_empty()),
        false => Err(format!("its tasks have begun: {job:?}")),
    });
    let job = job.await.map_err(|why| bed.server.complaint(&why))?;
    let took = begun.elapsed();
    for word in [changelog.as_str(), "is gone", "delete the job"] {
        if !job.error.contains(word) {
            return Err(format!("the job does not say `{word}`: {}", job.error));
        }
    }
    // sleep: what must not come has no sign of its own
    sleep(SETTLE).await;
    if bed.ground.topics(&changelog)?.contains(&changelog) {
        return Err(format!("{changelog} was made again, and is empty"));
    }
    if bed.watch.ends()? != before {
        return Err("the job did not start, and wrote all the same".to_owned());
    }
    bed.tick();
    Ok(vec![took])
}

/// The control topic is deleted under a server. Its job goes on; `doctor` says what is gone, so does whoever tries to change
/// the job, and a start refuses in place of knowing of no jobs.
///
/// # Errors
/// Something is not said, or the server starts.
pub async fn control_deleted(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    const SAID: &str = "it was deleted";
    let control = format!("__forebay.{}.control", bed.name);
    let begun = Instant::now();
    bed.ground.delete_topic(&control).await?;
    loop {
        let said = bed.forebay(&["doctor"]).await.unwrap_or_else(|said| said);
        if said.contains(&control) && said.contains(SAID) {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("`forebay doctor` does not say what has become of {control}: {said}"));
        }
        // sleep: each broker hears of it by itself
        sleep(SETTLE).await;
    }
    let took = begun.elapsed();
    match bed.forebay(&["job", "stop", &bed.name]).await {
        Err(said) if said.contains(&control) && said.contains(SAID) => {}
        other => return Err(format!("`forebay job stop` does not say what has become of {control}: {other:?}")),
    }
    bed.goes_on().await?;
    bed.server.end_well().await?;
    bed.server.spawn(None)?;
    let status = bed.server.ended(PATIENCE).await?;
    let said = bed.server.said();
    let last = said.lines().rev().take(5).collect::<String>();
    if status.success() || !last.contains(&control) || !last.contains(SAID) {
        return Err(bed.server.complaint(&format!("it ended with {status}, and does not say that {control} is gone")));
    }
    if bed.ground.topics(&control)?.contains(&control) {
        return Err(format!("{control} was made again, and is empty"));
    }
    bed.tick();
    Ok(vec![took])
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
    bed.server.start(None).await?;
    stopped(bed, words, true).await?;
    if bed.watch.ends()? != before {
        return Err("the job stopped, and wrote all the same".to_owned());
    }
    bed.tick();
    Ok(vec![begun.elapsed()])
}

/// All tasks stop by themselves and say these words, as the command line shows, and nothing is written any more. A job that
/// was started anew must not even begin.
async fn stopped(bed: &Bed<'_>, words: &[&str], anew: bool) -> Result<Job, String> {
    let client = bed.server.client()?;
    let stopped = |phase: i32| phase == TaskPhase::Failed as i32;
    let seen = until(&client, &bed.name, |job| {
        let went_on =
            job.tasks.iter().find(|task| anew && task.phase == TaskPhase::Running as i32 && task.records_in > 0);
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
    // The table may break its lines anywhere.
    let shown: String = bed.forebay(&["job", "get", &bed.name]).await?.split_whitespace().collect();
    if let Some(word) = words.iter().find(|word| !shown.contains(&word.replace(' ', ""))) {
        return Err(format!("`forebay job get` does not say `{word}`: {shown}"));
    }
    let at_stop = bed.watch.ends()?;
    // sleep: what must not come has no sign of its own
    sleep(SETTLE).await;
    if bed.watch.ends()? != at_stop {
        return Err("the job had stopped, and wrote all the same".to_owned());
    }
    Ok(job)
}
