//! Guests that mean harm: each is stopped, with a reason, and its instance is not entered again.

use super::guest::{ECHO, TestGuest};
use super::*;

fn trap_of(result: Result<Answer, GuestError>) -> (String, Option<crate::wasm::contract::LastWords>) {
    match result {
        Err(GuestError::Trap { message, last_words }) => (message.into_owned(), last_words),
        other => panic!("a trap was expected, not {other:?}"),
    }
}

#[test]
fn an_endless_loop_ends_with_its_cpu_time() {
    let guest = TestGuest::default().process("(loop $again (br $again)) (unreachable)");
    assert_eq!(process(&guest), Err(GuestError::Deadline { limit_ms: 50 }));
}

#[test]
fn an_endless_loop_in_describe_refuses_the_module() {
    let refused = load(&TestGuest::default().describe("(loop $again (br $again)) (unreachable)")).map(drop);
    assert!(matches!(refused, Err(Error::Describe { source: GuestError::Deadline { .. }, .. })));
}

#[test]
fn a_trap_names_the_functions_of_the_author_and_not_those_of_the_panic() {
    let guest = TestGuest::default()
        .functions("(func $rust_panic (unreachable)) (func $parse_quote (call $rust_panic))")
        .process("(call $parse_quote) (i32.const 0)");
    let (message, _) = trap_of(process(&guest));
    assert!(message.contains("(in parse_quote < "), "{message}");
}

#[test]
fn an_endless_start_function_refuses_the_module() {
    let guest = TestGuest::default().functions("(func $start (loop $again (br $again))) (start $start)");
    let refused = load(&guest).map(drop);
    assert!(matches!(refused, Err(Error::Describe { source: GuestError::Deadline { .. }, .. })), "{refused:?}");
}

#[test]
fn copying_in_bulk_uses_up_cpu_time_too() {
    let copy = "(memory.copy (i32.const 65536) (i32.const 0) (i32.const 65536))";
    let guest = TestGuest::default().process(&format!("(loop $again {copy} (br $again)) (unreachable)"));
    assert_eq!(process(&guest), Err(GuestError::Deadline { limit_ms: 50 }));
}

#[test]
fn tables_are_limited_from_the_start_and_as_they_grow() {
    let refused = load(&TestGuest::default().functions("(table 300000 funcref)")).map(drop).unwrap_err();
    assert!(refused.to_string().contains("table"), "{refused}");
    let grows = "(if (i32.ne (table.grow $t (ref.null func) (i32.const 300000)) (i32.const -1)) (then (unreachable)))";
    let guest = TestGuest::default().functions("(table $t 0 funcref)").process(&format!("{grows} (i32.const 0)"));
    assert_eq!(process(&guest), Ok(Answer::default()));
}

#[test]
fn an_instance_that_failed_is_not_entered_again() {
    let mut instance = instance(&TestGuest::default().process("(unreachable)"));
    let (message, _) = trap_of(instance.process(moment(), &records(&[b"a"])));
    assert!(message.contains("unreachable"), "{message}");
    let again = instance.process(moment(), &records(&[b"a"]));
    assert!(matches!(again, Err(GuestError::Host(_))), "{again:?}");
}

#[test]
fn a_request_for_too_much_memory_is_named_as_such() {
    let bomb = "(if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then (unreachable))) (i32.const 0)";
    assert_eq!(process(&TestGuest::default().process(bomb)), Err(GuestError::Memory { limit_bytes: 32 << 20 }));
}

#[test]
fn a_guest_that_survives_a_refused_request_is_left_alone() {
    let guest = TestGuest::default().process("(drop (memory.grow (i32.const 1000))) (i32.const 0)");
    assert_eq!(process(&guest), Ok(Answer::default()));
}

#[test]
fn a_memory_that_is_too_large_from_the_start_refuses_the_module() {
    let refused = load(&TestGuest::default().pages(1_000)).map(drop);
    assert!(matches!(refused, Err(Error::Describe { source: GuestError::Memory { .. }, .. })), "{refused:?}");
}

