//! The routing plan: `models`, `model_routing` and `host_routes`, with names that are unique and targets that exist.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::parse::Context;
use crate::config::parse::price;
use crate::config::parse::upstreams::{Catalog, RouteTarget};
use crate::config::raw::{self, Config};
use crate::config::source::At;
use crate::domain::billing::Price;
use crate::domain::route::Model;
use crate::domain::route::table::{HostPattern, NamePattern, Plan, UnknownModel, UrlMap};
use crate::domain::upstream::Upstream;

/// How many names a warning lists.
const MOST_NAMES: usize = 5;

/// The URL map and the host routes before their targets have upstreams.
struct Targets {
    default: Option<RouteTarget>,
    names: Vec<(NamePattern, RouteTarget)>,
    hosts: Vec<(HostPattern, RouteTarget)>,
}

/// Makes the plan. URL targets join the catalog on the way.
pub fn plan(raw: &Config, catalog: &mut Catalog, default_price: &Price, cx: &mut Context<'_, '_>) -> Option<Plan> {
    if raw.models.is_none() && raw.model_routing.is_none() {
        cx.fault(
            &At::Root.key("models"),
            "the file names no models: write `models` (it may be an empty list) or `model_routing`",
        );
    }
    let models = models(raw, catalog, default_price, cx);
    let targets = targets(raw, catalog, cx);
    let of_names = targets.names.iter().map(|(_, target)| target);
    let of_hosts = targets.hosts.iter().map(|(_, target)| target);
    catalog.add_url_targets(targets.default.iter().chain(of_names).chain(of_hosts));

    let url_map = raw.model_routing.as_ref().map(|written| UrlMap {
        enabled: written.enabled,
        default_target: targets.default.as_ref().and_then(|target| catalog.resolve(target)),
        targets: targets.names.iter().filter_map(|(name, target)| Some((name.clone(), catalog.resolve(target)?))).collect(),
    });
    Some(Plan {
        model_based: raw.routing.model_based,
        unknown_model: match raw.routing.unknown_model {
            raw::UnknownModel::Troll => UnknownModel::Troll,
            raw::UnknownModel::Reject => UnknownModel::Reject,
        },
        troll: catalog.troll_upstream()?.clone(),
        models,
        url_map,
        hosts: targets.hosts.iter().filter_map(|(host, target)| Some((host.clone(), catalog.resolve(target)?))).collect(),
    })
}

/// Warns once per upstream that models are routed to and that nobody configured.
pub fn warn_about_gaps(plan: &Plan, cx: &mut Context<'_, '_>) {
    let mut gaps: Vec<(Arc<Upstream>, Vec<String>)> = Vec::new();
    let mut note = |upstream: &Arc<Upstream>, what: String| {
        if upstream.missing().is_none() {
            return;
        }
        match gaps.iter_mut().find(|(known, _)| Arc::ptr_eq(known, upstream)) {
            Some((_, names)) => names.push(what),
            None => gaps.push((upstream.clone(), vec![what])),
        }
    };
    for model in &plan.models {
        note(if plan.model_based { &model.upstream } else { &plan.troll }, model.id.to_string());
    }
    let map = plan.url_map.as_ref().filter(|map| map.enabled && plan.model_based);
    for (pattern, upstream) in map.into_iter().flat_map(|map| &map.targets) {
        note(upstream, pattern.to_string());
    }
    match map.and_then(|map| map.default_target.as_ref()) {
        Some(default) => note(default, "unknown models".to_owned()),
        None if plan.unknown_model == UnknownModel::Troll => note(&plan.troll, "unknown models".to_owned()),
        None => {}
    }
    let upstreams = At::Root.key("upstreams");
    for (upstream, names) in gaps {
        let missing = match (&*upstream.name, upstream.missing().unwrap_or_default()) {
            ("main", "base_url") => "MAIN_TARGET_SERVER is not set".to_owned(),
            ("main", "key") => "MAIN_UPSTREAM_KEY is not set".to_owned(),
            ("ohmygpt", "key") => "OHMYGPT_API_KEY is not set".to_owned(),
            ("troll", "key") => "TROLL_API_KEY is not set".to_owned(),
            (_, missing) => format!("it has no {missing}"),
        };
        let message = format!("\"{}\" is not configured ({missing}), but requests go there: {}", upstream.name, some_of(&names));
        cx.warn(&upstreams.key(&upstream.name), message);
    }
}

