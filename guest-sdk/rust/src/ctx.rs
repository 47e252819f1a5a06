//! What a transform can do for the record or timer at hand.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

use crate::columns::Moment;
use crate::effects::{Effects, Header, Stated};
use crate::host::{self, Level};
use crate::record::Origins;
use crate::{Metric, Output, Refuse, Timer, json};

/// Emissions, timers, logs and metrics of one record or timer. Dropped whole when it is refused, but for log lines.
pub struct Ctx<'a> {
    pub(crate) origins: Origins<'a>,
    pub(crate) index: usize,
    pub(crate) slot: Option<usize>,
    pub(crate) moment: Moment,
    pub(crate) effects: &'a mut Effects,
    /// Why the record must be refused though `process` returned well.
    pub(crate) spoilt: RefCell<Option<Refuse>>,
}

impl Ctx<'_> {
    /// Emits a value as JSON, under the key and event time of the record.
    #[inline]
    pub fn emit(&mut self, output: Output, value: &(impl Serialize + ?Sized)) {
        self.emission(output).json(value);
    }

    /// Emits a value as it is.
    #[inline]
    pub fn emit_bytes(&mut self, output: Output, value: &[u8]) {
        self.emission(output).bytes(Some(value));
    }

    /// Passes the record on, its value not copied as long as the whole call only passes on.
    #[inline]
    pub fn pass(&mut self, output: Output) {
        self.emission(output).pass();
    }

    /// An emission that says more of itself than its value.
    #[inline]
    pub fn emission(&mut self, output: Output) -> Emit<'_> {
        let Ctx { origins, index, effects, spoilt, .. } = self;
        Emit { origins: *origins, index: *index, output, stated: Stated::default(), effects, spoilt }
    }

    /// Counts the record as left out on purpose.
    pub fn filtered(&mut self) {
        self.effects.filtered += 1;
    }

    /// Sets a timer for the key of the record. Set twice for one time, it fires once.
    #[inline]
    pub fn set_timer(&mut self, timer: Timer, time: i64) {
        self.timer(timer, time, true);
    }

    #[inline]
    pub fn unset_timer(&mut self, timer: Timer, time: i64) {
        self.timer(timer, time, false);
    }

    fn timer(&mut self, timer: Timer, time: i64, set: bool) {
        match self.slot {
            Some(slot) => self.effects.timer(timer.0, slot, time, set),
            None => self.spoil(Refuse::NO_KEY, "a timer belongs to a key, and this record has none"),
        }
    }

    /// How far event time had come before this call.
    pub fn watermark(&self) -> i64 {
        self.moment.watermark
    }

    /// One value per call; `None` unless declared as a need and granted.
    pub fn processing_time(&self) -> Option<i64> {
        (self.moment.now != i64::MIN).then_some(self.moment.now)
    }

    /// A line in the job's log, with the record's coordinates. Built only where it is heard.
    pub fn log(&self, level: Level, message: fmt::Arguments<'_>) {
        if level >= host::log_level() {
            host::log(level, Some(self.index as u32), &message.to_string());
        }
    }

    /// Adds to, sets or observes a metric, by its kind.
    pub fn measure(&mut self, metric: Metric, amount: f64) {
        self.effects.metric_ids.push(metric.0);
        self.effects.metric_amounts.push(amount);
    }

    #[cold]
    pub(crate) fn spoil(&self, code: &'static str, message: impl fmt::Display) {
        self.spoilt.borrow_mut().get_or_insert_with(|| Refuse::new(code, message));
    }
}

/// One record going out: what it says of itself, then its value.
#[must_use = "ends with `json`, `bytes` or `pass`"]
pub struct Emit<'e> {
    origins: Origins<'e>,
    index: usize,
    output: Output,
    stated: Stated<'e>,
    effects: &'e mut Effects,
    spoilt: &'e RefCell<Option<Refuse>>,
}

impl<'e> Emit<'e> {
    /// Another key than the record's; `None` = no key.
    pub fn key(mut self, key: Option<&'e [u8]>) -> Self {
        self.stated.key = Some(key);
        self
    }

    /// Another event time than the record's.
    pub fn event_time(mut self, time: i64) -> Self {
        self.stated.event_time = Some(time);
        self
    }

    /// These headers instead of the record's. Other emissions of the call then carry the record's headers only if the
    /// module [needs](crate::Module::needs_headers) them.
    pub fn headers(mut self, headers: &'e [Header<'e>]) -> Self {
        self.stated.headers = Some(headers);
        self
    }

    /// A partition, instead of the one of the key. Refused by the host on outputs that feed a keyed operator.
    pub fn partition(mut self, partition: i32) -> Self {
        self.stated.partition = Some(partition);
        self
    }

    /// The value as JSON. One that cannot be written refuses the record as [`Refuse::BAD_OUTPUT`].
    #[inline]
    pub fn json(self, value: &(impl Serialize + ?Sized)) {
        self.effects.scratch.clear();
        if let Err(error) = json::write(value, &mut self.effects.scratch) {
            self.spoilt.borrow_mut().get_or_insert_with(|| Refuse::new(Refuse::BAD_OUTPUT, error));
        }
        self.effects.value_of_scratch(self.origins);
        self.effects.emit(self.origins, self.index, self.output, &self.stated);
    }

    /// The value as it is; `None` = a tombstone.
    #[inline]
    pub fn bytes(self, value: Option<&[u8]>) {
        self.effects.value(self.origins).push(value);
        self.effects.emit(self.origins, self.index, self.output, &self.stated);
    }

    /// The value of the record. A timer has none: refused as [`Refuse::BAD_OUTPUT`].
    #[inline]
    pub fn pass(self) {
        let value = match self.origins {
            Origins::Records(_) => self.origins.value(self.index),
            Origins::Timers(_) => {
                let refuse = || Refuse::new(Refuse::BAD_OUTPUT, "a timer has no value to pass on");
                self.spoilt.borrow_mut().get_or_insert_with(refuse);
                return;
            }
        };
        if let Some(values) = &mut self.effects.emitted.values {
            values.push(value);
        }
        self.effects.emit(self.origins, self.index, self.output, &self.stated);
    }
}
