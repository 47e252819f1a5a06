use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::model::murmur2;

fn codec() -> SourceCodec {
    SourceCodec {
        decode: Decode::Json,
        key: KeyRule::Field(path("symbol")),
        event_time: field("ts", TimeUnit::Ms),
        max_ahead: None,
        max_behind: None,
        max_value_bytes: 1_000,
        partitioner: Partitioner::Murmur2,
    }
}

fn field(name: &str, unit: TimeUnit) -> EventTimeRule {
    EventTimeRule::Field { path: path(name), unit, assume_utc: false }
}

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

/// One record with this value, record key `k` and timestamp 1,000 ms.
fn one(value: Option<&[u8]>) -> PartitionBatch {
    let mut batch = PartitionBatch::new("t", 0);
    batch.push(7, 1_000, Some(b"k"), value);
    batch
}

/// `Ok` key and time of a single record, or `Err` the code.
fn judge(codec: &SourceCodec, value: Option<&[u8]>) -> Result<(Option<String>, EventTime), &'static str> {
    let mut out = Decoded::default();
    codec.decode(&one(value), 1_000 * NANOS_PER_MS, None, &mut out);
    match out.rejects.first() {
        Some(reject) => Err(reject.code),
        None => {
            let key = out.keys.as_ref().and_then(|keys| keys.get(0));
            Ok((key.map(|key| String::from_utf8(key.to_vec()).unwrap()), out.event_times[0]))
        }
    }
}

fn check(value: &str, key: &str, time: EventTime) {
    assert_eq!(judge(&codec(), Some(value.as_bytes())), Ok((Some(key.to_owned()), time)), "{value}");
}

fn refuse(value: &str, code: &str) {
    assert_eq!(judge(&codec(), Some(value.as_bytes())), Err(code), "{value}");
}

