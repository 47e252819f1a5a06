//! Files of one folder that use each other in a circle: none of them can be read, tested or moved alone.
//!
//! Owns how many there are today (`circles.txt`), which only goes down. A name that a `mod.rs` passes on belongs to the
//! file that it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Finding;
use super::source::{code_of, tests_start};

/// Per folder of `runtime/src` how many of its files stand in circles, and how many in the largest.
const ALLOWED: &str = include_str!("circles.txt");
const ALLOWED_PATH: &str = "xtask/src/tidy/circles.txt";

/// A file as the path of modules that it is: `["task", "recovery"]`.
type Module = Vec<String>;

#[derive(Default)]
pub struct Circles {
    files: BTreeMap<Module, File>,
}

struct File {
    /// Paths that its code names, from the root of the crate.
    uses: Vec<Vec<String>>,
    /// Names that it passes on, and where they come from.
    passes_on: BTreeMap<String, Vec<String>>,
}

impl Circles {
    /// Adds a file; `inside` is its path below `runtime/src`. Tests may use what they like.
    pub fn read(&mut self, inside: &Path, content: &str) {
        let Some(module) = module_of(inside) else { return };
        let code = code_of(content);
        let code = &code[..tests_start(&code)];
        let (mut uses, mut passes_on) = (Vec::new(), BTreeMap::new());
        for (path, is_passed_on) in paths(code, &module) {
            match path.last() {
                Some(name) if is_passed_on => drop(passes_on.insert(name.clone(), path)),
                _ => uses.push(path),
            }
        }
        self.files.insert(module, File { uses, passes_on });
    }

    pub fn check(&self, findings: &mut Vec<Finding>) {
        let mut notes = Vec::new();
        compare(&self.circles(), &allowed(), findings, &mut notes);
        notes.iter().for_each(|note| println!("tidy: {note}"));
    }

    /// Per folder its circles, largest first.
    fn circles(&self) -> BTreeMap<String, Vec<Vec<String>>> {
        let mut edges: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
        for (module, file) in &self.files {
            let to = file.uses.iter().filter_map(|path| self.file_of(path, 0));
            let to = to.filter(|to| *to != module && to.first() == module.first());
            edges.insert(module, to.collect());
        }
        let mut found: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        for circle in knots(&edges) {
            let folder = circle[0][0].clone();
            found.entry(folder).or_default().push(
                circle
                    .iter()
                    .map(|module| if module.len() == 1 { "mod".to_owned() } else { module[1..].join("/") })
                    .collect(),
            );
        }
        found.values_mut().for_each(|circles| circles.sort_by_key(|circle| std::cmp::Reverse(circle.len())));
        found
    }

    /// The file that a path leads into.
    fn file_of(&self, path: &[String], followed: usize) -> Option<&Module> {
        let len = (1..=path.len()).rev().find(|&len| self.files.contains_key(&path[..len]))?;
        let (module, file) = self.files.get_key_value(&path[..len])?;
        // Passed on in a circle itself: nobody writes that, but the compiler is not asked here.
        match path.get(len).and_then(|name| file.passes_on.get(name)).filter(|_| followed < 8) {
            Some(from) => self.file_of(from, followed + 1),
            None => Some(module),
        }
    }
}

fn compare(
    found: &BTreeMap<String, Vec<Vec<String>>>,
    allowed: &BTreeMap<String, (usize, usize)>,
    findings: &mut Vec<Finding>,
    notes: &mut Vec<String>,
) {
    let none = Vec::new();
    let folders: BTreeSet<&String> = found.keys().chain(allowed.keys()).collect();
    for folder in folders {
        let circles = found.get(folder).unwrap_or(&none);
        let files: usize = circles.iter().map(Vec::len).sum();
        let largest = circles.first().map_or(0, Vec::len);
        let (files_max, largest_max) = allowed.get(folder).copied().unwrap_or_default();
        if files > files_max || largest > largest_max {
            let told: Vec<String> = circles.iter().map(|circle| circle.join(" <-> ")).collect();
            let what = format!(
                "{files} files use each other in circles, the largest of {largest}; {files_max} and {largest_max} are \
                 the most: move what both need down, or turn a call round. They are: {}",
                told.join("; ")
            );
            findings.push(Finding { path: PathBuf::from("runtime/src").join(folder), line: 0, what });
        } else if (files, largest) != (files_max, largest_max) {
            notes.push(format!(
                "runtime/src/{folder} has less circles than it may: write {files} {largest} in {ALLOWED_PATH}"
            ));
        }
    }
}

