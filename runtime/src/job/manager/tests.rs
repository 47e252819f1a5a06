use std::collections::BTreeSet;

use super::super::change::loss::Accepted;
use super::super::fakes::{self, Actors, DescriptionHost, description, module_bytes};
use super::super::record::SwapPhase;
use super::super::unknown::Unknown;
use super::*;
use crate::env::SystemClock;
use crate::error::Kind;
use crate::model::names::Namespace;
use crate::model::{PartitionBatch, StageName, TaskId};
use crate::wasm::contract::{Description, ParameterDecl};

const SPEC: &str = "
name: counts
sources:
  - {id: in, topic: orders}
operators:
  - {id: count, module: counter@1, inputs: {in: in}}
sinks:
  - {id: out, topic: results, from: count.out}
";

struct World {
    dir: tempfile::TempDir,
    log: Arc<dyn Log>,
    host: DescriptionHost,
    actors: Actors,
}

impl World {
    fn new() -> Self {
        let (dir, log) = fakes::log();
        log.create_topic(&fakes::topic("orders", 4)).unwrap();
        log.create_topic(&fakes::topic("results", 4)).unwrap();
        Self { dir, log, host: DescriptionHost::default(), actors: Actors::default() }
    }

    /// A process that starts over this log; `start` is not called yet.
    fn process(&self) -> Arc<Manager> {
        let clock = SystemClock::shared();
        let store = Arc::new(Store::open(Arc::clone(&self.log), &Namespace::default()).unwrap());
        let modules = Arc::new(Modules::new(Box::new(self.host.clone()), Arc::clone(&store), Arc::clone(&clock)));
        modules.push(&module_bytes(&description("1", 1, &[], &[]))).unwrap();
        modules.push(&module_bytes(&description("2", 2, &[1], &[1]))).unwrap();
        modules.push(&module_bytes(&description("3", 3, &[], &[]))).unwrap();
        let mut renamed = description("4", 1, &[], &[]);
        renamed.states[0].name = "sums".to_owned();
        modules.push(&module_bytes(&renamed)).unwrap();
        let runner = Box::new(self.actors.clone());
        Manager::new(
            Clusters::at_home(Arc::clone(&self.log)),
            store,
            modules,
            runner,
            clock,
            self.dir.path().join("data"),
        )
    }

    fn spawned(&self) -> usize {
        self.actors.0.lock().unwrap().spawned.len()
    }
}

/// What other threads bring about; a test that waits in vain fails instead of hanging.
#[track_caller]
fn until(reached: impl Fn() -> bool) {
    let given_up = std::time::Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(std::time::Instant::now() < given_up, "it never came about");
        std::thread::yield_now();
    }
}

fn swap(manager: &Manager, to: &str) -> Result<SwapRecord, Error> {
    manager.swap("counts", "count", to, &Accepted::default())
}

fn phase(manager: &Manager) -> SwapPhase {
    manager.get("counts").unwrap().swap.unwrap().phase
}

fn state(manager: &Manager) -> State {
    manager.get("counts").unwrap().state
}

/// What the tasks' last headers name.
fn versions(world: &World, manager: &Manager) -> Vec<String> {
    let modules = world.actors.0.lock().unwrap().modules.clone();
    let version = |digest: &crate::model::Digest| manager.modules.find(&digest.to_string()).unwrap().id.version;
    modules.values().map(version).collect()
}

fn digest(manager: &Manager, reference: &str) -> crate::model::Digest {
    manager.modules.find(reference).unwrap().id.digest
}

fn spec() -> JobSpec {
    JobSpec::parse(SPEC).unwrap()
}

fn version(manager: &Manager) -> String {
    manager.get("counts").unwrap().record.modules["count"].version.clone()
}

