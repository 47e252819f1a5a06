//! The only door to the clock, to crashing on purpose and to being wrong on purpose.
//!
//! Owns the clock seam (real and manual), the failpoints and the seeded bugs. The record path reads a clock once a
//! batch, never per record.

mod bugs;

#[cfg(test)]
pub use bugs::with_bug;
pub use bugs::{Bug, bug};

use std::path::PathBuf;
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

/// When an armed failpoint strikes.
enum Strike {
    /// When it has been passed this often.
    At { count: u64, seen: AtomicU64 },
    /// Whenever it is passed while this file exists: so a test chooses the moment, and the failpoint the place.
    While(PathBuf),
}

/// Kills this process with SIGKILL at the failpoint that `FOREBAY_FAILPOINT` names: `name:count` when it has been
/// passed `count` times, `name@file` as soon as the file exists. One relaxed load when nothing is armed;
/// called per epoch or seldomer, never per record.
pub fn failpoint(name: &str) {
    static ARMED: OnceLock<Option<(String, Strike)>> = OnceLock::new();
    let Some((armed, strike)) = ARMED.get_or_init(|| parse_failpoint(&std::env::var("FOREBAY_FAILPOINT").ok()?)) else {
        return;
    };
    if armed == name && strike.is_due() {
        // SAFETY: kill and getpid take no pointers; the process ends here, as by `kill -9`.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        std::thread::park();
    }
}

fn parse_failpoint(setting: &str) -> Option<(String, Strike)> {
    if let Some((name, file)) = setting.split_once('@') {
        return Some((name.to_owned(), Strike::While(file.into())));
    }
    let (name, count) = setting.split_once(':').unwrap_or((setting, "1"));
    Some((name.to_owned(), Strike::At { count: count.parse().ok()?, seen: AtomicU64::new(0) }))
}

impl Strike {
    fn is_due(&self) -> bool {
        match self {
            Self::At { count, seen } => seen.fetch_add(1, Ordering::SeqCst) + 1 == *count,
            Self::While(file) => file.exists(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_strikes_at_its_count_once() {
        let (name, strike) = parse_failpoint("epoch-open:2").unwrap();
        assert_eq!(name, "epoch-open");
        assert_eq!([strike.is_due(), strike.is_due(), strike.is_due()], [false, true, false]);
    }

    #[test]
    fn a_failpoint_waits_for_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("now");
        let (name, strike) = parse_failpoint(&format!("before-commit@{}", file.display())).unwrap();
        assert_eq!((name.as_str(), strike.is_due()), ("before-commit", false));
        std::fs::write(file, b"").unwrap();
        assert!(strike.is_due());
    }
}
