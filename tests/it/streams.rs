//! Event streams through the proxy: nothing holds them back, nothing falls inside an event, and whoever loses one comes back.

use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use std::io::Write as _;
use tidegate::protocol::sse::{Event, Limits, Parser};
use tokio::net::TcpListener;

use crate::proxy::gateway;
use crate::support::http::plain;
use crate::support::native::Native;
use crate::support::process::GatewayProcess;
use crate::support::raw::Wire;
use crate::support::upstream::{Answer, EventSender, field};
use crate::support::{FakeUpstream, TestGateway, must};

/// A gateway with these keys for streams, a stream through it, and upstream's end of that.
async fn open(keys: &str) -> (FakeUpstream, TestGateway, Native, EventSender) {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", &format!("[route.proxy.stream]\n{keys}"));
    let opening = Native::events(gateway.address(), "/events", &[]);
    let (client, events) = tokio::join!(opening, async { upstream.next_open().await.accept() });
    (upstream, gateway, client, events)
}

/// The time that a client is told to wait, off the block that says it.
fn told(block: &str) -> u64 {
    block.strip_prefix("retry: ").and_then(|block| block.strip_suffix("\n\n")).expect(block).parse().unwrap()
}

#[tokio::test]
async fn the_head_says_to_all_in_front_that_nothing_is_to_be_held_back() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "");
    let fields = [("last-event-id", "41"), ("accept-encoding", "gzip, br")];
    let opening = Native::events(gateway.address(), "/events?room=7", &fields);
    let accept = async {
        let open = upstream.next_open().await;
        assert_eq!(open.head.uri, "/events?room=7");
        assert_eq!(field(&open.head.headers, "last-event-id"), "41");
        assert_eq!(field(&open.head.headers, "accept-encoding"), "identity");
        open.accept_with(&[("cache-control", "max-age=60"), ("etag", "\"1\""), ("x-own", "stays")])
    };
    // The head and the first bytes are there before the first event.
    let (mut client, _events) = tokio::join!(opening, accept);
    assert_eq!(client.status, 200);
    assert_eq!(client.field("content-type"), "text/event-stream");
    assert_eq!(client.field("cache-control"), "no-cache, no-transform");
    assert_eq!(client.field("x-accel-buffering"), "no");
    assert_eq!((client.field("etag"), client.field("x-own")), ("", "stays"));
    assert!((1000..=5000).contains(&told(&client.until("\n\n").await)));
}

#[tokio::test]
async fn each_chunk_is_there_before_the_next_is_sent() {
    let (_upstream, _gateway, mut client, events) = open("").await;
    client.until("\n\n").await;
    for chunk in (0..100).flat_map(|number| [format!("id: {number}\n"), "data: x".to_owned(), "\n\n".to_owned()]) {
        events.send(chunk.clone()).await;
        assert_eq!(client.until(&chunk).await, chunk);
    }
    events.end();
    assert_eq!(client.rest().await, "");
}

fn parse(stream: String) -> Vec<Event> {
    let mut parser = Parser::new(Limits { event: 1 << 20, field: 1 << 16 });
    parser.push(stream.into());
    std::iter::from_fn(|| parser.next().unwrap()).collect()
}

#[tokio::test]
async fn ten_thousand_events_in_random_chunks_stay_whole_among_heartbeats() {
    let (_upstream, _gateway, mut client, events) = open("heartbeat = \"10ms\"").await;
    let event = |n| format!("id: {n}\nevent: tick\ndata: one\ndata: two {n}\n\n");
    let text = (0..10_000).map(event).collect::<Vec<_>>().concat();
    let (mut rest, mut seen, mut random) = (text.as_str(), String::new(), 7_u64);
    let mut pauses = 0;
    while !rest.is_empty() {
        // Numbers of Knuth's: any that are not regular will do.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (pause, length) = (random >> 61 == 0, usize::try_from(random >> 33).unwrap() % 400);
        // Before a pause it is long enough to be found again, and ends with an event half of the time.
        let mut length = rest.len().min(length + if pause { 100 } else { 1 });
        if pause && length % 2 == 0 {
            length = rest[..length].rfind("\n\n").unwrap() + 2;
        }
        let (chunk, behind) = rest.split_at(length);
        events.send(chunk.to_owned()).await;
        rest = behind;
        if pause {
            pauses += 1;
            seen.push_str(&client.until(chunk).await);
            if seen.ends_with("\n\n") {
                seen.push_str(&client.until(":\n\n").await);
            } else {
                let silent = tokio::time::timeout(Duration::from_millis(15), client.until(":\n\n")).await;
                assert!(silent.is_err(), "a heartbeat inside an event: {silent:?}");
            }
        }
    }
    // There is one at the end as well: what came before it is all.
    seen.push_str(&client.until("two 9999\n\n").await);
    seen.push_str(&client.until(":\n\n").await);
    let beats = seen.matches("\n:\n").count();
    assert!(pauses > 100 && beats > 50, "{beats} heartbeats in {pauses} pauses");
    assert_eq!(parse(seen), parse(text));
}