#[test]
fn a_job_is_created_once_and_applying_it_again_changes_nothing() {
    let world = World::new();
    let manager = world.process();
    assert_eq!(manager.apply(&spec(), None).unwrap().action, Action::Create);
    assert_eq!(manager.apply(&spec(), None).unwrap().action, Action::Nothing);
    let job = manager.get("counts").unwrap();
    assert_eq!((job.state, job.tasks.len(), world.spawned()), (State::Running, 4, 4));
    assert_eq!(world.actors.0.lock().unwrap().deployed.len(), 4);
    let changelog = job.record.names().changelog_topic(&StageName::main());
    assert_eq!(world.log.topic(&changelog).unwrap().spec.partitions, 4);
    assert_eq!(manager.apply(&spec(), Some(job.revision + 1)).err().unwrap().kind(), Kind::Conflict);
}

#[test]
fn a_secret_is_in_no_record_and_no_spec_that_is_shown() {
    let world = World::new();
    let manager = world.process();
    let secret = ParameterDecl { secret: true, ..fakes::parameter("token", true, None) };
    let guarded = Description { name: "guarded".into(), parameters: vec![secret], ..description("1", 1, &[], &[]) };
    manager.modules.push(&module_bytes(&guarded)).unwrap();
    let file = world.dir.path().join("token");
    std::fs::write(&file, "hunter2").unwrap();
    let by_reference = format!("guarded@1, secrets: {{token: {{file: {}}}}}", file.display());
    let spec = JobSpec::parse(&SPEC.replace("counter@1", &by_reference)).unwrap();
    manager.apply(&spec, None).unwrap();
    let job = manager.get("counts").unwrap();
    let stored = String::from_utf8(Record::Job(Box::new(job.record.clone())).to_json()).unwrap();
    for text in [job.record.spec.to_yaml(), stored, format!("{:?}", job.record)] {
        assert!(text.contains("token") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_version_that_declares_secret_what_the_spec_gives_in_clear_is_not_swapped_in() {
    let world = World::new();
    let manager = world.process();
    let with = |version: &str, secret| Description {
        parameters: vec![ParameterDecl { secret, ..fakes::parameter("token", true, None) }],
        ..description(version, 1, &[], &[])
    };
    manager.modules.push(&module_bytes(&with("8", false))).unwrap();
    manager.modules.push(&module_bytes(&with("9", true))).unwrap();
    let spec = JobSpec::parse(&SPEC.replace("counter@1", "counter@8, parameters: {token: hunter2}")).unwrap();
    manager.apply(&spec, None).unwrap();
    let refused = manager.swap("counts", "count", "counter@9", &Default::default()).unwrap_err().to_string();
    assert!(refused.contains("secret") && !refused.contains("hunter2"), "{refused}");
    assert_eq!(version(&manager), "8");
}

#[test]
fn a_new_process_starts_what_runs_and_leaves_what_is_stopped() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    first.shutdown();
    let second = world.process();
    second.start().unwrap();
    until(|| state(&second) == State::Running);
    second.stop("counts").unwrap();
    second.shutdown();
    let third = world.process();
    third.start().unwrap();
    assert_eq!(third.get("counts").unwrap().state, State::Stopped);
    assert_eq!(third.apply(&spec(), None).unwrap().action, Action::Resume);
    assert_eq!(third.get("counts").unwrap().state, State::Running);
    third.shutdown();
}

#[test]
fn a_changelog_that_is_gone_is_not_made_again_empty_by_a_start() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    let changelog = first.get("counts").unwrap().record.names().changelog_topic(&StageName::main());
    first.shutdown();
    world.log.delete_topic(&changelog).unwrap();
    let second = world.process();
    second.start().unwrap();
    until(|| state(&second) == State::Failed);
    let why = second.get("counts").unwrap().error.unwrap();
    assert!(why.contains(&changelog) && why.contains("is gone") && why.contains("delete the job"), "{why}");
    let refused = second.apply(&spec(), None).err().unwrap();
    assert_eq!(refused.kind(), Kind::Corrupt, "{refused}");
    assert!(world.log.topic(&changelog).is_err(), "it was made again");
    second.shutdown();
}

#[test]
fn a_process_that_died_while_creating_a_job_finishes_it_at_the_next_start() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    let (revision, job) = first.record("counts").unwrap();
    first.put(JobRecord { desired: Desired::Creating, ..job }, Expected::At(revision)).unwrap();
    first.shutdown();
    let second = world.process();
    second.start().unwrap();
    until(|| second.get("counts").unwrap().record.desired == Desired::Running);
    second.shutdown();
}

