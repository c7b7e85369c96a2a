//! Steps 2 to 4: who is it, what does the request ask for, where does it go.
//!
//! ```text
//!   Arrived ─ enter ─┬─► Reading ─ route ─► Routed ─ admit ─┬─► Admitted ─ dispatch (dispatch.rs)
//!                    └─ by its host ────────────────────────┘
//! ```
//! Everything that can be refused is refused here, before an upstream hears of it, and before the body is read wherever the head
//! alone tells. What is asked stands in `gate`, where `trollbridge explain` asks too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::domain::admission::{self, Head, Rewrite, RouteBy};
use crate::domain::answer::Refusal;
use crate::domain::answer::models::{self, ListedModel};
use crate::domain::client::Caller;
use crate::domain::dialect::Api;
use crate::domain::headers::{self, framing::declared_length};
use crate::domain::json::splice::splice;
use crate::domain::json::{PeekError, Peeked};
use crate::domain::route::{Model, Route};
use crate::domain::settings::{Auth, Settings};
use crate::ops::books::clients::Directory;
use crate::ops::watch::counters::Phase;
use crate::relay::stage::{Admitted, Arrived, Ask, Known, Local, Reading, Routed, Says, Way};

/// What a head that may go on leads to.
pub enum Entry {
    /// The body names the model: it is to be read.
    Read(Reading),
    /// The body passes through unread.
    Through(Box<Admitted>),
}

/// A body that was read to its end.
pub struct ReadBody {
    pub chunks: Vec<Bytes>,
    pub peeked: Result<Peeked, PeekError>,
    /// The scanner's own time, without the wait for the network.
    pub took: Duration,
}

impl Arrived {
    /// Step 2, and of step 4 what the head alone tells.
    ///
    /// # Errors
    ///
    /// The gateway's own answer: a refusal, its list of models, or its sign of life.
    pub fn enter(self: Box<Self>, head: Head<'_>, is_upgrade: bool, directory: &Directory) -> Result<Entry, Box<Local>> {
        if is_upgrade {
            return Err(self.refused(Refusal::UpgradeRequested));
        }
        if self.asked == Api::Root {
            let says = sign_of_life(head.method);
            return Err(self.answered(says));
        }
        let caller = match caller(&self.settings, head, directory) {
            Ok(caller) => caller,
            Err(refusal) => return Err(self.refused(refusal)),
        };
        let reading = Reading { arrived: self, caller };
        match reading.gate().way(head, reading.arrived.unix_ms) {
            Ok(RouteBy::Model) => Ok(Entry::Read(reading)),
            Ok(RouteBy::Host(route)) => Ok(Entry::Through(Box::new(reading.through(route, head.headers)?))),
            Ok(RouteBy::OwnList) => {
                let says = reading.models(head.method).unwrap_or_else(Says::Refusal);
                Err(reading.answered(says))
            }
            Err(refusal) => Err(reading.refused(refusal)),
        }
    }
}

impl Reading {
    /// Step 4 of a request whose body passes through unread.
    fn through(self, route: Route, headers: &HeaderMap) -> Result<Admitted, Box<Local>> {
        let Self { arrived, caller } = self;
        let known = Known { arrived, caller, ask: Ask::default() };
        let fits = known.gate().takes(declared_length(headers).unwrap_or(0));
        match fits.and_then(|()| known.gate().permits(None, &route)) {
            Ok(()) => known.placed(route, None, Changes::default()),
            Err(refusal) => Err(known.refused(None, refusal)),
        }
    }

    /// Step 3: reads what the body said. Deciding is timed by whoever has a clock, and counted with what follows.
    pub fn route(self, read: ReadBody) -> Routed {
        let (Self { arrived, caller }, ReadBody { chunks, peeked, took }) = (self, read);
        let mut ask = Ask { bytes: length_of(&chunks), peek: Some(took), ..Ask::default() };
        if let Ok(peeked) = &peeked {
            ask.model = peeked.model.as_ref().map(|model| model.name.clone());
            ask.output = admission::asked_output(arrived.asked, peeked, chunks.iter().map(|chunk| &**chunk));
        }
        let known = Known { arrived, caller, ask };
        let route = known.gate().route(&peeked);
        Routed { known, chunks, peeked, route }
    }

