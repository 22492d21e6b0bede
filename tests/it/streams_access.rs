//! Who may open an event stream through the proxy, come back to it, and read it from a page of another origin.

use http::Method;
use serde_json::json;

use crate::support::access::{SECTIONS, bearer, bearer_with, files, now};
use crate::support::http::{Answered, plain};
use crate::support::native::Native;
use crate::support::upstream::{EventSender, field};
use crate::support::{FakeUpstream, TestGateway, must};

const PAGE: (&str, &str) = ("origin", "https://app.example.com");

/// A gateway without TLS whose route `/events` lets in by `auth`, and pages of one other origin.
fn gateway(upstream: &FakeUpstream, auth: &str, proxy_keys: &str) -> TestGateway {
    let address = upstream.address;
    let toml = format!(
        r#"
[admin]
address = "127.0.0.1:0"
[[listener]]
address = "127.0.0.1:0"
tls = false
{SECTIONS}
[upstream.app]
endpoints = ["http://{address}"]

[[route]]
path = "/events"
auth = {auth}
origins = ["https://app.example.com"]
[route.proxy]
upstream = "app"
{proxy_keys}
"#
    );
    TestGateway::from_files(&toml, files())
}

/// A ticket for whoever this token speaks for, as the page gets it.
async fn ticket(gateway: &TestGateway, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let fields = [("content-type", "application/json"), ("authorization", &bearer), PAGE];
    let answered = plain(gateway.address(), Method::POST, "/stream-ticket", &fields, "{}").await;
    answered.json()["ticket"].as_str().unwrap_or_else(|| panic!("{answered:?}")).to_owned()
}

/// Opens a stream that upstream accepts; gives what upstream saw of its cookies as well.
async fn open(
    upstream: &mut FakeUpstream,
    gateway: &TestGateway,
    target: &str,
    fields: &[(&str, &str)],
) -> (Native, EventSender, String) {
    let accept = async {
        let open = upstream.next_open().await;
        assert_eq!(open.head.uri, "/events", "no ticket goes upstream");
        let cookies = field(&open.head.headers, "cookie").to_owned();
        (open.accept(), cookies)
    };
    let (client, (events, cookies)) = tokio::join!(Native::events(gateway.address(), target, fields), accept);
    assert_eq!(client.status, 200);
    (client, events, cookies)
}

async fn refused(gateway: &TestGateway, target: &str, fields: &[(&str, &str)]) -> Answered {
    let fields: Vec<_> = [("accept", "text/event-stream")].into_iter().chain(fields.iter().copied()).collect();
    plain(gateway.address(), Method::GET, target, &fields, "").await
}

/// The cookie that an answer sets, as it is sent back.
fn pass(client: &Native) -> String {
    let cookie = client.field("set-cookie");
    for attribute in ["; Path=/events;", "; Secure;", "; HttpOnly;", "; SameSite=None; Partitioned", "; Max-Age="] {
        assert!(cookie.contains(attribute), "{attribute} in {cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_stream_opened_by_ticket_is_come_back_to_with_the_same_ticket_and_the_pass() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "\"ticket\"", "");
    let target = format!("/events?ticket={}", ticket(&gateway, &bearer("ada")).await);
    let (client, _events, _) = open(&mut upstream, &gateway, &target, &[PAGE]).await;
    assert_eq!(client.field("access-control-allow-origin"), "https://app.example.com");
    let mut cookie = format!("sid=1; {}", pass(&client));
    for _ in 0..3 {
        let (again, events, seen) = open(&mut upstream, &gateway, &target, &[PAGE, ("cookie", &cookie)]).await;
        assert_eq!(seen, "sid=1", "the pass does not go upstream");
        events.end();
        cookie = format!("sid=1; {}", pass(&again));
    }
    let spent = refused(&gateway, &target, &[PAGE]).await;
    assert_eq!((spent.status, spent.kind().as_str()), (401, "ticket-spent"), "the URL alone is worth nothing");
    assert_eq!(spent.field("access-control-allow-origin"), PAGE.1, "and the page may read why");
    let alone = refused(&gateway, "/events", &[PAGE, ("cookie", &cookie)]).await;
    assert_eq!(alone.kind(), "ticket-missing", "nor is the cookie");
    let eves = format!("/events?ticket={}", ticket(&gateway, &bearer("eve")).await);
    let (_eve, _events, _) = open(&mut upstream, &gateway, &eves, &[PAGE]).await;
    let mixed = refused(&gateway, &eves, &[PAGE, ("cookie", &cookie)]).await;
    assert_eq!(mixed.kind(), "ticket-spent", "a pass is for tickets of its own subject");
    let page = [PAGE, ("cookie", &cookie), ("accept", "text/html")];
    assert_eq!(plain(gateway.address(), Method::GET, &target, &page, "").await.kind(), "ticket-spent");
}

#[tokio::test]
async fn a_client_that_finds_upstream_away_has_spent_its_ticket_and_comes_back_all_the_same() {
    let upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "\"ticket\"", "");
    let target = format!("/events?ticket={}", ticket(&gateway, &bearer("ada")).await);
    let address = upstream.kill().await;
    let mut away = Native::events(gateway.address(), &target, &[PAGE]).await;
    assert!(away.rest().await.starts_with("retry: "));
    let cookie = pass(&away);
    let mut upstream = FakeUpstream::start_again_at(address).await;
    let (_client, _events, _) = open(&mut upstream, &gateway, &target, &[PAGE, ("cookie", &cookie)]).await;
}

