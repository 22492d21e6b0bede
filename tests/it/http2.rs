//! HTTP/2 with clients: requests, WebSockets among its streams (RFC 8441), limits, and how it ends.

use std::time::{Duration, Instant};

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::access::{SECTIONS, bearer, by_ticket, files, guarded};
use crate::support::client::tls;
use crate::support::http2::{Http2, field, http2_tls, offering};
use crate::support::http2_frames::{END_HEADERS, Frames, GOAWAY, HEADERS, RST_STREAM, frame, get, literal, websocket};
use crate::support::upstream::Answer;
use crate::support::{Client, FakeUpstream, Seen, TestGateway, gateway, must};

/// A gateway with further keys for its route and its listener's HTTP/2.
fn with(upstream: &FakeUpstream, route: &str, http2: &str) -> TestGateway {
    TestGateway::from_toml(&configured(upstream, route, http2))
}

fn configured(upstream: &FakeUpstream, route: &str, http2: &str) -> String {
    gateway::toml(&format!("http://{}", upstream.address), "", "")
        .replace("auth = \"none\"", &format!("auth = \"none\"\n{route}"))
        .replace("[upstream.app]", &format!("header_timeout = \"500ms\"\n[listener.http2]\n{http2}\n[upstream.app]"))
}

#[tokio::test]
async fn clients_choose_http2_where_it_is_on_and_http1_otherwise() {
    let upstream = FakeUpstream::start().await;
    let on = TestGateway::in_front_of(&upstream);
    let off = with(&upstream, "", "enabled = false");
    for (gateway, offered, spoken) in [
        (&on, &["h2", "http/1.1"][..], Some("h2")),
        (&on, &["http/1.1", "h2"], Some("h2")),
        (&on, &["http/1.1"], Some("http/1.1")),
        (&on, &[], None),
        (&off, &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let stream = tls(gateway.address(), &offering(&gateway.tls, offered)).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), spoken.map(str::as_bytes), "{offered:?}");
    }
}

#[tokio::test]
async fn websockets_share_one_connection_and_each_is_bridged_for_itself() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut http2 = Http2::connect(&gateway).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let (client, events) =
            tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
        clients.push((client.unwrap(), events));
    }
    for (at, (client, events)) in clients.iter_mut().enumerate() {
        assert_eq!(field(&client.answer, "sec-websocket-accept"), "");
        assert!(!field(&client.answer, "tidegate-connection").is_empty());
        events.send(format!("data: down {at}\n\n")).await;
        assert_eq!(client.next().await, Seen::text(&format!("down {at}")));
        client.text(&format!("up {at}")).await;
        let post = upstream.next_post().await;
        assert_eq!(post.text(), format!("up {at}"));
        post.accept();
    }
    // Each end is its own: by the client, by upstream, and without a word.
    let (mut first, first_events) = clients.remove(0);
    first.close(4001, "done").await;
    assert_eq!(first.closed().await, (4001, "done".to_owned()));
    first_events.cancelled().await;
    let (mut second, second_events) = clients.remove(0);
    second_events.send("event: tidegate.close\ndata: {\"code\":4002,\"reason\":\"over\"}\n\n").await;
    assert_eq!(second.closed().await, (4002, "over".to_owned()));
    let (third, third_events) = clients.remove(0);
    third.vanish();
    third_events.cancelled().await;
    for (client, events) in &mut clients {
        events.send("data: still there\n\n").await;
        assert_eq!(client.next().await, Seen::text("still there"));
    }
    assert!(http2.is_open());
}

