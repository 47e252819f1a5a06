//! The command line: `forebay dev` is the server, everything else is a client of its gRPC API.
//!
//! Owns arguments, output and exit codes (`docs/cli.md`). Knows nothing of logs or tasks.

mod check;
mod dev;
mod dlq;
mod doctor;
mod exit;
mod job;
mod module;
mod output;
mod produce;
mod records;
mod reset_time;
mod topic;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use forebay::api::client::Client;
use forebay::wasm::{Engine, EngineSettings, apart};

use self::exit::Failure;
use self::output::Format;

/// How long calls that are under way may take to tell their callers that the server ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(
    name = "forebay",
    version,
    about = "Stream processing with transforms in WebAssembly",
    propagate_version = true
)]
struct Arguments {
    /// The server to talk to.
    #[arg(long, global = true, env = "FOREBAY_SERVER", default_value = "127.0.0.1:7420", value_name = "ADDRESS")]
    server: String,
    /// How answers are written.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a server: everything in one process, on an embedded log or on Kafka
    Dev(dev::Arguments),
    /// Push and look at modules
    #[command(subcommand)]
    Module(module::Command),
    /// Plan, apply, watch and change jobs
    #[command(subcommand)]
    Job(job::Command),
    /// Look at records that could not be processed
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Look for what is wrong: failed jobs, and readers that an open transaction holds back
    Doctor(doctor::Arguments),
    /// Create, list, write and read topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// What a server starts to look at a module
    #[command(name = apart::ARGUMENT, hide = true)]
    CompileModule,
}

pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::CompileModule) {
        return match apart::serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit::report(&Failure::other(format!("compile a module: {error}"))),
        };
    }
    start_logging(matches!(arguments.command, Command::Dev(_)));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&Failure::other(format!("start the program: {error}"))),
    };
    let obeyed = runtime.block_on(obey(arguments));
    // A call that is still being answered does not hold up the end, nor does what may still come from stdin.
    runtime.shutdown_timeout(LAST_ANSWERS);
    match obeyed {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::report(&failure),
    }
}

async fn obey(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { server, output, command } = arguments;
    match command {
        Command::Dev(arguments) => dev::run(arguments).await,
        Command::Module(module::Command::Check(arguments)) => check::run(arguments, output).await,
        Command::Module(command) => module::run(command, Client::connect(&server).await?, output).await,
        Command::Job(command) => job::run(command, Client::connect(&server).await?, output).await,
        Command::Dlq(command) => dlq::run(command, Client::connect(&server).await?, output).await,
        Command::Doctor(arguments) => doctor::run(&arguments, Client::connect(&server).await?, output).await,
        Command::CompileModule => Ok(()),
        Command::Topic(command) => topic::run(command, Client::connect(&server).await?, output).await,
    }
}

/// Modules are compiled in child processes of this same program. It is started through /proc/self/exe, which still
/// works when the program's file was replaced.
fn engine() -> Result<Engine, Failure> {
    let itself = PathBuf::from("/proc/self/exe");
    let program = if itself.exists() { Ok(itself) } else { std::env::current_exe() };
    let program = program.map_err(|error| Failure::other(format!("find the program's own file: {error}")))?;
    Engine::compiling_apart(EngineSettings::default(), program).map_err(|error| Failure::other(error.to_string()))
}

/// To stderr: stdout belongs to answers. `FOREBAY_LOG` chooses what is said, `FOREBAY_LOG_FORMAT=json` how.
fn start_logging(is_server: bool) {
    let preset = if is_server { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("FOREBAY_LOG").unwrap_or_else(|_| preset.into());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var("FOREBAY_LOG_FORMAT").is_ok_and(|format| format == "json") {
        subscriber.json().init();
    } else {
        subscriber.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
}
