//! Epochs into the log: gathered in memory, shown in one atomic step.

use rocksdb::WriteBatch;

use super::catalog::Topic;
use super::{Handle, keys, stored};
use crate::log::{CommitOutcome, Error, Writer, record_bytes};
use crate::model::{PartitionBatch, PartitionId, TopicId};

/// Records of one stored batch: what a reader decodes at once.
const BATCH_RECORDS: usize = 4_096;

/// Encoded batches that wait for their offsets.
#[derive(Default)]
pub struct Pending {
    pub parts: Vec<Part>,
}

pub struct Part {
    pub topic: String,
    pub id: TopicId,
    pub partition: PartitionId,
    pub records: u32,
    pub bytes: Vec<u8>,
}

impl Pending {
    /// # Errors
    /// [`Error::RecordTooLarge`], [`Error::UnknownPartition`]; nothing was added then.
    pub fn add(&mut self, topic: &Topic, records: &PartitionBatch) -> Result<(), Error> {
        topic.partition(records.partition)?;
        let spec = &topic.info.spec;
        for i in 0..records.len() {
            let bytes = record_bytes(records, i);
            if bytes > spec.max_record_bytes as usize {
                let (topic, max) = (spec.name.clone(), spec.max_record_bytes);
                return Err(Error::RecordTooLarge { topic, bytes, max });
            }
        }
        let mut start = 0;
        while start < records.len() {
            let end = records.len().min(start + BATCH_RECORDS);
            self.parts.push(Part {
                topic: spec.name.clone(),
                id: topic.info.id,
                partition: records.partition,
                records: (end - start) as u32,
                bytes: stored::encode(records, start..end, false),
            });
            start = end;
        }
        Ok(())
    }
}

pub struct EmbeddedWriter {
    log: Handle,
    transactional_id: String,
    epoch: u64,
    open: Option<Pending>,
}

impl EmbeddedWriter {
    /// The producer epoch is raised on disk first: from then on the predecessor is fenced. What it had
    /// open was in its memory only.
    pub fn take_over(log: Handle, transactional_id: &str) -> Result<Self, Error> {
        let mut catalog = log.0.catalog();
        let epoch = catalog.producers.get(transactional_id).map_or(0, |epoch| epoch + 1);
        let mut batch = WriteBatch::default();
        batch.put(keys::producer(transactional_id), epoch.to_le_bytes());
        log.0.write("take over a transactional id", batch)?;
        catalog.producers.insert(transactional_id.to_owned(), epoch);
        drop(catalog);
        Ok(Self { log, transactional_id: transactional_id.to_owned(), epoch, open: None })
    }

    fn check_owner(&self, owner: Option<&u64>) -> Result<(), Error> {
        if owner == Some(&self.epoch) {
            return Ok(());
        }
        Err(Error::Fenced { transactional_id: self.transactional_id.clone() })
    }
}

impl Writer for EmbeddedWriter {
    fn begin(&mut self) -> Result<(), Error> {
        self.check_owner(self.log.0.catalog().producers.get(&self.transactional_id))?;
        self.open = Some(Pending::default());
        Ok(())
    }

    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        let catalog = self.log.0.catalog();
        self.check_owner(catalog.producers.get(&self.transactional_id))?;
        self.open.get_or_insert_default().add(catalog.topic(&records.topic)?, records)
    }

    fn commit(&mut self) -> Result<CommitOutcome, Error> {
        let pending = self.open.take().unwrap_or_default();
        let mut catalog = self.log.0.catalog();
        self.check_owner(catalog.producers.get(&self.transactional_id))?;
        Ok(match self.log.0.publish(&mut catalog, &pending, true) {
            Ok(()) => CommitOutcome::Committed,
            Err(error) => CommitOutcome::Indefinite(error),
        })
    }

    fn abort(&mut self) -> Result<(), Error> {
        let pending = self.open.take().unwrap_or_default();
        let mut catalog = self.log.0.catalog();
        self.check_owner(catalog.producers.get(&self.transactional_id))?;
        let mut batch = WriteBatch::default();
        for part in &pending.parts {
            let topic = catalog.topic_mut(&part.topic)?;
            topic.partition_mut(part.partition)?.end += i64::from(part.records) + 1;
            topic.put_partition(part.partition, &mut batch);
        }
        self.log.0.write("abort", batch)
    }
}
