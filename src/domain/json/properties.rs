//! Promises that hold for every document and every way of cutting it: peek agrees with serde_json, edits change what they name.

use bytes::Bytes;
use proptest::prelude::*;

use super::fault::MAX_MODEL_BYTES;
use super::rename::{ModelRename, RenamePath, model_span, model_value};
use super::samples::{cut, cuts, document, members, span, wounded};
use super::splice::{Edit, splice};
use super::{AskedOutput, IncludeUsage, PeekError, Peeked, Peeker, peek};

const LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
const COUNTS: [&str; 2] = ["n", "best_of"];

fn peek_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Peeked, PeekError> {
    let mut peeker = Peeker::new();
    for chunk in chunks {
        peeker.push(chunk)?;
    }
    peeker.finish()
}

/// What peek should find, read by serde_json: model, stream, output, include_usage. `None`: the body must be refused.
fn reference(body: &[u8]) -> Option<(Option<String>, bool, AskedOutput, IncludeUsage)> {
    let members = members(body)?;
    let ours = ["model", "stream", "stream_options"].iter().chain(&LIMITS).chain(&COUNTS);
    if ours.into_iter().any(|key| members.iter().filter(|(other, _)| other.eq_ignore_ascii_case(key)).count() > 1) {
        return None;
    }
    let value = |key: &str| members.iter().find(|(other, _)| other == key).map(|(_, value)| *value);
    let model = match value("model") {
        Some(raw) if raw.starts_with('"') => Some(serde_json::from_str::<String>(raw).ok()?),
        _ => None,
    };
    if model.as_ref().is_some_and(|model| model.len() > MAX_MODEL_BYTES) {
        return None;
    }
    let include_usage = match value("stream_options") {
        Some(raw) if raw.starts_with('{') => {
            let options = super::samples::members(raw.as_bytes())?;
            if options.iter().filter(|(key, _)| key.eq_ignore_ascii_case("include_usage")).count() > 1 {
                return None;
            }
            match options.iter().find(|(key, _)| key == "include_usage") {
                Some((_, "true")) => IncludeUsage::True,
                Some(_) => IncludeUsage::False,
                None => IncludeUsage::Absent,
            }
        }
        _ => IncludeUsage::Absent,
    };
    let integer = |raw: &str| raw.bytes().all(|digit| digit.is_ascii_digit()).then(|| raw.parse().unwrap_or(u64::MAX));
    let in_any_case = |key: &str| members.iter().find(|(other, _)| other.eq_ignore_ascii_case(key));
    let limits = LIMITS.map(|key| match in_any_case(key)? {
        (name, value) if name == key && *value == "null" => None,
        (name, value) if name == key => Some(integer(value).unwrap_or(u64::MAX)),
        _ => Some(u64::MAX),
    });
    let counts = COUNTS.map(|key| integer(in_any_case(key)?.1));
    let ([max_tokens, max_completion_tokens, max_output_tokens], [n, best_of]) = (limits, counts);
    let output = AskedOutput { max_tokens, max_completion_tokens, max_output_tokens, n, best_of, prompts: None };
    Some((model, value("stream") == Some("true"), output, include_usage))
}

fn renamed(chunks: &[Bytes], path: RenamePath, to: &str) -> Vec<u8> {
    let mut rename = ModelRename::new(path, to);
    let mut out = Vec::new();
    for chunk in chunks {
        rename.push(chunk.clone(), &mut out);
    }
    rename.finish(&mut out);
    out.concat()
}

