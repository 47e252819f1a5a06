//! Order events of many instruments, calibrated on the real ones, with everything a feed gets wrong.
//!
//! Seeded: the same settings give the same bytes for ever. Instruments are drawn by Zipf's law, arrivals come in
//! bursts, a known share is late or malformed. What is wrong shows only in the records' bytes.

use super::calibration::BITSTAMP;
use super::order::{Action, Instrument, Order, Side};
use super::partitioned::{Partitioned, Record};
use crate::decimal;
use crate::random::Random;

#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub records: usize,
    pub symbols: usize,
    pub partitions: usize,
    /// Event time of the first record, and how much event time all of them cover; milliseconds.
    pub start_ms: i64,
    pub span_ms: i64,
    /// Share of records later than the watermark allows.
    pub late: f64,
    /// Share of records that cannot be processed.
    pub malformed: f64,
}

/// What a job with the specs of this crate makes of a record beyond these.
pub const MAX_VALUE_BYTES: usize = 16 << 10;
/// Symbols on top of the known ones that have orders but no reference data.
const STRANGERS: usize = 3;
/// Orders that rest per symbol at most; beyond it every other event is a deletion.
const MAX_RESTING: usize = 64;

pub struct Generated {
    pub orders: Partitioned,
    pub instruments: Partitioned,
}

pub fn generate(settings: &Settings) -> Generated {
    let mut market = Market::new(settings);
    let mut orders = Partitioned::new("orders", settings.partitions);
    let mut arrival = settings.start_ms as f64;
    let mean_gap = settings.span_ms as f64 / settings.records.max(1) as f64;
    let stretch = mean_gap / BITSTAMP.mean_gap_ms();
    for sequence in 0..settings.records {
        // Every eighth part of the time is a burst at four times the rate, mostly in one symbol.
        let burst = (sequence * 64 / settings.records.max(1)) % 8 == 3;
        let pace = if burst { 0.28 } else { 1.1 };
        arrival += market.random.from_quantiles(&BITSTAMP.gap_ms) * stretch * pace;
        let order = market.event(sequence as u64, arrival as i64, burst);
        market.record(order, &mut orders);
    }
    Generated { orders, instruments: market.reference(settings) }
}

struct Market<'a> {
    settings: &'a Settings,
    random: Random,
    /// Running sum of the symbols' Zipf weights.
    weights: Vec<f64>,
    books: Vec<Book>,
    next_id: u64,
}

struct Book {
    symbol: String,
    tick: i64,
    /// Middle of the book, in ticks.
    mid: i64,
    resting: Vec<Order>,
}

impl<'a> Market<'a> {
    fn new(settings: &'a Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let mut sum = 0.0;
        let weights = (0..settings.symbols + STRANGERS).map(|rank| {
            sum += 1.0 / (rank as f64 + 1.0).powf(1.1);
            sum
        });
        let weights = weights.collect();
        let book = |rank| Book {
            symbol: format!("S{rank:04}"),
            tick: decimal::UNIT / [100, 1000, 20, 1][rank % 4],
            mid: 2_000 + random.below(50_000) as i64,
            resting: Vec::new(),
        };
        let books = (0..settings.symbols + STRANGERS).map(book).collect();
        Self { settings, random, weights, books, next_id: 1 }
    }

    fn event(&mut self, sequence: u64, arrival: i64, burst: bool) -> Order {
        let at = if burst && self.random.chance(0.7) { 7.min(self.books.len() - 1) } else { self.draw_symbol() };
        let late = if self.random.chance(self.settings.late) { 2_500 + self.random.below(4_000) as i64 } else { 0 };
        let delay = self.random.from_quantiles(&BITSTAMP.delay_ms) as i64 + late;
        let (random, book) = (&mut self.random, &mut self.books[at]);
        let kind = random.unit();
        let full = book.resting.len() >= MAX_RESTING;
        let mut order = if book.resting.is_empty() || (kind < BITSTAMP.created && !full) {
            self.next_id += 1;
            book.create(random, self.next_id)
        } else if kind < BITSTAMP.created + BITSTAMP.changed && !full {
            book.change(random)
        } else {
            book.delete(random)
        };
        order.timestamp = arrival;
        order.exchange_timestamp = arrival - delay;
        order.sequence = sequence;
        order
    }

    fn draw_symbol(&mut self) -> usize {
        let at = self.random.unit() * self.weights.last().copied().unwrap_or_default();
        self.weights.partition_point(|sum| *sum < at).min(self.books.len() - 1)
    }

    fn record(&mut self, order: Order, into: &mut Partitioned) {
        let key = Some(order.symbol.clone().into_bytes());
        let good = Record { key, value: Some(order.json().into_bytes()), timestamp_ms: order.timestamp };
        if self.random.chance(self.settings.malformed) {
            spoil(&mut self.random, &order, good, into);
        } else {
            into.push(good);
        }
    }

    /// One instrument for every symbol but the strangers; some are corrected by a second record, and a few have
    /// a currency that nobody has a rate for.
    fn reference(&mut self, settings: &Settings) -> Partitioned {
        let mut into = Partitioned::new("instruments", settings.partitions);
        for (rank, book) in self.books.iter().take(settings.symbols).enumerate() {
            let currency = match rank % 7 {
                _ if rank % 401 == 400 => "XTS",
                0..=2 => "USD",
                3 | 4 => "EUR",
                5 => "GBP",
                _ => "JPY",
            };
            let mut instrument = Instrument {
                symbol: book.symbol.clone(),
                name: format!("Instrument {rank} \u{e0} la \\\"carte\\\""),
                currency,
                tick_size: book.tick * 2,
                lot_size: decimal::UNIT / 10_000,
                timestamp: settings.start_ms - 60_000,
            };
            let corrected = rank % 10 == 0;
            for _ in 0..=usize::from(corrected) {
                let value = Some(instrument.json().into_bytes());
                into.push(Record {
                    key: Some(book.symbol.clone().into_bytes()),
                    value,
                    timestamp_ms: instrument.timestamp,
                });
                instrument.tick_size = book.tick;
                instrument.timestamp += 1_000;
            }
        }
        into
    }
}

