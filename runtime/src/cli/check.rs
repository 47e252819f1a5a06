//! `forebay module check`: the same input in different cuts must give the same output.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay::job::check::{Report, Sample, check};
use forebay::wasm;
use forebay::wasm::contract::{Description, GuestFactory};
use serde_json::json;

use super::exit::Failure;
use super::output::Format;
use super::records::{Line, Mark, byte_order_mark};

#[derive(clap::Args)]
pub struct Arguments {
    /// The module (.wasm)
    file: PathBuf,
    /// Lines of JSON: {"value", "key", "headers", "input", "event_time_ns" or "timestamp_ms"}, as `topic consume -o json`
    /// prints them
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// A parameter of the module, as name=value
    #[arg(long = "param", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
}

pub async fn run(arguments: Arguments, format: Format) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || compare(&arguments));
    let report = work.await.map_err(|error| Failure::other(format!("check: {error}")))??;
    let answer = json!({
        "records": report.records,
        "emitted": report.emitted,
        "refused": report.refused,
        "timers_fired": report.timers_fired,
        "cuts": report.cuts,
        "headers": report.headers,
        "difference": report.difference,
    });
    format.write(&answer, |_| describe(&report))?;
    match report.difference {
        Some(_) => Err(Failure::other("the module's answers depend on how its input is cut")),
        None => Ok(()),
    }
}

fn describe(report: &Report) -> String {
    let mut text = format!(
        "{} records, {} emitted, {} refused, {} timers fired",
        report.records, report.emitted, report.refused, report.timers_fired
    );
    report.cuts.iter().chain(&report.headers).for_each(|cut| text.push_str(&format!("\n  {cut}")));
    match &report.difference {
        Some(difference) => text.push_str(&format!("\ndiffers {difference}")),
        None => text.push_str("\nall the same"),
    }
    text
}

fn compare(arguments: &Arguments) -> Result<Report, Failure> {
    let bytes = read(&arguments.file)?;
    let engine = super::engine()?;
    let checked = engine.inspect(&bytes).map_err(|error| match error {
        wasm::Error::Rejected(rejected) => {
            Failure::invalid(format!("the module is refused: {}", rejected.reasons.join("\n  ")))
        }
        error => Failure::other(error.to_string()),
    })?;
    let cache = PrivateDir::make()?;
    let module = engine
        .load(checked.digest, &checked.component, &cache.0)
        .map_err(|error| Failure::invalid(error.to_string()))?;
    let factory: Arc<dyn GuestFactory> = module;
    let declared = Arc::clone(factory.description());
    let parameters = parameters(&arguments.parameters, &declared)?;
    let samples = samples(&arguments.input, &declared)?;
    check(factory.as_ref(), &parameters, &samples).map_err(Failure::other)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::invalid(format!("read {}: {error}", path.display())))
}

/// In declared order, presets filled in.
fn parameters(given: &[String], declared: &Description) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs = Vec::new();
    for text in given {
        let pair = text.split_once('=').filter(|(name, _)| declared.parameters.iter().any(|p| p.name == *name));
        let known: Vec<_> = declared.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        pairs.push(pair.ok_or_else(|| {
            Failure::invalid(format!("--param {text}: write name=value; the module has: {}", known.join(", ")))
        })?);
    }
    let value = |name: &str| pairs.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned());
    let filled = declared.parameters.iter().filter_map(|parameter| {
        let value = value(&parameter.name).or_else(|| parameter.preset.clone())?;
        Some((parameter.name.clone(), value))
    });
    Ok(filled.collect())
}

fn samples(path: &Path, declared: &Description) -> Result<Vec<Sample>, Failure> {
    let bytes = read(path)?;
    let bytes = if byte_order_mark(&bytes) == Some(Mark::Utf8) { &bytes[3..] } else { &bytes[..] };
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(number, line)| {
            sample(line, number as i64, declared)
                .map_err(|why| Failure::invalid(format!("{}, line {}: {why}", path.display(), number + 1)))
        })
        .collect()
}

fn sample(line: &[u8], number: i64, declared: &Description) -> Result<Sample, String> {
    let line = Line::parse(line)?;
    let input = match &line.input {
        None => 0,
        Some(name) => declared
            .inputs
            .iter()
            .position(|input| input == name)
            .ok_or_else(|| format!("the module has no input {name}; it has {}", declared.inputs.join(", ")))?,
    };
    let event_time = match (line.event_time_ns, line.timestamp_ms) {
        (Some(time), _) => time,
        // Without a time, records are a millisecond apart.
        (None, given) => {
            let ms = given.unwrap_or(number);
            ms.checked_mul(1_000_000)
                .ok_or_else(|| format!("timestamp_ms {ms} is out of range: is it in another unit?"))?
        }
    };
    let headers = line.headers()?.into_iter().map(|header| (header.name.into_bytes(), header.value));
    let headers = headers.collect();
    Ok(Sample { input: input as u8, key: line.key()?, value: line.value()?, event_time, headers })
}

/// Compiled code is read back from here: nobody else may write to it.
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn make() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("forebay-check-{}", forebay::model::Uid::random()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Failure::other(format!("create {}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // What is left in the temporary directory does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}
