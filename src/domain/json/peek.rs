//! Reads what routing and billing need to know out of a request's body while its chunks arrive.
//!
//! The body is neither kept nor changed here; all of it is validated, because a body that gateway and provider could read
//! differently would be billed for the wrong model. Only keys of the top level count, escapes in them decoded (M8, M9).
//!
//! Two keys that differ in the case of letters alone are duplicates too: parsers that match names without case (Go's `encoding/json`)
//! would take either one. A key that is spelled in another case is not read as ours, so `{"Model": …}` names no model; only of
//! [`super::AskedOutput`] it counts, where such a parser would let the request cost more (`{"N": 10}`).
//!
//! A `\u` escape of half a surrogate pair is refused in keys and in the model's name. In all other text it passes: JavaScript writes
//! such escapes when it cuts a text inside an emoji, and that text is the provider's to judge.

use super::fault::PeekError;
use super::findings::Findings;
use super::peeked::Peeked;
use super::scan::Scanner;

/// Scans one body.
#[derive(Debug)]
pub struct Peeker {
    scanner: Scanner,
    findings: Findings,
    fault: Option<PeekError>,
}

/// Reads a body that is already whole.
pub fn peek(body: &[u8]) -> Result<Peeked, PeekError> {
    let mut peeker = Peeker::new();
    peeker.push(body)?;
    peeker.finish()
}

impl Peeker {
    pub fn new() -> Self {
        Self { scanner: Scanner::new(), findings: Findings::new(), fault: None }
    }

    /// Reads the next bytes, cut anywhere. The first fault is final: every later call repeats it.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), PeekError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.scanner.push(chunk, &mut self.findings).inspect_err(|fault| self.fault = Some(fault.clone()))
    }

    /// Says what was found, once the body has ended.
    pub fn finish(self) -> Result<Peeked, PeekError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.scanner.finish()?;
        Ok(self.findings.into_peeked())
    }
}

