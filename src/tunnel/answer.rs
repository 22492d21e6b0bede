//! What a backend's answer to the handshake means (RFC 6455 section 4.1, "the client MUST validate").

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response;

use super::request::offered_extensions;
use crate::protocol::headers::folded;

/// Fields of a 101 that are meant for the hop to the backend, or that the gateway answers in its own words; folded.
const NOT_PASSED: [&str; 15] = [
    "alt-svc",
    "connection",
    "content-length",
    "content-type",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a backend has agreed to.
#[derive(Debug)]
pub(super) struct Agreed {
    /// The subprotocol that it chose.
    pub(super) subprotocol: Option<HeaderValue>,
    /// Fields of its answer that go along to the client, such as cookies and the extensions that it chose.
    pub(super) fields: HeaderMap,
}

/// Checks a 101.
///
/// # Errors
///
/// What is wrong with it, for the log.
pub(super) fn agreed(
    head: &response::Parts,
    accept: &str,
    subprotocols: &[&str],
    extensions: &[String],
) -> Result<Agreed, String> {
    let fields = &head.headers;
    if !has_token(fields, &header::UPGRADE, "websocket") || !has_token(fields, &header::CONNECTION, "upgrade") {
        return Err("upstream answered 101 without switching to a WebSocket".to_owned());
    }
    if single(fields, &header::SEC_WEBSOCKET_ACCEPT)?.map(HeaderValue::as_bytes) != Some(accept.as_bytes()) {
        return Err("upstream answered with a Sec-WebSocket-Accept that does not belong to the key".to_owned());
    }
    let subprotocol = single(fields, &header::SEC_WEBSOCKET_PROTOCOL)?.filter(|chosen| !chosen.is_empty());
    if let Some(chosen) = subprotocol
        && !subprotocols.iter().any(|offered| offered.as_bytes() == chosen.as_bytes())
    {
        return Err("upstream chose a subprotocol that the client does not offer".to_owned());
    }
    if offered_extensions(fields).iter().any(|chosen| !extensions.contains(chosen)) {
        return Err("upstream chose an extension that the client does not offer".to_owned());
    }
    // Copies: the values are slices of the buffer that the whole answer was read into.
    let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
    let named = |name: &HeaderName| {
        let connection = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        connection.flat_map(|value| value.split(',')).any(|hop| hop.trim().eq_ignore_ascii_case(name.as_str()))
    };
    let mut passed = HeaderMap::new();
    for (name, value) in fields {
        let word = folded(name.as_str());
        if !NOT_PASSED.contains(&word.as_str())
            && !word.starts_with("tidegate-")
            && !named(name)
            && let Some(mut value) = copy(value)
        {
            value.set_sensitive(*name == header::SET_COOKIE);
            passed.append(name.clone(), value);
        }
    }
    Ok(Agreed { subprotocol: subprotocol.and_then(copy), fields: passed })
}

/// A field that must not stand more than once.
fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, String> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(format!("upstream answered with more than one {name}")),
    }
}

/// Whether a list field contains a token, in any case.
fn has_token(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests;
