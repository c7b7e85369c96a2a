//! Many reloads, some of them refused, while clients never stop asking: no request notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::json;

use crate::support::setup::{ADMIN_TOKEN, MAIN_MODEL};
use crate::support::{Client, Mock, Request, Setup};

/// The whole number takes minutes on a small machine.
fn how_many() -> usize {
    if std::env::var_os("TROLLBRIDGE_FULL_RELOADS").is_some() { 1_000 } else { 200 }
}

fn chat(model: &str, stream: bool) -> Request {
    Request::post("/v1/chat/completions", &json!({ "model": model, "messages": [], "stream": stream }))
}

#[tokio::test(flavor = "multi_thread")]
async fn k6_no_request_fails_while_the_file_is_reloaded_and_refused_over_and_over() {
    let reloads = how_many();
    let main = Mock::http().await.unwrap();
    let gateway = Setup::new().main(&main).set("/models/-", json!({ "id": "model-0", "upstream": "main" })).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|nth| {
            let (addr, distrust, stop) = (gateway.addr(), gateway.distrust(), stop.clone());
            tokio::spawn(async move {
                let mut client = Client::http1(addr, distrust.clone()).await;
                let mut answered = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    // One of them connects anew each time.
                    if nth == 0 {
                        client = Client::http1(addr, distrust.clone()).await;
                    }
                    let answer = client.send(chat(MAIN_MODEL, nth == 1)).await.expect(200);
                    assert_eq!(nth == 1, answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    main.wait_until(|counts| counts.requests >= 20).await;

    let rss_before = gateway.rss_bytes();
    let mut admin = Client::http1(gateway.admin_addr(), gateway.distrust()).await;
    let (mut accepted, mut refused) = (0, 0);
    for nth in 1..=reloads {
        let is_bad = nth % 10 == 0;
        gateway.rewrite_config(|config| {
            config["models"][4] = json!({ "id": format!("model-{nth}"), "upstream": if is_bad { "mian" } else { "main" } });
        });
        let answer = admin.send(Request::new(Method::POST, "/reload").bearer(ADMIN_TOKEN)).await;
        if is_bad {
            assert_eq!(answer.expect(422).json()["faults"][0]["path"], "models[4].upstream");
            refused += 1;
        } else {
            answer.expect(200);
            accepted += 1;
        }
    }
    // The last one is refused: the one before it is in force.
    gateway.send(chat(&format!("model-{}", reloads - 1), false)).await.expect(200);
    stop.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert_eq!((accepted, refused), (reloads - reloads / 10, reloads / 10));
    assert_eq!(main.counts().requests, answered + 1, "every request was answered, once each");
    // A bound on what reloads may leave behind, with room for what the allocator keeps.
    let grew = gateway.rss_bytes().saturating_sub(rss_before);
    assert!(grew < 64 << 20, "{reloads} reloads cost {} MiB", grew >> 20);
}
