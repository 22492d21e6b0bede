//! The edge: what becomes of requests before, and instead of, a bridged connection.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client::{self, exchange, handshake};
use crate::support::upstream::Answer;
use crate::support::{Client, FakeUpstream, Seen, TestGateway, gateway, must};

/// A client connection over which one request follows another.
struct Http<S = TlsStream<TcpStream>>(S);

/// An answer as it came.
#[derive(Debug)]
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    /// A field's value, empty when it is not there.
    fn field(&self, name: &str) -> &str {
        let is_it = |line: &&str| line.split_once(": ").is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
        self.head.lines().find(is_it).map_or("", |line| line.split_once(": ").unwrap().1)
    }
}

impl Http {
    async fn connect(gateway: &TestGateway) -> Self {
        Self(client::tls(gateway.address(), &gateway.tls).await)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    async fn ask(&mut self, request: &str) -> Reply {
        self.0.write_all(request.as_bytes()).await.unwrap();
        self.reply().await
    }

    async fn reply(&mut self) -> Reply {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(must("the head of an answer", self.0.read_u8()).await.unwrap());
        }
        let mut reply = Reply { head: String::from_utf8(head).unwrap(), body: String::new() };
        let mut body = vec![0; reply.field("content-length").parse().unwrap_or(0)];
        must("the body of an answer", self.0.read_exact(&mut body)).await.unwrap();
        reply.body = String::from_utf8(body).unwrap();
        reply
    }

