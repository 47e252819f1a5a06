//! Which Kafka the tests of a process run against, and what is said where there is none.
//!
//! `FOREBAY_KAFKA=host:port` names a cluster, of any make. Else one is started: once a process, for all tests that
//! do no harm to it. Where neither can be had, the test says so on stderr and stdout, past the harness's capture,
//! and ends; with `FOREBAY_NO_SKIP=1` it fails instead.

#![allow(clippy::panic, reason = "support for tests: what does not start fails them")]

use std::io::Write;
use std::sync::OnceLock;

use crate::cluster::{Cluster, Options};
use crate::installation::Installation;

const NAMED: &str = "FOREBAY_KAFKA";
const NO_SKIP: &str = "FOREBAY_NO_SKIP";

/// The Kafka of this process's tests.
#[derive(Clone, Copy)]
pub enum Target {
    /// Started by the first test that asked; all share it, so no test may harm it.
    Shared(&'static Cluster),
    /// Named by `FOREBAY_KAFKA`, and perhaps of another make.
    Named(&'static str),
}

enum Shared {
    Started(Box<Cluster>),
    /// There is no Kafka on this machine, and why.
    Missing(String),
    /// There is one, and it did not start.
    Failed(String),
}

static SHARED: OnceLock<Shared> = OnceLock::new();
static NAME: OnceLock<Option<String>> = OnceLock::new();

impl Target {
    /// None: there is no Kafka to be had, which has been said; the test is to return.
    ///
    /// # Panics
    /// Kafka did not start; or there is none and `FOREBAY_NO_SKIP` is set.
    pub fn for_tests() -> Option<Target> {
        if let Some(name) = named() {
            return Some(Target::Named(name));
        }
        match SHARED.get_or_init(start_shared) {
            Shared::Started(cluster) => Some(Target::Shared(cluster)),
            Shared::Missing(why) => skipped(&no_kafka(why)),
            Shared::Failed(why) => panic!("{why}"),
        }
    }

    /// `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        match self {
            Target::Shared(cluster) => cluster.bootstrap(),
            Target::Named(name) => name,
        }
    }

    /// Runs a console tool of Kafka's against it; see `Cluster::tool`.
    ///
    /// # Errors
    /// It says that it failed, or there is no Java for it.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String, String> {
        match self {
            Target::Shared(cluster) => cluster.tool(class, arguments),
            Target::Named(name) => Installation::get()?.tool(name, class, arguments),
        }
    }
}

impl Cluster {
    /// A cluster of the test's own, to kill its brokers or for settings of its own. None: it cannot be had, or
    /// `FOREBAY_KAFKA` names one that is not ours to harm; either has been said, and the test is to return.
    ///
    /// # Panics
    /// Kafka did not start; or the test would be skipped and `FOREBAY_NO_SKIP` is set.
    pub fn for_tests(options: Options) -> Option<Cluster> {
        if let Some(name) = named() {
            return skipped(&format!("needs a cluster of its own, and {NAMED} names {name}"));
        }
        match Installation::prepared() {
            Ok(kafka) => Some(Cluster::start_quick(kafka, &options).unwrap_or_else(|why| panic!("{why}"))),
            Err(why) => skipped(&no_kafka(&why)),
        }
    }
}

fn named() -> Option<&'static str> {
    NAME.get_or_init(|| std::env::var(NAMED).ok().filter(|name| !name.is_empty())).as_deref()
}

fn start_shared() -> Shared {
    let kafka = match Installation::prepared() {
        Ok(kafka) => kafka,
        Err(why) => return Shared::Missing(why),
    };
    match Cluster::start_quick(kafka, &Options::default()) {
        Ok(cluster) => {
            // What is static is never dropped. Its brokers die with the process in any case; its folder does not.
            // SAFETY: the handler takes no argument and does not unwind.
            unsafe { libc::atexit(destroy_shared) };
            Shared::Started(Box::new(cluster))
        }
        Err(why) => Shared::Failed(why),
    }
}

extern "C" fn destroy_shared() {
    if let Some(Shared::Started(cluster)) = SHARED.get() {
        cluster.destroy();
    }
}

fn no_kafka(why: &str) -> String {
    format!("there is no Kafka to be had: {why}")
}

/// Says that the test at hand is skipped and why.
fn skipped<T>(why: &str) -> Option<T> {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // One line whatever the reason, so that nobody has to look for its end.
    let line = format!("SKIPPED: {test}: {}", why.split_whitespace().collect::<Vec<_>>().join(" "));
    if std::env::var(NO_SKIP).is_ok_and(|value| value == "1") {
        panic!("{NO_SKIP} is set, so this fails instead of: {line}");
    }
    // Not by the macros, whose words the harness keeps for tests that fail. It may stand in the middle of a line.
    let text = format!("\n{line}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
    let _ = std::io::stdout().write_all(text.as_bytes());
    None
}
