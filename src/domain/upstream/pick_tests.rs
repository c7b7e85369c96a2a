//! Who is picked, by value: turns, rests, health, and what is left when nobody is.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::guard::KeyGuard;
use crate::domain::secret::Secret;
use crate::domain::upstream::health::{Health, HealthCheck};
use crate::domain::upstream::proxy::ProxyKind;
use crate::domain::upstream::standing::Cause;
use crate::domain::upstream::{AuthHeader, Endpoint, Timeouts};

const NOW: Moment = Moment::from_millis(1_800_000_000_000);

fn after(seconds: u64) -> Moment {
    NOW.after(Duration::from_secs(seconds))
}

/// A search for a request of model `m`.
fn search(tried: &Tried, now: Moment) -> Search<'_> {
    Search { tried, model: Some("m"), now }
}

/// An upstream with this many keys, and a proxy for each list of keys.
fn upstream(keys: usize, proxies: &[&[usize]]) -> Upstream {
    let credential =
        |nth| Credential::new(&format!("k{nth}"), Secret::new(format!("key-{nth}")).unwrap(), Arc::default()).unwrap();
    let proxy = |(nth, keys): (usize, &&[usize])| Proxy {
        id: format!("p{nth}").into(),
        kind: ProxyKind::Reverse { tls: None },
        host: "127.0.0.1".into(),
        port: 1,
        keys: keys.to_vec(),
        health: Arc::new(Health::default()),
        fingerprint: nth as u64,
    };
    let second = Duration::from_secs(1);
    Upstream {
        name: "troll".into(),
        endpoint: Endpoint::from_url("https://llm.example.com").ok().map(Arc::new),
        credentials: (0..keys).map(credential).collect(),
        pool: (!proxies.is_empty())
            .then(|| Pool::new(proxies.iter().enumerate().map(proxy).collect(), HealthCheck::default(), false, Arc::default())),
        cooldowns: Default::default(),
        retry_budget: Default::default(),
        hides_limits: true,
        requires_key: true,
        auth_header: AuthHeader::Authorization,
        connect_to: None,
        ca_file: None,
        http2: true,
        timeouts: Timeouts { connect: second, first_byte: second, idle: second },
        pass_client_faults: false,
        guard: KeyGuard::new(std::iter::empty()),
    }
}

fn fresh(upstream: &Upstream, now: Moment) -> Result<(Option<usize>, Option<usize>), Out> {
    upstream.pick(&search(&Tried::default(), now)).map(|pick| (pick.proxy, pick.credential))
}

fn cool(upstream: &Upstream, key: usize, seconds: u64) {
    upstream.credentials[key].standing.cool(after(seconds), Cause::RateLimited);
}

fn take_down(upstream: &Upstream, proxy: usize) {
    let pool = upstream.pool.as_ref().unwrap();
    pool.proxies[proxy].health.request_failed(true, &pool.check, NOW);
}

#[test]
fn t1_nine_requests_through_three_proxies_are_three_each_in_turn() {
    let upstream = upstream(2, &[&[0, 1], &[1], &[1, 0]]);
    let picks: Vec<_> = (0..9).map(|_| fresh(&upstream, NOW).unwrap()).collect();
    let lap = [(Some(0), Some(0)), (Some(1), Some(1)), (Some(2), Some(1))];
    assert_eq!(picks, [lap, lap, lap].concat());
}

#[test]
fn t2_the_secondary_key_is_tried_through_the_same_proxy() {
    let upstream = upstream(3, &[&[0, 1], &[2]]);
    let first = upstream.pick(&search(&Tried::default(), NOW)).unwrap();
    let mut tried = Tried::default();
    tried.key(first);
    cool(&upstream, 0, 60);
    assert_eq!(upstream.pick(&search(&tried, NOW)), Ok(Pick { proxy: Some(0), credential: Some(1) }));
}

