//! The service of dead letters: reads the job's dead-letter topic, with the reader of `operator::dead_letter::format`.

use std::collections::VecDeque;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::error::blocking;
use super::proto::dead_letters_server::DeadLetters as Service;
use super::proto::{
    DeadLetter, ListDeadLettersRequest, ListDeadLettersResponse, ShowDeadLetterRequest, ShowDeadLetterResponse,
};
use super::topics;
use crate::job::manager::Manager;
use crate::log::read::{Goes, read_to};
use crate::log::{Error, Isolation, Log};
use crate::model::PartitionBatch;
use crate::operator::dead_letter::format;

const DEFAULT_LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;

pub struct DeadLettersApi {
    pub log: Arc<dyn Log>,
    pub manager: Arc<Manager>,
}

#[tonic::async_trait]
impl Service for DeadLettersApi {
    async fn list(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let job = self.manager.get(&request.job)?.record;
        let log = Arc::clone(&self.log);
        let list = move || list(log.as_ref(), &job.spec.dead_letter_topic(), &job.uid.to_string(), &request);
        Ok(Response::new(blocking(list).await?))
    }

    async fn show(&self, request: Request<ShowDeadLetterRequest>) -> Result<Response<ShowDeadLetterResponse>, Status> {
        let ShowDeadLetterRequest { job, partition, offset } = request.into_inner();
        let topic = self.topic(&job)?;
        let (log, name) = (Arc::clone(&self.log), topic.clone());
        let found = blocking(move || {
            let mut found = None;
            scan(log.as_ref(), &name, partition, Some(offset), |batch, i| {
                found = (batch.offsets[i] == offset).then(|| letter(batch, i));
                false
            })?;
            Ok::<_, Error>(found)
        });
        match found.await? {
            Some(dead_letter) => Ok(Response::new(ShowDeadLetterResponse { dead_letter: Some(dead_letter) })),
            None => Err(Status::not_found(format!(
                "topic {topic} holds no dead letter at {partition}@{offset}: see `forebay dlq list {job}`"
            ))),
        }
    }
}

impl DeadLettersApi {
    fn topic(&self, job: &str) -> Result<String, Status> {
        Ok(self.manager.get(job)?.record.spec.dead_letter_topic())
    }
}

/// Lists the letters of the job with this uid. The topic outlives the job, and other jobs may write to it.
fn list(
    log: &dyn Log,
    topic: &str,
    uid: &str,
    request: &ListDeadLettersRequest,
) -> Result<ListDeadLettersResponse, Error> {
    let limit = if request.limit == 0 { DEFAULT_LIMIT } else { (request.limit as usize).min(LIMIT_MAX) };
    let mut answer = ListDeadLettersResponse::default();
    for partition in 0..log.topic(topic)?.spec.partitions as i32 {
        let mut newest = VecDeque::new();
        scan(log, topic, partition, None, |batch, i| {
            let letter = letter(batch, i);
            if letter.job_uid != uid && !request.all {
                answer.of_others += 1;
                return true;
            }
            answer.total += 1;
            if request.code.is_empty() || request.code == letter.code {
                answer.matching += 1;
                if newest.len() == limit {
                    newest.pop_front();
                }
                newest.push_back(DeadLetter { value: None, headers: Vec::new(), ..letter });
            }
            true
        })?;
        answer.dead_letters.extend(newest);
    }
    Ok(answer)
}

/// Every committed record of a partition, until `each` says stop.
///
/// # Errors
/// Also where not all of them can be read: a part is never taken for the whole.
fn scan(
    log: &dyn Log,
    topic: &str,
    partition: i32,
    from: Option<i64>,
    mut each: impl FnMut(&PartitionBatch, usize) -> bool,
) -> Result<(), Error> {
    let end = log.end_offset(topic, partition, Isolation::ReadCommitted)?;
    let offset = from.unwrap_or(0).max(log.start_offset(topic, partition)?);
    read_to(log, (topic, partition), offset, end, |batch| {
        let goes_on = (0..batch.len()).all(|i| each(batch, i));
        Ok::<_, Error>(if goes_on { Goes::On } else { Goes::Enough })
    })
    .map(drop)
}

/// What of it cannot be read stays empty, also where it is no dead letter: the raw headers show it.
fn letter(batch: &PartitionBatch, i: usize) -> DeadLetter {
    let letter = format::decode(batch, i).unwrap_or_default();
    let text = |found: Option<&str>| found.unwrap_or_default().to_owned();
    DeadLetter {
        partition: batch.partition,
        offset: batch.offsets[i],
        timestamp_ms: batch.timestamps_ms[i],
        code: text(letter.code),
        reason: text(letter.message),
        operator: text(letter.operator),
        input: text(letter.input.or(letter.timer)),
        source_topic: text(letter.topic),
        source_partition: letter.partition.unwrap_or(-1),
        source_offset: letter.offset.unwrap_or(-1),
        module_digest: letter.module.map_or_else(String::new, |module| module.to_string()),
        job_uid: letter.job_uid.map_or_else(String::new, |uid| uid.to_string()),
        key: batch.keys.get(i).map(<[u8]>::to_vec),
        value: batch.values.get(i).map(<[u8]>::to_vec),
        headers: topics::headers(batch, i),
    }
}
