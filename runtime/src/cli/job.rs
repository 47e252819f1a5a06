//! `forebay job`: plan, apply, watch and change jobs.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use forebay::api::client::Client;
use forebay::api::json::Named;
use forebay::api::proto::{
    ApplyJobRequest, DeleteJobRequest, GetJobRequest, Job, JobState, ListJobsRequest, OperatorModule, Plan, PlanAction,
    PlanJobRequest, PlanSwapRequest, PlannedState, Refusal, RollbackJobRequest, StateFate, StopJobRequest, Swap,
    SwapJobRequest, SwapPhase, SwapPlan, Task, TaskPhase,
};

use super::exit::{Exit, Failure};
use super::output::{Format, table};

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
        /// A state that begins empty beside one that is dropped; repeatable
        #[arg(long, value_name = "STATE")]
        reset: Vec<String>,
        /// A state or timer that the new version no longer declares; repeatable
        #[arg(long, value_name = "STATE")]
        drop: Vec<String>,
        /// Show what the swap would do to each state, and everything that is wrong with it
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
        Command::Apply { spec } => {
            let request = ApplyJobRequest { spec: read(&spec)?, expected_revision: None };
            let answer = client.jobs.apply(request).await?.into_inner();
            let plan = answer.plan.unwrap_or_default();
            format.write(&answer.job.unwrap_or_default(), |job| format!("{}\n{}", describe_plan(&plan), describe(job)))
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
        Command::Rollback { job } => {
            let request = RollbackJobRequest { name: job };
            format.write(&client.jobs.rollback(request).await?.into_inner().swap.unwrap_or_default(), describe_swap)
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

fn refused(refusal: &Refusal) -> String {
    format!("  refused  {}: {}\n           {}", refusal.place, refusal.found, refusal.remedy)
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
            watermark(task.watermark_ns),
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

fn watermark(ns: i64) -> String {
    match ns {
        i64::MIN => "-".to_owned(),
        ns => jiff::Timestamp::from_nanosecond(ns.into()).map_or_else(|_| ns.to_string(), |at| format!("{at:.3}")),
    }
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
