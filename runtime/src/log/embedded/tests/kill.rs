//! `kill -9` of a real process that writes epochs, and what the next one finds.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;

const DIR: &str = "FOREBAY_TEST_LOG_DIR";
const ROUNDS: usize = 8;

/// The victim. Tells each epoch after its commit has returned.
#[test]
#[ignore = "runs in a process of its own, which committed_epochs_survive_kill_9 starts and kills"]
fn writes_epochs_until_killed() {
    let log = open(Path::new(&std::env::var(DIR).unwrap()));
    let mut writer = log.writer("id").unwrap();
    for epoch in shown(&log, "t", 0).len().. {
        writer.begin().unwrap();
        for partition in 0..3 {
            writer.append(&one("t", partition, "k", Some(&epoch.to_string()))).unwrap();
        }
        assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
        println!("committed {epoch}");
    }
}

#[test]
fn committed_epochs_survive_kill_9() {
    let dir = TempDir::new().unwrap();
    open(dir.path()).create_topic(&spec("t", 3, Cleanup::Delete)).unwrap();
    let mut told = 0;
    for round in 0..ROUNDS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::embedded::tests::kill::writes_epochs_until_killed", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap());
        let mut line = String::new();
        // It is in the middle of some later epoch when this one has been read.
        for _ in 0..(5 + 13 * round) {
            line.clear();
            lines.read_line(&mut line).unwrap();
            told = line.trim().strip_prefix("committed ").map_or(told, |n| n.parse::<usize>().unwrap() + 1);
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        told += rest.lines().filter(|line| line.starts_with("committed ")).count();
        let log = open(dir.path());
        let values = |partition| shown(&log, "t", partition).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        let found = values(0);
        assert!(found.len() >= told, "{told} epochs were committed, {} are there", found.len());
        assert_eq!(found, (0..found.len()).map(|i| i.to_string()).collect::<Vec<_>>());
        assert_eq!((values(1), values(2)), (found.clone(), found), "a torn epoch");
    }
    assert!(told > 5 * ROUNDS, "the victim hardly wrote: {told}");
}
