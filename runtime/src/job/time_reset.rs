//! Taking a job's event time back: the caller's side.
//!
//! Writes the reset into the job's record and waits a moment for the tasks, each of which makes it once; whoever follows
//! the records goes on where nobody waits. Read [`Manager::reset_time`]. What a reset would do is a pure function of the
//! job's record and of what its tasks report ([`plan`]).

use std::time::Duration;

use super::error::Error;
use super::manager::{Manager, SOON, exclusive};
use super::plan::Refusal;
use super::record::{Desired, JobRecord, TimeResetRecord};
use super::running::TaskView;
use super::scalar::show_duration;
use super::spec::{EventTimeSpec, SourceSpec};
use super::store::Expected;
use crate::codec::MAX_AHEAD;
use crate::env::failpoint;
use crate::model::{BEFORE_ALL_TIME, EventTime};
use crate::task::handle::{InputTime, RegisteredTimers};

/// Whoever asked waits so long for the tasks that run.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a reset would do: everything that can be known before anything moves.
#[derive(Debug, Default)]
pub struct TimePlan {
    pub refusals: Vec<Refusal>,
    pub warnings: Vec<String>,
    /// What it means for timers, late records and sinks.
    pub effects: Vec<String>,
    pub tasks: Vec<TaskTime>,
}

/// Where event time stands in one task, and would stand then.
#[derive(Debug)]
pub struct TaskTime {
    pub task: u32,
    /// Why nothing is known of it.
    pub not_known: Option<String>,
    pub watermark: EventTime,
    pub becomes: EventTime,
    pub slowest: Option<InputTime>,
    pub fastest: Option<InputTime>,
    pub timers: Vec<(String, RegisteredTimers)>,
}

impl Manager {
    /// What taking event time back to `to` would do. Changes nothing; what is wrong is in the answer.
    pub fn plan_time_reset(&self, name: &str, to: Option<EventTime>) -> Result<TimePlan, Error> {
        let job = self.get(name)?;
        Ok(plan(&job.record, &job.tasks, to))
    }

    /// Takes event time back to `to`, or to before all records: once in each task, at once where it runs, else when it
    /// starts.
    ///
    /// # Errors
    /// [`Error::TimeResetRefused`] by the plan. Nothing has changed then.
    pub fn reset_time(&self, name: &str, to: Option<EventTime>) -> Result<(), Error> {
        let number = {
            let change = self.change_of(name);
            let _one = exclusive(&change, name)?;
            let refusals = self.plan_time_reset(name, to)?.refusals;
            if !refusals.is_empty() {
                return Err(Error::TimeResetRefused { job: name.to_owned(), refusals });
            }
            let (revision, mut job) = self.record(name)?;
            let number = job.time_reset.map_or(0, |last| last.number) + 1;
            let reset = TimeResetRecord { number, to_ns: to, asked_at_ms: self.clock.now() / 1_000_000 };
            job.put_time_reset(reset);
            self.put(job, Expected::At(revision))?;
            failpoint("time-reset-recorded");
            number
        };
        self.wake_up();
        let until = self.clock.elapsed() + PATIENCE;
        while !self.have_reset(name, number) && self.clock.elapsed() < until && !self.is_stopping() {
            self.pause(SOON);
        }
        Ok(())
    }

    /// No task that could make the reset now has it still to make.
    fn have_reset(&self, name: &str, number: u64) -> bool {
        let tasks = self.running_job(name).map(|running| running.tasks()).unwrap_or_default();
        tasks.iter().all(|task| task.down || task.status.time_reset >= number)
    }
}

pub fn plan(job: &JobRecord, tasks: &[TaskView], to: Option<EventTime>) -> TimePlan {
    let limit = to.unwrap_or(BEFORE_ALL_TIME);
    let tasks: Vec<TaskTime> =
        (0..job.parallelism).map(|number| time_of(number, tasks.get(number as usize), limit)).collect();
    let partitions: usize = job.sources.values().map(|source| source.start.len()).sum();
    let has_neighbours = partitions > job.parallelism as usize;
    TimePlan {
        refusals: refusals(job, &tasks, limit),
        warnings: job.spec.sources.iter().flat_map(|source| warnings(source, has_neighbours)).collect(),
        effects: effects(job, &tasks),
        tasks,
    }
}

