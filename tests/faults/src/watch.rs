//! Sees what is committed as soon as it can be seen: how long a job that was harmed gave nothing new.
//!
//! A measure, not a judge: it looks at coordinates only. It goes past the proxies.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::ground::client;

const POLL: Duration = Duration::from_millis(100);
/// One question for an end.
const ASK_PATIENCE: Duration = Duration::from_secs(2);
/// A client that reads and brings nothing is given so long.
const READER_PATIENCE: Duration = Duration::from_secs(3);
const ENDS_PATIENCE: Duration = Duration::from_secs(60);

pub struct Watch {
    shared: Arc<Shared>,
    topic: String,
    partitions: i32,
    bootstrap: String,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    /// Committed records so far.
    count: u64,
    /// What stands behind these ends is new.
    mark: Vec<i64>,
    /// When the first that is new was seen in each partition.
    first: Vec<Option<Instant>>,
}

/// Where the output ended when something was done to its job.
pub struct Mark {
    at: Instant,
}

impl Watch {
    /// Follows a topic from its start.
    ///
    /// # Errors
    /// Kafka's.
    pub fn start(bootstrap: &str, topic: &str, partitions: i32) -> Result<Watch, String> {
        let doing = |error: &dyn std::fmt::Display| format!("watch {topic}: {error}");
        let mut follower = Follower::new(bootstrap, topic, partitions).map_err(|error| doing(&error))?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("watch".to_owned());
        let watcher = Arc::clone(&shared);
        let thread = thread.spawn(move || watcher.follow(&mut follower)).map_err(|error| doing(&error))?;
        let (topic, bootstrap) = (topic.to_owned(), bootstrap.to_owned());
        Ok(Watch { shared, topic, partitions, bootstrap, thread: Some(thread) })
    }

    pub fn committed(&self) -> u64 {
        self.shared.seen().count
    }

    /// From here on, and measured from `at`, output is new.
    ///
    /// # Errors
    /// Kafka's.
    pub fn mark(&self, at: Instant) -> Result<Mark, String> {
        let ends = self.ends()?;
        let mut seen = self.shared.seen();
        (seen.first, seen.mark) = (vec![None; ends.len()], ends);
        Ok(Mark { at })
    }

    /// Where the topic's partitions end, with what is not committed.
    ///
    /// # Errors
    /// Kafka's.
    pub fn ends(&self) -> Result<Vec<i64>, String> {
        tokio::task::block_in_place(|| {
            let begun = Instant::now();
            loop {
                match self.ask_for_ends() {
                    Err(error) if begun.elapsed() > ENDS_PATIENCE => {
                        return Err(format!("ask for the ends of {}: {error}", self.topic));
                    }
                    Err(_) => {}
                    Ok(ends) => return Ok(ends),
                }
            }
        })
    }

    /// By a client of its own: one that was there before a broker was away may never find its leaders again.
    fn ask_for_ends(&self) -> KafkaResult<Vec<i64>> {
        let asking = consumer(&self.bootstrap, "read_uncommitted")?;
        let end = |partition| Ok(asking.fetch_watermarks(&self.topic, partition, ASK_PATIENCE)?.1);
        (0..self.partitions).map(end).collect()
    }

    /// How long after the mark's moment the first new output was there.
    ///
    /// # Errors
    /// There is none within `patience`.
    pub async fn new_output(&self, mark: &Mark, patience: Duration) -> Result<Duration, String> {
        let first = self.when(patience, |first| first.iter().flatten().min().copied()).await;
        let found = |_| format!("wait for new output in {}: none after {} s", self.topic, patience.as_secs());
        first.map(|first| first.saturating_duration_since(mark.at)).map_err(found)
    }

