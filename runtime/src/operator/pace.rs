//! How a piece of work may go on: what a failed call means for it, and for how long.
//!
//! Owns no clock and no thread. The task decides; operators ask between two calls, and a call that takes long is told by
//! [`Interrupt`] inside it.

use std::time::Duration;

use super::Error;
use crate::env::Clock;
use crate::wasm::contract::{CallTime, Interrupt};

/// What is done where a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// The caller is told; it drops what the work has left, and hands it over again in parts.
    Report,
    /// The operator looks for the record by halves, and gives it up.
    Isolate,
}

#[derive(Clone)]
pub struct Pace<'a> {
    pub on_fault: OnFault,
    /// CPU time of one call, where it is to be less than the engine allows. A single record that needs more is tried
    /// with all that the engine allows before it is given up.
    pub call_max: Option<Duration>,
    /// `clock.elapsed()` past which no call begins.
    pub until: Option<Duration>,
    /// Whoever waits is let in past this.
    pub undisturbed_until: Duration,
    pub interrupt: Interrupt,
    pub clock: &'a dyn Clock,
}

impl Pace<'_> {
    /// Asked before each call.
    pub fn check(&self, operator: &str) -> Result<(), Error> {
        let raised = self.interrupt.is_raised();
        if !raised && self.until.is_none() {
            return Ok(());
        }
        let now = self.clock.elapsed();
        if self.until.is_some_and(|until| now > until) || raised && now > self.undisturbed_until {
            return Err(Error::Interrupted { operator: operator.to_owned() });
        }
        Ok(())
    }

    /// The time of a call; `whole` = all that the engine allows.
    pub fn call_time(&self, whole: bool) -> CallTime {
        CallTime { cpu_max: self.call_max.filter(|_| !whole), interrupt: self.interrupt.clone() }
    }
}
