//! Makes the input, and is sure of it: a record counts as sent when it was acknowledged, and at the end all of them are
//! read back.
//!
//! The client sends idempotently and repeats until its patience ends, so that a repetition is no second record. Where it
//! gives up all the same, nobody knows what arrived: the producer is thrown away, the topic is read back, and only what
//! is not there is sent again. A record that arrives later still is found in the end, here and by the judge.
//! Read [`Sender::run`] first; `plan` says what the records are.

pub mod plan;

use std::collections::VecDeque;
use std::time::Duration;

use krafka::KrafkaError;
use krafka::producer::{Acks, DeliveryHandle, Producer};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::error::{Doing, Error};
use crate::input::{Sequences, identity};
use crate::kafka::{Bounds, Cluster, Reader, View, look_again};
use plan::{Plan, Planned};

/// Records on their way at a time.
const WINDOW: usize = 20_000;
const LINGER: Duration = Duration::from_millis(5);
const BATCH_BYTES: usize = 64 << 10;
/// Whatever is on the wire of a producer that is thrown away has this long to arrive before the topic is read back.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Settings {
    pub bootstrap: String,
    pub topic: String,
    pub records: u64,
    /// The first sequence number; those below were sent before.
    pub first: u64,
    /// Records a second; `None` = as fast as it goes.
    pub rate: Option<f64>,
    /// How long trouble may last.
    pub patience: Duration,
}

/// What is now in the topic.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    pub producer: String,
    pub records: u64,
    pub malformed: u64,
    /// Sent again, because reading back did not find them.
    pub resent: u64,
    pub partitions: i32,
    pub elapsed_ms: u64,
    pub records_per_second: u64,
}

pub struct Sender {
    settings: Settings,
    plan: Plan,
    partitions: i32,
    /// Where the topic ended before the first record.
    starts: Vec<Bounds>,
    deadline: Instant,
}

/// # Errors
/// The records are not all there exactly once, or nobody can tell.
pub async fn produce(settings: Settings, plan: Plan) -> Result<Sent, Error> {
    let deadline = Instant::now() + settings.patience;
    let cluster = Cluster::connect(&settings.bootstrap, deadline).await?;
    let partitions = cluster.known_partitions(&settings.topic, deadline).await?;
    let bounds = cluster.bounds(&settings.topic, partitions, deadline).await?;
    let starts = bounds.iter().map(|bounds| Bounds { start: bounds.end, end: bounds.end }).collect();
    Sender { settings, plan, partitions, starts, deadline }.run(cluster).await
}

impl Sender {
    async fn run(mut self, mut cluster: Cluster) -> Result<Sent, Error> {
        let begun = Instant::now();
        let (first, end) = (self.settings.first, self.settings.first + self.settings.records);
        let mut missing: Vec<u64> = Vec::new();
        let mut resent = 0;
        let mut trouble = self.send(&cluster, (first..end).map(|sequence| (sequence, sequence - first))).await;
        let sent_in = begun.elapsed();
        loop {
            if let Err(error) = &trouble {
                self.give_up_late(error)?;
                eprintln!("forebay-checker: {error}; reading {} back", self.settings.topic);
                // A new connection: what is left on the old one is lost or has arrived.
                cluster = Cluster::connect(&self.settings.bootstrap, self.deadline).await?;
            }
            let there = self.read_back(&cluster).await?;
            missing.clear();
            missing.extend((first..end).filter(|sequence| !there.has(*sequence)));
            if there.doubled() > 0 {
                let (doubled, topic, producer) = (there.doubled(), &self.settings.topic, &self.plan.producer);
                let what = format!(
                    "input {topic}: {doubled} records of producer {producer} are there twice: make the topic again"
                );
                return Err(Error::unfit(what));
            }
            if missing.is_empty() {
                break;
            }
            if trouble.is_ok() {
                let what = format!("{} acknowledged records are not in {}", missing.len(), self.settings.topic);
                return Err(Error::unfit(format!("{what}, the first has sequence {}", missing[0])));
            }
            resent += missing.len() as u64;
            look_again().await;
            trouble = self.send(&cluster, missing.iter().map(|sequence| (*sequence, 0))).await;
        }
        let malformed = (first..end).filter(|sequence| self.plan.record(*sequence, self.partitions).poison.is_some());
        Ok(Sent {
            producer: self.plan.producer.clone(),
            records: self.settings.records,
            malformed: malformed.count() as u64,
            resent,
            partitions: self.partitions,
            elapsed_ms: sent_in.as_millis() as u64,
            records_per_second: (self.settings.records as f64 / sent_in.as_secs_f64().max(0.001)) as u64,
        })
    }

