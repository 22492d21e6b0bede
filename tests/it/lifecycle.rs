//! Starting, stopping, and many at once.

use std::time::Instant;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::support::gateway::{certificates, toml, trusting};
use crate::support::process::GatewayProcess;
use crate::support::upstream::{Answer, EventSender};
use crate::support::{Client, FakeUpstream, Seen, TestGateway, must};

/// A process in front of an upstream, with this `drain_timeout` and further keys for the bridge.
async fn scene(drain_timeout: &str, bridge_keys: &str) -> (FakeUpstream, GatewayProcess) {
    let upstream = FakeUpstream::start().await;
    let toml = toml(&format!("http://{}", upstream.address), "", bridge_keys);
    let gateway = GatewayProcess::start(&format!("[server]\ndrain_timeout = \"{drain_timeout}\"\n{toml}")).await;
    (upstream, gateway)
}

async fn open(upstream: &mut FakeUpstream, gateway: &GatewayProcess) -> (Client, EventSender) {
    tokio::join!(gateway.client(), async { upstream.next_open().await.accept() })
}

/// Every one of a hundred clients is told, upstream sees every stream end, and the process ends with 0.
async fn all_are_told(signal: Signal, name: &str) {
    const CLIENTS: usize = 100;
    let (mut upstream, mut gateway) = scene("15s", "").await;
    let (clients, streams) = tokio::join!(join_all((0..CLIENTS).map(|_| gateway.client())), async {
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            streams.push(upstream.next_open().await.accept());
        }
        streams
    });

    gateway.process.signal(signal);
    let farewells = join_all(clients.into_iter().map(|mut client| async move { client.closed().await })).await;
    for farewell in farewells {
        assert_eq!(farewell, (1001, "shutdown: the gateway is stopping".to_owned()));
    }
    join_all(streams.iter().map(EventSender::cancelled)).await;
    assert_eq!(gateway.process.exit().await, 0);

    let lines = gateway.process.stderr.json();
    let closed: Vec<_> = lines.iter().filter(|line| line["message"] == "connection closed").collect();
    assert_eq!(closed.len(), CLIENTS);
    assert!(closed.iter().all(|line| line["cause"] == "shutdown"));
    let told = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap();
    assert_eq!(told("asked to stop")["signal"], name);
    assert_eq!(told("stopped")["cut"], 0);
    assert!(told("stopping")["open"].as_u64().unwrap() >= CLIENTS as u64);
}

#[tokio::test]
async fn sigterm_tells_every_client_and_ends_with_0() {
    all_are_told(Signal::TERM, "SIGTERM").await;
}

#[tokio::test]
async fn sigint_tells_every_client_and_ends_with_0() {
    all_are_told(Signal::INT, "SIGINT").await;
}

#[tokio::test]
async fn a_stopping_gateway_takes_nobody_in() {
    let (mut upstream, mut gateway) = scene("15s", "").await;
    let (client, _events) = open(&mut upstream, &gateway).await;
    gateway.process.signal(Signal::TERM);
    let stopping = |line: &str| line.contains("\"stopping\"").then_some(());
    gateway.process.stderr.next("the line that says it stops", stopping).await;
    let refused = must("a refusal", tokio::net::TcpStream::connect(gateway.address)).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    drop(client);
    assert_eq!(gateway.process.exit().await, 0);
}

#[tokio::test]
async fn a_client_that_never_answers_the_close_is_dropped_after_close_timeout() {
    let (mut upstream, mut gateway) = scene("15s", "close_timeout = \"300ms\"").await;
    let (client, events) = open(&mut upstream, &gateway).await;
    let mut silent = client.into_raw(); // nobody reads frames here, so nobody answers them
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit().await, 0, "it was not cut at the deadline, but gone before");
    events.cancelled().await;
    let mut rest = Vec::new();
    let _ = must("the end of the connection", silent.read_to_end(&mut rest)).await;
    assert_eq!(rest[..4], [0x88, 2 + 33, 0x03, 0xe9], "one close frame with 1001");
    let line = gateway.closed_line().await;
    assert_eq!(line["cause"], "shutdown");
    let lasted = line["duration_ms"].as_u64().unwrap();
    assert!((300..10_000).contains(&lasted), "{lasted}");
}