#[test]
fn a_deleted_job_leaves_nothing_and_its_name_makes_another_job() {
    let world = World::new();
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    let uid = manager.get("counts").unwrap().record.uid;
    let deleted = manager.delete("counts").unwrap();
    assert!(deleted[0].ends_with(".main.changelog"), "{deleted:?}");
    assert_eq!(manager.get("counts").err().unwrap().kind(), Kind::NotFound);
    manager.apply(&spec(), None).unwrap();
    assert_ne!(manager.get("counts").unwrap().record.uid, uid);
}

#[test]
fn a_swap_changes_every_task_and_the_record_and_can_be_taken_back() {
    let world = World::new();
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    let swap = swap(&manager, "counter@2").unwrap();
    assert_eq!((swap.phase, swap.tasks.len(), swap.tasks[&TaskId::main(3)].values_tried), (SwapPhase::Probation, 4, 7));
    assert_eq!(version(&manager), "2");
    assert_eq!(manager.get("counts").unwrap().record.spec.operators[0].module, "counter@2");
    let back = manager.rollback("counts").unwrap();
    assert_eq!((back.phase, back.rollback), (SwapPhase::Done, true));
    assert_eq!(version(&manager), "1");
    assert_eq!(manager.rollback("counts").err().unwrap().kind(), Kind::Conflict);
}

#[test]
fn a_version_that_stops_its_tasks_while_on_probation_goes_back_by_itself() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().faulty = Some((digest(&manager, "counter@2"), Kind::Guest));
    // It may have gone back before this answers.
    let _ = swap(&manager, "counter@2");
    until(|| phase(&manager) == SwapPhase::RolledBack);
    assert_eq!((version(&manager), state(&manager)), ("1".to_owned(), State::Running));
    manager.shutdown();
}

#[test]
fn a_swap_that_one_task_cannot_prepare_changes_nothing() {
    let world = World::new();
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().trial_fails = Some(("key k cannot be migrated".into(), Kind::Guest));
    let error = swap(&manager, "counter@2").err().unwrap();
    assert!(error.to_string().contains("task 1: key k cannot be migrated"), "{error}");
    assert_eq!(version(&manager), "1");
    let job = manager.get("counts").unwrap();
    assert_eq!(job.swap.unwrap().phase, SwapPhase::Abandoned);
    let digest = job.record.modules["count"].digest.to_string();
    assert!(job.tasks.iter().all(|task| task.status.modules["count"].digest == digest));
}

#[test]
fn a_swap_whose_state_cannot_be_migrated_is_refused_before_anything_moves() {
    let world = World::new();
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    let error = swap(&manager, "counter@3").err().unwrap();
    assert!(matches!(error, Error::SwapRefused { .. }), "{error}");
    assert_eq!(manager.get("counts").unwrap().swap, None);
    assert_eq!(swap(&manager, "counter@1").err().unwrap().kind(), Kind::Conflict);
    assert_eq!(manager.swap("counts", "cout", "counter@2", &Accepted::default()).err().unwrap().kind(), Kind::NotFound);
    assert_eq!(swap(&manager, "counter@9").err().unwrap().kind(), Kind::NotFound);
}

