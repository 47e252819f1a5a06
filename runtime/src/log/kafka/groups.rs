//! What a consumer group has committed, and positions shown as those of one.
//!
//! Owns a client for each group that is written to. Kafka's admin calls for groups would need none, but librdkafka
//! frees such a call twice when its group's coordinator is found only after the call has timed out, and ends the
//! process (its issue 4605), and reads a null pointer where a coordinator has moved (its issue 5040).

use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;

use super::admin::error;
use super::native::{self, Client, Code, PartitionList, Role, millis};
use super::profile::Cluster;
use crate::log::{Error, GroupPosition};
use crate::model::{NextOffset, PartitionId};

/// One call.
const PATIENCE: Duration = Duration::from_secs(15);
/// A call for a group that was refused before: it is tried again often.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);
/// How often the client is heard while an answer is waited for, at first.
const LOOK: Duration = Duration::from_millis(100);
/// A client without use is closed after this: it costs five threads, and a job that rests writes once an hour.
const KEPT: Duration = Duration::from_secs(15);

pub struct Groups {
    cluster: Arc<Cluster>,
    writers: Mutex<HashMap<String, Writing>>,
}

struct Writing {
    group: Arc<Group>,
    used: Instant,
}

struct Group {
    client: Client,
    /// Why the cluster has refused the group to its client, which is told only once.
    refused: Mutex<Option<Code>>,
}

impl Groups {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, writers: Mutex::default() }
    }

    /// Commits positions for a group that has no members.
    pub fn write(&self, group: &str, positions: &[GroupPosition]) -> Result<(), Error> {
        let doing = format!("write the positions of group {group}");
        let mut list = PartitionList::new();
        for at in positions {
            list.add(&at.topic, at.partition, at.next.0, None)?;
        }
        let name = group;
        let group = self.writer(name)?;
        let rk = group.client.rk();
        // SAFETY: client, list and queue live through the call, which copies the list; an answer that comes after the
        // queue is gone is dropped with it.
        unsafe {
            let queue = sys::rd_kafka_queue_new(rk);
            let code = sys::rd_kafka_commit_queue(rk, list.as_ptr(), queue, None, ptr::null_mut());
            let answer = if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { group.answer(queue) } else { Err(code) };
            sys::rd_kafka_queue_destroy(queue);
            answer.map_err(|code| {
                // A client that brought no answer may have lost its way: the next call has another one. One that was
                // refused knows why, and is told only once.
                if group.refused().is_none() {
                    self.writers.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                }
                group.error(&doing, code)
            })
        }
    }

    /// What a group has committed for the partitions of a topic, from the first on.
    pub fn read(&self, group: &str, topic: &str, partitions: u32) -> Result<Vec<Option<NextOffset>>, Error> {
        let doing = format!("read the positions of group {group}");
        let mut list = PartitionList::new();
        for partition in 0..partitions as PartitionId {
            list.add(topic, partition, i64::from(sys::RD_KAFKA_OFFSET_INVALID), None)?;
        }
        let group = self.connect(group)?;
        group.committed(&list).map_err(|code| group.error(&doing, code))?;
        // SAFETY: the list lives, and is only read.
        let found = unsafe { native::elements(list.as_ptr()) };
        if let Some(bad) = found.iter().find(|element| element.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
            return Err(group.error(&format!("{doing} in {topic}/{}", bad.partition), bad.err));
        }
        Ok(found.iter().map(|element| (element.offset >= 0).then_some(NextOffset(element.offset))).collect())
    }

    /// Closes the clients of groups to which nothing was written for a while.
    pub fn close_unused(&self) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.retain(|_, writing| writing.used.elapsed() < KEPT);
    }

    /// How many groups have a client at the moment.
    #[cfg(test)]
    pub fn clients(&self) -> usize {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn writer(&self, name: &str) -> Result<Arc<Group>, Error> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writing) = writers.get_mut(name) {
            writing.used = crate::env::instant();
            return Ok(Arc::clone(&writing.group));
        }
        let group = Arc::new(self.connect(name)?);
        writers.insert(name.to_owned(), Writing { group: Arc::clone(&group), used: crate::env::instant() });
        Ok(group)
    }

    fn connect(&self, name: &str) -> Result<Group, Error> {
        let client = Client::new(Role::Consumer, &self.cluster.group(name), None)?;
        // SAFETY: a living consumer. What it has to say then waits in one queue, which `hear` empties.
        unsafe { sys::rd_kafka_poll_set_consumer(client.rk()) };
        Ok(Group { client, refused: Mutex::default() })
    }
}

impl Group {
    /// Waits for the answer to a commit.
    ///
    /// # Safety
    /// The queue lives.
    unsafe fn answer(&self, queue: *mut sys::rd_kafka_queue_t) -> Result<(), Code> {
        let deadline = crate::env::instant() + self.patience();
        loop {
            // SAFETY: the caller's promise; the event is destroyed once, after all of it was read.
            unsafe {
                let event = sys::rd_kafka_queue_poll(queue, millis(LOOK));
                if !event.is_null() {
                    let list = sys::rd_kafka_event_topic_partition_list(event);
                    let of_partitions = native::elements(list).iter().map(|element| element.err);
                    let mut codes = std::iter::once(sys::rd_kafka_event_error(event)).chain(of_partitions);
                    let bad = codes.find(|code| *code != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
                    sys::rd_kafka_event_destroy(event);
                    *self.refused() = None;
                    return bad.map_or(Ok(()), Err);
                }
            }
            self.hear(deadline)?;
        }
    }

    /// Fills in what the group has committed for the partitions of a list.
    fn committed(&self, list: &PartitionList) -> Result<(), Code> {
        let deadline = crate::env::instant() + self.patience();
        let mut wait = LOOK;
        loop {
            let left = deadline.saturating_duration_since(crate::env::instant());
            // SAFETY: client and list live through the call.
            let code = unsafe { sys::rd_kafka_committed(self.client.rk(), list.as_ptr(), millis(wait.min(left))) };
            match code {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => return Ok(()),
                // It waits for a change of connections, which may have been before: so it is asked again.
                Code::RD_KAFKA_RESP_ERR__TIMED_OUT => {}
                code => return Err(code),
            }
            self.hear(deadline)?;
            wait *= 2;
        }
    }

    /// Hears what the client has to say while an answer is waited for; an error where there will be none.
    fn hear(&self, deadline: Instant) -> Result<(), Code> {
        const REFUSAL: Code = Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
        let mut is_refused = false;
        self.client.hear(|code| is_refused |= code == REFUSAL);
        let mut refused = self.refused();
        if is_refused {
            *refused = Some(REFUSAL);
        }
        match *refused {
            known if is_refused || crate::env::instant() >= deadline => {
                Err(known.unwrap_or(Code::RD_KAFKA_RESP_ERR__TIMED_OUT))
            }
            _ => Ok(()),
        }
    }

    fn patience(&self) -> Duration {
        if self.refused().is_some() { REFUSED_PATIENCE } else { PATIENCE }
    }

    fn refused(&self) -> MutexGuard<'_, Option<Code>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, doing: &str, code: Code) -> Error {
        let found = native::describe(code);
        let is_late = code == Code::RD_KAFKA_RESP_ERR__TIMED_OUT;
        error(doing, code, &if is_late { self.client.events.explain(found) } else { found }, None)
    }
}
