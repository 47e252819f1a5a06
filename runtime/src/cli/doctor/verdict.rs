//! What two looks at a server mean: a pure function of observed facts.
//!
//! Looks at what stands still and at proportions: a job that runs, and refuses nine records of ten, is not well. Read
//! [`judge`] first.

use std::collections::BTreeMap;

use forebay::api::proto::{Job, JobState, Place, Task, TaskPhase, Topic};
use serde::Serialize;

/// With fewer records than this a proportion means nothing.
const RECORDS_MIN: u64 = 20;
/// Percent of all records. From here on the fault is not in single records.
const MANY_PERCENT: u64 = 10;
/// Event time that stands for so long while records come is held back by something.
const TIME_STANDS_MS: i64 = 10_000;
/// Event time that is further ahead of the server's clock than this is that of a record whose clock was ahead.
const TIME_AHEAD_MS: i64 = 60_000;
/// With less free space than this a disk may be full within minutes.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// One thing that is wrong.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub what: String,
    pub found: String,
    pub remedy: String,
}

/// Everything that a verdict is made from.
#[derive(Default)]
pub struct Facts {
    pub before: Look,
    pub after: Look,
    pub places: Vec<Place>,
    pub waited_s: u64,
}

#[derive(Clone, Default)]
pub struct Look {
    pub jobs: Vec<Job>,
    /// By the server's clock.
    pub at_ms: i64,
    pub topics: Vec<Topic>,
}

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.places.iter().filter_map(room).collect();
    for job in &facts.after.jobs {
        match job.state() {
            JobState::Stopped => {}
            JobState::Failed => findings.push(failed(job)),
            _ => running(job, facts, &mut findings),
        }
    }
    findings.extend(held_back(facts));
    findings
}

fn finding(what: String, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what, found: found.into(), remedy: remedy.into() }
}

fn room(place: &Place) -> Option<Finding> {
    if !place.error.is_empty() {
        let remedy = "nothing can be committed there: make room or mend what it says; jobs go on by themselves";
        return Some(finding(place.name.clone(), place.error.clone(), remedy));
    }
    let free = place.free_bytes.filter(|free| *free < FREE_BYTES_MIN)?;
    let found = format!("{} MiB are free of {} MiB", free >> 20, place.total_bytes.unwrap_or(free) >> 20);
    Some(finding(place.name.clone(), found, "make room before it is full: then nothing can be committed any more"))
}

fn failed(job: &Job) -> Finding {
    let held = job.tasks.iter().any(|task| task.phase() == TaskPhase::Held);
    let fenced = job.tasks.iter().any(|task| task.error_kind == "fenced");
    let remedy = match (fenced, held) {
        (true, _) => FENCED.to_owned(),
        (_, true) => format!(
            "its module failed, and the tasks wait for another version: `forebay job swap {0} …`, or `forebay job \
             rollback {0}`",
            job.name
        ),
        _ => "mend what it says, then apply the job again".to_owned(),
    };
    let errors = [(!job.error.is_empty()).then(|| job.error.clone()), errors(job.tasks.iter())];
    finding(what(job), errors.into_iter().flatten().collect::<Vec<_>>().join("; "), remedy)
}

const FENCED: &str =
    "another server runs the same job: stop one of the two, or give each a --namespace; then apply again";

fn what(job: &Job) -> String {
    format!("job {}", job.name)
}

/// Each error once, with the tasks that have it.
fn errors<'a>(tasks: impl Iterator<Item = &'a Task>) -> Option<String> {
    let mut by_error: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for task in tasks.filter(|task| !task.error.is_empty()) {
        by_error.entry(&task.error).or_default().push(task.number.to_string());
    }
    let sentences = by_error.into_iter().map(|(error, tasks)| format!("{}: {error}", numbered("task", &tasks)));
    let sentences = sentences.collect::<Vec<_>>().join("; ");
    (!sentences.is_empty()).then_some(sentences)
}

