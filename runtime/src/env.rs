//! The only door to the clock, to chance, to the limits of this process, to crashing on purpose and to being wrong on
//! purpose.
//!
//! Owns the clock seam (real and manual), the failpoints and the seeded bugs. The record path reads a clock once a
//! batch, never per record.

mod bugs;
mod failpoints;
mod limits;
#[cfg(test)]
pub mod simulated;

#[cfg(any(test, feature = "seeded-bugs"))]
pub use bugs::seeded_bug;
#[cfg(test)]
pub use bugs::with_bug;
pub use bugs::{Bug, bug};
pub use failpoints::{FAILPOINTS, failpoint, refuse_unknown_failpoints};
pub use limits::raise_descriptor_limit;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time (for processing time and record timestamps) and a monotonic one (for intervals).
pub trait Clock: Send + Sync {
    /// Nanoseconds since the Unix epoch.
    fn now(&self) -> i64;
    /// Time since some fixed moment of this process; never goes back.
    fn elapsed(&self) -> Duration;
}

pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self { start: instant() })
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the door itself")]
    fn now(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that tests move by hand.
#[derive(Default)]
pub struct ManualClock {
    now: AtomicI64,
}

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_nanos() as i64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now().max(0) as u64)
    }
}

/// This moment, for how long something outside (a cluster, a disk, another thread) is waited for. What decides what
/// happens next is given a [`Clock`].
#[allow(clippy::disallowed_methods, reason = "the door itself")]
pub fn instant() -> Instant {
    Instant::now()
}

/// A number from 0 up to 1, so that many who wait for the same do not all come back at once.
#[allow(clippy::disallowed_methods, reason = "the door itself")]
pub fn chance() -> f64 {
    rand::random()
}

/// Ends the process, whatever its threads do: as `kill` would, but with success. Nothing here needs a clean end.
pub fn end_at_once() -> ! {
    // SAFETY: takes no pointers and does not return; no destructor runs beside threads that go on.
    unsafe { libc::_exit(0) }
}

/// Another after every start of the machine; all zero where the system does not say. Whatever was not brought to disk before
/// a start is lost with it.
pub fn machine_start() -> [u8; 16] {
    static START: OnceLock<[u8; 16]> = OnceLock::new();
    *START.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        uuid::Uuid::parse_str(id.trim()).map_or([0; 16], uuid::Uuid::into_bytes)
    })
}

/// Bytes for an identity that nothing else has.
#[allow(clippy::disallowed_methods, reason = "the door itself")]
pub fn identity() -> [u8; 16] {
    #[cfg(test)]
    if let Some(bytes) = simulated::identity() {
        return bytes;
    }
    uuid::Uuid::new_v4().into_bytes()
}