#[test]
fn t3_with_both_keys_out_the_next_proxy_is_tried_and_the_first_stays_out_until_a_key_is_back() {
    let upstream = upstream(3, &[&[0, 1], &[2]]);
    let mut tried = Tried::default();
    for (key, seconds) in [(0, 60), (1, 30)] {
        tried.key(Pick { proxy: Some(0), credential: Some(key) });
        cool(&upstream, key, seconds);
    }
    assert_eq!(upstream.pick(&search(&tried, NOW)), Ok(Pick { proxy: Some(1), credential: Some(2) }));
    assert!((0..10).all(|_| fresh(&upstream, after(29)) == Ok((Some(1), Some(2)))));
    let later: Vec<_> = (0..2).map(|_| fresh(&upstream, after(30)).unwrap()).collect();
    assert!(later.contains(&(Some(0), Some(1))), "{later:?}");
}

#[test]
fn t4_when_all_rest_the_first_one_back_is_known() {
    let upstream = upstream(3, &[&[0], &[1], &[2]]);
    for (key, seconds) in [(0, 60), (1, 7), (2, 3_600)] {
        cool(&upstream, key, seconds);
    }
    assert_eq!(fresh(&upstream, NOW), Err(Out::Until(after(7))));
    take_down(&upstream, 1);
    assert_eq!(fresh(&upstream, NOW), Err(Out::Until(after(30))), "after its next check, not before");
    assert_eq!(fresh(&upstream, after(50)), Err(Out::Until(after(60))));
}

#[test]
fn a2_a_key_that_rests_for_one_model_carries_the_others() {
    for proxies in [&[][..], &[&[0, 1][..]]] {
        let upstream = upstream(2, proxies);
        upstream.credentials[0].standing.cool_for("m", after(60), Cause::RateLimited, NOW);
        let tried = Tried::default();
        let of = |model| upstream.pick(&Search { tried: &tried, model, now: NOW }).map(|pick| pick.credential);
        assert_eq!((of(Some("m")), of(Some("other")), of(None)), (Ok(Some(1)), Ok(Some(0)), Ok(Some(0))));
        upstream.credentials[1].standing.cool_for("m", after(7), Cause::NoAccess, NOW);
        assert_eq!((of(Some("m")), of(Some("other"))), (Err(Out::Until(after(7))), Ok(Some(0))));
        let beside = |model| upstream.has_another(&Search { tried: &tried, model, now: NOW });
        assert_eq!((beside(Some("m")), beside(Some("other"))), (false, true));
    }
}

#[test]
fn t4_all_keys_dead_is_no_matter_of_time() {
    let upstream = upstream(2, &[&[0, 1]]);
    upstream.credentials.iter().for_each(|credential| {
        credential.standing.kill(Cause::Unauthorized);
    });
    assert_eq!(fresh(&upstream, NOW), Err(Out::KeysDead));
}

#[test]
fn t5_never_direct_while_proxies_are_configured_unless_allowed() {
    let mut upstream = upstream(2, &[&[0], &[1]]);
    take_down(&upstream, 0);
    take_down(&upstream, 1);
    assert!(fresh(&upstream, NOW).is_err());
    upstream.pool.as_mut().unwrap().allow_direct_when_down = true;
    assert_eq!(fresh(&upstream, NOW), Ok((None, Some(0))));
}

#[test]
fn t5_exhausted_proxies_are_not_down() {
    let mut upstream = upstream(2, &[&[0], &[0]]);
    upstream.pool.as_mut().unwrap().allow_direct_when_down = true;
    cool(&upstream, 0, 60);
    assert_eq!(fresh(&upstream, NOW), Err(Out::Until(after(60))), "key 1 belongs to no proxy, and no proxy is down");
}

#[test]
fn t5_without_proxies_the_keys_rotate_and_the_primary_comes_first() {
    let upstream = upstream(2, &[]);
    assert!((0..3).all(|_| fresh(&upstream, NOW) == Ok((None, Some(0)))));
    cool(&upstream, 0, 60);
    assert_eq!(fresh(&upstream, NOW), Ok((None, Some(1))));
    cool(&upstream, 1, 9);
    assert_eq!(fresh(&upstream, NOW), Err(Out::Until(after(9))));
    assert_eq!(fresh(&upstream, after(60)), Ok((None, Some(0))));
}

