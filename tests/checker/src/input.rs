//! The input as facts: what a correct job must make of every record of it.
//!
//! Owns the rules by which a record is counted or refused, written down anew from the documents of the job spec and of
//! the test guests. Never sees an output.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::error::Error;
use crate::record::{Record, partition_of};

/// The header that names a record whose value cannot: `producer/sequence`.
pub const IDENTITY_HEADER: &str = "checker.record";
/// Sequence numbers from here on are not of our producers, and would cost memory.
const SEQUENCES: u64 = 1 << 36;
/// No event time yet.
pub const BEFORE_ALL_MS: i64 = i64::MIN;

/// Which test guest the job runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Guest {
    /// Counts, sums, tells the watermark and ticks; refuses and traps where the payload says so.
    #[default]
    Checked,
    /// Counts and sums only.
    Counter,
}

/// Records whose output the brokers refuse, because the rules of its topic were changed when the job already ran.
#[derive(Clone, Debug, Default)]
pub struct Refusing {
    /// Keys of so many bytes or more.
    pub key_bytes: Option<usize>,
    /// Event times before this.
    pub before_ms: Option<i64>,
}

pub type KeyId = u32;

/// What must become of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The `nth` of its key, which then sums up to `sum`.
    Counted {
        nth: u64,
        sum: i64,
    },
    Refused(Box<Refusal>),
}

/// A dead letter to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub offset: i64,
    pub time_ms: i64,
    /// The newest event time of this partition before this record: no watermark that it sees is beyond.
    pub newest_before_ms: i64,
    pub key: Option<KeyId>,
    pub fate: Fate,
}

#[derive(Clone, Debug)]
pub struct Partition {
    pub entries: Vec<Entry>,
    pub newest_ms: i64,
}

impl Partition {
    /// The entry at an offset, with its position.
    pub fn at(&self, offset: i64) -> Option<(usize, &Entry)> {
        let position = self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?;
        Some((position, &self.entries[position]))
    }

    /// The newest event time of the records below an offset.
    pub fn newest_below(&self, offset: i64) -> i64 {
        let next = self.entries.partition_point(|entry| entry.offset < offset);
        self.entries.get(next).map_or(self.newest_ms, |entry| entry.newest_before_ms)
    }
}

#[derive(Clone, Debug)]
pub struct Key {
    pub name: Vec<u8>,
    pub count: u64,
    pub sum: i64,
}

/// Everything that the input topic held.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub topic: String,
    pub guest: Guest,
    pub partitions: Vec<Partition>,
    pub keys: Vec<Key>,
    pub counted: u64,
    pub refused: u64,
    pub refusing: Refusing,
    /// The job has a single task: it reads all partitions that may hold a key, and no record is in a wrong one.
    pub one_task: bool,
    ids: HashMap<Vec<u8>, KeyId>,
    senders: BTreeMap<String, Sequences>,
}

impl Inputs {
    pub fn new(topic: &str, partitions: i32, guest: Guest) -> Self {
        let partition = Partition { entries: Vec::new(), newest_ms: BEFORE_ALL_MS };
        Self {
            topic: topic.to_owned(),
            guest,
            partitions: vec![partition; partitions.max(0) as usize],
            keys: Vec::new(),
            counted: 0,
            refused: 0,
            refusing: Refusing::default(),
            one_task: false,
            ids: HashMap::new(),
            senders: BTreeMap::new(),
        }
    }

    /// Takes the next record of its partition.
    ///
    /// # Errors
    /// The records of a partition did not come in order.
    pub fn add(&mut self, record: Record) -> Result<(), Error> {
        let (topic, count) = (&self.topic, self.partitions.len() as i32);
        let place = format_args!("{topic}/{}@{}", record.partition, record.offset);
        let partition = self.partitions.get(record.partition as usize);
        let partition = partition.ok_or_else(|| Error::reading(place, format!("the topic has {count} partitions")))?;
        if partition.entries.last().is_some_and(|last| last.offset >= record.offset) {
            return Err(Error::reading(place, "offsets do not ascend"));
        }
        if let Some((producer, sequence)) = identity(&record) {
            self.senders.entry(producer).or_default().take(sequence);
        }
        let spread_over = (!self.one_task).then_some(count);
        let judged =
            judge(&record, spread_over, self.guest).and_then(|amount| self.refusing.judge(&record).map(|()| amount));
        let key = record.key.as_deref().map(|key| self.intern(key));
        let partition = &mut self.partitions[record.partition as usize];
        let newest_before_ms = partition.newest_ms;
        // What a source refuses says nothing about time; what a guest refuses does.
        if judged.as_ref().map_or_else(|code| is_by_guest(code), |_| true) {
            partition.newest_ms = partition.newest_ms.max(record.timestamp_ms);
        }
        let fate = match (judged, key) {
            (Ok(amount), Some(id)) => {
                let key = &mut self.keys[id as usize];
                key.count += 1;
                key.sum = key.sum.wrapping_add(amount);
                self.counted += 1;
                Fate::Counted { nth: key.count, sum: key.sum }
            }
            (judged, _) => {
                self.refused += 1;
                let code = judged.err().unwrap_or("missing-key");
                Fate::Refused(Box::new(Refusal { code, key: record.key, value: record.value }))
            }
        };
        let entry = Entry { offset: record.offset, time_ms: record.timestamp_ms, newest_before_ms, key, fate };
        partition.entries.push(entry);
        Ok(())
    }

