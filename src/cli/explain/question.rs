//! The request that is asked about.

use http::{HeaderMap, Method};

use crate::domain::client::Caller;
use crate::domain::settings::Settings;

/// A request, as far as it was described.
pub struct Question<'q> {
    pub settings: &'q Settings,
    /// `None`: nobody was named, so what clients may do is left out.
    pub caller: Option<&'q Caller>,
    pub method: &'q Method,
    /// Without the query.
    pub path: &'q str,
    pub query: Option<&'q str>,
    pub headers: &'q HeaderMap,
    pub body: Body,
}

/// What is known of the request's body.
pub enum Body {
    /// Nothing but the model is known of it.
    OfModel(String),
    Whole(Vec<u8>),
    /// The request has none.
    None,
}

impl Body {
    /// Its length, as far as it is known.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Whole(body) => body.len(),
            Self::OfModel(_) | Self::None => 0,
        }
    }
}
