//! `forebay-faults`: harms a job on a Kafka of its own, round after round, and prints what the checker says of it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use faults::bugs::{self, Outcome};
use faults::course::{self, Report, Tier};
use faults::ground::Ground;
use faults::idle;
use faults::judge::Verdict;
use faults::scenario::Scenario;

/// Does harm to the real binary on a real Kafka. Build first: `cargo build --release --workspace --bins`, `cargo build
/// --release --workspace --bin forebay-seeded --features forebay/seeded-bugs`, `cargo xtask guests`.
#[derive(Parser)]
#[command(name = "forebay-faults")]
struct Arguments {
    #[arg(long, value_enum, default_value_t = Depth::Quick)]
    tier: Depth,
    /// Decides moments and places. The same seed does the same harm, as far as a machine can repeat it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these scenarios, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of each scenario, in place of the tier's.
    #[arg(long)]
    rounds: Option<u32>,
    /// Nodes of the cluster: 1 or 3. Harms that take brokers away have 3 in any case, some of them both.
    #[arg(long, default_value_t = 1)]
    nodes: u32,
    /// Put builds to the proof that break a rule on purpose: each must be caught. Build them first: `cargo build --release
    /// --workspace --bin forebay-seeded --features forebay/seeded-bugs`.
    #[arg(long)]
    bugs: bool,
    /// In place of any harm, say what so many jobs cost that have nothing to do.
    #[arg(long, value_name = "JOBS")]
    idle: Option<u32>,
    /// With `--idle`: all jobs read one topic.
    #[arg(long, requires = "idle")]
    one_input: bool,
    /// Name the scenarios and end.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Depth {
    Quick,
    Nightly,
    Release,
}

impl From<Depth> for Tier {
    fn from(depth: Depth) -> Tier {
        match depth {
            Depth::Quick => Tier::Quick,
            Depth::Nightly => Tier::Nightly,
            Depth::Release => Tier::Release,
        }
    }
}

/// Nodes of the cluster for harms that take brokers away.
const REPLICATED: u32 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        Scenario::ALL.iter().for_each(|scenario| println!("{:<22} {}", scenario.name(), scenario.about()));
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("start the program: {error}")),
    };
    if let Some(jobs) = arguments.idle {
        return match runtime.block_on(idle::measure(idle::Settings { jobs, is_shared: arguments.one_input })) {
            Ok(found) => {
                println!("{found}");
                ExitCode::SUCCESS
            }
            Err(why) => fail(&why),
        };
    }
    let work = async { if arguments.bugs { prove(&arguments).await } else { harm(&arguments).await } };
    match runtime.block_on(work) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail("not all is as it must be"),
        Err(why) => fail(&why),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("forebay-faults: {why}");
    ExitCode::FAILURE
}

async fn harm(arguments: &Arguments) -> Result<bool, String> {
    let scenarios = chosen(arguments, "scenario", &Scenario::ALL, |scenario| scenario.name())?;
    let is_small = arguments.nodes < REPLICATED;
    let replicated = scenarios.iter().copied().filter(|one| is_small && (one.needs_replicas() || one.wants_both()));
    let replicated: Vec<_> = replicated.collect();
    let others: Vec<_> = scenarios.into_iter().filter(|one| !(is_small && one.needs_replicas())).collect();
    let mut all_good = true;
    for (nodes, scenarios) in [(arguments.nodes, others), (REPLICATED, replicated)] {
        if !scenarios.is_empty() {
            all_good &= harm_on(nodes, &scenarios, arguments).await?;
        }
    }
    Ok(all_good)
}

/// Does the harms on a cluster of so many nodes.
async fn harm_on(nodes: u32, scenarios: &[&Scenario], arguments: &Arguments) -> Result<bool, String> {
    let ground = Ground::start(nodes).await?;
    println!("seed {}, {nodes} broker(s)", arguments.seed);
    println!(
        "{:<22} {:>6} {:>8} {:>5} {:>6} {:>6} {:>8} {:>16} {:>6}",
        "scenario", "rounds", "inputs", "lost", "twice", "wrong", "aborted", "back p50/p99 ms", "s"
    );
    let mut all_good = true;
    for &&scenario in scenarios {
        let rounds = arguments.rounds.unwrap_or_else(|| Tier::from(arguments.tier).rounds(scenario));
        match course::run(&ground, scenario, rounds, arguments.seed, |_| dot()).await {
            Ok(report) => {
                all_good &= report.verdict.is_good;
                show(&report);
            }
            Err(why) => {
                all_good = false;
                println!("\r{:<22} {why}", scenario.name());
            }
        }
    }
    Ok(all_good)
}

/// Answers whether every bug was caught.
async fn prove(arguments: &Arguments) -> Result<bool, String> {
    let trials = chosen(arguments, "bug", bugs::TRIALS, |trial| trial.bug)?;
    let ground = Ground::start(arguments.nodes).await?;
    println!("seed {}, {} broker(s)", arguments.seed, arguments.nodes);
    println!("{:<26} {:<20} {:<9} {:>5}  found", "bug", "harm", "verdict", "s");
    let (mut caught, all) = (0, trials.len());
    for trial in trials {
        let begun = Instant::now();
        let (verdict, found) = match bugs::put_to_trial(&ground, trial, arguments.seed).await {
            Outcome::Caught { verdict, attempts } => {
                caught += 1;
                let Verdict { lost, twice, other, told, .. } = verdict;
                let first = told.first().map_or("", String::as_str);
                let found = format!("{lost} lost, {twice} twice, {other} wrong; {first}");
                (if attempts == 1 { "caught".to_owned() } else { format!("caught/{attempts}") }, found)
            }
            Outcome::Stopped(why) => {
                eprintln!("{}: {why}", trial.bug);
                ("stopped".to_owned(), why.lines().next().unwrap_or_default().to_owned())
            }
            Outcome::Missed => ("MISSED".to_owned(), String::new()),
        };
        let took = begun.elapsed().as_secs();
        println!("{:<26} {:<20} {verdict:<9} {took:>5}  {found}", trial.bug, trial.scenario.name());
    }
    println!("{caught} of {all} were caught by the checker");
    Ok(caught == all)
}

/// Those that `--only` names; all where it names none.
fn chosen<'a, T>(
    arguments: &Arguments,
    kind: &str,
    all: &'a [T],
    name_of: impl Fn(&T) -> &'static str,
) -> Result<Vec<&'a T>, String> {
    let known: Vec<_> = all.iter().map(&name_of).collect();
    if let Some(unknown) = arguments.only.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("there is no {kind} {unknown}: choose of {}", known.join(", ")));
    }
    let is_chosen = |one: &&T| arguments.only.is_empty() || arguments.only.iter().any(|name| name == name_of(one));
    Ok(all.iter().filter(is_chosen).collect())
}

fn dot() {
    eprint!(".");
    let _ = std::io::stderr().flush();
}

fn show(report: &Report) {
    let Report { scenario, rounds, verdict, took, .. } = report;
    let back = format!("{}/{}", report.recovery_ms(0.5), report.recovery_ms(0.99));
    println!(
        "\r{:<22} {rounds:>6} {:>8} {:>5} {:>6} {:>6} {:>8} {back:>16} {:>6}",
        scenario.name(),
        verdict.inputs,
        verdict.lost,
        verdict.twice,
        verdict.other,
        verdict.aborted,
        took.as_secs()
    );
    verdict.told.iter().for_each(|line| println!("    {line}"));
}
