//! What the tables of this room are made of: a fake moment, a configuration as text, and a request at any stage. No process, no sleep.
//!
//! A table's row is a walk, written as words: what happens to one attempt after the other. What the steps answer is written down as
//! words too, and the keys and proxies that do not stand well at the end.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tempfile::TempDir;

use crate::config;
use crate::domain::admission::Head;
use crate::domain::answer::Answer;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::end::End;
use crate::domain::id::RequestId;
use crate::domain::json::peek;
use crate::domain::moment::{Moment, Now};
use crate::domain::settings::{LogFormat, Settings};
use crate::domain::upstream::standing::KeyState;
use crate::domain::upstream::{Pick, Upstream};
use crate::ops::books::clients::Directory;
use crate::ops::books::ledger::Ledger;
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::counters::Counters;
use crate::relay::admit::{Entry, ReadBody};
use crate::relay::dispatch::{Dispatch, Then};
use crate::relay::failure::{Broke, Failure, LastWord, NoWay, Offer, Reached};
use crate::relay::hold::Held;
use crate::relay::judge::{HeadSeen, Heard, Next};
use crate::relay::stage::{Admitted, Arrived, Local, Records};

/// 2027-01-15 08:00:00 UTC.
pub const START: Now = Now { moment: Moment::from_millis(1_800_000_000_000), unix_ms: 1_800_000_000_000 };

pub fn later(now: Now, wait: Duration) -> Now {
    let ms = u64::try_from(wait.as_millis()).unwrap();
    Now { moment: now.moment.after(wait), unix_ms: now.unix_ms + ms }
}

/// A directory without clients; made once, for it is a database.
static NOBODY: LazyLock<Arc<Directory>> = LazyLock::new(|| {
    let state = tempfile::tempdir().unwrap();
    Arc::new(Directory::load(state.path(), &HashMap::new()).unwrap())
});

/// The machine that a request is walked on: settings, books, counters.
pub struct House {
    pub settings: Arc<Settings>,
    pub ledger: Ledger,
    pub directory: Arc<Directory>,
    pub records: Records,
    pub state: TempDir,
}

impl House {
    /// `text`: a config.json without `state_dir` and `listen`.
    pub fn new(text: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let no_variable = |_: &str| None;
        let read = |_: &Path| Ok(text.to_owned());
        let loaded = config::load(Path::new("config.json"), &no_variable, &read).unwrap_or_else(|faults| panic!("{faults}"));
        let settings = Arc::new(loaded.settings);
        let (ledger, _) = Ledger::start(state.path(), settings.ledger, false, START.unix_ms).unwrap();
        let directory = NOBODY.clone();
        let access_log = AccessLog::with_bound(LogFormat::Json, std::io::sink(), 1 << 20);
        let records = Records { counters: Arc::new(Counters::default()), access_log: Arc::new(access_log) };
        Self { settings, ledger, directory, records, state }
    }

    pub fn arrived(&self, method: Method, path: &str) -> Box<Arrived> {
        let asked = Api::of(path);
        Box::new(Arrived {
            id: RequestId::new(START.unix_ms, [7; 10]),
            at: START.moment,
            unix_ms: START.unix_ms,
            method,
            uri: path.parse().unwrap(),
            asked,
            dialect: Dialect::of(asked, path, false),
            settings: self.settings.clone(),
            in_flight: self.records.counters.enter(),
            access_log: self.records.access_log.clone(),
        })
    }

    /// Walks a POST with these headers and this body as far as it comes.
    pub fn admit(&self, path: &str, headers: &HeaderMap, body: &str) -> Result<(Admitted, Vec<Bytes>), Box<Local>> {
        let arrived = self.arrived(Method::POST, path);
        let head = Head { method: &Method::POST, path, host: Some("localhost"), headers };
        match arrived.enter(head, false, &self.directory)? {
            Entry::Through(admitted) => Ok((*admitted, Vec::new())),
            Entry::Read(reading) => {
                let chunks = vec![Bytes::copy_from_slice(body.as_bytes())];
                let read = ReadBody { chunks, peeked: peek(body.as_bytes()), took: Duration::from_micros(3) };
                reading.route(read).admit(Duration::from_micros(2))
            }
        }
    }

