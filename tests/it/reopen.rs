//! Upstream goes, the client stays (contract rules R1 to R10).

use std::time::{Duration, Instant};

use crate::support::upstream::{Answer, EventSender, Open, field};
use crate::support::{Client, FakeUpstream, Scene, Seen, TestGateway};

/// Quick attempts, so that no scene waits for long.
const QUICK: &str = "reconnect = { first_delay = \"20ms\", max_delay = \"100ms\" }";

fn quick(more: &str) -> String {
    format!("reconnect = {{ first_delay = \"20ms\", max_delay = \"100ms\", {more} }}")
}

impl Scene {
    /// A scene whose stream has a position: the client has received event 1.
    async fn at_event_one(bridge_keys: &str) -> Self {
        let mut scene = Self::with(bridge_keys).await;
        scene.events.send("id: 1\ndata: one\n\n").await;
        assert_eq!(scene.client.next().await, Seen::text("one"));
        scene
    }
}

fn last_event_id(open: &Open) -> &str {
    field(&open.head.headers, "last-event-id")
}

#[tokio::test]
async fn a_stream_that_ends_or_breaks_is_opened_again_from_its_last_event() {
    let mut scene = Scene::at_event_one(QUICK).await;
    let connection = field(&scene.client.answer, "tidegate-connection").to_owned();
    scene.events.end();
    let open = scene.upstream.next_open().await;
    assert_eq!((last_event_id(&open), field(&open.head.headers, "tidegate-connection")), ("1", connection.as_str()));
    let events = open.accept();
    events.send("id: 2\ndata: two\n\nid: 3\ndata: cut in the mid").await;
    assert_eq!(scene.client.next().await, Seen::text("two"));
    events.cut().await;
    let open = scene.upstream.next_open().await;
    assert_eq!(last_event_id(&open), "2", "half an event is no event");
    let events = open.accept();
    events.send("id: 3\ndata: three\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("three"));
}

#[tokio::test]
async fn the_position_that_a_client_brought_is_where_its_stream_begins_again() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", QUICK);
    let asked = Client::ask(&gateway, "/chat?last_event_id=41", &[]);
    let (client, events) = tokio::join!(asked, async { upstream.next_open().await.accept() });
    let _client = client.unwrap();
    events.end();
    assert_eq!(last_event_id(&upstream.next_open().await), "41");
}

#[tokio::test]
async fn upstream_that_is_killed_and_comes_back_costs_no_client_its_connection() {
    let Scene { upstream, _gateway, mut client, events } = Scene::at_event_one(QUICK).await;
    let address = upstream.kill().await;
    drop(events);
    // Sent while nobody is there: it waits.
    client.text("one").await;
    client.text("two").await;
    client.synchronise().await;
    let mut upstream = FakeUpstream::start_again_at(address).await;
    let open = upstream.next_open().await;
    assert_eq!(last_event_id(&open), "1");
    upstream.assert_no_post();
    let events = open.accept();
    for (text, sequence) in [("one", "1"), ("two", "2")] {
        let post = upstream.next_post().await;
        assert_eq!((post.text(), post.field("tidegate-sequence")), (text, sequence));
        post.accept();
    }
    events.send("id: 2\ndata: welcome back\n\n").await;
    assert_eq!(client.next().await, Seen::text("welcome back"));
}

