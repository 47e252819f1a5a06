//! The checker's producer in the background, for as long as a scenario needs input.
//!
//! It runs in short pieces, each a producer of its own name that makes sure that all it sent is there once: so the
//! input has an end soon after it is asked for one, and is never in doubt.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::process::Command;
use tokio::task::JoinSet;

use crate::binaries;

/// What is sent.
#[derive(Clone, Debug)]
pub struct Input {
    pub bootstrap: String,
    pub topic: String,
    /// Records a second.
    pub rate: u64,
    pub keys: u64,
    /// Malformed ones per thousand.
    pub poison: u32,
    pub seed: u64,
    /// Of one piece, seconds.
    pub piece_s: u64,
    /// A number that no earlier feed of the topic had: producers are named after it.
    pub from: u64,
}

pub struct Feed {
    stop: Arc<AtomicBool>,
    /// One task, which ends with the feed.
    feeding: JoinSet<Result<u64, String>>,
}

impl Feed {
    /// # Errors
    /// The checker is not built.
    pub fn start(input: Input) -> Result<Feed, String> {
        let program = binaries::program("forebay-checker")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut feeding = JoinSet::new();
        feeding.spawn(async move {
            let (mut sent, mut piece) = (0, 0);
            // At least one piece, however soon it is stopped: a verdict over no input says nothing.
            loop {
                sent += send_piece(&program, &input, piece).await?;
                piece += 1;
                if stopped.load(Ordering::Relaxed) {
                    return Ok(sent);
                }
            }
        });
        Ok(Feed { stop, feeding })
    }

    /// Ends with the piece at hand. Answers how many records there are.
    ///
    /// # Errors
    /// The checker's: the input is not what it should be.
    pub async fn stop(mut self) -> Result<u64, String> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.feeding.join_next().await.ok_or("feed: it has ended before")?;
        ended.map_err(|error| format!("feed: {error}"))?
    }
}

/// Sends so many records as a producer of this name, and waits until they are there.
///
/// # Errors
/// The checker's.
pub async fn once(
    bootstrap: &str,
    topic: &str,
    producer: &str,
    records: u64,
    more: &[(&str, u64)],
) -> Result<(), String> {
    let program = binaries::program("forebay-checker")?;
    let mut command = Command::new(&program);
    command.args(["produce", "--bootstrap", bootstrap, "--topic", topic, "--producer", producer]);
    for (name, value) in [("--records", records), ("--patience", 300)].iter().chain(more) {
        command.args([*name, &value.to_string()]);
    }
    run(command, &program, topic).await
}

async fn send_piece(program: &PathBuf, input: &Input, piece: u64) -> Result<u64, String> {
    let Input { bootstrap, topic, rate, keys, poison, seed, piece_s, from } = input;
    let records = rate * piece_s;
    let mut command = Command::new(program);
    command.args(["produce", "--bootstrap", bootstrap, "--topic", topic, "--producer", &format!("p{from}-{piece}")]);
    for (name, value) in [("--records", records), ("--rate", *rate), ("--keys", *keys), ("--seed", *seed)] {
        command.args([name, &value.to_string()]);
    }
    command.args(["--poison", &poison.to_string(), "--patience", "300"]);
    run(command, program, topic).await.map(|()| records)
}

async fn run(mut command: Command, program: &Path, topic: &str) -> Result<(), String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| format!("run {}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    Err(format!("feed {topic}: {}", said.trim()))
}
