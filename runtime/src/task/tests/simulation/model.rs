//! The plain model: what was sent, and what may have come of it. Shares no code with the runtime.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::sets_another;
use crate::log::sim::{Cluster, Committed};

pub struct Sent {
    pub verb: &'static str,
    pub key: Option<String>,
    pub argument: i64,
    pub topic: &'static str,
    pub partition: i32,
    pub offset: i64,
}

#[derive(Default)]
pub struct Model {
    /// By their ids, which count up in the order of sending.
    pub sent: BTreeMap<u64, Sent>,
}

/// A record that the runtime must put aside, and why.
fn cause(sent: &Sent) -> Option<&'static str> {
    match sent.verb {
        "trap" => Some("trap"),
        "loop" => Some("deadline"),
        "refuse" => Some("asked"),
        "huge" | "forbidden" => Some("output-refused"),
        "keyless" => Some("missing-key"),
        "misplaced" => Some("wrong-partition"),
        _ => None,
    }
}

/// What the committed output says, line by line.
enum Line {
    Record { key: String, id: u64, count: i64, sum: i64, watermark: i64, now: i64 },
    Tick { key: String, time: i64, watermark: i64 },
}

fn parse(record: &Committed) -> Result<Line, String> {
    let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
    let words: Vec<&str> = text.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<i64>().ok());
    let line = match words.get(1) {
        Some(&"tick") => number(2).zip(number(3)).map(|(time, watermark)| {
            let key = words[0].to_owned();
            Line::Tick { key, time, watermark }
        }),
        _ => (|| {
            let (key, id) = (words[0].to_owned(), number(1)? as u64);
            Some(Line::Record { key, id, count: number(2)?, sum: number(3)?, watermark: number(5)?, now: number(6)? })
        })(),
    };
    line.ok_or_else(|| format!("output at {} makes no sense: {text}", record.offset))
}

/// What was found so far, in the order of the output.
#[derive(Default)]
struct Found {
    accounts: BTreeMap<String, (i64, i64)>,
    last_of: BTreeMap<(String, &'static str, i32), u64>,
    times_seen: BTreeMap<u64, u32>,
    ticks: BTreeSet<(String, i64)>,
    watermark: i64,
    /// The last reset of event time behind which output stands.
    reset: u64,
    now: i64,
}

impl Model {
    /// I1: committed output is a function of committed input, each record once and in its order. `all`: nothing may be
    /// missing. `resets`: behind which reset of event time each transaction's output stands.
    pub fn judge(&self, cluster: &Cluster, resets: &BTreeMap<u64, u64>, all: bool) -> Result<(), String> {
        let mut found = Found { watermark: i64::MIN, now: i64::MIN, ..Found::default() };
        for record in cluster.committed("counts", 0, 0) {
            let reset = record.transaction.and_then(|transaction| resets.get(&transaction)).copied();
            if let Some(reset) = reset.filter(|reset| *reset != found.reset) {
                (found.reset, found.watermark) = (reset, i64::MIN);
            }
            self.take(&mut found, parse(&record)?).map_err(|e| format!("{e} (output at {})", record.offset))?;
        }
        let letters = self.letters(cluster)?;
        if !all {
            return Ok(());
        }
        for (id, sent) in &self.sent {
            let (verb, seen) = (sent.verb, found.times_seen.get(id).copied().unwrap_or(0));
            let expected = match cause(sent) {
                Some(_) if !letters.contains(id) => return Err(format!("I1: {verb} {id} left no dead letter")),
                Some(_) => 0,
                None if verb == "twin" => 2,
                None => 1,
            };
            if seen != expected {
                return Err(format!("I1: {verb} {id} shows {seen} times in the output, {expected} expected"));
            }
        }
        self.ticked(&found.ticks)
    }

