//! librdkafka's handles, with an owner each: what the other files of this folder build on.
//!
//! Owns creation and destruction, and what callbacks report about a handle. The calls that cost most on a record's
//! way (reading and writing in batches, ending a transaction) go to librdkafka directly: its safe wrapper reads one
//! message a call, and waits 100 ms in every commit (`docs/adr/0011-librdkafka-called-directly.md`).
//! Every `unsafe` of the Kafka log is in this file, `reader`, `consumers`, `groups`, `writer` and `admin`, next to the
//! reason why it is sound.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
pub use sys::rd_kafka_resp_err_t as Code;

use crate::log::Error;

/// Destructions that hang. Past this many the process is not healthy: it ends, and nothing is lost by that.
const HANGING_MAX: usize = 64;
/// A destruction that takes longer than this hangs. A healthy one takes milliseconds; on a busy machine, or where many
/// go at once, seconds.
const HANGS_AFTER: Duration = Duration::from_secs(120);
const ERROR_BYTES: usize = 512;

/// When each destruction that still goes on began.
static DYING: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

pub type OnDelivery = fn(&Events, &Delivery<'_>);

/// A delivery report: what has become of one message. Only librdkafka's callback makes one, of a living message.
pub struct Delivery<'a>(&'a sys::rd_kafka_message_t);

impl Delivery<'_> {
    pub fn outcome(&self) -> Code {
        self.0.err
    }

    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Which of the producer's topic handles it was for, as a number.
    pub fn handle(&self) -> usize {
        self.0.rkt as usize
    }

    pub fn topic(&self) -> String {
        if self.0.rkt.is_null() {
            return String::new();
        }
        // SAFETY: the topic handle of a living message lives.
        unsafe { text_of(sys::rd_kafka_topic_name(self.0.rkt)) }
    }
}

/// What librdkafka's threads tell about a handle. Outlives it.
pub struct Events {
    /// Connections that were closed, by either side or after a request timed out.
    pub disconnects: AtomicU64,
    /// The newest trouble with brokers, until something works again.
    trouble: Mutex<Option<String>>,
    /// A broker has refused who or what connects to it.
    refused: Mutex<Option<(Code, String)>>,
    /// The id of each topic as this handle last learnt it, as librdkafka prints it.
    topic_ids: Mutex<HashMap<String, String>>,
    /// Raised at each change of `topic_ids`.
    pub topic_changes: AtomicU64,
    on_delivery: Option<OnDelivery>,
    pub deliveries: Mutex<Deliveries>,
}

/// What has become of the messages of the open epoch.
#[derive(Default)]
pub struct Deliveries {
    pub outstanding: u64,
    pub failed: Option<(Code, String, i32)>,
    /// The first offset per topic handle and partition.
    pub first: Vec<(usize, i32, i64)>,
}

impl Events {
    fn new(on_delivery: Option<OnDelivery>) -> Self {
        Self {
            disconnects: AtomicU64::new(0),
            trouble: Mutex::default(),
            refused: Mutex::default(),
            topic_ids: Mutex::default(),
            topic_changes: AtomicU64::new(0),
            on_delivery,
            deliveries: Mutex::default(),
        }
    }

    pub fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a call was answered, with the trouble that was heard meanwhile: it is the reason of a timeout.
    pub fn explain(&self, found: String) -> String {
        match self.trouble() {
            Some(trouble) => format!("{found} ({trouble})"),
            None => found,
        }
    }

    pub fn set_trouble(&self, found: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    pub fn refused(&self) -> Option<(Code, String)> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The topic's id as this handle last learnt it.
    pub fn topic_id(&self, topic: &str) -> Option<String> {
        self.topic_ids.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// librdkafka goes on reading at the same offset where a topic is made again, and tells it in a debug line only.
    fn hear(&self, line: &str) {
        if let Some((topic, id)) = changed_topic(line) {
            self.topic_ids.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), id.to_owned());
            self.topic_changes.fetch_add(1, Ordering::Release);
        }
    }
}

