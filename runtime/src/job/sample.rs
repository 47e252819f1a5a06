//! A look at what a topic holds, before a job reads it: are its keys where the source says that they are?
//!
//! Reads a few of the newest records of every partition, bounded in number and time. What cannot be read is no reason
//! to refuse a plan: then there is no sample.

use std::time::Duration;

use super::spec::SourceSpec;
use crate::codec::{Decoded, Partitioner, SourceCodec};
use crate::log::{Assignment, Budget, Error, Isolation, Log, TopicInfo};
use crate::model::{EventTime, PartitionBatch};

/// Records looked at: of one partition, and of the topic.
const OF_PARTITION: i64 = 20;
const OF_TOPIC: usize = 400;
const WAIT: Duration = Duration::from_millis(20);
/// A slow topic delays a plan by half a second at most.
const EMPTY_POLLS_MAX: u32 = 25;

/// How many records with a key stand where each partitioner would have put them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySample {
    pub keys: u64,
    pub murmur2: u64,
    pub crc32: u64,
}

impl KeySample {
    /// The count for one partitioner; `None` for one that cannot be checked.
    pub fn in_place(&self, partitioner: Partitioner) -> u64 {
        match partitioner {
            Partitioner::Murmur2 => self.murmur2,
            Partitioner::Crc32 => self.crc32,
            Partitioner::None => self.keys,
        }
    }

    fn count(&mut self, key: &[u8], partition: i32, partitions: u32) {
        let fits = |partitioner: Partitioner| u64::from(partitioner.partition(key, partitions) == Some(partition));
        self.keys += 1;
        self.murmur2 += fits(Partitioner::Murmur2);
        self.crc32 += fits(Partitioner::Crc32);
    }
}

/// `None` where nothing was found, or nothing in time.
pub fn keys(source: &SourceSpec, topic: &TopicInfo, codec: &SourceCodec, log: &dyn Log) -> Option<KeySample> {
    let sampled = try_keys(topic, codec, log).inspect_err(|error| {
        tracing::debug!("source {}: its topic {} cannot be looked at: {error}", source.id, source.topic);
    });
    sampled.ok().filter(|sample| sample.keys > 0)
}

fn try_keys(topic: &TopicInfo, codec: &SourceCodec, log: &dyn Log) -> Result<KeySample, Error> {
    let name = &topic.spec.name;
    let spans = log.spans(&topic.spec)?;
    let newest = spans.iter().zip(0..).filter(|(span, _)| span.start < span.stable);
    let places: Vec<_> = newest.map(|(span, p)| (p, span.start.max(span.stable - OF_PARTITION), span.stable)).collect();
    let mut sample = KeySample::default();
    if places.is_empty() {
        return Ok(sample);
    }
    let mut reader = log.reader(Isolation::ReadCommitted)?;
    let assigned: Vec<_> = places.iter().map(|(p, from, _)| Assignment::new(name, topic.id, *p, *from)).collect();
    reader.assign(&assigned)?;
    let (mut batch, mut decoded) = (PartitionBatch::default(), Decoded::default());
    let budget = Budget { max_records: OF_PARTITION as usize, max_bytes: 1 << 20 };
    let (mut empty, mut seen) = (0, 0);
    let is_read = |reader: &dyn crate::log::Reader| {
        places.iter().all(|(partition, _, end)| reader.position(name, *partition) >= Some(*end))
    };
    while seen < OF_TOPIC && empty < EMPTY_POLLS_MAX && !is_read(reader.as_ref()) {
        if !reader.poll(budget, WAIT, &mut batch)? {
            empty += 1;
            continue;
        }
        seen += batch.len();
        // Only keys matter here, so no bound on event time may reject a record.
        codec.decode(&batch, EventTime::MAX, None, &mut decoded);
        for (position, &i) in decoded.kept.iter().enumerate() {
            let own = || batch.keys.get(i as usize);
            if let Some(key) = decoded.keys.as_ref().map_or_else(own, |keys| keys.get(position)) {
                sample.count(key, batch.partition, topic.spec.partitions);
            }
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::super::fakes;
    use super::super::plan::source_codec;
    use super::super::spec::JobSpec;
    use super::*;

    fn sampled(key: &str, records: impl Iterator<Item = (i32, Option<Vec<u8>>, Vec<u8>)>) -> Option<KeySample> {
        let yaml = format!("name: j\nsources: [{{id: in, topic: t, key: {key}}}]\nsinks: []\n");
        let source = JobSpec::parse(&yaml).unwrap().sources.remove(0);
        let (_dir, log) = fakes::log();
        let topic = log.create_topic(&fakes::topic("t", 4)).unwrap();
        for (partition, key, value) in records {
            let mut batch = PartitionBatch::new("t", partition);
            batch.push(-1, 1_000, key.as_deref(), Some(&value));
            log.produce(&batch).unwrap();
        }
        keys(&source, &topic, &source_codec(&source).unwrap(), log.as_ref())
    }

    #[test]
    fn the_newest_keys_of_each_partition_are_compared_with_where_they_stand() {
        let at = |i: i32| Partitioner::Crc32.partition(format!("k{i}").as_bytes(), 4).unwrap();
        let own = (0..200).map(|i| (at(i), Some(format!("k{i}").into_bytes()), b"{}".to_vec()));
        let sample = sampled("record-key", own).unwrap();
        assert_eq!((sample.keys, sample.crc32), (80, 80));
        assert!(sample.murmur2 < 40, "{sample:?}");
        let of_field = (0..200).map(|i| (at(i), None, format!(r#"{{"s":"k{i}"}}"#).into_bytes()));
        assert_eq!(sampled("{field: s}", of_field).map(|sample| sample.crc32), Some(80));
        assert_eq!(sampled("record-key", std::iter::empty()), None);
        assert_eq!(sampled("record-key", (0..4).map(|i| (i, None, b"{}".to_vec()))), None);
    }
}
