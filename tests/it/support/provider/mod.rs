//! The scripted provider in a test's hands: told what to answer while it runs, and asked what arrived.

mod gate;
mod journal;
mod reply;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use trollbridge::provider_mock::{self, AtAccept, Options, Reply, Rule, Script, Tls};

pub use gate::Gate;
pub use journal::{Counts, Recorded};
pub use reply::Shorthand;

use journal::Journal;

/// How many of the last requests are kept with their bodies.
const KEPT: usize = 10_000;

/// A running provider; it stops when this value is dropped.
pub struct Mock {
    provider: provider_mock::Mock,
    script: Arc<Mutex<Script>>,
    journal: Arc<Journal>,
}

impl Mock {
    /// Starts on a free port of the loopback, http, nothing scripted.
    pub async fn http() -> io::Result<Self> {
        Self::start(None, Script::default(), KEPT).await
    }

    /// Starts on a free port of the loopback, https.
    pub async fn https(tls: Tls) -> io::Result<Self> {
        Self::start(Some(tls), Script::default(), KEPT).await
    }

    /// Starts with a script, http.
    pub async fn scripted(script: Script) -> io::Result<Self> {
        Self::start(None, script, KEPT).await
    }

    /// Starts as [`Mock::http`] and keeps only the last `keep` requests; the counts go on beyond them.
    pub async fn keeping(keep: usize) -> io::Result<Self> {
        Self::start(None, Script::default(), keep).await
    }

    async fn start(tls: Option<Tls>, script: Script, keep: usize) -> io::Result<Self> {
        let (script, journal) = (Arc::new(Mutex::new(script)), Arc::new(Journal::new(keep)));
        let written = Arc::clone(&journal);
        let witness = Arc::new(move |event: provider_mock::Event<'_>| written.enter(event));
        let options = Options { tls, script: Arc::clone(&script), witness, ..Options::default() };
        Ok(Self { provider: provider_mock::Mock::start(options).await?, script, journal })
    }

    pub fn addr(&self) -> SocketAddr {
        self.provider.addr()
    }

    /// `scheme://ip:port`, without a path.
    pub fn base_url(&self) -> String {
        self.provider.base_url()
    }

    fn with_script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.journal.requests()
    }

    /// Drops the kept requests; the counts go on.
    pub fn forget_requests(&self) {
        self.journal.clear();
    }

    pub fn counts(&self) -> Counts {
        self.journal.counts()
    }

    /// Waits until `count` requests have arrived since the start, and returns those that are kept.
    pub async fn wait_for(&self, count: u64) -> Vec<Recorded> {
        self.wait_until(|counts| counts.requests >= count).await;
        self.requests()
    }

    /// Waits until the counts satisfy `enough`.
    pub async fn wait_until(&self, enough: impl Fn(Counts) -> bool) -> Counts {
        self.journal.wait(enough).await
    }
}
