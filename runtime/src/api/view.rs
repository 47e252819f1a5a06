//! From this program's types to those of the API.

use super::proto;
use crate::job::manager::{JobView, State};
use crate::job::plan::{Action, Fate, Plan, PlannedState, Refusal};
use crate::job::record::{JobRecord, ModuleId, ModuleRecord, SwapPhase, SwapRecord, SwitchedTask};
use crate::job::running::TaskView;
use crate::job::spec::JobSpec;
use crate::job::swap::SwapPlan;
use crate::job::time_reset::{TaskTime, TimePlan};
use crate::task::handle::{InputTime, ModuleStatus, Phase, RegisteredTimers};
use crate::wasm::contract::Description;

pub fn module(record: &ModuleRecord) -> proto::Module {
    proto::Module {
        name: record.id.name.clone(),
        version: record.id.version.clone(),
        digest: record.id.digest.to_string(),
        size_bytes: record.size_bytes,
        pushed_at_ms: record.pushed_at_ms,
        description: Some(description(&record.description)),
    }
}

pub fn description(description: &Description) -> proto::ModuleDescription {
    let needs = description.needs;
    let needs = [
        (needs.headers, "headers"),
        (needs.coordinates, "coordinates"),
        (needs.seeds, "seeds"),
        (needs.processing_time, "processing-time"),
    ];
    let states = description.states.iter().map(|state| proto::StateDeclaration {
        name: state.name.clone(),
        version: state.version,
        reads: state.reads.clone(),
        reverts_to: state.reverts_to.clone(),
        encoding: state.encoding.clone(),
        fingerprint: state.fingerprint.clone(),
    });
    let parameters = description.parameters.iter().map(|parameter| proto::ParameterDeclaration {
        name: parameter.name.clone(),
        about: parameter.about.clone(),
        required: parameter.required,
        preset: parameter.preset.clone().filter(|_| !parameter.secret),
        secret: parameter.secret,
    });
    proto::ModuleDescription {
        about: description.about.clone(),
        sdk: description.sdk.clone(),
        keyed: description.keyed,
        inputs: description.inputs.clone(),
        outputs: description.outputs.clone(),
        states: states.collect(),
        timers: description.timers.iter().map(|timer| timer.name.clone()).collect(),
        parameters: parameters.collect(),
        refusal_codes: description.refusal_codes.clone(),
        needs: needs.into_iter().filter(|(asked, _)| *asked).map(|(_, name)| name.to_owned()).collect(),
    }
}

pub fn plan(plan: &Plan) -> proto::Plan {
    let modules = plan.graph.iter().flat_map(|graph| &graph.operators).map(|operator| proto::OperatorModule {
        operator: operator.id.clone(),
        name: operator.module.name.clone(),
        version: operator.module.version.clone(),
        digest: operator.module.digest.to_string(),
    });
    proto::Plan {
        job: plan.job.clone(),
        action: action(plan.action).into(),
        parallelism: plan.graph.as_ref().map_or(0, |graph| graph.parallelism),
        refusals: plan.refusals.iter().map(refusal).collect(),
        warnings: plan.warnings.clone(),
        changes: plan.changes.clone(),
        states: plan.states.iter().map(state).collect(),
        modules: modules.collect(),
        topics_to_create: plan.topics_to_create.clone(),
    }
}

fn action(action: Action) -> proto::PlanAction {
    match action {
        Action::Create => proto::PlanAction::Create,
        Action::Nothing => proto::PlanAction::Nothing,
        Action::Resume => proto::PlanAction::Resume,
        Action::Restart => proto::PlanAction::Restart,
        Action::Refused => proto::PlanAction::Refused,
    }
}

fn refusal(refusal: &Refusal) -> proto::Refusal {
    proto::Refusal { place: refusal.place.clone(), found: refusal.found.clone(), remedy: refusal.remedy.clone() }
}

fn state(state: &PlannedState) -> proto::PlannedState {
    let (fate, reason) = match &state.fate {
        Fate::Keep => (proto::StateFate::Keep, ""),
        Fate::Migrate { by_new: true } => (proto::StateFate::Migrate, "by the new module"),
        Fate::Migrate { by_new: false } => (proto::StateFate::Migrate, "back, by the module that runs now"),
        Fate::Reset => (
            proto::StateFate::Reset,
            "starts empty, or with what an earlier version of the job kept under this name until it was dropped",
        ),
        Fate::Orphan => (proto::StateFate::Orphan, "no longer declared; its bytes are kept"),
        Fate::Emptied => (
            proto::StateFate::Reset,
            "begins empty: its values cannot be migrated and are thrown away, and no rollback brings them back",
        ),
        Fate::Stuck(why) | Fate::Refuse(why) => (proto::StateFate::Refuse, why.as_str()),
    };
    proto::PlannedState {
        operator: state.operator.clone(),
        state: state.state.clone(),
        fate: fate.into(),
        from_version: state.from_version,
        to_version: state.to_version,
        reason: reason.to_owned(),
    }
}

