//! How processing fails: one record, or the module.

use std::borrow::Cow;
use std::fmt;

/// Why one record was refused. What the author's code did for it is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// Short and stable: a metric's label and a dead letter's cause.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl Refuse {
    /// The payload is not what it should be. Every module may use it without declaring it.
    pub const BAD_PAYLOAD: &'static str = "bad-payload";
    /// What was emitted cannot be written. Every module may use it without declaring it.
    pub const BAD_OUTPUT: &'static str = "bad-output";
    /// State or a timer was asked for by a record without a key. Every module may use it without declaring it.
    pub const NO_KEY: &'static str = "no-key";

    pub fn new(code: &'static str, message: impl fmt::Display) -> Self {
        Self { code: Cow::Borrowed(code), message: message.to_string() }
    }
}

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refuse {}

/// The module cannot work at all; not: a record is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Code or data of the module is at fault; trying again is of no use.
    Broken(String),
    /// Something outside may heal.
    Retry(String),
}

/// Ends the call: in a guest a trap, after the panic hook has told the host which record it was.
#[allow(clippy::panic, reason = "a panic is how a guest ends a call that cannot go on")]
pub(crate) fn fault(message: fmt::Arguments<'_>) -> ! {
    panic!("{message}")
}
