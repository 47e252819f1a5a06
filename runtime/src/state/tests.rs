use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::error::Kind;
use crate::model::{Blobs, EventTime};

fn operators() -> Vec<OperatorStates> {
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    vec![
        OperatorStates { id: "a".to_owned(), states: strings(&["x", "y"]), timers: strings(&["t", "s"]) },
        OperatorStates { id: "b".to_owned(), states: strings(&["x"]), timers: strings(&["t"]) },
    ]
}

/// A small cache and early flushes: what is read comes from every place.
fn settings() -> StateSettings {
    StateSettings {
        cache_bytes: 4_000,
        write_bytes: 600,
        flush_bytes: 2_000,
        flush_epochs: 5,
        shared: Shared::new(64 << 20, 1 << 20, 8 << 20),
    }
}

fn open(dir: &Path) -> (TaskState, Option<Marker>) {
    let (mut state, marker) = TaskState::open(dir, &settings()).unwrap();
    state.bind(&operators()).unwrap();
    (state, marker)
}

fn marker(epoch: u64) -> Marker {
    Marker { epoch, header_offset: epoch as i64 * 10, header_hash: [epoch as u8; 32], task: [3; 32] }
}

fn read(state: &mut TaskState, operator: usize, keys: &[&[u8]]) -> Vec<Option<(u32, Vec<u8>)>> {
    let mut out = Gathered::default();
    let keys = keys.iter().map(|key| Some(*key)).collect::<Blobs>();
    assert_eq!(state.gather(operator, &keys, usize::MAX, &mut out).unwrap(), None);
    let entries = out.values.iter().zip(&out.versions);
    entries.map(|(value, version)| value.map(|value| (*version, value.to_vec()))).collect()
}

fn next_timer(state: &mut TaskState, operator: usize) -> Option<EventTime> {
    loop {
        match state.next_timer(operator).unwrap() {
            NextTimer::NotYet => std::thread::yield_now(),
            NextTimer::At(time) => return Some(time),
            NextTimer::Never => return None,
        }
    }
}

fn due(state: &mut TaskState, operator: usize, up_to: EventTime, limit: usize) -> Vec<(EventTime, u8, Vec<u8>)> {
    let mut out = Vec::new();
    while !state.due_timers(operator, up_to, limit, false, &mut out).unwrap() {
        std::thread::yield_now();
    }
    out.into_iter().map(|due| (due.time, due.timer, due.key.to_vec())).collect()
}

#[test]
fn an_open_epoch_is_seen_by_its_own_reads_and_gone_after_discard() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    state.put(0, 0, b"k", 1, Some(b"old"));
    state.apply(marker(1)).unwrap();
    state.put(0, 0, b"k", 2, Some(b"new"));
    state.put(0, 1, b"k", 1, Some(b"other"));
    assert_eq!(read(&mut state, 0, &[b"k"]), [Some((2, b"new".to_vec())), Some((1, b"other".to_vec()))]);
    state.discard();
    assert_eq!(read(&mut state, 0, &[b"k"]), [Some((1, b"old".to_vec())), None]);
    assert!(state.delta().is_empty());
}

#[test]
fn states_of_one_name_in_two_operators_are_two_states() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    state.put(0, 0, b"k", 1, Some(b"a"));
    state.put(1, 0, b"k", 1, Some(b"b"));
    state.apply(marker(1)).unwrap();
    assert_eq!(read(&mut state, 0, &[b"k"])[0], Some((1, b"a".to_vec())));
    assert_eq!(read(&mut state, 1, &[b"k"])[0], Some((1, b"b".to_vec())));
}

#[test]
fn after_a_flush_the_marker_and_the_state_are_those_of_the_same_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, before) = open(dir.path());
    assert_eq!(before, None);
    for epoch in 1..=3 {
        state.put(0, 0, b"k", 1, Some(&[epoch as u8]));
        state.apply(marker(epoch)).unwrap();
    }
    state.flush().unwrap();
    state.put(0, 0, b"k", 1, Some(b"not committed"));
    drop(state);
    let (mut state, after) = open(dir.path());
    assert_eq!(after, Some(marker(3)));
    assert_eq!(read(&mut state, 0, &[b"k"])[0], Some((1, vec![3])));
}

