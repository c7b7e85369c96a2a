//! Listeners, the admin listener, and how clients prove who they are.

use std::collections::HashMap;

use crate::config::parse::Context;
use crate::config::raw::{AuthMode, Config};
use crate::config::source::At;
use crate::domain::local::{LocalOnly, OriginPattern};
use crate::domain::route::table::HostPattern;
use crate::domain::settings::{Admin, Auth, Listener, TlsFiles};

/// As many sockets fit into the one message in which Pingora hands them over at an upgrade (`server/transfer_fd`, `MAX_FDS`), and their
/// addresses into its 2048 bytes.
const MOST_SOCKETS: usize = 32;

/// The listeners in the file's order, each address once.
pub fn listeners(raw: &Config, cx: &mut Context<'_, '_>) -> Vec<Listener> {
    let list = At::Root.key("listen");
    let mut taken = HashMap::new();
    let mut listeners = Vec::with_capacity(raw.listen.len());
    for (nth, written) in raw.listen.iter().enumerate() {
        let entry = list.item(nth);
        let tls = written.tls.as_ref().map(|files| {
            let tls = entry.key("tls");
            let cert = cx.pem(&tls.key("cert"), &files.cert, "CERTIFICATE");
            let key = cx.pem(&tls.key("key"), &files.key, "PRIVATE KEY");
            TlsFiles { cert, key }
        });
        if written.h2c && tls.is_some() {
            cx.fault(&entry.key("h2c"), "is HTTP/2 without TLS; a listener with `tls` offers HTTP/2 by itself");
        }
        let Some(addr) = cx.address(&entry.key("addr"), &written.addr) else { continue };
        // Port 0 asks the kernel for a free one, each time another.
        if addr.port() != 0
            && let Some(first) = taken.insert(addr, nth)
        {
            let first = cx.path(&list.item(first).key("addr"));
            cx.fault(&entry.key("addr"), format!("{addr} is already taken by {first}"));
            continue;
        }
        listeners.push(Listener { addr, h2c: written.h2c, tls });
    }
    listeners
}

pub fn admin(raw: &Config, listeners: &[Listener], cx: &mut Context<'_, '_>) -> Admin {
    let admin = At::Root.key("admin");
    let at = admin.key("addr");
    let addr = raw.admin.addr.as_deref().and_then(|written| cx.address(&at, written));
    if let Some(addr) = addr
        && addr.port() != 0
        && listeners.iter().any(|listener| listener.addr == addr)
    {
        cx.fault(&at, format!("{addr} is already taken by a listener for clients"));
    }
    let sockets = raw.listen.len() + usize::from(raw.admin.addr.is_some());
    if sockets > MOST_SOCKETS {
        let with = if raw.admin.addr.is_some() { " with admin.addr" } else { "" };
        let message = format!(
            "makes {sockets} listening sockets{with}, and an upgrade can hand over {MOST_SOCKETS}; 0.0.0.0 and [::] listen on \
             every address of the machine"
        );
        cx.fault(&At::Root.key("listen"), message);
    }
    let token = cx.secret(&admin.key("token"), raw.admin.token.as_ref());
    Admin { addr, token }
}

/// H6: without keys, only this machine may connect.
pub fn auth(raw: &Config, listeners: &[Listener], cx: &mut Context<'_, '_>) -> Auth {
    let auth = At::Root.key("auth");
    let at = auth.key("static_key");
    let local = local_only(raw, cx);
    match raw.auth.mode {
        AuthMode::Keys => {
            let written = cx.secret(&at, raw.auth.static_key.as_ref());
            let static_key = written.or_else(|| cx.secret_variable(&at, "PROXY_API_KEY"));
            if static_key.is_none() && cx.is_written(&at) && !cx.report.form_is_wrong_below("auth") {
                cx.warn(
                    &at,
                    "is unset, so only keys made by `trollbridge client add` are let in: set PROXY_API_KEY, or take `static_key` out",
                );
            }
            if static_key.is_some() && raw.billing.require_credits {
                cx.warn(&at, "has no balance, and billing.require_credits refuses whoever has none: its holders get 402");
            }
            Auth::Keys { static_key }
        }
        AuthMode::None => {
            for listener in listeners.iter().filter(|listener| !listener.addr.ip().to_canonical().is_loopback()) {
                let message = format!(
                    "`none` lets everybody in, so every listener must be on loopback; {} is not. Use `keys`, or 127.0.0.1",
                    listener.addr
                );
                cx.fault(&auth.key("mode"), message);
            }
            if raw.billing.require_credits {
                cx.fault(
                    &auth.key("mode"),
                    "`none` knows no clients, so nobody has the balance that billing.require_credits asks for",
                );
            }
            Auth::None(local)
        }
    }
}

/// Who else counts as this machine's own.
fn local_only(raw: &Config, cx: &mut Context<'_, '_>) -> LocalOnly {
    let auth = At::Root.key("auth");
    let (mut local, hosts, origins) = (LocalOnly::default(), auth.key("allowed_hosts"), auth.key("allowed_origins"));
    for (nth, written) in raw.auth.allowed_hosts.iter().enumerate() {
        match HostPattern::parse(written) {
            Ok(host) => local.hosts.push(host),
            Err(message) => cx.fault(&hosts.item(nth), message),
        }
    }
    for (nth, written) in raw.auth.allowed_origins.iter().enumerate() {
        match OriginPattern::parse(written) {
            Ok(origin) => local.origins.push(origin),
            Err(message) => cx.fault(&origins.item(nth), message),
        }
    }
    local
}
