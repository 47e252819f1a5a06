use proptest::prelude::*;

use super::*;

fn codec(key: Option<&str>, time: Option<(&str, TimeUnit)>) -> SourceCodec {
    let path = |text| FieldPath::parse(text).unwrap();
    SourceCodec {
        key: key.map_or(KeyRule::RecordKey, |key| KeyRule::Field(path(key))),
        event_time: time
            .map_or(EventTimeRule::RecordTimestamp, |(field, unit)| EventTimeRule::Field { path: path(field), unit }),
        max_ahead: None,
        ..SourceCodec::default()
    }
}

/// Key and time, or the code of the refusal.
fn one(codec: &SourceCodec, value: Option<&[u8]>) -> Result<(String, i64), &'static str> {
    let mut batch = PartitionBatch::new("t", 0);
    batch.push(0, 5, Some(b"record-key"), value);
    let mut decoded = Decoded::default();
    codec.decode(&batch, None, &mut decoded);
    match decoded.rejects.first() {
        Some(reject) => Err(reject.code),
        None => {
            let key = decoded.keys.as_ref().map_or(b"record-key".to_vec(), |keys| keys.bytes(0).to_vec());
            Ok((String::from_utf8(key).unwrap(), decoded.event_times[0]))
        }
    }
}

#[test]
fn key_and_time_are_picked_by_path() {
    let codec = codec(Some("a.sym"), Some(("t", TimeUnit::Ms)));
    let value = br#"{"x":[1,{"t":9}],"a":{"sym":"BTC\u0041","t":3},"t":1777689360123}"#;
    assert_eq!(one(&codec, Some(value)), Ok(("BTCA".into(), 1_777_689_360_123_000_000)));
    assert_eq!(one(&codec, Some(br#"{"a":{"sym":12.50},"t":"7"}"#)), Ok(("12.50".into(), 7_000_000)));
}

#[test]
fn key_and_time_may_stand_in_the_same_object_or_be_the_same_field() {
    let same = codec(Some("a.n"), Some(("a.n", TimeUnit::Ns)));
    assert_eq!(one(&same, Some(br#"{"a":{"n":12}}"#)), Ok(("12".into(), 12)));
    let beside = codec(Some("a.k"), Some(("a.t", TimeUnit::Ns)));
    assert_eq!(one(&beside, Some(br#"{"a":{"t":1,"k":"x"}}"#)), Ok(("x".into(), 1)));
}

#[test]
fn a_bad_value_is_refused_with_its_reason() {
    let codec = codec(Some("k"), Some(("t", TimeUnit::Us)));
    for (value, code) in [
        (&br#"{"k":"a","t":1"#[..], "malformed-json"),
        (br#"{"k":"a","t":1} x"#, "malformed-json"),
        (b"", "malformed-json"),
        (b"\xff\xfe", "malformed-json"),
        (br#"{"t":1}"#, "missing-key"),
        (br#"{"k":null,"t":1}"#, "missing-key"),
        (br#"[1,2]"#, "missing-time"),
        (br#"{"k":"a"}"#, "missing-time"),
        (br#"{"k":"a","t":true}"#, "missing-time"),
        (br#"{"k":"a","t":"soon"}"#, "missing-time"),
        (br#"{"k":"a","t":-1}"#, "time-out-of-range"),
        (br#"{"k":"a","t":99999999999999999999}"#, "time-out-of-range"),
    ] {
        assert_eq!(one(&codec, Some(value)), Err(code), "{}", String::from_utf8_lossy(value));
    }
    assert_eq!(one(&codec, None), Err("null-value"));
}

#[test]
fn oversized_values_are_refused_alone() {
    let codec = SourceCodec { max_value_bytes: 4, decode: Decode::Bytes, ..SourceCodec::default() };
    let mut batch = PartitionBatch::new("t", 0);
    [&b"1"[..], b"12345", b"2"].iter().enumerate().for_each(|(i, v)| batch.push(i as i64, 5, None, Some(v)));
    let mut decoded = Decoded::default();
    codec.decode(&batch, None, &mut decoded);
    assert_eq!(decoded.kept, [0, 2]);
    assert_eq!((decoded.rejects[0].index, decoded.rejects[0].code), (1, "oversized"));
}

#[test]
fn a_time_far_from_the_records_timestamp_is_refused() {
    let mut codec = codec(None, Some(("t", TimeUnit::Ms)));
    codec.max_ahead = Some(Duration::from_millis(10));
    codec.max_behind = Some(Duration::from_millis(3));
    assert!(one(&codec, Some(br#"{"t":15}"#)).is_ok());
    assert_eq!(one(&codec, Some(br#"{"t":16}"#)), Err("time-out-of-range"));
    assert!(one(&codec, Some(br#"{"t":2}"#)).is_ok());
    assert_eq!(one(&codec, Some(br#"{"t":1}"#)), Err("time-out-of-range"));
}

#[test]
fn decimals_and_rfc_3339_are_exact() {
    for (text, unit, expected) in [
        ("1.5", TimeUnit::S, 1_500_000_000),
        ("1777689360.123456789", TimeUnit::S, 1_777_689_360_123_456_789),
        ("1.0000009", TimeUnit::Us, 1_000),
        ("1e3", TimeUnit::Ns, 1_000),
        ("2026-05-02T02:36:00.5Z", TimeUnit::Rfc3339, 1_777_689_360_500_000_000),
    ] {
        assert_eq!(time::parse(text, unit), Ok(expected), "{text}");
    }
}

#[test]
fn a_key_in_the_wrong_partition_is_refused_by_name() {
    let codec = SourceCodec { decode: Decode::Bytes, ..SourceCodec::default() };
    let mut batch = PartitionBatch::new("t", (murmur2::partition(b"k", 8) + 1) % 8);
    batch.push(0, 5, Some(b"k"), Some(b"v"));
    batch.push(1, 5, None, Some(b"v"));
    let mut decoded = Decoded::default();
    codec.decode(&batch, Some(8), &mut decoded);
    let codes: Vec<_> = decoded.rejects.iter().map(|reject| reject.code).collect();
    assert_eq!(codes, ["wrong-partition", "missing-key"]);
    assert!(decoded.rejects[0].message.contains("murmur2_random"));
}

proptest! {
    #[test]
    fn well_formedness_is_what_serde_json_says(bytes in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        "[\\[\\]{}\":,0-9a-z .eE+-]{0,40}".prop_map(String::into_bytes),
    ]) {
        let path = FieldPath::parse("a.b").unwrap();
        let ours = json::scan(&bytes, Some(&path), Some(&path)).is_ok();
        prop_assert_eq!(ours, serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }

    #[test]
    fn fields_are_those_of_the_parsed_tree(key in "[a-z\"\\\\é]{0,6}", time in any::<u32>(), other in "[a-z]{1,4}") {
        let tree = serde_json::json!({ other: [1, {"t": 2}], "k": { "n": key }, "t": time });
        let bytes = serde_json::to_vec(&tree).unwrap();
        let fields = json::scan(&bytes, FieldPath::parse("k.n").ok().as_ref(), FieldPath::parse("t").ok().as_ref()).unwrap();
        prop_assert_eq!(fields.key.as_deref(), tree["k"]["n"].as_str());
        prop_assert_eq!(fields.time.as_deref(), Some(&*tree["t"].to_string()));
    }
}
