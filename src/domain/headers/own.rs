//! The headers that the gateway writes itself, over whatever the client said: what makes the request the upstream's (H1, H4, M11).

use http::header::{self, HeaderName, HeaderValue, InvalidHeaderValue};

use crate::domain::upstream::{AuthHeader, Credential, Endpoint};

/// The key in the header of Anthropic's own spelling.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// At most this many are written.
const MOST: usize = 5;

/// Gives each header once; the keys among them are marked sensitive. `length`: the body's, where it is known to differ from what the
/// client announced.
///
/// # Errors
///
/// An authority that no header can carry; a parsed [`Endpoint`] has none.
pub fn own_headers(
    endpoint: &Endpoint,
    auth_header: AuthHeader,
    credential: Option<&Credential>,
    length: Option<usize>,
) -> Result<impl Iterator<Item = (HeaderName, HeaderValue)> + use<>, InvalidHeaderValue> {
    let bearer = credential.filter(|_| matches!(auth_header, AuthHeader::Authorization | AuthHeader::Both));
    let plain = credential.filter(|_| matches!(auth_header, AuthHeader::XApiKey | AuthHeader::Both));
    let headers: [Option<(HeaderName, HeaderValue)>; MOST] = [
        Some((header::HOST, HeaderValue::from_str(endpoint.authority())?)),
        // Usage is read out of the answer, so it has to come in the clear (H4).
        Some((header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))),
        length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))),
        bearer.map(|credential| (header::AUTHORIZATION, credential.bearer.clone())),
        plain.map(|credential| (X_API_KEY, credential.plain.clone())),
    ];
    Ok(headers.into_iter().flatten())
}

/// Shows a value: one that is marked sensitive by its scheme alone.
pub fn masked(value: &HeaderValue) -> String {
    match value.to_str() {
        Ok(text) if !value.is_sensitive() => text.to_owned(),
        Ok(text) if text.starts_with("Bearer ") => "Bearer *****".to_owned(),
        _ => "*****".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::secret::Secret;

    fn written(auth_header: AuthHeader, has_key: bool, length: Option<usize>) -> Vec<(String, String)> {
        let endpoint = Endpoint::from_url("https://h:8443/v1").unwrap();
        let credential = Credential::new("k1", Secret::new("canary-key").unwrap(), Arc::default()).unwrap();
        let headers = own_headers(&endpoint, auth_header, Some(&credential).filter(|_| has_key), length).unwrap();
        headers.map(|(name, value)| (name.to_string(), masked(&value))).collect()
    }

    #[test]
    fn h1_the_key_goes_out_in_the_header_that_is_asked_for_and_is_never_shown() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (host, plain) = (pair("host", "h:8443"), pair("accept-encoding", "identity"));
        let (bearer, key) = (pair("authorization", "Bearer *****"), pair("x-api-key", "*****"));
        let base = vec![host, plain];
        assert_eq!(written(AuthHeader::Both, false, None), base);
        assert_eq!(written(AuthHeader::Authorization, true, None), [base.clone(), vec![bearer.clone()]].concat());
        assert_eq!(written(AuthHeader::XApiKey, true, None), [base.clone(), vec![key.clone()]].concat());
        let with_length = [base, vec![pair("content-length", "7"), bearer, key]].concat();
        assert_eq!(written(AuthHeader::Both, true, Some(7)), with_length);
    }
}