#[test]
fn keys_that_change_often_reach_the_disk_before_a_restart_would_have_much_to_replay() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StateSettings { write_bytes: 1 << 20, flush_bytes: 40_000, flush_epochs: 10_000, ..settings() };
    let machine = simulated::Machine::new(simulated::Haste {
        write_bytes: settings.write_bytes,
        flush_bytes: settings.flush_bytes,
        flush_epochs: settings.flush_epochs,
    });
    simulated::set_machine(Some(&machine));
    let (mut state, _) = TaskState::open(dir.path(), &settings).unwrap();
    state.bind(&operators()).unwrap();
    // One key, a hundred bytes an epoch: RocksDB is told of little, a restart would replay all of it.
    for epoch in 1..=1_000 {
        state.put(0, 0, b"k", 1, Some(&[7; 100]));
        state.apply(marker(epoch)).unwrap();
    }
    let written = machine.current(dir.path()).as_deref().and_then(simulated::marker).map_or(0, |marker| marker.epoch);
    simulated::set_machine(None);
    assert!((600..1_000).contains(&written), "a restart would replay from epoch {written}");
}

#[test]
fn a_store_takes_memory_for_a_filter_once_much_is_written_and_gives_it_back_at_rest() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StateSettings { cache_bytes: 1 << 20, ..StateSettings::default() };
    let (mut state, _) = TaskState::open(dir.path(), &settings).unwrap();
    state.bind(&operators()).unwrap();
    let mut epoch = 0;
    let mut commit = |state: &mut TaskState, bytes: usize| {
        epoch += 1;
        state.put(0, 0, b"k", 1, Some(&vec![7; bytes]));
        state.apply(marker(epoch)).unwrap();
    };
    // RocksDB looks at what its memory takes only where something is written to it.
    let taken_by_little = |state: &mut TaskState, commit: &mut dyn FnMut(&mut TaskState, usize)| {
        commit(state, 100);
        state.store.write_out().unwrap();
        state.store.db().property("rocksdb.cur-size-all-mem-tables")
    };
    let taken = taken_by_little(&mut state, &mut commit);
    assert!(taken < 64 << 10, "{taken} bytes");
    commit(&mut state, 9 << 20);
    state.flush().unwrap();
    let taken = taken_by_little(&mut state, &mut commit);
    assert!(taken > 256 << 10, "{taken} bytes");
    state.rest().unwrap();
    state.flush().unwrap();
    let taken = taken_by_little(&mut state, &mut commit);
    assert!(taken < 64 << 10, "{taken} bytes");
    assert_eq!(read(&mut state, 0, &[b"k"])[0], Some((1, vec![7; 100])));
}

#[test]
fn what_waits_in_memory_of_a_task_at_rest_goes_to_disk() {
    let dir = tempfile::tempdir().unwrap();
    let machine =
        simulated::Machine::new(simulated::Haste { write_bytes: 1 << 20, flush_bytes: 1 << 20, flush_epochs: 2 });
    simulated::set_machine(Some(&machine));
    let (mut state, _) = open(dir.path());
    let on_disk = || machine.current(dir.path()).as_deref().and_then(simulated::marker).map_or(0, |m| m.epoch);
    for epoch in 1..=3 {
        state.put(0, 0, b"k", 1, Some(&[epoch as u8]));
        state.apply(marker(epoch)).unwrap();
    }
    assert_eq!(on_disk(), 2);
    state.rest().unwrap();
    assert_eq!(on_disk(), 3);
    state.rest().unwrap();
    let (waiting, found) = (state.statistics().waiting_bytes, read(&mut state, 0, &[b"k"])[0].clone());
    simulated::set_machine(None);
    assert_eq!((waiting, found), (0, Some((1, vec![3]))));
}