/// Warns about targets beside `models[]`, where alone a price can stand: they are billed at the default price, or refused.
///
/// An operator who has written the default price has decided what they cost.
pub fn warn_about_prices(raw: &Config, plan: &Plan, cx: &mut Context<'_, '_>) {
    let consequence = match (raw.billing.require_price, &raw.billing.default_price) {
        (true, _) => "refused with 404, because billing.require_price is on and only models[] has prices",
        (false, None) => {
            "billed at the default price of 3 / 15 USD per million tokens; write their prices into models[], or billing.default_price"
        }
        (false, Some(_)) => return,
    };
    let map = plan.url_map.as_ref().filter(|map| map.enabled && plan.model_based);
    let mut names: Vec<String> = map.into_iter().flat_map(|map| &map.targets).map(|(pattern, _)| pattern.to_string()).collect();
    if map.is_some_and(|map| map.default_target.is_some()) {
        names.push("unknown models (default_target)".to_owned());
    }
    if !names.is_empty() {
        cx.warn(&At::Root.key("model_routing"), format!("{consequence}: {}", some_of(&names)));
    }
    let unknown_go_to_troll = plan.unknown_model == UnknownModel::Troll && map.is_none_or(|map| map.default_target.is_none());
    if unknown_go_to_troll && plan.model_based && plan.troll.missing().is_none() {
        let message = format!("models that nothing names go to troll and are {consequence}, or \"unknown_model\": \"reject\"");
        cx.warn(&At::Root.key("routing").key("unknown_model"), message);
    }
    if raw.billing.require_price && !plan.hosts.is_empty() {
        cx.warn(&At::Root.key("host_routes"), format!("requests without a model are {consequence}"));
    }
}

/// `models[]` in the file's order; a name that stands twice is left out, with a fault that names both places.
fn models(raw: &Config, catalog: &Catalog, default_price: &Price, cx: &mut Context<'_, '_>) -> Vec<Model> {
    let list = At::Root.key("models");
    let written = raw.models.as_deref().unwrap_or_default();
    let mut names = Names::default();
    for (nth, model) in written.iter().enumerate() {
        names.take(&model.id, Holder { model: nth, alias: None }, cx);
    }
    let mut models = Vec::with_capacity(written.len());
    let mut unpriced = Vec::new();
    for (nth, model) in written.iter().enumerate() {
        let at = list.item(nth);
        let mut aliases: Vec<Arc<str>> = Vec::with_capacity(model.id_aliases.len());
        for (alias_nth, alias) in model.id_aliases.iter().enumerate() {
            if names.take(alias, Holder { model: nth, alias: Some(alias_nth) }, cx) {
                aliases.push(alias.as_str().into());
            }
        }
        if model.upstream_model_id.as_deref() == Some("") {
            cx.fault(&at.key("upstream_model_id"), "must not be empty; leave it out to keep the client's name");
        }
        let price = price::of_model(model, default_price, &at, cx);
        if !price::is_stated(model) {
            if raw.billing.require_price {
                let message =
                    format!("model \"{}\" has no price, and billing.require_price refuses models without one", model.id);
                cx.fault(&at, message);
            }
            unpriced.push(model.id.clone());
        }
        // K1: troll where nothing is written.
        let name = model.upstream.as_deref().unwrap_or("troll");
        let upstream = catalog.by_name(name, &format!("model \"{}\"", model.id), &at.key("upstream"), cx);
        let Some(upstream) = upstream else { continue };
        models.push(Model {
            id: model.id.as_str().into(),
            aliases,
            upstream,
            upstream_model_id: model.upstream_model_id.as_deref().map(Arc::from),
            price,
            max_output_tokens: model.max_output_tokens,
        });
    }
    if !unpriced.is_empty() && !raw.billing.require_price {
        cx.warn(&list, format!("without prices of their own, at billing.default_price: {}", some_of(&unpriced)));
    }
    models
}

