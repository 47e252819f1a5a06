//! The service of topics: for people, load generators and tests.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::error::blocking;
use super::proto::consume_request::Start;
use super::proto::topics_server::Topics as Service;
use super::proto::{
    ConsumeRequest, ConsumeResponse, ConsumedRecord, CreateTopicRequest, CreateTopicResponse, DeleteTopicRequest,
    DeleteTopicResponse, Header, ListTopicsRequest, ListTopicsResponse, Partition, ProduceRequest, ProduceResponse,
    ProducedPartition, Record, Topic,
};
use crate::job::manager::Manager;
use crate::log::{
    Assignment, Budget, Cleanup, Error, Isolation, Log, Reader, Span, TopicInfo, TopicRules, TopicSpec, header_bytes,
};
use crate::model::names::{INTERNAL, is_internal};
use crate::model::{PartitionBatch, murmur2};

const DEFAULT_RECORD_BYTES: u32 = 1 << 20;
/// Batches of one stream that wait for the log while more are received.
const PRODUCE_QUEUE: usize = 4;
const CONSUME_QUEUE: usize = 4;
const CONSUME_BUDGET: Budget = Budget { max_records: 2_000, max_bytes: 1 << 20 };
const CONSUME_WAIT: Duration = Duration::from_millis(100);

/// Streams that write or read at once: each has a thread as long as it lives, and calls of others need some too.
pub(super) const STREAMS_MAX: usize = 128;

pub struct TopicsApi {
    pub log: Arc<dyn Log>,
    pub manager: Arc<Manager>,
    streams: Arc<Semaphore>,
}

impl TopicsApi {
    pub fn new(log: Arc<dyn Log>, manager: Arc<Manager>) -> Self {
        Self { log, manager, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    fn stream(&self, doing: &str) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let text =
                format!("{doing}: {STREAMS_MAX} streams of records are open, as many as may be; end one, or try again");
            Status::unavailable(text)
        })
    }
}

#[tonic::async_trait]
impl Service for TopicsApi {
    async fn create(&self, request: Request<CreateTopicRequest>) -> Result<Response<CreateTopicResponse>, Status> {
        let request = request.into_inner();
        refuse_internal(&request.name)?;
        let spec = TopicSpec {
            name: request.name,
            partitions: request.partitions,
            cleanup: if request.compact { Cleanup::Compact } else { Cleanup::Delete },
            max_record_bytes: if request.max_record_bytes == 0 {
                DEFAULT_RECORD_BYTES
            } else {
                request.max_record_bytes
            },
        };
        let log = Arc::clone(&self.log);
        let topic = blocking(move || log.create_topic(&spec).and_then(|info| show(log.as_ref(), &info))).await?;
        Ok(Response::new(CreateTopicResponse { topic: Some(topic) }))
    }

    async fn list(&self, request: Request<ListTopicsRequest>) -> Result<Response<ListTopicsResponse>, Status> {
        let (log, internal) = (Arc::clone(&self.log), request.into_inner().internal);
        let topics = blocking(move || {
            let topics = log.topics()?;
            let chosen = topics.iter().filter(|topic| internal || !is_internal(&topic.spec.name));
            chosen.map(|topic| show(log.as_ref(), topic)).collect::<Result<Vec<_>, Error>>()
        });
        Ok(Response::new(ListTopicsResponse { topics: topics.await? }))
    }

    async fn delete(&self, request: Request<DeleteTopicRequest>) -> Result<Response<DeleteTopicResponse>, Status> {
        let name = request.into_inner().name;
        refuse_internal(&name)?;
        if let Some(job) = self.manager.job_on(&name) {
            return Err(Status::failed_precondition(format!(
                "delete topic {name}: job {job} uses it; delete the job first: `forebay job delete {job} --yes`"
            )));
        }
        let log = Arc::clone(&self.log);
        blocking(move || log.delete_topic(&name)).await?;
        Ok(Response::new(DeleteTopicResponse {}))
    }

    async fn produce(&self, request: Request<Streaming<ProduceRequest>>) -> Result<Response<ProduceResponse>, Status> {
        let _stream = self.stream("produce")?;
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::channel(PRODUCE_QUEUE);
        let log = Arc::clone(&self.log);
        let writer = tokio::task::spawn_blocking(move || write_all(log.as_ref(), receiver));
        while let Some(request) = requests.message().await? {
            // The writer has failed: its error is the answer.
            if sender.send(request).await.is_err() {
                break;
            }
        }
        drop(sender);
        let written = writer.await.map_err(|error| Status::internal(format!("produce ended early: {error}")))?;
        Ok(Response::new(written?))
    }

    type ConsumeStream = Pin<Box<dyn Stream<Item = Result<ConsumeResponse, Status>> + Send>>;