#[test]
fn a_snapshot_is_taken_without_waiting_and_its_values_wait_for_what_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = TaskState::open(dir.path(), &StateSettings::default()).unwrap();
    state.bind(&operators()).unwrap();
    let gate = state.store.hold();
    state.put(0, 0, b"k", 1, Some(b"old"));
    state.apply(marker(1)).unwrap();
    let snapshot = state.snapshot().unwrap();
    state.put(0, 0, b"l", 1, Some(b"newer"));
    state.apply(marker(2)).unwrap();
    let found = [Some((1, b"old".to_vec())), Some((1, b"newer".to_vec()))];
    assert_eq!(read(&mut state, 0, &[b"k", b"l"])[..2], found);
    std::thread::scope(|scope| {
        let pass = scope.spawn(|| snapshot.values("a", "x").collect::<Result<Vec<_>, _>>().unwrap());
        gate.tell(true);
        assert_eq!(pass.join().unwrap().len(), 1);
    });
    state.flush().unwrap();
    assert_eq!(read(&mut state, 0, &[b"k", b"l"])[..2], found);
    drop(state);

    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    let gate = state.store.hold();
    state.put(0, 0, b"k", 1, Some(b"v"));
    state.apply(marker(1)).unwrap();
    let snapshot = state.snapshot().unwrap();
    gate.tell(false);
    let mut values = snapshot.values("a", "x");
    assert_eq!(values.next().unwrap().unwrap_err().kind(), Kind::Retry);
}

#[test]
fn timers_whose_commit_is_on_its_way_to_the_disk_are_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = TaskState::open(dir.path(), &StateSettings::default()).unwrap();
    state.bind(&operators()).unwrap();
    let gate = state.store.hold();
    state.set_timer(0, 0, b"k", 5);
    state.apply(marker(1)).unwrap();
    state.discard();
    let mut out = Vec::new();
    assert_eq!(state.next_timer(0).unwrap(), NextTimer::NotYet);
    assert!(!state.due_timers(0, 9, 10, false, &mut out).unwrap() && out.is_empty());
    gate.tell(true);
    assert_eq!(next_timer(&mut state, 0), Some(5));
    assert_eq!(due(&mut state, 0, 9, 10), [(5, 0, b"k".to_vec())]);
}

#[test]
fn replaying_deltas_elsewhere_rebuilds_the_same_state() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut original, _) = open(here.path());
    let (mut copy, _) = open(there.path());
    for epoch in 1..20_u64 {
        original.put(0, 0, &[epoch as u8 % 7], 1, (epoch % 5 != 0).then_some(&[epoch as u8]));
        original.set_timer(0, 1, b"k", epoch as i64);
        original.unset_timer(0, 1, b"k", epoch as i64 - 2);
        let changes = original.delta().clone();
        original.apply(marker(epoch)).unwrap();
        copy.replay(&changes, marker(epoch)).unwrap();
    }
    let keys: Vec<[u8; 1]> = (0..7).map(|n| [n]).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    assert_eq!(read(&mut copy, 0, &keys), read(&mut original, 0, &keys));
    assert_eq!(due(&mut copy, 0, 100, 100), due(&mut original, 0, 100, 100));
    assert_eq!(
        copy.snapshot().unwrap().values("a", "x").count(),
        original.snapshot().unwrap().values("a", "x").count()
    );
}

#[test]
fn a_delta_with_keys_or_values_that_no_epoch_writes_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    for (key, value) in [(&[0, b'm'][..], &b"another marker"[..]), (b"\x01\0\0a\0\x01x\0\x01k", b"")] {
        let mut changes = Changes::default();
        changes.push(key, Some(value));
        assert_eq!(state.replay(&changes, marker(1)).unwrap_err().kind(), Kind::Corrupt);
    }
    state.flush().unwrap();
    drop(state);
    assert_eq!(open(dir.path()).1, None);
}

