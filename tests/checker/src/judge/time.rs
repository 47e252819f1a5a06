//! The rules of event time: watermarks that never go back (but for so many resets as were made) nor run ahead, and timers
//! that fire once, in time and in order.
//!
//! Works on one partition of the output at a time: all its keys belong to one task, so its order is the task's. The guest
//! sets for every record a timer at the next multiple of `tick_every` behind the record's time; equal timers of a key
//! are one. Outputs tell the watermark that their call saw: the one before their batch, also for timers, which fire
//! when the watermark moves on behind the batch.

use std::collections::{BTreeMap, HashSet};

use super::{Judge, Kind, output_at};
use crate::input::{BEFORE_ALL_MS, Entry, Guest, KeyId};
use crate::record::Record;

const NS_PER_MS: i64 = 1_000_000;

/// A fired timer, as its output tells.
pub(super) struct Tick {
    pub time: i64,
    pub count: u64,
    pub sum: i64,
    pub watermark: i64,
}

/// How far event time has come in one partition of the output.
#[derive(Debug, Default)]
pub(super) struct Clock {
    watermark: Option<i64>,
    /// Timers set and not fired, by time: the watermark under which they were set.
    pending: BTreeMap<(i64, KeyId), i64>,
    fired: HashSet<(i64, KeyId)>,
    /// Timers that event time passed: the offset of the output that shows it. Late if they fire after all, else lost.
    overtaken: BTreeMap<(i64, KeyId), i64>,
    /// Ticks since the last count; what allows them is known when the next count says how far the task had read.
    ticks: Vec<(i64, i64, i64)>,
    /// Of these, those that fired before the watermark last went back.
    ticks_before_reset: usize,
    /// How often it has gone back.
    resets: u32,
}

