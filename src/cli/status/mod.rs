//! `trollbridge status`: how the running gateway is, from its `/status.json`: what is wrong first, then how it stands, then each key and
//! proxy.
//!
//! Renders the document of any version: what is missing in it is left out or shown as `-`. Names come from the configuration, so whatever
//! could move a terminal's cursor is replaced.

mod faults;
mod table;
mod view;

use std::io::Write;

use http::Method;
use serde_json::Value;

use crate::cli::exit::{EX_OK, EX_TEMPFAIL, Failure};
use crate::cli::running::{ANSWERS_WITHIN, RunningArgs, unexpected};
use crate::ops::watch::readiness::Ready;

use table::Table;
use view::{View, amount, duration};

/// The words of one line, each where there is something to say.
const SEPARATOR: &str = ", ";

/// Prints the state of the running gateway; returns the exit code: 0 from one that is ready, 75 from one that is not.
pub fn run(args: &RunningArgs, json: bool, out: &mut dyn Write) -> u8 {
    let document = match document(args) {
        Ok(document) => document,
        Err(failure) => return failure.say(),
    };
    let text = if json { format!("{document:#}\n") } else { render(&document) };
    // A reader that left early has seen what it wanted.
    let _ = out.write_all(text.as_bytes());
    let is_ready = document.get("state").and_then(Value::as_str) == Some(Ready::Yes.label());
    if is_ready { EX_OK } else { EX_TEMPFAIL }
}

fn document(args: &RunningArgs) -> Result<Value, Failure> {
    let answer = args.find()?.ask(Method::GET, "/status.json", ANSWERS_WITHIN)?;
    match serde_json::from_slice(&answer.body) {
        Ok(document) if answer.status == 200 => Ok(document),
        _ => Err(unexpected(&answer)),
    }
}

/// Renders the document; ends in a line break.
fn render(document: &Value) -> String {
    let view = View(document);
    let faults = faults::faults(view);
    let mut out = String::new();
    for fault in &faults {
        out += &format!("! {fault}\n");
    }
    if !faults.is_empty() {
        out.push('\n');
    }
    let mut lines = Table::default();
    for (head, words) in [
        ("gateway", gateway(view)),
        ("config", config(view)),
        ("listens", listens(view)),
        ("now", now(view)),
        ("ledger", ledger(view)),
        ("requests", requests(view)),
        ("refusals", counts(view.at("totals").at("refusals"))),
        ("tokens", counts(view.at("totals").at("tokens"))),
        ("cost", view.at("totals").text("cost_usd").map(|cost| vec![format!("{cost} USD since the start")]).unwrap_or_default()),
    ] {
        if !words.is_empty() {
            lines.row([head.to_owned(), words.join(SEPARATOR)]);
        }
    }
    out += &lines.text();
    for (title, table) in [("keys", keys(view)), ("proxies", proxies(view))] {
        if !table.is_empty() {
            out += &format!("\n{title}\n{}", table.text());
        }
    }
    out
}

