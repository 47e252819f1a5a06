//! Every rule of the check with an answer that breaks it, and answers made of nothing but malice.

use proptest::prelude::*;

use super::*;
use crate::wasm::contract::{Emitted, Keyed, Refusal, StateDecl, StateWrites, TimerDecl, TimerWrites};

const SECOND: i64 = 1_000_000_000;

/// Two outputs, one state, one timer; the second output feeds a keyed operator.
fn declared() -> Description {
    Description {
        keyed: true,
        outputs: vec!["a".into(), "b".into()],
        states: vec![StateDecl {
            name: "s".into(),
            version: 1,
            reads: vec![],
            reverts_to: vec![],
            encoding: "json".into(),
            fingerprint: String::new(),
        }],
        timers: vec![TimerDecl { name: "t".into() }],
        ..Description::default()
    }
}

/// Three records: two of key `k`, one of key `l`; the last has a null value.
fn call() -> RecordCall {
    RecordCall {
        keyed: Keyed { keys: blobs(&[Some(b"k"), Some(b"l")]), values: blobs(&[None, None]) },
        slots: vec![0, 1, 0],
        values: blobs(&[Some(b"one"), Some(b"two"), None]),
        event_times: vec![0, SECOND, 2 * SECOND],
        ..RecordCall::default()
    }
}

fn blobs(entries: &[Option<&[u8]>]) -> Blobs {
    entries.iter().copied().collect()
}

/// An answer that uses every column and is right.
fn good() -> Answer {
    Answer {
        emitted: Emitted {
            origins: vec![1, 0, 0],
            outputs: vec![0, 1, 0],
            values: Some(blobs(&[Some(b"x"), None, Some(b"")])),
            keys: Some(blobs(&[Some(b"k"), None, Some(b"l")])),
            event_times: vec![1, 2, 3],
            headers: Some(Headers {
                ends: vec![1, 1, 2],
                names: blobs(&[Some(b"n"), Some(b"m")]),
                values: blobs(&[None, Some(b"v")]),
            }),
            partitions: vec![3, -1, 0],
            typed_columns: 0,
        },
        writes: StateWrites {
            states: vec![0, 0],
            slots: vec![0, 1],
            ops: vec![0, 1],
            values: blobs(&[Some(b"v"), None]),
            ..StateWrites::default()
        },
        timers: TimerWrites { timers: vec![0], slots: vec![1], times: vec![SECOND], ops: vec![1] },
        refusals: vec![Refusal { record_index: 2, code: "bad".into(), message: String::new() }],
        filtered: 1,
    }
}

fn judge(answer: &Answer) -> Result<(), String> {
    judge_within(answer, Limits::default())
}

fn judge_within(answer: &Answer, limits: Limits) -> Result<(), String> {
    let (declared, call) = (declared(), call());
    let shape = Shape { keyed_outputs: &[false, true], ..Shape::of_records(&declared, &call, limits) };
    answer.check(&shape).map_err(|e| e.to_string())
}

/// The good answer with one change is refused in words that name the column and the entry.
#[track_caller]
fn refused(change: impl FnOnce(&mut Answer), expected: &str) {
    let mut answer = good();
    change(&mut answer);
    let refused = judge(&answer).unwrap_err();
    assert!(refused.contains(expected), "{refused:?} does not say {expected:?}");
}

#[test]
fn a_right_answer_and_an_empty_one_pass() {
    judge(&good()).unwrap();
    judge(&Answer::default()).unwrap();
}

#[test]
fn columns_of_another_length_are_refused() {
    refused(|a| a.emitted.outputs = vec![0], "emitted.outputs: there are 1 entries where 3 belong");
    refused(|a| a.emitted.values = Some(blobs(&[])), "emitted.values: there are 0");
    refused(|a| a.emitted.keys = Some(blobs(&[None])), "emitted.keys: there are 1");
    refused(|a| a.emitted.event_times.truncate(2), "emitted.event-times");
    refused(|a| a.emitted.partitions.push(-1), "emitted.partitions");
    refused(|a| a.writes.slots.clear(), "writes.slots");
    refused(|a| a.writes.values = Blobs::new(), "writes.values");
    refused(|a| a.writes.ops.truncate(1), "writes.ops");
    refused(|a| a.timers.slots.clear(), "timers.slots");
    refused(|a| a.timers.times.clear(), "timers.times");
    refused(|a| a.timers.ops.push(0), "timers.ops");
}