#[tokio::test]
async fn large_messages_are_carried_both_ways() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut http2 = Http2::connect(&gateway).await;
    let (client, events) = tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
    let mut client = client.unwrap();
    let large = "0123456789abcdef".repeat(60_000);
    for _ in 0..3 {
        events.send(format!("data: {large}\n\n")).await;
        assert_eq!(client.next().await, Seen::text(&large));
        client.text(&large).await;
        let post = upstream.next_post().await;
        assert!(post.text() == large, "the message came as another");
        post.accept();
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_stream_and_no_other() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", "send_queue = \"64KiB\"");
    let mut http2 = Http2::connect(&gateway).await;
    let (slow, slow_events) =
        tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
    let (quick, quick_events) =
        tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
    let (mut slow, mut quick) = (slow.unwrap(), quick.unwrap());
    let event = format!("data: {}\n\n", "x".repeat(16 * 1024));
    let mut sent = 0;
    while slow_events.offer(event.clone()).await {
        sent += 1;
        assert!(sent < 4000, "64 MiB were taken for a client that does not read");
    }
    quick_events.send("data: not held up\n\n").await;
    assert_eq!(quick.next().await, Seen::text("not held up"));
    for _ in 0..sent {
        assert_eq!(slow.next().await, Seen::text(&"x".repeat(16 * 1024)));
    }
}

#[tokio::test]
async fn a_backend_that_does_not_answer_holds_its_client_back() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", "queue = \"64KiB\"");
    let mut http2 = Http2::connect(&gateway).await;
    let (client, _events) = tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
    let mut client = client.unwrap();
    let message = "m".repeat(16 * 1024);
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(500), client.text(&message)).await.is_ok() {
        sent += 1;
        assert!(sent < 1000, "16 MiB were taken for a backend that does not answer");
    }
    for _ in 0..sent {
        upstream.next_post().await.accept();
    }
}

#[tokio::test]
async fn refusals_are_those_of_http1_and_the_connection_goes_on() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut http2 = Http2::connect(&gateway).await;
    for (status, target, fields) in [
        (404, "/nowhere", &[][..]),
        (403, "/chat", &[("origin", "https://elsewhere.example")]),
        (400, "/chat", &[("sec-websocket-version", "8")]),
        (400, "/chat", &[("sec-websocket-protocol", "a, a")]),
    ] {
        let refusal = http2.websocket(target, fields).await.err().unwrap();
        assert_eq!(refusal.status, status, "{target} {fields:?}: {}", refusal.body);
        assert_eq!(refusal.field("content-type"), "application/problem+json");
        assert!(!refusal.field("tidegate-connection").is_empty());
    }
    upstream.assert_untouched();
    let (refused, ()) = tokio::join!(http2.websocket("/chat", &[]), async {
        upstream.next_open().await.answer(Answer::status(410));
    });
    assert_eq!(refused.err().unwrap().status, 410);
    assert_eq!(http2.get("/chat", &[]).await.0.status, 426, "a GET asks for no WebSocket");
    assert_eq!(http2.ask(Method::POST, "/chat", &[]).await.unwrap().status(), 405);
    assert_eq!(http2.get("/nowhere", &[]).await.0.status, 404);
}

#[tokio::test]
async fn a_ticket_lets_a_stream_in_and_is_spent_by_it() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = by_ticket(&upstream);
    let ticket = crate::support::access::Desk::of(&gateway).ticket("ann").await;
    let mut http2 = Http2::connect(&gateway).await;
    let offered = format!("tidegate, tidegate.ticket.{ticket}");
    let offered = [("sec-websocket-protocol", offered.as_str())];
    let (client, subject) = tokio::join!(http2.websocket("/chat", &offered), async {
        let open = upstream.next_open().await;
        let subject = field(&open.head.headers, "tidegate-subject").to_owned();
        let events = open.accept();
        (subject, events)
    });
    assert_eq!((field(&client.unwrap().answer, "sec-websocket-protocol"), subject.0.as_str()), ("tidegate", "ann"));
    assert_eq!(http2.websocket("/chat", &offered).await.err().unwrap().status, 401);
    assert_eq!(http2.websocket("/chat", &[]).await.err().unwrap().status, 401);
    upstream.assert_untouched();
}

