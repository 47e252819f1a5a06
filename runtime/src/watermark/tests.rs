use proptest::prelude::*;

use super::*;

const NEVER: fn(usize) -> bool = |_| false;
const ALWAYS: fn(usize) -> bool = |_| true;

fn settings(bound_ns: u64, idle_after_s: Option<u64>) -> WatermarkSettings {
    WatermarkSettings {
        out_of_orderness: Duration::from_nanos(bound_ns),
        idle_after: idle_after_s.map(Duration::from_secs),
    }
}

fn task(settings: &[WatermarkSettings]) -> TaskWatermark {
    TaskWatermark::new(settings.iter().cloned())
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn watermark_stands_the_bound_and_one_nanosecond_behind_the_newest_time() {
    let mut task = task(&[settings(10, None)]);
    let golden = [(100, 89), (95, 89), (105, 94), (104, 94), (200, 189), (0, 189)];
    for (time, expected) in golden {
        task.observe(0, &[time], at(0));
        assert_eq!(task.advance(at(0), NEVER), expected, "behind {time}");
    }
}

#[test]
fn the_newest_of_a_batch_counts_wherever_it_stands() {
    let mut task = task(&[settings(10, None)]);
    task.observe(0, &[50, 100, 70], at(0));
    assert_eq!(task.advance(at(0), NEVER), 89);
}

#[test]
fn monotonic_times_need_no_bound() {
    let mut task = task(&[settings(0, None)]);
    for time in [1, 2, 3] {
        task.observe(0, &[time], at(0));
        assert_eq!(task.advance(at(0), NEVER), time - 1);
    }
}

#[test]
fn the_slowest_input_holds_time_and_one_that_brought_nothing_holds_all_of_it() {
    let mut task = task(&[settings(0, None), settings(5, None)]);
    task.observe(0, &[1_000], at(0));
    assert_eq!(task.advance(at(0), NEVER), BEFORE_ALL_TIME);
    task.observe(1, &[500], at(0));
    assert_eq!(task.advance(at(0), NEVER), 494);
}

#[test]
fn time_that_is_taken_back_follows_the_records_that_come_then() {
    let mut task = task(&[settings(0, None), settings(0, Some(5))]);
    task.observe(0, &[9_000], at(0));
    task.observe(1, &[700], at(0));
    assert_eq!(task.advance(at(9), ALWAYS), 8_999, "the other is idle");
    assert_eq!((task.slowest(), task.fastest()), (Some((0, 8_999)), Some((0, 8_999))));
    task.take_back(800);
    assert_eq!(task.advance(at(9), ALWAYS), 800);
    let marks: Vec<_> = task.snapshot().map(|mark| (mark.watermark, mark.idle)).collect();
    assert_eq!(marks, [(800, false), (699, true)]);
    task.take_back(BEFORE_ALL_TIME);
    assert_eq!(task.advance(at(9), ALWAYS), BEFORE_ALL_TIME);
    task.observe(0, &[750], at(9));
    assert_eq!(task.advance(at(9), ALWAYS), 749, "an idle input does not hold it");
}

#[test]
fn an_idle_input_is_left_out_and_comes_back_without_moving_time_back() {
    let mut task = task(&[settings(0, Some(5)), settings(0, Some(5))]);
    task.observe(0, &[1_000], at(0));
    task.observe(1, &[100], at(0));
    assert_eq!(task.advance(at(4), ALWAYS), 99);
    task.observe(0, &[2_000], at(4));
    assert_eq!(task.advance(at(5), ALWAYS), 1_999);
    task.observe(1, &[300], at(6));
    assert_eq!(task.advance(at(6), ALWAYS), 1_999);
    assert_eq!(task.snapshot().nth(1), Some(Mark { watermark: 299, idle: false }));
    task.observe(0, &[4_000], at(6));
    task.observe(1, &[3_000], at(6));
    assert_eq!(task.advance(at(6), ALWAYS), 2_999);
}

#[test]
fn an_input_that_has_more_to_read_is_not_idle_and_its_silence_starts_anew() {
    let mut task = task(&[settings(0, Some(5)), settings(0, Some(5))]);
    task.advance(at(0), ALWAYS);
    task.observe(0, &[1_000], at(5));
    assert_eq!(task.advance(at(5), |input| input != 1), BEFORE_ALL_TIME);
    task.observe(0, &[1_000], at(9));
    assert_eq!(task.advance(at(9), ALWAYS), BEFORE_ALL_TIME);
    assert_eq!(task.advance(at(10), ALWAYS), 999);
}

#[test]
fn the_log_is_asked_only_about_inputs_that_were_silent_for_long() {
    let mut task = task(&[settings(0, Some(5)), settings(0, Some(5)), settings(0, None)]);
    task.advance(at(0), ALWAYS);
    task.observe(1, &[1], at(3));
    let mut asked = vec![];
    task.advance(at(5), |input| {
        asked.push(input);
        true
    });
    assert_eq!(asked, [0]);
}

#[test]
fn time_stands_still_while_all_inputs_are_idle() {
    let mut task = task(&[settings(0, Some(1)), settings(0, Some(1))]);
    task.observe(0, &[10], at(0));
    task.observe(1, &[20], at(0));
    assert_eq!(task.advance(at(0), ALWAYS), 9);
    assert_eq!(task.advance(at(9), ALWAYS), 9);
    assert!(task.snapshot().all(|mark| mark.idle));
}

/// What recovery does with a header.
fn restored(all: &[WatermarkSettings], from: &TaskWatermark) -> TaskWatermark {
    let mut restored = task(all);
    from.snapshot().enumerate().for_each(|(input, mark)| restored.restore(input, mark.watermark, mark.idle));
    restored
}

#[test]
fn a_restored_task_goes_on_where_it_was() {
    let all = [settings(10, Some(1)), settings(10, Some(1))];
    let mut before = task(&all);
    before.observe(0, &[1_000], at(0));
    before.observe(1, &[500], at(0));
    before.advance(at(0), ALWAYS);
    before.observe(0, &[1_200], at(2));
    assert_eq!(before.advance(at(2), ALWAYS), 1_189, "input 1 is idle");

    let mut after = restored(&all, &before);
    assert!(after.snapshot().eq(before.snapshot()));
    // The new process's clock starts over; neither that nor old records move time back.
    assert_eq!(after.advance(at(0), ALWAYS), 1_189);
    after.observe(1, &[700], at(0));
    assert_eq!(after.advance(at(0), ALWAYS), 1_189);
}

#[test]
fn a_batch_of_which_nothing_was_decoded_does_not_wake_an_idle_input() {
    let mut task = task(&[settings(0, Some(1)), settings(0, Some(1))]);
    task.advance(at(0), ALWAYS);
    task.observe(0, &[1_000], at(1));
    assert_eq!(task.advance(at(1), ALWAYS), 999);
    task.observe(1, &[], at(1));
    task.observe(0, &[2_000], at(1));
    assert_eq!(task.advance(at(1), ALWAYS), 1_999);
}

#[test]
fn times_at_the_ends_of_the_range_do_not_overflow() {
    let mut task = task(&[settings(u64::MAX, None)]);
    task.observe(0, &[i64::MIN, i64::MIN + 1], at(0));
    assert_eq!(task.advance(at(0), NEVER), BEFORE_ALL_TIME);
    task.observe(0, &[i64::MAX], at(0));
    assert_eq!(task.advance(at(0), NEVER), -1);
}

#[test]
fn the_slowest_active_input_is_known_with_its_time() {
    let mut task = task(&[settings(0, None), settings(0, Some(1))]);
    assert_eq!(task.slowest(), Some((0, BEFORE_ALL_TIME)));
    task.observe(0, &[1_000], at(0));
    assert_eq!(task.slowest(), Some((1, BEFORE_ALL_TIME)), "it has brought nothing yet");
    task.observe(1, &[500], at(0));
    assert_eq!(task.slowest(), Some((1, 499)));
    task.advance(at(5), ALWAYS);
    assert_eq!(task.slowest(), Some((0, 999)), "the other one is idle");
}

#[derive(Clone, Debug)]
enum Step {
    Observe(usize, Vec<i64>),
    Advance { seconds: u64, caught_up: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_usize, proptest::collection::vec(any::<i64>(), 0..4)).prop_map(|(i, times)| Step::Observe(i, times)),
        (0..4_u64, any::<bool>()).prop_map(|(seconds, caught_up)| Step::Advance { seconds, caught_up }),
    ]
}

proptest! {
    #[test]
    fn the_watermark_never_goes_back(steps in proptest::collection::vec(step(), 0..60), bound in 0..1_000_u64) {
        let all = [settings(bound, Some(2)), settings(bound, Some(5)), settings(0, None)];
        let mut task = task(&all);
        let (mut now, mut last) = (at(0), BEFORE_ALL_TIME);
        for step in steps {
            match step {
                Step::Observe(input, times) => task.observe(input, &times, now),
                Step::Advance { seconds, caught_up } => {
                    now += at(seconds);
                    let reached = task.advance(now, |_| caught_up);
                    prop_assert!(reached >= last);
                    last = reached;
                }
            }
        }
    }
}