#[test]
fn after_a_restart_an_undecided_swap_is_abandoned_and_a_decided_one_goes_on() {
    for (phase, expected, running) in
        [(SwapPhase::Preparing, SwapPhase::Abandoned, "1"), (SwapPhase::Switching, SwapPhase::Probation, "2")]
    {
        let world = World::new();
        let first = world.process();
        first.apply(&spec(), None).unwrap();
        record_swap(&first, phase);
        first.shutdown();
        let second = world.process();
        second.start().unwrap();
        until(|| second.get("counts").unwrap().swap.unwrap().phase == expected);
        assert_eq!(version(&second), running);
        second.shutdown();
    }
}

/// As it stands where nobody drives it any more.
fn record_swap(manager: &Manager, phase: SwapPhase) {
    let (_, job) = manager.record("counts").unwrap();
    let swap = SwapRecord {
        format: FORMAT,
        swap: Uid::random(),
        job_uid: job.uid,
        job: "counts".into(),
        operator: "count".into(),
        from: job.modules["count"].clone(),
        to: manager.modules.find("counter@2").unwrap().id,
        phase,
        empty: Default::default(),
        reason: None,
        rollback: false,
        started_at_ms: 0,
        tasks: BTreeMap::new(),
        unknown: Unknown::default(),
    };
    manager.write_swap(&swap, Expected::Any).unwrap();
}

#[test]
fn a_swap_that_nobody_waits_for_comes_to_its_end() {
    for (left, expected, running) in [
        (SwapPhase::Preparing, SwapPhase::Abandoned, "1"),
        (SwapPhase::Switching, SwapPhase::Probation, "2"),
        (SwapPhase::RollingBack, SwapPhase::RolledBack, "1"),
    ] {
        let world = World::new();
        let manager = world.process();
        manager.start().unwrap();
        manager.apply(&spec(), None).unwrap();
        record_swap(&manager, left);
        until(|| phase(&manager) == expected);
        assert_eq!(version(&manager), running);
        assert!(versions(&world, &manager).iter().all(|version| version == running));
        manager.shutdown();
    }
}

#[test]
fn a_way_back_that_a_task_could_not_go_is_gone_when_the_job_is_mended() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    record_swap(&first, SwapPhase::RollingBack);
    first.shutdown();
    let manager = world.process();
    world.actors.0.lock().unwrap().fails_at_start = Some(Kind::Corrupt);
    manager.start().unwrap();
    until(|| manager.get("counts").unwrap().tasks.iter().any(|task| task.down));
    let refused = swap(&manager, "counter@2").err().unwrap().to_string();
    assert!(refused.contains("rolling-back") && refused.contains("needs help: as told"), "{refused}");
    manager.apply(&spec(), None).unwrap();
    until(|| phase(&manager) == SwapPhase::RolledBack);
    assert_eq!(swap(&manager, "counter@2").unwrap().phase, SwapPhase::Probation);
    manager.shutdown();
}

#[test]
fn the_module_of_a_stopped_job_is_replaced_and_tried_when_it_starts() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    manager.stop("counts").unwrap();
    let plan = manager.plan_swap("counts", "count", "counter@2", &Accepted::default()).unwrap();
    assert!(plan.refusals.is_empty() && plan.warnings[0].contains("does not run"), "{plan:?}");
    assert_eq!(swap(&manager, "counter@2").unwrap().phase, SwapPhase::Switching);
    assert_eq!((version(&manager), versions(&world, &manager)), ("2".to_owned(), vec!["1".to_owned(); 4]));
    let spec = manager.get("counts").unwrap().record.spec;
    manager.apply(&spec, None).unwrap();
    until(|| phase(&manager) == SwapPhase::Probation);
    assert_eq!(versions(&world, &manager), vec!["2"; 4]);
    manager.shutdown();
}

#[test]
fn a_stopped_job_whose_new_module_one_task_cannot_take_starts_with_the_old_one() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    manager.stop("counts").unwrap();
    swap(&manager, "counter@2").unwrap();
    world.actors.0.lock().unwrap().trial_fails = Some(("key k cannot be migrated".into(), Kind::Guest));
    manager.apply(&manager.get("counts").unwrap().record.spec, None).unwrap();
    let version_of_task_0 = || versions(&world, &manager)[0].clone();
    // The script fails every trial on task 1; it has never left the old version.
    until(|| phase(&manager) == SwapPhase::RolledBack);
    assert_eq!((version(&manager), version_of_task_0()), ("1".to_owned(), "1".to_owned()));
    manager.shutdown();
}