#[test]
fn key_and_time_are_picked_by_name() {
    check(r#"{"symbol":"BTC","ts":5}"#, "BTC", 5_000_000);
    check(r#" { "x" : [1,{"symbol":"no"}], "ts" : 5.5 , "symbol" : "B\u0054C" } "#, "BTC", 5_500_000);
    check(r#"{"sym\u0062ol":"BTC","ts":"5"}"#, "BTC", 5_000_000);
}

#[test]
fn a_numeric_key_is_its_literal_text() {
    check(r#"{"symbol":42,"ts":0}"#, "42", 0);
    check(r#"{"symbol":1.50e3,"ts":0}"#, "1.50e3", 0);
    check(r#"{"symbol":12345678901234567890123,"ts":0}"#, "12345678901234567890123", 0);
}

#[test]
fn of_fields_named_twice_the_last_counts() {
    check(r#"{"symbol":"a","ts":1,"symbol":"b","ts":2}"#, "b", 2_000_000);
}

#[test]
fn nested_fields_are_reached_by_dots() {
    let codec = SourceCodec {
        key: KeyRule::Field(path("order.id")),
        event_time: field("order.at.us", TimeUnit::Us),
        ..codec()
    };
    let value = br#"{"a.b":0,"order":{"at":{"us":7},"id":"o"},"id":"no"}"#;
    assert_eq!(judge(&codec, Some(value)), Ok((Some("o".into()), 7_000)));
    assert_eq!(judge(&codec, Some(br#"{"order":{"id":"o"},"order":{"at":{"us":7}}}"#)), Err(code::MISSING_KEY));
    assert_eq!(judge(&codec, Some(br#"{"order":3}"#)), Err(code::MISSING_KEY));
}

#[test]
fn each_fault_has_its_code() {
    for value in
        ["", "{", "[1,]", r#"{"symbol":"a","ts":1}x"#, r#"{"symbol":"a" "ts":1}"#, "{\"symbol\":\"\n\"}", "nul"]
    {
        refuse(value, code::MALFORMED_JSON);
    }
    for value in ["{}", "3", "[]", r#"{"symbol":null,"ts":1}"#, r#"{"symbol":{},"ts":1}"#, r#"{"symbol":true,"ts":1}"#]
    {
        refuse(value, code::MISSING_KEY);
    }
    for value in [r#"{"symbol":"a"}"#, r#"{"symbol":"a","ts":null}"#, r#"{"symbol":"a","ts":"soon"}"#] {
        refuse(value, code::MISSING_TIME);
    }
    for value in [r#"{"symbol":"a","ts":1e30}"#, r#"{"symbol":"a","ts":"9999-01-01T00:00:00Z"}"#] {
        refuse(value, code::TIME_OUT_OF_RANGE);
    }
    assert_eq!(judge(&codec(), Some(b"\"\xff\"")), Err(code::MALFORMED_JSON));
    assert_eq!(judge(&codec(), None), Err(code::NULL_VALUE));
    assert_eq!(judge(&codec(), Some(&[b' '; 1_001])), Err(code::OVERSIZED));
}

#[test]
fn a_message_stays_short_whatever_the_record_holds() {
    let mut out = Decoded::default();
    let value = format!(r#"{{"symbol":"a","ts":"{}"}}"#, "é".repeat(400));
    codec().decode(&one(Some(value.as_bytes())), 0, None, &mut out);
    assert!(out.rejects[0].message.len() < 250, "{}", out.rejects[0].message);
}

#[test]
fn bytes_are_taken_as_they_are_null_too() {
    let codec = SourceCodec {
        decode: Decode::Bytes,
        key: KeyRule::RecordKey,
        event_time: EventTimeRule::RecordTimestamp,
        ..codec()
    };
    for value in [None, Some(&b""[..]), Some(b"\xff{")] {
        assert_eq!(judge(&codec, value), Ok((None, 1_000_000_000)));
    }
}

#[test]
fn times_too_far_from_the_records_own_timestamp_are_refused() {
    let codec = SourceCodec {
        max_ahead: Some(Duration::from_millis(10)),
        max_behind: Some(Duration::from_millis(100)),
        ..codec()
    };
    let at = |ts: i64| judge(&codec, Some(format!(r#"{{"symbol":"a","ts":{ts}}}"#).as_bytes())).map(|(_, time)| time);
    assert_eq!(at(1_010), Ok(1_010_000_000));
    assert_eq!(at(1_011), Err(code::TIME_OUT_OF_RANGE));
    assert_eq!(at(900), Ok(900_000_000));
    assert_eq!(at(899), Err(code::TIME_OUT_OF_RANGE));
}

/// The message of the first reject of a record with this value and timestamp, read at `read_at_ms`.
fn found(codec: &SourceCodec, value: &str, stamp_ms: i64, read_at_ms: i64) -> Option<(&'static str, String)> {
    let mut batch = PartitionBatch::new("t", 0);
    batch.push(0, stamp_ms, Some(b"k"), Some(value.as_bytes()));
    let mut out = Decoded::default();
    codec.decode(&batch, read_at_ms * NANOS_PER_MS, None, &mut out);
    out.rejects.pop().map(|reject| (reject.code, reject.message))
}

#[track_caller]
fn said(codec: &SourceCodec, value: &str, stamp_ms: i64, code: &str, expected: &str) {
    let (found_code, message) = found(codec, value, stamp_ms, stamp_ms).unwrap();
    assert_eq!(found_code, code);
    assert!(message.contains(expected), "{message:?} does not say {expected:?}");
}

/// 2023-11-14T22:13:20Z
const PRESENT_MS: i64 = 1_700_000_000_000;

#[test]
fn a_timestamp_ahead_of_the_present_is_refused_with_or_without_a_field() {
    let hour = Some(Duration::from_secs(3_600));
    let stamped =
        SourceCodec { key: KeyRule::None, event_time: EventTimeRule::RecordTimestamp, max_ahead: hour, ..codec() };
    let of_field = SourceCodec { key: KeyRule::None, max_ahead: hour, ..codec() };
    let year_ms = 365 * 86_400_000;
    for (ahead_ms, taken) in [(0, true), (3_600_000, true), (3_600_001, false), (year_ms, false), (-year_ms, true)] {
        let stamp_ms = PRESENT_MS + ahead_ms;
        // Both clocks of the second are ahead by the same: its own timestamp says nothing.
        for (codec, value) in [(&stamped, "{}".to_owned()), (&of_field, format!(r#"{{"ts":{stamp_ms}}}"#))] {
            let refused = found(codec, &value, stamp_ms, PRESENT_MS);
            assert_eq!(refused.is_none(), taken, "{ahead_ms}: {refused:?}");
            if let Some((code, message)) = refused {
                assert_eq!(code, code::TIME_OUT_OF_RANGE);
                assert!(message.contains("ahead of the time at which it was read: a clock is wrong"), "{message}");
            }
        }
    }
    let any = SourceCodec { max_ahead: None, ..stamped };
    assert_eq!(found(&any, "{}", PRESENT_MS + year_ms, PRESENT_MS), None);
}

#[test]
fn timestamps_that_are_none_are_called_by_their_own_number() {
    let codec = SourceCodec { key: KeyRule::None, event_time: EventTimeRule::RecordTimestamp, ..codec() };
    said(&codec, "{}", -1, code::MISSING_TIME, "the record has no timestamp");
    said(&codec, "{}", -5, code::TIME_OUT_OF_RANGE, "the record's timestamp is -5 ms: Kafka has none before 1970");
    let far = i64::MAX / 1_000;
    said(&codec, "{}", far, code::TIME_OUT_OF_RANGE, "timestamp 9223372036854775 ms lies outside the years");
    assert_eq!(found(&codec, "{}", 0, 0), None);
}

#[test]
fn a_number_in_another_unit_than_the_specs_is_told_by_its_distance() {
    let of = |unit| SourceCodec { key: KeyRule::None, event_time: field("ts", unit), ..codec() };
    let value = |ts: &str| format!(r#"{{"ts":{ts}}}"#);
    let code = code::TIME_OUT_OF_RANGE;
    said(
        &of(TimeUnit::Ms),
        &value("1700000007"),
        PRESENT_MS,
        code,
        "field ts is 1700000007, under `unit: ms` 1970-01-20T16:13:20.007Z; it looks like `unit: s`, then it is \
         2023-11-14T22:13:27Z",
    );
    said(&of(TimeUnit::S), &value("1700000000000"), PRESENT_MS, code, "no time of 64 bits; it looks like `unit: ms`");
    said(&of(TimeUnit::Ns), &value("\"1700000000000000\""), PRESENT_MS, code, "it looks like `unit: us`");
    // Old, but not near the present under any other unit; and records of tests, which were written near 1970.
    assert_eq!(found(&of(TimeUnit::Ms), &value("1500000000"), PRESENT_MS, PRESENT_MS), None);
    assert_eq!(found(&of(TimeUnit::Ms), &value("1700000000"), 1_000, PRESENT_MS), None);
}

#[test]
fn a_time_without_an_offset_is_refused_for_that_or_assumed_to_be_utc() {
    let codec = SourceCodec { key: KeyRule::None, ..codec() };
    let value = r#"{"ts":"2023-11-14T22:13:20"}"#;
    said(&codec, value, PRESENT_MS, code::MISSING_TIME, "it lacks its offset from UTC; write one (`Z`, `+02:00`)");
    let event_time = EventTimeRule::Field { path: path("ts"), unit: TimeUnit::Ms, assume_utc: true };
    let assuming = SourceCodec { event_time, ..codec };
    assert_eq!(found(&assuming, value, PRESENT_MS, PRESENT_MS), None);
    said(&assuming, r#"{"ts":"noon"}"#, PRESENT_MS, code::MISSING_TIME, "expected milliseconds since 1970 or RFC 3339");
}

#[test]
fn fields_inside_arrays_are_reached_by_their_number() {
    let of = |key: &str, time: &str| SourceCodec {
        key: KeyRule::Field(path(key)),
        event_time: field(time, TimeUnit::Ms),
        ..codec()
    };
    let value = br#"{"data":[{"t":7,"s":["x","BTC"]},{"t":9}],"e":[]}"#;
    assert_eq!(judge(&of("data[0].s[1]", "data[1].t"), Some(value)), Ok((Some("BTC".into()), 9_000_000)));
    assert_eq!(judge(&of("data[2].s", "data[0].t"), Some(value)), Err(code::MISSING_KEY));
    assert_eq!(judge(&of("data[0].s[1]", "e[0]"), Some(value)), Err(code::MISSING_TIME));
    assert_eq!(judge(&of("data.s", "data[0].t"), Some(value)), Err(code::MISSING_KEY));
    assert_eq!(judge(&of("[1][0]", "[0]"), Some(b"[5,[\"k\"]]")), Ok((Some("k".into()), 5_000_000)));
    assert_eq!(judge(&of("[1]", "[0]"), Some(b"[5,[1,]]")), Err(code::MALFORMED_JSON));
}

#[test]
fn the_ends_of_time_are_no_event_times() {
    let codec = SourceCodec { event_time: field("ts", TimeUnit::Ns), ..codec() };
    for ts in [i64::MIN, i64::MAX] {
        let value = format!(r#"{{"symbol":"a","ts":{ts}}}"#);
        assert_eq!(judge(&codec, Some(value.as_bytes())), Err(code::TIME_OUT_OF_RANGE));
    }
}

#[test]
fn bad_records_leave_their_neighbours_alone() {
    let mut batch = PartitionBatch::new("t", 0);
    let big = vec![b'x'; 2_000];
    let values: [Option<&[u8]>; 5] =
        [Some(br#"{"symbol":"a","ts":1}"#), None, Some(&big), Some(b"{"), Some(br#"{"symbol":"b","ts":2}"#)];
    for (offset, value) in values.into_iter().enumerate() {
        batch.push(offset as i64, 0, None, value);
    }
    let mut out = Decoded::default();
    codec().decode(&batch, 0, None, &mut out);
    assert_eq!(out.kept, [0, 4]);
    assert_eq!(out.event_times, [1_000_000, 2_000_000]);
    assert_eq!(out.keys.as_ref().unwrap().iter().collect::<Vec<_>>(), [Some(&b"a"[..]), Some(b"b")]);
    let codes: Vec<_> = out.rejects.iter().map(|reject| (reject.index, reject.code)).collect();
    assert_eq!(codes, [(1, code::NULL_VALUE), (2, code::OVERSIZED), (3, code::MALFORMED_JSON)]);
}

#[test]
fn a_record_in_another_partition_than_its_keys_is_refused_with_the_remedy() {
    let codec = SourceCodec { key: KeyRule::RecordKey, ..codec() };
    let right = murmur2::partition(b"BTC", 8);
    for partition in 0..8 {
        let mut batch = PartitionBatch::new("t", partition);
        batch.push(0, 0, Some(b"BTC"), Some(br#"{"ts":1}"#));
        let mut out = Decoded::default();
        codec.decode(&batch, 0, Some(Spread { partitions: 8, tasks: 8 }), &mut out);
        assert_eq!(out.kept.len(), usize::from(partition == right));
        if let Some(reject) = out.rejects.first() {
            assert_eq!(reject.code, code::WRONG_PARTITION);
            let by_crc32 = Partitioner::Crc32.partition(b"BTC", 8) == Some(partition);
            let remedy = if by_crc32 { "set `partitioner: crc32`" } else { "or read it with `parallelism: 1`" };
            assert!(reject.message.contains(remedy), "{}", reject.message);
        }
    }
}

#[test]
fn where_one_task_reads_every_partition_no_record_is_in_a_wrong_one() {
    for partitioner in [Partitioner::Murmur2, Partitioner::Crc32, Partitioner::None] {
        let codec = SourceCodec { key: KeyRule::RecordKey, partitioner, ..codec() };
        for partition in 0..8 {
            let mut batch = PartitionBatch::new("t", partition);
            batch.push(0, 0, Some(b"BTC"), Some(br#"{"ts":1}"#));
            let mut out = Decoded::default();
            codec.decode(&batch, 0, Some(Spread { partitions: 8, tasks: 1 }), &mut out);
            assert_eq!((out.kept.len(), &out.rejects[..]), (1, &[][..]), "{partition}");
        }
    }
}

/// Values of zlib's `crc32`, which is librdkafka's.
#[test]
fn crc32_is_that_of_librdkafka() {
    for (key, hash) in [(&b"123456789"[..], 0xcbf4_3926), (b"", 0), (b"a", 0xe8b7_be43)] {
        assert_eq!(Partitioner::Crc32.hash(key), Some(hash));
    }
}

#[test]
fn a_source_is_checked_by_the_partitioner_that_it_names() {
    let spread = Some(Spread { partitions: 8, tasks: 4 });
    let taken = |partitioner, key: &str, partition| {
        let codec = SourceCodec { key: KeyRule::RecordKey, partitioner, ..codec() };
        let mut batch = PartitionBatch::new("t", partition);
        batch.push(0, 0, Some(key.as_bytes()), Some(br#"{"ts":1}"#));
        let mut out = Decoded::default();
        codec.decode(&batch, 0, spread, &mut out);
        out.rejects.pop().map(|reject| reject.message)
    };
    let mut hints = 0;
    for key in (0..50).map(|i| format!("k{i}")) {
        let at = |partitioner: Partitioner| partitioner.partition(key.as_bytes(), 8).unwrap();
        let (murmur2, crc32) = (at(Partitioner::Murmur2), at(Partitioner::Crc32));
        assert_eq!(taken(Partitioner::Crc32, &key, crc32), None);
        assert_eq!(taken(Partitioner::None, &key, crc32), None);
        let refused = taken(Partitioner::Murmur2, &key, crc32);
        hints += usize::from(refused.is_some_and(|message| message.contains("set `partitioner: crc32`")));
        let elsewhere = (0..8).find(|partition| ![crc32, crc32 % 4, murmur2].contains(partition)).unwrap();
        let message = taken(Partitioner::Crc32, &key, elsewhere).unwrap();
        assert!(message.contains(&format!("its key belongs to {crc32} of 8 by crc32")), "{message}");
    }
    assert!(hints > 30, "{hints}");
}

/// What was written before a topic grew stands where its keys belonged then.
#[test]
fn a_record_from_before_the_topic_grew_is_taken_where_its_key_leads_to_the_same_task() {
    let codec = SourceCodec { key: KeyRule::RecordKey, ..codec() };
    let taken = |key: &str, partition: PartitionId, spread| {
        let mut batch = PartitionBatch::new("t", partition);
        batch.push(0, 0, Some(key.as_bytes()), Some(br#"{"ts":1}"#));
        let mut out = Decoded::default();
        codec.decode(&batch, 0, Some(spread), &mut out);
        out.kept.len() == 1
    };
    let grown = Spread { partitions: 12, tasks: 2 };
    for key in (0..50).map(|i| format!("k{i}")) {
        for partitions in [2, 4, 6, 8, 10, 12] {
            assert!(taken(&key, murmur2::partition(key.as_bytes(), partitions), grown), "{key} of {partitions}");
        }
        for partition in 0..12 {
            let same_task = partition % 2 == murmur2::partition(key.as_bytes(), 2);
            assert!(same_task || !taken(&key, partition, grown), "{key} in {partition}");
        }
    }
}

#[test]
fn a_null_record_key_is_refused_only_where_state_is_kept_by_it() {
    let codec = SourceCodec { key: KeyRule::RecordKey, ..codec() };
    let mut batch = PartitionBatch::new("t", 0);
    batch.push(0, 0, None, Some(br#"{"ts":1}"#));
    let mut out = Decoded::default();
    codec.decode(&batch, 0, None, &mut out);
    assert_eq!((out.kept.len(), &out.keys), (1, &None));
    codec.decode(&batch, 0, Some(Spread { partitions: 4, tasks: 4 }), &mut out);
    assert_eq!(out.rejects[0].code, code::MISSING_KEY);
}

#[test]
fn a_source_without_keys_has_null_ones() {
    let codec = SourceCodec { key: KeyRule::None, ..codec() };
    let mut out = Decoded::default();
    codec.decode(&one(Some(br#"{"ts":1}"#)), 0, None, &mut out);
    assert!(out.keys.unwrap().is_null(0));
}

#[test]
fn depth_does_not_exhaust_the_stack() {
    let codec = SourceCodec { max_value_bytes: 1 << 24, ..codec() };
    let deep = format!(r#"{{"symbol":{}{},"ts":1}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
    assert_eq!(judge(&codec, Some(deep.as_bytes())), Err(code::MISSING_KEY));
}

#[test]
fn fields_of_bytes_are_refused_at_plan() {
    let codec = SourceCodec { decode: Decode::Bytes, ..codec() };
    assert_eq!(codec.check().unwrap_err().kind(), Kind::Invalid);
    assert!(super::tests::codec().check().is_ok());
}

#[test]
fn field_paths_read_what_they_write() {
    for text in ["a", "a.b.c", r"a\.b.c", r"back\\slash", "a[0]", "a[0][12].b", "[3].x", r"a\[0]", "a]"] {
        assert_eq!(path(text).to_string(), text);
    }
    for text in
        ["", ".", "a.", r"a\b", "a[", "a[]", "a[x]", "a[0]b", "a.[0]", "a[-1]", &"a.".repeat(40), &"[0]".repeat(40)]
    {
        assert!(FieldPath::parse(text).is_err(), "{text}");
    }
}

/// Texts near JSON: pieces that are well-formed by themselves, put together anyhow.
fn near_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just(" "),
        Just("\n"),
        Just("\\"),
        Just("\"symbol\""),
        Just("\"ts\""),
        Just("\"a\\u0062\""),
        Just("\"\\ud800\""),
        Just("null"),
        Just("true"),
        Just("-"),
        Just("0"),
        Just("17"),
        Just("1.5"),
        Just("1e999"),
        Just("e"),
        Just("é"),
        Just("\u{1}"),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Well-formed JSON with the wanted names at every depth.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\\\\\"é]{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("symbol|ts|order|x", inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_bytes_get_a_verdict(value in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = judge(&codec(), Some(&value));
    }

    /// A tree refuses more than the grammar does (numbers beyond floats, strings that are not Unicode,
    /// depth); skipping refuses less (the same in names). Between the two lies what is taken here.
    #[test]
    fn well_formedness_agrees_with_serde_json(value in near_json()) {
        let taken = judge(&codec(), Some(value.as_bytes())) != Err(code::MALFORMED_JSON);
        if serde_json::from_str::<Value>(&value).is_ok() {
            prop_assert!(taken, "refused: {value}");
        }
        if taken {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&value).is_ok(), "taken: {value}");
        }
    }

    #[test]
    fn picked_fields_are_those_of_a_tree(
        tree in json(),
        first in prop::sample::select(vec![("symbol", "/symbol"), ("order.symbol", "/order/symbol"), ("[1].x", "/1/x")]),
    ) {
        let text = tree.to_string();
        let paths = [path(first.0), path("order[1].symbol")];
        let found = scan::pick(&text, [paths[0].segments(), paths[1].segments()]).unwrap();
        let expected = [tree.pointer(first.1), tree.pointer("/order/1/symbol").filter(|_| tree["order"].is_array())];
        for (found, expected) in found.into_iter().zip(expected) {
            prop_assert_eq!(found.map(|json| serde_json::from_str::<Value>(json).unwrap()), expected.cloned());
        }
    }
}
