//! The WebSocket opening handshake on HTTP/1.1 (RFC 6455 section 4.2) and on HTTP/2 (RFC 8441 section 5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version, request};
use hyper::ext::Protocol;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::settings::Route;
use crate::protocol::headers::is_token;
use crate::protocol::problem::Problem;

/// A handshake that the standard allows.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// Value of `Sec-WebSocket-Accept`; HTTP/2 has none.
    pub accept: Option<HeaderValue>,
    /// The subprotocols on offer, in the client's order.
    pub offered: Vec<&'a str>,
}

/// Whether the request asks for an upgrade at all; a refusal then closes the connection, because the client may already
/// be sending what is no HTTP.
pub(super) fn asks_for_upgrade(fields: &HeaderMap) -> bool {
    fields.contains_key(header::UPGRADE)
}

/// Whether the request asks for a WebSocket, rightly or not.
pub(super) fn asks_for_websocket(head: &request::Parts) -> bool {
    is_extended_connect(head) || has_token(&head.headers, &header::UPGRADE, "websocket")
}

/// Whether the request asks for a WebSocket in the way of HTTP/2: CONNECT with the protocol `websocket` (RFC 8441 section 4).
pub(super) fn is_extended_connect(head: &request::Parts) -> bool {
    let protocol = head.extensions.get::<Protocol>();
    head.method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Checks that the route takes a request in the way in which it asks for another protocol.
///
/// # Errors
///
/// 421 for a WebSocket over HTTP/2 on a route that has them over HTTP/1.1 alone: on a connection of its own, where the name that TLS
/// asked for is the route's, no client is told that it may ask for one. 501 for any other CONNECT, and where there are no
/// WebSockets.
pub(super) fn check_way(head: &request::Parts, route: &Route) -> Result<(), Problem> {
    if is_extended_connect(head) {
        let problem = || {
            let why = "WebSockets are not spoken over HTTP/2 here: ask for this one over HTTP/1.1";
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "http2-websocket-off", why)
        };
        if route.bridge.is_some() || route.legacy.is_some() {
            return route.websocket_over_http2.then_some(()).ok_or_else(problem);
        }
    }
    if head.method == Method::CONNECT {
        let why = "CONNECT opens WebSockets over HTTP/2 here, and nothing else";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "connect-unsupported", why));
    }
    Ok(())
}

/// Checks a handshake, in the form of the version that it came with.
///
/// # Errors
///
/// 405 for another method than GET, or than CONNECT on HTTP/2, 426 for no upgrade or another version of the protocol, 400 with
/// the reason for anything else.
pub fn check(head: &request::Parts) -> Result<Handshake<'_>, Problem> {
    let accept = if is_extended_connect(head) { None } else { Some(check_upgrade(head)?) };
    let fields = &head.headers;
    match single(fields, &header::SEC_WEBSOCKET_VERSION) {
        Ok("13") => {}
        Ok(_) => return Err(upgrade_required("only version 13 of the WebSocket protocol is spoken here")),
        Err(Missing) => return Err(bad_request("Sec-WebSocket-Version must be given once")),
    }
    let accept = accept.map(|()| accept_key(fields)).transpose()?;
    if fields.contains_key(header::TRANSFER_ENCODING) || single(fields, &header::CONTENT_LENGTH).is_ok_and(|n| n != "0")
    {
        return Err(bad_request("a WebSocket handshake has no body"));
    }
    Ok(Handshake { accept, offered: offered(fields)? })
}

/// What only HTTP/1.1 has: the method, and the upgrade itself.
fn check_upgrade(head: &request::Parts) -> Result<(), Problem> {
    let fields = &head.headers;
    if head.method != Method::GET {
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "a WebSocket is asked for by GET",
        )
        .with_header(header::ALLOW, HeaderValue::from_static("GET")));
    }
    if !has_token(fields, &header::UPGRADE, "websocket") {
        return Err(upgrade_required("this is a WebSocket endpoint: ask for an upgrade to websocket"));
    }
    if head.version != Version::HTTP_11 {
        return Err(bad_request("an upgrade needs HTTP/1.1"));
    }
    if !has_token(fields, &header::CONNECTION, "upgrade") {
        return Err(bad_request("the Connection field must contain upgrade"));
    }
    Ok(())
}

/// The proof that the client's key was read (RFC 6455 section 4.2.2, item 5.4).
fn accept_key(fields: &HeaderMap) -> Result<HeaderValue, Problem> {
    let key = single(fields, &header::SEC_WEBSOCKET_KEY)
        .map_err(|Missing| bad_request("Sec-WebSocket-Key must be given once"))?;
    let is_nonce = STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16);
    let accept = is_nonce.then(|| HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()).flatten();
    accept.ok_or_else(|| bad_request("Sec-WebSocket-Key must be 16 bytes in base64"))
}

