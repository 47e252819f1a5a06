//! kill -9 at named places, each reached in the way that leads to it.

use std::time::{Duration, Instant};

use market_data::api::proto::{JobState, SwapPhase};
use tokio::time::sleep;

use crate::bed::{self, Bed, PATIENCE, push, until};
use crate::feed::{Feed, Input};
use crate::judge;
use crate::server::Failpoint;

/// How a place is come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The job runs and has input.
    Running,
    /// The server starts.
    Starting,
    /// It starts, and the local store is damaged.
    StartingDamaged,
    /// It starts, and there are more epochs to replay than gather in memory.
    StartingLong,
    /// It is asked to end.
    Ending,
    /// A job's input rests for longer than its producer is kept open, and comes again.
    Resting,
    Pushing,
    Creating,
    Stopping,
    Deleting,
    Swapping,
    /// A version that was swapped in fails.
    RollingBack,
}

/// Every place, in the order in which they are visited: those that tell most come first.
pub const PLACES: &[(&str, Way)] = &[
    ("before-commit", Way::Running),
    ("kafka-committed", Way::Running),
    ("after-commit", Way::Running),
    ("recovery-after-init", Way::Starting),
    ("after-apply", Way::Running),
    ("recovery-after-read", Way::Starting),
    ("epoch-open", Way::Running),
    ("recovery-after-claim", Way::Starting),
    ("output-written", Way::Running),
    ("recovery-delta-replayed", Way::Starting),
    ("kafka-delivered", Way::Running),
    ("kafka-after-init", Way::Starting),
    ("batch-processed", Way::Running),
    ("recovery-assigned", Way::Starting),
    ("timers-fired", Way::Running),
    ("recovery-store-opened", Way::Starting),
    ("epoch-begun", Way::Running),
    ("control-taken-over", Way::Starting),
    ("create-deployed", Way::Creating),
    ("stop-committed", Way::Ending),
    // Quick ends about here.
    ("recovery-store-wiped", Way::StartingDamaged),
    ("state-write-begins", Way::Ending),
    ("state-written", Way::Ending),
    ("stop-flushed", Way::Ending),
    ("module-committed", Way::Pushing),
    ("module-stored", Way::Pushing),
    ("control-write-begins", Way::Creating),
    ("control-after-commit", Way::Creating),
    ("create-recorded", Way::Creating),
    ("create-topics-made", Way::Creating),
    ("deploy-before-header", Way::Creating),
    ("deploy-after-header", Way::Creating),
    ("stop-recorded", Way::Stopping),
    ("delete-recorded", Way::Deleting),
    ("delete-changelog-gone", Way::Deleting),
    ("delete-state-gone", Way::Deleting),
    ("state-flush-begun", Way::StartingLong),
    ("writer-reopened", Way::Resting),
    ("swap-preparing", Way::Swapping),
    ("swap-decided", Way::Swapping),
    ("swap-before-switch", Way::Swapping),
    ("swap-installed", Way::Swapping),
    ("swap-after-switch", Way::Swapping),
    ("swap-switched", Way::Swapping),
    ("swap-rolling-back", Way::RollingBack),
    ("swap-rolled-back", Way::RollingBack),
];

/// Epochs that a store lets gather before it writes and flushes them.
const EPOCHS_UNTIL_FLUSH: u64 = 300;
/// Longer than an idle task keeps its producer.
const REST: Duration = Duration::from_secs(75);
const DEATH: Duration = Duration::from_secs(60);

/// The first `rounds` places but those of swaps, over and over.
///
/// # Errors
/// A place is not passed, or the job does not come back.
pub async fn everywhere(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let swaps = |way| [Way::Swapping, Way::RollingBack].contains(&way);
    let places = PLACES.iter().filter(|(_, way)| !swaps(*way)).cycle();
    let mut side = Side::default();
    let mut recoveries = Vec::new();
    for &(name, way) in places.take(rounds as usize) {
        let died = visit(bed, &mut side, name, way).await.map_err(|why| format!("at {name}: {why}"))?;
        recoveries.push(bed.come_back(died).await.map_err(|why| format!("after {name}: {why}"))?);
        side.settle(bed).await.map_err(|why| format!("after {name}: {why}"))?;
        bed.tick();
    }
    Ok(recoveries)
}

