//! What a guest can reach while it runs: the imports of `host`, and the limits on memory and tables.
//!
//! Owns the data of one instance's store. Every import is bounded in count, bytes and time by
//! itself, for a guest inside a host call meets no epoch check; and none changes anything that an
//! answer depends on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::ResourceLimiter;

use super::EngineSettings;
use super::bindings::host::{Host, Level};
use super::bindings::{description, types};
use super::budget::{CpuBudget, TICK};
use super::contract::LastWords;
use crate::model::text;

/// Longest message kept of a log line, a refusal or last words, bytes.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_024;

/// Core instances, memories and tables of one component: an interpreter brings some ten of each.
const INSTANCES_MAX: usize = 128;
const MEMORIES_MAX: usize = 16;
const TABLES_MAX: usize = 64;

/// The data of one instance's store.
pub(super) struct State {
    pub budget: CpuBudget,
    pub last_words: Option<LastWords>,
    /// A request for memory was refused since the call began.
    pub memory_refused: bool,
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements_max: usize,
    host_calls_left: u32,
    host_calls_max: u32,
    voice: Voice,
    measured: Arc<Measured>,
}

/// Who speaks in a log line, and how much more it may say.
#[derive(Clone)]
pub(super) struct Voice {
    pub module: Arc<str>,
    pub job: Arc<str>,
    pub operator: Arc<str>,
    pub gate: Arc<LogGate>,
}

impl State {
    pub fn new(settings: &EngineSettings, voice: Voice, measured: Arc<Measured>) -> Self {
        Self {
            budget: CpuBudget::new(settings.call_cpu_max),
            last_words: None,
            memory_refused: false,
            memory_bytes: 0,
            memory_bytes_max: settings.memory_bytes_max,
            table_elements_max: settings.table_elements_max,
            host_calls_left: settings.host_calls_max,
            host_calls_max: settings.host_calls_max,
            voice,
            measured,
        }
    }

    pub fn begin_call(&mut self) {
        self.budget.begin_call();
        self.last_words = None;
        self.memory_refused = false;
        self.host_calls_left = self.host_calls_max;
    }

    fn spend_host_call(&mut self) -> wasmtime::Result<()> {
        match self.host_calls_left.checked_sub(1) {
            Some(left) => self.host_calls_left = left,
            None => return Err(TooManyHostCalls { limit: self.host_calls_max }.into()),
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("made more than {limit} host calls in one call")]
pub(super) struct TooManyHostCalls {
    limit: u32,
}

/// What the operating system said no to; the engine passes its words on and keeps the type to itself.
pub(super) fn is_of_system(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("(os error ")
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            self.memory_refused = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    /// The system refused what the limits allowed: the call ends by it, for the guest would take it for a limit.
    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if is_of_system(&error) { Err(error) } else { Ok(()) }
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements_max)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

// Interfaces of types only: nothing to answer.
impl types::Host for State {}
impl description::Host for State {}

impl Host for State {
    fn log(&mut self, level: Level, record_index: Option<u32>, message: String) -> wasmtime::Result<()> {
        self.spend_host_call()?;
        if heard() <= rank(level) && self.voice.gate.admits(&self.voice) {
            self.voice.say(level, record_index, &printable(&message));
        }
        Ok(())
    }

    fn log_level(&mut self) -> wasmtime::Result<Level> {
        self.spend_host_call()?;
        Ok(LEVELS[heard()])
    }

    fn measure(&mut self, ids: Vec<u8>, amounts: Vec<f64>) -> wasmtime::Result<()> {
        self.spend_host_call()?;
        self.measured.take(&ids, &amounts);
        Ok(())
    }

    fn dying(&mut self, record_index: Option<u32>, message: String) -> wasmtime::Result<()> {
        self.spend_host_call()?;
        self.last_words = Some(LastWords { record_index, message: printable(&message) });
        Ok(())
    }
}

const LEVELS: [Level; 5] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];

fn rank(level: Level) -> usize {
    LEVELS.iter().position(|l| *l as u8 == level as u8).unwrap_or(LEVELS.len() - 1)
}

/// Position in `LEVELS` of the lowest level that anyone listens to.
fn heard() -> usize {
    macro_rules! on {
        ($level:ident) => {
            tracing::enabled!(target: "forebay::guest", tracing::Level::$level)
        };
    }
    [on!(TRACE), on!(DEBUG), on!(INFO), on!(WARN)].iter().position(|on| *on).unwrap_or(LEVELS.len() - 1)
}

impl Voice {
    fn say(&self, level: Level, record: Option<u32>, message: &str) {
        let (module, job, operator) = (&*self.module, &*self.job, &*self.operator);
        macro_rules! line {
            ($level:ident) => {
                tracing::event!(target: "forebay::guest", tracing::Level::$level, module, job, operator, record, "{message}")
            };
        }
        match level {
            Level::Trace => line!(TRACE),
            Level::Debug => line!(DEBUG),
            Level::Info => line!(INFO),
            Level::Warn => line!(WARN),
            Level::Error => line!(ERROR),
        }
    }
}

/// Lets so many log lines of one module through a second, and says how many it did not.
pub(super) struct LogGate {
    per_second: u32,
    ticks: Arc<AtomicU64>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    second: u64,
    passed: u32,
    dropped: u64,
}

impl LogGate {
    pub fn new(per_second: u32, ticks: Arc<AtomicU64>) -> Self {
        Self { per_second, ticks, window: Mutex::default() }
    }