#[tokio::test]
async fn who_is_still_there_at_drain_timeout_is_cut_and_the_exit_code_is_3() {
    let (mut upstream, mut gateway) = scene("1s", "close_timeout = \"1m\"").await;
    let (client, events) = open(&mut upstream, &gateway).await;
    let _silent = client.into_raw();
    gateway.process.signal(Signal::TERM);
    let began = Instant::now();
    assert_eq!(gateway.process.exit().await, 3);
    let took = began.elapsed().as_millis();
    assert!((900..10_000).contains(&took), "{took} ms");
    events.cancelled().await;
    let lines = gateway.process.stderr.json();
    let closed = lines.iter().find(|line| line["message"] == "connection closed").expect("its last line");
    assert_eq!(closed["cause"], "shutdown");
    let warned = lines.iter().find(|line| line["level"] == "WARN").unwrap();
    assert_eq!(
        (&warned["message"], &warned["cut"]),
        (&json!("the deadline has passed, cutting the connections that are left"), &json!(1))
    );
}

#[tokio::test]
async fn what_is_cut_with_messages_undelivered_says_how_many() {
    let (mut upstream, mut gateway) = scene("1s", "").await;
    let (mut client, _events) = open(&mut upstream, &gateway).await;
    client.text("one").await;
    client.text("two").await;
    client.synchronise().await;
    upstream.next_post().await.answer(Answer::status(503).with("retry-after", "20"));
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit().await, 3);
    let lines = gateway.process.stderr.json();
    let closed = lines.iter().find(|line| line["message"] == "connection closed").expect("its last line");
    assert_eq!((&closed["cause"], &closed["undelivered"]), (&json!("shutdown"), &json!(2)));
}