/// Dies at a place. Answers when.
async fn visit(bed: &mut Bed<'_>, side: &mut Side, name: &str, way: Way) -> Result<Instant, String> {
    match way {
        Way::Running => {
            let failpoint = restart_with(bed, name).await?;
            bed.linger(200).await;
            failpoint.arm()?;
        }
        Way::Starting | Way::StartingDamaged | Way::StartingLong => {
            if way == Way::StartingLong {
                let long = |epoch| epoch > EPOCHS_UNTIL_FLUSH + 50;
                until(&bed.server.client()?, &bed.name, |job| Ok(job.tasks.iter().all(|task| long(task.epoch))))
                    .await?;
            }
            bed.server.kill();
            match way {
                Way::StartingDamaged => damage(&bed.state_dir(&bed.server)?)?,
                Way::StartingLong => bed.wipe_state()?,
                _ => {}
            }
            let both_tasks = name.starts_with("recovery-") && way == Way::Starting;
            let count = if both_tasks { 1 + bed.random.below(2) } else { 1 };
            bed.server.spawn(Some(&Failpoint::counted(name, count)))?;
        }
        Way::Ending => {
            let failpoint = restart_with(bed, name).await?;
            bed.running().await?;
            failpoint.arm()?;
            bed.server.terminate()?;
        }
        Way::Resting => {
            let failpoint = restart_with(bed, name).await?;
            bed.stop_feed().await?;
            // sleep: what is waited for is that nothing happens
            sleep(REST).await;
            failpoint.arm()?;
            bed.start_feed()?;
        }
        Way::Pushing | Way::Creating | Way::Stopping | Way::Deleting => side.visit(bed, name, way).await?,
        Way::Swapping | Way::RollingBack => return Err("a place of a swap".to_owned()),
    }
    bed.server.ended(DEATH).await?;
    Ok(Instant::now())
}

/// Starts the server anew with a failpoint that is armed later, and waits until the job writes.
async fn restart_with(bed: &mut Bed<'_>, name: &str) -> Result<Failpoint, String> {
    let failpoint = Failpoint::armed_later(name, bed.folder.path());
    bed.server.kill();
    let mark = bed.watch.mark(Instant::now())?;
    bed.server.spawn(Some(&failpoint))?;
    bed.new_output(&mark).await?;
    Ok(failpoint)
}

/// Makes RocksDB refuse to open every store below.
fn damage(folder: &std::path::Path) -> Result<(), String> {
    let doing = |error: std::io::Error| format!("damage the store in {}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(doing)? {
        std::fs::write(entry.map_err(doing)?.path().join("CURRENT"), "nothing\n").map_err(doing)?;
    }
    Ok(())
}

/// Small jobs beside the one that is judged in the end: made, stopped and deleted at places of a job's life, each
/// judged at once.
#[derive(Default)]
struct Side {
    made: u32,
    fed: u64,
    open: Option<(String, Way)>,
}

impl Side {
    async fn visit(&mut self, bed: &mut Bed<'_>, name: &str, way: Way) -> Result<(), String> {
        let failpoint = restart_with(bed, name).await?;
        let client = bed.server.ready().await?;
        if way == Way::Pushing {
            failpoint.arm()?;
            let _dies = push(&client, "relay").await;
            self.open = Some((String::new(), way));
            return Ok(());
        }
        let topic = |error: market_data::api::Error| error.to_string();
        if self.fed == 0 {
            let input = format!("{}-side.in", bed.name);
            client.create_topic(&input, bed.settings.partitions as usize).await.map_err(topic)?;
            self.fed = feed(bed, &input).await?;
        }
        self.made += 1;
        let job = format!("{}-side-{}", bed.name, self.made);
        client.create_topic(&format!("{job}.out"), bed.settings.partitions as usize).await.map_err(topic)?;
        let spec = spec(bed, &job);
        if way != Way::Creating {
            client.apply(&spec).await.map_err(|error| error.to_string())?;
            bed::running(&client, &job).await?;
        }
        failpoint.arm()?;
        let _dies = match way {
            Way::Creating => client.apply(&spec).await.map(drop).map_err(|error| error.to_string()),
            Way::Stopping => bed.forebay(&["job", "stop", &job]).await.map(drop),
            _ => bed.forebay(&["job", "delete", &job, "--yes"]).await.map(drop),
        };
        self.open = Some((job, way));
        Ok(())
    }