#[tokio::test]
async fn a_stream_ends_with_the_identity_of_its_client() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "\"bearer\"", "");
    let token = format!("Bearer {}", bearer_with(&json!({"sub": "ada", "exp": now() + 2})));
    let (mut client, events, _) = open(&mut upstream, &gateway, "/events", &[("authorization", &token)]).await;
    assert!(client.rest().await.starts_with("retry: "));
    must("the end of the event stream", events.cancelled()).await;
}

#[tokio::test]
async fn a_stream_whose_client_is_sent_away_ends_and_is_not_come_back_to() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "\"ticket\"", "");
    let target = format!("/events?ticket={}", ticket(&gateway, &bearer("ada")).await);
    let (mut ada, events, _) = open(&mut upstream, &gateway, &target, &[PAGE]).await;
    let eves = format!("/events?ticket={}", ticket(&gateway, &bearer("eve")).await);
    let (mut eve, eves_events, _) = open(&mut upstream, &gateway, &eves, &[PAGE]).await;
    let (cookie, json) = (pass(&ada), [("content-type", "application/json")]);
    let admin = gateway.gateway.admin_address().unwrap();
    let revoked = plain(admin, Method::POST, "/revocations", &json, r#"{"subject":"ada"}"#).await;
    assert_eq!(revoked.json()["closed"], 1);
    ada.rest().await;
    events.cancelled().await;
    let again = refused(&gateway, &target, &[PAGE, ("cookie", &cookie)]).await;
    assert_eq!(again.status, 401, "{again:?}");
    eves_events.send("data: still here\n\n").await;
    eve.until("still here\n\n").await;
}

#[tokio::test]
async fn pages_of_listed_origins_are_let_in_by_the_gateway_and_others_are_not() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "\"bearer\"", "");
    let asked =
        [("access-control-request-method", "PUT"), ("access-control-request-headers", "authorization, last-event-id")];
    let preflight = async |origin| {
        let fields: Vec<_> = asked.into_iter().chain([origin]).collect();
        plain(gateway.address(), Method::OPTIONS, "/events", &fields, "").await
    };
    let answered = preflight(PAGE).await;
    assert_eq!((answered.status, answered.field("access-control-allow-origin")), (204, PAGE.1), "without any proof");
    assert_eq!(answered.field("access-control-allow-methods"), "PUT");
    assert_eq!(answered.field("access-control-allow-headers"), "authorization, last-event-id");
    assert_eq!(answered.field("access-control-allow-credentials"), "true");
    let foreign = preflight(("origin", "https://evil.example")).await;
    assert_eq!((foreign.status, foreign.field("access-control-allow-origin")), (403, ""));
    upstream.assert_untouched();

    let token = format!("Bearer {}", bearer("ada"));
    let fields = [PAGE, ("authorization", token.as_str())];
    let answer = async {
        let allowed = [("access-control-allow-origin", "*"), ("access-control-expose-headers", "x-own")];
        upstream.next_open().await.accept_with(&allowed)
    };
    let (client, _events) = tokio::join!(Native::events(gateway.address(), "/events", &fields), answer);
    assert_eq!(client.field("access-control-allow-origin"), PAGE.1, "what upstream says does not count");
    let exposed: Vec<_> = client.fields.get_all("access-control-expose-headers").iter().collect();
    assert_eq!(exposed, ["retry-after, tidegate-connection", "x-own"]);
    assert_eq!(refused(&gateway, "/events", &[("origin", "https://evil.example")]).await.status, 403);
}

#[tokio::test]
async fn upstream_speaks_cors_itself_where_it_is_left_to() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "\"none\"", "cors = \"upstream\"");
    let answer = async { upstream.next_open().await.accept_with(&[("access-control-allow-origin", "*")]) };
    let (client, _events) = tokio::join!(Native::events(gateway.address(), "/events", &[PAGE]), answer);
    assert_eq!(client.field("access-control-allow-origin"), "*");
    let asked = [PAGE, ("access-control-request-method", "PUT")];
    let asking = plain(gateway.address(), Method::OPTIONS, "/events", &asked, "");
    let (answered, ()) = tokio::join!(asking, async { upstream.next_post().await.accept() });
    assert_eq!((answered.status, answered.field("access-control-allow-methods")), (204, ""));
}
