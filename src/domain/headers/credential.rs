//! The one key that a client presents: `Authorization: Bearer KEY` or `x-api-key: KEY`, on every path (H5, H7).
//!
//! Says what was presented, never whether it is right: that comparison is the authentication's, in constant time.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::domain::answer::Refusal;

const X_API_KEY: &str = "x-api-key";

/// Finds the key of a request; `None` where it carries none. An empty value counts as absent.
///
/// The same key in both headers is one credential: some clients send it twice.
///
/// # Errors
///
/// [`Refusal::TwoCredentials`] for two `Authorization` or two `x-api-key` headers, or one of each that differ;
/// [`Refusal::WrongKey`] for an `Authorization` of another scheme than Bearer.
pub fn presented_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let authorization = only_value(headers, AUTHORIZATION.as_str())?.map(bearer);
    let api_key = only_value(headers, X_API_KEY)?;
    match (authorization, api_key) {
        (None | Some(AuthScheme::BearerWithoutKey), api_key) => Ok(api_key),
        (Some(AuthScheme::Bearer(key)), None) => Ok(Some(key)),
        (Some(AuthScheme::Bearer(key)), Some(api_key)) if key == api_key => Ok(Some(key)),
        (Some(AuthScheme::Other), None) => Err(Refusal::WrongKey),
        (Some(AuthScheme::Bearer(_) | AuthScheme::Other), Some(_)) => Err(Refusal::TwoCredentials),
    }
}

enum AuthScheme<'a> {
    Bearer(&'a [u8]),
    BearerWithoutKey,
    Other,
}

/// Splits `Bearer KEY`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> AuthScheme<'_> {
    let Some((scheme, rest)) = value.split_at_checked("bearer".len()) else { return AuthScheme::Other };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return AuthScheme::Other;
    }
    match rest.first() {
        None => AuthScheme::BearerWithoutKey,
        Some(b' ' | b'\t') => AuthScheme::Bearer(rest.trim_ascii()),
        Some(_) => AuthScheme::Other,
    }
}

/// The value of a header that may stand once, spaces around it trimmed.
fn only_value<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()).filter(|value| !value.is_empty());
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::TwoCredentials);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;

    fn presented(headers: &[(&str, &str)]) -> Result<Option<String>, Refusal> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        presented_key(&headers).map(|key| key.map(|key| String::from_utf8(key.to_vec()).unwrap()))
    }

    #[test]
    fn h5_a_key_is_found_in_either_header() {
        for headers in [
            &[("authorization", "Bearer k-1")][..],
            &[("Authorization", "bearer   k-1 ")],
            &[("authorization", "BEARER\tk-1")],
            &[("x-api-key", "k-1")],
            &[("X-Api-Key", " k-1 ")],
            &[("authorization", "Bearer k-1"), ("x-api-key", "k-1")],
            &[("authorization", ""), ("x-api-key", "k-1")],
            &[("authorization", "Bearer"), ("x-api-key", "k-1")],
            &[("authorization", ""), ("authorization", "Bearer k-1")],
            &[("authorization", "Bearer k-1"), ("x-api-key", "")],
        ] {
            assert_eq!(presented(headers), Ok(Some("k-1".to_owned())), "{headers:?}");
        }
    }

    #[test]
    fn h5_an_empty_value_is_no_key() {
        for headers in [
            &[][..],
            &[("authorization", "")],
            &[("authorization", "  ")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer  ")],
            &[("x-api-key", "")],
            &[("cookie", "k-1")],
            &[("api-key", "k-1")],
        ] {
            assert_eq!(presented(headers), Ok(None), "{headers:?}");
        }
    }

    #[test]
    fn h7_more_than_one_credential_is_refused() {
        for headers in [
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("authorization", "Bearer a"), ("authorization", "Basic YTpi")],
            &[("x-api-key", "a"), ("x-api-key", "b")],
            &[("authorization", "Bearer a"), ("x-api-key", "b")],
            &[("authorization", "Bearer a"), ("x-api-key", "A")],
            &[("authorization", "Basic YTpi"), ("x-api-key", "a")],
        ] {
            assert_eq!(presented(headers), Err(Refusal::TwoCredentials), "{headers:?}");
        }
    }

    #[test]
    fn h5_another_scheme_is_a_wrong_key() {
        for value in ["Basic YTpi", "Bearerk-1", "k-1", "Token k-1", "bear"] {
            assert_eq!(presented(&[("authorization", value)]), Err(Refusal::WrongKey), "{value}");
        }
    }
}