#[test]
fn a_single_key_is_used_whatever_it_was_told() {
    let upstream = upstream(1, &[]);
    cool(&upstream, 0, 60);
    assert_eq!(fresh(&upstream, NOW), Ok((None, Some(0))));
    let mut tried = Tried::default();
    tried.key(Pick { proxy: None, credential: Some(0) });
    assert_eq!(upstream.pick(&search(&tried, NOW)), Err(Out::Until(after(60))), "but once per request");
}

#[test]
fn a_key_bound_to_two_proxies_has_one_standing() {
    let upstream = upstream(2, &[&[0, 1], &[0, 1]]);
    cool(&upstream, 0, 60);
    assert!((0..4).all(|_| matches!(fresh(&upstream, NOW), Ok((_, Some(1))))));
}

#[test]
fn t10_a_failed_proxy_is_not_asked_again_by_the_same_request() {
    let upstream = upstream(1, &[&[0], &[0], &[0]]);
    let mut tried = Tried::default();
    for _ in 0..3 {
        let pick = upstream.pick(&search(&tried, NOW)).unwrap();
        tried.proxy(pick);
    }
    assert_eq!(upstream.pick(&search(&tried, NOW)), Err(Out::Until(NOW)), "the next request may try them again");
}

#[test]
fn a_stale_connection_goes_to_another_proxy_and_never_direct() {
    let mut upstream = upstream(1, &[&[0], &[0]]);
    upstream.pool.as_mut().unwrap().allow_direct_when_down = true;
    let first = upstream.pick(&search(&Tried::default(), NOW)).unwrap();
    assert_eq!(upstream.pick_beside(first, &search(&Tried::default(), NOW)).unwrap().proxy, Some(1 - first.proxy.unwrap()));
    take_down(&upstream, 1 - first.proxy.unwrap());
    assert_eq!(upstream.pick_beside(first, &search(&Tried::default(), NOW)), None);
}

#[test]
fn the_share_of_a_proxy_that_is_out_goes_to_all_the_others() {
    let upstream = upstream(4, &[&[0], &[1], &[2], &[3]]);
    take_down(&upstream, 1);
    let mut shares = [0; 4];
    for _ in 0..300 {
        shares[fresh(&upstream, NOW).unwrap().0.unwrap()] += 1;
    }
    assert_eq!(shares, [100, 0, 100, 100]);
}

#[test]
fn the_last_one_of_a_thousand_is_found_by_everybody_at_once() {
    let keys: Vec<Vec<usize>> = (0..1_000).map(|nth| vec![nth]).collect();
    let keys: Vec<&[usize]> = keys.iter().map(Vec::as_slice).collect();
    let upstream = upstream(1_000, &keys);
    (0..1_000).filter(|key| *key != 617).for_each(|key| cool(&upstream, key, 60));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| assert_eq!(fresh(&upstream, NOW), Ok((Some(617), Some(617))))));
        }
    });
}

fn passed_by(upstream: &Upstream, tried: &Tried) -> Option<String> {
    let mut passed = PassedOver::default();
    let _ = upstream.pick_and_note(&search(tried, NOW), &mut passed);
    passed.text(&upstream.credentials, upstream.proxies())
}

/// L1: who is out of the running is named by id, with a word for why.
#[test]
fn a_pick_says_who_was_passed_over() {
    let direct = upstream(4, &[]);
    assert_eq!(passed_by(&direct, &Tried::default()), None);
    direct.credentials[0].standing.cool(after(60), Cause::RateLimited);
    direct.credentials[1].standing.kill(Cause::Unauthorized);
    direct.credentials[3].standing.cool(after(60), Cause::RateLimited);
    assert_eq!(passed_by(&direct, &Tried::default()).as_deref(), Some("k0:cooling,k1:dead"));

    let pooled = upstream(3, &[&[0], &[1, 2], &[2]]);
    assert_eq!(passed_by(&pooled, &Tried::default()), None);
    let down = &pooled.pool.as_ref().unwrap().proxies[2].health;
    while down.is_up() {
        down.check_failed(false, &pooled.pool.as_ref().unwrap().check, NOW);
    }
    pooled.credentials[0].standing.cool(after(60), Cause::Exhausted);
    pooled.credentials[1].standing.cool(after(60), Cause::RateLimited);
    // The turn is the second proxy's; its first key rests. After it the third is down and the first has no key left.
    assert_eq!(passed_by(&pooled, &Tried::default()).as_deref(), Some("k1:cooling"));
    let mut tried = Tried::default();
    tried.key(Pick { proxy: Some(1), credential: Some(2) });
    assert_eq!(passed_by(&pooled, &tried).as_deref(), Some("p1:exhausted,p2:down,p0:exhausted"));
}