fn replaced(body: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut body = body.to_vec();
    let mut edits = edits.to_vec();
    edits.sort_by_key(|edit| edit.at.start);
    for edit in edits.into_iter().rev() {
        body.splice(edit.at, edit.with);
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// M8, M9: the same bodies are accepted as by a strict serde_json that refuses duplicates, and the same is read from them.
    #[test]
    fn m9_peek_agrees_with_serde_json(body in prop_oneof![wounded(), document().prop_map(String::into_bytes)]) {
        let found = peek(&body).ok().map(|found| (found.model.map(|model| model.name), found.stream, found.output, found.include_usage));
        prop_assert_eq!(found, reference(&body));
    }

    #[test]
    fn peek_finds_the_same_however_the_body_is_cut(body in wounded(), cuts in cuts()) {
        let whole = peek(&body);
        prop_assert_eq!(&peek_chunks(body.chunks(1)), &whole);
        prop_assert_eq!(&peek_chunks(cut(&body, &cuts).iter().map(|chunk| &**chunk)), &whole);
    }

    #[test]
    fn peek_takes_any_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(peek(&body).is_ok(), reference(&body).is_some());
    }

    /// M13: only the model's value changes, to the very name, whatever characters it has.
    #[test]
    fn m13_rename_model_changes_that_value_alone(body in document(), name in any::<String>(), cuts in cuts()) {
        let Ok(found) = peek(body.as_bytes()) else { return Ok(()) };
        let edit = found.rename_model(&name);
        prop_assert_eq!(edit.is_some(), found.model.is_some());
        let Some(edit) = edit else { return Ok(()) };
        let mut chunks = cut(body.as_bytes(), &cuts);
        splice(&mut chunks, vec![edit]);
        let after = chunks.concat();
        let value = serde_json::to_string(&name).unwrap();
        let expected: Vec<_> =
            members(body.as_bytes()).unwrap().into_iter().map(|(key, old)| if key == "model" { (key, &*value) } else { (key, old) }).collect();
        prop_assert_eq!(members(&after).unwrap(), expected);
    }

    /// U6: usage is asked for, every other member stays as it was written.
    #[test]
    fn u6_ask_for_usage_changes_that_member_alone(body in document(), cuts in cuts()) {
        let Ok(found) = peek(body.as_bytes()) else { return Ok(()) };
        let mut chunks = cut(body.as_bytes(), &cuts);
        let edit = found.ask_for_usage();
        prop_assert_eq!(edit.is_none(), found.include_usage == IncludeUsage::True);
        splice(&mut chunks, edit.into_iter().collect());
        let after = chunks.concat();
        prop_assert_eq!(peek(&after).unwrap().include_usage, IncludeUsage::True);
        prop_assert_eq!(peek(&after).unwrap().ask_for_usage(), None);

        let old = members(body.as_bytes()).unwrap();
        let new = members(&after).unwrap();
        let others = |members: &[(String, &str)], but: &str| -> Vec<(String, String)> {
            members.iter().filter(|(key, _)| key != but).map(|(key, value)| (key.clone(), (*value).to_owned())).collect()
        };
        prop_assert_eq!(others(&old, "stream_options"), others(&new, "stream_options"));
        let options = |members: &[(String, &str)]| -> Vec<(String, String)> {
            let raw = members.iter().find(|(key, _)| key == "stream_options").map_or("{}", |(_, raw)| *raw);
            super::samples::members(raw.as_bytes()).map_or_else(Vec::new, |options| others(&options, "include_usage"))
        };
        prop_assert_eq!(options(&old), options(&new));
    }

    #[test]
    fn splice_gives_what_replacing_in_one_buffer_gives(
        body in prop::collection::vec(any::<u8>(), 0..60),
        cuts in cuts(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..5)), 0..4),
    ) {
        let mut free = 0;
        let mut edits = Vec::new();
        for (start, len, with) in places {
            let start = free + start.index(body.len() - free + 1);
            let end = start + len.index(body.len() - start + 1);
            edits.push(Edit { at: start..end, with: with.into() });
            free = end;
        }
        let mut chunks = cut(&body, &cuts);
        splice(&mut chunks, edits.clone());
        prop_assert_eq!(chunks.concat(), replaced(&body, &edits));
    }

    /// M13: an answer names the model that the client asked for; every other byte is unchanged.
    #[test]
    fn m13_an_answers_model_is_renamed_however_it_is_cut(body in document(), name in any::<String>(), cuts in cuts()) {
        // serde_json refuses a key that is no text; the scanner passes it by.
        let body = body.replace(r"a\ud800", "other");
        let body = body.as_bytes();
        let top = members(body);
        let model = |members: Option<&Vec<(String, &str)>>| {
            let (_, raw) = members?.iter().find(|(key, value)| key == "model" && value.starts_with('"'))?;
            Some(span(body, raw))
        };
        let inner = top.as_ref().and_then(|top| {
            top.iter().filter(|(key, raw)| key == "message" && raw.starts_with('{')).find_map(|(_, raw)| model(members(raw.as_bytes()).as_ref()))
        });
        for (path, span) in [(RenamePath::TopLevel, model(top.as_ref())), (RenamePath::Nested("message"), inner)] {
            prop_assert_eq!(model_span(body, path), span.clone());
            let edits: Vec<_> = span.into_iter().map(|at| Edit { at, with: model_value(&name) }).collect();
            prop_assert_eq!(renamed(&cut(body, &cuts), path, &name), replaced(body, &edits));
        }
    }

    #[test]
    fn a_broken_answer_comes_out_the_same_however_it_is_cut(body in wounded(), cuts in cuts()) {
        for path in [RenamePath::TopLevel, RenamePath::Nested("response")] {
            let whole = renamed(&[Bytes::copy_from_slice(&body)], path, "m");
            let bytes: Vec<Bytes> = body.chunks(1).map(Bytes::copy_from_slice).collect();
            prop_assert_eq!(&renamed(&bytes, path, "m"), &whole);
            prop_assert_eq!(&renamed(&cut(&body, &cuts), path, "m"), &whole);
        }
    }
}
