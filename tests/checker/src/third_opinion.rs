//! Kafka's own console consumer as a third reader, where one is at hand.
//!
//! Owns the command line and what is printed. Believes neither client: it compares the coordinates of all records.

use std::collections::BTreeSet;
use std::process::Stdio;

use tokio::process::Command;

use crate::error::Error;
use crate::judge::{Kind, Verdict};

/// Stands for the bootstrap address in a command.
const BOOTSTRAP: &str = "{bootstrap}";
/// The consumer ends when nothing has come for so long.
const QUIET_MS: &str = "5000";

/// What the console consumer must be told, beside the address.
pub fn arguments(topic: &str) -> Vec<String> {
    let isolation = ["--isolation-level", "read_committed"];
    let formatting = ["print.partition=true", "print.offset=true", "print.value=false", "print.key=false"];
    let formatting = formatting.iter().flat_map(|property| ["--formatter-property", property]);
    let reading = ["--topic", topic, "--from-beginning", "--timeout-ms", QUIET_MS];
    reading.into_iter().chain(isolation).chain(formatting).map(str::to_owned).collect()
}

/// Coordinates of all committed records of a topic, by the given command of the console consumer.
///
/// # Errors
/// The command did not run, or said something else than records.
pub async fn read(command: &str, bootstrap: &str, topic: &str) -> Result<BTreeSet<(i32, i64)>, Error> {
    let doing = || format!("ask for a third opinion by `{command}`");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{} \"$@\"", command.replace(BOOTSTRAP, bootstrap))).arg("third-opinion");
    let output = shell.args(arguments(topic)).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| Error::reading(doing(), error))?;
    if !output.status.success() {
        let complaint: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect();
        return Err(Error::reading(doing(), format!("it ended with {}: {complaint}", output.status)));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
        .map_err(|line| Error::reading(doing(), format!("it printed `{line}`")))
}

/// The coordinates in what it printed.
///
/// # Errors
/// The first line that tells of no record.
pub fn parse(printed: &str) -> Result<BTreeSet<(i32, i64)>, String> {
    let lines = printed.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| coordinates(line).ok_or_else(|| line.to_owned())).collect()
}

/// Of a line like `Partition:0<TAB>Offset:17`.
fn coordinates(line: &str) -> Option<(i32, i64)> {
    let mut fields = line.split('\t');
    let partition = fields.next()?.trim().strip_prefix("Partition:")?.parse().ok()?;
    let offset = fields.next()?.trim().strip_prefix("Offset:")?.parse().ok()?;
    Some((partition, offset))
}

/// Notes where the third reader and ours differ.
pub fn compare(read: &BTreeSet<(i32, i64)>, committed: &[Vec<i64>], verdict: &mut Verdict) {
    let ours =
        committed.iter().zip(0..).flat_map(|(offsets, partition)| offsets.iter().map(move |at| (partition, *at)));
    let ours: BTreeSet<(i32, i64)> = ours.collect();
    for (partition, offset) in ours.difference(read) {
        let tell = || format!("output {partition}@{offset} is read here and not by the console consumer");
        verdict.found(Kind::ThirdOpinion, tell);
    }
    for (partition, offset) in read.difference(&ours) {
        let tell = || format!("output {partition}@{offset} is read by the console consumer and not here");
        verdict.found(Kind::ThirdOpinion, tell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_differ_are_told_apart_by_coordinates() {
        let read = parse("Partition:0\tOffset:1\nPartition:0\tOffset:3\nPartition:1\tOffset:0\n").unwrap();
        let mut verdict = Verdict::default();
        compare(&read, &[vec![1, 3], vec![0]], &mut verdict);
        assert!(verdict.is_good());
        compare(&read, &[vec![1, 2], vec![0]], &mut verdict);
        assert_eq!(verdict.count(Kind::ThirdOpinion), 2);
    }

    #[tokio::test]
    async fn a_command_that_prints_no_records_gives_no_opinion() {
        let told = read("echo nonsense; exit 0 #", "localhost:1", "t").await.unwrap_err().to_string();
        assert!(told.contains("it printed `nonsense`"), "{told}");
        let told = read("echo broken >&2; exit 3 #", "localhost:1", "t").await.unwrap_err().to_string();
        assert!(told.contains("exit status: 3") && told.contains("broken"), "{told}");
    }
}
