//! O2 and what is not JSON: bodies that pass as they came.

use bytes::Bytes;
use trollbridge::provider_mock::{Encoding, Framing, Reply, Split};

use super::{BOTH, CHAT, MESSAGES, RESPONSES, Speaks, access_line, ask_main, client_that, main_that};
use crate::support::Shorthand;

/// O2: JSON in every framing and cut, on every pair of protocols, the odd forms that a re-encoding would lose included.
#[tokio::test(flavor = "multi_thread")]
async fn o2_a_json_body_passes_byte_for_byte() {
    let odd = "{ \"id\":\"x\" ,\r\n\t\"a\":1.0e0,\"a\":\"\\u00e9\\/\u{e9}\", \"usage\" : {\"input_tokens\":4,\"output_tokens\":2,\"prompt_tokens\":4,\"completion_tokens\":2}}\n\n ";
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let mut client = client_that(&gateway, down).await;
            for path in [CHAT, MESSAGES, RESPONSES, "/v1/embeddings"] {
                for framing in [Framing::Usual, Framing::Chunked, Framing::UntilClose] {
                    for split in [Split::Events, Split::EveryByte] {
                        main.push(Reply::raw_body(odd).framed(framing).split(split));
                        let answer = client.send(ask_main(path, false)).await.expect(200);
                        assert_eq!(answer.text(), odd, "{up:?} {down:?} {path} {framing:?}");
                        let line = access_line(&gateway, &answer).await;
                        assert_eq!((&line["end"], &line["output_tokens"]), (&"ok".into(), &2.into()), "{line}");
                    }
                }
            }
            assert!(client.is_reusable().await, "{up:?} {down:?}");
        }
    }
}

/// O2: the length that the provider declared stays.
#[tokio::test(flavor = "multi_thread")]
async fn o2_a_json_body_keeps_its_content_length_and_its_size() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    main.push(Reply::filler(20_000_000));
    let answer = gateway.send(ask_main(CHAT, false)).await.expect(200);
    assert_eq!(answer.header("content-length"), "20000000");
    assert_eq!(answer.body().len(), 20_000_000);
    assert_eq!(access_line(&gateway, &answer).await["source"], "final");
}

/// O2, H4: compressed although nobody asked for it: the bytes pass with their encoding.
#[tokio::test(flavor = "multi_thread")]
async fn o2_a_compressed_body_passes_as_it_is() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Br, Encoding::Zstd] {
        for stream in [false, true] {
            main.push(Reply::usual().compressed(encoding).split(Split::Every(11)));
            let answer = gateway.send(ask_main(MESSAGES, stream)).await.expect(200);
            assert_eq!(answer.header("content-encoding"), encoding.token());
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["end"], &line["source"]), (&"ok".into(), &"final".into()), "{encoding:?} {stream}: {line}");
        }
    }
}

/// O2: audio and images are no JSON, and their end is where the connection says.
#[tokio::test(flavor = "multi_thread")]
async fn o2_a_body_that_is_no_json_passes_whole_in_every_framing() {
    let (setup, main) = main_that(Speaks::Http1).await;
    let gateway = setup.start().await;
    let audio = Bytes::from((0..=255u8).cycle().take(70_000).collect::<Vec<_>>());
    for framing in [Framing::Usual, Framing::Chunked, Framing::UntilClose] {
        for down in BOTH {
            let reply = Reply { status: Some(200), ..Reply::raw_body(audio.clone()) };
            main.push(reply.framed(framing).header("content-type", "audio/mpeg"));
            let answer = client_that(&gateway, down).await.send(ask_main("/v1/audio/speech", false)).await.expect(200);
            assert_eq!(answer.body(), audio, "{framing:?} {down:?}");
            assert_eq!(answer.header("content-type"), "audio/mpeg");
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["end"], &line["source"]), (&"ok".into(), &"none".into()), "{framing:?}: {line}");
        }
    }
}

/// A good answer without a body stays one, and the connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_stays_without_one() {
    for up in BOTH {
        let (setup, main) = main_that(up).await;
        let gateway = setup.start().await;
        for down in BOTH {
            let mut client = client_that(&gateway, down).await;
            for status in [204, 200] {
                let none = Reply { status: Some(status), ..Reply::raw_body("") };
                main.push(none.framed(if status == 204 { Framing::Chunked } else { Framing::Usual }));
                let answer = client.send(ask_main("/v1/audio/speech", false)).await.expect(status);
                assert_eq!(answer.text(), "");
                assert!(client.is_reusable().await, "{up:?} {down:?} {status}");
            }
        }
    }
}
