//! Opening: upstream first, then 101 (contract rules O1 to O8).

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::support::client::{self, Refusal};
use crate::support::upstream::{Answer, Open, field};
use crate::support::{Client, FakeUpstream, Seen, TestGateway, gateway, must};

/// Asks, lets the scene answer the request for the stream, and gives what the client got.
async fn answered(answer: impl FnOnce(Open)) -> Result<Client, Refusal> {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let (client, ()) = tokio::join!(Client::ask(&gateway, "/chat", &[("sec-websocket-protocol", "v2, v1")]), async {
        answer(upstream.next_open().await);
    });
    client
}

async fn refused(answer: Answer) -> Refusal {
    answered(|open| open.answer(answer)).await.err().expect("a refusal")
}

#[tokio::test]
async fn the_client_is_let_in_only_after_upstream_has_accepted() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let connecting = Client::connect(&gateway);
    tokio::pin!(connecting);
    let open = tokio::select! {
        open = upstream.next_open() => open,
        _ = &mut connecting => panic!("the client was let in before upstream had accepted"),
    };
    let events = open.accept();
    let mut client = connecting.await;
    events.send("data: hello\n\n").await;
    assert_eq!(client.next().await, Seen::text("hello"));
}

#[tokio::test]
async fn the_request_for_the_stream_says_what_the_contract_promises() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", r#"forward_cookies = ["theme"]"#);
    let fields = [
        ("user-agent", "Example/1"),
        ("accept-language", "de"),
        ("x-private", "stays"),
        ("cookie", "sid=1; theme=dark"),
        ("tidegate-subject", "admin"),
        ("tidegate-connection", "mine"),
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("authorization", "Bearer secret"),
        ("sec-websocket-protocol", "v2, v1"),
        ("last-event-id", "41"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let target = "/chat?room=7&ticket=secret&x=%20&access_token=secret&token=secret";
    let (client, open) = tokio::join!(Client::ask(&gateway, target, &fields), async {
        let open = upstream.next_open().await;
        let head = open.head.clone();
        let _events = open.accept_with(&[("sec-websocket-protocol", "v1")]);
        head
    });
    let client = client.unwrap();
    assert_eq!(open.uri, "/events?room=7&x=%20");
    let of = |name| field(&open.headers, name);
    assert_eq!(of("accept"), "text/event-stream");
    assert_eq!(of("cache-control"), "no-store");
    assert_eq!(of("accept-encoding"), "identity");
    assert_eq!(of("tidegate-subprotocols"), "v2, v1");
    assert_eq!(of("last-event-id"), "41");
    assert_eq!(of("user-agent"), "Example/1");
    assert_eq!(of("accept-language"), "de");
    assert_eq!(of("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(of("cookie"), "theme=dark");
    assert_eq!(of("x-forwarded-for"), "127.0.0.1");
    assert_eq!(of("x-forwarded-proto"), "https");
    let host = format!("localhost:{}", gateway.address().port());
    assert_eq!(of("x-forwarded-host"), host);
    assert_eq!(of("forwarded"), format!("for=127.0.0.1;host=\"{host}\";proto=https"));
    assert_eq!(of("host"), upstream.address.to_string());
    for absent in ["x-private", "tidegate-subject", "authorization", "sec-websocket-key", "upgrade", "connection"] {
        assert_eq!(of(absent), "", "{absent} went along");
    }
    let id = of("tidegate-connection");
    assert_eq!((id.len(), &id[14..15]), (36, "7"), "{id} is no version 7 UUID");
    assert_eq!(field(&client.answer, "tidegate-connection"), id, "client and upstream know the connection by one id");
}

#[tokio::test]
async fn what_the_connection_field_names_stays_on_its_hop() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", r#"forward_headers = ["x-one", "x-two"]"#);
    let request = client::handshake(&gateway, "/chat", "connection: x-one\r\nx-one: 1\r\nx-two: 2\r\n");
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let open = upstream.next_open().await;
    assert_eq!((field(&open.head.headers, "x-one"), field(&open.head.headers, "x-two")), ("", "2"));
}

#[tokio::test]
async fn a_position_in_the_query_becomes_last_event_id() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let (_client, head) = tokio::join!(Client::ask(&gateway, "/chat?last_event_id=a%2Fb&room=1", &[]), async {
        let open = upstream.next_open().await;
        let head = open.head.clone();
        open.accept();
        head
    });
    assert_eq!(field(&head.headers, "last-event-id"), "a/b");
    assert_eq!(head.uri, "/events?room=1");
}

#[tokio::test]
async fn what_the_path_captured_goes_into_both_targets() {
    let mut upstream = FakeUpstream::start().await;
    let toml = gateway::toml(&format!("http://{}", upstream.address), "", "")
        .replace("path = \"/chat\"", "path = \"/rooms/{room}/{*rest}\"")
        .replace("\"/events\"", "\"/r/{room}/events?at={rest}\"")
        .replace("\"/messages\"", "\"/r/{room}/messages\"");
    let gateway = TestGateway::from_toml(&toml);
    let (client, (open, _events)) = tokio::join!(Client::ask(&gateway, "/rooms/a%20b/x/y?q=1", &[]), async {
        let open = upstream.next_open().await;
        (open.head.uri.clone(), open.accept())
    });
    assert_eq!(open, "/r/a%20b/events?at=x/y&q=1");
    client.unwrap().text("hello").await;
    assert_eq!(upstream.next_post().await.head.uri, "/r/a%20b/messages?q=1");
}

#[tokio::test]
async fn refusals_of_upstream_reach_the_client_as_they_are() {
    for status in [401, 403, 404, 410, 429, 503] {
        let refusal = refused(Answer::status(status).with("retry-after", "7").with("www-authenticate", "Bearer")).await;
        assert_eq!(refusal.status, status);
        assert_eq!(refusal.field("retry-after"), "7");
        assert_eq!(refusal.field("www-authenticate"), "Bearer");
        assert_eq!(refusal.field("content-type"), "application/problem+json");
        assert!(refusal.body.contains(&format!("\"status\":{status}")), "{}", refusal.body);
        assert_eq!(refusal.field("connection"), "close");
    }
}

#[tokio::test]
async fn a_small_body_of_a_refusal_goes_along_and_a_large_one_does_not() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    for (size, goes_along) in [(16 * 1024, true), (16 * 1024 + 1, false)] {
        let body = "x".repeat(size);
        let request = client::handshake(&gateway, "/chat", "");
        let (answer, ()) = tokio::join!(client::exchange(&gateway, request.as_bytes()), async {
            let answer = Answer::status(403).with("content-type", "application/json").body(body.clone());
            upstream.next_open().await.answer(answer);
        });
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert_eq!(answer.ends_with(&format!("\r\n\r\n{body}")), goes_along);
        assert_eq!(answer.contains("application/problem+json"), !goes_along);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_event_stream_is_502() {
    let stream_type = |answer: Answer| answer.with("content-type", "text/event-stream");
    for answer in [
        Answer::status(500),
        Answer::status(400),
        Answer::status(201),
        Answer::status(302).with("location", "/elsewhere"),
        Answer::status(200).with("content-type", "text/html").body("<p>hello"),
        Answer::status(200).body("data: hello\n\n"),
        stream_type(Answer::status(206)),
        stream_type(Answer::status(200)).with("content-encoding", "gzip"),
    ] {
        let refusal = refused(answer).await;
        assert_eq!(refusal.status, 502, "{}", refusal.body);
        assert!(refusal.body.contains("urn:tidegate:upstream-unusable"), "{}", refusal.body);
    }
}

#[tokio::test]
async fn upstream_with_nothing_to_stream_is_410() {
    assert_eq!(refused(Answer::status(204)).await.status, 410);
}

#[tokio::test]
async fn parameters_of_the_media_type_and_identity_codings_do_not_matter() {
    for (media_type, coding) in [("Text/Event-Stream; charset=utf-8", "identity"), ("text/event-stream;x=y", "none")] {
        let client = answered(|open| {
            let fields = [("content-type", media_type), ("content-encoding", coding), ("sec-websocket-protocol", "v2")];
            open.accept_with(&fields);
        });
        assert!(client.await.is_ok());
    }
}

#[tokio::test]
async fn no_answer_within_the_limit_is_504() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", r#"open_timeout = "300ms""#);
    let began = Instant::now();
    let (client, held) = tokio::join!(Client::ask(&gateway, "/chat", &[]), async { upstream.next_open().await.hold() });
    let mut held = held;
    assert_eq!(client.err().expect("a refusal").status, 504);
    assert!(began.elapsed() >= Duration::from_millis(300));
    // The request is not left behind.
    must("upstream to see the request cancelled", held.closed()).await;
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_or_understood_is_502() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let gateway = TestGateway::from_toml(&gateway::toml(&format!("http://{address}"), "", ""));
    assert_eq!(Client::ask(&gateway, "/chat", &[]).await.err().expect("a refusal").status, 502);

    for garbage in ["HTTP/1.1 banana\r\n\r\n", "\0\0\0\0", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let gateway = TestGateway::from_toml(&gateway::toml(&endpoint, "", ""));
        let (client, ()) = tokio::join!(Client::ask(&gateway, "/chat", &[]), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            stream.write_all(garbage.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        assert_eq!(client.err().expect("a refusal").status, 502, "{garbage:?}");
    }
}

#[tokio::test]
async fn upstream_chooses_the_subprotocol_from_those_on_offer() {
    let chosen = |name: &'static str| answered(move |open| drop(open.accept_with(&[("sec-websocket-protocol", name)])));
    let client = chosen("v1").await.unwrap();
    assert_eq!(field(&client.answer, "sec-websocket-protocol"), "v1");
    assert_eq!(chosen("v3").await.err().expect("a refusal").status, 502);
}

#[tokio::test]
async fn a_client_that_leaves_while_upstream_thinks_is_not_left_behind() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let connecting = tokio::time::timeout(Duration::from_mins(1), Client::connect(&gateway));
    tokio::pin!(connecting);
    let mut held = tokio::select! {
        open = upstream.next_open() => open.hold(),
        _ = &mut connecting => panic!("nobody has answered"),
    };
    connecting.set(tokio::time::timeout(Duration::ZERO, Client::connect(&gateway)));
    must("upstream to see the request cancelled", held.closed()).await;
}

#[tokio::test]
async fn streams_are_spread_over_the_endpoints_and_posts_follow_their_stream() {
    let (mut one, mut two) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let endpoints = format!("http://{}\", \"http://{}", one.address, two.address);
    let gateway = TestGateway::from_toml(&gateway::toml(&endpoints, "", ""));
    let mut clients = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..4 {
        let (client, events) = tokio::join!(Client::connect(&gateway), async {
            tokio::select! { open = one.next_open() => (1, open.accept()), open = two.next_open() => (2, open.accept()) }
        });
        clients.push(client);
        streams.push(events);
    }
    assert_eq!(streams.iter().filter(|(endpoint, _)| *endpoint == 1).count(), 2);
    for (client, (endpoint, _)) in clients.iter_mut().zip(&streams) {
        client.text("where").await;
        let post = if *endpoint == 1 { one.next_post().await } else { two.next_post().await };
        post.accept();
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_passed_over() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = nobody.local_addr().unwrap();
    drop(nobody);
    let mut upstream = FakeUpstream::start().await;
    let endpoints = format!("http://{down}\", \"http://{}", upstream.address);
    let gateway = TestGateway::from_toml(&gateway::toml(&endpoints, "", ""));
    for _ in 0..3 {
        let (_client, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    }
}

#[tokio::test]
async fn an_endpoint_that_accepts_and_closes_is_not_connected_to_in_a_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let gateway = TestGateway::from_toml(&gateway::toml(&endpoint, "", ""));
    let mut connections = 0;
    let asking = Client::ask(&gateway, "/chat", &[]);
    tokio::pin!(asking);
    let refusal = loop {
        tokio::select! {
            accepted = listener.accept() => {
                drop(accepted.unwrap());
                connections += 1;
            }
            client = &mut asking => break client.err().expect("a refusal"),
        }
    };
    assert_eq!(refusal.status, 502);
    assert!((1..=3).contains(&connections), "{connections} connections for one request");
}
