//! The reverse proxy: what upstream is asked, and what the client is answered.

use std::net::SocketAddr;

use http::Method;
use tokio::net::TcpListener;

use crate::support::http::plain;
use crate::support::raw::Wire;
use crate::support::upstream::{Answer, field};
use crate::support::{FakeUpstream, TestGateway};

/// Everything is passed on to these endpoints. Without TLS, so that scenes can look at the bytes.
pub(crate) fn gateway(endpoints: &[SocketAddr], upstream_keys: &str, proxy_keys: &str) -> TestGateway {
    TestGateway::from_toml(&toml(endpoints, upstream_keys, proxy_keys))
}

pub(crate) fn toml(endpoints: &[SocketAddr], upstream_keys: &str, proxy_keys: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"http://{address}\"")).collect();
    let endpoints = endpoints.join(", ");
    format!(
        r#"
[admin]
address = "127.0.0.1:0"
[[listener]]
address = "127.0.0.1:0"
tls = false

[upstream.app]
endpoints = [{endpoints}]
{upstream_keys}

[[route]]
path = "/{{*rest}}"
auth = "none"
[route.proxy]
upstream = "app"
{proxy_keys}
"#
    )
}

/// A gateway, the upstream's listener, and a client's connection.
pub(crate) async fn raw(proxy_keys: &str) -> (TestGateway, TcpListener, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = gateway(&[listener.local_addr().unwrap()], "", proxy_keys);
    let client = Wire::connect(gateway.address()).await;
    (gateway, listener, client)
}

/// The value of a field in a head as [`Wire::head`] gives it.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn a_request_goes_along_as_it_came_but_for_what_is_for_the_gateway_alone() {
    let (gateway, listener, mut client) = raw("").await;
    client
        .send(
            "GET /a%20b/%2F;p//c?x=1&&y=%2f&ticket=secret&z HTTP/1.1\r\nHost: App.example:81\r\nX-Kept: a  b\r\n\
             Cookie: sid=1\r\nAuthorization: Basic eDp5\r\nIf-None-Match: \"1\"\r\nRange: bytes=0-1\r\n\
             Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: x\r\nTE: gzip\r\n\
             Tidegate-Subject: admin\r\nTidegate_Subject: admin\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_Host: evil\r\n\
             Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nProxy-Authorization: Basic eDp5\r\nVia: 1.0 front\r\n\r\n",
        )
        .await;
    let mut upstream = Wire::accept(&listener).await;
    let head = upstream.until("\r\n\r\n").await;
    // The ticket goes; without one the query stays byte for byte.
    assert!(head.starts_with("GET /a%20b/%2F;p//c?x=1&y=%2f&z HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    for (name, wanted) in [
        ("host", "app.example:81"),
        ("x-kept", "a  b"),
        ("cookie", "sid=1"),
        ("authorization", "basic edp5"),
        ("if-none-match", "\"1\""),
        ("range", "bytes=0-1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "app.example:81"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=127.0.0.1;host=\"app.example:81\";proto=http"),
    ] {
        assert_eq!(value(&head, name), Some(wanted), "{name} in {head}");
    }
    assert!(head.contains("via: 1.0 front\r\nvia: 1.1 tidegate\r\n"), "{head}");
    assert!(value(&head, "tidegate-connection").is_some());
    let gone =
        ["x-hop", "keep-alive", "proxy-connection", "te", "tidegate-subject", "tidegate_subject", "x_forwarded_host"];
    for name in gone.iter().chain(&["x-real-ip", "proxy-authorization", "connection", "content-length"]) {
        assert_eq!(value(&head, name), None, "{name} in {head}");
    }
    client.send("").await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    client.until("\r\n\r\nok").await;
    drop(gateway);
}

