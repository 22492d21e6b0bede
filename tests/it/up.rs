//! Up: messages become POSTs (contract rules U1 to U19).

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::upstream::{Answer, Post};
use crate::support::{Client, FakeUpstream, Scene, Seen, TestGateway, gateway};

impl Scene {
    /// Sends a message up and gives its POST.
    async fn post(&mut self, text: &str) -> Post {
        self.client.text(text).await;
        self.upstream.next_post().await
    }

    /// Answers the only POST and gives code and reason of the close that follows.
    async fn closed_by_answer(mut self, answer: Answer) -> (u16, String) {
        self.post("message").await.answer(answer);
        let closed = self.client.closed().await;
        self.events.cancelled().await;
        closed
    }
}

async fn closed_by(status: u16) -> (u16, String) {
    Scene::new().await.closed_by_answer(Answer::status(status)).await
}

#[tokio::test]
async fn a_message_is_one_post_that_names_connection_and_number() {
    let mut scene = Scene::new().await;
    let id = crate::support::upstream::field(&scene.client.answer, "tidegate-connection").to_owned();
    let first = scene.post("grüße\r\n").await;
    assert_eq!((first.head.method.as_str(), first.head.uri.path()), ("POST", "/messages"));
    assert_eq!(first.text(), "grüße\r\n");
    assert_eq!(first.field("content-type"), "text/plain; charset=utf-8");
    assert_eq!(first.field("tidegate-connection"), id);
    assert_eq!(first.field("tidegate-sequence"), "1");
    assert_eq!(first.field("idempotency-key"), format!("\"{id}-1\""));
    assert_eq!(first.field("accept-encoding"), "identity");
    assert_eq!(first.field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(first.field("x-forwarded-proto"), "https");
    first.accept();

    scene.client.binary(vec![0, 255]).await;
    let second = scene.upstream.next_post().await;
    assert_eq!(second.body.as_ref(), [0, 255]);
    assert_eq!(second.field("content-type"), "application/octet-stream");
    assert_eq!(second.field("tidegate-sequence"), "2");
    second.accept();

    let empty = scene.post("").await;
    assert_eq!((empty.body.len(), empty.field("content-length")), (0, "0"));
}

#[tokio::test]
async fn the_type_of_text_is_the_routes_to_choose() {
    let mut scene = Scene::with("text_type = \"application/json\"").await;
    assert_eq!(scene.post("{}").await.field("content-type"), "application/json");
}

#[tokio::test]
async fn credentials_of_the_url_do_not_come_along_with_posts() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let (client, _events) = tokio::join!(Client::ask(&gateway, "/chat?room=7&ticket=secret", &[]), async {
        upstream.next_open().await.accept()
    });
    client.unwrap().text("hello").await;
    assert_eq!(upstream.next_post().await.head.uri, "/messages?room=7");
}

#[tokio::test]
async fn one_post_is_under_way_and_the_next_leaves_after_its_answer() {
    let mut scene = Scene::new().await;
    for number in 1..=20 {
        scene.client.text(&number.to_string()).await;
    }
    for number in 1..=20 {
        let post = scene.upstream.next_post().await;
        assert_eq!((post.text(), post.field("tidegate-sequence")), (&*number.to_string(), &*number.to_string()));
        // An event that passes through the same connection proves that the gateway was awake and sent nothing more.
        scene.events.send("data: tick\n\n").await;
        assert_eq!(scene.client.next().await, Seen::text("tick"));
        scene.upstream.assert_no_post();
        post.accept();
    }
}

