//! Every form of a key, in every spelling, cut anywhere: none is released, and nothing else is stopped.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use proptest::prelude::*;

use crate::domain::guard::{KeyGuard, Leak};
use crate::domain::secret::Secret;

const KEYS: [&str; 4] = ["sk-proj-0a/B?c+d~E", "sk-ant-api03-ABCDEF", "tiny-7", "q\"uo\\te%x1"];

fn guard() -> KeyGuard {
    let keys: Vec<Secret> = KEYS.into_iter().filter_map(Secret::new).collect();
    KeyGuard::new(keys.iter())
}

/// What passed, and whether the body was stopped.
fn pass(text: &[u8], sizes: &[usize]) -> (Vec<u8>, bool) {
    let (mut stream, mut scan, mut passed, mut rest) = (guard().stream(), guard().scan(), Vec::new(), text);
    for size in sizes.iter().copied().chain([text.len()]) {
        let (chunk, tail) = rest.split_at(size.min(rest.len()));
        rest = tail;
        let released = stream.push(Bytes::copy_from_slice(chunk));
        assert_eq!(released.is_err(), scan.push(chunk).is_err(), "both watch in the same way");
        match released {
            Ok(released) => released.into_pieces().for_each(|piece| passed.extend_from_slice(&piece)),
            Err(Leak) => return (passed, true),
        }
    }
    passed.extend_from_slice(&stream.finish());
    (passed, false)
}

/// A text's characters, each in the spelling of its turn.
fn spell(text: &[u8], how: &[u8]) -> Vec<u8> {
    let one = |byte: u8, how: u8| match how % 8 {
        1 => format!("\\u00{byte:02x}"),
        2 => format!("\\u00{byte:02X}"),
        3 => format!("\\\\u00{byte:02x}"),
        4 => format!("%{byte:02X}"),
        5 => format!("%25{byte:02x}"),
        6 if matches!(byte, b'/' | b'"' | b'\\') => format!("\\{}", char::from(byte)),
        _ => char::from(byte).to_string(),
    };
    text.iter().zip(how.iter().cycle()).flat_map(|(byte, how)| one(*byte, *how).into_bytes()).collect()
}

fn widen(text: &[u8], width: usize, is_big: bool) -> Vec<u8> {
    text.iter()
        .flat_map(|&byte| {
            let nuls = vec![0; width - 1];
            if is_big { [nuls, vec![byte]].concat() } else { [vec![byte], nuls].concat() }
        })
        .collect()
}

fn form(key: &str, before: &str, which: u8) -> Vec<u8> {
    let longer = format!("{before}{key}:x");
    match which % 5 {
        0 => key.as_bytes().to_vec(),
        1 => STANDARD.encode(longer).into_bytes(),
        2 => URL_SAFE.encode(longer).into_bytes(),
        3 => longer.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
        _ => longer.bytes().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes(),
    }
}

#[test]
fn a8_a_key_is_seen_in_every_form() {
    for key in KEYS {
        for before in ["", "u", "us", "user:", "Bearer "] {
            for which in 0..5 {
                let form = form(key, before, which);
                for how in [&[0_u8][..], &[1], &[2], &[3], &[4], &[5], &[0, 1], &[4, 0, 2], &[6]] {
                    let text = [&b"{\"a\":\""[..], &spell(&form, how), &b"\"}"[..]].concat();
                    assert!(guard().contains(&text), "{key} {before} {which} {how:?}: {}", String::from_utf8_lossy(&text));
                }
            }
        }
    }
}

#[test]
fn a8_masks_every_form_and_all_of_a_text_that_spells_one() {
    let text = format!("basic {} and {}", STANDARD.encode("user:sk-ant-api03-ABCDEF"), "sk-ant-api03-ABCDEF");
    let masked = guard().mask(&text);
    assert!(!guard().contains(masked.as_bytes()) && masked.ends_with(" and *****"), "{masked}");
    assert_eq!(guard().mask(r"key \u0073k-ant-api03-ABCDEF is wrong"), "*****");
}

#[test]
fn a8_what_is_alike_but_no_whole_key_passes() {
    let image = STANDARD.encode((0..60_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<_>>());
    for text in [
        format!("{{\"b64_json\":\"{image}\"}}"),
        format!("{{\"b64_json\":\"{}\"}}", image.replace('/', r"\/")),
        r#"{"a":"sk-ant-api03-ABCDE","b":"c2stYW50LWFwaTAz","c":"caf\u00e9 \u0026 \u4f60 100% %7B%7D \\n"}"#.to_owned(),
        "sk-ant-api03-".repeat(2_000),
        r"\u0073\u006b\u002d".repeat(2_000),
        "\\".repeat(5_000),
        "%25".repeat(2_000),
        "\0".repeat(5_000),
    ] {
        for sizes in [vec![], vec![1; 300], vec![7; 900]] {
            let (passed, stopped) = pass(text.as_bytes(), &sizes);
            assert!(!stopped && passed == text.as_bytes(), "{}", &text[..40]);
        }
    }
}

#[test]
fn a8_what_is_kept_back_is_bounded() {
    for text in [r"\u0073".repeat(4_000), "\\".repeat(40_000), "s\0\0\0k\0\0\0-\0\0\0".repeat(4_000), "%25".repeat(4_000)] {
        let mut stream = guard().stream();
        let mut passed = 0;
        for chunk in text.as_bytes().chunks(3) {
            passed += stream.push(Bytes::copy_from_slice(chunk)).unwrap().into_pieces().map(|piece| piece.len()).sum::<usize>();
        }
        assert!(text.len() - passed < 100, "{}", text.len() - passed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a8_no_form_of_a_key_in_any_spelling_is_released_however_it_is_cut(
        key in proptest::sample::select(&KEYS[..]),
        which in 0..5_u8,
        before in "[a-z:]{0,5}",
        how in proptest::collection::vec(any::<u8>(), 1..12),
        around in r#"[a-z\\%"u0-9 \-sk]{0,20}"#,
        width in proptest::sample::select(&[1_usize, 1, 2, 4][..]),
        is_big in any::<bool>(),
        sizes in proptest::collection::vec(0..40_usize, 0..60),
    ) {
        // A backslash or a percent sign right before would change what the first character spells.
        let lead = widen(format!("{around} ").as_bytes(), width, is_big);
        let form = form(key, &before, which);
        let body = widen(&spell(&form, &how), width, is_big);
        let text = [lead.clone(), body, widen(format!(" {around}").as_bytes(), width, is_big)].concat();
        let (passed, stopped) = pass(&text, &sizes);
        prop_assert!(stopped);
        prop_assert!(text.starts_with(&passed) && !guard().contains(&passed));
        if which == 0 {
            prop_assert!(passed.len() <= lead.len() + if is_big { width } else { 0 }, "nothing of the key itself");
        }
    }

    #[test]
    fn a8_what_holds_no_key_passes_unchanged(
        text in proptest::collection::vec(any::<u8>(), 0..300),
        pieces in proptest::collection::vec(r#"[\\u0%7sk\x00-]{0,9}"#, 0..9),
        sizes in proptest::collection::vec(0..20_usize, 0..60),
    ) {
        let text = [text, pieces.concat().into_bytes()].concat();
        let (passed, stopped) = pass(&text, &sizes);
        prop_assert!(!stopped);
        prop_assert_eq!(passed, text);
    }
}
