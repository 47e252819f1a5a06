//! How the rest of the process talks to a running task: a target in, status out.
//!
//! Another target is heard between two steps, and ends a guest's call that takes long. Status is a snapshot replaced once an epoch
//! (and on every change of phase), so reading it never waits for the task.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::target::{Target, TargetCell};
use crate::error::Kind;
use crate::model::{EventTime, PartitionId};
pub use crate::state::RegisteredTimers;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Recovering,
    Running,
    /// Its module failed: it stands still, and looks at its target, so that another version can be swapped in.
    Held,
    Stopped,
    Failed,
}

/// What a look at a task shows. As many fields as there are things to be seen: a snapshot that nothing is decided by. The
/// counters live as long as the task's thread, across its sessions.
#[derive(Clone, Debug, Serialize)]
pub struct TaskStatus {
    pub phase: Phase,
    /// Why it failed: doing what, on which thing, what was found, what to do.
    pub error: Option<String>,
    #[serde(skip)]
    pub error_kind: Option<Kind>,
    /// The last committed epoch.
    pub epoch: u64,
    pub watermark: EventTime,
    /// Processing time at which the watermark was seen to move last; 0 before any.
    pub watermark_moved: i64,
    /// Which input partition decides it; `None` where all are idle.
    pub slowest: Option<InputTime>,
    /// Which input partition has come furthest by itself.
    pub fastest: Option<InputTime>,
    /// Number of the last reset of event time that the task has come through; 0 before any.
    pub time_reset: u64,
    /// Per operator id the timers that are registered, as far as they are known.
    pub timers: BTreeMap<String, RegisteredTimers>,
    pub records_in: u64,
    pub records_out: u64,
    pub dead_letters: u64,
    pub skipped: u64,
    /// Of both together, how many by each cause.
    pub bad_records: BTreeMap<String, u64>,
    pub late: u64,
    pub traps: u64,
    pub commits: u64,
    /// Where its changelog ends as long as nobody else commits for the task.
    #[serde(skip)]
    pub changelog_end: Option<i64>,
    /// Records read in the epoch that is open now (not yet committed).
    pub open_records: u64,
    /// Records between the committed positions and the ends of the inputs.
    pub lag: u64,
    /// Processing time minus the newest committed event time, nanoseconds; `None` before the first record.
    pub freshness_ns: Option<i64>,
    /// The same for the newest output that was written, committed or not: what readers under read-uncommitted see.
    pub written_freshness_ns: Option<i64>,
    /// Time of the last commit call, microseconds.
    pub commit_us: u64,
    pub recovery_us: u64,
    /// Per operator id the module that runs: name, version, digest.
    pub modules: BTreeMap<String, ModuleStatus>,
    /// Per source id and partition the committed next offset.
    pub positions: BTreeMap<String, BTreeMap<i32, i64>>,
    /// Values of an older schema version that the sweep has still to migrate.
    pub migrating: bool,
    pub last_swap: Option<SwapStatus>,
    /// How the version that the target has on trial fares, or fared.
    pub trial: Option<TrialStatus>,
}

/// A version that is tried over all state while another one runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrialStatus {
    pub swap: String,
    pub outcome: TrialOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialOutcome {
    Trying,
    /// It can be switched to.
    Ready {
        values_tried: u64,
    },
    /// Of kind [`Kind::Retry`] it is tried again by itself; of any other it stays so for this swap.
    Failed {
        why: String,
        #[serde(skip)]
        kind: Kind,
    },
}

/// How far event time has come in one input partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputTime {
    /// Id of the source.
    pub source: String,
    pub partition: PartitionId,
    /// How far it has come by itself.
    pub watermark: EventTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModuleStatus {
    pub name: String,
    pub version: String,
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SwapStatus {
    pub swap: String,
    pub epoch: u64,
    pub pause_us: u64,
    /// Per source id and partition the first offset processed by the new version.
    pub from: BTreeMap<String, BTreeMap<i32, i64>>,
}

impl TaskStatus {
    /// `now` is the clock's.
    pub(super) fn show_time(&mut self, watermark: EventTime, ends: [Option<InputTime>; 2], now: i64) {
        if self.watermark != watermark || self.watermark_moved == 0 {
            self.watermark_moved = now;
        }
        self.watermark = watermark;
        [self.slowest, self.fastest] = ends;
    }
}

impl Default for TaskStatus {
    fn default() -> Self {
        Self {
            phase: Phase::Recovering,
            error: None,
            error_kind: None,
            epoch: 0,
            watermark: crate::model::BEFORE_ALL_TIME,
            watermark_moved: 0,
            slowest: None,
            fastest: None,
            time_reset: 0,
            timers: BTreeMap::new(),
            records_in: 0,
            records_out: 0,
            dead_letters: 0,
            skipped: 0,
            bad_records: BTreeMap::new(),
            late: 0,
            traps: 0,
            commits: 0,
            changelog_end: None,
            open_records: 0,
            lag: 0,
            freshness_ns: None,
            written_freshness_ns: None,
            commit_us: 0,
            recovery_us: 0,
            modules: BTreeMap::new(),
            positions: BTreeMap::new(),
            migrating: false,
            last_swap: None,
            trial: None,
        }
    }
}

/// A started task. Dropping the handle tells it to stop and does not wait: [`TaskHandle::stop`] and `join` do.
pub struct TaskHandle {
    target: Arc<TargetCell>,
    status: Arc<Mutex<TaskStatus>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl TaskHandle {
    /// Of a task that runs on `thread`, looks at `target` and keeps `status` up to date.
    pub fn new(target: Arc<TargetCell>, status: Arc<Mutex<TaskStatus>>, thread: std::thread::JoinHandle<()>) -> Self {
        Self { target, status, thread: Some(thread) }
    }

    /// Its thread has ended, by itself or because it was told to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// Says what the task is to be. It compares itself to the newest target at every epoch's edge and after every
    /// recovery; the same one again changes nothing.
    pub fn aim(&self, target: Target) {
        self.target.put(target);
    }

    /// Has it look whether it still owns the task: its changelog has grown without it.
    pub fn doubt(&self) {
        self.target.doubt();
    }

    /// Tells it to commit what is open and to end; `join` waits for that.
    pub fn stop(&self) {
        self.target.stop();
    }

    pub fn status(&self) -> TaskStatus {
        self.status.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |status| status.clone())
    }

    /// Waits for the task's thread to end.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.target.stop();
    }
}