#[tokio::test]
async fn pieces_of_cookies_are_joined_and_bearers_are_read() {
    let mut upstream = FakeUpstream::start().await;
    let toml = guarded(&upstream, "\"bearer\"", SECTIONS)
        .replace("messages = \"/messages\"", "messages = \"/messages\"\nforward_cookies = [\"a\", \"b\"]");
    let gateway = TestGateway::from_files(&toml, files());
    let mut http2 = Http2::connect(&gateway).await;
    let token = format!("Bearer {}", bearer("ann"));
    let fields = [("authorization", token.as_str()), ("cookie", "a=1"), ("cookie", "c=3"), ("cookie", "b=2")];
    let (client, cookies) = tokio::join!(http2.websocket("/chat", &fields), async {
        let open = upstream.next_open().await;
        let cookies = field(&open.head.headers, "cookie").to_owned();
        (cookies, open.accept())
    });
    assert!(client.is_ok());
    assert_eq!(cookies.0, "a=1; b=2");
}

#[tokio::test]
async fn authority_is_the_host_and_another_one_beside_it_is_refused() {
    let upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut http2 = Http2::connect(&gateway).await;
    let own = format!("localhost:{}", gateway.address().port());
    for (status, host) in [(426, own.as_str()), (400, "elsewhere.example"), (400, "localhost")] {
        assert_eq!(http2.get("/chat", &[("host", host)]).await.0.status, status, "{host}");
    }
    let many: Vec<_> = (0..120).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(http2.get("/chat", &many).await.0.status, 431);
    let large = "x".repeat(20_000);
    assert_eq!(http2.get("/chat", &[("x-large", &large)]).await.0.status, 431);
    let plain = http2.ask(Method::CONNECT, "", &[]).await;
    assert_eq!(plain.unwrap().status(), 404, "CONNECT without a path finds no route");
    assert_eq!(http2.get("/chat", &[]).await.0.status, 426);
}

#[tokio::test]
async fn fields_of_a_connection_reset_their_stream_and_nothing_else() {
    let upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    for (name, value) in
        [("connection", "close"), ("upgrade", "websocket"), ("transfer-encoding", "chunked"), ("te", "gzip")]
    {
        let mut frames = Frames::connect(gateway.address(), &gateway.tls).await;
        let head = [get("/chat"), literal(name, value)].concat();
        frames.send(&frame(HEADERS, END_HEADERS | 1, 1, &head)).await;
        frames.send(&frame(HEADERS, END_HEADERS | 1, 3, &get("/chat"))).await;
        frames.send(&frame(GOAWAY, 0, 0, &[0; 8])).await;
        let kinds = frames.ended().await;
        assert!(kinds.contains(&RST_STREAM) && kinds.contains(&HEADERS), "{name}: {kinds:?}");
    }
}

#[tokio::test]
async fn a_host_with_a_route_without_websockets_over_http2_does_not_offer_them() {
    let mut upstream = FakeUpstream::start().await;
    let off = with(&upstream, "websocket_over_http2 = false", "");
    let mut http2 = Http2::connect(&off).await;
    assert!(!http2.takes_websockets().await);
    // Over HTTP/1.1 the same route lets it in.
    let (client, _events) =
        tokio::join!(Client::ask(&off, "/chat", &[]), async { upstream.next_open().await.accept() });
    assert!(client.is_ok());

    // A host that shares a connection with another one whose routes say no.
    let two = configured(&upstream, "host = \"elsewhere.example\"\nwebsocket_over_http2 = false", "").replace(
        "[[route]]",
        "[[route]]\npath = \"/chat\"\nauth = \"none\"\nhost = \"localhost\"\n\
         bridge = { upstream = \"app\", events = \"/e\", messages = \"/m\" }\n[[route]]",
    );
    let gateway = TestGateway::from_toml(&two);
    let mut frames = Frames::connect(gateway.address(), &gateway.tls).await;
    let at = |host: &str| {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", host),
            (":path", "/chat"),
            ("sec-websocket-version", "13"),
        ];
        fields.map(|(name, value)| literal(name, value)).concat()
    };
    frames.send(&frame(HEADERS, END_HEADERS, 1, &at("elsewhere.example"))).await;
    frames.send(&frame(GOAWAY, 0, 0, &[0; 8])).await;
    assert!(frames.ended().await.contains(&HEADERS));
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_stream_that_is_reset_before_its_answer_takes_its_request_along() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut frames = Frames::connect(gateway.address(), &gateway.tls).await;
    frames.send(&frame(HEADERS, END_HEADERS, 1, &websocket("/chat"))).await;
    let mut held = upstream.next_open().await.hold();
    frames.send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
    must("upstream to see its request cancelled", held.closed()).await;
    // The same of one that is open: the client is gone.
    frames.send(&frame(HEADERS, END_HEADERS, 3, &websocket("/chat"))).await;
    let events = upstream.next_open().await.accept();
    events.send("data: x\n\n").await;
    frames.send(&frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes())).await;
    events.cancelled().await;
}

