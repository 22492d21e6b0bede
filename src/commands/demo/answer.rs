//! The HTTP answers that the demo's backend and page have in common.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::protocol::headers;
use crate::protocol::problem::Problem;

/// Body of every answer of the demo: the gateway serves some of them.
pub use crate::edge::Body;
use crate::edge::whole;

/// An answer whose body is known in full; an empty `content_type` leaves the header out.
pub(super) fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole(body));
    *response.status_mut() = status;
    if !content_type.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

/// A problem document (RFC 9457), as the gateway itself writes them.
pub(super) fn problem(status: StatusCode, detail: &'static str) -> Response<Body> {
    Problem::new(status, "demo", detail).into_response().map(whole)
}

/// An event stream of the blocks that `blocks` yields; nothing on the way may keep or change them.
pub(super) fn event_stream(blocks: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let body = StreamBody::new(blocks.map(|block| Ok(Frame::data(block))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, headers::EVENT_STREAM);
    headers::set_unbuffered(response.headers_mut());
    response
}
