//! A sink's side of an epoch: which records the topic would take, and those that wait for the writer.
//!
//! Owns one batch per partition. Decides before a record reaches the producer: a record that the
//! broker would refuse must be an outcome of its input record, never the death of an epoch.

use crate::log::TopicRules;
use crate::model::{EventTime, Headers, PartitionBatch, PartitionId, murmur2};

const NANOS_PER_MS: i64 = 1_000_000;

/// The timestamp that a sink's records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkTimestamp {
    /// Event time, cut to milliseconds.
    EventTime,
    /// The log's append time.
    Now,
}

pub struct Sink {
    pub id: String,
    timestamp: SinkTimestamp,
    rules: TopicRules,
    batches: Vec<PartitionBatch>,
    records: u64,
}

/// Why a sink's topic would not take a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl Sink {
    pub fn new(id: &str, topic: &str, partitions: u32, rules: TopicRules, timestamp: SinkTimestamp) -> Self {
        let batches = (0..partitions as PartitionId).map(|p| PartitionBatch::new(topic, p)).collect();
        Self { id: id.to_owned(), timestamp, rules, batches, records: 0 }
    }

    /// Whether the topic takes a record of these parts; `header_bytes` counts names and values.
    ///
    /// # Errors
    /// The sentence that the dead letter of the input record will carry.
    pub fn check(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        header_bytes: usize,
        event_time: EventTime,
        partition: i32,
        now_ms: i64,
    ) -> Result<(), Refused> {
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + header_bytes;
        if bytes > self.rules.max_record_bytes as usize {
            let max = self.rules.max_record_bytes;
            return Err(Refused(format!("sink {}: the record has {bytes} bytes, the topic takes {max}", self.id)));
        }
        if self.rules.needs_key && key.is_none() {
            return Err(Refused(format!(
                "sink {}: the record has no key, and the topic keeps the newest of each key",
                self.id
            )));
        }
        if self.timestamp == SinkTimestamp::EventTime {
            self.check_timestamp(event_time, now_ms)?;
        }
        if partition >= self.batches.len() as i32 {
            let found = self.batches.len();
            return Err(Refused(format!(
                "sink {}: partition {partition} was asked for, the topic has {found}",
                self.id
            )));
        }
        Ok(())
    }

    /// A topic refuses timestamps too far ahead, and its retention deletes old ones as soon as they are written.
    fn check_timestamp(&self, event_time: EventTime, now_ms: i64) -> Result<(), Refused> {
        let refused = |why: String| {
            Err(Refused(format!("sink {}: event time {event_time} ns {why}; set `timestamp: now`", self.id)))
        };
        let behind_ms = now_ms.saturating_sub(event_time.div_euclid(NANOS_PER_MS));
        let bounds = self.rules.timestamps;
        if event_time < 0 {
            return refused("lies before 1970 and cannot be a record's timestamp".to_owned());
        }
        if event_time < NANOS_PER_MS {
            let why = "lies in the first millisecond of 1970, and Kafka's client takes a timestamp of 0 ms for \"now\"";
            return refused(why.to_owned());
        }
        if let Some(max) = bounds.max_behind_ms.filter(|max| behind_ms > *max) {
            return refused(format!("lies {behind_ms} ms behind now, and the topic keeps {max} ms"));
        }
        if let Some(max) = bounds.max_ahead_ms.filter(|max| behind_ms.saturating_neg() > *max) {
            return refused(format!("lies {} ms ahead of now, and the topic takes {max} ms", -behind_ms));
        }
        Ok(())
    }

    /// Adds a record that `check` has passed. `partition` −1 = by key; without a key by `spread`, which
    /// must be the same whenever the record is computed again.
    pub fn push(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers_of: (&Headers, usize),
        event_time: EventTime,
        partition: i32,
        spread: u64,
    ) {
        let count = self.batches.len() as u32;
        let partition = match (partition, key) {
            (0.., _) => partition,
            (_, Some(key)) => murmur2::partition(key, count),
            (_, None) => (spread % u64::from(count)) as i32,
        };
        let timestamp_ms = match self.timestamp {
            SinkTimestamp::EventTime => event_time.div_euclid(NANOS_PER_MS),
            SinkTimestamp::Now => -1,
        };
        self.records += 1;
        let headers = headers_of.0.of(headers_of.1);
        self.batches[partition as usize].push_with_headers(-1, timestamp_ms, key, value, headers);
    }

    /// Nothing waits for the writer. A record may well be of no bytes.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Hands the waiting batches to `write`, one partition after the other, and forgets them.
    ///
    /// # Errors
    /// That of `write`; what was not written is forgotten too, for the epoch is lost then.
    pub fn drain<E>(&mut self, mut write: impl FnMut(&PartitionBatch) -> Result<(), E>) -> Result<u64, E> {
        let result = self.batches.iter().filter(|batch| !batch.is_empty()).try_for_each(&mut write);
        let records = self.records;
        self.clear();
        result.map(|()| records)
    }

    pub fn clear(&mut self) {
        self.batches.iter_mut().for_each(PartitionBatch::clear);
        self.records = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::TimestampBounds;

    fn sink() -> Sink {
        Sink::new("out", "t", 4, rules(), SinkTimestamp::EventTime)
    }

    fn rules() -> TopicRules {
        TopicRules { max_record_bytes: 10, needs_key: false, timestamps: TimestampBounds::default() }
    }

    #[test]
    fn what_the_topic_would_not_keep_is_refused() {
        let timestamps = TimestampBounds { max_behind_ms: Some(1_000), max_ahead_ms: Some(100) };
        let bounded =
            |timestamp| Sink::new("out", "t", 4, TopicRules { timestamps, needs_key: true, ..rules() }, timestamp);
        let check = |timestamp, key, ms: i64| bounded(timestamp).check(key, None, 0, ms * NANOS_PER_MS, -1, 5_000);
        let key = Some(&b"k"[..]);
        assert_eq!([4_000, 5_100].map(|ms| check(SinkTimestamp::EventTime, key, ms)), [Ok(()), Ok(())]);
        assert!([3_999, 5_101].iter().all(|ms| check(SinkTimestamp::EventTime, key, *ms).is_err()));
        assert_eq!([3_999, 5_101].map(|ms| check(SinkTimestamp::Now, key, ms)), [Ok(()), Ok(())]);
        assert!(check(SinkTimestamp::Now, None, 5_000).is_err());
    }

    #[test]
    fn what_the_topic_would_refuse_is_refused_before_it_is_written() {
        assert_eq!(sink().check(Some(b"k"), Some(b"123456789"), 0, NANOS_PER_MS, -1, 0), Ok(()));
        assert!(sink().check(Some(b"k"), Some(b"1234567890"), 0, 0, -1, 0).is_err());
        assert!(sink().check(None, None, 11, 0, -1, 0).is_err());
        assert!(sink().check(None, None, 0, -1, -1, 0).is_err());
        assert!(sink().check(None, None, 0, 0, 4, 0).is_err());
    }

    #[test]
    fn times_that_no_record_can_carry_are_refused_for_what_they_are() {
        let refused = |time| sink().check(None, None, 0, time, -1, 0).unwrap_err().0;
        assert!(refused(-1).contains("event time -1 ns lies before 1970"), "{}", refused(-1));
        for time in [0, NANOS_PER_MS - 1] {
            let found = refused(time);
            assert!(found.contains("in the first millisecond of 1970") && !found.contains("before 1970"), "{found}");
        }
        assert_eq!(sink().check(None, None, 0, NANOS_PER_MS, -1, 0), Ok(()));
        let now = Sink::new("out", "t", 4, rules(), SinkTimestamp::Now);
        assert_eq!([-1, 0].map(|time| now.check(None, None, 0, time, -1, 0)), [Ok(()), Ok(())]);
    }

    #[test]
    fn keys_are_partitioned_as_kafka_does_and_times_are_cut_to_milliseconds() {
        let mut sink = sink();
        let none = Headers::default();
        sink.push(Some(b"foobar"), Some(b"v"), (&none, 0), 1_999_999, -1, 0);
        sink.push(None, Some(b"v"), (&none, 0), 0, -1, 6);
        sink.push(Some(b"foobar"), Some(b"v"), (&none, 0), 0, 3, 0);
        let mut seen = Vec::new();
        let records = sink.drain(|batch| {
            seen.push((batch.partition, batch.len(), batch.timestamps_ms[0]));
            Ok::<(), ()>(())
        });
        assert_eq!(records, Ok(3));
        let by_key = murmur2::partition(b"foobar", 4);
        assert!(seen.contains(&(by_key, 1 + usize::from(by_key == 2) + usize::from(by_key == 3), 1)), "{seen:?}");
        assert!(sink.is_empty());
    }
}