#[test]
fn timers_fire_by_time_then_declared_position_then_key_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    state.set_timer(0, 1, b"a", 5);
    state.set_timer(0, 0, b"b", 5);
    state.set_timer(0, 0, b"a", 7);
    state.set_timer(0, 0, b"a", -1);
    state.apply(marker(1)).unwrap();
    state.set_timer(0, 0, b"a", 5);
    state.set_timer(0, 0, b"b", 5);
    let expected = [(-1, 0, b"a".to_vec()), (5, 0, b"a".to_vec()), (5, 0, b"b".to_vec()), (5, 1, b"a".to_vec())];
    assert_eq!(due(&mut state, 0, 6, 10), expected);
    assert_eq!(due(&mut state, 0, 6, 2), expected[..2]);
    assert_eq!(next_timer(&mut state, 0), Some(-1));
    assert_eq!(next_timer(&mut state, 1), None);
    for (time, timer, key) in expected {
        state.unset_timer(0, timer, &key, time);
    }
    assert_eq!(due(&mut state, 0, 6, 10), []);
    assert_eq!(next_timer(&mut state, 0), Some(7));
    state.discard();
    assert_eq!(due(&mut state, 0, 6, 10).len(), 3, "what was committed is due again");
}

#[test]
fn more_timers_than_memory_holds_all_fire_in_order_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    let total = 30_000_i64;
    for n in 0..total {
        // Scattered, with many of one time.
        state.set_timer(0, (n % 2) as u8, &n.to_be_bytes(), n * 7_919 % total / 10);
    }
    state.apply(marker(1)).unwrap();
    state.flush().unwrap();
    drop(state);
    let (mut state, _) = open(dir.path());
    let (mut fired, mut epoch) = (Vec::new(), 2);
    while let Some(time) = next_timer(&mut state, 0) {
        let batch = due(&mut state, 0, time + 50, 700);
        for (time, timer, key) in &batch {
            state.unset_timer(0, *timer, key, *time);
        }
        fired.extend(batch);
        if fired.len() % 3 == 0 {
            state.apply(marker(epoch)).unwrap();
            epoch += 1;
        }
    }
    assert_eq!(fired.len() as i64, total);
    assert!(fired.is_sorted());
}

#[test]
fn timers_at_both_ends_of_time_are_kept_and_fire() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    state.set_timer(0, 0, b"k", EventTime::MAX);
    state.set_timer(0, 0, b"k", EventTime::MIN);
    state.apply(marker(1)).unwrap();
    state.discard();
    assert_eq!(next_timer(&mut state, 0), Some(EventTime::MIN));
    assert_eq!(due(&mut state, 0, EventTime::MAX, 10).len(), 2);
}

#[test]
fn a_sweep_finds_every_stale_value_once_and_leaves_written_keys_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    for n in 0..500_u32 {
        state.put(0, 0, &n.to_le_bytes(), 1 + n % 2, Some(b"v"));
        state.put(0, 1, &n.to_le_bytes(), 1, Some(b"of another state"));
        state.put(1, 0, &n.to_le_bytes(), 1, Some(b"of another operator"));
    }
    state.apply(marker(1)).unwrap();
    state.put(0, 0, &0_u32.to_le_bytes(), 2, Some(b"touched"));
    let (mut cursor, mut found) = (Cursor::default(), Vec::new());
    while !cursor.is_finished() {
        let some = state.stale_values(0, 0, 2, &mut cursor, 7).unwrap();
        assert!(some.len() <= 7);
        found.extend(some);
    }
    assert!(found.iter().all(|stale| stale.version == 1 && stale.value == b"v"));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup();
    assert_eq!(found.len(), 249);
}