#[tokio::test]
async fn messages_sent_before_the_signal_are_delivered_before_the_end() {
    let (mut upstream, mut gateway) = scene("15s", "").await;
    let (mut client, _events) = open(&mut upstream, &gateway).await;
    for number in 1..=3 {
        client.text(&number.to_string()).await;
    }
    client.synchronise().await;
    gateway.process.signal(Signal::TERM);
    assert_eq!(client.closed().await.0, 1001);
    for number in 1..=3 {
        let post = upstream.next_post().await;
        assert_eq!(post.text(), number.to_string());
        post.accept();
    }
    assert_eq!(gateway.process.exit().await, 0);
    let line = gateway.closed_line().await;
    assert_eq!((&line["messages_up"], &line["undelivered"]), (&json!(3), &json!(0)));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_and_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let toml = toml("http://127.0.0.1:9", "", "").replace("127.0.0.1:0", &address);
    let files = certificates();
    let mut process = GatewayProcess::run(&files, &toml, &[]);
    assert_eq!(process.exit().await, 1);
    let lines = process.stderr.json();
    let error = lines.last().unwrap();
    assert_eq!((&error["level"], &error["message"]), (&json!("ERROR"), &json!("cannot start")));
    let said = error["error"].as_str().unwrap();
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn a_file_with_mistakes_starts_nothing_and_ends_with_2() {
    let toml = toml("http://127.0.0.1:9", "protocoll = \"http1\"", "in_flight = 0");
    let files = certificates();
    let mut process = GatewayProcess::run(&files, &toml, &[]);
    assert_eq!(process.exit().await, 2);
    let said = process.stderr.all().join("\n");
    assert!(said.contains("did you mean `protocol`?") && said.contains("in_flight = 0"), "{said}");
    assert_eq!(said.matches("error: ").count(), 2, "{said}");
}

#[tokio::test]
async fn two_hundred_clients_exchange_messages_both_ways_at_once() {
    const CLIENTS: usize = 200;
    const ROUNDS: usize = 5;
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let chat = |name: usize| {
        let gateway = &gateway;
        async move {
            let target = format!("/chat?name={name}");
            let mut client = Client::ask(gateway, &target, &[]).await.unwrap();
            for round in 0..ROUNDS {
                client.text(&format!("{name}/{round}")).await;
                assert_eq!(client.next().await, Seen::Text(format!("{name}/{round} to {name}")));
            }
            client.close(1000, "").await;
        }
    };
    let echo = async {
        let mut streams = std::collections::HashMap::new();
        for _ in 0..CLIENTS {
            let open = upstream.next_open().await;
            let name = open.head.uri.query().unwrap().strip_prefix("name=").unwrap().to_owned();
            let id = open.head.headers["tidegate-connection"].clone();
            assert!(streams.insert(id, (name, open.accept())).is_none(), "every connection has an id of its own");
        }
        for _ in 0..CLIENTS * ROUNDS {
            let post = upstream.next_post().await;
            let (name, stream) = &streams[&post.head.headers["tidegate-connection"]];
            stream.send(format!("data: {} to {name}\n\n", post.text())).await;
            post.accept();
        }
        join_all(streams.values().map(|(_, stream)| stream.cancelled())).await;
    };
    tokio::join!(join_all((0..CLIENTS).map(chat)), echo);
    assert_eq!(gateway.stop().await.cut, 0);
}

#[tokio::test]
async fn a_thousand_messages_arrive_as_a_thousand_posts_in_order_one_at_a_time() {
    const MESSAGES: usize = 1000;
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let (mut client, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    let send = async {
        for number in 1..=MESSAGES {
            client.text(&format!("message {number}")).await;
        }
    };
    let take = async {
        for number in 1..=MESSAGES {
            let post = upstream.next_post().await;
            assert_eq!(post.text(), format!("message {number}"));
            assert_eq!(post.field("tidegate-sequence"), number.to_string());
            // A second one under way would be here by now, or at the latest while the others come.
            tokio::task::yield_now().await;
            upstream.assert_no_post();
            post.accept();
        }
    };
    tokio::join!(send, take);
    client.synchronise().await;
    upstream.assert_no_post();
}

#[tokio::test]
async fn a_thousand_events_arrive_as_a_thousand_messages_in_order() {
    const EVENTS: usize = 1000;
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let (mut client, events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    let send = async {
        for number in 1..=EVENTS {
            events.send(format!("id: {number}\ndata: event {number}\n\n")).await;
        }
    };
    let take = async {
        for number in 1..=EVENTS {
            assert_eq!(client.next().await, Seen::Text(format!("event {number}")));
        }
    };
    tokio::join!(send, take);
}

#[tokio::test]
async fn a_quiet_log_changes_nothing_but_the_log() {
    let mut upstream = FakeUpstream::start().await;
    // Port 0 is told only in the log, so that this scene needs one of its own.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml =
        toml(&format!("http://{}", upstream.address), "", "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let files = certificates();
    let mut process = GatewayProcess::run(&files, &format!("[log]\nfilter = \"off\"\n{toml}"), &[]);
    let address = ([127, 0, 0, 1], port).into();
    let tls = trusting(&files.path().join("certs/dev.pem"));
    // Nothing says when it listens.
    must("the gateway to listen", async {
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (client, events) =
        tokio::join!(Client::ask_at(address, &tls, "/chat", &[]), async { upstream.next_open().await.accept() });
    let mut client = client.unwrap();
    events.send("data: still here\n\n").await;
    assert_eq!(client.next().await, Seen::text("still here"));
    process.signal(Signal::TERM);
    assert_eq!(client.closed().await.0, 1001);
    assert_eq!(process.exit().await, 0);
    assert!(process.stderr.all().is_empty());
}