fn numbered(noun: &str, numbers: &[String]) -> String {
    let plural = if numbers.len() == 1 { "" } else { "s" };
    format!("{noun}{plural} {}", numbers.join(", "))
}

/// What is wrong with a job whose state is `running`.
fn running(job: &Job, facts: &Facts, findings: &mut Vec<Finding>) {
    let before = facts.before.jobs.iter().find(|before| before.uid == job.uid);
    let tasks: Vec<(&Task, &Task)> = job
        .tasks
        .iter()
        .filter_map(|after| Some((before?.tasks.iter().find(|task| task.number == after.number)?, after)))
        .collect();
    findings.extend(not_started(job, before));
    findings.extend(not_running(job, &tasks, facts));
    findings.extend(started_again(job, &tasks, facts));
    let counted = Counted::of(job, facts);
    findings.extend(traps(job, &counted));
    findings.extend(dead_letters(job, &counted));
    findings.extend(late(job, &counted, facts.after.at_ms));
    findings.extend(reads_nothing(job, &tasks, facts));
    findings.extend(time_stands(job, &tasks, facts.after.at_ms));
}

/// The job has no tasks although it should be running.
fn not_started(job: &Job, before: Option<&Job>) -> Option<Finding> {
    let still = before.is_some_and(|before| before.tasks.is_empty() && before.state() == job.state());
    (job.tasks.is_empty() && still).then(|| {
        let why = if job.error.is_empty() { "it has not started" } else { job.error.as_str() };
        finding(what(job), why, "it is tried again by itself; mend what it says")
    })
}

fn not_running(job: &Job, tasks: &[(&Task, &Task)], facts: &Facts) -> Option<Finding> {
    let is_down = |task: &Task| task.phase() != TaskPhase::Running;
    let down: Vec<&Task> =
        tasks.iter().filter(|(then, now)| is_down(then) && is_down(now)).map(|(_, now)| *now).collect();
    if down.is_empty() {
        return None;
    }
    let numbers: Vec<String> = down.iter().map(|task| task.number.to_string()).collect();
    let why =
        errors(down.iter().copied()).unwrap_or_else(|| "no error is known: they may be reading much state".into());
    let found = format!("{} not running for {} s at least; {why}", numbered("task", &numbers), facts.waited_s);
    let fenced = down.iter().any(|task| task.error_kind == "fenced");
    let remedy =
        if fenced { FENCED } else { "trouble of log or disk passes by itself; anything else: mend what it says" };
    Some(finding(what(job), found, remedy))
}

fn started_again(job: &Job, tasks: &[(&Task, &Task)], facts: &Facts) -> Option<Finding> {
    let again = |(then, now): &(&Task, &Task)| {
        let times = now.restarts.saturating_sub(then.restarts);
        (times > 0).then(|| format!("task {} was started {times} times within {} s", now.number, facts.waited_s))
    };
    let again: Vec<String> = tasks.iter().filter_map(again).collect();
    (!again.is_empty()).then(|| {
        let why = errors(tasks.iter().map(|(_, now)| *now)).map_or(String::new(), |why| format!("; {why}"));
        finding(what(job), format!("{}{why}", again.join("; ")), "see the server's log for what ends it")
    })
}

/// What the tasks of a job have counted: between the looks, where that was enough, else since they began.
struct Counted {
    between: Counts,
    in_all: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    records: u64,
    dead_letters: u64,
    skipped: u64,
    late: u64,
    traps: u64,
}

impl Counts {
    fn of(task: &Task) -> Self {
        Self {
            records: task.records_in,
            dead_letters: task.dead_letters,
            skipped: task.skipped,
            late: task.late,
            traps: task.traps,
        }
    }

    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.dead_letters += other.dead_letters;
        self.skipped += other.skipped;
        self.late += other.late;
        self.traps += other.traps;
    }

    /// A counter that is lower than before was started from 0 again.
    fn since(self, before: Self) -> Self {
        let since = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self {
            records: since(self.records, before.records),
            dead_letters: since(self.dead_letters, before.dead_letters),
            skipped: since(self.skipped, before.skipped),
            late: since(self.late, before.late),
            traps: since(self.traps, before.traps),
        }
    }
}