#[test]
fn a_module_that_cannot_be_read_for_a_moment_holds_its_job_up_for_a_moment() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    first.shutdown();
    let second = world.process();
    world.host.unreadable.store(true, Ordering::SeqCst);
    second.start().unwrap();
    until(|| second.get("counts").unwrap().error.is_some_and(|why| why.contains("too many open files")));
    world.host.unreadable.store(false, Ordering::SeqCst);
    until(|| state(&second) == State::Running);
    second.shutdown();
}

/// What was advised led in a circle once: a swap needed a job that runs, an apply needed the swap.
#[test]
fn a_stopped_job_goes_back_to_the_version_of_its_old_spec() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    swap(&manager, "counter@2").unwrap();
    manager.stop("counts").unwrap();
    let refused = manager.apply(&spec(), None).err().unwrap().to_string();
    assert!(refused.contains("forebay job swap counts count counter@1"), "{refused}");
    assert_eq!(swap(&manager, "counter@1").unwrap().phase, SwapPhase::Switching);
    manager.apply(&spec(), None).unwrap();
    until(|| phase(&manager) == SwapPhase::Probation && versions(&world, &manager) == vec!["1"; 4]);
    manager.shutdown();
}

#[test]
fn a_swap_that_would_throw_state_away_is_refused_until_it_names_it() {
    let world = World::new();
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    let error = swap(&manager, "counter@4").err().unwrap().to_string();
    assert!(error.contains("--drop tally") && error.contains("--reset sums"), "{error}");
    assert_eq!(manager.get("counts").unwrap().swap, None);
    let accepted = Accepted { reset: vec!["sums".to_owned()], drop: vec!["tally".to_owned()] };
    assert!(manager.plan_swap("counts", "count", "counter@4", &accepted).unwrap().refusals.is_empty());
    assert_eq!(manager.swap("counts", "count", "counter@4", &accepted).unwrap().phase, SwapPhase::Probation);
    // Whoever goes back means it.
    assert_eq!(manager.rollback("counts").unwrap().phase, SwapPhase::Done);
    manager.shutdown();
}

#[test]
fn trouble_of_the_host_neither_gives_a_swap_up_nor_takes_one_back() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().trial_fails = Some(("read the store: too many open files".into(), Kind::Retry));
    world.actors.0.lock().unwrap().faulty = Some((digest(&manager, "counter@2"), Kind::Retry));
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| swap(&manager, "counter@2"));
        until(|| {
            let tasks = manager.get("counts").unwrap().tasks;
            tasks.iter().filter_map(|task| task.status.trial.clone()).any(|trial| {
                matches!(trial.outcome, crate::task::handle::TrialOutcome::Failed { kind: Kind::Retry, .. })
            })
        });
        assert_eq!(phase(&manager), SwapPhase::Preparing);
        world.actors.0.lock().unwrap().trial_fails = None;
        assert_eq!(swapping.join().unwrap().unwrap().phase, SwapPhase::Probation);
    });
    let swap = manager.get("counts").unwrap().swap.unwrap();
    let reports = manager.running_job("counts").unwrap().reports(&swap);
    let mut watch = SwapWatch::default();
    for minutes in 0..60 {
        assert_eq!(watch.look(&swap, Some(&reports), Duration::from_secs(60 * minutes)), None);
    }
    manager.shutdown();
}

#[test]
fn traps_on_probation_send_a_version_back() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().traps = 1_000;
    until(|| manager.get("counts").unwrap().tasks.iter().all(|task| task.status.traps == 1_000));
    swap(&manager, "counter@2").unwrap();
    world.actors.0.lock().unwrap().traps = 1_013;
    until(|| phase(&manager) == SwapPhase::RolledBack);
    let reason = manager.get("counts").unwrap().swap.unwrap().reason.unwrap();
    assert_eq!((reason.as_str(), version(&manager).as_str()), ("52 traps while on probation", "1"));
    manager.shutdown();
}

