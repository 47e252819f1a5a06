//! How much CPU time a call has left: the deadline of the design, told by the thread's own clock.
//!
//! Wall time would condemn good records on a loaded host, so the engine's tick only asks the
//! question, and the thread's CPU clock answers it. That clock is a system call: it is read when a
//! call has outlived a tick, never at its start, so an ordinary call pays nothing. A call may
//! therefore run one tick longer than its budget.

use std::time::Duration;

use wasmtime::UpdateDeadline;

/// How often the engine asks. Also the coarse clock of log limits.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// A call used up its CPU time; what the epoch callback raises inside the guest.
#[derive(Debug, thiserror::Error)]
#[error("CPU time used up")]
pub(super) struct Exhausted;

#[derive(Debug)]
pub(super) struct CpuBudget {
    limit: Duration,
    /// The thread's CPU clock when this call was first asked.
    first_asked: Option<Duration>,
}

impl CpuBudget {
    pub fn new(limit: Duration) -> Self {
        Self { limit, first_asked: None }
    }

    pub fn begin_call(&mut self) {
        self.first_asked = None;
    }

    /// Called by the engine in the middle of a guest's call when its epoch deadline has passed.
    pub fn ask(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let now = thread_cpu_time();
        let used = now.saturating_sub(*self.first_asked.get_or_insert(now));
        match self.limit.checked_sub(used) {
            Some(left) if !left.is_zero() => Ok(UpdateDeadline::Continue(ticks(left))),
            _ => Err(Exhausted.into()),
        }
    }
}

/// Ticks until `left` can have been used up at the earliest.
fn ticks(left: Duration) -> u64 {
    (left.as_nanos().div_ceil(TICK.as_nanos()) as u64).max(1)
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
    fn a_call_within_its_budget_is_extended_by_what_is_left() {
        let mut budget = CpuBudget::new(Duration::from_millis(25));
        assert!(matches!(budget.ask(), Ok(UpdateDeadline::Continue(3))));
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
