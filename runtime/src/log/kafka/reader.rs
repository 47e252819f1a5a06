//! Reading: positions, and messages turned into columns.
//!
//! Owns one lease per partition. Messages are taken from a partition's queue up to a thousand at a time, and written
//! into the caller's columns; what a budget cuts off waits beside them. Nothing is ever read from an offset that was
//! not asked for: there is no reset.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::bindings as sys;

use super::Shared;
use super::admin::{self, OffsetOf};
use super::consumers::{Consumer, Lease, Place};
use super::native::{self, Code};
use super::stalls::{Watched, Word};
use crate::log::wake::Wake;
use crate::log::{Assignment, Budget, Error, Isolation, Reader, Waker};
use crate::model::{PartitionBatch, PartitionId, TopicId};

/// Messages taken from a queue at once.
const TAKEN_MAX: usize = 1_024;
/// Who waits for longer than this looks meanwhile, though nothing woke it: whoever watches sees by that that it is
/// neither busy nor paused, and leaves what it has to say.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub struct KafkaReader {
    shared: Arc<Shared>,
    isolation: Isolation,
    /// Announces that one of its queues is no longer empty.
    wake: Arc<Wake>,
    waker: Waker,
    cursors: Vec<Cursor>,
    /// Whose turn it is, as an index of `cursors`.
    turn: usize,
    messages: Messages,
}

struct Cursor {
    lease: Lease,
    /// How others see whether it stands still.
    watched: Arc<Watched>,
    topic: String,
    id: TopicId,
    partition: PartitionId,
    position: i64,
    last: LastRecord,
    paused: bool,
    /// The last thing heard was that there is nothing more.
    at_end: bool,
    /// What was taken from the queue and did not fit into a poll's budget, and how much of it was handed out.
    ahead: PartitionBatch,
    taken: usize,
    /// Heard behind `ahead`.
    failed: Option<Code>,
    /// The end of the partition, heard behind `ahead`.
    end_told: Option<i64>,
    /// Of the client's topic changes, those that were looked at.
    changes_seen: u64,
}

/// What the log is told of the record before a position, so that it can say whether it still is that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastRecord {
    leader_epoch: Option<i32>,
    /// The offset behind it.
    behind: i64,
}

/// Messages that librdkafka has lent us, given back when they are dropped.
struct Messages(Vec<*mut sys::rd_kafka_message_t>);

// SAFETY: messages may be read and destroyed by any thread.
unsafe impl Send for Messages {}

#[derive(PartialEq, Eq)]
enum Look {
    Records,
    /// Only the position moved.
    Moved,
    Nothing,
}

impl KafkaReader {
    pub fn new(shared: Arc<Shared>, isolation: Isolation) -> Self {
        let messages = Messages(Vec::with_capacity(TAKEN_MAX));
        let wake = Arc::default();
        let waker = Waker::new(&wake);
        Self { shared, isolation, wake, waker, cursors: Vec::new(), turn: 0, messages }
    }

    fn look_around(&mut self, budget: Budget, into: &mut PartitionBatch) -> Result<Look, Error> {
        let mut found = Look::Nothing;
        for step in 0..self.cursors.len() {
            let i = (self.turn + step) % self.cursors.len();
            let cursor = &mut self.cursors[i];
            if cursor.paused {
                continue;
            }
            cursor.obey(&self.shared, &self.wake)?;
            match cursor.read(&self.shared, &mut self.messages, budget, into)? {
                Look::Records => {
                    self.turn = i + 1;
                    return Ok(Look::Records);
                }
                Look::Moved => found = Look::Moved,
                Look::Nothing => {}
            }
        }
        Ok(found)
    }

    fn cursor(&self, topic: &str, partition: PartitionId) -> Option<&Cursor> {
        self.cursors.iter().find(|cursor| cursor.partition == partition && cursor.topic == topic)
    }

    /// The client that brings the partition at this place of the assignment.
    #[cfg(test)]
    pub fn consumer_of(&self, at: usize) -> &Arc<Consumer> {
        self.cursors[at].lease.consumer()
    }

    /// Every topic is the one that is meant, and has the partition.
    fn check(&self, assignments: &[Assignment]) -> Result<(), Error> {
        let mut names: Vec<&str> = assignments.iter().map(|at| at.topic.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(());
        }
        let topics = self.shared.describe(&names)?;
        for Assignment { topic: name, id, partition, .. } in assignments {
            let topic = topics.iter().find(|topic| topic.name == *name);
            let topic = topic.ok_or_else(|| Error::UnknownTopic(name.clone()))?;
            if topic.id != *id {
                return Err(Error::TopicRecreated { topic: name.clone(), expected: *id, found: topic.id });
            }
            self.shared.check_partition(name, *partition, topic.partitions)?;
        }
        Ok(())
    }
}