#[test]
fn last_words_come_through_cut_and_printable() {
    let guest = TestGuest::default()
        .process("(call $dying (i32.const 1) (i32.const 7) (i32.const 512) (i32.const 14)) (unreachable)");
    let (_, words) = trap_of(process(&guest));
    let words = words.unwrap();
    assert_eq!((words.record_index, &*words.message), (Some(7), "no such symbol"));

    let noisy = TestGuest::default()
        .process("(call $dying (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 9000)) (unreachable)");
    let (_, words) = trap_of(process(&noisy));
    assert!(words.is_none_or(|w| w.message.len() < 20_000 && !w.message.contains('\0')));
}

#[test]
fn a_flood_of_host_calls_is_bounded() {
    let line = "(call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 14))";
    let guest = TestGuest::default().process(&format!("(loop $again {line} (br $again)) (unreachable)"));
    let (message, _) = trap_of(process(&guest));
    assert!(message.contains("more than 1000 host calls"), "{message}");
}

#[test]
fn a_stack_that_overflows_is_the_guests_own() {
    let guest = TestGuest::default()
        .functions("(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))")
        .process("(call $deep (i32.const 0))");
    let (message, _) = trap_of(process(&guest));
    assert!(message.contains("call stack exhausted"), "{message}");
}

#[test]
fn an_answer_larger_than_the_limit_is_not_copied() {
    let huge = "
        (drop (memory.grow (i32.const 400)))
        (drop (memory.grow (i32.const 90)))
        (i32.store8 (i32.const 4116) (i32.const 1))
        (i32.store (i32.const 4120) (i32.const 0)) (i32.store (i32.const 4124) (i32.const 24000000))
        (i32.store8 (i32.const 4144) (i32.const 1))
        (i32.store (i32.const 4148) (i32.const 0)) (i32.store (i32.const 4152) (i32.const 24000000))
        (i32.const 4096)";
    let refused = process(&TestGuest::default().process(huge));
    let Err(GuestError::TooMuch(message)) = &refused else { panic!("{refused:?}") };
    assert!(message.contains("bytes: emit less"), "{message}");
}

#[test]
fn answers_that_point_outside_memory_trap() {
    let outside = "
        (i32.store (i32.const 4100) (i32.const 0x7fff0000)) (i32.store (i32.const 4104) (i32.const 400))
        (i32.const 4096)";
    let (message, _) = trap_of(process(&TestGuest::default().process(outside)));
    assert!(message.contains("out of bounds"), "{message}");
    for address in ["-4", "3", "0x7ffffff0"] {
        process(&TestGuest::default().process(&format!("(i32.const {address})"))).unwrap_err();
    }
}

#[test]
fn torn_number_columns_and_ends_that_descend_are_refused_by_name() {
    let torn = "(i32.store (i32.const 4104) (i32.const 6)) (i32.const 4096)";
    let refused = process(&TestGuest::default().process(torn)).unwrap_err();
    assert!(refused.to_string().contains("emitted.origins"), "{refused}");

    let descending =
        format!("{ECHO} (i32.store (i32.const 4128) (i32.const 6000)) (i32.store (i32.const 6000) (i32.const 9))");
    let refused = process(&TestGuest::default().process(&descending)).unwrap_err();
    assert!(refused.to_string().contains("emitted.values"), "{refused}");
}

#[test]
fn a_wrong_answer_ends_its_instance() {
    let mut instance =
        instance(&TestGuest::default().process("(i32.store (i32.const 4104) (i32.const 6)) (i32.const 4096)"));
    assert!(matches!(instance.process(moment(), &records(&[b"a"])), Err(GuestError::Answer(_))));
    assert!(matches!(instance.process(moment(), &records(&[b"a"])), Err(GuestError::Host(_))));
}
