//! Wrong specs, modules and arguments through the CLI: a clear error that names the place, and nothing half-applied.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::Bench;
use wit_component::{StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

const SPEC: &str = "name: tally
sources: [{id: numbers, topic: numbers, decode: json}]
operators: [{id: count, module: counter@1.0.0, inputs: {input: numbers}}]
sinks: [{id: out, topic: counted, from: count.counts}]
";

/// What is replaced in the good spec, by what, and what the error must say.
const WRONG_SPECS: [(&str, &str, &[&str]); 18] = [
    ("name:", "nam:", &["line 1", "nam", "name"]),
    ("topic: numbers", "topic: nowhere", &["sources[numbers].topic", "nowhere", "topic create"]),
    ("topic: numbers", "topic: __forebay.control", &["sources[numbers].topic", "internal", "topic of your own"]),
    (
        "sources: [{id: numbers,",
        "parallelism: 2\nsources: [{partitioner: none, id: numbers,",
        &["sources[numbers].partitioner", "`parallelism: 1`"],
    ),
    ("sinks:", "bad_records: {by_code: {mising-time: skip}}\nsinks:", &["bad_records.by_code", "`missing-time`"]),
    ("topic: counted", "topic: nowhere", &["sinks[out].topic", "nowhere", "topic create"]),
    ("counter@1.0.0", "counter@9.9.9", &["operators[count].module", "counter@9.9.9", "counter has 1.0.0"]),
    ("counter@1.0.0", "unheard-of@1.0.0", &["operators[count].module", "module push"]),
    ("{input: numbers}", "{orders: numbers}", &["operators[count].inputs.orders", "no input `orders`"]),
    ("{input: numbers}", "{input: letters}", &["operators[count].inputs.input", "letters"]),
    ("count.counts", "count.nothing", &["sinks[out].from", "count.nothing", "count.counts"]),
    ("decode: json", "decode: xml", &["line 2", "xml", "json"]),
    ("decode: json", "decode: json, key: none", &["sources[numbers].key", "record-key"]),
    ("decode: json", "decode: json, event_time: {field: t, unit: fortnights}", &["line 2", "fortnights"]),
    ("name: tally", "name: ../../etc", &["name", "letters, digits"]),
    ("name: tally", "name: tally\nname: other", &["line 2", "name"]),
    ("name: tally", "name: tally\nparallelism: 3", &["parallelism", "3 does not divide the 4 partitions"]),
    ("inputs:", "parameters: {speed: 9}, inputs:", &["operators[count].parameters.speed", "no parameter"]),
];

struct Cli {
    bench: Bench,
}

impl Cli {
    /// A server with the topics and the module that the good spec names.
    async fn new() -> Self {
        let mut bench = Bench::new();
        let client = bench.server.start(None).await.unwrap();
        client.push(&e2e::guest("counter")).await.unwrap();
        for topic in ["numbers", "counted"] {
            client.create_topic(topic, 4).await.unwrap();
        }
        Self { bench }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(e2e::binary("forebay"));
        command.args(["--server", &self.bench.server.address]).args(arguments);
        command.output().unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.bench.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Everything that a refusal must leave as it was.
    fn told(&self) -> Vec<String> {
        let answer = |what: &str| String::from_utf8(self.run(&[what, "list", "-o", "json"]).stdout).unwrap();
        vec![answer("job"), answer("module"), answer("topic")]
    }

    /// The command fails with all these words, no panic, and no trace.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let before = self.told();
        let answer = self.run(arguments);
        let error = String::from_utf8(answer.stderr).unwrap();
        assert!(!answer.status.success(), "{arguments:?} was accepted");
        assert!(answer.status.code().is_some_and(|code| (2..=5).contains(&code)), "{:?}: {error}", answer.status);
        assert!(!error.contains("panicked"), "{error}");
        for word in words {
            assert!(error.contains(word), "{arguments:?} does not say `{word}`:\n{error}");
        }
        assert_eq!(self.told(), before, "{arguments:?} left something behind");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_spec_names_the_place_and_changes_nothing() {
    let cli = Cli::new().await;
    for (good, wrong, words) in WRONG_SPECS {
        assert!(SPEC.contains(good));
        let path = cli.file("spec.yaml", SPEC.replacen(good, wrong, 1).as_bytes());
        cli.refuses(&["job", "apply", text(&path)], words);
    }
    for (content, words) in [
        (vec![], &["unexpected end"][..]),
        (b"{{{".to_vec(), &["line 1"]),
        (vec![0xff, 0xfe, 0x00], &[]),
        (vec![b'a'; 2 << 20], &["at most 1048576"]),
        (b"[".repeat(200_000), &[]),
    ] {
        let path = cli.file("spec.yaml", &content);
        cli.refuses(&["job", "apply", text(&path)], words);
    }
    // And the good one is applied, twice to the same effect.
    let path = cli.file("spec.yaml", SPEC.as_bytes());
    for _ in 0..2 {
        let applied = cli.run(&["job", "apply", text(&path)]);
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    }
    assert!(cli.told()[0].contains("tally"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_module_is_refused_with_the_reason() {
    let cli = Cli::new().await;
    let whole = e2e::guest("relay");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0xa5);
    let modules: [(&[u8], &[&str]); 5] = [
        (b"", &["empty"]),
        (b"hello", &["no WebAssembly"]),
        (&whole[..whole.len() / 3], &["malformed"]),
        (b"\0asm\x01\0\0\0", &["without its WIT"]),
        (&flipped, &["refused"]),
    ];
    for (bytes, words) in modules {
        let path = cli.file("module.wasm", bytes);
        cli.refuses(&["module", "push", text(&path)], words);
    }
}

/// A module that exports all of the contract and does nothing, with the contract's text inside.
fn of_the_contract() -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("transform.wit", include_str!("../../../wit/transform.wit")).unwrap();
    let world = resolve.select_world(&[package], Some("transform")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// Some of these make packages of the module's types refer to each other in a circle, which ends the process that looks
/// at them. That must not be the server's.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_breaks_what_looks_at_it_is_refused_and_the_server_goes_on() {
    let cli = Cli::new().await;
    let whole = of_the_contract();
    let name = b"forebay:transform/";
    let mut ended = 0;
    for at in (0..whole.len() - name.len()).filter(|&at| whole[at..].starts_with(name)) {
        let mut changed = whole.clone();
        changed[at + 3] = b'u';
        let path = cli.file("module.wasm", &changed);
        let answer = cli.run(&["module", "push", text(&path)]);
        let error = String::from_utf8(answer.stderr).unwrap();
        // Where nothing depends on the letter it comes to be run, and it traps.
        assert!(answer.status.code().is_some_and(|code| (1..=2).contains(&code)), "{:?}: {error}", answer.status);
        if error.contains("signal: ") {
            ended += 1;
            cli.refuses(&["module", "push", text(&path)], &["looking the module over", "without end"]);
            let input = cli.file("input.json", b"{}\n");
            cli.refuses(&["module", "check", text(&path), "--input", text(&input)], &["looking the module over"]);
        }
    }
    assert!(ended > 0, "none of them was a danger: this has shown nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_say_what_is_there_instead() {
    let cli = Cli::new().await;
    let commands: [(&[&str], &[&str]); 11] = [
        (&["frobnicate"], &["frobnicate", "--help"]),
        (&["job", "list", "-o", "xml"], &["xml", "json"]),
        (&["job", "get", "nobody"], &["nobody", "job list"]),
        (&["job", "swap", "nobody", "count", "counter@1.0.0"], &["nobody"]),
        (&["job", "rollback", "nobody"], &["nobody"]),
        (&["job", "delete", "nobody"], &["nobody"]),
        (&["dlq", "list", "nobody"], &["nobody"]),
        (&["topic", "create", "numbers"], &["exists already"]),
        (&["topic", "create", "a/b"], &["a/b", "allowed"]),
        (&["topic", "create", "none", "--partitions", "0"], &["0 partitions"]),
        (&["topic", "create", "__forebay.mine"], &["internal"]),
    ];
    for (arguments, words) in commands {
        cli.refuses(arguments, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_do_not_share_a_data_directory() {
    let cli = Cli::new().await;
    let data = cli.bench.server.data_dir();
    let second = Command::new(e2e::binary("forebay"))
        .args(["dev", "--listen", "127.0.0.1:0", "--data-dir", text(&data)])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && !error.contains("panicked"), "{error}");
    assert!(error.contains(text(&data)), "{error}");
}
