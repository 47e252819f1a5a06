//! What jobs cost that have nothing to do: memory, threads, descriptors and CPU of the server, and CPU of the broker.
//!
//! A measure, not a judge: nothing is refused here. It goes past the proxies, which would cost something themselves.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka_cluster::{Cluster, Options};
use market_data::api::proto::TaskPhase;
use tokio::time::sleep;

use crate::bed::{self, push, running};
use crate::judge::Guest;
use crate::server::{Place, Server};

/// Everything that is given up when it rests has been given up by then: a writer after a minute.
const SETTLE: Duration = Duration::from_secs(80);
const MEASURE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub jobs: u32,
    /// They all read one topic, in place of one each.
    pub is_shared: bool,
}

/// Of a process, at one moment.
struct Usage {
    resident_kb: u64,
    threads: u64,
    descriptors: usize,
    cpu: Duration,
}

/// Makes the jobs on a cluster of its own, waits until they rest, and says what they cost.
///
/// # Errors
/// Anything that did not come up.
pub async fn measure(Settings { jobs, is_shared }: Settings) -> Result<String, String> {
    let cluster = tokio::task::block_in_place(|| Cluster::start(Options::nodes(1)))?;
    let folder = tempfile::tempdir().map_err(|error| format!("make a folder: {error}"))?;
    let profile = folder.path().join("cluster.yaml");
    fs::write(&profile, format!("bootstrap: {}\n", cluster.bootstrap())).map_err(|error| format!("{error}"))?;
    let mut server = Server::new(&folder.path().join("a"), &Place { profile, namespace: "idle".to_owned() })?;
    let client = server.start(None).await?;
    push(&client, Guest::Checked.name()).await?;
    let begun = Instant::now();
    for number in 0..jobs {
        let (name, input) = (format!("idle-{number}"), format!("idle-{}.in", if is_shared { 0 } else { number }));
        if number == 0 || !is_shared {
            client.create_topic(&input, 1).await.map_err(|error| error.to_string())?;
        }
        client.create_topic(&format!("{name}.out"), 1).await.map_err(|error| error.to_string())?;
        let spec = format!(
            "name: {name}\nparallelism: 1\nsources:\n  - {{id: in, topic: {input}}}\noperators:\n  - {{id: op, module: \
             checked@1.0.0, inputs: {{input: in}}}}\nsinks:\n  - {{id: out, topic: {name}.out, from: op.results}}\n"
        );
        client.apply(&spec).await.map_err(|error| error.to_string())?;
        running(&client, &name).await?;
    }
    let made = begun.elapsed();
    // sleep: what rests is given up after a time
    sleep(SETTLE).await;
    let broker = cluster.pid(1).ok_or("measure the broker: it is down")?;
    let process = server.pid().ok_or("measure the server: it does not run")?;
    let (before, broker_before) = (usage(process)?, usage(broker)?);
    // sleep: the length of the measurement
    sleep(MEASURE).await;
    let (after, broker_after) = (usage(process)?, usage(broker)?);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    // It is to be of jobs that run.
    let is_running = |phase: i32| phase == TaskPhase::Running as i32;
    let jobs_found = client.jobs_running().await.map_err(|error| error.to_string())?;
    let found = jobs_found.iter().filter(|job| job.tasks.iter().all(|task| is_running(task.phase))).count();
    let share = |from: &Usage, to: &Usage| 100.0 * (to.cpu - from.cpu).as_secs_f64() / MEASURE.as_secs_f64();
    let text = format!(
        "{jobs} idle jobs, {}, made in {} s, {found} of them running; over {} s, {} s after the last was made (load {}):\n  \
         server: {} MB resident, {} threads, {} descriptors, {:.1} % of a core\n  broker: {} MB resident, {} threads, \
         {} descriptors, {:.1} % of a core\n  threads of the server: {}",
        if is_shared { "one input for all" } else { "an input each" },
        made.as_secs(),
        MEASURE.as_secs(),
        SETTLE.as_secs(),
        load.trim(),
        after.resident_kb / 1_000,
        after.threads,
        after.descriptors,
        share(&before, &after),
        broker_after.resident_kb / 1_000,
        broker_after.threads,
        broker_after.descriptors,
        share(&broker_before, &broker_after),
        threads(process),
    );
    let again = Instant::now();
    server.end_well().await?;
    let ended = again.elapsed();
    let again = Instant::now();
    let client = server.start(None).await?;
    for number in 0..jobs {
        let name = format!("idle-{number}");
        bed::until(&client, &name, |job| {
            Ok(!job.tasks.is_empty() && job.tasks.iter().all(|task| is_running(task.phase)))
        })
        .await?;
    }
    Ok(format!(
        "{text}\n  ended in {} ms, all running again after {} ms",
        ended.as_millis(),
        again.elapsed().as_millis()
    ))
}

fn usage(process: u32) -> Result<Usage, String> {
    let folder = Path::new("/proc").join(process.to_string());
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))
    };
    let status = read("status")?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let stat = read("stat")?;
    // `ID (NAME) STATE …`: user and system time are the twelfth and thirteenth behind the name, in ticks.
    let behind = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = behind.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // SAFETY: a call with a number.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    let descriptors = fs::read_dir(folder.join("fd")).map_err(|error| format!("count descriptors: {error}"))?.count();
    Ok(Usage {
        resident_kb: number("VmRSS:"),
        threads: number("Threads:"),
        descriptors,
        cpu: Duration::from_secs_f64(ticks as f64 / per_second),
    })
}

/// How many threads there are of each name, without what numbers a name.
fn threads(process: u32) -> String {
    let mut of = std::collections::BTreeMap::<String, u32>::new();
    for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        *of.entry(name.to_owned()).or_default() += 1;
    }
    of.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
