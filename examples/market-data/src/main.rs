//! `market-data-show`: see `show`. Exits with 1 where anything differs from the plain computation.

mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use show::{Failure, Options};

/// Real and generated market data through both examples, with a hot swap, a crash, and a proof at the end.
#[derive(Parser)]
struct Arguments {
    /// How many times as fast as the clock event time passes; `max` for as fast as it goes.
    #[arg(long, default_value = "40", value_parser = speed)]
    speed: Speed,
    /// Generated order events.
    #[arg(long, default_value_t = 300_000)]
    records: usize,
    /// Keep all topics on this Kafka cluster instead of the embedded log; the show's own are deleted there.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Leave the server running at the end.
    #[arg(long)]
    keep: bool,
    /// The server's binary; the one beside this program where it is not given.
    #[arg(long)]
    forebay: Option<PathBuf>,
    /// Folder of fetched data, built guests and the show's own data.
    #[arg(long, env = "FOREBAY_CACHE")]
    cache: Option<PathBuf>,
}

#[derive(Clone, Copy)]
struct Speed(Option<f64>);

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed(None)),
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Speed(Some(speed))),
        _ => Err("a number above 0, or `max`".to_owned()),
    }
}

fn options(arguments: Arguments) -> Result<Options, Failure> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/forebay"));
    let cache = arguments.cache.or_else(home).ok_or("neither --cache nor HOME says where the cache is")?;
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("forebay"));
    Ok(Options {
        speed: arguments.speed.0,
        generated: arguments.records,
        kafka: arguments.kafka,
        keep: arguments.keep,
        binary: arguments.forebay.or_else(beside).ok_or("--forebay must say where the server's binary is")?,
        guests: cache.join("guests"),
        orders_csv: cache.join("data/orders.csv"),
        folder: cache.join("show"),
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match options(Arguments::parse()) {
        Ok(options) => show::run(&options).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("market-data-show: {error}");
            ExitCode::FAILURE
        }
    }
}
