//! Both ways are compared with serde_json: on values made at random, on their text damaged at random, and on the cases
//! that are easily got wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Scratch, from_text, text, write};

/// A source of chance that a seed repeats (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % limit
    }

    fn bits(&mut self) -> u64 {
        let high = self.below(1 << 32) << 32;
        (high | self.below(1 << 32)) >> self.below(64)
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 14] =
            ["a", "Z9", "ordinary ", "é", "漢", "🦀", "\"", "\\", "\n", "\u{1}", "\u{7f}", "/", "\u{1f}", "0"];
        // Mostly plain, so that there is more than the first escape to get wrong.
        let pieces = if self.below(3) == 0 { PIECES.len() } else { 6 } as u64;
        (0..self.below(12)).map(|_| PIECES[self.below(pieces) as usize]).collect()
    }

    fn float(&mut self) -> f64 {
        match self.below(4) {
            0 => self.below(1_000) as f64 / 8.0,
            1 => -(self.bits() as f64),
            2 => f64::from_bits(self.below(u64::MAX)),
            _ => [0.0, -0.0, f64::NAN, f64::INFINITY, 1e-7, 1e21, f64::MIN_POSITIVE][self.below(7) as usize],
        }
    }

    fn maybe<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| some(self))
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| one(self)).collect()
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => (self.below(2) == 0).into(),
            2 => self.bits().into(),
            3 => (self.bits() as i64).into(),
            4 => self.float().into(),
            5 => self.text().into(),
            6 => self.many(|chance| chance.value(depth - 1)).into(),
            _ => Value::Object(self.many(|chance| (chance.text(), chance.value(depth - 1))).into_iter().collect()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair(i64, Option<bool>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Bid,
    AskOrOffer,
    #[serde(rename = "odd \"name\"")]
    Odd,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    One(u8),
    Two(i32, String),
    Named { side: Side, size: f64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Small { number: u32 },
    Large { number: i64, note: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Float(f64),
    Text(String),
    List(Vec<Untagged>),
}

/// All that serde's data model has, but for byte strings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    tiny: (u8, i8, u16, i16),
    small: (u32, i32),
    large: (u64, i64),
    huge: (u128, i128),
    floats: Vec<f64>,
    single: f32,
    letter: char,
    text: String,
    newtype: Newtype,
    unit: Unit,
    nothing: (),
    pair: Pair,
    sides: Vec<Side>,
    shapes: Vec<Shape>,
    tagged: Option<Tagged>,
    untagged: Vec<Untagged>,
    by_text: BTreeMap<String, Option<u8>>,
    by_number: BTreeMap<i16, String>,
    by_flag: BTreeMap<bool, u8>,
    by_side: BTreeMap<Side, u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rare: Option<Box<Everything>>,
    #[serde(rename = "key with \"quotes\" and \\")]
    quoted: u8,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn everything(chance: &mut Chance, depth: u64) -> Everything {
    let side = |chance: &mut Chance| [Side::Bid, Side::AskOrOffer, Side::Odd][chance.below(3) as usize].clone();
    let finite = |chance: &mut Chance| Some(chance.float()).filter(|float| float.is_finite()).unwrap_or(2.5);
    Everything {
        flag: chance.below(2) == 0,
        tiny: (chance.bits() as u8, chance.bits() as i8, chance.bits() as u16, chance.bits() as i16),
        small: (chance.bits() as u32, chance.bits() as i32),
        large: (chance.bits(), chance.bits() as i64),
        huge: (u128::from(chance.bits()) << chance.below(64), -i128::from(chance.bits()) << chance.below(60)),
        floats: chance.many(finite),
        single: chance.below(1 << 24) as f32 / 512.0,
        letter: ['x', '"', '\n', 'é', '🦀'][chance.below(5) as usize],
        text: chance.text(),
        newtype: Newtype(chance.text()),
        unit: Unit,
        nothing: (),
        pair: Pair(chance.bits() as i64, chance.maybe(|chance| chance.below(2) == 0)),
        sides: chance.many(side),
        shapes: chance.many(|chance| match chance.below(4) {
            0 => Shape::Nothing,
            1 => Shape::One(7),
            2 => Shape::Two(-3, chance.text()),
            _ => Shape::Named { side: side(chance), size: finite(chance) },
        }),
        tagged: chance.maybe(|chance| match chance.below(2) {
            0 => Tagged::Small { number: chance.bits() as u32 },
            _ => Tagged::Large { number: chance.bits() as i64, note: chance.maybe(Chance::text) },
        }),
        untagged: chance.many(|chance| match chance.below(4) {
            0 => Untagged::Number(chance.bits()),
            1 => Untagged::Float(-0.5),
            2 => Untagged::Text(chance.text()),
            _ => Untagged::List(vec![Untagged::Number(1)]),
        }),
        by_text: chance.many(|chance| (chance.text(), chance.maybe(|_| 1))).into_iter().collect(),
        by_number: chance.many(|chance| (chance.bits() as i16, chance.text())).into_iter().collect(),
        by_flag: chance.many(|chance| (chance.below(2) == 0, 1)).into_iter().collect(),
        by_side: chance.many(|chance| (side(chance), 1)).into_iter().collect(),
        rare: if depth > 0 { chance.maybe(|chance| Box::new(everything(chance, depth - 1))) } else { None },
        quoted: 1,
        others: chance.many(|chance| (format!("_{}", chance.text()), chance.value(2))).into_iter().collect(),
    }
}

/// Ours, and serde_json's.
fn both_written<T: Serialize + ?Sized>(value: &T) -> [Result<String, String>; 2] {
    let mut scratch = Scratch::default();
    let ours = write(value, &mut scratch).map_err(|error| error.to_string());
    let ours = ours.map(|()| String::from_utf8(scratch.written().to_vec()).unwrap_or_default());
    [ours, serde_json::to_string(value).map_err(|error| error.to_string())]
}

fn check_written<T: Serialize + ?Sized>(value: &T) -> String {
    let [ours, theirs] = both_written(value);
    assert_eq!(ours, theirs);
    ours.unwrap_or_default()
}

/// Reads text both ways; they agree in value (as it is shown) or in error.
fn check_read<T: DeserializeOwned + Debug>(json: &str) {
    let shown = |read: serde_json::Result<T>| match read {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("refused: {error}"),
    };
    assert_eq!(shown(from_text(json)), shown(serde_json::from_str(json)), "{json}");
}

/// As many shapes as there are ways through a reader.
fn check_read_as_everything(json: &str) {
    check_read::<Everything>(json);
    check_read::<Value>(json);
    check_read::<BTreeMap<String, Value>>(json);
    check_read::<serde::de::IgnoredAny>(json);
    check_read::<Vec<Untagged>>(json);
    check_read::<BTreeMap<String, Option<Shape>>>(json);
    check_read::<(Lenient, String, Option<i8>)>(json);
    for scalar in [check_read::<u64>, check_read::<i8>, check_read::<f64>, check_read::<String>, check_read::<bool>] {
        scalar(json);
    }
    for scalar in [check_read::<f32>, check_read::<u128>, check_read::<()>, check_read::<char>, check_read::<Side>] {
        scalar(json);
    }
}

/// A number, whatever stands there: hides an error from its reader.
#[derive(Debug)]
struct Lenient(#[allow(dead_code, reason = "compared as it is shown")] u64);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(u64::deserialize(deserializer).unwrap_or(7)))
    }
}

#[test]
fn values_are_written_and_read_as_serde_json_does() {
    let mut chance = Chance(1);
    for _ in 0..400 {
        let json = check_written(&everything(&mut chance, 2));
        check_read_as_everything(&json);
        let json = check_written(&chance.value(4));
        check_read_as_everything(&json);
        let pretty: Value = serde_json::from_str(&json).unwrap_or_default();
        check_read_as_everything(&serde_json::to_string_pretty(&pretty).unwrap_or_default());
    }
}

#[test]
fn damaged_text_is_refused_with_the_words_of_serde_json() {
    const BYTES: &[u8] = b"\"\\{}[]:, \n0-19.eE+tfnu\x00\x1fa/";
    let mut chance = Chance(2);
    for _ in 0..3_000 {
        let mut json = serde_json::to_vec(&everything(&mut chance, 0)).unwrap_or_default();
        for _ in 0..1 + chance.below(2) {
            let at = chance.below(json.len() as u64) as usize;
            let byte = BYTES[chance.below(BYTES.len() as u64) as usize];
            match chance.below(4) {
                0 => json.truncate(at),
                1 => json.insert(at, byte),
                2 => drop(json.remove(at)),
                _ => json[at] = byte,
            }
            if json.is_empty() {
                break;
            }
        }
        if let Ok(json) = std::str::from_utf8(&json) {
            check_read::<Everything>(json);
            check_read::<Value>(json);
            check_read::<serde::de::IgnoredAny>(json);
        }
    }
}

#[test]
fn cases_that_are_easily_got_wrong_are_read_alike() {
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let numbers = [
        "0",
        "-0",
        "00",
        "01",
        "-01",
        "-",
        "+1",
        "1.",
        ".5",
        "1.5",
        "-1.5e3",
        "1e",
        "1e+",
        "1E5",
        "1e400",
        "12345678",
        "123456789",
        "99999999999999999",
        "999999999999999999",
        "1000000000000000000",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "1x",
        "1 ",
        " 1",
        "1 2",
        "1-2",
        "0x10",
        "300",
        "-129",
        "1,",
        "1]",
    ];
    let texts = [
        "\"\"",
        "\"a",
        "\"",
        "\"\\",
        "\"\\\"",
        "\"\\u00e9\"",
        "\"\\ud83e\\udd80\"",
        "\"\\ud83e\"",
        "\"\\x\"",
        "\"\t\"",
        "\"1234567\"",
        "\"12345678\"",
        "\"123456789\"",
        "\"\\\\\"",
        "\"a\\nb\" ",
        "\"a\"b",
        "\"Bid\"",
        "\"bid\"",
        "\"odd \\\"name\\\"\"",
        "\"é\"",
    ];
    let others = [
        "",
        " ",
        "null",
        "nul",
        "nulll",
        "true",
        "truefalse",
        "[]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[",
        "]",
        "{",
        "}",
        "{}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{\"a\":1,\"a\":2}",
        "{\"One\":1}",
        "{\"One\":1,\"Two\":2}",
        "{\"Nothing\":null}",
        "{\"Two\":[1,\"x\"]}",
        "{\"x\":{\"One\":300}}",
        "{\"a\":\"Nothing\"}",
        "[{\"a\":1},\"b\",3]",
        "[-,\"b\",3]",
        "[\"x\",\"b\",3]",
        "[1.5,\"b\",3]",
        "[{\"a\":{}},\"b\",3]",
        "[{\"a\":1,\"b\",3]",
        "[[1,2],\"b\",null]",
        "\u{a0}1",
        "1\u{feff}",
        "\u{c}1",
        "[\"\\u0062\",\"\\\\\",3]",
        "{\"\\u0061\":{\"One\":1}}",
        "{\"number\":1,\"kind\":\"Small\"}",
    ];
    let deep = [deep(90), deep(101), deep(127), deep(128), deep(200)];
    for json in numbers.into_iter().chain(texts).chain(others).chain(deep.iter().map(String::as_str)) {
        check_read_as_everything(json);
        check_read::<Tagged>(json);
        check_read::<BTreeMap<i16, u8>>(json);
        check_read::<BTreeMap<bool, u8>>(json);
        check_read::<BTreeMap<Side, u8>>(json);
        check_read::<[Newtype; 1]>(json);
        check_read_as_everything(&format!("[{json}]"));
        check_read_as_everything(&format!("{{\"a\":{json},\"b\":1}}"));
    }
}

#[test]
fn strings_are_borrowed_where_nothing_in_them_is_escaped() {
    let json = r#"["plain", "es\u0063aped"]"#;
    let [plain, escaped]: [CowText; 2] = from_text(json).unwrap();
    assert!(matches!(plain.0, Cow::Borrowed("plain")));
    assert!(matches!(escaped.0, Cow::Owned(text) if text == "escaped"));
}

#[derive(Deserialize)]
struct CowText<'a>(#[serde(borrow)] Cow<'a, str>);

#[test]
fn cases_that_are_easily_got_wrong_are_written_alike() {
    for number in [0, 1, 9, 10, 99_999_999, 100_000_000, 9_999_999_999_999_999, 10_000_000_000_000_000, u64::MAX] {
        check_written(&[number, number / 3]);
        check_written(&[number as i64, -(number as i64 / 3), i64::MIN]);
    }
    for len in 0..40 {
        let plain = "abcdefghijklmnopqrstuvwxyzäöü0123456789漢字".chars().take(len).collect::<String>();
        check_written(&plain);
        for at in 0..=plain.chars().count() {
            let mut marked: Vec<char> = plain.chars().collect();
            marked.insert(at, ['"', '\\', '\n', '\u{0}', '\u{1f}', '\u{8}', '\u{c}', '\r', '\t'][at % 9]);
            check_written(&marked.iter().collect::<String>());
        }
    }
    for float in [0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 1e-5, f64::NAN, f64::NEG_INFINITY, f64::MAX] {
        check_written(&(float, float as f32));
    }
    check_written(&Displayed);
    check_written(&ByteString(&[0, 7, 255]));
    check_written(&BTreeMap::from([(1_i128, 'a'), (-5, '"')]));
    check_written(&BTreeMap::from([('"', ())]));
    check_written(&BTreeMap::from([(Some("some"), ())]));
}

#[test]
fn keys_that_are_no_text_are_refused_with_the_words_of_serde_json() {
    check_written(&BTreeMap::from([((), 1)]));
    check_written(&BTreeMap::from([(vec![1], 1)]));
    check_written(&BTreeMap::from([(None::<u8>, 1)]));
    check_written(&BTreeMap::from([(("a", "b"), 1)]));
    check_written(&FloatKey(f64::NAN));
    check_written(&FloatKey(1.5));
    let [ours, theirs] = both_written(&Failing);
    assert_eq!(ours, theirs);
    assert_eq!(ours.unwrap_err(), "it cannot be written");
}

struct Displayed;

impl Serialize for Displayed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} \"{}\"\n", 1, "é"))
    }
}

struct ByteString(&'static [u8]);

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct FloatKey(f64);

impl Serialize for FloatKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.0, 1)])
    }
}

struct Failing;

impl Serialize for Failing {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it cannot be written"))
    }
}

#[test]
fn bytes_are_text_where_they_are_utf_8() {
    for len in 0..100 {
        let mut bytes = vec![b'a'; len];
        assert!(text(&bytes).is_some());
        for at in 0..len {
            bytes[at] = 0xC3;
            assert_eq!(text(&bytes), None);
            if at + 1 < len {
                bytes[at + 1] = 0xA9;
                assert_eq!(text(&bytes), std::str::from_utf8(&bytes).ok());
                assert!(text(&bytes).is_some());
                bytes[at + 1] = b'a';
            }
            bytes[at] = b'a';
        }
    }
}
