//! A job together with its input and with what must come out of it.
//!
//! Owns the four jobs of the show (`jobs/*.yaml`); tests make further ones. Asks the server for everything it
//! compares, and believes it only about where a swap fell.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::api::proto::{Job, SwapPhase, TaskPhase};
use crate::api::{Client, Error, Seen};
use crate::input::generator::{Generated, MAX_VALUE_BYTES};
use crate::input::order::Order;
use crate::input::partitioned::{Partitioned, Record, partition_of};
use crate::input::{keyed_by, real};
use crate::judge::{self, Verdict};
use crate::plain::decode::Rules;
use crate::plain::liquidity::SwapAt;
use crate::plain::{enrichment, liquidity};

/// What the specs of this crate say about single records.
pub const RULES: Rules = Rules {
    time_field: "exchange_timestamp",
    max_value_bytes: MAX_VALUE_BYTES,
    max_ahead_ms: 3_600_000,
    max_behind_ms: 86_400_000,
};
/// `out_of_orderness` of their orders.
const OUT_OF_ORDERNESS_MS: i64 = 2_000;
/// How far behind the last record its partition's heartbeat lies.
const HEARTBEAT_MS: i64 = 20_000;

pub struct Pipeline {
    pub job: String,
    pub spec: String,
    pub orders: Arc<Partitioned>,
    pub kind: Kind,
}

pub enum Kind {
    Enrichment { instruments: Arc<Partitioned>, sink: String },
    Liquidity { sink: String, ticks: String },
}

/// The generated market through both examples. Names of jobs and topics begin with `prefix`: a log may be shared.
pub fn generated(mut input: Generated, prefix: &str) -> Vec<Pipeline> {
    for topic in [&mut input.orders.topic, &mut input.instruments.topic] {
        *topic = format!("{prefix}{topic}");
    }
    let orders = Arc::new(with_heartbeats(input.orders));
    let instruments = Arc::new(input.instruments);
    let enriched = Kind::Enrichment { instruments, sink: format!("{prefix}enriched") };
    let summaries = Kind::Liquidity { sink: format!("{prefix}liquidity"), ticks: format!("{prefix}liquidity-ticks") };
    vec![
        Pipeline::new(include_str!("../jobs/enrichment.yaml"), prefix, Arc::clone(&orders), enriched),
        Pipeline::new(include_str!("../jobs/liquidity.yaml"), prefix, orders, summaries),
    ]
}

/// The real events through both examples: by order id, and by price level.
pub fn bitstamp(events: &[Order], partitions: usize, prefix: &str) -> Vec<Pipeline> {
    let named = |name: &str| format!("{prefix}bitstamp-{name}");
    let by_id = keyed_by(&named("orders"), partitions, events, |order| order.id.to_string());
    let by_level = keyed_by(&named("levels"), partitions, events, |order| crate::decimal::format(order.price));
    let mut instruments = Partitioned::new(&named("instruments"), partitions);
    let mut known = HashSet::new();
    for order in events.iter().filter(|order| known.insert(order.id)) {
        let instrument = real::instrument(order.exchange_timestamp);
        let (key, value) = (order.id.to_string().into_bytes(), instrument.json().into_bytes());
        instruments.push(Record { key: Some(key), value: Some(value), timestamp_ms: order.timestamp });
    }
    let enriched = Kind::Enrichment { instruments: Arc::new(instruments), sink: named("enriched") };
    let summaries = Kind::Liquidity { sink: named("liquidity"), ticks: named("liquidity-ticks") };
    let (by_id, by_level) = (Arc::new(with_heartbeats(by_id)), Arc::new(with_heartbeats(by_level)));
    vec![
        Pipeline::new(include_str!("../jobs/bitstamp-enrichment.yaml"), prefix, by_id, enriched),
        Pipeline::new(include_str!("../jobs/bitstamp-liquidity.yaml"), prefix, by_level, summaries),
    ]
}

/// Closes every partition with a record well behind the others, so that event time passes all of them.
pub fn with_heartbeats(mut input: Partitioned) -> Partitioned {
    let partitions = input.partitions.len();
    let last = input.partitions.iter().flatten().map(|record| record.timestamp_ms).max().unwrap_or_default();
    let time = last + HEARTBEAT_MS;
    for partition in 0..partitions {
        let key =
            (0..).map(|n| format!("heartbeat-{n}")).find(|key| partition_of(key.as_bytes(), partitions) == partition);
        let value = format!(
            r#"{{"symbol":"-","id":0,"action":"created","direction":"bid","price":"1","volume":"0","previous_volume":"0","timestamp":{time},"exchange_timestamp":{time}}}"#
        );
        input.push(Record { key: key.map(String::into_bytes), value: Some(value.into_bytes()), timestamp_ms: time });
    }
    input
}

impl Pipeline {
    fn new(spec: &str, prefix: &str, orders: Arc<Partitioned>, kind: Kind) -> Self {
        let spec = spec.replace("topic: ", &format!("topic: {prefix}")).replace("name: ", &format!("name: {prefix}"));
        let job = spec.lines().find_map(|line| line.strip_prefix("name: ")).unwrap_or_default().to_owned();
        Self { job, spec, orders, kind }
    }

