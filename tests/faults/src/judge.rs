//! The verdict of the independent checker.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::binaries;

/// Exit codes of the checker.
const GOOD: i32 = 0;
const WRONG: i32 = 1;

/// Which guest of the tests the job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// Counts, sums, ticks, refuses, traps.
    Checked,
    /// Counts and sums; there are two versions of it.
    Counter,
}

impl Guest {
    pub fn name(self) -> &'static str {
        match self {
            Guest::Checked => "checked",
            Guest::Counter => "counter",
        }
    }
}

/// Records whose output the brokers refuse, so that they must be among the dead letters.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Keys of so many bytes or more.
    pub key_bytes: Option<u64>,
    /// Event times before this, milliseconds.
    pub before_ms: Option<u64>,
}

/// What is to be judged.
#[derive(Clone, Debug)]
pub struct Case {
    pub bootstrap: String,
    pub input: String,
    pub output: String,
    pub dead_letters: String,
    pub guest: Guest,
    pub parallelism: u32,
    pub records: u64,
    pub require_aborted: bool,
    pub wait_s: u64,
    pub refused: Refused,
}

#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub is_good: bool,
    pub inputs: u64,
    pub outputs: u64,
    pub aborted: u64,
    pub lost: u64,
    pub twice: u64,
    /// Everything else that is wrong.
    pub other: u64,
    /// The first findings of each kind.
    pub told: Vec<String>,
}

impl Verdict {
    /// As an error where it is not good.
    ///
    /// # Errors
    /// It is not good.
    pub fn demand(self) -> Result<Verdict, String> {
        if self.is_good { Ok(self) } else { Err(format!("the checker found:\n  {}", self.told.join("\n  "))) }
    }
}

/// # Errors
/// Nothing can be said of the job.
pub async fn verify(case: &Case) -> Result<Verdict, String> {
    let program = binaries::program("forebay-checker")?;
    let mut command = Command::new(&program);
    command.args(["verify", "--output-format", "json", "--bootstrap", &case.bootstrap, "--input", &case.input]);
    command.args(["--output", &case.output, "--dead-letters", &case.dead_letters, "--guest", case.guest.name()]);
    command.args(["--expect-records", &case.records.to_string(), "--wait", &case.wait_s.to_string()]);
    command.args(["--parallelism", &case.parallelism.to_string(), "--settle-ms", "500"]);
    let refused = [("--refused-key-bytes", case.refused.key_bytes), ("--refused-before-ms", case.refused.before_ms)];
    for (name, value) in refused {
        command.args(value.map(|value| [name.to_owned(), value.to_string()]).into_iter().flatten());
    }
    if case.require_aborted {
        command.arg("--require-aborted");
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| format!("run {}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(GOOD | WRONG) => {
            let report =
                serde_json::from_str(&said).map_err(|error| format!("read the checker's report: {error}: {said}"))?;
            Ok(verdict(&report))
        }
        _ => Err(format!("judge {}: {} {}", case.output, said.trim(), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn verdict(report: &Value) -> Verdict {
    let number = |name: &str| report[name].as_u64().unwrap_or(0);
    let mut verdict = Verdict {
        is_good: report["is_good"] == true,
        inputs: number("inputs"),
        outputs: number("outputs"),
        aborted: number("aborted"),
        ..Verdict::default()
    };
    for (kind, findings) in report["findings"].as_object().into_iter().flatten() {
        let count = findings["count"].as_u64().unwrap_or(0);
        match kind.as_str() {
            "lost" | "letter-lost" | "timer-lost" => verdict.lost += count,
            "doubled" | "letter-doubled" | "timer-doubled" => verdict.twice += count,
            _ => verdict.other += count,
        }
        let told = findings["told"].as_array().into_iter().flatten().filter_map(Value::as_str);
        verdict.told.extend(std::iter::once(format!("{kind}: {count}")).chain(told.map(|line| format!("  {line}"))));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_doubles_of_every_sort_are_counted_apart_from_the_rest() {
        let report = serde_json::json!({
            "is_good": false, "inputs": 7, "outputs": 9, "aborted": 3,
            "findings": {
                "lost": {"count": 2, "told": ["in/0@1"]}, "timer-lost": {"count": 1, "told": []},
                "doubled": {"count": 4, "told": []}, "wrong-sum": {"count": 8, "told": ["out/0@3"]},
            },
        });
        let found = verdict(&report);
        assert_eq!((found.lost, found.twice, found.other, found.aborted), (3, 4, 8, 3));
        assert!(found.demand().unwrap_err().contains("out/0@3"));
    }
}