    fn take(&self, found: &mut Found, line: Line) -> Result<(), String> {
        let watermark = match line {
            Line::Record { key, id, count, sum, watermark, now } => {
                self.take_record(found, &key, id, (count, sum))?;
                if now < found.now {
                    return Err(format!("I6: {id} was shown processing time {now} after {}", found.now));
                }
                found.now = now;
                watermark
            }
            Line::Tick { key, time, watermark } => {
                if !found.ticks.insert((key.clone(), time)) {
                    return Err(format!("I1: timer {time} of {key} fired twice"));
                }
                watermark
            }
        };
        if watermark < found.watermark {
            return Err(format!("I6: the watermark went back from {} to {watermark}", found.watermark));
        }
        found.watermark = watermark;
        Ok(())
    }

    fn take_record(&self, found: &mut Found, key: &str, id: u64, shown: (i64, i64)) -> Result<(), String> {
        let sent = self.sent.get(&id).ok_or_else(|| format!("I1: nobody sent {id}"))?;
        if cause(sent).is_some() || sent.key.as_deref() != Some(key) {
            return Err(format!("I1: {} {id} is in the output under key {key}", sent.verb));
        }
        let seen = found.times_seen.entry(id).or_default();
        *seen += 1;
        let account = found.accounts.entry(key.to_owned()).or_default();
        if sent.verb == "twin" && *seen == 2 {
            return if shown == *account { Ok(()) } else { Err(format!("I1: the second of twin {id} differs")) };
        }
        if *seen > 1 {
            return Err(format!("I1: {} {id} was counted twice", sent.verb));
        }
        let place = (key.to_owned(), sent.topic, sent.partition);
        if let Some(before) = found.last_of.insert(place, id).filter(|before| *before > id) {
            return Err(format!("I1: {id} of key {key} came after {before}"));
        }
        account.0 += 1;
        account.1 += if sent.verb == "add" { sent.argument } else { 0 };
        if *account != shown {
            return Err(format!("I1: {} {id} of key {key} shows {shown:?}, {account:?} expected", sent.verb));
        }
        if sent.verb == "clear" {
            *account = (0, 0);
        }
        Ok(())
    }

    /// The dead letters by the ids of what was put aside.
    fn letters(&self, cluster: &Cluster) -> Result<BTreeSet<u64>, String> {
        let mut letters = BTreeSet::new();
        for letter in cluster.committed("job.dead-letters", 0, 0) {
            let value = String::from_utf8_lossy(letter.value.as_deref().unwrap_or_default()).into_owned();
            let id = value.split(' ').nth(1).and_then(|id| id.parse().ok());
            let id: u64 = id.ok_or_else(|| format!("dead letter {value} makes no sense"))?;
            let sent = self.sent.get(&id).ok_or_else(|| format!("I1: nobody sent dead letter {id}"))?;
            let header = |name: &str| {
                let found = letter.headers.iter().find(|(found, _)| found == name.as_bytes());
                found.and_then(|(_, value)| value.clone()).map(|value| String::from_utf8_lossy(&value).into_owned())
            };
            if header("forebay.code").as_deref() != cause(sent) {
                return Err(format!("I1: {} {id} was put aside for {:?}", sent.verb, header("forebay.code")));
            }
            let place = [header("forebay.topic"), header("forebay.partition"), header("forebay.offset")];
            let expected = [sent.topic.to_owned(), sent.partition.to_string(), sent.offset.to_string()];
            if place != expected.clone().map(Some) {
                return Err(format!("I1: dead letter {id} says {place:?}, it stood at {expected:?}"));
            }
            if !letters.insert(id) {
                return Err(format!("I1: {} {id} was put aside twice", sent.verb));
            }
        }
        Ok(letters)
    }

    fn ticked(&self, ticks: &BTreeSet<(String, i64)>) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        for sent in self.sent.values().filter(|sent| sent.verb == "timer") {
            let key = sent.key.clone().unwrap_or_default();
            if sets_another(sent.argument) {
                expected.insert((key.clone(), sent.argument + 1));
            }
            expected.insert((key, sent.argument));
        }
        match expected.symmetric_difference(ticks).next() {
            None => Ok(()),
            Some(of @ (key, time)) if expected.contains(of) => Err(format!("I1: timer {time} of {key} never fired")),
            Some((key, time)) => Err(format!("I1: timer {time} of {key} fired, and nobody set it")),
        }
    }
}
