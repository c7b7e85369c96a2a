//! What a request is asked before it goes out, and in which API its upstream is asked (`spoken_by`), each question in one place: the walk asks them in its order, and `trollbridge explain` asks
//! the same ones, so that what is explained is what happens.

use std::sync::Arc;

use crate::domain::admission::{self, Head, Rewrite, RouteBy};
use crate::domain::answer::Refusal;
use crate::domain::client::Caller;
use crate::domain::credit::Reservation;
use crate::domain::dialect::Api;
use crate::domain::json::{AskedOutput, PeekError, Peeked};
use crate::domain::route::Route;
use crate::domain::settings::Settings;
use crate::domain::upstream::{Endpoint, Upstream};

/// Who asks for what, under which settings.
#[derive(Clone, Copy)]
pub struct Gate<'g> {
    pub settings: &'g Settings,
    pub whose: Whose<'g>,
    pub asked: Api,
}

/// Whose request it is.
#[derive(Clone, Copy)]
pub enum Whose<'g> {
    Callers(&'g Caller),
    /// Nobody's in particular, so what belongs to a caller is not asked: an explanation, and never a request that is served.
    Anybodys,
}

impl Gate<'_> {
    /// Which way the head leads, and whether its caller may take one at all.
    pub fn way(&self, head: Head<'_>, now_unix_ms: u64) -> Result<RouteBy, Refusal> {
        if let Whose::Callers(caller) = self.whose {
            admission::may_call(self.settings, caller, self.asked, now_unix_ms)?;
        }
        admission::way(self.settings, self.asked, head)
    }

    /// Whether a body of so many bytes is taken.
    pub fn takes(&self, bytes: usize) -> Result<(), Refusal> {
        let limit_bytes = self.settings.limits.max_body_bytes;
        if bytes > limit_bytes { Err(Refusal::BodyTooLarge { limit_bytes }) } else { Ok(()) }
    }

    /// Where a body that was read goes.
    pub fn route(&self, peeked: &Result<Peeked, PeekError>) -> Result<Route, Refusal> {
        admission::route_of(&self.settings.routing, peeked)
    }

    /// Whether the route may be taken; `model`: as the request names it.
    pub fn permits(&self, model: Option<&str>, route: &Route) -> Result<(), Refusal> {
        admission::permitted(self.settings, self.whose.caller(), self.asked, model, route)
    }

    /// What changes in the body.
    pub fn rewrite(&self, peeked: &Peeked, route: &Route) -> Rewrite {
        admission::rewrite(self.settings, self.spoken_by(&route.upstream), peeked, route)
    }

    /// Whether the upstream can be asked.
    pub fn reaches(&self, route: &Route) -> Result<Arc<Endpoint>, Refusal> {
        admission::configured(&route.upstream)
    }

    /// Sets the request's cost at most aside; `None`: its caller has no balance and is not limited. Dropped, it is free again.
    pub fn reserve(&self, route: &Route, bytes: usize, output: AskedOutput) -> Result<Option<Reservation>, Refusal> {
        let Some(account) = self.whose.caller().and_then(Caller::account) else { return Ok(None) };
        let amount = self.settings.reservation(route, self.asked, bytes, output);
        account.reserve(amount).map(Some).map_err(|short| Refusal::NoCredit { missing: short.missing })
    }

    /// The API in which `upstream` is asked for what the client called: the same one, for every upstream of today.
    pub fn spoken_by(&self, _upstream: &Upstream) -> Api {
        self.asked
    }
}

impl<'g> Whose<'g> {
    fn caller(self) -> Option<&'g Caller> {
        match self {
            Self::Callers(caller) => Some(caller),
            Self::Anybodys => None,
        }
    }
}