#[tokio::test]
async fn an_upstream_that_falls_silent_counts_as_gone() {
    let (_upstream, gateway, mut client, events) = open("stall_timeout = \"100ms\"\nheartbeat = \"20ms\"").await;
    assert!(client.rest().await.contains(":\n\n"), "heartbeats, and then a clean end");
    events.cancelled().await;
    let page = plain(gateway.gateway.admin_address().unwrap(), Method::GET, "/metrics", &[], "").await.body;
    let closed = "tidegate_proxied_streams_closed_total{route=\"/{*rest}\",cause=\"stream-stalled\"} 1";
    assert!(page.contains(closed) && page.contains("tidegate_proxied_streams_open{route=\"/{*rest}\"} 0"), "{page}");
}

#[tokio::test]
async fn an_upstream_that_dies_inside_an_event_is_a_clean_end_and_the_event_is_not_completed() {
    let (_upstream, _gateway, mut client, events) = open("").await;
    events.send("data: whole\n\ndata: half").await;
    client.until("half").await;
    events.cut().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn who_does_not_come_back_learns_that_it_was_not_all() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "");
    let asking = Native::ask(gateway.address(), Method::POST, "/prompt", &[("accept", "text/event-stream")], "{}");
    let answering = async {
        let (answer, events) = Answer::stream();
        upstream.next_post().await.answer(answer);
        events
    };
    let (mut client, events) = tokio::join!(asking, answering);
    events.send("data: a\n\n").await;
    assert_eq!(client.until("\n\n").await, "data: a\n\n", "and is told no time to come back at");
    events.cut().await;
    assert_eq!(client.until_broken().await, "");
}

#[tokio::test]
async fn who_asks_while_upstream_is_away_is_told_to_come_back_and_finds_it_later() {
    let upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "");
    let address = upstream.kill().await;
    let mut away = Native::events(gateway.address(), "/events", &[]).await;
    assert_eq!((away.status, away.field("content-type")), (200, "text/event-stream"));
    assert!((1000..=5000).contains(&told(&away.rest().await)));
    // What is no event stream gets the error.
    let page = plain(gateway.address(), Method::GET, "/events", &[("accept", "*/*")], "").await;
    assert_eq!(page.status, 502);

    let mut upstream = FakeUpstream::start_again_at(address).await;
    let opening = Native::events(gateway.address(), "/events", &[]);
    let busy = async { upstream.next_open().await.answer(Answer::status(503).with("retry-after", "30")) };
    let (mut busy, ()) = tokio::join!(opening, busy);
    assert_eq!(busy.status, 200);
    assert!((30_000..=34_000).contains(&told(&busy.rest().await)));
    for status in [204, 404, 401, 500] {
        let opening = Native::events(gateway.address(), "/events", &[]);
        let (client, ()) = tokio::join!(opening, async { upstream.next_open().await.answer(Answer::status(status)) });
        assert_eq!(client.status, status, "is meant");
    }
    let opening = Native::events(gateway.address(), "/events", &[]);
    let (client, _events) = tokio::join!(opening, async { upstream.next_open().await.accept() });
    assert_eq!(client.status, 200);
    let page = plain(gateway.gateway.admin_address().unwrap(), Method::GET, "/metrics", &[], "").await.body;
    assert!(page.contains("tidegate_proxied_streams_away_total{route=\"/{*rest}\"} 2"), "{page}");
}

#[tokio::test]
async fn errors_are_passed_on_where_that_is_wanted() {
    let upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "[route.proxy.stream]\non_failure = \"pass\"");
    let address = upstream.kill().await;
    assert_eq!(Native::events(gateway.address(), "/events", &[]).await.status, 502);
    let mut upstream = FakeUpstream::start_again_at(address).await;
    let opening = Native::events(gateway.address(), "/events", &[]);
    let (client, ()) = tokio::join!(opening, async { upstream.next_open().await.answer(Answer::status(503)) });
    assert_eq!(client.status, 503);
}

