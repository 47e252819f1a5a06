//! What the terminal shows while the jobs run: a table that is redrawn, or plain lines where nobody looks.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use market_data::api::proto::Job;
use market_data::feed::Pace;

/// Between two plain lines.
const QUIET: Duration = Duration::from_secs(2);
/// Between two rates.
const RATE_OVER: Duration = Duration::from_secs(1);

/// One job at one moment.
pub struct Figures {
    job: String,
    records: u64,
    lag: u64,
    watermark_ns: i64,
    epochs: u64,
    /// Newest event time committed, behind the replay's clock, in real milliseconds.
    freshness_ms: Option<i64>,
    dead_letters: u64,
    versions: String,
}

impl Figures {
    pub fn of(job: &Job, pace: &Pace) -> Self {
        let tasks = || job.tasks.iter();
        let modules = tasks().flat_map(|task| &task.modules).map(|module| module.version.clone());
        Self {
            job: super::short(&job.name).to_owned(),
            records: tasks().map(|task| task.records_in).sum(),
            lag: tasks().map(|task| task.lag).sum(),
            watermark_ns: tasks().map(|task| task.watermark_ns).min().unwrap_or(i64::MIN),
            epochs: tasks().map(|task| task.epoch).sum(),
            freshness_ms: tasks().filter_map(|task| task.freshness_ns).max().and_then(|ns| freshness_ms(ns, pace)),
            dead_letters: tasks().map(|task| task.dead_letters).sum(),
            versions: modules.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("+"),
        }
    }
}

/// The server says how old the newest event is by the clock on the wall; in a replay the replay's clock counts.
fn freshness_ms(by_the_wall_ns: i64, pace: &Pace) -> Option<i64> {
    let speed = pace.speed?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as i64;
    let newest_ms = now_ms - by_the_wall_ns / 1_000_000;
    Some((((pace.now_ms() - newest_ms) as f64 / speed) as i64).max(0))
}

pub struct Display {
    redraws: bool,
    lines_up: usize,
    last: Option<Duration>,
    /// When the rates were taken, and the records counted then.
    counted: (Duration, Vec<u64>),
    rates: Vec<u64>,
}

impl Display {
    pub fn new() -> Self {
        let redraws = std::io::stdout().is_terminal();
        Self { redraws, lines_up: 0, last: None, counted: (Duration::ZERO, Vec::new()), rates: Vec::new() }
    }

    pub fn show(&mut self, at: Duration, jobs: &[Figures]) {
        self.count(at, jobs);
        if self.redraws {
            self.erase();
            println!(
                "{:>5.1} s   records/s      lag  watermark     epochs  freshness  dead letters  version",
                at.as_secs_f64()
            );
            jobs.iter().zip(&self.rates).for_each(|(job, rate)| println!("{}", row(job, *rate)));
            self.lines_up = jobs.len() + 1;
        } else if self.last.is_none_or(|last| at > last + QUIET) {
            self.last = Some(at);
            for (job, rate) in jobs.iter().zip(&self.rates) {
                println!("{:>5.1} s {}", at.as_secs_f64(), row(job, *rate));
            }
        }
        let _ = std::io::stdout().flush();
    }

    /// A line that stays.
    pub fn note(&mut self, note: &str) {
        self.erase();
        println!("  >> {note}");
    }

    pub fn finish(&mut self) {
        self.lines_up = 0;
    }

    fn erase(&mut self) {
        if self.lines_up > 0 {
            print!("\x1b[{}A\x1b[J", self.lines_up);
            self.lines_up = 0;
        }
    }

    fn count(&mut self, at: Duration, jobs: &[Figures]) {
        let over = at.saturating_sub(self.counted.0);
        if over < RATE_OVER && self.rates.len() == jobs.len() {
            return;
        }
        // A restarted server counts anew.
        let before = |i: usize| self.counted.1.get(i).copied().unwrap_or_default();
        let rate = |(i, job): (usize, &Figures)| {
            let records = job.records.checked_sub(before(i)).unwrap_or(job.records);
            (records as f64 / over.as_secs_f64().max(0.001)) as u64
        };
        self.rates = jobs.iter().enumerate().map(rate).collect();
        self.counted = (at, jobs.iter().map(|job| job.records).collect());
    }
}

fn row(job: &Figures, rate: u64) -> String {
    let freshness = job.freshness_ms.map_or("-".to_owned(), |ms| format!("{ms} ms"));
    format!(
        "{:<20} {:>8}/s {:>8} {:>10} {:>9} {freshness:>10} {:>13}  {}",
        job.job,
        thousands(rate),
        thousands(job.lag),
        time_of_day(job.watermark_ns),
        thousands(job.epochs),
        thousands(job.dead_letters),
        job.versions
    )
}

fn time_of_day(ns: i64) -> String {
    if ns < 0 {
        return "-".to_owned();
    }
    let seconds = ns / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}