    /// A request for model `m` that is about to go out.
    pub fn dispatch(&self, path: &str) -> Result<Dispatch, Box<Local>> {
        let (admitted, _) = self.admit(path, &HeaderMap::new(), r#"{"model":"m","stream":true,"max_tokens":9}"#)?;
        admitted.dispatch(&self.ledger, START.moment)
    }

    /// What the ledger's files say, a line a record.
    pub fn ledger_lines(&self) -> Vec<serde_json::Value> {
        let files = std::fs::read_dir(self.state.path().join("ledger")).unwrap();
        let segments = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
        let text: String = segments.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn closes(&self) -> Vec<serde_json::Value> {
        self.ledger_lines().into_iter().filter(|line| line["record"] == "close").collect()
    }
}

pub fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    pairs.iter().map(pair).collect()
}

/// One key and no proxy, at an upstream that shows the provider's limits (main).
pub const ONE_KEY: &str = r#"{"auth":{"mode":"none"},"models":[{"id":"m","upstream":"main","input_price_per_mtok":1,"output_price_per_mtok":2}],
  "upstreams":{"main":{"base_url":"https://main.example.com","key":"canary-main-key"}}}"#;
/// Two keys and no proxy, at an upstream that shows the provider's limits.
pub const TWO_KEYS: &str = r#"{"auth":{"mode":"none"},"models":[{"id":"m","upstream":"x"}],
  "upstreams":{"x":{"base_url":"https://x.example.com","keys":[{"id":"k1","key":"canary-key-one"},{"id":"k2","key":"canary-key-two"}]}}}"#;
/// What a row adds to the file: a stream's beginning is held for 300 ms.
pub const HOLD: &str = r#","retry":{"hold_first_event_ms":300}"#;
/// A target by its URL: no key at all.
pub const NO_KEY: &str =
    r#"{"auth":{"mode":"none"},"model_routing":{"enabled":true,"models":{"m":"https://url.example.com/v1"}}}"#;

/// A configuration with more at its end.
pub fn with(config: &str, more: &str) -> String {
    format!("{}{more}}}", config.trim_end().strip_suffix('}').unwrap())
}

/// The troll: three keys, no proxy.
pub fn troll_direct(more: &str) -> String {
    troll("", more)
}

/// The troll: `p1` carries k1 and k2, `p2` carries k3; both are CONNECT proxies.
pub fn troll_pool(more: &str) -> String {
    troll(
        r#","proxies":[{"id":"p1","kind":"connect","addr":"10.0.0.1:3128","keys":["k1","k2"]},
           {"id":"p2","kind":"connect","addr":"10.0.0.2:3128","keys":["k3"]}]"#,
        more,
    )
}

/// As [`troll_pool`], of reverse proxies, which may speak for themselves.
pub fn troll_reverse(more: &str) -> String {
    troll(
        r#","proxies":[{"id":"p1","kind":"reverse","addr":"10.0.0.1:8080","keys":["k1","k2"]},
           {"id":"p2","kind":"reverse","addr":"10.0.0.2:8080","keys":["k3"]}]"#,
        more,
    )
}

fn troll(proxies: &str, more: &str) -> String {
    format!(
        r#"{{"auth":{{"mode":"none"}},"models":[{{"id":"m","upstream":"troll"}}],"upstreams":{{"troll":{{"base_url":"http://troll.example.com",
          "keys":[{{"id":"k1","key":"canary-key-one"}},{{"id":"k2","key":"canary-key-two"}},{{"id":"k3","key":"canary-key-three"}}]{proxies}}}}}{more}}}"#
    )
}

