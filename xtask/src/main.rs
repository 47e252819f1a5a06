//! Chores of the workspace, as `cargo xtask <chore>`. One file per chore; each returns how it went.

#[cfg(test)]
mod contract;
mod guests;
mod kafka;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <chore>

  guests    build the examples and test guests to WebAssembly components
  kafka     start, harm and stop an Apache Kafka on loopback
  tidy      check the rules that no compiler checks: layers, cycles, file lengths, ignored tests, words";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("guests") => guests::run(&root(), &arguments[1..]),
        Some("kafka") => kafka::run(&arguments[1..]),
        Some("tidy") => tidy::run(&root()),
        Some(other) => Err(format!("there is no chore `{other}`\n\n{USAGE}")),
        None => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root: this crate lies one folder below it. Asked of cargo when it runs: two checkouts that share
/// a target folder share the binary too.
fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}
