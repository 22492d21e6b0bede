//! Slow sides: what waits, what is left out, and who is not disturbed (contract rules D11, U9, U21, U22 and K5).

use serde_json::Value;

use crate::support::upstream::{Answer, EventSender};
use crate::support::{Client, FakeUpstream, Scene, Seen, TestGateway, must};

/// One event whose message is `number` and enough filling to be worth a buffer.
fn event(number: usize) -> String {
    format!("id: {number}\ndata: {number} {}\n\n", "x".repeat(1000))
}

/// The number that a message begins with.
fn number(seen: Seen) -> usize {
    match seen {
        Seen::Text(text) => text.split(' ').next().unwrap().parse().unwrap(),
        other => panic!("expected a message, saw {other:?}"),
    }
}

/// Floods until the gateway takes no more, and says how many events that were.
async fn flood(events: &EventSender) -> usize {
    let mut sent = 0;
    while events.offer(event(sent + 1)).await {
        sent += 1;
        assert!(sent < 100_000, "the gateway takes everything");
    }
    sent
}

#[tokio::test]
async fn a_client_that_does_not_read_pauses_its_stream_and_loses_nothing() {
    let mut scene = Scene::new().await;
    let sent = flood(&scene.events).await;
    for expected in 1..=sent {
        assert_eq!(number(scene.client.next().await), expected);
    }
    scene.events.send(event(sent + 1)).await;
    assert_eq!(number(scene.client.next().await), sent + 1);
}

#[tokio::test]
async fn messages_of_a_client_that_does_not_read_are_posted_all_the_same() {
    let mut scene = Scene::new().await;
    flood(&scene.events).await;
    for text in ["one", "two"] {
        scene.client.text(text).await;
        let post = scene.upstream.next_post().await;
        assert_eq!(post.text(), text);
        post.accept();
    }
    scene.client.close(4000, "had enough").await;
    scene.events.cancelled().await;
}

#[tokio::test]
async fn a_client_that_is_slowed_down_is_still_answered_and_can_leave() {
    let mut scene = Scene::with("queue = \"1KiB\"").await;
    scene.client.text("first").await;
    let first = scene.upstream.next_post().await;
    scene.client.text(&"x".repeat(2000)).await;
    // The queue is full and no message is read any more, but a ping is.
    scene.client.synchronise().await;
    scene.client.close(4000, "had enough").await;
    assert_eq!(scene.client.closed().await, (4000, "had enough".to_owned()));
    first.accept();
    assert_eq!(scene.upstream.next_post().await.text().len(), 2000);
}

#[tokio::test]
async fn large_replies_wait_for_a_client_that_does_not_read() {
    let mut scene = Scene::with("replies = true\nin_flight = 8\nqueue = \"1MiB\"").await;
    let large = "r".repeat(1_000_000);
    for _ in 0..8 {
        scene.client.text("give me a megabyte").await;
    }
    let mut posts = Vec::new();
    for _ in 0..8 {
        posts.push(scene.upstream.next_post().await);
    }
    for post in posts {
        post.answer(Answer::status(200).with("content-type", "text/plain").body(large.clone()));
    }
    for _ in 0..8 {
        assert_eq!(scene.client.next().await, Seen::text(&large));
    }
}

#[tokio::test]
async fn a_route_can_close_a_client_that_does_not_read() {
    let mut scene = Scene::with("overflow = \"close\"\nsend_queue = \"64KiB\"").await;
    let mut sent = 0;
    while scene.events.try_send(event(sent + 1)).await.is_ok() {
        sent += 1;
    }
    let mut received = 0;
    let closed = loop {
        match scene.client.next().await {
            Seen::Close(code, reason) => break (code, reason),
            message => {
                received += 1;
                assert_eq!(number(message), received);
            }
        }
    };
    assert_eq!(closed.0, 1013);
    assert!(closed.1.starts_with("client-too-slow: "), "{}", closed.1);
}

