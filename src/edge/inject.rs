//! Step 6: the request as the upstream sees it. The client's credentials go out, the upstream's key goes in, Host and path become the
//! target's; everything else the client said stays.

use pingora_core::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;

use crate::domain::headers;
use crate::domain::headers::framing::declared_length;
use crate::domain::headers::own::own_headers;
use crate::domain::route::join::join;
use crate::edge::context::Context;
use crate::relay::stage::Admitted;

/// Writes the head of this attempt; path and query are what `asked` has, byte for byte.
pub fn inject(asked: &RequestHeader, request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
    let (_, dispatch) = ctx.asked("upstream_request_filter")?;
    let Admitted { way, .. } = dispatch.walk().admitted();
    let (upstream, endpoint) = (&*way.route.upstream, &*way.endpoint);
    for name in headers::request::names_to_remove(&request.headers) {
        request.remove_header(&name);
    }
    let target = origin_form(asked);
    let (path, query) = match memchr::memchr(b'?', target) {
        Some(at) => target.split_at(at),
        None => (target, &[][..]),
    };
    let path = std::str::from_utf8(path).or_err(ErrorType::InvalidHTTPHeader, "path")?;
    let mut target = join(endpoint.base_path(), path, None).into_bytes();
    target.extend_from_slice(query);
    request.set_raw_path(&target)?;
    let length = way.length.filter(|length| declared_length(&request.headers) != Some(*length));
    let credential = upstream.credential(dispatch.walk().pick());
    let own =
        own_headers(endpoint, upstream.auth_header, credential, length).or_err(ErrorType::InvalidHTTPHeader, "authority")?;
    for (name, value) in own {
        request.insert_header(name, value)?;
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