    pub fn records(&self) -> u64 {
        self.counted + self.refused
    }

    pub fn key_id(&self, key: &[u8]) -> Option<KeyId> {
        self.ids.get(key).copied()
    }

    pub fn key_name(&self, id: KeyId) -> String {
        self.keys.get(id as usize).map(|key| String::from_utf8_lossy(&key.name).into_owned()).unwrap_or_default()
    }

    /// Whether the input is what its producers say they sent: only then does a judgement rest on something.
    ///
    /// # Errors
    /// A sequence number is there twice, or one below the highest is not there.
    pub fn check_senders(&self) -> Result<(), Error> {
        for (producer, sequences) in &self.senders {
            if let Some(first) = sequences.first_doubled {
                let doubled = sequences.doubled;
                return Err(Error::unfit(format!(
                    "input {}: {doubled} records of producer {producer} are there twice, the first has sequence {first}",
                    self.topic
                )));
            }
            if let Some(first) = sequences.first_missing() {
                return Err(Error::unfit(format!(
                    "input {}: {} of {} records of producer {producer} are not there, the first has sequence {first}",
                    self.topic,
                    sequences.end - sequences.taken,
                    sequences.end
                )));
            }
        }
        Ok(())
    }

    fn intern(&mut self, key: &[u8]) -> KeyId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = self.keys.len() as KeyId;
        self.keys.push(Key { name: key.to_vec(), count: 0, sum: 0 });
        self.ids.insert(key.to_vec(), id);
        id
    }
}

impl Refusing {
    fn judge(&self, record: &Record) -> Result<(), &'static str> {
        let bytes = record.key.as_ref().map_or(0, Vec::len);
        let refused = self.key_bytes.is_some_and(|least| bytes >= least)
            || self.before_ms.is_some_and(|before| record.timestamp_ms < before);
        if refused { Err(OUTPUT_REFUSED) } else { Ok(()) }
    }
}

/// The amount that a record adds, or the code of its dead letter. `spread_over`: partitions, where several tasks read them.
fn judge(record: &Record, spread_over: Option<i32>, guest: Guest) -> Result<i64, &'static str> {
    let value = record.value.as_deref().ok_or("null-value")?;
    let value: Value = serde_json::from_slice(value).map_err(|_| "malformed-json")?;
    let key = record.key.as_deref().ok_or("missing-key")?;
    if spread_over.is_some_and(|partitions| partition_of(key, partitions) != record.partition) {
        return Err("wrong-partition");
    }
    if record.timestamp_ms < 0 {
        return Err("missing-time");
    }
    let fields = value.as_object().ok_or(BAD_PAYLOAD)?;
    let amount = fields.get("amount").map_or(Some(0), Value::as_i64).ok_or(BAD_PAYLOAD)?;
    let asks = |what: &str| guest == Guest::Checked && fields.get(what) == Some(&Value::Bool(true));
    if asks("trap") {
        return Err(TRAP);
    }
    if asks("refuse") {
        return Err(REFUSED);
    }
    Ok(amount)
}

const OUTPUT_REFUSED: &str = "output-refused";
pub const BAD_PAYLOAD: &str = "bad-payload";
pub const TRAP: &str = "trap";
const REFUSED: &str = "refused";

fn is_by_guest(code: &str) -> bool {
    [BAD_PAYLOAD, TRAP, REFUSED, OUTPUT_REFUSED].contains(&code)
}

/// Which producer sent a record, as which of its records.
pub fn identity(record: &Record) -> Option<(String, u64)> {
    let (producer, sequence) = if let Some(named) = record.header(IDENTITY_HEADER) {
        let (producer, sequence) = named.rsplit_once('/')?;
        (producer.to_owned(), sequence.parse().ok()?)
    } else {
        let value: Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
        (value.get("producer")?.as_str()?.to_owned(), value.get("sequence")?.as_u64()?)
    };
    (sequence < SEQUENCES).then_some((producer, sequence))
}

/// Which sequence numbers were seen: from 0, one bit each.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    words: Vec<u64>,
    taken: u64,
    end: u64,
    doubled: u64,
    first_doubled: Option<u64>,
}

impl Sequences {
    pub fn take(&mut self, sequence: u64) {
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit != 0 {
            self.doubled += 1;
            self.first_doubled.get_or_insert(sequence);
            return;
        }
        self.words[word] |= bit;
        self.taken += 1;
        self.end = self.end.max(sequence + 1);
    }

    pub fn has(&self, sequence: u64) -> bool {
        self.words.get((sequence / 64) as usize).is_some_and(|word| word & (1 << (sequence % 64)) != 0)
    }

    pub fn doubled(&self) -> u64 {
        self.doubled
    }