impl Reader for KafkaReader {
    fn assign(&mut self, assignments: &[Assignment]) -> Result<(), Error> {
        self.cursors.clear();
        self.turn = 0;
        self.check(assignments)?;
        for at in assignments {
            // librdkafka takes some negative numbers for words of its own.
            if at.offset < 0 {
                return Err(self.shared.out_of_range(&at.topic, at.partition, at.offset));
            }
            let lease = self.shared.consumers.lease(at, self.isolation, &self.wake)?;
            let (shared, consumer) = (&self.shared, lease.consumer());
            let watched = shared.stalls.watch(shared, at, self.isolation, &self.wake, consumer);
            self.cursors.push(Cursor::new(at, lease, watched));
        }
        Ok(())
    }

    fn pause(&mut self, topic: &str, partition: PartitionId, paused: bool) -> Result<(), Error> {
        let found = self.cursors.iter_mut().find(|cursor| cursor.partition == partition && cursor.topic == topic);
        match found {
            // Its queue fills to its bound; then the client fetches no more of it.
            Some(cursor) => cursor.paused = paused,
            None => return Err(Error::NotAssigned { topic: topic.to_owned(), partition }),
        }
        Ok(())
    }

    fn poll(&mut self, budget: Budget, wait: Duration, into: &mut PartitionBatch) -> Result<bool, Error> {
        into.clear();
        let deadline = crate::env::instant() + wait;
        loop {
            let seen = self.wake.generation();
            match self.look_around(budget, into)? {
                Look::Records => return Ok(true),
                Look::Moved => return Ok(false),
                Look::Nothing => {}
            }
            let mut heard: Option<&Arc<Consumer>> = None;
            for consumer in self.cursors.iter().map(|cursor| cursor.lease.consumer()) {
                if heard.is_none_or(|heard| !Arc::ptr_eq(heard, consumer)) {
                    consumer.client.hear(|_| ());
                    heard = Some(consumer);
                }
            }
            if self.waker.was_asked() {
                return Ok(false);
            }
            let now = crate::env::instant();
            if !self.wake.wait(seen, deadline.min(now + LOOK_EVERY)) && crate::env::instant() >= deadline {
                return Ok(false);
            }
        }
    }

    fn position(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        self.cursor(topic, partition).map(|cursor| cursor.position)
    }

    fn end(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        let cursor = self.cursor(topic, partition)?;
        // The client's own word is that of its last fetch, which may be long ago: what the cluster said when it was
        // asked counts as well.
        let asked = cursor.watched.end();
        if cursor.at_end && cursor.waiting() == 0 && asked.is_none_or(|end| end <= cursor.position) {
            return Some(cursor.position);
        }
        // Not at the end as far as it has heard: there is at least something before it.
        cursor.lease.high_watermark().max(asked).map(|end| end.max(cursor.position + 1))
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn leader_epoch(&self, topic: &str, partition: PartitionId) -> Option<i32> {
        self.cursor(topic, partition)?.last.leader_epoch
    }
}

impl Cursor {
    fn new(at: &Assignment, lease: Lease, watched: Arc<Watched>) -> Self {
        Self {
            lease,
            watched,
            topic: at.topic.clone(),
            id: at.id,
            partition: at.partition,
            position: at.offset,
            last: LastRecord { leader_epoch: at.leader_epoch, behind: at.offset },
            paused: false,
            at_end: false,
            ahead: PartitionBatch::new(&at.topic, at.partition),
            taken: 0,
            failed: None,
            end_told: None,
            // Changes before the assignment are looked at too: the client may have known an older topic.
            changes_seen: 0,
        }
    }

    /// Does what whoever watches asks for: lets another client read on, or looks whether the topic is still the same.
    fn obey(&mut self, shared: &Shared, wake: &Arc<Wake>) -> Result<(), Error> {
        match self.watched.word() {
            None => Ok(()),
            Some(Word::Check) => shared.check_topic(&self.topic, self.id),
            Some(Word::Move(place)) => {
                self.at_end = false;
                self.read_on_by(place, wake)
            }
            Some(Word::Change(place)) => self.read_on_by(place, wake),
        }
    }

    /// What waits in the old queue is brought again, what was taken from it is not.
    fn read_on_by(&mut self, place: Place, wake: &Arc<Wake>) -> Result<(), Error> {
        let next = self.watched.next();
        self.lease = Lease::begin(place, wake, next, self.last.epoch_at(next))?;
        self.watched.moved(self.lease.consumer());
        (self.failed, self.changes_seen) = (None, 0);
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.ahead.len() - self.taken
    }

