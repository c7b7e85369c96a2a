//! What one access line says, and its two spellings: logfmt and JSON, with the same names in the same order.
//!
//! The names are the ledger's where the ledger has them. A field without a value is left out. A line holds ids, names, counts and
//! times: no type here could carry a key, a prompt or an answer, and what a client chose freely (model, path) is cut and escaped.

use std::time::Duration;

use crate::domain::answer::Refusal;
use crate::domain::billing::NanoUsd;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::end::End;
use crate::domain::id::RequestId;
use crate::domain::settings::LogFormat;
use crate::domain::usage::{Source, Usage};
use crate::ops::watch::line;

/// The most bytes of a text that a line shows, before escapes.
const MAX_TEXT: usize = 200;

/// One finished request.
#[derive(Clone, Debug)]
pub struct AccessEntry<'a> {
    pub id: &'a RequestId,
    /// When the request arrived, in milliseconds since the epoch.
    pub opened_at_unix_ms: u64,
    /// The client's id; never its key.
    pub client: Option<&'a str>,
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub api: Api,
    pub dialect: Dialect,
    /// As the client wrote it.
    pub model: Option<&'a str>,
    /// Set where the upstream calls the model by another name.
    pub upstream_model: Option<&'a str>,
    /// The rule that chose the upstream, with the entry of the configuration that matched where several could.
    pub rule: Option<&'a str>,
    pub upstream: Option<&'a str>,
    /// The authority of the last attempt.
    pub endpoint: Option<&'a str>,
    pub proxy: Option<&'a str>,
    /// The id of the credential that the last attempt used; never its text.
    pub key: Option<&'a str>,
    /// Keys and proxies that were passed over or left, each with a word for why: `p1:down,k1:rate_limited`.
    pub skipped: Option<&'a str>,
    /// The provider's own id of the request.
    pub upstream_request_id: Option<&'a str>,
    pub attempts: u32,
    /// The status that the client saw.
    pub status: u16,
    pub end: End,
    /// Where the answer was ours.
    pub refusal: Option<&'a Refusal>,
    pub stream: bool,
    /// Where the usage is from.
    pub source: Source,
    pub usage: Option<Usage>,
    pub cost: Option<NanoUsd>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// The scan of the body, without the wait for its bytes.
    pub peek: Option<Duration>,
    /// Until the connection of the last attempt stood.
    pub connect: Option<Duration>,
    /// From the request's arrival to the answer's first byte.
    pub first_byte: Option<Duration>,
    /// From the request's arrival to its end.
    pub total: Duration,
}

/// Appends the line of one request, its line feed included.
pub fn write_line(out: &mut Vec<u8>, format: LogFormat, entry: &AccessEntry<'_>) {
    let mut line = Line::begin(out, format, entry.opened_at_unix_ms);
    line.word("id", entry.id.as_str());
    line.text("client", entry.client);
    line.text("method", Some(entry.method));
    line.text("path", Some(entry.path));
    line.word("api", api_label(entry.api));
    line.word("dialect", dialect_label(entry.dialect));
    line.text("model", entry.model);
    line.text("upstream_model", entry.upstream_model);
    line.text("rule", entry.rule);
    line.text("upstream", entry.upstream);
    line.text("endpoint", entry.endpoint);
    line.text("proxy", entry.proxy);
    line.text("key", entry.key);
    line.text("skipped", entry.skipped);
    line.text("upstream_request_id", entry.upstream_request_id);
    line.number("attempts", entry.attempts.into());
    line.number("status", entry.status.into());
    line.word("end", entry.end.label());
    line.text("refusal", entry.refusal.map(Refusal::label));
    line.flag("stream", entry.stream);
    line.word("source", entry.source.label());
    if let Some(usage) = &entry.usage {
        line.number("input_tokens", usage.input_tokens);
        line.number("cache_write_tokens", usage.cache_write_tokens);
        line.number("cache_write_1h_tokens", usage.cache_write_1h_tokens);
        line.number("cache_read_tokens", usage.cache_read_tokens);
        line.number("output_tokens", usage.output_tokens);
    }
    if let Some(cost) = entry.cost {
        line.number("cost_nano_usd", cost.nanos());
    }
    line.number("request_bytes", entry.request_bytes);
    line.number("response_bytes", entry.response_bytes);
    if let Some(peek) = entry.peek {
        line.number("peek_us", micros(peek));
    }
    line.milliseconds("connect_ms", entry.connect);
    line.milliseconds("first_byte_ms", entry.first_byte);
    line.milliseconds("total_ms", Some(entry.total));
    line.end();
}

/// Appends the line that says how many lines are missing before it.
pub fn write_dropped(out: &mut Vec<u8>, format: LogFormat, now_unix_ms: u64, lines: u64) {
    let mut line = Line::begin(out, format, now_unix_ms);
    line.word("event", "access_lines_dropped");
    line.number("lines", lines);
    line.end();
}

/// A line under construction; `name` is always one of ours and needs no escape.
struct Line<'b> {
    out: &'b mut Vec<u8>,
    format: LogFormat,
}

impl<'b> Line<'b> {
    fn begin(out: &'b mut Vec<u8>, format: LogFormat, unix_ms: u64) -> Self {
        match format {
            LogFormat::Text => line::timestamp(out, unix_ms),
            LogFormat::Json => {
                out.extend_from_slice(b"{\"opened_at\":\"");
                line::timestamp(out, unix_ms);
                out.push(b'"');
            }
        }
        Self { out, format }
    }

    fn name(&mut self, name: &'static str) {
        match self.format {
            LogFormat::Text => {
                self.out.push(b' ');
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'=');
            }
            LogFormat::Json => {
                self.out.extend_from_slice(b",\"");
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
        }
    }

    fn text(&mut self, name: &'static str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        match self.format {
            LogFormat::Text => line::bare_or_quoted(self.out, value, MAX_TEXT),
            LogFormat::Json => line::quoted(self.out, value, MAX_TEXT),
        }
    }

    /// A value of ours: letters, digits, `_` and `-`.
    fn word(&mut self, name: &'static str, value: &str) {
        self.name(name);
        match self.format {
            LogFormat::Text => self.out.extend_from_slice(value.as_bytes()),
            LogFormat::Json => {
                self.out.push(b'"');
                self.out.extend_from_slice(value.as_bytes());
                self.out.push(b'"');
            }
        }
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        line::number(self.out, value);
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn milliseconds(&mut self, name: &'static str, value: Option<Duration>) {
        let Some(value) = value else { return };
        self.name(name);
        line::milliseconds(self.out, micros(value));
    }

    fn end(self) {
        match self.format {
            LogFormat::Text => self.out.push(b'\n'),
            LogFormat::Json => self.out.extend_from_slice(b"}\n"),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn api_label(api: Api) -> &'static str {
    match api {
        Api::ChatCompletions => "chat_completions",
        Api::Completions => "completions",
        Api::Messages => "messages",
        Api::CountTokens => "count_tokens",
        Api::Responses => "responses",
        Api::Embeddings => "embeddings",
        Api::Models => "models",
        Api::Root => "root",
        Api::Other => "other",
        Api::Unknown => "unknown",
    }
}

fn dialect_label(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "openai",
        Dialect::Anthropic => "anthropic",
    }
}
