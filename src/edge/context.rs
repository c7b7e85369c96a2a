//! What is known of a request, grouped by the step that learned it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Uri};

use crate::domain::answer::Refusal;
use crate::domain::billing::bill::Bill;
use crate::domain::client::Caller;
use crate::domain::dialect::{Api, Dialect};
use crate::domain::end::End;
use crate::domain::id::RequestId;
use crate::domain::json::AskedOutput;
use crate::domain::route::Route;
use crate::domain::settings::Settings;
use crate::domain::upstream::first_event::FirstEvent;
use crate::domain::upstream::passed::PassedOver;
use crate::domain::upstream::{Pick, Tried};
use crate::edge::accounting::OpenBooks;
use crate::edge::deliver::Delivery;
use crate::edge::exchange::Exchange;
use crate::edge::finish;
use crate::ops::watch::access_log::AccessLog;
use crate::ops::watch::counters::InFlight;

/// One request from its first byte to its access line.
#[derive(Default)]
pub struct Context {
    pub arrival: Option<Arrival>,
    /// Step 2.
    pub client: Option<Caller>,
    pub asked: Asked,
    pub routed: Option<Box<Routed>>,
    pub rotation: Rotation,
    pub attempt: Attempt,
    pub delivery: Delivery,
    /// Open from the dispatch until the answer's last byte is about to go out.
    pub books: Option<Box<OpenBooks>>,
    pub outcome: Outcome,
}

/// Step 1: what the head alone tells.
pub struct Arrival {
    pub id: RequestId,
    pub at: Instant,
    pub unix_ms: u64,
    pub method: Method,
    pub uri: Uri,
    pub api: Api,
    pub dialect: Dialect,
    /// The settings this request lives under, whatever a reload does meanwhile.
    pub settings: Arc<Settings>,
    pub exchange: Arc<Exchange>,
    /// Counts the request as in flight until it is dropped.
    pub in_flight: InFlight,
    pub access_log: Arc<AccessLog>,
}

/// Step 3: what the body asks for.
#[derive(Default)]
pub struct Asked {
    pub model: Option<String>,
    pub stream: bool,
    pub body_bytes: usize,
    pub peek: Duration,
    pub output: AskedOutput,
}

/// Step 4: where it goes.
pub struct Routed {
    pub route: Route,
    /// `Content-Length` upstream; `None`: the body passes through as it comes.
    pub length: Option<usize>,
    /// The name the client asked by, where the answer has to say it in place of the upstream's.
    pub asked_model: Option<String>,
    /// `stream_options.include_usage` was put in by us: the chunk it brings is taken out again.
    pub usage_asked_by_us: bool,
}

/// Between the attempts: who was tried, and who comes next.
#[derive(Default)]
pub struct Rotation {
    pub tried: Tried,
    /// Who does not carry the request, and why, for the access line.
    pub passed: PassedOver,
    /// Who took the request and lost it: a proxy's fault if another one brings the answer, the provider's if none does.
    pub lost: Vec<Pick>,
    /// Whose keys were answered with 403: theirs is the fault if another key may what they may not.
    pub forbidden: Vec<Pick>,
    /// Who carries the attempt to come; `None`: whoever carried the last one.
    pub next: Option<Pick>,
}

/// Steps 5 and 6: the attempt under way.
#[derive(Default)]
pub struct Attempt {
    /// 1 for the first; 0 before it.
    pub number: u32,
    /// The proxy and the credential that carry it.
    pub pick: Pick,
    pub began: Option<Instant>,
    pub peer: Option<std::net::SocketAddr>,
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    /// Reads the beginning of an answer that is held.
    pub first_event: Option<Box<FirstEvent>>,
    /// The provider's own id of the request, for the log alone.
    pub upstream_request_id: Option<Box<str>>,
}

/// What the ledger has of the request.
#[derive(Clone, Copy)]
pub struct Booked {
    pub bill: Bill,
    pub end: End,
}

/// A request that is dropped before its end (the process ends, a panic) is billed for what was seen of it, and has its line.
impl Drop for Context {
    fn drop(&mut self) {
        finish::end(self, End::Interrupted);
    }
}

/// How it ended, as far as it is known.
#[derive(Default)]
pub struct Outcome {
    pub refusal: Option<Refusal>,
    /// The status that went to the client.
    pub status: u16,
    pub client_gone: bool,
    /// What the ledger has, once it has it.
    pub booked: Option<Booked>,
    /// The client got the whole answer, whatever became of the upstream's connection.
    pub complete: bool,
    /// It has its access line and is in the counters of finished requests.
    pub is_recorded: bool,
}
