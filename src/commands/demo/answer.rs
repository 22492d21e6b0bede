//! The HTTP answers that the demo's backend and page have in common.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::json;

/// Body of every answer of the demo.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer whose body is known in full; an empty `content_type` leaves the header out.
pub(super) fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    if !content_type.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

/// A problem document (RFC 9457).
pub(super) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Problem");
    let document = json!({"title": title, "status": status.as_u16(), "detail": detail});
    full(status, "application/problem+json", document.to_string())
}

/// An event stream of the blocks that `blocks` yields; nothing on the way may keep or change them.
pub(super) fn event_stream(
    cache_control: &'static str,
    blocks: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let body = StreamBody::new(blocks.map(|block| Ok(Frame::data(block))));
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
