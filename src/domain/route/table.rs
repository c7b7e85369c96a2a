//! The routing table: one ordered rule from a request's model (or host) to its upstream, built once from the configuration.
//!
//! Only what the configuration put into the table can come out of it: no header, body field or redirect adds a target (M16).
//!
//! Cost of a lookup (P9): one hash of the name for rule 1, one for the exact map, one per *distinct prefix length* that the name
//! reaches, one per label of a host. None of them grows with the number of models, prefixes of equal length, or hosts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::answer::Refusal;
use crate::domain::route::{Model, Route, Rule};
use crate::domain::upstream::Upstream;

pub use super::pattern::{HostPattern, NamePattern};

/// What the table is built from. The configuration has proven it: no name stands twice.
#[derive(Debug)]
pub struct Plan {
    /// `false` sends every model to troll (K14).
    pub model_based: bool,
    pub unknown_model: UnknownModel,
    pub troll: Arc<Upstream>,
    /// `models[]` in the file's order.
    pub models: Vec<Model>,
    /// `model_routing`; `None` where the file has none (K5).
    pub url_map: Option<UrlMap>,
    pub hosts: Vec<(HostPattern, Arc<Upstream>)>,
}

/// `model_routing`.
#[derive(Debug)]
pub struct UrlMap {
    pub enabled: bool,
    pub default_target: Option<Arc<Upstream>>,
    /// In the file's order.
    pub targets: Vec<(NamePattern, Arc<Upstream>)>,
}

/// `routing.unknown_model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownModel {
    Troll,
    Reject,
}

/// Answers where a request goes. Immutable.
#[derive(Debug)]
pub struct RoutingTable {
    model_based: bool,
    pub(super) unknown_model: UnknownModel,
    pub(super) troll: Arc<Upstream>,
    models: HashMap<Arc<str>, Named>,
    exact: HashMap<Arc<str>, Arc<Upstream>>,
    /// The longest prefixes first.
    prefixes: Vec<PrefixesOfLength>,
    enabled: bool,
    pub(super) default_target: Option<Arc<Upstream>>,
    exact_hosts: HashMap<Arc<str>, Destination>,
    hosts_below: HashMap<Arc<str>, Destination>,
    listed: Vec<Arc<Model>>,
    configured: usize,
}

/// A model behind one of its names.
#[derive(Debug)]
struct Named {
    model: Arc<Model>,
    /// [`Route::reason`] of an alias; the id needs no more than the rule's word.
    entry: Option<Arc<str>>,
}

/// Where a pattern leads, and [`Route::reason`] of what it matches.
#[derive(Debug)]
struct Destination {
    upstream: Arc<Upstream>,
    entry: Arc<str>,
}

#[derive(Debug)]
struct PrefixesOfLength {
    bytes: usize,
    upstreams: HashMap<Arc<str>, Destination>,
}

impl RoutingTable {
    pub fn new(plan: Plan) -> Self {
        let Plan { model_based, unknown_model, troll, models, url_map, hosts } = plan;
        let no_map = UrlMap { enabled: false, default_target: None, targets: Vec::new() };
        let UrlMap { enabled, default_target, targets } = url_map.unwrap_or(no_map);
        let configured = models.len() + targets.len();

        let of_models = models.into_iter().map(|model| if model_based { model } else { sent_to_troll(model, &troll) });
        let mut listed: Vec<Arc<Model>> = of_models.map(Arc::new).collect();
        let models = by_name(&listed);
        if enabled && model_based {
            let of_map = targets.iter().filter_map(|(pattern, upstream)| match pattern {
                NamePattern::Exact(name) if !models.contains_key(name) => Some(Arc::new(Model::of_url_map(name, upstream))),
                NamePattern::Exact(_) | NamePattern::Prefix(_) => None,
            });
            listed.extend(of_map);
        }
        let (exact, prefixes) = by_pattern(targets);
        let (exact_hosts, hosts_below) = by_host(hosts);
        Self {
            model_based,
            unknown_model,
            troll,
            models,
            exact,
            prefixes,
            enabled,
            default_target,
            exact_hosts,
            hosts_below,
            listed,
            configured,
        }
    }

