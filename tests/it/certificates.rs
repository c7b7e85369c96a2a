//! A6: certificates of upstreams that can't be trusted: said in words with what mends it, tried once, and found by `check --online`.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use serde_json::{Value, json};
use trollbridge::provider_mock::Tls;

use crate::answers::{CHAT, access_line, ask, ask_main, expect_error};
use crate::support::process::{self, Ended};
use crate::support::setup::{MAIN_KEY, MAIN_PLACE, NAMED_MODEL, TROLL_KEY, TROLL_MODEL};
use crate::support::{Authority, Gateway, Mock, Setup};

/// What the certificate is, what a client must trust for it, and the words that tell it.
fn every_fault() -> Vec<(&'static str, Tls, String, [&'static str; 2])> {
    let authority = Authority::new();
    let ca_pem = authority.ca_pem.clone();
    let own = Authority::of_itself(&[MAIN_PLACE], true);
    let own_pem = own.cert_pem.clone();
    vec![
        ("an authority's", own, own_pem, ["is an authority's and no server's", "basicConstraints=critical,CA:FALSE"]),
        (
            "another name's",
            authority.server(&["other.provider.test"], true),
            ca_pem.clone(),
            ["is not for the name main.provider.test, but for", "other.provider.test"],
        ),
        (
            "another authority's",
            Authority::new().server(&[MAIN_PLACE], true),
            ca_pem.clone(),
            ["is by no authority in", "`ca_file`"],
        ),
        ("expired", authority.expired(&[MAIN_PLACE]), ca_pem.clone(), ["the time of the certificate", "is over"]),
        ("early", authority.not_yet(&[MAIN_PLACE]), ca_pem, ["is not valid yet", "clock"]),
    ]
}

async fn check_online(gateway: &Gateway, args: &[&str]) -> Ended {
    let (config, conf) = (gateway.dir().join("config.json"), gateway.dir().join("pingora.yaml"));
    let files = ["check", "--online", "--config", config.to_str().unwrap(), "--conf", conf.to_str().unwrap()];
    process::run(gateway.dir(), &[&files, args].concat(), &gateway.env()).await
}

fn setup() -> Setup {
    Setup::new().set("/log/format", json!("json")).secret_env("MAIN_UPSTREAM_KEY", MAIN_KEY)
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_each_fault_of_a_certificate_is_told_with_what_mends_it_and_tried_once() {
    for (which, tls, ca_pem, words) in every_fault() {
        let (main, other) = (Mock::https(tls).await.unwrap(), Mock::http().await.unwrap());
        let base_url = format!("https://{MAIN_PLACE}");
        let gateway = Arc::new(setup().at_host("main", &base_url, &main, &ca_pem).named(&other).start().await);
        // A second client, which works all the while.
        let second = {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                let mut client = gateway.client().await;
                for _ in 0..50 {
                    client.send(ask(CHAT, NAMED_MODEL, false)).await.expect(200);
                }
            })
        };
        for _ in 0..3 {
            let answer = gateway.send(ask_main(CHAT, false)).await.expect(502);
            expect_error(CHAT, &answer.json());
            assert!(!answer.text().contains("provider.test") && !answer.text().contains("ertificate"), "{}", answer.text());
            let line = access_line(&gateway, &answer).await;
            assert_eq!((&line["attempts"], &line["end"]), (&json!(1), &json!("upstream_error")), "{which}: {line}");
            let id = answer.header("x-request-id").to_owned();
            let told = gateway.wait_for_log(|line| line.contains("WARN") && line.contains(&id)).await;
            for word in words.into_iter().chain(["upstream main", "https://main.provider.test"]) {
                assert!(told.contains(word), "{which}, {word}: {told}");
            }
        }
        second.await.unwrap();
        assert_eq!(main.counts().requests, 0, "{which}");

        let ended = check_online(&gateway, &[]).await.expect(64);
        for word in words {
            assert!(ended.out.contains(word), "{which}, {word}: {}", ended.out);
        }
        assert!(ended.out.contains("online named: ") && ended.out.ends_with("online: 1 of 2 reached\n"), "{}", ended.out);
        assert!(!(ended.out.clone() + &ended.err).contains(MAIN_KEY));
    }
}

