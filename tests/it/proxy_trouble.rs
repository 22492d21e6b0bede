//! The reverse proxy when something goes wrong: nobody waits for who is gone, and nothing broken looks whole.

use std::net::SocketAddr;

use http::Method;
use tokio::net::TcpListener;

use crate::proxy::{gateway, raw, toml};
use crate::support::http::plain;
use crate::support::process::GatewayProcess;
use crate::support::raw::Wire;
use crate::support::upstream::Answer;
use crate::support::{FakeUpstream, must};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_answer_that_breaks_off_upstream_breaks_off_at_the_client() {
    let beginnings = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    ];
    for beginning in beginnings {
        let (_gateway, listener, mut client) = raw("").await;
        client.send(GET).await;
        let mut upstream = Wire::accept(&listener).await;
        upstream.head().await;
        upstream.send(beginning).await;
        client.until("half").await;
        drop(upstream);
        let rest = client.rest().await;
        assert!(!rest.contains('0'), "the connection is cut before the end: {rest:?}");
    }
}

#[tokio::test]
async fn over_http2_a_stream_that_is_reset_breaks_the_answer_off() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "protocol = \"http2\"", "");
    let mut client = Wire::connect(gateway.address()).await;
    client.send(GET).await;
    let (answer, pieces) = Answer::stream();
    upstream.next_open().await.answer(answer.with("content-type", "text/plain"));
    pieces.send("half").await;
    client.until("half").await;
    pieces.cut().await;
    assert!(!client.rest().await.contains('0'));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    // While upstream still thinks, and in the middle of the answer.
    for begun in [false, true] {
        let (_gateway, listener, mut client) = raw("").await;
        client.send(GET).await;
        let mut upstream = Wire::accept(&listener).await;
        upstream.head().await;
        if begun {
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
            client.until("half").await;
        }
        drop(client);
        assert_eq!(upstream.rest().await, "", "upstream sees the end of its connection");
    }
    // In the middle of its own request.
    let (_gateway, listener, mut client) = raw("").await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.until("half").await;
    drop(client);
    assert_eq!(upstream.rest().await, "");
}

#[tokio::test]
async fn over_http2_a_client_that_leaves_costs_its_stream_and_not_the_connection() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "protocol = \"http2\"", "");
    for _ in 0..3 {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(GET).await;
        let (answer, pieces) = Answer::stream();
        upstream.next_open().await.answer(answer.with("content-type", "text/plain"));
        pieces.send("half").await;
        client.until("half").await;
        drop(client);
        pieces.cancelled().await;
    }
    assert_eq!(upstream.connections(), 1);
}

/// An address where nobody is.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn what_upstream_cannot_have_seen_goes_to_another_endpoint_whatever_it_is() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[nobody().await, upstream.address], "", "retries = 0");
    for _ in 0..4 {
        let (answered, body) = tokio::join!(plain(gateway.address(), Method::POST, "/x", &[], "once"), async {
            let post = upstream.next_post().await;
            let body = post.body.clone();
            post.answer(Answer::status(201));
            body
        });
        assert_eq!((answered.status, &body[..]), (201, &b"once"[..]));
    }
}

/// What a client is answered whose request meets endpoints of which the first breaks the connection, and how many
/// connections broke.
async fn broken_first(method: &str, keys: &str) -> (String, usize) {
    let (bad, good) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let gateway = gateway(&[bad.local_addr().unwrap(), good.local_addr().unwrap()], "", keys);
    let mut broken = 0;
    loop {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let serve = async {
            loop {
                tokio::select! {
                    mut wire = Wire::accept(&bad) => {
                        wire.head().await;
                        broken += 1;
                    }
                    mut wire = Wire::accept(&good) => {
                        wire.head().await;
                        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                    }
                }
            }
        };
        let head = tokio::select! {
            head = client.head() => head,
            () = serve => unreachable!(),
        };
        // Endpoints take turns: the one that breaks is not always the first.
        if broken > 0 {
            return (head, broken);
        }
    }
}

#[tokio::test]
async fn what_can_be_repeated_is_sent_again_when_a_connection_breaks_and_nothing_else_is() {
    for (method, keys, status) in [
        ("GET", "", "200"),
        ("DELETE", "", "200"),
        ("POST", "", "502"),
        ("PATCH", "", "502"),
        ("GET", "retries = 0", "502"),
    ] {
        let (head, broken) = broken_first(method, keys).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{method} {keys}: {head}");
        assert_eq!(broken, 1, "{method} {keys}");
    }
}