    /// Routes a JSON request by its top-level `model`; `None` where it has none, or one that is no string (M9).
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownModel`] where no rule matches and `routing.unknown_model` is `reject`.
    pub fn by_model(&self, name: Option<&str>) -> Result<Route, Refusal> {
        if !self.model_based {
            let model = name.and_then(|name| self.find(name)).cloned();
            return Ok(Route { model, ..route(&self.troll, Rule::ModelRoutingOff) });
        }
        if let Some(route) = name.and_then(|name| self.by_models(name)) {
            return Ok(route);
        }
        if self.enabled
            && let Some(route) = name.and_then(|name| self.by_url_map(name)).or_else(|| self.by_default_target())
        {
            return Ok(route);
        }
        match self.unknown_model {
            UnknownModel::Troll => Ok(route(&self.troll, Rule::UnknownToTroll)),
            UnknownModel::Reject => Err(Refusal::UnknownModel { model: name.map(str::to_owned) }),
        }
    }

    /// What of the configuration gave a model this route: its id, or the key of the URL map. `None` where a default did.
    ///
    /// `name` is the one that the request was routed by. The answer is bounded by the configuration, whatever clients ask for.
    pub fn pattern_of(&self, route: &Route, name: Option<&str>) -> Option<NamePattern> {
        if let Some(model) = &route.model {
            return Some(NamePattern::Exact(model.id.clone()));
        }
        match route.rule {
            Rule::Exact => self.exact.get_key_value(name?).map(|(name, _)| NamePattern::Exact(name.clone())),
            Rule::Prefix => {
                let name = name?;
                let longest = self.prefixes.iter().find_map(|of| of.upstreams.get_key_value(name.get(..of.bytes)?));
                longest.map(|(prefix, _)| NamePattern::Prefix(prefix.clone()))
            }
            Rule::Model | Rule::DefaultTarget | Rule::UnknownToTroll | Rule::ModelRoutingOff | Rule::Host => None,
        }
    }

    /// Where a body goes that is not valid JSON (and not ambiguous, M9): the default target, if URL routing is on and has one.
    pub fn for_invalid_json(&self) -> Option<Route> {
        (self.model_based && self.enabled).then(|| self.by_default_target()).flatten()
    }

    /// Routes a request without a JSON body by its `Host`; the port and the case don't count, the longest suffix wins.
    pub fn by_host(&self, host: &str) -> Option<Route> {
        if !self.has_hosts() {
            return None;
        }
        let host = without_port(host).to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let below = || host.match_indices('.').find_map(|(dot, _)| self.hosts_below.get(host.get(dot + 1..)?));
        self.exact_hosts.get(host).or_else(below).map(|target| target.route(Rule::Host))
    }

    /// The models that clients may name: `models[]`, then the exact names of the URL map, in the file's order (M14).
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.listed.iter()
    }

    /// The entry of `models[]` that has this id or alias.
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name).map(|named| &named.model)
    }

    /// Whether `model_routing` is on.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Whether models choose their upstreams at all (`routing.model_based`).
    pub fn model_based(&self) -> bool {
        self.model_based
    }

    /// `model_routing.default_target` as it may be shown: an endpoint holds no secret.
    pub fn default_target(&self) -> Option<String> {
        let upstream = self.default_target.as_ref()?;
        Some(upstream.endpoint.as_ref().map_or_else(|| upstream.name.to_string(), ToString::to_string))
    }

    /// How many models the file configures: the entries of `models[]` and those of `model_routing.models` (K12).
    pub fn models_configured(&self) -> usize {
        self.configured
    }

    pub(super) fn by_models(&self, name: &str) -> Option<Route> {
        let Named { model, entry } = self.models.get(name)?;
        let found = route(&model.upstream, Rule::Model);
        Some(Route { model: Some(model.clone()), entry: entry.clone(), ..found })
    }

    fn by_url_map(&self, name: &str) -> Option<Route> {
        self.by_exact_name(name).or_else(|| self.by_prefix(name))
    }

    pub(super) fn by_exact_name(&self, name: &str) -> Option<Route> {
        self.exact.get(name).map(|upstream| route(upstream, Rule::Exact))
    }

    pub(super) fn by_prefix(&self, name: &str) -> Option<Route> {
        let longest = self.prefixes.iter().find_map(|of| of.upstreams.get(name.get(..of.bytes)?));
        longest.map(|target| target.route(Rule::Prefix))
    }

    /// Whether `host_routes` has an entry at all.
    pub(super) fn has_hosts(&self) -> bool {
        !(self.exact_hosts.is_empty() && self.hosts_below.is_empty())
    }

    fn by_default_target(&self) -> Option<Route> {
        self.default_target.as_ref().map(|upstream| route(upstream, Rule::DefaultTarget))
    }
}

impl Destination {
    fn route(&self, rule: Rule) -> Route {
        Route { entry: Some(self.entry.clone()), ..route(&self.upstream, rule) }
    }
}

/// Every name of every model; the first of two counts.
fn by_name(models: &[Arc<Model>]) -> HashMap<Arc<str>, Named> {
    let mut by_name = HashMap::with_capacity(models.len());
    for model in models {
        by_name.entry(model.id.clone()).or_insert_with(|| Named { model: model.clone(), entry: None });
        for alias in &model.aliases {
            let entry = Some(format!("alias:{}", model.id).into());
            by_name.entry(alias.clone()).or_insert_with(|| Named { model: model.clone(), entry });
        }
    }
    by_name
}

/// The URL map's exact names, and its prefixes, the longest first.
fn by_pattern(targets: Vec<(NamePattern, Arc<Upstream>)>) -> (HashMap<Arc<str>, Arc<Upstream>>, Vec<PrefixesOfLength>) {
    let mut exact = HashMap::new();
    let mut prefixes: BTreeMap<usize, HashMap<Arc<str>, Destination>> = BTreeMap::new();
    for (pattern, upstream) in targets {
        let entry = format!("{}:{pattern}", Rule::Prefix.label()).into();
        match pattern {
            NamePattern::Exact(name) => {
                exact.entry(name).or_insert(upstream);
            }
            NamePattern::Prefix(prefix) => {
                prefixes.entry(prefix.len()).or_default().entry(prefix).or_insert(Destination { upstream, entry });
            }
        }
    }
    (exact, prefixes.into_iter().rev().map(|(bytes, upstreams)| PrefixesOfLength { bytes, upstreams }).collect())
}

/// The hosts by their whole names, and by the suffixes that they stand below.
fn by_host(hosts: Vec<(HostPattern, Arc<Upstream>)>) -> (HashMap<Arc<str>, Destination>, HashMap<Arc<str>, Destination>) {
    let (mut exact, mut below) = (HashMap::new(), HashMap::new());
    for (pattern, upstream) in hosts {
        let target = Destination { upstream, entry: format!("{}:{pattern}", Rule::Host.label()).into() };
        match pattern {
            HostPattern::Exact(host) => exact.entry(host).or_insert(target),
            HostPattern::Below(suffix) => below.entry(suffix).or_insert(target),
        };
    }
    (exact, below)
}

/// A model as the old behaviour has it: everything goes to troll, which knows only its own names (K14).
fn sent_to_troll(model: Model, troll: &Arc<Upstream>) -> Model {
    let own_name = Arc::ptr_eq(&model.upstream, troll);
    Model { upstream: troll.clone(), upstream_model_id: model.upstream_model_id.filter(|_| own_name), ..model }
}

fn route(upstream: &Arc<Upstream>, rule: Rule) -> Route {
    Route { upstream: upstream.clone(), model: None, rule, entry: None }
}

/// Cuts the port off a `Host` value; an IPv6 address loses its brackets too.
/// The name or the address of a host, which may come with a port.
pub fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
