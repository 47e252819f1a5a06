//! The clients that read, shared by all readers of a process.
//!
//! A client holds a partition once: a second reader of the same partition is given another client. What a reader has
//! of a partition is a [`Lease`]: a queue of its own, filled from exactly the offset asked for, until it is dropped.
//! Partitions that have been quiet for long are read by clients of their own, which ask less often ([`Pace`]).

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;

use super::admin::{error, same_id};
use super::native::{Client, Code, Failure, PartitionList, Role, cstring};
use super::profile::{Cluster, Pace};
use crate::log::wake::Wake;
use crate::log::{Assignment, Error, Isolation};
use crate::model::{PartitionId, TopicId};

/// The client finds the leaders by itself where this is not enough.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);
/// A client that was made more recently is not to blame where no answer comes.
const NEW_FOR: Duration = Duration::from_secs(5);
/// What a client was told of leaders counts for so long; later it is told anew where a partition is taken up.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// A client by which nobody reads is closed after this.
const KEPT: Duration = Duration::from_secs(15);

type Held = (String, PartitionId);

pub struct Consumers {
    cluster: Arc<Cluster>,
    clients: Mutex<Vec<Arc<Consumer>>>,
}

pub struct Consumer {
    pub client: Client,
    isolation: Isolation,
    pace: Pace,
    made: Instant,
    held: Mutex<HashSet<Held>>,
    /// When a place with it was last taken or given back.
    used: Mutex<Instant>,
    /// Topics whose leaders the client has been told of, and when.
    known: Mutex<HashMap<String, Instant>>,
    /// It no longer brought what the log has. Whoever still reads by it may go on as long as it does.
    is_given_up: AtomicBool,
}

/// A partition's place with a client, which holds a partition once.
pub struct Place {
    consumer: Arc<Consumer>,
    held: Held,
}

/// One partition that one reader reads.
pub struct Lease {
    queue: *mut sys::rd_kafka_queue_t,
    /// What the queue's callback points to.
    _wake: Arc<Wake>,
    /// Given back last.
    place: Place,
}

// SAFETY: librdkafka's queues may be used from any thread; a lease belongs to one reader at a time.
unsafe impl Send for Lease {}

impl Consumers {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, clients: Mutex::default() }
    }

    /// Starts reading at the assignment's offset.
    pub fn lease(&self, at: &Assignment, isolation: Isolation, wake: &Arc<Wake>) -> Result<Lease, Error> {
        let place = self.place_at((&at.topic, at.partition), isolation, Pace::Prompt)?;
        Lease::begin(place, wake, at.offset, at.leader_epoch)
    }

    /// Has a client connect and learn who leads the topics, before anything is read.
    pub fn look_up(&self, topics: &[&str], isolation: Isolation) {
        match self.place(("", -1), isolation, Pace::Prompt) {
            Ok(place) => {
                let consumer = Arc::clone(&place.consumer);
                // Another one who looks meanwhile is to find the same client free.
                drop(place);
                for topic in topics {
                    consumer.look_up(topic);
                }
            }
            Err(error) => tracing::debug!("connect to read: {error}"),
        }
    }

    /// A place with a client that was not given up. The one that has the partition now, if any, is.
    pub fn place_elsewhere(
        &self,
        (topic, partition): (&str, PartitionId),
        isolation: Isolation,
        from: Option<&Arc<Consumer>>,
    ) -> Result<Place, Error> {
        if let Some(from) = from {
            self.give_up(from);
        }
        self.place_at((topic, partition), isolation, Pace::Prompt)
    }

    /// It is lent to nobody any more.
    fn give_up(&self, consumer: &Arc<Consumer>) {
        consumer.is_given_up.store(true, Ordering::Release);
        self.clients().retain(|client| !Arc::ptr_eq(client, consumer));
    }

    /// A place with a client of that pace, which has been told who leads the topic. A client that hears nothing of it may
    /// have lost its way in an outage, and would bring nothing either: one that is not new is given up for another.
    pub fn place_at(
        &self,
        (topic, partition): (&str, PartitionId),
        isolation: Isolation,
        pace: Pace,
    ) -> Result<Place, Error> {
        let place = self.place((topic, partition), isolation, pace)?;
        if place.consumer.look_up(topic) || place.consumer.made.elapsed() < NEW_FOR {
            return Ok(place);
        }
        self.give_up(&place.consumer);
        let place = self.place((topic, partition), isolation, pace)?;
        place.consumer.look_up(topic);
        Ok(place)
    }

    /// Closes the clients that nobody has read by for a while, but the first of each kind: it is asked for again soon.
    pub fn close_unused(&self) {
        let mut kinds = HashSet::new();
        self.clients().retain(|client| {
            let is_first = kinds.insert((client.isolation == Isolation::ReadCommitted, client.pace == Pace::Resting));
            is_first || !client.held().is_empty() || client.unused_for() < KEPT
        });
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Arc<Consumer>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place with a client that does not hold the partition yet.
    fn place(&self, (topic, partition): (&str, PartitionId), isolation: Isolation, pace: Pace) -> Result<Place, Error> {
        let held = (topic.to_owned(), partition);
        let mut clients = self.clients();
        let mut fitting = clients.iter().filter(|client| client.isolation == isolation && client.pace == pace);
        let free = fitting.find(|client| client.held().insert(held.clone()));
        if let Some(free) = free {
            free.touch();
            return Ok(Place { consumer: Arc::clone(free), held });
        }
        let client = Client::new(Role::Consumer, &self.cluster.reader(isolation, pace), None)?;
        // SAFETY: a living consumer. Its errors then wait in one queue, which `serve` empties.
        unsafe { sys::rd_kafka_poll_set_consumer(client.rk()) };
        let consumer = Arc::new(Consumer {
            client,
            isolation,
            pace,
            made: crate::env::instant(),
            held: Mutex::new(HashSet::from([held.clone()])),
            used: Mutex::new(crate::env::instant()),
            known: Mutex::default(),
            is_given_up: AtomicBool::new(false),
        });
        clients.push(Arc::clone(&consumer));
        Ok(Place { consumer, held })
    }
}