fn allowed() -> BTreeMap<String, (usize, usize)> {
    let lines = ALLOWED.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let folder = words.next()?.to_owned();
            Some((folder, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
        })
        .collect()
}

/// `task/recovery.rs` and `task/recovery/mod.rs` are both `["task", "recovery"]`.
fn module_of(inside: &Path) -> Option<Module> {
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    let (file, folders) = parts.split_last()?;
    let stem = file.strip_suffix(".rs")?;
    if folders.is_empty() || folders.contains(&"tests") || stem == "tests" {
        return None;
    }
    let name = (stem != "mod").then_some(stem);
    Some(folders.iter().copied().chain(name).map(str::to_owned).collect())
}

/// Every path of a file's code, from the root of the crate, and whether the file passes it on (`pub use`).
fn paths(code: &str, module: &Module) -> Vec<(Vec<String>, bool)> {
    let mut found = Vec::new();
    for (at, word) in code.match_indices("use ").filter(|(at, _)| starts_word(code, *at)) {
        let Some(tree) = code[at + word.len()..].split(';').next() else { continue };
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim_start();
        let is_passed_on = line.starts_with("pub");
        found.extend(flattened(tree).iter().map(|path| (from_root(path, module), is_passed_on)));
    }
    for (at, _) in code.match_indices("::") {
        let first = code[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |before| before + 1);
        if first < at && starts_word(code, first) && !in_use(code, first) {
            let rest = &code[first..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            let path: Vec<String> =
                rest[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            found.push((from_root(&path, module), false));
        }
    }
    found
}

/// Whether a position stands inside a `use` that was read already.
fn in_use(code: &str, at: usize) -> bool {
    let statement = code[..at].rfind([';', '}']).map_or(0, |end| end + 1);
    let statement = code[statement..at].trim_start();
    statement.split_whitespace().next().is_some_and(|word| word == "use" || word.starts_with("pub"))
        && statement.contains("use ")
}

fn starts_word(code: &str, at: usize) -> bool {
    code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
}

/// A path without a prefix begins with a child of the module, or with something that is no file of it: then it leads
/// nowhere but to the module itself.
fn from_root(path: &[String], module: &Module) -> Vec<String> {
    let (mut base, mut rest) = (module.as_slice(), path);
    match path.split_first() {
        Some((first, path)) if first == "crate" => (base, rest) = (&[], path),
        Some((first, path)) if first == "self" => rest = path,
        _ => {}
    }
    while let Some((_, after)) = rest.split_first().filter(|(part, _)| *part == "super") {
        base = base.split_last().map_or(base, |(_, above)| above);
        rest = after;
    }
    base.iter().chain(rest).cloned().collect()
}

/// `a::{b, c::{d, e as f}}` as `a::b`, `a::c::d`, `a::c::e`.
fn flattened(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    match tree.split_once('{') {
        None => {
            let path = tree.split(" as ").next().unwrap_or_default();
            vec![path.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()]
        }
        Some((prefix, rest)) => {
            let prefix: Vec<String> =
                prefix.split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
            let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
            let branches = branches(inner).into_iter().flat_map(flattened);
            branches
                .map(|path| prefix.iter().cloned().chain(path.into_iter().filter(|part| part != "self")).collect())
                .collect()
        }
    }
}

/// The parts between the commas of one level.
fn branches(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Sets of modules each of which reaches all others of its set.
fn knots<'a>(edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> Vec<Vec<&'a Module>> {
    let reach: BTreeMap<&Module, BTreeSet<&Module>> = edges.keys().map(|from| (*from, reached(from, edges))).collect();
    let reaches = |from: &Module, to: &Module| reach.get(from).is_some_and(|reached| reached.contains(to));
    let (mut done, mut knots) = (BTreeSet::new(), Vec::new());
    for &module in edges.keys() {
        if done.contains(module) || !reaches(module, module) {
            continue;
        }
        let knot: Vec<&Module> =
            edges.keys().copied().filter(|other| reaches(module, other) && reaches(other, module)).collect();
        done.extend(knot.iter().copied());
        knots.push(knot);
    }
    knots
}

fn reached<'a>(from: &Module, edges: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut ahead: Vec<&Module> = edges.get(from).into_iter().flatten().copied().collect();
    while let Some(next) = ahead.pop() {
        if found.insert(next) {
            ahead.extend(edges.get(next).into_iter().flatten().copied());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> BTreeMap<String, Vec<Vec<String>>> {
        let mut circles = Circles::default();
        files.iter().for_each(|(inside, content)| circles.read(Path::new(inside), content));
        circles.circles()
    }

    fn circle(folder: &str, files: &[&str]) -> BTreeMap<String, Vec<Vec<String>>> {
        BTreeMap::from([(folder.to_owned(), vec![files.iter().map(|file| (*file).to_owned()).collect()])])
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle_however_they_write_it() {
        for (a, b) in [
            ("use super::b::B;", "use super::a::A;"),
            ("use crate::task::{b::B, c};", "use super::a;"),
            ("mod d;\nfn f() { super::b::g() }", "use super::{\n    c,\n    a::{A, X as Y},\n};"),
        ] {
            let found = circles_of(&[("task/a.rs", a), ("task/b.rs", b), ("task/c.rs", ""), ("task/mod.rs", "")]);
            assert_eq!(found, circle("task", &["a", "b"]), "{a} / {b}");
        }
    }

    #[test]
    fn a_way_down_is_no_circle_and_neither_are_tests_and_other_folders() {
        let tests = "use super::b::B;\n#[cfg(test)]\nmod tests { use super::super::c::C; }";
        let found = circles_of(&[
            ("task/a.rs", tests),
            ("task/b.rs", "use super::c::C; // use super::a::A;"),
            ("task/c.rs", "use crate::state::S;"),
            ("state/mod.rs", "use crate::task::c::C;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_folder_and_a_file_in_it_that_use_each_other_are_a_circle() {
        for parent in ["mod b;\nuse b::B;", "mod b;\nfn f() { b::g() }", "mod b;\nuse self::b::B;"] {
            for name in ["task/a/mod.rs", "task/a.rs"] {
                let found = circles_of(&[(name, parent), ("task/a/b.rs", "use super::Shared;")]);
                assert_eq!(found, circle("task", &["a", "a/b"]), "{name}: {parent}");
            }
        }
        let passes_on =
            circles_of(&[("task/a/mod.rs", "mod b;\npub use b::B;"), ("task/a/b.rs", "use super::Shared;")]);
        assert!(passes_on.is_empty(), "passing on is no use: {passes_on:?}");
    }

    #[test]
    fn a_name_that_is_passed_on_belongs_to_the_file_that_it_comes_from() {
        let of = |c: &str| {
            circles_of(&[
                ("wasm/mod.rs", "mod a;\nmod b;\npub use a::Engine;\npub use b::{Settings, Limits};"),
                ("wasm/a.rs", "use super::{Limits, c};"),
                ("wasm/b.rs", c),
            ])
        };
        assert!(of("").is_empty());
        assert_eq!(of("use super::Engine;"), circle("wasm", &["a", "b"]));
    }

    #[test]
    fn circles_may_become_fewer_and_smaller_and_nothing_else() {
        let judge = |files: &[&str]| {
            let (mut findings, mut notes) = (Vec::new(), Vec::new());
            let allowed = BTreeMap::from([("task".to_owned(), (2, 2))]);
            let found = if files.is_empty() { BTreeMap::new() } else { circle("task", files) };
            compare(&found, &allowed, &mut findings, &mut notes);
            (findings.len(), notes.len())
        };
        assert_eq!(judge(&["a", "b"]), (0, 0));
        assert_eq!(judge(&["a", "b", "c"]), (1, 0));
        assert_eq!(judge(&[]), (0, 1));
    }
}
