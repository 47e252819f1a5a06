//! Epochs as Kafka transactions, and plain writes: one by one, or settled together.
//!
//! Owns one producer per writer, and what has become of each message. A writer's producer is never used again after
//! trouble in a commit: librdkafka tries EndTxn again by itself and then reports success, so a commit during which a
//! connection was lost is indefinite whatever the call says.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;

use super::Shared;
use super::admin;
use super::native::{self, Client, Code, Deliveries, Delivery, Events, Failure, Role, cstring};
use super::profile::BATCH_BYTES;
use crate::env::{Bug, bug, failpoint};
use crate::log::{CommitOutcome, Error, Outlet, TopicRules, Writer, record_bytes, too_large};
use crate::model::{PartitionBatch, PartitionId};

/// How long a taking over may take altogether.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(60);
/// librdkafka waits a fixed 500 ms before it tries again to fence a predecessor that has a transaction open. A new
/// producer is through sooner, where the old one is gone before its second try: so the first try is short. Each later one
/// is given more time: the cluster may be far away, or busy, or have just lost its coordinator.
const FIRST_TRY: Duration = Duration::from_millis(70);
const LONGEST_TRY: Duration = Duration::from_secs(10);
/// How long the destruction of such a producer is waited for; it must be gone before its second try.
const CLOSE_PATIENCE: Duration = Duration::from_millis(200);
const QUEUE_WAIT: Duration = Duration::from_millis(10);
/// How long the report of a delivery that failed is waited for, once its transaction has.
const REPORT_PATIENCE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Open,
    Spent,
}

/// A producer with the handles of the topics that it writes to.
struct Producer {
    client: Client,
    topics: HashMap<String, Topic>,
    messages: Vec<sys::rd_kafka_message_t>,
    /// How long anything may wait for the cluster.
    patience: Duration,
}

struct Topic {
    handle: *mut sys::rd_kafka_topic_t,
    partitions: u32,
    rules: TopicRules,
}

// SAFETY: topic handles may be used from any thread; the message array is scratch memory of one call.
unsafe impl Send for Producer {}

pub struct KafkaWriter {
    shared: Arc<Shared>,
    transactional_id: String,
    producer: Producer,
    phase: Phase,
    placed: Vec<(usize, PartitionId, i64)>,
}

impl KafkaWriter {
    /// Fences whoever owned the id, and waits until what it had open is aborted or complete.
    pub fn take_over(shared: Arc<Shared>, transactional_id: &str) -> Result<Self, Error> {
        let doing = || format!("take over {transactional_id}");
        let deadline = crate::env::instant() + TAKEOVER_PATIENCE;
        let settings = shared.cluster.writer(Some(transactional_id));
        let mut patience = FIRST_TRY;
        loop {
            let client = Client::new(Role::Producer, &settings, Some(on_delivery))?;
            // SAFETY: a living producer.
            let failure =
                unsafe { Failure::take(sys::rd_kafka_init_transactions(client.rk(), native::millis(patience))) };
            let Some(Failure { code, text }) = failure else {
                failpoint("kafka-after-init");
                let producer = Producer::new(client, shared.cluster.transaction_timeout);
                return Ok(Self {
                    shared,
                    transactional_id: transactional_id.to_owned(),
                    producer,
                    phase: Phase::Idle,
                    placed: Vec::new(),
                });
            };
            if is_fenced(code) {
                return Err(Error::Fenced { transactional_id: transactional_id.to_owned() });
            }
            let passing = matches!(
                code,
                Code::RD_KAFKA_RESP_ERR__TIMED_OUT
                    | Code::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS
                    | Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
                    | Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
                    | Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
            );
            if !passing || crate::env::instant() >= deadline {
                return Err(admin::error(&doing(), code, &client.events.explain(text), None));
            }
            // One that lingers on would fence the next at its second try; that one then says so, and its caller
            // reads who owns the id.
            if !client.close(CLOSE_PATIENCE) {
                tracing::debug!("{}: a producer that was given up is slow to go", doing());
            }
            patience = (patience * 3 / 2).min(LONGEST_TRY);
        }
    }