fn time_of(task: u32, view: Option<&TaskView>, limit: EventTime) -> TaskTime {
    let not_known = match view {
        None => Some("the task does not run here: it makes the reset when it starts".to_owned()),
        Some(view) if view.status.epoch == 0 => {
            let why = view.status.error.clone().unwrap_or_else(|| "it is still coming up".to_owned());
            Some(format!("{why}; the task makes the reset when it has come up"))
        }
        Some(_) => None,
    };
    let known = view.filter(|_| not_known.is_none()).map(|view| &view.status);
    let watermark = known.map_or(BEFORE_ALL_TIME, |status| status.watermark);
    TaskTime {
        task,
        not_known,
        watermark,
        becomes: watermark.min(limit),
        slowest: known.and_then(|status| status.slowest.clone()),
        fastest: known.and_then(|status| status.fastest.clone()),
        timers: known.map(|status| status.timers.clone().into_iter().collect()).unwrap_or_default(),
    }
}

fn refusals(job: &JobRecord, tasks: &[TaskTime], limit: EventTime) -> Vec<Refusal> {
    let refusal = |found: String, remedy: &str| {
        vec![Refusal { place: format!("job {}", job.name), found, remedy: remedy.to_owned() }]
    };
    if job.desired == Desired::Deleting {
        return refusal("it is being deleted".to_owned(), "wait until it is gone");
    }
    let is_beyond = |task: &TaskTime| {
        let furthest = task.fastest.as_ref().map_or(task.watermark, |input| input.watermark.max(task.watermark));
        task.not_known.is_some() || furthest > limit
    };
    if tasks.iter().any(is_beyond) {
        return Vec::new();
    }
    let remedy = "name an earlier time, or none to let it follow the records that come; `forebay job get` shows where each \
                  task stands";
    refusal("event time of no task is beyond that time, so nothing would go back".to_owned(), remedy)
}

/// `has_neighbours`: a task reads several partitions, and one of them may hold back the others.
fn warnings(source: &SourceSpec, has_neighbours: bool) -> Vec<String> {
    let max_ahead = match &source.event_time {
        EventTimeSpec::RecordTimestamp { max_ahead } => *max_ahead,
        EventTimeSpec::Field(field) => field.max_ahead,
    };
    let mut warnings = Vec::new();
    if max_ahead > MAX_AHEAD {
        warnings.push(format!(
            "source {}: `event_time.max_ahead` lets records through that are {} ahead, and the next one takes event time \
             ahead again: lower it first, with `forebay job apply`",
            source.id,
            show_duration(max_ahead)
        ));
    }
    if has_neighbours && source.watermark.idle_after.is_none() {
        warnings.push(format!(
            "source {}: from then on a partition that brings nothing holds event time back until it brings a record, as at \
             the job's start; set `watermark.idle_after` where one may be silent",
            source.id
        ));
    }
    warnings
}

fn effects(job: &JobRecord, tasks: &[TaskTime]) -> Vec<String> {
    let mut effects = vec![
        "state, positions and timers stay; no record is read again: what came late was given to the modules as late, and \
         is not counted anew"
            .to_owned(),
        timers(tasks),
        "records whose time lies before the watermark of now, and behind the one it becomes, are in time again".to_owned(),
    ];
    let topics: Vec<&str> = job.spec.sinks.iter().map(|sink| sink.topic.as_str()).collect();
    if !topics.is_empty() {
        effects.push(format!(
            "modules, and readers of {}, may see event times before ones that they have seen: a reader with a watermark of \
             its own may call them late",
            topics.join(", ")
        ));
    }
    effects
}

/// Counted from what the tasks have at hand: exact for a few thousand timers each, else a least number.
fn timers(tasks: &[TaskTime]) -> String {
    let all: Vec<&RegisteredTimers> =
        tasks.iter().flat_map(|task| task.timers.iter().map(|(_, timers)| timers)).collect();
    let known: u64 = all.iter().map(|timers| timers.known).sum();
    let is_all = all.iter().all(|timers| timers.is_all) && tasks.iter().all(|task| task.not_known.is_none());
    let later = match all.iter().filter_map(|timers| timers.first).min() {
        None if is_all => "none is registered for later".to_owned(),
        None => "of those that are registered for later none is known here".to_owned(),
        Some(first) => format!(
            "{}{known} that are registered for later fire when event time has come to them, the first at {}",
            if is_all { "" } else { "at least " },
            shown(first)
        ),
    };
    format!("timers up to a task's watermark have fired and are gone; {later}")
}

fn shown(time: EventTime) -> String {
    jiff::Timestamp::from_nanosecond(time.into()).map_or_else(|_| time.to_string(), |at| format!("{at:.3}"))
}
