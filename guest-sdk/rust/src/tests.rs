use serde::{Deserialize, Serialize};

use crate::columns::{Moment, RecordBatch, U32s};
use crate::prelude::*;
use crate::testing::{Host, Pushed, check_every_cut};
use crate::{Coordinates, Runner};

/// Does what the payload says, so that tests can mix effects.
struct Obedient {
    sum: Value<i64>,
    notes: Value<Vec<u8>>,
    numbers: Input,
    texts: Input,
    sums: Output,
    seen: Output,
    alarm: Timer,
    total: Metric,
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(default)]
    add: i64,
    #[serde(default)]
    timer: Option<i64>,
    #[serde(default)]
    unset: Option<i64>,
    #[serde(default)]
    clear: bool,
    #[serde(default)]
    refuse: Option<&'a str>,
}

impl Transform for Obedient {
    const NAME: &'static str = "obedient";
    const VERSION: &'static str = "1.0.0";

    fn define(module: &mut Module) -> Self {
        module.refusals(&["told-so"]);
        Self {
            sum: module.state("sum"),
            notes: module.state("notes"),
            numbers: module.input("numbers"),
            texts: module.input("texts"),
            sums: module.output("sums"),
            seen: module.output("seen"),
            alarm: module.timer("alarm"),
            total: module.metric("total", MetricKind::Counter, "records", "records seen"),
        }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        if record.input() == self.texts {
            self.notes.modify(ctx).extend_from_slice(record.value().unwrap_or_default());
            ctx.pass(self.seen);
            return Ok(());
        }
        assert!(record.input() == self.numbers);
        let order: Order = record.json()?;
        let sum = self.sum.modify(ctx);
        *sum += order.add;
        ctx.emit(self.sums, sum);
        ctx.measure(self.total, 1.0);
        if let Some(time) = order.timer {
            ctx.set_timer(self.alarm, time);
        }
        if let Some(time) = order.unset {
            ctx.unset_timer(self.alarm, time);
        }
        if order.clear {
            self.sum.clear(ctx);
        }
        order.refuse.map_or(Ok(()), |why| Err(Refuse::new("told-so", why)))
    }

    fn on_timer(&mut self, fired: &Fired, ctx: &mut Ctx) -> Result<(), Refuse> {
        assert!(fired.timer() == self.alarm);
        let sum = self.sum.get(ctx).copied().unwrap_or_default();
        ctx.emit(self.seen, &format!("{}@{}: {sum}", fired.key_text(), fired.time()));
        Ok(())
    }
}

crate::states!(Obedient { sum, notes });

