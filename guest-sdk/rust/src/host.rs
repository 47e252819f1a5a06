//! What a transform may ask of its host: log lines, metrics, and the last words before a panic ends the call.
//!
//! In a guest these are imports; natively they are kept per thread, for [`crate::testing`].

/// How much a log line matters, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::guest::host_calls::{log, log_level, measure};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{log, log_level, measure};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native {
    use std::cell::RefCell;

    use super::Level;

    #[derive(Default)]
    pub(crate) struct Heard {
        pub(crate) lines: Vec<(Level, Option<u32>, String)>,
        pub(crate) amounts: Vec<(u8, f64)>,
    }

    thread_local! {
        static HEARD: RefCell<Option<Heard>> = const { RefCell::new(None) };
    }

    /// Starts keeping lines and amounts, and hands over what was kept so far. Without this nothing is heard.
    pub(crate) fn listen() -> Heard {
        HEARD.replace(Some(Heard::default())).unwrap_or_default()
    }

    pub(crate) fn log_level() -> Level {
        HEARD.with_borrow(|heard| if heard.is_some() { Level::Trace } else { Level::Error })
    }

    pub(crate) fn log(level: Level, record: Option<u32>, message: &str) {
        HEARD.with_borrow_mut(|heard| {
            if let Some(heard) = heard {
                heard.lines.push((level, record, message.to_owned()));
            }
        });
    }

    pub(crate) fn measure(ids: &[u8], amounts: &[f64]) {
        HEARD.with_borrow_mut(|heard| {
            if let Some(heard) = heard {
                heard.amounts.extend(ids.iter().copied().zip(amounts.iter().copied()));
            }
        });
    }
}
