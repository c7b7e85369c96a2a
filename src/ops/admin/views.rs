//! The pages that show how the gateway fares, each made of the same vitals.

use crate::ops::admin::answer::AdminAnswer;
use crate::ops::watch::health::{self, Health};
use crate::ops::watch::metrics;
use crate::ops::watch::status::StatusDocument;
use crate::ops::watch::vitals::Vitals;

pub fn health(vitals: &Vitals<'_>) -> AdminAnswer {
    match serde_json::to_string(&Health::of(vitals)) {
        Ok(body) => AdminAnswer::json(200, body),
        Err(_) => AdminAnswer::error(500, "the health document could not be written"),
    }
}

pub fn live(_vitals: &Vitals<'_>) -> AdminAnswer {
    AdminAnswer::json(200, health::ALIVE.to_owned())
}

pub fn ready(vitals: &Vitals<'_>) -> AdminAnswer {
    let (status, body) = vitals.ready.answer();
    AdminAnswer::json(status, body.to_owned())
}

pub fn metrics(vitals: &Vitals<'_>) -> AdminAnswer {
    AdminAnswer { status: 200, content_type: metrics::CONTENT_TYPE, body: metrics::page(vitals), header: None }
}

/// The whole state in one document.
pub fn status(vitals: &Vitals<'_>) -> AdminAnswer {
    match serde_json::to_string_pretty(&StatusDocument::of(vitals)) {
        Ok(document) => AdminAnswer::json(200, document + "\n"),
        Err(_) => AdminAnswer::error(500, "the status document could not be written"),
    }
}

pub fn nothing(_vitals: &Vitals<'_>) -> AdminAnswer {
    AdminAnswer::no_page()
}
