//! From the written file to settings: what the values mean, and whether they go together.
//!
//! Each part notes its faults and goes on with what is left, so that one run names them all. Settings come out only when the
//! report has no fault.

mod context;
mod entry;
mod golden;
mod ledger;
mod listen;
mod pool;
pub mod price;
mod routes;
mod upstreams;
mod without_effect;

use std::path::PathBuf;
use std::time::Duration;

pub use context::{Context, Lists};

use crate::config::raw::{self, Config};
use crate::config::source::At;
use crate::domain::billing::{Billing, MostTokens, OnLoss};
use crate::domain::route::RoutingTable;
use crate::domain::settings::{DecodeBounds, Limits, LogFormat, ReadOn, Retry, Settings};

/// Makes settings of a file, and runs its tests. The second value counts the tests. `None` where no routes could be made.
pub fn settings(raw: &Config, cx: &mut Context<'_, '_>) -> Option<(Settings, usize)> {
    let listeners = listen::listeners(raw, cx);
    let admin = listen::admin(raw, &listeners, cx);
    let auth = listen::auth(raw, &listeners, cx);
    let mut catalog = upstreams::Catalog::parse(raw, cx);
    let default_price = price::default_price(raw, cx);
    let plan = routes::plan(raw, &mut catalog, &default_price, cx)?;
    routes::warn_about_gaps(&plan, cx);
    routes::warn_about_prices(raw, &plan, cx);
    let routing = RoutingTable::new(plan);
    let limits = limits(&raw.limits, cx);
    without_effect::warn(raw, cx);
    let tests_passed = if cx.report.has_faults() { 0 } else { golden::run(&raw.tests, &routing, cx) };
    let settings = Settings {
        state_dir: state_dir(raw.state_dir.clone(), cx.variable),
        listeners,
        admin,
        auth,
        routing,
        upstreams: catalog.into_upstreams(),
        limits: limits?,
        retry: Retry {
            max_attempts: raw.retry.max_attempts,
            budget: Duration::from_millis(raw.retry.budget_ms),
            max_share_percent: raw.retry.max_share_percent,
            hold_first_event: Duration::from_millis(raw.retry.hold_first_event_ms),
        },
        billing: Billing {
            on_client_gone: on_loss(raw.billing.on_client_gone),
            on_upstream_cut: on_loss(raw.billing.on_upstream_cut),
            default_price,
            require_price: raw.billing.require_price,
            require_credits: raw.billing.require_credits,
            max_counted_tokens: raw.billing.max_counted_tokens,
            most_tokens: MostTokens { input: raw.billing.max_input_tokens, output: raw.billing.max_output_tokens },
        },
        ledger: ledger::ledger(&raw.ledger, cx),
        inject_include_usage: raw.inject_include_usage,
        log_format: match raw.log.format {
            raw::LogFormat::Text => LogFormat::Text,
            raw::LogFormat::Json => LogFormat::Json,
        },
    };
    Some((settings, tests_passed))
}

/// What the file says, else what systemd gives, else a directory of the one we are in.
pub fn state_dir(written: Option<String>, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let is_set = |text: &String| !text.is_empty();
    let found = written.filter(is_set).or_else(|| variable("STATE_DIRECTORY").filter(is_set));
    found.map_or_else(|| PathBuf::from("./state"), PathBuf::from)
}

fn limits(raw: &raw::Limits, cx: &mut Context<'_, '_>) -> Option<Limits> {
    let limits = At::Root.key("limits");
    if raw.inflight_body_bytes < raw.max_body_bytes {
        cx.fault(
            &limits.key("inflight_body_bytes"),
            "must not be less than limits.max_body_bytes, or the largest body never fits",
        );
    }
    let mut bytes = |key, bytes| {
        let fits = usize::try_from(bytes).ok();
        if fits.is_none() {
            cx.fault(&limits.key(key), "is more than this machine can address");
        }
        fits
    };
    let (max_body_bytes, inflight_body_bytes) =
        (bytes("max_body_bytes", raw.max_body_bytes), bytes("inflight_body_bytes", raw.inflight_body_bytes));
    let chunk_bytes = bytes("decoded_chunk_bytes", raw.decoded_chunk_bytes);
    let read_on_bytes = bytes("read_on_bytes", raw.read_on_bytes);
    let (max_body_bytes, inflight_body_bytes) = (max_body_bytes?, inflight_body_bytes?);
    let percent = usize::try_from(raw.client_body_percent).ok()?;
    Some(Limits {
        max_body_bytes,
        inflight_body_bytes,
        client_body_bytes: (inflight_body_bytes / 100 * percent).max(max_body_bytes),
        header_read: Duration::from_secs(raw.header_read_s),
        body_read: Duration::from_secs(raw.body_read_s),
        keepalive: Duration::from_secs(raw.keepalive_s),
        decode: DecodeBounds { chunk_bytes: chunk_bytes?, ratio: raw.decoded_ratio },
        write_stall: Duration::from_secs(raw.write_stall_s),
        write_bytes_per_s: raw.write_bytes_per_s.max(1),
        hold_answer: Duration::from_millis(raw.hold_answer_ms),
        read_on: ReadOn { time: Duration::from_secs(raw.read_on_s), bytes: read_on_bytes? },
    })
}

fn on_loss(raw: raw::OnLoss) -> OnLoss {
    match raw {
        raw::OnLoss::Estimate => OnLoss::Estimate,
        raw::OnLoss::Observed => OnLoss::Observed,
        raw::OnLoss::Free => OnLoss::Free,
    }
}
