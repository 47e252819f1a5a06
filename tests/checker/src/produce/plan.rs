//! What a producer sends: every record follows from seed, producer and sequence, so that one can be made again.
//!
//! Owns the shapes of good and malformed records. Sends nothing.

use crate::input::IDENTITY_HEADER;
use crate::random::Random;
use crate::record::partition_of;

/// The ways in which a record is malformed on request, each with one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    BrokenJson,
    NullValue,
    NoKey,
    WrongPartition,
    BadPayload,
    /// The guest `checked` refuses it after it has changed its state.
    Refused,
    /// The guest `checked` traps on it after it has changed its state.
    Trap,
}

impl Poison {
    pub const ALL: [Self; 7] = [
        Self::BrokenJson,
        Self::NullValue,
        Self::NoKey,
        Self::WrongPartition,
        Self::BadPayload,
        Self::Refused,
        Self::Trap,
    ];

    /// The code of its dead letter.
    pub fn code(self) -> &'static str {
        match self {
            Self::BrokenJson => "malformed-json",
            Self::NullValue => "null-value",
            Self::NoKey => "missing-key",
            Self::WrongPartition => "wrong-partition",
            Self::BadPayload => "bad-payload",
            Self::Refused => "refused",
            Self::Trap => "trap",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub producer: String,
    pub seed: u64,
    pub keys: u64,
    /// Length of every key; below seven, as short as they come.
    pub key_bytes: usize,
    /// Filling in each value.
    pub payload_bytes: usize,
    /// Malformed records per thousand.
    pub poison_per_mille: u32,
    /// Event time of sequence 0. Brokers forget a producer by the time of its records (`producer.id.expiration.ms`, one
    /// day): where that is older, one that restarts takes a repetition for a second record.
    pub start_ms: i64,
    /// Event time from one sequence to the next.
    pub step_us: u64,
}

/// One record to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub sequence: u64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub amount: i64,
    pub timestamp_ms: i64,
    pub partition: i32,
    pub headers: Vec<(String, Vec<u8>)>,
    pub poison: Option<Poison>,
}

impl Plan {
    pub fn record(&self, sequence: u64, partitions: i32) -> Planned {
        let mut random = Random::of(self.seed, &self.producer, sequence);
        let key = self.key(random.below(self.keys.max(1)));
        let amount = random.below(2_001) as i64 - 1_000;
        let poison = random.per_mille(self.poison_per_mille).then(|| {
            let kind = random.below(Poison::ALL.len() as u64) as usize;
            Poison::ALL[kind]
        });
        // With one partition there is no wrong one.
        let poison = poison.filter(|poison| *poison != Poison::WrongPartition || partitions > 1);
        let right = partition_of(&key, partitions);
        let mut planned = Planned {
            sequence,
            key: Some(key),
            value: Some(self.value(sequence, amount.to_string().as_str(), "")),
            amount,
            timestamp_ms: self.start_ms.saturating_add(self.after_start(sequence)),
            partition: right,
            headers: Vec::new(),
            poison,
        };
        if let Some(poison) = poison {
            planned.headers = vec![(IDENTITY_HEADER.to_owned(), format!("{}/{sequence}", self.producer).into_bytes())];
            self.spoil(&mut planned, poison, partitions);
        }
        planned
    }

    fn key(&self, number: u64) -> Vec<u8> {
        let mut key = format!("k{number:06}");
        // Such as no compression makes short.
        let mut random = Random::of(self.seed, "key", number);
        while key.len() < self.key_bytes {
            key.push(char::from(b'a' + random.below(26) as u8));
        }
        key.into_bytes()
    }

    fn after_start(&self, sequence: u64) -> i64 {
        i64::try_from(u128::from(sequence) * u128::from(self.step_us) / 1_000).unwrap_or(i64::MAX)
    }

    fn value(&self, sequence: u64, amount: &str, more: &str) -> Vec<u8> {
        let fill = "x".repeat(self.payload_bytes);
        let (producer, fill) = (serde_json::Value::from(self.producer.as_str()), serde_json::Value::from(fill));
        format!(r#"{{"producer":{producer},"sequence":{sequence},"amount":{amount}{more},"fill":{fill}}}"#).into_bytes()
    }

    fn spoil(&self, planned: &mut Planned, poison: Poison, partitions: i32) {
        let (sequence, amount) = (planned.sequence, planned.amount.to_string());
        match poison {
            Poison::BrokenJson => {
                if let Some(value) = &mut planned.value {
                    value.pop();
                }
            }
            Poison::NullValue => planned.value = None,
            Poison::NoKey => planned.key = None,
            Poison::WrongPartition => planned.partition = (planned.partition + 1) % partitions,
            Poison::BadPayload => planned.value = Some(self.value(sequence, r#""much""#, "")),
            Poison::Refused => planned.value = Some(self.value(sequence, &amount, r#","refuse":true"#)),
            Poison::Trap => planned.value = Some(self.value(sequence, &amount, r#","trap":true"#)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Fate, Guest, Inputs, identity};
    use crate::record::Record;

    fn plan() -> Plan {
        Plan {
            producer: "p1".to_owned(),
            seed: 7,
            keys: 20,
            key_bytes: 0,
            payload_bytes: 10,
            poison_per_mille: 500,
            start_ms: 1_000_000,
            step_us: 500,
        }
    }

    pub(crate) fn laid(planned: Planned, offset: i64) -> Record {
        Record {
            partition: planned.partition,
            offset,
            timestamp_ms: planned.timestamp_ms,
            key: planned.key,
            value: planned.value,
            headers: planned.headers.into_iter().map(|(name, value)| (name, Some(value))).collect(),
        }
    }

    #[test]
    fn every_malformed_record_is_refused_for_the_fault_it_was_made_with() {
        let mut inputs = Inputs::new("in", 3, Guest::Checked);
        let mut kinds = std::collections::BTreeSet::new();
        for sequence in 0..2_000 {
            let planned = plan().record(sequence, 3);
            let (partition, poison) = (planned.partition as usize, planned.poison);
            let record = laid(planned, sequence as i64);
            assert_eq!(identity(&record), Some(("p1".to_owned(), sequence)));
            inputs.add(record).unwrap();
            let code = match &inputs.partitions[partition].entries.last().unwrap().fate {
                Fate::Counted { .. } => None,
                Fate::Refused(refusal) => Some(refusal.code),
            };
            assert_eq!(code, poison.map(Poison::code), "sequence {sequence}");
            kinds.extend(code);
        }
        assert_eq!(kinds.len(), Poison::ALL.len());
        inputs.check_senders().unwrap();
    }

    #[test]
    fn keys_are_as_long_as_asked_for_and_as_many() {
        let long = Plan { key_bytes: 300, ..plan() };
        let keys: std::collections::BTreeSet<_> = (0..400).filter_map(|at| long.record(at, 4).key).collect();
        assert!(keys.len() == 20 && keys.iter().all(|key| key.len() == 300));
    }

    #[test]
    fn a_record_follows_from_seed_and_sequence_alone_and_time_ascends() {
        assert_eq!(plan().record(17, 4), plan().record(17, 4));
        assert_ne!(Plan { seed: 8, ..plan() }.record(17, 4).amount, plan().record(17, 4).amount);
        assert_eq!([0, 1, 2, 3].map(|at| plan().record(at, 4).timestamp_ms - 1_000_000), [0, 0, 1, 1]);
    }
}
