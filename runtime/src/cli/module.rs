//! `forebay module`: what may be put into jobs.

use std::io::IsTerminal;
use std::path::PathBuf;

use forebay::api::client::Client;
use forebay::api::proto::{GetModuleRequest, ListModulesRequest, Module};
use indicatif::{ProgressBar, ProgressStyle};

use super::check;
use super::exit::Failure;
use super::output::{Format, list, table, text, time};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Upload a module (.wasm); pushing the same bytes again changes nothing
    Push {
        file: PathBuf,
    },
    List,
    /// Show what a module says of itself
    Inspect {
        /// name@version, or a digest
        module: String,
    },
    /// Run sample input through a module in different cuts and compare; needs no server
    Check(check::Arguments),
}

pub async fn run(command: Command, mut client: Client, format: Format) -> Result<(), Failure> {
    match command {
        Command::Push { file } => push(file, client, format).await,
        Command::List => {
            let modules = client.modules.list(ListModulesRequest {}).await?.into_inner().modules;
            format.write(&modules[..], summary)
        }
        Command::Inspect { module } => {
            let found = client.modules.get(GetModuleRequest { module }).await?.into_inner().module;
            format.write(&found.unwrap_or_default(), describe)
        }
        // It needs no server and is taken care of before one is connected to.
        Command::Check(arguments) => check::run(arguments, format).await,
    }
}

async fn push(file: PathBuf, mut client: Client, format: Format) -> Result<(), Failure> {
    let bytes = std::fs::read(&file).map_err(|error| Failure::invalid(format!("read {}: {error}", file.display())))?;
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(bytes.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    bar.set_message("push");
    let (moving, total) = (bar.clone(), bytes.len() as u64);
    let pushed = client.push_module(bytes, move |sent| {
        moving.set_position(sent);
        if sent == total {
            moving.set_message("compile");
        }
    });
    let pushed = pushed.await;
    bar.finish_and_clear();
    let pushed = pushed?;
    let existed = if pushed.existed { " (it was there already)" } else { "" };
    format.write(&pushed.module.unwrap_or_default(), |module| {
        format!("{}@{} {}{existed}", module.name, module.version, module.digest)
    })
}

fn summary(modules: &[Module]) -> String {
    let rows = modules.iter().map(|module| {
        let digest = module.digest.get(..19).unwrap_or_default().to_owned();
        let size = format!("{} KiB", module.size_bytes.div_ceil(1024));
        [module.name.clone(), module.version.clone(), digest, size, time(module.pushed_at_ms)]
    });
    table(["name", "version", "digest", "size", "pushed"], rows)
}

fn describe(module: &Module) -> String {
    let description = module.description.clone().unwrap_or_default();
    let states = description.states.iter().map(|state| {
        format!(
            "{} v{} (reads {:?}, reverts to {:?}, {})",
            state.name, state.version, state.reads, state.reverts_to, state.encoding
        )
    });
    let parameters = description.parameters.iter().map(|parameter| {
        let preset = parameter.preset.as_ref().map_or(String::new(), |preset| format!(" = {preset}"));
        format!("{}{preset}{}", parameter.name, if parameter.required { " (required)" } else { "" })
    });
    let rows = [
        ("name", module.name.clone()),
        ("version", module.version.clone()),
        ("digest", module.digest.clone()),
        ("size", format!("{} bytes", module.size_bytes)),
        ("pushed", time(module.pushed_at_ms)),
        ("about", description.about),
        ("sdk", description.sdk),
        ("keyed", description.keyed.to_string()),
        ("inputs", list(&description.inputs)),
        ("outputs", list(&description.outputs)),
        ("states", list(&states.collect::<Vec<_>>())),
        ("timers", list(&description.timers)),
        ("parameters", list(&parameters.collect::<Vec<_>>())),
        ("refusal codes", list(&description.refusal_codes)),
        ("needs", list(&description.needs)),
    ];
    rows.map(|(name, value)| format!("{name:14} {}", text(&value))).join("\n")
}
