//! Questions and orders to a cluster that are not on a record's way: topics and offsets.
//!
//! Owns one client for them, and makes it anew where it brings no answers: after an outage librdkafka may not find
//! back to the leaders that it asks. Every call blocks until the answer or its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_char;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sys::rd_kafka_admin_op_t as Op;

use super::native::{self, Client, Code, Failure, PartitionList, Role, cstring, text_of};
use super::profile::Cluster;
use crate::log::{Error, Isolation};
use crate::model::{PartitionId, TopicId};

/// One request of a call; librdkafka tries again within the call's deadline.
const PATIENCE: Duration = Duration::from_secs(15);

/// A partition between two leaders is asked again after this.
const LEADER_PAUSE: Duration = Duration::from_millis(50);

/// How often what brokers say meanwhile is heard while an answer is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// A question of those that are asked again and again.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);

/// A client without an answer is given so long before another one is made.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

/// Leaders move between a question and the look for them; not so often.
const MISLED_MAX: u32 = 2;

pub struct Admin {
    cluster: Arc<Cluster>,
    handle: Mutex<Handle>,
    /// The cluster has not answered yet: who is refused need not wait.
    is_connecting: AtomicBool,
    /// The last call brought no answer, whichever client it was asked by.
    is_away: AtomicBool,
}

struct Handle {
    client: Arc<Client>,
    made: Instant,
    /// The last call brought no answer.
    is_silent: bool,
    /// Questions in a row for which it found no leaders, though the cluster names them.
    misled: u32,
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub id: TopicId,
    pub partitions: u32,
    /// Every partition has a leader.
    pub led: bool,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetOf {
    Start,
    End(Isolation),
    Timestamp(i64),
}

/// Of partitions.
pub type Offsets = BTreeMap<(String, PartitionId), Result<i64, Code>>;

/// The answer to one call, until it is dropped.
struct Answer(*mut sys::rd_kafka_event_t);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

impl Handle {
    fn new(cluster: &Cluster) -> Result<Self, Error> {
        let client = Arc::new(Client::new(Role::Producer, &cluster.admin(), None)?);
        Ok(Self { client, made: crate::env::instant(), is_silent: false, misled: 0 })
    }
}

impl Admin {
    pub fn new(cluster: Arc<Cluster>) -> Result<Self, Error> {
        let handle = Mutex::new(Handle::new(&cluster)?);
        Ok(Self { cluster, handle, is_connecting: AtomicBool::new(true), is_away: AtomicBool::new(false) })
    }

    /// The client to ask by. One that was silent is thrown away, unless it is so new that it may not be to blame.
    fn client(&self) -> Arc<Client> {
        let mut handle = self.handle();
        let is_lost = handle.is_silent || handle.misled >= MISLED_MAX;
        if is_lost && handle.made.elapsed() >= CLIENT_PATIENCE {
            match Handle::new(&self.cluster) {
                Ok(new) => *handle = new,
                Err(error) => tracing::warn!("ask Kafka with another client: {error}"),
            }
        }
        Arc::clone(&handle.client)
    }

    /// What came of a call.
    fn heard(&self, client: &Arc<Client>, is_silent: bool) {
        self.is_away.store(is_silent, Ordering::Relaxed);
        let mut handle = self.handle();
        if Arc::ptr_eq(&handle.client, client) {
            handle.is_silent = is_silent;
        }
        if !is_silent {
            client.events.set_trouble(None);
        }
    }

    /// Connections that the client to ask by has lost, or that were refused to it.
    #[cfg(test)]
    pub fn disconnects(&self) -> u64 {
        self.handle().client.events.disconnects.load(Ordering::SeqCst)
    }