#[test]
fn a_refused_record_between_two_of_its_key_leaves_nothing_behind() {
    check_every_cut::<Obedient>(&[], |host| {
        host.push("numbers", "k", r#"{"add": 1, "timer": 10}"#, 1);
        host.push("numbers", "k", r#"{"add": 100, "timer": 20, "unset": 10, "refuse": "no"}"#, 2);
        host.push("numbers", "k", r#"{"add": 2}"#, 3);
        assert_eq!(host.texts("sums"), ["1", "3"]);
        assert_eq!(host.state::<i64>("sum", "k"), Some(3));
        assert_eq!(host.timers(), [("alarm".into(), "k".into(), 10)]);
        let refused = host.refused();
        assert_eq!(refused.len(), 1);
        assert_eq!(
            (refused[0].code.as_str(), refused[0].message.as_str(), refused[0].event_time),
            ("told-so", "no", 2)
        );
        assert_eq!(host.amounts().len(), 2);
    });
}

#[test]
fn a_refused_first_record_leaves_no_state_and_no_timer() {
    check_every_cut::<Obedient>(&[], |host| {
        host.push("numbers", "k", r#"{"add": 1, "timer": 10, "refuse": "no"}"#, 1);
        assert_eq!(host.keys("sum"), 0);
        assert!(host.timers().is_empty());
        assert!(host.texts("sums").is_empty());
    });
}

#[test]
fn refusing_a_deletion_keeps_the_value() {
    check_every_cut::<Obedient>(&[], |host| {
        host.push("numbers", "k", r#"{"add": 7}"#, 1);
        host.push("numbers", "k", r#"{"clear": true, "refuse": "no"}"#, 2);
        assert_eq!(host.state::<i64>("sum", "k"), Some(7));
        host.push("numbers", "k", r#"{"clear": true}"#, 3);
        assert_eq!(host.state::<i64>("sum", "k"), None);
    });
}

#[test]
fn a_payload_that_is_not_json_is_refused_with_its_place() {
    let mut host = Host::<Obedient>::new();
    host.push("numbers", "k", r#"{"add": "#, 1);
    let refused = &host.refused()[0];
    assert_eq!(refused.code, Refuse::BAD_PAYLOAD);
    assert!(refused.message.contains("column"), "{}", refused.message);
}

#[test]
fn inputs_and_outputs_are_told_apart_and_pass_through_mixes_with_values() {
    check_every_cut::<Obedient>(&[], |host| {
        host.push("texts", "k", "first", 1);
        host.push("numbers", "k", r#"{"add": 1}"#, 2);
        host.push("texts", "k", "second", 3);
        assert_eq!(host.texts("seen"), ["first", "second"]);
        assert_eq!(host.texts("sums"), ["1"]);
        assert_eq!(host.state::<Vec<u8>>("notes", "k").as_deref(), Some(&b"firstsecond"[..]));
    });
}

#[test]
fn a_call_that_only_passes_on_copies_no_value() {
    let mut runner = Runner::<Obedient>::new();
    let batch = RecordBatch {
        keyed: crate::columns::Keyed {
            keys: [Some(&b"k"[..])].into_iter().collect(),
            values: [None, None].into_iter().collect(),
        },
        slots: U32s::from_iter([0, 0]),
        inputs: vec![1, 1],
        values: [Some(&b"a"[..]), Some(b"b")].into_iter().collect(),
        event_times: [1, 2].into_iter().collect(),
        ..RecordBatch::default()
    };
    let answer = runner.process(Moment::default(), &batch).unwrap();
    assert_eq!(answer.emitted.values, None);
    assert_eq!(answer.emitted.keys, None);
    assert_eq!(answer.emitted.outputs, [1, 1]);
    assert_eq!(answer.writes.values.get(0), Some(&b"\x02ab"[..]));
}

#[test]
fn a_value_whose_bytes_stay_the_same_is_not_written_back() {
    let mut runner = Runner::<Obedient>::new();
    let batch = RecordBatch {
        keyed: crate::columns::Keyed {
            keys: [Some(&b"k"[..])].into_iter().collect(),
            values: [Some(&[14][..]), None].into_iter().collect(),
        },
        slots: U32s::from_iter([0]),
        values: [Some(&br#"{"add": 0}"#[..])].into_iter().collect(),
        event_times: [1].into_iter().collect(),
        ..RecordBatch::default()
    };
    let answer = runner.process(Moment::default(), &batch).unwrap();
    assert_eq!(answer.emitted.values.unwrap().get(0), Some(&b"7"[..]));
    assert!(answer.writes.states.is_empty());
}

#[test]
fn timers_fire_by_time_then_key_and_see_the_state() {
    check_every_cut::<Obedient>(&[], |host| {
        host.push("numbers", "b", r#"{"add": 1, "timer": 10}"#, 1);
        host.push("numbers", "a", r#"{"add": 2, "timer": 10}"#, 1);
        host.push("numbers", "a", r#"{"add": 3, "timer": 5}"#, 1);
        host.push("numbers", "a", r#"{"timer": 30}"#, 1);
        host.advance(29);
        assert_eq!(host.texts("seen"), [r#""a@5: 5""#, r#""a@10: 5""#, r#""b@10: 1""#]);
        assert_eq!(host.outputs("seen")[0].event_time, 5);
        assert_eq!(host.timers(), [("alarm".into(), "a".into(), 30)]);
    });
}

#[test]
fn state_without_a_key_refuses_the_record() {
    let mut host = Host::<Obedient>::new();
    host.push_record("numbers", Pushed { value: Some(b"{}".to_vec()), ..Pushed::default() });
    host.push("numbers", "k", r#"{"add": 1}"#, 1);
    assert_eq!(host.refused()[0].code, Refuse::NO_KEY);
    assert_eq!(host.texts("sums"), ["1"]);
}

#[test]
#[should_panic(expected = "`transform!` names the positions [0] of them")]
fn a_declared_state_that_the_macro_does_not_name_is_found_at_once() {
    struct Forgetful {
        kept: Value<u64>,
    }
    impl Transform for Forgetful {
        const NAME: &'static str = "forgetful";
        const VERSION: &'static str = "1.0.0";
        fn define(module: &mut Module) -> Self {
            let kept = module.state("kept");
            let _ = module.state::<u64>("lost");
            Self { kept }
        }
        fn process(&mut self, _: &Record, _: &mut Ctx) -> Result<(), Refuse> {
            Ok(())
        }
    }
    crate::states!(Forgetful { kept });
    Runner::<Forgetful>::new();
}

/// Says more of its emissions than their value.
struct Particular {
    out: Output,
}

impl Transform for Particular {
    const NAME: &'static str = "particular";
    const VERSION: &'static str = "1.0.0";

    fn define(module: &mut Module) -> Self {
        module.needs_headers().needs_coordinates().needs_seeds().needs_processing_time();
        Self { out: module.output("out") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        ctx.pass(self.out);
        let at = record.coordinates().map_or(-1, |at| at.offset).to_le_bytes();
        let headers = [("offset", Some(&at[..])), ("none", None)];
        ctx.log(Level::Info, format_args!("seed {:?}", record.seed()));
        let emission = ctx.emission(self.out).key(Some(b"other")).event_time(99).headers(&headers).partition(3);
        emission.bytes(None);
        Ok(())
    }
}

crate::states!(Particular);

#[test]
fn an_emission_can_state_its_key_time_headers_and_partition_beside_one_that_inherits() {
    check_every_cut::<Particular>(&[], |host| {
        host.push_record(
            "input",
            Pushed {
                key: Some(b"k".to_vec()),
                value: Some(b"v".to_vec()),
                event_time: 5,
                headers: vec![("from".into(), Some(b"there".to_vec()))],
                coordinates: Some(Coordinates { partition: 1, offset: 7 }),
            },
        );
        let [inherits, states] = host.outputs("out") else { unreachable!("two emissions") };
        assert_eq!((inherits.key.as_deref(), inherits.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!((inherits.event_time, inherits.partition), (5, -1));
        assert_eq!(inherits.headers, [("from".into(), Some(b"there".to_vec()))]);
        assert_eq!((states.key.as_deref(), states.value.as_deref()), (Some(&b"other"[..]), None));
        assert_eq!((states.event_time, states.partition), (99, 3));
        assert_eq!(states.headers, [("offset".into(), Some(7i64.to_le_bytes().to_vec())), ("none".into(), None)]);
        assert!(host.lines()[0].1.starts_with("seed Some("));
    });
}

/// Passes headers on by naming them, and tells what a timer knows.
struct Curious {
    out: Output,
    later: Timer,
}

impl Transform for Curious {
    const NAME: &'static str = "curious";
    const VERSION: &'static str = "1.0.0";

    fn define(module: &mut Module) -> Self {
        module.needs_headers().needs_coordinates().needs_seeds();
        Self { out: module.output("out"), later: module.timer("later") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let headers: Vec<_> = record.headers().collect();
        let at = record.coordinates().map_or(-1, |at| at.offset);
        let seed = record.seed().is_some();
        let told = format!("{at} {} {seed}", headers.len());
        ctx.emission(self.out).headers(&headers).bytes(Some(told.as_bytes()));
        if record.key().is_some() {
            ctx.set_timer(self.later, record.event_time() + 10);
        }
        Ok(())
    }

    fn on_timer(&mut self, fired: &Fired, ctx: &mut Ctx) -> Result<(), Refuse> {
        let seed = fired.seed().map(|seed| seed.to_string()).unwrap_or_default();
        ctx.emit_bytes(self.out, format!("{} {seed}", fired.key_text()).as_bytes());
        Ok(())
    }
}

crate::states!(Curious);

#[test]
fn what_is_asked_for_is_there_whether_no_record_has_it_or_some_or_all() {
    let header = || vec![("h".to_owned(), Some(b"v".to_vec()))];
    for headed in [[false; 4], [true, false, false, true], [false, true, false, false], [true; 4]] {
        check_every_cut::<Curious>(&[], |host| {
            for (i, headed) in headed.into_iter().enumerate() {
                let headers = if headed { header() } else { Vec::new() };
                let (key, event_time) = ((i % 2 == 0).then(|| b"k".to_vec()), i as i64);
                host.push_record("input", Pushed { key, event_time, headers, ..Pushed::default() });
            }
            let expected = headed.map(usize::from);
            let found: Vec<usize> = host.outputs("out").iter().map(|out| out.headers.len()).collect();
            assert_eq!(found, expected);
            assert_eq!(host.texts("out")[3], format!("3 {} true", expected[3]));
            host.advance(100);
            assert!(host.texts("out")[4..].iter().all(|text| text.len() > 2), "{:?}", host.texts("out"));
            assert_eq!(host.texts("out").len(), 6);
        });
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Old {
    count: u64,
}
impl State for Old {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct New {
    count: u64,
    sum: i64,
}
impl State for New {
    const VERSION: u32 = 2;
    fn migrations(migrations: &mut Migrations<Self>) {
        migrations.from(|old: Old| Ok(Self { count: old.count, sum: 0 }));
        migrations.to(|new: Self| match new.sum {
            0.. => Ok(Old { count: new.count }),
            below => Err(format!("sum {below} is below zero")),
        });
    }
}

macro_rules! keeper {
    ($name:ident, $state:ty) => {
        struct $name {
            kept: Value<$state>,
        }
        impl Transform for $name {
            const NAME: &'static str = "keeper";
            const VERSION: &'static str = "1.0.0";
            fn define(module: &mut Module) -> Self {
                Self { kept: module.state("kept") }
            }
            fn process(&mut self, _: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
                self.kept.modify(ctx).count += 1;
                Ok(())
            }
        }
        crate::states!($name { kept });
    };
}
keeper!(OldKeeper, Old);
keeper!(NewKeeper, New);

#[test]
fn a_value_of_an_older_version_is_migrated_when_it_is_touched() {
    let mut host = Host::<NewKeeper>::new();
    host.put_state("kept", "k", &Old { count: 41 });
    host.push("input", "k", "", 1);
    assert_eq!(host.state::<New>("kept", "k"), Some(New { count: 42, sum: 0 }));
    let declared = &host.description().states[0];
    assert_eq!((declared.version, &declared.reads[..], &declared.reverts_to[..]), (2, &[1][..], &[1][..]));
}

#[test]
fn a_swap_and_its_rollback_keep_the_state() {
    let mut host = Host::<OldKeeper>::new();
    host.push("input", "k", "", 1);
    let mut host = host.swap::<NewKeeper>().unwrap();
    host.push("input", "k", "", 2);
    let mut host = host.swap::<OldKeeper>().unwrap();
    host.push("input", "k", "", 3);
    assert_eq!(host.state::<Old>("kept", "k"), Some(Old { count: 3 }));
}

#[test]
fn a_value_that_cannot_go_back_is_named() {
    let mut host = Host::<NewKeeper>::new();
    host.put_state("kept", "k", &New { count: 1, sum: -5 });
    let Err(message) = host.swap::<OldKeeper>() else { unreachable!("it must not go back") };
    assert_eq!(message, "sum -5 is below zero");
}

/// A small generator of random numbers: the seed is printed where a test fails.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

/// A random order for one of three keys; some are to be refused, most of them after doing much.
fn random_record(next: &mut impl FnMut(u64) -> u64) -> (String, String, bool) {
    let key = ["a", "b", "c"][next(3) as usize].to_owned();
    let mut order = serde_json::json!({ "add": next(5) });
    if next(3) == 0 {
        order["timer"] = next(4).into();
    }
    if next(4) == 0 {
        order["unset"] = next(4).into();
    }
    if next(5) == 0 {
        order["clear"] = true.into();
    }
    let refused = next(3) == 0;
    if refused {
        order["refuse"] = "random".into();
    }
    (key, order.to_string(), refused)
}

#[test]
fn a_run_with_refused_records_ends_as_if_they_had_never_come() {
    for seed in 0..300 {
        let mut next = numbers(seed);
        let records: Vec<_> = (0..30).map(|_| random_record(&mut next)).collect();
        let run = |batch_size: usize, refused_too: bool| {
            let mut host = Host::<Obedient>::new().batch_size(batch_size);
            for (key, order, refused) in &records {
                if refused_too || !refused {
                    host.push("numbers", key, order, 1);
                }
            }
            let states = ["a", "b", "c"].map(|key| host.state::<i64>("sum", key));
            (host.texts("sums"), states, host.timers())
        };
        let expected = run(1, false);
        for batch_size in [1, 2, 7, 30] {
            assert_eq!(run(batch_size, true), expected, "seed {seed}, batches of {batch_size}");
        }
    }
}
