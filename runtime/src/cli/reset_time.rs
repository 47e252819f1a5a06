//! `forebay job reset-time`: the plan of a reset of event time, and the reset.

use forebay::api::client::Client;
use forebay::api::proto::{
    InputTime, PlanResetTimeRequest, PlannedTime, RegisteredTimers, ResetTimeRequest, TimeReset, TimeResetPlan,
};

use super::exit::{Exit, Failure};
use super::output::{Format, event_time, refused, table, time};

pub async fn run(
    name: String,
    to_ns: Option<i64>,
    plan: bool,
    mut client: Client,
    format: Format,
) -> Result<(), Failure> {
    if !plan {
        let reset = client.jobs.reset_time(ResetTimeRequest { name, to_ns }).await?.into_inner().reset;
        return format.write(&reset.unwrap_or_default(), describe);
    }
    let answer = client.jobs.plan_reset_time(PlanResetTimeRequest { name, to_ns }).await?.into_inner();
    let plan = answer.plan.unwrap_or_default();
    format.write(&plan, describe_plan)?;
    let refused = !plan.refusals.is_empty();
    if refused { Err(Failure { exit: Exit::Invalid, message: String::new() }) } else { Ok(()) }
}

/// Nanoseconds since 1970 of a moment as people write it.
pub fn moment(text: &str) -> Result<i64, String> {
    let how = "write it with its offset, like 2026-11-28T12:00:00Z";
    let at: jiff::Timestamp = text.parse().map_err(|error| format!("{error}; {how}"))?;
    i64::try_from(at.as_nanosecond()).map_err(|_| format!("{text} is out of range; {how}"))
}

pub fn describe(reset: &TimeReset) -> String {
    let head =
        format!("reset {} of event time, asked at {}: {}", reset.number, time(reset.asked_at_ms), goal(reset.to_ns));
    let numbers = |tasks: &[u32]| tasks.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    match (reset.done.is_empty(), reset.to_come.is_empty()) {
        (_, true) => format!("{head}; every task has made it"),
        (true, false) => format!("{head}; no task has made it yet: each does when it runs"),
        (false, false) => {
            format!(
                "{head}; task {} has made it, task {} does when it runs",
                numbers(&reset.done),
                numbers(&reset.to_come)
            )
        }
    }
}

fn goal(to_ns: Option<i64>) -> String {
    match to_ns {
        Some(to) => format!("back to {} where it is beyond that", event_time(to)),
        None => "forgotten, it follows the records that come from then on".to_owned(),
    }
}

fn describe_plan(plan: &TimeResetPlan) -> String {
    let verdict = if plan.refusals.is_empty() { "possible" } else { "refused" };
    let mut lines = vec![format!("event time of job {}: {}: {verdict}", plan.job, goal(plan.to_ns))];
    lines.extend(plan.refusals.iter().map(refused));
    lines.extend(plan.warnings.iter().map(|warning| format!("  warning  {warning}")));
    lines.extend(plan.effects.iter().map(|effect| format!("  effect   {effect}")));
    let rows = plan.tasks.iter().filter(|task| task.not_known.is_empty()).map(row);
    lines.push(table(["task", "watermark", "becomes", "slowest input", "furthest input", "timers"], rows));
    let not_known = plan.tasks.iter().filter(|task| !task.not_known.is_empty());
    lines.extend(not_known.map(|task| format!("task {}: {}", task.task, task.not_known)));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

fn row(task: &PlannedTime) -> [String; 6] {
    let input = |input: &Option<InputTime>| {
        input
            .as_ref()
            .map_or("-".to_owned(), |at| format!("{}/{} {}", at.source, at.partition, event_time(at.watermark_ns)))
    };
    let timers: Vec<String> = task.timers.iter().map(timers).collect();
    [
        task.task.to_string(),
        event_time(task.watermark_ns),
        event_time(task.becomes_ns),
        input(&task.slowest),
        input(&task.fastest),
        if timers.is_empty() { "-".to_owned() } else { timers.join(", ") },
    ]
}

fn timers(timers: &RegisteredTimers) -> String {
    let least = if timers.is_all { "" } else { "at least " };
    let from = timers.first_ns.map_or(String::new(), |first| format!(" from {}", event_time(first)));
    format!("{}: {least}{}{from}", timers.operator, timers.known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_with_its_offset_and_refused_without() {
        assert_eq!(moment("1970-01-01T01:00:00.5+01:00"), Ok(500_000_000));
        let refused = moment("2026-11-28T12:00:00").unwrap_err();
        assert!(refused.contains("with its offset"), "{refused}");
        assert!(moment("9999-01-01T00:00:00Z").unwrap_err().contains("out of range"));
    }

    #[test]
    fn a_reset_says_who_has_made_it() {
        let reset = |done: &[u32], to_come: &[u32]| {
            describe(&TimeReset { number: 3, done: done.to_vec(), to_come: to_come.to_vec(), ..TimeReset::default() })
        };
        assert!(reset(&[0, 1], &[]).ends_with("every task has made it"));
        assert!(reset(&[], &[0]).ends_with("no task has made it yet: each does when it runs"));
        assert!(reset(&[0], &[1, 2]).ends_with("task 0 has made it, task 1, 2 does when it runs"));
    }

    #[test]
    fn a_plan_shows_per_task_what_goes_back_and_what_is_not_known() {
        let at = |watermark_ns| Some(InputTime { source: "in".into(), partition: 1, watermark_ns });
        let registered = RegisteredTimers {
            operator: "count".into(),
            known: 4_096,
            is_all: false,
            first_ns: Some(3_000_000_000),
            last_ns: None,
        };
        let known = PlannedTime {
            watermark_ns: 2_000_000_000,
            becomes_ns: i64::MIN,
            slowest: at(2_000_000_000),
            fastest: at(2_500_000_000),
            timers: vec![registered],
            ..PlannedTime::default()
        };
        let unknown = PlannedTime { task: 1, not_known: "it is down".into(), ..PlannedTime::default() };
        let plan = TimeResetPlan { job: "counts".into(), tasks: vec![known, unknown], ..TimeResetPlan::default() };
        let shown = describe_plan(&plan);
        for part in [
            "job counts: forgotten",
            "possible",
            "in/1 1970-01-01T00:00:02.500Z",
            "count: at least 4096 from 1970-01-01T00:00:03.000Z",
            "task 1: it is down",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(shown.lines().count(), 4, "{shown}");
    }
}
