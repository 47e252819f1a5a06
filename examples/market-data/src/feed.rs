//! Brings input into the log in its own time, exactly once even when the server dies in the middle of a call.
//!
//! The feed is the only writer of its topic and names every partition itself, so the topic's end offsets say how
//! far it has come, whatever became of the call that broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::api::{Client, Error};
use crate::input::partitioned::{Partitioned, Record};

/// Records per message: big messages make it fast, small ones keep the pace even.
const MAX_RECORDS: usize = 2_000;
const TICK: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_millis(50);

/// How event time passes: `speed` times as fast as the clock from `start_ms` on (`None` = as fast as it goes), and
/// no further than the gate.
#[derive(Clone, Debug)]
pub struct Pace {
    pub started: Instant,
    pub start_ms: i64,
    pub speed: Option<f64>,
    gate_ms: Arc<AtomicI64>,
}

impl Pace {
    /// From now on, with the gate open.
    pub fn new(start_ms: i64, speed: Option<f64>) -> Self {
        Self { started: Instant::now(), start_ms, speed, gate_ms: Arc::new(AtomicI64::new(i64::MAX)) }
    }

    pub fn at_once() -> Self {
        Self::new(0, None)
    }

    /// Holds back what arrives after this time, for all who share this pace.
    pub fn hold_at(&self, time_ms: i64) {
        self.gate_ms.store(time_ms, Ordering::SeqCst);
    }

    /// What has arrived by now.
    pub fn now_ms(&self) -> i64 {
        self.replayed_ms().min(self.gate_ms.load(Ordering::SeqCst))
    }

    fn replayed_ms(&self) -> i64 {
        self.speed.map_or(i64::MAX, |speed| self.start_ms + (self.started.elapsed().as_secs_f64() * 1e3 * speed) as i64)
    }
}

/// Feeds a topic to its end. Goes on by itself when the server comes back; ends with an error only where the
/// server refuses the records.
pub async fn feed(client: Client, input: Arc<Partitioned>, pace: Pace) -> Result<(), Error> {
    loop {
        match go_on(&client, &input, &pace).await {
            Ok(()) => return Ok(()),
            Err(error)
                if matches!(error.code, tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown) =>
            {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Goes on from where the topic ends.
async fn go_on(client: &Client, input: &Partitioned, pace: &Pace) -> Result<(), Error> {
    let ends = client.offsets(&input.topic).await?;
    let mut next: Vec<usize> = ends.iter().map(|(_, end)| *end as usize).collect();
    loop {
        let due = due(input, &next, pace.now_ms());
        if due.is_empty() {
            if next.iter().zip(&input.partitions).all(|(next, records)| *next >= records.len()) {
                return Ok(());
            }
            tokio::time::sleep(TICK).await;
            continue;
        }
        let sent: Vec<(usize, usize)> = due.iter().map(|(partition, records)| (*partition, records.len())).collect();
        client.produce(&input.topic, due).await?;
        sent.into_iter().for_each(|(partition, count)| next[partition] += count);
    }
}

fn due<'a>(input: &'a Partitioned, next: &[usize], now_ms: i64) -> Vec<(usize, &'a [Record])> {
    let of = |(partition, records): (usize, &'a Vec<Record>)| {
        let rest = records.get(next[partition]..).unwrap_or_default();
        let count = rest.iter().take(MAX_RECORDS).take_while(|record| record.timestamp_ms <= now_ms).count();
        (count > 0).then(|| (partition, &rest[..count]))
    };
    input.partitions.iter().enumerate().filter_map(of).collect()
}
