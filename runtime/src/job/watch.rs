//! Periodic work for every job that may have to wait for the log. It has a thread of its own, so that a slow cluster
//! does not keep the supervisor from its tasks.
//!
//! Mirrors positions to consumer groups, and watches the partition counts of sources, what sinks take, and whether somebody
//! else commits for a task that has nothing to commit itself. Read [`Manager::watch`] first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::Error;
use super::manager::{Manager, exclusive};
use super::mirror::{Mirror, Shown};
use super::running::RunningJob;
use crate::log::{Isolation, TimestampBounds, TopicInfo, TopicRules};
use crate::model::Uid;

const EVERY: Duration = Duration::from_secs(1);
const TOPICS_EVERY: Duration = Duration::from_secs(10);
/// A task that rests learns within two of these that it was fenced.
const OWNERS_EVERY: Duration = Duration::from_secs(30);
/// The end of the process waits at least so long for the last positions to be shown.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

/// Per job and task how often it had committed.
type Commits = BTreeMap<(Uid, u32), u64>;

/// The thread, as long as it runs.
#[derive(Default)]
pub struct Watch(Mutex<Option<Running>>);

struct Running {
    /// Dropped to end it.
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl Watch {
    /// Lets the thread look once more and waits for it, but not for a log that is away.
    pub fn end(&self, patience: Duration) {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, ended }) = running {
            drop(stop);
            // Nothing is ever sent; the receiver returns when the thread ends and drops its sender.
            let _ = ended.recv_timeout(patience.max(LAST_PATIENCE));
        }
    }
}

impl Manager {
    pub(super) fn start_watch(self: &Arc<Self>) -> Result<(), Error> {
        let (stop, asked_to_stop) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let manager = Arc::clone(self);
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread
            .spawn(move || {
                manager.watch(&asked_to_stop);
                drop(ending);
            })
            .map_err(|source| Error::Io { doing: "start the watch over the log".to_owned(), source })?;
        *self.watch.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running { stop, ended });
        Ok(())
    }

    fn watch(self: &Arc<Self>, asked_to_stop: &Receiver<()>) {
        let (mut mirror, mut shown) = (Mirror::default(), Vec::new());
        let mut topics_at = self.clock.elapsed();
        let (mut owners_at, mut commits) = (topics_at, Commits::new());
        loop {
            let goes_on = matches!(asked_to_stop.recv_timeout(EVERY), Err(RecvTimeoutError::Timeout));
            self.mirror_all(&mut mirror, &mut shown);
            if !goes_on {
                return;
            }
            let now = self.clock.elapsed();
            if now.saturating_sub(topics_at) >= TOPICS_EVERY {
                topics_at = now;
                self.watch_topics();
            }
            if now.saturating_sub(owners_at) >= OWNERS_EVERY {
                owners_at = now;
                self.watch_owners(&mut commits);
            }
        }
    }

    /// `shown` holds the jobs of the last time, older ones first.
    fn mirror_all(&self, mirror: &mut Mirror, shown: &mut Vec<Arc<RunningJob>>) {
        let now = self.clock.elapsed();
        let running: Vec<_> = self.running_jobs().into_values().collect();
        let new: Vec<_> = running.iter().filter(|job| !is_in(shown, job)).cloned().collect();
        shown.extend(new);
        // A job whose tasks have ended is mirrored once more, with the positions of its last commit.
        shown.retain(|job| {
            let goes_on = is_in(&running, job) || !job.has_ended();
            let of = Shown { job: job.uid, name: &job.name, group: &job.consumer_group };
            mirror.show(of, job.positions(), now, |group, positions| self.log.mirror(group, positions));
            goes_on
        });
        mirror.keep(|uid| shown.iter().any(|job| job.uid == uid));
    }

    /// A task that rests asks nobody for anything, and so does not learn that another server has taken it over. Whoever
    /// does writes to its changelog. `commits` is of the last look: a task that has committed since knows by that.
    pub(super) fn watch_owners(&self, commits: &mut Commits) {
        let mut now = Commits::new();
        for job in self.running_jobs().into_values() {
            for task in job.owned() {
                let this = (job.uid, task.number);
                now.insert(this, task.commits);
                if commits.get(&this) != Some(&task.commits) {
                    continue;
                }
                match self.log.end_offset(&task.topic, task.partition, Isolation::ReadCommitted) {
                    Ok(end) if end > task.end => job.doubt(task.number),
                    Ok(_) => {}
                    // The others would wait as long.
                    Err(error) => return tracing::debug!("watch who owns tasks: {error}"),
                }
            }
        }
        *commits = now;
    }

    /// New partitions of a source are read by tasks that start again. Where the tasks do not divide them the job stops
    /// and says what to do. Of a sink that takes other records than before, tasks that start again know it: output that
    /// it would not keep becomes a bad record, in place of being written and lost.
    fn watch_topics(&self) {
        let with_topics = |(name, job): (String, Arc<RunningJob>)| {
            let (sources, sinks) = (job.source_topics(), job.sink_topics());
            (name, job, sources, sinks)
        };
        let jobs: Vec<_> = self.running_jobs().into_iter().map(with_topics).collect();
        let of_jobs = jobs.iter().flat_map(|(_, _, sources, sinks)| sources.keys().chain(sinks.keys()));
        let names: Vec<&str> = of_jobs.map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
        let found = match self.log.topics_named(&names) {
            Ok(found) => found,
            Err(error) => return tracing::debug!("watch the topics of jobs: {error}"),
        };
        for (name, job, sources, sinks) in &jobs {
            let change = found.iter().find_map(|topic| {
                let name = &topic.spec.name;
                let grown = sources.get(name).and_then(|before| grown(*before, topic));
                grown.or_else(|| sinks.get(name).and_then(|before| other_rules(before, topic)))
            });
            if let Some(change) = change {
                tracing::warn!(job = %name, "{change}: the tasks start again");
                self.start_over(name, job);
            }
        }
    }

    /// Ends the tasks. `follow` then starts them again as the record and the topics ask for now.
    fn start_over(&self, name: &str, job: &Arc<RunningJob>) {
        let change = self.change_of(name);
        // A caller is changing the job; it is looked at again in the next round.
        let Ok(_one) = exclusive(&change, name) else { return };
        if self.running_job(name).is_some_and(|running| Arc::ptr_eq(&running, job)) {
            job.stop();
        }
    }
}

