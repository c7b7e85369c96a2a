//! The resolver on a scripted lookup and a paused clock: refresh, failure, rotation, no stampede.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::name::{FAILURE_TTL, LAST_FOR, LOOKUP_LIMIT, REFRESH_AGAIN};
use super::*;

const TTL: Duration = Duration::from_secs(30);

/// A lookup with a script: each call takes the next answer, once the gate lets it through. Without an answer it never ends.
struct Script {
    answers: Mutex<VecDeque<Result<Vec<IpAddr>, ErrorKind>>>,
    calls: AtomicUsize,
    gate: Semaphore,
}

impl Script {
    fn new(answers: &[Result<&[&str], ErrorKind>]) -> Arc<Self> {
        let parsed = answers.iter().map(|answer| answer.map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()));
        Arc::new(Self { answers: Mutex::new(parsed.collect()), calls: AtomicUsize::new(0), gate: Semaphore::new(1_000) })
    }

    fn resolver(self: &Arc<Self>) -> Resolver {
        let script = Arc::clone(self);
        Resolver::with_lookup(TTL, move |_| {
            let script = Arc::clone(&script);
            async move {
                script.calls.fetch_add(1, Ordering::Relaxed);
                script.gate.acquire().await.unwrap().forget();
                let answer = script.answers.lock().unwrap().pop_front();
                match answer {
                    Some(answer) => answer.map_err(io::Error::from),
                    None => std::future::pending().await,
                }
            }
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Lets every task of this thread's runtime run until it waits for something.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

async fn picked(resolver: &Resolver) -> String {
    resolver.pick("api.test", 443).await.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn address_literals_are_their_own_answer() {
    let script = Script::new(&[]);
    let resolver = script.resolver();
    for (host, shown) in [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80")] {
        assert_eq!(resolver.pick(host, 80).await.unwrap().to_string(), shown);
    }
    assert_eq!(script.calls(), 0);
    assert!(resolver.names.read().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn addresses_are_given_in_turn_from_one_lookup() {
    let script = Script::new(&[Ok(&["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"])]);
    let resolver = script.resolver();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(picked(&resolver).await);
    }
    assert_eq!(seen, ["10.0.0.1:443", "10.0.0.2:443", "10.0.0.3:443", "10.0.0.1:443"]);
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_waiters_share_one_lookup() {
    let script = Script::new(&[Ok(&["10.0.0.1"])]);
    script.gate.forget_permits(1_000);
    let resolver = script.resolver();
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.pick("api.test", 443).await })
        })
        .collect();
    settle().await;
    assert_eq!(script.calls(), 1);
    script.gate.add_permits(1);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().to_string(), "10.0.0.1:443");
    }
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn old_addresses_serve_while_a_new_answer_is_on_its_way() {
    let script = Script::new(&[Ok(&["10.0.0.1"]), Ok(&["10.0.0.2"])]);
    let resolver = script.resolver();
    assert_eq!(picked(&resolver).await, "10.0.0.1:443");
    script.gate.forget_permits(1_000);

    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(picked(&resolver).await, "10.0.0.1:443");
    settle().await;
    assert_eq!(script.calls(), 1, "fresh addresses need no lookup");

    tokio::time::advance(Duration::from_millis(1)).await;
    for _ in 0..10 {
        assert_eq!(picked(&resolver).await, "10.0.0.1:443");
        settle().await;
    }
    assert_eq!(script.calls(), 2, "one refresh in flight");

    script.gate.add_permits(1);
    settle().await;
    assert_eq!(picked(&resolver).await, "10.0.0.2:443");
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_keeps_the_old_addresses_and_is_tried_again() {
    let script = Script::new(&[Ok(&["10.0.0.1"]), Err(ErrorKind::TimedOut), Ok(&[]), Ok(&["10.0.0.2"])]);
    let resolver = script.resolver();
    assert_eq!(picked(&resolver).await, "10.0.0.1:443");
    tokio::time::advance(TTL).await;
    for calls in 2..=4 {
        assert_eq!(picked(&resolver).await, "10.0.0.1:443");
        settle().await;
        assert_eq!(script.calls(), calls);
        assert_eq!(picked(&resolver).await, if calls < 4 { "10.0.0.1:443" } else { "10.0.0.2:443" });
        settle().await;
        assert_eq!(script.calls(), calls, "no second try at once");
        tokio::time::advance(REFRESH_AGAIN).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_without_addresses_is_an_error_that_is_remembered_for_a_moment() {
    let script = Script::new(&[Err(ErrorKind::Other), Ok(&[]), Ok(&["10.0.0.1"])]);
    let resolver = script.resolver();
    for _ in 0..3 {
        let error = resolver.pick("api.test", 443).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(error.to_string().contains("api.test"), "{error}");
    }
    assert_eq!(script.calls(), 1);
    tokio::time::advance(FAILURE_TTL).await;
    assert_eq!(resolver.pick("api.test", 443).await.unwrap_err().kind(), ErrorKind::NotFound);
    tokio::time::advance(FAILURE_TTL).await;
    assert_eq!(picked(&resolver).await, "10.0.0.1:443");
    assert_eq!(script.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_without_an_end_is_given_up() {
    let script = Script::new(&[]);
    let resolver = script.resolver();
    let begin = Instant::now();
    assert_eq!(resolver.pick("api.test", 443).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(begin.elapsed().as_secs(), LOOKUP_LIMIT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_does_not_end_the_lookup_of_the_others() {
    let script = Script::new(&[Ok(&["10.0.0.1"])]);
    script.gate.forget_permits(1_000);
    let resolver = script.resolver();
    assert!(tokio::time::timeout(Duration::from_secs(1), resolver.pick("api.test", 443)).await.is_err());
    script.gate.add_permits(1);
    assert_eq!(picked(&resolver).await, "10.0.0.1:443");
    assert_eq!(script.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_address_stands_behind_the_others_for_a_while() {
    let script = Script::new(&[Ok(&["10.0.0.1", "10.0.0.2"]), Ok(&["10.0.0.1", "10.0.0.2"])]);
    let resolver = script.resolver();
    assert_eq!(picked(&resolver).await, "10.0.0.1:443");
    resolver.failed("api.test", "10.0.0.2:443".parse().unwrap());
    for _ in 0..4 {
        assert_eq!(picked(&resolver).await, "10.0.0.1:443");
    }
    assert_eq!(resolver.pick("api.test", 8443).await.unwrap().port(), 8443);
    tokio::time::advance(LAST_FOR).await;
    let both = [picked(&resolver).await, picked(&resolver).await];
    assert!(both.contains(&"10.0.0.2:443".to_owned()), "{both:?}");
}

#[tokio::test(start_paused = true)]
async fn where_all_addresses_failed_the_one_that_failed_first_is_tried() {
    let script = Script::new(&[Ok(&["10.0.0.1", "10.0.0.2"])]);
    let resolver = script.resolver();
    picked(&resolver).await;
    resolver.failed("api.test", "10.0.0.2:443".parse().unwrap());
    tokio::time::advance(Duration::from_secs(1)).await;
    resolver.failed("api.test", "10.0.0.1:443".parse().unwrap());
    for _ in 0..3 {
        assert_eq!(picked(&resolver).await, "10.0.0.2:443");
    }
}

#[tokio::test(start_paused = true)]
async fn the_other_family_serves_only_where_the_first_one_fails() {
    let script = Script::new(&[Ok(&["::1", "127.0.0.1"])]);
    let resolver = script.resolver();
    for _ in 0..3 {
        assert_eq!(picked(&resolver).await, "[::1]:443");
    }
    resolver.failed("api.test", "[::1]:443".parse().unwrap());
    for _ in 0..3 {
        assert_eq!(picked(&resolver).await, "127.0.0.1:443");
    }
}

#[tokio::test]
async fn the_systems_lookup_knows_localhost() {
    let resolver = Resolver::new(DEFAULT_TTL);
    assert!(resolver.pick("localhost", 80).await.unwrap().ip().is_loopback());
}
