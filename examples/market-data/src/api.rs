//! The server as a client sees it: the calls of the gRPC API that a show and its judge need.
//!
//! Every error says which call failed and what the server answered. A client outlives a server that is killed and
//! started again on the same address: it connects anew with the next call.

use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};

use crate::input::partitioned::Record;

/// Generated from `runtime/proto/forebay/v1`.
#[allow(clippy::all, reason = "generated code")]
pub mod proto {
    tonic::include_proto!("forebay.v1");
}
use proto::jobs_client::JobsClient;
use proto::modules_client::ModulesClient;
use proto::topics_client::TopicsClient;

const CHUNK_BYTES: usize = 256 << 10;
const MAX_MESSAGE_BYTES: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
#[error("{doing}: {found}")]
pub struct Error {
    pub doing: String,
    pub found: String,
    /// The server's answer; `Unavailable` where there was none.
    pub code: tonic::Code,
}

#[derive(Clone)]
pub struct Client {
    channel: Channel,
}

/// A record that somebody reading a topic under `read_committed` sees.
#[derive(Clone, Debug)]
pub struct Seen {
    pub partition: usize,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

impl Client {
    /// Does not connect yet: the first call does.
    pub fn new(address: &str) -> Result<Self, Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| failed(format!("use the address {address}"), tonic::Code::InvalidArgument, &error))?;
        let channel = endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy();
        Ok(Self { channel })
    }

    pub async fn create_topic(&self, name: &str, partitions: usize) -> Result<(), Error> {
        let request =
            proto::CreateTopicRequest { name: name.to_owned(), partitions: partitions as u32, ..Default::default() };
        self.topics().create(request).await.map_err(status(format!("create topic {name}")))?;
        Ok(())
    }

    /// With all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let request = proto::DeleteTopicRequest { name: name.to_owned() };
        self.topics().delete(request).await.map_err(status(format!("delete topic {name}")))?;
        Ok(())
    }

    /// All that are not Forebay's own.
    pub async fn list_topics(&self) -> Result<Vec<proto::Topic>, Error> {
        let request = proto::ListTopicsRequest { internal: false };
        Ok(self.topics().list(request).await.map_err(status("list topics"))?.into_inner().topics)
    }

    /// Per partition the first offset held and the end offset.
    pub async fn offsets(&self, topic: &str) -> Result<Vec<(i64, i64)>, Error> {
        let doing = format!("list the offsets of topic {topic}");
        let found = self.list_topics().await?.into_iter().find(|found| found.name == topic);
        let found = found.ok_or_else(|| failed(doing, tonic::Code::NotFound, &"there is no such topic"))?;
        let mut partitions = found.partitions;
        partitions.sort_by_key(|partition| partition.partition);
        Ok(partitions.iter().map(|partition| (partition.start_offset, partition.end_offset)).collect())
    }

    /// Appends to one partition each; answers when all of it is durable.
    pub async fn produce(&self, topic: &str, parts: Vec<(usize, &[Record])>) -> Result<(), Error> {
        let message = |(partition, records): (usize, &[Record])| proto::ProduceRequest {
            topic: topic.to_owned(),
            partition: Some(partition as i32),
            records: records.iter().map(produced).collect(),
        };
        let messages: Vec<_> = parts.into_iter().map(message).collect();
        let call = self.topics().produce(tokio_stream::iter(messages)).await;
        call.map_err(status(format!("produce to {topic}")))?;
        Ok(())
    }

    /// All that a reader of committed records sees of a topic now.
    pub async fn consume(&self, topic: &str) -> Result<Vec<Seen>, Error> {
        let doing = || format!("consume {topic}");
        let request = proto::ConsumeRequest { topic: topic.to_owned(), ..Default::default() };
        let mut stream = self.topics().consume(request).await.map_err(status(doing()))?.into_inner();
        let mut seen = Vec::new();
        while let Some(message) = stream.next().await {
            let message = message.map_err(status(doing()))?;
            let partition = message.partition as usize;
            seen.extend(message.records.into_iter().map(|record| consumed(partition, record)));
        }
        Ok(seen)
    }

    /// Uploads a module; answers its `name@version`.
    pub async fn push(&self, bytes: &[u8]) -> Result<String, Error> {
        use proto::push_module_request::Part;
        let header = proto::PushModuleHeader { sha256: sha256(bytes), size_bytes: bytes.len() as u64 };
        let chunks = bytes.chunks(CHUNK_BYTES).map(|chunk| Part::Chunk(chunk.to_vec()));
        let parts: Vec<_> = std::iter::once(Part::Header(header))
            .chain(chunks)
            .map(|part| proto::PushModuleRequest { part: Some(part) })
            .collect();
        let call = self.modules().push(tokio_stream::iter(parts)).await;
        let module = call.map_err(status("push a module"))?.into_inner().module.unwrap_or_default();
        Ok(format!("{}@{}", module.name, module.version))
    }

    pub async fn apply(&self, spec: &str) -> Result<proto::ApplyJobResponse, Error> {
        let request = proto::ApplyJobRequest { spec: spec.to_owned(), expected_revision: None };
        Ok(self.jobs().apply(request).await.map_err(status("apply a job"))?.into_inner())
    }

    /// What applying a spec would do.
    pub async fn plan(&self, spec: &str) -> Result<proto::Plan, Error> {
        let request = proto::PlanJobRequest { spec: spec.to_owned() };
        let answer = self.jobs().plan(request).await.map_err(status("plan a job"))?;
        Ok(answer.into_inner().plan.unwrap_or_default())
    }

    pub async fn stop_job(&self, name: &str) -> Result<(), Error> {
        let request = proto::StopJobRequest { name: name.to_owned() };
        self.jobs().stop(request).await.map_err(status(format!("stop job {name}")))?;
        Ok(())
    }

    pub async fn delete_job(&self, name: &str) -> Result<(), Error> {
        let request = proto::DeleteJobRequest { name: name.to_owned() };
        self.jobs().delete(request).await.map_err(status(format!("delete job {name}")))?;
        Ok(())
    }

    pub async fn jobs_running(&self) -> Result<Vec<proto::Job>, Error> {
        Ok(self.jobs().list(proto::ListJobsRequest {}).await.map_err(status("list jobs"))?.into_inner().jobs)
    }

    pub async fn job(&self, name: &str) -> Result<proto::Job, Error> {
        let request = proto::GetJobRequest { name: name.to_owned() };
        let answer = self.jobs().get(request).await.map_err(status(format!("get job {name}")))?;
        Ok(answer.into_inner().job.unwrap_or_default())
    }

    pub async fn swap(&self, name: &str, operator: &str, module: &str) -> Result<proto::Swap, Error> {
        let doing = format!("swap {operator} of job {name} for {module}");
        let (name, operator, module) = (name.to_owned(), operator.to_owned(), module.to_owned());
        let request = proto::SwapJobRequest { name, operator, module, ..Default::default() };
        Ok(self.jobs().swap(request).await.map_err(status(doing))?.into_inner().swap.unwrap_or_default())
    }

    pub async fn rollback(&self, name: &str) -> Result<proto::Swap, Error> {
        let request = proto::RollbackJobRequest { name: name.to_owned() };
        let answer = self.jobs().rollback(request).await.map_err(status(format!("roll back job {name}")))?;
        Ok(answer.into_inner().swap.unwrap_or_default())
    }

    /// Takes event time back to before all records.
    pub async fn reset_time(&self, name: &str) -> Result<proto::TimeReset, Error> {
        let request = proto::ResetTimeRequest { name: name.to_owned(), to_ns: None };
        let answer =
            self.jobs().reset_time(request).await.map_err(status(format!("reset event time of job {name}")))?;
        Ok(answer.into_inner().reset.unwrap_or_default())
    }

    fn jobs(&self) -> JobsClient<Channel> {
        JobsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn modules(&self) -> ModulesClient<Channel> {
        ModulesClient::new(self.channel.clone())
    }

    fn topics(&self) -> TopicsClient<Channel> {
        TopicsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

fn produced(record: &Record) -> proto::Record {
    proto::Record {
        key: record.key.clone(),
        value: record.value.clone(),
        timestamp_ms: Some(record.timestamp_ms),
        headers: Vec::new(),
    }
}

fn consumed(partition: usize, record: proto::ConsumedRecord) -> Seen {
    let text = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let headers = record.headers.into_iter().map(|header| (header.name, text(header.value))).collect();
    let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
    Seen { partition, offset, timestamp_ms, key: record.key, value: record.value, headers }
}

fn status(doing: impl Into<String>) -> impl FnOnce(tonic::Status) -> Error {
    let doing = doing.into();
    move |status| Error { doing, code: status.code(), found: status.message().to_owned() }
}

fn failed(doing: String, code: tonic::Code, found: &dyn std::fmt::Display) -> Error {
    Error { doing, code, found: found.to_string() }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