    fn admits(&self, voice: &Voice) -> bool {
        let second = self.ticks.load(Ordering::Relaxed) / (1_000 / TICK.as_millis() as u64);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.second != second {
            let dropped = std::mem::replace(&mut *window, Window { second, ..Window::default() }).dropped;
            if dropped > 0 {
                voice.say(Level::Warn, None, &format!("{dropped} log lines were dropped: too many a second"));
            }
        }
        if window.passed >= self.per_second {
            window.dropped += 1;
            return false;
        }
        window.passed += 1;
        true
    }
}

/// What a module measured: per declared metric the sum and count of what it reported and the last
/// of it. Carries no promise: a call that is thrown away and run again has been measured twice.
#[derive(Default)]
pub(super) struct Measured {
    metrics: Mutex<Vec<Measurement>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measurement {
    pub count: u64,
    pub sum: f64,
    pub last: f64,
}

impl Measured {
    pub fn of(metrics: usize) -> Self {
        Self { metrics: Mutex::new(vec![Measurement::default(); metrics]) }
    }

    pub fn read(&self) -> Vec<Measurement> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Unknown metrics and amounts that are no finite numbers are left out.
    fn take(&self, ids: &[u8], amounts: &[f64]) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, amount) in ids.iter().zip(amounts).filter(|(_, amount)| amount.is_finite()) {
            if let Some(metric) = metrics.get_mut(usize::from(*id)) {
                metric.count += 1;
                metric.sum += amount;
                metric.last = *amount;
            }
        }
    }
}

/// A guest's text as it may appear in logs, errors and dead letters: cut, control characters escaped.
pub(super) fn printable(message: &str) -> String {
    let cut = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    let mut out = text::printable(&message[..cut]).into_owned();
    if cut < message.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_and_cannot_draw_on_a_terminal() {
        assert_eq!(printable("price \u{1b}[31mred\nfake line\u{202e}"), "price \\u{1b}[31mred\\nfake line\\u{202e}");
        let long = "é".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(printable(&long), "é".repeat(MESSAGE_BYTES_MAX / 2) + "…");
    }

    #[test]
    fn log_lines_are_limited_by_the_second() {
        let ticks = Arc::new(AtomicU64::new(0));
        let gate = Arc::new(LogGate::new(2, ticks.clone()));
        let voice = Voice { module: "m".into(), job: "j".into(), operator: "o".into(), gate: gate.clone() };
        let passed = |n: usize| (0..n).filter(|_| gate.admits(&voice)).count();
        assert_eq!(passed(5), 2);
        ticks.store(99, Ordering::Relaxed);
        assert_eq!(passed(5), 0, "the same second");
        ticks.store(100, Ordering::Relaxed);
        assert_eq!(passed(5), 2);
    }

    #[test]
    fn measurements_of_unknown_metrics_and_no_numbers_are_left_out() {
        let measured = Measured::of(2);
        measured.take(&[0, 1, 0, 9, 1], &[1.0, f64::NAN, 2.5, 7.0, f64::INFINITY]);
        measured.take(&[0, 0], &[1.0]);
        assert_eq!(measured.read(), [Measurement { count: 3, sum: 4.5, last: 1.0 }, Measurement::default()]);
    }
}
