//! Uploads that are not what they should be, and the sentence that each is refused with.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wit_component::{StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

use super::guest::{ECHO, TestGuest, contract, with_wit};
use super::*;
use crate::wasm::{Limits, Shape};

fn refusal(bytes: &[u8]) -> String {
    Engine::new(settings()).unwrap().inspect(bytes).unwrap_err().to_string()
}

fn check(bytes: &[u8], expected: &[&str]) {
    let refused = refusal(bytes);
    for part in expected {
        assert!(refused.contains(part), "{refused:?} does not say {part:?}");
    }
}

/// A module that exports all of a world and does nothing.
fn dummy(wit: &str, world: &str) -> Vec<u8> {
    dummy_on(Resolve::default(), wit, world)
}

/// The same on top of other packages.
fn dummy_on(mut resolve: Resolve, wit: &str, world: &str) -> Vec<u8> {
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

#[test]
fn a_core_module_with_its_wit_and_the_component_made_of_it_are_both_accepted() {
    let engine = Engine::new(settings()).unwrap();
    let from_core = engine.inspect(&TestGuest::default().core_module()).unwrap();
    let from_component = engine.inspect(&from_core.component).unwrap();
    assert_eq!(from_core, from_component);
    assert_eq!(from_core.digest, crate::model::Digest::of(&from_core.component));
    engine.inspect(&dummy(&contract(), "transform")).unwrap();
}

#[test]
fn what_is_no_module_is_told_apart() {
    check(b"", &["empty"]);
    check(b"(module)", &["text"]);
    check(b"\x7fELF\x02\x01", &["native program"]);
    check(b"hello", &["no WebAssembly"]);
    check(b"\0asm\x01\0\0\0\xff\xff", &["malformed"]);
    check(&wat::parse_str("(module)").unwrap(), &["core module without its WIT", "wit-bindgen"]);
    let small = EngineSettings { upload_bytes_max: 10, ..settings() };
    let refused = Engine::new(small).unwrap().inspect(&[0; 11]).unwrap_err();
    assert!(refused.to_string().contains("11 bytes, at most 10"), "{refused}");
}

#[test]
fn imports_from_outside_the_contract_are_named_with_the_remedy() {
    let wit = contract() + "world reaching { include transform; import get-secret: func(name: string); }";
    check(&dummy(&wit, "reaching"), &["imports get-secret", "remove what needs it"]);

    let preview1 =
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#;
    check(
        &with_wit(preview1, &contract(), "transform"),
        &["wasi_snapshot_preview1", "no WASI", "wasm32-unknown-unknown"],
    );

    let env = r#"(module (import "env" "missing_symbol" (func)))"#;
    check(&with_wit(env, &contract(), "transform"), &["`env` `missing_symbol`", "link them in"]);
}

#[test]
fn wasi_components_are_refused_with_the_flag_of_their_tool() {
    let component = wat::parse_str(
        r#"(component
            (import "wasi:clocks/wall-clock@0.2.6" (instance (export "now" (func (result u64)))))
            (@producers (processed-by "componentize-py" "0.25.1")))"#,
    )
    .unwrap();
    check(&component, &["wasi:clocks/wall-clock@0.2.6", "--stub-wasi", "does not export forebay:transform/lifecycle"]);
    assert!(!refusal(&component).contains("wasm32-unknown-unknown"), "only the flag of the tool that was used");
}

#[test]
fn all_of_wasi_is_one_sentence_with_the_way_of_the_authors_language() {
    let import = |name: &str| format!(r#"(import "wasi:{name}@0.2.6" (instance (export "now" (func (result u64)))))"#);
    let imports: String = ["a/a", "b/b", "c/c", "d/d", "e/e"].map(import).concat();
    let refused_as = |main: &str| {
        let text = format!(
            r#"(component {imports}
                (core module (@producers (processed-by "rustc" "1.95.0")))
                (core module (@producers (processed-by "{main}" "1")) (memory 1) (data (i32.const 0) "{}")))"#,
            "x".repeat(1_000)
        );
        refusal(&wat::parse_str(text).unwrap())
    };
    let of_c = refused_as("clang");
    assert_eq!(of_c.matches("no WASI is granted").count(), 1, "{of_c}");
    assert!(of_c.contains("wasi:a/a@0.2.6, wasi:b/b@0.2.6, wasi:c/c@0.2.6 and 2 more of WASI"), "{of_c}");
    assert!(
        of_c.contains("C and C++: ") && !of_c.contains("Rust: "),
        "the adapter beside it is not the author's: {of_c}"
    );
    let of_rust = refused_as("rustc");
    assert!(of_rust.contains("Rust: ") && !of_rust.contains("C and C++: "), "{of_rust}");
    let of_nobody = refused_as("a tool of one's own");
    assert!(of_nobody.contains("Rust: ") && of_nobody.contains("Python: "), "{of_nobody}");
}

#[test]
fn a_missing_export_is_named() {
    let wit = contract() + "world half { import host; export lifecycle; }";
    check(&dummy(&wit, "half"), &["does not export forebay:transform/processing@0.1.0", "the SDK"]);
}

