//! M16: where a request goes is the configuration's word alone.

use serde_json::json;
use trollbridge::provider_mock::Reply;

use super::{CHAT, MESSAGES, ask, prompt, the_host};
use crate::support::request::CLIENT_KEY;
use crate::support::setup::MAIN_MODEL;
use crate::support::{Mock, Request, Setup, Shorthand};

/// Each of these has moved a request somewhere, in some framework or proxy.
fn misleading(decoy: &str) -> Vec<(&'static str, String)> {
    let url = format!("http://{decoy}/v1/messages");
    [
        ("host", decoy.to_owned()),
        ("x-forwarded-host", decoy.to_owned()),
        ("x-forwarded-server", decoy.to_owned()),
        ("x-forwarded-proto", "https".to_owned()),
        ("x-forwarded-port", "443".to_owned()),
        ("x-forwarded-prefix", "/admin".to_owned()),
        ("forwarded", format!("host={decoy};proto=http")),
        ("x-host", decoy.to_owned()),
        ("x-original-host", decoy.to_owned()),
        ("x-original-url", url.clone()),
        ("x-rewrite-url", url.clone()),
        ("x-http-method-override", "DELETE".to_owned()),
        ("x-http-host-override", decoy.to_owned()),
        ("x-envoy-original-path", "/admin".to_owned()),
        ("x-base-url", url.clone()),
        ("x-target", url.clone()),
        ("helicone-target-url", url.clone()),
        ("x-portkey-custom-host", url.clone()),
        ("destination", url.clone()),
        ("referer", url.clone()),
        ("origin", format!("http://{decoy}")),
        ("alt-used", decoy.to_owned()),
        ("location", url),
    ]
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn m16_no_header_changes_the_peer_the_host_or_the_path() {
    let (main, decoy) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).start().await;
    let headers = misleading(&decoy.addr().to_string());
    let all = headers.iter().fold(ask(CHAT, MAIN_MODEL), |request, (name, value)| request.header(name, value));
    gateway.send(all).await.expect(200);
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        gateway.h2c_client().await.send(ask(CHAT, MAIN_MODEL).header(name, value)).await.expect(200);
    }
    let arrived = main.requests();
    assert_eq!(arrived.len(), headers.len());
    for request in &arrived {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", CHAT));
        assert_eq!(the_host(request), main.addr().to_string());
        for name in ["x-forwarded-host", "forwarded", "x-original-url", "x-rewrite-url", "x-http-method-override"] {
            assert_eq!(request.header(name), Vec::<&str>::new(), "{name}");
        }
    }
    assert_eq!(decoy.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m16_no_field_of_the_body_changes_the_peer() {
    let (main, decoy) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).start().await;
    let mut body = prompt(MAIN_MODEL);
    for field in ["base_url", "api_base", "url", "host", "upstream", "target", "provider", "endpoint", "proxy", "connect_to"] {
        body[field] = json!(decoy.base_url());
    }
    gateway.send(Request::post(CHAT, &body)).await.expect(200);
    for model in [format!("{}/v1", decoy.base_url()), "../main".to_owned(), format!("main@{}", decoy.addr())] {
        gateway.send(ask(CHAT, &model)).await.expect(500);
    }
    assert_eq!((main.counts().requests, decoy.counts().connections), (1, 0));
}

/// M16: a proxy's form of target (RFC 9112 §3.2.2) names a host; the gateway is no forward proxy.
#[tokio::test(flavor = "multi_thread")]
async fn m16_an_absolute_target_changes_neither_the_peer_nor_the_path() {
    let (main, decoy) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).start().await;
    let body = prompt(MAIN_MODEL).to_string();
    let targets = [
        format!("http://{}{CHAT}?a=b", decoy.addr()),
        format!("https://{}{CHAT}?a=b", decoy.addr()),
        format!("http://user:pw@{}{CHAT}?a=b", decoy.addr()),
        format!("//{}{CHAT}", decoy.addr()),
        format!("http:{CHAT}"),
        format!("@{}{CHAT}", decoy.addr()),
        "*".to_owned(),
        decoy.addr().to_string(),
    ];
    for target in &targets {
        let mut raw = gateway.raw().await;
        raw.send(format!(
            "POST {target} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {CLIENT_KEY}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            decoy.addr(),
            body.len()
        ))
        .await;
        let answer = raw.read_answer().await;
        let arrived = main.requests();
        main.forget_requests();
        match answer.status {
            200 => {
                let [arrived] = &arrived[..] else { panic!("{target}: {arrived:?}") };
                assert_eq!(the_host(arrived), main.addr().to_string(), "{target}");
                assert_eq!(arrived.target, format!("{CHAT}?a=b"), "{target}");
            }
            400 | 404 | 405 => assert!(arrived.is_empty(), "{target}"),
            other => panic!("{target}: {other}"),
        }
    }
    assert_eq!(decoy.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m16_a_path_that_climbs_out_of_the_base_is_404() {
    let main = Mock::http().await.unwrap();
    let gateway =
        Setup::new().main(&main).set("/upstreams/main/base_url", json!(format!("{}/tenant/a", main.base_url()))).start().await;
    for path in
        ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/x/..%2f..%2fb/v1/messages", "/v1/./messages", "/v1/..;/x", "/v1/%252e%252e/x"]
    {
        gateway.send(ask(path, MAIN_MODEL)).await.expect(404);
    }
    assert_eq!(main.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn m16_a_redirect_is_neither_followed_nor_passed_on() {
    let (main, decoy) = (Mock::http().await.unwrap(), Mock::http().await.unwrap());
    let gateway = Setup::new().main(&main).start().await;
    let location = format!("{}/v1/messages", decoy.base_url());
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for path in [CHAT, MESSAGES] {
            main.push(
                Reply::redirect(status, &location)
                    .header("refresh", &format!("0;url={location}"))
                    .header("content-location", &location),
            );
            let answer = gateway.send(ask(path, MAIN_MODEL)).await.expect(502);
            for name in ["location", "refresh", "content-location"] {
                assert_eq!(answer.header(name), "", "{status}");
            }
            assert_eq!(answer.json()["error"]["type"], "api_error");
            assert!(!answer.text().contains(&decoy.addr().to_string()), "{}", answer.text());
        }
    }
    assert_eq!((main.counts().requests, decoy.counts().connections), (16, 0));
}
