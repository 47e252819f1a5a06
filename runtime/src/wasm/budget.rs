//! How much CPU time a call has left: the deadline of the design, told by the thread's own clock.
//!
//! Wall time would condemn good records on a loaded host, so the engine's tick only asks the
//! question, and the thread's CPU clock answers it. That clock is a system call: it is read when a
//! call has outlived a tick, never at its start, so an ordinary call pays nothing. A call may
//! therefore run one tick longer than its budget.

use std::time::Duration;

use wasmtime::UpdateDeadline;

use super::contract::{CallTime, Interrupt};

/// How often the engine asks. Also the coarse clock of log limits.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// A call used up its CPU time; what the epoch callback raises inside the guest.
#[derive(Debug, thiserror::Error)]
#[error("CPU time used up")]
pub(super) struct Exhausted;

/// The task has something else to do, and the call has taken long enough to be ended for it.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// A call is never interrupted before it has used this much: ordinary ones end by themselves meanwhile.
const UNDISTURBED: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct CpuBudget {
    /// What the engine allows.
    engine_limit: Duration,
    limit: Duration,
    interrupt: Interrupt,
    /// The thread's CPU clock when this call was first asked.
    first_asked: Option<Duration>,
}

impl CpuBudget {
    pub fn new(limit: Duration) -> Self {
        Self { engine_limit: limit, limit, interrupt: Interrupt::default(), first_asked: None }
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// What holds for the calls from here on.
    pub fn set(&mut self, time: &CallTime) {
        self.limit = time.cpu_max.map_or(self.engine_limit, |limit| limit.min(self.engine_limit));
        self.interrupt = time.interrupt.clone();
    }

    pub fn begin_call(&mut self) {
        self.first_asked = None;
    }

    /// Called by the engine in the middle of a guest's call when its epoch deadline has passed.
    pub fn ask(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let now = thread_cpu_time();
        let used = now.saturating_sub(*self.first_asked.get_or_insert(now));
        if used >= UNDISTURBED && self.interrupt.is_raised() {
            return Err(Interrupted.into());
        }
        match self.limit.checked_sub(used) {
            // Every tick: somebody may want the call to end.
            Some(left) if !left.is_zero() => Ok(UpdateDeadline::Continue(1)),
            _ => Err(Exhausted.into()),
        }
    }
}

fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call. The clock exists on every
    // Linux; where it should fail, `time` stays zero and the deadline never comes.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_within_its_budget_is_extended_tick_by_tick() {
        let mut budget = CpuBudget::new(Duration::from_millis(25));
        assert!(matches!(budget.ask(), Ok(UpdateDeadline::Continue(1))));
    }

    #[test]
    fn a_call_may_be_given_less_than_the_engine_allows_and_never_more() {
        let mut budget = CpuBudget::new(Duration::from_millis(25));
        budget.set(&CallTime { cpu_max: Some(Duration::from_millis(5)), ..CallTime::default() });
        assert_eq!(budget.limit(), Duration::from_millis(5));
        budget.set(&CallTime { cpu_max: Some(Duration::from_secs(5)), ..CallTime::default() });
        assert_eq!(budget.limit(), Duration::from_millis(25));
    }

    #[test]
    fn a_call_that_takes_long_ends_when_its_task_has_something_else_to_do_and_a_short_one_does_not() {
        let mut budget = CpuBudget::new(Duration::from_secs(10));
        let time = CallTime::default();
        budget.set(&time);
        time.interrupt.generation.store(1, std::sync::atomic::Ordering::SeqCst);
        assert!(budget.ask().is_ok(), "it has only begun");
        let start = thread_cpu_time();
        while thread_cpu_time() - start < UNDISTURBED {
            std::hint::spin_loop();
        }
        assert!(budget.ask().err().is_some_and(|e| e.is::<Interrupted>()));
    }

    #[test]
    fn a_call_that_used_its_cpu_time_ends() {
        let mut budget = CpuBudget::new(Duration::from_millis(2));
        budget.ask().unwrap();
        let start = thread_cpu_time();
        while thread_cpu_time() - start < Duration::from_millis(4) {
            std::hint::spin_loop();
        }
        assert!(budget.ask().err().is_some_and(|e| e.is::<Exhausted>()));
        budget.begin_call();
        assert!(budget.ask().is_ok(), "the next call has a budget of its own");
    }
}