#[test]
fn another_version_of_the_contract_is_named() {
    let wit = contract().replace("transform@0.1.0;", "transform@0.2.0;");
    check(&dummy(&wit, "transform"), &["exports forebay:transform/lifecycle@0.2.0", "speaks version 0.1.0"]);
}

#[test]
fn a_type_that_differs_is_named_down_to_the_field() {
    let wit = contract().replace("type u32s = list<u8>;", "type u32s = list<u32>;");
    let refused = refusal(&dummy(&wit, "transform"));
    assert!(refused.contains("`process` has another type"), "{refused}");
    assert!(refused.contains("`ends`, `element` is u32, not u8"), "{refused}");

    let wit = contract().replace("    filtered: u32,\n", "");
    check(&dummy(&wit, "transform"), &["`process`", "has the members", "filtered"]);
}

#[test]
fn worlds_that_are_drafts_are_refused_by_name() {
    let drafts = include_str!("../../../../wit/drafts/drafts.wit");
    let dummy = |wit: &str, world: &str| {
        let mut resolve = Resolve::default();
        resolve.push_str("transform.wit", &contract()).unwrap();
        dummy_on(resolve, wit, world)
    };
    let aggregation = "forebay:transform-drafts/aggregation@0.1.0";
    check(&dummy(drafts, "aggregate"), &[aggregation, "world `aggregate`", "draft"]);
    check(&dummy(drafts, "join"), &["world `join`", "draft"]);
    check(&dummy(drafts, "decode"), &["world `decode`", "draft"]);
    let reading =
        drafts.to_owned() + "world reading { include forebay:transform/transform@0.1.0; import keyed-state; }";
    check(
        &dummy(&reading, "reading"),
        &["imports forebay:transform-drafts/keyed-state@0.1.0", "draft", "value states"],
    );
}

#[test]
fn declarations_that_are_drafts_or_no_names_are_refused_by_name() {
    let check = |change: fn(&mut super::guest::Described), expected: &str| {
        let mut guest = TestGuest::default();
        change(&mut guest.description);
        let refused = load(&guest).map(drop).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused:?} does not say {expected:?}");
    };
    check(|d| d.state_kind = 1, "state `total` is a list, which is a draft");
    check(|d| d.state_kind = 2, "state `total` is a map, which is a draft");
    check(|d| d.ttl = true, "state `total` has a ttl");
    check(|d| d.travels = false, "state `total` does not travel");
    check(|d| d.timer_domain = 1, "timer `flush` runs on processing time");
    check(|d| d.tables = 1, "table `rates` is declared");
    check(|d| d.tables = 70, "table `rates` is declared");
    check(|d| d.state_version = 0, "state `total` has version 0");
    check(|d| d.state_version = 1, "`reads` holds version 0 or its own version 1");
    check(|d| d.state_name = "../../etc", "state name `../../etc` is not allowed");
    check(|d| d.name = "", "module name `` is not allowed");
    check(|d| d.keyed = false, "`keyed` is false");
}

/// A small module that echoes, as it is uploaded and as the component made of it.
fn modules() -> &'static (Engine, [Vec<u8>; 2]) {
    static MODULES: std::sync::OnceLock<(Engine, [Vec<u8>; 2])> = std::sync::OnceLock::new();
    MODULES.get_or_init(|| {
        let engine = Engine::new(settings()).unwrap();
        let core = TestGuest::default().process(ECHO).core_module();
        let component = engine.inspect(&core).unwrap().component;
        (engine, [core, component])
    })
}

prop_compose! {
    fn damaged()(
        component: bool,
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) -> Vec<u8> {
        let mut module = modules().1[usize::from(component)].clone();
        for (at, byte) in bytes {
            let at = at.index(module.len());
            module[at] = byte;
        }
        module.truncate(cut.map_or(module.len(), |cut| cut.index(module.len())));
        module
    }
}

proptest! {
    // The same damage each time. With other seeds it meets modules whose types refer to each other in a circle; these end
    // the process that looks at them, which is why it is one of its own (`apart`) wherever modules are uploaded.
    #![proptest_config(ProptestConfig { cases: 400, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn damaged_modules_are_refused_or_run_without_harm(module in damaged()) {
        let engine = &modules().0;
        let Ok(checked) = engine.inspect(&module) else { return Ok(()) };
        let cache = tempfile::tempdir().unwrap();
        let Ok(module) = engine.load(checked.digest, &checked.component, cache.path()) else { return Ok(()) };
        let Ok(mut instance) = module.instantiate(&Context::default()) else { return Ok(()) };
        let call = records(&[b"a", b"", b"bc"]);
        if let Ok(answer) = instance.process(moment(), &call) {
            let _ = answer.check(&Shape::of_records(module.description(), &call, Limits::default()));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3_usize) {
        let mut bytes = [&b""[..], b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"][kind].to_vec();
        bytes.extend(tail);
        let _ = crate::wasm::inspect::inspect(&bytes, usize::MAX);
    }
}
