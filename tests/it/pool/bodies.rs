//! T8: each attempt carries the same bytes, however many there are.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Kind::{Connect, Reverse, Socks5};
use super::*;
use crate::answers::{CHAT, access_line};
use crate::support::Shorthand;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A chat of exactly this many bytes, whose text has no period.
fn body(bytes: usize, stream: bool) -> Bytes {
    let head = format!(
        r#"{{"model":"{TROLL_MODEL}","stream":{stream},{}"messages":[{{"role":"user","content":""#,
        if stream { r#""stream_options":{"include_usage":true},"# } else { "" }
    );
    let tail = r#""}]}"#;
    let mut state = 0x9e37_79b9_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + u8::try_from((state >> 24) % 26).unwrap()
    };
    let mut body = head.into_bytes();
    while body.len() < bytes - tail.len() {
        body.push(letter());
    }
    body.extend_from_slice(tail.as_bytes());
    body.into()
}

/// 429 by the first key, 402 by the second, good by another proxy: the client sees one 200.
async fn carries(kinds: [Kind; 2]) {
    let pool = Pool::of(&kinds).await;
    let setup = pool.bound(&[&["k1", "k2"], &["k3"]]).set("/retry/budget_ms", json!(120_000));
    let gateway = pool.start(setup).await;
    // A wait of nothing turns to the next key, and leaves this one for the next request.
    pool.always("k1", &Reply::status(429).header("retry-after", "0"));
    pool.always("k2", &Reply::status(402).header("retry-after", "0"));
    let mut client = gateway.client().await;
    for bytes in [KIB, 70 * KIB, 5 * MIB, 30 * MIB] {
        for stream in [false, true] {
            let what = format!("{kinds:?}, {bytes} bytes, stream {stream}");
            let sent = body(bytes, stream);
            assert_eq!(sent.len(), bytes);
            let answer = client.send(Request::post_bytes(CHAT, sent.clone())).await.expect(200);
            assert!(client.is_reusable().await, "{what}");
            if stream {
                assert_eq!(answer.events().last().unwrap().data, "[DONE]", "{what}");
            }
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["attempts"], &line["proxy"], &line["key"]), (&json!(3), &json!("p2"), &json!("k3")), "{what}");
            assert_eq!((pool.ways[0].keys(), pool.ways[1].keys()), (vec!["k1", "k2"], vec!["k3"]), "{what}");
            let sum = Sha256::digest(&sent);
            for way in &pool.ways {
                for arrived in way.provider.requests() {
                    assert!(arrived.complete && arrived.body.len() == bytes, "{what}: {} bytes arrived", arrived.body.len());
                    assert_eq!(Sha256::digest(&arrived.body), sum, "{what}: the bytes changed");
                }
                way.provider.forget_requests();
            }
        }
    }
    pool.expect_nothing_direct();
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_every_attempt_carries_the_same_bytes_through_a_connect_and_a_socks5_proxy() {
    carries([Connect, Socks5]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_every_attempt_carries_the_same_bytes_through_a_reverse_and_a_connect_proxy() {
    carries([Reverse, Connect]).await;
}

/// A proxy that dies while the body is on its way: the next one gets all of it.
#[tokio::test(flavor = "multi_thread")]
async fn t8_a_tunnel_that_breaks_under_the_body_is_replaced_with_the_whole_body() {
    for (bytes, reply) in [(70 * KIB, Reply::close()), (5 * MIB, Reply::reset())] {
        let pool = Pool::of(&[Connect, Socks5]).await;
        let gateway = pool.start(pool.setup(1)).await;
        pool.ways[0].provider.push(reply);
        let sent = body(bytes, false);
        let answer = gateway.send(Request::post_bytes(CHAT, sent.clone())).await.expect(200);
        let line = access_line(&gateway, &answer).await;
        assert_eq!((&line["attempts"], &line["proxy"], &line["key"]), (&json!(2), &json!("p2"), &json!("k1")), "{line}");
        assert_eq!(pool.ways[1].provider.requests()[0].body, sent);
    }
}