/// The subprotocols on offer: tokens, each named once (RFC 6455 section 4.1, item 10).
fn offered(fields: &HeaderMap) -> Result<Vec<&str>, Problem> {
    let mut offered = Vec::new();
    for value in fields.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let value = value.to_str().map_err(|_| bad_request("Sec-WebSocket-Protocol must be a list of tokens"))?;
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !is_token(name) {
                return Err(bad_request("Sec-WebSocket-Protocol must be a list of tokens"));
            }
            if offered.contains(&name) {
                return Err(bad_request("Sec-WebSocket-Protocol names a subprotocol twice"));
            }
            offered.push(name);
        }
    }
    Ok(offered)
}

struct Missing;

/// The value of a field that must stand exactly once.
fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Missing> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map(str::trim).map_err(|_| Missing),
        _ => Err(Missing),
    }
}

/// Whether a list field contains a token, in any case.
fn has_token(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    fields
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

fn bad_request(why: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-handshake", why)
}

fn upgrade_required(why: &'static str) -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade-required", why)
        .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
        .with_header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The example of RFC 6455 section 1.3, changed by `fields`: a value replaces, `None` removes.
    fn head(fields: &[(&'static str, Option<&'static str>)]) -> request::Parts {
        let (mut head, ()) = Request::builder()
            .uri("/chat")
            .header("host", "server.example.com")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "chat, superchat")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap()
            .into_parts();
        for (name, value) in fields {
            match value {
                Some(value) => head.headers.insert(*name, HeaderValue::from_static(value)),
                None => head.headers.remove(*name),
            };
        }
        head
    }

    fn status(fields: &[(&'static str, Option<&'static str>)]) -> u16 {
        check(&head(fields)).map_or_else(|problem| problem.status.as_u16(), |_| 101)
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let head = head(&[]);
        let handshake = check(&head).unwrap();
        assert_eq!(handshake.accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.offered, ["chat", "superchat"]);
    }

    #[test]
    fn browsers_that_list_more_than_upgrade_are_accepted() {
        assert_eq!(status(&[("connection", Some("keep-alive, UPGRADE")), ("upgrade", Some("WebSocket"))]), 101);
    }

    #[test]
    fn each_breach_has_its_status() {
        for (status_expected, fields) in [
            (426, ("upgrade", None)),
            (426, ("upgrade", Some("h2c"))),
            (426, ("sec-websocket-version", Some("8"))),
            (400, ("sec-websocket-version", None)),
            (400, ("connection", None)),
            (400, ("connection", Some("close"))),
            (400, ("sec-websocket-key", None)),
            (400, ("sec-websocket-key", Some("short"))),
            (400, ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ"))),
            (400, ("sec-websocket-protocol", Some("a b"))),
            (400, ("sec-websocket-protocol", Some("a, a"))),
            (400, ("content-length", Some("5"))),
            (400, ("transfer-encoding", Some("chunked"))),
        ] {
            assert_eq!(status(&[fields]), status_expected, "{fields:?}");
        }
    }

    #[test]
    fn a_wrong_version_is_told_the_right_one() {
        let head = head(&[("sec-websocket-version", Some("8"))]);
        let problem = check(&head).unwrap_err();
        assert_eq!(problem.headers["sec-websocket-version"], "13");
        assert_eq!(problem.headers["upgrade"], "websocket");
    }

    #[test]
    fn other_methods_and_versions_are_refused() {
        let mut post = head(&[]);
        post.method = Method::POST;
        let problem = check(&post).unwrap_err();
        assert_eq!((problem.status.as_u16(), &problem.headers["allow"]), (405, &HeaderValue::from_static("GET")));
        let mut old = head(&[]);
        old.version = Version::HTTP_10;
        assert_eq!(check(&old).unwrap_err().status, 400);
    }

    #[test]
    fn on_http2_there_is_neither_upgrade_nor_key() {
        let connect = |version: Option<&'static str>, protocol: &'static str| {
            let mut fields = vec![("upgrade", None), ("connection", None), ("sec-websocket-key", None)];
            fields.push(("sec-websocket-version", version));
            let mut head = head(&fields);
            (head.method, head.version) = (Method::CONNECT, Version::HTTP_2);
            head.extensions.insert(Protocol::from_static(protocol));
            head
        };
        let good = connect(Some("13"), "websocket");
        let handshake = check(&good).unwrap();
        assert_eq!((handshake.accept, handshake.offered), (None, vec!["chat", "superchat"]));
        let refused = |head| check(&head).unwrap_err().status.as_u16();
        assert_eq!(refused(connect(None, "websocket")), 400);
        assert_eq!(refused(connect(Some("8"), "websocket")), 426);
        assert_eq!(refused(connect(Some("13"), "connect-udp")), 405);
        let mut get = connect(Some("13"), "websocket");
        get.method = Method::GET;
        assert_eq!(refused(get), 426, "an upgrade cannot be asked for on HTTP/2");
    }

    #[test]
    fn a_field_given_twice_is_not_given_once() {
        let mut twice = head(&[]);
        twice.headers.append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(check(&twice).unwrap_err().status, 400);
    }
}
