//! Live streams and a stranger who knocks all the time, through three upgrades in a row.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::books;
use crate::support::request::CLIENT_KEY;
use crate::support::{Client, soon};

/// How much of it: the full size takes a minute and is for whoever changes something here.
struct Size {
    streams: usize,
    deltas: usize,
    pause: Duration,
}

fn size() -> Size {
    match std::env::var_os("TROLLBRIDGE_FULL_UPGRADES") {
        Some(_) => Size { streams: 200, deltas: 100, pause: Duration::from_millis(200) },
        None => Size { streams: 40, deltas: 100, pause: Duration::from_millis(90) },
    }
}

/// Opens a connection every 5 ms and asks one thing.
async fn knock(addr: std::net::SocketAddr, stop: Arc<AtomicBool>, knocks: Arc<AtomicU64>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut under_way = tokio::task::JoinSet::new();
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        knocks.fetch_add(1, Ordering::Relaxed);
        under_way.spawn(async move {
            let asked = async {
                let mut tcp = TcpStream::connect(addr).await?;
                let head = format!(
                    "GET /v1/models HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {CLIENT_KEY}\r\nconnection: close\r\n\r\n"
                );
                tcp.write_all(head.as_bytes()).await?;
                let mut answer = Vec::new();
                tcp.read_to_end(&mut answer).await?;
                std::io::Result::Ok(answer)
            };
            match asked.await {
                Ok(answer) if answer.starts_with(b"HTTP/1.1 200 ") => None,
                Ok(answer) => Some(format!("answered {:?}", String::from_utf8_lossy(&answer[..answer.len().min(60)]))),
                Err(error) => Some(error.to_string()),
            }
        });
        while let Some(done) = under_way.try_join_next() {
            failures.extend(done.unwrap());
        }
    }
    while let Some(done) = under_way.join_next().await {
        failures.extend(done.unwrap());
    }
    failures
}

/// Must show of the issue: no stream breaks, nobody is refused, the bytes are the same, and the old processes go with their last stream.
#[tokio::test(flavor = "multi_thread")]
async fn three_upgrades_in_a_row_cost_no_client_a_byte() {
    let Size { streams, deltas, pause } = size();
    let (setup, main) = with_main().await;
    let mut gateway = setup.grace_seconds(120).start().await;
    main.always(stream_of(deltas).paced(pause));
    let expected = events(deltas).concat();

    let (stop, knocks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let knocking = tokio::spawn(knock(gateway.addr(), stop.clone(), knocks.clone()));
    let mut reading = tokio::task::JoinSet::new();
    for nth in 0..streams {
        let (addr, distrust, h2c) = (gateway.addr(), gateway.distrust(), nth % 4 == 0);
        reading.spawn(async move {
            let mut client = if h2c { Client::h2c(addr, distrust).await } else { Client::http1(addr, distrust).await };
            let answer = client.send(ask_messages(true)).await;
            (answer.status.as_u16(), answer.text(), Instant::now())
        });
    }
    soon("every stream", main.wait_until(|counts| counts.requests == streams as u64)).await;

    let mut olds = Vec::new();
    for _ in 0..3 {
        olds.push(gateway.pid());
        let said = gateway.upgrade().await.expect(0);
        assert!(said.out.contains("serves"), "{}", said.out);
        assert_ne!(gateway.pid(), *olds.last().unwrap());
        // Requests of the new process, which are its to finish at the next upgrade.
        gateway.send(Request::get("/v1/models")).await.expect(200);
    }
    assert!(!gateway.is_gone(olds[0]), "the first process has streams open");

    let mut last = None;
    while let Some(read) = reading.join_next().await {
        let (status, body, at) = read.unwrap();
        assert_eq!(status, 200);
        assert!(body == expected, "a stream was changed or cut:\n{}", &body[body.len().saturating_sub(300)..]);
        last = last.max(Some(at));
    }
    for old in olds {
        gateway.until_gone(old).await;
    }
    let after_the_last = last.unwrap().elapsed();
    assert!(after_the_last < Duration::from_secs(5), "the old processes went {after_the_last:?} after their last stream");
    stop.store(true, Ordering::Relaxed);
    let failures = knocking.await.unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} failed: {:?}",
        failures.len(),
        knocks.load(Ordering::Relaxed),
        &failures[..failures.len().min(5)]
    );

    let entries = books::entries(&gateway).await;
    let ok = entries.iter().filter(|entry| entry["end"] == "ok" && entry["output_tokens"] == deltas as u64 * 3).count();
    assert_eq!(ok, streams, "every stream is billed once, whole");
    show(&format!(
        "{streams} streams, {} knocks, 0 failed; the old processes gone {after_the_last:?} after the last stream",
        knocks.load(Ordering::Relaxed)
    ));
}

#[expect(clippy::print_stderr, reason = "the figures, for whoever runs the full size")]
fn show(figures: &str) {
    eprintln!("{figures}");
}

/// A client that keeps its connection between requests may send one just when its process is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_a_kept_connection_is_answered_while_its_process_is_replaced() {
    let (setup, _main) = with_main().await;
    let mut gateway = setup.grace_seconds(20).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (addr, distrust, stop) = (gateway.addr(), gateway.distrust(), stop.clone());
        asking.spawn(async move {
            let mut client = Client::http1(addr, distrust.clone()).await;
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.attempt(ask_messages(false)).await.expect("an answer to each request");
                assert_eq!(answer.status, 200);
                served += 1;
                // As an SDK's pool does: it takes a new one when it is told so.
                if answer.headers.get("connection").is_some_and(|value| value == "close") {
                    client = Client::http1(addr, distrust.clone()).await;
                }
            }
            served
        });
    }
    for _ in 0..2 {
        gateway.upgrade().await.expect(0);
    }
    stop.store(true, Ordering::Relaxed);
    let mut served = 0;
    while let Some(done) = asking.join_next().await {
        served += done.unwrap();
    }
    assert!(served > 50, "{served}");
}