#[test]
fn positions_out_of_range_are_refused_with_their_place() {
    refused(|a| a.emitted.origins[1] = 3, "emitted.origins: entry 1 is 3, only 3 records came");
    refused(|a| a.emitted.origins[0] = u32::MAX, "emitted.origins: entry 0");
    refused(|a| a.emitted.outputs[2] = 2, "emitted.outputs: entry 2 is 2, only 2 outputs are declared");
    refused(|a| a.emitted.partitions[0] = -2, "emitted.partitions: entry 0 is -2");
    refused(|a| a.emitted.partitions[1] = 0, "output 1 feeds a keyed operator");
    refused(|a| a.writes.states[1] = 1, "writes.states: entry 1 is 1, only 1 states are declared");
    refused(|a| a.writes.slots[0] = 2, "writes.slots: entry 0 is 2, only 2 keys came");
    refused(|a| a.timers.timers[0] = 1, "timers.timers: entry 0");
    refused(|a| a.timers.slots[0] = u32::MAX, "timers.slots: entry 0");
    refused(|a| a.timers.ops[0] = 2, "timers.ops: entry 0 is 2");
    refused(|a| a.filtered = 4, "filtered: 4 of 3");
}

#[test]
fn headers_that_do_not_add_up_are_refused() {
    let headers = |change: fn(&mut Headers), expected| {
        refused(|a| change(a.emitted.headers.as_mut().unwrap()), expected);
    };
    headers(|h| h.ends = vec![1, 0, 2], "emitted.headers.ends: entry 1 is 0, after 1");
    headers(|h| h.ends = vec![1, 1, 3], "emitted.headers.ends: entry 2 is 3");
    headers(|h| h.ends = vec![1, 1, 1], "headers behind the last record's");
    headers(|h| h.ends = vec![2], "emitted.headers.ends: there are 1");
    headers(|h| h.ends.clear(), "emitted.headers.names: there are 2");
    headers(|h| h.values = Blobs::new(), "emitted.headers.values");
    headers(|h| h.names = blobs(&[Some(b"n"), None]), "emitted.headers.names: entry 1");
    headers(|h| h.names = blobs(&[Some(b"\xff"), Some(b"m")]), "emitted.headers.names: entry 0");
}

#[test]
fn drafts_are_refused_by_name() {
    refused(|a| a.emitted.typed_columns = 1, "typed columns are a draft");
    refused(|a| a.writes.entry_keys = blobs(&[None, None]), "map states are a draft");
    refused(|a| a.writes.expires = vec![0, 0], "times to live are a draft");
    refused(|a| a.writes.ops[1] = 2, "writes.ops: entry 1: append and remove are a draft");
    refused(|a| a.writes.ops[0] = 3, "writes.ops: entry 0");
    refused(|a| a.writes.ops[0] = 4, "writes.ops: entry 0 is 4");
}

#[test]
fn a_null_value_is_not_put() {
    refused(|a| a.writes.ops = vec![], "writes.values: entry 1 puts a null value");
}

#[test]
fn a_refused_record_has_no_effects() {
    refused(|a| a.emitted.origins[1] = 2, "emitted.origins: entry 1 is record 2, which the answer refuses");
    let refuse = |index| Refusal { record_index: index, code: "c".into(), message: String::new() };
    refused(|a| a.refusals.push(refuse(2)), "refuses record 2 a second time");
    refused(|a| a.refusals.push(refuse(3)), "is record 3, 3 came");
    refused(
        |a| {
            a.emitted = Emitted::default();
            a.refusals.push(refuse(1));
        },
        "writes.slots: entry 1 is slot 1, of which every record was refused",
    );
    refused(
        |a| {
            (a.emitted, a.writes) = Default::default();
            a.refusals.push(refuse(1));
        },
        "timers.slots: entry 0 is slot 1",
    );
}

#[test]
fn codes_are_short_words() {
    for code in ["", "two words", "ünicode", "line\nfeed", &"x".repeat(65)] {
        refused(|a| a.refusals[0].code = code.to_owned(), "refusals: entry 0 has a code");
    }
}