/// The message about a source that has more partitions than before.
fn grown(before: u32, topic: &TopicInfo) -> Option<String> {
    let (name, now) = (&topic.spec.name, topic.spec.partitions);
    (now > before).then(|| format!("topic {name} has {now} partitions, it had {before}"))
}

/// The message about a sink that takes other records than before.
fn other_rules(before: &TopicRules, topic: &TopicInfo) -> Option<String> {
    let (name, now) = (&topic.spec.name, topic.rules());
    (now != *before).then(|| format!("topic {name} takes {}, it took {}", taken(&now), taken(before)))
}

fn taken(rules: &TopicRules) -> String {
    let TimestampBounds { max_behind_ms, max_ahead_ms } = rules.timestamps;
    let ms = |bound: Option<i64>| bound.map_or("any time".to_owned(), |ms| format!("{ms} ms"));
    let key = if rules.needs_key { " with a key" } else { "" };
    let (max, behind, ahead) = (rules.max_record_bytes, ms(max_behind_ms), ms(max_ahead_ms));
    format!("records{key} of up to {max} bytes, {behind} behind now and {ahead} ahead")
}

fn is_in(jobs: &[Arc<RunningJob>], job: &Arc<RunningJob>) -> bool {
    jobs.iter().any(|other| Arc::ptr_eq(other, job))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Cleanup, TopicSpec};
    use crate::model::TopicId;

    #[test]
    fn a_sink_that_keeps_less_than_before_and_a_source_that_grew_are_noticed_and_others_not() {
        let spec =
            TopicSpec { name: "results".to_owned(), partitions: 4, cleanup: Cleanup::Delete, max_record_bytes: 1_000 };
        let mut topic = TopicInfo { id: TopicId([1; 16]), spec, timestamps: TimestampBounds::default() };
        let before = topic.rules();
        assert_eq!((grown(4, &topic), other_rules(&before, &topic)), (None, None));
        topic.timestamps.max_behind_ms = Some(60_000);
        let said = other_rules(&before, &topic).unwrap();
        assert!(said.contains("60000 ms behind now") && said.contains("it took"), "{said}");
        assert_eq!(grown(2, &topic), Some("topic results has 4 partitions, it had 2".to_owned()));
    }
}
