//! The troll pool (the T rows): proxies in turn, keys bound to them, cooldowns and health, against scripted proxies.
//!
//! ```text
//!   gateway ──► p1 ──► its own provider
//!          ├──► p2 ──► its own provider        the upstream's address is a provider too: what comes there came past the proxies
//!          └──► …
//! ```
//!
//! So each test sees at the providers by which way a request came and with which key.

mod blame;
mod bodies;
mod bounds;
mod checks;
mod cooldowns;
mod direct;
mod kinds;
mod models;
mod out;
mod rotation;
mod seen;
mod shares;

use std::future::Future;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trollbridge::provider_mock::{Reply, Rule};

use crate::answers::ask;
use crate::support::request::Answer;
use crate::support::setup::{TROLL_KEY, TROLL_MODEL};
use crate::support::{Gateway, Mock, Request, ScriptedProxy, Setup, soon};

/// A check at the start and no more. Two would bring a proxy up: what this one finds can't undo what a request finds meanwhile.
const CHECKED_ONCE: &str = r#"{ "interval_s": 3600, "successes": 2 }"#;
/// The shortest interval.
const CHECKED_EACH_SECOND: &str = r#"{ "interval_s": 1 }"#;

/// The keys of troll: ids and texts.
const KEYS: [(&str, &str); 4] = [
    ("k1", TROLL_KEY),
    ("k2", "sk-troll-second-planted-4c81d7e20b95"),
    ("k3", "sk-troll-third-planted-a07f52c69e13"),
    ("k4", "sk-troll-fourth-planted-d93b6a18f740"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect,
    Socks5,
    Reverse,
}

/// A proxy of the pool, and the provider that it alone leads to.
struct Way {
    id: String,
    /// `None`: the provider itself plays the reverse proxy.
    proxy: Option<ScriptedProxy>,
    kind: Kind,
    provider: Mock,
}

/// Proxies `p1`, `p2` and so on, and the provider at the upstream's own address.
struct Pool {
    own: Mock,
    ways: Vec<Way>,
}

impl Pool {
    async fn of(kinds: &[Kind]) -> Self {
        let mut ways = Vec::new();
        for (nth, kind) in kinds.iter().enumerate() {
            let provider = Mock::http().await.unwrap();
            let proxy = match kind {
                Kind::Connect => Some(ScriptedProxy::connect().await),
                Kind::Socks5 => Some(ScriptedProxy::socks5().await),
                Kind::Reverse => None,
            };
            if let Some(proxy) = &proxy {
                proxy.connect_to(provider.addr());
            }
            ways.push(Way { id: format!("p{}", nth + 1), proxy, kind: *kind, provider });
        }
        Self { own: Mock::http().await.unwrap(), ways }
    }

    /// Troll with this many keys, which every proxy carries, and with JSON access lines. Proxies are checked once, at the start.
    fn setup(&self, keys: usize) -> Setup {
        with_keys(Setup::new().troll(&self.own), "troll", keys)
            .set("/log/format", json!("json"))
            .set("/upstreams/troll/health_check", CHECKED_ONCE.parse().unwrap())
            .set("/upstreams/troll/proxies", self.ways.iter().map(Way::config).collect())
    }

    /// As [`Pool::setup`], the keys bound to the proxies one list each.
    fn bound(&self, lists: &[&[&str]]) -> Setup {
        let setup = self.setup(lists.iter().map(|list| list.len()).sum());
        let at = |nth: usize| format!("/upstreams/troll/proxies/{nth}/keys");
        lists.iter().enumerate().fold(setup, |setup, (nth, list)| setup.set(&at(nth), json!(list)))
    }

    /// Starts the gateway and waits until each proxy has passed its check, so that what follows comes from requests alone.
    async fn start(&self, setup: Setup) -> Gateway {
        let gateway = setup.start().await;
        for way in &self.ways {
            match &way.proxy {
                Some(proxy) => drop(proxy.wait_until(|seen| seen.tunnels >= 1 && seen.standing == 0).await),
                None => drop(way.provider.wait_until(|counts| counts.connections >= 1).await),
            }
        }
        gateway
    }

    /// How many requests came by each way.
    fn shares(&self) -> Vec<u64> {
        self.ways.iter().map(|way| way.provider.counts().requests).collect()
    }

    fn requests(&self) -> u64 {
        self.shares().iter().sum()
    }

    #[track_caller]
    fn expect_nothing_direct(&self) {
        assert_eq!(self.own.counts().connections, 0, "a connection came past the proxies");
    }

    /// Has every provider answer so to this key.
    fn always(&self, key: &str, reply: &Reply) {
        for way in &self.ways {
            way.provider.rule(of_key(key, reply.clone()));
        }
    }
}

impl Way {
    fn proxy(&self) -> &ScriptedProxy {
        self.proxy.as_ref().expect("a forward proxy")
    }

    fn config(&self) -> Value {
        let (kind, addr) = match (&self.kind, &self.proxy) {
            (Kind::Connect, Some(proxy)) => ("connect", proxy.addr()),
            (Kind::Socks5, Some(proxy)) => ("socks5", proxy.addr()),
            _ => ("reverse", self.provider.addr()),
        };
        json!({ "id": self.id, "kind": kind, "addr": addr })
    }

    /// The ids of the keys that came by this way, in their order.
    fn keys(&self) -> Vec<&'static str> {
        keys_at(&self.provider)
    }
}