    /// How long after the mark's moment the first new output was there in every partition.
    ///
    /// # Errors
    /// There is none in some within `patience`.
    pub async fn new_output_everywhere(&self, mark: &Mark, patience: Duration) -> Result<Duration, String> {
        let all = |first: &[Option<Instant>]| first.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max();
        let last = self.when(patience, all).await;
        last.map(|last| last.saturating_duration_since(mark.at)).map_err(|()| {
            let first = self.shared.seen().first.clone();
            let missing: Vec<_> = (0..first.len()).filter(|partition| first[*partition].is_none()).collect();
            format!(
                "wait for new output in {}: none in partitions {missing:?} after {} s",
                self.topic,
                patience.as_secs()
            )
        })
    }

    async fn when<T>(&self, patience: Duration, is_so: impl Fn(&[Option<Instant>]) -> Option<T>) -> Result<T, ()> {
        let waited = timeout(patience, async {
            loop {
                let changed = self.shared.changed.notified();
                if let Some(found) = is_so(&self.shared.seen().first) {
                    return found;
                }
                changed.await;
            }
        });
        waited.await.map_err(drop)
    }

    /// # Errors
    /// There are not so many within `patience`.
    pub async fn wait_for(&self, count: u64, patience: Duration) -> Result<(), String> {
        let waited = timeout(patience, async {
            loop {
                let changed = self.shared.changed.notified();
                if self.committed() >= count {
                    return;
                }
                changed.await;
            }
        });
        let found = || format!("wait for {count} records in {}: there are {}", self.topic, self.committed());
        waited.await.map_err(|_| found())
    }
}

fn consumer(bootstrap: &str, isolation: &str) -> KafkaResult<BaseConsumer> {
    let mut config = client(bootstrap);
    config.set("group.id", "forebay-faults").set("enable.auto.commit", "false");
    config.set("isolation.level", isolation).set("fetch.wait.max.ms", "50").create()
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, follower: &mut Follower) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some((partition, offset)) = follower.next() else { continue };
            let mut seen = self.seen();
            seen.count += 1;
            let partition = partition as usize;
            let is_new = seen.mark.get(partition).is_some_and(|end| offset >= *end);
            if is_new && seen.first[partition].is_none() {
                seen.first[partition] = Some(Instant::now());
            }
            drop(seen);
            self.changed.notify_waiters();
        }
    }
}

/// Reads a topic on, by another client where one brings nothing: after an outage it may never find its leaders again.
struct Follower {
    consumer: BaseConsumer,
    bootstrap: String,
    topic: String,
    /// What comes next in each partition.
    next: Vec<i64>,
    news: Instant,
}

impl Follower {
    fn new(bootstrap: &str, topic: &str, partitions: i32) -> KafkaResult<Follower> {
        let next = vec![0; usize::try_from(partitions).unwrap_or(0)];
        let consumer = reader(bootstrap, topic, &next)?;
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        Ok(Follower { consumer, bootstrap, topic, next, news: Instant::now() })
    }

    /// Partition and offset of the next committed record, where one comes within a moment.
    fn next(&mut self) -> Option<(i32, i64)> {
        // Brokers that are away are what the tests are about: it goes on.
        let found = match self.consumer.poll(POLL) {
            Some(Ok(message)) => Some((message.partition(), message.offset())),
            _ => None,
        };
        match found {
            Some((partition, offset)) => {
                self.next[partition as usize] = offset + 1;
                self.news = Instant::now();
            }
            None if self.news.elapsed() > READER_PATIENCE => {
                if let Ok(consumer) = reader(&self.bootstrap, &self.topic, &self.next) {
                    self.consumer = consumer;
                }
                self.news = Instant::now();
            }
            None => {}
        }
        found
    }
}

fn reader(bootstrap: &str, topic: &str, next: &[i64]) -> KafkaResult<BaseConsumer> {
    let consumer = consumer(bootstrap, "read_committed")?;
    let mut assignment = TopicPartitionList::new();
    for (partition, &next) in next.iter().enumerate() {
        assignment.add_partition_offset(topic, partition as i32, Offset::Offset(next))?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}
