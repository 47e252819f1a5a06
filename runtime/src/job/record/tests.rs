use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Every kind of record with every field, as the golden files have them.
const GOLDEN: [(&str, &[u8]); 3] = [
    ("job/counts", include_bytes!("../store/golden/job-v2.json")),
    ("module/counter/1.0.0", include_bytes!("../store/golden/module-v2.json")),
    ("swap/00000000000000000000000000000001", include_bytes!("../store/golden/swap-v2.json")),
];

/// The objects of these records whose fields are names that users or modules give: there no field is unknown.
const NAMED_BY_USERS: [&str; 9] = [
    "/modules",
    "/sources",
    "/spec/operators/0/inputs",
    "/spec/operators/0/parameters",
    "/spec/sources/0/key",
    "/tasks",
    "/tasks/main~10/from",
    "/tasks/main~10/from/in",
    "/spec/bad_records/by_code",
];

fn parsed(golden: &[u8]) -> Value {
    serde_json::from_slice(golden).unwrap()
}

fn rewritten(key: &str, json: &Value) -> Value {
    let record = Record::from_json(&Key::parse(key).unwrap(), json.to_string().as_bytes()).unwrap();
    parsed(&record.to_json())
}

/// The bytes of every kind of record: a change of format shows here. Where an older program may leave it alone it needs
/// a greater minor number in [`FORMAT`], else a greater major one and new files.
#[test]
fn records_are_written_as_the_golden_files_have_them() {
    for (key, golden) in GOLDEN {
        assert_eq!(rewritten(key, &parsed(golden)), parsed(golden));
    }
}

#[test]
fn a_record_begins_with_its_format() {
    for (key, golden) in GOLDEN {
        let record = Record::from_json(&Key::parse(key).unwrap(), golden).unwrap();
        assert!(record.to_json().starts_with(br#"{"format":"2.0","#));
    }
}

#[test]
fn a_record_under_the_key_of_another_is_damaged() {
    let key = Key::parse("job/other").unwrap();
    let found = Record::from_json(&key, GOLDEN[0].1).unwrap_err();
    assert_eq!(found, Unreadable::Damaged("it says that it is job/counts".to_owned()));
}

#[test]
fn formats_read_what_they_write_and_nothing_else() {
    assert_eq!(Format::parse("2.10"), Some(Format { major: 2, minor: 10 }));
    assert!(Format::parse("2.10") > Format::parse("2.9"));
    for text in ["", "2", "2.", ".0", "2.0.0", "02.0", "2.-1", "+2.0", " 2.0", "2.4294967296"] {
        assert_eq!(Format::parse(text), None, "{text}");
    }
}

/// Every object of a record, as a JSON pointer, that a later release may give another field.
fn objects(json: &Value, at: &str, found: &mut Vec<String>) {
    match json {
        Value::Object(object) => {
            if !NAMED_BY_USERS.contains(&at) {
                found.push(at.to_owned());
            }
            for (name, inside) in object {
                objects(inside, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, inside)| objects(inside, &format!("{at}/{i}"), found));
        }
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn any_fields_that_a_later_release_adds_anywhere_are_written_again(
        which in 0..GOLDEN.len(),
        minor in 0..u32::MAX,
        added in proptest::collection::vec((any::<prop::sample::Index>(), "x-.{0,6}", any_json()), 0..6),
    ) {
        let (key, golden) = GOLDEN[which];
        let mut json = parsed(golden);
        json["format"] = format!("2.{minor}").into();
        let mut places = Vec::new();
        objects(&json, "", &mut places);
        for (place, name, value) in added {
            json.pointer_mut(&places[place.index(places.len())]).unwrap()[name] = value;
        }
        prop_assert_eq!(rewritten(key, &json), json);
    }

    #[test]
    fn no_bytes_panic(key in "(job|module|swap|other)(/.{0,5}){0,3}", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let key = Key::parse(&key).unwrap_or(Key::Job { name: "counts".to_owned() });
        let _ = Record::from_json(&key, &bytes);
    }

    #[test]
    fn a_record_with_any_damage_is_refused_or_read_and_never_panics(
        which in 0..GOLDEN.len(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let (key, golden) = GOLDEN[which];
        let key = Key::parse(key).unwrap();
        let mut bytes = golden.to_vec();
        bytes[at.index(golden.len())] = byte;
        if let Ok(record) = Record::from_json(&key, &bytes) {
            prop_assert_eq!(Record::from_json(&key, &record.to_json()), Ok(record));
        }
        bytes.truncate(cut.index(golden.len()));
        let _ = Record::from_json(&key, &bytes);
    }

    #[test]
    fn any_value_in_place_of_a_part_is_refused_or_read_and_never_panics(
        which in 0..GOLDEN.len(), place in any::<prop::sample::Index>(), value in any_json(),
    ) {
        let (key, golden) = GOLDEN[which];
        let mut json = parsed(golden);
        let mut places = Vec::new();
        objects(&json, "", &mut places);
        *json.pointer_mut(&places[place.index(places.len())]).unwrap() = value;
        let _ = Record::from_json(&Key::parse(key).unwrap(), json.to_string().as_bytes());
    }

    #[test]
    fn a_key_is_read_as_it_is_written_or_is_of_an_unknown_kind(text in "(job|module|swap|.{0,4})(/.{0,5}){0,3}") {
        if let Some(key) = Key::parse(&text) {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}
