//! The only door to the clock and to crashing on purpose.
//!
//! Owns the clock seam (real and manual) and the failpoints. The record path reads a clock once a
//! batch, never per record.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
        Arc::new(Self { start: Instant::now() })
    }
}

impl Clock for SystemClock {
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

struct Armed {
    name: String,
    after: u64,
    seen: AtomicU64,
}

/// Kills this process with SIGKILL when the failpoint `name` has been passed as often as the
/// environment variable `FOREBAY_FAILPOINT=name:count` says. One relaxed load when nothing is armed;
/// called per epoch or seldomer, never per record.
pub fn failpoint(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let setting = std::env::var("FOREBAY_FAILPOINT").ok()?;
        let (name, after) = setting.split_once(':').unwrap_or((&setting, "1"));
        Some(Armed { name: name.to_owned(), after: after.parse().unwrap_or(1), seen: AtomicU64::new(0) })
    });
    if let Some(armed) = armed
        && armed.name == name
        && armed.seen.fetch_add(1, Ordering::SeqCst) + 1 == armed.after
    {
        // SAFETY: kill and getpid take no pointers; the process ends here, as by `kill -9`.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        std::thread::park();
    }
}