#[test]
fn the_list_of_who_was_passed_over_is_short_and_names_nobody_twice() {
    let many = upstream(30, &[]);
    many.credentials.iter().for_each(|credential| assert!(credential.standing.kill(Cause::Forbidden)));
    let text = passed_by(&many, &Tried::default()).unwrap();
    assert_eq!(text, "k0:dead,k1:dead,k2:dead,k3:dead,k4:dead,k5:dead,k6:dead,k7:dead,+more");
    let mut passed = PassedOver::default();
    passed.left_key(Pick { proxy: Some(0), credential: Some(3) }, "rate_limited");
    passed.note(Candidate::Key(3), "cooling");
    passed.left_proxy(Pick::default(), "unreachable");
    assert_eq!(passed.text(&many.credentials, many.proxies()).as_deref(), Some("k3:rate_limited"));
}

#[derive(Clone, Debug)]
enum Event {
    Cool { key: usize, seconds: u64 },
    Kill { key: usize },
    Fail { proxy: usize },
    Pass { proxy: usize },
    Wait { seconds: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4usize, 1..100u64).prop_map(|(key, seconds)| Event::Cool { key, seconds }),
        (0..4usize).prop_map(|key| Event::Kill { key }),
        (0..3usize).prop_map(|proxy| Event::Fail { proxy }),
        (0..3usize).prop_map(|proxy| Event::Pass { proxy }),
        (1..50u64).prop_map(|seconds| Event::Wait { seconds }),
    ]
}

proptest! {
    /// T6, T11: whatever happened before, only a proxy that is up carries a request, with a key of its own that is ready; and where
    /// nobody can, nobody could.
    #[test]
    fn a_resting_key_and_a_proxy_that_is_down_are_never_picked(events in proptest::collection::vec(event(), 0..40)) {
        let upstream = upstream(4, &[&[0, 1], &[2], &[3, 0]]);
        let pool = upstream.pool.as_ref().unwrap();
        let mut now = NOW;
        for event in events {
            match event {
                Event::Cool { key, seconds } => {
                    upstream.credentials[key].standing.cool(now.after(Duration::from_secs(seconds)), Cause::RateLimited);
                }
                Event::Kill { key } => drop(upstream.credentials[key].standing.kill(Cause::Forbidden)),
                Event::Fail { proxy } => drop(pool.proxies[proxy].health.check_failed(false, &pool.check, now)),
                Event::Pass { proxy } => drop(pool.proxies[proxy].health.check_passed(&pool.check, now)),
                Event::Wait { seconds } => now = now.after(Duration::from_secs(seconds)),
            }
            let is_ready = |key: &usize| upstream.credentials[*key].standing.state(now) == KeyState::Ready;
            let could = pool.proxies.iter().any(|proxy| proxy.health.is_up() && proxy.keys.iter().any(is_ready));
            match upstream.pick(&search(&Tried::default(), now)) {
                Ok(pick) => {
                    let (proxy, key) = (&pool.proxies[pick.proxy.unwrap()], pick.credential.unwrap());
                    prop_assert!(proxy.health.is_up() && proxy.keys.contains(&key) && is_ready(&key));
                    let before = proxy.keys.iter().take_while(|other| **other != key);
                    prop_assert!(before.into_iter().all(|other| !is_ready(other)), "a secondary before its primary");
                }
                Err(out) => {
                    prop_assert!(!could);
                    prop_assert!(!matches!(out, Out::Until(at) if at < now));
                }
            }
        }
    }
}
