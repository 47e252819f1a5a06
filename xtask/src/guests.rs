//! `cargo xtask guests`: builds the examples and test guests to WebAssembly components.
//!
//! Owns the choice of toolchain and says which one it took; cargo decides what is stale. Everything it makes
//! lies in the user's cache folder, so that a clean checkout does not build the standard library again.

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use toolchain::Toolchain;

const TARGET: &str = "wasm32-unknown-unknown";
/// The workspace of everything that is built for WebAssembly.
const WORKSPACE: &str = "guest-sdk/rust";
const USAGE: &str = "usage: cargo xtask guests [--out DIR] [NAME…]

  builds all guests, or the named ones, to DIR (default: $FOREBAY_CACHE/guests, else ~/.cache/forebay/guests)";

/// One guest: the package that makes it and the file that it becomes.
struct Guest {
    package: String,
    name: String,
}

/// # Errors
/// For people: what could not be built, and what to do.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let mut out = None;
    let mut names: Vec<&str> = Vec::new();
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        match argument {
            "--out" => out = Some(PathBuf::from(arguments.next().ok_or("--out needs a folder")?)),
            flag if flag.starts_with('-') => return Err(format!("there is no flag `{flag}`\n\n{USAGE}")),
            name => names.push(name),
        }
    }
    let guests = selected(root, &names)?;
    let cache = cache_dir()?;
    let out = out.unwrap_or_else(|| cache.join("guests"));
    let target_dir = cache.join("guest-target");
    let toolchain = Toolchain::find()?;
    println!("guests: {toolchain}");
    build(root, &toolchain, &guests, &target_dir)?;
    make_dir(&out)?;
    for guest in &guests {
        let core = target_dir.join(TARGET).join("release").join(format!("{}.wasm", guest.package.replace('-', "_")));
        let component = out.join(format!("{}.wasm", guest.name));
        let state = encode(&core, &component)?;
        println!("guests: {} {state}", component.display());
    }
    Ok(())
}

fn selected(root: &Path, names: &[&str]) -> Result<Vec<Guest>, String> {
    let all = guests(root)?;
    let known: Vec<String> = all.iter().map(|guest| guest.name.clone()).collect();
    if let Some(unknown) = names.iter().find(|name| known.iter().all(|known| known != *name)) {
        return Err(format!("there is no guest `{unknown}`; there are: {}", known.join(", ")));
    }
    Ok(all.into_iter().filter(|guest| names.is_empty() || names.contains(&guest.name.as_str())).collect())
}

/// Every member of the guests' workspace that is built as a `cdylib`. The file is called like the package, without
/// the prefix `guest-` that keeps test guests apart from other crates.
fn guests(root: &Path) -> Result<Vec<Guest>, String> {
    let workspace = root.join(WORKSPACE);
    let mut guests = Vec::new();
    for member in members(&workspace)? {
        let manifest = read(&member.join("Cargo.toml"))?;
        if !manifest.contains("\"cdylib\"") {
            continue;
        }
        let package = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let package = package.ok_or_else(|| format!("{}/Cargo.toml has no package name", member.display()))?.to_owned();
        let name = package.strip_prefix("guest-").unwrap_or(&package).to_owned();
        guests.push(Guest { package, name });
    }
    Ok(guests)
}

/// The folders that the workspace's manifest lists, those behind a `*` in order of their names.
fn members(workspace: &Path) -> Result<Vec<PathBuf>, String> {
    let manifest = read(&workspace.join("Cargo.toml"))?;
    let listed = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let (listed, _) = listed.ok_or_else(|| format!("{WORKSPACE}/Cargo.toml lists no members"))?;
    let mut members = Vec::new();
    for member in listed.split('"').skip(1).step_by(2).filter(|member| *member != ".") {
        let Some(folder) = member.strip_suffix("/*") else {
            members.push(workspace.join(member));
            continue;
        };
        let folder = workspace.join(folder);
        let entries = fs::read_dir(&folder).map_err(|error| format!("list {}: {error}", folder.display()))?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|member| member.join("Cargo.toml").is_file());
        found.sort();
        members.append(&mut found);
    }
    Ok(members)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
}

fn build(root: &Path, toolchain: &Toolchain, guests: &[Guest], target_dir: &Path) -> Result<(), String> {
    let mut cargo = toolchain.cargo();
    cargo.current_dir(root.join(WORKSPACE)).args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.args(toolchain.flags()).env("CARGO_TARGET_DIR", target_dir);
    for guest in guests {
        cargo.args(["--package", &guest.package]);
    }
    run_command(&mut cargo)
}

/// Core module to component, unless the component there is the newer of the two.
fn encode(core: &Path, component: &Path) -> Result<&'static str, String> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    if let (Ok(core), Ok(component)) = (modified(core), modified(component))
        && component >= core
    {
        return Ok("is up to date");
    }
    let bytes = fs::read(core).map_err(|error| format!("read {}: {error}", core.display()))?;
    let encoded = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("make a component of {}: {error:#}", core.display()))?;
    // Renamed into place, so that nobody ever loads half a component.
    let partial = component.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&partial, encoded)
        .and_then(|()| fs::rename(&partial, component))
        .map_err(|error| format!("write {}: {error}", component.display()))?;
    Ok("built")
}

fn cache_dir() -> Result<PathBuf, String> {
    if let Some(cache) = env::var_os("FOREBAY_CACHE") {
        return Ok(cache.into());
    }
    let home = env::var_os("HOME").ok_or("neither FOREBAY_CACHE nor HOME is set: set one of them")?;
    Ok(Path::new(&home).join(".cache/forebay"))
}

fn make_dir(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("make {}: {error}", dir.display()))
}

fn run_command(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("run {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the guests' build failed ({status})")) }
}
