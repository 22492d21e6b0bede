//! Keeping alive: pings, pongs, and what silence means (contract rules K1 and K2).

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::support::{Client, FakeUpstream, Seen, TestGateway};

const QUICK: &str = "ping_interval = \"200ms\"\npong_timeout = \"300ms\"";

#[tokio::test]
async fn the_client_is_pinged_and_its_pong_keeps_the_connection() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", QUICK);
    let (mut client, events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    let opened = Instant::now();
    // The library answers each ping when it is read on.
    for _ in 0..5 {
        assert!(matches!(client.next_frame().await, Message::Ping(_)));
    }
    assert!(opened.elapsed() >= Duration::from_millis(700), "pings come too fast: {:?}", opened.elapsed());
    events.send("data: still here\n\n").await;
    assert_eq!(client.next().await, Seen::text("still here"));
}

#[tokio::test]
async fn a_client_that_is_gone_without_a_word_is_closed_by_the_pong_deadline() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", QUICK);
    let (client, events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    // Reads bytes, so that TCP is fine, and answers no ping.
    let mut raw = client.into_raw();
    let mut seen = Vec::new();
    let mut chunk = [0; 256];
    let close = loop {
        let read = crate::support::must("a close frame", raw.read(&mut chunk)).await.unwrap();
        seen.extend_from_slice(&chunk[..read]);
        if let Some(at) = seen.iter().position(|byte| *byte == 0x88) {
            break seen[at + 2..].to_vec();
        }
    };
    assert_eq!(u16::from_be_bytes([close[0], close[1]]), 1001);
    assert!(String::from_utf8_lossy(&close[2..]).starts_with("pong-timeout: "));
    events.cancelled().await;
}

#[tokio::test]
async fn a_client_that_is_not_read_is_not_taken_for_gone() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", &format!("{QUICK}\nqueue = \"1KiB\""));
    let (mut client, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    client.text("first").await;
    let first = upstream.next_post().await;
    // Fills the queue, so that nothing more is read: not even pongs.
    client.text(&"x".repeat(2000)).await;
    client.text("behind the full queue").await;
    let mut pings = 0;
    let began = Instant::now();
    // Three deadlines' worth of pings go unanswered as far as the gateway can see.
    while began.elapsed() < Duration::from_secs(1) {
        assert!(matches!(client.next_frame().await, Message::Ping(_)), "the client was taken for gone");
        pings += 1;
    }
    assert!(pings >= 2, "pings stopped");
    first.accept();
    upstream.next_post().await.accept();
    let last = upstream.next_post().await;
    assert_eq!(last.text(), "behind the full queue");
}

#[tokio::test]
async fn a_ping_of_the_client_is_answered_with_its_payload_and_goes_nowhere() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let (mut client, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    let payload = Bytes::from(vec![7; 125]);
    client.send(Message::Ping(payload.clone())).await;
    assert_eq!(client.next_frame().await, Message::Pong(payload));
    upstream.assert_no_post();
}