impl Judge<'_> {
    /// A count saw `watermark`, and set the timer of its record.
    pub(super) fn count_in_time(&mut self, record: &Record, id: KeyId, entry: &Entry, watermark: i64) {
        let at = output_at(record);
        self.settle_ticks(record.partition, entry.offset);
        if let Some(allowed) = self.allowed(entry.newest_before_ms).filter(|allowed| watermark > *allowed) {
            let tell = || {
                format!("{at} (input offset {}) saw watermark {watermark}, the input allows {allowed}", entry.offset)
            };
            self.verdict.found(Kind::WatermarkAhead, tell);
        }
        self.watermark_in_order(record, watermark);
        let every = self.settings.tick_every_ms.saturating_mul(NS_PER_MS);
        let Some(clock) = self.clocks.get_mut(record.partition as usize) else { return };
        // What was set under this very watermark may have been set in this batch: it fires behind it.
        let passed = clock.pending.range(..=(watermark, KeyId::MAX)).filter(|(_, set_at)| **set_at != watermark);
        for timer in passed.map(|(timer, _)| *timer).collect::<Vec<_>>() {
            clock.pending.remove(&timer);
            clock.overtaken.insert(timer, record.offset);
        }
        if every > 0 {
            let time = entry.time_ms.saturating_mul(NS_PER_MS);
            let tick = time.div_euclid(every).saturating_add(1).saturating_mul(every);
            clock.pending.entry((tick, id)).or_insert(watermark);
        }
    }

    pub(super) fn tick(&mut self, record: &Record, id: KeyId, tick: &Tick) {
        self.verdict.ticks += 1;
        let at = output_at(record);
        self.watermark_in_order(record, tick.watermark);
        let (inputs, Some(clock)) = (self.inputs, self.clocks.get_mut(record.partition as usize)) else { return };
        let timer = (tick.time, id);
        let name = || format!("timer {} of key {}", tick.time, inputs.key_name(id));
        if let Some((before, ..)) =
            clock.ticks[clock.ticks_before_reset..].last().filter(|(before, ..)| *before > tick.time)
        {
            let tell = || format!("{at}: {} fired behind timer {before}", name());
            self.verdict.found(Kind::TimerOutOfOrder, tell);
        }
        clock.ticks.push((tick.time, tick.watermark, record.offset));
        let overtaken = clock.overtaken.remove(&timer);
        let was_set = clock.pending.remove(&timer).is_some() || overtaken.is_some();
        let is_again = !clock.fired.insert(timer);
        if let Some(by) = overtaken {
            let tell = || {
                format!(
                    "{at}: {} fired behind output {}@{by}, which saw event time beyond it",
                    name(),
                    record.partition
                )
            };
            self.verdict.found(Kind::TimerOvertaken, tell);
        }
        if !was_set && is_again {
            self.verdict.found(Kind::TimerDoubled, || format!("{at}: {} fired again", name()));
        } else if !was_set {
            self.verdict.found(Kind::TimerUnset, || format!("{at}: no record before had set {}", name()));
        }
        let progress = &self.keys[id as usize];
        if (tick.count, tick.sum) != (progress.count, progress.sum) {
            let (count, sum) = (progress.count, progress.sum);
            let tell = || {
                format!(
                    "{at}: {} saw count {} and sum {}, the key's last output tells {count} and {sum}",
                    name(),
                    tick.count,
                    tick.sum
                )
            };
            self.verdict.found(Kind::TimerWrongState, tell);
        }
    }

    /// Timers that must have fired when all input is processed, and have not.
    pub(super) fn timers_awaited(&self) -> u64 {
        let due = |partition: i32, clock: &Clock| {
            clock.pending.range(..=(self.reached(partition), KeyId::MAX)).count() + clock.overtaken.len()
        };
        self.clocks.iter().zip(0..).map(|(clock, partition)| due(partition, clock) as u64).sum()
    }

    /// The end of the log.
    pub(super) fn finish_clocks(&mut self) {
        for partition in 0..self.clocks.len() as i32 {
            self.settle_ticks(partition, i64::MAX);
            let reached = self.reached(partition);
            let inputs = self.inputs;
            let Clock { pending, overtaken, .. } = &self.clocks[partition as usize];
            for (time, id) in overtaken.keys().chain(pending.keys()) {
                if *time > reached && !overtaken.contains_key(&(*time, *id)) {
                    self.verdict.timers_open += 1;
                    continue;
                }
                let tell = || {
                    let key = inputs.key_name(*id);
                    format!(
                        "partition {partition}: timer {time} of key {key} did not fire, event time reached {reached}"
                    )
                };
                self.verdict.found(Kind::TimerLost, tell);
            }
        }
    }

    /// Ticks before a count are allowed by what lay before that count's input, as a task reads.
    fn settle_ticks(&mut self, partition: i32, next_offset: i64) {
        let Some(clock) = self.clocks.get_mut(partition as usize) else { return };
        let ticks = std::mem::take(&mut clock.ticks);
        clock.ticks_before_reset = 0;
        let newest =
            self.inputs.partitions.get(partition as usize).map_or(BEFORE_ALL_MS, |p| p.newest_below(next_offset));
        let Some(allowed) = self.allowed(newest) else { return };
        for (time, watermark, offset) in ticks {
            let at = || format!("output {partition}@{offset}");
            if time > allowed {
                let tell = || format!("{}: timer {time} fired, the input allows watermark {allowed}", at());
                self.verdict.found(Kind::TimerEarly, tell);
            }
            if watermark > allowed {
                let tell = || format!("{} saw watermark {watermark}, the input allows {allowed}", at());
                self.verdict.found(Kind::WatermarkAhead, tell);
            }
        }
    }

    fn watermark_in_order(&mut self, record: &Record, watermark: i64) {
        let Some(clock) = self.clocks.get_mut(record.partition as usize) else { return };
        if let Some(before) = clock.watermark.filter(|before| *before > watermark) {
            if clock.resets < self.settings.time_resets {
                clock.resets += 1;
                clock.ticks_before_reset = clock.ticks.len();
                clock.watermark = Some(watermark);
                return;
            }
            let at = output_at(record);
            let tell = || format!("{at} saw watermark {watermark}, an output before it saw {before}");
            self.verdict.found(Kind::WatermarkBack, tell);
        }
        clock.watermark = clock.watermark.max(Some(watermark));
    }

    /// The highest watermark when the newest event time of the partition is `newest_ms`; `None` where that is no bound.
    fn allowed(&self, newest_ms: i64) -> Option<i64> {
        (!self.settings.idle).then(|| self.watermark_after(newest_ms))
    }

    fn watermark_after(&self, newest_ms: i64) -> i64 {
        if newest_ms == BEFORE_ALL_MS {
            return i64::MIN;
        }
        newest_ms.saturating_sub(self.settings.out_of_orderness_ms).saturating_mul(NS_PER_MS).saturating_sub(1)
    }

    /// How far event time has come for sure in a partition's task, once all input is processed: the minimum over its
    /// input partitions, or over all where the number of tasks is not known. Where event time was taken back, what came
    /// before that says nothing of it, and from outside nobody knows when it was.
    fn reached(&self, partition: i32) -> i64 {
        if self.inputs.guest == Guest::Counter || self.settings.time_resets > 0 {
            return i64::MIN;
        }
        let tasks = self.settings.parallelism.unwrap_or(1).max(1);
        let of_task = self.inputs.partitions.iter().zip(0..).filter(|(_, other)| (other - partition) % tasks == 0);
        of_task.map(|(input, _)| self.watermark_after(input.newest_ms)).min().unwrap_or(i64::MIN)
    }
}
