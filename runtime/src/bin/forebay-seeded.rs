//! The `forebay` binary with named places to die at (`FOREBAY_FAILPOINT=name:count`), for tests of recovery, and rules
//! that can be broken on purpose (`FOREBAY_BUG=name`), for tests of the tests.

#[path = "../cli/mod.rs"]
mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