    fn expect(&self, phase: Phase, doing: &str) -> Result<(), Error> {
        let found = match self.phase {
            now if now == phase => return Ok(()),
            Phase::Idle => "no epoch is open: begin one first",
            Phase::Open => "an epoch is open: commit or abort it first",
            Phase::Spent => "the writer is spent: take over anew",
        };
        Err(Error::OutOfOrder { doing: format!("{doing} as {}", self.transactional_id), found })
    }

    /// What a failed call means; the writer is of no use afterwards.
    fn spent(&mut self, doing: &str, code: Code, text: &str) -> Error {
        // Breaks: a commit of unknown outcome spends the writer.
        self.phase = if bug(Bug::ReuseWriter) { Phase::Open } else { Phase::Spent };
        // The call that failed may only say that something before it did.
        let (code, text) = self.producer.client.fatal().unwrap_or_else(|| (code, text.to_owned()));
        if is_fenced(code) {
            return Error::Fenced { transactional_id: self.transactional_id.clone() };
        }
        self.producer.hear_failure();
        self.producer.meaning(&format!("{doing} as {}", self.transactional_id), code, text)
    }
}

impl Writer for KafkaWriter {
    fn begin(&mut self) -> Result<(), Error> {
        self.expect(Phase::Idle, "begin an epoch")?;
        // SAFETY: a living producer.
        let failure = unsafe { Failure::take(sys::rd_kafka_begin_transaction(self.producer.client.rk())) };
        if let Some(Failure { code, text }) = failure {
            return Err(self.spent("begin an epoch", code, &text));
        }
        *self.producer.client.events.deliveries() = Deliveries::default();
        self.phase = Phase::Open;
        Ok(())
    }

    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        self.expect(Phase::Open, "append")?;
        self.producer.check(&self.shared, records)?;
        match self.producer.send(records) {
            Ok(()) => Ok(()),
            Err((code, text)) => {
                Err(self.spent(&format!("write to {}/{}", records.topic, records.partition), code, &text))
            }
        }
    }

    fn commit(&mut self) -> Result<CommitOutcome, Error> {
        self.expect(Phase::Open, "commit")?;
        let events = Arc::clone(&self.producer.client.events);
        let disconnects = events.disconnects.load(Ordering::SeqCst);
        if let Err((code, text)) = self.producer.settle() {
            // EndTxn was never sent: surely not committed.
            return Err(self.spent("commit an epoch", code, &text));
        }
        failpoint("kafka-delivered");
        // SAFETY: a living producer.
        let failure = unsafe {
            let patience = native::millis(self.producer.patience);
            Failure::take(sys::rd_kafka_commit_transaction(self.producer.client.rk(), patience))
        };
        if let Some(Failure { code, text }) = failure {
            return match self.spent("commit an epoch", code, &text) {
                fenced @ Error::Fenced { .. } => Err(fenced),
                error => Ok(CommitOutcome::Indefinite(error)),
            };
        }
        failpoint("kafka-committed");
        // Breaks: a commit that saw trouble is indefinite even where it reports success.
        if events.disconnects.load(Ordering::SeqCst) != disconnects && !bug(Bug::BelieveTroubledCommit) {
            self.phase = if bug(Bug::ReuseWriter) { Phase::Open } else { Phase::Spent };
            return Ok(CommitOutcome::Indefinite(Error::Unavailable {
                doing: format!("commit an epoch as {}", self.transactional_id),
                found: "a connection was lost meanwhile, so its success may be that of another try".to_owned(),
            }));
        }
        self.phase = Phase::Idle;
        self.placed = std::mem::take(&mut events.deliveries().first);
        events.set_trouble(None);
        Ok(CommitOutcome::Committed)
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.expect(Phase::Open, "abort an epoch")?;
        // SAFETY: a living producer; what it has not sent yet is thrown away.
        let failure = unsafe {
            let rk = self.producer.client.rk();
            sys::rd_kafka_purge(rk, sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT);
            Failure::take(sys::rd_kafka_abort_transaction(rk, native::millis(self.producer.patience)))
        };
        match failure {
            None => {
                self.phase = Phase::Idle;
                Ok(())
            }
            Some(Failure { code, text }) => Err(self.spent("abort an epoch", code, &text)),
        }
    }

    fn first_offset(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        let handle = self.producer.topics.get(topic)?.handle as usize;
        let placed = self.placed.iter().find(|(of, p, _)| *of == handle && *p == partition);
        placed.map(|(_, _, offset)| *offset)
    }
}

