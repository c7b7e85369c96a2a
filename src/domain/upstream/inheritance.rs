//! What a process that is replaced leaves to its successor: which keys rest until when, and which proxies are down (T13).
//!
//! Keys and proxies are told apart as in [`crate::domain::upstream::registry`]: by upstream, id, and a hash of what makes them another
//! one under the same id. The document holds no secret. A dead key is not in it: an upgrade reads everything anew, as a reload does,
//! and the operator may have mended the key where the file does not show it.

use serde::{Deserialize, Serialize};

/// All that rests or is down at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inheritance {
    #[serde(default)]
    pub keys: Vec<RestingKey>,
    #[serde(default)]
    pub proxies: Vec<DownProxy>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingKey {
    pub upstream: Box<str>,
    pub id: Box<str>,
    pub hash: u64,
    /// From the moment of the document: the clocks of two processes may have been read off the wall at different times.
    pub rests_ms: u64,
    /// One of [`crate::domain::upstream::standing::Cause`]'s labels.
    pub cause: Box<str>,
    /// The one model that it rests for; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownProxy {
    pub upstream: Box<str>,
    pub id: Box<str>,
    pub hash: u64,
    /// Until the moment of the document.
    pub down_ms: u64,
}
