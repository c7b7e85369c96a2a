//! A provider with a script: speaks like OpenAI and Anthropic, behaves by default and misbehaves on demand.
//!
//! Used by the `mock` and `demo` commands, and by tests, which script it as it runs and listen to what it tells. It answers chat
//! completions, completions, messages, count_tokens, responses, embeddings and models under any base path, as JSON or as server-sent
//! events, over HTTP/1.1, HTTP/2 and TLS. It knows nothing of the gateway: no other room of this crate is used here. What only tests ask
//! of it is theirs (`tests/it/support/provider`) and in no binary.
//!
//! ```text
//! socket ── wire ── hyper ── exchange ─┬─ ask      what the request wants, and its tokens
//!             │                        ├─ script   which reply it gets
//!             └── tap ─────────────────┤  answer   what a provider would say
//!                 (raw bytes, resets)  ├─ shape    the reply's deviations from that
//!                                      └─ witness  who hears of it
//! ```

mod answer;
mod ask;
mod encode;
mod exchange;
mod script;
mod serve;
mod shape;
mod steps;
mod tls;
mod wire;
mod witness;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use answer::error::CANARIES;
pub use ask::{PROMPT_BASE_TOKENS, Usage};
pub use script::{After, AtAccept, BelowHttp, Body, EchoKey, Encoding, Ending, Framing, How, Reply, Rule, Script, Split};
pub use tls::Tls;
pub use witness::{Arrival, Event, Witness};

use exchange::Provider;

/// How a provider is started.
pub struct Options {
    /// Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// Speaks https when set.
    pub tls: Option<Tls>,
    /// May be rewritten while the provider runs.
    pub script: Arc<Mutex<Script>>,
    pub witness: Witness,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: None, script: Arc::default(), witness: Arc::new(|_| {}) }
    }
}

/// A running provider; it stops when this value is dropped.
pub struct Mock {
    addr: SocketAddr,
    scheme: &'static str,
    accepting: JoinHandle<()>,
}

impl Mock {
    /// Binds and serves on the current tokio runtime. Fails when the address is taken or the certificate is unreadable.
    pub async fn start(options: Options) -> io::Result<Self> {
        let Options { listen, tls, script, witness } = options;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tls = tls.as_ref().map(tls::acceptor).transpose()?;
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let accepting = tokio::spawn(serve::accept(listener, tls, Arc::new(Provider::new(script, witness))));
        Ok(Self { addr, scheme, accepting })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `scheme://ip:port`, without a path.
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
