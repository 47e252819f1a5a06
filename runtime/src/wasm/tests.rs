//! Real components in a real engine, most of them hostile.

mod answers;
mod guest;
mod hostile;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use self::guest::TestGuest;
use super::contract::{Answer, Context, Guest, GuestError, GuestFactory, Migration, Moment, RecordCall, TimerCall};
use super::{Engine, EngineSettings, Error, Module};

/// Limits that a test reaches quickly.
fn settings() -> EngineSettings {
    EngineSettings {
        call_cpu_max: Duration::from_millis(50),
        memory_bytes_max: 32 << 20,
        host_calls_max: 1_000,
        ..EngineSettings::default()
    }
}

fn load(guest: &TestGuest) -> Result<Arc<Module>, Error> {
    let cache = tempfile::tempdir().unwrap();
    let engine = Engine::new(settings()).unwrap();
    let checked = engine.inspect(&guest.core_module())?;
    engine.load(checked.digest, &checked.component, cache.path())
}

fn instance(guest: &TestGuest) -> Box<dyn Guest> {
    load(guest).unwrap().instantiate(&Context::default()).unwrap()
}

fn moment() -> Moment {
    Moment { watermark: i64::MIN, now: i64::MIN }
}

fn records(values: &[&[u8]]) -> RecordCall {
    RecordCall {
        values: values.iter().map(|value| Some(*value)).collect(),
        event_times: vec![0; values.len()],
        ..RecordCall::default()
    }
}

fn process(guest: &TestGuest) -> Result<Answer, GuestError> {
    instance(guest).process(moment(), &records(&[b"a", b"bc"]))
}

#[test]
fn a_module_speaks_in_logs_under_the_name_that_people_know_it_by() {
    let module = load(&TestGuest::default()).unwrap();
    let description = module.description();
    assert_eq!(module.speaks_as(), format!("{}@{}", description.name, description.version));
}

#[test]
fn columns_cross_both_ways_unchanged() {
    let mut instance = instance(&TestGuest::default().process(guest::ECHO));
    for values in [&[&b"a"[..], b"", b"bc"][..], &[&[7; 100_000]]] {
        let answer = instance.process(moment(), &records(values)).unwrap();
        let expected: Vec<u32> = (0..values.len() as u32).collect();
        assert_eq!(answer.emitted.origins, expected);
        assert_eq!(answer.emitted.values.unwrap(), records(values).values);
    }
}

#[test]
fn a_description_is_told_as_the_module_has_it() {
    let module = load(&TestGuest::default()).unwrap();
    let description = module.description();
    assert_eq!((&*description.name, &*description.version), ("test-guest", "1.2.3"));
    assert_eq!((&*description.inputs, &*description.outputs), (&["in".to_owned()][..], &["out".to_owned()][..]));
    assert_eq!(description.states[0].name, "total");
    assert_eq!((description.states[0].version, &*description.states[0].reads), (2, &[1][..]));
    assert!(description.keyed);
}

#[test]
fn open_refuses_with_the_modules_own_words() {
    let module = load(&TestGuest::default().open(guest::OPEN_REFUSES)).unwrap();
    let refused = module.instantiate(&Context::default()).map(drop);
    assert_eq!(refused.unwrap_err(), GuestError::Open("no such symbol".to_owned()));
}

#[test]
fn timers_and_migrations_reach_the_guest() {
    let mut instance = instance(&TestGuest::default());
    let timers = TimerCall { timers: vec![0], times: vec![5], slots: vec![0], ..TimerCall::default() };
    assert_eq!(instance.on_timer(moment(), &timers).unwrap(), Answer::default());
    let values: crate::model::Blobs = [Some(&b"x"[..]), Some(b"yz")].into_iter().collect();
    let migration = Migration { from_version: 1, to_version: 2, values: values.clone(), ..Migration::default() };
    assert_eq!(instance.migrate(&migration).unwrap(), values);
}

#[test]
fn fewer_migrated_values_than_came_are_refused() {
    let guest = TestGuest::default().migrate("(i32.const 0)");
    let values = [Some(&b"x"[..])].into_iter().collect();
    let migration = Migration { from_version: 1, to_version: 2, values, ..Migration::default() };
    assert!(matches!(instance(&guest).migrate(&migration), Err(GuestError::Answer(_))));
}

#[test]
fn code_is_compiled_once_and_a_damaged_copy_is_never_run() {
    let cache = tempfile::tempdir().unwrap();
    let guest = TestGuest::default().process(guest::ECHO).core_module();
    let load = || {
        let engine = Engine::new(settings()).unwrap();
        let checked = engine.inspect(&guest).unwrap();
        engine.load(checked.digest, &checked.component, cache.path()).unwrap();
    };
    let files = || std::fs::read_dir(cache.path()).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    load();
    let [file] = &files()[..] else { panic!("one file") };
    let written = std::fs::metadata(file).unwrap().modified().unwrap();
    load();
    assert_eq!(std::fs::metadata(file).unwrap().modified().unwrap(), written, "found, not compiled");

    let whole = std::fs::read(file).unwrap();
    for damage in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[damage] ^= 1;
        std::fs::write(file, &bytes).unwrap();
        load();
        assert_eq!(std::fs::read(file).unwrap().len(), whole.len());
        assert_ne!(std::fs::read(file).unwrap(), bytes, "made anew");
    }
    std::fs::write(file, &whole[..100]).unwrap();
    load();
}

#[test]
fn bytes_that_are_not_those_of_the_digest_are_not_loaded() {
    let cache = tempfile::tempdir().unwrap();
    let engine = Engine::new(settings()).unwrap();
    let checked = engine.inspect(&TestGuest::default().core_module()).unwrap();
    let other = crate::model::Digest::of(b"another module");
    let refused = engine.load(other, &checked.component, cache.path()).map(drop);
    assert!(matches!(refused, Err(Error::Digest { .. })));
}

#[test]
fn a_module_that_is_loaded_twice_is_one() {
    let cache = tempfile::tempdir().unwrap();
    let engine = Engine::new(settings()).unwrap();
    let checked = engine.inspect(&TestGuest::default().core_module()).unwrap();
    let first = engine.load(checked.digest, &checked.component, cache.path()).unwrap();
    let second = engine.load(checked.digest, &checked.component, cache.path()).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}