#[test]
fn timers_have_no_value_to_take_over() {
    let declared = declared();
    let call = TimerCall { timers: vec![0], times: vec![0], slots: vec![0], ..TimerCall::default() };
    let shape = Shape::of_timers(&declared, &call, Limits::default());
    let mut answer = Answer { emitted: Emitted { origins: vec![0], ..Emitted::default() }, ..Answer::default() };
    assert!(answer.check(&shape).unwrap_err().to_string().contains("a timer has no value"));
    answer.emitted.values = Some(blobs(&[None]));
    answer.check(&shape).unwrap();
}

#[test]
fn a_module_without_outputs_emits_nothing() {
    let (declared, call) = (Description { outputs: vec![], ..declared() }, call());
    let answer = Answer { emitted: Emitted { origins: vec![0], ..Emitted::default() }, ..Answer::default() };
    let refused = answer.check(&Shape::of_records(&declared, &call, Limits::default())).unwrap_err();
    assert!(refused.to_string().contains("no output is declared"));
}

#[test]
fn amplification_counts_what_is_taken_over() {
    let passing_on = Answer { emitted: Emitted { origins: vec![0; 100], ..Emitted::default() }, ..Answer::default() };
    // 100 times the value `one` and the key `k`.
    judge_within(&passing_on, Limits { bytes_max: 400, entries_max: 100 }).unwrap();
    let refused = judge_within(&passing_on, Limits { bytes_max: 399, entries_max: 100 }).unwrap_err();
    assert!(refused.contains("400 bytes in one call, at most 399"), "{refused}");
    let refused = judge_within(&passing_on, Limits { bytes_max: 400, entries_max: 99 }).unwrap_err();
    assert!(refused.contains("emitted.origins: there are 100"), "{refused}");
}

fn column() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![0..4_u32, any::<u32>()], 0..5)
}

fn small() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![4 => 0..4_u8, 1 => any::<u8>()], 0..5)
}

fn times() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(any::<i64>(), 0..5)
}

fn entries() -> impl Strategy<Value = Blobs> {
    prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..3)), 0..5)
        .prop_map(|entries| entries.iter().map(Option::as_deref).collect())
}

fn hostile_headers() -> impl Strategy<Value = Headers> {
    (column(), entries(), entries()).prop_map(|(ends, names, values)| Headers { ends, names, values })
}

prop_compose! {
    fn hostile_emitted()(
        origins in column(), outputs in small(), values in prop::option::of(entries()),
        keys in prop::option::of(entries()), event_times in times(),
        headers in prop::option::of(hostile_headers()),
        partitions in prop::collection::vec(any::<i32>(), 0..5), typed_columns in 0..2_usize,
    ) -> Emitted {
        Emitted { origins, outputs, values, keys, event_times, headers, partitions, typed_columns }
    }
}

prop_compose! {
    fn hostile_answer()(
        emitted in prop_oneof![Just(Emitted::default()), Just(good().emitted), hostile_emitted()],
        states in small(), slots in column(), ops in small(), values in entries(), expires in times(),
        timers in small(), timer_slots in column(), timer_times in times(), timer_ops in small(),
        refused in column(), code in ".{0,3}", filtered in any::<u32>(),
        keep in (any::<bool>(), any::<bool>(), any::<bool>()),
    ) -> Answer {
        let writes = StateWrites { states, slots, ops, values, expires, entry_keys: Blobs::new() };
        let timers = TimerWrites { timers, slots: timer_slots, times: timer_times, ops: timer_ops };
        let refusals = refused.iter().map(|at| Refusal { record_index: *at, code: code.clone(), message: String::new() });
        Answer {
            emitted,
            writes: if keep.0 { writes } else { good().writes },
            timers: if keep.1 { timers } else { good().timers },
            refusals: if keep.2 { refusals.collect() } else { vec![] },
            filtered: if keep.0 { filtered } else { 0 },
        }
    }
}