/// Writes outside any epoch.
pub struct Plain {
    shared: Arc<Shared>,
    producer: Producer,
}

impl Plain {
    pub fn new(shared: Arc<Shared>) -> Result<Self, Error> {
        let producer = Producer::plain(&shared)?;
        Ok(Self { shared, producer })
    }

    /// Returns the first record's offset once all are acknowledged.
    pub fn produce(&mut self, records: &PartitionBatch) -> Result<i64, Error> {
        let doing = || format!("write to {}/{}", records.topic, records.partition);
        // What an earlier call left undelivered is not this one's.
        *self.producer.client.events.deliveries() = Deliveries::default();
        self.producer.check(&self.shared, records)?;
        let sent = self.producer.send(records).and_then(|()| self.producer.settle());
        sent.map_err(|(code, text)| admin::error(&doing(), code, &text, None))?;
        let first = self.producer.client.events.deliveries().first.first().map(|(_, _, offset)| *offset);
        match first {
            Some(offset) => Ok(offset),
            None if records.is_empty() => {
                let end = admin::OffsetOf::End(crate::log::Isolation::ReadUncommitted);
                Ok(self.shared.offsets(&records.topic, &[records.partition], end)?[0])
            }
            None => Err(Error::Unavailable { doing: doing(), found: "the cluster gave no offset".to_owned() }),
        }
    }
}

/// Writes outside any epoch, to be settled together.
pub struct KafkaOutlet {
    shared: Arc<Shared>,
    producer: Producer,
}

impl KafkaOutlet {
    pub fn new(shared: Arc<Shared>) -> Result<Self, Error> {
        let producer = Producer::plain(&shared)?;
        Ok(Self { shared, producer })
    }

    /// What a failed call means. A failed delivery is never forgotten, so the outlet fails from now on.
    fn spent(&self, doing: &str, code: Code, text: &str) -> Error {
        let (code, text) = self.producer.client.fatal().unwrap_or_else(|| (code, text.to_owned()));
        self.producer.meaning(&format!("{doing} on Kafka at {}", self.shared.cluster.bootstrap), code, text)
    }
}

impl Outlet for KafkaOutlet {
    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        self.producer.check(&self.shared, records)?;
        let doing = || format!("write to {}/{}", records.topic, records.partition);
        self.producer.send(records).map_err(|(code, text)| self.spent(&doing(), code, &text))
    }

    fn settle(&mut self) -> Result<(), Error> {
        self.producer.settle().map_err(|(code, text)| self.spent("wait until output is acknowledged", code, &text))?;
        self.producer.client.events.set_trouble(None);
        Ok(())
    }
}

impl Producer {
    fn new(client: Client, patience: Duration) -> Self {
        Self { client, topics: HashMap::new(), messages: Vec::new(), patience }
    }

    /// Of no transaction.
    fn plain(shared: &Shared) -> Result<Self, Error> {
        let client = Client::new(Role::Producer, &shared.cluster.writer(None), Some(on_delivery))?;
        Ok(Self::new(client, shared.cluster.transaction_timeout))
    }

    /// What a failed call means: a record that was refused before it says more, and so does the trouble heard
    /// meanwhile.
    fn meaning(&self, doing: &str, code: Code, text: String) -> Error {
        if let Some(refused) = self.refused() {
            return refused;
        }
        admin::error(doing, code, &self.client.events.explain(text), None)
    }

    /// Refuses a batch of which any record is not for its topic, before anything of it is added.
    fn check(&mut self, shared: &Shared, records: &PartitionBatch) -> Result<(), Error> {
        let known = self.topics.get(&records.topic);
        if known.is_none_or(|topic| !shared.is_current(&records.topic, topic.rules)) {
            self.open_topic(shared, &records.topic)?;
        }
        if i64::from(records.partition) >= i64::from(self.topics[&records.topic].partitions) {
            self.hear_of_growth(shared, &records.topic)?;
        }
        let topic = &self.topics[&records.topic];
        shared.check_partition(&records.topic, records.partition, topic.partitions)?;
        let max = topic.rules.max_record_bytes;
        if let Some(bytes) = too_large(records, max) {
            return Err(Error::RecordTooLarge { topic: records.topic.clone(), bytes, max });
        }
        if topic.rules.needs_key && records.keys.present().contains(&0) {
            let reason = "a record has no key, and the topic keeps the newest of each key";
            return Err(Error::InvalidRecord { topic: records.topic.clone(), reason });
        }
        Ok(())
    }

