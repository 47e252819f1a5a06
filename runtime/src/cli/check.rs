//! `forebay module check`: the same input in different cuts must give the same output.

use std::path::PathBuf;

use super::exit::Failure;
use super::output::Format;

#[derive(clap::Args)]
pub struct Arguments {
    /// The module (.wasm)
    file: PathBuf,
}

pub async fn run(arguments: Arguments, _format: Format) -> Result<(), Failure> {
    Err(Failure::other(format!("check {}: not built yet", arguments.file.display())))
}
