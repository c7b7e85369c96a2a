//! The body matrix of PINGORA.md: the bytes of a request's body reach the upstream unchanged on every attempt, whatever their number,
//! their framing and the HTTP versions on both sides, and the client's connection carries the next request afterwards (M10, T8).
//!
//! It is also the insurance for `edge::replay`, which stands on a trait that Pingora hides: an upgrade of Pingora that moves
//! something fails here.

use bytes::Bytes;
use http::Version;
use serde_json::json;
use sha2::{Digest, Sha256};
use trollbridge::provider_mock::Reply;

use crate::support::setup::{TROLL_KEY, TROLL_MODEL};
use crate::support::{Authority, Client, Gateway, Mock, Recorded, Request, Setup, Shorthand};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// The sizes around Pingora's replay buffer of 64 KiB, and far beyond it.
const SIZES: [usize; 6] = [KIB, 64 * KIB - 1, 64 * KIB + 1, 70 * KIB, 5 * MIB, 30 * MIB];
const M10_SIZES: [usize; 11] = [0, 1, 511, 512, 513, 65_535, 65_536, 65_537, MIB, 5 * MIB, 30 * MIB];
/// What a client writes at a time when it does not say how much there is.
const CHUNK: usize = 48 * KIB;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    ContentLength,
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModelAt {
    Begin,
    End,
}

/// What the upstream answers to the attempts of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    Good,
    /// Two exhausted keys, then a good one.
    GoodAtLast,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    down: Http,
    up: Http,
    framing: Framing,
    model_at: ModelAt,
    bytes: usize,
    answers: Answers,
}

fn matrix() -> Vec<Case> {
    let mut cases = Vec::new();
    for down in [Http::One, Http::Two] {
        for up in [Http::One, Http::Two] {
            for framing in [Framing::ContentLength, Framing::Chunked] {
                for model_at in [ModelAt::Begin, ModelAt::End] {
                    for bytes in SIZES {
                        for answers in [Answers::Good, Answers::GoodAtLast] {
                            cases.push(Case { down, up, framing, model_at, bytes, answers });
                        }
                    }
                }
            }
        }
    }
    cases
}

/// The cases of one test: one gateway, one provider, one client connection.
fn group(down: Http, up: Http, framing: Framing) -> Vec<Case> {
    matrix().into_iter().filter(|case| (case.down, case.up, case.framing) == (down, up, framing)).collect()
}

