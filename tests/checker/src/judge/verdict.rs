//! What was compared and what was found: each kind counted, the first few told with their coordinates.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Findings of one kind that are told in full.
const TOLD: usize = 5;

/// The ways in which a job can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An input has no output.
    Lost,
    /// An input has a second output.
    Doubled,
    /// An output comes of no input.
    Foreign,
    /// An output comes of an input that had to be refused.
    NotRefused,
    /// An output carries another key than its input.
    WrongKey,
    /// An output is not in the partition of its key.
    WrongPartition,
    /// The outputs of a key are not in the order of its inputs.
    OutOfOrder,
    /// The counter of a key is not the number of its inputs.
    WrongCount,
    /// The sum of a key is not the fold of its inputs.
    WrongSum,
    /// An output is not what the guest emits.
    Unreadable,
    LetterLost,
    LetterDoubled,
    /// A dead letter of no input, or of one that was good.
    LetterForeign,
    LetterWrongCode,
    /// A dead letter carries other bytes than its input.
    LetterWrongBytes,
    /// Event time went back.
    WatermarkBack,
    /// Event time is ahead of what the input allows.
    WatermarkAhead,
    TimerLost,
    TimerDoubled,
    /// A timer fired that nobody had set.
    TimerUnset,
    /// A timer fired before event time can have reached it.
    TimerEarly,
    /// Event time passed a timer that had not fired.
    TimerOvertaken,
    /// Timers of one advance fired in another order than that of their times.
    TimerOutOfOrder,
    /// A timer saw other state than the key's last output tells.
    TimerWrongState,
    /// Nothing was aborted, though the test was to abort something.
    NothingAborted,
    /// Kafka's own console consumer reads something else.
    ThirdOpinion,
}

impl fmt::Display for Kind {
    /// As in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    pub count: u64,
    /// The first of them.
    pub told: Vec<String>,
}

/// What was compared, and every finding.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    pub inputs: u64,
    pub keys: u64,
    pub outputs: u64,
    pub dead_letters: u64,
    pub ticks: u64,
    /// Timers that were set and which event time has not reached for sure.
    pub timers_open: u64,
    pub findings: BTreeMap<Kind, Findings>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }

    pub fn found(&mut self, kind: Kind, tell: impl FnOnce() -> String) {
        let findings = self.findings.entry(kind).or_default();
        findings.count += 1;
        if findings.told.len() < TOLD {
            findings.told.push(tell());
        }
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.findings.get(&kind).map_or(0, |findings| findings.count)
    }

    pub fn kinds(&self) -> Vec<Kind> {
        self.findings.keys().copied().collect()
    }
}
