//! Forward proxies with a script: HTTP CONNECT and SOCKS5, written for the tests, with a record of what they were asked.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::setup::own_loopback;
use super::soon;

/// What a proxy does with one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Checks the login, opens the tunnel, copies.
    Tunnel,
    /// As `Tunnel`; these bytes stand right behind the answer, in the same write.
    TunnelWith(&'static [u8]),
    /// 407, or a SOCKS5 login refused, whatever was presented.
    RefuseLogin,
    /// 502, or SOCKS5's "connection refused".
    RefuseTarget,
    /// Answers something of another protocol.
    Garbage,
    /// Sends a head that has no end.
    Endless,
    /// Never answers.
    Hang,
    /// A TCP reset at accept.
    Reset,
    /// Reads what it is asked first and closes.
    CloseEarly,
}

/// What a proxy has seen since its start.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: u64,
    /// Tunnels that were opened.
    pub tunnels: u64,
    /// Tunnels that stand now.
    pub standing: u64,
    /// `host:port` as asked for, IPv6 in brackets.
    pub targets: Vec<String>,
    /// Usernames and passwords as presented.
    pub logins: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Connect,
    Socks5,
}

#[derive(Default)]
struct Script {
    login: Option<(String, String)>,
    override_target: Option<SocketAddr>,
    always: Option<Act>,
    next: VecDeque<Act>,
    /// The state of the sequence, and how many of 1 000 connections are reset.
    resets: Option<(u64, u64)>,
}

struct Shared {
    protocol: Protocol,
    script: Mutex<Script>,
    seen: watch::Sender<Seen>,
}

/// A running proxy; it stops, with its tunnels, when this value is dropped.
pub struct ScriptedProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl ScriptedProxy {
    /// Speaks HTTP CONNECT, on an address of its own.
    pub async fn connect() -> Self {
        Self::start(Protocol::Connect).await
    }

    /// Speaks SOCKS5, on an address of its own.
    pub async fn socks5() -> Self {
        Self::start(Protocol::Socks5).await
    }

    async fn start(protocol: Protocol) -> Self {
        // On an address of its own, so that nobody takes the port between kill and revive.
        let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
        let shared = Arc::new(Shared { protocol, script: Mutex::default(), seen: watch::Sender::default() });
        let addr = listener.local_addr().unwrap();
        let accepting = Some(tokio::spawn(accept(listener, Arc::clone(&shared))));
        Self { addr, shared, accepting }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Wants this login from now on.
    pub fn require(&self, username: &str, password: &str) {
        self.shared.script().login = Some((username.to_owned(), password.to_owned()));
    }

    /// Connects every tunnel to this address, whatever its target.
    pub fn connect_to(&self, target: SocketAddr) {
        self.shared.script().override_target = Some(target);
    }

    /// Treats every connection so for which nothing is pushed.
    pub fn always(&self, act: Act) {
        self.shared.script().always = Some(act);
    }

    /// Treats the next connection, behind those pushed before, so.
    pub fn push(&self, act: Act) {
        self.shared.script().next.push_back(act);
    }

    /// Resets this many of 1 000 connections, by a sequence that the seed decides; 0 stops it.
    pub fn reset_per_mille(&self, seed: u64, per_mille: u64) {
        self.shared.script().resets = Some((seed, per_mille));
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until what was seen satisfies `enough`.
    pub async fn wait_until(&self, enough: impl FnMut(&Seen) -> bool) -> Seen {
        let mut changes = self.shared.seen.subscribe();
        soon("a proxy to see something", changes.wait_for(enough)).await.unwrap().clone()
    }

    /// Drops every tunnel and listens no more; returns once both are so.
    pub async fn kill(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            drop(accepting.await);
        }
        self.wait_until(|seen| seen.standing == 0).await;
    }

    /// Listens again on the same address, with the same script.
    pub async fn revive(&mut self) {
        if self.accepting.is_none() {
            let listener = TcpListener::bind(self.addr).await.unwrap();
            self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
        }
    }
}

impl Drop for ScriptedProxy {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }

    fn next_act(&self) -> Act {
        let mut script = self.script();
        if let Some(act) = script.next.pop_front() {
            return act;
        }
        if let Some((state, per_mille)) = &mut script.resets
            && next_of(state) % 1000 < *per_mille
        {
            return Act::Reset;
        }
        script.always.unwrap_or(Act::Tunnel)
    }

    /// Whether this login opens the proxy; notes it.
    fn admits(&self, presented: Option<(String, String)>) -> bool {
        let wanted = self.script().login.clone();
        let admits = wanted.is_none() || wanted == presented;
        self.note(|seen| seen.logins.extend(presented));
        admits
    }

    async fn dial(&self, target: &str) -> io::Result<TcpStream> {
        let address = self.script().override_target;
        let upstream = match address {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect(target).await?,
        };
        upstream.set_nodelay(true)?;
        Ok(upstream)
    }

