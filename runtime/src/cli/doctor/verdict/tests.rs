use forebay::api::proto::{InputTime, OperatorModule, Partition};

use super::*;

fn task(number: u32) -> Task {
    Task { number, phase: TaskPhase::Running.into(), ..Task::default() }
}

fn job(tasks: Vec<Task>) -> Job {
    let module = OperatorModule { name: "score".into(), version: "2.0.0".into(), ..OperatorModule::default() };
    Job {
        name: "j".into(),
        uid: "u".into(),
        state: JobState::Running.into(),
        tasks,
        modules: vec![module],
        ..Job::default()
    }
}

fn facts(before: Job, after: Job) -> Facts {
    let look = |job, at_ms| Look { jobs: vec![job], at_ms, topics: Vec::new() };
    Facts { before: look(before, 97_000), after: look(after, 100_000), waited_s: 3, ..Facts::default() }
}

/// Of a job whose task looked so and then so.
fn found(before: Task, after: Task) -> Vec<String> {
    shown(&facts(job(vec![before]), job(vec![after])))
}

fn shown(facts: &Facts) -> Vec<String> {
    judge(facts).into_iter().map(|finding| format!("{}: {}", finding.what, finding.found)).collect()
}

#[test]
fn a_job_that_works_is_well() {
    let before = Task { records_in: 1_000, watermark_ns: 5, lag: 10, epoch: 3, ..task(0) };
    let after = Task { records_in: 2_000, watermark_ns: 9, lag: 30, epoch: 9, late: 3, dead_letters: 20, ..task(0) };
    assert_eq!(found(before, after), Vec::<String>::new());
    assert_eq!(found(task(0), task(0)), Vec::<String>::new(), "nothing comes, and nothing is wrong with that");
}

#[test]
fn a_place_that_takes_no_write_or_has_little_room_is_named() {
    let place = |error: &str, free_mib: u64| Place {
        name: "data directory /d".into(),
        error: error.into(),
        free_bytes: Some(free_mib << 20),
        total_bytes: Some(10_000 << 20),
    };
    let of = |place| shown(&Facts { places: vec![place], ..Facts::default() });
    assert_eq!(of(place("", 9_000)), Vec::<String>::new());
    assert_eq!(of(place("", 100)), ["data directory /d: 100 MiB are free of 10000 MiB"]);
    let full = "write to it: No space left on device (os error 28)";
    assert_eq!(of(place(full, 0)), [format!("data directory /d: {full}")]);
}

#[test]
fn most_records_in_the_dead_letters_are_found_with_their_cause() {
    let bad_records = [("wrong-partition".to_owned(), 250), ("trap".to_owned(), 20)].into();
    let after = Task { records_in: 400, dead_letters: 270, bad_records, ..task(0) };
    assert_eq!(found(task(0), after), ["job j: 270 of 400 records (67 %) are dead letters, most for wrong-partition"]);
}

#[test]
fn a_proportion_is_that_of_now_where_enough_came() {
    let long_ago = Task { records_in: 1_000, dead_letters: 900, ..task(0) };
    let well_now = Task { records_in: 2_000, dead_letters: 900, ..task(0) };
    assert_eq!(found(long_ago.clone(), well_now), Vec::<String>::new());
    let few = Task { records_in: 1_005, dead_letters: 900, ..task(0) };
    assert_eq!(found(long_ago, few), ["job j: 900 of 1005 records (89 %) are dead letters"]);
    let new = Task { records_in: 19, dead_letters: 19, ..task(0) };
    assert_eq!(found(task(0), new), Vec::<String>::new(), "too few to say");
    // The task has begun to count anew.
    let again = Task { records_in: 100, skipped: 100, ..task(0) };
    let before = Task { records_in: 900, ..task(0) };
    assert_eq!(found(before, again), ["job j: 100 of 100 records (100 %) are skipped by its policy for bad records"]);
}

#[test]
fn a_module_that_traps_is_found_by_name() {
    let before = Task { records_in: 10_000, traps: 2, ..task(0) };
    let after = Task { records_in: 10_100, traps: 5, ..task(0) };
    assert_eq!(found(before.clone(), after), ["job j: score@2.0.0 trapped 3 times on 100 records"]);
    assert_eq!(found(before.clone(), before), Vec::<String>::new(), "two traps long ago");
}

#[test]
fn records_that_are_late_in_the_main_are_found() {
    let after = Task { records_in: 100, late: 60, ..task(0) };
    assert_eq!(found(task(0), after), ["job j: 60 of 100 records (60 %) are late: event time is ahead of them"]);
}

#[test]
fn event_time_that_stands_is_found_with_the_partition_that_holds_it_and_since_when() {
    let slowest = |watermark_ns| Some(InputTime { source: "orders".into(), partition: 3, watermark_ns });
    let at = |records_in, watermark_moved_at_ms| Task {
        records_in,
        watermark_ns: 7,
        watermark_moved_at_ms,
        slowest: slowest(2_000_000_000),
        ..task(1)
    };
    assert_eq!(
        found(at(5, 40_000), at(6, 40_000)),
        ["job j: records come, and event time stands still since 1970-01-01T00:00:40Z: source partition orders/3 has \
          come to 1970-01-01T00:00:02Z"]
    );
    assert_eq!(found(at(5, 95_000), at(6, 95_000)), Vec::<String>::new(), "not for long yet");
    assert_eq!(found(at(5, 40_000), at(5, 40_000)), Vec::<String>::new(), "nothing comes");
    let never = Task { slowest: slowest(i64::MIN), ..at(6, 40_000) };
    assert!(found(at(5, 40_000), never)[0].ends_with("orders/3 has brought no record yet"));
    let all_idle = Task { slowest: None, ..at(6, 40_000) };
    assert_eq!(found(at(5, 40_000), all_idle), Vec::<String>::new());
}

