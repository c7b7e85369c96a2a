//! H5: a key that is revoked while its requests run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use super::{add_client, command, entries};
use crate::answers::{CHAT, MESSAGES};
use crate::support::setup::MAIN_MODEL;
use crate::support::{Client, Mock, Request, Setup, soon};

const CLIENTS: usize = 8;

/// Until the refusal every request is served, from the refusal on none is; nothing else ever happens.
#[tokio::test(flavor = "multi_thread")]
async fn h5_a_revoked_key_is_refused_while_its_requests_are_served_by_the_hundred() {
    let main = Mock::http().await.unwrap();
    let mut gateway = Setup::new().main(&main).start().await;
    let key = add_client(&mut gateway, "alice", None).await;
    let other = add_client(&mut gateway, "bob", None).await;
    soon("bob to be known", async { while gateway.send(Request::get("/v1/models").bearer(&other)).await.status == 401 {} }).await;
    let served = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|nth| {
            let (addr, distrust, served, key) = (gateway.addr(), gateway.distrust(), served.clone(), key.clone());
            let path = if nth % 2 == 0 { CHAT } else { MESSAGES };
            let ask = move || {
                Request::post(path, &json!({ "model": MAIN_MODEL, "max_tokens": 3, "stream": nth % 4 < 2, "messages": [] }))
                    .bearer(&key)
            };
            tokio::spawn(async move {
                let mut client = Client::http1(addr, distrust).await;
                loop {
                    let answer = client.send(ask()).await;
                    if answer.status != 200 {
                        let error = answer.expect(403).json()["error"].clone();
                        assert_eq!(error["type"], "permission_error", "{error}");
                        let at = Instant::now();
                        for _ in 0..20 {
                            client.send(ask()).await.expect(403);
                        }
                        return at;
                    }
                    assert_eq!(answer.broken, None);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    soon("the load", async {
        while served.load(Ordering::Relaxed) < 200 {
            tokio::task::yield_now().await
        }
    })
    .await;
    command(&gateway, &["client", "revoke", "alice"]).await.expect(0);
    let revoked_at = Instant::now();
    let mut latest = revoked_at;
    for client in clients {
        latest = latest.max(soon("a client to be refused", client).await.unwrap());
    }
    super::say(&format!("refused everywhere {:?} after the command had ended", latest - revoked_at));
    let books = entries(&gateway).await;
    assert_eq!(books.len() as u64, served.load(Ordering::Relaxed), "what was refused is not billed");
    assert_eq!(main.counts().requests, books.len() as u64);
    let more = Request::post(CHAT, &json!({ "model": MAIN_MODEL, "messages": [] })).bearer(&other);
    gateway.send(more).await.expect(200);
}
