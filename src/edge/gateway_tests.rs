//! Hooks out of turn: Pingora never calls them so, and if it did, nothing would leave, nothing would go unbilled, and the client would
//! hear of it.

use std::net::TcpListener;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::ErrorType;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::http_proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::domain::client::Caller;
use crate::domain::end::End;
use crate::edge::context::Stage;
use crate::edge::wire::Wire;
use crate::ops::host::body_budget::BodyBudget;
use crate::ops::host::resolver::Resolver;
use crate::ops::host::tls::Certificates;
use crate::ops::parts::Parts;
use crate::ops::watch::readiness::Readiness;
use crate::relay::judge::HeadSeen;
use crate::relay::stage::{Reading, Says};
use crate::relay::testing::{House, START};

/// A gateway whose one upstream is a port that nobody answers on.
struct Scene {
    house: House,
    gateway: Gateway,
    /// Knows whether anybody connected.
    upstream: TcpListener,
}

impl Scene {
    fn new() -> Self {
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
            budget: BodyBudget::new(&house.settings.limits),
            drain: Arc::default(),
            directory: house.directory.clone(),
            ledger: house.ledger.clone(),
            counters: house.records.counters.clone(),
            access_log: house.records.access_log.clone(),
            readiness: Readiness::default(),
        }));
        Self { house, gateway, upstream }
    }

    /// A context in one stage, whose connection can be asked whether it ends.
    fn at(&self, stage: &str) -> (Context, Arc<Wire>) {
        let wire = Arc::new(Wire::default());
        let arrived = || self.house.arrived(http::Method::POST, "/v1/messages");
        let dispatch = || self.house.dispatch("/v1/messages").unwrap_or_else(|_| panic!("it can be carried"));
        let begun = || {
            let mut dispatch = dispatch();
            dispatch.begin(START.moment);
            dispatch
        };
        let answered = || {
            let mut dispatch = begun();
            let headers = http::HeaderMap::new();
            dispatch.head(HeadSeen { status: 200, version: http::Version::HTTP_11, headers: &headers }, START);
            dispatch
        };
        let stage = match stage {
            "new" => return (Context::New, wire),
            "arrived" => Stage::Arrived(arrived()),
            "reading" => Stage::Reading(Reading { arrived: arrived(), caller: Caller::Anonymous }),
            "chosen" => Stage::Out(dispatch()),
            "begun" => Stage::Out(begun()),
            "answered" => Stage::Out(answered()),
            "ended" => Stage::Ended(begun().end(End::Ok, START).0),
            "local" => Stage::Local(arrived().answered(Says::Nothing)),
            "gone" => Stage::Gone,
            other => panic!("no such stage: {other}"),
        };
        (Context::On { wire: wire.clone(), stage }, wire)
    }

    /// Counts the ledger's opens and closes.
    fn entries(&self) -> (usize, usize) {
        let lines = self.house.ledger_lines();
        let count = |record: &str| lines.iter().filter(|line| line["record"] == record).count();
        (count("open"), count("close"))
    }
}

const REQUEST: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}";

