use http::{Response, StatusCode};

use super::*;

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn answer(fields: &[(&'static str, &'static str)]) -> Result<Agreed, String> {
    let mut response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let usual = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"), ("sec-websocket-accept", ACCEPT)];
    let is_given = |name: &str| fields.iter().any(|(given, _)| *given == name);
    for (name, value) in usual.iter().filter(|(name, _)| !is_given(name)).chain(fields).filter(|(_, v)| !v.is_empty()) {
        response = response.header(*name, *value);
    }
    let (head, ()) = response.body(()).unwrap().into_parts();
    agreed(&head, ACCEPT, &["chat", "superchat"], &["permessage-deflate".to_owned()])
}

#[test]
fn an_answer_that_no_client_may_accept_is_none() {
    for fields in [
        &[("upgrade", "")][..],
        &[("upgrade", "h2c")],
        &[("connection", "")],
        &[("connection", "close")],
        &[("sec-websocket-accept", "")],
        &[("sec-websocket-accept", "dGhlIHNhbXBsZSBub25jZQ==")],
        &[("sec-websocket-accept", ACCEPT), ("sec-websocket-accept", ACCEPT)],
        &[("sec-websocket-protocol", "other")],
        &[("sec-websocket-protocol", "chat, superchat")],
        &[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "chat")],
        &[("sec-websocket-extensions", "x-webkit-deflate-frame")],
        &[("sec-websocket-extensions", "permessage-deflate, other; a=b")],
    ] {
        assert!(answer(fields).is_err(), "{fields:?}");
    }
}

#[test]
fn what_the_backend_agrees_to_goes_along_with_its_cookies() {
    let agreed = answer(&[
        ("sec-websocket-protocol", "superchat"),
        ("sec-websocket-extensions", "permessage-deflate; server_no_context_takeover"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("connection", "Upgrade, x-hop"),
        ("x-hop", "1"),
        ("tidegate-connection", "mine"),
        ("server", "old"),
    ]);
    let Agreed { subprotocol, fields } = agreed.unwrap();
    assert_eq!(subprotocol.unwrap(), "superchat");
    assert_eq!(fields.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(fields["sec-websocket-extensions"], "permessage-deflate; server_no_context_takeover");
    let names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(answer(&[]).unwrap().subprotocol.is_none());
}