impl Default for Peeker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::MAX_MODEL_BYTES;
    use super::super::peeked::{AskedOutput, IncludeUsage};
    use super::*;

    fn model(body: &str) -> Option<String> {
        peek(body.as_bytes()).unwrap().model.map(|model| model.name)
    }

    fn fault(body: impl AsRef<[u8]>) -> PeekError {
        peek(body.as_ref()).unwrap_err()
    }

    fn nested(depth: usize) -> String {
        format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn m8_finds_the_model_first_last_after_long_text_and_after_deep_nesting() {
        assert_eq!(model(r#"{"model":"m","b":1}"#).as_deref(), Some("m"));
        assert_eq!(model(r#"{"b":1,"model":"m"}"#).as_deref(), Some("m"));
        assert_eq!(model(" {\r\n\t\"model\" : \"m\" } \n").as_deref(), Some("m"));
        for text in ["x".repeat(100_000), r#"\n\"quoted\"\\"#.repeat(8_000), "é😀".repeat(20_000), r"\u00e9".repeat(20_000)] {
            assert_eq!(model(&format!(r#"{{"b":"{text}","model":"m"}}"#)).as_deref(), Some("m"));
        }
        let deep = nested(100);
        assert_eq!(model(&format!(r#"{{"b":{deep},"model":"m"}}"#)).as_deref(), Some("m"));
    }

    #[test]
    fn m8_a_nested_model_or_a_value_that_reads_model_never_wins() {
        assert_eq!(model(r#"{"a":{"model":"x"},"b":[{"model":"y"}],"c":"model","model":"m"}"#).as_deref(), Some("m"));
        assert_eq!(model(r#"{"a":{"model":"x"},"b":[{"model":"y"},"model","z"],"c":"model"}"#), None);
        assert_eq!(model(r#"{"stream_options":{"model":"x","max_tokens":1,"stream":true}}"#), None);
        assert_eq!(model(r#"{"a":"\",\"model\":\"x"}"#), None);
    }

    #[test]
    fn m9_a_model_that_is_no_string_counts_as_missing() {
        for value in ["null", "true", "1", "1.5e3", "[\"m\"]", "{\"model\":\"m\"}"] {
            assert_eq!(model(&format!(r#"{{"model":{value},"b":"c"}}"#)), None, "{value}");
        }
    }

    #[test]
    fn m9_escapes_are_decoded_in_the_value_and_in_the_key() {
        assert_eq!(model(r#"{"model":"gpt\u002d4"}"#).as_deref(), Some("gpt-4"));
        assert_eq!(model(r#"{"mod\u0065l":"gpt-4"}"#).as_deref(), Some("gpt-4"));
        assert_eq!(model(r#"{"model":"\ud83d\ude00\/"}"#).as_deref(), Some("😀/"));
        let body = r#" {"mod\u0065l": "gpt\u002d4"}"#;
        assert_eq!(&body[peek(body.as_bytes()).unwrap().model.unwrap().span], r#""gpt\u002d4""#);
    }

    #[test]
    fn m9_a_second_model_is_refused_however_it_is_spelled() {
        for second in [r#""model""#, r#""mod\u0065l""#, r#""\u006dodel""#, r#""Model""#, r#""MODEL""#] {
            for body in [format!(r#"{{"model":"a",{second}:"a"}}"#), format!(r#"{{{second}:null,"b":[],"model":"a"}}"#)] {
                let fault = fault(&body);
                assert!(matches!(fault, PeekError::DuplicateKey { key: "model", .. }), "{body}: {fault}");
                assert!(fault.is_ambiguous());
                assert_eq!((fault.code(), fault.param()), ("duplicate_key", Some("model")));
            }
        }
        assert_eq!(model(r#"{"Model":"a"}"#), None);
    }

    #[test]
    fn m9_a_duplicate_of_any_key_that_is_acted_on_is_refused() {
        for key in
            ["stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "prompt"]
        {
            let fault = fault(format!(r#"{{"{key}":1,"{key}":1}}"#));
            assert_eq!((fault.param(), fault.is_ambiguous()), (Some(key), true), "{key}");
        }
        let twice = fault(r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#);
        assert_eq!((twice.param(), twice.is_ambiguous()), (Some("stream_options.include_usage"), true));
        assert!(peek(br#"{"b":1,"b":2,"stream_options":{"b":1,"b":2},"max_tokens":1,"max_output_tokens":2}"#).is_ok());
    }

    #[test]
    fn m9_a_top_level_that_is_no_object_is_refused() {
        for body in ["[]", r#"["model"]"#, r#""model""#, "1", " 12 ", "-0.5e1", "null", "true", "false\n"] {
            let fault = fault(body);
            assert!(matches!(fault, PeekError::NotAnObject { .. }) && fault.is_ambiguous(), "{body}: {fault}");
        }
    }

    #[test]
    fn m9_trailing_data_is_refused() {
        for (body, offset) in [("{}{}", 2), ("{} x", 3), (r#"{"model":"a"}{"model":"b"}"#, 13), ("{},", 2), ("{}\0", 2)] {
            assert_eq!(fault(body), PeekError::TrailingData { offset }, "{body}");
            assert!(fault(body).is_ambiguous());
        }
    }

    #[test]
    fn m9_raw_control_characters_are_refused() {
        for control in 0..0x20_u8 {
            for before in [0, 7, 40, 100] {
                let mut body = br#"{"a":""#.to_vec();
                body.resize(body.len() + before, b'x');
                let offset = body.len();
                body.push(control);
                body.extend_from_slice(&[b'y'; 100]);
                body.extend_from_slice(br#""}"#);
                assert_eq!(fault(&body), PeekError::ControlCharacter { offset });
            }
        }
        assert!(fault("{\"a\":\"\\\n\"}").is_ambiguous());
        assert!(peek("{\"a\":\"\u{7f}\"}".as_bytes()).is_ok());
    }

    #[test]
    fn m9_utf16_is_refused_and_not_taken_for_mere_nonsense() {
        for body in [&b"{\0\"\0m\0"[..], b"\0{\0\"", b"\xff\xfe{\0", b"\xfe\xff\0{"] {
            assert!(fault(body).is_ambiguous());
        }
    }

    #[test]
    fn m9_invalid_utf8_is_refused_with_its_place() {
        for bad in [&b"\xff"[..], b"\xc3(", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xf0\x9f\x98"] {
            for body in [[br#"{"a":""#, bad, br#"","model":"m"}"#].concat(), [br#"{"a":"#, bad].concat()] {
                let fault = fault(&body);
                assert!(
                    matches!(fault, PeekError::InvalidUtf8 { offset } if offset == body.len().min(6) || offset == 5),
                    "{bad:x?} {fault}"
                );
                assert!(fault.is_ambiguous());
            }
        }
    }

    #[test]
    fn m9_depth_128_is_read_and_129_is_refused() {
        assert!(peek(nested(128).as_bytes()).is_ok());
        assert_eq!(fault(nested(129)), PeekError::TooDeep { offset: 5 + 127 });
        assert!(fault("{\"a\":".repeat(100_000)).is_ambiguous());
    }

    #[test]
    fn a_byte_order_mark_is_refused() {
        let fault = fault("\u{feff}{}");
        assert!(fault.is_ambiguous());
        assert_eq!(fault, PeekError::ByteOrderMark);
    }

    #[test]
    fn a_plain_syntax_error_is_not_ambiguous() {
        for body in [
            "",
            " \n",
            "{",
            r#"{"model""#,
            r#"{"model":"gpt-4"#,
            r#"{"model":"gpt-4""#,
            "not json",
            "invalid json",
            "tru",
            "-",
            "{model:1}",
            "{'model':1}",
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1,}"#,
            "{,}",
            r#"{"a":[1,]}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":+1}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e}"#,
            r#"{"a":-}"#,
            r#"{"a":nul}"#,
            r#"{"a":True}"#,
            r#"{"a":NaN}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            r#"{"a":[}"#,
            r#"{"a":{]"#,
            "{\"a\":\u{201c}x\u{201d}}",
            "}",
            "{]",
            "{} ".trim_end_matches("} "),
        ] {
            assert!(!fault(body).is_ambiguous(), "{body}: {}", fault(body));
        }
        assert_eq!(fault(""), PeekError::Empty);
        assert_eq!(fault(" \r\n"), PeekError::Empty);
    }

    #[test]
    fn half_of_a_surrogate_pair_is_refused_in_keys_and_in_the_model_and_passes_elsewhere() {
        assert_eq!(fault(r#"{"model":"a\ud800"}"#), PeekError::LoneSurrogate { param: Some("model"), offset: 9 });
        assert_eq!(fault(r#"{"model\ud800":"a"}"#), PeekError::LoneSurrogate { param: None, offset: 1 });
        assert_eq!(model(r#"{"messages":[{"content":"cut \ud83d"}],"model":"m"}"#).as_deref(), Some("m"));
    }

    #[test]
    fn a_model_name_has_at_most_512_bytes_when_decoded() {
        for (unit, bytes) in [("a", 1), (r"\u0061", 1), ("é", 2), (r"\u00e9", 2), (r"\ud83d\ude00", 4)] {
            let name = unit.repeat(MAX_MODEL_BYTES / bytes);
            assert_eq!(model(&format!(r#"{{"model":"{name}"}}"#)).map(|name| name.len()), Some(MAX_MODEL_BYTES));
            let too_long = fault(format!(r#"{{"model":"{name}a"}}"#));
            assert_eq!(too_long, PeekError::ModelTooLong { offset: 9 });
            assert!(too_long.is_ambiguous());
        }
        assert_eq!(fault(format!(r#"{{"model":"{}"}}"#, "a".repeat(100_000))), PeekError::ModelTooLong { offset: 9 });
    }

    #[test]
    fn stream_is_true_only_for_the_literal() {
        for (value, stream) in
            [("true", true), ("false", false), ("null", false), ("1", false), (r#""true""#, false), ("[true]", false)]
        {
            assert_eq!(peek(format!(r#"{{"a":true,"stream":{value},"b":true}}"#).as_bytes()).unwrap().stream, stream, "{value}");
        }
        assert!(!peek(br#"{"a":{"stream":true}}"#).unwrap().stream);
    }

    fn output(members: &str) -> AskedOutput {
        peek(format!("{{{members}}}").as_bytes()).unwrap().output
    }

    #[test]
    fn g4_every_limit_of_the_output_is_kept_apart() {
        let asked = AskedOutput {
            max_tokens: Some(5),
            max_completion_tokens: Some(70),
            max_output_tokens: Some(6),
            n: Some(2),
            best_of: Some(3),
            prompts: None,
        };
        let members = r#""max_tokens":5,"max_completion_tokens":70,"max_output_tokens":6,"n":2,"best_of":3"#;
        assert_eq!(output(members), asked);
        assert_eq!(output(r#""a":{"max_tokens":5,"n":2},"stream_options":{"max_tokens":5,"n":2}"#), AskedOutput::default());
    }

    #[test]
    fn g4_a_limit_that_is_no_non_negative_integer_limits_nothing_and_such_an_n_counts_no_answers() {
        for (value, limit, count) in [
            ("5", Some(5), Some(5)),
            ("0", Some(0), Some(0)),
            ("null", None, None),
            ("-5", Some(u64::MAX), None),
            ("1.5", Some(u64::MAX), None),
            ("1e3", Some(u64::MAX), None),
            (r#""5""#, Some(u64::MAX), None),
            ("true", Some(u64::MAX), None),
            ("[5]", Some(u64::MAX), None),
            ("99999999999999999999999999", Some(u64::MAX), Some(u64::MAX)),
        ] {
            assert_eq!(output(&format!(r#""max_tokens":{value}"#)).max_tokens, limit, "{value}");
            assert_eq!(output(&format!(r#""max_completion_tokens":{value}"#)).max_completion_tokens, limit, "{value}");
            assert_eq!(output(&format!(r#""max_output_tokens":{value}"#)).max_output_tokens, limit, "{value}");
            assert_eq!(output(&format!(r#""n":{value}"#)).n, count, "{value}");
            assert_eq!(output(&format!(r#""best_of":{value}"#)).best_of, count, "{value}");
        }
    }

    #[test]
    fn g4_a_list_of_prompts_is_found_with_its_place() {
        for (value, is_list) in [(r#"["a", "b"]"#, true), ("[[1],[2,3]]", true), (r#""a""#, false), ("null", false)] {
            let body = format!(r#" {{"a":{{"prompt":["x"]}},"prompt": {value} ,"b":1}}"#);
            let found = peek(body.as_bytes()).unwrap().prompts.map(|span| body[span].to_owned());
            assert_eq!(found.as_deref(), is_list.then_some(value));
        }
        assert!(peek(br#"{"Prompt":["a"]}"#).unwrap().prompts.is_some(), "whoever reads it answers each");
    }

    #[test]
    fn g4_a_name_in_another_case_can_only_raise_what_is_asked_for() {
        assert_eq!(output(r#""Max_Tokens":0"#), AskedOutput { max_tokens: Some(u64::MAX), ..AskedOutput::default() });
        assert_eq!(output(r#""N":10,"Best_Of":12"#), AskedOutput { n: Some(10), best_of: Some(12), ..AskedOutput::default() });
    }

    #[test]
    fn include_usage_says_what_the_client_asked_for() {
        for (options, says) in [
            (r#""a":{"include_usage":true}"#, IncludeUsage::Absent),
            (r#""stream_options":null"#, IncludeUsage::Absent),
            (r#""stream_options":[{"include_usage":true}]"#, IncludeUsage::Absent),
            (r#""stream_options":{"a":{"include_usage":true}}"#, IncludeUsage::Absent),
            (r#""stream_options":{"a":[1],"include_usage":true}"#, IncludeUsage::True),
            (r#""stream_options":{"include_usage":false}"#, IncludeUsage::False),
            (r#""stream_options":{"include_usage":null}"#, IncludeUsage::False),
        ] {
            assert_eq!(peek(format!("{{{options}}}").as_bytes()).unwrap().include_usage, says, "{options}");
        }
    }

    #[test]
    fn the_first_fault_is_final() {
        let mut peeker = Peeker::new();
        let fault = peeker.push(b"{]").unwrap_err();
        assert_eq!(peeker.push(b"{}"), Err(fault.clone()));
        assert_eq!(peeker.finish(), Err(fault));
    }

    #[test]
    fn messages_say_where_and_repeat_nothing_of_the_body() {
        for body in
            ["{\"canary\":}", "{\"canary\":\"\n\"}", "{\"model\":\"canary\",\"model\":1}", "canary", "[\"canary\"]", "{}canary"]
        {
            let fault = fault(body);
            let texts = [fault.public(), fault.to_string(), format!("{fault:?}")];
            assert!(texts.iter().all(|text| !text.contains("canary")), "{texts:?}");
        }
        assert_eq!(fault(r#"{"a":1 "b":2}"#).public(), "The body is not valid JSON: expected `,` or `}` at byte 7.");
    }
}
