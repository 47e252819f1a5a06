//! How soon a task hears what it is told while millions of its timers fire.
//!
//! Timers are set by records, many for each key, and made due at once by a single record of a later time. While they fire,
//! versions are put on trial and taken back: each time counts from the command to the moment at which the task shows that
//! it has heard it. The last command is to stop, and counts until the task has committed and ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::model::{Blobs, Digest, Uid};
use forebay::operator::ModuleRef;
use forebay::task::plan::TaskSettings;
use forebay::task::target::{Change, Target};
use forebay::wasm::contract::{
    Answer, Context, Description, Guest, GuestError, GuestFactory, Migration, Moment, Needs, RecordCall, TimerCall,
    TimerDecl, TimerWrites,
};

use crate::bed::{Bed, Input, Job};
use crate::measure::{now_ms, spread};
use crate::{Outcome, Setup, modules, report};

/// Of one record; a full batch of them stays below what one answer may hold.
const PER_RECORD: u64 = 50;
/// The first timer of a key is so long behind its record, and so long lies between one and the next.
const STEP_NS: i64 = 60_000_000_000;
const MS: i64 = 1_000_000;
/// Between two commands, so that they come at any moment of an epoch.
const PAUSE: Duration = Duration::from_millis(130);

#[derive(clap::Args)]
pub struct Options {
    /// Timers that are due at once.
    #[arg(long, default_value_t = 10_000_000)]
    timers: u64,
    /// Versions that are put on trial and taken back while they fire.
    #[arg(long, default_value_t = 30)]
    commands: u32,
}

pub fn run(setup: &Setup, options: &Options) -> Outcome {
    let (mut heard, mut stopped) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..setup.runs {
        stopped.push(once(setup, options, &mut heard)?);
    }
    let row = |name: &str, ms: &[f64]| vec![name.to_owned(), spread(ms, 1)];
    let rows = vec![
        row("to try a version: until it says that it does", &heard[0]),
        row("to try none any more: until it says so", &heard[1]),
        row("to stop: until it has committed and ended", &stopped),
    ];
    report::print("Commands while timers fire", &["ms", "median (range)"], rows);
    report::print_conditions(&format!(
        "{} timers due at once, {} commands a run, commit every {} ms, over {}; {} runs",
        options.timers,
        2 * options.commands,
        TaskSettings::default().commit_interval.as_millis(),
        setup.log_name(),
        setup.runs
    ));
    Ok(())
}

/// Adds how long each command took to be heard; answers how long the stop took. Milliseconds.
fn once(setup: &Setup, options: &Options, [tried, taken_back]: &mut [Vec<f64>; 2]) -> Outcome<f64> {
    let dir = tempfile::tempdir_in(&setup.dir)?;
    let bed = Bed::open(setup, dir.path())?;
    let topic = bed.create_topic("alarms", 1)?;
    bed.make_anew()?;
    let records = options.timers.div_ceil(PER_RECORD);
    let span_ms = PER_RECORD as i64 * STEP_NS / MS;
    let begin_ms = now_ms() - 2 * span_ms;
    let record = |key: u64, at_ms: i64| (key.to_be_bytes().to_vec(), b"{}".to_vec(), at_ms);
    bed.fill(&topic, (0..records).map(|key| record(key, begin_ms)))?;
    let [first, second] = [version("1"), version("2")];
    let inputs = vec![Input { topic: "alarms", event_time: None }];
    let job = Job { inputs, module: first.clone(), settings: TaskSettings::default() };
    let plan = bed.plan(&job, Uid::random())?;
    bed.deploy(&plan)?;
    let running = bed.spawn(plan, vec![first, second.clone()])?;
    running.wait_for(records)?;
    running.has_refused_nothing()?;

    // From here on all of them are due.
    bed.fill(&topic, std::iter::once(record(records, begin_ms + 2 * span_ms)))?;
    running.wait_for(records + 1)?;
    let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    for _ in 0..options.commands {
        let change = Change { swap: Uid::random(), operator: 0, module: second.clone(), empty: BTreeSet::new() };
        let swap = change.swap.to_string();
        let told = Instant::now();
        running.aim(Target { trial: Some(change), ..Target::default() }, |status| {
            status.trial.as_ref().filter(|trial| trial.swap == swap).map(|_| Ok(()))
        })?;
        tried.push(ms(told));
        std::thread::sleep(PAUSE);
        let told = Instant::now();
        running.aim(Target::default(), |status| status.trial.is_none().then_some(Ok(())))?;
        taken_back.push(ms(told));
        std::thread::sleep(PAUSE);
    }
    if running.status()?.watermark >= begin_ms * MS + PER_RECORD as i64 * STEP_NS {
        return Err("all timers had fired before the last command: measure with more --timers".into());
    }
    let told = Instant::now();
    running.stop();
    Ok(ms(told))
}

/// A module that sets timers and does nothing when they fire: what is measured is the host.
struct Alarms(Arc<Description>);

fn version(version: &str) -> ModuleRef {
    let description = Description {
        name: "alarms".into(),
        version: version.into(),
        about: String::new(),
        sdk: String::new(),
        keyed: true,
        inputs: vec!["input".into()],
        outputs: vec!["out".into()],
        states: Vec::new(),
        timers: vec![TimerDecl { name: "due".into() }],
        parameters: Vec::new(),
        metrics: Vec::new(),
        refusal_codes: Vec::new(),
        needs: Needs::default(),
        viewable: false,
    };
    modules::reference(Digest::of(format!("alarms {version}").as_bytes()), Arc::new(Alarms(Arc::new(description))))
}

impl GuestFactory for Alarms {
    fn description(&self) -> &Arc<Description> {
        &self.0
    }

    fn instantiate(&self, _: &Context) -> Result<Box<dyn Guest>, GuestError> {
        Ok(Box::new(Setter))
    }
}

struct Setter;

impl Guest for Setter {
    fn process(&mut self, _: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        let mut timers = TimerWrites::default();
        for (&slot, &at) in batch.slots.iter().zip(&batch.event_times) {
            timers.slots.extend((0..PER_RECORD).map(|_| slot));
            timers.times.extend((1..=PER_RECORD as i64).map(|n| at + n * STEP_NS));
        }
        timers.timers = vec![0; timers.slots.len()];
        Ok(Answer { timers, filtered: batch.slots.len() as u32, ..Answer::default() })
    }

    fn on_timer(&mut self, _: Moment, _: &TimerCall) -> Result<Answer, GuestError> {
        Ok(Answer::default())
    }

    fn migrate(&mut self, _: &Migration) -> Result<Blobs, GuestError> {
        Ok(Blobs::new())
    }
}