#[test]
fn a_snapshot_is_read_in_another_thread_and_shows_only_committed_values_of_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    for n in 0..300_u32 {
        state.put(0, 0, &n.to_le_bytes(), 1, Some(&n.to_le_bytes()));
        state.put(0, 1, &n.to_le_bytes(), 1, Some(b"y"));
    }
    state.apply(marker(1)).unwrap();
    state.put(0, 0, b"uncommitted", 1, Some(b"v"));
    let snapshot = state.snapshot().unwrap();
    let pass = std::thread::spawn(move || snapshot.values("a", "x").collect::<Result<Vec<_>, _>>().unwrap());
    let values = pass.join().unwrap();
    assert_eq!(values.len(), 300);
    assert!(values.iter().all(|stored| stored.key == stored.value));
}

#[test]
fn a_swap_that_adds_a_state_keeps_the_others_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    state.put(0, 0, b"k", 1, Some(b"x"));
    state.put(0, 1, b"k", 1, Some(b"y"));
    state.set_timer(0, 1, b"k", 5);
    state.apply(marker(1)).unwrap();
    let mut swapped = operators();
    swapped[0].states = vec!["new".to_owned(), "y".to_owned(), "x".to_owned()];
    swapped[0].timers = vec!["s".to_owned()];
    state.bind(&swapped).unwrap();
    assert_eq!(read(&mut state, 0, &[b"k"]), [None, Some((1, b"y".to_vec())), Some((1, b"x".to_vec()))]);
    assert_eq!(due(&mut state, 0, 9, 9), [(5, 0, b"k".to_vec())]);
}

#[test]
fn names_that_cannot_be_told_apart_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    let operator = |id: &str, states: &[&str]| OperatorStates {
        id: id.to_owned(),
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        timers: vec![],
    };
    for operators in [vec![operator("a", &[]), operator("a", &[])], vec![operator("a", &["x", "x"])]] {
        assert_eq!(state.bind(&operators).unwrap_err().kind(), Kind::Invalid);
    }
}

#[test]
fn one_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path());
    assert!(matches!(TaskState::open(dir.path(), &settings()), Err(Error::Locked { .. })));
    assert!(matches!(TaskState::wipe(dir.path()), Err(Error::Locked { .. })));
    drop(state);
    TaskState::wipe(dir.path()).unwrap();
    TaskState::wipe(dir.path()).unwrap();
    assert_eq!(open(dir.path()).1, None);
}

#[test]
fn damaged_files_are_an_error_that_says_so_and_a_wipe_starts_over() {
    for file_type in ["sst", "MANIFEST", "CURRENT"] {
        let dir = tempfile::tempdir().unwrap();
        let (mut state, _) = open(dir.path());
        (0..200_u32).for_each(|n| state.put(0, 0, &n.to_le_bytes(), 1, Some(&[7; 50])));
        state.apply(marker(1)).unwrap();
        state.flush().unwrap();
        drop(state);
        flip_bytes(dir.path(), file_type);
        let found = TaskState::open(dir.path(), &settings()).and_then(|(mut state, _)| {
            state.bind(&operators())?;
            let keys: Vec<_> = (0..200_u32).map(u32::to_le_bytes).collect();
            state.gather(0, &keys.iter().map(|key| Some(&key[..])).collect(), usize::MAX, &mut Gathered::default())
        });
        assert_eq!(found.map_err(|e| e.kind()), Err(Kind::Corrupt), "{file_type}");
        TaskState::wipe(dir.path()).unwrap();
        assert_eq!(open(dir.path()).1, None, "{file_type}");
    }
}

fn flip_bytes(dir: &Path, file_type: &str) {
    for file in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if file.file_name().unwrap().to_str().unwrap().contains(file_type) {
            let mut bytes = std::fs::read(&file).unwrap();
            bytes.iter_mut().skip(10).step_by(50).for_each(|byte| *byte ^= 0x55);
            bytes[0] ^= 0x55;
            std::fs::write(&file, bytes).unwrap();
        }
    }
}