/// Walks every row of a table: what happens, and what the steps answer.
pub fn check(config: &str, path: &str, rows: &[(&str, &str)]) {
    let told = rows.iter().map(|(words, _)| walk(config, path, words));
    let wrong: Vec<_> = rows.iter().zip(told).filter(|((_, expected), told)| expected != told).collect();
    let lines = wrong.iter().map(|((words, expected), told)| format!("{words}\n  expected  {expected}\n  is        {told}\n"));
    assert!(wrong.is_empty(), "{path}, {config}\n{}", lines.collect::<String>());
}

/// Walks one request. Each word is one thing that happens:
///
/// | word | |
/// |---|---|
/// | `429`, `429;retry-after=7` | a head; of an error its body too, without words |
/// | `429;says=size` | an error with words: `money`, `big` (a model's code), `m` (the model by name), `size`, `tokens`, `rights`, `page`; `half` is no end, `endless` neither |
/// | `sse` | a good head of an event stream; behind this and any other good head an answer begins |
/// | `200;says=nothing` | a good head behind which none does |
/// | `ev:ping`, `ev:good`, `ev:529` | the first event of a stream: a heartbeat, an answer, a failure |
/// | `conn`, `login`, `cert`, `noaddr` | no connection; a refused login; a certificate that can't be trusted; a name without an address |
/// | `lost`, `kept` | the connection broke; it was a kept one |
/// | `unread`, `refused`, `other` | it refused the request unread; it was a kept one; it speaks another protocol |
/// | `silent`, `garbage` | a read took too long; what came can't be read |
/// | `nothing` | the answer ended, and was none |
/// | `judged` | the attempt that was decided could not be made |
/// | `late`, `gone`, `slow`, `unreadable`, `stopping`, `internal` | a deadline, the client, its body, its request, the drain, ourselves |
/// | `sent` | nothing but that the attempt begins |
/// | `begun` | a final head goes to the client now |
/// | `+5000` | so many milliseconds pass |
///
/// The answer has a word for each step, and behind a bar who does not stand well.
pub fn walk(config: &str, path: &str, words: &str) -> String {
    walk_in(&House::new(config), path, words)
}

/// Walks one request; gives its entry of the ledger, and the upstream as it stands behind it.
pub fn walked(config: &str, path: &str, words: &str) -> (serde_json::Value, Arc<Upstream>) {
    let house = House::new(config);
    walk_in(&house, path, words);
    let upstream = house.settings.upstreams.iter().rfind(|upstream| upstream.missing().is_none()).unwrap();
    (house.closes().remove(0), upstream.clone())
}

fn walk_in(house: &House, path: &str, words: &str) -> String {
    let mut told = String::new();
    let mut dispatch = match house.dispatch(path) {
        Ok(dispatch) => dispatch,
        Err(local) => return format!("local:{}", local.status().unwrap_or(0)),
    };
    let (mut now, mut begun, mut held, mut fresh) = (START, false, false, true);
    for word in words.split_whitespace() {
        if let Some(ms) = word.strip_prefix('+') {
            now = later(now, Duration::from_millis(ms.parse().unwrap()));
            continue;
        }
        if std::mem::take(&mut fresh) {
            dispatch.begin(now.moment);
        }
        let step = if word == "begun" || word == "sent" {
            begun |= word == "begun";
            continue;
        } else if word == "sse" {
            head(&mut dispatch, "200;content-type=text/event-stream", now, &mut held, &mut fresh)
        } else if let Some(event) = word.strip_prefix("ev:") {
            event_step(&mut dispatch, event, now, &mut held, &mut fresh)
        } else if word.starts_with(|first: char| first.is_ascii_digit()) {
            head(&mut dispatch, word, now, &mut held, &mut fresh)
        } else {
            failure_step(&mut dispatch, word, Reached { begun, held }, now, &mut fresh)
        };
        write!(told, "{}{step}", if told.is_empty() { "" } else { " " }).unwrap();
    }
    let upstream = dispatch.walk().upstream().clone();
    let standing = standing(&upstream, now);
    let (ended, _) = dispatch.end(End::Ok, now);
    ended.record(now.moment);
    assert_eq!(house.closes().len(), 1, "every dispatch has one entry");
    if standing.is_empty() { told } else { format!("{told} | {standing}") }
}

