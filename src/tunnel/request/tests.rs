use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use http::Request;
use http::header::HeaderName;
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::identity::key::Algorithm;
use crate::identity::signer::PairedKey;
use crate::identity::{Identity, Subject, Way};
use crate::protocol::passing::Host;

const ID: Uuid = Uuid::from_u128(0x019d_d08e_7c51_7b52_8a55_0c3b_1f6f_9b9e);

/// The settings of a pass-through with these lines.
fn settings(lines: &str) -> Settings {
    let text = format!(
        "[auth]\nclaims = [\"tenant\"]\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n\
         [upstream.old]\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [[route]]\npath = \"/rooms/{{room}}\"\nauth = \"none\"\n[route.legacy]\nupstream = \"old\"\n{lines}\n"
    );
    let config = Config::parse(&text, "test.toml", Path::new("")).unwrap_or_else(|problems| panic!("{problems}"));
    Settings::clone(config.routes[0].legacy.as_ref().unwrap())
}

/// The handshake for a client with these fields, which offers `app.v2` and asks for `/rooms/a%20b`.
fn made(query: &str, client: &[(&str, &str)], settings: &Settings, identity: Option<&Identity>) -> Handshake {
    let mut head = Request::get(format!("/rooms/a%20b{query}")).body(()).unwrap().into_parts().0;
    for (name, value) in client {
        head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let peer = SocketAddr::from(([192, 0, 2, 7], 40_000));
    let (captures, offered) = ([("room", "a%20b")], ["app.v2", "app.v1"]);
    let asked = Asked {
        head: &head,
        captures: &captures,
        host: "a.example",
        peer,
        tls: true,
        offered: &offered,
        identity,
        turn: None,
    };
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let key = PairedKey::new("k1".into(), Algorithm::ES256, pem.as_bytes()).unwrap();
    let signer = Arc::new(Signer::new(vec![key], "tidegate".into(), Duration::from_mins(1)).unwrap());
    let now = UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    handshake(&asked, settings, Some(&signer), ID, "dGhlIHNhbXBsZSBub25jZQ==", now).unwrap()
}

fn values<'a>(made: &'a Handshake, name: &str) -> Vec<&'a str> {
    made.request.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn the_backend_sees_the_clients_own_request() {
    let client = [
        ("origin", "https://a.example"),
        ("user-agent", "old-client/1.0"),
        ("authorization", "Basic YTpi"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("x-app", "1"),
        ("x-app", "2"),
    ];
    let made = made("?token=theirs&ticket=ours&x=%zz", &client, &settings(""), None);
    assert_eq!(made.request.target, "/rooms/a%20b?token=theirs&x=%zz");
    assert_eq!(made.host.as_ref().unwrap(), "a.example");
    for (name, values_wanted) in [
        ("origin", &["https://a.example"][..]),
        ("user-agent", &["old-client/1.0"]),
        ("authorization", &["Basic YTpi"]),
        ("cookie", &["a=1; b=2"]),
        ("x-app", &["1", "2"]),
        ("sec-websocket-extensions", &["permessage-deflate; client_max_window_bits"]),
        ("sec-websocket-protocol", &["app.v2, app.v1"]),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ=="]),
        ("sec-websocket-version", &["13"]),
        ("upgrade", &["websocket"]),
        ("connection", &["Upgrade"]),
        ("x-forwarded-for", &["192.0.2.7"]),
        ("x-forwarded-proto", &["https"]),
        ("tidegate-connection", &["019dd08e-7c51-7b52-8a55-0c3b1f6f9b9e"]),
    ] {
        assert_eq!(values(&made, name), values_wanted, "{name}");
    }
    assert_eq!(made.extensions, ["permessage-deflate"]);
}

#[test]
fn what_is_the_gateways_to_say_cannot_be_said_by_a_client_however_it_is_written() {
    let settings = settings("claim_headers = { tenant = \"X-Tenant\" }");
    let client = [
        ("connection", "Upgrade, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "5"),
        ("te", "trailers"),
        ("content-length", "0"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("sec-websocket-protocol", "tidegate.ticket.secret, app.v2"),
        ("tidegate-subject", "eve"),
        ("Tidegate_Subject", "eve"),
        ("x-tenant", "eve"),
        ("X_Tenant", "eve"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("X_Forwarded_For", "10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
    ];
    let made = made("", &client, &settings, None);
    let all = format!("{:?}", made.request.headers);
    for word in ["eve", "10.0.0.1", "secret", "AAAA", "x-hop", "keep-alive", "\"te\"", "content-length"] {
        assert!(!all.contains(word), "{word} in {all}");
    }
}

#[test]
fn the_route_says_where_the_backend_is_asked_and_by_which_name() {
    let lines = "path = \"/ws/{room}?v=1\"\nhost = \"old.example:8080\"\ncredential_params = [\"token\"]";
    let made = made("?token=theirs&ticket=ours&x=1", &[], &settings(lines), None);
    assert_eq!(made.request.target, "/ws/a%20b?v=1&x=1");
    assert_eq!(made.host.unwrap(), "old.example:8080");
    assert_eq!(settings("host = \"upstream\"").host, Host::Upstream);
}

#[test]
fn who_the_client_is_is_told_as_on_the_bridge() {
    let serde_json::Value::Object(claims) = json!({"tenant": "acme", "other": 1}) else { unreachable!() };
    let subject = Subject::new("Ada Löv").unwrap();
    let ada = Identity { subject, claims, issued: None, expires: None, way: Way::Ticket, ticket: None, keys: vec![] };
    let mut settings = settings("claim_headers = { tenant = \"X-Tenant\" }");
    settings.identity_token = Some("old".into());
    let made = made("", &[], &settings, Some(&ada));
    assert_eq!(values(&made, "tidegate-subject"), ["Ada%20L%C3%B6v"]);
    assert_eq!(values(&made, "x-tenant"), ["acme"]);
    assert_eq!(values(&made, "tidegate-identity")[0].split('.').count(), 3);
    assert!(!format!("{:?}", made.request.headers).contains(values(&made, "tidegate-identity")[0]));
}