#[test]
fn a_damaged_value_names_its_operator_state_and_key_group_and_condemns_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    let mut full_key = Vec::new();
    key::push_value_key(&mut full_key, &key::names("a", "y"), b"k");
    for damaged in [&b"\0\x01"[..], b"\x80\0\0\0\0v"] {
        let mut changes = Changes::default();
        changes.push(&full_key, Some(damaged));
        state.replay(&changes, marker(1)).unwrap();
        let keys: Blobs = [Some(&b"other"[..]), Some(b"k")].into_iter().collect();
        let error = state.gather(0, &keys, usize::MAX, &mut Gathered::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().starts_with("read state y of operator a, key group 3872, key k"), "{error}");
    }
    drop(state);
    let refused = TaskState::open(dir.path(), &settings()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    TaskState::wipe(dir.path()).unwrap();
    open(dir.path());
}

#[test]
fn values_that_are_too_large_together_are_answered_by_how_many_keys_to_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    let names: Vec<String> = (0..200).map(|n| format!("key-{n}")).collect();
    let keys: Blobs = names.iter().map(|name| Some(name.as_bytes())).collect();
    let ask = |state: &mut TaskState, most: usize| {
        let keys: Blobs = names[..most].iter().map(|name| Some(name.as_bytes())).collect();
        state.gather(1, &keys, 10_000, &mut Gathered::default()).unwrap()
    };
    keys.iter().flatten().for_each(|key| state.put(1, 0, key, 1, Some(&[7; 1_000])));
    for _ in 0..3 {
        let fewer = ask(&mut state, 200).unwrap();
        assert!((1..=10).contains(&fewer), "{fewer}");
        assert_eq!(ask(&mut state, 5), None);
        assert_eq!(ask(&mut state, 1), None);
        // In the epoch, in the cache or waiting, and on disk.
        state.apply(marker(1)).unwrap();
        state.flush().unwrap();
    }
    drop(state);
    let (mut state, _) = open(dir.path());
    assert!(ask(&mut state, 200).is_some_and(|fewer| fewer <= 10));
    keys.iter().flatten().for_each(|key| state.put(1, 0, key, 1, Some(&[7; 20_000])));
    assert_eq!(ask(&mut state, 1), None, "a single key has what it has");
}

#[derive(Clone, Debug)]
enum Step {
    Put { operator: usize, state: u8, key: u8, value: Option<Vec<u8>> },
    Set { operator: usize, timer: u8, key: u8, time: i64 },
    Unset { operator: usize, timer: u8, key: u8, time: i64 },
    Mark,
    Undo,
    Apply,
    Discard,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..2_usize, 0..2_u8, 0..12_u8);
    prop_oneof![
        8 => (place.clone(), prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..60)))
            .prop_map(|((operator, s, key), value)| Step::Put { operator, state: s * (1 - operator as u8), key, value }),
        3 => (place.clone(), -3..9_i64)
            .prop_map(|((operator, t, key), time)| Step::Set { operator, timer: t * (1 - operator as u8), key, time }),
        2 => (place, -3..9_i64)
            .prop_map(|((operator, t, key), time)| Step::Unset { operator, timer: t * (1 - operator as u8), key, time }),
        2 => Just(Step::Mark),
        2 => Just(Step::Undo),
        2 => Just(Step::Apply),
        1 => Just(Step::Discard),
        1 => Just(Step::Reopen),
    ]
}

/// What the state should be: two maps and nothing else.
#[derive(Clone, Default)]
struct Model {
    values: BTreeMap<(usize, u8, u8), Vec<u8>>,
    timers: std::collections::BTreeSet<(usize, i64, u8, u8)>,
}

