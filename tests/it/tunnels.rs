//! Tunnels through forward proxies, by Pingora's own connector: scripted proxies between, the provider behind (T7, T10).
//!
//! All on one thread: a task outside the workers that takes a kept connection may find it still held by the one that watched it, on
//! another thread, and Pingora then drops it ("failed to acquire reusable stream").

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trollbridge::domain::secret::Secret;
use trollbridge::domain::upstream::forward::{ForwardKind, Login, Target};
use trollbridge::edge::tunnel::{PROXY_AUTH_REFUSED, Tunnel, TunnelFailure};
use trollbridge::ops::host::ca;

use crate::support::{Act, Authority, Mock, ScriptedProxy, soon};

const NAME: &str = "api.provider.test";
const USERNAME: &str = "planted-username-5c21";
const PASSWORD: &str = "planted-password-9e07";
const KINDS: [ForwardKind; 2] = [ForwardKind::Connect, ForwardKind::Socks5];
/// No tunnel of these tests takes as long, unless it is meant to hang.
const LONG: Duration = Duration::from_secs(30);

async fn proxy(kind: ForwardKind) -> ScriptedProxy {
    match kind {
        ForwardKind::Connect => ScriptedProxy::connect().await,
        ForwardKind::Socks5 => ScriptedProxy::socks5().await,
    }
}

fn tunnel(kind: ForwardKind, proxy: SocketAddr, password: Option<&str>, host: &str, port: u16) -> Tunnel {
    let login = password.map(|password| Login::new(kind, USERNAME, Secret::new(password)).unwrap());
    Tunnel { kind, proxy, login, target: Target::new(host, port).unwrap(), deadline: LONG }
}

/// A provider with TLS at [`NAME`], the authority that says so, and a connector of its own.
struct Place {
    provider: Mock,
    ca: Arc<CaType>,
    ca_file: PathBuf,
    connector: Connector,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let authority = Authority::new();
        let provider = Mock::https(authority.server(&[NAME], false)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, &authority.ca_pem).unwrap();
        let ca = ca::read(&ca_file).unwrap();
        Self { provider, ca, ca_file, connector: Connector::new(None), _dir: dir }
    }

    /// A proxy of this kind whose tunnels all end at the provider.
    async fn proxy(&self, kind: ForwardKind) -> ScriptedProxy {
        let proxy = proxy(kind).await;
        proxy.connect_to(self.provider.addr());
        proxy
    }

    fn peer(&self, tunnel: Tunnel) -> HttpPeer {
        let mut peer = Arc::new(tunnel).peer(true, NAME.to_owned(), Some(&self.ca_file));
        peer.options.ca = Some(Arc::clone(&self.ca));
        peer
    }

    /// One request; whether its connection had served before.
    async fn ask(&self, peer: &HttpPeer) -> Result<bool, Box<Error>> {
        soon("an answer through the tunnel", Box::pin(ask(&self.connector, peer))).await
    }

    async fn fails(&self, tunnel: Tunnel) -> Box<Error> {
        self.ask(&self.peer(tunnel)).await.expect_err("no tunnel")
    }
}

async fn ask(connector: &Connector, peer: &HttpPeer) -> Result<bool, Box<Error>> {
    let body = br#"{"model":"gpt-5","messages":[{"role":"user","content":"hello"}]}"#;
    let (mut session, reused) = connector.get_http_session(peer).await?;
    let mut head = RequestHeader::build("POST", b"/v1/chat/completions", None)?;
    head.insert_header("host", NAME)?;
    head.insert_header("content-type", "application/json")?;
    head.insert_header("content-length", body.len())?;
    session.write_request_header(Box::new(head)).await?;
    session.write_request_body(Bytes::from_static(body), true).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session.response_header().expect("a head").status;
    while session.read_response_body().await?.is_some() {}
    assert_eq!(status, 200);
    connector.release_http_session(session, peer, Some(LONG)).await;
    Ok(reused)
}

