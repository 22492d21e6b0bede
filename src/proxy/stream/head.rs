//! The heads of event streams: who asks for one, what is one, and what it has to say so that nobody on the way holds it back.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, request, response};

use crate::protocol::headers;

/// What a whole body has and a stream in which something is put in has not: a length, parts to ask for, digests (RFC 9530)
/// and a validator.
const OF_WHOLE_BODIES: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    header::ETAG,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// Whether a request asks for an event stream, as every browser's `EventSource` does: a GET whose `Accept` names the type
/// itself. A wildcard does not: a page or a script would be answered what it cannot read.
#[must_use]
pub fn is_wanted(head: &request::Parts) -> bool {
    let accepts = |value: &HeaderValue| {
        let ranges = value.to_str().unwrap_or_default().split(',');
        ranges.into_iter().any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|range| range.eq_ignore_ascii_case("text/event-stream"));
            named && !parts.any(is_refusal)
        })
    };
    head.method == Method::GET && head.headers.get_all(header::ACCEPT).iter().any(accepts)
}

/// `q=0` and its longer forms (RFC 9110 section 12.4.2).
fn is_refusal(parameter: &str) -> bool {
    let quality = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    quality.is_some_and(|(_, value)| value.trim().parse() == Ok(0.0_f32))
}

/// Asks upstream not to compress what has to be passed on at once.
pub fn ask_plainly(fields: &mut HeaderMap) {
    fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Whether an answer is an event stream by its media type. One with another status than 200 no `EventSource` reads
/// (WHATWG HTML, "Processing model"); a part of one, and the head alone, are not to be touched.
#[must_use]
pub fn is_stream(method: &Method, head: &response::Parts) -> bool {
    method != Method::HEAD && head.status == StatusCode::OK && headers::is_event_stream(&head.headers)
}

/// Makes the head say what keeps those in front of us from holding the stream back, and drops what is not true any more.
pub(super) fn prepare(fields: &mut HeaderMap, decoded: bool) {
    headers::set_unbuffered(fields);
    for name in &OF_WHOLE_BODIES {
        fields.remove(name);
    }
    if decoded || headers::is_identity(fields) {
        // `none` and `identity` are no codings to be named (RFC 9110 section 8.4.1), and some clients fail at them.
        fields.remove(header::CONTENT_ENCODING);
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn wanted(method: Method, accept: &[&str]) -> bool {
        let request = Request::builder().method(method).uri("/");
        let request = accept.iter().fold(request, |request, value| request.header("accept", *value));
        is_wanted(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn who_names_the_type_asks_for_a_stream() {
        assert!(wanted(Method::GET, &["text/event-stream"]));
        assert!(wanted(Method::GET, &["application/json", "text/html, Text/Event-Stream;q=0.5"]));
        assert!(!wanted(Method::GET, &["*/*"]) && !wanted(Method::GET, &["text/*"]) && !wanted(Method::GET, &[]));
        assert!(
            !wanted(Method::GET, &["text/event-stream;q=0"]) && !wanted(Method::GET, &["text/event-stream; Q=0.000"])
        );
        assert!(!wanted(Method::POST, &["text/event-stream"]));
    }

    #[test]
    fn a_stream_is_known_by_status_and_type() {
        let is = |method, status, media_type| {
            let response = Response::builder().status(status).header("content-type", media_type).body(()).unwrap();
            is_stream(&method, &response.into_parts().0)
        };
        assert!(is(Method::GET, 200, "text/event-stream; charset=utf-8") && is(Method::POST, 200, "text/event-stream"));
        assert!(!is(Method::HEAD, 200, "text/event-stream") && !is(Method::GET, 206, "text/event-stream"));
        assert!(!is(Method::GET, 503, "text/event-stream") && !is(Method::GET, 200, "text/plain"));
    }

    #[test]
    fn a_stream_says_that_it_is_not_to_be_held_back_and_nothing_of_whole_bodies() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/event-stream;charset=utf-8"),
            ("cache-control", "max-age=3600"),
            ("content-length", "12"),
            ("etag", "\"x\""),
            ("content-encoding", "none"),
            ("x-own", "stays"),
        ] {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        prepare(&mut fields, false);
        let mut seen: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                "cache-control: no-cache, no-transform",
                "content-type: text/event-stream;charset=utf-8",
                "x-accel-buffering: no",
                "x-own: stays"
            ]
        );
    }

    #[test]
    fn a_coding_is_named_for_as_long_as_it_is_there() {
        let of = |decoded| {
            let coding = (header::CONTENT_ENCODING, HeaderValue::from_static("br"));
            let mut fields = HeaderMap::from_iter([coding]);
            prepare(&mut fields, decoded);
            fields.contains_key(header::CONTENT_ENCODING)
        };
        assert!(of(false) && !of(true));
    }
}