/// Topic and new id of "… Topic T changed id from A to B".
fn changed_topic(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("Topic ")?;
    let (topic, ids) = rest.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((topic, id.trim()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Consumer,
    Producer,
}

/// A librdkafka handle.
pub struct Client {
    rk: *mut sys::rd_kafka_t,
    pub events: Arc<Events>,
}

// SAFETY: librdkafka's handles may be used from any thread, by several at once.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// # Errors
    /// [`Error::Denied`] where librdkafka does not take a setting.
    pub fn new(role: Role, settings: &[(String, String)], on_delivery: Option<OnDelivery>) -> Result<Self, Error> {
        let events = Arc::new(Events::new(on_delivery));
        // SAFETY: the configuration is ours until `rd_kafka_new` takes it; all pointers given live long enough: the
        // opaque one is a counted reference that the destroying thread gives back.
        unsafe {
            let conf = sys::rd_kafka_conf_new();
            for (name, value) in settings {
                if let Err(error) = set(conf, name, value) {
                    sys::rd_kafka_conf_destroy(conf);
                    return Err(error);
                }
            }
            sys::rd_kafka_conf_set_opaque(conf, Arc::into_raw(Arc::clone(&events)).cast_mut().cast());
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            sys::rd_kafka_conf_set_closesocket_cb(conf, Some(on_close_socket));
            if on_delivery.is_some() {
                sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivered));
            }
            let mut text = [0 as c_char; ERROR_BYTES];
            let kind = match role {
                Role::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                Role::Producer => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            };
            let rk = sys::rd_kafka_new(kind, conf, text.as_mut_ptr(), text.len());
            if rk.is_null() {
                sys::rd_kafka_conf_destroy(conf);
                drop(Arc::from_raw(Arc::as_ptr(&events)));
                return Err(bad_setting("start a Kafka client".to_owned(), text_of(text.as_ptr())));
            }
            Ok(Self { rk, events })
        }
    }

    pub fn rk(&self) -> *mut sys::rd_kafka_t {
        self.rk
    }

    /// Runs the callbacks that wait, for up to `wait` until there is one.
    pub fn serve(&self, wait: Duration) {
        // SAFETY: the handle lives as long as `self`.
        unsafe { sys::rd_kafka_poll(self.rk, millis(wait)) };
    }

    /// Hears what a consumer has to say about itself; records never come this way.
    pub fn hear(&self, mut each: impl FnMut(Code)) {
        loop {
            // SAFETY: the client lives; each message is destroyed once, after its error was copied.
            unsafe {
                let message = sys::rd_kafka_consumer_poll(self.rk, 0);
                if message.is_null() {
                    return;
                }
                tracing::debug!(target: "librdkafka", "{}", describe((*message).err));
                each((*message).err);
                sys::rd_kafka_message_destroy(message);
            }
        }
    }

    /// Has the client ask who leads a topic's partitions, and keep the answer in mind. By itself it does so once a
    /// second for what it reads and writes, and for all else only every few minutes: also where it heard last that
    /// nobody leads.
    ///
    /// # Errors
    /// There was no answer, or what the cluster said of the topic.
    pub fn look_up(&self, topic: &str, patience: Duration) -> Result<(), Code> {
        let name = cstring(topic).map_err(|_| Code::RD_KAFKA_RESP_ERR__INVALID_ARG)?;
        // SAFETY: living client; the topic's handle is given back once, after the question.
        let said = unsafe {
            let handle = sys::rd_kafka_topic_new(self.rk, name.as_ptr(), ptr::null_mut());
            let said = self.metadata(false, handle, patience, |answer| what_is_said(answer.topics, answer.topic_cnt));
            if !handle.is_null() {
                sys::rd_kafka_topic_destroy(handle);
            }
            said
        };
        match said? {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(code),
        }
    }

    /// How many brokers the cluster names at the moment.
    ///
    /// # Errors
    /// There was no answer.
    pub fn brokers(&self, patience: Duration) -> Result<usize, Code> {
        // SAFETY: no topic is named.
        let count = unsafe { self.metadata(false, ptr::null_mut(), patience, |answer| answer.broker_cnt) };
        count.map(|count| usize::try_from(count).unwrap_or(0))
    }

    /// The names of all topics that have partitions.
    ///
    /// # Errors
    /// There was no answer.
    pub fn topic_names(&self, patience: Duration) -> Result<Vec<String>, Code> {
        // SAFETY: no topic is named; the topics of the answer are as many as it says, and live as long as it.
        unsafe {
            self.metadata(true, ptr::null_mut(), patience, |answer| {
                let topics = slice(answer.topics, answer.topic_cnt).iter().filter(|topic| topic.partition_cnt > 0);
                topics.map(|topic| text_of(topic.topic)).collect()
            })
        }
    }

    /// Asks for metadata, of all topics or of one, and gives the answer back after it was read.
    ///
    /// # Safety
    /// `topic` is null or a living handle.
    unsafe fn metadata<T>(
        &self,
        all_topics: bool,
        topic: *mut sys::rd_kafka_topic_t,
        patience: Duration,
        read: impl FnOnce(&sys::rd_kafka_metadata) -> T,
    ) -> Result<T, Code> {
        let mut answer = ptr::null();
        // SAFETY: living client; the answer is given back once, after it was read.
        unsafe {
            match sys::rd_kafka_metadata(self.rk, all_topics.into(), topic, &raw mut answer, millis(patience)) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let found = read(&*answer);
                    sys::rd_kafka_metadata_destroy(answer);
                    Ok(found)
                }
                code => Err(code),
            }
        }
    }

    /// Has a producer keep to itself what it is given for these partitions, or a consumer read nothing of them.
    ///
    /// # Errors
    /// It does not know one of them.
    #[cfg(test)]
    pub fn hold_back(&self, partitions: &PartitionList) -> Result<(), Code> {
        // SAFETY: client and list live through the call, which writes an error for each partition.
        unsafe {
            let code = sys::rd_kafka_pause_partitions(self.rk, partitions.as_ptr());
            let of_each = elements(partitions.as_ptr()).iter().map(|element| element.err);
            let bad = std::iter::once(code).chain(of_each).find(|code| *code != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            bad.map_or(Ok(()), Err)
        }
    }

    /// The error that has ended this handle for good, where there is one.
    pub fn fatal(&self) -> Option<(Code, String)> {
        let mut text = [0 as c_char; ERROR_BYTES];
        // SAFETY: the buffer is as long as said.
        let code = unsafe { sys::rd_kafka_fatal_error(self.rk, text.as_mut_ptr(), text.len()) };
        // SAFETY: librdkafka ends what it writes with a zero.
        (code != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| (code, unsafe { text_of(text.as_ptr()) }))
    }

    /// Destroys the handle and waits for it, but not for ever. True where it is gone.
    pub fn close(self, patience: Duration) -> bool {
        let (sender, done) = std::sync::mpsc::channel();
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used or dropped any more.
        let events = unsafe { ptr::read(&this.events) };
        destroy(this.rk, events, Some(sender));
        done.recv_timeout(patience).is_ok()
    }
}

