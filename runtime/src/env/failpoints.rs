//! Named places where a process can be made to die, for the tests of recovery.
//!
//! Owns the list of the places. A build that is used cannot: only tests of this crate and builds with the feature
//! `failpoints` have more than the names.

#[cfg(any(test, feature = "failpoints"))]
pub use armed::failpoint;

/// Names the variable that arms one.
const VARIABLE: &str = "FOREBAY_FAILPOINT";

/// Every failpoint with what has just happened there, along the ways of a record, a recovery, a job and its swap.
/// A test holds this list and the calls of [`failpoint`] to each other.
pub const FAILPOINTS: &[(&str, &str)] = &[
    // A record's way and the commit.
    ("batch-processed", "a batch went through the operators; nothing of it is written"),
    ("epoch-begun", "the log knows of the epoch; nothing is written in it"),
    ("output-written", "output and dead letters of a batch are with the writer"),
    ("timers-fired", "the output of due timers is with the writer"),
    ("epoch-open", "the epoch is about to close"),
    ("before-commit", "output and delta are with the writer"),
    ("writer-reopened", "a task that rested has taken its transactional id over again"),
    ("kafka-delivered", "the brokers have all of an epoch's records; its end was not asked for"),
    ("kafka-committed", "the transaction is committed; nobody here has heard of it"),
    ("after-commit", "the epoch is committed and not applied"),
    ("commit-noted", "the epoch is committed and noted, and not applied"),
    ("after-apply", "the epoch is applied in memory"),
    ("state-write-begins", "committed changes are about to go to RocksDB"),
    ("state-written", "RocksDB has them, in its memory"),
    ("state-flush-begun", "RocksDB was told to bring them to disk"),
    ("stop-committed", "a task that was told to stop has committed"),
    ("stop-flushed", "and has its state on disk"),
    // Taking over and recovery.
    ("kafka-after-init", "a transactional id is taken over"),
    ("recovery-after-init", "a task's predecessor is fenced"),
    ("recovery-store-opened", "the local store is open"),
    ("recovery-store-wiped", "a local store that was of no use is gone"),
    ("recovery-delta-replayed", "the store has taken in one delta of the changelog"),
    ("recovery-after-read", "the changelog is read to its end"),
    ("recovery-assigned", "the inputs are assigned"),
    ("recovery-after-claim", "the claim is committed"),
    // The control topic.
    ("control-taken-over", "the control topic is owned and read"),
    ("control-write-begins", "a change is about to be written"),
    ("control-after-commit", "a change is committed and not yet seen"),
    // A job's life.
    ("module-committed", "a module's bytes are in the log; this server has no file of them"),
    ("module-stored", "a module's bytes are kept; its record is not"),
    ("create-recorded", "a job's record says that it is being created"),
    ("create-topics-made", "its topics are there"),
    ("deploy-before-header", "a task's changelog is known to be empty"),
    ("deploy-after-header", "a task's start positions are committed"),
    ("create-deployed", "those of all tasks are"),
    ("stop-recorded", "a job's record says that it is stopped; its tasks still run"),
    ("delete-recorded", "a job's record says that it is being deleted"),
    ("delete-changelog-gone", "its changelog is gone"),
    ("delete-state-gone", "its local state is gone"),
    // A reset of event time.
    ("time-reset-recorded", "a job's record holds the reset; its tasks may not have heard of it"),
    ("time-reset-begun", "what was open is committed; event time has not gone back"),
    ("time-reset-committed", "the header names the reset"),
    // A swap.
    ("swap-preparing", "the swap is recorded; no task has tried the new version"),
    ("swap-decided", "all tasks have tried it, and the record says that it is switched to"),
    ("swap-before-switch", "a task has committed its last epoch under the old version"),
    ("swap-installed", "a task has the new version in place and has committed nothing under it"),
    ("swap-after-switch", "a task has committed under the new version"),
    ("swap-switched", "all tasks have, and the record says so"),
    ("swap-rolling-back", "the record says that the old version comes back"),
    ("swap-rolled-back", "all tasks run the old version again"),
];

/// A place that is passed; nothing happens there.
#[cfg(not(any(test, feature = "failpoints")))]
#[inline(always)]
pub fn failpoint(_: &str) {}

/// # Errors
/// A failpoint is asked for, and this build has none: a test that arms it would wait for nothing.
pub fn refuse_unknown_failpoints() -> Result<(), String> {
    let asked = std::env::var(VARIABLE).ok().filter(|asked| !asked.is_empty());
    match asked {
        Some(asked) if cfg!(not(any(test, feature = "failpoints"))) => Err(format!(
            "{VARIABLE} is {asked}, and this build has no failpoints: unset it, or run `forebay-seeded` (docs/testing.md)"
        )),
        _ => Ok(()),
    }
}

#[cfg(any(test, feature = "failpoints"))]
mod armed {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// When an armed failpoint strikes.
    pub(super) enum Strike {
        /// When it has been passed this often.
        At { count: u64, seen: AtomicU64 },
        /// Whenever it is passed while this file exists: so a test chooses the moment, and the failpoint the place.
        While(PathBuf),
    }

    /// Kills this process with SIGKILL at the failpoint that `FOREBAY_FAILPOINT` names: `name:count` when it has been
    /// passed `count` times, `name@file` as soon as the file exists. One relaxed load when nothing is armed;
    /// called per epoch or seldomer, never per record.
    pub fn failpoint(name: &str) {
        #[cfg(test)]
        crate::env::simulated::strike(name);
        static ARMED: OnceLock<Option<(String, Strike)>> = OnceLock::new();
        let Some((armed, strike)) = ARMED.get_or_init(|| parse_failpoint(&std::env::var(super::VARIABLE).ok()?)) else {
            return;
        };
        if armed == name && strike.is_due() {
            // SAFETY: kill and getpid take no pointers; the process ends here, as by `kill -9`.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            std::thread::park();
        }
    }

    pub(super) fn parse_failpoint(setting: &str) -> Option<(String, Strike)> {
        if let Some((name, file)) = setting.split_once('@') {
            return Some((name.to_owned(), Strike::While(file.into())));
        }
        let (name, count) = setting.split_once(':').unwrap_or((setting, "1"));
        Some((name.to_owned(), Strike::At { count: count.parse().ok()?, seen: AtomicU64::new(0) }))
    }

    impl Strike {
        pub(super) fn is_due(&self) -> bool {
            match self {
                Self::At { count, seen } => seen.fetch_add(1, Ordering::SeqCst) + 1 == *count,
                Self::While(file) => file.exists(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FAILPOINTS;
    use super::armed::parse_failpoint;

    #[test]
    fn a_failpoint_strikes_at_its_count_once() {
        let (name, strike) = parse_failpoint("epoch-open:2").unwrap();
        assert_eq!(name, "epoch-open");
        assert_eq!([strike.is_due(), strike.is_due(), strike.is_due()], [false, true, false]);
    }

    #[test]
    fn every_failpoint_is_in_the_list_once_and_every_one_in_the_list_is_passed_somewhere() {
        let mut called = Vec::new();
        collect(&crate::golden::sources(), &mut called);
        called.sort();
        let mut listed: Vec<_> = FAILPOINTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        listed.sort();
        assert_eq!(called, listed);
    }

    fn collect(folder: &std::path::Path, called: &mut Vec<String>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                collect(&path, called);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let calls = text.split(concat!("failpoint", "(\"")).skip(1);
                let names = calls.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
                // The tests of how a setting is read give more than a name.
                called.extend(names.filter(|name| !name.contains(':')));
            }
        }
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
