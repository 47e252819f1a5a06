use super::*;

const GOOD: &str = r#"
name: enrichment
parallelism: 2
sources:
  - id: orders
    topic: orders
    decode: json
    key: {field: symbol}
    event_time: {field: exchange_ts, unit: us, max_ahead: 1h}
    watermark: {out_of_orderness: 2s, idle_after: 5s}
    start: earliest
  - id: instruments
    topic: instruments
operators:
  - id: enrich
    module: enrichment@1.0.0
    inputs: {orders: orders, reference: instruments}
    parameters: {depth: 10, strict: true, venue: bitstamp, ratio: 0.5}
sinks:
  - {id: out, topic: enriched, from: enrich.enriched, timestamp: now}
bad_records: {policy: skip}
commit: {interval: 50ms}
"#;

#[test]
fn a_whole_spec_is_read_with_its_defaults() {
    let spec = JobSpec::parse(GOOD).unwrap();
    assert_eq!(spec.sources[0].key, KeySpec::Field("symbol".into()));
    let EventTimeSpec::Field(time) = &spec.sources[0].event_time else { panic!("no field") };
    assert_eq!((time.unit, time.max_ahead), (UnitSpec::Us, Duration::from_secs(3600)));
    assert_eq!(spec.sources[1].key, KeySpec::RecordKey);
    assert_eq!(spec.sources[1].event_time, EventTimeSpec::RecordTimestamp { max_ahead: Duration::from_secs(3600) });
    assert_eq!(spec.sources[1].partitioner, PartitionerSpec::Murmur2);
    assert_eq!(spec.operators[0].parameters["depth"], "10");
    assert_eq!(spec.operators[0].parameters["strict"], "true");
    assert_eq!(spec.operators[0].parameters["ratio"], "0.5");
    assert_eq!(spec.bad_records.policy, BadRecordPolicy::Skip);
    assert_eq!(spec.commit.interval, Duration::from_millis(50));
    assert_eq!(spec.dead_letter_topic(), "enrichment.dead-letters");
}

#[test]
fn a_spec_is_written_as_yaml_and_json_that_read_back_the_same() {
    let spec = JobSpec::parse(GOOD).unwrap();
    assert_eq!(JobSpec::parse(&spec.to_yaml()).unwrap(), spec);
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<JobSpec>(&json).unwrap(), spec);
}

