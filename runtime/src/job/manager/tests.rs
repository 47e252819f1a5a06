use super::super::fakes::{self, Actors, DescriptionHost, description, module_bytes};
use super::super::record::SwapPhase;
use super::*;
use crate::env::SystemClock;
use crate::error::Kind;
use crate::model::names::Namespace;

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
    let changelog = format!("__forebay.counts.{}.main.changelog", job.record.uid8());
    assert_eq!(world.log.topic(&changelog).unwrap().spec.partitions, 4);
    assert_eq!(manager.apply(&spec(), Some(job.revision + 1)).err().unwrap().kind(), Kind::Conflict);
}

#[test]
fn a_new_process_starts_what_runs_and_leaves_what_is_stopped() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    first.shutdown();
    let second = world.process();
    second.start().unwrap();
    assert_eq!(second.get("counts").unwrap().state, State::Running);
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
fn a_process_that_died_while_creating_a_job_finishes_it_at_the_next_start() {
    let world = World::new();
    let first = world.process();
    first.apply(&spec(), None).unwrap();
    let (revision, job) = first.record("counts").unwrap();
    first.put(JobRecord { desired: Desired::Creating, ..job }, Expected::At(revision)).unwrap();
    first.shutdown();
    let second = world.process();
    second.start().unwrap();
    assert_eq!(second.get("counts").unwrap().record.desired, Desired::Running);
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
    let swap = manager.swap("counts", "count", "counter@2").unwrap();
    assert_eq!((swap.phase, swap.tasks.len(), swap.tasks[&3].values_tried), (SwapPhase::Probation, 4, 7));
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
    world.actors.0.lock().unwrap().faulty = Some(manager.modules.find("counter@2").unwrap().id.digest);
    manager.swap("counts", "count", "counter@2").unwrap();
    until(|| manager.get("counts").unwrap().swap.unwrap().phase == SwapPhase::RolledBack);
    assert_eq!((version(&manager), manager.get("counts").unwrap().state), ("1".to_owned(), State::Running));
    manager.shutdown();
}

#[test]
fn a_swap_that_one_task_cannot_prepare_changes_nothing() {
    let world = World::new();
    let manager = world.process();
    manager.apply(&spec(), None).unwrap();
    world.actors.0.lock().unwrap().prepare_fails = Some("key k cannot be migrated".into());
    let error = manager.swap("counts", "count", "counter@2").err().unwrap();
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
    let error = manager.swap("counts", "count", "counter@3").err().unwrap();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(manager.get("counts").unwrap().swap, None);
    assert_eq!(manager.swap("counts", "count", "counter@1").err().unwrap().kind(), Kind::Conflict);
    assert_eq!(manager.swap("counts", "cout", "counter@2").err().unwrap().kind(), Kind::NotFound);
    assert_eq!(manager.swap("counts", "count", "counter@9").err().unwrap().kind(), Kind::NotFound);
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
        reason: None,
        rollback: false,
        started_at_ms: 0,
        tasks: BTreeMap::new(),
    };
    manager.store.commit(&[Change::put(Record::Swap(Box::new(swap)), Expected::Any)]).unwrap();
}

#[test]
fn a_swap_left_half_way_while_the_log_was_away_does_not_stay_so() {
    for (phase, expected, running) in
        [(SwapPhase::Preparing, SwapPhase::Abandoned, "1"), (SwapPhase::Switching, SwapPhase::Probation, "2")]
    {
        let world = World::new();
        let manager = world.process();
        manager.apply(&spec(), None).unwrap();
        manager.start().unwrap();
        record_swap(&manager, phase);
        let away = log::Error::Unavailable { doing: "commit".to_owned(), found: "no broker answers".to_owned() };
        let uid = manager.get("counts").unwrap().record.uid;
        manager.leave(uid, &Error::from(away));
        until(|| manager.get("counts").unwrap().swap.unwrap().phase == expected);
        assert_eq!(version(&manager), running);
        manager.shutdown();
    }
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
    until(|| manager.get("counts").unwrap().tasks.iter().any(|task| task.given_up && !task.held));
    assert_eq!(manager.get("counts").unwrap().state, State::Failed);
    // Asking for it again is asking for another try.
    manager.apply(&spec(), None).unwrap();
    assert_eq!(manager.get("counts").unwrap().state, State::Running);
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