fn targets(raw: &Config, catalog: &Catalog, cx: &mut Context<'_, '_>) -> Targets {
    let routing = At::Root.key("model_routing");
    let map = raw.model_routing.as_ref();
    let default = map.and_then(|map| map.default_target.as_deref());
    let default = default.and_then(|text| catalog.target(text, "the default target", &routing.key("default_target"), cx));

    let configured: HashMap<&str, usize> = raw
        .models
        .iter()
        .flatten()
        .enumerate()
        .flat_map(|(nth, model)| std::iter::once(&model.id).chain(&model.id_aliases).map(move |name| (name.as_str(), nth)))
        .collect();
    let list = routing.key("models");
    let mut names = Vec::new();
    for (name, text) in map.into_iter().flat_map(|map| &map.models.0) {
        let at = list.key(name);
        let target = catalog.target(text, &format!("model \"{name}\""), &at, cx);
        match NamePattern::parse(name).and_then(|pattern| sane_name(name).map(|()| pattern)) {
            Ok(pattern) => {
                if let Some(nth) = configured.get(name.as_str()) {
                    let path = cx.path(&At::Root.key("models").item(*nth));
                    cx.warn(&at, format!("is never used: {path} has this name and comes first"));
                }
                names.extend(target.map(|target| (pattern, target)));
            }
            Err(message) => cx.fault(&at, message),
        }
    }

    let list = At::Root.key("host_routes");
    let mut hosts: Vec<(HostPattern, RouteTarget)> = Vec::new();
    for (nth, route) in raw.host_routes.iter().enumerate() {
        let at = list.item(nth);
        let target = catalog.target(&route.upstream, &format!("host \"{}\"", route.host), &at.key("upstream"), cx);
        match HostPattern::parse(&route.host) {
            Ok(pattern) if hosts.iter().any(|(known, _)| *known == pattern) => {
                cx.fault(&at.key("host"), format!("\"{}\" has a route already", route.host));
            }
            Ok(pattern) => hosts.extend(target.map(|target| (pattern, target))),
            Err(message) => cx.fault(&at.key("host"), message),
        }
    }
    Targets { default, names, hosts }
}

/// Which model took a name first.
#[derive(Default)]
struct Names<'r>(HashMap<&'r str, Holder>);

/// The model that has a name, and by which of its aliases; `None`: by its id.
#[derive(Clone, Copy)]
struct Holder {
    model: usize,
    alias: Option<usize>,
}

impl<'r> Names<'r> {
    /// Whether the name was free.
    fn take(&mut self, name: &'r str, holder: Holder, cx: &mut Context<'_, '_>) -> bool {
        let message = match (sane_name(name), self.0.get(name)) {
            (Err(message), _) => message.to_owned(),
            (Ok(()), Some(first)) => {
                let first = first.with_path(|at| cx.path(at));
                format!("\"{name}\" is already taken by {first}")
            }
            (Ok(()), None) => {
                self.0.insert(name, holder);
                return true;
            }
        };
        holder.with_path(|at| cx.fault(at, message));
        false
    }
}

impl Holder {
    fn with_path<T>(self, use_path: impl FnOnce(&At<'_>) -> T) -> T {
        let models = At::Root.key("models");
        let model = models.item(self.model);
        match self.alias {
            None => use_path(&model.key("id")),
            Some(alias) => use_path(&model.key("id_aliases").item(alias)),
        }
    }
}

/// A name that no client can mean is a slip of the file.
fn sane_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a model's name must not be empty");
    }
    if name.trim() != name || name.chars().any(char::is_control) {
        return Err("a model's name must not begin or end with a space, nor hold control characters");
    }
    Ok(())
}

fn some_of(names: &[String]) -> String {
    let listed = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}
