//! The API over a loopback port: a real server, a real client, an embedded log.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::Code;

use super::client::{self, Client};
use super::proto::consume_request::Start;
use super::proto::push_module_request::Part;
use super::proto::{
    ApplyJobRequest, ConsumeRequest, CreateTopicRequest, GetJobRequest, Header, ListDeadLettersRequest,
    ListTopicsRequest, PlanAction, PlanJobRequest, ProduceRequest, PushModuleHeader, PushModuleRequest, Record,
};
use super::server::{self, Home, Others, Platform};
use crate::wasm::{Engine, EngineSettings};

fn engine() -> Engine {
    Engine::new(EngineSettings::default()).unwrap()
}

struct Served {
    client: Client,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), server::Error>>,
}

async fn serve(dir: &Path) -> Served {
    let dir = dir.to_owned();
    let platform = tokio::task::spawn_blocking(move || open(&dir)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(platform.serve(listener, async { drop(stopped.await) }));
    Served { client: Client::connect(&address).await.unwrap(), stop, server }
}

/// A server that ended leaves its connections to end by themselves, and they hold its log: here, in one
/// process with the next server, that has to be waited for.
fn open(dir: &Path) -> Platform {
    let given_up = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match Platform::open(dir, &Home::Embedded, Others::new(), engine()) {
            Err(server::Error::Log(_)) if std::time::Instant::now() < given_up => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

impl Served {
    async fn end(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }
}

fn topic(name: &str) -> CreateTopicRequest {
    CreateTopicRequest { name: name.to_owned(), partitions: 4, ..Default::default() }
}

fn record(i: u32) -> Record {
    Record { key: Some(format!("k{i}").into()), value: Some(i.to_string().into()), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_produced_by_key_and_consumed_whole_also_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path()).await;
    served.client.topics.create(topic("t")).await.unwrap();
    let batches = (0..10).map(|batch| ProduceRequest {
        topic: "t".into(),
        partition: None,
        records: (batch * 100..batch * 100 + 100).map(record).collect(),
    });
    let produced = served.client.produce(tokio_stream::iter(batches.collect::<Vec<_>>())).await.unwrap();
    assert_eq!((produced.records, produced.partitions.len()), (1_000, 4));
    served.end().await;

    let mut served = serve(dir.path()).await;
    let request = ConsumeRequest { topic: "t".into(), start: Some(Start::Earliest(true)), ..Default::default() };
    let mut batches = served.client.topics.consume(request).await.unwrap().into_inner();
    let mut seen = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.unwrap();
        for record in &batch.records {
            let key = record.key.clone().unwrap();
            assert_eq!(crate::model::murmur2::partition(&key, 4), batch.partition);
        }
        seen += batch.records.len();
    }
    assert_eq!(seen, 1_000);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_refused_in_the_middle_says_how_many_of_its_records_are_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path()).await;
    let spec = CreateTopicRequest { max_record_bytes: 1_024, ..topic("t") };
    served.client.topics.create(spec).await.unwrap();
    let large = Record { value: Some(vec![b'x'; 2_000].into()), ..record(3) };
    let message = |mut records: Vec<Record>, with: Option<Record>| {
        if let Some(with) = with {
            records[3] = with;
        }
        ProduceRequest { topic: "t".into(), partition: None, records }
    };
    let messages = [message((0..10).map(record).collect(), None), message((10..20).map(record).collect(), Some(large))];
    let refused = served.client.produce(tokio_stream::iter(messages)).await.unwrap_err();
    assert_eq!(refused.records_written(), Some(13), "{refused}");
    assert!(refused.to_string().contains("the topic takes 1024"), "{refused}");
    let topics = served.client.topics.list(ListTopicsRequest { internal: false }).await.unwrap().into_inner().topics;
    let held: i64 = topics[0].partitions.iter().map(|partition| partition.end_offset).sum();
    assert_eq!(held, 13, "nothing behind the record that was refused");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_error_has_its_code_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path()).await;
    let client = &mut served.client;
    client.topics.create(topic("t")).await.unwrap();
    let twice = client.topics.create(topic("t")).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    let missing = client.jobs.get(GetJobRequest { name: "j".into() }).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "no job is called j: see `forebay job list`"));
    let unreadable = client.jobs.plan(PlanJobRequest { spec: "nme: x".into() }).await.unwrap_err();
    assert_eq!(unreadable.code(), Code::InvalidArgument);
    assert!(unreadable.message().contains("did you mean `name`?"), "{}", unreadable.message());
    let internal = client.topics.create(topic("__forebay.x")).await.unwrap_err();
    assert_eq!(internal.code(), Code::InvalidArgument);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_all_refusals_as_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path()).await;
    let spec = "{name: j, sources: [{id: a, topic: nope}], sinks: [{id: b, topic: nada, from: a}]}".to_owned();
    let plan = served.client.jobs.plan(PlanJobRequest { spec }).await.unwrap().into_inner().plan.unwrap();
    assert_eq!(plan.action(), PlanAction::Refused);
    let places: Vec<_> = plan.refusals.iter().map(|refusal| refusal.place.as_str()).collect();
    assert_eq!(places, ["sources[a].topic", "sinks[b].topic"]);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_what_its_header_announced_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path()).await;
    let header = |size_bytes| Part::Header(PushModuleHeader { sha256: "00".repeat(32), size_bytes });
    let chunk = |bytes: &'static [u8]| Part::Chunk(bytes.into());
    for (parts, found) in [
        (vec![chunk(b"abc")], "the first message must be the header"),
        (vec![header(3), chunk(b"ab")], "2 bytes came, 3 were announced"),
        (vec![header(3), chunk(b"abcd")], "more came than the 3 bytes announced"),
        (vec![header(3), chunk(b"abc")], "the upload was damaged"),
        (vec![header(u64::MAX)], "are allowed"),
        (vec![header(3), header(3)], "a second header"),
    ] {
        let requests = parts.into_iter().map(|part| PushModuleRequest { part: Some(part) });
        let refused = served.client.modules.push(tokio_stream::iter(requests.collect::<Vec<_>>())).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(found), "{}", refused.message());
    }
    let garbage = served.client.push_module(b"no module".to_vec(), |_| {}).await.unwrap_err();
    assert!(matches!(garbage, client::Error::Refused(status) if status.code() == Code::InvalidArgument));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_over_one_directory_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path()).await;
    let path = dir.path().to_owned();
    let second = tokio::task::spawn_blocking(move || Platform::open(&path, &Home::Embedded, Others::new(), engine()))
        .await
        .unwrap();
    assert!(matches!(second, Err(server::Error::Locked(_))));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_topics_are_shown_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path()).await;
    let mut list = async |internal| {
        let topics = served.client.topics.list(ListTopicsRequest { internal }).await.unwrap().into_inner().topics;
        topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>()
    };
    assert_eq!(list(false).await, Vec::<String>::new());
    assert_eq!(list(true).await, ["__forebay.control", "__forebay.modules"]);
    served.end().await;
}

