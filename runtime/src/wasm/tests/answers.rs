//! Answers made of chance: whatever memory an export points to, the host takes it apart without a panic.
//!
//! The guests here answer with a pointer to bytes that the test chose, so every export's result can be any
//! bytes at all: lists that overlap, end outside of memory or say nothing of sense.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::guest::{Described, MIGRATE_FAILS_PAST_THE_END, TestGuest, escaped};
use super::*;
use crate::model::Blobs;
use crate::wasm::contract::Keyed;
use crate::wasm::{Limits, Shape};

/// Where a description that a test chose lies.
const CHOSEN: usize = 20_000;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

/// Small numbers, so that lists are short and options present; places in the guest's memory; and anything.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => 0..3_u32,
        3 => prop::sample::select(vec![4, 8, 12, 16, 24]),
        3 => prop::sample::select(vec![0, 512, 8_192, 8_200, 65_536, 65_552, 131_000]),
        1 => any::<u32>(),
    ]
}

/// Memory as some answer would lie in it. Long enough for the largest result.
fn memory() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(word(), 64..96).prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Each export answers with the bytes that some argument of its call holds.
fn echo_of_memory() -> TestGuest {
    TestGuest::default()
        .open("(local.get 6)")
        .process("(i32.load offset=80 (local.get $call))")
        .on_timer("(i32.load offset=16 (local.get $call))")
        .migrate("(i32.load offset=60 (local.get $call))")
}

#[test]
fn no_bytes_that_an_export_answers_with_harm_the_host() {
    let module = load(&echo_of_memory()).unwrap();
    let declared = module.description();
    let harmless = |memory: Vec<u8>| {
        let opened = module.instantiate(&Context { connected_outputs: memory.clone(), ..Context::default() });
        let is_known = matches!(opened, Ok(_) | Err(GuestError::Open(_) | GuestError::Trap { .. }));
        prop_assert!(is_known);

        // A result that opens: the rest is to be reached.
        let instance =
            || module.instantiate(&Context { connected_outputs: vec![0; 64], ..Context::default() }).unwrap();
        let call = RecordCall { slots: vec![0, u32::MAX], ..records(&[&memory, b"x"]) };
        if let Ok(answer) = instance().process(moment(), &call) {
            let _ = answer.check(&Shape::of_records(declared, &call, Limits::default()));
        }
        let keys: Blobs = [Some(&memory[..])].into_iter().collect();
        let keyed = Keyed { keys, values: [None].into_iter().collect() };
        let call = TimerCall { keyed, slots: vec![0], timers: vec![0], times: vec![5], seeds: Vec::new() };
        if let Ok(answer) = instance().on_timer(moment(), &call) {
            let _ = answer.check(&Shape::of_timers(declared, &call, Limits::default()));
        }
        let values: Blobs = [Some(&memory[..]), Some(b"x")].into_iter().collect();
        let migration = Migration { from_version: 1, to_version: 2, values, ..Migration::default() };
        match instance().migrate(&migration) {
            Ok(migrated) => prop_assert_eq!(migrated.len(), 2),
            Err(GuestError::Migration { value_index, .. }) => prop_assert!(value_index < 2),
            Err(_) => {}
        }
        Ok(())
    };
    runner(1_500).run(&memory(), harmless).unwrap();
}

#[test]
fn no_bytes_that_describe_answers_with_harm_the_host() {
    let load_chosen = |bytes: &[u8]| {
        let data = format!("(data (i32.const {CHOSEN}) \"{}\")", escaped(bytes));
        load(&TestGuest::default().functions(&data).describe(&format!("(i32.const {CHOSEN})"))).map(drop)
    };
    let right: Vec<u8> = TestGuest::default().description.image();
    load_chosen(&right).unwrap();
    // Right but for a few bytes: that gets further than chance does.
    let changed =
        prop::collection::vec((0..right.len(), prop_oneof![any::<u8>(), 0..4_u8]), 0..6).prop_map(|changes| {
            let mut bytes = right.clone();
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            bytes
        });
    runner(60)
        .run(&prop_oneof![changed, memory()], |bytes| {
            let _ = load_chosen(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_migration_that_fails_for_a_value_past_the_end_is_a_wrong_answer() {
    let guest = TestGuest::default().migrate(MIGRATE_FAILS_PAST_THE_END);
    let values = [Some(&b"x"[..])].into_iter().collect();
    let migration = Migration { from_version: 1, to_version: 2, values, ..Migration::default() };
    let Err(GuestError::Answer(found)) = instance(&guest).migrate(&migration) else { panic!("a wrong answer") };
    assert_eq!(found, "migration-failure.value-index: it is 999, only 1 values came (it says: no such symbol)");
}

#[test]
fn a_description_is_refused_whatever_its_flags_hold() {
    let description = Described { state_kind: 200, ..TestGuest::default().description };
    assert!(load(&TestGuest { description, ..TestGuest::default() }).is_err());
}