    /// Trouble that lasts longer than the patience, or that no repetition will heal.
    fn give_up_late(&mut self, error: &Error) -> Result<(), Error> {
        let Error::Kafka { source, .. } = error else { return Err(Error::unfit(error)) };
        let is_hopeless = matches!(**source, KrafkaError::Config { .. } | KrafkaError::Auth { .. });
        let is_late = Instant::now() >= self.deadline;
        if !is_hopeless && !is_late {
            return Ok(());
        }
        let waited_s = self.settings.patience.as_secs();
        let doing = format!("send to {}", self.settings.topic);
        Err(Error::Patience { doing, found: format!("not everything was acknowledged ({error})"), waited_s })
    }

    /// Sends records and waits for all acknowledgements. Each comes with its place in the timetable.
    async fn send(&self, cluster: &Cluster, records: impl Iterator<Item = (u64, u64)>) -> Result<(), Error> {
        let patience = self.settings.patience;
        let builder = cluster.client().producer().acks(Acks::All).idempotent(true).metrics_push(false);
        let builder = builder.delivery_timeout(patience.max(Duration::from_secs(15))).max_block(patience);
        let producer = builder.linger(LINGER).batch_size(BATCH_BYTES).build().await;
        let producer = producer.doing(|| format!("open a producer for {}", self.settings.topic))?;
        let sent = self.send_by(&producer, records).await;
        let closed = producer.close_with(krafka::CloseOptions::new().timeout(CLOSE_TIMEOUT)).await;
        sent.and(closed).doing(|| format!("send to {}", self.settings.topic))
    }

    async fn send_by(&self, producer: &Producer, records: impl Iterator<Item = (u64, u64)>) -> Result<(), KrafkaError> {
        let begun = Instant::now();
        let mut on_the_way: VecDeque<DeliveryHandle> = VecDeque::new();
        let mut outcome = Ok(());
        for (sequence, place) in records {
            if let Some(rate) = self.settings.rate {
                sleep_until(begun + Duration::from_secs_f64(place as f64 / rate)).await;
            }
            let record = self.record(self.plan.record(sequence, self.partitions));
            match producer.enqueue(record).await {
                Ok(handle) => on_the_way.push_back(handle),
                Err(error) => outcome = Err(error),
            }
            if on_the_way.len() >= WINDOW
                && let Some(oldest) = on_the_way.pop_front()
            {
                outcome = outcome.and(oldest.await.map(drop));
            }
            if outcome.is_err() {
                break;
            }
        }
        // All of them, also behind a failure: nothing may be on its way when the topic is read back.
        for handle in on_the_way {
            outcome = outcome.and(handle.await.map(drop));
        }
        outcome
    }

    fn record(&self, planned: Planned) -> krafka::Record {
        let topic = self.settings.topic.as_str();
        let mut record = krafka::Record::new(topic, planned.value.clone().unwrap_or_default());
        if planned.value.is_none() {
            record = record.without_value();
        }
        if let Some(key) = planned.key {
            record = record.key(key);
        }
        for (name, value) in planned.headers {
            record = record.header(name, value);
        }
        record.partition(planned.partition).timestamp(planned.timestamp_ms)
    }

    /// Which records of this producer have come since the start.
    async fn read_back(&self, cluster: &Cluster) -> Result<Sequences, Error> {
        let topic = &self.settings.topic;
        // Trouble has used the patience up; reading has its own.
        let deadline = Instant::now() + self.settings.patience;
        let bounds = cluster.bounds(topic, self.partitions, deadline).await?;
        let ends: Vec<i64> = bounds.iter().map(|bounds| bounds.end).collect();
        let mut reader = Reader::open(cluster, topic, &self.starts, View::Uncommitted).await?;
        let mut there = Sequences::default();
        let is_read = reader.read_until(&ends, deadline, |record| {
            let ours = identity(&record).filter(|(producer, _)| *producer == self.plan.producer);
            ours.into_iter().for_each(|(_, sequence)| there.take(sequence));
            Ok(())
        });
        if is_read.await? {
            return Ok(there);
        }
        let (doing, waited_s) = (format!("read {topic} back"), self.settings.patience.as_secs());
        Err(Error::Patience { doing, found: "its end was not reached".to_owned(), waited_s })
    }
}