impl Consumer {
    pub fn pace(&self) -> Pace {
        self.pace
    }

    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    /// Whether the client has told that a topic has this id: it tells the first that it learns, and each change.
    pub fn has_told(&self, topic: &str, id: TopicId) -> bool {
        self.client.events.topic_id(topic).is_some_and(|text| same_id(id, &text))
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = crate::env::instant();
    }

    fn unused_for(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the client who leads the topic's partitions, before the round that it makes once a second. No lock is held
    /// meanwhile: who gives a partition back needs it.
    /// False where no answer came.
    fn look_up(&self, topic: &str) -> bool {
        if self.known().get(topic).is_some_and(|told| told.elapsed() < KNOWN_FOR) {
            return true;
        }
        let answer = self.client.look_up(topic, METADATA_PATIENCE);
        if answer.is_ok() {
            self.known().insert(topic.to_owned(), crate::env::instant());
        }
        !matches!(
            answer,
            Err(Code::RD_KAFKA_RESP_ERR__TIMED_OUT
                | Code::RD_KAFKA_RESP_ERR__TRANSPORT
                | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.consumer.held().remove(&self.held);
        self.consumer.touch();
    }
}

impl Lease {
    /// Has the place's client read from an offset on.
    pub fn begin(place: Place, wake: &Arc<Wake>, offset: i64, leader_epoch: Option<i32>) -> Result<Self, Error> {
        // From here on a drop gives the partition back.
        let lease = Self::open(place, wake)?;
        let (topic, partition) = &lease.place.held;
        let mut list = PartitionList::new();
        list.add(topic, *partition, offset, leader_epoch)?;
        // SAFETY: client and list live through the call, which copies the list.
        let failure =
            unsafe { Failure::take(sys::rd_kafka_incremental_assign(lease.place.consumer.client.rk(), list.as_ptr())) };
        if let Some(Failure { code, text }) = failure {
            let doing = format!("read {topic}/{partition} from offset {offset}");
            return Err(error(&doing, code, &text, Some(topic)));
        }
        Ok(lease)
    }

    fn open(place: Place, wake: &Arc<Wake>) -> Result<Self, Error> {
        let (name, partition) = (&place.held.0, place.held.1);
        let topic = cstring(name)?;
        // SAFETY: the client lives as long as the lease; the wake-up that the callback points to as well. The queue
        // is cut off from the client's own before anything can come, and stays so through assignments.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_get_partition(place.consumer.client.rk(), topic.as_ptr(), partition);
            if !queue.is_null() {
                sys::rd_kafka_queue_forward(queue, std::ptr::null_mut());
                sys::rd_kafka_queue_cb_event_enable(queue, Some(on_news), Arc::as_ptr(wake).cast_mut().cast());
            }
            queue
        };
        if queue.is_null() {
            let doing = format!("read {name}/{partition}");
            return Err(Error::Unavailable { doing, found: "the client gave no queue for it".to_owned() });
        }
        Ok(Self { queue, _wake: Arc::clone(wake), place })
    }

    pub fn consumer(&self) -> &Arc<Consumer> {
        &self.place.consumer
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
        let (topic, partition) = &self.place.held;
        let topic = cstring(topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: living client, and two numbers to write to.
        unsafe {
            let rk = self.place.consumer.client.rk();
            sys::rd_kafka_get_watermark_offsets(rk, topic.as_ptr(), *partition, &raw mut low, &raw mut high);
        }
        (high >= 0).then_some(high)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (topic, partition) = &self.place.held;
        let mut list = PartitionList::new();
        // A topic with a zero byte in its name has never been assigned.
        let _ = list.add(topic, *partition, 0, None);
        // SAFETY: living client and queue; the callback is taken away before what it points to may go.
        unsafe {
            Failure::take(sys::rd_kafka_incremental_unassign(self.place.consumer.client.rk(), list.as_ptr()));
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, std::ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
        // Whoever reads it next asks anew who leads it: a client that was told of a partition without a leader may not
        // hear of the next one.
        self.place.consumer.known().remove(topic);
    }
}

unsafe extern "C" fn on_news(_: *mut sys::rd_kafka_t, wake: *mut c_void) {
    // SAFETY: the lease holds the wake-up as long as the callback is set.
    if let Some(wake) = unsafe { wake.cast::<Wake>().as_ref() } {
        wake.announce();
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::Profile;
    use super::*;

    /// A cluster that takes connections and never answers.
    fn silent() -> (std::net::TcpListener, Consumers) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let profile = Profile::plain(&listener.local_addr().unwrap().to_string());
        (listener, Consumers::new(Arc::new(profile.resolve().unwrap())))
    }

    #[test]
    fn a_partition_is_given_back_while_its_client_waits_for_an_answer() {
        let (_listener, consumers) = silent();
        let lease = |topic: &str| {
            let place = consumers.place((topic, 0), Isolation::ReadCommitted, Pace::Prompt).unwrap();
            Lease::begin(place, &Arc::default(), 0, None).unwrap()
        };
        let (first, second) = (lease("a"), lease("b"));
        let consumer = Arc::clone(first.consumer());
        assert!(Arc::ptr_eq(&consumer, second.consumer()));
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let since = crate::env::instant();
                consumer.look_up("c");
                since.elapsed()
            });
            let since = crate::env::instant();
            drop(first);
            drop(second);
            assert!(since.elapsed() < METADATA_PATIENCE / 2, "{:?}", since.elapsed());
            assert!(asked.join().unwrap() >= METADATA_PATIENCE, "there was an answer, so this shows nothing");
        });
    }