#[test]
fn event_time_that_is_ahead_of_the_present_is_found_with_the_way_back() {
    let year = 365 * 86_400 * 1_000_000_000;
    let ahead = |records_in, late| Task {
        records_in,
        late,
        watermark_ns: year,
        watermark_moved_at_ms: 40_000,
        slowest: Some(InputTime { source: "orders".into(), partition: 3, watermark_ns: year }),
        ..task(1)
    };
    let (before, after) = (job(vec![ahead(5, 0)]), job(vec![ahead(105, 100)]));
    let findings = judge(&facts(before, after));
    assert_eq!(findings.len(), 2, "late records, and time that stands: {findings:?}");
    for finding in &findings {
        assert!(finding.found.contains("1971-01-01T00:00:00Z"), "{finding:?}");
        assert!(finding.remedy.contains("forebay job reset-time j --plan"), "{finding:?}");
    }
}

#[test]
fn a_task_that_is_down_in_both_looks_is_found_with_its_error() {
    let down = |error: &str| Task { phase: TaskPhase::Recovering.into(), error: error.into(), ..task(0) };
    assert_eq!(
        found(down("read t/0: nothing came"), down("read t/0: nothing came")),
        ["job j: task 0 not running for 3 s at least; task 0: read t/0: nothing came"]
    );
    assert_eq!(found(down("x"), task(0)), Vec::<String>::new(), "it came back");
    let again = Task { restarts: 4, ..task(0) };
    assert_eq!(found(Task { restarts: 1, ..task(0) }, again), ["job j: task 0 was started 3 times within 3 s"]);
}

#[test]
fn a_task_that_somebody_else_owns_is_found_with_what_to_do() {
    let fenced = |phase: TaskPhase| Task {
        phase: phase.into(),
        error: "taken over".into(),
        error_kind: "fenced".into(),
        ..task(0)
    };
    for (state, phase) in [(JobState::Running, TaskPhase::Recovering), (JobState::Failed, TaskPhase::Failed)] {
        let job = Job { state: state.into(), ..job(vec![fenced(phase)]) };
        let findings = judge(&facts(job.clone(), job));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].remedy.contains("another server runs the same job"), "{findings:?}");
    }
}

#[test]
fn a_failed_job_says_each_error_once() {
    let task = |number, error: &str| Task { phase: TaskPhase::Failed.into(), error: error.into(), ..task(number) };
    let failed = Job { state: JobState::Failed.into(), ..job(vec![task(0, "a"), task(1, "b"), task(2, "a")]) };
    assert_eq!(shown(&facts(failed.clone(), failed)), ["job j: tasks 0, 2: a; task 1: b"]);
    let held = Task { phase: TaskPhase::Held.into(), ..task(0, "it trapped") };
    let held = Job { state: JobState::Failed.into(), ..job(vec![held]) };
    assert!(judge(&facts(held.clone(), held))[0].remedy.contains("job swap j"), "an apply would find the same module");
    let none = Job { state: JobState::Failed.into(), error: "no module".into(), ..job(Vec::new()) };
    assert_eq!(shown(&facts(none.clone(), none)), ["job j: no module"]);
}

#[test]
fn a_task_that_reads_nothing_although_there_is_something_is_found() {
    let stuck = Task { lag: 500, epoch: 7, records_in: 40, ..task(2) };
    assert_eq!(
        found(stuck.clone(), stuck.clone()),
        ["job j: task 2 committed nothing for 3 s, with 500 records to read"]
    );
    let moves = Task { epoch: 8, ..stuck.clone() };
    assert_eq!(found(stuck, moves), Vec::<String>::new());
}

#[test]
fn a_stopped_job_and_one_that_has_just_begun_are_well() {
    let stopped = Job { state: JobState::Stopped.into(), ..job(Vec::new()) };
    assert_eq!(shown(&facts(stopped.clone(), stopped)), Vec::<String>::new());
    let new = Facts { after: facts(job(Vec::new()), job(vec![task(0)])).after, ..Facts::default() };
    assert_eq!(shown(&new), Vec::<String>::new());
    let waits = Job { state: JobState::Starting.into(), error: "no leader".into(), ..job(Vec::new()) };
    assert_eq!(shown(&facts(waits.clone(), waits)), ["job j: no leader"]);
}

#[test]
fn only_a_transaction_that_does_not_end_is_found() {
    let look = |(end_offset, written_offset)| {
        let partitions = vec![Partition { partition: 0, start_offset: 0, end_offset, written_offset }];
        let topic = Topic { name: "t".into(), id: "1".into(), partitions, ..Topic::default() };
        Look { topics: vec![topic], ..Look::default() }
    };
    let found = |before, after| {
        judge(&Facts { before: look(before), after: look(after), waited_s: 3, ..Facts::default() }).len()
    };
    assert_eq!(found((5, 9), (5, 20)), 1);
    assert_eq!(found((5, 9), (12, 20)), 0, "another transaction is open by now");
    assert_eq!(found((9, 9), (9, 20)), 0, "it was opened in between");
    assert_eq!(found((9, 9), (9, 9)), 0);
}