    fn handle(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many brokers there are; the first question to a cluster. One that is coming up names none and is asked again.
    ///
    /// This asks for plain metadata: librdkafka 2.12 ends the process where the answer to a description of the cluster
    /// names no broker (`rd_kafka_admin_response_parse` asserts that a failed answer has a code).
    pub fn brokers(&self, doing: &str) -> Result<usize, Error> {
        let deadline = crate::env::instant() + PATIENCE;
        let mut patience = LOOK;
        loop {
            let client = self.client();
            let answer = client.brokers(patience);
            self.heard(&client, answer.is_err_and(is_silence));
            let code = match answer {
                Ok(count) if count > 0 => {
                    self.is_connecting.store(false, Ordering::Relaxed);
                    return Ok(count);
                }
                Ok(_) => Code::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
                Err(code) => code,
            };
            client.serve(LOOK);
            if let Some((code, why)) = client.events.refused() {
                return Err(error(doing, code, &client.events.explain(why), None));
            }
            if crate::env::instant() >= deadline {
                return Err(self.error(doing, code, None));
            }
            patience = (patience * 2).min(SHORT_PATIENCE);
        }
    }

    /// The names of all topics but Kafka's own.
    pub fn topic_names(&self) -> Result<Vec<String>, Error> {
        let client = self.client();
        let names = client.topic_names(PATIENCE);
        self.heard(&client, names.as_ref().is_err_and(|code| is_silence(*code)));
        let mut names = names.map_err(|code| self.error("list topics", code, None))?;
        names.retain(|name| name != "__consumer_offsets" && name != "__transaction_state");
        Ok(names)
    }

    /// Those of the topics that exist.
    pub fn describe(&self, topics: &[&str]) -> Result<Vec<Described>, Error> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let names = topics.iter().map(|topic| cstring(topic)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: librdkafka copies the names; the collection is destroyed after the request was made of it.
        let collection = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
        let doing = format!("describe {}", named(topics));
        let answer = self.call(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, &doing, |rk, options, queue| {
            // SAFETY: all live as long as the call.
            unsafe { sys::rd_kafka_DescribeTopics(rk, collection, options, queue) };
        });
        // SAFETY: made above, and destroyed once.
        unsafe { sys::rd_kafka_TopicCollection_destroy(collection) };
        let answer = answer?;
        // SAFETY: the event is of this kind; what it holds lives as long as it.
        let descriptions = unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(answer.0);
            let mut count = 0;
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            slice(topics, count)
        };
        let mut found = Vec::new();
        for &description in descriptions {
            // SAFETY: as above.
            let (name, failure) = unsafe {
                let error = sys::rd_kafka_TopicDescription_error(description);
                (text_of(sys::rd_kafka_TopicDescription_name(description)), sys::rd_kafka_error_code(error))
            };
            match failure {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    // SAFETY: as above.
                    found.push(unsafe { described(name, description) });
                }
                code if is_unknown(code) => {}
                code => return Err(self.error(&doing, code, Some(&name))),
            }
        }
        Ok(found)
    }

