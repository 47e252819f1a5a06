//! `forebay job`: plan, apply, watch and change jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Read};
use std::path::PathBuf;
use std::time::Duration;

use forebay::api::client::Client;
use forebay::api::json::Named;
use forebay::api::proto::{
    ApplyJobRequest, DeleteJobRequest, GetJobRequest, Job, JobState, ListJobsRequest, OperatorModule, Plan, PlanAction,
    PlanJobRequest, PlanSwapRequest, PlannedState, RollbackJobRequest, StateFate, StopJobRequest, Swap, SwapJobRequest,
    SwapPhase, SwapPlan, Task, TaskPhase,
};

use forebay::env::instant;
use indicatif::ProgressBar;

use super::exit::{Exit, Failure};
use super::output::{Format, event_time, refused, table};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show what applying a spec would do, and everything that is wrong with it
    Plan {
        /// YAML, - for stdin
        spec: PathBuf,
    },
    /// Create, change or resume a job
    Apply {
        /// YAML, - for stdin
        spec: PathBuf,
        /// Answer as soon as it is recorded, before its tasks run
        #[arg(long)]
        no_wait: bool,
        /// Wait so long for its tasks to run, seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with = "no_wait")]
        timeout: u64,
    },
    List,
    Get {
        job: String,
        /// Print the spec in force instead
        #[arg(long)]
        spec: bool,
    },
    /// End the tasks; state and positions stay, apply resumes
    Stop {
        job: String,
    },
    /// Remove a job with its state
    Delete {
        job: String,
        /// State and positions are gone for ever: say that you mean it
        #[arg(long)]
        yes: bool,
    },
    /// Replace one operator's module while the job runs; state stays
    Swap {
        job: String,
        operator: String,
        /// name@version, or a digest
        module: String,
        /// A state that begins empty: beside one that is dropped, or because nobody can migrate its values; repeatable
        #[arg(long, value_name = "STATE")]
        reset: Vec<String>,
        /// A state or timer that the new version no longer declares; repeatable
        #[arg(long, value_name = "STATE")]
        drop: Vec<String>,
        /// Show what the swap would do to each state, and everything that is wrong with it
        #[arg(long)]
        plan: bool,
    },
    /// Take event time back where the clock of a record was far ahead; state, positions and timers stay
    ResetTime {
        job: String,
        /// No watermark is beyond it afterwards, like 2026-11-28T12:00:00Z. Left out: event time follows the records that
        /// come from here on
        #[arg(long, value_name = "TIME", value_parser = super::reset_time::moment)]
        to: Option<i64>,
        /// Show where event time stands and what the reset would do, and everything that is wrong with it
        #[arg(long)]
        plan: bool,
    },
    /// Go back to the version before the last swap, with the state as it stands
    Rollback {
        job: String,
    },
}

pub async fn run(command: Command, mut client: Client, format: Format) -> Result<(), Failure> {
    match command {
        Command::Plan { spec } => {
            let spec = read(&spec)?;
            let plan = client.jobs.plan(PlanJobRequest { spec }).await?.into_inner().plan.unwrap_or_default();
            format.write(&plan, describe_plan)?;
            let refused = plan.action() == PlanAction::Refused;
            if refused { Err(Failure { exit: Exit::Invalid, message: String::new() }) } else { Ok(()) }
        }
        Command::Apply { spec, no_wait, timeout } => {
            let patience = (!no_wait).then(|| Duration::from_secs(timeout));
            apply(read(&spec)?, patience, client, format).await
        }
        Command::List => {
            let jobs = client.jobs.list(ListJobsRequest {}).await?.into_inner().jobs;
            format.write(&jobs[..], summary)
        }
        Command::Get { job, spec } => {
            let answer = client.jobs.get(GetJobRequest { name: job }).await?.into_inner();
            if spec {
                return super::output::line(answer.spec.trim_end());
            }
            format.write(&answer.job.unwrap_or_default(), describe)
        }
        Command::Stop { job } => {
            let job = client.jobs.stop(StopJobRequest { name: job }).await?.into_inner().job.unwrap_or_default();
            format.write(&job, describe_stop)
        }
        Command::Delete { job, yes } => delete(job, yes, client, format).await,
        Command::Swap { job: name, operator, module, reset, drop, plan: true } => {
            let request = PlanSwapRequest { name, operator, module, reset, drop };
            let plan = client.jobs.plan_swap(request).await?.into_inner().plan.unwrap_or_default();
            format.write(&plan, describe_swap_plan)?;
            let refused = !plan.refusals.is_empty();
            if refused { Err(Failure { exit: Exit::Invalid, message: String::new() }) } else { Ok(()) }
        }
        Command::Swap { job: name, operator, module, reset, drop, plan: false } => {
            let request = SwapJobRequest { name, operator, module, reset, drop };
            format.write(&client.jobs.swap(request).await?.into_inner().swap.unwrap_or_default(), describe_swap)
        }
        Command::ResetTime { job, to, plan } => super::reset_time::run(job, to, plan, client, format).await,
        Command::Rollback { job } => {
            let request = RollbackJobRequest { name: job };
            format.write(&client.jobs.rollback(request).await?.into_inner().swap.unwrap_or_default(), describe_swap)
        }
    }
}

