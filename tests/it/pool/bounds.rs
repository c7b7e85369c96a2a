//! What keeps a bad hour bounded: the budget of retries, a brown-out, a thousand proxies, a pool whose every member flaps.

use super::Kind::{Connect, Reverse, Socks5};
use super::*;
use crate::answers::{CHAT, MESSAGES, expect_error};
use crate::support::{Act, Client, Shorthand};

/// Sends `each` requests by each of `clients` connections at once; the statuses of the answers, which are errors of ours or good.
async fn load(gateway: &Gateway, clients: usize, each: usize) -> Vec<u16> {
    let mut running = tokio::task::JoinSet::new();
    for nth in 0..clients {
        let mut client = gateway.client().await;
        let (path, addr, distrust) = (if nth % 2 == 0 { CHAT } else { MESSAGES }, gateway.addr(), gateway.distrust());
        running.spawn(async move {
            let mut statuses = Vec::with_capacity(each);
            for _ in 0..each {
                let answer = client.send(ask_troll(path, false)).await;
                assert_eq!(answer.broken, None);
                if answer.status != 200 {
                    expect_error(path, &answer.json());
                }
                statuses.push(answer.status.as_u16());
                if !client.is_reusable().await {
                    client = Client::http1(addr, distrust.clone()).await;
                }
            }
            statuses
        });
    }
    soon("all clients", running.join_all()).await.concat()
}

async fn attempts(gateway: &Gateway) -> u64 {
    let proxies = &status(gateway, "troll").await["proxies"];
    proxies.as_array().unwrap().iter().map(|proxy| proxy["attempts"].as_u64().unwrap()).sum()
}

/// One of three refuses half of its connections, and no connection is kept, so that each request opens one. With the usual rule it is
/// soon down for a while; with the other it stays and half of its requests need another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_brown_out_of_one_proxy_is_hidden_from_the_clients_and_hardly_adds_to_the_load() {
    const REQUESTS: u64 = 3_000;
    for (failures_until_down, least) in [(3, 1), (1_000_000, 400)] {
        let pool = Pool::of(&[Connect; 3]).await;
        let check = json!({ "interval_s": 1, "failures": failures_until_down });
        let gateway = pool.start(pool.setup(2).set("/upstreams/troll/health_check", check)).await;
        for way in &pool.ways {
            way.provider.always(Reply::usual().header("connection", "close"));
        }
        pool.ways[1].proxy().reset_per_mille(7, 500);
        let statuses = load(&gateway, 30, 100).await;
        let good = statuses.iter().filter(|status| **status == 200).count() as u64;
        let attempts = attempts(&gateway).await;
        let failures = proxy_status(&gateway, "p2").await["connect_failures"].as_u64().unwrap();
        assert_eq!(statuses.len() as u64, REQUESTS);
        assert!(good * 1000 >= REQUESTS * 999, "{good} of {REQUESTS} were good");
        assert!(attempts * 100 <= REQUESTS * 125, "{attempts} attempts for {REQUESTS} requests");
        // It was a brown-out.
        assert!(failures >= least, "{failures} connections were refused");
        assert!(attempts > REQUESTS && attempts <= REQUESTS + failures, "{attempts} attempts, {failures} refused");
        pool.expect_nothing_direct();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nothing_can_be_reached_the_retries_are_a_share_of_the_requests() {
    const REQUESTS: u64 = 600;
    for (share, least) in [(0, 0), (10, 1)] {
        let pool = Pool::of(&[Connect, Socks5, Connect]).await;
        let setup = pool
            .setup(2)
            .set("/upstreams/troll/health_check/failures", json!(1_000_000))
            .set("/retry/max_share_percent", json!(share));
        let gateway = pool.start(setup).await;
        for way in &pool.ways {
            way.proxy().always(Act::Reset);
        }
        let (statuses, span) = timed(load(&gateway, 20, 30)).await;
        assert!(statuses.iter().all(|status| [502, 503].contains(status)), "{statuses:?}");
        let retries = attempts(&gateway).await - REQUESTS;
        // Ten to begin with, ten a second, and the share.
        let seconds = (*span.end() - *span.start()).as_secs() + 1;
        let most = if share == 0 { 0 } else { 10 + 10 * seconds + REQUESTS * share / 100 };
        assert!((least..=most).contains(&retries), "{retries} retries, at most {most}");
        assert_eq!(pool.requests(), 0);
        pool.expect_nothing_direct();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_proxies_are_loaded_and_take_their_turns() {
    const PROXIES: usize = 1_000;
    let pool = Pool::of(&[Reverse]).await;
    let list: Vec<_> = (0..PROXIES)
        .map(|nth| json!({ "id": format!("p{nth}"), "kind": "reverse", "addr": pool.ways[0].provider.addr() }))
        .collect();
    let gateway = pool.start(pool.setup(4).set("/upstreams/troll/proxies", json!(list))).await;
    let statuses = load(&gateway, 10, PROXIES / 10).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let proxies = status(&gateway, "troll").await["proxies"].clone();
    let proxies = proxies.as_array().unwrap();
    assert_eq!(proxies.len(), PROXIES);
    for proxy in proxies {
        assert_eq!((&proxy["attempts"], &proxy["health"]), (&json!(1), &json!("up")), "{proxy}");
    }
    reload(&gateway).await;
    gateway.send(ask_troll(CHAT, true)).await.expect(200);
}

/// Each refuses most of its connections and is up and down all the time: every request ends soon, well or with a clear error.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_every_member_flaps_answers_every_request() {
    const REQUESTS: u64 = 400;
    let pool = Pool::of(&[Connect, Socks5, Connect, Socks5]).await;
    let check = json!({ "interval_s": 1, "failures": 2 });
    let gateway = pool.start(pool.setup(2).set("/upstreams/troll/health_check", check)).await;
    for (nth, way) in pool.ways.iter().enumerate() {
        way.provider.always(Reply::usual().header("connection", "close"));
        way.proxy().reset_per_mille(nth as u64, 600);
    }
    let statuses = load(&gateway, 20, 20).await;
    assert_eq!(statuses.len() as u64, REQUESTS);
    assert!(statuses.iter().all(|status| [200, 502, 503].contains(status)), "{statuses:?}");
    assert!(attempts(&gateway).await <= 4 * REQUESTS);
    for way in &pool.ways {
        way.proxy().reset_per_mille(0, 0);
    }
    for way in &pool.ways {
        until_health(&gateway, &way.id, "up").await;
    }
    assert!(load(&gateway, 4, 5).await.iter().all(|status| *status == 200));
    pool.expect_nothing_direct();
}