#[tokio::test]
async fn t7_tls_runs_end_to_end_through_either_kind_with_and_without_a_login() {
    for kind in KINDS {
        let place = Place::new().await;
        for password in [None, Some(PASSWORD)] {
            let proxy = place.proxy(kind).await;
            if password.is_some() {
                proxy.require(USERNAME, PASSWORD);
            }
            let reused = place.ask(&place.peer(tunnel(kind, proxy.addr(), password, NAME, 443))).await.unwrap();
            let seen = proxy.seen();
            assert_eq!((reused, seen.connections, seen.tunnels), (false, 1, 1));
            assert_eq!(seen.targets, [format!("{NAME}:443")]);
            let logins: Vec<_> = password.map(|password| (USERNAME.to_owned(), password.to_owned())).into_iter().collect();
            assert_eq!(seen.logins, logins);
            assert_eq!(place.provider.requests().last().unwrap().sni.as_deref(), Some(NAME));
        }
        assert_eq!(place.provider.counts().requests, 2);
    }
}

#[tokio::test]
async fn t7_names_and_addresses_reach_the_proxy_as_what_they_are() {
    for kind in KINDS {
        let place = Place::new().await;
        let proxy = place.proxy(kind).await;
        for (host, port, asked) in [
            (NAME, 8443, "api.provider.test:8443"),
            ("192.0.2.9", 443, "192.0.2.9:443"),
            ("2001:db8::9", 443, "[2001:db8::9]:443"),
        ] {
            place.ask(&place.peer(tunnel(kind, proxy.addr(), None, host, port))).await.unwrap();
            assert_eq!(proxy.seen().targets.last().unwrap(), asked);
        }
    }
}

#[tokio::test]
async fn t7_plain_http_goes_through_a_tunnel_too() {
    for kind in KINDS {
        let (provider, proxy) = (Mock::http().await.unwrap(), proxy(kind).await);
        let addr = provider.addr();
        let peer =
            Arc::new(tunnel(kind, proxy.addr(), None, &addr.ip().to_string(), addr.port())).peer(false, String::new(), None);
        soon("an answer", Box::pin(ask(&Connector::new(None), &peer))).await.unwrap();
        assert_eq!(proxy.seen().targets, [addr.to_string()]);
    }
}

#[tokio::test]
async fn t10_a_refused_login_is_told_apart_and_never_printed() {
    for kind in KINDS {
        let place = Place::new().await;
        let proxy = place.proxy(kind).await;
        proxy.require(USERNAME, "another-password");
        for password in [Some(PASSWORD), None] {
            let error = place.fails(tunnel(kind, proxy.addr(), password, NAME, 443)).await;
            assert!(matches!(TunnelFailure::of(&error), Some(TunnelFailure::AuthRefused(_))), "{error}");
            assert_eq!(*error.etype(), PROXY_AUTH_REFUSED);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("planted"), "{text}");
        }
        assert_eq!((proxy.seen().tunnels, place.provider.counts().connections), (0, 0));
    }
}

#[tokio::test]
async fn t10_every_way_to_fail_has_its_name() {
    for kind in KINDS {
        let place = Place::new().await;
        let proxy = place.proxy(kind).await;
        for (act, label) in [
            (Act::RefuseLogin, "proxy_auth_refused"),
            (Act::RefuseTarget, "proxy_target_refused"),
            (Act::Garbage, "proxy_garbage"),
            (Act::Endless, "proxy_garbage"),
            (Act::Reset, "proxy_unreachable"),
            (Act::CloseEarly, "proxy_unreachable"),
        ] {
            proxy.push(act);
            let error = place.fails(tunnel(kind, proxy.addr(), Some(PASSWORD), NAME, 443)).await;
            assert_eq!(TunnelFailure::of(&error).map(TunnelFailure::label), Some(label), "{kind:?} {act:?}: {error}");
        }
        assert_eq!(place.provider.counts().requests, 0);
        place.ask(&place.peer(tunnel(kind, proxy.addr(), None, NAME, 443))).await.unwrap();
    }
}

#[tokio::test]
async fn t10_a_handshake_that_hangs_ends_at_its_deadline() {
    for kind in KINDS {
        let place = Place::new().await;
        let proxy = place.proxy(kind).await;
        proxy.always(Act::Hang);
        let hanging = Tunnel { deadline: Duration::from_millis(50), ..tunnel(kind, proxy.addr(), None, NAME, 443) };
        let error = place.fails(hanging.clone()).await;
        assert_eq!(TunnelFailure::of(&error), Some(&TunnelFailure::TimedOut), "{error}");
        assert_eq!(hanging.probe().await, Err(TunnelFailure::TimedOut));
    }
}