#[tokio::test]
async fn events_that_come_again_are_sent_once() {
    let mut scene = Scene::at_event_one(QUICK).await;
    scene.events.send("id: 2\ndata: two\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("two"));
    scene.events.end();
    let events = scene.upstream.next_open().await.accept();
    events.send("id: 1\ndata: one\n\nid: 2\ndata: two\n\nid: 3\ndata: three\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("three"));
}

#[tokio::test]
async fn a_silent_upstream_counts_as_gone_and_a_comment_is_no_silence() {
    let mut scene = Scene::at_event_one(&format!("stall_timeout = \"600ms\"\n{QUICK}")).await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..10 {
        ticks.tick().await;
        scene.events.send(":\n\n").await;
    }
    assert!(began.elapsed() > Duration::from_millis(600));
    // The open stream is given up, not waited for.
    let open = scene.upstream.next_open().await;
    assert!(began.elapsed() > Duration::from_millis(1400), "a comment counts: {:?}", began.elapsed());
    assert_eq!(last_event_id(&open), "1");
    scene.events.cancelled().await;
    open.accept().send("id: 2\ndata: two\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("two"));
}

#[tokio::test]
async fn what_upstream_answers_a_reopening_decides() {
    for (answer, code, cause) in [
        (204, 1000, "upstream-stopped"),
        (412, 1012, "position-lost"),
        (401, 1008, "unauthorized"),
        (403, 1008, "unauthorized"),
        (404, 1012, "connection-unknown"),
        (410, 1012, "connection-unknown"),
        (400, 1013, "reopen-refused"),
    ] {
        let mut scene = Scene::at_event_one(QUICK).await;
        scene.events.end();
        scene.upstream.next_open().await.answer(Answer::status(answer));
        let (closed, reason) = scene.client.closed().await;
        assert_eq!((closed, reason.split(':').next()), (code, Some(cause)), "{answer}");
    }
}

#[tokio::test]
async fn passing_failures_are_tried_again() {
    let mut scene = Scene::at_event_one(QUICK).await;
    scene.events.end();
    for status in [500, 502, 503, 504, 429, 302] {
        scene.upstream.next_open().await.answer(Answer::status(status));
    }
    let page = Answer::status(200).with("content-type", "text/html").body("back soon");
    scene.upstream.next_open().await.answer(page);
    scene.upstream.next_open().await.accept().send("id: 2\ndata: two\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("two"));
}

#[tokio::test]
async fn upstream_is_given_the_time_that_it_asks_for() {
    let mut scene = Scene::at_event_one(QUICK).await;
    scene.events.end();
    let asked = Instant::now();
    scene.upstream.next_open().await.answer(Answer::status(503).with("retry-after", "1"));
    let open = scene.upstream.next_open().await;
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    let events = open.accept();
    // `retry:` is a wish, up to `max_delay`.
    events.send("retry: 100\nid: 2\ndata: two\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("two"));
    let ended = Instant::now();
    events.end();
    scene.upstream.next_open().await;
    assert!(ended.elapsed() >= Duration::from_millis(100), "{:?}", ended.elapsed());
}

#[tokio::test]
async fn a_client_is_let_go_when_upstream_does_not_come_back_in_time() {
    let Scene { upstream, mut client, events, _gateway } =
        Scene::at_event_one(&quick("give_up_after = \"500ms\"")).await;
    upstream.kill().await;
    drop(events);
    client.text("anybody there?").await;
    let (code, reason) = client.closed().await;
    assert_eq!(code, 1013);
    assert_eq!(reason, "upstream-gone: upstream did not come back in time; 1 message not delivered");
}

#[tokio::test]
async fn a_route_says_what_follows_where_events_may_have_been_lost() {
    // No event has ever had an id.
    let mut scene = Scene::with(QUICK).await;
    scene.events.end();
    let (code, reason) = scene.client.closed().await;
    assert_eq!((code, reason.split(':').next()), (1012, Some("stream-ended")));

    let mut scene = Scene::with(&quick("on_gap = \"tell\"")).await;
    scene.events.end();
    let open = scene.upstream.next_open().await;
    assert_eq!(last_event_id(&open), "");
    open.accept().send("data: behind the gap\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text(r#"{"event":"tidegate.gap","data":{}}"#));
    assert_eq!(scene.client.next().await, Seen::text("behind the gap"));

    let mut scene = Scene::at_event_one(&quick("on_gap = \"continue\"")).await;
    scene.events.end();
    scene.upstream.next_open().await.answer(Answer::status(412));
    let open = scene.upstream.next_open().await;
    assert_eq!(last_event_id(&open), "", "the lost position is not asked for again");
    open.accept().send("event: tidegate.gap\ndata:\n\ndata: behind the gap\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("behind the gap"));
}

#[tokio::test]
async fn the_subprotocol_stays_what_it_was() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", QUICK);
    let asked = Client::ask(&gateway, "/chat", &[("sec-websocket-protocol", "b, a")]);
    let (client, events) =
        tokio::join!(asked, async { upstream.next_open().await.accept_with(&[("sec-websocket-protocol", "a")]) });
    let mut client = client.unwrap();
    events.send("id: 1\ndata: one\n\n").await;
    assert_eq!(client.next().await, Seen::text("one"));
    events.end();
    let open = upstream.next_open().await;
    assert_eq!(field(&open.head.headers, "tidegate-subprotocols"), "b, a");
    let events = open.accept_with(&[("sec-websocket-protocol", "a")]);
    events.send("id: 2\ndata: two\n\n").await;
    assert_eq!(client.next().await, Seen::text("two"));
    events.end();
    let _events = upstream.next_open().await.accept_with(&[("sec-websocket-protocol", "b")]);
    let (code, reason) = client.closed().await;
    assert_eq!((code, reason.split(':').next()), (1013, Some("upstream-invalid")));
}

#[tokio::test]
async fn reopenings_never_exceed_the_budget() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "reopen_rate = 1000\nreopen_concurrency = 3", QUICK);
    let (mut clients, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let (mut client, events) =
            tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
        events.send("id: 1\ndata: one\n\n").await;
        assert_eq!(client.next().await, Seen::text("one"));
        clients.push(client);
        streams.push(events);
    }
    streams.into_iter().for_each(EventSender::end);
    let mut reopened: Vec<EventSender> = Vec::new();
    while reopened.len() < 20 {
        // As many as the budget allows are there, and no more come until one of them is answered.
        let mut held = Vec::new();
        for _ in 0..3.min(20 - reopened.len()) {
            held.push(upstream.next_open().await);
        }
        assert!(upstream.no_open_for(Duration::from_millis(150)).await, "a fourth came");
        reopened.extend(held.into_iter().map(Open::accept));
    }
    for events in &reopened {
        events.send("id: 2\ndata: two\n\n").await;
    }
    for client in &mut clients {
        assert_eq!(client.next().await, Seen::text("two"));
    }
}

#[tokio::test]
async fn a_message_in_doubt_is_not_posted_again_unless_the_route_says_that_this_is_safe() {
    let mut scene = Scene::at_event_one(QUICK).await;
    scene.client.text("in doubt").await;
    let post = scene.upstream.next_post().await;
    post.cut();
    let (code, reason) = scene.client.closed().await;
    assert_eq!(code, 1013);
    let expected = "message-in-doubt: upstream broke off during a message; 1 message not delivered";
    assert_eq!(reason, expected);
    scene.upstream.assert_no_post();

    let mut scene = Scene::at_event_one(&format!("retry = \"idempotent\"\n{QUICK}")).await;
    scene.client.text("in doubt").await;
    let first = scene.upstream.next_post().await;
    let key = first.field("idempotency-key").to_owned();
    first.cut();
    for status in [500, 503, 429] {
        let again = scene.upstream.next_post().await;
        assert_eq!((again.text(), again.field("idempotency-key")), ("in doubt", key.as_str()));
        again.answer(Answer::status(status));
    }
    let again = scene.upstream.next_post().await;
    assert_eq!(again.field("idempotency-key"), key);
    again.accept();
    scene.client.text("and on").await;
    assert_eq!(scene.upstream.next_post().await.field("tidegate-sequence"), "2");
}

#[tokio::test]
async fn an_answer_that_streams_and_falls_silent_does_not_hold_its_client_for_ever() {
    let keys = "max_reply_streams = 1\nstall_timeout = \"500ms\"\nping_interval = \"200ms\"";
    let mut scene = Scene::at_event_one(keys).await;
    scene.client.text("a question").await;
    let (answer, silent) = Answer::stream();
    scene.upstream.next_post().await.answer(answer);
    silent.send("data: an answer begins\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("an answer begins"));
    let Scene { mut client, events, upstream: _upstream, _gateway } = scene;
    let main = async {
        // The main stream is well all the time.
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while events.try_send(":\n\n").await.is_ok() {
            ticks.tick().await;
        }
    };
    let ((code, reason), ()) = tokio::join!(client.closed(), main);
    assert_eq!((code, reason.split(':').next()), (1012, Some("stream-broken")));
    silent.cancelled().await;
}