    /// The settings of topics that exist.
    pub fn configs(&self, topics: &[&str]) -> Result<BTreeMap<String, BTreeMap<String, String>>, Error> {
        let names = topics.iter().map(|topic| cstring(topic)).collect::<Result<Vec<_>, _>>()?;
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: librdkafka copies the names; the resources are destroyed below.
        let mut resources: Vec<_> =
            names.iter().map(|name| unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) }).collect();
        let doing = format!("read the settings of {}", named(topics));
        let answer = self.call(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, &doing, |rk, options, queue| {
            // SAFETY: all live as long as the call.
            unsafe { sys::rd_kafka_DescribeConfigs(rk, resources.as_mut_ptr(), resources.len(), options, queue) };
        });
        // SAFETY: made above, and destroyed once.
        unsafe { sys::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len()) };
        let answer = answer?;
        let mut configs = BTreeMap::new();
        // SAFETY: the event is of this kind; what it holds lives as long as it.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConfigs_result(answer.0);
            let mut count = 0;
            let found = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            for &resource in slice(found, count) {
                let name = text_of(sys::rd_kafka_ConfigResource_name(resource));
                let code = sys::rd_kafka_ConfigResource_error(resource);
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return Err(self.error(&doing, code, Some(&name)));
                }
                let mut count = 0;
                let entries = sys::rd_kafka_ConfigResource_configs(resource, &raw mut count);
                let entry = |&entry: &*const sys::rd_kafka_ConfigEntry_t| {
                    let (name, value) = (sys::rd_kafka_ConfigEntry_name(entry), sys::rd_kafka_ConfigEntry_value(entry));
                    (text_of(name), text_of(value))
                };
                configs.insert(name, slice(entries, count).iter().map(entry).collect());
            }
        }
        Ok(configs)
    }

    pub fn create(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, String)],
    ) -> Result<(), Error> {
        let doing = format!("create topic {topic}");
        let name = cstring(topic).map_err(|_| invalid(topic, "its name has a zero byte in it".to_owned()))?;
        let mut text = [0 as c_char; 512];
        // SAFETY: librdkafka copies what it is given; the new topic is destroyed below.
        let mut new = unsafe {
            sys::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replication, text.as_mut_ptr(), text.len())
        };
        if new.is_null() {
            // SAFETY: librdkafka ends what it writes with a zero.
            return Err(invalid(topic, unsafe { text_of(text.as_ptr()) }));
        }
        for (name, value) in configs {
            let (name, value) = (cstring(name)?, cstring(value)?);
            // SAFETY: copied by librdkafka.
            unsafe { sys::rd_kafka_NewTopic_set_config(new, name.as_ptr(), value.as_ptr()) };
        }
        let answer = self.call(Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, &doing, |rk, options, queue| {
            // SAFETY: all live as long as the call.
            unsafe { sys::rd_kafka_CreateTopics(rk, &raw mut new, 1, options, queue) };
        });
        // SAFETY: made above, and destroyed once.
        unsafe { sys::rd_kafka_NewTopic_destroy(new) };
        let answer = answer?;
        // SAFETY: the event is of this kind; what it holds lives as long as it.
        let results = unsafe {
            let result = sys::rd_kafka_event_CreateTopics_result(answer.0);
            let mut count = 0;
            let topics = sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
            slice(topics, count)
        };
        self.check_topics(&doing, topic, results)
    }

    pub fn delete(&self, topic: &str) -> Result<(), Error> {
        let doing = format!("delete topic {topic}");
        let name = cstring(topic)?;
        // SAFETY: librdkafka copies the name; destroyed below.
        let mut gone = unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) };
        let answer = self.call(Op::RD_KAFKA_ADMIN_OP_DELETETOPICS, &doing, |rk, options, queue| {
            // SAFETY: all live as long as the call.
            unsafe { sys::rd_kafka_DeleteTopics(rk, &raw mut gone, 1, options, queue) };
        });
        // SAFETY: made above, and destroyed once.
        unsafe { sys::rd_kafka_DeleteTopic_destroy(gone) };
        let answer = answer?;
        // SAFETY: the event is of this kind; what it holds lives as long as it.
        let results = unsafe {
            let result = sys::rd_kafka_event_DeleteTopics_result(answer.0);
            let mut count = 0;
            let topics = sys::rd_kafka_DeleteTopics_result_topics(result, &raw mut count);
            slice(topics, count)
        };
        self.check_topics(&doing, topic, results)
    }

    /// One offset per partition asked for, in that order; −1 where a timestamp is behind all records.
    pub fn offsets(&self, topic: &str, partitions: &[PartitionId], of: OffsetOf) -> Result<Vec<i64>, Error> {
        let asked: Vec<_> = partitions.iter().map(|&partition| (topic, partition)).collect();
        self.offsets_of(&asked, of)
    }

    /// The same for partitions of any topics.
    pub fn offsets_of(&self, partitions: &[(&str, PartitionId)], of: OffsetOf) -> Result<Vec<i64>, Error> {
        let deadline = crate::env::instant() + PATIENCE;
        let names: BTreeSet<&str> = partitions.iter().map(|(topic, _)| *topic).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let doing = format!("ask for offsets of {}", named(&names));
        let found = loop {
            let found = self.ask_for_offsets(&doing, partitions, of, PATIENCE)?;
            let moving = found.iter().find(|(_, answer)| answer.is_err_and(is_between_leaders));
            let Some(((topic, _), Err(code))) = moving else { break found };
            if crate::env::instant() >= deadline {
                self.handle().misled = MISLED_MAX;
                return Err(self.error(&doing, *code, Some(topic)));
            }
            // Leaders move, and a broker hears of a new topic after the cluster has named it as the leader. Nobody tells
            // this client who leads now: it keeps what it heard last.
            let left = deadline.saturating_duration_since(crate::env::instant());
            match self.look_up(topic, left) {
                Err(code) if is_unknown(code) => return Err(self.error(&doing, code, Some(topic))),
                _ => std::thread::sleep(LEADER_PAUSE),
            }
        };
        let one = |&(topic, partition): &(&str, PartitionId)| match found.get(&(topic.to_owned(), partition)) {
            Some(Ok(offset)) => Ok(*offset),
            Some(Err(code)) => Err(self.error(&doing, *code, Some(topic))),
            None => {
                let found = format!("no answer for {topic}/{partition}");
                Err(Error::Unavailable { doing: doing.clone(), found })
            }
        };
        partitions.iter().map(one).collect()
    }

    /// Where partitions of any topics end, as far as that is told now.
    pub fn ends(&self, partitions: &[(&str, PartitionId)], isolation: Isolation) -> Result<Offsets, Error> {
        let doing = format!("ask where {} partitions end", partitions.len());
        let found = self.ask_for_offsets(&doing, partitions, OffsetOf::End(isolation), SHORT_PATIENCE)?;
        let moved = found.iter().filter(|(_, answer)| answer.is_err_and(is_between_leaders));
        let topics: BTreeSet<&str> = moved.map(|((topic, _), _)| topic.as_str()).collect();
        let are_led = |topic: &&str| self.look_up(topic, SHORT_PATIENCE).is_ok();
        let led = topics.iter().filter(|topic| are_led(topic)).count();
        let mut handle = self.handle();
        handle.misled = if led > 0 { handle.misled + 1 } else { 0 };
        drop(handle);
        Ok(found)
    }

    fn look_up(&self, topic: &str, patience: Duration) -> Result<(), Code> {
        let client = self.client();
        let found = client.look_up(topic, patience);
        self.heard(&client, found.is_err_and(is_silence));
        found
    }

    /// Asks once. Each partition has an answer of its own.
    fn ask_for_offsets(
        &self,
        doing: &str,
        partitions: &[(&str, PartitionId)],
        of: OffsetOf,
        patience: Duration,
    ) -> Result<Offsets, Error> {
        let mut list = PartitionList::new();
        let spec = match of {
            OffsetOf::Start => i64::from(sys::RD_KAFKA_OFFSET_BEGINNING),
            OffsetOf::End(_) => i64::from(sys::RD_KAFKA_OFFSET_END),
            OffsetOf::Timestamp(ms) => ms.max(0),
        };
        for &(topic, partition) in partitions {
            list.add(topic, partition, spec, None)?;
        }
        let isolation = match of {
            OffsetOf::End(Isolation::ReadCommitted) => {
                Some(sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED)
            }
            _ => None,
        };
        let answer = self.request(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, patience, |rk, options, queue| {
            // SAFETY: all live as long as the call.
            unsafe {
                if let Some(isolation) = isolation {
                    Failure::take(sys::rd_kafka_AdminOptions_set_isolation_level(options, isolation));
                }
                sys::rd_kafka_ListOffsets(rk, list.as_ptr(), options, queue);
            }
        });
        let answer = match answer {
            // None of the partitions has a leader that the client knows of.
            Err((Code::RD_KAFKA_RESP_ERR__NOENT, _)) => {
                let nobody = Err(Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
                return Ok(partitions
                    .iter()
                    .map(|&(topic, partition)| ((topic.to_owned(), partition), nobody))
                    .collect());
            }
            Err((code, text)) => return Err(error(doing, code, &text, None)),
            Ok(answer) => answer,
        };
        // SAFETY: the event is of this kind; what it holds lives as long as it.
        let found: Offsets = unsafe {
            let result = sys::rd_kafka_event_ListOffsets_result(answer.0);
            let mut count = 0;
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let one = |&info: &*const sys::rd_kafka_ListOffsetsResultInfo_t| {
                let at = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
                let answer = match at.err {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR if is_answer(at.offset, of) => Ok(at.offset),
                    // Where a connection was lost meanwhile librdkafka gives no error and an offset of its own.
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => Err(Code::RD_KAFKA_RESP_ERR__TRANSPORT),
                    code => Err(code),
                };
                ((text_of(at.topic), at.partition), answer)
            };
            slice(infos, count).iter().map(one).collect()
        };
        // A call may be answered by the client alone, for brokers that it does not reach.
        if !found.is_empty() && found.values().all(|answer| answer.is_err_and(is_silence)) {
            self.is_away.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    pub fn delete_records(&self, topic: &str, partition: PartitionId, before: i64) -> Result<(), Code> {
        let mut list = PartitionList::new();
        let unusable = |_| Code::RD_KAFKA_RESP_ERR__INVALID_ARG;
        list.add(topic, partition, before, None).map_err(unusable)?;
        // SAFETY: librdkafka copies the list; destroyed below.
        let mut order = unsafe { sys::rd_kafka_DeleteRecords_new(list.as_ptr()) };
        let answer = self.request(Op::RD_KAFKA_ADMIN_OP_DELETERECORDS, PATIENCE, |rk, options, queue| {
            // SAFETY: all live as long as the call.
            unsafe { sys::rd_kafka_DeleteRecords(rk, &raw mut order, 1, options, queue) };
        });
        // SAFETY: made above, and destroyed once.
        unsafe { sys::rd_kafka_DeleteRecords_destroy(order) };
        let answer = answer.map_err(|(code, _)| code)?;
        // SAFETY: the event is of this kind; what it holds lives as long as it.
        let elements = unsafe {
            let result = sys::rd_kafka_event_DeleteRecords_result(answer.0);
            native::elements(sys::rd_kafka_DeleteRecords_result_offsets(result))
        };
        match elements.first() {
            Some(element) if element.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR => Err(element.err),
            _ => Ok(()),
        }
    }

    fn check_topics(
        &self,
        doing: &str,
        topic: &str,
        results: &[*const sys::rd_kafka_topic_result_t],
    ) -> Result<(), Error> {
        let Some(&result) = results.first() else { return Ok(()) };
        // SAFETY: the answer that holds it still lives in the caller.
        let (code, text) = unsafe {
            (sys::rd_kafka_topic_result_error(result), text_of(sys::rd_kafka_topic_result_error_string(result)))
        };
        match code {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            Code::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS => Err(Error::TopicExists(topic.to_owned())),
            Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
            | Code::RD_KAFKA_RESP_ERR_INVALID_PARTITIONS
            | Code::RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR
            | Code::RD_KAFKA_RESP_ERR_INVALID_CONFIG
            | Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION
            | Code::RD_KAFKA_RESP_ERR_INVALID_REQUEST => Err(invalid(topic, text)),
            code => Err(self.error(doing, code, Some(topic))),
        }
    }

    fn call(
        &self,
        op: Op,
        doing: &str,
        submit: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Answer, Error> {
        self.request(op, PATIENCE, submit).map_err(|(code, text)| match code {
            Code::RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR | Code::RD_KAFKA_RESP_ERR_INVALID_PARTITIONS => {
                Error::InvalidTopic { topic: doing.to_owned(), reason: text }
            }
            code => error(doing, code, &text, None),
        })
    }

    fn request(
        &self,
        op: Op,
        patience: Duration,
        submit: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Answer, (Code, String)> {
        let client = self.client();
        // A request that waits for one broker has librdkafka connect to it again and again without a pause where the
        // broker refuses it: two threads are busy with nothing else. A look for any broker keeps the pauses.
        if self.is_away.load(Ordering::Relaxed)
            && let Err(code) = client.brokers(patience)
        {
            client.serve(Duration::ZERO);
            self.heard(&client, true);
            return Err((code, client.events.explain(native::describe(code))));
        }
        // SAFETY: queue and options are ours and live until the answer has come: librdkafka counts its own references
        // to the queue, and copies the options.
        let answer = unsafe {
            let queue = sys::rd_kafka_queue_new(client.rk());
            let options = sys::rd_kafka_AdminOptions_new(client.rk(), op);
            let mut text = [0 as c_char; 128];
            let ms = native::millis(patience);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, ms, text.as_mut_ptr(), text.len());
            submit(client.rk(), options, queue);
            let event = self.await_answer(&client, queue, patience);
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_queue_destroy(queue);
            event.map(Answer).and_then(|answer| match sys::rd_kafka_event_error(answer.0) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(answer),
                code => Err((code, text_of(sys::rd_kafka_event_error_string(answer.0)))),
            })
        };
        self.heard(&client, answer.as_ref().is_err_and(|(code, _)| is_silence(*code)));
        answer.map_err(|(code, text)| (code, client.events.explain(text)))
    }

    /// # Safety
    /// The queue lives.
    unsafe fn await_answer(
        &self,
        client: &Client,
        queue: *mut sys::rd_kafka_queue_t,
        patience: Duration,
    ) -> Result<*mut sys::rd_kafka_event_t, (Code, String)> {
        let deadline = crate::env::instant() + patience + Duration::from_secs(5);
        loop {
            // SAFETY: the caller's promise.
            let event = unsafe { sys::rd_kafka_queue_poll(queue, native::millis(LOOK)) };
            // Errors of brokers wait to be heard as well; nobody else serves this client.
            client.serve(Duration::ZERO);
            if !event.is_null() {
                return Ok(event);
            }
            // Later a broker that is coming up may refuse for a while what it takes then.
            let refused = client.events.refused().filter(|_| self.is_connecting.load(Ordering::Relaxed));
            if let Some((code, why)) = refused {
                return Err((code, why));
            }
            if crate::env::instant() >= deadline {
                return Err((Code::RD_KAFKA_RESP_ERR__TIMED_OUT, "no answer".to_owned()));
            }
        }
    }

    fn error(&self, doing: &str, code: Code, topic: Option<&str>) -> Error {
        error(doing, code, &self.handle().client.events.explain(native::describe(code)), topic)
    }
}

/// # Safety
/// The description lives.
unsafe fn described(name: String, description: *const sys::rd_kafka_TopicDescription_t) -> Described {
    // SAFETY: the caller's promise.
    unsafe {
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        let high = sys::rd_kafka_Uuid_most_significant_bits(id).to_be_bytes();
        let low = sys::rd_kafka_Uuid_least_significant_bits(id).to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low);
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(description, &raw mut count);
        let led = slice(partitions, count).iter().all(|&p| !sys::rd_kafka_TopicPartitionInfo_leader(p).is_null());
        Described { name, id: TopicId(bytes), partitions: count as u32, led }
    }
}

/// # Safety
/// `first` is null or points to `count` pointers that live long enough.
unsafe fn slice<'a, T>(first: *mut *const T, count: usize) -> &'a [*const T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(first, count) }
}

