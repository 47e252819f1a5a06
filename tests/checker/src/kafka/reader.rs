//! Reads all partitions of a topic up to given ends.
//!
//! Owns the positions: a partition is read to an end when its position has reached it. The last offsets are markers that
//! no reader is given, so the position is asked of the client; every record's offset is checked against the position
//! before it, so that a client that jumps is found out.

use std::time::Duration;

use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel, TopicPartition};
use tokio::time::Instant;

use super::{Bounds, Cluster, look_again};
use crate::error::{Doing, Error};
use crate::record::Record;

const POLL: Duration = Duration::from_millis(200);
/// The client waits up to 30 s for a partition that failed; a new position makes it try at once.
const STUCK: Duration = Duration::from_secs(2);
const RECORDS_A_POLL: i32 = 10_000;
const BUFFERED_RECORDS: i32 = 20_000;
const PARTITION_BYTES: i32 = 4 << 20;

/// Which records a reader is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Those of committed transactions, up to the first that is open.
    Committed,
    /// All that were written.
    Uncommitted,
}

pub struct Reader {
    topic: String,
    consumer: Consumer,
    positions: Vec<i64>,
}

impl Reader {
    /// At the start of every partition.
    pub async fn open(cluster: &Cluster, topic: &str, starts: &[Bounds], view: View) -> Result<Self, Error> {
        let isolation = match view {
            View::Committed => IsolationLevel::ReadCommitted,
            View::Uncommitted => IsolationLevel::ReadUncommitted,
        };
        let builder = cluster.client().consumer_without_group().isolation_level(isolation);
        let builder = builder.auto_offset_reset(AutoOffsetReset::None).enable_auto_commit(false).metrics_push(false);
        let builder = builder.max_poll_records(RECORDS_A_POLL).max_buffered_records(BUFFERED_RECORDS);
        let consumer = builder.max_partition_fetch_bytes(PARTITION_BYTES).build().await;
        let consumer = consumer.doing(|| format!("open a reader of topic {topic}"))?;
        let positions: Vec<i64> = starts.iter().map(|bounds| bounds.start).collect();
        let reader = Self { topic: topic.to_owned(), consumer, positions };
        let partitions = (0..starts.len() as i32).collect();
        reader.consumer.assign(topic, partitions).await.doing(|| format!("assign topic {topic}"))?;
        reader.seek().await?;
        Ok(reader)
    }

    /// Offsets to read next.
    pub fn positions(&self) -> &[i64] {
        &self.positions
    }

    /// Reads until every partition has been read up to its end; whether it came so far before `deadline`. Records
    /// behind the ends may be taken too.
    pub async fn read_until(
        &mut self,
        ends: &[i64],
        deadline: Instant,
        mut take: impl FnMut(Record) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut moved = Instant::now();
        loop {
            if self.positions.iter().zip(ends).all(|(position, end)| position >= end) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let before = self.positions.clone();
            match self.consumer.poll(POLL).await {
                Ok(records) => records.into_iter().try_for_each(|record| take(self.checked(record)?))?,
                // A broker that refuses at once is not to be asked in a tight loop.
                Err(error) if error.is_retriable() => look_again().await,
                Err(error) => return Err(error).doing(|| format!("read topic {}", self.topic)),
            }
            self.follow().await;
            if before != self.positions {
                moved = Instant::now();
            } else if moved.elapsed() > STUCK {
                self.seek().await?;
                moved = Instant::now();
            }
        }
    }

    /// Where the client stands, markers behind the last record included.
    async fn follow(&mut self) {
        for (position, partition) in self.positions.iter_mut().zip(0..) {
            let reached = self.consumer.position(&self.topic, partition).await;
            *position = reached.map_or(*position, |reached| reached.max(*position));
        }
    }

    async fn seek(&self) -> Result<(), Error> {
        let to = self
            .positions
            .iter()
            .zip(0..)
            .map(|(position, partition)| (TopicPartition::new(self.topic.as_str(), partition), *position));
        self.consumer.seek_many(to).await.doing(|| format!("go to a position in topic {}", self.topic))
    }

    fn checked(&mut self, record: krafka::ConsumerRecord) -> Result<Record, Error> {
        let at = usize::try_from(record.partition).ok().and_then(|partition| self.positions.get_mut(partition));
        let place = || format!("read {}/{}", self.topic, record.partition);
        let position = at.ok_or_else(|| Error::reading(place(), "a record of a partition that was not asked for"))?;
        if record.offset < *position {
            return Err(Error::reading(place(), format!("offset {} behind position {position}", record.offset)));
        }
        *position = record.offset + 1;
        Ok(Record {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp,
            key: record.key.map(|bytes| bytes.to_vec()),
            value: record.value.map(|bytes| bytes.to_vec()),
            headers: record.headers.into_iter().map(|(name, value)| (name, value.map(|v| v.to_vec()))).collect(),
        })
    }
}
