//! What is wrong, the worst first, each with what it means or what to do.

use super::view::{View, amount, duration};

/// Reports and balances are folded every two seconds; half a minute means that it fails.
const MOST_LAG_S: f64 = 30.0;
const LEAST_DISK_BYTES: u64 = 256 << 20;
/// Of a limit.
const NEARLY_PERCENT: u64 = 80;

/// The faults of a gateway; empty where all is well.
pub fn faults(view: View<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    match view.text("state").as_deref() {
        Some("ready" | "ledger_unwritable") | None => {}
        Some("draining") => faults.push("draining: open requests are finished, new ones should go elsewhere".to_owned()),
        Some(state) => faults.push(format!("not ready: {state}")),
    }
    ledger(view.at("ledger"), &mut faults);
    for upstream in view.list("upstreams") {
        keys(upstream, &mut faults);
        proxies(upstream, &mut faults);
    }
    reload(view.at("config"), &mut faults);
    let (bodies, process) = (view.at("request_bodies"), view.at("process"));
    nearly(
        bodies,
        "taken_bytes",
        "limit_bytes",
        "of the memory for bodies is taken, what does not fit is refused with 503",
        &mut faults,
    );
    nearly(process, "open_fds", "max_fds", "of the file descriptors are open (LimitNOFILE=)", &mut faults);
    if let Some(dropped @ 1..) = view.number("access_lines_dropped") {
        faults.push(format!("{dropped} access lines were dropped: whoever reads the standard output is too slow"));
    }
    faults
}

fn ledger(ledger: View<'_>, faults: &mut Vec<String>) {
    if ledger.flag("writable") == Some(false) {
        let why = ledger.text("trouble").unwrap_or_else(|| "no reason is known".to_owned());
        faults.push(format!("the ledger can't be written ({why}): requests are refused with 503"));
    }
    if let Some(waiting @ 1..) = ledger.number("entries_waiting") {
        faults.push(format!("{waiting} closed entries wait in memory for the disk: don't kill the process"));
    }
    if let Some(free) = ledger.number("disk_free_bytes").filter(|free| *free < LEAST_DISK_BYTES) {
        faults.push(format!("the disk of the state directory has {} left: once it is full, requests are refused", amount(free)));
    }
    if let Some(lag) = ledger.at("lag_s").0.as_f64().filter(|lag| *lag > MOST_LAG_S) {
        faults.push(format!("reports and balances are {lag:.0} s behind the ledger: the program's log says why"));
    }
}

fn keys(upstream: View<'_>, faults: &mut Vec<String>) {
    let name = upstream.text("name").unwrap_or_default();
    let is = |state: &'static str| move |key: &View<'_>| key.text("state").as_deref() == Some(state);
    let all = upstream.list("keys").count();
    if all > 0 && !upstream.list("keys").any(|key| is("ready")(&key)) {
        let first_back = upstream.list("keys").filter_map(|key| key.number("ready_in_s")).min();
        let until = first_back
            .map_or_else(|| "none comes back by itself".to_owned(), |s| format!("the first is back in {}", duration(s)));
        faults.push(format!("upstream {name}: none of {all} keys is ready, {until}"));
    }
    for key in upstream.list("keys").filter(is("dead")) {
        let cause = key.text("cause").map(|cause| format!(" ({cause})")).unwrap_or_default();
        let id = key.text("id").unwrap_or_default();
        faults.push(format!("upstream {name}: key {id} is dead{cause}; replace or mend it, then reload"));
    }
}

fn proxies(upstream: View<'_>, faults: &mut Vec<String>) {
    let name = upstream.text("name").unwrap_or_default();
    let all = upstream.list("proxies").count();
    let down: Vec<View<'_>> = upstream.list("proxies").filter(|proxy| proxy.text("health").as_deref() == Some("down")).collect();
    if all > 0 && down.len() == all {
        faults.push(format!("upstream {name}: all {all} proxies are down"));
    }
    for proxy in down {
        let since = proxy.text("since").map(|since| format!(" since {since}")).unwrap_or_default();
        faults.push(format!("upstream {name}: proxy {} is down{since}", proxy.text("id").unwrap_or_default()));
    }
}

fn reload(config: View<'_>, faults: &mut Vec<String>) {
    let last = config.at("last_reload");
    if last.flag("ok") != Some(false) {
        return;
    }
    let at = last.text("at").unwrap_or_default();
    let words = last.text("words").map(|words| format!(": {words}")).unwrap_or_default();
    faults.push(format!("the reload at {at} was refused, the settings from before are in force{words}"));
}

fn nearly(of: View<'_>, taken: &str, limit: &str, what: &str, faults: &mut Vec<String>) {
    let (Some(taken), Some(limit @ 1..)) = (of.number(taken), of.number(limit)) else { return };
    let percent = u128::from(taken) * 100 / u128::from(limit);
    if percent >= u128::from(NEARLY_PERCENT) {
        faults.push(format!("{percent} % {what}"));
    }
}
