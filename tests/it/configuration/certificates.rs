//! The listeners' certificates: looked at before the start, and read again by each reload.

use http::Method;
use serde_json::json;
use trollbridge::provider_mock::Tls;

use crate::support::request::Answer;
use crate::support::setup::{ADMIN_TOKEN, MAIN_MODEL};
use crate::support::{Alpn, Authority, Client, Gateway, Mock, Request, Setup};

const NAME: &str = "gateway.test";

fn chat() -> Request {
    Request::post("/v1/chat/completions", &json!({ "model": MAIN_MODEL, "messages": [] }))
}

/// A new connection whose client trusts this authority alone.
async fn connect(gateway: &Gateway, authority: &Authority) -> Client {
    Client::tls(gateway.tls_addr(), NAME, &authority.ca_pem, Alpn::Http2, gateway.distrust()).await
}

fn put(gateway: &Gateway, cert_pem: &str, key_pem: &str) {
    std::fs::write(gateway.dir().join("listener-cert.pem"), cert_pem).unwrap();
    std::fs::write(gateway.dir().join("listener-key.pem"), key_pem).unwrap();
}

async fn reload(gateway: &Gateway) -> Answer {
    let request = Request::new(Method::POST, "/reload").bearer(ADMIN_TOKEN);
    Client::http1(gateway.admin_addr(), gateway.distrust()).await.send(request).await
}

async fn start(tls: &Tls) -> (Gateway, Mock) {
    let main = Mock::http().await.unwrap();
    (Setup::new().main(&main).tls_listener(tls).start().await, main)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_gives_new_connections_the_new_certificate_and_leaves_open_ones_alone() {
    let (first, second) = (Authority::new(), Authority::new());
    let (gateway, _main) = start(&first.server(&[NAME], true)).await;
    let mut open = connect(&gateway, &first).await;
    open.send(chat()).await.expect(200);

    let renewed = second.server(&[NAME], true);
    put(&gateway, &renewed.cert_pem, &renewed.key_pem);
    // Not before the reload.
    connect(&gateway, &first).await.send(chat()).await.expect(200);
    let needs_upgrade = reload(&gateway).await.expect(200).json()["needs_upgrade"].clone();
    assert_eq!(needs_upgrade, json!([]));
    connect(&gateway, &second).await.send(chat()).await.expect(200);
    open.send(chat()).await.expect(200);
}

/// The file may name other files for a listener that stays; another listener waits for an upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_follows_a_listener_to_other_files() {
    let (first, second) = (Authority::new(), Authority::new());
    let (gateway, _main) = start(&first.server(&[NAME], true)).await;
    let renewed = second.server(&[NAME], true);
    let (cert, key) = (gateway.dir().join("other-cert.pem"), gateway.dir().join("other-key.pem"));
    std::fs::write(&cert, &renewed.cert_pem).unwrap();
    std::fs::write(&key, &renewed.key_pem).unwrap();
    gateway.rewrite_config(|config| config["listen"][1]["tls"] = json!({ "cert": cert, "key": key }));
    assert_eq!(reload(&gateway).await.expect(200).json()["needs_upgrade"], json!([]));
    connect(&gateway, &second).await.send(chat()).await.expect(200);
    gateway.rewrite_config(|config| config["listen"][1]["addr"] = json!("127.0.0.1:1"));
    assert_eq!(reload(&gateway).await.expect(200).json()["needs_upgrade"], json!(["listen"]));
    connect(&gateway, &second).await.send(chat()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_can_not_be_used_is_refused_whole_and_the_old_one_serves() {
    let authority = Authority::new();
    let good = authority.server(&[NAME], true);
    let (gateway, _main) = start(&good).await;
    let expired = authority.expired(&[NAME]);
    let other = authority.server(&[NAME], true);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (cert, key, file, words) in [
        (&*expired.cert_pem, &*expired.key_pem, "listener-cert.pem", "expired at 2020-01-01T00:00:00Z"),
        (&*other.cert_pem, &*good.key_pem, "listener-key.pem", "does not work with"),
        (broken, &*good.key_pem, "listener-cert.pem", "can't be read"),
        ("", &*good.key_pem, "listener-cert.pem", "holds no PEM block"),
        (&*good.cert_pem, "", "listener-key.pem", "holds no PEM block"),
    ] {
        put(&gateway, cert, key);
        gateway.rewrite_config(|config| config["models"] = json!([{ "id": "other", "upstream": "main" }]));
        let refused = reload(&gateway).await.expect(422).json();
        let fault = &refused["faults"][0];
        let message = fault["message"].as_str().unwrap();
        assert!(message.contains(file) && message.contains(words), "{refused}");
        assert!(fault["path"].as_str().unwrap().starts_with("listen[1].tls"), "{refused}");
        // The models of the refused file are not in force either.
        connect(&gateway, &authority).await.send(chat()).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_an_expired_certificate_is_refused_and_check_says_the_same() {
    let setup = Setup::new().tls_listener(&Authority::new().expired(&[NAME]));
    let (code, said) = setup.start_refused().await;
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("listen[1].tls: tls.cert") && said.contains("expired at 2020-01-01"), "{said}");
}