#[tokio::test]
async fn an_answer_goes_back_as_it_came_but_for_what_is_for_the_gateway_alone() {
    let (_gateway, listener, mut client) = raw("").await;
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    upstream
        .send(
            "HTTP/1.1 206 Partial Content\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nServer: old/1\r\nETag: \"7\"\r\n\
             Content-Range: bytes 0-1/9\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n\r\nhi",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 206 partial content\r\n"), "{head}");
    for (name, wanted) in [
        ("date", "tue, 15 nov 1994 08:12:31 gmt"),
        ("server", "old/1"),
        ("etag", "\"7\""),
        ("content-range", "bytes 0-1/9"),
        ("content-length", "2"),
    ] {
        assert_eq!(value(&head, name), Some(wanted), "{name} in {head}");
    }
    assert!(head.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n"), "{head}");
    assert!(value(&head, "tidegate-connection").is_some());
    for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade", "connection"] {
        assert_eq!(value(&head, name), None, "{name} in {head}");
    }
    assert_eq!(client.take(2).await, b"hi");
}

#[tokio::test]
async fn answers_without_a_body_leave_both_connections_in_use() {
    let (_gateway, listener, mut client) = raw("").await;
    let mut upstream = None;
    let answers = [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "1000"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", ""),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
    ];
    for (method, answer, length) in answers {
        client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        // One connection serves them all: a second is never made.
        let upstream = match &mut upstream {
            Some(upstream) => upstream,
            none => none.insert(Wire::accept(&listener).await),
        };
        assert!(upstream.head().await.starts_with(&method.to_ascii_lowercase()));
        upstream.send(answer).await;
        let head = client.head().await;
        assert!(head.starts_with(&answer.split('\r').next().unwrap().to_ascii_lowercase()), "{head}");
        assert_eq!(value(&head, "content-length").unwrap_or_default(), length, "{head}");
    }
}

#[tokio::test]
async fn path_host_and_headers_are_changed_as_the_route_says() {
    let mut upstream = FakeUpstream::start().await;
    let own = upstream.address.to_string();
    for (host, told) in [("upstream", own.as_str()), ("client", "shop.example"), ("inner.example:8", "inner.example:8")]
    {
        for protocol in ["http1", "http2"] {
            let keys = format!(
                r#"
host = "{host}"
path = "/inner/{{rest}}?by=gate"
request_headers = {{ set = {{ "X-Gate" = "1" }}, remove = ["Authorization"] }}
response_headers = {{ set = {{ "X-Frame-Options" = "DENY" }}, remove = ["Server"] }}
"#
            );
            let gateway = gateway(&[upstream.address], &format!("protocol = \"{protocol}\""), &keys);
            let fields = [("host", "shop.example"), ("authorization", "Basic x"), ("x-gate", "mine")];
            let (answered, open) =
                tokio::join!(plain(gateway.address(), Method::GET, "/a/b?q=%20", &fields, ""), async {
                    let open = upstream.next_open().await;
                    let head = open.head.clone();
                    open.answer(Answer::status(200).with("server", "old").with("x-frame-options", "ALLOW").body("hi"));
                    head
                });
            assert_eq!(open.uri.path_and_query().unwrap(), "/inner/a/b?by=gate&q=%20");
            let asked =
                open.uri.authority().map_or_else(|| field(&open.headers, "host").to_owned(), ToString::to_string);
            assert_eq!(asked, told, "{host} over {protocol}");
            assert_eq!(field(&open.headers, "x-gate"), "1");
            assert!(!open.headers.contains_key("authorization"));
            assert_eq!((answered.field("x-frame-options"), answered.body.as_str()), ("DENY", "hi"));
            assert!(!answered.fields.contains_key("server"));
        }
    }
}

#[tokio::test]
async fn what_no_upstream_should_see_is_refused() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "");
    for (method, target, fields, status, kind) in [
        (Method::GET, "/public/..;a=1/admin", vec![], 404, "no-route"),
        (Method::TRACE, "/x", vec![], 405, "method-not-allowed"),
        (Method::POST, "/x", vec![("expect", "the-unexpected")], 417, "bad-expectation"),
        (Method::GET, "/x", vec![("via", &*["1.1 tidegate"; 8].join(", "))], 508, "proxy-loop"),
    ] {
        let answered = plain(gateway.address(), method, target, &fields, "").await;
        assert_eq!((answered.status, answered.kind().as_str()), (status, kind), "{target}");
    }
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_place_on_the_route_is_held_until_the_answer_is_over() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "[route.limits]\nconnections = 1");
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (answer, pieces) = Answer::stream();
    upstream.next_open().await.answer(answer.with("content-type", "text/plain"));
    client.head().await;
    let second = plain(gateway.address(), Method::GET, "/x", &[], "").await;
    assert_eq!((second.status, second.kind().as_str()), (503, "too-many-connections-route"));
    pieces.end();
    client.until("0\r\n\r\n").await;
    let (third, ()) = tokio::join!(plain(gateway.address(), Method::GET, "/x", &[], ""), async {
        upstream.next_open().await.answer(Answer::status(200));
    });
    assert_eq!(third.status, 200);
}

#[tokio::test]
async fn what_was_passed_on_is_counted() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "");
    let (answered, ()) = tokio::join!(plain(gateway.address(), Method::POST, "/x", &[], "four"), async {
        upstream.next_post().await.answer(Answer::status(404).body("nothing"));
    });
    assert_eq!((answered.status, answered.body.as_str()), (404, "nothing"));
    let page = plain(gateway.gateway.admin_address().unwrap(), Method::GET, "/metrics", &[], "").await.body;
    for line in [
        r#"tidegate_proxied_answers_total{route="/{*rest}",status="4xx"} 1"#,
        r#"tidegate_proxied_ended_total{route="/{*rest}",cause="complete"} 1"#,
        r#"tidegate_proxied_up_bytes_total{route="/{*rest}"} 4"#,
        r#"tidegate_proxied_down_bytes_total{route="/{*rest}"} 7"#,
        r#"tidegate_proxied_under_way{route="/{*rest}"} 0"#,
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
}
