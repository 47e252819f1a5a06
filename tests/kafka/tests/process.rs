//! What holds for whole processes of tests: no broker outlives one, and none is silent about what it skips.
//!
//! Tests here run this very program again, with one test of it and another environment.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kafka_cluster::{Cluster, Options, Target};

const HOLD: &str = "FOREBAY_TEST_HOLD";

/// This program with one of its tests, past the harness's capture.
fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running test knows its own path"));
    command.args(["--exact", test, "--nocapture"]).env_remove("FOREBAY_KAFKA").env_remove("FOREBAY_NO_SKIP");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn without_java(command: &mut Command) -> &mut Command {
    command.env("PATH", "").env_remove("JAVA_HOME")
}

#[test]
fn brokers_die_with_a_process_that_is_killed_and_the_next_one_cleans_up() {
    if std::env::var_os(HOLD).is_some() {
        let cluster = Cluster::start(Options::default()).unwrap();
        println!("HELD {} {}", cluster.pid(1).unwrap(), cluster.log(1).parent().unwrap().display());
        // Until it is killed.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    // Says so where there can be none.
    let Some(_) = Cluster::for_tests(Options::default()) else { return };
    let test = "brokers_die_with_a_process_that_is_killed_and_the_next_one_cleans_up";
    let mut held = again(test).env(HOLD, "1").stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(held.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("HELD ")).expect("a cluster is started");
    let words: Vec<&str> = line.split_whitespace().collect();
    let [.., pid, folder] = words[..] else { panic!("{line}") };
    let process = Path::new("/proc").join(pid);
    // Something by which the folder is known again: the next cluster may get the same ports.
    let left = Path::new(folder).join("left");
    std::fs::write(&left, "").unwrap();
    assert!(process.exists());

    held.kill().unwrap();
    held.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // A process that is dead and not yet collected has no command line any more.
    while std::fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty()) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        // sleep: nobody is told of the end of a process that is not a child
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(left.exists());
    let next = Cluster::for_tests(Options::default());
    assert!(next.is_some() && !left.exists());
}

#[test]
fn a_shared_cluster_needs_no_java_where_one_is_named() {
    let Some(target) = Target::for_tests() else { return };
    if std::env::var_os(HOLD).is_some() {
        println!("BOOTSTRAP {}", target.bootstrap());
        return;
    }
    let mut command = again("a_shared_cluster_needs_no_java_where_one_is_named");
    let command = without_java(&mut command).env(HOLD, "1").env("FOREBAY_KAFKA", "kafka.example:9092");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("BOOTSTRAP kafka.example:9092"), "{said}");
}

#[test]
fn what_is_skipped_is_said_on_both_streams_and_refused_where_nothing_may_be_skipped() {
    if std::env::var_os(HOLD).is_some() {
        assert!(Target::for_tests().is_none());
        assert!(Cluster::for_tests(Options::default()).is_none());
        return;
    }
    let test = "what_is_skipped_is_said_on_both_streams_and_refused_where_nothing_may_be_skipped";
    let mut command = again(test);
    let output = without_java(&mut command).env(HOLD, "1").output().unwrap();
    assert!(output.status.success());
    for stream in [output.stdout, output.stderr] {
        let said = String::from_utf8_lossy(&stream).into_owned();
        let skipped: Vec<&str> = said.lines().filter(|line| line.starts_with("SKIPPED: ")).collect();
        assert_eq!(skipped.len(), 2, "{said}");
        assert!(skipped.iter().all(|line| line.contains(test) && line.contains("install a JDK")), "{said}");
    }
    let mut command = again(test);
    let output = without_java(&mut command).env(HOLD, "1").env("FOREBAY_NO_SKIP", "1").output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_test_that_kills_brokers_is_skipped_on_a_cluster_that_is_not_its_own() {
    if std::env::var_os(HOLD).is_some() {
        assert!(Cluster::for_tests(Options::default()).is_none());
        return;
    }
    let test = "a_test_that_kills_brokers_is_skipped_on_a_cluster_that_is_not_its_own";
    let output = again(test).env(HOLD, "1").env("FOREBAY_KAFKA", "kafka.example:9092").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.lines().any(|line| line.starts_with("SKIPPED: ") && line.contains("kafka.example:9092")), "{said}");
}
