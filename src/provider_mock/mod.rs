//! A provider with a script: speaks like OpenAI and Anthropic, behaves by default and misbehaves on demand.
//!
//! Used by the `mock` and `demo` commands, by tests and by benchmarks. It answers chat completions, completions, messages,
//! count_tokens, responses, embeddings and models under any base path, as JSON or as server-sent events, over HTTP/1.1, HTTP/2 and
//! TLS, and keeps what reached it. It knows nothing of the gateway: no other room of this crate is used here.
//!
//! ```text
//! socket ── wire ── hyper ── exchange ─┬─ ask      what the request wants, and its tokens
//!             │                        ├─ script   which reply it gets
//!             └── tap ─────────────────┤  answer   what a provider would say
//!                 (raw bytes, resets)  ├─ shape    the reply's deviations from that
//!                                      └─ journal  what arrived
//! ```

pub mod answer;
pub mod ask;
pub mod journal;
pub mod script;

mod encode;
mod exchange;
mod reply;
mod serve;
mod shape;
mod steps;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use answer::error::CANARIES;
pub use ask::{PROMPT_BASE_TOKENS, Usage};
pub use journal::{Counts, Recorded};
pub use script::{After, AtAccept, BelowHttp, Body, EchoKey, Encoding, Ending, Framing, Gate, How, Reply, Rule, Script, Split};

use exchange::Shared;
use journal::Journal;

/// How a provider is started.
#[derive(Debug)]
pub struct Options {
    /// Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Speaks https when set.
    pub tls: Option<Tls>,
    pub script: Script,
    /// How many of the last requests are kept with their bodies.
    pub keep_requests: usize,
}

/// A server certificate, as PEM texts.
#[derive(Clone, Debug)]
pub struct Tls {
    pub cert_pem: String,
    pub key_pem: String,
    /// Whether HTTP/2 is offered besides HTTP/1.1.
    pub http2: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: None, script: Script::default(), keep_requests: 10_000 }
    }
}

/// A running provider; it stops when this value is dropped.
pub struct Mock {
    addr: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Mock {
    /// Binds and serves on the current tokio runtime. Fails when the address is taken or the certificate is unreadable.
    pub async fn start(options: Options) -> io::Result<Self> {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let tls = options.tls.as_ref().map(serve::tls_acceptor).transpose()?;
        let listener = TcpListener::bind(options.listen).await?;
        let addr = listener.local_addr()?;
        let shared =
            Arc::new(Shared { script: Mutex::new(options.script), journal: Arc::new(Journal::new(options.keep_requests)) });
        let accepting = tokio::spawn(serve::accept(listener, tls, Arc::clone(&shared)));
        Ok(Self { addr, scheme, shared, accepting })
    }

    /// Starts on a free port of the loopback, http, nothing scripted.
    pub async fn http() -> io::Result<Self> {
        Self::start(Options::default()).await
    }

    /// Starts on a free port of the loopback, https.
    pub async fn https(tls: Tls) -> io::Result<Self> {
        Self::start(Options { tls: Some(tls), ..Options::default() }).await
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `scheme://ip:port`, without a path.
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    fn with_script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.shared.script.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers the next request, behind those pushed before, with `reply`.
    pub fn push(&self, reply: Reply) {
        self.push_rule(Rule { reply, ..Rule::default() });
    }

    /// Answers the next request that fits the rule with its reply, once if the rule does not say how often.
    pub fn push_rule(&self, rule: Rule) {
        let times = Some(rule.times.unwrap_or(1));
        self.with_script(|script| script.queue.push_back(Rule { times, ..rule }));
    }

    /// Answers every request for which nothing is pushed with `reply`; replaces the standing rules.
    pub fn always(&self, reply: Reply) {
        self.with_script(|script| script.rules = vec![Rule { reply, ..Rule::default() }]);
    }

    /// Adds a standing rule behind the others.
    pub fn rule(&self, rule: Rule) {
        self.with_script(|script| script.rules.push(rule));
    }

    /// Forgets every rule and every pushed reply.
    pub fn behave(&self) {
        self.with_script(|script| *script = Script { expects: script.expects.take(), ..Script::default() });
    }

    /// Accepts this key alone from now on.
    pub fn expect_key(&self, key: &str) {
        self.with_script(|script| script.expects = Some(key.to_owned()));
    }

    /// Treats the next new connection so, before a byte of it is read.
    pub fn push_accept(&self, act: AtAccept) {
        self.with_script(|script| script.accepts.push_back(act));
    }

    /// The kept requests, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.journal.requests()
    }

    /// Drops the kept requests; the counts go on.
    pub fn forget_requests(&self) {
        self.shared.journal.clear();
    }

    pub fn counts(&self) -> Counts {
        self.shared.journal.counts()
    }

    /// Waits until `count` requests have arrived since the start, and returns those that are kept.
    pub async fn wait_for(&self, count: u64) -> Vec<Recorded> {
        self.wait_until(|counts| counts.requests >= count).await;
        self.requests()
    }

    /// Waits until the counts satisfy `enough`.
    pub async fn wait_until(&self, enough: impl Fn(Counts) -> bool) -> Counts {
        self.shared.journal.wait(enough).await
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
