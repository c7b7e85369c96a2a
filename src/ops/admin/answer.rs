//! An answer to an operator, and how it goes on the wire.

use http::{HeaderValue, Method, Response, StatusCode, header};

/// The largest body that is read: the longest client has a page of text.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

const JSON: &str = "application/json";

/// An answer to write as it stands; for `HEAD` without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
    /// One more header: `allow`, `cache-control` or `www-authenticate`.
    pub header: Option<(&'static str, &'static str)>,
}

impl AdminAnswer {
    pub fn json(status: u16, body: String) -> Self {
        Self { status, content_type: JSON, body, header: None }
    }

    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, serde_json::json!({ "error": { "message": message } }).to_string())
    }

    pub fn no_page() -> Self {
        Self::error(404, "there is no such page")
    }

    /// 405, with the methods that the page takes.
    pub fn other_method(allow: &'static str) -> Self {
        Self { header: Some(("allow", allow)), ..Self::error(405, &format!("this page takes {allow} only")) }
    }

    pub fn body_too_large() -> Self {
        Self::error(413, &format!("the body is larger than {MAX_BODY_BYTES} bytes"))
    }

    pub fn body_unreadable() -> Self {
        Self::error(400, "the body could not be read")
    }

    /// The answer on the wire; to `HEAD` without its body.
    pub fn into_response(self, method: &Method) -> Response<Vec<u8>> {
        let length = self.body.len();
        let mut response = Response::new(if method == Method::HEAD { Vec::new() } else { self.body.into_bytes() });
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CONTENT_LENGTH, length.into());
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