    /// What was begun when the server died is finished, by it or by asking again, and is right.
    async fn settle(&mut self, bed: &mut Bed<'_>) -> Result<(), String> {
        let Some((job, way)) = self.open.take() else { return Ok(()) };
        let client = bed.server.ready().await?;
        match way {
            Way::Pushing => return push(&client, "relay").await,
            Way::Deleting => {
                let begun = Instant::now();
                while client.job(&job).await.is_ok() {
                    if begun.elapsed() > PATIENCE {
                        return Err(format!("job {job} was being deleted and is still there"));
                    }
                    // sleep: polls for a job's end
                    sleep(Duration::from_millis(20)).await;
                }
                let left = bed.ground.topics(&format!("__forebay.{job}."))?;
                return if left.is_empty() { Ok(()) } else { Err(format!("job {job} was deleted and left {left:?}")) };
            }
            Way::Stopping => {
                let stopped = |state: i32| state == JobState::Stopped as i32;
                until(&client, &job, |job| Ok(stopped(job.state))).await?;
            }
            _ => {}
        }
        client.apply(&spec(bed, &job)).await.map_err(|error| error.to_string())?;
        bed::running(&client, &job).await?;
        let case = judge::Case { input: format!("{}-side.in", bed.name), ..bed.case(&job, self.fed, false) };
        judge::verify(&case).await?.demand().map_err(|why| format!("job {job}: {why}"))?;
        bed.forebay(&["job", "delete", &job, "--yes"]).await.map(drop)
    }
}

fn spec(bed: &Bed<'_>, job: &str) -> String {
    bed.spec(job).replace(&format!("topic: {}}}", bed.input()), &format!("topic: {}-side.in}}", bed.name))
}

async fn feed(bed: &Bed<'_>, topic: &str) -> Result<u64, String> {
    let bed::Settings { keys, poison, seed, .. } = bed.settings;
    let (bootstrap, topic) = (bed.ground.direct().to_owned(), topic.to_owned());
    let input = Input { bootstrap, topic, rate: 2_000, keys, poison, seed, piece_s: 1, from: 0 };
    Feed::start(input)?.stop().await
}

/// kill -9 at each place of a swap, to and fro between two versions, and of a swap that is taken back by itself since
/// the new version traps.
///
/// # Errors
/// A place is not passed, the job does not come back, or the swap hangs.
pub async fn in_swap(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    push(&bed.server.ready().await?, "counter-v2").await?;
    push(&bed.server.ready().await?, "counter-v2-broken").await?;
    let places = PLACES.iter().filter(|(_, way)| [Way::Swapping, Way::RollingBack].contains(way)).cycle();
    let mut recoveries = Vec::new();
    for &(name, way) in places.take(rounds as usize) {
        let failpoint = restart_with(bed, name).await?;
        let client = bed.server.ready().await?;
        let mut version = version(bed).await?;
        if way == Way::RollingBack && version != "1.0.0" {
            client.swap(&bed.name, "op", "counter@1.0.0").await.map_err(|error| error.to_string())?;
            settled(bed).await?;
            version = "1.0.0".to_owned();
        }
        let next = match way {
            Way::RollingBack => "counter@2.0.1",
            _ if version == "1.0.0" => "counter@2.0.0",
            _ => "counter@1.0.0",
        };
        failpoint.arm()?;
        let _dies = client.swap(&bed.name, "op", next).await;
        bed.server.ended(DEATH).await.map_err(|why| format!("at {name}: {why}"))?;
        let died = Instant::now();
        recoveries.push(bed.come_back(died).await.map_err(|why| format!("after {name}: {why}"))?);
        settled(bed).await.map_err(|why| format!("after {name}: {why}"))?;
        bed.tick();
    }
    Ok(recoveries)
}

/// The version that the job's first task runs.
///
/// # Errors
/// The job does not run.
pub async fn version(bed: &Bed<'_>) -> Result<String, String> {
    let job = bed.running().await?;
    let module = job.tasks.first().and_then(|task| task.modules.first());
    module
        .map(|module| module.version.clone())
        .ok_or_else(|| format!("ask for the version of {}: it has none", bed.name))
}

/// The newest swap is over or on probation, and all tasks run one version.
///
/// # Errors
/// It hangs.
pub async fn settled(bed: &mut Bed<'_>) -> Result<(), String> {
    let client = bed.server.ready().await?;
    let open = [SwapPhase::Preparing, SwapPhase::Switching, SwapPhase::RollingBack].map(|phase| phase as i32);
    bed.running().await?;
    until(&client, &bed.name, |job| {
        let versions = job.tasks.iter().flat_map(|task| &task.modules).map(|module| &module.version);
        let mut versions: Vec<_> = versions.collect();
        versions.dedup();
        Ok(job.swap.as_ref().is_none_or(|swap| !open.contains(&swap.phase)) && versions.len() == 1)
    })
    .await
    .map(drop)
}
