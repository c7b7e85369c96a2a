//! Documents for the property tests: request-like objects with odd keys, odd escapes and odd spaces, whole or with a wound, in any chunks;
//! and a reference that reads them by serde_json.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

const KEYS: &[&str] = &[
    "model",
    "model",
    "model",
    r"mod\u0065l",
    "Model",
    "stream",
    "stream_options",
    r"stream\u005foptions",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "Max_Tokens",
    "n",
    "N",
    "best_of",
    "message",
    "response",
    "include_usage",
    "messages",
    r"a\ud800",
    "",
    "é",
];
const SCALARS: &[&str] = &["true", "false", "null", "0", "-0", "12", "4096", "1e3", "1.5E-7", "18446744073709551616", "\"m\""];
const TEXTS: &[&str] = &[
    "model",
    r#"\""#,
    r"\n",
    r"\\",
    r"\\\\",
    r"\/",
    r"\t",
    r"\u002d",
    r"\u00e9",
    r"\ud83d\ude00",
    r"\ud83d",
    "é",
    "😀",
    "中文",
    "x",
    "gpt-4",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    r#"if a {\n\treturn \"b\";\n}\n\n    let c = d[0];\n"#,
    r#"{\"a\":\"b\\n\\\"c\\\"\"}"#,
];

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(select(TEXTS), 0..8).prop_map(|parts| parts.concat())
}

fn string() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("\"{text}\""))
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => select(SCALARS).prop_map(str::to_owned), 3 => string()];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), space())
                .prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},")))),
            object(inner, 4),
        ]
    })
}

fn object(value: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = String> {
    let member = (select(KEYS), space(), value).prop_map(|(key, s, value)| format!("\"{key}\"{s}:{value}{s}"));
    (prop::collection::vec(member, 0..most), space())
        .prop_map(|(members, s)| format!("{{{s}{}}}", members.join(&format!(",{s}"))))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(""), 1 => select(vec![" ", "\n", "\r\n\t ", "  "])]
}

/// A JSON object, often with keys that count; now and then one of them twice.
pub fn document() -> impl Strategy<Value = String> {
    let options = object(prop_oneof![select(SCALARS).prop_map(str::to_owned)], 3);
    let members = prop_oneof![4 => value(), 1 => options.prop_map(|options| options)];
    (space(), object(members, 6), space()).prop_map(|(before, object, after)| format!("{before}{object}{after}"))
}

/// A document that is most often broken somewhere.
pub fn wounded() -> impl Strategy<Value = Vec<u8>> {
    let bytes = select(b"{}[]:,\"\\ \n\0\x1f0159-+.eEtfnu/x\x7f\x80\xc3\xa9\xff\xef\xbb\xbf".as_slice());
    (document(), prop::collection::vec((any::<Index>(), bytes, 0..5_u8), 0..3)).prop_map(|(document, wounds)| {
        let mut document = document.into_bytes();
        for (place, byte, kind) in wounds {
            let at = place.index(document.len() + 1);
            match kind {
                0 => document.truncate(at),
                1 => document.insert(at, byte),
                2 if at < document.len() => drop(document.remove(at)),
                3 if at < document.len() => document[at] = byte,
                _ => document.splice(at..at, document.clone()).for_each(drop),
            }
            document.truncate(20_000);
        }
        document
    })
}

/// Cuts a text at any places, empty chunks included.
pub fn cut(whole: &[u8], places: &[Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(whole.len() + 1)).collect();
    places.sort_unstable();
    places.push(whole.len());
    let whole = Bytes::copy_from_slice(whole);
    let mut from = 0;
    places.into_iter().map(|to| whole.slice(std::mem::replace(&mut from, to)..to)).collect()
}

pub fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..12)
}

/// The members of an object in their order, duplicates kept, keys decoded, values as written.
pub fn members(json: &[u8]) -> Option<Vec<(String, &str)>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let members = deserializer.deserialize_map(Members).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

/// Where a part of a text stands in it.
pub fn span(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            members.push((key, value.get()));
        }
        Ok(members)
    }
}