    /// A topic may have more partitions than this producer has heard of: by itself it asks every five minutes.
    fn hear_of_growth(&mut self, shared: &Shared, name: &str) -> Result<(), Error> {
        shared.topic(name)?;
        self.open_topic(shared, name)?;
        // Where there is no answer the write says so.
        let _ = self.look_up(name);
        Ok(())
    }

    fn look_up(&self, topic: &str) -> Result<(), Code> {
        self.client.look_up(topic, self.patience)
    }

    fn open_topic(&mut self, shared: &Shared, name: &str) -> Result<(), Error> {
        let info = shared.topic_cached(name)?;
        let c_name = cstring(name)?;
        // SAFETY: a living producer; the handle is destroyed before it. Opening a topic again gives the same one.
        let handle = unsafe { sys::rd_kafka_topic_new(self.client.rk(), c_name.as_ptr(), ptr::null_mut()) };
        if handle.is_null() {
            let found = "the client takes no topic of that name".to_owned();
            return Err(Error::Unavailable { doing: format!("write to {name}"), found });
        }
        let topic = Topic { handle, partitions: info.spec.partitions, rules: info.rules() };
        if let Some(older) = self.topics.insert(name.to_owned(), topic) {
            // SAFETY: counted by librdkafka: the new reference keeps the topic.
            unsafe { sys::rd_kafka_topic_destroy(older.handle) };
        }
        Ok(())
    }

    fn send(&mut self, records: &PartitionBatch) -> Result<(), (Code, String)> {
        let limit = self.topics[&records.topic].rules.max_record_bytes as usize;
        if limit >= BATCH_BYTES {
            self.enqueue(records, 0, records.len())?;
        } else {
            // librdkafka makes batches of one size for all topics, and this topic takes only smaller ones: so it is
            // never given more than one batch of them.
            let mut from = 0;
            while from < records.len() {
                let mut bytes = record_bytes(records, from);
                let mut to = from + 1;
                while to < records.len() && bytes + record_bytes(records, to) + PER_RECORD <= limit {
                    bytes += record_bytes(records, to) + PER_RECORD;
                    to += 1;
                }
                self.settle()?;
                self.enqueue(records, from, to)?;
                self.settle()?;
                from = to;
            }
        }
        self.client.serve(Duration::ZERO);
        Ok(())
    }

    /// Hands the records `from..to` to librdkafka, which copies them. Waits where its queue is full.
    fn enqueue(&mut self, records: &PartitionBatch, from: usize, to: usize) -> Result<(), (Code, String)> {
        let plain = records.headers.ends.is_empty() && records.timestamps_ms[from..to].iter().all(|&ms| ms < 0);
        if plain { self.enqueue_batch(records, from, to) } else { self.enqueue_each(records, from, to) }
    }