    #[test]
    fn a_client_that_hears_nothing_is_given_up_for_a_new_one_once_it_is_no_longer_new() {
        let (_listener, consumers) = silent();
        let isolation = Isolation::ReadCommitted;
        let first = consumers.place_at(("a", 0), isolation, Pace::Prompt).unwrap();
        let mut last = consumers.place_at(("b", 0), isolation, Pace::Prompt).unwrap();
        assert!(Arc::ptr_eq(&first.consumer, &last.consumer), "it may not be to blame");
        while first.consumer.made.elapsed() < NEW_FOR + 2 * METADATA_PATIENCE {
            last = consumers.place_at(("b", 0), isolation, Pace::Prompt).unwrap();
        }
        assert!(first.consumer.is_given_up() && !Arc::ptr_eq(&first.consumer, &last.consumer));
        assert!(!last.consumer.is_given_up());
    }

    #[test]
    fn a_client_that_was_given_up_is_lent_to_nobody_and_goes_with_its_last_reader() {
        let (_listener, consumers) = silent();
        let isolation = Isolation::ReadCommitted;
        let lost = consumers.place(("a", 0), isolation, Pace::Prompt).unwrap();
        let still_there = consumers.place(("a", 1), isolation, Pace::Prompt).unwrap();
        let from = Arc::clone(&lost.consumer);
        assert!(Arc::ptr_eq(&from, &still_there.consumer));
        let found = consumers.place_elsewhere(("a", 0), isolation, Some(&from)).unwrap();
        assert!(!Arc::ptr_eq(&from, &found.consumer) && from.is_given_up() && !found.consumer.is_given_up());
        let next = consumers.place(("b", 0), isolation, Pace::Prompt).unwrap();
        assert!(Arc::ptr_eq(&next.consumer, &found.consumer));
        drop((lost, still_there));
        assert_eq!(Arc::strong_count(&from), 1);
    }
}
