//! Which module of the runtime uses which, and whether it may: arrows point down, and nowhere in a circle.
//!
//! Owns the table of layers; `ARCHITECTURE.md` explains it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Finding;
use super::source::{code_of, tests_start};

/// Lowest first. Modules of one layer do not use each other, but for layer 0.
const LAYERS: &[&[&str]] = &[
    &["model", "error", "env", "golden"],
    &["log", "codec", "watermark", "wasm", "state", "checkpoint", "registry"],
    &["operator"],
    &["task"],
    &["job"],
    &["api"],
    &["cli", "main", "bin", "lib"],
];

/// Edges inside one layer that are allowed, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Uses between the top-level modules: from, to, and the first place that does it.
#[derive(Default)]
pub struct Edges {
    found: BTreeMap<(String, String), (PathBuf, usize)>,
    modules: BTreeMap<String, PathBuf>,
}

impl Edges {
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Adds what one file uses; `inside` is its path below `runtime/src`. Tests may use what they like.
    pub fn read(&mut self, path: &Path, inside: &Path, content: &str) {
        let place: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
        let Some(from) = place.first().map(|first| first.trim_end_matches(".rs").to_owned()) else { return };
        if inside.extension().is_none_or(|extension| extension != "rs") || inside.ends_with("tests.rs") {
            return;
        }
        self.modules.entry(from.clone()).or_insert_with(|| path.to_path_buf());
        let code = code_of(content);
        let code = &code[..tests_start(&code)];
        let mut used = names_after(code, "crate::");
        used.extend(names_after(code, &supers(&place)));
        used.extend(names_after(code, "forebay::"));
        for (at, to) in used {
            if to != from {
                let line = code[..at].matches('\n').count() + 1;
                self.found.entry((from.clone(), to)).or_insert_with(|| (path.to_path_buf(), line));
            }
        }
    }

    pub fn check(&self, findings: &mut Vec<Finding>) {
        for (module, path) in &self.modules {
            if layer(module).is_none() {
                let what =
                    format!("module `{module}` stands in no layer: add it to the table in xtask/src/tidy/layers.rs");
                findings.push(Finding { path: path.clone(), line: 0, what });
            }
        }
        for ((from, to), (path, line)) in &self.found {
            if let Some(what) = self.complaint(from, to) {
                findings.push(Finding { path: path.clone(), line: *line, what });
            }
        }
        if let Some(circle) = self.circle() {
            let what = format!("modules use each other in a circle: {}", circle.join(" -> "));
            findings.push(Finding { path: "runtime/src/lib.rs".into(), line: 0, what });
        }
    }

    fn complaint(&self, from: &str, to: &str) -> Option<String> {
        let (below, above) = (layer(to)?, layer(from)?);
        let excepted = EXCEPTIONS.iter().any(|(f, t, _)| (*f, *t) == (from, to));
        if below < above || excepted || (below == 0 && above == 0) {
            return None;
        }
        let relation = if below > above { "stands above it" } else { "stands beside it" };
        Some(format!("`{from}` uses `{to}`, which {relation}: move what both need down, or turn the call round"))
    }

    /// A circle of modules, where there is one.
    fn circle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.modules.keys().find_map(|module| self.walk(module, &mut Vec::new(), &mut done))
    }

    fn walk(&self, module: &str, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|seen| seen == module) {
            return Some(way[start..].iter().cloned().chain([module.to_owned()]).collect());
        }
        if !done.insert(module.to_owned()) {
            return None;
        }
        way.push(module.to_owned());
        let next = self.found.keys().filter(|(from, _)| from == module);
        let circle = next.map(|(_, to)| to).find_map(|to| self.walk(to, way, done));
        way.pop();
        circle
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The prefix by which a file reaches the crate's root: one `super::` per module above it.
fn supers(place: &[&str]) -> String {
    let stem = place.last().map_or("", |name| name.trim_end_matches(".rs"));
    let depth = if matches!(stem, "mod" | "lib" | "main") { place.len() - 1 } else { place.len() };
    "super::".repeat(depth.max(1))
}

/// First names behind a path prefix, a group `{a::b, c}` taken apart, each with its position.
fn names_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group).into_iter().map(|name| (at, name))),
            None => names.push((at, identifier(rest))),
        }
    }
    names.retain(|(_, name)| !matches!(name.as_str(), "" | "super" | "self") && name.starts_with(char::is_lowercase));
    names
}

/// First name of every entry of a `{…}` group, nested groups left out.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![identifier(group.trim_start())];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let mut edges = Edges::default();
        for (inside, content) in files {
            edges.read(&Path::new("runtime/src").join(inside), Path::new(inside), content);
        }
        let mut findings = Vec::new();
        edges.check(&mut findings);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn an_edge_down_is_allowed_and_one_up_is_named() {
        assert!(findings(&[("task/mod.rs", "use crate::state::TaskState;")]).is_empty());
        let up = findings(&[("state/mod.rs", "use crate::{\n  model::Blobs,\n  task::{plan, handle},\n};")]);
        assert!(up.iter().any(|what| what.contains("`state` uses `task`")), "{up:?}");
    }

    #[test]
    fn neighbours_of_one_layer_do_not_use_each_other() {
        let beside = findings(&[("wasm/mod.rs", "fn f() { crate::state::open() }")]);
        assert!(beside.iter().any(|what| what.contains("stands beside it")), "{beside:?}");
    }

    #[test]
    fn a_way_over_super_counts_like_one_over_crate() {
        let up = findings(&[("log/embedded/mod.rs", "use super::super::job::Spec;")]);
        assert!(up.iter().any(|what| what.contains("`log` uses `job`")), "{up:?}");
    }

    #[test]
    fn a_circle_is_shown_in_order() {
        let circle = findings(&[("model/mod.rs", "use crate::error::Kind;"), ("error.rs", "use crate::model::Blobs;")]);
        assert!(circle.iter().any(|what| what.contains("error -> model -> error")), "{circle:?}");
    }

    #[test]
    fn tests_and_comments_are_free() {
        let free = "// crate::job\n#[cfg(test)]\nmod tests { use crate::job::Spec; }";
        assert!(findings(&[("state/mod.rs", free)]).is_empty());
    }
}
