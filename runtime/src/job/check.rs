//! Does a module give the same answers however its input is cut, and whenever its instance is replaced?
//!
//! Owns a small host in memory: state as a map, timers as a set, the watermark behind every poll. Runs the same sample
//! through it again and again, each time in another cut, and names the first thing that differs. A module that asks for
//! headers gets the sample with no headers, with some and with headers on every record, since the column is empty where
//! no record has any. Needs no log and no server. Read [`check`] first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{BEFORE_ALL_TIME, Blobs, EventTime, Headers};
use crate::wasm::contract::{
    Answer, Context, Coordinates, Description, Guest, GuestError, GuestFactory, Keyed, Moment, NO_POSITION, RecordCall,
    TimerCall,
};
use crate::wasm::{Limits, Shape};

/// Records between two advances of the watermark: the same in every run, whatever the cut.
const POLL_RECORDS: usize = 256;
/// Due timers that are looked up at once.
const TIMERS_AT_ONCE: usize = 256;
/// More timers than this: the module sets them without end.
const TIMERS_MAX: usize = 1_000_000;

/// A record of the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Position of the declared input.
    pub input: u8,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub event_time: EventTime,
    pub headers: Vec<Header>,
}

/// Name and value.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// Which records of the sample have headers in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeaderVariant {
    AsGiven,
    None,
    /// Every second record one of the check's own, where it has none.
    Some,
    All,
}

impl HeaderVariant {
    /// Modules that do not ask for headers get the sample as it is.
    fn all(declared: &Description) -> &'static [Self] {
        if declared.needs.headers { &[Self::AsGiven, Self::None, Self::Some, Self::All] } else { &[Self::AsGiven] }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::AsGiven => None,
            Self::None => Some("no record with headers"),
            Self::Some => Some("every second record with headers"),
            Self::All => Some("every record with headers"),
        }
    }

    fn headers(self, i: usize, given: &[Header]) -> Vec<Header> {
        let own = || vec![(b"forebay-check".to_vec(), Some(i.to_string().into_bytes())), (b"empty".to_vec(), None)];
        let or_own = || if given.is_empty() { own() } else { given.to_vec() };
        match self {
            Self::AsGiven => given.to_vec(),
            Self::None => Vec::new(),
            Self::Some if i.is_multiple_of(2) => or_own(),
            Self::Some => Vec::new(),
            Self::All => or_own(),
        }
    }

    fn apply(self, samples: &[Sample]) -> Vec<Sample> {
        let with_headers =
            |(i, sample): (usize, &Sample)| Sample { headers: self.headers(i, &sample.headers), ..sample.clone() };
        samples.iter().enumerate().map(with_headers).collect()
    }
}

/// How a run cuts its calls.
#[derive(Clone, Copy, Debug)]
struct Cut {
    name: &'static str,
    records: usize,
    /// A fresh instance for every call.
    fresh: bool,
}

const CUTS: [Cut; 6] = [
    Cut { name: "batches of 256", records: 256, fresh: false },
    Cut { name: "batches of 1", records: 1, fresh: false },
    Cut { name: "batches of 7", records: 7, fresh: false },
    Cut { name: "batches of 256, a fresh instance for each", records: 256, fresh: true },
    Cut { name: "halves, a fresh instance for each", records: 128, fresh: true },
    Cut { name: "batches of 1, a fresh instance for each", records: 1, fresh: true },
];

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub records: usize,
    pub emitted: usize,
    pub refused: usize,
    pub timers_fired: usize,
    /// The cuts that were compared.
    pub cuts: Vec<&'static str>,
    /// For a module that asks for headers: the variants of headers that the sample was compared with.
    pub headers: Vec<&'static str>,
    /// What differed, and between which cuts. None = the module is sound on this sample.
    pub difference: Option<String>,
}

/// Runs `samples` through the module in every cut.
///
/// # Errors
/// What the module did wrong by itself: a trap, a wrong answer, in which cut.
pub fn check(
    factory: &dyn GuestFactory,
    parameters: &[(String, String)],
    samples: &[Sample],
) -> Result<Report, String> {
    let mut report = Report { records: samples.len(), ..Report::default() };
    for &variant in HeaderVariant::all(factory.description()) {
        let sample = variant.apply(samples);
        report.headers.extend(variant.name());
        let found = compare_cuts(factory, parameters, &sample, &mut report);
        let of_variant = |found: String| match variant.name() {
            Some(name) => format!("{name}, {found}"),
            None => found,
        };
        report.difference = found.map_err(of_variant)?.map(of_variant);
        if report.difference.is_some() {
            break;
        }
    }
    Ok(report)
}

