//! Tiny guests written by hand: a description as bytes in memory, and bodies in WebAssembly text.

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Emits every record with its value. Layout of the arguments at `$call`: moment 16 bytes, then the
/// batch, whose values lie at 80 (data, ends, present, each as pointer and length).
pub const ECHO: &str = "
    (local $ends i32) (local $len i32) (local $i i32) (local $origins i32)
    (local.set $len (i32.load offset=92 (local.get $call)))
    (local.set $origins (call $alloc (local.get $len)))
    (block $done (loop $next
        (br_if $done (i32.ge_u (i32.mul (local.get $i) (i32.const 4)) (local.get $len)))
        (i32.store (i32.add (local.get $origins) (i32.mul (local.get $i) (i32.const 4))) (local.get $i))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (i32.store (i32.const 4100) (local.get $origins))
    (i32.store (i32.const 4104) (local.get $len))
    (i32.store8 (i32.const 4116) (i32.const 1))
    (memory.copy (i32.const 4120) (i32.add (local.get $call) (i32.const 80)) (i32.const 24))
    (i32.const 4096)";

/// Answers `err(\"no such symbol\")`.
pub const OPEN_REFUSES: &str = "
    (i32.store8 (i32.const 5120) (i32.const 1))
    (i32.store (i32.const 5124) (i32.const 512))
    (i32.store (i32.const 5128) (i32.const 14))
    (i32.const 5120)";

/// Answers an error for a value that never came.
pub const MIGRATE_FAILS_PAST_THE_END: &str = "
    (i32.store8 (i32.const 5128) (i32.const 1))
    (i32.store (i32.const 5132) (i32.const 999))
    (i32.store (i32.const 5136) (i32.const 512))
    (i32.store (i32.const 5140) (i32.const 14))
    (i32.const 5128)";

/// Hands the values back as they came: they lie at 60 of the arguments.
const MIGRATE_COPIES: &str = "
    (memory.copy (i32.const 5132) (i32.add (local.get $call) (i32.const 60)) (i32.const 24))
    (i32.const 5128)";

/// Address 0: zeroes, which is an empty answer.
const NOTHING: &str = "(i32.const 0)";

pub const DESCRIPTION: u32 = 8_192;

pub struct TestGuest {
    pub pages: u32,
    pub describe: String,
    pub open: String,
    pub process: String,
    pub on_timer: String,
    pub migrate: String,
    pub functions: String,
    pub description: Described,
}

/// What of a description the tests vary.
pub struct Described {
    pub name: &'static str,
    pub keyed: bool,
    pub state_name: &'static str,
    pub state_kind: u8,
    pub state_version: u32,
    pub ttl: bool,
    pub travels: bool,
    pub timer_domain: u8,
    pub tables: u32,
}

impl Default for TestGuest {
    fn default() -> Self {
        Self {
            pages: 2,
            describe: format!("(i32.const {DESCRIPTION})"),
            open: NOTHING.to_owned(),
            process: NOTHING.to_owned(),
            on_timer: NOTHING.to_owned(),
            migrate: MIGRATE_COPIES.to_owned(),
            functions: String::new(),
            description: Described {
                name: "test-guest",
                keyed: true,
                state_name: "total",
                state_kind: 0,
                state_version: 2,
                ttl: false,
                travels: true,
                timer_domain: 0,
                tables: 0,
            },
        }
    }
}

impl TestGuest {
    pub fn process(self, body: &str) -> Self {
        Self { process: body.to_owned(), ..self }
    }

    pub fn open(self, body: &str) -> Self {
        Self { open: body.to_owned(), ..self }
    }

    pub fn on_timer(self, body: &str) -> Self {
        Self { on_timer: body.to_owned(), ..self }
    }

    pub fn migrate(self, body: &str) -> Self {
        Self { migrate: body.to_owned(), ..self }
    }

    pub fn describe(self, body: &str) -> Self {
        Self { describe: body.to_owned(), ..self }
    }

    pub fn functions(self, text: &str) -> Self {
        Self { functions: text.to_owned(), ..self }
    }

    pub fn pages(self, pages: u32) -> Self {
        Self { pages, ..self }
    }

    pub fn core_text(&self) -> String {
        let Self { pages, describe, open, process, on_timer, migrate, functions, .. } = self;
        let description = escaped(&self.description.image());
        format!(
            r#"(module
    (import "forebay:transform/host@0.1.0" "dying" (func $dying (param i32 i32 i32 i32)))
    (import "forebay:transform/host@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
    (memory (export "memory") {pages})
    (global $top (mut i32) (i32.const 65536))
    (data (i32.const 512) "no such symbol")
    (data (i32.const {DESCRIPTION}) "{description}")
    (func $alloc (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
        (global.set $top (i32.add (local.get $at) (local.get $size)))
        (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
            (then (drop (memory.grow (i32.const 16)))))
        (local.get $at))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $alloc (local.get 3)))
    {functions}
    (func (export "forebay:transform/lifecycle@0.1.0#describe") (result i32) {describe})
    (func (export "forebay:transform/lifecycle@0.1.0#open")
        (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {open})
    (func (export "forebay:transform/lifecycle@0.1.0#migrate") (param $call i32) (result i32) {migrate})
    (func (export "forebay:transform/lifecycle@0.1.0#view") (param $call i32) (result i32) (i32.const 0))
    (func (export "forebay:transform/processing@0.1.0#process") (param $call i32) (result i32) {process})
    (func (export "forebay:transform/processing@0.1.0#on-timer") (param $call i32) (result i32) {on_timer}))"#
        )
    }

    /// A core module with its WIT embedded, as a build would upload it.
    pub fn core_module(&self) -> Vec<u8> {
        with_wit(&self.core_text(), &contract(), "transform")
    }
}

/// The contract as the repository has it.
pub fn contract() -> String {
    include_str!("../../../../wit/transform.wit").to_owned()
}

/// Text of a core module and the world that it is built for.
pub fn with_wit(text: &str, wit: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

impl Described {
    /// `module-description` in canonical ABI form, with what it points to behind it.
    pub fn image(&self) -> Vec<u8> {
        let mut image = Image { bytes: vec![0; 104] };
        image.string(0, self.name);
        image.string(8, "1.2.3");
        image.bytes[32] = u8::from(self.keyed);
        let input = image.reserve(36, 1, 20);
        image.string(input, "in");
        let output = image.reserve(44, 1, 16);
        image.string(output, "out");
        let state = image.reserve(52, 1, 80);
        image.string(state, self.state_name);
        image.bytes[state + 8] = self.state_kind;
        image.number(state + 12, self.state_version);
        let reads = image.reserve(state + 16, 1, 4);
        image.number(reads, 1);
        image.string(state + 32, "opaque");
        image.bytes[state + 48] = u8::from(self.travels);
        image.bytes[state + 56] = u8::from(self.ttl);
        let timer = image.reserve(60, 1, 12);
        image.string(timer, "flush");
        image.bytes[timer + 8] = self.timer_domain;
        let tables = image.reserve(68, self.tables, 12);
        (0..self.tables as usize).for_each(|i| image.string(tables + 12 * i, "rates"));
        image.bytes
    }
}

struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn number(&mut self, at: usize, number: u32) {
        self.bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }

    /// Room for `count` elements behind everything, and a list at `at` that points to it.
    fn reserve(&mut self, at: usize, count: u32, size: usize) -> usize {
        let start = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(start + count as usize * size, 0);
        self.number(at, DESCRIPTION + start as u32);
        self.number(at + 4, count);
        start
    }

    fn string(&mut self, at: usize, text: &str) {
        let start = self.reserve(at, text.len() as u32, 1);
        self.bytes[start..start + text.len()].copy_from_slice(text.as_bytes());
    }
}

pub fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("\\{b:02x}")).collect()
}