    fn first_missing(&self) -> Option<u64> {
        if self.taken == self.end { None } else { (0..self.end).find(|sequence| !self.has(*sequence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64, key: &str, value: &str) -> Record {
        let (key, value) = (Some(key.into()), Some(value.into()));
        Record { partition, offset, timestamp_ms: 1_000 + offset, key, value, ..Record::default() }
    }

    fn fates(records: Vec<Record>) -> Vec<String> {
        let mut inputs = Inputs::new("in", 1, Guest::Checked);
        records.into_iter().for_each(|record| inputs.add(record).unwrap());
        let told = |entry: &Entry| match &entry.fate {
            Fate::Counted { nth, sum } => format!("{nth}:{sum}"),
            Fate::Refused(refusal) => refusal.code.to_owned(),
        };
        inputs.partitions[0].entries.iter().map(told).collect()
    }

    #[test]
    fn a_record_is_counted_after_those_of_its_key_or_refused_by_its_code() {
        let good = record(0, 0, "a", r#"{"amount":5}"#);
        let found = fates(vec![
            good.clone(),
            Record { offset: 1, value: None, ..good.clone() },
            Record { offset: 2, key: None, ..good.clone() },
            record(0, 3, "a", r#"{"amount":"#),
            record(0, 4, "a", r#"{"amount":"5"}"#),
            record(0, 5, "a", r#"{"amount":1,"trap":true}"#),
            record(0, 6, "a", r#"{"amount":1,"refuse":true}"#),
            record(0, 7, "b", r#"{}"#),
            record(0, 8, "a", r#"{"amount":-7}"#),
        ]);
        let expected =
            ["1:5", "null-value", "missing-key", "malformed-json", "bad-payload", "trap", "refused", "1:0", "2:-2"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_record_whose_output_the_brokers_refuse_is_refused_and_not_counted() {
        let mut inputs = Inputs::new("in", 1, Guest::Checked);
        inputs.refusing = Refusing { key_bytes: Some(3), before_ms: Some(1_001) };
        for (offset, key) in [(0, "a"), (1, "abc"), (2, "ab")] {
            inputs.add(record(0, offset, key, r#"{"amount":1}"#)).unwrap();
        }
        let counted = inputs.partitions[0].entries.iter().map(|entry| matches!(entry.fate, Fate::Counted { .. }));
        assert_eq!(counted.collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn a_record_from_another_partition_than_its_keys_is_refused() {
        let mut inputs = Inputs::new("in", 2, Guest::Checked);
        let wrong = 1 - partition_of(b"a", 2);
        inputs.add(record(wrong, 0, "a", "{}")).unwrap();
        let Fate::Refused(refusal) = &inputs.partitions[wrong as usize].entries[0].fate else { panic!() };
        assert_eq!(refusal.code, "wrong-partition");
        assert_eq!(inputs.partitions[wrong as usize].newest_ms, BEFORE_ALL_MS, "what a source refuses has no time");
    }

    #[test]
    fn a_single_task_refuses_no_record_for_its_partition() {
        let mut inputs = Inputs { one_task: true, ..Inputs::new("in", 2, Guest::Checked) };
        for partition in [0, 1] {
            inputs.add(record(partition, 0, "a", "{}")).unwrap();
        }
        assert_eq!((inputs.counted, inputs.refused), (2, 0));
    }

    #[test]
    fn the_newest_time_below_an_offset_is_known_also_in_gaps_and_at_the_end() {
        let mut inputs = Inputs::new("in", 1, Guest::Checked);
        [3, 5, 9].into_iter().for_each(|offset| inputs.add(record(0, offset, "a", "{}")).unwrap());
        let partition = &inputs.partitions[0];
        assert_eq!([3, 4, 5, 9, 10].map(|at| partition.newest_below(at)), [BEFORE_ALL_MS, 1_003, 1_003, 1_005, 1_009]);
    }

    #[test]
    fn a_sequence_that_is_missing_or_doubled_makes_the_input_unfit() {
        let sent = |offset: i64, sequence: &i64| {
            record(0, offset, "a", &format!(r#"{{"producer":"p","sequence":{sequence}}}"#))
        };
        let told = |sequences: &[i64]| {
            let mut inputs = Inputs::new("in", 1, Guest::Checked);
            sequences.iter().zip(0..).for_each(|(sequence, offset)| inputs.add(sent(offset, sequence)).unwrap());
            inputs.check_senders().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(told(&[1, 0, 2]), "");
        assert!(told(&[0, 2, 3]).contains("1 of 4 records of producer p are not there, the first has sequence 1"));
        assert!(told(&[0, 1, 1]).contains("1 records of producer p are there twice, the first has sequence 1"));
    }

    #[test]
    fn a_header_names_a_record_whose_value_cannot() {
        let headers = vec![(IDENTITY_HEADER.to_owned(), Some(b"p/1/17".to_vec()))];
        assert_eq!(identity(&Record { headers, ..Record::default() }), Some(("p/1".to_owned(), 17)));
    }
}
