//! The clients that read, shared by all readers of a process.
//!
//! A client holds a partition once: a second reader of the same partition is given another client. What a reader has
//! of a partition is a [`Lease`]: a queue of its own, filled from exactly the offset asked for, until it is dropped.

use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;

use super::admin::error;
use super::native::{Client, Failure, PartitionList, Role, cstring};
use super::profile::Cluster;
use crate::log::{Assignment, Error, Isolation};
use crate::model::PartitionId;

/// The client finds the leaders by itself where this is not enough.
const METADATA_PATIENCE: Duration = Duration::from_secs(5);

type Held = (String, PartitionId);

pub struct Consumers {
    cluster: Arc<Cluster>,
    clients: Mutex<Vec<Arc<Consumer>>>,
}

pub struct Consumer {
    pub client: Client,
    isolation: Isolation,
    held: Mutex<HashSet<Held>>,
    /// Topics whose leaders the client has been told of.
    known: Mutex<HashSet<String>>,
}

/// Wakes a reader when one of its queues is no longer empty.
#[derive(Default)]
pub struct Wake {
    generation: Mutex<u64>,
    changed: Condvar,
}

/// One partition that one reader reads.
pub struct Lease {
    pub consumer: Arc<Consumer>,
    queue: *mut sys::rd_kafka_queue_t,
    held: Held,
    /// What the queue's callback points to.
    _wake: Arc<Wake>,
}

// SAFETY: librdkafka's queues may be used from any thread; a lease belongs to one reader at a time.
unsafe impl Send for Lease {}

impl Consumers {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, clients: Mutex::default() }
    }

    /// Starts reading at the assignment's offset.
    pub fn lease(&self, at: &Assignment, isolation: Isolation, wake: &Arc<Wake>) -> Result<Lease, Error> {
        let held = (at.topic.clone(), at.partition);
        let consumer = self.consumer_without(&held, isolation)?;
        // From here on a drop gives the partition back.
        let lease = Lease::open(consumer, held, wake)?;
        lease.consumer.look_up(&at.topic);
        let mut list = PartitionList::new();
        list.add(&at.topic, at.partition, at.offset, at.leader_epoch)?;
        // SAFETY: client and list live through the call, which copies the list.
        let failure =
            unsafe { Failure::take(sys::rd_kafka_incremental_assign(lease.consumer.client.rk(), list.as_ptr())) };
        match failure {
            None => Ok(lease),
            Some(Failure { code, text }) => {
                let doing = format!("read {}/{} from offset {}", at.topic, at.partition, at.offset);
                Err(error(&doing, code, &text, Some(&at.topic)))
            }
        }
    }

    /// Has a client connect and learn who leads the topics, before anything is read.
    pub fn look_up(&self, topics: &[&str], isolation: Isolation) {
        let nothing = (String::new(), -1);
        match self.consumer_without(&nothing, isolation) {
            Ok(consumer) => {
                consumer.held().remove(&nothing);
                topics.iter().for_each(|topic| consumer.look_up(topic));
            }
            Err(error) => tracing::debug!("connect to read: {error}"),
        }
    }

    /// A client that does not hold the partition yet, with the partition marked as held.
    fn consumer_without(&self, held: &Held, isolation: Isolation) -> Result<Arc<Consumer>, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let free = clients.iter().find(|c| c.isolation == isolation && c.held().insert(held.clone()));
        if let Some(free) = free {
            return Ok(Arc::clone(free));
        }
        let client = Client::new(Role::Consumer, &self.cluster.reader(isolation), None)?;
        // SAFETY: a living consumer. Its errors then wait in one queue, which `serve` empties.
        unsafe { sys::rd_kafka_poll_set_consumer(client.rk()) };
        let held = Mutex::new(HashSet::from([held.clone()]));
        let consumer = Arc::new(Consumer { client, isolation, held, known: Mutex::default() });
        clients.push(Arc::clone(&consumer));
        Ok(consumer)
    }
}

impl Consumer {
    fn held(&self) -> MutexGuard<'_, HashSet<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the client who leads the topic's partitions, before the round that it makes once a second.
    fn look_up(&self, topic: &str) {
        let mut known = self.known();
        if !known.contains(topic) && self.client.look_up(topic, METADATA_PATIENCE).is_ok() {
            known.insert(topic.to_owned());
        }
    }
}

impl Lease {
    fn open(consumer: Arc<Consumer>, held: Held, wake: &Arc<Wake>) -> Result<Self, Error> {
        let topic = cstring(&held.0)?;
        // SAFETY: the client lives as long as the lease; the wake-up that the callback points to as well. The queue
        // is cut off from the client's own before anything can come, and stays so through assignments.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_get_partition(consumer.client.rk(), topic.as_ptr(), held.1);
            if !queue.is_null() {
                sys::rd_kafka_queue_forward(queue, std::ptr::null_mut());
                sys::rd_kafka_queue_cb_event_enable(queue, Some(on_news), Arc::as_ptr(wake).cast_mut().cast());
            }
            queue
        };
        let lease = Self { consumer, queue, held, _wake: Arc::clone(wake) };
        if queue.is_null() {
            let doing = format!("read {}/{}", lease.held.0, lease.held.1);
            return Err(Error::Unavailable { doing, found: "the client gave no queue for it".to_owned() });
        }
        Ok(lease)
    }

    /// Takes messages from the queue, up to the capacity of `into`, without waiting.
    pub fn take(&self, into: &mut Vec<*mut sys::rd_kafka_message_t>) {
        into.clear();
        // SAFETY: the queue is ours; the vector has room for as many pointers as are asked for, and those that were
        // written are initialised.
        unsafe {
            let room = into.capacity();
            let count = sys::rd_kafka_consume_batch_queue(self.queue, 0, into.as_mut_ptr(), room);
            into.set_len(usize::try_from(count).unwrap_or(0).min(room));
        }
    }

    /// The end that the last answer of the cluster named.
    pub fn high_watermark(&self) -> Option<i64> {
        let topic = cstring(&self.held.0).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: living client, and two numbers to write to.
        unsafe {
            let rk = self.consumer.client.rk();
            sys::rd_kafka_get_watermark_offsets(rk, topic.as_ptr(), self.held.1, &raw mut low, &raw mut high);
        }
        (high >= 0).then_some(high)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut list = PartitionList::new();
        // A topic with a zero byte in its name has never been assigned.
        let _ = list.add(&self.held.0, self.held.1, 0, None);
        // SAFETY: living client and queue; the callback is taken away before what it points to may go.
        unsafe {
            Failure::take(sys::rd_kafka_incremental_unassign(self.consumer.client.rk(), list.as_ptr()));
            if !self.queue.is_null() {
                sys::rd_kafka_queue_cb_event_enable(self.queue, None, std::ptr::null_mut());
                sys::rd_kafka_queue_destroy(self.queue);
            }
        }
        // Whoever reads it next asks anew who leads it: a client that was told of a partition without a leader may not
        // hear of the next one.
        self.consumer.known().remove(&self.held.0);
        self.consumer.held().remove(&self.held);
    }
}

unsafe extern "C" fn on_news(_: *mut sys::rd_kafka_t, wake: *mut c_void) {
    // SAFETY: the lease holds the wake-up as long as the callback is set.
    if let Some(wake) = unsafe { wake.cast::<Wake>().as_ref() } {
        wake.announce();
    }
}

impl Wake {
    pub fn generation(&self) -> u64 {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn announce(&self) {
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits until there is something newer than `seen`; false at the deadline.
    pub fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        while *generation == seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            generation = self.changed.wait_timeout(generation, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
