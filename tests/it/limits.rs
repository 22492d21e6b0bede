//! How much a client may send, and how many may be in (contract rule U23, and `[route.limits]`).

use std::time::{Duration, Instant};

use crate::support::client::Refusal;
use crate::support::gateway::toml;
use crate::support::upstream::EventSender;
use crate::support::{Client, FakeUpstream, PATIENCE, Scene, Seen, TestGateway, must};

/// A gateway whose route has these limits, in front of a backend.
async fn limited(limits: &str) -> (FakeUpstream, TestGateway) {
    let upstream = FakeUpstream::start().await;
    let toml = toml(&format!("http://{}", upstream.address), "", "");
    let toml = toml.replace("auth = \"none\"", &format!("auth = \"none\"\nlimits = {{ {limits} }}"));
    (upstream, TestGateway::from_toml(&toml))
}

async fn open(upstream: &mut FakeUpstream, gateway: &TestGateway) -> (Client, EventSender) {
    tokio::join!(Client::connect(gateway), async { upstream.next_open().await.accept() })
}

async fn refused(gateway: &TestGateway) -> Refusal {
    Client::ask(gateway, "/chat", &[]).await.err().unwrap()
}

/// Asks until it is let in: when a connection has ended for its client, the gateway may still have to notice.
async fn let_in_again(upstream: &mut FakeUpstream, gateway: &TestGateway) -> Client {
    let asks = async {
        loop {
            if let Ok(client) = Client::ask(gateway, "/chat", &[]).await {
                return client;
            }
        }
    };
    let answers = async { upstream.next_open().await.accept() };
    let (client, _events) = must("a free place", async { tokio::join!(asks, answers) }).await;
    client
}

#[tokio::test]
async fn a_client_that_sends_too_fast_is_read_at_the_rate_in_order_and_loses_nothing() {
    let mut scene = Scene::with("message_rate = 20\nmessage_burst = 5").await;
    let began = Instant::now();
    for number in 1..=25_u32 {
        scene.client.text(&number.to_string()).await;
    }
    for number in 1..=25_u32 {
        let post = scene.upstream.next_post().await;
        assert_eq!(post.text(), number.to_string());
        let earliest = Duration::from_millis(50) * number.saturating_sub(5);
        assert!(began.elapsed() >= earliest, "{number} came after {:?}", began.elapsed());
        post.accept();
    }
    // It was not closed for it, and hears what upstream has to say.
    scene.events.send("data: still here\n\n").await;
    assert_eq!(scene.client.next().await, Seen::text("still here"));
}

#[tokio::test]
async fn bytes_are_taken_at_the_rate_and_pings_are_answered_meanwhile() {
    let mut scene = Scene::with("byte_rate = \"10KiB\"\nbyte_burst = \"1KiB\"").await;
    let began = Instant::now();
    let large = "x".repeat(10 * 1024);
    for _ in 0..2 {
        scene.client.text(&large).await;
        scene.upstream.next_post().await.accept();
        // The ping stands before the next message.
        scene.client.synchronise().await;
    }
    // Nine tenths of a second for what the burst does not hold, before the second was read.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_sends_too_fast_is_closed_where_the_route_says_so() {
    let mut scene = Scene::with("byte_rate = \"1KiB\"\nover_rate = \"close\"").await;
    // Larger than the burst, so that the bucket is empty for a minute and a half, however slow the machine is.
    let large = "x".repeat(100 * 1024);
    scene.client.text(&large).await;
    scene.client.text("too much").await;
    let post = scene.upstream.next_post().await;
    assert_eq!(post.text(), large);
    post.accept();
    let (code, reason) = scene.client.closed().await;
    assert_eq!(code, 1008);
    assert_eq!(reason, "rate-limited: messages came faster than they may; 1 message not delivered");
    scene.events.cancelled().await;
    scene.upstream.assert_no_post();
}

#[tokio::test]
async fn a_route_has_so_many_connections_and_a_place_again_once_one_has_left() {
    let (mut upstream, gateway) = limited("connections = 2").await;
    let (mut first, _first_events) = open(&mut upstream, &gateway).await;
    let (_second, _second_events) = open(&mut upstream, &gateway).await;
    let refusal = refused(&gateway).await;
    assert_eq!((refusal.status, refusal.field("retry-after")), (503, "5"));
    assert!(refusal.body.contains("urn:tidegate:too-many-connections-route"), "{}", refusal.body);
    upstream.assert_untouched();
    first.close(1000, "").await;
    first.closed().await;
    let_in_again(&mut upstream, &gateway).await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_a_place_again_once_one_has_left() {
    let (mut upstream, gateway) = limited("per_address = 1").await;
    let (first, _events) = open(&mut upstream, &gateway).await;
    let refusal = refused(&gateway).await;
    assert_eq!((refusal.status, refusal.field("retry-after")), (429, "5"));
    assert!(refusal.body.contains("urn:tidegate:too-many-connections-address"), "{}", refusal.body);
    upstream.assert_untouched();
    // A client that is gone without a word has left, too.
    first.vanish();
    let_in_again(&mut upstream, &gateway).await;
}

#[tokio::test]
async fn a_place_is_taken_while_upstream_is_asked_and_free_when_it_refuses() {
    let (mut upstream, gateway) = limited("connections = 1, per_address = 1").await;
    let (answer, ()) = tokio::join!(Client::ask(&gateway, "/chat", &[]), async {
        let open = upstream.next_open().await;
        assert_eq!(refused(&gateway).await.status, 429);
        open.answer(crate::support::upstream::Answer::status(403));
    });
    assert_eq!(answer.err().unwrap().status, 403);
    let (_client, _events) = open(&mut upstream, &gateway).await;
}

#[tokio::test]
async fn many_that_come_at_once_are_never_more_than_the_limit() {
    let (mut upstream, gateway) = limited("connections = 5").await;
    let asks = futures_util::future::join_all((0..30).map(|_| Client::ask(&gateway, "/chat", &[])));
    let accepts = async {
        let mut streams = Vec::new();
        for _ in 0..5 {
            streams.push(upstream.next_open().await.accept());
        }
        streams
    };
    let (answers, _streams) = tokio::time::timeout(PATIENCE, async { tokio::join!(asks, accepts) }).await.unwrap();
    let statuses: Vec<_> =
        answers.iter().filter_map(|answer| answer.as_ref().err()).map(|refusal| refusal.status).collect();
    assert_eq!(statuses, [503; 25]);
    upstream.assert_untouched();
}
