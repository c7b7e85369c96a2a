//! Bad input: each refusal has its status, says in the dialect of its path what to do, and the provider never hears of it. The
//! connection stays usable where the framing is sure and is closed where it is not (Q3, Q4, Q5, M8, M9).

mod bodies;
mod framing;
mod heads;
mod shares;
mod sizes;
mod slow;

use crate::support::raw::RawAnswer;
use crate::support::request::CLIENT_KEY;
use crate::support::setup::{MAIN_KEY, MAIN_MODEL};
use crate::support::{Counts, Gateway, Mock, RawClient, Setup};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

/// What a connection is worth after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Usable,
    Closed,
}

/// A gateway whose every model goes to one provider.
struct Place {
    gateway: Gateway,
    main: Mock,
}

impl Place {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let main = Mock::http().await.unwrap();
        main.expect_key(MAIN_KEY);
        let gateway = change(Setup::new().main(&main)).start().await;
        Self { gateway, main }
    }

    /// Sends these bytes on a connection of their own and checks everything that a refusal promises.
    async fn refuses(&self, bytes: impl AsRef<[u8]>, path: &str, status: u16, after: After) -> RawAnswer {
        let mut raw = self.gateway.raw().await;
        raw.send(bytes).await;
        self.answers_refusal(&mut raw, path, status, after).await
    }

    /// Reads the refusal of what was sent, and sees what the connection is worth afterwards.
    async fn answers_refusal(&self, raw: &mut RawClient, path: &str, status: u16, after: After) -> RawAnswer {
        let answer = raw.read_answer().await;
        self.assert_refusal(&answer, path, status);
        match after {
            After::Usable => {
                assert_eq!(answer.header("connection"), Some("keep-alive"), "{}", answer.head);
                assert_usable(raw).await;
            }
            After::Closed => {
                assert_eq!(answer.header("connection"), Some("close"), "{}", answer.head);
                raw.expect_close().await;
            }
        }
        answer
    }

    fn assert_refusal(&self, answer: &RawAnswer, path: &str, status: u16) {
        let shown = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.status, status, "{shown}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{shown}");
        let id = answer.header("x-request-id").unwrap_or_default();
        assert!(!id.is_empty(), "{shown}");
        let body = answer.json();
        if path.starts_with(MESSAGES) {
            assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &id.into()), "{shown}");
            assert_eq!(answer.header("request-id"), Some(id), "{shown}");
            assert!(body["error"]["type"].is_string(), "{shown}");
        } else {
            assert!(body["type"].is_null() && body["error"]["code"].is_string(), "{shown}");
        }
        // A sentence that says what to do, not a status in words.
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() > 25), "{shown}");
        self.gateway.distrust().check("a refusal", shown.as_bytes());
    }

    /// The end of every test: not even a connection was made.
    fn assert_provider_heard_nothing(&self) {
        assert_eq!(self.main.counts(), Counts::default());
    }
}

/// A head with the test's key and this framing, `fields` ending in line ends.
fn post(path: &str, fields: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n{fields}\r\n"
    )
}

/// A whole request with a Content-Length.
fn sized(path: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [post(path, &format!("{fields}content-length: {}\r\n", body.len())).as_bytes(), body].concat()
}

fn good_body() -> String {
    format!(r#"{{"model":"{MAIN_MODEL}","max_tokens":10,"messages":[]}}"#)
}

async fn assert_usable(raw: &mut RawClient) {
    raw.send(format!("GET /v1/models HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\n\r\n")).await;
    let next = raw.read_answer().await;
    assert_eq!(next.status, 200, "{}{}", next.head, String::from_utf8_lossy(&next.body));
}
