//! Watermarks: how far event time has come in one task.
//!
//! Owns one generator per input partition and the minimum over the active ones. Never moves
//! backwards, but where it is told to ([`TaskWatermark::take_back`]). Never reads a clock: the caller says how much time has passed, to notice idle partitions.
//! Read [`TaskWatermark::advance`] first.

use std::time::Duration;

use crate::model::{BEFORE_ALL_TIME, EventTime};

/// How event time advances on one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatermarkSettings {
    /// watermark = newest event time − this − 1 ns
    pub out_of_orderness: Duration,
    /// A partition that brought nothing for this long no longer holds back the others. `None` = never.
    pub idle_after: Option<Duration>,
}

/// What a header keeps of one input partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub watermark: EventTime,
    pub idle: bool,
}

/// Bounded out-of-orderness on one partition.
struct Generator {
    settings: WatermarkSettings,
    mark: Mark,
    /// Since when it has brought nothing; unknown until the first record or the first look.
    quiet_since: Option<Duration>,
}

/// The watermark of one task: the minimum over the partitions that are not idle.
pub struct TaskWatermark {
    generators: Vec<Generator>,
    reached: EventTime,
}

impl TaskWatermark {
    /// One input per setting; inputs are counted in this order everywhere.
    pub fn new(inputs: impl IntoIterator<Item = WatermarkSettings>) -> Self {
        let fresh = Mark { watermark: BEFORE_ALL_TIME, idle: false };
        let generators = inputs.into_iter().map(|settings| Generator { settings, mark: fresh, quiet_since: None });
        Self { generators: generators.collect(), reached: BEFORE_ALL_TIME }
    }

    /// Puts an input where a header says it stood.
    pub fn restore(&mut self, input: usize, watermark: EventTime, idle: bool) {
        self.generators[input].mark = Mark { watermark, idle };
    }

    /// Records with these event times were read from `input`, `elapsed` after the start of the process.
    /// Moves nothing yet: a batch is processed under the watermark before it. A batch of which nothing
    /// could be decoded says nothing about time, not even that the input is alive.
    pub fn observe(&mut self, input: usize, event_times: &[EventTime], elapsed: Duration) {
        let Some(&newest) = event_times.iter().max() else { return };
        let generator = &mut self.generators[input];
        let bound = i64::try_from(generator.settings.out_of_orderness.as_nanos()).unwrap_or(i64::MAX);
        let watermark = newest.saturating_sub(bound).saturating_sub(1);
        generator.mark = Mark { watermark: generator.mark.watermark.max(watermark), idle: false };
        generator.quiet_since = Some(elapsed);
    }

    /// How far event time has come. `caught_up(input)` says whether all that the log holds of that
    /// partition was read: only then may a silent one be called idle, for under backpressure every
    /// partition is silent. Asked only of inputs that were silent for long, so it may cost a look at
    /// the log. While all inputs are idle, time stands still.
    pub fn advance(&mut self, elapsed: Duration, mut caught_up: impl FnMut(usize) -> bool) -> EventTime {
        for (input, generator) in self.generators.iter_mut().enumerate() {
            generator.notice_idleness(elapsed, || caught_up(input));
        }
        let active = self.generators.iter().filter(|generator| !generator.mark.idle);
        if let Some(minimum) = active.map(|generator| generator.mark.watermark).min() {
            self.reached = self.reached.max(minimum);
        }
        self.reached
    }

    /// Takes back what goes beyond `to`: each input's time, and how far event time has come. A partition that is idle
    /// stays so. Before all time is as if no record had been seen: time follows the records that come from here on.
    pub fn take_back(&mut self, to: EventTime) {
        for Generator { mark, .. } in &mut self.generators {
            mark.watermark = mark.watermark.min(to);
        }
        self.reached = self.reached.min(to);
    }

    /// The input that has come furthest by itself, idle or not.
    pub fn fastest(&self) -> Option<(usize, EventTime)> {
        let inputs = self.generators.iter().map(|generator| generator.mark.watermark).enumerate();
        inputs.rev().max_by_key(|(_, watermark)| *watermark)
    }

    /// The input that decides how far event time has come, and how far it is by itself; none where all are idle.
    pub fn slowest(&self) -> Option<(usize, EventTime)> {
        let active = self.generators.iter().enumerate().filter(|(_, generator)| !generator.mark.idle);
        active.map(|(input, generator)| (input, generator.mark.watermark)).min_by_key(|(_, watermark)| *watermark)
    }

    /// For the header, in the order of the inputs.
    pub fn snapshot(&self) -> impl Iterator<Item = Mark> {
        self.generators.iter().map(|generator| generator.mark)
    }
}

impl Generator {
    fn notice_idleness(&mut self, elapsed: Duration, caught_up: impl FnOnce() -> bool) {
        let Some(idle_after) = self.settings.idle_after.filter(|_| !self.mark.idle) else { return };
        let quiet_since = *self.quiet_since.get_or_insert(elapsed);
        if elapsed.saturating_sub(quiet_since) < idle_after {
            return;
        }
        if caught_up() {
            self.mark.idle = true;
        } else {
            self.quiet_since = Some(elapsed);
        }
    }
}

#[cfg(test)]
mod tests;