    fn read(
        &mut self,
        shared: &Shared,
        messages: &mut Messages,
        budget: Budget,
        into: &mut PartitionBatch,
    ) -> Result<Look, Error> {
        let before = self.position;
        if self.waiting() == 0 {
            if self.failed.is_none() {
                self.take(messages);
                self.check_identity(shared)?;
            }
            if self.waiting() == 0
                && let Some(code) = self.failed.take()
            {
                self.explain(shared, code)?;
            }
        }
        if self.waiting() > 0 {
            self.hand_out(budget, into);
            return Ok(Look::Records);
        }
        Ok(if self.position == before { Look::Nothing } else { Look::Moved })
    }

    /// Moves what the queue holds into `ahead`, up to the first error.
    fn take(&mut self, messages: &mut Messages) {
        self.ahead.clear();
        self.taken = 0;
        self.lease.take(&mut messages.0);
        if messages.0.is_empty() {
            return self.watched.looked();
        }
        for &message in &messages.0 {
            // SAFETY: lent to us until they are given back below.
            let (message, pointer) = unsafe { (&*message, message) };
            match message.err {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    self.at_end = false;
                    // SAFETY: as above.
                    unsafe { push(&mut self.ahead, message, pointer) };
                }
                Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    self.at_end = true;
                    if self.ahead.is_empty() {
                        self.position = self.position.max(message.offset);
                    }
                }
                code => self.failed = self.failed.or(Some(code)),
            }
        }
        if let Some(&last) = messages.0.iter().rfind(|&&m| is_record(m)) {
            // SAFETY: as above.
            let epoch = unsafe { sys::rd_kafka_message_leader_epoch(last) };
            self.last.leader_epoch = (epoch >= 0).then_some(epoch).or(self.last.leader_epoch);
        }
        // The end may have been told behind records: then the position goes there once they were handed out.
        self.end_told = messages.0.iter().rev().take_while(|&&m| !is_record(m)).find_map(|&m| end_of(m));
        let behind_last = self.ahead.offsets.last().map(|last| last + 1);
        self.last.behind = behind_last.unwrap_or(self.last.behind);
        if let Some(next) = self.end_told.max(behind_last) {
            self.watched.came(next);
        }
        messages.give_back();
    }

    fn hand_out(&mut self, budget: Budget, into: &mut PartitionBatch) {
        into.topic.clone_from(&self.topic);
        into.partition = self.partition;
        let to = if self.taken == 0 && fits(&self.ahead, budget) {
            self.ahead.len()
        } else {
            cut(&self.ahead, self.taken, budget)
        };
        if self.taken == 0 && to == self.ahead.len() {
            std::mem::swap(&mut self.ahead, into);
            self.ahead.clear();
            self.taken = 0;
            self.position = into.offsets.last().map_or(self.position, |last| last + 1);
        } else {
            into.append_range(&self.ahead, self.taken..to);
            self.taken = to;
            self.position = self.ahead.offsets[to - 1] + 1;
        }
        if self.waiting() == 0 {
            self.position = self.position.max(self.end_told.take().unwrap_or(self.position));
        }
    }

    /// The client has heard that the topic was made again, and reads the new one at the old one's offsets: nothing
    /// of that may be shown.
    fn check_identity(&mut self, shared: &Shared) -> Result<(), Error> {
        let events = &self.lease.consumer().client.events;
        let changes = events.topic_changes.load(Ordering::Acquire);
        if changes == self.changes_seen {
            return Ok(());
        }
        self.changes_seen = changes;
        match events.topic_id(&self.topic) {
            Some(id) if !admin::same_id(self.id, &id) => {
                self.ahead.clear();
                self.taken = 0;
                self.explain(shared, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID)
            }
            _ => Ok(()),
        }
    }

    /// Turns an error of the partition into one that says what is so; passing trouble is none.
    fn explain(&self, shared: &Shared, code: Code) -> Result<(), Error> {
        let doing = || format!("read {}/{} from offset {}", self.topic, self.partition, self.position);
        match code {
            Code::RD_KAFKA_RESP_ERR__LOG_TRUNCATION => {
                let (topic, partition, offset) = (self.topic.clone(), self.partition, self.position);
                Err(Error::Diverged { topic, partition, offset })
            }
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
                shared.check_topic(&self.topic, self.id)?;
                Err(shared.out_of_range(&self.topic, self.partition, self.position))
            }
            code if admin::is_unknown(code) => shared.check_topic(&self.topic, self.id),
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
                Err(admin::error(&doing(), code, "", Some(&self.topic)))
            }
            code => {
                tracing::debug!("{}: {}; goes on", doing(), native::describe(code));
                Ok(())
            }
        }
    }
}

