//! Crates that stop at one module: nobody else names them, so nobody else depends on what they do.

use std::path::Path;

use super::Finding;
use super::source::{code_of, tests_start};

/// A crate, and the modules of the runtime that may name it.
const CONFINED: &[(&str, &[&str])] = &[
    ("wasmtime", &["wasm"]),
    ("wit_parser", &["wasm"]),
    ("wit_component", &["wasm"]),
    ("rocksdb", &["state", "log"]),
    ("rdkafka", &["log"]),
    ("bincode", &["checkpoint"]),
    ("lz4_flex", &["checkpoint"]),
    ("tonic", &["api", "cli"]),
    ("prost", &["api", "cli"]),
    ("clap", &["cli", "main"]),
];

pub fn check(path: &Path, inside: &Path, content: &str, findings: &mut Vec<Finding>) {
    let is_rust = inside.extension().is_some_and(|extension| extension == "rs");
    let Some(module) = inside.iter().next().and_then(|first| first.to_str()).filter(|_| is_rust) else { return };
    let module = module.trim_end_matches(".rs");
    let code = code_of(content);
    let code = &code[..tests_start(&code)];
    for (name, homes) in CONFINED.iter().filter(|(_, homes)| !homes.contains(&module)) {
        let path_start = format!("{name}::");
        let named = code.match_indices(&path_start).find(|(at, _)| {
            let before = code[..*at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
        });
        if let Some((at, _)) = named {
            let what = format!("`{name}` stops at {}: ask for what you need there", homes.join(" and "));
            findings.push(Finding { path: path.to_owned(), line: code[..at].matches('\n').count() + 1, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(inside: &str, content: &str) -> usize {
        let mut findings = Vec::new();
        check(Path::new(inside), Path::new(inside), content, &mut findings);
        findings.len()
    }

    #[test]
    fn a_confined_crate_is_named_at_home_and_nowhere_else() {
        assert_eq!(count("wasm/engine.rs", "use wasmtime::Engine;"), 0);
        assert_eq!(count("task/session.rs", "use wasmtime::Engine;"), 1);
        assert_eq!(count("task/session.rs", "// use wasmtime::Engine;\nuse my_wasmtime::Engine;"), 0);
        assert_eq!(count("task/session.rs", "#[cfg(test)]\nmod tests { use rocksdb::DB; }"), 0);
    }
}
