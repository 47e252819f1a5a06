//! Kafka by krafka: topics read from their start to an end that was asked for.
//!
//! Owns every call of the client but those that send. Joins no group and commits nothing. Rides out brokers that are
//! away, as long as its caller has patience.

mod reader;

use std::time::Duration;

use krafka::admin::{DescribeTopicsOptions, ListOffsetsOptions, OffsetSpec, TopicPartition};
use krafka::error::ErrorCode;
use krafka::{Kafka, KrafkaError};
use tokio::time::{Instant, sleep};

use crate::error::{Doing, Error};

pub use reader::{Reader, View};

/// How often something that is not there yet is looked for again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A connection that is half open must not cost all patience.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const TOPIC_KNOWN_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: i64,
    /// Next to the last record that its leader has, committed or not.
    pub end: i64,
}

/// Between two looks at something that has no sign of its own.
pub async fn look_again() {
    // sleep: nothing is concluded from the time that has passed
    sleep(LOOK_EVERY).await;
}

#[derive(Clone)]
pub struct Cluster {
    pub bootstrap: String,
    kafka: Kafka,
}

impl Cluster {
    /// # Errors
    /// No broker answered before `deadline`.
    pub async fn connect(bootstrap: &str, deadline: Instant) -> Result<Self, Error> {
        loop {
            let builder = Kafka::builder(bootstrap).client_id("forebay-checker");
            let connected = builder.request_timeout(REQUEST_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).connect().await;
            match connected {
                Ok(kafka) => return Ok(Self { bootstrap: bootstrap.to_owned(), kafka }),
                Err(error) if error.is_retriable() && Instant::now() < deadline => look_again().await,
                Err(error) => return Err(error).doing(|| format!("connect to Kafka at {bootstrap}")),
            }
        }
    }

    pub(crate) fn client(&self) -> &Kafka {
        &self.kafka
    }

    /// How many partitions a topic has; `None` where there is no such topic.
    pub async fn partitions(&self, topic: &str, deadline: Instant) -> Result<Option<i32>, Error> {
        loop {
            let answered = self.kafka.admin().describe_topics([topic], DescribeTopicsOptions::default()).await;
            match answered.and_then(|mut topics| topics.remove(topic).transpose()) {
                Ok(Some(described)) => return Ok(Some(described.partitions.len() as i32)),
                Ok(None) => return Ok(None),
                Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. }) => return Ok(None),
                Err(error) if error.is_retriable() && Instant::now() < deadline => look_again().await,
                Err(error) => return Err(error).doing(|| format!("describe topic {topic}")),
            }
        }
    }

    /// As [`partitions`](Self::partitions), where the topic must be there: a broker may not yet know what was created
    /// a moment ago.
    pub async fn known_partitions(&self, topic: &str, deadline: Instant) -> Result<i32, Error> {
        let known_by = deadline.min(Instant::now() + TOPIC_KNOWN_WITHIN);
        loop {
            match self.partitions(topic, deadline).await? {
                Some(partitions) => return Ok(partitions),
                None if Instant::now() < known_by => look_again().await,
                None => return Err(Error::unfit(format!("topic {topic} is not there: create it, or name another"))),
            }
        }
    }

    /// The bounds of all partitions, as their leaders tell them now.
    pub async fn bounds(&self, topic: &str, partitions: i32, deadline: Instant) -> Result<Vec<Bounds>, Error> {
        loop {
            match self.bounds_now(topic, partitions).await {
                Ok(bounds) => return Ok(bounds),
                Err(error) if error.is_retriable() && Instant::now() < deadline => look_again().await,
                Err(error) => return Err(error).doing(|| format!("ask for the ends of topic {topic}")),
            }
        }
    }

    async fn bounds_now(&self, topic: &str, partitions: i32) -> Result<Vec<Bounds>, KrafkaError> {
        let starts = self.offsets(topic, partitions, OffsetSpec::Earliest).await?;
        let ends = self.offsets(topic, partitions, OffsetSpec::Latest).await?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| Bounds { start, end }).collect())
    }

    async fn offsets(&self, topic: &str, partitions: i32, spec: OffsetSpec) -> Result<Vec<i64>, KrafkaError> {
        let specs = (0..partitions).map(|partition| (TopicPartition::new(topic, partition), spec));
        let options = ListOffsetsOptions::default().timeout(REQUEST_TIMEOUT);
        let mut answers = self.kafka.admin().list_offsets(specs, options).await?;
        let mut offset = |partition| {
            let answer = answers.remove(&TopicPartition::new(topic, partition));
            answer.unwrap_or_else(|| Err(KrafkaError::timeout("list offsets"))).map(|listed| listed.offset)
        };
        (0..partitions).map(&mut offset).collect()
    }
}
