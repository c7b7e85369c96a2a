//! Routes: which upstream a model goes to, by one ordered rule, and why.
//!
//! (1) `models[]` by id or alias, (2) `model_routing.models` exact, then the longest `prefix*`, (3) the default target, else
//! `unknown_model`; requests without a JSON body go by `host_routes`. Lookups do not grow with the number of models.

pub mod considered;
pub mod join;
mod pattern;
pub mod table;

use std::sync::Arc;

use crate::domain::billing::Price;
use crate::domain::upstream::Upstream;

pub use table::RoutingTable;

/// A configured model.
#[derive(Debug)]
pub struct Model {
    pub id: Arc<str>,
    /// Its other names.
    pub aliases: Vec<Arc<str>>,
    pub upstream: Arc<Upstream>,
    /// What the upstream calls the model, when that differs from what clients say.
    pub upstream_model_id: Option<Arc<str>>,
    /// `None`: the default price applies.
    pub price: Option<Price>,
    /// The most output that one answer has; `None`: `billing.max_output_tokens`.
    pub max_output_tokens: Option<u64>,
}

impl Model {
    /// A model of which the URL map alone says anything: where it goes.
    fn of_url_map(id: &Arc<str>, upstream: &Arc<Upstream>) -> Self {
        Self {
            id: id.clone(),
            aliases: Vec::new(),
            upstream: upstream.clone(),
            upstream_model_id: None,
            price: None,
            max_output_tokens: None,
        }
    }

    /// Every name that clients may say for it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.id).chain(self.aliases.iter().map(|alias| &**alias))
    }
}

/// Where a request goes and by which rule.
#[derive(Clone, Debug)]
pub struct Route {
    pub upstream: Arc<Upstream>,
    /// The configured model, when rule 1 matched.
    pub model: Option<Arc<Model>>,
    pub rule: Rule,
    /// The rule's word and the configured entry that matched, made once with the table; `None`: the word alone says it.
    entry: Option<Arc<str>>,
}

impl Route {
    /// Why it goes there, as the access line says it: the rule, and the entry where several could have matched (`prefix:gemini-*`,
    /// `alias:gpt-4o`, `host:*.example.com`). Holds words of the configuration alone, never of a request.
    pub fn reason(&self) -> &str {
        self.entry.as_deref().unwrap_or(self.rule.label())
    }

    /// Whether the file says what the model costs; the default price applies otherwise.
    pub fn has_price(&self) -> bool {
        self.model.as_ref().is_some_and(|model| model.price.is_some())
    }

    /// The name that the upstream is asked for when the client asked for `name`: `upstream_model_id`, else the client's own word.
    pub fn upstream_model<'a>(&'a self, name: &'a str) -> &'a str {
        self.model.as_ref().and_then(|model| model.upstream_model_id.as_deref()).unwrap_or(name)
    }
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `models[]`, by id or alias.
    Model,
    /// `model_routing.models`, by the exact name.
    Exact,
    /// `model_routing.models`, by the longest prefix.
    Prefix,
    /// `model_routing.default_target`.
    DefaultTarget,
    /// `routing.unknown_model: "troll"`.
    UnknownToTroll,
    /// `routing.model_based: false`.
    ModelRoutingOff,
    /// `host_routes`.
    Host,
}

impl Rule {
    /// Whether the request's own model chose the upstream (a routing success), or a default did (a fallback).
    pub fn is_success(self) -> bool {
        matches!(self, Self::Model | Self::Exact | Self::Prefix)
    }

    /// The word for it in the access line and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Exact => "exact",
            Self::Prefix => "prefix",
            Self::DefaultTarget => "default_target",
            Self::UnknownToTroll => "unknown_to_troll",
            Self::ModelRoutingOff => "model_routing_off",
            Self::Host => "host",
        }
    }
}
