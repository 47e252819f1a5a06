use std::sync::Arc;

use super::*;
use crate::wasm::contract::{Emitted, Migration, Needs, StateDecl, StateWrites, TimerDecl, TimerWrites};

/// Counts per key and sets a timer; `leaky` keeps the number of calls in guest memory and shows it.
struct Counter {
    leaky: bool,
    calls: u64,
}

impl Counter {
    fn answer(&mut self, keyed: &Keyed, slots: &[u32], times: &[EventTime], timers: bool) -> Answer {
        self.calls += 1;
        let read = |slot: u32| keyed.values.get(slot as usize).map_or(0, |bytes| bytes[0]);
        let mut counts: Vec<u8> = (0..keyed.keys.len() as u32).map(read).collect();
        let mut values = Blobs::new();
        for &slot in slots {
            counts[slot as usize] = counts[slot as usize].wrapping_add(1);
            let shown = if self.leaky { self.calls as u8 } else { counts[slot as usize] };
            values.push(Some(&[shown]));
        }
        let writes = StateWrites {
            states: vec![0; counts.len()],
            slots: (0..counts.len() as u32).collect(),
            values: counts.iter().map(std::slice::from_ref).map(Some).collect(),
            ..StateWrites::default()
        };
        let set = TimerWrites {
            timers: vec![0; slots.len()],
            slots: slots.to_vec(),
            times: times.iter().map(|time| time + 300).collect(),
            ops: Vec::new(),
        };
        Answer {
            emitted: Emitted { origins: (0..slots.len() as u32).collect(), values: Some(values), ..Emitted::default() },
            writes,
            timers: if timers { set } else { TimerWrites::default() },
            ..Answer::default()
        }
    }
}

impl Guest for Counter {
    fn process(&mut self, _: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        Ok(self.answer(&batch.keyed, &batch.slots, &batch.event_times, true))
    }
    fn on_timer(&mut self, _: Moment, batch: &TimerCall) -> Result<Answer, GuestError> {
        Ok(self.answer(&batch.keyed, &batch.slots, &batch.times, false))
    }
    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        Ok(migration.values.clone())
    }
}

struct Factory {
    leaky: bool,
    description: Arc<Description>,
}

impl Factory {
    fn new(leaky: bool) -> Self {
        let tally = StateDecl {
            name: "tally".into(),
            version: 1,
            reads: Vec::new(),
            reverts_to: Vec::new(),
            encoding: "opaque".into(),
            fingerprint: "u8".into(),
        };
        let description = Description {
            keyed: true,
            inputs: vec!["in".into()],
            outputs: vec!["out".into()],
            states: vec![tally],
            timers: vec![TimerDecl { name: "later".into() }],
            needs: Needs::default(),
            ..Description::default()
        };
        Self { leaky, description: Arc::new(description) }
    }
}

impl GuestFactory for Factory {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }
    fn instantiate(&self, _: &Context) -> Result<Box<dyn Guest>, GuestError> {
        Ok(Box::new(Counter { leaky: self.leaky, calls: 0 }))
    }
}

fn samples() -> Vec<Sample> {
    let sample = |i: i64| Sample {
        input: 0,
        key: Some(format!("k{}", i % 13).into_bytes()),
        value: Some(b"x".to_vec()),
        event_time: i * 10,
        headers: Vec::new(),
    };
    (0..1_000).map(sample).collect()
}

#[test]
fn a_module_that_keeps_nothing_in_memory_gives_the_same_answers_in_every_cut() {
    let report = check(&Factory::new(false), &[], &samples()).unwrap();
    assert_eq!(report.difference, None);
    assert_eq!((report.records, report.cuts.len()), (1_000, CUTS.len()));
    assert!(report.timers_fired > 900, "{}", report.timers_fired);
}

#[test]
fn memory_that_outlives_a_call_is_found_and_the_record_named() {
    let report = check(&Factory::new(true), &[], &samples()).unwrap();
    let difference = report.difference.unwrap();
    assert!(difference.starts_with("in batches of 256 and in batches of 1: emission 1 is record 1"), "{difference}");
}

/// Copies the headers of every record; `careless` takes one entry per record for granted.
struct Copier {
    careless: bool,
}

impl Guest for Copier {
    fn process(&mut self, _: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        let headers = batch.headers.clone().unwrap();
        if self.careless && headers.ends.len() != batch.values.len() {
            return Err(GuestError::Trap { message: "index out of bounds".into(), last_words: None });
        }
        let origins = (0..batch.values.len() as u32).collect();
        Ok(Answer { emitted: Emitted { origins, headers: Some(headers), ..Emitted::default() }, ..Answer::default() })
    }
    fn on_timer(&mut self, _: Moment, _: &TimerCall) -> Result<Answer, GuestError> {
        Ok(Answer::default())
    }
    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        Ok(migration.values.clone())
    }
}

struct Copiers {
    careless: bool,
    description: Arc<Description>,
}

impl GuestFactory for Copiers {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }
    fn instantiate(&self, _: &Context) -> Result<Box<dyn Guest>, GuestError> {
        Ok(Box::new(Copier { careless: self.careless }))
    }
}

fn copiers(careless: bool) -> Copiers {
    let description = Description {
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        needs: Needs { headers: true, ..Needs::default() },
        ..Description::default()
    };
    Copiers { careless, description: Arc::new(description) }
}

#[test]
fn a_module_that_asks_for_headers_is_shown_none_some_and_all() {
    let report = check(&copiers(false), &[], &samples()).unwrap();
    assert_eq!((report.difference, report.emitted, report.headers.len()), (None, 1_000, 3));
    let headed = samples().into_iter().map(|sample| Sample { headers: vec![(b"h".to_vec(), None)], ..sample });
    let refused = check(&copiers(true), &[], &headed.collect::<Vec<_>>()).unwrap_err();
    assert_eq!(refused, "no record with headers, batches of 256: the module trapped: index out of bounds");
}
