//! Every rule of the routing table in its order, and what became of it for one request: the long form of [`Route::reason`].
//!
//! The table's own lookups are asked, one rule at a time, so that the explanation cannot differ from the decision.

use crate::domain::route::table::{RoutingTable, UnknownModel};
use crate::domain::route::{Route, Rule};

/// What a request offers to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'r> {
    /// A JSON body with this top-level model, or none.
    Model(Option<&'r str>),
    /// A body that is not valid JSON; ambiguous: gateway and provider could read different models in it (M9).
    InvalidJson { is_ambiguous: bool },
    /// No JSON body; the request's host, where it is known.
    NoJson(Option<&'r str>),
}

/// One rule and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// [`Rule::label`].
    pub rule: &'static str,
    pub fate: Fate,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It decided.
    Matched,
    /// It decided that the request is refused.
    Refused,
    /// It does not fit the request.
    Skipped,
    /// It would fit, but an earlier one decided.
    TooLate,
}

impl Fate {
    pub fn label(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
            Self::TooLate => "too_late",
        }
    }
}

/// The order of the rules.
const RULES: [Rule; 7] =
    [Rule::ModelRoutingOff, Rule::Model, Rule::Exact, Rule::Prefix, Rule::DefaultTarget, Rule::UnknownToTroll, Rule::Host];

impl RoutingTable {
    /// Asks every rule; at most one has decided.
    pub fn considered(&self, asked: Asked<'_>) -> Vec<Considered> {
        let mut is_decided = false;
        let rules = RULES.iter().map(|rule| {
            let (fate, why) = match self.verdict(*rule, asked) {
                Ok(fit) if is_decided => (Fate::TooLate, format!("{}, but an earlier rule decided", fit.why)),
                Ok(fit) => {
                    is_decided = true;
                    (if fit.is_refusal { Fate::Refused } else { Fate::Matched }, fit.why)
                }
                Err(why) => (Fate::Skipped, why),
            };
            Considered { rule: rule.label(), fate, why }
        });
        rules.collect()
    }

    fn verdict(&self, rule: Rule, asked: Asked<'_>) -> Result<Fit, String> {
        let name = match (rule, asked) {
            (Rule::Host, Asked::NoJson(host)) => return self.host_verdict(host),
            (Rule::Host, _) => return Err("the request has a JSON body, so its model decides".to_owned()),
            (_, Asked::NoJson(_)) => return Err("the request has no JSON body, so no model is looked for".to_owned()),
            (_, Asked::Model(name)) => name,
            (Rule::DefaultTarget, Asked::InvalidJson { is_ambiguous: false }) => None,
            (_, Asked::InvalidJson { .. }) => return Err("the body can't be read, so it names no model".to_owned()),
        };
        match rule {
            Rule::ModelRoutingOff if self.model_based() => return Err("routing.model_based is on".to_owned()),
            Rule::ModelRoutingOff => return Ok(Fit::new("routing.model_based is false: every model goes to troll")),
            _ if !self.model_based() => return Err("routing.model_based is false".to_owned()),
            Rule::Exact | Rule::Prefix | Rule::DefaultTarget if !self.enabled() => return Err("model_routing is off".to_owned()),
            Rule::DefaultTarget => {
                return match &self.default_target {
                    Some(_) => Ok(Fit::new("model_routing.default_target takes what nothing names")),
                    None => Err("model_routing.default_target is not set".to_owned()),
                };
            }
            Rule::UnknownToTroll => {
                return Ok(match self.unknown_model {
                    UnknownModel::Troll => Fit::new("routing.unknown_model is \"troll\", which takes what nothing names"),
                    UnknownModel::Reject => Fit { is_refusal: true, ..Fit::new("routing.unknown_model is \"reject\"") },
                });
            }
            Rule::Model | Rule::Exact | Rule::Prefix | Rule::Host => {}
        }
        let Some(name) = name else { return Err("the body names no model".to_owned()) };
        match rule {
            Rule::Model => {
                let id = self.by_models(name).and_then(|route| route.model.map(|model| model.id.clone()));
                match id {
                    Some(id) if *id == *name => Ok(Fit::new(format!("models[] has the id \"{id}\""))),
                    Some(id) => Ok(Fit::new(format!("models[] has \"{name}\" as an alias of \"{id}\""))),
                    None => Err(format!("models[] has no id or alias \"{name}\"")),
                }
            }
            Rule::Exact => match self.by_exact_name(name) {
                Some(_) => Ok(Fit::new("model_routing.models has exactly this name")),
                None => Err(format!("model_routing.models has no \"{name}\"")),
            },
            _ => match self.by_prefix(name) {
                Some(route) => Ok(Fit::new(format!("model_routing.models has \"{}\", and no longer prefix", pattern(&route)))),
                None => Err(format!("model_routing.models has no prefix of \"{name}\"")),
            },
        }
    }

    fn host_verdict(&self, host: Option<&str>) -> Result<Fit, String> {
        if !self.has_hosts() {
            return Err("host_routes is empty".to_owned());
        }
        let Some(host) = host else { return Err("the request's host is not known".to_owned()) };
        match self.by_host(host) {
            Some(route) => Ok(Fit::new(format!("host_routes has \"{}\"", pattern(&route)))),
            None => Err(format!("host_routes has nothing for \"{host}\"")),
        }
    }
}

/// A rule that fits, and why.
struct Fit {
    why: String,
    is_refusal: bool,
}

impl Fit {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_refusal: false }
    }
}

/// The pattern behind the rule's word.
fn pattern(route: &Route) -> &str {
    route.reason().split_once(':').map_or("", |(_, pattern)| pattern)
}