impl Counted {
    fn of(job: &Job, facts: &Facts) -> Self {
        let before = facts.before.jobs.iter().find(|before| before.uid == job.uid);
        let (mut between, mut in_all) = (Counts::default(), Counts::default());
        for task in &job.tasks {
            let now = Counts::of(task);
            let then = before.and_then(|job| job.tasks.iter().find(|before| before.number == task.number));
            in_all.add(now);
            between.add(then.map_or(Counts::default(), |then| now.since(Counts::of(then))));
        }
        Self { between, in_all }
    }

    /// How many are bad, and how many there are in all, where the bad ones are a large part.
    fn part(&self, of: impl Fn(&Counts) -> u64) -> Option<(u64, u64)> {
        let counts = if self.between.records >= RECORDS_MIN { &self.between } else { &self.in_all };
        let (part, all) = (of(counts), counts.records);
        (all >= RECORDS_MIN && part.saturating_mul(100) >= all.saturating_mul(MANY_PERCENT)).then_some((part, all))
    }
}

fn percent((part, all): (u64, u64)) -> u64 {
    part.saturating_mul(100) / all.max(1)
}

fn traps(job: &Job, counted: &Counted) -> Option<Finding> {
    let (part, all) = match counted.part(|counts| counts.traps) {
        Some(part) => part,
        None if counted.between.traps > 0 => (counted.between.traps, counted.between.records),
        None => return None,
    };
    let modules: Vec<String> = job.modules.iter().map(|m| format!("{}@{}", m.name, m.version)).collect();
    let remedy = format!(
        "see `forebay dlq list {0} --code trap` and the module's log lines; take back a new version: `forebay job \
         rollback {0}`",
        job.name
    );
    Some(finding(what(job), format!("{} trapped {part} times on {all} records", modules.join(" or ")), remedy))
}

fn dead_letters(job: &Job, counted: &Counted) -> Option<Finding> {
    let (kept, skipped) = (counted.part(|counts| counts.dead_letters), counted.part(|counts| counts.skipped));
    let (part, what_became, remedy) = match (kept, skipped) {
        (Some(part), _) => {
            let list =
                format!("see `forebay dlq list {}`, and docs/operations.md for what to do about a code", job.name);
            (part, "are dead letters", list)
        }
        (None, Some(part)) => {
            let remedy = "set `bad_records: {policy: dead-letter}` to see each with its reason".to_owned();
            (part, "are skipped by its policy for bad records", remedy)
        }
        (None, None) => return None,
    };
    let (bad, all) = part;
    let cause = most_frequent(job).map_or(String::new(), |code| format!(", most for {code}"));
    Some(finding(what(job), format!("{bad} of {all} records ({} %) {what_became}{cause}", percent(part)), remedy))
}

/// The cause of most of a job's bad records.
fn most_frequent(job: &Job) -> Option<&str> {
    let mut by_code: BTreeMap<&str, u64> = BTreeMap::new();
    for (code, count) in job.tasks.iter().flat_map(|task| &task.bad_records) {
        *by_code.entry(code).or_default() += count;
    }
    by_code.into_iter().max_by_key(|(_, count)| *count).map(|(code, _)| code)
}

fn late(job: &Job, counted: &Counted, at_ms: i64) -> Option<Finding> {
    let part = counted.part(|counts| counts.late)?;
    let found = format!("{} of {} records ({} %) are late: event time is ahead of them", part.0, part.1, percent(part));
    let furthest =
        job.tasks.iter().max_by_key(|task| task.watermark_ns).filter(|task| is_ahead(task.watermark_ns, at_ms));
    Some(match furthest {
        Some(task) => {
            let found =
                format!("{found}, in task {} it has come to {}", task.number, moment(task.watermark_ns / 1_000_000));
            finding(what(job), found, take_back(job))
        }
        None => finding(
            what(job),
            found,
            "look for a record whose time is far ahead, or raise `out_of_orderness` of the source",
        ),
    })
}

