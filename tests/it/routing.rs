//! Where requests go (M): the right upstream gets the right path, host, key and body, and nobody else hears of it.

mod alias;
mod bodies;
mod lists;
mod peer;
mod upstreams;
mod url_map;

use serde_json::{Value, json};

use crate::support::{Recorded, Request};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn prompt(model: &str) -> Value {
    json!({ "model": model, "max_tokens": 100, "messages": [{ "role": "user", "content": "what lives under a bridge" }] })
}

fn ask(path: &str, model: &str) -> Request {
    Request::post(path, &prompt(model))
}

/// The one host that a request named, wherever its HTTP version puts it.
#[track_caller]
fn the_host(arrived: &Recorded) -> String {
    let hosts = arrived.header("host");
    match (&arrived.authority, arrived.version) {
        (Some(authority), hyper::Version::HTTP_2) => {
            assert!(hosts.is_empty() || hosts == [authority], "{arrived:?}");
            authority.clone()
        }
        (None, _) => {
            assert_eq!(hosts.len(), 1, "{arrived:?}");
            hosts[0].to_owned()
        }
        (Some(_), _) => panic!("an absolute target over HTTP/1: {arrived:?}"),
    }
}