#[tokio::test]
async fn a_compressed_stream_is_decoded_as_it_comes() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&[upstream.address], "", "");
    let opening = Native::events(gateway.address(), "/events", &[]);
    let accept = async { upstream.next_open().await.accept_with(&[("content-encoding", "gzip")]) };
    let (mut client, events) = tokio::join!(opening, accept);
    assert_eq!(client.field("content-encoding"), "");
    client.until("\n\n").await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for number in 0..20 {
        let event = format!("data: {number}\n\n");
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        events.send(Bytes::from(std::mem::take(encoder.get_mut()))).await;
        assert_eq!(client.until("\n\n").await, event);
    }
}

#[tokio::test]
async fn a_gateway_that_stops_ends_streams_between_events_and_says_when_to_come_back() {
    let (_upstream, gateway, mut client, events) = open("").await;
    client.until("\n\n").await;
    events.send("data: half").await;
    client.until("half").await;
    let reading = async {
        events.send(" and half\n\n").await;
        let event = client.until("\n\n").await;
        (event, client.rest().await)
    };
    let (drained, (event, rest)) = tokio::join!(gateway.stop(), reading);
    assert_eq!(event, " and half\n\n");
    assert!((1000..=5000).contains(&told(&rest)));
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn a_stream_holds_its_place_until_it_ends() {
    let mut upstream = FakeUpstream::start().await;
    let toml = crate::proxy::toml(&[upstream.address], "", "[route.proxy.stream]\non_failure = \"pass\"");
    let gateway =
        TestGateway::from_toml(&toml.replace("[route.proxy]\n", "limits = { connections = 1 }\n[route.proxy]\n"));
    let opening = Native::events(gateway.address(), "/events", &[]);
    let (client, events) = tokio::join!(opening, async { upstream.next_open().await.accept() });
    assert_eq!(Native::events(gateway.address(), "/events", &[]).await.status, 503);
    drop(client);
    must("the end of the event stream", events.cancelled()).await;
    let opening = Native::events(gateway.address(), "/events", &[]);
    let (client, _events) = tokio::join!(opening, async { upstream.next_open().await.accept() });
    assert_eq!(client.status, 200);
}

#[tokio::test]
async fn operators_see_the_streams_that_are_open_and_one_line_when_one_is_over() {
    let mut upstream = FakeUpstream::start().await;
    let toml = crate::proxy::toml(&[upstream.address], "", "");
    let mut gateway = GatewayProcess::start(&format!("log.format = \"json\"\n{toml}")).await;
    let admin = gateway.admin().await;
    let opening = Native::events(gateway.address, "/events?key=hush", &[]);
    let (mut client, events) = tokio::join!(opening, async { upstream.next_open().await.accept() });
    events.send("data: one\n\n").await;
    client.until("one\n\n").await;
    let listed = plain(admin, Method::GET, "/streams?route=/%7B*rest%7D", &[], "").await.json();
    let stream = &listed["streams"][0];
    assert_eq!((&listed["total"], &stream["route"]), (&1.into(), &"/{*rest}".into()));
    assert_eq!(stream["id"], client.field("tidegate-connection"));
    assert_eq!(stream["endpoint"], upstream.address.to_string());
    assert_eq!(plain(admin, Method::GET, "/streams?route=/other", &[], "").await.json()["total"], 0);

    events.end();
    client.rest().await;
    let over = gateway.process.stderr.next("the line of the stream", |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "event stream closed").then_some(line)
    });
    let line = must("the line", over).await;
    assert_eq!((&line["cause"], &line["connection"]), (&"stream-ended".into(), &stream["id"]));
    assert_eq!((&line["status"], &line["upstream"], &line["method"]), (&200.into(), &"app".into(), &"GET".into()));
    assert_eq!((&line["bytes_down"], &line["heartbeats"]), (&"data: one\n\n".len().into(), &0.into()));
    assert_eq!(
        plain(admin, Method::GET, "/streams", &[], "").await.json(),
        serde_json::json!({"streams": [], "total": 0})
    );
    gateway.process.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.process.exit().await, 0);
    let lines = gateway.process.stderr.all().concat();
    assert!(!lines.contains("request proxied") && !lines.contains("hush"), "{lines}");
}

#[tokio::test]
async fn the_head_of_a_stream_alone_is_no_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = gateway(&[listener.local_addr().unwrap()], "", "");
    let (head, ()) = tokio::join!(plain(gateway.address(), Method::HEAD, "/events", &[], ""), async {
        let mut upstream = Wire::accept(&listener).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    });
    assert_eq!((head.status, head.field("content-type")), (200, "text/event-stream"));
    let metrics = plain(gateway.gateway.admin_address().unwrap(), Method::GET, "/metrics", &[], "").await.body;
    let opened = "tidegate_proxied_streams_opened_total{route=\"/{*rest}\"} ";
    assert_eq!(metrics.lines().find_map(|line| line.strip_prefix(opened)), Some("0"));
}