#[tokio::test]
async fn a_connection_with_nothing_under_way_is_told_to_go() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = with(&upstream, "", "idle_timeout = \"600ms\"");
    // Nothing at all, half a preface, no request.
    let began = Instant::now();
    let silent = http2_tls(gateway.address(), &gateway.tls).await;
    let mut half = http2_tls(gateway.address(), &gateway.tls).await;
    half.write_all(b"PRI * HT").await.unwrap();
    half.flush().await.unwrap();
    for mut stream in [silent, half] {
        let mut rest = Vec::new();
        let _ = must("the end of the connection", stream.read_to_end(&mut rest)).await;
    }
    let frames = Frames::connect(gateway.address(), &gateway.tls).await;
    assert!(frames.ended().await.contains(&GOAWAY));
    assert!(began.elapsed() >= Duration::from_millis(500));
    // After a request; and not while there is a WebSocket.
    let mut http2 = Http2::connect(&gateway).await;
    let (client, events) = tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
    let mut client = client.unwrap();
    tokio::time::timeout(Duration::from_secs(2), client.next()).await.unwrap_err();
    events.send("data: still there\n\n").await;
    assert_eq!(client.next().await, Seen::text("still there"));
    client.close(1000, "").await;
    client.closed().await;
    http2.ended().await;
}

#[tokio::test]
async fn a_stop_closes_every_websocket_and_then_the_connection() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut http2 = Http2::connect(&gateway).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (client, events) =
            tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
        clients.push((client.unwrap(), events));
    }
    let idle = Http2::connect(&gateway).await;
    let closed = async {
        for (client, events) in &mut clients {
            assert_eq!(client.closed().await.0, 1001);
            events.cancelled().await;
        }
        http2.ended().await;
        idle.ended().await;
    };
    let (drained, ()) = tokio::join!(gateway.stop(), closed);
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn without_tls_http2_is_for_those_who_know() {
    let mut upstream = FakeUpstream::start().await;
    let plain = |http2: &str| {
        configured(&upstream, "", http2)
            .replace("tls = { certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }", "tls = false")
    };
    let gateway = TestGateway::from_toml(&plain("prior_knowledge = true"));
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let mut http2 = Http2::over(stream, gateway.address(), 64 * 1024).await;
    assert_eq!(http2.get("/chat", &[]).await.0.status, 426);
    let (client, events) = tokio::join!(http2.websocket("/chat", &[]), async { upstream.next_open().await.accept() });
    events.send("data: no TLS\n\n").await;
    assert_eq!(client.unwrap().next().await, Seen::text("no TLS"));
    // HTTP/1.1 as before, and whoever says nothing is not waited for.
    let request = format!("ws://localhost:{}/chat", gateway.address().port());
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let (connected, _events) =
        tokio::join!(must("a WebSocket", tokio_tungstenite::client_async(request, stream)), async {
            upstream.next_open().await.accept()
        });
    assert!(connected.is_ok());
    for beginning in [&b""[..], b"PR"] {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut rest = Vec::new();
        let _ = must("the end of the connection", stream.read_to_end(&mut rest)).await;
    }
}
