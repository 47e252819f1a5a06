//! The group mirror: how far the tasks of a job have committed, shown as the positions of a consumer group.
//!
//! For tools that watch lag, and for nothing else: it is written outside any transaction, from what tasks report
//! after a commit, so it is never ahead of a committed header, and nobody ever reads it to resume. A log that does
//! not take it costs a warning. Owns what was last written for each job.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::log::{self, GroupPosition};
use crate::model::{NextOffset, Uid};

/// How often positions are written that have not changed: Kafka forgets the offsets of a group without members after a
/// week by default.
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
    /// `now` at the last writing.
    at: Duration,
    failing: bool,
}

/// A job and the group that stands for it.
pub struct Shown<'a> {
    pub job: Uid,
    pub name: &'a str,
    pub group: &'a str,
}

impl Mirror {
    /// Writes the positions of a job where any has changed. May take as long as the log is away.
    pub fn show(
        &mut self,
        Shown { job, name, group }: Shown<'_>,
        positions: Positions,
        now: Duration,
        write: impl FnOnce(&str, &[GroupPosition]) -> Result<(), log::Error>,
    ) {
        let mirrored = self.jobs.entry(job).or_default();
        let unchanged = positions.iter().all(|(at, next)| mirrored.written.get(at) == Some(next));
        if positions.is_empty() || (unchanged && now.saturating_sub(mirrored.at) < WRITE_AGAIN) {
            return;
        }
        // All positions are written, also those that have not changed: another client may have overwritten some.
        let entry = |((topic, partition), next): (&(String, i32), &NextOffset)| GroupPosition {
            topic: topic.clone(),
            partition: *partition,
            next: *next,
        };
        let entries: Vec<_> = positions.iter().map(entry).collect();
        match write(group, &entries) {
            Ok(()) => {
                if mirrored.failing {
                    tracing::info!(job = %name, "positions are shown as those of group {group} again");
                }
                mirrored.written.extend(positions);
                (mirrored.at, mirrored.failing) = (now, false);
            }
            // Warned of once per outage, though writing is tried every time.
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

    /// Forgets all jobs but these.
    pub fn keep(&mut self, is_kept: impl Fn(Uid) -> bool) {
        self.jobs.retain(|uid, _| is_kept(*uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: i64) -> Positions {
        [(("orders".to_owned(), 0), NextOffset(7)), (("orders".to_owned(), 1), NextOffset(next))].into()
    }

    /// What is written of `positions` at a second, where anything is.
    fn written(mirror: &mut Mirror, positions: Positions, second: u64, takes: bool) -> Option<Vec<i64>> {
        let mut written = None;
        let shown = Shown { job: Uid([1; 16]), name: "counts", group: "forebay.counts" };
        mirror.show(shown, positions, Duration::from_secs(second), |_, entries| {
            written = Some(entries.iter().map(|entry| entry.next.0).collect());
            let (doing, found) = ("write".to_owned(), "no broker".to_owned());
            if takes { Ok(()) } else { Err(log::Error::Unavailable { doing, found }) }
        });
        written
    }

    #[test]
    fn all_positions_are_written_when_one_has_changed_and_none_otherwise() {
        let mut mirror = Mirror::default();
        assert_eq!(written(&mut mirror, Positions::new(), 0, true), None);
        assert_eq!(written(&mut mirror, at(5), 1, true), Some(vec![7, 5]));
        assert_eq!(written(&mut mirror, at(5), 2, true), None);
        assert_eq!(written(&mut mirror, at(6), 3, true), Some(vec![7, 6]));
        let an_hour_later = 4 + WRITE_AGAIN.as_secs();
        assert_eq!(written(&mut mirror, at(6), an_hour_later, true), Some(vec![7, 6]), "groups forget");
        mirror.keep(|_| false);
        assert_eq!(written(&mut mirror, at(6), an_hour_later, true), Some(vec![7, 6]));
    }

    #[test]
    fn what_was_not_taken_is_written_again_the_next_time() {
        let mut mirror = Mirror::default();
        assert_eq!(written(&mut mirror, at(5), 1, false), Some(vec![7, 5]));
        assert_eq!(written(&mut mirror, at(5), 2, true), Some(vec![7, 5]));
        assert_eq!(written(&mut mirror, at(5), 3, true), None);
    }
}