impl Drop for Client {
    /// Elsewhere, since it may take long: nothing here needs a clean end.
    fn drop(&mut self) {
        destroy(self.rk, Arc::clone(&self.events), None);
    }
}

fn destroy(rk: *mut sys::rd_kafka_t, events: Arc<Events>, done: Option<std::sync::mpsc::Sender<()>>) {
    struct Handle(*mut sys::rd_kafka_t);
    // SAFETY: librdkafka's handles may be destroyed from any thread.
    unsafe impl Send for Handle {}
    let begun = crate::env::instant();
    let hanging = {
        let mut dying = dying();
        dying.push(begun);
        hanging(&dying, begun)
    };
    if hanging >= HANGING_MAX {
        let seconds = HANGS_AFTER.as_secs();
        tracing::error!(
            "{hanging} Kafka clients have been closing for more than {seconds} s: the process ends, to be started again"
        );
        std::process::exit(70);
    }
    let handle = Handle(rk);
    let end = move || {
        let handle = handle;
        // SAFETY: nobody else has the handle any more. The reference that its configuration held is given back
        // after its threads have ended.
        unsafe {
            // A producer must have nothing under way: librdkafka frees the reason of a fatal error first, and once more
            // when another answer brings one (`docs/adr/0011-librdkafka-called-directly.md`). No effect on others.
            sys::rd_kafka_purge(handle.0, sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT);
            sys::rd_kafka_destroy_flags(handle.0, sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
            drop(Arc::from_raw(Arc::as_ptr(&events)));
        }
        has_died(begun);
        if let Some(done) = done {
            let _ = done.send(());
        }
    };
    if let Err(error) = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(end) {
        tracing::warn!("close a Kafka client: no thread for it: {error}; it is left behind");
        // Nobody destroys it: it does not hang.
        has_died(begun);
    }
}

fn dying() -> MutexGuard<'static, Vec<Instant>> {
    DYING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_died(begun: Instant) {
    let mut dying = dying();
    if let Some(at) = dying.iter().position(|other| *other == begun) {
        dying.swap_remove(at);
    }
}

/// Of the destructions that began at these moments, how many hang. However many begin in one moment, none does yet.
fn hanging(begun: &[Instant], now: Instant) -> usize {
    begun.iter().filter(|begun| now.saturating_duration_since(**begun) > HANGS_AFTER).count()
}

/// What a cluster says of the one topic that was asked for: its own error, or that some partition has no leader.
///
/// # Safety
/// `topics` is null or points to `count` living descriptions.
unsafe fn what_is_said(topics: *const sys::rd_kafka_metadata_topic, count: c_int) -> Code {
    // SAFETY: the caller's promise; a topic's partitions live as long as it.
    unsafe {
        let Some(topic) = slice(topics, count).first() else { return Code::RD_KAFKA_RESP_ERR_NO_ERROR };
        if topic.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return topic.err;
        }
        let is_led = slice(topic.partitions, topic.partition_cnt).iter().all(|partition| partition.leader >= 0);
        if is_led { Code::RD_KAFKA_RESP_ERR_NO_ERROR } else { Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE }
    }
}