    /// Answers and copies until one side is gone.
    async fn carry(&self, mut client: TcpStream, mut upstream: TcpStream, answer: &[u8], act: Act) -> io::Result<()> {
        let behind: &[u8] = if let Act::TunnelWith(behind) = act { behind } else { &[] };
        self.note(|seen| {
            seen.tunnels += 1;
            seen.standing += 1;
        });
        let _standing = Standing(self);
        client.write_all(&[answer, behind].concat()).await?;
        copy_bidirectional(&mut client, &mut upstream).await.map(drop)
    }
}

/// Counts a tunnel out, however it ends.
struct Standing<'a>(&'a Shared);

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.note(|seen| seen.standing -= 1);
    }
}

/// The next number of a sequence (splitmix64).
fn next_of(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        while open.try_join_next().is_some() {}
        shared.note(|seen| seen.connections += 1);
        let shared = Arc::clone(&shared);
        // How it ends is the client's to tell.
        open.spawn(async move { drop(serve(client, &shared).await) });
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let act = shared.next_act();
    if act == Act::Reset {
        return client.set_zero_linger();
    }
    match act {
        Act::Garbage => {
            client.read_buf(&mut Vec::new()).await?;
            client.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await?;
            drain(&mut client).await
        }
        Act::Endless => {
            client.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").await?;
            loop {
                client.write_all(&[b'x'; 4096]).await?;
            }
        }
        Act::Hang => drain(&mut client).await,
        Act::CloseEarly => client.read_buf(&mut Vec::new()).await.map(drop),
        _ if shared.protocol == Protocol::Connect => connect(client, shared, act).await,
        _ => socks5(client, shared, act).await,
    }
}

async fn drain(client: &mut TcpStream) -> io::Result<()> {
    tokio::io::copy(client, &mut tokio::io::sink()).await.map(drop)
}

async fn connect(mut client: TcpStream, shared: &Shared, act: Act) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8(head).expect("a CONNECT is text");
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(' ')).expect("a CONNECT").0.to_owned();
    assert!(head.contains(&format!("\r\nHost: {target}\r\n")), "{head}");
    let login = head.split("Proxy-Authorization: Basic ").nth(1).and_then(|rest| rest.lines().next()).map(|token| {
        let text = String::from_utf8(STANDARD.decode(token).expect("base64")).expect("text");
        let (username, password) = text.split_once(':').expect("a colon");
        (username.to_owned(), password.to_owned())
    });
    shared.note(|seen| seen.targets.push(target.clone()));
    if !shared.admits(login) || act == Act::RefuseLogin {
        let refusal =
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
        return client.write_all(refusal.as_bytes()).await;
    }
    match shared.dial(&target).await {
        Ok(upstream) if act != Act::RefuseTarget => {
            shared.carry(client, upstream, b"HTTP/1.1 200 Connection established\r\nVia: 1.1 scripted\r\n\r\n", act).await
        }
        _ => client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry").await,
    }
}

async fn socks5(mut client: TcpStream, shared: &Shared, act: Act) -> io::Result<()> {
    const NO_LOGIN: u8 = 0;
    const PASSWORD: u8 = 2;
    const NONE_OF_THESE: u8 = 0xff;
    assert_eq!(client.read_u8().await?, 5, "SOCKS5");
    let offered = read_text(&mut client).await?;
    let wants_login = shared.script().login.is_some() || act == Act::RefuseLogin;
    let method = match (wants_login, offered.contains(&PASSWORD)) {
        (true, true) => PASSWORD,
        (true, false) => NONE_OF_THESE,
        (false, _) => NO_LOGIN,
    };
    client.write_all(&[5, method]).await?;
    if method == NONE_OF_THESE {
        return drain(&mut client).await;
    }
    if method == PASSWORD {
        assert_eq!(client.read_u8().await?, 1, "RFC 1929");
        let [username, password] = [read_text(&mut client).await?, read_text(&mut client).await?].map(text);
        let admitted = shared.admits(Some((username, password))) && act != Act::RefuseLogin;
        client.write_all(&[1, u8::from(!admitted)]).await?;
        if !admitted {
            return Ok(());
        }
    }
    let mut request = [0; 3];
    client.read_exact(&mut request).await?;
    assert_eq!(request, [5, 1, 0], "a CONNECT");
    let host = match client.read_u8().await? {
        1 => std::net::Ipv4Addr::from(client.read_u32().await?).to_string(),
        4 => format!("[{}]", std::net::Ipv6Addr::from(client.read_u128().await?)),
        3 => text(read_text(&mut client).await?),
        other => panic!("address type {other}"),
    };
    let target = format!("{host}:{}", client.read_u16().await?);
    shared.note(|seen| seen.targets.push(target.clone()));
    match shared.dial(&target).await {
        Ok(upstream) if act != Act::RefuseTarget => {
            shared.carry(client, upstream, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", act).await
        }
        _ => client.write_all(b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00").await,
    }
}

/// A text behind its length.
async fn read_text(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}
