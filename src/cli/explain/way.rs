//! The steps of one request up to its upstream, by the code that serves requests ([`admission`]); nobody is picked, nothing stays reserved.

use bytes::Bytes;

use crate::cli::explain::question::{Body, Question};
use crate::domain::admission::{self, Head, Rewrite, RouteBy};
use crate::domain::answer::Refusal;
use crate::domain::dialect::Api;
use crate::domain::headers;
use crate::domain::json::splice::splice;
use crate::domain::json::{AskedOutput, PeekError, Peeked, peek};
use crate::domain::route::Route;
use crate::domain::route::considered::{Asked, Considered};
use crate::ops::host::clock;
use crate::relay::gate::{Gate, Whose};

/// What the steps said, as far as the request came.
pub struct Walked {
    pub peeked: Option<Peeked>,
    /// The body's, where it is not valid JSON; the request may still go to the default target.
    pub fault: Option<PeekError>,
    pub considered: Vec<Considered>,
    pub route: Option<Route>,
    pub rewrite: Rewrite,
    pub outcome: Result<Reached, Refusal>,
}

/// Where the request ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    Upstream,
    /// The gateway answers itself.
    Gateway,
}

impl Walked {
    pub fn model(&self) -> Option<&str> {
        self.peeked.as_ref()?.model.as_ref().map(|model| &*model.name)
    }

    /// What the body asks for; nothing where it can't be read.
    pub fn asked_output(&self, api: Api, body: &[u8]) -> AskedOutput {
        self.peeked.as_ref().map(|peeked| admission::asked_output(api, peeked, [body])).unwrap_or_default()
    }

    /// The body's length on its way out.
    pub fn sent_bytes(&self, body: &[u8]) -> usize {
        let mut chunks = vec![Bytes::copy_from_slice(body)];
        splice(&mut chunks, self.rewrite.edits.clone());
        chunks.iter().map(Bytes::len).sum()
    }
}

/// Walks as far as the request comes.
pub fn walk(question: &Question<'_>) -> Walked {
    let mut way = Walked {
        peeked: None,
        fault: None,
        considered: Vec::new(),
        route: None,
        rewrite: Rewrite::default(),
        outcome: Ok(Reached::Gateway),
    };
    way.outcome = steps(question, &mut way);
    way
}

fn steps(question: &Question<'_>, way: &mut Walked) -> Result<Reached, Refusal> {
    let Question { settings, caller, method, path, headers, .. } = question;
    let asked = Api::of(path);
    if asked == Api::Root {
        return Ok(Reached::Gateway);
    }
    headers::presented_key(headers)?;
    let gate = Gate { settings, whose: caller.map_or(Whose::Anybodys, Whose::Callers), asked };
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let head = Head { method, path, host, headers };
    let route = match gate.way(head, clock::now_unix_ms()) {
        Ok(RouteBy::OwnList) => return Ok(Reached::Gateway),
        Ok(RouteBy::Model) => by_model(gate, question, way)?,
        Ok(RouteBy::Host(route)) => {
            way.considered = settings.routing.considered(Asked::NoJson(host));
            gate.takes(question.body.bytes())?;
            route
        }
        Err(refusal) => {
            if matches!(refusal, Refusal::NotJson | Refusal::WrongMethod { .. } | Refusal::UnknownPath { .. }) {
                way.considered = settings.routing.considered(Asked::NoJson(host));
            }
            return Err(refusal);
        }
    };
    let route = way.route.insert(route).clone();
    gate.permits(way.model(), &route)?;
    if let Some(peeked) = &way.peeked {
        way.rewrite = gate.rewrite(peeked, &route);
    }
    gate.reaches(&route)?;
    if let Body::Whole(body) = &question.body {
        // Released at once: nothing is taken.
        drop(gate.reserve(&route, body.len(), way.asked_output(asked, body))?);
    }
    Ok(Reached::Upstream)
}

fn by_model(gate: Gate<'_>, question: &Question<'_>, way: &mut Walked) -> Result<Route, Refusal> {
    gate.takes(question.body.bytes())?;
    let peeked = match &question.body {
        Body::Whole(body) => peek(body),
        Body::OfModel(model) => peek(serde_json::json!({ "model": model }).to_string().as_bytes()),
        Body::None => peek(&[]),
    };
    let asked = match &peeked {
        Ok(peeked) => Asked::Model(peeked.model.as_ref().map(|model| &*model.name)),
        Err(fault) => Asked::InvalidJson { is_ambiguous: fault.is_ambiguous() },
    };
    way.considered = question.settings.routing.considered(asked);
    let route = gate.route(&peeked);
    match peeked {
        Ok(peeked) => way.peeked = Some(peeked),
        Err(fault) => way.fault = Some(fault),
    }
    route
}
