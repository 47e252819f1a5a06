//! What a running task shows of itself.
//!
//! Owns what has been shown already. Everything goes into the task's status, once a batch or once an epoch; nothing here
//! decides anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::commit::{Committed, Committer};
use super::context::TaskContext;
use super::handle::{ModuleStatus, Phase, SwapStatus};
use super::inbox::Inbox;
use super::lane::Lane;
use crate::model::Uid;

/// Often enough for whoever looks at it.
const LAG_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Report<'a> {
    context: &'a TaskContext,
    lag_asked: Option<Duration>,
    /// Faults of guests that have been counted.
    faults: u64,
}

impl<'a> Report<'a> {
    pub fn new(context: &'a TaskContext) -> Self {
        Self { context, lag_asked: None, faults: 0 }
    }

    /// How long recovery took, and which part of it: when it began, owned the task, and had its state.
    pub fn recovered(&self, committer: &Committer<'_>, lane: &Lane, [started, fenced, restored]: [Duration; 3]) {
        let now = self.context.clock.elapsed();
        let ms = |from: Duration, to: Duration| to.saturating_sub(from).as_millis() as u64;
        let (job, task, epoch) = (&self.context.plan.job.name, &self.context.plan.task, committer.head.header.epoch);
        let (fence_ms, restore_ms, claim_ms) = (ms(started, fenced), ms(fenced, restored), ms(restored, now));
        tracing::info!(%job, %task, epoch, fence_ms, restore_ms, claim_ms, "task recovered");
        let took = now.saturating_sub(started);
        self.context.update(|status| {
            status.recovery_us = took.as_micros() as u64;
            status.modules = modules(lane);
            status.trial = None;
        });
    }

    /// The session runs again, after it has recovered or been let go.
    pub fn phase(&self, hold: bool) {
        self.context.update(|status| {
            if hold {
                status.phase = Phase::Held;
            } else {
                status.phase = Phase::Running;
                status.error = None;
                status.error_kind = None;
            }
        });
    }

    /// A fault shows when it happens, whatever becomes of the epoch.
    pub fn faults(&mut self, lane: &Lane) {
        let faults = lane.chain.faults();
        let new = faults.saturating_sub(self.faults);
        self.faults = faults;
        if new > 0 {
            self.context.update(|status| status.traps += new);
        }
    }

    /// What a look at the open epoch is to show; once a batch.
    pub fn progress(&self, committer: &Committer<'_>) {
        let (epoch, now) = (&committer.epoch, self.context.clock.now());
        let written = epoch.newest.filter(|_| epoch.writing).map(|newest| now.saturating_sub(newest));
        self.context.update(|status| {
            status.open_records = epoch.records;
            status.written_freshness_ns = written.or(status.written_freshness_ns);
        });
    }

    /// `worked`: the open epoch holds records.
    pub fn lag(&mut self, inbox: &Inbox, lane: &Lane, worked: bool) {
        let now = self.context.clock.elapsed();
        if self.lag_asked.is_some_and(|asked| now.saturating_sub(asked) < LAG_EVERY) {
            return;
        }
        self.lag_asked = Some(now);
        let lag = inbox.lag(&self.context.plan, worked);
        let operators = lane.chain.operators.iter().map(|operator| operator.head());
        let timers = operators.filter_map(|of| Some((of.id.clone(), lane.state.registered_timers(of.index)?)));
        self.context.update(|status| {
            status.lag = lag;
            status.timers = timers.collect();
        });
    }

    pub fn committed(&mut self, done: &Committed, committer: &Committer<'_>, lane: &mut Lane, inbox: &Inbox) {
        let context = self.context;
        self.lag(inbox, lane, false);
        let (now, clock, epoch) = (context.clock.elapsed(), context.clock.now(), &done.epoch);
        let freshness = epoch.newest.map(|newest| clock.saturating_sub(newest));
        let ends = [lane.watermark.slowest(), lane.watermark.fastest()];
        let ends = ends.map(|input| input.map(|(input, time)| inbox.inputs.time_of(&context.plan, input, time)));
        let put_aside = lane.chain.outlet.bad.take_counts();
        context.update(|status| {
            status.epoch = committer.head.header.epoch;
            status.show_time(lane.emitted_watermark, ends, clock);
            status.time_reset = committer.head.header.time_reset;
            status.records_in += epoch.records;
            status.records_out += epoch.emitted;
            status.dead_letters += put_aside.dead_lettered;
            status.skipped += put_aside.skipped;
            put_aside.add_to(&mut status.bad_records);
            status.late += epoch.late;
            status.commits += 1;
            status.open_records = 0;
            status.freshness_ns = freshness.or(status.freshness_ns);
            // A commit ends with a marker.
            let chunks = i64::try_from(done.epoch.chunks).unwrap_or(i64::MAX);
            status.changelog_end = Some(committer.head.offset.saturating_add(chunks).saturating_add(1));
            status.commit_us = now.saturating_sub(done.started).as_micros() as u64;
            status.positions = inbox.inputs.positions(&context.plan);
            status.migrating = lane.chain.is_migrating();
        });
    }

    /// Another version runs since `started`.
    pub fn swapped(&self, swap: Uid, started: Duration, committer: &Committer<'_>, lane: &Lane, inbox: &Inbox) {
        let pause_us = self.context.clock.elapsed().saturating_sub(started).as_micros() as u64;
        let epoch = committer.head.header.epoch;
        let from = inbox.inputs.positions(&self.context.plan);
        self.context.update(|status| {
            status.modules = modules(lane);
            status.last_swap = Some(SwapStatus { swap: swap.to_string(), epoch, pause_us, from });
            status.trial = None;
        });
    }
}

/// Per operator the module that runs.
fn modules(lane: &Lane) -> BTreeMap<String, ModuleStatus> {
    let of = lane.chain.operators.iter().filter_map(|operator| {
        let module = operator.module()?;
        let (name, version) = (module.name.clone(), module.version.clone());
        Some((operator.head().id.clone(), ModuleStatus { name, version, digest: module.digest.to_string() }))
    });
    of.collect()
}