/// Answers when every task runs: what is produced then is processed, and what is asked for is there.
async fn apply(spec: String, patience: Option<Duration>, mut client: Client, format: Format) -> Result<(), Failure> {
    let answer = client.jobs.apply(ApplyJobRequest { spec, expected_revision: None }).await?.into_inner();
    let (plan, mut job) = (answer.plan.unwrap_or_default(), answer.job.unwrap_or_default());
    let waited = match patience {
        None => Ok(()),
        Some(patience) => wait_until_it_runs(&mut job, patience, &mut client).await,
    };
    format.write(&job, |job| format!("{}\n{}", describe_plan(&plan), describe(job)))?;
    waited
}

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `job` is as it was seen last, also where it does not run.
async fn wait_until_it_runs(job: &mut Job, patience: Duration, client: &mut Client) -> Result<(), Failure> {
    let until = instant() + patience;
    let progress = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    progress.enable_steady_tick(Duration::from_millis(100));
    let outcome = loop {
        let waited = patience.saturating_sub(until.saturating_duration_since(instant()));
        match verdict(job) {
            Verdict::Runs => break Ok(()),
            Verdict::Failed(why) => {
                break Err(Failure::other(format!("job {} is applied and has failed: {why}", job.name)));
            }
            Verdict::Starts(how_far) if instant() >= until => {
                let message = format!(
                    "job {} is applied and does not run after {} s: {how_far}; it goes on by itself: look with `forebay \
                     job get {0}`",
                    job.name,
                    patience.as_secs()
                );
                break Err(Failure { exit: Exit::Unavailable, message });
            }
            Verdict::Starts(how_far) => progress.set_message(format!("{how_far} ({} s)", waited.as_secs())),
        }
        tokio::time::sleep(LOOK_EVERY).await;
        *job = client.jobs.get(GetJobRequest { name: job.name.clone() }).await?.into_inner().job.unwrap_or_default();
    };
    progress.finish_and_clear();
    outcome
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Runs,
    /// The job will not come to run without somebody's help.
    Failed(String),
    Starts(String),
}

fn verdict(job: &Job) -> Verdict {
    let of_tasks = job.tasks.iter().map(|task| task.error.as_str());
    let errors: BTreeSet<&str> =
        std::iter::once(job.error.as_str()).chain(of_tasks).filter(|e| !e.is_empty()).collect();
    let errors = errors.into_iter().collect::<Vec<_>>().join("; ");
    match job.state() {
        JobState::Running => Verdict::Runs,
        JobState::Failed => Verdict::Failed(errors),
        JobState::Stopped => Verdict::Failed("it was stopped meanwhile".to_owned()),
        _ => {
            let running = job.tasks.iter().filter(|task| task.phase() == TaskPhase::Running).count();
            let why = if errors.is_empty() { String::new() } else { format!(": {errors}") };
            Verdict::Starts(format!("{running} of {} tasks run{why}", job.parallelism))
        }
    }
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
        _ => std::fs::read_to_string(path).map(|found| text = found),
    };
    read.map_err(|error| Failure::invalid(format!("read {}: {error}", path.display())))?;
    Ok(text)
}

