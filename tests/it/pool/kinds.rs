//! T7: the three kinds of proxy, end to end, and connections that are kept for their own proxy alone.

use std::collections::HashSet;

use super::Kind::{Connect, Socks5};
use super::*;
use crate::answers::{CHAT, MESSAGES, access_line};
use crate::support::{Authority, Recorded};

const HOST: &str = "llm.provider.test";
const PROXY_NAME: &str = "edge.proxy.test";
/// Requests of a test that looks for kept connections.
const MANY: usize = 12;
const USERNAME: &str = "planted-username-3d4e";
const PASSWORD: &str = "planted-password-c02b";

/// Troll at `https://llm.provider.test/base` with these proxies; the test's authority is the only one.
fn troll_at_host(authority: &Authority, proxies: Value) -> Setup {
    let setup = with_keys(Setup::new(), "troll", 1).secret_env("PROXY_PASSWORD", PASSWORD).planted(USERNAME);
    let ca_file = setup.file("troll-ca.pem", &authority.ca_pem);
    setup
        .set("/log/format", json!("json"))
        .set("/upstreams/troll/base_url", json!(format!("https://{HOST}/base")))
        .set("/upstreams/troll/ca_file", json!(ca_file))
        .set("/upstreams/troll/health_check", json!({ "interval_s": 3600 }))
        .set("/upstreams/troll/proxies", proxies)
}