    async fn consume(&self, request: Request<ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        let stream = self.stream("consume")?;
        let (log, request) = (Arc::clone(&self.log), request.into_inner());
        let consumer = blocking(move || Consumer::open(log.as_ref(), request)).await?;
        let (sender, receiver) = mpsc::channel(CONSUME_QUEUE);
        tokio::task::spawn_blocking(move || {
            consumer.run(&sender);
            drop(stream);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn refuse_internal(name: &str) -> Result<(), Status> {
    if is_internal(name) {
        return Err(Status::invalid_argument(format!(
            "topic {name} is internal; names that begin with {INTERNAL} are Forebay's own"
        )));
    }
    Ok(())
}

fn show(log: &dyn Log, topic: &TopicInfo) -> Result<Topic, Error> {
    let partition = |(partition, span): (i32, Span)| Partition {
        partition,
        start_offset: span.start,
        end_offset: span.stable,
        written_offset: span.end,
    };
    Ok(Topic {
        name: topic.spec.name.clone(),
        id: topic.id.to_string(),
        compact: topic.spec.cleanup == Cleanup::Compact,
        max_record_bytes: topic.spec.max_record_bytes,
        partitions: (0..).zip(log.spans(&topic.spec)?).map(partition).collect(),
    })
}

/// Appends what comes until the stream ends.
fn write_all(log: &dyn Log, mut requests: Receiver<ProduceRequest>) -> Result<ProduceResponse, Status> {
    let mut producer: Option<Producer> = None;
    while let Some(request) = requests.blocking_recv() {
        let producer = match &mut producer {
            Some(producer) if request.topic.is_empty() || request.topic == producer.topic => producer,
            Some(producer) => {
                let (first, then) = (&producer.topic, &request.topic);
                let text =
                    format!("produce: the stream began with topic {first} and names {then} now; use a stream each");
                return Err(with_written(Status::invalid_argument(text), producer.whole));
            }
            none => none.insert(Producer::open(log, &request.topic).map_err(|error| with_written(error, 0))?),
        };
        producer.write(log, request)?;
    }
    Ok(producer.map(Producer::summary).unwrap_or_default())
}

/// Metadata of an error of `Produce`: so many records of the stream, from its first one on, are surely written.
pub const RECORDS_WRITTEN: &str = "forebay-records-written";

/// One stream of records into one topic.
struct Producer {
    topic: String,
    rules: TopicRules,
    batches: Vec<PartitionBatch>,
    /// Where the next record without a key goes.
    turn: usize,
    /// Records of the stream that are written without a gap from its first one on.
    whole: u64,
    written: BTreeMap<i32, ProducedPartition>,
}

fn with_written(mut status: Status, records: u64) -> Status {
    status.metadata_mut().insert(RECORDS_WRITTEN, records.into());
    status
}

impl Producer {
    fn open(log: &dyn Log, topic: &str) -> Result<Self, Status> {
        refuse_internal(topic)?;
        let found = log.topic(topic)?;
        let partitions = found.spec.partitions as i32;
        let batches = (0..partitions).map(|partition| PartitionBatch::new(topic, partition)).collect();
        let rules = found.rules();
        Ok(Self { topic: topic.to_owned(), rules, batches, turn: 0, whole: 0, written: BTreeMap::new() })
    }

    /// Everything before a record that the topic does not take is written, and nothing behind it.
    fn write(&mut self, log: &dyn Log, request: ProduceRequest) -> Result<(), Status> {
        let mut taken = 0;
        let mut refused = None;
        for record in &request.records {
            let partition = match self.check(record).and_then(|()| self.partition(request.partition, record)) {
                Ok(partition) => partition,
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            };
            let headers = record.headers.iter().map(|header| (header.name.as_bytes(), header.value.as_deref()));
            let timestamp_ms = timestamp(record.timestamp_ms)?;
            let batch = &mut self.batches[partition];
            batch.push_with_headers(-1, timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
            taken += 1;
        }
        // Records without a key stay together within a message and move on with the next.
        self.turn += 1;
        for batch in self.batches.iter_mut().filter(|batch| !batch.is_empty()) {
            let first = log.produce(batch).map_err(|error| with_written(error.into(), self.whole))?;
            let partition = batch.partition;
            let entry = self.written.entry(partition).or_insert(ProducedPartition { partition, ..Default::default() });
            entry.records += batch.len() as u64;
            entry.last_offset = first + batch.len() as i64 - 1;
            batch.clear();
        }
        self.whole += taken;
        refused.map_or(Ok(()), |why| Err(with_written(why, self.whole)))
    }

    /// What the topic would refuse is found before anything of the message is written.
    fn check(&self, record: &Record) -> Result<(), Status> {
        let headers = record.headers.iter();
        let headers = headers.map(|header| header_bytes(header.name.as_bytes(), header.value.as_deref()));
        let of = |part: &Option<prost::bytes::Bytes>| part.as_ref().map_or(0, |part| part.len());
        let bytes = of(&record.key) + of(&record.value) + headers.sum::<usize>();
        let topic = || self.topic.clone();
        if bytes > self.rules.max_record_bytes as usize {
            return Err(Error::RecordTooLarge { topic: topic(), bytes, max: self.rules.max_record_bytes }.into());
        }
        if self.rules.needs_key && record.key.is_none() {
            let reason = "a record has no key, and the topic keeps the newest record of each key";
            return Err(Error::InvalidRecord { topic: topic(), reason }.into());
        }
        Ok(())
    }

    fn partition(&self, given: Option<i32>, record: &Record) -> Result<usize, Status> {
        let count = self.batches.len();
        match (given, &record.key) {
            (Some(partition), _) if (partition as usize) < count && partition >= 0 => Ok(partition as usize),
            (Some(partition), _) => {
                let topic = &self.topic;
                Err(Status::invalid_argument(format!(
                    "produce to {topic}/{partition}: the topic has {count} partitions"
                )))
            }
            (None, Some(key)) => Ok(murmur2::partition(key, count as u32) as usize),
            (None, None) => Ok(self.turn % count),
        }
    }

    fn summary(self) -> ProduceResponse {
        let partitions: Vec<_> = self.written.into_values().collect();
        ProduceResponse { records: partitions.iter().map(|partition| partition.records).sum(), partitions }
    }
}

/// A timestamp that is not given is -1, which tells the log to use the time of writing. No other number before 1970 is
/// a timestamp, and 0 is what Kafka's client takes for "now".
fn timestamp(given_ms: Option<i64>) -> Result<i64, Status> {
    match given_ms {
        None => Ok(-1),
        Some(given_ms @ 1..) => Ok(given_ms),
        Some(given_ms) => Err(Status::invalid_argument(format!(
            "produce a record with timestamp {given_ms} ms: Kafka has timestamps from 1 ms after 1970 on; leave it out for \
             the time of writing"
        ))),
    }
}

/// One stream of records out of one topic.
struct Consumer {
    reader: Box<dyn Reader>,
    topic: String,
    /// Per partition where the stream ends.
    ends: BTreeMap<i32, i64>,
    follow: bool,
    left: u64,
}

impl Consumer {
    fn open(log: &dyn Log, request: ConsumeRequest) -> Result<Self, Error> {
        let topic = log.topic(&request.topic)?;
        let spans = log.spans(&topic.spec)?;
        let all: Vec<i32> = (0..topic.spec.partitions as i32).collect();
        let partitions = if request.partitions.is_empty() { all } else { request.partitions };
        let mut ends = BTreeMap::new();
        let mut assignments = Vec::new();
        for partition in partitions {
            let span = usize::try_from(partition).ok().and_then(|partition| spans.get(partition));
            let Some(&Span { start, stable: end, .. }) = span else {
                let (topic, partitions) = (request.topic, topic.spec.partitions);
                return Err(Error::UnknownPartition { topic, partition, partitions });
            };
            let offset = match request.start {
                None | Some(Start::Earliest(_)) => start,
                Some(Start::Latest(_)) => end,
                Some(Start::Offset(offset)) => offset.max(start),
                Some(Start::TimestampMs(at)) => log.offset_for_timestamp(&request.topic, partition, at)?,
            };
            if ends.insert(partition, end).is_none() && (request.follow || offset < end) {
                assignments.push(Assignment::new(&request.topic, topic.id, partition, offset));
            } else {
                ends.remove(&partition);
            }
        }
        let mut reader = log.reader(Isolation::ReadCommitted)?;
        reader.assign(&assignments)?;
        let left = if request.max_records == 0 { u64::MAX } else { request.max_records };
        Ok(Self { reader, topic: request.topic, ends, follow: request.follow, left })
    }

    fn run(mut self, sender: &Sender<Result<ConsumeResponse, Status>>) {
        let mut batch = PartitionBatch::default();
        while self.left > 0 && !sender.is_closed() && !self.is_at_end() {
            let answer = match self.reader.poll(CONSUME_BUDGET, CONSUME_WAIT, &mut batch) {
                Ok(false) => continue,
                Ok(true) => Ok(self.answer(&batch)),
                Err(error) => Err(Status::from(error)),
            };
            let ended = answer.is_err();
            // Whoever listened may have gone.
            if sender.blocking_send(answer).is_err() || ended {
                return;
            }
        }
    }

    fn is_at_end(&self) -> bool {
        let at_end = |(&partition, &end): (&i32, &i64)| self.reader.position(&self.topic, partition) >= Some(end);
        !self.follow && self.ends.iter().all(at_end)
    }

    fn answer(&mut self, batch: &PartitionBatch) -> ConsumeResponse {
        let records = (0..batch.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))).map(|i| record(batch, i));
        let records: Vec<_> = records.collect();
        self.left -= records.len() as u64;
        ConsumeResponse { topic: self.topic.clone(), partition: batch.partition, records }
    }
}

fn record(batch: &PartitionBatch, i: usize) -> ConsumedRecord {
    let bytes = |bytes: Option<&[u8]>| bytes.map(prost::bytes::Bytes::copy_from_slice);
    ConsumedRecord {
        offset: batch.offsets[i],
        timestamp_ms: batch.timestamps_ms[i],
        key: bytes(batch.keys.get(i)),
        value: bytes(batch.values.get(i)),
        headers: headers(batch, i),
    }
}

pub fn headers(batch: &PartitionBatch, i: usize) -> Vec<Header> {
    let header = |(name, value): (&[u8], Option<&[u8]>)| Header {
        name: String::from_utf8_lossy(name).into_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    batch.headers.of(i).map(header).collect()
}
