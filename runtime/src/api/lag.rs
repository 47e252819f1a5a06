//! How far a job is behind, counted where it is asked for.
//!
//! A task counts its own lag between two batches only, so a task that is in a long call, held or recovering would show
//! an old number. Here the lag is the distance from the committed positions to the ends of the inputs. The log is asked
//! at most once a second, and nobody waits long for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{proto, view};
use crate::env::Clock;
use crate::job::manager::JobView;
use crate::log::{Log, Span};
use crate::task::handle::TaskStatus;

const FRESH: Duration = Duration::from_secs(1);
/// A caller waits this long for the log. After that it gets the last known answer, or the task's own count.
const PATIENCE: Duration = Duration::from_millis(500);

/// The ends of inputs as the log last reported them.
pub struct Ends {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<String, Known>>,
    /// Only one caller asks the log at a time.
    asking: AtomicBool,
}

#[derive(Clone)]
struct Known {
    at: Duration,
    /// Per partition; a topic that could not be asked has no entry.
    ends: Vec<i64>,
}

impl Ends {
    pub fn new(log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { log, clock, known: Mutex::default(), asking: AtomicBool::new(false) })
    }

    /// Jobs as others see them, each task with the lag that it has now.
    pub async fn show(self: &Arc<Self>, jobs: &[JobView]) -> Vec<proto::Job> {
        let topics = jobs.iter().filter(|job| !job.tasks.is_empty()).flat_map(|job| &job.record.spec.sources);
        self.refresh(topics.map(|source| source.topic.clone()).collect()).await;
        let known = self.lock();
        let ends = |topic: &str| known.get(topic).map(|known| known.ends.clone()).unwrap_or_default();
        jobs.iter().map(|job| shown(job, &ends)).collect()
    }

    pub async fn show_one(self: &Arc<Self>, job: &JobView) -> proto::Job {
        self.show(std::slice::from_ref(job)).await.pop().unwrap_or_default()
    }

    async fn refresh(self: &Arc<Self>, topics: BTreeSet<String>) {
        let old = self.not_fresh(topics);
        if old.is_empty() || self.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let ends = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            old.into_iter().for_each(|topic| ends.ask(topic));
            ends.asking.store(false, Ordering::Release);
        });
        // A question that takes too long goes on in the background, and the next caller finds its answer.
        drop(tokio::time::timeout(PATIENCE, asked).await);
    }

    fn not_fresh(&self, topics: BTreeSet<String>) -> Vec<String> {
        let (now, known) = (self.clock.elapsed(), self.lock());
        let is_old = |topic: &String| known.get(topic).is_none_or(|known| now.saturating_sub(known.at) >= FRESH);
        topics.into_iter().filter(is_old).collect()
    }

    fn ask(&self, topic: String) {
        let spans = self.log.topic(&topic).and_then(|found| self.log.spans(&found.spec));
        let ends = spans.map(|spans| spans.iter().map(|span: &Span| span.stable).collect()).unwrap_or_default();
        self.lock().insert(topic, Known { at: self.clock.elapsed(), ends });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(job: &JobView, ends: &impl Fn(&str) -> Vec<i64>) -> proto::Job {
    let sources = job.record.spec.sources.iter();
    let ends: BTreeMap<&str, Vec<i64>> = sources.map(|source| (source.id.as_str(), ends(&source.topic))).collect();
    let mut shown = view::job(job);
    for (task, seen) in shown.tasks.iter_mut().zip(&job.tasks) {
        task.lag = lag(&seen.status, &ends).unwrap_or(task.lag);
    }
    shown
}

/// The records from the committed positions to the ends; `None` where one of the two is not known.
fn lag(status: &TaskStatus, ends: &BTreeMap<&str, Vec<i64>>) -> Option<u64> {
    if status.positions.is_empty() {
        return None;
    }
    let mut lag = 0;
    for (source, partitions) in &status.positions {
        let ends = ends.get(source.as_str())?;
        for (partition, next) in partitions {
            let end = ends.get(usize::try_from(*partition).ok()?)?;
            lag += u64::try_from(end.saturating_sub(*next)).unwrap_or(0);
        }
    }
    Some(lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_counted_from_the_committed_positions_whatever_the_task_says() {
        let positions = BTreeMap::from([("a".to_owned(), BTreeMap::from([(0, 5), (2, 9)]))]);
        let status = TaskStatus { positions, lag: 0, ..TaskStatus::default() };
        let of = |ends: &[i64]| lag(&status, &BTreeMap::from([("a", ends.to_vec())]));
        assert_eq!(of(&[7, 100, 10]), Some(3));
        assert_eq!(of(&[5, 100, 8]), Some(0), "an end that was heard of before the last commit");
        assert_eq!(of(&[7]), None, "a partition that nobody was asked about");
        assert_eq!(lag(&TaskStatus::default(), &BTreeMap::new()), None, "it has not recovered yet");
    }
}
