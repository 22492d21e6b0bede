use std::net::SocketAddr;

use http::{Request, request};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::protocol::headers::folded;
use crate::protocol::query;
use crate::protocol::template::Template;
use crate::proxy::test_settings;

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(target).version(Version::HTTP_11);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn outgoing_of(head: &request::Parts, settings: &Settings) -> Result<Outgoing, Problem> {
    let peer = SocketAddr::from(([192, 0, 2, 1], 1));
    let captures = [("rest", "a%2Fb/c")];
    let asked =
        Asked { id: Uuid::nil(), head, captures: &captures, host: "app.example", peer, tls: true, identity: None };
    outgoing(&asked, settings, vec![(headers::TIDEGATE_SUBJECT, HeaderValue::from_static("ada"))])
}

fn sent(target: &str, fields: &[(&str, &str)], settings: &Settings) -> Outgoing {
    outgoing_of(&head("GET", target, fields), settings).unwrap()
}

fn all(outgoing: &Outgoing, name: &str) -> Vec<String> {
    outgoing.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[test]
fn without_credentials_a_target_goes_on_byte_for_byte() {
    let settings = test_settings();
    for target in
        ["/", "/a%20b//c;x?", "/a?b&&c==%zz&tickets=1", "/...", "/a.b/.well-known/x..y", "/%2fx", "/a?next=../b"]
    {
        assert_eq!(sent(target, &[], &settings).target.as_str(), target);
    }
    for (target, left) in [("/a?ticket=x", "/a"), ("/a?b&%74icket=x&&c", "/a?b&c"), ("/a?ticket", "/a")] {
        assert_eq!(sent(target, &[], &settings).target.as_str(), left);
    }
}

#[test]
fn a_path_of_the_route_takes_captures_and_the_query_follows() {
    let path = Some(Template::parse("/in/{rest}?by=gate", &["rest"]).unwrap());
    let settings = Settings { path, ..test_settings() };
    assert_eq!(sent("/x?a=1&&b", &[], &settings).target.as_str(), "/in/a%2Fb/c?by=gate&a=1&&b");
    assert_eq!(sent("/x", &[], &settings).target.as_str(), "/in/a%2Fb/c?by=gate");
}

#[test]
fn only_the_gateway_says_who_the_client_is() {
    let settings = Settings {
        claim_headers: vec![("tenant".to_owned(), HeaderName::from_static("x-tenant"))],
        request_headers: Edits {
            set: vec![(HeaderName::from_static("x-set"), HeaderValue::from_static("1"))],
            remove: vec![HeaderName::from_static("x-gone")],
        },
        ..test_settings()
    };
    let fields = [
        ("tidegate-subject", "root"),
        ("tidegate_subject", "root"),
        ("x-tenant", "other"),
        ("x_tenant", "other"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-port", "1"),
        ("x_forwarded_proto", "http"),
        ("forwarded", "for=203.0.113.1"),
        ("x-real-ip", "203.0.113.1"),
        ("content_length", "1"),
        ("transfer_encoding", "chunked"),
        ("proxy", "http://evil.example"),
        ("x-set", "mine"),
        ("x-gone", "1"),
        ("x-kept", "1"),
        ("x-kept", "2"),
    ];
    let sent = sent("/x", &fields, &settings);
    assert_eq!(all(&sent, "tidegate-subject"), ["ada"]);
    assert_eq!(all(&sent, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(all(&sent, "forwarded"), ["for=192.0.2.1;host=app.example;proto=https"]);
    assert_eq!(
        (all(&sent, "x-set"), all(&sent, "x-kept")),
        (vec!["1".to_owned()], vec!["1".to_owned(), "2".to_owned()])
    );
    let gone = ["content_length", "transfer_encoding", "proxy", "x-gone"];
    for name in ["tidegate_subject", "x-tenant", "x_tenant", "x-forwarded-port", "x_forwarded_proto", "x-real-ip"]
        .into_iter()
        .chain(gone)
    {
        assert_eq!(all(&sent, name), [""; 0], "{name}");
    }
}

#[test]
fn cookies_become_one_field() {
    let sent = sent("/x", &[("cookie", "a=1; b=2"), ("cookie", "c=3")], &test_settings());
    assert_eq!(all(&sent, "cookie"), ["a=1; b=2; c=3"]);
    assert!(sent.headers["cookie"].is_sensitive());
}

#[test]
fn what_asks_for_events_and_for_a_100_is_noticed() {
    let settings = test_settings();
    let asks = |accept: &str| sent("/x", &[("accept", accept)], &settings).asks_for_events;
    assert!(asks("text/event-stream") && asks("text/html, Text/Event-Stream;q=0.9"));
    assert!(!asks("*/*") && !asks("text/event-streams"));
    let mut head = head("PUT", "/x", &[("expect", "100-Continue")]);
    assert!(outgoing_of(&head, &settings).unwrap().expects_continue);
    head.version = Version::HTTP_10;
    let old = outgoing_of(&head, &settings).unwrap();
    assert!(!old.expects_continue && !old.headers.contains_key("expect"));
}

#[test]
fn a_circle_ends() {
    let by = |visits: usize| {
        let via = vec!["1.1 tidegate"; visits].join(", ");
        outgoing_of(&head("GET", "/x", &[("via", "1.1 front"), ("via", &via)]), &test_settings())
    };
    assert!(by(7).is_ok());
    assert_eq!(by(8).unwrap_err().status, StatusCode::LOOP_DETECTED);
}

proptest! {
    #[test]
    fn no_field_for_this_hop_and_none_of_ours_passes_whatever_is_sent(
        names in prop::collection::vec("(connection|te|upgrade|keep[-_]alive|transfer[-_]encoding|x-[a-c]|Tidegate[-_][a-c]|X[-_]Forwarded[-_][a-c]|cookie)", 0..12),
        connection in "(x-a|x-b|close|keep-alive)(, ?(x-a|x-c))?",
    ) {
        let mut fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        fields.push(("connection", &connection));
        let sent = sent("/x", &fields, &test_settings());
        for name in sent.headers.keys() {
            let ours = ["tidegate-connection", "tidegate-subject", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
            let name = folded(name.as_str());
            prop_assert!(!crate::protocol::hop::is_hop_by_hop(&name), "{name}");
            prop_assert!(!name.starts_with("tidegate-") && !name.starts_with("x-forwarded-") || ours.contains(&&*name), "{name}");
            prop_assert!(!connection.split(',').any(|named| named.trim() == name), "{name}");
        }
    }

    #[test]
    fn no_ticket_goes_along_whatever_is_asked_for(target in "/[ -~]{0,20}[?](%74|[a-z&=+%?])?(ticket|t|%74icket|&){1,4}(=?[a-z&;]{0,5})") {
        let Ok(uri) = http::Uri::try_from(&target) else { return Ok(()) };
        let mut head = head("GET", "/", &[]);
        head.uri = uri;
        if let Ok(sent) = outgoing_of(&head, &test_settings()) {
            let query = sent.target.query().unwrap_or_default();
            prop_assert!(!query.split('&').any(|pair| query::decode(pair.split('=').next().unwrap()) == "ticket"), "{query}");
        }
    }
}