/// What stands for a secret that was written into the spec itself.
const HIDDEN: &str = "<secret>";

/// The spec as others may see it: parameters that a module declares secret are hidden. Where a module's description is
/// not known all parameters of its operator are hidden.
pub fn spec(record: &JobRecord, description: impl Fn(&ModuleId) -> Option<Description>) -> JobSpec {
    let mut spec = record.spec.clone();
    for operator in &mut spec.operators {
        let description = record.modules.get(&operator.id).and_then(&description);
        let is_secret = |name: &str| match &description {
            Some(known) => known.parameters.iter().any(|parameter| parameter.name == name && parameter.secret),
            None => true,
        };
        for (_, value) in operator.parameters.iter_mut().filter(|(name, _)| is_secret(name)) {
            HIDDEN.clone_into(value);
        }
    }
    spec
}

pub fn job(job: &JobView) -> proto::Job {
    let record = &job.record;
    proto::Job {
        name: record.name.clone(),
        uid: record.uid.to_string(),
        incarnation: record.incarnation,
        revision: job.revision,
        state: job_state(job.state).into(),
        error: job.error.clone().unwrap_or_default(),
        created_at_ms: record.created_at_ms,
        parallelism: record.parallelism,
        modules: record.modules.iter().map(|(operator, id)| pinned(operator, id)).collect(),
        tasks: job.tasks.iter().enumerate().map(|(number, view)| task(number as u32, view)).collect(),
        swap: job.swap.as_ref().map(swap),
        dead_letter_topic: record.spec.dead_letter_topic(),
        time_reset: time_reset(job),
    }
}

pub fn time_reset(job: &JobView) -> Option<proto::TimeReset> {
    let reset = job.record.time_reset?;
    let made =
        |number: &u32| job.tasks.get(*number as usize).is_some_and(|task| task.status.time_reset >= reset.number);
    let (done, to_come) = (0..job.record.parallelism).partition(made);
    Some(proto::TimeReset { number: reset.number, to_ns: reset.to_ns, asked_at_ms: reset.asked_at_ms, done, to_come })
}

pub fn time_plan(job: &str, to_ns: Option<i64>, plan: &TimePlan) -> proto::TimeResetPlan {
    let task = |task: &TaskTime| proto::PlannedTime {
        task: task.task,
        not_known: task.not_known.clone().unwrap_or_default(),
        watermark_ns: task.watermark,
        becomes_ns: task.becomes,
        slowest: task.slowest.as_ref().map(input_time),
        fastest: task.fastest.as_ref().map(input_time),
        timers: task.timers.iter().map(|(operator, timers)| registered(operator, timers)).collect(),
    };
    proto::TimeResetPlan {
        job: job.to_owned(),
        to_ns,
        refusals: plan.refusals.iter().map(refusal).collect(),
        warnings: plan.warnings.clone(),
        effects: plan.effects.clone(),
        tasks: plan.tasks.iter().map(task).collect(),
    }
}

fn job_state(state: State) -> proto::JobState {
    match state {
        State::Starting => proto::JobState::Starting,
        State::Running => proto::JobState::Running,
        State::Restarting => proto::JobState::Restarting,
        State::Failed => proto::JobState::Failed,
        State::Stopping => proto::JobState::Stopping,
        State::Stopped => proto::JobState::Stopped,
    }
}

fn pinned(operator: &str, id: &ModuleId) -> proto::OperatorModule {
    let (name, version, digest) = (id.name.clone(), id.version.clone(), id.digest.to_string());
    proto::OperatorModule { operator: operator.to_owned(), name, version, digest }
}