fn gateway(view: View<'_>) -> Vec<String> {
    let up = view.number("uptime_s").map(|s| format!("up {}", duration(s)));
    let since = view.text("started_at").map(|at| format!(" since {at}")).unwrap_or_default();
    [
        view.text("version").map(|version| format!("trollbridge {version}")),
        view.text("state"),
        view.number("pid").map(|pid| format!("pid {pid}")),
        up.map(|up| up + &since),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn config(view: View<'_>) -> Vec<String> {
    let config = view.at("config");
    let reload = config.at("last_reload");
    let outcome = if reload.flag("ok") == Some(false) { "refused" } else { "in force" };
    [
        Some(config.text("path").unwrap_or_else(|| "from no file".to_owned())),
        config.text("loaded_at").map(|at| format!("loaded {at}")),
        reload.text("at").map(|at| format!("last reload {at} {outcome}")),
        view.number("clients").map(|clients| format!("{clients} clients")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn listens(view: View<'_>) -> Vec<String> {
    let listeners = view.list("listeners").filter_map(|listener| {
        let kind = match (listener.flag("tls"), listener.flag("h2c")) {
            (Some(true), _) => " (TLS)",
            (_, Some(true)) => " (h2c)",
            _ => "",
        };
        Some(listener.text("addr")? + kind)
    });
    listeners.chain(view.text("admin").map(|addr| format!("{addr} (admin)"))).collect()
}

fn now(view: View<'_>) -> Vec<String> {
    let (bodies, process) = (view.at("request_bodies"), view.at("process"));
    let of = |taken: Option<String>, limit: Option<String>, what: &str| Some(format!("{} of {} {what}", taken?, limit?));
    let bytes = |of: View<'_>, name: &str| of.number(name).map(amount);
    let count = |of: View<'_>, name: &str| of.number(name).map(|count| count.to_string());
    [
        count(view, "requests_in_flight").map(|count| format!("{count} in flight")),
        count(view, "open_streams").map(|count| format!("{count} open streams")),
        of(bytes(bodies, "taken_bytes"), bytes(bodies, "limit_bytes"), "for bodies"),
        bytes(process, "resident_bytes").map(|resident| format!("{resident} resident")),
        of(count(process, "open_fds"), count(process, "max_fds"), "file descriptors"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ledger(view: View<'_>) -> Vec<String> {
    let ledger = view.at("ledger");
    let writable = ledger.flag("writable").map(|is_so| if is_so { "writable" } else { "NOT WRITABLE" }.to_owned());
    let place = ledger.text("state_dir").map(|dir| format!(" for {dir}")).unwrap_or_default();
    let count = |name: &str, what: &str| ledger.number(name).map(|count| format!("{count} {what}"));
    [
        writable,
        count("entries_open", "open"),
        count("entries_waiting", "waiting"),
        ledger.number("unfolded_bytes").map(|bytes| format!("{} not in the reports yet", amount(bytes))),
        ledger.number("disk_free_bytes").map(|bytes| format!("{} free{place}", amount(bytes))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The classes and ends that there were.
fn requests(view: View<'_>) -> Vec<String> {
    let totals = view.at("totals");
    let Some(all) = totals.at("requests").numbers().map(|(_, count)| count).reduce(u64::saturating_add) else {
        return Vec::new();
    };
    let mut words = vec![format!("{all} finished")];
    words.extend(counts(totals.at("requests")));
    let ends = counts(totals.at("ends"));
    if !ends.is_empty() {
        words.push(format!("by end: {}", ends.join(SEPARATOR)));
    }
    words
}

/// What was counted at all, as `no_key 3`.
fn counts(of: View<'_>) -> Vec<String> {
    of.numbers().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect()
}

fn keys(view: View<'_>) -> Table {
    let mut table = Table::default();
    for upstream in view.list("upstreams") {
        let name = upstream.text("name").unwrap_or_default();
        let mut has_none = true;
        for key in upstream.list("keys") {
            has_none = false;
            let state = [key.text("state"), key.text("cause").map(|cause| format!("({cause})"))];
            let ready_in = key.number("ready_in_s").map(|s| format!("ready in {}", duration(s)));
            table.row([
                name.clone(),
                key.text("id").unwrap_or_default(),
                state.into_iter().flatten().collect::<Vec<_>>().join(" "),
                ready_in.unwrap_or_default(),
                key.number("attempts").map(|count| format!("{count} attempts")).unwrap_or_default(),
                key.number("rests").map(|count| format!("{count} rests")).unwrap_or_default(),
            ]);
            for rest in key.list("models") {
                let words = [
                    rest.text("model").map(|model| format!("cooling for {model}")),
                    rest.text("cause").map(|c| format!("({c})")),
                ];
                let ready_in = rest.number("ready_in_s").map(|s| format!("ready in {}", duration(s)));
                let state = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
                table.row([name.clone(), key.text("id").unwrap_or_default(), state, ready_in.unwrap_or_default()]);
            }
        }
        if has_none {
            let configured = if upstream.flag("configured") == Some(false) { "not configured" } else { "goes without a key" };
            table.row([name, "-".to_owned(), configured.to_owned()]);
        }
    }
    table
}

fn proxies(view: View<'_>) -> Table {
    let mut table = Table::default();
    for upstream in view.list("upstreams") {
        for proxy in upstream.list("proxies") {
            let since = proxy.text("since").map(|since| format!("since {since}"));
            table.row([
                upstream.text("name").unwrap_or_default(),
                proxy.text("id").unwrap_or_default(),
                proxy.text("kind").unwrap_or_default(),
                proxy.text("health").unwrap_or_default(),
                since.unwrap_or_default(),
                proxy.text("quota").map(|quota| format!("keys {quota}")).unwrap_or_default(),
                proxy.number("attempts").map(|count| format!("{count} attempts")).unwrap_or_default(),
                proxy.number("connect_failures").map(|count| format!("{count} without a connection")).unwrap_or_default(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests;