/// # Safety
/// `first` is null or points to `count` elements that live long enough.
pub unsafe fn slice<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if count > 0 && !first.is_null() => unsafe { std::slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

/// # Safety
/// `conf` is a configuration of ours.
unsafe fn set(conf: *mut sys::rd_kafka_conf_t, name: &str, value: &str) -> Result<(), Error> {
    let (c_name, c_value) = (cstring(name)?, cstring(value)?);
    let mut text = [0 as c_char; ERROR_BYTES];
    // SAFETY: all pointers are to living, zero-ended buffers.
    let result =
        unsafe { sys::rd_kafka_conf_set(conf, c_name.as_ptr(), c_value.as_ptr(), text.as_mut_ptr(), text.len()) };
    if result == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
        return Ok(());
    }
    // SAFETY: librdkafka ends what it writes with a zero. The value is kept out: it may be a secret.
    let found = unsafe { text_of(text.as_ptr()) }.replace(value, "…");
    Err(bad_setting(format!("set Kafka property {name}"), found))
}

fn bad_setting(doing: String, found: String) -> Error {
    Error::Denied { doing, found, remedy: "correct the cluster profile (docs/kafka.md lists what it may set)" }
}

pub fn cstring(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Denied {
        doing: format!("pass {text:?} to Kafka"),
        found: "it has a zero byte in it".to_owned(),
        remedy: "leave it out",
    })
}

/// # Safety
/// `text` is null or ends with a zero.
pub unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

pub fn describe(code: Code) -> String {
    // SAFETY: librdkafka gives a static text for every code.
    unsafe { text_of(sys::rd_kafka_err2str(code)) }
}

pub fn millis(duration: Duration) -> c_int {
    // Anything below a millisecond that is not nothing waits for one: a wait of 0 would be a loop.
    let rounded = duration.as_millis().max(u128::from(!duration.is_zero()));
    c_int::try_from(rounded).unwrap_or(c_int::MAX)
}

/// An error object that a call has returned: taken over, read and freed.
pub struct Failure {
    pub code: Code,
    pub text: String,
}

impl Failure {
    /// `None` where the call succeeded.
    ///
    /// # Safety
    /// `error` is null or an error that librdkafka has just handed to us.
    pub unsafe fn take(error: *mut sys::rd_kafka_error_t) -> Option<Self> {
        if error.is_null() {
            return None;
        }
        // SAFETY: the caller's promise; it is freed once, here.
        unsafe {
            let failure =
                Self { code: sys::rd_kafka_error_code(error), text: text_of(sys::rd_kafka_error_string(error)) };
            sys::rd_kafka_error_destroy(error);
            Some(failure)
        }
    }
}

/// A list of partitions with an offset each.
pub struct PartitionList(*mut sys::rd_kafka_topic_partition_list_t);

impl PartitionList {
    pub fn new() -> Self {
        // SAFETY: no arguments that could be wrong.
        Self(unsafe { sys::rd_kafka_topic_partition_list_new(8) })
    }

    pub fn add(&mut self, topic: &str, partition: i32, offset: i64, leader_epoch: Option<i32>) -> Result<(), Error> {
        let topic = cstring(topic)?;
        // SAFETY: the list is ours and copies the name; the new element lives in the list.
        unsafe {
            let element = sys::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition);
            (*element).offset = offset;
            if let Some(epoch) = leader_epoch {
                sys::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
            }
        }
        Ok(())
    }

    pub fn as_ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

/// # Safety
/// `list` is null or a living list.
pub unsafe fn elements<'a>(list: *const sys::rd_kafka_topic_partition_list_t) -> &'a [sys::rd_kafka_topic_partition_t] {
    // SAFETY: the caller's promise; the list holds `cnt` elements.
    unsafe {
        if list.is_null() || (*list).elems.is_null() {
            return &[];
        }
        std::slice::from_raw_parts((*list).elems, (*list).cnt.max(0) as usize)
    }
}