#[tokio::test]
async fn retries_have_an_end_and_a_request_that_was_begun_is_not_sent_again() {
    let (_gateway, listener, mut client) = raw("retries = 3").await;
    client.send(GET).await;
    for _ in 0..4 {
        Wire::accept(&listener).await.head().await;
    }
    assert!(client.head().await.starts_with("http/1.1 502 "));
    let (_gateway, listener, mut client) = raw("retries = 3").await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour").await;
    Wire::accept(&listener).await.until("four").await;
    let answer = client.until("\"}").await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-unreachable"), "{answer}");
}

#[tokio::test]
async fn an_endpoint_that_fails_again_and_again_is_left_alone() {
    let keys = "breaker = { failures = 2, open_for = \"1h\", max_open_for = \"1h\" }";
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], keys, "");
    let ask = || plain(gateway.address(), Method::GET, "/x", &[], "");
    for _ in 0..2 {
        let (answered, ()) = tokio::join!(ask(), async { upstream.next_open().await.answer(Answer::status(502)) });
        assert_eq!(answered.status, 502, "upstream's own answer");
    }
    let answered = ask().await;
    assert_eq!((answered.status, answered.kind().as_str()), (503, "upstream-unavailable"));
    assert!(answered.field("retry-after").parse::<u32>().unwrap() > 60);
    upstream.assert_untouched();
}

#[tokio::test]
async fn every_phase_has_its_limit() {
    let keys = "response_timeout = \"200ms\"\nread_timeout = \"200ms\"\nsend_timeout = \"200ms\"";
    // The head of the answer.
    let (gateway, listener, mut client) = raw(keys).await;
    client.send(GET).await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    let answer = client.until("\"}").await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("upstream-timeout"), "{answer}");
    assert_eq!(upstream.rest().await, "");
    // Between two pieces of it.
    let mut client = Wire::connect(gateway.address()).await;
    client.send(GET).await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    client.until("half").await;
    assert_eq!(client.rest().await, "");
    assert_eq!(upstream.rest().await, "");
    // Between two pieces of the request, which is not upstream's fault.
    let mut client = Wire::connect(gateway.address()).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.until("half").await;
    let answer = client.until("\"}").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request-stalled"), "{answer}");
    assert_eq!(upstream.rest().await, "");
}

#[tokio::test]
async fn an_upload_over_http2_that_stalls_is_answered_too() {
    let upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "protocol = \"http2\"", "send_timeout = \"200ms\"");
    let mut client = Wire::connect(gateway.address()).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert!(client.head().await.starts_with("http/1.1 408 "));
}

#[tokio::test]
async fn another_protocol_that_nobody_asked_for_is_a_bad_answer() {
    let (_gateway, listener, mut client) = raw("").await;
    client.send(GET).await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n").await;
    let answer = client.until("\"}").await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream-unusable"), "{answer}");
}

#[tokio::test]
async fn every_request_that_was_passed_on_has_its_line_and_none_shows_a_query() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let toml = format!("log.format = \"json\"\n{}", toml(&[listener.local_addr().unwrap()], "", ""));
    let mut gateway = GatewayProcess::start(&toml).await;
    for (rest, cause) in [("half+half", "complete"), ("half", "upstream-broken")] {
        let mut client = Wire::connect(gateway.address).await;
        client.send("POST /x?key=hush HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        let mut upstream = Wire::accept(&listener).await;
        upstream.until("hi").await;
        upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{rest}")).await;
        drop(upstream);
        let line = gateway.process.stderr.next("the line of the request", |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["message"] == "request proxied").then_some(line)
        });
        let line = must("the line", line).await;
        let told = (&line["method"], &line["status"], &line["cause"], &line["bytes_up"], &line["bytes_down"]);
        let wanted = ("POST".into(), 200.into(), cause.into(), 2.into(), rest.len().into());
        assert_eq!(told, (&wanted.0, &wanted.1, &wanted.2, &wanted.3, &wanted.4));
        assert_eq!((&line["route"], &line["upstream"]), (&"/{*rest}".into(), &"app".into()));
        let id = line["connection"].as_str().unwrap();
        assert!(client.head().await.contains(&format!("tidegate-connection: {id}\r\n")));
    }
    // A client that leaves before there is an answer has its line too.
    let mut client = Wire::connect(gateway.address).await;
    client.send("GET /x?key=hush HTTP/1.1\r\nHost: a\r\n\r\n").await;
    Wire::accept(&listener).await.head().await;
    drop(client);
    let gone = |line: &str| (line.contains("request proxied") && line.contains("client-gone")).then_some(());
    gateway.process.stderr.next("the line of the request", gone).await;
    assert!(!gateway.process.stderr.all().concat().contains("hush"));
}
