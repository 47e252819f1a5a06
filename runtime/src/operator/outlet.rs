//! Where an operator's emissions go: the inboxes of the operators behind it, and the sinks.
//!
//! Owns both, and the bad records. An answer is checked against all places it would reach before any
//! of it is taken, so that a record's effects are all or none.

use super::dead_letter::BadRecords;
use super::flow::{Flow, Keys, Lineage};
use super::sink::{Refused, Sink};
use crate::codec::Partitioner;
use crate::model::{EventTime, Headers};

/// One place that an output leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Sink(usize),
    Operator { operator: usize, input: u8 },
}

/// What a task's keys have in common; a record whose key is not among them needs a repartition.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub task: u32,
    pub parallelism: u32,
    /// By which keys come to tasks.
    pub partitioner: Partitioner,
}

impl Share {
    pub fn owns(self, key: &[u8]) -> bool {
        self.parallelism <= 1 || self.partitioner.hash(key).is_some_and(|hash| hash % self.parallelism == self.task)
    }
}

pub struct Outlet {
    /// One per operator: what waits for it.
    pub inboxes: Vec<Flow>,
    pub sinks: Vec<Sink>,
    pub bad: BadRecords,
    /// Processing time of the batch, for topics that bound timestamps by it.
    pub now_ms: i64,
    share: Share,
    /// Per operator whether it is keyed.
    keyed: Vec<bool>,
}

/// A record on its way out, borrowed from the answer or from its origin.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub keys: Keys<'a>,
    pub value: Option<&'a [u8]>,
    pub headers_of: (&'a Headers, usize),
    pub header_bytes: usize,
    pub event_time: EventTime,
    pub partition: i32,
    pub lineage: Lineage,
}

impl Outlet {
    pub fn new(sinks: Vec<Sink>, bad: BadRecords, share: Share, keyed: Vec<bool>) -> Self {
        let inboxes = keyed.iter().map(|_| Flow::default()).collect();
        Self { inboxes, sinks, bad, now_ms: 0, share, keyed }
    }

    /// Whether every place on `routes` takes the record.
    ///
    /// # Errors
    /// The code and the sentence of the first that does not.
    pub fn check(&self, routes: &[Route], record: &Outgoing<'_>) -> Result<(), (&'static str, String)> {
        for route in routes {
            match *route {
                Route::Sink(sink) => self.sinks[sink]
                    .check(
                        record.keys.record,
                        record.value,
                        record.header_bytes,
                        record.event_time,
                        record.partition,
                        self.now_ms,
                    )
                    .map_err(|Refused(message)| ("output-refused", message))?,
                Route::Operator { operator, .. } if self.keyed[operator] => self.check_key(record)?,
                Route::Operator { .. } => {}
            }
        }
        Ok(())
    }

    fn check_key(&self, record: &Outgoing<'_>) -> Result<(), (&'static str, String)> {
        match record.keys.operator {
            None => Err(("missing-key", "a record for a keyed operator has no key".to_owned())),
            Some(key) if !self.share.owns(key) => Err((
                "foreign-key",
                format!(
                    "key {:?} belongs to another task: a new key needs a repartition before a keyed operator",
                    String::from_utf8_lossy(&key[..key.len().min(64)])
                ),
            )),
            Some(_) => Ok(()),
        }
    }

    pub fn emit(&mut self, routes: &[Route], record: &Outgoing<'_>) {
        for route in routes {
            match *route {
                Route::Sink(sink) => {
                    let spread = (record.lineage.offset as u64).wrapping_add(record.lineage.partition as u64);
                    self.sinks[sink].push(
                        record.keys.record,
                        record.value,
                        record.headers_of,
                        record.event_time,
                        record.partition,
                        spread,
                    );
                }
                Route::Operator { operator, input } => self.inboxes[operator].push(
                    record.keys,
                    record.value,
                    record.event_time,
                    record.headers_of,
                    input,
                    record.lineage,
                ),
            }
        }
    }

    /// Nothing waits for the writer.
    pub fn is_empty(&self) -> bool {
        self.bad.is_empty() && self.sinks.iter().all(Sink::is_empty)
    }

    /// Forgets everything that waits: it has never been.
    pub fn clear(&mut self) {
        self.inboxes.iter_mut().for_each(Flow::clear);
        self.sinks.iter_mut().for_each(Sink::clear);
        self.bad.take_back();
    }
}
