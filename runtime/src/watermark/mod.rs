//! Watermarks: how far event time has come in one task.
//!
//! Owns one generator per input partition and the minimum over the active ones. Never moves
//! backwards. Never reads a clock: the caller says how much time has passed, to notice idle partitions.
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
    /// When it last brought a record, or when the task last had reason to wait for it.
    active: Option<Duration>,
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
        let generators = inputs.into_iter().map(|settings| Generator { settings, mark: fresh, active: None });
        Self { generators: generators.collect(), reached: BEFORE_ALL_TIME }
    }

    /// Puts an input where a header says it stood.
    pub fn restore(&mut self, input: usize, watermark: EventTime, idle: bool) {
        self.generators[input].mark = Mark { watermark, idle };
    }

    /// A batch of `input` with these event times has come, `elapsed` after the start of the process.
    pub fn observe(&mut self, input: usize, event_times: &[EventTime], elapsed: Duration) {
        let generator = &mut self.generators[input];
        generator.active = Some(elapsed);
        generator.mark.idle = false;
        if let Some(&newest) = event_times.iter().max() {
            let bound = i64::try_from(generator.settings.out_of_orderness.as_nanos()).unwrap_or(i64::MAX);
            let watermark = newest.saturating_sub(bound).saturating_sub(1);
            generator.mark.watermark = generator.mark.watermark.max(watermark);
        }
    }

    /// How far event time has come. `caught_up` says that the reader had nothing more: only then may a
    /// silent partition be called idle, for under backpressure every partition is silent.
    pub fn advance(&mut self, elapsed: Duration, caught_up: bool) -> EventTime {
        for generator in &mut self.generators {
            generator.notice_idleness(elapsed, caught_up);
        }
        let active = self.generators.iter().filter(|generator| !generator.mark.idle);
        if let Some(minimum) = active.map(|generator| generator.mark.watermark).min() {
            self.reached = self.reached.max(minimum);
        }
        self.reached
    }

    /// For the header, in the order of the inputs.
    pub fn snapshot(&self) -> impl Iterator<Item = Mark> {
        self.generators.iter().map(|generator| generator.mark)
    }
}

impl Generator {
    fn notice_idleness(&mut self, elapsed: Duration, caught_up: bool) {
        let since = *self.active.get_or_insert(elapsed);
        if let Some(idle_after) = self.settings.idle_after
            && caught_up
            && elapsed.saturating_sub(since) >= idle_after
        {
            self.mark.idle = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_secs(5);

    fn two_inputs() -> TaskWatermark {
        let settings = WatermarkSettings { out_of_orderness: Duration::from_nanos(10), idle_after: Some(IDLE) };
        TaskWatermark::new([settings.clone(), settings])
    }

    #[test]
    fn the_slowest_partition_decides() {
        let mut time = two_inputs();
        time.observe(0, &[100, 90], Duration::ZERO);
        assert_eq!(time.advance(Duration::ZERO, false), BEFORE_ALL_TIME);
        time.observe(1, &[50], Duration::ZERO);
        assert_eq!(time.advance(Duration::ZERO, false), 39);
        time.observe(1, &[200], Duration::ZERO);
        assert_eq!(time.advance(Duration::ZERO, false), 89);
    }

    #[test]
    fn an_idle_partition_holds_nothing_back_and_comes_back_behind_the_others() {
        let mut time = two_inputs();
        time.observe(0, &[100], Duration::ZERO);
        time.advance(Duration::ZERO, true);
        time.observe(0, &[110], IDLE);
        assert_eq!(time.advance(IDLE, true), 99);
        time.observe(1, &[20], IDLE);
        assert_eq!(time.advance(IDLE, true), 99, "it never goes back");
        time.observe(1, &[300], IDLE);
        time.observe(0, &[300], IDLE);
        assert_eq!(time.advance(IDLE, true), 289);
    }

    #[test]
    fn backpressure_is_not_idleness_and_all_idle_holds_still() {
        let mut time = two_inputs();
        time.observe(0, &[100], Duration::ZERO);
        time.advance(Duration::ZERO, false);
        assert_eq!(time.advance(IDLE * 2, false), BEFORE_ALL_TIME);
        assert_eq!(time.advance(IDLE * 2, true), BEFORE_ALL_TIME, "both are idle");
    }

    #[test]
    fn what_a_header_kept_is_where_it_goes_on() {
        let mut time = two_inputs();
        time.observe(0, &[100], Duration::ZERO);
        time.observe(1, &[70], Duration::ZERO);
        time.advance(Duration::ZERO, false);
        let mut restored = two_inputs();
        time.snapshot().enumerate().for_each(|(i, mark)| restored.restore(i, mark.watermark, mark.idle));
        assert_eq!(restored.advance(Duration::ZERO, false), 59);
    }

    proptest! {
        #[test]
        fn it_never_goes_back(steps in proptest::collection::vec((0..2_usize, any::<i64>(), 0..10_u64, any::<bool>()), 1..100)) {
            let mut time = two_inputs();
            let (mut elapsed, mut last) = (Duration::ZERO, BEFORE_ALL_TIME);
            for (input, event_time, seconds, caught_up) in steps {
                elapsed += Duration::from_secs(seconds);
                time.observe(input, &[event_time], elapsed);
                let reached = time.advance(elapsed, caught_up);
                prop_assert!(reached >= last);
                last = reached;
            }
        }
    }
}