fn is_ahead(watermark_ns: i64, at_ms: i64) -> bool {
    watermark_ns / 1_000_000 > at_ms.saturating_add(TIME_AHEAD_MS)
}

fn take_back(job: &Job) -> String {
    format!(
        "the clock of a record was ahead: lower `event_time.max_ahead` of the source so that the next one is refused, then \
         take event time back: `forebay job reset-time {} --plan` shows what that does",
        job.name
    )
}

/// There are records to read, and the task reads none.
fn reads_nothing(job: &Job, tasks: &[(&Task, &Task)], facts: &Facts) -> Option<Finding> {
    let stands = |(then, now): &&(&Task, &Task)| {
        let runs = then.phase() == TaskPhase::Running && now.phase() == TaskPhase::Running;
        runs && then.lag > 0 && now.lag >= then.lag && now.records_in == then.records_in && now.epoch == then.epoch
    };
    let stuck: Vec<String> = tasks.iter().filter(stands).map(|(_, now)| now.number.to_string()).collect();
    (!stuck.is_empty()).then(|| {
        let lag: u64 = tasks.iter().filter(stands).map(|(_, now)| now.lag).sum();
        let found = format!(
            "{} committed nothing for {} s, with {lag} records to read",
            numbered("task", &stuck),
            facts.waited_s
        );
        finding(what(job), found, "a call of the module takes long, or the log brings nothing: see the server's log")
    })
}

/// Records arrive, but event time does not advance.
fn time_stands(job: &Job, tasks: &[(&Task, &Task)], at_ms: i64) -> Option<Finding> {
    let stands = tasks.iter().filter_map(|(then, now)| {
        let slowest = now.slowest.as_ref()?;
        let reads = now.records_in > then.records_in;
        let long = at_ms.saturating_sub(now.watermark_moved_at_ms) >= TIME_STANDS_MS;
        (reads && long && now.watermark_ns == then.watermark_ns).then_some((now.watermark_moved_at_ms, slowest))
    });
    let (since, slowest) = stands.min_by_key(|(since, _)| *since)?;
    let place = format!("{}/{}", slowest.source, slowest.partition);
    let came = match slowest.watermark_ns {
        i64::MIN => "has brought no record yet".to_owned(),
        time => format!("has come to {}", moment(time / 1_000_000)),
    };
    let found =
        format!("records come, and event time stands still since {}: source partition {place} {came}", moment(since));
    if is_ahead(slowest.watermark_ns, at_ms) {
        return Some(finding(what(job), format!("{found}, which is ahead of the present"), take_back(job)));
    }
    let remedy = format!(
        "see why it brings nothing newer; a partition that may be silent must not hold back the others: set `watermark: \
         {{idle_after: 30s}}` on source {}",
        slowest.source
    );
    Some(finding(what(job), found, remedy))
}

fn moment(ms: i64) -> String {
    super::super::output::time(ms)
}

/// Partitions whose stable end has stood still before the same open transaction.
fn held_back(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for topic in &facts.after.topics {
        let Some(earlier) = facts.before.topics.iter().find(|earlier| earlier.id == topic.id) else { continue };
        for (now, then) in topic.partitions.iter().zip(&earlier.partitions) {
            let open = now.end_offset < now.written_offset && then.end_offset < then.written_offset;
            if open && now.end_offset == then.end_offset {
                let held = now.written_offset - now.end_offset;
                let found = format!(
                    "a transaction open since offset {} holds back {held} offsets for {} s",
                    now.end_offset, facts.waited_s
                );
                let remedy =
                    "the cluster ends it at its timeout; past that, kafka-transactions.sh find-hanging and abort";
                findings.push(finding(format!("{}/{}", topic.name, now.partition), found, remedy));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests;
