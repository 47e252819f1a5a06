//! Rules about the lines of a file: its length, tests that do not run, work left undone, words.

use std::path::Path;

use super::Finding;
use super::source::{code_of, tests_start};

const MAX_LINES: usize = 800;

/// Words that have no place in the tree, and why.
const WORDS: &[(&str, &str)] = &[
    ("FIXME", "finish it, or write down what is missing where users read it"),
    ("XXX:", "finish it, or write down what is missing where users read it"),
    ("/root/", "a path of one machine: take it from the environment"),
    ("/home/", "a path of one machine: take it from the environment"),
    ("/work/", "a path of one machine: take it from the environment"),
    ("pypi.org", "registries are reached by their own clients, which know mirrors; name the package"),
    ("pythonhosted.org", "registries are reached by their own clients, which know mirrors; name the package"),
    ("static.crates.io", "registries are reached by their own clients, which know mirrors; name the package"),
    ("index.crates.io", "registries are reached by their own clients, which know mirrors; name the package"),
    ("registry.npmjs", "registries are reached by their own clients, which know mirrors; name the package"),
    ("repo1.maven", "registries are reached by their own clients, which know mirrors; name the package"),
    ("proxy.golang", "registries are reached by their own clients, which know mirrors; name the package"),
    ("deb.debian", "registries are reached by their own clients, which know mirrors; name the package"),
];

pub fn check(path: &Path, content: &str, findings: &mut Vec<Finding>) {
    let mut say = |line: usize, what: String| findings.push(Finding { path: path.to_path_buf(), line, what });
    // This table names them all; lock files name the registry of each package.
    if !path.ends_with("xtask/src/tidy/text.rs") && path.extension().is_none_or(|extension| extension != "lock") {
        for (line, word, why) in forbidden_words(content) {
            say(line, format!("`{word}`: {why}"));
        }
    }
    if path.extension().is_some_and(|extension| extension == "rs") && !path.starts_with("xtask/src/tidy") {
        for (line, what) in rust_rules(path, content) {
            say(line, what);
        }
    }
}

fn forbidden_words(content: &str) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    content.lines().enumerate().flat_map(|(at, line)| {
        WORDS.iter().filter(move |(word, _)| line.contains(word)).map(move |(word, why)| (at + 1, *word, *why))
    })
}

fn rust_rules(path: &Path, content: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let length = content.lines().count();
    if length > MAX_LINES {
        found.push((0, format!("{length} lines, and {MAX_LINES} are the most: split it by what its parts own")));
    }
    let code = code_of(content);
    let in_tests = test_lines(path, &code);
    let lines: Vec<&str> = content.lines().collect();
    for (at, line) in code.lines().enumerate() {
        if line.contains("#[ignore]") {
            found.push((at + 1, "an ignored test says why: #[ignore = \"…\"]".to_owned()));
        }
        if line.contains("todo!(") || line.contains("unimplemented!(") {
            found.push((at + 1, "what is not built is left out, or refused by name".to_owned()));
        }
        if in_tests(at) && line.contains("sleep(") && !line.contains("fn ") && !explained(&lines, at) {
            found.push((at + 1, "a test that sleeps says why in a comment just above: // sleep: …".to_owned()));
        }
    }
    found
}

/// Which lines belong to tests: all of a file in a `tests` folder or `tests.rs`, else the test module.
fn test_lines(path: &Path, code: &str) -> impl Fn(usize) -> bool + use<> {
    let whole = path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
    let start = tests_start(code);
    let from = if whole { Some(0) } else { (start < code.len()).then(|| code[..start].matches('\n').count()) };
    move |line| from.is_some_and(|from| line >= from)
}

fn explained(lines: &[&str], at: usize) -> bool {
    let above = at.checked_sub(1).and_then(|above| lines.get(above)).copied().unwrap_or_default();
    [above, lines.get(at).copied().unwrap_or_default()].iter().any(|line| line.contains("// sleep: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_at(path: &str, content: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(Path::new(path), content, &mut findings);
        findings.into_iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
    }

    #[test]
    fn a_file_that_is_too_long_is_named_and_a_lock_file_may_name_registries() {
        assert_eq!(check_at("a.rs", &"\n".repeat(MAX_LINES)).len(), 0);
        assert_eq!(check_at("a.rs", &"\n".repeat(MAX_LINES + 1)).len(), 1);
        assert_eq!(check_at("Cargo.lock", "static.crates.io").len(), 0);
        assert_eq!(check_at("README.md", "see pypi.org").len(), 1);
    }

    #[test]
    fn a_sleep_in_a_test_needs_its_reason_and_one_outside_does_not() {
        assert_eq!(check_at("runtime/src/a.rs", "thread::sleep(d);").len(), 0);
        assert_eq!(check_at("tests/e2e/tests/a.rs", "thread::sleep(d);").len(), 1);
        assert_eq!(
            check_at("tests/e2e/tests/a.rs", "// sleep: the kill is to fall anywhere\nthread::sleep(d);").len(),
            0
        );
        assert_eq!(check_at("a.rs", "#[cfg(test)]\nmod tests {\n  sleep(d);\n}").len(), 1);
    }

    #[test]
    fn an_ignored_test_needs_its_reason() {
        assert_eq!(check_at("a.rs", "#[ignore]\nfn a() {}").len(), 1);
        assert_eq!(check_at("a.rs", "#[ignore = \"needs a cluster\"]\nfn a() {}").len(), 0);
    }
}