fn named(topics: &[&str]) -> String {
    match topics {
        [one] => format!("topic {one}"),
        many => format!("{} topics", many.len()),
    }
}

fn invalid(topic: &str, reason: String) -> Error {
    Error::InvalidTopic { topic: topic.to_owned(), reason }
}

fn is_between_leaders(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
            | Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
            | Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH
            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH
    )
}

/// No answer came, or none of a broker that could give it: the client may have lost its way.
fn is_silence(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__TIMED_OUT
            | Code::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
            | Code::RD_KAFKA_RESP_ERR__TRANSPORT
            | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
            | Code::RD_KAFKA_RESP_ERR__WAIT_COORD
            | Code::RD_KAFKA_RESP_ERR__NOENT
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_BROKER
            | Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
    ) || is_between_leaders(code)
}

/// Offsets are not negative; a timestamp behind all records is answered by −1.
fn is_answer(offset: i64, of: OffsetOf) -> bool {
    offset >= 0 || (offset == -1 && matches!(of, OffsetOf::Timestamp(_)))
}

pub fn is_unknown(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
            | Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
    )
}

/// What a code of librdkafka or of a broker means to the callers of the log.
pub fn error(doing: &str, code: Code, text: &str, topic: Option<&str>) -> Error {
    let doing = doing.to_owned();
    let found = if text.is_empty() { native::describe(code) } else { text.to_owned() };
    match (code, topic) {
        (code, Some(topic)) if is_unknown(code) => Error::UnknownTopic(topic.to_owned()),
        (
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
            | Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
            | Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
            | Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            topic,
        ) => {
            let found = topic.map_or(found.clone(), |topic| format!("{topic}: {found}"));
            Error::Denied { doing, found, remedy: "give the user of the cluster profile that right (an ACL)" }
        }
        (Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT, _) => Error::Denied {
            doing,
            found,
            remedy: "set transaction_timeout_ms of the cluster profile to at most the brokers' transaction.max.timeout.ms",
        },
        (Code::RD_KAFKA_RESP_ERR__SSL, _) => Error::Denied {
            doing,
            found,
            remedy: "check security.protocol and the certificates of the cluster profile",
        },
        (Code::RD_KAFKA_RESP_ERR__AUTHENTICATION | Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, _) => {
            Error::Denied { doing, found, remedy: "check mechanism, user and password of the cluster profile" }
        }
        (_, Some(topic)) => Error::Unavailable { doing, found: format!("{topic}: {found}") },
        (_, None) => Error::Unavailable { doing, found },
    }
}