#[test]
fn a_swap_ends_as_well_when_its_job_is_stopped_meanwhile() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().trials_last = true;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| swap(&manager, "counter@2"));
        until(|| manager.get("counts").unwrap().swap.is_some_and(|swap| swap.phase == SwapPhase::Preparing));
        manager.stop("counts").unwrap();
        let error = swapping.join().unwrap().err().unwrap();
        assert!(error.to_string().contains("stopped"), "{error}");
    });
    assert_eq!((phase(&manager), state(&manager)), (SwapPhase::Abandoned, State::Stopped));
    manager.shutdown();
}

#[test]
fn a_rollback_during_a_trial_gives_the_swap_up() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().trials_last = true;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| swap(&manager, "counter@2"));
        until(|| manager.get("counts").unwrap().swap.is_some_and(|swap| swap.phase == SwapPhase::Preparing));
        assert_eq!(manager.rollback("counts").unwrap().phase, SwapPhase::Abandoned);
        assert!(swapping.join().unwrap().is_err());
    });
    assert_eq!(version(&manager), "1");
    manager.shutdown();
}

#[test]
fn a_job_whose_task_does_not_end_is_stopping_until_it_has() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().deaf = true;
    manager.stop("counts").unwrap();
    assert_eq!(state(&manager), State::Stopping);
    // Its module can be replaced all the same, and a resume waits for its turn.
    assert_eq!(swap(&manager, "counter@2").unwrap().phase, SwapPhase::Switching);
    world.actors.0.lock().unwrap().deaf = false;
    until(|| state(&manager) == State::Stopped);
    manager.apply(&manager.get("counts").unwrap().record.spec, None).unwrap();
    until(|| phase(&manager) == SwapPhase::Probation);
    world.actors.0.lock().unwrap().deaf = true;
    assert!(matches!(manager.delete("counts"), Err(Error::Ending { .. })));
    world.actors.0.lock().unwrap().deaf = false;
    until(|| manager.list().is_empty());
    manager.shutdown();
}

#[test]
fn the_end_of_the_process_waits_a_moment_for_all_tasks_together() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().deaf = true;
    let begun = std::time::Instant::now();
    assert!(!manager.shutdown());
    assert!(begun.elapsed() < 2 * SHUTDOWN_PATIENCE);
    world.actors.0.lock().unwrap().deaf = false;
}

#[test]
fn a_server_knows_which_of_its_tasks_another_one_has_taken_over() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    world.actors.0.lock().unwrap().fails_at_start = Some(Kind::Fenced);
    // Whether that is in time for its answer is chance.
    drop(manager.apply(&spec(), None));
    until(|| !manager.fenced().is_empty());
    assert_eq!(manager.fenced(), ["job counts: as told"]);
    manager.shutdown();
}

#[test]
fn a_task_that_rests_is_doubted_once_its_changelog_grows_without_it() {
    let world = World::new();
    let manager = world.process();
    world.actors.0.lock().unwrap().commits = Some((3, 0));
    manager.apply(&spec(), None).unwrap();
    let job = manager.running_job("counts").unwrap();
    let changelog = manager.get("counts").unwrap().record.names().changelog_topic(&StageName::main());
    let mut seen = std::collections::BTreeMap::new();
    until(|| job.owned().len() == 4);
    manager.watch_owners(&mut seen);
    manager.watch_owners(&mut seen);
    let mut claim = PartitionBatch::new(&changelog, 2);
    claim.push(-1, 0, None, Some(b"another's"));
    world.log.produce(&claim).unwrap();
    manager.watch_owners(&mut seen);
    until(|| world.actors.0.lock().unwrap().doubted == [2]);
    manager.shutdown();
}

