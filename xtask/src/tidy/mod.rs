//! `cargo xtask tidy`: the rules of the tree that no compiler checks.
//!
//! Reads files, never changes one. Every finding names the place and what to do about it.
//! `layers` knows which module may use which, `circles` which files of a folder do, `confined` which crates stop where; `text` looks at lines; `source` tells code from comment.

mod circles;
mod confined;
mod layers;
mod source;
mod text;

use std::path::{Path, PathBuf};
use std::process::Command;

/// One broken rule.
pub struct Finding {
    pub path: PathBuf,
    /// Counted from 1; 0 where the whole file is meant.
    pub line: usize,
    pub what: String,
}

/// # Errors
/// All findings, one a line.
pub fn run(root: &Path) -> Result<(), String> {
    let files = tracked(root)?;
    let mut findings = Vec::new();
    let mut edges = layers::Edges::default();
    let mut circles = circles::Circles::default();
    for path in &files {
        // Golden files and other bytes that are no text have no lines to look at.
        let Ok(content) = std::fs::read_to_string(root.join(path)) else { continue };
        text::check(path, &content, &mut findings);
        if let Ok(inside) = path.strip_prefix("runtime/src") {
            edges.read(path, inside, &content);
            circles.read(inside, &content);
            confined::check(path, inside, &content, &mut findings);
        }
    }
    edges.check(&mut findings);
    circles.check(&mut findings);
    if findings.is_empty() {
        println!("tidy: {} files, {} edges between modules, nothing to say", files.len(), edges.len());
        return Ok(());
    }
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}:{}: {}", finding.path.display(), finding.line, finding.what))
        .collect();
    Err(format!("{}\ntidy: {} findings", lines.join("\n"), lines.len()))
}

/// Files that git knows or would add, relative to the root.
fn tracked(root: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("list the files of the tree with git: {error}"))?;
    if !output.status.success() {
        return Err(format!("list the files of the tree with git: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}
