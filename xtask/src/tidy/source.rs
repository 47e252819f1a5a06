//! Tells Rust code from comments, strings and test modules, well enough for rules that look at words.

/// The code of a file with comments and the insides of strings blanked; lines keep their numbers.
pub fn code_of(content: &str) -> String {
    let mut out = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(c) = rest.chars().next() {
        let skip = blank_len(rest);
        if skip > 0 {
            out.extend(rest[..skip].chars().filter(|c| *c == '\n'));
            out.push(' ');
            rest = &rest[skip..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Where the tests at the end of a file begin: the byte position of `#[cfg(test)]` before a `mod` with a body. One
/// that only names another file may stand at the top.
pub fn tests_start(code: &str) -> usize {
    let opens_module = |rest: &str| {
        let rest = rest.trim_start();
        rest.starts_with("mod ") && rest.find(['{', ';']).is_some_and(|at| rest[at..].starts_with('{'))
    };
    code.match_indices("#[cfg(test)]")
        .find(|(at, mark)| opens_module(&code[at + mark.len()..]))
        .map_or(code.len(), |(at, _)| at)
}

/// How many bytes from here on are comment or string; 0 = code.
fn blank_len(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if let Some(raw) = rest.strip_prefix("r#\"") {
        return raw.find("\"#").map_or(rest.len(), |end| end + 5);
    }
    if rest.starts_with('"') {
        return string_len(rest);
    }
    // A quote as a character must not open a string.
    if rest.starts_with("'\"'") {
        return 3;
    }
    0
}

/// Length of a string literal with its quotes.
fn string_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_strings_are_no_code() {
        let code = code_of("use a; // use crate::b\nlet s = \"crate::c \\\" crate::d\"; let q = '\"'; use crate::e;");
        assert!(code.contains("use a;") && code.contains("use crate::e;"));
        assert!(!code.contains("crate::b") && !code.contains("crate::c") && !code.contains("crate::d"));
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn tests_begin_at_their_module_and_not_at_a_test_only_function() {
        let code = "#[cfg(test)]\nfn helper() {}\n#[cfg(test)]\nmod tests {}";
        assert_eq!(&code[tests_start(code)..], "#[cfg(test)]\nmod tests {}");
        let elsewhere = "#[cfg(test)]\nmod tests;\nfn code() {}";
        assert_eq!(tests_start(elsewhere), elsewhere.len());
    }
}
