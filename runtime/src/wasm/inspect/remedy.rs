//! What to tell an author whose build reaches for the outside.

use wasmparser::{Parser, Payload, ProducersSectionReader};

/// The first so many of [`WITHOUT_WASI`] pack an interpreter, and say so beside what compiled it.
const PACKERS: usize = 3;

/// Per tool: a word of its `producers` section, its name, and how it builds without WASI. Rust stands before C, whose
/// library it brings along.
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

/// Imports that are named one by one; a module that reaches for more reaches for all of it.
const NAMED: usize = 3;

/// The sentence about all `wasi` imports of a module: one, since one way of building ends them all.
pub(super) fn wasi(imports: &[&str], tools: &Tools) -> String {
    let shown =
        imports.iter().take(NAMED).map(|import| import.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    let more = match imports.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more of WASI"),
    };
    let way = tools.way().map_or_else(|| WITHOUT_WASI.iter().map(way).collect::<Vec<_>>().join("; "), way);
    format!(
        "the module imports {shown}{more}, and no WASI is granted (time, seeds, parameters and logs come through the \
         contract): build it without; {way}"
    )
}

fn way((_, language, flags): &(&str, &str, &str)) -> String {
    format!("{language}: {flags}")
}

/// What an upload says that it was built with.
#[derive(Default)]
pub(super) struct Tools {
    /// Of all that is inside it.
    all: Vec<String>,
    /// Of its largest module, which is the author's (or the interpreter that runs the author's code): the small ones
    /// beside it are adapters, and say `rustc` whatever they adapt.
    main: Vec<String>,
}

impl Tools {
    pub fn of(bytes: &[u8]) -> Self {
        let mut tools = Self::default();
        let (mut largest, mut module) = (0, Module::default());
        for payload in Parser::new(0).parse_all(bytes).filter_map(Result::ok) {
            match payload {
                Payload::ModuleSection { unchecked_range, .. } => {
                    module = Module { bytes: unchecked_range.len(), tools: Vec::new() };
                }
                Payload::CustomSection(section) if section.name() == "producers" => {
                    let reader = wasmparser::BinaryReader::new(section.data(), section.data_offset());
                    let found = names(reader);
                    tools.all.extend(found.iter().cloned());
                    module.tools.extend(found);
                }
                Payload::End(_) => {
                    let ended = std::mem::take(&mut module);
                    if ended.bytes > largest {
                        (largest, tools.main) = (ended.bytes, ended.tools);
                    }
                }
                _ => {}
            }
        }
        if largest == 0 {
            // A core module by itself.
            tools.main.clone_from(&tools.all);
        }
        tools
    }

    /// How the tool builds that made it; none where that is not known.
    fn way(&self) -> Option<&'static (&'static str, &'static str, &'static str)> {
        let (packers, compilers) = WITHOUT_WASI.split_at(PACKERS);
        let first = |ways: &'static [_], tools: &[String]| {
            ways.iter().find(|(word, _, _): &&(&str, _, _)| tools.iter().any(|tool| tool.contains(word)))
        };
        first(packers, &self.all).or_else(|| first(compilers, &self.main))
    }
}

/// A core module inside a component.
#[derive(Default)]
struct Module {
    bytes: usize,
    tools: Vec<String>,
}

fn names(reader: wasmparser::BinaryReader<'_>) -> Vec<String> {
    let Ok(fields) = ProducersSectionReader::new(reader) else { return Vec::new() };
    let values = fields.into_iter().filter_map(Result::ok).flat_map(|field| field.values);
    values.filter_map(Result::ok).map(|value| value.name.to_owned()).collect()
}