    /// Topics that must exist before the job is applied.
    pub fn topics(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Enrichment { instruments, sink } => vec![&self.orders.topic, &instruments.topic, sink],
            Kind::Liquidity { sink, ticks } => vec![&self.orders.topic, sink, ticks],
        }
    }

    /// Reference data, which must have been read before the first order comes.
    pub fn instruments(&self) -> Option<&Arc<Partitioned>> {
        match &self.kind {
            Kind::Enrichment { instruments, .. } => Some(instruments),
            Kind::Liquidity { .. } => None,
        }
    }

    pub fn is_liquidity(&self) -> bool {
        matches!(self.kind, Kind::Liquidity { .. })
    }

    /// Orders whose effects are committed.
    pub fn committed(&self, job: &Job) -> usize {
        let positions = job.tasks.iter().flat_map(|task| &task.positions);
        positions.filter(|position| position.source == "orders").map(|position| position.next_offset as usize).sum()
    }

    /// All input is behind the job, and event time has passed all of it.
    pub fn is_done(&self, job: &Job) -> bool {
        let passed = i128::from(self.passed_ms()) * 1_000_000;
        let running = job.tasks.iter().all(|task| task.phase == TaskPhase::Running as i32);
        let timed = !self.is_liquidity() || job.tasks.iter().all(|task| i128::from(task.watermark_ns) >= passed);
        running && timed && !job.tasks.is_empty() && self.committed(job) == self.orders.len()
    }

    /// What the watermark has passed when all heartbeats are in: the end of event time for the judge.
    fn passed_ms(&self) -> i64 {
        let last = self.orders.partitions.iter().flatten().map(|record| record.timestamp_ms).max().unwrap_or_default();
        last - OUT_OF_ORDERNESS_MS - 1
    }

    /// Compares everything that the job left in the log with the plain computation.
    pub async fn judge(&self, client: &Client) -> Result<Vec<Verdict>, Error> {
        let input = judge::input(&self.orders, &client.consume(&self.orders.topic).await?);
        let letters = client.consume(&format!("{}.dead-letters", self.job)).await?;
        let mut verdicts = vec![input];
        match &self.kind {
            Kind::Enrichment { instruments, sink } => {
                let expected = enrichment::expected(&self.orders, instruments, &RULES);
                let seen = client.consume(sink).await?;
                verdicts.push(judge::outputs(sink, &expected, &seen, |(text, time)| (text, *time)));
                verdicts.push(judge::counters(&format!("counters in {sink}"), &seen));
                verdicts.push(judge::dead_letters(&self.orders, &expected.refusals, &letters));
            }
            Kind::Liquidity { sink, ticks } => {
                let seen = client.consume(sink).await?;
                let swap_at = swap_at(&self.orders, &client.job(&self.job).await?, &seen);
                let expected = liquidity::expected(&self.orders, &RULES, &swap_at);
                verdicts.push(judge::outputs(sink, &expected, &seen, |summary| (&summary.text, summary.event_time_ms)));
                verdicts.push(judge::counters(&format!("counters in {sink}"), &seen));
                verdicts.push(judge::ticks(ticks, &expected, &client.consume(ticks).await?, self.passed_ms()));
                verdicts.push(judge::dead_letters(&self.orders, &expected.refusals, &letters));
            }
        }
        Ok(verdicts)
    }
}

/// Where each partition changed to v2. The swap's own record says so, unless the server died between the commit
/// of a task's switch and the note of it; then the outputs say which was v2's first record, and the judge finds
/// out whether all before it are v1's and all behind it v2's.
fn swap_at(orders: &Partitioned, job: &Job, summaries: &[Seen]) -> SwapAt {
    let swap = job.swap.as_ref();
    let noted = swap.iter().flat_map(|swap| &swap.tasks).flat_map(|task| &task.from);
    let noted: SwapAt = noted.map(|position| (position.partition as usize, position.next_offset)).collect();
    let went_back = [SwapPhase::Abandoned, SwapPhase::RollingBack, SwapPhase::RolledBack];
    let ended_well = swap.is_some_and(|swap| went_back.iter().all(|phase| *phase as i32 != swap.phase));
    if ended_well && noted.len() == orders.partitions.len() { noted } else { first_of_v2(orders, summaries) }
}

fn first_of_v2(orders: &Partitioned, summaries: &[Seen]) -> SwapAt {
    let sequence = |json: &[u8]| serde_json::from_slice::<Value>(json).ok()?.get("sequence")?.as_u64();
    let is_v2 = |json: &[u8]| serde_json::from_slice::<Value>(json).is_ok_and(|summary| summary["version"] == 2);
    let of_v2: HashSet<u64> = summaries
        .iter()
        .filter_map(|seen| seen.value.as_deref().filter(|json| is_v2(json)).and_then(sequence))
        .collect();
    let first = |records: &Vec<Record>| {
        let sequences = records.iter().map(|record| record.value.as_deref().and_then(sequence));
        sequences
            .enumerate()
            .find(|(_, sequence)| sequence.is_some_and(|s| of_v2.contains(&s)))
            .map(|(at, _)| at as i64)
    };
    let partitions = orders.partitions.iter().enumerate();
    partitions.filter_map(|(partition, records)| Some((partition, first(records)?))).collect()
}
