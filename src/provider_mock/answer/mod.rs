//! What a provider that behaves would say to a request: the JSON body or the server-sent events, piece by piece.
//!
//! Nothing here knows sockets or scripts. One piece is one event, or the whole JSON body.

pub mod content;
pub mod error;
pub mod output;

mod chat;
mod lists;
mod messages;
mod responses;

use content::Content;
use output::{Wish, compose};

use super::ask::{Api, Ask};

/// Answers `ask` as the provider would; `serial` makes the ids of two answers differ.
pub fn answer(ask: &Ask, path: &str, wish: &Wish, serial: u64) -> Content {
    match ask.api {
        Api::Chat => chat::chat(ask, &compose(ask, wish), serial),
        Api::Completions => chat::completions(ask, &compose(ask, wish), serial),
        Api::Messages => messages::messages(ask, &compose(ask, wish), serial),
        Api::Responses => responses::responses(ask, &compose(ask, wish), serial),
        Api::CountTokens => lists::count_tokens(ask),
        Api::Embeddings => lists::embeddings(ask),
        Api::Models => lists::models(ask.dialect, path),
        Api::Unknown => error::error(ask.dialect, 404, "Not Found"),
    }
}
