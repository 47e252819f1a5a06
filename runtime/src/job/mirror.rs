//! The group mirror: how far the tasks of a job have committed, shown as the positions of a consumer group.
//!
//! For tools that watch lag, and for nothing else: it is written outside any transaction, from what tasks report
//! after a commit, so it is never ahead of a committed header, and nobody ever reads it to resume. A log that does
//! not take it costs a warning. Owns what was last written for each job.

use std::collections::BTreeMap;
use std::time::Duration;

use super::running::RunningJob;
use crate::log::{GroupPosition, Log};
use crate::model::{NextOffset, Uid};

/// A group without members forgets what is not written again (after a week, by default).
const WRITE_AGAIN: Duration = Duration::from_secs(3_600);

/// By topic and partition.
pub type Positions = BTreeMap<(String, i32), NextOffset>;

#[derive(Default)]
pub struct Mirror {
    jobs: BTreeMap<Uid, Mirrored>,
}

#[derive(Default)]
struct Mirrored {
    written: Positions,
    /// `now` of the last time.
    at: Duration,
    failing: bool,
}

impl Mirror {
    /// Writes the positions of a job where any has changed. May take as long as the log is away.
    pub fn show(&mut self, job: &RunningJob, log: &dyn Log, now: Duration) {
        let positions = job.positions();
        let mirrored = self.jobs.entry(job.uid).or_default();
        let unchanged = positions.iter().all(|(at, next)| mirrored.written.get(at) == Some(next));
        if positions.is_empty() || (unchanged && now.saturating_sub(mirrored.at) < WRITE_AGAIN) {
            return;
        }
        // All of them: what somebody else has written over some is mended along with it.
        let entry = |((topic, partition), next): (&(String, i32), &NextOffset)| GroupPosition {
            topic: topic.clone(),
            partition: *partition,
            next: *next,
        };
        let entries: Vec<_> = positions.iter().map(entry).collect();
        let (name, group) = (&job.name, &job.consumer_group);
        match log.mirror(group, &entries) {
            Ok(()) => {
                if mirrored.failing {
                    tracing::info!(job = %name, "positions are shown as those of group {group} again");
                }
                mirrored.written.extend(positions);
                (mirrored.at, mirrored.failing) = (now, false);
            }
            // Once per outage: it is tried every time.
            Err(error) if !mirrored.failing => {
                tracing::warn!(
                    job = %name,
                    "positions are not shown as those of group {group}, lag tools see old ones; the job goes on: {error}"
                );
                mirrored.failing = true;
            }
            Err(_) => {}
        }
    }

    /// Forgets what is not of these jobs.
    pub fn keep(&mut self, is_kept: impl Fn(Uid) -> bool) {
        self.jobs.retain(|uid, _| is_kept(*uid));
    }
}