#[tokio::test]
async fn t7_what_the_target_sends_right_behind_the_handshake_arrives() {
    for kind in KINDS {
        let (target, proxy) = (tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), proxy(kind).await);
        proxy.connect_to(target.local_addr().unwrap());
        proxy.push(Act::TunnelWith(b"220 hello\r\n\r\nearly "));
        let mut stream = soon("a tunnel", tunnel(kind, proxy.addr(), None, NAME, 25).open()).await.unwrap();
        let (mut behind, _) = soon("the proxy to dial", target.accept()).await.unwrap();
        behind.write_all(b"and late").await.unwrap();
        drop(behind);
        let mut text = String::new();
        soon("the target's words", stream.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, "220 hello\r\n\r\nearly and late");
    }
}

#[tokio::test]
async fn t7_a_proxy_can_not_pose_as_the_target() {
    for kind in KINDS {
        let place = Place::new().await;
        let impostor = Mock::https(Authority::new().server(&[NAME], false)).await.unwrap();
        let proxy = proxy(kind).await;
        proxy.connect_to(impostor.addr());
        let error = place.fails(tunnel(kind, proxy.addr(), None, NAME, 443)).await;
        assert!(matches!(error.etype(), ErrorType::InvalidCert | ErrorType::TLSHandshakeFailure), "{error}");
        assert_eq!(TunnelFailure::of(&error), None);
        assert_eq!((proxy.seen().tunnels, impostor.counts().requests), (1, 0));
    }
}

#[tokio::test]
async fn t7_a_connection_is_used_again_by_its_own_proxy_and_login_alone() {
    for kind in KINDS {
        let place = Place::new().await;
        let (first, second) = (place.proxy(kind).await, place.proxy(kind).await);
        let through_first = place.peer(tunnel(kind, first.addr(), None, NAME, 443));
        assert!(!place.ask(&through_first).await.unwrap());
        assert!(place.ask(&through_first).await.unwrap());
        // Made anew from the same parts, as every attempt does.
        assert!(place.ask(&place.peer(tunnel(kind, first.addr(), None, NAME, 443))).await.unwrap());

        assert!(!place.ask(&place.peer(tunnel(kind, second.addr(), None, NAME, 443))).await.unwrap());
        assert!(!place.ask(&place.peer(tunnel(kind, first.addr(), Some(PASSWORD), NAME, 443))).await.unwrap());
        assert!(!place.ask(&place.peer(tunnel(kind, first.addr(), None, NAME, 8443))).await.unwrap());
        assert_eq!((first.seen().tunnels, second.seen().tunnels), (3, 1));

        let served_by: Vec<u64> = place.provider.requests().iter().map(|request| request.connection).collect();
        assert_eq!(served_by, [0, 0, 0, 1, 2, 3]);
    }
}