const COPY: &str =
    "{name: j, sources: [{id: in, topic: t, key: none, decode: bytes}], sinks: [{id: out, topic: u, from: in}]}";

/// A server with a job that copies topic `t` to topic `u`, and the job's revision.
async fn serve_copy(dir: &Path) -> (Served, i64) {
    let mut served = serve(dir).await;
    for name in ["t", "u"] {
        served.client.topics.create(topic(name)).await.unwrap();
    }
    let applied = served.client.jobs.apply(ApplyJobRequest { spec: COPY.into(), expected_revision: None }).await;
    let job = applied.unwrap().into_inner().job.unwrap();
    (served, job.revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_moved_on_since_its_revision_is_aborted_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut served, revision) = serve_copy(dir.path()).await;
    let spec = COPY.replace("name: j,", "name: j, commit: {interval: 50ms},");
    let apply = |expected| ApplyJobRequest { spec: spec.clone(), expected_revision: Some(expected) };
    let stale = served.client.jobs.apply(apply(revision + 1)).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale}");
    let get = GetJobRequest { name: "j".into() };
    let found = served.client.jobs.get(get.clone()).await.unwrap().into_inner().job.unwrap();
    assert_eq!(found.revision, revision);
    served.client.jobs.apply(apply(revision)).await.unwrap();
    let found = served.client.jobs.get(get).await.unwrap().into_inner().job.unwrap();
    assert!(found.revision > revision);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_dead_letters_says_how_many_it_leaves_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut served, _) = serve_copy(dir.path()).await;
    let letter = |code: &str| Record {
        headers: [("forebay.format", "1"), ("forebay.code", code)]
            .map(|(name, value)| Header { name: name.into(), value: Some(value.into()) })
            .into(),
        ..record(1)
    };
    let records = [vec![letter("trap"); 5], vec![letter("oversized"); 3]].concat();
    let request = ProduceRequest { topic: "j.dead-letters".into(), partition: Some(0), records };
    served.client.produce(tokio_stream::iter([request])).await.unwrap();
    let list = ListDeadLettersRequest { job: "j".into(), limit: 2, code: "trap".into(), all: true };
    let answer = served.client.dead_letters.list(list).await.unwrap().into_inner();
    assert_eq!((answer.total, answer.matching, answer.dead_letters.len()), (8, 5, 2));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_may_be_are_refused_and_other_calls_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut served = serve(dir.path()).await;
    served.client.topics.create(topic("t")).await.unwrap();
    let follow = ConsumeRequest { topic: "t".into(), follow: true, ..Default::default() };
    let mut open = Vec::new();
    let refused = loop {
        match served.client.topics.consume(follow.clone()).await {
            Ok(stream) => open.push(stream),
            Err(refused) => break refused,
        }
        assert!(open.len() <= super::topics::STREAMS_MAX, "nothing bounds them");
    };
    assert_eq!((refused.code(), open.len()), (Code::Unavailable, super::topics::STREAMS_MAX), "{refused}");
    served.client.topics.create(topic("u")).await.unwrap();
    drop(open);
    // What was dropped here ends there a moment later.
    while served.client.topics.consume(follow.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_its_way_to_its_end_says_so_to_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_owned();
    let platform = tokio::task::spawn_blocking(move || open(&folder)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ((stop, stopped), (gone, lingers)) = (oneshot::channel::<()>(), oneshot::channel::<()>());
    let server =
        tokio::spawn(platform.serve_and_linger(listener, async { drop(stopped.await) }, async { drop(lingers.await) }));
    let channel = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect_lazy();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let asked = || tonic_health::pb::HealthCheckRequest { service: String::new() };
    let mut told = health.watch(asked()).await.unwrap().into_inner();
    let mut client = Client::connect(&address).await.unwrap();
    client.topics.create(topic("t")).await.unwrap();
    let serving = tonic_health::pb::health_check_response::ServingStatus::Serving as i32;
    let is_serving = |status: i32| status == serving;
    while !is_serving(told.next().await.unwrap().unwrap().status) {}

    stop.send(()).unwrap();
    while is_serving(told.next().await.unwrap().unwrap().status) {}
    let status = health.check(asked()).await.unwrap().into_inner().status;
    assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::NotServing as i32);
    let refused = client.topics.create(topic("u")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("shutting down"), "{refused}");
    gone.send(()).unwrap();
    server.await.unwrap().unwrap();
}
