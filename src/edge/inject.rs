//! Step 6: the request as the upstream sees it. The client's credentials go out, the upstream's key goes in, Host and path become the
//! target's; everything else the client said stays.

use http::header::{self, HeaderValue};
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;

use crate::domain::headers;
use crate::domain::route::join::join;
use crate::domain::upstream::{AuthHeader, Credential};
use crate::edge::body::declared_length;
use crate::edge::context::Context;

/// Writes the head of this attempt; path and query are what `asked` has, byte for byte.
pub fn inject(asked: &RequestHeader, request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let Some(routed) = ctx.routed.as_deref() else { return Ok(()) };
    let upstream = &*routed.route.upstream;
    let Some(endpoint) = &upstream.endpoint else {
        return Err(Error::explain(ErrorType::InternalError, "no endpoint"));
    };
    for name in headers::request::names_to_remove(&request.headers) {
        request.remove_header(&name);
    }
    request.insert_header(header::HOST, endpoint.authority())?;
    let target = origin_form(asked);
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => target.split_at(at),
        None => (target, &[][..]),
    };
    let path = std::str::from_utf8(path).or_err(ErrorType::InvalidHTTPHeader, "path")?;
    let mut target = join(endpoint.base_path(), path, None).into_bytes();
    target.extend_from_slice(query);
    request.set_raw_path(&target)?;
    // Usage is read out of the answer, so it has to come in the clear (H4).
    request.insert_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    if let Some(length) = routed.length
        && declared_length(&request.headers) != Some(length)
    {
        request.insert_header(header::CONTENT_LENGTH, length)?;
    }
    if let Some(credential) = upstream.credential(ctx.attempt.pick) {
        insert_key(upstream.auth_header, credential, request)?;
    }
    Ok(())
}

/// Path and query. Of an absolute target (`http://host/path`, RFC 9112 §3.2.2) Pingora keeps the raw bytes whole, but leaves scheme and
/// authority out of the URI: they name a host, and that is never the client's choice (M16).
fn origin_form(asked: &RequestHeader) -> &[u8] {
    let raw = asked.raw_path();
    if raw.first() == Some(&b'/') {
        return raw;
    }
    asked.uri.path_and_query().map_or(b"/", |target| target.as_str().as_bytes())
}

fn insert_key(auth_header: AuthHeader, credential: &Credential, request: &mut RequestHeader) -> Result<()> {
    if matches!(auth_header, AuthHeader::Authorization | AuthHeader::Both) {
        request.insert_header(header::AUTHORIZATION, credential.bearer.clone())?;
    }
    if matches!(auth_header, AuthHeader::XApiKey | AuthHeader::Both) {
        request.insert_header("x-api-key", credential.plain.clone())?;
    }
    Ok(())
}