#[track_caller]
fn expect_troll(arrived: &Recorded, sni: Option<&str>) {
    assert_eq!(arrived.authority.as_deref().unwrap_or_else(|| arrived.header("host")[0]), HOST);
    assert_eq!(arrived.target, format!("/base{MESSAGES}"));
    assert_eq!(arrived.header("authorization"), [format!("Bearer {TROLL_KEY}")]);
    assert_eq!(arrived.sni.as_deref(), sni);
    assert!(arrived.header("proxy-authorization").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_forward_proxies_carry_tls_end_to_end_with_and_without_a_login() {
    for kind in [Connect, Socks5] {
        for logs_in in [false, true] {
            let what = format!("{kind:?}, login {logs_in}");
            let authority = Authority::new();
            let provider = Mock::https(authority.server(&[HOST], true)).await.unwrap();
            let (proxy, name) = match kind {
                Connect => (ScriptedProxy::connect().await, "connect"),
                _ => (ScriptedProxy::socks5().await, "socks5"),
            };
            proxy.connect_to(provider.addr());
            let mut config = json!({ "id": "p1", "kind": name, "addr": proxy.addr() });
            if logs_in {
                proxy.require(USERNAME, PASSWORD);
                (config["username"], config["password"]) = (json!(USERNAME), json!("${PROXY_PASSWORD}"));
            }
            let gateway = troll_at_host(&authority, json!([config])).start().await;
            proxy.wait_until(|seen| seen.tunnels >= 1 && seen.standing == 0).await;
            for nth in 0..MANY {
                let answer = gateway.send(ask_troll(MESSAGES, nth % 2 == 0)).await.expect(200);
                let line = access_line(&gateway, &answer).await;
                assert_eq!((&line["proxy"], &line["attempts"]), (&json!("p1"), &json!(1)), "{what}: {line}");
            }
            let seen = proxy.seen();
            let tunnels = usize::try_from(seen.tunnels).unwrap();
            assert_eq!(seen.targets, vec![format!("{HOST}:443"); tunnels], "{what}");
            let login = (USERNAME.to_owned(), PASSWORD.to_owned());
            assert_eq!(seen.logins, vec![login; if logs_in { tunnels } else { 0 }], "{what}");
            let arrived = provider.requests();
            assert_eq!(arrived.len(), MANY, "{what}");
            arrived.iter().for_each(|request| expect_troll(request, Some(HOST)));
            expect_reuse(arrived.iter());
            // One tunnel was for the check.
            assert_eq!(connections(arrived.iter()).len(), tunnels - 1, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_a_forward_proxy_can_not_pose_as_the_upstream() {
    for kind in [Connect, Socks5] {
        let (authority, another) = (Authority::new(), Authority::new());
        let stranger = Mock::https(another.server(&[HOST], false)).await.unwrap();
        let (proxy, name) = match kind {
            Connect => (ScriptedProxy::connect().await, "connect"),
            _ => (ScriptedProxy::socks5().await, "socks5"),
        };
        proxy.connect_to(stranger.addr());
        let proxies = json!([{ "id": "p1", "kind": name, "addr": proxy.addr() }]);
        let gateway = troll_at_host(&authority, proxies).start().await;
        let answer = gateway.send(ask_troll(MESSAGES, false)).await;
        assert!([502, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        assert_eq!(stranger.counts().requests, 0, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_a_reverse_proxy_speaks_http_or_https_by_a_name_of_its_own() {
    for (with_tls, http2) in [(false, false), (true, false), (true, true)] {
        let authority = Authority::new();
        let (proxy, config) = if with_tls {
            let proxy = Mock::https(authority.server(&[PROXY_NAME], http2)).await.unwrap();
            let config = json!({ "id": "p1", "kind": "reverse", "addr": proxy.addr(), "tls": { "server_name": PROXY_NAME } });
            (proxy, config)
        } else {
            let proxy = Mock::http().await.unwrap();
            let config = json!({ "id": "p1", "kind": "reverse", "addr": proxy.addr() });
            (proxy, config)
        };
        let gateway = troll_at_host(&authority, json!([config])).start().await;
        for nth in 0..MANY {
            let answer = gateway.send(ask_troll(MESSAGES, nth % 2 == 0)).await.expect(200);
            assert_eq!(access_line(&gateway, &answer).await["proxy"], "p1");
        }
        let arrived = proxy.requests();
        assert_eq!(arrived.len(), MANY);
        assert!(arrived.iter().all(|request| (request.version == http::Version::HTTP_2) == http2));
        arrived.iter().for_each(|request| expect_troll(request, with_tls.then_some(PROXY_NAME)));
        expect_reuse(arrived.iter());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_a_reverse_proxy_with_another_name_in_its_certificate_gets_no_request() {
    let authority = Authority::new();
    let proxy = Mock::https(authority.server(&[HOST], false)).await.unwrap();
    let proxies = json!([{ "id": "p1", "kind": "reverse", "addr": proxy.addr(), "tls": { "server_name": PROXY_NAME } }]);
    let gateway = troll_at_host(&authority, proxies).start().await;
    let answer = gateway.send(ask_troll(MESSAGES, false)).await;
    assert!([502, 503].contains(&answer.status.as_u16()), "{}", answer.text());
    assert_eq!(proxy.counts().requests, 0);
}

/// The same target behind each: what is kept for one proxy never serves another.
#[tokio::test(flavor = "multi_thread")]
async fn t7_connections_are_kept_for_each_proxy_and_never_shared() {
    let authority = Authority::new();
    let provider = Mock::https(authority.server(&[HOST], false)).await.unwrap();
    let (first, second) = (ScriptedProxy::connect().await, ScriptedProxy::socks5().await);
    for proxy in [&first, &second] {
        proxy.connect_to(provider.addr());
    }
    let proxies = json!([
        { "id": "p1", "kind": "connect", "addr": first.addr() },
        { "id": "p2", "kind": "socks5", "addr": second.addr() },
    ]);
    let gateway = troll_at_host(&authority, proxies).start().await;
    for proxy in [&first, &second] {
        proxy.wait_until(|seen| seen.tunnels >= 1 && seen.standing == 0).await;
    }
    expect_turns_apart(&gateway, &provider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_two_logins_at_one_address_are_two_proxies() {
    let authority = Authority::new();
    let provider = Mock::https(authority.server(&[HOST], false)).await.unwrap();
    // It takes any login and notes it.
    let proxy = ScriptedProxy::connect().await;
    proxy.connect_to(provider.addr());
    let by = |id: &str, username: &str| json!({ "id": id, "kind": "connect", "addr": proxy.addr(), "username": username, "password": "${PROXY_PASSWORD}" });
    let gateway = troll_at_host(&authority, json!([by("p1", "account-1"), by("p2", "account-2")])).start().await;
    let checked = proxy.wait_until(|seen| seen.tunnels >= 2 && seen.standing == 0).await;
    assert_eq!(checked.tunnels, 2, "both are checked");
    expect_turns_apart(&gateway, &provider).await;
    let logins = proxy.seen().logins.split_off(2);
    for account in ["account-1", "account-2"] {
        let tunnels = logins.iter().filter(|(username, _)| username == account).count();
        assert!((1..=MANY / 2).contains(&tunnels), "{logins:?}");
    }
}

/// Requests by turns; those of one proxy share connections, and none with the other's.
async fn expect_turns_apart(gateway: &Gateway, provider: &Mock) {
    for nth in 0..MANY {
        let answer = gateway.send(ask_troll(CHAT, nth % 3 == 0)).await.expect(200);
        assert_eq!(access_line(gateway, &answer).await["proxy"], ["p1", "p2"][nth % 2]);
    }
    let arrived = provider.requests();
    assert_eq!(arrived.len(), MANY);
    let of = |turn: usize| arrived.iter().skip(turn).step_by(2);
    expect_reuse(of(0));
    expect_reuse(of(1));
    assert!(connections(of(0)).is_disjoint(&connections(of(1))));
}

fn connections<'a>(arrived: impl Iterator<Item = &'a Recorded>) -> HashSet<u64> {
    arrived.map(|request| request.connection).collect()
}

/// A client that is quick asks again before the connection is back in Pingora's pool; many requests need far fewer connections.
#[track_caller]
fn expect_reuse<'a>(arrived: impl Iterator<Item = &'a Recorded> + Clone) {
    let (requests, connections) = (arrived.clone().count(), connections(arrived).len());
    assert!(connections <= requests / 2, "{connections} connections for {requests} requests");
}