#[test]
fn a_task_that_ended_by_itself_is_started_again_unless_its_data_is_damaged() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    world.actors.0.lock().unwrap().fails_at_start = Some(Kind::Retry);
    manager.apply(&spec(), None).unwrap();
    until(|| world.spawned() == 5 && manager.get("counts").unwrap().state == State::Running);
    manager.shutdown();
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    world.actors.0.lock().unwrap().fails_at_start = Some(Kind::Corrupt);
    manager.apply(&spec(), None).unwrap();
    // Not only about to end.
    until(|| manager.get("counts").unwrap().tasks.iter().any(|task| task.down));
    assert_eq!(manager.get("counts").unwrap().state, State::Failed);
    // Asking for it again is asking for another try.
    manager.apply(&spec(), None).unwrap();
    assert_eq!(state(&manager), State::Running);
    manager.shutdown();
}

#[test]
fn a_job_whose_modules_bytes_are_gone_starts_by_itself_once_they_are_pushed_again() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    first.shutdown();
    let second = world.process();
    world.host.forget_all();
    second.start().unwrap();
    until(|| second.get("counts").unwrap().error.is_some());
    let job = second.get("counts").unwrap();
    assert_eq!(job.state, State::Failed);
    assert!(job.error.as_ref().unwrap().contains("push the module again"), "{:?}", job.error);
    let pushed = second.modules.push(&module_bytes(&description("1", 1, &[], &[]))).unwrap();
    assert!(!pushed.existed, "the name was there, the bytes were not");
    until(|| second.get("counts").unwrap().state == State::Running);
    second.shutdown();
}

#[test]
fn names_that_callers_invent_leave_nothing_behind() {
    let world = World::new();
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    for i in 0..100 {
        manager.stop(&format!("invented-{i}")).unwrap_err();
        manager.delete(&format!("invented-{i}")).unwrap_err();
        let refused = SPEC.replace("name: counts", &format!("name: invented-{i}")).replace("counter@1", "no@1");
        manager.apply(&JobSpec::parse(&refused).unwrap(), None).map(drop).unwrap_err();
    }
    assert!(manager.slots().len() <= 2, "{}", manager.slots().len());
    assert_eq!(manager.get("counts").unwrap().state, State::Running);
}

/// Per task the resets of event time that its headers have named.
fn resets(world: &World) -> Vec<Vec<u64>> {
    world.actors.0.lock().unwrap().resets.values().cloned().collect()
}

#[test]
fn event_time_is_taken_back_once_by_each_task_also_where_the_job_was_stopped_meanwhile() {
    let world = World::new();
    let first = world.process();
    first.start().unwrap();
    first.apply(&spec(), None).unwrap();
    first.reset_time("counts", None).unwrap();
    assert_eq!(resets(&world), vec![vec![1]; 4]);
    first.stop("counts").unwrap();
    first.reset_time("counts", Some(7_000_000)).unwrap();
    let reset = first.get("counts").unwrap().record.time_reset.unwrap();
    assert_eq!((reset.number, reset.to_ns), (2, Some(7_000_000)));
    assert_eq!(resets(&world), vec![vec![1]; 4], "nobody is there to make it");
    first.shutdown();
    let second = world.process();
    second.start().unwrap();
    second.apply(&spec(), None).unwrap();
    until(|| resets(&world) == vec![vec![1, 2]; 4]);
    let faster = JobSpec::parse(&format!("{SPEC}\ncommit: {{interval: 50ms}}")).unwrap();
    second.apply(&faster, None).unwrap();
    assert_eq!(second.get("counts").unwrap().record.time_reset, Some(reset));
    second.shutdown();
}

