//! Looks an upload over: is it a transform that this host can run, and if not, what exactly is wrong?
//!
//! Pure: bytes in, a component or a list of reasons out. Nothing is compiled or run. Arbitrary bytes
//! never panic the host: what the parsers below do not survive is a reason like any other.

mod contract;
mod remedy;

use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmparser::{Parser, Payload, Validator, WasmFeatures};
use wit_component::ComponentEncoder;
use wit_parser::decoding::{DecodedWasm, decode};

use self::remedy::Tools;
use super::error::Rejected;
use crate::model::Digest;

/// An upload that keeps the contract: what to store, and its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The upload itself, or the component made from it.
    pub component: Vec<u8>,
    pub digest: Digest,
}

pub(super) fn inspect(bytes: &[u8], bytes_max: usize) -> Result<Checked, Rejected> {
    if bytes.len() > bytes_max {
        let found = bytes.len();
        return Err(Rejected::because(format!(
            "the module has {found} bytes, at most {bytes_max} are allowed: build it optimised and stripped"
        )));
    }
    // wit-component and wit-parser are build tools and panic on some inputs that no tool makes.
    let looked_over = catch_unwind(AssertUnwindSafe(|| look_over(bytes)));
    looked_over.unwrap_or_else(|_| Err(Rejected::because("the module's type information is malformed: build it again")))
}

fn look_over(bytes: &[u8]) -> Result<Checked, Rejected> {
    let component = if Parser::is_component(bytes) {
        validate(bytes)?;
        bytes.to_vec()
    } else if Parser::is_core_wasm(bytes) {
        validate(bytes)?;
        encode(bytes)?
    } else {
        return Err(Rejected::because(format!("{}: upload the .wasm file that your build made", kind_of(bytes))));
    };
    let decoded =
        decode(&component).map_err(|e| Rejected::because(format!("the component's types do not read: {e:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(Rejected::because("this is a WIT package and holds no code: upload the component built from it"));
    };
    let reasons = contract::differences(&resolve, world, &Tools::of(bytes));
    if reasons.is_empty() {
        let digest = Digest::of(&component);
        Ok(Checked { component, digest })
    } else {
        Err(Rejected { reasons })
    }
}

fn kind_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "the upload is empty",
        [b'(', ..] => "this is WebAssembly text, not the binary form",
        [0x7f, b'E', b'L', b'F', ..] => "this is a native program, not WebAssembly",
        [b'\0', b'a', b's', b'm', ..] => "this is WebAssembly of a version that nobody knows",
        _ => "these bytes are no WebAssembly",
    }
}

fn validate(bytes: &[u8]) -> Result<(), Rejected> {
    let not_run = WasmFeatures::MEMORY64 | WasmFeatures::THREADS | WasmFeatures::GC | WasmFeatures::EXCEPTIONS;
    match Validator::new_with_features(WasmFeatures::default().difference(not_run)).validate_all(bytes) {
        Ok(_) => Ok(()),
        Err(e) => Err(Rejected::because(format!(
            "the module is malformed or uses a WebAssembly feature that this host does not run: {e}"
        ))),
    }
}

/// A core module with its WIT embedded becomes a component.
fn encode(core: &[u8]) -> Result<Vec<u8>, Rejected> {
    let reasons = core_faults(core);
    if !reasons.is_empty() {
        return Err(Rejected { reasons });
    }
    let encoded = ComponentEncoder::default().module(core).and_then(|encoder| encoder.validate(true).encode());
    encoded.map_err(|e| {
        let remedy = "build it against the world `transform` of forebay:transform@0.1.0";
        Rejected::because(format!("the core module does not become a component: {e:#}; {remedy}"))
    })
}

/// What the encoder would say in words that help nobody.
fn core_faults(core: &[u8]) -> Vec<String> {
    let found = Surface::of(core);
    let mut reasons = Vec::new();
    if found.wasi {
        reasons.push(remedy::wasi(&["wasi_snapshot_preview1"], &Tools::of(core)));
    }
    if !found.unlinked.is_empty() {
        let list = found.unlinked.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
        reasons
            .push(format!("the module imports {list}: these are symbols that the linker did not find, link them in"));
    }
    if !found.typed && reasons.is_empty() {
        reasons.push(
            "this is a core module without its WIT: build it with the SDK or wit-bindgen (world `transform` of \
             forebay:transform@0.1.0), or embed the WIT with `wasm-tools component embed`"
                .to_owned(),
        );
    }
    reasons
}

/// What shows of a core module from outside.
#[derive(Default)]
struct Surface {
    /// It has its WIT embedded.
    typed: bool,
    /// It imports WASI's first preview.
    wasi: bool,
    /// Symbols that C-like linkers leave to an `env`.
    unlinked: Vec<String>,
}

impl Surface {
    fn of(core: &[u8]) -> Self {
        let mut surface = Self::default();
        for payload in Parser::new(0).parse_all(core).filter_map(Result::ok) {
            match payload {
                Payload::CustomSection(section) => surface.typed |= section.name().starts_with("component-type"),
                Payload::ImportSection(section) => {
                    let imports = section.into_imports().filter_map(Result::ok);
                    imports.for_each(|import| surface.import(import.module, import.name));
                }
                _ => {}
            }
        }
        surface
    }

    fn import(&mut self, module: &str, name: &str) {
        match module {
            "wasi_snapshot_preview1" | "wasi_unstable" => self.wasi = true,
            "env" => self.unlinked.push(format!("`env` `{}`", name.escape_debug())),
            _ => {}
        }
    }
}