/// A JSON object of exactly this many bytes.
fn body(model: &str, model_at: ModelAt, bytes: usize) -> Bytes {
    let (head, tail) = match model_at {
        ModelAt::Begin => (format!(r#"{{"model":"{model}","prompt":""#), r#""}"#.to_owned()),
        ModelAt::End => (r#"{"prompt":""#.to_owned(), format!(r#"","model":"{model}"}}"#)),
    };
    let mut body = Vec::with_capacity(bytes);
    body.extend_from_slice(head.as_bytes());
    filler(bytes.checked_sub(head.len() + tail.len()).expect("room for the filler"), &mut body);
    body.extend_from_slice(tail.as_bytes());
    assert_eq!(body.len(), bytes);
    body.into()
}

/// Text without a period, so that a piece that is lost, doubled or in the wrong place shows.
fn filler(bytes: usize, out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .";
    let mut state = 0x9e37_79b9_u32;
    out.extend(
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            LETTERS[(state >> 26) as usize]
        })
        .take(bytes),
    );
}

/// Troll with three keys at a provider that speaks `up`, and a client's connection that speaks `down`.
struct Bench {
    gateway: Gateway,
    provider: Mock,
    client: Client,
    up: Http,
}

const MORE_KEYS: [&str; 2] = ["sk-troll-second-planted-16c2b7d09a5e", "sk-troll-third-planted-c7e0415f83ab"];

impl Bench {
    async fn start(down: Http, up: Http) -> Self {
        let authority = Authority::new();
        let setup = Setup::new()
            .set("/retry/budget_ms", json!(120_000))
            .set("/routing/unknown_model", json!("reject"))
            // For what is not JSON.
            .set("/model_routing", json!({ "enabled": true, "default_target": "troll", "models": {} }));
        let (provider, setup) = match up {
            Http::One => {
                let provider = Mock::http().await.unwrap();
                let setup = setup.troll(&provider);
                (provider, setup)
            }
            Http::Two => {
                let provider = Mock::https(authority.server(&["llm.test"], true)).await.unwrap();
                let setup = setup.troll(&provider).at_host("troll", "https://llm.test", &provider, &authority.ca_pem);
                (provider, setup)
            }
        };
        let gateway = setup
            .set("/upstreams/troll/keys/-", json!({ "id": "k2", "key": "${TROLL_SECOND}" }))
            .set("/upstreams/troll/keys/-", json!({ "id": "k3", "key": "${TROLL_THIRD}" }))
            .secret_env("TROLL_SECOND", MORE_KEYS[0])
            .secret_env("TROLL_THIRD", MORE_KEYS[1])
            .start()
            .await;
        let client = match down {
            Http::One => gateway.client().await,
            Http::Two => gateway.h2c_client().await,
        };
        Self { gateway, provider, client, up }
    }

    /// Sends one body, on the same connection as all before; fails unless every attempt brought exactly these bytes.
    async fn carry(&mut self, sent: &Bytes, framing: Framing, answers: Answers, what: &str) {
        if answers == Answers::GoodAtLast {
            // No rest: the next case begins with the first key again.
            self.provider.push(Reply::status(429).header("retry-after", "0"));
            self.provider.push(Reply::status(429).header("retry-after", "0"));
        }
        let mut request = Request::post_bytes("/v1/embeddings", sent.clone());
        if framing == Framing::Chunked {
            request = request.chunked(CHUNK);
        }
        // Not its usual answer: the provider would refuse the sizes that have no room for JSON.
        self.provider.push(Reply::json(json!({ "object": "list", "data": [] })));
        let answer = self.client.send(request).await;
        assert_eq!((answer.status.as_u16(), &answer.broken), (200, &None), "{what}: {}", answer.text());
        assert!(self.client.is_reusable().await, "{what}: the client's connection was closed");

        let arrived = self.provider.requests();
        self.provider.forget_requests();
        let keys: &[&str] = match answers {
            Answers::Good => &[TROLL_KEY],
            Answers::GoodAtLast => &[TROLL_KEY, MORE_KEYS[0], MORE_KEYS[1]],
        };
        assert_eq!(arrived.len(), keys.len(), "{what}: attempts");
        let sum = Sha256::digest(sent);
        for (attempt, key) in arrived.iter().zip(keys) {
            assert_eq!(attempt.version, self.version(), "{what}");
            assert_eq!(attempt.header("authorization"), [format!("Bearer {key}")], "{what}");
            assert_arrived(attempt, sent, &sum, what);
        }
    }

    fn version(&self) -> Version {
        match self.up {
            Http::One => Version::HTTP_11,
            Http::Two => Version::HTTP_2,
        }
    }
}

fn assert_arrived(attempt: &Recorded, sent: &Bytes, sum: &[u8], what: &str) {
    assert!(attempt.complete, "{what}: the body broke off after {} bytes", attempt.body.len());
    assert_eq!(attempt.body.len(), sent.len(), "{what}");
    assert_eq!(Sha256::digest(&attempt.body)[..], *sum, "{what}: the bytes changed");
}

async fn all_of(down: Http, up: Http, framing: Framing) {
    let cases = group(down, up, framing);
    let mut bench = Bench::start(down, up).await;
    let mut passed = 0;
    for case in &cases {
        let sent = body(TROLL_MODEL, case.model_at, case.bytes);
        bench.carry(&sent, case.framing, case.answers, &format!("{case:?}")).await;
        passed += 1;
    }
    assert_eq!(passed, CASES_OF_A_TEST);
    assert_eq!(bench.gateway.health().await["status"], "healthy");
}

const CASES_OF_A_TEST: usize = 24;

/// The eight tests below make 192 of 192.
#[test]
fn m10_the_matrix_has_192_cases_and_each_is_run_by_exactly_one_test() {
    let mut run = Vec::new();
    for down in [Http::One, Http::Two] {
        for up in [Http::One, Http::Two] {
            for framing in [Framing::ContentLength, Framing::Chunked] {
                let group = group(down, up, framing);
                assert_eq!(group.len(), CASES_OF_A_TEST);
                run.extend(group);
            }
        }
    }
    let all = matrix();
    assert_eq!((run.len(), all.len()), (192, 192));
    assert!(all.iter().all(|case| run.iter().filter(|other| *other == case).count() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_http1_to_http1_with_a_content_length() {
    all_of(Http::One, Http::One, Framing::ContentLength).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_http1_to_http1_in_chunks() {
    all_of(Http::One, Http::One, Framing::Chunked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_http1_to_http2_with_a_content_length() {
    all_of(Http::One, Http::Two, Framing::ContentLength).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_http1_to_http2_in_chunks() {
    all_of(Http::One, Http::Two, Framing::Chunked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_h2c_to_http1_with_a_content_length() {
    all_of(Http::Two, Http::One, Framing::ContentLength).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_h2c_to_http1_without_a_content_length() {
    all_of(Http::Two, Http::One, Framing::Chunked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_h2c_to_http2_with_a_content_length() {
    all_of(Http::Two, Http::Two, Framing::ContentLength).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_h2c_to_http2_without_a_content_length() {
    all_of(Http::Two, Http::Two, Framing::Chunked).await;
}

/// The sizes that M10 itself names, those without room for JSON included: they go to the default target.
async fn sizes_of_m10(down: Http, up: Http) {
    let mut bench = Bench::start(down, up).await;
    for bytes in M10_SIZES {
        let sent = match bytes {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"{"),
            _ => body(TROLL_MODEL, ModelAt::End, bytes),
        };
        for framing in [Framing::ContentLength, Framing::Chunked] {
            for answers in [Answers::Good, Answers::GoodAtLast] {
                bench.carry(&sent, framing, answers, &format!("{bytes} bytes, {framing:?}, {answers:?}")).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_every_named_size_over_http1() {
    sizes_of_m10(Http::One, Http::One).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m10_every_named_size_over_http2() {
    sizes_of_m10(Http::Two, Http::Two).await;
}
