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

/// Writes the head of this attempt; `path` is what the client sent, byte for byte, query included.
pub fn inject(path: &[u8], request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let Some(routed) = ctx.routed.as_deref() else { return Ok(()) };
    let upstream = &*routed.route.upstream;
    let Some(endpoint) = &upstream.endpoint else {
        return Err(Error::explain(ErrorType::InternalError, "no endpoint"));
    };
    for name in headers::request::names_to_remove(&request.headers) {
        request.remove_header(&name);
    }
    request.insert_header(header::HOST, endpoint.authority())?;
    let (path, query) = match memchr::memchr(b'?', path) {
        Some(at) => path.split_at(at),
        None => (path, &[][..]),
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
    if let Some(credential) = upstream.credentials.get(ctx.attempt.credential) {
        insert_key(upstream.auth_header, credential, request)?;
    }
    Ok(())
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