#[tokio::test]
async fn several_posts_are_under_way_where_the_route_gives_the_order_up() {
    let mut scene = Scene::with("in_flight = 3").await;
    for number in 1..=4 {
        scene.client.text(&number.to_string()).await;
    }
    let mut posts = Vec::new();
    for _ in 0..3 {
        posts.push(scene.upstream.next_post().await);
    }
    scene.events.send("data: tick\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("tick"));
    scene.upstream.assert_no_post();
    posts.pop().unwrap().accept();
    assert_eq!(scene.upstream.next_post().await.text(), "4");
}

#[tokio::test]
async fn any_2xx_is_accepted_and_its_body_discarded() {
    let mut scene = Scene::new().await;
    for status in [200, 201, 202, 204, 299] {
        let body = if status == 204 { "" } else { "also sent as an event" };
        scene.post("message").await.answer(Answer::status(status).with("content-type", "text/plain").body(body));
    }
    scene.events.send("data: only this\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("only this"));
}

#[tokio::test]
async fn replies_are_messages_for_this_client() {
    let mut scene = Scene::with("replies = true").await;
    let reply = |media_type, body: &'static [u8]| Answer::status(200).with("content-type", media_type).body(body);
    scene.post("a").await.answer(reply("text/plain", b"with\rCR"));
    assert_eq!(scene.client.next().await, Seen::text("with\rCR"));
    scene.post("b").await.answer(reply("application/json; charset=utf-8", b"{}"));
    assert_eq!(scene.client.next().await, Seen::text("{}"));
    scene.post("c").await.answer(reply("application/octet-stream", &[0, 255]));
    assert_eq!(scene.client.next().await, Seen::Binary(vec![0, 255]));
    scene.post("d").await.accept();
    scene.events.send("data: no empty message\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("no empty message"));
}

#[tokio::test]
async fn a_reply_above_the_limit_or_that_is_no_text_ends_the_connection() {
    let scene = Scene::with("replies = true\nmax_message_size = \"1KiB\"").await;
    let (code, reason) = scene.closed_by_answer(Answer::status(200).body("x".repeat(1025))).await;
    assert_eq!(code, 1009);
    assert!(reason.starts_with("event-too-big: "), "{reason}");
    let scene = Scene::with("replies = true").await;
    let answer = Answer::status(200).with("content-type", "text/plain").body(vec![0xFF]);
    assert_eq!(scene.closed_by_answer(answer).await.0, 1013);
}

#[tokio::test]
async fn the_events_of_an_answer_that_streams_flow_while_it_lasts() {
    let mut scene = Scene::new().await;
    let (answer, tokens) = Answer::stream();
    scene.post("prompt").await.answer(answer);
    tokens.send("data: one\n\nevent: tidegate.binary\ndata: AA==\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("one"));
    assert_eq!(scene.client.next().await, Seen::Binary(vec![0]));
    // The next POST does not wait for its end, and both streams are heard.
    scene.post("more").await.accept();
    scene.events.send("data: main\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("main"));
    tokens.send("data: two\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("two"));
    tokens.end();
    scene.post("still there").await.accept();
}

#[tokio::test]
async fn an_answer_that_streams_and_breaks_off_is_not_a_silent_gap() {
    let mut scene = Scene::new().await;
    let (answer, tokens) = Answer::stream();
    scene.post("prompt").await.answer(answer);
    tokens.send("data: one\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("one"));
    tokens.cut().await;
    let (code, reason) = scene.client.closed().await;
    assert_eq!(code, 1012);
    assert!(reason.starts_with("stream-broken: "), "{reason}");
}

#[tokio::test]
async fn at_the_limit_of_streaming_answers_messages_wait() {
    let mut scene = Scene::with("max_reply_streams = 1").await;
    let (answer, tokens) = Answer::stream();
    scene.post("prompt").await.answer(answer);
    tokens.send("data: one\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("one"));
    scene.client.text("waits").await;
    scene.events.send("data: tick\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("tick"));
    scene.upstream.assert_no_post();
    tokens.end();
    assert_eq!(scene.upstream.next_post().await.text(), "waits");
}

#[tokio::test]
async fn a_stream_that_answers_is_cancelled_when_the_client_leaves() {
    let mut scene = Scene::new().await;
    let (answer, tokens) = Answer::stream();
    scene.post("prompt").await.answer(answer);
    tokens.send("data: one\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("one"));
    scene.client.vanish();
    tokens.cancelled().await;
    scene.events.cancelled().await;
}

#[tokio::test]
async fn status_413_closes_with_1009() {
    let (code, reason) = closed_by(413).await;
    assert_eq!(code, 1009);
    assert!(reason.starts_with("message-too-big-upstream: "), "{reason}");
}

#[tokio::test]
async fn status_415_closes_with_1003() {
    assert_eq!(closed_by(415).await.0, 1003);
}

#[tokio::test]
async fn status_401_and_403_close_with_1008() {
    for status in [401, 403] {
        let (code, reason) = closed_by(status).await;
        assert_eq!(code, 1008);
        assert!(reason.starts_with("unauthorized: ") && reason.contains(&status.to_string()), "{reason}");
    }
}

#[tokio::test]
async fn status_404_and_410_close_with_1012() {
    for status in [404, 410] {
        let (code, reason) = closed_by(status).await;
        assert_eq!(code, 1012);
        assert!(reason.starts_with("connection-unknown: "), "{reason}");
    }
}

#[tokio::test]
async fn another_4xx_closes_with_1008_and_the_status_in_the_reason() {
    for status in [400, 409, 422, 499] {
        let (code, reason) = closed_by(status).await;
        assert_eq!(code, 1008);
        assert!(reason.starts_with("message-refused: ") && reason.contains(&status.to_string()), "{reason}");
    }
    assert_eq!(closed_by(302).await.0, 1008, "a redirect is not followed");
}

#[tokio::test]
async fn another_4xx_is_told_or_counted_where_the_route_says_so() {
    let mut tell = Scene::with("refused_message = \"tell\"").await;
    tell.post("fine").await.accept();
    tell.post("bad").await.answer(Answer::status(422));
    let told = r#"{"event":"tidegate.refused","data":{"sequence":2,"status":422}}"#;
    assert_eq!(tell.client.next().await, Seen::text(told));
    tell.post("goes on").await.accept();

    let mut count = Scene::with("refused_message = \"count\"").await;
    count.post("bad").await.answer(Answer::status(422));
    count.post("goes on").await.accept();
    count.events.send("data: tick\n\n").await;
    assert_eq!(count.client.next().await, Seen::text("tick"));
}

#[tokio::test]
async fn status_429_waits_as_asked_and_posts_the_same_message_under_the_same_key() {
    for status in [429, 503] {
        let mut scene = Scene::new().await;
        let first = scene.post("one").await;
        let key = first.field("idempotency-key").to_owned();
        let asked = Instant::now();
        first.answer(Answer::status(status).with("retry-after", "1"));
        scene.client.text("two").await;
        let again = scene.upstream.next_post().await;
        assert!(asked.elapsed() >= Duration::from_secs(1), "it did not wait");
        assert_eq!((again.text(), again.field("idempotency-key")), ("one", &*key));
        again.accept();
        assert_eq!(scene.upstream.next_post().await.text(), "two", "the order holds");
    }
}

#[tokio::test]
async fn status_429_that_asks_for_too_long_closes_with_1013() {
    let answer = || Answer::status(429);
    for answer in [answer(), answer().with("retry-after", "61"), answer().with("retry-after", "99999999999999999999")] {
        let (code, reason) = Scene::new().await.closed_by_answer(answer).await;
        assert_eq!(code, 1013);
        assert!(reason.starts_with("upstream-busy: ") && reason.ends_with("; 1 message not delivered"), "{reason}");
    }
}

#[tokio::test]
async fn status_5xx_closes_with_1013_and_counts_what_was_not_delivered() {
    for status in [500, 502, 503, 599] {
        let mut scene = Scene::new().await;
        let first = scene.post("one").await;
        scene.client.text("two").await;
        scene.client.text("three").await;
        // Only once the gateway has answered a ping has it read what came before it.
        scene.client.synchronise().await;
        first.answer(Answer::status(status));
        let (code, reason) = scene.client.closed().await;
        assert_eq!(code, 1013);
        assert!(reason.starts_with("upstream-error: ") && reason.ends_with("; 3 messages not delivered"), "{reason}");
        scene.upstream.assert_no_post();
    }
}

#[tokio::test]
async fn no_answer_in_time_closes_with_1013() {
    let mut scene = Scene::with("message_timeout = \"200ms\"").await;
    let mut held = scene.post("one").await.hold();
    let (code, reason) = scene.client.closed().await;
    assert_eq!(code, 1013);
    assert!(reason.starts_with("message-in-doubt: "), "{reason}");
    crate::support::must("the POST to be cancelled", held.closed()).await;
}

#[tokio::test]
async fn an_upstream_that_is_gone_closes_with_1013_or_1012() {
    let Scene { upstream, mut client, events, _gateway } = Scene::new().await;
    drop(upstream);
    client.text("anybody there?").await;
    let (code, reason) = client.closed().await;
    // Whichever is noticed first: the stream that broke, or the POST that found nobody.
    assert!((code, reason.split(':').next()) == (1012, Some("stream-broken")) || code == 1013, "{code} {reason}");
    drop(events);
}

#[tokio::test]
async fn what_a_client_sent_before_it_closed_is_delivered() {
    let mut scene = Scene::new().await;
    let first = scene.post("one").await;
    scene.client.text("two").await;
    scene.client.text("three").await;
    scene.client.close(4005, "done").await;
    // The close is answered at once, with the client's own code, and not after the deliveries.
    assert_eq!(scene.client.closed().await, (4005, "done".to_owned()));
    first.accept();
    for text in ["two", "three"] {
        let post = scene.upstream.next_post().await;
        assert_eq!(post.text(), text);
        post.accept();
    }
    scene.events.cancelled().await;
}

#[tokio::test]
async fn what_a_client_sent_before_it_vanished_is_delivered() {
    let mut scene = Scene::new().await;
    let first = scene.post("one").await;
    scene.client.text("two").await;
    scene.client.synchronise().await;
    scene.client.vanish();
    first.accept();
    let post = scene.upstream.next_post().await;
    assert_eq!(post.text(), "two");
    post.accept();
    scene.events.cancelled().await;
}

#[tokio::test]
async fn a_full_queue_stops_the_reading_of_the_socket_and_loses_nothing() {
    let mut scene = Scene::with("queue = \"64KiB\"").await;
    let total = 2_000;
    let text = |number: usize| format!("{number} {}", "x".repeat(10_000));
    let Scene { upstream, client, .. } = &mut scene;
    // Twenty megabytes: they go through 64 KiB only because the socket is read no faster than POSTs are answered.
    let sending = async {
        for number in 0..total {
            client.text(&text(number)).await;
        }
    };
    let receiving = async {
        for number in 0..total {
            let post = upstream.next_post().await;
            assert_eq!(post.text(), text(number));
            post.accept();
        }
    };
    tokio::join!(sending, receiving);
}

#[tokio::test]
async fn a_connection_that_upstream_closed_while_it_was_idle_costs_no_message() {
    let mut scene = Scene::new().await;
    for number in 0..5 {
        let post = scene.post(&number.to_string()).await;
        assert_eq!(post.text(), number.to_string());
        post.answer(Answer::status(204).with("connection", "close"));
    }
}

#[tokio::test]
async fn an_answer_counts_from_its_head_however_slow_its_body_is() {
    let mut scene = Scene::with("message_timeout = \"200ms\"").await;
    // Accepted, with a body that never comes to its end.
    let (answer, _body) = Answer::stream();
    scene.post("one").await.answer(answer.with("content-type", "application/json"));
    scene.post("two").await.accept();
    scene.events.send("data: still here\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("still here"));
}

#[tokio::test]
async fn an_answer_that_streams_does_not_hold_back_the_last_word() {
    let mut scene = Scene::with("max_reply_streams = 1").await;
    let (answer, tokens) = Answer::stream();
    scene.post("prompt").await.answer(answer);
    tokens.send("data: token\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("token"));
    scene.client.text("last word").await;
    scene.client.close(1000, "").await;
    let last = scene.upstream.next_post().await;
    assert_eq!(last.text(), "last word");
    last.accept();
    tokens.cancelled().await;
    scene.events.cancelled().await;
}

#[tokio::test]
async fn an_answer_before_the_whole_message_was_read_costs_nobody_else_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut connections = JoinSet::new();
    let backend = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let answer = if head[..read].starts_with(b"GET") {
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
                } else {
                    "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n"
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                // Keeps the connection and reads nothing more of it.
                std::future::pending::<()>().await;
            });
        }
    };
    let keys = "max_message_size = \"16MiB\"\nopen_timeout = \"10s\"";
    let gateway = TestGateway::from_toml(&gateway::toml(&endpoint, "", keys));
    let scene = async {
        let mut first = Client::connect(&gateway).await;
        first.binary(vec![0; 16 * 1024 * 1024]).await;
        assert_eq!(first.closed().await.0, 1009);
        let asked = Instant::now();
        let _second = Client::connect(&gateway).await;
        assert!(asked.elapsed() < Duration::from_secs(5), "it waited for a connection that will never be ready");
    };
    tokio::select! {
        () = scene => {}
        () = backend => {}
    }
}
