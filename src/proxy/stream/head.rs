//! What the head of an event stream has to say so that nobody on the way holds it back. Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

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

/// Asks upstream not to compress what has to be passed on at once.
pub(crate) fn ask_plainly(fields: &mut HeaderMap) {
    fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
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
    use super::*;

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