/// Whether librdkafka's text of an id is that of a topic. It prints base64 without padding; the alphabet's last two
/// characters differ between versions.
pub fn same_id(id: TopicId, text: &str) -> bool {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = id.0.iter().fold(0_u128, |number, &byte| number << 8 | u128::from(byte));
    // 128 bits are 21 characters of six and one of two, whose other four are zero.
    let digit = |i: usize| {
        let bits = if i < 21 { number >> (122 - 6 * i) } else { number << 4 };
        ALPHABET[(bits & 63) as usize]
    };
    let plain = |byte: u8| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    };
    let text = text.trim_end_matches('=');
    text.len() == 22 && text.bytes().enumerate().all(|(i, byte)| plain(byte) == digit(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_gives_for_a_lost_answer_is_no_offset() {
        let invalid = i64::from(sys::RD_KAFKA_OFFSET_INVALID);
        let of = [OffsetOf::Start, OffsetOf::End(Isolation::ReadCommitted), OffsetOf::Timestamp(5)];
        assert_eq!(of.map(|of| is_answer(invalid, of)), [false; 3]);
        assert_eq!(of.map(|of| is_answer(-1, of)), [false, false, true]);
        assert!(of.iter().all(|of| is_answer(0, *of)));
    }

    #[test]
    fn an_id_is_known_in_its_text() {
        let id = TopicId([0xfb, 0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        assert!(same_id(id, "-_8AAQIDBAUGBwgJCgsMDQ"));
        assert!(same_id(id, "+/8AAQIDBAUGBwgJCgsMDQ=="));
        assert!(!same_id(id, "-_8AAQIDBAUGBwgJCgsMDg"));
        assert!(!same_id(id, "AAAAAAAAAAAAAAAAAAAAAA"));
    }
}
