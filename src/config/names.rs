//! Names that a bridge is given: of headers, cookies, query parameters and events.

use http::HeaderName;

pub(super) use crate::protocol::headers::is_token;
use crate::protocol::headers::{OURS, folded};
use crate::protocol::hop;

/// Reads the name of a client header that may go along to upstream; the error says why it may not.
pub(super) fn header(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| "this is not the name of a header".to_owned())?;
    match refusal(&folded(name.as_str())) {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(name),
    }
}

/// Reads the name of a header that tells upstream a claim; the error says why it cannot.
pub(super) fn claim_header(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| "this is not the name of a header".to_owned())?;
    let folded = folded(name.as_str());
    if folded.starts_with("tidegate-") {
        return if OURS.iter().any(|ours| ours.as_str() == folded) {
            Err("the contract with the backend has a meaning for it".to_owned())
        } else {
            Ok(name)
        };
    }
    match refusal(&folded) {
        Some(_) => Err("it has a meaning of its own in every request".to_owned()),
        None => Ok(name),
    }
}

/// Why a header is not for the client to set upstream. `name` is folded.
fn refusal(name: &str) -> Option<&'static str> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match name {
        // Trailers of a request are of its body.
        _ if hop::is_hop_by_hop(name) || name == "trailer" => Some("it concerns one hop only and never goes further"),
        "host" | "expect" => Some("it belongs to the request that the client sent, not to ours"),
        "cookie" => Some("cookies have a key of their own, `forward_cookies`"),
        "forwarded" => Some("the gateway sets it itself"),
        "last-event-id" | "accept" | "accept-encoding" | "cache-control" | "idempotency-key" => {
            Some("the gateway sets it itself, as the contract with the backend says")
        }
        _ if begins(&["content-"]) => Some("it describes a body, and the bodies that upstream gets are ours"),
        _ if begins(&["sec-websocket-"]) => Some("it belongs to the WebSocket handshake, which ends at the gateway"),
        _ if begins(&["tidegate-", "x-forwarded-"]) => Some("the gateway sets headers of this kind itself"),
        _ => None,
    }
}

/// Whether a text can be the name of a query parameter: one that no client has a reason to encode.
pub(super) fn is_parameter(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// Whether a text is a media type with or without parameters (RFC 9110 section 8.3.1).
pub(super) fn is_media_type(text: &str) -> bool {
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or_default().trim_end();
    let is_parameter = |part: &str| {
        part.trim().split_once('=').is_some_and(|(name, value)| {
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            is_token(name) && (is_token(value) || quoted.is_some_and(|value| !value.contains(['"', '\\'])))
        })
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
        && parts.all(is_parameter)
        && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Why a text cannot be the name of one of the contract's own events.
pub(super) fn event_error(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("a name cannot be empty"),
        "message" => Some("`message` is the name of ordinary events"),
        _ if text.contains(['\r', '\n']) => Some("a name cannot hold a line break"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_client_go_along() {
        for name in ["accept-language", "User-Agent", "origin", "traceparent", "x-request-id", "authorization"] {
            assert!(header(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn headers_that_are_not_the_clients_are_refused_with_the_reason() {
        let refused = |name: &str| header(name).expect_err(name);
        assert!(refused("Connection").contains("one hop"));
        assert!(refused("transfer-encoding").contains("one hop"));
        assert!(refused("host").contains("the client sent"));
        assert!(refused("Content-Length").contains("body"));
        assert!(refused("sec-websocket-key").contains("handshake"));
        assert!(refused("Tidegate-Subject").contains("itself"));
        assert!(refused("x-forwarded-for").contains("itself"));
        assert!(refused("tidegate_subject").contains("itself") && refused("Tidegate-identity").contains("itself"));
        assert!(refused("X_Forwarded_For").contains("itself"));
        assert!(refused("forwarded").contains("itself"));
        assert!(refused("cookie").contains("`forward_cookies`"));
        assert!(refused("last-event-id").contains("contract"));
        assert!(refused("a b").contains("not the name"));
        assert!(refused("").contains("not the name"));
    }

    #[test]
    fn claims_have_headers_of_their_own() {
        for name in ["x-tenant", "Tidegate-Tenant", "x_roles", "authorization"] {
            assert!(claim_header(name).is_ok(), "{name}");
        }
        for name in ["tidegate-subject", "Tidegate_Identity", "tidegate-connection"] {
            assert!(claim_header(name).expect_err(name).contains("contract"), "{name}");
        }
        for name in ["host", "connection", "content-length", "Transfer_Encoding", "cookie", "x-forwarded-for", "accept"]
        {
            assert!(claim_header(name).expect_err(name).contains("meaning of its own"), "{name}");
        }
        assert!(claim_header("x tenant").is_err());
    }

    #[test]
    fn media_types_are_recognised() {
        for text in ["text/plain", "text/plain; charset=utf-8", "application/vnd.x+json;v=\"1 2\"", "a/b ;c=d"] {
            assert!(is_media_type(text), "{text}");
        }
        for text in ["", "text", "text/", "/plain", "text/plain; charset", "text/plain;", "a b/c", "text/plain; x=\n"] {
            assert!(!is_media_type(text), "{text}");
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(is_token("__Host-session"));
        assert!(!is_token("a=b") && !is_token("") && !is_token("a;b"));
        assert!(is_parameter("access_token"));
        assert!(!is_parameter("a&b") && !is_parameter("") && !is_parameter("a b"));
        assert_eq!(event_error("tidegate.close"), None);
        assert!(event_error("").is_some() && event_error("message").is_some() && event_error("a\nb").is_some());
    }
}