    /// The gateway's own list, or one model of it.
    fn models(&self, method: &Method) -> Result<Says, Refusal> {
        only_read(method)?;
        let Self { arrived, caller } = self;
        let (routing, needs_price) = (&arrived.settings.routing, arrived.settings.billing.require_price);
        let shown = |model: &&Arc<Model>| caller.may_use(model.names()) && (model.price.is_some() || !needs_price);
        let listed = routing.listed().filter(shown).map(|model| ListedModel { id: &model.id, upstream: &model.upstream.name });
        let body = match models::asked_id(arrived.uri.path()) {
            None => models::list(arrived.dialect, listed),
            Some(asked) => {
                // An alias is answered with the model that it stands for.
                let id = routing.find(&asked).map_or(&*asked, |model| &model.id);
                let found = models::one(arrived.dialect, listed, id);
                found.ok_or_else(|| Refusal::ModelNotListed { model: asked.into_owned() })?
            }
        };
        Ok(Says::Json(body.into()))
    }
}

impl Routed {
    /// Step 4: counts the route and prepares the body that every attempt sends, which comes beside what is admitted.
    ///
    /// # Errors
    ///
    /// The refusal: no route, not allowed, or an upstream that exists by name only.
    pub fn admit(self, decided_in: Duration) -> Result<(Admitted, Vec<Bytes>), Box<Local>> {
        self.count(decided_in);
        let Self { known, mut chunks, peeked, route } = self;
        let model = known.ask.model.as_deref();
        let route = match route.and_then(|route| known.gate().permits(model, &route).map(|()| route)) {
            Ok(route) => route,
            Err(refusal) => return Err(known.refused(None, refusal)),
        };
        let rewrite = peeked.as_ref().map(|peeked| known.gate().rewrite(peeked, &route));
        let Rewrite { edits, is_renamed, asks_for_usage } = rewrite.unwrap_or_default();
        if !edits.is_empty() {
            splice(&mut chunks, edits);
        }
        let asked_model = is_renamed.then(|| known.ask.model.clone()).flatten();
        let length = length_of(&chunks);
        let admitted = known.placed(route, Some(length), Changes { asked_model, usage_asked_by_us: asks_for_usage })?;
        Ok((admitted, chunks))
    }

    fn count(&self, decided_in: Duration) {
        let Known { arrived, ask, .. } = &self.known;
        let (counters, took) = (arrived.in_flight.counters(), ask.peek.unwrap_or_default());
        if self.peeked.is_err() {
            counters.parse_error();
        }
        counters.phase(Phase::Peek, took);
        counters.phase(Phase::Route, decided_in);
        let spent = took + decided_in;
        // With model routing off there is nothing to succeed or to fall back from (K14).
        match &self.route {
            _ if !arrived.settings.routing.model_based() => {}
            Ok(route) => counters.routed(route.rule.is_success(), spent),
            Err(_) => counters.route_refused(spent),
        }
    }
}

/// What of the answer has to be changed back, because of what was changed in the body.
#[derive(Default)]
struct Changes {
    asked_model: Option<String>,
    usage_asked_by_us: bool,
}

impl Known {
    fn placed(self, route: Route, length: Option<usize>, changes: Changes) -> Result<Admitted, Box<Local>> {
        let endpoint = match self.gate().reaches(&route) {
            Ok(endpoint) => endpoint,
            Err(refusal) => return Err(self.refused(Some(route), refusal)),
        };
        let spoken = self.gate().spoken_by(&route.upstream);
        let Self { arrived, caller, ask } = self;
        let Changes { asked_model, usage_asked_by_us } = changes;
        let way = Way { route, endpoint, spoken, length, asked_model, usage_asked_by_us };
        Ok(Admitted { arrived, caller, ask, way })
    }
}

/// Finds who holds the request's one credential; where none is asked for, whether it comes from this machine.
fn caller(settings: &Settings, head: Head<'_>, directory: &Directory) -> Result<Caller, Refusal> {
    let static_key = match &settings.auth {
        Auth::Keys { static_key } => static_key,
        Auth::None(local) => {
            let is_routed = |host: &str| settings.routing.by_host(host).is_some();
            return local.admits(head.host, head.headers, is_routed).map(|()| Caller::Anonymous);
        }
    };
    let presented = headers::presented_key(head.headers)?.ok_or(Refusal::NoKey)?;
    match static_key {
        Some(key) if key.matches(presented) => Ok(Caller::StaticKey),
        _ => directory.find(presented).map(Caller::Client).ok_or(Refusal::WrongKey),
    }
}

fn sign_of_life(method: &Method) -> Says {
    match only_read(method) {
        Ok(()) => Says::Json(Bytes::from_static(br#"{"name":"trollbridge","status":"ok"}"#)),
        Err(refusal) => Says::Refusal(refusal),
    }
}

fn only_read(method: &Method) -> Result<(), Refusal> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    if reads { Ok(()) } else { Err(Refusal::WrongMethod { allow: "GET, HEAD" }) }
}

fn length_of(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
