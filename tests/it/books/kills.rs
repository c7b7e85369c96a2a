//! G1: `kill -9`, again and again, while clients are served.
//!
//! By default some thousand requests and a kill after every few hundred of them. The full run is 10 000 requests and a kill every second:
//! `TROLLBRIDGE_FULL_KILLS=1`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use trollbridge::provider_mock::{Reply, Usage};

use super::{INPUT, OUTPUT, command, entries, expect_whole, say, sum};
use crate::answers::{CHAT, MESSAGES};
use crate::support::request::Answer;
use crate::support::setup::MAIN_MODEL;
use crate::support::{Client, Distrust, Gateway, Mock, Recorded, Request, Setup, Shorthand, soon};

const CLIENTS: usize = 16;
/// Between two tries to connect to a gateway that is dead at the moment.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// When the gateway is killed, and how much is asked of it in all.
struct Plan {
    requests: u64,
    kill: Kill,
    /// Between two pieces of an answer.
    pace: Duration,
}

#[derive(Clone, Copy)]
enum Kill {
    AfterRequests(u64),
    Every(Duration),
}

/// What the clients do together.
struct Work {
    addr: SocketAddr,
    distrust: Distrust,
    begun: AtomicU64,
    completed: AtomicU64,
    requests: u64,
}

/// What a client knows of one request of its own.
struct Known {
    number: u64,
    /// Known once the head arrived.
    id: Option<String>,
    is_complete: bool,
}

impl Plan {
    fn of_environment() -> Self {
        if std::env::var_os("TROLLBRIDGE_FULL_KILLS").is_some() {
            return Self { requests: 10_000, kill: Kill::Every(Duration::from_secs(1)), pace: Duration::from_millis(1) };
        }
        Self { requests: 2_500, kill: Kill::AfterRequests(250), pace: Duration::ZERO }
    }
}

