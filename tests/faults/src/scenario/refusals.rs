//! Output that the brokers refuse although the plan, and the task that checks it, thought it fine: the topic's rules
//! were changed meanwhile. Each record that is refused must become a dead letter, and its neighbours must not.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE};
use crate::feed;
use crate::judge::Refused;
use crate::watch::Watch;

/// Records that are to be refused, per round, and how many of them a second.
const HEAVY: u64 = 20;
const HEAVY_RATE: u64 = 40;
/// Of their keys, which their output repeats; all other keys are short.
const KEY_BYTES: u64 = 24_000;
/// What the topic takes from then on.
const TAKES_BYTES: &str = "20000";
/// How far in the past the others lie, and how far the topic goes back from then on, milliseconds.
const PAST_MS: u64 = 3_600_000;
const TAKES_PAST_MS: &str = "600000";
const LOOK: Duration = Duration::from_millis(50);
/// What a task says that has had a record refused.
const WAS_REFUSED: &str = "write epoch";
/// What the server says that has noticed it before that: tasks that start again check their output themselves.
const WAS_NOTICED: &str = "the tasks start again";

/// Turn by turn the topic takes smaller records, and newer ones, than the task knows.
///
/// # Errors
/// The brokers refuse nothing, what they refuse does not become a dead letter, or the job does not go on.
pub async fn output_refused(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    let letters = format!("{}.dead-letters", bed.name);
    let letters = Watch::start(bed.ground.direct(), &letters, bed.settings.parallelism as i32)?;
    bed.expect_refused(Refused { key_bytes: Some(KEY_BYTES), before_ms: Some(now_ms() - PAST_MS / 2) });
    for round in 0..rounds {
        let said = |bed: &Bed<'_>| {
            let said = bed.server.said();
            said.matches(WAS_REFUSED).count() + said.matches(WAS_NOTICED).count()
        };
        let before = said(bed);
        let mark = bed.watch.mark(Instant::now())?;
        let producer = format!("refused-{round}");
        if round % 2 == 0 {
            take_less(bed).await?;
            send_heavy(bed, &producer).await?;
        } else {
            bed.ground.configure(&bed.output(), "message.timestamp.before.max.ms", TAKES_PAST_MS).await?;
            send(bed, &producer, ("--start-ms", now_ms() - PAST_MS)).await?;
        }
        let found = letters.wait_for(HEAVY * u64::from(round + 1), PATIENCE).await;
        found.map_err(|why| bed.server.complaint(&why))?;
        if said(bed) == before {
            return Err(bed.server.complaint("no broker has refused anything: this has shown nothing"));
        }
        recoveries.push(bed.new_output(&mark).await?);
        bed.goes_on().await?;
        bed.running().await?;
        bed.tick();
    }
    Ok(recoveries)
}

/// The retention of the output is cut while the job runs. Once the server has noticed it, what the topic would not keep must
/// be a dead letter, and not be written and deleted.
///
/// # Errors
/// It is not noticed, or old output does not become dead letters.
pub async fn output_retention_cut(bed: &mut Bed<'_>) -> Result<Vec<Duration>, String> {
    let letters = format!("{}.dead-letters", bed.name);
    let letters = Watch::start(bed.ground.direct(), &letters, bed.settings.parallelism as i32)?;
    bed.expect_refused(Refused { key_bytes: None, before_ms: Some(now_ms() - PAST_MS / 2) });
    let begun = Instant::now();
    bed.ground.configure(&bed.output(), "retention.ms", TAKES_PAST_MS).await?;
    while !bed.server.said().contains(WAS_NOTICED) {
        if begun.elapsed() > PATIENCE {
            return Err(bed.server.complaint("a retention that was cut is not noticed"));
        }
        // sleep: what a process says has no sign of its own
        sleep(LOOK).await;
    }
    let noticed = begun.elapsed();
    bed.running().await?;
    send(bed, "old", ("--start-ms", now_ms() - PAST_MS)).await?;
    letters.wait_for(HEAVY, PATIENCE).await.map_err(|why| bed.server.complaint(&why))?;
    bed.goes_on().await?;
    bed.tick();
    Ok(vec![noticed])
}

/// The topic takes less, and the task knows: what is too large must not reach the brokers, and be a dead letter.
///
/// # Errors
/// It does not become a dead letter, or the job does not come back.
pub async fn output_too_large(bed: &mut Bed<'_>, rounds: u32) -> Result<Vec<Duration>, String> {
    let mut recoveries = Vec::new();
    take_less(bed).await?;
    bed.expect_refused(Refused { key_bytes: Some(KEY_BYTES), before_ms: None });
    for round in 0..rounds {
        // A task learns what its topics take when it takes over.
        recoveries.push(bed.kill_and_restart().await?);
        send_heavy(bed, &format!("refused-{round}")).await?;
        bed.goes_on().await?;
        bed.tick();
    }
    Ok(recoveries)
}

/// The output topic takes no output of heavy records from now on.
async fn take_less(bed: &Bed<'_>) -> Result<(), String> {
    bed.ground.configure(&bed.output(), "max.message.bytes", TAKES_BYTES).await
}

async fn send_heavy(bed: &mut Bed<'_>, producer: &str) -> Result<(), String> {
    send(bed, producer, ("--key-bytes", KEY_BYTES)).await
}

async fn send(bed: &mut Bed<'_>, producer: &str, (name, value): (&str, u64)) -> Result<(), String> {
    let more = [("--rate", HEAVY_RATE), (name, value)];
    feed::once(bed.ground.direct(), &bed.input(), producer, HEAVY, &more).await?;
    bed.has_been_fed(HEAVY);
    Ok(())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