    /// Waits for the gateway to end the connection, having sent nothing more.
    async fn ended(mut self) {
        let mut rest = Vec::new();
        // Without close_notify, or with a reset, it has ended as well.
        let _ = must("the end of the connection", self.0.read_to_end(&mut rest)).await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

/// A gateway with further keys for its listener.
fn listening_with(upstream: &FakeUpstream, keys: &str) -> TestGateway {
    let toml = gateway::toml(&format!("http://{}", upstream.address), "", "");
    TestGateway::from_toml(&toml.replace("[upstream.app]", &format!("{keys}\n[upstream.app]")))
}

/// What a request is answered with; 410 stands for all that upstream was asked about, together with what it was asked for.
async fn verdict(gateway: &TestGateway, upstream: &mut FakeUpstream, request: &str) -> (u16, String) {
    let answer = exchange(gateway, request.as_bytes());
    tokio::pin!(answer);
    let (answer, asked) = tokio::select! {
        answer = &mut answer => (answer, String::new()),
        open = upstream.next_open() => {
            let asked = open.head.uri.to_string();
            open.answer(Answer::status(410));
            (answer.await, asked)
        }
    };
    (answer[9..12].parse().unwrap(), asked)
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

#[tokio::test]
async fn a_request_that_no_route_takes_is_404_and_the_connection_goes_on() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut http = Http::connect(&gateway).await;
    let post = "POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello".to_owned();
    for request in [get("/"), get("/chat/"), get("/Chat"), post, get("/chatter?x=/chat")] {
        let reply = http.ask(&request).await;
        assert_eq!((reply.status(), reply.field("connection")), (404, ""), "{request}");
        assert_eq!(reply.field("content-type"), "application/problem+json");
        assert!(reply.body.contains("\"type\":\"urn:tidegate:no-route\""), "{}", reply.body);
        assert!(reply.body.contains("\"status\":404"), "{}", reply.body);
        assert_eq!(reply.field("tidegate-connection").len(), 36);
    }
    let reply = http.ask(&handshake(&gateway, "/nowhere", "")).await;
    assert_eq!((reply.status(), reply.field("connection")), (404, "close"), "whoever asks for an upgrade is not kept");
    http.ended().await;
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_plain_request_for_a_bridged_route_is_told_to_upgrade() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut http = Http::connect(&gateway).await;
    for _ in 0..2 {
        let reply = http.ask(&get("/chat?room=7")).await;
        assert_eq!(reply.status(), 426);
        assert_eq!((reply.field("upgrade"), reply.field("sec-websocket-version")), ("websocket", "13"));
        assert_eq!(reply.field("content-type"), "application/problem+json");
    }
    for method in ["POST", "PUT", "DELETE", "HEAD"] {
        let mut http = Http::connect(&gateway).await;
        http.0.write_all(get("/chat").replace("GET", method).as_bytes()).await.unwrap();
        let mut head = [0; 12];
        must("an answer", http.0.read_exact(&mut head)).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 405", "{method}");
    }
    let reply = http.ask(&get("/chat").replace("GET", "POST")).await;
    assert_eq!((reply.status(), reply.field("allow")), (405, "GET"));
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_handshake_against_the_standard_is_refused_with_the_reason_and_the_connection_ends() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "sec-websocket-version: 13\r\n";
    for (status, word, from, to) in [
        (426, "version 13", version, "sec-websocket-version: 8\r\n"),
        (426, "version 13", version, "sec-websocket-version: 14, 13\r\n"),
        (400, "Sec-WebSocket-Version", version, ""),
        (400, "Sec-WebSocket-Key", key, ""),
        (400, "16 bytes", key, "sec-websocket-key: c2hvcnQ=\r\n"),
        (400, "16 bytes", key, "sec-websocket-key: ????????????????????????\r\n"),
        (400, "given once", key, &key.repeat(2)),
        (400, "Connection", "connection: upgrade\r\n", ""),
        (400, "Connection", "connection: upgrade\r\n", "connection: close\r\n"),
        (400, "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"),
        (400, "no body", key, &format!("{key}content-length: 5\r\n")),
        (400, "twice", key, &format!("{key}sec-websocket-protocol: a, a\r\n")),
        (405, "GET", "GET", "POST"),
        (426, "upgrade to websocket", "upgrade: websocket", "upgrade: h2c"),
    ] {
        let request = handshake(&gateway, "/chat", "").replace(from, to);
        assert_ne!(request, handshake(&gateway, "/chat", ""));
        let mut http = Http::connect(&gateway).await;
        let reply = http.ask(&request).await;
        assert_eq!((reply.status(), reply.field("connection")), (status, "close"), "{to}: {}", reply.body);
        assert!(reply.body.contains(word), "{to}: {}", reply.body);
        assert_eq!(reply.field("sec-websocket-version"), if status == 426 { "13" } else { "" });
        http.ended().await;
    }
    upstream.assert_untouched();
}

#[tokio::test]
async fn pages_of_the_same_and_of_listed_origins_are_let_in_and_no_others() {
    let mut upstream = FakeUpstream::start().await;
    let toml = gateway::toml(&format!("http://{}", upstream.address), "", "").replace(
        "auth = \"none\"",
        "auth = \"none\"\norigins = [\"https://app.example.com\", \"https://*.example.org\"]",
    );
    let gateway = TestGateway::from_toml(&toml);
    let port = gateway.address().port();
    let same = format!("https://localhost:{port}");
    let insecure = format!("http://localhost:{port}");
    let two = format!("{same}\r\norigin: {same}");
    for (let_in, origin) in [
        (true, same.as_str()),
        (true, "https://app.example.com"),
        (true, "https://App.Example.com:443"),
        (true, "https://a.b.example.org"),
        (false, "https://localhost"),
        (false, insecure.as_str()),
        (false, "https://evil.example"),
        (false, "http://app.example.com"),
        (false, "https://app.example.com:8443"),
        (false, "https://app.example.com.evil.example"),
        (false, "https://example.org"),
        (false, "https://evilexample.org"),
        (false, "null"),
        (false, ""),
        (false, two.as_str()),
    ] {
        let request = handshake(&gateway, "/chat", &format!("origin: {origin}\r\n"));
        let (status, asked) = verdict(&gateway, &mut upstream, &request).await;
        let expected = if let_in { (410, "/events") } else { (403, "") };
        assert_eq!((status, asked.as_str()), expected, "{origin:?}");
    }
    let (status, _) = verdict(&gateway, &mut upstream, &handshake(&gateway, "/chat", "")).await;
    assert_eq!(status, 410, "whoever names no origin is no browser, and is let in");
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_request_names_one_host() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let good = handshake(&gateway, "/chat", "");
    let host = format!("host: localhost:{}\r\n", gateway.address().port());
    for hosts in ["", "host: a b\r\n", "host: \r\n", "host: localhost:x\r\n", &host.repeat(2)] {
        let request = good.replace(&host, hosts);
        assert_eq!(verdict(&gateway, &mut upstream, &request).await.0, 400, "{hosts:?}");
    }
    let mut http = Http::connect(&gateway).await;
    assert_eq!(http.ask("GET / HTTP/1.1\r\n\r\n").await.status(), 400);
    assert_eq!(http.ask(&get("https://user:password@localhost/")).await.status(), 400);
    assert_eq!(http.ask(&get("/")).await.status(), 404, "the connection goes on");
    upstream.assert_untouched();
}

#[tokio::test]
async fn hosts_and_paths_choose_the_most_specific_route() {
    let mut upstream = FakeUpstream::start().await;
    let start = gateway::toml(&format!("http://{}", upstream.address), "", "");
    let routes = [
        ("", "/chat", "/any"),
        ("chat.example.com", "/chat", "/exact"),
        ("*.example.com", "/chat", "/wild"),
        ("*.eu.example.com", "/chat", "/longer"),
        ("chat.example.com", "/rooms/{room}", "/room/{room}"),
        ("chat.example.com", "/rooms/lobby", "/lobby"),
        ("chat.example.com", "/files/{*rest}", "/files?of={rest}"),
    ]
    .map(|(host, path, events)| {
        let host = if host.is_empty() { String::new() } else { format!("host = \"{host}\"\n") };
        let bridge = format!("{{ upstream = \"app\", events = \"{events}\", messages = \"/m\" }}");
        format!("[[route]]\n{host}path = \"{path}\"\nauth = \"none\"\nbridge = {bridge}\n")
    });
    let toml = start.split_once("[[route]]").unwrap().0.to_owned() + &routes.concat();
    // The certificate is for none of these hosts.
    let toml = toml.replace("[[listener]]", "[[listener]]\nmisdirected = \"allow\"");
    let gateway = TestGateway::from_toml(&toml);
    for (host, path, events) in [
        ("elsewhere.example", "/chat", "/any"),
        ("192.0.2.7:8443", "/chat", "/any"),
        ("[2001:db8::1]:8443", "/chat", "/any"),
        ("chat.example.com", "/chat", "/exact"),
        ("CHAT.example.com.:8443", "/chat", "/exact"),
        ("a.example.com", "/chat", "/wild"),
        ("a.b.example.com", "/chat", "/wild"),
        ("example.com", "/chat", "/any"),
        ("a.eu.example.com", "/chat", "/longer"),
        ("chat.example.com", "https://chat.example.com/chat", "/exact"),
        ("elsewhere.example:8443", "https://elsewhere.example:8443/chat", "/any"),
        ("chat.example.com", "/rooms/a%2Fb", "/room/a%2Fb"),
        ("chat.example.com", "/rooms/lobby", "/lobby"),
        ("chat.example.com", "/files/a/b?c=d", "/files?of=a/b&c=d"),
        ("a.example.com", "/rooms/lobby", ""),
        ("chat.example.com", "/rooms/", ""),
        ("chat.example.com", "/rooms/a/b", ""),
        ("chat.example.com", "/rooms/..", ""),
        ("chat.example.com", "/rooms/%2e%2E", ""),
        ("chat.example.com", "/rooms/.", ""),
        ("chat.example.com", "/files/a/../../admin", ""),
        ("chat.example.com", "/files/a%2F..%2fadmin", ""),
        ("chat.example.com", "/files/%2e%2e/admin", ""),
    ] {
        let own = format!("localhost:{}", gateway.address().port());
        let request = handshake(&gateway, path, "").replace(&own, host);
        let expected = if events.is_empty() { 404 } else { 410 };
        let verdict = verdict(&gateway, &mut upstream, &request).await;
        assert_eq!(verdict, (expected, events.to_owned()), "{host}{path}");
    }
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_head_above_the_limits_is_431() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = listening_with(&upstream, "max_header_size = \"8KiB\"\nmax_headers = 20");
    let large = format!("x-large: {}\r\n", "x".repeat(9 * 1024));
    let many = (0..20).map(|n| format!("x-{n}: 1\r\n")).collect::<Vec<_>>().concat();
    for fields in [&large, &many] {
        let answer = exchange(&gateway, handshake(&gateway, "/chat", fields).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let few = (0..10).map(|n| format!("x-{n}: {}\r\n", "x".repeat(700))).collect::<Vec<_>>().concat();
    assert_eq!(verdict(&gateway, &mut upstream, &handshake(&gateway, "/chat", &few)).await.0, 410);
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let upstream = FakeUpstream::start().await;
    let keys = "header_timeout = \"300ms\"\nhandshake_timeout = \"200ms\"";
    let gateway = listening_with(&upstream, keys);
    let limits = |began: Instant, least: u64| {
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(least) && took < Duration::from_secs(5), "{took:?}");
    };
    // No TLS handshake.
    let began = Instant::now();
    Http(TcpStream::connect(gateway.address()).await.unwrap()).ended().await;
    limits(began, 200);
    // Half of one.
    let began = Instant::now();
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
    Http(stream).ended().await;
    limits(began, 200);
    // No request, half a request, and no second request.
    for (request, least) in [("", 300), ("GET / HTTP/1.1\r\nhost: loc", 300), (&get("/"), 300)] {
        let mut http = Http::connect(&gateway).await;
        let began = Instant::now();
        http.0.write_all(request.as_bytes()).await.unwrap();
        if request.ends_with("\r\n\r\n") {
            assert_eq!(http.reply().await.status(), 404);
        }
        http.ended().await;
        limits(began, least);
    }
}

#[tokio::test]
async fn a_connection_above_the_limit_is_closed_at_once_and_a_place_that_is_free_again_is_taken() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = listening_with(&upstream, "max_connections = 1\nhandshake_timeout = \"5m\"");
    let (mut first, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    for _ in 0..3 {
        Http(TcpStream::connect(gateway.address()).await.unwrap()).ended().await;
    }
    first.text("not disturbed").await;
    upstream.next_post().await.accept();
    first.close(1000, "").await;
    assert_eq!(first.next().await, Seen::Close(1000, String::new()));
    assert_eq!(first.next().await, Seen::Lost);
    drop(first);
    let served_again = async {
        loop {
            let tcp = TcpStream::connect(gateway.address()).await.unwrap();
            let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
            let tls = tokio_rustls::TlsConnector::from(gateway.tls.clone());
            if let Ok(stream) = tls.connect(name, tcp).await {
                break Http(stream).ask(&get("/")).await.status();
            }
        }
    };
    assert_eq!(must("a free place", served_again).await, 404);
}

#[tokio::test]
async fn one_listener_speaks_tls_and_another_does_not() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = listening_with(&upstream, "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false");
    let [secure, plain] = gateway.gateway.addresses()[..] else { panic!("two listeners") };
    assert_ne!(secure, plain);
    let (_secure, events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });

    let request = format!("ws://localhost:{}/chat", plain.port());
    let stream = TcpStream::connect(plain).await.unwrap();
    let (connected, (proto, plain_events)) =
        tokio::join!(must("a WebSocket", tokio_tungstenite::client_async(request, stream)), async {
            let open = upstream.next_open().await;
            let proto = crate::support::upstream::field(&open.head.headers, "x-forwarded-proto").to_owned();
            (proto, open.accept())
        });
    let (mut socket, _) = connected.unwrap();
    assert_eq!(proto, "http");
    plain_events.send("data: no TLS\n\n").await;
    let message = must("a message", futures_util::StreamExt::next(&mut socket)).await.unwrap().unwrap();
    assert_eq!(message.into_text().unwrap(), "no TLS");
    drop(socket);
    plain_events.cancelled().await;
    assert!(events.try_send(":\n\n").await.is_ok(), "the other listener's client is still there");

    let mut http = Http(TcpStream::connect(secure).await.unwrap());
    http.0.write_all(get("/chat").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = must("the end of the connection", http.0.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "plain HTTP on a TLS port");
}

#[tokio::test]
async fn what_is_no_http1_ends_the_connection() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let preface = exchange(&gateway, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(!preface.starts_with("HTTP/1.1 2"), "{preface}");
    assert!(exchange(&gateway, b"\x81\x05hello\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let mut http = Http::connect(&gateway).await;
    let reply = http.ask(&(get("/") + "\0\0 garbage\r\n\r\n")).await;
    assert_eq!(reply.status(), 404);
    assert_eq!(http.reply().await.status(), 400);
    http.ended().await;
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_client_that_vanishes_while_upstream_thinks_takes_its_request_along() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = listening_with(&upstream, "max_connections = 1");
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    stream.write_all(handshake(&gateway, "/chat", "").as_bytes()).await.unwrap();
    let mut held = upstream.next_open().await.hold();
    drop(stream);
    must("upstream to see its request cancelled", held.closed()).await;
}

#[tokio::test]
async fn tls_ends_in_order_after_every_refused_upgrade() {
    let upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    for target in ["/nowhere", "/chat"] {
        let request = client::handshake(&gateway, target, "origin: https://elsewhere.example\r\n");
        let mut stream = client::tls(gateway.address(), &gateway.tls).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Without close_notify this is an error.
        must("the end", stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 40"), "{}", String::from_utf8_lossy(&answer));
    }
}
