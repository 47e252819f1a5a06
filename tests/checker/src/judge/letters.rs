//! The rules of dead letters: one of each refused input, under its code and with its own bytes.

use super::{Judge, Kind, input_at, letter_at};
use crate::input::{BAD_PAYLOAD, Fate, Guest, TRAP};
use crate::record::Record;

impl Judge<'_> {
    /// The next committed record of a partition of the dead letters.
    pub fn letter(&mut self, record: &Record) {
        self.verdict.dead_letters += 1;
        let at = letter_at(record);
        let number = |name: &str| record.header(name).and_then(|text| text.parse::<i64>().ok());
        let topic = record.header("forebay.topic").unwrap_or("none");
        let (Some(partition), Some(offset)) = (number("forebay.partition"), number("forebay.offset")) else {
            return self.verdict.found(Kind::LetterForeign, || format!("{at} names no input"));
        };
        let inputs = self.inputs;
        let partition = i32::try_from(partition).unwrap_or(-1);
        let of = input_at(partition, offset);
        let found = inputs.partitions.get(partition as usize).and_then(|partition| partition.at(offset));
        let Some((position, entry)) = found.filter(|_| topic == inputs.topic) else {
            return self
                .verdict
                .found(Kind::LetterForeign, || format!("{at} is of {of} of topic {topic}, which is not there"));
        };
        let code = record.header("forebay.code").unwrap_or("none");
        let refusal = match &entry.fate {
            Fate::Refused(refusal) => refusal,
            Fate::Counted { .. } => {
                let message = record.header("forebay.message").unwrap_or_default();
                let tell = || format!("{at} is of {of}, a good record: {code}: {message}");
                return self.verdict.found(Kind::LetterForeign, tell);
            }
        };
        if !self.see(partition, position) {
            return self.verdict.found(Kind::LetterDoubled, || format!("{at} is of {of} ({code}), like one before it"));
        }
        // One version of the counter traps on what the others refuse.
        let trapped = inputs.guest == Guest::Counter && refusal.code == BAD_PAYLOAD && code == TRAP;
        if code != refusal.code && !trapped {
            let tell = || format!("{at} of {of} has code {code}, expected {}", refusal.code);
            self.verdict.found(Kind::LetterWrongCode, tell);
        }
        let is_whole = record.header("forebay.cut").is_none();
        if is_whole && (&record.key, &record.value) != (&refusal.key, &refusal.value) {
            self.verdict.found(Kind::LetterWrongBytes, || format!("{at} carries other bytes than {of} ({code})"));
        }
    }
}