impl Kill {
    /// Waits until it is time; `false`: all the work is done.
    async fn is_due(self, work: &Work, is_done: &AtomicBool) -> bool {
        let (begun, began) = (work.completed.load(Ordering::Relaxed), tokio::time::Instant::now());
        loop {
            if is_done.load(Ordering::Acquire) {
                return false;
            }
            let is_due = match self {
                Self::AfterRequests(count) => work.completed.load(Ordering::Relaxed) >= begun + count,
                Self::Every(time) => began.elapsed() >= time,
            };
            if is_due {
                return true;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Half of the requests are streams, half of each in either dialect; each is told apart by its `user`, and by its tokens from most.
fn request(number: u64) -> Request {
    let path = if number % 4 < 2 { CHAT } else { MESSAGES };
    let words = "stone ".repeat(1 + usize::try_from(number % 97).unwrap());
    let body = json!({ "model": MAIN_MODEL, "max_tokens": 1 + number % 13, "stream": number.is_multiple_of(2), "user": format!("n{number}"),
        "messages": [{ "role": "user", "content": words }] });
    Request::post(path, &body)
}

fn number_of(request: &Recorded) -> u64 {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["user"].as_str().and_then(|user| user.strip_prefix('n')?.parse().ok()).unwrap()
}

/// Whether all of the answer arrived: the last byte of a body whose length is known, the terminator of a stream.
fn is_complete(answer: &Answer) -> bool {
    assert_eq!(answer.status, 200, "nothing but a kill disturbs: {}", answer.text());
    if answer.header("content-type").starts_with("text/event-stream") {
        let text = answer.text();
        return text.ends_with("data: [DONE]\n\n") || text.contains("event: message_stop\n") && text.ends_with("\n\n");
    }
    answer.broken.is_none() && answer.json().is_object()
}

impl Work {
    /// One client: a connection for as long as it lasts, a new one as soon as there is somebody to connect to.
    async fn client(self: Arc<Self>) -> Vec<Known> {
        let (mut known, mut connection): (Vec<Known>, Option<Client>) = (Vec::new(), None);
        loop {
            let mut client = match connection.take() {
                Some(client) => client,
                None => soon("a gateway to connect to", self.connect()).await,
            };
            if !client.is_reusable().await {
                continue;
            }
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                return known;
            }
            let answer = client.attempt(request(number)).await;
            let is_complete = answer.as_ref().is_some_and(is_complete);
            let id = answer.as_ref().map(|answer| answer.header("x-request-id").to_owned());
            known.push(Known { number, id, is_complete });
            self.completed.fetch_add(1, Ordering::Relaxed);
            connection = answer.is_some_and(|answer| answer.broken.is_none()).then_some(client);
        }
    }

    async fn connect(&self) -> Client {
        loop {
            if let Some(client) = Client::try_http1(self.addr, self.distrust.clone()).await {
                return client;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// What the provider told of the tokens of each request, by its number.
fn told(main: &Mock) -> HashMap<u64, Usage> {
    let mut told = HashMap::new();
    // A kill within a request leaves the provider with half of its body.
    for request in main.requests().into_iter().filter(|request| request.complete) {
        let twice = told.insert(number_of(&request), request.usage.unwrap());
        assert_eq!(twice, None, "nothing is sent upstream twice");
    }
    told
}

fn cost(usage: &Usage) -> u64 {
    usage.input_tokens * INPUT + usage.output_tokens * OUTPUT
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_every_answer_that_was_completed_has_its_one_entry_however_often_the_gateway_is_killed() {
    let plan = Plan::of_environment();
    let main = Mock::keeping(usize::try_from(plan.requests).unwrap()).await.unwrap();
    main.always(Reply::usual().paced(plan.pace));
    // Small segments, so that kills fall on their changes too.
    let mut gateway = Setup::new().main(&main).set("/ledger", json!({ "segment_bytes": 65_536 })).start().await;
    let work = Arc::new(Work {
        addr: gateway.addr(),
        distrust: gateway.distrust(),
        begun: AtomicU64::new(0),
        completed: AtomicU64::new(0),
        requests: plan.requests,
    });
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(work.clone().client())).collect();
    let is_done = Arc::new(AtomicBool::new(false));
    let gathered = tokio::spawn({
        let is_done = is_done.clone();
        async move {
            let mut known = Vec::new();
            for client in clients {
                known.extend(client.await.unwrap());
            }
            is_done.store(true, Ordering::Release);
            known
        }
    });
    let mut restarts = Vec::new();
    while !gathered.is_finished() && plan.kill.is_due(&work, &is_done).await {
        restarts.push(gateway.kill_and_restart().await);
        expect_whole(&gateway).await;
    }
    let known = gathered.await.unwrap();
    // What is in flight at the last kill is closed by the start after it.
    restarts.push(gateway.kill_and_restart().await);
    judge(&gateway, &main, &known, u64::try_from(restarts.len()).unwrap()).await;
    restarts.sort();
    say(&format!(
        "{} kills; from start to ready: median {:?}, most {:?}",
        restarts.len(),
        restarts[restarts.len() / 2],
        restarts.last()
    ));
}

async fn judge(gateway: &Gateway, main: &Mock, known: &[Known], kills: u64) {
    expect_whole(gateway).await;
    let all = entries(gateway).await;
    let mut by_id: HashMap<&str, &Value> = HashMap::new();
    for entry in &all {
        assert!(by_id.insert(entry["id"].as_str().unwrap(), entry).is_none(), "billed twice: {entry}");
    }
    let told = told(main);

    let (mut completed, mut expected) = (Vec::new(), (0, 0, 0));
    for one in known.iter().filter(|one| one.is_complete) {
        let id = one.id.as_deref().unwrap();
        let entry = *by_id.get(id).unwrap_or_else(|| panic!("request {} ({id}) was completed and has no entry", one.number));
        let usage = told[&one.number];
        let place = format!("request {}: {entry}", one.number);
        assert_eq!((&entry["end"], &entry["source"], &entry["status"]), (&"ok".into(), &"final".into(), &200.into()), "{place}");
        assert_eq!(
            (&entry["input_tokens"], &entry["output_tokens"]),
            (&usage.input_tokens.into(), &usage.output_tokens.into()),
            "{place}"
        );
        assert_eq!(
            (&entry["cost_nano_usd"], &entry["stream"]),
            (&cost(&usage).into(), &one.number.is_multiple_of(2).into()),
            "{place}"
        );
        expected = (expected.0 + usage.input_tokens, expected.1 + usage.output_tokens, expected.2 + cost(&usage));
        completed.push(entry.clone());
    }
    let sums = (sum(&completed, "input_tokens"), sum(&completed, "output_tokens"), sum(&completed, "cost_nano_usd"));
    assert_eq!(sums, expected, "to the last unit");

    // Whoever saw a head and no end has an entry too: closed before its last byte was on the way, or interrupted.
    for one in known.iter().filter(|one| !one.is_complete) {
        if let Some(id) = &one.id {
            let entry = by_id.get(id.as_str()).unwrap_or_else(|| panic!("{id} began and has no entry"));
            assert!(entry["end"] == "ok" || entry["end"] == "interrupted", "{entry}");
        }
    }
    let ended = |end: &str| all.iter().filter(|entry| entry["end"] == end).count();
    let (ok, interrupted) = (ended("ok"), ended("interrupted"));
    assert_eq!(ok + interrupted, all.len(), "no other end");
    let interrupted_cost: u64 =
        all.iter().filter(|entry| entry["end"] == "interrupted").map(|entry| entry["cost_nano_usd"].as_u64().unwrap()).sum();
    assert_eq!(interrupted_cost, 0, "nothing is known of it, so nothing is billed");
    assert!(told.len() <= all.len(), "{} reached the provider, {} are in the books", told.len(), all.len());
    // A client has one request at a time. What it could not even send has no entry.
    let at_once = u64::try_from(CLIENTS).unwrap();
    assert!(
        u64::try_from(interrupted).unwrap() <= kills * at_once && all.len() <= known.len(),
        "{interrupted} of {}",
        known.len()
    );
    assert!(completed.len() * 2 > known.len() && kills > 2, "{} completed, {kills} kills", completed.len());

    // What is sold is what the roll-ups say, after folds by many processes.
    let total = command(gateway, &["usage", "--json"]).await.expect(0).json()["total"].clone();
    assert_eq!(total["cost_nano_usd"], sum(&all, "cost_nano_usd"), "{total}");
    assert_eq!(total["requests"], all.len(), "{total}");
    expect_whole(gateway).await;
    say(&format!(
        "{} requests, {} completed at clients, {ok} entries ok ({} of them killed before the last byte), {interrupted} interrupted",
        known.len(),
        completed.len(),
        ok - completed.len(),
    ));
}