impl Book {
    fn create(&mut self, random: &mut Random, id: u64) -> Order {
        self.mid = (self.mid + random.below(3) as i64 - 1).max(1_000);
        let side = if random.chance(0.65) { Side::Bid } else { Side::Ask };
        let level = random.from_quantiles(&BITSTAMP.level_ticks) as i64;
        let ticks = if side == Side::Bid { self.mid - level } else { self.mid + level };
        let order = Order {
            symbol: self.symbol.clone(),
            id,
            action: Action::Created,
            side,
            price: ticks * self.tick,
            volume: (random.from_quantiles(&BITSTAMP.volume) * decimal::UNIT as f64) as i64,
            previous_volume: 0,
            timestamp: 0,
            exchange_timestamp: 0,
            sequence: 0,
        };
        self.resting.push(order.clone());
        order
    }

    fn change(&mut self, random: &mut Random) -> Order {
        let at = random.below(self.resting.len() as u64) as usize;
        let resting = &mut self.resting[at];
        let order = Order {
            action: Action::Changed,
            previous_volume: resting.volume,
            volume: resting.volume / 2,
            ..resting.clone()
        };
        resting.volume = order.volume;
        order
    }

    fn delete(&mut self, random: &mut Random) -> Order {
        let at = random.below(self.resting.len() as u64) as usize;
        let resting = self.resting.swap_remove(at);
        Order { action: Action::Deleted, previous_volume: resting.volume, ..resting }
    }
}

/// Puts a spoilt copy of a record in its place. The order itself then never happened to the feed's readers.
fn spoil(random: &mut Random, order: &Order, good: Record, into: &mut Partitioned) {
    let with = |change: &dyn Fn(&mut Order)| {
        let mut order = order.clone();
        change(&mut order);
        Record { value: Some(order.json().into_bytes()), ..good.clone() }
    };
    let text = order.json();
    let bytes = |text: String| Record { value: Some(text.into_bytes()), ..good.clone() };
    into.push(match random.below(11) {
        0 => bytes(text[..text.len() / 2].to_owned()),
        1 => bytes(format!("{text}}}")),
        2 => Record { key: None, ..good.clone() },
        3 => Record { value: None, ..good.clone() },
        4 => bytes(text.replace("\"exchange_timestamp\"", "\"exchange_time\"")),
        5 => with(&|order| order.exchange_timestamp += 86_400_000),
        6 => with(&|order| order.exchange_timestamp -= 30 * 86_400_000),
        7 => bytes(text.replace("\"symbol\":", &format!("\"note\":\"{}\",\"symbol\":", "x".repeat(MAX_VALUE_BYTES)))),
        8 => with(&|order| order.price = 0),
        9 => bytes(text.replace(&format!("\"{}\"", order.action.name()), "\"held\"")),
        _ => return into.push_astray(good),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn settings() -> Settings {
        let (late, malformed) = (0.01, 0.002);
        Settings {
            seed: 7,
            records: 60_000,
            symbols: 1_200,
            partitions: 4,
            start_ms: 1_777_689_000_000,
            span_ms: 600_000,
            late,
            malformed,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        let one = generate(&settings()).orders;
        assert_eq!(one.partitions, generate(&settings()).orders.partitions);
        assert_ne!(one.partitions, generate(&Settings { seed: 8, ..settings() }).orders.partitions);
    }

    #[test]
    fn symbols_are_many_and_skewed_and_every_partition_is_used() {
        let generated = generate(&settings());
        let mut per_key: HashMap<&[u8], usize> = HashMap::new();
        for record in generated.orders.partitions.iter().flatten() {
            *per_key.entry(record.key.as_deref().unwrap_or_default()).or_default() += 1;
        }
        assert!(per_key.len() > 1_000, "{}", per_key.len());
        assert!(per_key.values().max().copied().unwrap_or_default() > 60_000 / 12);
        assert!(generated.orders.partitions.iter().all(|partition| partition.len() > 60_000 / 20));
        let known: HashSet<_> = generated.instruments.partitions.iter().flatten().map(|record| &record.key).collect();
        assert_eq!(known.len(), 1_200);
    }

    #[test]
    fn arrivals_and_actions_are_those_of_the_calibration() {
        let generated = generate(&Settings { malformed: 0.0, partitions: 1, ..settings() });
        let records = &generated.orders.partitions[0];
        let covered = records[records.len() - 1].timestamp_ms - records[0].timestamp_ms;
        assert!((500_000..700_000).contains(&covered), "{covered}");
        let share = |word: &str| {
            let has =
                |record: &&Record| record.value.as_ref().is_some_and(|v| String::from_utf8_lossy(v).contains(word));
            records.iter().filter(has).count() as f64 / records.len() as f64
        };
        assert!((share("created") - 0.5).abs() < 0.05, "{}", share("created"));
        assert!((share("deleted") - 0.5).abs() < 0.05, "{}", share("deleted"));
    }
}