    /// The cheaper way: one call for all. It knows neither timestamps nor headers.
    fn enqueue_batch(&mut self, records: &PartitionBatch, from: usize, to: usize) -> Result<(), (Code, String)> {
        let handle = self.topics[&records.topic].handle;
        let mut next = from;
        let deadline = crate::env::instant() + self.patience;
        while next < to {
            self.messages.clear();
            self.messages.extend((next..to).map(|i| message(records, i)));
            self.client.events.deliveries().outstanding += (to - next) as u64;
            // SAFETY: key and value are read and copied during the call.
            unsafe {
                let count = self.messages.len() as i32;
                let copy = sys::RD_KAFKA_MSG_F_COPY;
                sys::rd_kafka_produce_batch(handle, records.partition, copy, self.messages.as_mut_ptr(), count);
            }
            // What did not fit is a tail, so that order holds: a full queue refuses all that follows.
            let refused = self.messages.iter().position(|m| m.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            let Some(refused) = refused else { return Ok(()) };
            self.client.events.deliveries().outstanding -= (self.messages.len() - refused) as u64;
            let code = self.messages[refused].err;
            self.wait_for_room(code, deadline)?;
            next += refused;
        }
        Ok(())
    }

    fn enqueue_each(&mut self, records: &PartitionBatch, from: usize, to: usize) -> Result<(), (Code, String)> {
        let deadline = crate::env::instant() + self.patience;
        for i in from..to {
            loop {
                self.client.events.deliveries().outstanding += 1;
                // SAFETY: the record's bytes are copied during the call.
                let Some(failure) = (unsafe { self.produce(records, i) }) else { break };
                self.client.events.deliveries().outstanding -= 1;
                self.wait_for_room(failure.code, deadline).map_err(|(code, _)| (code, failure.text))?;
            }
        }
        Ok(())
    }

    /// # Safety
    /// The topic is open.
    unsafe fn produce(&self, records: &PartitionBatch, i: usize) -> Option<Failure> {
        use sys::rd_kafka_vtype_t as V;
        let m = message(records, i);
        let arg = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
        let mem = |ptr, size| sys::rd_kafka_vu_s__bindgen_ty_1 {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size },
        };
        let handle = self.topics[&records.topic].handle;
        let timestamp = records.timestamps_ms[i].max(0);
        let mut args = [
            arg(V::RD_KAFKA_VTYPE_RKT, sys::rd_kafka_vu_s__bindgen_ty_1 { rkt: handle }),
            arg(V::RD_KAFKA_VTYPE_PARTITION, sys::rd_kafka_vu_s__bindgen_ty_1 { i32_: records.partition }),
            arg(V::RD_KAFKA_VTYPE_MSGFLAGS, sys::rd_kafka_vu_s__bindgen_ty_1 { i: sys::RD_KAFKA_MSG_F_COPY }),
            arg(V::RD_KAFKA_VTYPE_KEY, mem(m.key, m.key_len)),
            arg(V::RD_KAFKA_VTYPE_VALUE, mem(m.payload, m.len)),
            // 0 means now.
            arg(V::RD_KAFKA_VTYPE_TIMESTAMP, sys::rd_kafka_vu_s__bindgen_ty_1 { i64_: timestamp }),
            arg(V::RD_KAFKA_VTYPE_END, sys::rd_kafka_vu_s__bindgen_ty_1 { i: 0 }),
        ];
        // SAFETY: all pointers live through the call, which copies; headers are taken over where it succeeds.
        unsafe {
            let headers = headers_of(records, i);
            let mut count = 6;
            if !headers.is_null() {
                args[6] = arg(V::RD_KAFKA_VTYPE_HEADERS, sys::rd_kafka_vu_s__bindgen_ty_1 { headers });
                count = 7;
            }
            let failure = Failure::take(sys::rd_kafka_produceva(self.client.rk(), args.as_ptr(), count));
            if failure.is_some() && !headers.is_null() {
                sys::rd_kafka_headers_destroy(headers);
            }
            failure
        }
    }

    /// Backpressure: what the cluster is slow to take makes the task slow, and loses nothing.
    fn wait_for_room(&self, code: Code, deadline: Instant) -> Result<(), (Code, String)> {
        if code != Code::RD_KAFKA_RESP_ERR__QUEUE_FULL || crate::env::instant() >= deadline {
            return Err((code, native::describe(code)));
        }
        self.client.serve(QUEUE_WAIT);
        self.failed()
    }

    /// Waits until the fate of every message is known; an error where one was not taken.
    fn settle(&self) -> Result<(), (Code, String)> {
        let deadline = crate::env::instant() + self.patience;
        while self.client.events.deliveries().outstanding > 0 {
            let left = deadline.saturating_duration_since(crate::env::instant());
            if left.is_zero() {
                let missing = self.client.events.deliveries().outstanding;
                let found = format!("{missing} records were not acknowledged within {} ms", self.patience.as_millis());
                return Err((Code::RD_KAFKA_RESP_ERR__TIMED_OUT, found));
            }
            // SAFETY: a living producer. Flushing sends what lingers, and runs the callbacks of what has arrived.
            unsafe { sys::rd_kafka_flush(self.client.rk(), native::millis(left)) };
            self.failed()?;
        }
        self.failed()
    }

