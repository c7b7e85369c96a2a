//! A7 and A8: answers that decode to more than anybody reads, and those that nobody here can read.

use bytes::Bytes;
use trollbridge::provider_mock::{Reply, Rule};

use super::{BOTH, CHAT, MESSAGES, access_line, ask_main, client_that, main_that, next_line};
use crate::support::Shorthand;
use crate::support::setup::MAIN_KEY;

/// Blocks of zstd, each of four bytes that stand for 128 KiB.
fn zstd_bomb(blocks: usize) -> Bytes {
    let mut bytes = b"\x28\xb5\x2f\xfd\x00\x68".to_vec();
    let header = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
    for _ in 0..blocks {
        bytes.extend_from_slice(&header[..3]);
        bytes.push(b' ');
    }
    bytes.extend_from_slice(&[1, 0, 0]);
    bytes.into()
}

/// 640 KB each that stand for 20 GiB, on one worker thread.
#[tokio::test(flavor = "multi_thread")]
async fn a7_a_bomb_is_cut_and_another_client_gets_all_its_answers_meanwhile() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.threads(1).start().await;
        let bomb = Reply::raw_body(zstd_bomb(160_000)).header("content-encoding", "zstd");
        main.rule(Rule { path: Some("/chat/completions".to_owned()), reply: bomb, ..Rule::default() });
        let bombs = async {
            for down in BOTH {
                for _ in 0..2 {
                    let answer = client_that(&gateway, down).await.attempt(ask_main(CHAT, false)).await;
                    assert!(answer.is_none_or(|answer| answer.broken.is_some() || answer.status == 502), "{up:?} {down:?}");
                }
            }
        };
        let other = async {
            for _ in 0..60 {
                gateway.send(ask_main(MESSAGES, false)).await.expect(200);
            }
        };
        tokio::join!(bombs, other);
        let mut stopped = 0;
        for nth in 0..64 {
            let line = next_line(&gateway, nth).await;
            stopped += usize::from(line["refusal"] == "unreadable");
        }
        assert_eq!(stopped, 4);
    }
}

/// A whole answer of one chunk is refused with a status, as nothing of it has gone out.
#[tokio::test(flavor = "multi_thread")]
async fn a8_an_encoding_that_nobody_can_read_is_a_502_before_the_first_byte() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            for (name, value) in
                [("content-encoding", "exi"), ("content-encoding", "gzip, br"), ("content-type", "text/plain; charset=utf-7")]
            {
                main.push(Reply::raw_body(format!("anything {MAIN_KEY}")).header(name, value));
                let answer = client_that(&gateway, down).await.send(ask_main(CHAT, false)).await.expect(502);
                assert_eq!(answer.json()["error"]["code"], "upstream_failed");
                let line = access_line(&gateway, &answer).await;
                assert_eq!((&line["refusal"], &line["attempts"]), (&"unreadable".into(), &1.into()), "{line}");
            }
        }
    }
}

/// What an upstream that echoes a request may make of our key.
#[tokio::test(flavor = "multi_thread")]
async fn a8_a_key_in_another_form_or_spelling_is_stopped() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let (setup, main) = main_that(super::Speaks::Http1).await;
    let gateway = setup.start().await;
    let escaped: String = MAIN_KEY.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    let wide: Vec<u8> = format!("{{\"a\":\"{MAIN_KEY}\"}}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let forms = [
        format!("{{\"a\":\"{escaped}\"}}").into_bytes(),
        format!("{{\"a\":\"Basic {}\"}}", STANDARD.encode(format!("user:{MAIN_KEY}"))).into_bytes(),
        wide,
    ];
    for (nth, form) in forms.into_iter().enumerate() {
        main.push(Reply::raw_body(form.clone()));
        let answer = gateway.client().await.attempt(ask_main(CHAT, false)).await;
        assert!(answer.is_none_or(|answer| answer.status == 502 || answer.broken.is_some()), "form {nth}");
        assert_eq!(next_line(&gateway, nth).await["refusal"], "leak_stopped", "form {nth}");
    }
    let header = STANDARD.encode(format!("x{MAIN_KEY}"));
    main.push(Reply::usual().header("x-ratelimit-scope", &header));
    assert_eq!(gateway.send(ask_main(CHAT, false)).await.expect(200).header("x-ratelimit-scope"), "");
}