impl Model {
    fn check(&self, state: &mut TaskState) {
        let keys: Vec<[u8; 1]> = (0..12).map(|key| [key]).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        for (operator, states) in [(0, 2_u8), (1, 1)] {
            let places = (0..states).flat_map(|s| (0..12_u8).map(move |key| (operator, s, key)));
            let expected: Vec<_> = places.map(|place| self.values.get(&place).map(|v| (9, v.clone()))).collect();
            assert_eq!(read(state, operator, &keys), expected);
            let timers = self.timers.iter().filter(|timer| timer.0 == operator);
            let expected: Vec<_> = timers.map(|&(_, time, timer, key)| (time, timer, vec![key])).collect();
            assert_eq!(due(state, operator, i64::MAX, 1_000), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn behaves_as_a_plain_map_through_commits_discards_and_restarts(steps in prop::collection::vec(step(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut state, _) = open(dir.path());
        let (mut model, mut committed, mut changelog) = (Model::default(), Model::default(), Vec::new());
        let mut marked = Model::default();
        for step in steps {
            match step {
                Step::Put { operator, state: s, key, value } => {
                    state.put(operator, s, &[key], 9, value.as_deref());
                    match value {
                        Some(value) => model.values.insert((operator, s, key), value),
                        None => model.values.remove(&(operator, s, key)),
                    };
                }
                Step::Set { operator, timer, key, time } => {
                    state.set_timer(operator, timer, &[key], time);
                    model.timers.insert((operator, time, timer, key));
                }
                Step::Unset { operator, timer, key, time } => {
                    state.unset_timer(operator, timer, &[key], time);
                    model.timers.remove(&(operator, time, timer, key));
                }
                Step::Mark => {
                    state.mark();
                    marked = model.clone();
                }
                Step::Undo => {
                    state.undo();
                    model = marked.clone();
                }
                Step::Apply => {
                    let changes = state.delta().clone();
                    let keys: Vec<_> = changes.iter().map(|(key, _)| key.to_vec()).collect();
                    prop_assert!(keys.is_sorted_by(|a, b| a < b));
                    changelog.push(changes);
                    state.apply(marker(changelog.len() as u64)).unwrap();
                    committed = model.clone();
                    marked = model.clone();
                }
                Step::Discard => {
                    state.discard();
                    model = committed.clone();
                    marked = committed.clone();
                }
                Step::Reopen => {
                    drop(state);
                    let (reopened, found) = open(dir.path());
                    state = reopened;
                    let stored = found.map_or(0, |marker| marker.epoch);
                    prop_assert!(changelog.len() as u64 - stored < 10, "the tail to replay is bounded");
                    for (changes, epoch) in changelog.iter().zip(1..).filter(|(_, epoch)| *epoch > stored) {
                        state.replay(changes, marker(epoch)).unwrap();
                    }
                    model = committed.clone();
                    marked = committed.clone();
                }
            }
            model.check(&mut state);
        }
    }
}

/// Keys and values at rest and the marker: what RocksDB and every delta hold. A change of these bytes
/// needs a new [`marker::FORMAT`].
#[test]
fn state_bytes_are_those_of_their_format() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path());
    let mut with_zero = operators();
    with_zero.push(OperatorStates { id: "z\0".to_owned(), states: vec!["\0s".to_owned()], timers: vec![] });
    state.bind(&with_zero).unwrap();
    state.put(0, 0, b"key", 1, Some(b"value"));
    state.put(0, 1, b"", 0xDEAD_BEEF, Some(b""));
    state.put(1, 0, b"key\0\xFF", 2, None);
    state.put(2, 0, b"k", 3, Some(b"v"));
    state.set_timer(0, 1, b"key\0", -1);
    state.set_timer(1, 0, b"", EventTime::MAX);
    state.unset_timer(0, 0, b"key", EventTime::MIN);
    let mut lines = String::new();
    for (key, value) in state.delta().iter() {
        let value = value.map_or("deleted".to_owned(), |value| format!("[{}]", value.escape_ascii()));
        lines += &format!("{} = {value}\n", key.escape_ascii());
    }
    lines += &format!("marker = {}\n", super::marker::encode_marker(marker(7)).escape_ascii());
    crate::golden::check(&format!("state/golden/state-v{}.txt", super::marker::FORMAT), lines.as_bytes());
}