#[test]
fn a_start_is_a_word_or_says_where() {
    let start = |text: &str| {
        let spec = JobSpec::parse(&GOOD.replace("start: earliest", &format!("start: {text}"))).unwrap();
        assert_eq!(JobSpec::parse(&spec.to_yaml()).unwrap(), spec);
        assert_eq!(serde_json::from_str::<JobSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
        spec.sources[0].start.clone()
    };
    assert_eq!(start("latest"), StartSpec::Latest);
    assert_eq!(start("{timestamp: 2026-05-02T02:36:00Z}"), StartSpec::Timestamp("2026-05-02T02:36:00Z".into()));
    assert_eq!(start("{group: billing}"), StartSpec::Group("billing".into()));
    assert_eq!(start("{offsets: {0: 12, 1: 30}}"), StartSpec::Offsets([(0, 12), (1, 30)].into()));
}

#[test]
fn an_event_time_is_a_word_a_field_or_a_bound_without_one() {
    let of = |text: &str| {
        let before = "event_time: {field: exchange_ts, unit: us, max_ahead: 1h}";
        assert!(GOOD.contains(before));
        let spec = JobSpec::parse(&GOOD.replace(before, &format!("event_time: {text}"))).unwrap();
        assert_eq!(JobSpec::parse(&spec.to_yaml()).unwrap(), spec);
        assert_eq!(serde_json::from_str::<JobSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
        spec.sources[0].event_time.clone()
    };
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
    assert_eq!(of("record-timestamp"), EventTimeSpec::RecordTimestamp { max_ahead: hour });
    assert_eq!(of("{max_ahead: 1m}"), EventTimeSpec::RecordTimestamp { max_ahead: minute });
    let field = |assume, max_ahead| {
        EventTimeSpec::Field(EventTimeField {
            field: "t".into(),
            unit: UnitSpec::Ms,
            assume,
            max_ahead,
            max_behind: None,
        })
    };
    assert_eq!(of("{field: t, unit: ms}"), field(None, hour));
    assert_eq!(of("{field: t, unit: ms, assume: UTC, max_ahead: 1m}"), field(Some(AssumeSpec::Utc), minute));
    for (text, expected) in [
        ("{field: t}", "missing field `unit`"),
        ("{unit: ms}", "missing field `field`: `unit`"),
        ("{assume: UTC}", "missing field `field`: `assume`"),
        ("{max_behind: 1h}", "missing field `field`: `max_behind`"),
    ] {
        let yaml = GOOD.replace("{field: exchange_ts, unit: us, max_ahead: 1h}", text);
        let error = JobSpec::parse(&yaml).unwrap_err().to_string();
        assert!(error.contains("line 9") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_cause_may_have_a_policy_of_its_own() {
    let spec =
        JobSpec::parse(&GOOD.replace("{policy: skip}", "{policy: fail, by_code: {missing-time: skip}}")).unwrap();
    assert_eq!(spec.bad_records.policies().by_code, [("missing-time".to_owned(), BadRecordPolicy::Skip)].into());
    assert!(!spec.bad_records.keeps_letters());
    assert_eq!(JobSpec::parse(&spec.to_yaml()).unwrap(), spec);
}

#[track_caller]
fn refused(yaml: &str, expected: &str) {
    assert_eq!(JobSpec::parse(yaml).unwrap_err().to_string(), expected);
}

#[test]
fn every_mistake_is_named_with_its_place_and_the_nearest_known_name() {
    refused(
        "name: a\nsouces: []\nsinks: []\n",
        "job spec, line 2, column 1: unknown field `souces`; did you mean `sources`? \
         (known: name, parallelism, sources, operators, sinks, bad_records, commit, consumer_group)",
    );
    refused(
        "name: a\nsources:\n  - {id: s, topic: t, decode: jsn}\nsinks: []\n",
        "job spec, line 3, column 31: unknown value `jsn`; did you mean `json`? (known: json, bytes)",
    );
    refused(
        "name: a\nsources:\n  - id: s\n    topic: t\n    watermark: {out_of_order: 2s}\nsinks: []\n",
        "job spec, line 5, column 17: unknown field `out_of_order`; did you mean `out_of_orderness`? \
         (known: out_of_orderness, idle_after)",
    );
    refused(
        "name: a\nsources:\n  - id: s\n    topic: t\n    event_time: {field: x, units: ms}\nsinks: []\n",
        "job spec, line 5, column 28: unknown field `units`; did you mean `unit`? \
         (known: field, unit, assume, max_ahead, max_behind)",
    );
    refused("name: a\nsources: []\n", "job spec, line 2, column 1: missing field `sinks`");
    refused(
        "name: a\nsources: []\nsinks: []\ncommit: {interval: 2 fortnights}\n",
        "job spec, line 4, column 20: `2 fortnights` is no duration: write a whole number and a unit, \
         like 100ms, 2s, 5m or 1h",
    );
    refused(
        "name: a\nsources:\n  - {id: s, topic: }\nsinks: []\n",
        "job spec, line 3, column 18: there is no value here: write one (in quotes where it is empty or `null`), or leave the field out",
    );
    refused(
        "name: a\nname: b\nsources: []\nsinks: []\n",
        "job spec, line 2, column 1: `name` stands here a second time: keep one of the two",
    );
    refused(
        "name: a\nparallelism: two\nsources: []\nsinks: []\n",
        "job spec, line 2, column 14: this is no whole number from 0 on (or a greater one than can be)",
    );
    refused("name: [\n", "job spec, line 1, column 7: a single value is expected here, and something else was found");
    refused(
        "name: a\nsources: {id: s}\nsinks: []\n",
        "job spec, line 2, column 10: a list (`[one, other]`, or one `- ` a line) is expected here, and something else was found",
    );
    refused("", "job spec, line 1, column 1: unexpected end of file");
}

#[test]
fn hostile_text_is_an_error_and_never_a_panic() {
    for yaml in ["&a [*a]", "a: &x [*x, *x]", "!!binary zz", "\u{0}", "- - - - -", "{{{{{{{{", "? : ?", "%YAML 9"] {
        assert!(JobSpec::parse(yaml).is_err(), "{yaml:?}");
    }
    let deep = "[".repeat(100_000);
    assert!(JobSpec::parse(&deep).is_err());
    let laughs = format!("a: &a [x,x,x,x,x,x,x,x,x]\n{}", "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n".repeat(50));
    assert!(JobSpec::parse(&laughs).is_err());
}

#[test]
fn durations_are_written_in_the_largest_whole_unit() {
    for text in ["0s", "1ns", "1500us", "100ms", "2s", "90s", "5m", "1h"] {
        assert_eq!(scalar::show_duration(scalar::parse_duration(text).unwrap()), text);
    }
    for text in ["", "5", "s", "-1s", "1.5s", "1w", "99999999999999h"] {
        scalar::parse_duration(text).unwrap_err();
    }
}

/// What reaches the module of a parameter that is written so.
fn parameter(written: &str) -> Result<String, String> {
    let yaml = GOOD.replace("ratio: 0.5", &format!("ratio: {written}"));
    let spec = JobSpec::parse(&yaml).map_err(|error| error.to_string())?;
    assert_eq!(JobSpec::parse(&spec.to_yaml()).unwrap(), spec, "{written}");
    Ok(spec.operators[0].parameters["ratio"].clone())
}

#[test]
fn parameters_reach_the_module_as_they_are_written() {
    for written in
        ["1.10", "010", "0x1F", "1e3", "12345678901234567890123", "-0", "1_000", "yes", "on", "True", ".inf", "a b"]
    {
        assert_eq!(parameter(written).as_deref(), Ok(written));
    }
    for (written, text) in [("\"\"", ""), ("'null'", "null"), ("\"1.10\"", "1.10"), ("\" a\\n\"", " a\n")] {
        assert_eq!(parameter(written).as_deref(), Ok(text));
    }
}

#[test]
fn a_parameter_without_a_value_or_given_twice_is_refused_in_our_words() {
    for written in ["", "null", "~"] {
        let refused = parameter(written).unwrap_err();
        assert!(refused.contains("there is no value here: write one (in quotes"), "{refused}");
    }
    let refused = parameter("1, ratio: 2").unwrap_err();
    assert!(refused.contains("`ratio` stands here a second time: keep one of the two"), "{refused}");
}

#[test]
fn a_parameter_that_is_a_map_or_a_list_is_refused_with_its_name_and_what_is_allowed() {
    for (written, found) in [("{levels: 10}", "a map"), ("[1, 2]", "a list")] {
        let refused = parameter(written).unwrap_err();
        assert!(refused.contains(&format!("parameter `ratio` of operator `enrich` is {found}")), "{refused}");
        assert!(refused.contains("write one value (`ratio: 10`)"), "{refused}");
    }
    let whole = |written: &str| {
        let yaml = GOOD.replace("{depth: 10, strict: true, venue: bitstamp, ratio: 0.5}", written);
        JobSpec::parse(&yaml).unwrap_err().to_string()
    };
    for (written, found) in [("[depth]", "a list"), ("depth", "a single value"), ("10", "a single value")] {
        let refused = whole(written);
        assert!(refused.contains(&format!("`parameters` of operator `enrich` is {found}: write a map")), "{refused}");
    }
    let block = whole("\n      depth:\n        - 1\n        - 2");
    assert!(block.contains("parameter `depth` of operator `enrich` is a list"), "{block}");
    assert!(whole("{[a]: b}").contains("a single value is expected here"), "{}", whole("{[a]: b}"));
    // Another place is not taken for a parameter.
    let elsewhere = GOOD.replace("ratio: 0.5", "ratio: [1]").replace("topic: enriched", "topic: [enriched]");
    assert!(JobSpec::parse(&elsewhere).unwrap_err().to_string().contains("parameter `ratio`"));
    let before = GOOD.replace("ratio: 0.5", "ratio: [1]").replace("start: earliest", "max_value_bytes: [1]");
    assert!(!JobSpec::parse(&before).unwrap_err().to_string().contains("parameter"), "{before}");
}

#[test]
fn a_secret_is_written_by_where_it_stands() {
    let yaml =
        GOOD.replace("parameters: {", "secrets: {token: {env: TOKEN}, key: {file: /run/key}}\n    parameters: {");
    let spec = JobSpec::parse(&yaml).unwrap();
    assert_eq!(spec.operators[0].secrets["token"], Secret::Env("TOKEN".into()));
    assert_eq!(spec.operators[0].secrets["key"], Secret::File("/run/key".into()));
    assert_eq!(JobSpec::parse(&spec.to_yaml()).unwrap(), spec);
    assert_eq!(serde_json::from_str::<JobSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    let clear = JobSpec::parse(&yaml.replace("{env: TOKEN}", "hunter2")).unwrap_err().to_string();
    assert!(clear.contains("write `{env: VARIABLE}` or `{file: /path}`"), "{clear}");
    assert!(!clear.contains("hunter2"), "{clear}");
}
