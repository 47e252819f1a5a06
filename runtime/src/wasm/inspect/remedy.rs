//! What to tell an author whose build reaches for the outside.

use wasmparser::{Parser, Payload, ProducersSectionReader};

/// Per tool: a word of its `producers` section, its name, and how it builds without WASI.
const WITHOUT_WASI: [(&str, &str, &str); 6] = [
    ("componentize-py", "Python", "componentize-py componentize --stub-wasi"),
    ("componentize-qjs", "JavaScript (QuickJS)", "componentize-qjs --sync --stub-wasi"),
    (
        "componentize-js",
        "JavaScript (StarlingMonkey)",
        "componentize with disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event']",
    ),
    ("rustc", "Rust", "cargo build --target wasm32-unknown-unknown (wasm32-wasip1 and -wasip2 always import WASI)"),
    ("Go", "Go", "GOOS=wasip1 -buildmode=c-shared with the stub adapter for wasi_snapshot_preview1"),
    ("clang", "C and C++", "-mexec-model=reactor, and no calls of files, clocks or environment"),
];

/// The sentence about one `wasi` import.
pub(super) fn wasi(import: &str, tools: &[String]) -> String {
    let known = WITHOUT_WASI.iter().filter(|(word, _, _)| tools.iter().any(|tool| tool.contains(word))).take(1);
    let mut ways: Vec<_> = known.map(way).collect();
    if ways.is_empty() {
        ways = WITHOUT_WASI.iter().map(way).collect();
    }
    format!(
        "the module imports {}, and no WASI is granted (time, seeds, parameters and logs come through the contract): \
         build it without; {}",
        import.escape_debug(),
        ways.join(", ")
    )
}

fn way((_, language, flags): &(&str, &str, &str)) -> String {
    format!("{language}: {flags}")
}

/// Names in the `producers` sections of a module and of all that is inside it.
pub(super) fn tools_of(bytes: &[u8]) -> Vec<String> {
    let mut tools = Vec::new();
    for payload in Parser::new(0).parse_all(bytes).filter_map(Result::ok) {
        let Payload::CustomSection(section) = payload else { continue };
        if section.name() != "producers" {
            continue;
        }
        let reader = wasmparser::BinaryReader::new(section.data(), section.data_offset());
        let Ok(fields) = ProducersSectionReader::new(reader) else { continue };
        for field in fields.into_iter().filter_map(Result::ok) {
            tools.extend(field.values.into_iter().filter_map(Result::ok).map(|value| value.name.to_owned()));
        }
    }
    tools
}