/// The remedy that is told works: the same key pair's certificate, made anew without being an authority.
#[tokio::test(flavor = "multi_thread")]
async fn a6_a_certificate_of_its_own_that_is_no_authority_is_accepted() {
    let tls = Authority::of_itself(&[MAIN_PLACE], false);
    let pem = tls.cert_pem.clone();
    let main = Mock::https(tls).await.unwrap();
    let gateway = setup().at_host("main", &format!("https://{MAIN_PLACE}"), &main, &pem).start().await;
    gateway.send(ask_main(CHAT, false)).await.expect(200);
    check_online(&gateway, &[]).await.expect(0);
}

/// A port that speaks no TLS is no better a second later.
#[tokio::test(flavor = "multi_thread")]
async fn a6_a_port_without_tls_is_told_and_tried_once() {
    let main = Mock::http().await.unwrap();
    let ca_pem = Authority::new().ca_pem;
    let gateway = setup().at_host("main", &format!("https://{MAIN_PLACE}"), &main, &ca_pem).start().await;
    let answer = gateway.send(ask_main(CHAT, false)).await.expect(502);
    assert_eq!(access_line(&gateway, &answer).await["attempts"], 1);
    gateway.wait_for_log(|line| line.contains("does not speak TLS at that port")).await;
    check_online(&gateway, &[]).await.expect(64);
}

/// Of reverse proxies each has a certificate of its own: one that can't be trusted is down, the others carry on.
#[tokio::test(flavor = "multi_thread")]
async fn a6_a_reverse_proxy_with_a_bad_certificate_is_left_for_the_others() {
    let authority = Authority::new();
    let bad = Mock::https(authority.expired(&["p1.test"])).await.unwrap();
    let good = Mock::https(authority.server(&["p2.test"], true)).await.unwrap();
    let setup = Setup::new().set("/log/format", json!("json")).secret_env("TROLL_API_KEY", TROLL_KEY);
    let ca_file = setup.file("ca.pem", &authority.ca_pem);
    let proxy = |id: &str, mock: &Mock| json!({ "id": id, "kind": "reverse", "addr": mock.addr(), "tls": { "server_name": format!("{id}.test") } });
    let gateway = setup
        .set("/upstreams/troll/base_url", json!("http://troll.provider.test"))
        .set("/upstreams/troll/keys", json!([{ "id": "k1", "key": "${TROLL_API_KEY}" }]))
        .set("/upstreams/troll/proxies", json!([proxy("p1", &bad), proxy("p2", &good)]))
        .set("/upstreams/troll/ca_file", json!(ca_file))
        .start()
        .await;
    for _ in 0..4 {
        gateway.send(ask(CHAT, TROLL_MODEL, false)).await.expect(200);
    }
    let told = gateway.wait_for_log(|line| line.contains("proxy p1 of troll is not used")).await;
    assert!(told.contains("ERROR") && told.contains("the time of the certificate of proxy p1 of upstream troll"), "{told}");
    assert_eq!(bad.counts().requests, 0);
    let shown = check_online(&gateway, &["--json"]).await.expect(64).json();
    let states: Vec<_> = shown["online"].as_array().unwrap().iter().map(|way| (&way["proxy"], &way["state"])).collect();
    assert_eq!(states, [(&json!("p1"), &json!("wrong")), (&json!("p2"), &json!("reached"))], "{shown}");
}

/// What can't be reached is another exit code than what is wrong, and nothing is sent over what can.
#[tokio::test(flavor = "multi_thread")]
async fn a6_check_online_tells_apart_what_is_wrong_and_what_is_away() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let other = Mock::http().await.unwrap();
    for (base_url, code, state) in [
        (other.base_url(), 0, "reached"),
        (format!("http://{closed}"), 75, "unreachable"),
        (format!("https://{closed}"), 75, "unreachable"),
        ("https://no-such-name.invalid".to_owned(), 75, "unreachable"),
    ] {
        let gateway = setup().set("/upstreams/main/base_url", json!(base_url)).named(&other).start().await;
        let shown: Value = check_online(&gateway, &["--json"]).await.expect(code).json();
        let of = |name: &str| {
            let ways = shown["online"].as_array().unwrap();
            ways.iter().find(|way| way["upstream"] == name).unwrap_or_else(|| panic!("{name}: {shown}")).clone()
        };
        assert_eq!((of("main")["state"].clone(), of("named")["state"].clone()), (json!(state), json!("reached")), "{shown}");
        assert_eq!(shown["online"].as_array().unwrap().len(), 2, "only what is configured: {shown}");
    }
    assert_eq!(other.counts().requests, 0);
}