    /// librdkafka fails a transaction before it reports the delivery that failed: a call in between is refused for the
    /// transaction's state, and does not say that a record was to blame.
    fn hear_failure(&self) {
        let deadline = crate::env::instant() + REPORT_PATIENCE;
        let unheard = || {
            let deliveries = self.client.events.deliveries();
            deliveries.failed.as_ref().is_none_or(|(code, ..)| was_purged(*code)) && deliveries.outstanding > 0
        };
        while unheard() && crate::env::instant() < deadline {
            self.client.serve(QUEUE_WAIT);
        }
    }

    /// A record that was refused for its own sake, where that is what went wrong.
    fn refused(&self) -> Option<Error> {
        let deliveries = self.client.events.deliveries();
        let (code, topic, partition) = deliveries.failed.as_ref()?;
        let its_own = matches!(
            code,
            Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
                | Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE
                | Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP
                | Code::RD_KAFKA_RESP_ERR_INVALID_RECORD
                | Code::RD_KAFKA_RESP_ERR_INVALID_MSG
                // Another record of its batch was.
                | Code::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD
                | Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION
        );
        let found = format!("partition {partition}: {}", native::describe(*code));
        its_own.then(|| Error::RecordRefused { topic: topic.clone(), found })
    }

    fn failed(&self) -> Result<(), (Code, String)> {
        match &self.client.events.deliveries().failed {
            None => Ok(()),
            Some((code, topic, partition)) => {
                Err((*code, format!("a record for {topic}/{partition} was not taken: {}", native::describe(*code))))
            }
        }
    }
}

/// What a record costs in a batch beside its bytes: lengths, offset and time, each a varint.
const PER_RECORD: usize = 40;

impl Drop for Producer {
    fn drop(&mut self) {
        for topic in self.topics.values() {
            // SAFETY: opened by us, and given back once, before the client goes.
            unsafe { sys::rd_kafka_topic_destroy(topic.handle) };
        }
    }
}

fn message(records: &PartitionBatch, i: usize) -> sys::rd_kafka_message_t {
    let (key, value) = (records.keys.get(i), records.values.get(i));
    sys::rd_kafka_message_t {
        err: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: records.partition,
        payload: pointer(value),
        len: value.map_or(0, <[u8]>::len),
        key: pointer(key),
        key_len: key.map_or(0, <[u8]>::len),
        offset: 0,
        _private: ptr::null_mut(),
    }
}

/// An empty key is not a missing one: that is null.
fn pointer(bytes: Option<&[u8]>) -> *mut c_void {
    bytes.map_or(ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut().cast())
}

/// Null where the record has none.
///
/// # Safety
/// What is returned is destroyed, or handed to librdkafka, once.
unsafe fn headers_of(records: &PartitionBatch, i: usize) -> *mut sys::rd_kafka_headers_t {
    let mut headers: *mut sys::rd_kafka_headers_t = ptr::null_mut();
    for (name, value) in records.headers.of(i) {
        // SAFETY: name and value are copied during the call. A length in place of a zero at the end.
        unsafe {
            if headers.is_null() {
                headers = sys::rd_kafka_headers_new(4);
            }
            let (value, len) = (pointer(value), value.map_or(-1, |value| value.len() as isize));
            sys::rd_kafka_header_add(headers, name.as_ptr().cast(), name.len() as isize, value, len);
        }
    }
    headers
}

fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__FENCED
            | Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED
            | Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
            | Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING
    )
}

/// Taken back since another record had ended the transaction.
fn was_purged(code: Code) -> bool {
    matches!(code, Code::RD_KAFKA_RESP_ERR__PURGE_QUEUE | Code::RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
}

fn on_delivery(events: &Events, delivery: &Delivery<'_>) {
    let mut deliveries = events.deliveries();
    deliveries.outstanding = deliveries.outstanding.saturating_sub(1);
    let (code, partition, offset) = (delivery.outcome(), delivery.partition(), delivery.offset());
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        // What was purged for another's sake says nothing of the reason, and may be told first.
        if deliveries.failed.as_ref().is_none_or(|(before, ..)| was_purged(*before) && !was_purged(code)) {
            deliveries.failed = Some((code, delivery.topic(), partition));
        }
        return;
    }
    let handle = delivery.handle();
    match deliveries.first.iter_mut().find(|(of, p, _)| *of == handle && *p == partition) {
        Some((_, _, first)) => *first = (*first).min(offset),
        None => deliveries.first.push((handle, partition, offset)),
    }
}