async fn delete(job: String, yes: bool, mut client: Client, format: Format) -> Result<(), Failure> {
    if !yes {
        return Err(Failure::invalid(format!(
            "delete job {job}: its state and positions would be gone for ever; add --yes, or `forebay job stop {job}`"
        )));
    }
    let request = DeleteJobRequest { name: job.clone() };
    let deleted = client.jobs.delete(request).await?.into_inner().deleted_topics;
    format.write(&deleted, |topics| format!("job {job} is deleted, with {}", super::output::list(topics)))
}

fn describe_plan(plan: &Plan) -> String {
    let mut lines = vec![format!("job {}: {}", plan.job, plan.action().name())];
    lines.extend(plan.refusals.iter().map(refused));
    lines.extend(plan.warnings.iter().map(|warning| format!("  warning  {warning}")));
    lines.extend(plan.changes.iter().map(|change| format!("  change   {change}")));
    lines.extend(plan.topics_to_create.iter().map(|topic| format!("  create   topic {topic}")));
    lines.extend(plan.modules.iter().map(|m| format!("  module   {}: {}@{}", m.operator, m.name, m.version)));
    lines.extend(plan.states.iter().map(planned));
    if plan.parallelism > 0 {
        lines.push(format!("  tasks    {}", plan.parallelism));
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

fn planned(state: &PlannedState) -> String {
    let versions = match state.fate() {
        StateFate::Keep | StateFate::Reset => format!("v{}", state.to_version),
        StateFate::Orphan => format!("v{}", state.from_version),
        _ => format!("v{} → v{}", state.from_version, state.to_version),
    };
    format!("  state    {}.{}: {} {versions} {}", state.operator, state.state, state.fate().name(), state.reason)
}

fn describe_swap_plan(plan: &SwapPlan) -> String {
    let (from, to) = (version(&plan.from), version(&plan.to));
    let verdict = if plan.refusals.is_empty() { "possible" } else { "refused" };
    let mut lines = vec![format!("swap of {}: {from} → {to}: {verdict}", plan.operator)];
    lines.extend(plan.refusals.iter().map(refused));
    lines.extend(plan.warnings.iter().map(|warning| format!("  warning  {warning}")));
    lines.extend(plan.states.iter().map(planned));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

fn describe_stop(job: &Job) -> String {
    if job.state() == JobState::Stopped {
        return format!("job {} is stopped; `forebay job apply` resumes it", job.name);
    }
    let running = job.tasks.iter().filter(|task| task.phase() != TaskPhase::Stopped);
    let tasks: Vec<_> = running.map(|task| task.number.to_string()).collect();
    format!(
        "job {} is stopping: task {} has not ended yet, it may be in a long call of its module; see `forebay job get {}`",
        job.name,
        tasks.join(", "),
        job.name
    )
}

fn summary(jobs: &[Job]) -> String {
    let rows = jobs.iter().map(|job| {
        let sum = |of: fn(&Task) -> u64| job.tasks.iter().map(of).sum::<u64>().to_string();
        let modules: Vec<_> = job.modules.iter().map(|module| format!("{}@{}", module.name, module.version)).collect();
        [
            job.name.clone(),
            job.state().name(),
            job.parallelism.to_string(),
            sum(|task| task.records_in),
            sum(|task| task.lag),
            sum(|task| task.dead_letters),
            sum(|task| task.late),
            modules.join(" "),
        ]
    });
    table(["name", "state", "tasks", "records", "lag", "dead letters", "late", "modules"], rows)
}

fn describe(job: &Job) -> String {
    let mut text = format!("job {} ({}): {}", job.name, job.uid, JobState::name(job.state()));
    if !job.error.is_empty() {
        text.push_str(&format!("\nerror: {}", job.error));
    }
    let rows = job.tasks.iter().map(|task| {
        [
            task.number.to_string(),
            TaskPhase::name(task.phase()),
            task.epoch.to_string(),
            event_time(task.watermark_ns),
            task.records_in.to_string(),
            task.records_out.to_string(),
            task.lag.to_string(),
            task.dead_letters.to_string(),
            task.late.to_string(),
            task.traps.to_string(),
            task.restarts.to_string(),
        ]
    });
    let header =
        ["task", "phase", "epoch", "watermark", "in", "out", "lag", "dead letters", "late", "traps", "restarts"];
    text.push_str(&format!("\n{}", table(header, rows)));
    for task in job.tasks.iter().filter(|task| !task.error.is_empty()) {
        text.push_str(&format!("\ntask {}: {}", task.number, task.error));
    }
    let causes = bad_records(job);
    if !causes.is_empty() {
        text.push_str(&format!("\nbad records: {causes}"));
    }
    for module in &job.modules {
        text.push_str(&format!("\noperator {}: {}@{} {}", module.operator, module.name, module.version, module.digest));
    }
    if let Some(reset) = &job.time_reset {
        text.push_str(&format!("\n{}", super::reset_time::describe(reset)));
    }
    if let Some(swap) = &job.swap {
        text.push_str(&format!("\n{}", describe_swap(swap)));
    }
    text
}

/// How many by each cause, the most frequent first.
fn bad_records(job: &Job) -> String {
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for (cause, count) in job.tasks.iter().flat_map(|task| &task.bad_records) {
        *causes.entry(cause).or_default() += count;
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(cause, count)| (std::cmp::Reverse(*count), *cause));
    causes.iter().map(|(cause, count)| format!("{count} {cause}")).collect::<Vec<_>>().join(", ")
}

fn describe_swap(swap: &Swap) -> String {
    let kind = if swap.rollback { "rollback" } else { "swap" };
    let (from, to) = (version(&swap.from), version(&swap.to));
    let mut text = format!("{kind} {} of {}: {from} → {to}: {}", swap.id, swap.operator, SwapPhase::name(swap.phase()));
    if !swap.reason.is_empty() {
        text.push_str(&format!("\n  {}", swap.reason));
    }
    if swap.phase() == SwapPhase::Switching && swap.tasks.is_empty() {
        text.push_str("\n  decided, and tried by no task yet: they try it when the job starts");
    }
    for task in swap.tasks.iter().filter(|task| task.epoch > 0) {
        let pause = task.pause_us as f64 / 1000.0;
        let (number, epoch, tried) = (task.task, task.epoch, task.values_tried);
        text.push_str(&format!("\n  task {number}: since epoch {epoch}, gap {pause:.1} ms, {tried} values tried"));
    }
    text
}

fn version(module: &Option<OperatorModule>) -> String {
    module.as_ref().map_or(String::new(), |module| format!("{}@{}", module.name, module.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: JobState, phases: &[(TaskPhase, &str)]) -> Job {
        let task = |(phase, error): &(TaskPhase, &str)| {
            let error = (*error).to_owned();
            Task { phase: (*phase).into(), error, ..Task::default() }
        };
        let tasks = phases.iter().map(task).collect();
        Job { state: state.into(), parallelism: 2, tasks, ..Job::default() }
    }

    #[test]
    fn an_apply_waits_until_every_task_runs_and_no_longer() {
        let (up, down) = ((TaskPhase::Running, ""), (TaskPhase::Recovering, ""));
        assert_eq!(verdict(&job(JobState::Running, &[up, up])), Verdict::Runs);
        let starts = |text: &str| Verdict::Starts(text.to_owned());
        assert_eq!(verdict(&job(JobState::Starting, &[])), starts("0 of 2 tasks run"));
        assert_eq!(verdict(&job(JobState::Starting, &[up, down])), starts("1 of 2 tasks run"));
        let trouble = (TaskPhase::Recovering, "no leader");
        assert_eq!(verdict(&job(JobState::Restarting, &[up, trouble])), starts("1 of 2 tasks run: no leader"));
        let dead = (TaskPhase::Failed, "it trapped");
        assert_eq!(verdict(&job(JobState::Failed, &[dead, dead])), Verdict::Failed("it trapped".to_owned()));
        assert!(matches!(verdict(&job(JobState::Stopped, &[])), Verdict::Failed(_)));
    }
}