fn head(dispatch: &mut Dispatch, word: &str, now: Now, held: &mut bool, fresh: &mut bool) -> String {
    let mut parts = word.split(';');
    let status = parts.next().unwrap().parse().unwrap();
    let mut pairs: Vec<(&str, &str)> = parts.map(|pair| pair.split_once('=').unwrap()).collect();
    let says = pairs.iter().position(|(name, _)| *name == "says").map(|at| pairs.remove(at).1);
    let headers = headers(&pairs);
    let seen = HeadSeen { status, version: http::Version::HTTP_11, headers: &headers };
    match dispatch.head(seen, now) {
        Next::Again => again(dispatch, fresh),
        Next::Hear { .. } => hear(dispatch, says.unwrap_or_default(), now, fresh),
        Next::Pass(edits) => {
            *held = edits.hold.is_some();
            if dispatch.walk().looks_at_first_event() {
                return "held".to_owned();
            }
            if says != Some("nothing") {
                dispatch.walk_mut().is_served(now.moment);
            }
            "pass".to_owned()
        }
        Next::Replace(replacement) => says_of(&replacement.answer),
        Next::Unusable { .. } => "unusable".to_owned(),
    }
}

/// The body of an error, in two pieces.
fn hear(dispatch: &mut Dispatch, says: &str, now: Now, fresh: &mut bool) -> String {
    let body = match says {
        "" => "",
        "money" => r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#,
        "big" => r#"{"error":{"message":"no","code":"model_not_found"}}"#,
        "m" => r#"{"error":{"message":"Rate limit reached for m in organization org-x"}}"#,
        "size" => r#"{"error":{"message":"Request too large for m on TPM: Limit 10000, Requested 50000."}}"#,
        "tokens" => r#"{"error":{"message":"This request would exceed your limit of input tokens per minute"}}"#,
        "rights" => r#"{"error":{"message":"no","code":"missing_scope"}}"#,
        "page" => "<html>blocked</html>",
        "half" => r#"{"error":{"message":"Rate limit rea"#,
        "endless" => &"x".repeat(65 * 1024),
        other => panic!("nobody says {other}"),
    };
    let (first, rest) = body.split_at(body.len() / 2);
    let mut heard = dispatch.hear(Some(&Bytes::copy_from_slice(first.as_bytes())), false, now);
    if heard == Heard::More {
        heard = dispatch.hear(Some(&Bytes::copy_from_slice(rest.as_bytes())), says != "half" && says != "endless", now);
    }
    match heard {
        Heard::More => "hear".to_owned(),
        Heard::TooLong => "too_long".to_owned(),
        Heard::Again { .. } => again(dispatch, fresh),
        Heard::Replace(replacement) => says_of(&replacement.answer),
    }
}