/// The first difference between two cuts of one sample. Counts of the first sample go to the report.
fn compare_cuts(
    factory: &dyn GuestFactory,
    parameters: &[(String, String)],
    samples: &[Sample],
    report: &mut Report,
) -> Result<Option<String>, String> {
    let mut first: Option<Outcome> = None;
    let is_first_sample = report.cuts.is_empty();
    for cut in CUTS {
        let outcome = Run::new(factory, parameters, samples, cut).and_then(Run::all);
        let outcome = outcome.map_err(|error| format!("{}: the module {error}", cut.name))?;
        if is_first_sample {
            report.cuts.push(cut.name);
        }
        let Some(first) = &first else {
            if is_first_sample {
                report.emitted = outcome.emitted.len();
                report.refused = outcome.refused.len();
                report.timers_fired = outcome.timers_fired;
            }
            first = Some(outcome);
            continue;
        };
        if let Some(difference) = first.difference(&outcome) {
            return Ok(Some(format!("in {} and in {}: {difference}", CUTS[0].name, cut.name)));
        }
    }
    Ok(None)
}

/// Where a record came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Record(usize),
    Timer { time: EventTime, timer: u8, key: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Emission {
    cause: Cause,
    output: u8,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    event_time: EventTime,
    headers: Vec<Header>,
    partition: i32,
}

type StateKey = (u8, Vec<u8>);
type Timer = (EventTime, u8, Vec<u8>);

/// Everything by which two runs are compared.
#[derive(Default)]
struct Outcome {
    emitted: Vec<Emission>,
    refused: BTreeMap<Cause, (String, String)>,
    state: BTreeMap<StateKey, Vec<u8>>,
    timers: BTreeSet<Timer>,
    timers_fired: usize,
}

impl Outcome {
    fn difference(&self, other: &Self) -> Option<String> {
        if let Some(i) =
            (0..self.emitted.len().max(other.emitted.len())).find(|&i| self.emitted.get(i) != other.emitted.get(i))
        {
            let (a, b) = (self.emitted.get(i).map(shown), other.emitted.get(i).map(shown));
            let none = || "nothing".to_owned();
            return Some(format!("emission {i} is {} and {}", a.unwrap_or_else(none), b.unwrap_or_else(none)));
        }
        if self.refused != other.refused {
            return Some(format!(
                "{} and {} records are refused, or for other reasons",
                self.refused.len(),
                other.refused.len()
            ));
        }
        if self.state != other.state {
            let key =
                self.state.keys().chain(other.state.keys()).find(|key| self.state.get(*key) != other.state.get(*key));
            let (state, key) = key.map_or((0, "?".into()), |(state, key)| (*state, String::from_utf8_lossy(key)));
            return Some(format!("state number {state} of key {key:?} ends with other values"));
        }
        (self.timers != other.timers).then(|| "other timers are left".to_owned())
    }
}

fn shown(emission: &Emission) -> String {
    let text =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("null".into(), |b| String::from_utf8_lossy(b).into_owned());
    let cause = match &emission.cause {
        Cause::Record(index) => format!("record {index}"),
        Cause::Timer { time, timer, .. } => format!("timer {timer} at {time}"),
    };
    let value: String = text(&emission.value).chars().take(200).collect();
    format!("{cause} → output {} key {} value {value}", emission.output, text(&emission.key))
}

struct Run<'a> {
    factory: &'a dyn GuestFactory,
    declared: &'a Description,
    context: Context,
    samples: &'a [Sample],
    cut: Cut,
    guest: Box<dyn Guest>,
    watermark: EventTime,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(
        factory: &'a dyn GuestFactory,
        parameters: &[(String, String)],
        samples: &'a [Sample],
        cut: Cut,
    ) -> Result<Self, GuestError> {
        let declared: &Description = factory.description();
        let context = Context {
            job: "check".to_owned(),
            operator_id: "check".to_owned(),
            parameters: parameters.to_vec(),
            connected_outputs: (0..declared.outputs.len() as u8).collect(),
        };
        let guest = factory.instantiate(&context)?;
        let (watermark, outcome) = (BEFORE_ALL_TIME, Outcome::default());
        Ok(Self { factory, declared, context, samples, cut, guest, watermark, outcome })
    }

    fn all(mut self) -> Result<Outcome, GuestError> {
        let mut start = 0;
        let mut newest = BEFORE_ALL_TIME;
        while start < self.samples.len() {
            let poll = start..(start + POLL_RECORDS).min(self.samples.len());
            for from in poll.clone().step_by(self.cut.records) {
                self.records(from, (from + self.cut.records).min(poll.end))?;
            }
            newest = self.samples[poll.clone()].iter().map(|sample| sample.event_time).fold(newest, EventTime::max);
            self.advance(newest)?;
            start = poll.end;
        }
        Ok(self.outcome)
    }

    fn renewed(&mut self) -> Result<&mut Box<dyn Guest>, GuestError> {
        if self.cut.fresh {
            self.guest = self.factory.instantiate(&self.context)?;
        }
        Ok(&mut self.guest)
    }

    fn moment(&self) -> Moment {
        // The same processing time in every run, so that it cannot be the cause of a difference.
        let now = if self.declared.needs.processing_time { 0 } else { EventTime::MIN };
        Moment { watermark: self.watermark, now }
    }

    fn records(&mut self, from: usize, to: usize) -> Result<(), GuestError> {
        let samples = &self.samples[from..to];
        let keys = samples.iter().map(|sample| sample.key.as_deref());
        let mut call = RecordCall::default();
        if self.declared.keyed {
            (call.keyed.keys, call.slots) = slots(keys);
            call.keyed.values = self.gather(&call.keyed.keys);
        } else {
            call.record_keys = Some(keys.collect());
        }
        if samples.iter().any(|sample| sample.input != 0) {
            call.inputs = samples.iter().map(|sample| sample.input).collect();
        }
        call.values = samples.iter().map(|sample| sample.value.as_deref()).collect();
        call.event_times = samples.iter().map(|sample| sample.event_time).collect();
        if self.declared.needs.headers {
            call.headers = Some(headers(samples));
        }
        if self.declared.needs.coordinates {
            let (partitions, offsets) = (vec![0; samples.len()], (from as i64..to as i64).collect());
            call.coordinates = Some(Coordinates { partitions, offsets });
        }
        if self.declared.needs.seeds {
            call.seeds = (from as u64..to as u64).collect();
        }
        let moment = self.moment();
        let answer = self.renewed()?.process(moment, &call)?;
        answer.check(&Shape::of_records(self.declared, &call, Limits::default()))?;
        let origins: Vec<Origin> = (from..to)
            .map(|i| Origin {
                cause: Cause::Record(i),
                key: self.samples[i].key.clone(),
                value: self.samples[i].value.clone(),
                event_time: self.samples[i].event_time,
                headers: self.samples[i].headers.clone(),
            })
            .collect();
        self.take(&answer, &origins, &call.keyed);
        Ok(())
    }

    /// Fires what has come due, in order, until nothing is left.
    fn advance(&mut self, to: EventTime) -> Result<(), GuestError> {
        loop {
            let due: Vec<Timer> = self
                .outcome
                .timers
                .iter()
                .take_while(|(time, _, _)| *time <= to)
                .take(TIMERS_AT_ONCE)
                .cloned()
                .collect();
            if due.is_empty() {
                self.watermark = to;
                return Ok(());
            }
            for part in due.chunks(self.cut.records) {
                self.timers(part)?;
            }
            self.outcome.timers_fired += due.len();
            if self.outcome.timers_fired > TIMERS_MAX {
                return Err(GuestError::Answer(format!(
                    "more than {TIMERS_MAX} timers fired: they set each other without end"
                )));
            }
        }
    }

    fn timers(&mut self, due: &[Timer]) -> Result<(), GuestError> {
        let (keys, slots) = slots(due.iter().map(|(_, _, key)| Some(&key[..])));
        let values = self.gather(&keys);
        let seeds = due.iter().map(|(time, timer, _)| *time as u64 ^ u64::from(*timer));
        let call = TimerCall {
            keyed: Keyed { keys, values },
            slots,
            timers: due.iter().map(|(_, timer, _)| *timer).collect(),
            times: due.iter().map(|(time, _, _)| *time).collect(),
            seeds: if self.declared.needs.seeds { seeds.collect() } else { Vec::new() },
        };
        for timer in due {
            self.outcome.timers.remove(timer);
        }
        let moment = self.moment();
        let answer = self.renewed()?.on_timer(moment, &call)?;
        answer.check(&Shape::of_timers(self.declared, &call, Limits::default()))?;
        let origin = |(time, timer, key): &Timer| Origin {
            cause: Cause::Timer { time: *time, timer: *timer, key: key.clone() },
            key: Some(key.clone()),
            value: None,
            event_time: *time,
            headers: Vec::new(),
        };
        let origins: Vec<Origin> = due.iter().map(origin).collect();
        self.take(&answer, &origins, &call.keyed);
        Ok(())
    }

    fn gather(&self, keys: &Blobs) -> Blobs {
        let mut values = Blobs::new();
        for state in 0..self.declared.states.len() as u8 {
            for key in keys.iter() {
                let key = key.unwrap_or_default().to_vec();
                values.push(self.outcome.state.get(&(state, key)).map(Vec::as_slice));
            }
        }
        values
    }

    /// Takes over a checked answer: what it leaves out comes from the origin.
    fn take(&mut self, answer: &Answer, origins: &[Origin], keyed: &Keyed) {
        let emitted = &answer.emitted;
        for (i, &origin) in emitted.origins.iter().enumerate() {
            let origin = &origins[origin as usize];
            let or = |column: &Option<Blobs>, own: &Option<Vec<u8>>| match column {
                Some(column) => column.get(i).map(<[u8]>::to_vec),
                None => own.clone(),
            };
            self.outcome.emitted.push(Emission {
                cause: origin.cause.clone(),
                output: emitted.outputs.get(i).copied().unwrap_or(0),
                key: or(&emitted.keys, &origin.key),
                value: or(&emitted.values, &origin.value),
                event_time: emitted.event_times.get(i).copied().unwrap_or(origin.event_time),
                headers: emitted
                    .headers
                    .as_ref()
                    .map_or_else(|| origin.headers.clone(), |headers| headers_of(headers, i)),
                partition: emitted.partitions.get(i).copied().unwrap_or(-1),
            });
        }
        for refusal in &answer.refusals {
            let cause = origins[refusal.record_index as usize].cause.clone();
            self.outcome.refused.insert(cause, (refusal.code.clone(), refusal.message.clone()));
        }
        self.write(answer, keyed);
    }

    fn write(&mut self, answer: &Answer, keyed: &Keyed) {
        let writes = &answer.writes;
        for (i, (&state, &slot)) in writes.states.iter().zip(&writes.slots).enumerate() {
            let key = (state, keyed.keys.bytes(slot as usize).to_vec());
            let clear = writes.ops.get(i) == Some(&1);
            match writes.values.get(i).filter(|_| !clear) {
                Some(value) => drop(self.outcome.state.insert(key, value.to_vec())),
                None => drop(self.outcome.state.remove(&key)),
            }
        }
        let timers = &answer.timers;
        for (i, ((&timer, &slot), &time)) in timers.timers.iter().zip(&timers.slots).zip(&timers.times).enumerate() {
            let entry = (time, timer, keyed.keys.bytes(slot as usize).to_vec());
            if timers.ops.get(i) == Some(&0) {
                self.outcome.timers.remove(&entry);
            } else {
                self.outcome.timers.insert(entry);
            }
        }
    }
}

/// What an emission takes over where it says nothing.
struct Origin {
    cause: Cause,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    event_time: EventTime,
    headers: Vec<Header>,
}

/// As the host builds them: nothing at all where no record of the call has a header.
fn headers(samples: &[Sample]) -> Headers {
    let mut column = Headers::default();
    for (record, sample) in samples.iter().enumerate() {
        sample.headers.iter().for_each(|(name, value)| column.push(name, value.as_deref()));
        column.end_record(record);
    }
    column
}

fn headers_of(headers: &Headers, i: usize) -> Vec<Header> {
    headers.of(i).map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
}

/// The distinct keys, and per entry the slot of its own.
fn slots<'k>(keys: impl Iterator<Item = Option<&'k [u8]>>) -> (Blobs, Vec<u32>) {
    let mut seen: HashMap<&[u8], u32> = HashMap::new();
    let mut distinct = Blobs::new();
    let slots = keys.map(|key| match key {
        None => NO_POSITION,
        Some(key) => *seen.entry(key).or_insert_with(|| {
            distinct.push(Some(key));
            distinct.len() as u32 - 1
        }),
    });
    let slots = slots.collect();
    (distinct, slots)
}

#[cfg(test)]
mod tests;