#[tokio::test]
async fn t7_a_killed_proxy_takes_its_kept_connections_along_and_serves_again_when_it_is_back() {
    for kind in KINDS {
        let place = Place::new().await;
        let mut proxy = place.proxy(kind).await;
        let peer = place.peer(tunnel(kind, proxy.addr(), None, NAME, 443));
        place.ask(&peer).await.unwrap();
        proxy.kill().await;
        // The kept connection's end may arrive just after it was taken: then it breaks, and the next attempt meets the closed port.
        let error = loop {
            let error = place.ask(&peer).await.expect_err("the proxy is gone");
            if TunnelFailure::of(&error).is_some() {
                break error;
            }
        };
        let refused = TunnelFailure::Unreachable(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(TunnelFailure::of(&error), Some(&refused), "{error}");
        proxy.revive().await;
        assert!(!place.ask(&peer).await.unwrap());
    }
}

#[tokio::test]
async fn t5_a_probe_shakes_hands_and_leaves_nothing_behind() {
    for kind in KINDS {
        let place = Place::new().await;
        let mut proxy = place.proxy(kind).await;
        proxy.require(USERNAME, PASSWORD);
        assert_eq!(tunnel(kind, proxy.addr(), Some(PASSWORD), NAME, 443).probe().await, Ok(()));
        proxy.wait_until(|seen| seen.tunnels == 1 && seen.standing == 0).await;
        let wrong = tunnel(kind, proxy.addr(), Some("wrong"), NAME, 443).probe().await;
        assert!(matches!(wrong, Err(TunnelFailure::AuthRefused(_))), "{wrong:?}");
        proxy.kill().await;
        let gone = tunnel(kind, proxy.addr(), Some(PASSWORD), NAME, 443).probe().await;
        assert_eq!(gone, Err(TunnelFailure::Unreachable(std::io::ErrorKind::ConnectionRefused)));
    }
}

#[tokio::test]
async fn t7_a_peer_with_another_address_than_the_proxys_is_refused() {
    let place = Place::new().await;
    let proxy = place.proxy(ForwardKind::Connect).await;
    let mut peer = HttpPeer::new(place.provider.addr(), true, NAME.to_owned());
    peer.options.custom_l4 = Some(Arc::new(tunnel(ForwardKind::Connect, proxy.addr(), None, NAME, 443)));
    let error = place.ask(&peer).await.expect_err("a connection that could never be used again");
    assert_eq!(*error.etype(), ErrorType::InternalError);
    assert_eq!(proxy.seen().connections, 0);
}

#[tokio::test]
async fn a_scripted_proxy_resets_the_share_that_its_seed_decides() {
    let place = Place::new().await;
    let mut sequences = Vec::new();
    for seed in [7, 7, 8] {
        let proxy = place.proxy(ForwardKind::Connect).await;
        proxy.reset_per_mille(seed, 500);
        let mut outcomes = Vec::new();
        for _ in 0..64 {
            outcomes.push(tunnel(ForwardKind::Connect, proxy.addr(), None, NAME, 443).probe().await.is_ok());
        }
        let opened = outcomes.iter().filter(|ok| **ok).count();
        assert!((16..=48).contains(&opened), "{opened}");
        sequences.push(outcomes);
    }
    assert_eq!(sequences[0], sequences[1]);
    assert_ne!(sequences[0], sequences[2]);
}

/// CONTRIBUTING, "A real proxy by hand": `TRY_PROXY=connect://[user:password@]ip:port`, or `socks5://…`.
#[tokio::test]
#[ignore = "needs a real proxy at TRY_PROXY"]
async fn by_hand_a_real_proxy_carries_tls_and_fails_by_name() {
    let place = std::env::var("TRY_PROXY").expect("TRY_PROXY=connect://user:password@127.0.0.1:8888");
    let url = url::Url::parse(&place).unwrap();
    let kind = KINDS.into_iter().find(|kind| kind.as_str() == url.scheme()).expect("connect or socks5");
    let proxy = SocketAddr::new(url.host_str().unwrap().parse().unwrap(), url.port().unwrap());
    let login = |password| (!url.username().is_empty()).then(|| Login::new(kind, url.username(), Secret::new(password)).unwrap());
    let place = Place::new().await;
    let to = |host: &str, port, password| Tunnel {
        kind,
        proxy,
        login: login(password),
        target: Target::new(host, port).unwrap(),
        deadline: LONG,
    };
    let (port, password) = (place.provider.addr().port(), url.password().unwrap_or_default());
    for host in ["127.0.0.1", "localhost"] {
        let tunnel = to(host, port, password);
        assert_eq!(tunnel.probe().await, Ok(()));
        let peer = place.peer(tunnel);
        assert!(!place.ask(&peer).await.unwrap());
        assert!(place.ask(&peer).await.unwrap());
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = to("127.0.0.1", closed, password).probe().await;
    assert!(matches!(refused, Err(TunnelFailure::TargetRefused(_))), "{refused:?}");
    if !password.is_empty() {
        let wrong = to("localhost", port, "wrong-word").probe().await;
        assert!(matches!(wrong, Err(TunnelFailure::AuthRefused(_))), "{wrong:?}");
    }
}
