use super::super::record::{FORMAT, ModuleId};
use super::super::unknown::Unknown;
use super::*;

fn module(version: &str) -> ModuleId {
    ModuleId { name: "m".to_owned(), version: version.to_owned(), digest: Digest::of(version.as_bytes()) }
}

fn swap(phase: SwapPhase) -> SwapRecord {
    SwapRecord {
        format: FORMAT,
        swap: Uid([1; 16]),
        job_uid: Uid([2; 16]),
        job: "counts".to_owned(),
        operator: "count".to_owned(),
        from: module("1"),
        to: module("2"),
        phase,
        empty: Default::default(),
        reason: None,
        rollback: false,
        started_at_ms: 0,
        tasks: BTreeMap::new(),
        unknown: Unknown::default(),
    }
}

fn report(task: u32, is: Is, runs: &str, trial: Option<TrialOutcome>) -> Report {
    Report {
        task: TaskId::main(task),
        is,
        runs: Some(module(runs).digest),
        trial,
        switched: None,
        life: Uid([9; 16]),
        traps: 0,
        migrating: false,
    }
}

fn begun() -> Watch {
    let mut watch = Watch::default();
    watch.begin(Uid([1; 16]));
    watch
}

fn ready() -> Option<TrialOutcome> {
    Some(TrialOutcome::Ready { values_tried: 3 })
}

fn failed(kind: Kind) -> Option<TrialOutcome> {
    Some(TrialOutcome::Failed { why: "no".to_owned(), kind })
}

/// What a fresh look at two tasks says comes next.
#[track_caller]
fn check(phase: SwapPhase, reports: [Report; 2], expected: Option<SwapPhase>) {
    let next = begun().look(&swap(phase), Some(&reports), Duration::ZERO);
    assert_eq!(next.map(|next| next.phase), expected);
}

#[test]
fn it_is_decided_when_every_task_is_ready_and_given_up_when_one_cannot() {
    let task = |number, trial| report(number, Is::Running, "1", trial);
    check(SwapPhase::Preparing, [task(0, ready()), task(1, Some(TrialOutcome::Trying))], None);
    check(SwapPhase::Preparing, [task(0, ready()), task(1, ready())], Some(SwapPhase::Switching));
    check(SwapPhase::Preparing, [task(0, ready()), task(1, failed(Kind::Guest))], Some(SwapPhase::Abandoned));
    check(SwapPhase::Preparing, [task(0, ready()), task(1, failed(Kind::Retry))], None);
    let down = report(1, Is::Down { why: "damaged".to_owned() }, "1", None);
    check(SwapPhase::Preparing, [task(0, ready()), down], Some(SwapPhase::Abandoned));
}

#[test]
fn what_another_process_was_preparing_is_given_up() {
    let reports = [report(0, Is::Running, "1", ready())];
    let next = Watch::default().look(&swap(SwapPhase::Preparing), Some(&reports), Duration::ZERO);
    assert_eq!(next.map(|next| next.phase), Some(SwapPhase::Abandoned));
}

#[test]
fn a_decided_swap_waits_for_every_task_and_goes_back_where_one_cannot_come() {
    let old = |trial| report(1, Is::Running, "1", trial);
    let new = || report(0, Is::Running, "2", None);
    check(SwapPhase::Switching, [new(), old(ready())], None);
    check(SwapPhase::Switching, [new(), old(failed(Kind::Retry))], None);
    check(SwapPhase::Switching, [new(), old(failed(Kind::Guest))], Some(SwapPhase::RollingBack));
    check(SwapPhase::Switching, [new(), report(1, Is::Coming, "2", None)], Some(SwapPhase::Probation));
}

#[test]
fn a_way_back_that_cannot_be_gone_ends_on_the_newer_version() {
    let held = || report(0, Is::Held { why: "it trapped".to_owned(), kind: Kind::Guest }, "2", None);
    check(SwapPhase::RollingBack, [held(), report(1, Is::Running, "1", None)], None);
    let stuck = report(0, Is::Held { why: "it trapped".to_owned(), kind: Kind::Guest }, "2", failed(Kind::Invalid));
    let reports = [stuck, report(1, Is::Running, "1", None)];
    let next = begun().look(&swap(SwapPhase::RollingBack), Some(&reports), Duration::ZERO).unwrap();
    assert_eq!((next.phase, in_force(&next)), (SwapPhase::Done, Some(&module("2"))));
    assert!(next.reason.unwrap().contains("could not be taken back: task 0: no"));
}

#[test]
fn trials_and_tasks_that_do_not_come_are_waited_for_so_long_and_no_longer() {
    let (mut watch, swap) = (begun(), swap(SwapPhase::Preparing));
    let silent = [report(0, Is::Coming, "1", None)];
    assert_eq!(watch.look(&swap, Some(&silent), Duration::ZERO), None);
    assert_eq!(watch.look(&swap, Some(&silent), READY_PATIENCE - Duration::from_millis(1)), None);
    let trying = [report(0, Is::Running, "1", Some(TrialOutcome::Trying))];
    assert_eq!(watch.look(&swap, Some(&trying), READY_PATIENCE * 2), None);
    let next = watch.look(&swap, Some(&trying), TRIAL_PATIENCE).unwrap();
    assert!(next.phase == SwapPhase::Abandoned && next.reason.unwrap().contains("within 600 s"));
}

#[test]
fn probation_counts_traps_over_the_restarts_of_a_task() {
    let (mut watch, swap) = (begun(), swap(SwapPhase::Probation));
    let mut look = |life, traps, second| {
        let report = Report { life: Uid([life; 16]), traps, ..report(0, Is::Running, "2", None) };
        watch.look(&swap, Some(&[report]), Duration::from_secs(second)).map(|next| next.phase)
    };
    assert_eq!(look(1, 500, 0), None);
    assert_eq!(look(1, 530, 1), None);
    // Its thread was started again, twice.
    assert_eq!(look(2, 0, 2), None);
    assert_eq!(look(2, 20, 3), None);
    assert_eq!(look(3, 1, 4), Some(SwapPhase::RollingBack));
}