/// Uses every position of an answer as the host will, without any check of its own.
fn use_as_the_host_does(answer: &Answer, call: &RecordCall) {
    let emitted = &answer.emitted;
    for (i, &origin) in emitted.origins.iter().enumerate() {
        let _ = emitted.values.as_ref().unwrap_or(&call.values).get(if emitted.values.is_some() {
            i
        } else {
            origin as usize
        });
        let _ = call.keyed.keys.bytes(call.slots[origin as usize] as usize);
        let _ = emitted.keys.as_ref().map(|keys| keys.get(i));
        let _ = (emitted.event_times.is_empty()) || emitted.event_times[i] == call.event_times[origin as usize];
        let _ = emitted.headers.as_ref().map(|headers| headers.of(i).count());
        assert!(emitted.outputs.is_empty() || usize::from(emitted.outputs[i]) < declared().outputs.len());
    }
    for i in 0..answer.writes.states.len() {
        let _ = call.keyed.keys.bytes(answer.writes.slots[i] as usize);
        let _ = (&declared().states[usize::from(answer.writes.states[i])], answer.writes.values.get(i));
    }
    for i in 0..answer.timers.timers.len() {
        let _ = call.keyed.keys.bytes(answer.timers.slots[i] as usize);
        let _ = (&declared().timers[usize::from(answer.timers.timers[i])], answer.timers.times[i]);
    }
    for refusal in &answer.refusals {
        let _ = call.values.get(refusal.record_index as usize);
    }
}

/// Three timers, two of key `k` and one of key `l`.
fn timer_call() -> TimerCall {
    TimerCall {
        keyed: call().keyed,
        slots: vec![0, 1, 0],
        timers: vec![0, 0, 0],
        times: vec![0, SECOND, 2 * SECOND],
        seeds: Vec::new(),
    }
}

/// As for records; a timer has no value and no headers to take over.
fn use_for_timers_as_the_host_does(answer: &Answer, call: &TimerCall) {
    let emitted = &answer.emitted;
    for (i, &origin) in emitted.origins.iter().enumerate() {
        let _ = call.keyed.keys.bytes(call.slots[origin as usize] as usize);
        let _ = (call.times[origin as usize], call.timers[origin as usize]);
        let _ = emitted.values.as_ref().map(|values| values.get(i)).expect("a timer's emission has a value");
        let _ = emitted.keys.as_ref().map(|keys| keys.get(i));
        let _ = emitted.headers.as_ref().map(|headers| headers.of(i).count());
        assert!(emitted.outputs.is_empty() || usize::from(emitted.outputs[i]) < declared().outputs.len());
    }
    for i in 0..answer.writes.states.len() {
        let _ = call.keyed.keys.bytes(answer.writes.slots[i] as usize);
        let _ = (&declared().states[usize::from(answer.writes.states[i])], answer.writes.values.get(i));
    }
    for i in 0..answer.timers.timers.len() {
        let _ = call.keyed.keys.bytes(answer.timers.slots[i] as usize);
        let _ = (&declared().timers[usize::from(answer.timers.timers[i])], answer.timers.times[i]);
    }
    assert!(answer.refusals.iter().all(|refusal| (refusal.record_index as usize) < call.timers.len()));
}

#[test]
fn headers_that_no_record_has_may_be_left_empty() {
    let mut answer = good();
    answer.emitted.headers = Some(Headers::default());
    judge(&answer).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn hostile_answers_are_refused_or_harmless(answer in hostile_answer()) {
        if judge(&answer).is_ok() {
            use_as_the_host_does(&answer, &call());
        }
    }

    #[test]
    fn hostile_answers_to_timers_are_refused_or_harmless(answer in hostile_answer()) {
        let (declared, call) = (declared(), timer_call());
        let shape = Shape { keyed_outputs: &[false, true], ..Shape::of_timers(&declared, &call, Limits::default()) };
        if answer.check(&shape).is_ok() {
            use_for_timers_as_the_host_does(&answer, &call);
        }
    }

    #[test]
    fn hostile_migrations_are_refused_or_harmless(
        sent in 0..4_usize, values in entries(), index in prop_oneof![0..4_u32, any::<u32>()], fails in any::<bool>(),
    ) {
        let migration = Migration { values: vec![Some(&b"x"[..]); sent].into_iter().collect(), ..Migration::default() };
        let failure = GuestError::Migration { value_index: index, message: String::new() };
        match check_migration(if fails { Err(failure) } else { Ok(values) }, &migration, &Limits::default()) {
            Ok(migrated) => prop_assert_eq!(migrated.len(), sent),
            Err(GuestError::Migration { value_index, .. }) => prop_assert!((value_index as usize) < sent),
            Err(error) => prop_assert!(error.is_fault()),
        }
    }
}
