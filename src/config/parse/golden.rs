//! The file's own tests: requests that must take a certain route. They run offline, at `check`, at start and at each reload (K15).

use crate::config::parse::Context;
use crate::config::raw::GoldenTest;
use crate::config::source::At;
use crate::domain::dialect::Api;
use crate::domain::route::join::join;
use crate::domain::route::{Route, RoutingTable};
use crate::domain::upstream::Endpoint;

const DEFAULT_PATH: &str = "/v1/chat/completions";

/// Runs every test, notes a fault for each thing that is not as expected, and gives their number.
pub fn run(tests: &[GoldenTest], routing: &RoutingTable, cx: &mut Context<'_, '_>) -> usize {
    let list = At::Root.key("tests");
    for (nth, test) in tests.iter().enumerate() {
        let at = list.item(nth);
        let expect = at.key("expect");
        if matches!(Api::of(path(test)), Api::Unknown | Api::Root) {
            cx.fault(&at.key("path"), "no JSON request is served at this path");
        }
        let route = match routing.by_model(Some(&test.model)) {
            Ok(route) => route,
            Err(refusal) => {
                cx.fault(&expect, format!("the test fails: the request is refused ({refusal})"));
                continue;
            }
        };
        if *route.upstream.name != *test.expect.upstream {
            let message = format!(
                "the test fails: model \"{}\" goes to \"{}\" (rule {})",
                test.model,
                route.upstream.name,
                route.rule.label()
            );
            cx.fault(&expect.key("upstream"), message);
        }
        if let Some(expected) = &test.expect.endpoint {
            endpoint(expected, test, &route, &expect.key("endpoint"), cx);
        }
        if let Some(expected) = &test.expect.upstream_model {
            let sent = route.upstream_model(&test.model);
            if sent != expected {
                let message = format!("the test fails: the upstream is asked for \"{sent}\"");
                cx.fault(&expect.key("upstream_model"), message);
            }
        }
    }
    tests.len()
}

/// The expectation is the upstream's base URL, or the URL that the test's path becomes.
fn endpoint(expected: &str, test: &GoldenTest, route: &Route, at: &At<'_>, cx: &mut Context<'_, '_>) {
    let wanted = match Endpoint::from_url(expected) {
        Ok(wanted) => wanted,
        Err(message) => return cx.fault(at, message),
    };
    let Some(actual) = &route.upstream.endpoint else {
        return cx.fault(at, format!("the test fails: \"{}\" is not configured", route.upstream.name));
    };
    let is_same_place = (wanted.scheme(), wanted.authority()) == (actual.scheme(), actual.authority());
    let joined = join(actual.base_path(), path(test), None);
    if !is_same_place || (wanted.base_path() != actual.base_path() && wanted.base_path() != joined) {
        cx.fault(at, format!("the test fails: the endpoint is {actual}"));
    }
}

fn path(test: &GoldenTest) -> &str {
    test.path.as_deref().unwrap_or(DEFAULT_PATH)
}
