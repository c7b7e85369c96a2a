//! Hooks out of turn: Pingora never calls them so, and if it did, nothing would leave, nothing would go unbilled, and the client would
//! hear of it.

use std::net::TcpListener;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::ErrorType;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::edge::context::Stage;
use crate::edge::wire::Wire;
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::host::resolver::Resolver;
use crate::ops::host::tls::Certificates;
use crate::ops::parts::Parts;
use crate::ops::watch::readiness::Readiness;
use crate::relay::stage::Says;
use crate::relay::testing::{House, START};

/// A gateway whose one upstream is a port that nobody answers on, and a client's request in front of it.
struct Scene {
    house: House,
    gateway: Gateway,
    /// Knows whether anybody connected.
    upstream: TcpListener,
}

impl Scene {
    async fn new() -> (Self, Session, DuplexStream) {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        upstream.set_nonblocking(true).unwrap();
        let house = House::new(&format!(
            r#"{{"auth":{{"mode":"none"}},"models":[{{"id":"m","upstream":"main"}}],
                "upstreams":{{"main":{{"base_url":"http://{}","key":"canary-main-key"}}}}}}"#,
            upstream.local_addr().unwrap()
        ));
        let gateway = Gateway::new(Arc::new(Parts {
            settings: Arc::new(ArcSwap::new(house.settings.clone())),
            cas: Arc::default(),
            certificates: Certificates::new(Vec::new()),
            reloaded: Arc::default(),
            registry: Arc::default(),
            resolver: Arc::new(Resolver::new(Duration::from_secs(30))),
            budget: BodyBudget::new(1 << 20),
            drain: Arc::default(),
            directory: house.directory.clone(),
            ledger: house.ledger.clone(),
            counters: house.records.counters.clone(),
            access_log: house.records.access_log.clone(),
            readiness: Readiness::default(),
        }));
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(b"POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        let mut session = Session::new_h1(Box::new(server));
        session.downstream_session.read_request().await.unwrap();
        (Self { house, gateway, upstream }, session, client)
    }

    /// The stages that a context can be in, each by its name.
    fn stages(&self) -> Vec<(&'static str, Context)> {
        let on = |stage| Context::On { wire: Arc::new(Wire::default()), stage };
        let arrived = || self.house.arrived(http::Method::POST, "/v1/messages");
        let dispatch = || self.house.dispatch("/v1/messages").unwrap_or_else(|_| panic!("it can be carried"));
        let ended = dispatch().end(crate::domain::end::End::Ok, START).0;
        vec![
            ("new", Context::New),
            ("arrived", on(Stage::Arrived(arrived()))),
            ("chosen", on(Stage::Out(dispatch()))),
            ("ended", on(Stage::Ended(ended))),
            ("local", on(Stage::Local(arrived().answered(Says::Nothing)))),
            ("gone", on(Stage::Gone)),
        ]
    }
}

/// Calls one hook; `None`: it let the request pass.
async fn call(hook: &str, gateway: &Gateway, session: &mut Session, ctx: &mut Context) -> Option<Box<Error>> {
    let peer = HttpPeer::new("127.0.0.1:1", false, String::new());
    let broken = || Error::explain(ErrorType::ConnectionClosed, "it broke").into_up();
    let mut request = RequestHeader::build("POST", b"/v1/messages", None).unwrap();
    let mut response = ResponseHeader::build(200, None).unwrap();
    let mut chunk = Some(Bytes::from_static(b"data: {}\n\n"));
    match hook {
        "request_filter" => gateway.request_filter(session, ctx).await.err(),
        "upstream_peer" => gateway.upstream_peer(session, ctx).await.err(),
        "connected_to_upstream" => gateway.connected_to_upstream(session, false, &peer, 0, None, ctx).await.err(),
        "fail_to_connect" => Some(gateway.fail_to_connect(session, &peer, ctx, broken())),
        "upstream_request_filter" => {
            let before = request.clone();
            let error = gateway.upstream_request_filter(session, &mut request, ctx).await.err();
            assert!(error.is_none() || format!("{request:?}") == format!("{before:?}"), "no key of ours in a refused head");
            error
        }
        "request_body_filter" => gateway.request_body_filter(session, &mut chunk, false, ctx).await.err(),
        "upstream_response_filter" => gateway.upstream_response_filter(session, &mut response, ctx).await.err(),
        "response_body_filter" => gateway.response_body_filter(session, &mut chunk, true, ctx).err(),
        "error_while_proxy" => Some(gateway.error_while_proxy(&peer, session, broken(), ctx, true)),
        other => panic!("no such hook: {other}"),
    }
}

#[tokio::test]
async fn a_hook_out_of_turn_fails_shut() {
    let out_of_turn: &[(&str, &[&str])] = &[
        ("request_filter", &["new", "chosen", "ended", "local", "gone"]),
        ("upstream_peer", &["new", "arrived", "ended", "local", "gone"]),
        ("connected_to_upstream", &["new", "arrived", "chosen", "ended", "local", "gone"]),
        ("fail_to_connect", &["new", "arrived", "chosen", "ended", "local", "gone"]),
        ("upstream_request_filter", &["new", "arrived", "chosen", "ended", "local", "gone"]),
        ("request_body_filter", &["new", "arrived", "local", "gone"]),
        ("upstream_response_filter", &["new", "arrived", "chosen", "ended", "local", "gone"]),
        ("response_body_filter", &["new", "arrived", "chosen", "ended", "local", "gone"]),
        ("error_while_proxy", &["new", "arrived", "local", "gone"]),
    ];
    let mut opened = 0;
    for (hook, stages) in out_of_turn {
        for stage in *stages {
            let (scene, mut session, mut client) = Scene::new().await;
            let mut ctx = scene.stages().into_iter().find(|(name, _)| name == stage).unwrap().1;
            let error = call(hook, &scene.gateway, &mut session, &mut ctx).await;
            let error = error.unwrap_or_else(|| panic!("{hook} let a request pass that is {stage}"));
            assert!(!error.retry(), "{hook}, {stage}: nothing is tried again");
            assert_eq!(*error.etype(), ErrorType::InternalError, "{hook}, {stage}");

            let said = scene.gateway.fail_to_proxy(&mut session, &error, &mut ctx).await;
            assert_eq!((said.error_code, said.can_reuse_downstream), (500, false), "{hook}, {stage}");
            let mut answer = vec![0; 4096];
            let read = client.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            assert!(answer.starts_with("HTTP/1.1 500 ") && !answer.contains("canary"), "{hook}, {stage}: {answer}");
            scene.gateway.logging(&mut session, Some(&error), &mut ctx).await;
            drop(ctx);

            assert!(scene.upstream.accept().is_err(), "{hook}, {stage}: nothing is sent upstream");
            let lines = scene.house.ledger_lines();
            let count = |record: &str| lines.iter().filter(|line| line["record"] == record).count();
            assert_eq!(count("open"), count("close"), "{hook}, {stage}: nothing stays unbilled");
            assert_eq!(scene.house.records.counters.in_flight(), 0, "{hook}, {stage}");
            opened += count("open");
        }
    }
    assert!(opened > 0, "no row had open books");
}
