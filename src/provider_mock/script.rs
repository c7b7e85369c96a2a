//! What the provider is told to do: replies, and the rules that say which request gets which.
//!
//! A reply that is all defaults behaves. Every field adds one deviation, and they combine: a compressed answer, split at every byte, cut
//! after 40 bytes. The same types are the JSON of a script file: `{"rules":[{"model":"err-429","reply":{"status":429}}]}`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::Semaphore;

/// How to answer one request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// 200 where nothing else is said; from 400 on the usual body is an error in the request's dialect.
    pub status: Option<u16>,
    /// Added to the provider's usual headers; a name that is given here replaces the usual one, repeats are kept.
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// What the model says, in place of its usual sentence or tool call.
    pub text: Option<String>,
    /// How many deltas the text has; it is repeated or cut to fit.
    pub deltas: Option<usize>,
    /// Thinks before it speaks, even if the request did not ask for it.
    pub thinking: bool,
    /// JSON fields whose number is replaced by this raw text wherever they stand: `{"output_tokens": "-5"}`.
    pub lies: BTreeMap<String, String>,
    pub echo_key: Option<EchoKey>,
    /// Answers as soon as the request's head is read. Only for rules without a model, which is in the body.
    pub early: bool,
    /// Time before the response's head.
    #[serde(rename = "delay_ms", deserialize_with = "milliseconds")]
    pub delay: Duration,
    /// Time between two pieces of the body.
    #[serde(rename = "pause_ms", deserialize_with = "milliseconds")]
    pub pause: Duration,
    /// Sends the head byte by byte with this time between two bytes, and closes the connection afterwards (HTTP/1 only).
    #[serde(rename = "dribble_ms", deserialize_with = "some_milliseconds")]
    pub dribble: Option<Duration>,
    /// Holds every piece of the body until there is a permit for it, in place of a clock; only from code.
    #[serde(skip)]
    pub gate: Option<Arc<Semaphore>>,
    pub encoding: Option<Encoding>,
    pub split: Split,
    pub framing: Framing,
    pub ending: Ending,
    /// Leaves HTTP: nothing above matters except `early` and `delay`.
    pub below_http: Option<BelowHttp>,
}

/// What the response's body holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The dialect's answer to the request, or its error from status 400 on.
    #[default]
    Usual,
    /// An error that tells the canaries of `answer::error::CANARIES` and the key that came with the request.
    Leaking,
    Text(String),
    Json(Value),
    /// Server-sent events as they stand; each is a piece of its own.
    Events(Vec<String>),
    /// The usual JSON answer, blown up to this many bytes.
    FillerBytes(usize),
    /// One line that never ends.
    Endless,
    /// Bytes that need not be text; only from code.
    #[serde(skip)]
    Raw(bytes::Bytes),
}

/// Where the received key is sent back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EchoKey {
    /// In `x-echo-key`, and within the text of `x-ratelimit-scope`, a name that a gateway's allow-list may pass.
    Header,
    /// As the model's text, in JSON and in events alike.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    Gzip,
    Deflate,
    Br,
    Zstd,
}

/// How the body is cut into pieces, each of which is flushed on its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// One piece per event, one for a JSON body.
    #[default]
    Events,
    EveryByte,
    Every(usize),
    /// At these offsets from the body's begin.
    At(Vec<usize>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Content-Length for JSON, chunked for events.
    #[default]
    Usual,
    ContentLength,
    Chunked,
    /// Neither: the close of the connection ends the body (HTTP/1 only).
    UntilClose,
}

/// How the body ends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    #[default]
    Complete,
    /// Ends cleanly, but without the dialect's last word (`[DONE]`, `message_stop`, `response.completed`).
    NoTerminator,
    Cut {
        after: After,
        how: How,
    },
}

/// Where a cut falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// Counted before compression.
    Events(usize),
    /// Counted on the wire, without the framing.
    Bytes(usize),
}

/// What a cut looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Ends the framing properly.
    Clean,
    /// Closes without the last chunk; RST_STREAM on HTTP/2.
    Close,
    /// A TCP reset, on HTTP/2 for the whole connection.
    Reset,
    /// Sends nothing more and keeps the connection.
    Stall,
}

/// Answers that HTTP does not allow.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BelowHttp {
    /// Never answers.
    Hang,
    /// Closes without an answer.
    Close,
    Reset,
    /// Sends header lines for ever.
    EndlessHead,
    /// Writes these texts as they are, one by one, then does `then`.
    Raw {
        pieces: Vec<String>,
        #[serde(default, rename = "pause_ms", deserialize_with = "milliseconds")]
        pause: Duration,
        then: How,
    },
}

/// What happens to a new connection before its first byte is read.
#[derive(Clone, Debug)]
pub enum AtAccept {
    Close,
    Reset,
    /// Accepts and then neither reads nor writes: no TLS handshake, no answer.
    Hang,
    /// Writes these bytes and closes.
    Raw(bytes::Bytes),
}

/// Which requests get a reply; a field that is not set matches everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The end of the path.
    pub path: Option<String>,
    /// The model; a `*` at the end matches any rest.
    pub model: Option<String>,
    /// The key that came with the request.
    pub key: Option<String>,
    /// How often the rule applies; for ever when not set.
    pub times: Option<u32>,
    pub reply: Reply,
}