#[test]
fn a_reset_of_event_time_and_a_swap_under_way_both_come_through() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().trials_last = true;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| swap(&manager, "counter@2"));
        until(|| manager.get("counts").unwrap().swap.is_some());
        manager.reset_time("counts", None).unwrap();
        assert_eq!(resets(&world), vec![vec![1]; 4]);
        world.actors.0.lock().unwrap().trials_last = false;
        swapping.join().unwrap().unwrap();
    });
    assert_eq!(versions(&world, &manager), ["2"; 4]);
    assert_eq!(manager.get("counts").unwrap().record.time_reset.unwrap().number, 1);
    manager.shutdown();
}

#[test]
fn a_reset_that_would_take_nothing_back_is_refused_and_its_plan_changes_nothing() {
    let world = World::new();
    world.actors.0.lock().unwrap().watermark = Some(5_000);
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    let revision = manager.get("counts").unwrap().revision;
    let plan = manager.plan_time_reset("counts", Some(4_000)).unwrap();
    assert!(plan.refusals.is_empty(), "{plan:?}");
    assert_eq!(plan.tasks.iter().map(|task| (task.watermark, task.becomes)).collect::<Vec<_>>(), [(5_000, 4_000); 4]);
    assert!(plan.effects.iter().any(|effect| effect.contains("readers of results")), "{plan:?}");
    let refused = manager.reset_time("counts", Some(5_000)).unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(refused.to_string().contains("nothing would go back"), "{refused}");
    assert_eq!(manager.get("counts").unwrap().revision, revision);
    assert_eq!(manager.reset_time("nobody", None).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn the_plan_of_a_reset_warns_of_what_would_take_event_time_ahead_or_hold_it_back() {
    let world = World::new();
    let manager = world.process();
    let open = SPEC.replace("topic: orders", "topic: orders, event_time: {max_ahead: 48h}");
    manager.apply(&JobSpec::parse(&open).unwrap(), None).unwrap();
    let plan = manager.plan_time_reset("counts", None).unwrap();
    assert!(
        plan.warnings.iter().any(|warning| warning.contains("are 2d ahead") || warning.contains("48h")),
        "{plan:?}"
    );
    assert!(!plan.warnings.iter().any(|warning| warning.contains("idle_after")), "one partition a task: {plan:?}");
    let single = open.replace("name: counts", "name: single\nparallelism: 1").replace("48h", "1h");
    manager.apply(&JobSpec::parse(&single).unwrap(), None).unwrap();
    let plan = manager.plan_time_reset("single", None).unwrap();
    assert!(!plan.warnings.iter().any(|warning| warning.contains("max_ahead")), "{plan:?}");
    assert!(plan.warnings.iter().any(|warning| warning.contains("idle_after")), "{plan:?}");
}

#[test]
fn a_state_that_nobody_migrates_begins_empty_where_the_swap_names_it_and_there_is_no_way_back() {
    let world = World::new();
    let manager = world.process();
    manager.start().unwrap();
    manager.apply(&spec(), None).unwrap();
    let refused = swap(&manager, "counter@3").unwrap_err();
    assert_eq!(refused.kind(), Kind::Invalid);
    assert!(refused.to_string().contains("--reset tally"), "{refused}");
    let named = Accepted { reset: vec!["tally".to_owned()], drop: vec![] };
    let plan = manager.plan_swap("counts", "count", "counter@3", &named).unwrap();
    assert!(plan.refusals.is_empty() && plan.states[0].fate == plan::Fate::Emptied, "{plan:?}");
    let swapped = manager.swap("counts", "count", "counter@3", &named).unwrap();
    assert_eq!(swapped.empty, BTreeSet::from(["tally".to_owned()]));
    assert_eq!(versions(&world, &manager), ["3"; 4]);
    let script = world.actors.0.lock().unwrap();
    assert_eq!(script.emptied, BTreeMap::from_iter((0..4).map(|task| (task, swapped.empty.clone()))));
    drop(script);
    let refused = manager.rollback("counts").unwrap_err().to_string();
    assert!(refused.contains("a swap to it with `--reset tally` begins it empty"), "{refused}");
    assert_eq!(version(&manager), "3");
    manager.shutdown();
}
