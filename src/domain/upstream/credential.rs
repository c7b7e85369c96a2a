//! The keys of ours that an upstream is sent, ready for the header, each with its standing.

use std::sync::Arc;

use http::HeaderValue;

use crate::domain::secret::Secret;
use crate::domain::upstream::standing::KeyStanding;

/// A secret we send upstream, with the id that logs and metrics name it by.
#[derive(Clone, Debug)]
pub struct Credential {
    pub id: Arc<str>,
    pub key: Secret,
    /// `Bearer KEY`, made once; marked sensitive, so that no dump of headers shows it.
    pub bearer: HeaderValue,
    /// The key alone, for `x-api-key`.
    pub plain: HeaderValue,
    pub standing: Arc<KeyStanding>,
}

impl Credential {
    /// `None` when no header can carry the key (control characters).
    pub fn new(id: &str, key: Secret, standing: Arc<KeyStanding>) -> Option<Self> {
        let sensitive = |text: String| {
            let mut value = HeaderValue::try_from(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let bearer = sensitive(format!("Bearer {}", key.expose()))?;
        let plain = sensitive(key.expose().to_owned())?;
        Some(Self { id: id.into(), key, bearer, plain, standing })
    }
}

/// Which header carries the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthHeader {
    Authorization,
    XApiKey,
    Both,
}