/// The rules in their order, and what a script file may set besides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// The only key that is accepted; every other one gets the dialect's 401.
    pub expects: Option<String>,
    pub rules: Vec<Rule>,
    /// Rules that come before the others and go once they are spent; only from code.
    #[serde(skip)]
    pub queue: VecDeque<Rule>,
    /// What happens to the next connections, one each; only from code.
    #[serde(skip)]
    pub accepts: VecDeque<AtAccept>,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub path: &'a str,
    pub key: Option<&'a str>,
    /// `None` as long as the body is not read.
    pub model: Option<&'a str>,
}

impl Script {
    /// Reads a script file's text.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Takes the reply of the first rule that fits: queued ones before standing ones. Without a rule the provider behaves.
    pub fn take(&mut self, facts: Facts<'_>) -> Reply {
        if let Some(at) = self.queue.iter().position(|rule| rule.fits(facts))
            && let Some(rule) = self.queue.get_mut(at)
        {
            let reply = rule.spend();
            self.queue.retain(|rule| rule.times != Some(0));
            return reply;
        }
        self.rules.iter_mut().find(|rule| rule.times != Some(0) && rule.fits(facts)).map(Rule::spend).unwrap_or_default()
    }

    /// Takes a reply that does not wait for the body, if that is what the first fitting rule says.
    pub fn take_early(&mut self, facts: Facts<'_>) -> Option<Reply> {
        let mut candidates = self.queue.iter().chain(self.rules.iter().filter(|rule| rule.times != Some(0)));
        let first = candidates.find(|rule| rule.fits(facts))?;
        (first.reply.early && first.model.is_none()).then(|| self.take(facts))
    }
}

impl Rule {
    fn fits(&self, facts: Facts<'_>) -> bool {
        let path = self.path.as_deref().is_none_or(|tail| facts.path.ends_with(tail));
        let key = self.key.as_deref().is_none_or(|key| facts.key == Some(key));
        let model = match (self.model.as_deref(), facts.model) {
            (None, _) | (_, None) => true,
            (Some(wanted), Some(model)) => match wanted.strip_suffix('*') {
                Some(prefix) => model.starts_with(prefix),
                None => model == wanted,
            },
        };
        path && key && model
    }

    fn spend(&mut self) -> Reply {
        if let Some(times) = &mut self.times {
            *times = times.saturating_sub(1);
        }
        self.reply.clone()
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn some_milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    milliseconds(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(path: &'a str, model: &'a str) -> Facts<'a> {
        Facts { path, key: Some("k"), model: Some(model) }
    }

    #[test]
    fn a_script_file_reads_every_kind_of_deviation() {
        let text = r#"{
            "expects": "upstream-key",
            "rules": [
                { "model": "err-*", "times": 2, "reply": { "status": 429, "headers": [["retry-after", "3"]], "body": "leaking" } },
                { "path": "/responses", "reply": { "ending": { "cut": { "after": { "events": 3 }, "how": "reset" } }, "pause_ms": 5 } },
                { "reply": { "split": { "every": 7 }, "encoding": "br", "lies": { "output_tokens": "1e309" }, "dribble_ms": 1 } },
                { "reply": { "below_http": { "raw": { "pieces": ["HTTP/1.1 101 x\r\n\r\n"], "then": "close" } }, "body": { "filler_bytes": 9 } } }
            ]
        }"#;
        let script = Script::parse(text).unwrap();
        assert_eq!(script.rules.len(), 4);
        assert_eq!(script.rules[1].reply.pause, Duration::from_millis(5));
        assert!(matches!(script.rules[1].reply.ending, Ending::Cut { after: After::Events(3), how: How::Reset }));
    }

    #[test]
    fn an_unknown_word_in_a_script_file_is_an_error() {
        let error = Script::parse(r#"{ "rules": [{ "reply": { "stauts": 429 } }] }"#).unwrap_err();
        assert!(error.to_string().contains("stauts"), "{error}");
    }

    #[test]
    fn the_first_rule_that_fits_wins_and_wears_out() {
        let rule = |model: &str, times, status| Rule {
            model: Some(model.to_owned()),
            times,
            reply: Reply { status: Some(status), ..Reply::default() },
            ..Rule::default()
        };
        let mut script = Script { rules: vec![rule("a*", Some(1), 429), rule("a*", None, 500)], ..Script::default() };
        assert_eq!(script.take(facts("/v1/messages", "abc")).status, Some(429));
        assert_eq!(script.take(facts("/v1/messages", "abc")).status, Some(500));
        assert_eq!(script.take(facts("/v1/messages", "b")).status, None);
        script.queue.push_back(Rule { times: Some(1), ..rule("b", Some(1), 503) });
        assert_eq!(script.take(facts("/v1/messages", "abc")).status, Some(500));
        assert_eq!(script.take(facts("/v1/messages", "b")).status, Some(503));
        assert_eq!(script.take(facts("/v1/messages", "b")).status, None);
    }

    #[test]
    fn an_early_reply_needs_a_rule_that_does_not_look_into_the_body() {
        let early = Reply { early: true, ..Reply::default() };
        let by_model = Rule { model: Some("m".to_owned()), reply: early.clone(), ..Rule::default() };
        let unread = Facts { path: "/v1/messages", key: None, model: None };
        let mut script = Script { rules: vec![by_model], ..Script::default() };
        assert!(script.take_early(unread).is_none());
        script.rules.insert(0, Rule { reply: early, ..Rule::default() });
        assert!(script.take_early(unread).is_some());
    }
}