fn keys_at(provider: &Mock) -> Vec<&'static str> {
    let id_of = |bearer: &str| KEYS.iter().find(|(_, text)| bearer == format!("Bearer {text}")).map(|(id, _)| *id);
    provider.requests().iter().map(|request| id_of(request.header("authorization")[0]).expect("a known key")).collect()
}

/// The first of [`KEYS`], this many, as the upstream's `keys`.
fn with_keys(setup: Setup, upstream: &str, keys: usize) -> Setup {
    let list = KEYS[..keys].iter().map(|(id, _)| json!({ "id": id, "key": format!("${{KEY_{id}}}") })).collect();
    let setup = if upstream == "troll" { setup.env("TROLL_API_KEY", "") } else { setup };
    let setup = setup.set(&format!("/upstreams/{upstream}/keys"), list);
    KEYS[..keys].iter().fold(setup, |setup, (id, text)| setup.secret_env(&format!("KEY_{id}"), text))
}

fn text_of(key: &str) -> &'static str {
    KEYS.iter().find(|(id, _)| *id == key).expect("a known key").1
}

/// Answers so whenever this key comes.
fn of_key(key: &str, reply: Reply) -> Rule {
    Rule { key: Some(text_of(key).to_owned()), reply, ..Rule::default() }
}

/// This key is refused once.
fn once(key: &str, reply: Reply) -> Rule {
    Rule { times: Some(1), ..of_key(key, reply) }
}

fn ask_troll(path: &str, stream: bool) -> Request {
    ask(path, TROLL_MODEL, stream)
}

/// An upstream as `/status.json` shows it.
async fn status(gateway: &Gateway, upstream: &str) -> Value {
    let page = gateway.admin("/status.json").await.expect(200).json();
    let upstreams = page["upstreams"].as_array().unwrap();
    upstreams.iter().find(|of| of["name"] == upstream).expect("the upstream").clone()
}

/// A proxy of troll as `/status.json` shows it.
async fn proxy_status(gateway: &Gateway, id: &str) -> Value {
    member(&status(gateway, "troll").await["proxies"], id)
}

/// A key of troll as `/status.json` shows it.
async fn key_status(gateway: &Gateway, id: &str) -> Value {
    member(&status(gateway, "troll").await["keys"], id)
}

fn member(list: &Value, id: &str) -> Value {
    list.as_array().unwrap().iter().find(|of| of["id"] == id).expect("the id").clone()
}

async fn until_health(gateway: &Gateway, proxy: &str, health: &str) {
    until(&format!("{proxy} to be {health}"), async || proxy_status(gateway, proxy).await["health"] == health).await;
}

/// Asks again until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let becoming = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, becoming).await;
}

/// A reload that came into force.
async fn reload(gateway: &Gateway) {
    let in_force = |line: &str| line.contains("reload: ") && line.contains("is in force");
    let so_far = gateway.log_lines().iter().filter(|line| in_force(line)).count();
    gateway.signal("HUP");
    gateway.wait_for_logs(so_far + 1, in_force).await;
}

/// When something was done: not before the first instant, not after the second.
type Span = RangeInclusive<Instant>;

async fn timed<T>(doing: impl Future<Output = T>) -> (T, Span) {
    let began = Instant::now();
    let done = doing.await;
    (done, began..=Instant::now())
}

/// Fails unless `Retry-After` is what is left of `rest`, which began within `cooled`, in whole seconds at some instant of `asked`.
#[track_caller]
fn expect_wait(answer: &Answer, rest: Duration, cooled: &Span, asked: &Span) {
    // Two clocks are compared, one of them in whole milliseconds.
    const CLOCKS: Duration = Duration::from_millis(2);
    let told: u64 = answer.header("retry-after").parse().expect("whole seconds");
    let whole = |left: Duration| left.as_millis().div_ceil(1000);
    let most = whole((rest + CLOCKS).saturating_sub(asked.start().saturating_duration_since(*cooled.end())));
    let least = whole(rest.saturating_sub(CLOCKS + (*asked.end() - *cooled.start())));
    let most = most.min(whole(rest));
    assert!((least.max(1)..=most.max(1)).contains(&u128::from(told)), "{told} is not within {least}..={most}");
}