#[tokio::test]
async fn a_route_can_leave_out_the_oldest_for_a_client_that_does_not_read() {
    let mut scene = Scene::with("overflow = \"drop-oldest\"\nsend_queue = \"64KiB\"").await;
    // More than any buffer on the way can hold: the gateway takes all of it.
    let sent = 30_000;
    for at in 1..=sent {
        scene.events.send(event(at)).await;
    }
    let (mut last, mut received) = (0, 0);
    while last < sent {
        let next = number(scene.client.next().await);
        assert!(next > last, "{next} behind {last}");
        (last, received) = (next, received + 1);
    }
    assert!(received < sent, "nothing was left out");
}

#[tokio::test]
async fn a_text_of_auto_reply_is_answered_and_not_posted() {
    let mut scene = Scene::with("auto_reply = { ping = \"pong\", \"{\\\"type\\\":\\\"ping\\\"}\" = \"{}\" }").await;
    scene.client.text("ping").await;
    assert_eq!(scene.client.next().await, Seen::text("pong"));
    scene.client.text("{\"type\":\"ping\"}").await;
    assert_eq!(scene.client.next().await, Seen::text("{}"));
    scene.client.text("pong").await;
    let post = scene.upstream.next_post().await;
    assert_eq!((post.text(), post.field("tidegate-sequence")), ("pong", "1"));
}

#[tokio::test]
async fn what_queued_up_behind_a_post_goes_out_in_one() {
    for (batch, media_type, body) in
        [("ndjson", "application/x-ndjson", "{\"n\":2}\n3\n"), ("json-array", "application/json", "[{\"n\":2},3]")]
    {
        let mut scene = Scene::with(&format!("batch = \"{batch}\"")).await;
        scene.client.text("1").await;
        let first = scene.upstream.next_post().await;
        assert_eq!((first.field("tidegate-count"), first.field("tidegate-sequence")), ("1", "1"));
        for text in ["{\"n\":2}", "3", "no json"] {
            scene.client.text(text).await;
        }
        scene.client.binary(vec![1]).await;
        scene.client.synchronise().await;
        first.accept();
        let second = scene.upstream.next_post().await;
        assert_eq!((second.text(), second.field("content-type")), (body, media_type));
        assert_eq!((second.field("tidegate-count"), second.field("tidegate-sequence")), ("2", "2"));
        assert!(second.field("idempotency-key").ends_with("-2\""));
        second.accept();
        let third = scene.upstream.next_post().await;
        assert_eq!(
            (third.text(), third.field("tidegate-count"), third.field("tidegate-sequence")),
            ("no json", "", "4")
        );
        third.accept();
        assert_eq!(scene.upstream.next_post().await.field("tidegate-sequence"), "5");
    }
}

#[tokio::test]
async fn upstream_is_told_how_a_client_left_after_its_last_word() {
    let mut scene = Scene::with("notify_close = true").await;
    let connection = crate::support::upstream::field(&scene.client.answer, "tidegate-connection").to_owned();
    scene.client.text("last word").await;
    scene.client.close(4001, "bye").await;
    let post = scene.upstream.next_post().await;
    assert_eq!((post.text(), post.field("tidegate-event")), ("last word", ""));
    post.accept();
    let news = scene.upstream.next_post().await;
    assert_eq!((news.field("tidegate-event"), news.field("tidegate-sequence")), ("close", ""));
    assert_eq!(news.field("idempotency-key"), format!("\"{connection}-close\""));
    let body: Value = serde_json::from_str(news.text()).unwrap();
    assert_eq!(body, serde_json::json!({"code": 4001, "reason": "bye", "cause": "client-closed"}));
    scene.events.cancelled().await;
    news.accept();

    let mut scene = Scene::with("notify_close = true").await;
    scene.client.vanish();
    let body: Value = serde_json::from_str(scene.upstream.next_post().await.text()).unwrap();
    assert_eq!(body, serde_json::json!({"code": 1006, "reason": "", "cause": "client-lost"}));
}

#[tokio::test]
async fn idle_and_old_connections_end_with_their_own_causes() {
    let mut scene = Scene::with("idle_timeout = \"1s\"").await;
    let (code, reason) = scene.client.closed().await;
    assert_eq!((code, reason.split(':').next()), (1001, Some("idle")));

    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", "max_age = \"1s\"");
    let (mut client, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    client.text("busy").await;
    must("the POST", async { upstream.next_post().await.accept() }).await;
    let (code, reason) = client.closed().await;
    assert_eq!((code, reason.split(':').next()), (1012, Some("max-age")));
}