fn event_step(dispatch: &mut Dispatch, event: &str, now: Now, held: &mut bool, fresh: &mut bool) -> String {
    let data = match event {
        "ping" => r#"{"type":"ping"}"#.to_owned(),
        "good" => r#"{"type":"message_start","message":{"usage":{"input_tokens":1}}}"#.to_owned(),
        "bad" => r#"{"type":"error","error":{"type":"invalid_request_error"}}"#.to_owned(),
        status => format!(r#"{{"error":{{"code":{status}}}}}"#),
    };
    match dispatch.first_event(format!("data: {data}\n\n").as_bytes(), *held, now) {
        Held::Keep => "keep".to_owned(),
        Held::Release => {
            *held = false;
            "release".to_owned()
        }
        Held::Again { .. } => {
            *held = false;
            again(dispatch, fresh)
        }
    }
}

fn failure_step(dispatch: &mut Dispatch, word: &str, reached: Reached, now: Now, fresh: &mut bool) -> String {
    let detail = || "it broke".to_owned();
    let broke =
        |is_lost, was_kept, timed_out, offer| Failure::Broke(Broke { is_lost, was_kept, timed_out, offer, detail: detail() });
    let failure = match word {
        "conn" => Failure::NoConnection { why: NoWay::Now, detail: detail() },
        "login" => Failure::NoConnection { why: NoWay::Login, detail: detail() },
        "cert" => Failure::NoConnection { why: NoWay::Tls, detail: detail() },
        "noaddr" => Failure::NoAddress { detail: detail() },
        "lost" => broke(true, false, false, Offer::No),
        "kept" => broke(true, true, false, Offer::IfStale),
        "unread" => broke(false, false, false, Offer::Unread),
        "refused" => broke(false, true, false, Offer::Unread),
        "other" => broke(false, true, false, Offer::OtherProtocol),
        "garbage" => broke(false, false, false, Offer::No),
        "silent" => broke(false, false, true, Offer::No),
        "nothing" => Failure::NoAnswer,
        "judged" => Failure::Judged { detail: detail() },
        "late" => Failure::TooLate,
        "gone" => Failure::ClientGone,
        "slow" => Failure::BodyTooSlow,
        "unreadable" => Failure::Unreadable,
        "stopping" => Failure::Stopping,
        "internal" => Failure::Internal { detail: detail() },
        other => panic!("no such word: {other}"),
    };
    if dispatch.failed(&failure, reached, now) == Then::Again {
        return again(dispatch, fresh);
    }
    let (word, end) = dispatch.walk_mut().last_word(&failure, reached);
    let end = end.map_or("-", End::label);
    match word {
        LastWord::Nothing => format!("nothing,{end}"),
        LastWord::Rest(_) => format!("rest,{end}"),
        LastWord::Whole(answer) => format!("{},{end}", says_of(&answer)),
        LastWord::Event(_) => format!("event,{end}"),
        LastWord::Cut => format!("cut,{end}"),
    }
}

fn says_of(answer: &Answer) -> String {
    let wait = answer.retry_after.map(|wait| format!(",{}s", wait.as_secs())).unwrap_or_default();
    format!("{}:{}{wait}", answer.status, answer.code)
}

fn again(dispatch: &mut Dispatch, fresh: &mut bool) -> String {
    *fresh = true;
    let next = dispatch.walk.rotation.peek_next();
    format!("again:{}", who(dispatch.walk().upstream(), next.unwrap()))
}

pub fn who(upstream: &Upstream, pick: Pick) -> String {
    let proxy = upstream.proxy(pick).map_or("direct", |proxy| &proxy.id);
    let key = upstream.credential(pick).map_or("none", |credential| &credential.id);
    format!("{proxy}/{key}")
}

/// Who does not stand well: keys that rest, in seconds, or are dead; proxies that are down.
pub fn standing(upstream: &Upstream, now: Now) -> String {
    let keys = upstream.credentials.iter().filter_map(|key| match key.standing.state(now.moment) {
        KeyState::Ready => None,
        KeyState::Cooling { until, cause } => {
            Some(format!("{}:{}:{}s", key.id, cause.label(), now.moment.until(until).as_secs()))
        }
        KeyState::Dead { cause } => Some(format!("{}:dead:{}", key.id, cause.label())),
    });
    let models = upstream.credentials.iter().flat_map(|key| {
        let resting = key.standing.resting_models(now.moment).into_iter();
        let wait = move |until| now.moment.until(until).as_secs();
        resting.map(move |rest| format!("{}/{}:{}:{}s", key.id, rest.model, rest.cause.label(), wait(rest.until)))
    });
    let proxies = upstream.proxies().iter().filter(|proxy| !proxy.health.is_up()).map(|proxy| format!("{}:down", proxy.id));
    keys.chain(models).chain(proxies).collect::<Vec<_>>().join(" ")
}