impl LastRecord {
    /// Of which leader the record before `next` was. None where only markers or aborted records stand before it: they may be
    /// of later leaders, whose records a question about this one would call truncated.
    fn epoch_at(self, next: i64) -> Option<i32> {
        self.leader_epoch.filter(|_| next == self.behind)
    }
}

impl Messages {
    fn give_back(&mut self) {
        for message in self.0.drain(..) {
            // SAFETY: lent to us, and given back once.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// # Safety
/// Both are the same living message.
unsafe fn push(batch: &mut PartitionBatch, message: &sys::rd_kafka_message_t, pointer: *mut sys::rd_kafka_message_t) {
    // SAFETY: the message's key, value and headers live as long as it; all are copied.
    unsafe {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp = sys::rd_kafka_message_timestamp(pointer, &raw mut kind);
        let (key, value) = (bytes(message.key, message.key_len), bytes(message.payload, message.len));
        let mut headers = ptr::null_mut();
        let found = sys::rd_kafka_message_headers(pointer, &raw mut headers);
        if found == Code::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null() {
            let headers = HeadersOf { headers, next: 0, message: PhantomData };
            batch.push_with_headers(message.offset, timestamp, key, value, headers);
        } else {
            batch.push(message.offset, timestamp, key, value);
        }
    }
}

/// The headers of one message; what it gives lives as long as that.
struct HeadersOf<'m> {
    headers: *mut sys::rd_kafka_headers_t,
    next: usize,
    message: PhantomData<&'m sys::rd_kafka_message_t>,
}

impl<'m> Iterator for HeadersOf<'m> {
    type Item = (&'m [u8], Option<&'m [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut name, mut value, mut len): (*const c_char, *const c_void, usize) = (ptr::null(), ptr::null(), 0);
        // SAFETY: headers, names and values live as long as their message, which `'m` stands for.
        unsafe {
            let (name_at, value_at) = (&raw mut name, &raw mut value);
            let found = sys::rd_kafka_header_get_all(self.headers, self.next, name_at, value_at, &raw mut len);
            self.next += 1;
            (found == Code::RD_KAFKA_RESP_ERR_NO_ERROR && !name.is_null())
                .then(|| (std::ffi::CStr::from_ptr(name).to_bytes(), bytes(value.cast_mut(), len)))
        }
    }
}

/// # Safety
/// `start` is null or points to `len` bytes that live long enough.
unsafe fn bytes<'a>(start: *mut c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
}

fn is_record(message: *mut sys::rd_kafka_message_t) -> bool {
    // SAFETY: called while the message is lent to us.
    unsafe { (*message).err == Code::RD_KAFKA_RESP_ERR_NO_ERROR }
}

/// The offset that an end-of-partition message tells.
fn end_of(message: *mut sys::rd_kafka_message_t) -> Option<i64> {
    // SAFETY: called while the message is lent to us.
    unsafe { ((*message).err == Code::RD_KAFKA_RESP_ERR__PARTITION_EOF).then_some((*message).offset) }
}

fn fits(batch: &PartitionBatch, budget: Budget) -> bool {
    batch.len() <= budget.max_records && batch.byte_len() <= budget.max_bytes
}

/// The position behind as many records from `from` on as fit, at least one.
fn cut(batch: &PartitionBatch, from: usize, budget: Budget) -> usize {
    let mut bytes = 0;
    for i in from..batch.len() {
        bytes += batch.keys.bytes(i).len() + batch.values.bytes(i).len();
        if i > from && (i - from >= budget.max_records || bytes > budget.max_bytes) {
            return i;
        }
    }
    batch.len()
}

impl Shared {
    pub(super) fn out_of_range(&self, topic: &str, partition: PartitionId, offset: i64) -> Error {
        let bound = |of| self.offsets(topic, &[partition], of).map(|found| found[0]);
        match (bound(OffsetOf::Start), bound(OffsetOf::End(Isolation::ReadUncommitted))) {
            (Ok(start), Ok(end)) => Error::OffsetOutOfRange { topic: topic.to_owned(), partition, offset, start, end },
            (Err(error), _) | (_, Err(error)) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_named_only_where_its_record_stands_before_the_position() {
        let last = LastRecord { leader_epoch: Some(3), behind: 10 };
        assert_eq!([last.epoch_at(10), last.epoch_at(12)], [Some(3), None]);
        assert_eq!(LastRecord { leader_epoch: None, behind: 10 }.epoch_at(10), None);
    }
}