fn task(number: u32, view: &TaskView) -> proto::Task {
    let status = &view.status;
    let module = |(operator, module): (&String, &ModuleStatus)| proto::OperatorModule {
        operator: operator.clone(),
        name: module.name.clone(),
        version: module.version.clone(),
        digest: module.digest.clone(),
    };
    proto::Task {
        number,
        phase: phase(status.phase).into(),
        error: status.error.clone().unwrap_or_default(),
        restarts: view.restarts,
        epoch: status.epoch,
        watermark_ns: status.watermark,
        records_in: status.records_in,
        records_out: status.records_out,
        dead_letters: status.dead_letters,
        skipped: status.skipped,
        late: status.late,
        traps: status.traps,
        commits: status.commits,
        open_records: status.open_records,
        lag: status.lag,
        freshness_ns: status.freshness_ns,
        commit_us: status.commit_us,
        recovery_us: status.recovery_us,
        modules: status.modules.iter().map(module).collect(),
        positions: positions(&status.positions),
        migrating: status.migrating,
        written_freshness_ns: status.written_freshness_ns,
        bad_records: status.bad_records.clone().into_iter().collect(),
        error_kind: status.error_kind.map_or_else(String::new, |kind| kind.name().to_owned()),
        watermark_moved_at_ms: status.watermark_moved / 1_000_000,
        slowest: status.slowest.as_ref().map(input_time),
        fastest: status.fastest.as_ref().map(input_time),
        timers: status.timers.iter().map(|(operator, timers)| registered(operator, timers)).collect(),
        time_reset: status.time_reset,
    }
}

fn registered(operator: &str, timers: &RegisteredTimers) -> proto::RegisteredTimers {
    proto::RegisteredTimers {
        operator: operator.to_owned(),
        known: timers.known,
        is_all: timers.is_all,
        first_ns: timers.first,
        last_ns: timers.last,
    }
}

fn input_time(input: &InputTime) -> proto::InputTime {
    let (source, partition) = (input.source.clone(), input.partition);
    proto::InputTime { source, partition, watermark_ns: input.watermark }
}

fn phase(phase: Phase) -> proto::TaskPhase {
    match phase {
        Phase::Recovering => proto::TaskPhase::Recovering,
        Phase::Running => proto::TaskPhase::Running,
        Phase::Stopped => proto::TaskPhase::Stopped,
        Phase::Held => proto::TaskPhase::Held,
        Phase::Failed => proto::TaskPhase::Failed,
    }
}

type Positions = std::collections::BTreeMap<String, std::collections::BTreeMap<i32, i64>>;

fn positions(positions: &Positions) -> Vec<proto::Position> {
    let of_source = |(source, partitions): (&String, &std::collections::BTreeMap<i32, i64>)| {
        let source = source.clone();
        let position = move |(&partition, &next_offset): (&i32, &i64)| proto::Position {
            source: source.clone(),
            partition,
            next_offset,
        };
        partitions.iter().map(position).collect::<Vec<_>>()
    };
    positions.iter().flat_map(of_source).collect()
}

pub fn swap(swap: &SwapRecord) -> proto::Swap {
    proto::Swap {
        id: swap.swap.to_string(),
        operator: swap.operator.clone(),
        from: Some(pinned(&swap.operator, &swap.from)),
        to: Some(pinned(&swap.operator, &swap.to)),
        phase: swap_phase(swap.phase).into(),
        rollback: swap.rollback,
        reason: swap.reason.clone().unwrap_or_default(),
        started_at_ms: swap.started_at_ms,
        tasks: swap.tasks.iter().map(|(id, task)| switched(id.number, task)).collect(),
    }
}

pub fn swap_plan(plan: &SwapPlan) -> proto::SwapPlan {
    proto::SwapPlan {
        operator: plan.operator.clone(),
        from: Some(pinned(&plan.operator, &plan.from)),
        to: Some(pinned(&plan.operator, &plan.to)),
        refusals: plan.refusals.iter().map(refusal).collect(),
        warnings: plan.warnings.clone(),
        states: plan.states.iter().map(state).collect(),
    }
}

fn swap_phase(phase: SwapPhase) -> proto::SwapPhase {
    match phase {
        SwapPhase::Preparing => proto::SwapPhase::Preparing,
        SwapPhase::Switching => proto::SwapPhase::Switching,
        SwapPhase::Probation => proto::SwapPhase::Probation,
        SwapPhase::Done => proto::SwapPhase::Done,
        SwapPhase::Abandoned => proto::SwapPhase::Abandoned,
        SwapPhase::RollingBack => proto::SwapPhase::RollingBack,
        SwapPhase::RolledBack => proto::SwapPhase::RolledBack,
    }
}

fn switched(task: u32, switched: &SwitchedTask) -> proto::SwitchedTask {
    proto::SwitchedTask {
        task,
        epoch: switched.epoch,
        pause_us: switched.pause_us,
        from: positions(&switched.from),
        values_tried: switched.values_tried,
    }
}