/// # Safety
/// `opaque` is what `Client::new` has set.
unsafe fn events<'a>(opaque: *mut c_void) -> Option<&'a Events> {
    // SAFETY: the reference is given back only after the handle's threads have ended.
    unsafe { opaque.cast::<Events>().as_ref() }
}

unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: librdkafka passes a living handle and texts that end with a zero.
    let (events, facility, line) = unsafe { (events(sys::rd_kafka_opaque(rk)), text_of(facility), text_of(line)) };
    if let Some(events) = events {
        events.hear(&line);
    }
    match level {
        0..=3 => tracing::warn!(target: "librdkafka", %facility, "{line}"),
        4..=5 => tracing::info!(target: "librdkafka", %facility, "{line}"),
        _ => tracing::trace!(target: "librdkafka", %facility, "{line}"),
    }
}

unsafe extern "C" fn on_error(_: *mut sys::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: as in `on_log`.
    let (events, reason) = unsafe { (events(opaque), text_of(reason)) };
    tracing::debug!(target: "librdkafka", "{reason}");
    if let Some(events) = events {
        let refusal = [Code::RD_KAFKA_RESP_ERR__AUTHENTICATION, Code::RD_KAFKA_RESP_ERR__SSL];
        if let Some(code) = refusal.into_iter().find(|refusal| *refusal as c_int == code) {
            *events.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.clone()));
        }
        events.set_trouble(Some(reason));
    }
}

/// The one sign of a lost connection that librdkafka never leaves out: it reports an error that repeats itself only
/// once, and closes the socket for each, after a request that timed out too.
unsafe extern "C" fn on_close_socket(socket: c_int, opaque: *mut c_void) -> c_int {
    // SAFETY: as in `on_log`.
    if let Some(events) = unsafe { events(opaque) } {
        events.disconnects.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: librdkafka hands over a socket that it has done with.
    unsafe { libc::close(socket) }
}

unsafe extern "C" fn on_delivered(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: librdkafka passes a living message; the rest as in `on_log`.
    unsafe {
        if let (Some(events), Some(message)) = (events(opaque), message.as_ref())
            && let Some(on_delivery) = events.on_delivery
        {
            on_delivery(events, &Delivery(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_topic_is_heard_in_the_line_that_tells_it() {
        let line = "[thrd:main]: Topic a.b changed id from AAAAAAAAAAAAAAAAAAAAAA to u8v4VWGnQzaaaaaaaaaaaa";
        assert_eq!(changed_topic(line), Some(("a.b", "u8v4VWGnQzaaaaaaaaaaaa")));
        assert_eq!(changed_topic("[thrd:main]: Topic a.b [0] Leader 1 Epoch 0"), None);
    }

    #[test]
    fn only_what_takes_long_to_close_counts_as_hanging() {
        let begun = crate::env::instant();
        let all_at_once = vec![begun; 4 * HANGING_MAX];
        assert_eq!(hanging(&all_at_once, begun + HANGS_AFTER), 0);
        let later = begun + HANGS_AFTER + Duration::from_millis(1);
        let two_kinds = [&all_at_once[..], &[later; 100]].concat();
        assert_eq!(hanging(&two_kinds, later), all_at_once.len());
    }

    /// More of them than may hang: before, this ended the process.
    #[test]
    fn many_clients_that_close_in_one_moment_all_go() {
        let settings = [("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())];
        let client = || Client::new(Role::Producer, &settings, None).unwrap();
        let clients: Vec<Client> = (0..2 * HANGING_MAX).map(|_| client()).collect();
        let events: Vec<_> = clients.iter().map(|client| Arc::downgrade(&client.events)).collect();
        drop(clients);
        let since = crate::env::instant();
        while events.iter().any(|events| events.upgrade().is_some()) {
            assert!(since.elapsed() < Duration::from_secs(60), "a client does not go");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_wrong_setting_is_named_without_its_value() {
        let settings = [("bootstrap.servers", "127.0.0.1:1"), ("socket.timeout.ms", "hunter2")];
        let settings: Vec<_> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let refused = Client::new(Role::Producer, &settings, None).map(drop).unwrap_err().to_string();
        assert!(!refused.contains("hunter2"), "{refused}");
        let unknown = [("no.such.thing".to_owned(), "1".to_owned())];
        let refused = Client::new(Role::Producer, &unknown, None).map(drop).unwrap_err().to_string();
        assert!(refused.contains("no.such.thing"), "{refused}");
    }
}
