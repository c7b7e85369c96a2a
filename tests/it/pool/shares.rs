//! T1: every proxy gets the same share, whatever its kind, and a dead one costs no client anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Kind::{Connect, Reverse, Socks5};
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line};

#[tokio::test(flavor = "multi_thread")]
async fn t1_nine_requests_through_three_proxies_are_three_each_in_turn() {
    let pool = Pool::of(&[Connect, Socks5, Reverse]).await;
    let gateway = pool.start(pool.setup(2)).await;
    let mut client = gateway.client().await;
    let mut turns = Vec::new();
    for _ in 0..9 {
        let answer = client.send(ask_troll(CHAT, false)).await.expect(200);
        let line = access_line(&gateway, &answer).await;
        assert_eq!((line["attempts"].as_u64(), line["key"].as_str()), (Some(1), Some("k1")), "{line}");
        turns.push(line["proxy"].as_str().unwrap().to_owned());
    }
    assert_eq!(turns, ["p1", "p2", "p3"].repeat(3));
    assert_eq!(pool.shares(), [3, 3, 3]);
    for way in &pool.ways {
        assert_eq!(way.keys(), ["k1"; 3], "the primary carries all while it is ready");
    }
    pool.expect_nothing_direct();
}

#[tokio::test(flavor = "multi_thread")]
async fn t1_fifty_clients_at_once_leave_the_shares_within_one() {
    const CLIENTS: u64 = 50;
    const EACH: u64 = 30;
    let pool = Pool::of(&[Connect, Socks5, Reverse]).await;
    let gateway = pool.start(pool.setup(2)).await;
    let mut clients = tokio::task::JoinSet::new();
    for nth in 0..CLIENTS {
        let mut client = gateway.client().await;
        let path = if nth % 2 == 0 { CHAT } else { MESSAGES };
        clients.spawn(async move {
            for turn in 0..EACH {
                client.send(ask_troll(path, turn % 2 == 0)).await.expect(200);
            }
        });
    }
    soon("all clients", clients.join_all()).await;
    let shares = pool.shares();
    assert_eq!(shares.iter().sum::<u64>(), CLIENTS * EACH, "{shares:?}");
    assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
    pool.expect_nothing_direct();
}

/// Under load a proxy dies with its tunnels and comes back: every answer is good, and its share is as before.
#[tokio::test(flavor = "multi_thread")]
async fn t1_a_proxy_that_dies_under_load_is_noticed_by_no_client_and_takes_its_share_when_it_is_back() {
    const CLIENTS: u64 = 50;
    const MUCH: u64 = 300;
    let mut pool = Pool::of(&[Connect; 3]).await;
    let gateway = pool.start(pool.setup(2).set("/upstreams/troll/health_check", CHECKED_EACH_SECOND.parse().unwrap())).await;
    let enough = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = gateway.client().await;
        let enough = Arc::clone(&enough);
        clients.spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                client.send(ask_troll(CHAT, false)).await.expect(200);
            }
        });
    }
    for way in &pool.ways {
        way.provider.wait_until(|counts| counts.requests >= MUCH).await;
    }
    pool.ways[1].proxy.as_mut().unwrap().kill().await;
    until_health(&gateway, "p2", "down").await;
    let without = pool.shares();
    for nth in [0, 2] {
        pool.ways[nth].provider.wait_until(|counts| counts.requests >= without[nth] + MUCH).await;
    }
    // Its provider hears no more of the clients; nothing else leads there.
    assert_eq!(pool.shares()[1], without[1]);

    pool.ways[1].proxy.as_mut().unwrap().revive().await;
    soon("the revived proxy to serve", pool.ways[1].provider.wait_until(|counts| counts.requests >= without[1] + MUCH)).await;
    enough.store(true, Ordering::Relaxed);
    soon("all clients", clients.join_all()).await;

    let before = pool.shares();
    let mut client = gateway.client().await;
    for _ in 0..30 {
        client.send(ask_troll(CHAT, false)).await.expect(200);
    }
    let after = pool.shares();
    assert_eq!(after.iter().zip(&before).map(|(after, before)| after - before).collect::<Vec<_>>(), [10, 10, 10]);
    pool.expect_nothing_direct();
}
