//! The head of a WebSocket handshake: what is let in has all that RFC 6455 section 4.2.1 asks for.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Version};
use tidegate::edge::handshake::check as check_head;
use tidegate::protocol::headers::is_token;

/// The first line is the method, the others are fields. A line that can be no field is left out: no HTTP library would
/// hand it on.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (mut head, ()) = Request::new(()).into_parts();
    let first = lines.next().unwrap_or_default();
    let (first, old) = first.strip_suffix(b" 1.0").map_or((first, false), |method| (method, true));
    head.method = Method::from_bytes(first).unwrap_or(Method::GET);
    head.version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
    for line in lines.take(100) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            head.headers.append(name, value);
        }
    }
    match check_head(&head) {
        Ok(handshake) => {
            assert_eq!((&head.method, head.version), (&Method::GET, Version::HTTP_11));
            for name in [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION] {
                assert_eq!(head.headers.get_all(&name).iter().count(), 1, "{name}");
            }
            assert!(head.headers.contains_key(header::UPGRADE) && head.headers.contains_key(header::CONNECTION));
            assert!(!head.headers.contains_key(header::TRANSFER_ENCODING));
            // SHA-1 in base64.
            assert_eq!(handshake.accept.map(|accept| accept.len()), Some(28));
            for (at, name) in handshake.offered.iter().enumerate() {
                assert!(is_token(name) && !handshake.offered[..at].contains(name), "{name:?} is offered");
            }
        }
        Err(problem) => {
            assert!(matches!(problem.status.as_u16(), 400 | 405 | 426), "{problem:?}");
            let status = problem.status;
            let response = problem.into_response();
            assert!(response.status() == status && !response.body().is_empty());
        }
    }
}