/// A session whose client has sent [`REQUEST`].
async fn session() -> (Session, DuplexStream) {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    client.write_all(REQUEST).await.unwrap();
    let mut session = Session::new_h1(Box::new(server));
    session.downstream_session.read_request().await.unwrap();
    (session, client)
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

/// What no hook may find, and no request in a stage may be let through by.
const OUT_OF_TURN: &[(&str, &[&str])] = &[
    ("request_filter", &["new", "reading", "chosen", "begun", "answered", "ended", "local", "gone"]),
    ("upstream_peer", &["new", "arrived", "reading", "answered", "ended", "local", "gone"]),
    ("connected_to_upstream", &["new", "arrived", "reading", "chosen", "answered", "ended", "local", "gone"]),
    ("fail_to_connect", &["new", "arrived", "reading", "chosen", "answered", "ended", "local", "gone"]),
    ("upstream_request_filter", &["new", "arrived", "reading", "chosen", "answered", "ended", "local", "gone"]),
    ("request_body_filter", &["new", "arrived", "reading", "local", "gone"]),
    ("upstream_response_filter", &["new", "arrived", "reading", "chosen", "answered", "ended", "local", "gone"]),
    ("response_body_filter", &["new", "arrived", "reading", "chosen", "begun", "ended", "local", "gone"]),
    ("error_while_proxy", &["new", "arrived", "reading", "local", "gone"]),
];

#[tokio::test]
async fn a_hook_out_of_turn_is_a_500_and_leaves_nothing_open() {
    for (hook, stage) in OUT_OF_TURN.iter().flat_map(|(hook, stages)| stages.iter().map(move |stage| (hook, stage))) {
        let scene = Scene::new();
        let (mut session, mut client) = session().await;
        let (mut ctx, wire) = scene.at(stage);
        let opened = scene.entries().0;
        let error = call(hook, &scene.gateway, &mut session, &mut ctx).await;
        let error = error.unwrap_or_else(|| panic!("{hook} let a request pass that is {stage}"));
        assert!(!error.retry(), "{hook}, {stage}: nothing is tried again");
        assert_eq!(*error.etype(), ErrorType::InternalError, "{hook}, {stage}");

        let said = scene.gateway.fail_to_proxy(&mut session, &error, &mut ctx).await;
        assert_eq!(said.error_code, 500, "{hook}, {stage}");
        assert!(wire.closes() || *stage == "new", "{hook}, {stage}: the connection ends with it");
        let mut answer = vec![0; 4096];
        let read = client.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 500 ") && !answer.contains("canary"), "{hook}, {stage}: {answer}");
        scene.gateway.logging(&mut session, Some(&error), &mut ctx).await;
        drop(ctx);

        assert_eq!(scene.entries(), (opened, opened), "{hook}, {stage}: nothing more is opened, nothing stays unbilled");
        assert_eq!(scene.house.records.counters.in_flight(), 0, "{hook}, {stage}");
    }
}

/// The gateway under an engine that leaves one of its hooks out.
struct LeavesOut {
    hook: &'static str,
    gateway: Gateway,
}

#[async_trait]
impl ProxyHttp for LeavesOut {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        self.gateway.new_ctx()
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        session.req_header_mut().extensions_mut().insert(Arc::new(Wire::default()));
        if self.hook == "early_request_filter" {
            return Ok(());
        }
        self.gateway.early_request_filter(session, ctx).await
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        if self.hook == "request_filter" {
            return Ok(false);
        }
        self.gateway.request_filter(session, ctx).await
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        if self.hook == "upstream_peer" {
            let address = self.gateway.parts.settings.load().upstreams.iter().find_map(|upstream| {
                upstream.endpoint.as_ref().filter(|endpoint| endpoint.host() == "127.0.0.1").map(|endpoint| endpoint.port())
            });
            return Ok(Box::new(HttpPeer::new(("127.0.0.1", address.unwrap()), false, String::new())));
        }
        self.gateway.upstream_peer(session, ctx).await
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        fd: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        self.gateway.connected_to_upstream(session, reused, peer, fd, digest, ctx).await
    }

    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
        self.gateway.upstream_request_filter(session, request, ctx).await
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        self.gateway.error_while_proxy(peer, session, error, ctx, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        self.gateway.fail_to_proxy(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        self.gateway.logging(session, error, ctx).await;
    }
}

#[tokio::test]
async fn an_engine_that_leaves_a_hook_out_sends_nothing_and_bills_what_it_opened() {
    for (hook, opens) in [("early_request_filter", 0), ("request_filter", 0), ("upstream_peer", 1)] {
        let Scene { house, gateway, upstream } = Scene::new();
        let proxy = Arc::new(http_proxy(&Arc::new(ServerConf::default()), LeavesOut { hook, gateway }));
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(REQUEST).await.unwrap();
        let (_running, shutdown) = tokio::sync::watch::channel(false);
        let kept = proxy.process_new_http(ServerSession::new_http1(Box::new(server)), &shutdown).await;
        assert!(kept.is_none(), "{hook}: the connection ends with it");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 ") && !answer.contains("canary"), "{hook}: {answer}");

        if let Ok((mut connection, _)) = upstream.accept() {
            connection.set_nonblocking(false).unwrap();
            drop(proxy);
            let mut sent = Vec::new();
            std::io::Read::read_to_end(&mut connection, &mut sent).unwrap();
            assert!(sent.is_empty(), "{hook}: {}", String::from_utf8_lossy(&sent));
        }
        let lines = house.ledger_lines();
        let count = |record: &str| lines.iter().filter(|line| line["record"] == record).count();
        assert_eq!((count("open"), count("close")), (opens, opens), "{hook}");
        assert_eq!(house.records.counters.in_flight(), 0, "{hook}");
    }
}
