//! Several endpoints: which one is used, and what becomes of those that fail (contract rules O8 to O12).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tidegate::config::Config;
use tidegate::protocol::sse::Limits;
use tidegate::session::PostOutcome;
use tidegate::upstream::messages::{Rules, post};
use tidegate::upstream::{BreakerState, Lookup, OutgoingRequest, Resolve, Upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::client::Refusal;
use crate::support::upstream::{Answer, EventSender, Open};
use crate::support::{Client, FakeUpstream, PATIENCE, Replica, Seen, TestGateway, gateway, must};

/// A gateway in front of these endpoints, each with its weight.
fn in_front_of(endpoints: &[(SocketAddr, u32)], keys: &str) -> TestGateway {
    let tables: Vec<_> = endpoints
        .iter()
        .map(|(address, weight)| format!("{{ url = \"http://{address}\", weight = {weight} }}"))
        .collect();
    let toml = gateway::toml("X", keys, "").replace("[\"X\"]", &format!("[{}]", tables.join(", ")));
    TestGateway::from_toml(&toml)
}

/// One upstream without a gateway, with these addresses behind its names.
fn upstream(endpoints: &str, keys: &str, names: &Names) -> Arc<Upstream> {
    let files = gateway::certificates();
    let toml = gateway::toml("X", keys, "").replace("[\"X\"]", endpoints);
    let config = Config::parse(&toml, "test.toml", files.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let resolver: Arc<dyn Resolve> = Arc::new(names.clone());
    Arc::new(Upstream::with_resolver(&config.upstreams[0], &tasks, &stop, &resolver).unwrap())
}

fn request(method: Method) -> OutgoingRequest {
    let target = "/events".parse().unwrap();
    OutgoingRequest { method, target, headers: HeaderMap::new(), body: Bytes::new() }
}

/// A resolver whose every name has the addresses that the scene gives it.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<Vec<SocketAddr>>>);

impl Names {
    fn are(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = addresses.to_vec();
    }
}

impl Resolve for Names {
    fn lookup<'a>(&'a self, _: &'a str, _: u16) -> Lookup<'a> {
        let addresses = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok::<_, io::Error>(addresses) })
    }
}

async fn connect(gateway: &TestGateway) -> Result<Client, Refusal> {
    Client::ask(gateway, "/chat", &[]).await
}

/// Looks again and again until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_burst_of_clients_is_spread_by_weight_before_any_of_them_is_answered() {
    let (mut one, mut three) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let gateway = Arc::new(in_front_of(&[(one.address, 1), (three.address, 3)], ""));
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let gateway = gateway.clone();
        clients.spawn(async move { connect(&gateway).await.map(drop) });
    }
    let (mut at_one, mut at_three) = (Vec::new(), Vec::new());
    while at_one.len() + at_three.len() < 16 {
        tokio::select! {
            open = one.next_open() => at_one.push(open),
            open = three.next_open() => at_three.push(open),
        }
    }
    assert_eq!((at_one.len(), at_three.len()), (4, 12));
    let streams: Vec<_> = at_one.into_iter().chain(at_three).map(Open::accept).collect();
    while let Some(client) = clients.join_next().await {
        client.unwrap().unwrap();
    }
    drop(streams);
}

#[tokio::test]
async fn a_connection_comes_back_to_its_endpoint_when_that_comes_back() {
    let (one, two, three) = (Replica::start().await, Replica::start().await, Replica::start().await);
    let replicas = [&one, &two, &three];
    let endpoints = format!("[\"http://{}\", \"http://{}\", \"http://{}\"]", one.address, two.address, three.address);
    let keys = "balance = \"hash\"\nslow_start = \"0s\"\nbreaker = { failures = 1, open_for = \"100ms\" }";
    let upstream = upstream(&endpoints, keys, &Names::default());
    let connection = Uuid::now_v7();
    let open = async || {
        let deadline = Instant::now() + PATIENCE;
        let answer = upstream.open(&connection, &request(Method::GET), deadline, None).await.unwrap();
        let name = answer.pool.name();
        (answer, replicas.iter().position(|replica| replica.address.to_string() == name).unwrap())
    };
    let (_held, home) = open().await;
    for _ in 0..5 {
        assert_eq!(open().await.1, home);
    }
    replicas[home].answer_with(502);
    assert_eq!(open().await.1, home, "the first failure is what tells");
    let (_held_too, refuge) = open().await;
    assert_ne!(refuge, home);
    replicas[home].answer_with(200);
    let began = Instant::now();
    while open().await.1 != home {
        assert!(began.elapsed() < PATIENCE, "it never came back");
    }
    for _ in 0..5 {
        assert_eq!(open().await.1, home);
    }
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_out() {
    let (sick, well) = (Replica::start().await, Replica::start().await);
    sick.answer_with(503);
    let keys = "breaker = { failures = 3, open_for = \"1h\", max_open_for = \"1h\" }";
    let gateway = in_front_of(&[(sick.address, 1), (well.address, 1)], keys);
    let (mut clients, mut refused) = (Vec::new(), 0);
    for _ in 0..20 {
        match connect(&gateway).await {
            Ok(client) => clients.push(client),
            Err(refusal) => {
                assert_eq!(refusal.status, 503);
                refused += 1;
            }
        }
    }
    assert_eq!((refused, sick.opens(), well.opens()), (3, 3, 17));
}

#[tokio::test]
async fn an_endpoint_that_was_left_out_is_tried_again_and_used_again() {
    let (sick, well) = (Replica::start().await, Replica::start().await);
    sick.answer_with(504);
    let keys = "slow_start = \"0s\"\nbreaker = { failures = 1, open_for = \"100ms\", max_open_for = \"100ms\" }";
    let gateway = in_front_of(&[(sick.address, 1), (well.address, 1)], keys);
    let mut clients = Vec::new();
    while sick.opens() < 2 {
        clients.extend(connect(&gateway).await.ok());
    }
    sick.answer_with(200);
    let failed = sick.opens();
    let began = Instant::now();
    while sick.opens() < failed + 3 {
        assert!(began.elapsed() < PATIENCE, "it is not used again");
        clients.extend(connect(&gateway).await.ok());
    }
    let before = clients.len();
    for _ in 0..4 {
        clients.extend(connect(&gateway).await.ok());
    }
    assert_eq!(clients.len(), before + 4, "all are let in again");
}

#[tokio::test]
async fn with_every_endpoint_failing_a_new_client_is_told_at_once_when_to_come_back() {
    let mut upstream = FakeUpstream::start().await;
    let keys = "breaker = { failures = 2, open_for = \"90s\", max_open_for = \"90s\" }";
    let gateway = TestGateway::with(&upstream, keys, "");
    let (old, events) = tokio::join!(connect(&gateway), async { upstream.next_open().await.accept() });
    let mut old = old.unwrap();
    for _ in 0..2 {
        let (refused, ()) =
            tokio::join!(connect(&gateway), async { upstream.next_open().await.answer(Answer::status(502)) });
        assert_eq!(refused.err().expect("a refusal").status, 502);
    }
    let refusal = connect(&gateway).await.err().expect("a refusal");
    assert_eq!(refusal.status, 503);
    let seconds: u64 = refusal.field("retry-after").parse().unwrap();
    assert!((60..=90).contains(&seconds), "{seconds}");
    assert!(refusal.body.contains("urn:tidegate:upstream-unavailable"), "{}", refusal.body);
    upstream.assert_untouched();
    // Messages have a breaker of their own.
    old.text("still here").await;
    upstream.next_post().await.accept();
    events.send("data: so am I\n\n").await;
    assert_eq!(old.next().await, Seen::text("so am I"));
}

#[tokio::test]
async fn messages_that_fail_stop_messages_and_not_streams() {
    let mut upstream = FakeUpstream::start().await;
    let keys = "breaker = { failures = 2, open_for = \"1h\", max_open_for = \"1h\" }";
    let gateway = TestGateway::with(&upstream, keys, "message_timeout = \"500ms\"\ndelivery_timeout = \"500ms\"");
    let mut streams = Vec::new();
    // The last message is not even sent, and waits in vain for its turn.
    for sent in [true, true, false] {
        let (client, events) = tokio::join!(connect(&gateway), async { upstream.next_open().await.accept() });
        let mut client = client.unwrap();
        events.send("data: open\n\n").await;
        assert_eq!(client.next().await, Seen::text("open"));
        client.text("message").await;
        if sent {
            upstream.next_post().await.answer(Answer::status(502));
        }
        assert_eq!(client.closed().await.0, 1013);
        upstream.assert_no_post();
        streams.push(events);
    }
}

#[tokio::test]
async fn a_503_that_says_when_to_come_back_is_no_failure() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "breaker = { failures = 1 }", "");
    for _ in 0..3 {
        let (refused, ()) = tokio::join!(connect(&gateway), async {
            upstream.next_open().await.answer(Answer::status(503).with("retry-after", "7"));
        });
        assert_eq!(refused.err().expect("a refusal").field("retry-after"), "7");
    }
}

async fn taken_out_and_in(check: &str) {
    let (mut one, two) = (Replica::start().await, Replica::start().await);
    let keys = format!(
        "slow_start = \"0s\"\nhealth = {{ {check}, interval = \"100ms\", timeout = \"200ms\", healthy_after = 2, \
         unhealthy_after = 2 }}"
    );
    let gateway = in_front_of(&[(one.address, 1), (two.address, 1)], &keys);
    one.checked(false, 2).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(connect(&gateway).await.unwrap());
    }
    assert_eq!((one.opens(), two.opens()), (0, 4), "an unhealthy endpoint was used");
    one.checked(true, 2).await;
    for _ in 0..4 {
        clients.push(connect(&gateway).await.unwrap());
    }
    assert_eq!((one.opens(), two.opens()), (4, 4), "a healthy endpoint was not used");
}

#[tokio::test]
async fn a_check_over_http_takes_an_endpoint_out_and_in() {
    taken_out_and_in("path = \"/health\"").await;
}

#[tokio::test]
async fn a_check_that_opens_a_stream_takes_an_endpoint_out_and_in() {
    taken_out_and_in("kind = \"stream\", path = \"/first-byte\"").await;
}

#[tokio::test]
async fn with_no_endpoint_healthy_all_are_used() {
    let (mut one, mut two) = (Replica::start().await, Replica::start().await);
    let keys = "health = { path = \"/health\", interval = \"100ms\", unhealthy_after = 1 }";
    let gateway = in_front_of(&[(one.address, 1), (two.address, 1)], keys);
    tokio::join!(one.checked(false, 1), two.checked(false, 1));
    let _clients = [connect(&gateway).await.unwrap(), connect(&gateway).await.unwrap()];
    assert_eq!((one.opens(), two.opens()), (1, 1));
}

/// An HTTP/2 connection in the hands of the scene.
struct Http2Peer(h2::server::Connection<TcpStream, Bytes>);

impl Http2Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = must("a connection", listener.accept()).await.unwrap();
        Self(must("the HTTP/2 handshake", h2::server::handshake(stream)).await.unwrap())
    }

    /// The next request.
    async fn next(&mut self) -> h2::server::SendResponse<Bytes> {
        must("a request", self.0.accept()).await.expect("a connection that goes on").unwrap().1
    }

    /// Keeps the connection going for as long as this is held.
    fn drive(mut self) -> JoinSet<()> {
        let mut driven = JoinSet::new();
        driven.spawn(async move { while self.0.accept().await.is_some() {} });
        driven
    }
}

/// Answers with an event stream.
fn stream(mut request: h2::server::SendResponse<Bytes>) -> h2::SendStream<Bytes> {
    let response = http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
    request.send_response(response, false).unwrap()
}

async fn http2_gateway() -> (TcpListener, TestGateway) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = in_front_of(&[(listener.local_addr().unwrap(), 1)], "protocol = \"http2\"");
    (listener, gateway)
}

#[tokio::test]
async fn a_connection_that_is_going_away_keeps_its_streams_and_gets_no_new_ones() {
    let (listener, gateway) = http2_gateway().await;
    let (client, (first, mut events)) = tokio::join!(connect(&gateway), async {
        let mut first = Http2Peer::accept(&listener).await;
        let events = stream(first.next().await);
        first.0.graceful_shutdown();
        (first.drive(), events)
    });
    let mut client = client.unwrap();
    let (other, second) = tokio::join!(connect(&gateway), async {
        let mut second = Http2Peer::accept(&listener).await;
        let mut events = stream(second.next().await);
        events.send_data("data: on the second\n\n".into(), false).unwrap();
        (second.drive(), events)
    });
    assert_eq!(other.unwrap().next().await, Seen::text("on the second"));
    events.send_data("data: on the first\n\n".into(), false).unwrap();
    assert_eq!(client.next().await, Seen::text("on the first"));
    drop((first, second));
}

#[tokio::test]
async fn a_stream_that_is_refused_is_asked_for_again_on_another_connection() {
    let (listener, gateway) = http2_gateway().await;
    let (client, held) = tokio::join!(connect(&gateway), async {
        let mut first = Http2Peer::accept(&listener).await;
        first.next().await.send_reset(h2::Reason::REFUSED_STREAM);
        let first = first.drive();
        let mut second = Http2Peer::accept(&listener).await;
        let events = stream(second.next().await);
        (first, second.drive(), events)
    });
    client.unwrap();
    drop(held);
}

#[tokio::test]
async fn a_request_above_the_last_stream_of_a_goaway_is_sent_again() {
    let (listener, gateway) = http2_gateway().await;
    let (client, held) = tokio::join!(connect(&gateway), async {
        let (mut raw, _) = must("a connection", listener.accept()).await.unwrap();
        give_back_the_first_request(&mut raw).await;
        let mut second = Http2Peer::accept(&listener).await;
        let events = stream(second.next().await);
        (raw, second.drive(), events)
    });
    client.unwrap();
    drop(held);
}

#[tokio::test]
async fn a_message_that_is_given_back_counts_as_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("[\"http://{}\"]", listener.local_addr().unwrap());
    let upstream = upstream(&endpoint, "protocol = \"http2\"", &Names::default());
    let pool = upstream.candidates(&Uuid::now_v7()).swap_remove(0);
    let events = Limits { event: 1024, field: 1024 };
    let rules = Rules { replies: false, max_message_size: 1024, events, timeout: PATIENCE };
    let (answered, ()) = tokio::join!(post(pool, request(Method::POST), rules), async {
        let (mut raw, _) = must("a connection", listener.accept()).await.unwrap();
        give_back_the_first_request(&mut raw).await;
    });
    assert!(matches!(answered.outcome, PostOutcome::NotSent), "{answered:?}");
}

/// Speaks just enough HTTP/2 to read a request and to say with a GOAWAY that it was not looked at.
async fn give_back_the_first_request(raw: &mut TcpStream) {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Last stream 0, no error.
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    raw.write_all(&EMPTY_SETTINGS).await.unwrap();
    must("the preface", raw.read_exact(&mut [0; PREFACE])).await.unwrap();
    loop {
        let mut head = [0; 9];
        must("a frame", raw.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
        raw.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    raw.write_all(&GOAWAY).await.unwrap();
}

#[tokio::test]
async fn a_limit_of_streams_makes_a_second_connection() {
    let mut upstream = FakeUpstream::start_with(None, Some(4)).await;
    let gateway = TestGateway::with(&upstream, "protocol = \"http2\"", "");
    let mut clients = Vec::new();
    for expected in [1, 1, 1, 2, 2] {
        let (client, events) = tokio::join!(connect(&gateway), async { upstream.next_open().await.accept() });
        clients.push((client.unwrap(), events));
        assert_eq!(upstream.connections(), expected, "with {} clients", clients.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_does_not_slow_the_others_on_its_connection() {
    const OTHERS: usize = 99;
    const EVENTS: usize = 50;
    let mut upstream = FakeUpstream::start().await;
    let keys = "protocol = \"http2\"\nmax_streams_per_connection = 200";
    let gateway = TestGateway::with(&upstream, keys, "");
    let mut joined = Vec::new();
    for _ in 0..=OTHERS {
        let (client, events) = tokio::join!(connect(&gateway), async { upstream.next_open().await.accept() });
        joined.push((client.unwrap(), events));
    }
    assert_eq!(upstream.connections(), 1, "all are on one connection");

    let (_never_reads, flooded) = joined.pop().unwrap();
    let mut tasks = JoinSet::new();
    let stuck = Arc::new(tokio::sync::Notify::new());
    let full = stuck.clone();
    tasks.spawn(async move { flood(&flooded, &full).await });
    must("the flood to fill all buffers", stuck.notified()).await;

    let mut readers = JoinSet::new();
    for (mut client, events) in joined {
        readers.spawn(async move {
            for number in 0..EVENTS {
                events.send(format!("data: {number} {}\n\n", "x".repeat(2000))).await;
                let Seen::Text(text) = client.next().await else { panic!("no text") };
                assert!(text.starts_with(&format!("{number} ")), "{text}");
            }
        });
    }
    while let Some(read) = readers.join_next().await {
        read.unwrap();
    }
}

/// Sends without end, and says so when nothing more is taken.
async fn flood(events: &EventSender, full: &tokio::sync::Notify) {
    let event = Bytes::from(format!("data: {}\n\n", "x".repeat(8000)));
    loop {
        let sending = events.try_send(event.clone());
        tokio::pin!(sending);
        tokio::select! {
            sent = &mut sending => if sent.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                full.notify_one();
                let _ = sending.await;
            }
        }
    }
}

/// Two upstreams with the same port on two addresses of this machine.
async fn two_addresses() -> (FakeUpstream, FakeUpstream) {
    loop {
        let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = one.local_addr().unwrap().port();
        // Taken by somebody else: another port will do.
        let Ok(two) = TcpListener::bind(("127.0.0.2", port)).await else { continue };
        return (FakeUpstream::serve(one, None, None), FakeUpstream::serve(two, None, None));
    }
}

#[tokio::test]
async fn a_name_that_moves_takes_new_requests_along_and_leaves_open_streams_alone() {
    for protocol in ["http1", "http2"] {
        let (mut old, mut new) = two_addresses().await;
        let names = Names::default();
        names.are(&[old.address]);
        let keys = format!("protocol = \"{protocol}\"\nresolve_interval = \"100ms\"");
        let upstream = upstream(&format!("[\"http://app.test:{}\"]", old.address.port()), &keys, &names);
        upstream.maintain();
        let connection = Uuid::now_v7();
        let get = request(Method::GET);
        let open = || upstream.open(&connection, &get, Instant::now() + PATIENCE, None);

        let (first, events) = tokio::join!(open(), async { old.next_open().await.accept() });
        let mut first = first.unwrap();
        // A connection that is idle, or free for another stream.
        let (second, ()) = tokio::join!(open(), async { old.next_open().await.answer(Answer::status(204)) });
        drop(second.unwrap().response.into_body().read(0).await);

        names.are(&[new.address]);
        until("the old address to be forgotten", || {
            let endpoint = &upstream.snapshot().endpoints[0];
            (endpoint.http2_connections, endpoint.idle_connections) == (0, 0)
        })
        .await;
        let (third, _) = tokio::join!(open(), async { new.next_open().await.accept() });
        third.unwrap();
        events.send("data: still here\n\n").await;
        let chunk = std::future::poll_fn(|cx| first.response.body_mut().poll_chunk(cx));
        assert_eq!(must("an event", chunk).await.unwrap().unwrap(), "data: still here\n\n");
    }
}

#[tokio::test]
async fn connections_spread_over_the_addresses_of_a_name() {
    let (mut one, mut two) = two_addresses().await;
    let names = Names::default();
    names.are(&[one.address, two.address]);
    let upstream = upstream(&format!("[\"http://app.test:{}\"]", one.address.port()), "", &names);
    let connection = Uuid::now_v7();
    let get = request(Method::GET);
    let mut held = Vec::new();
    let mut at_one = 0;
    for _ in 0..4 {
        let (opened, events) = tokio::join!(upstream.open(&connection, &get, Instant::now() + PATIENCE, None), async {
            tokio::select! {
                open = one.next_open() => { at_one += 1; open.accept() },
                open = two.next_open() => open.accept(),
            }
        });
        held.push((opened.unwrap(), events));
    }
    assert_eq!(at_one, 2);
}

#[tokio::test]
async fn the_view_of_an_upstream_shows_streams_and_breakers() {
    let replica = Replica::start().await;
    let keys = "breaker = { failures = 2, open_for = \"1h\", max_open_for = \"1h\" }";
    let upstream = upstream(&format!("[\"http://{}\"]", replica.address), keys, &Names::default());
    let connection = Uuid::now_v7();
    let get = request(Method::GET);
    let held = upstream.open(&connection, &get, Instant::now() + PATIENCE, None).await.unwrap();
    let turn = upstream.reopens().turn().await;
    let seen = upstream.snapshot();
    assert_eq!((&*seen.name, seen.reopens.active, seen.reopens.granted, seen.retries.granted), ("app", 1, 1, 0));
    let endpoint = &seen.endpoints[0];
    assert_eq!((endpoint.streams, endpoint.weight, endpoint.health.label()), (1, 1, "unknown"));
    assert_eq!(*endpoint.name, *replica.address.to_string());
    // Streams that break off or stall are told by who reads them.
    held.pool.stream_failed();
    held.pool.stream_failed();
    drop((held, turn));
    let seen = upstream.snapshot();
    let endpoint = &seen.endpoints[0];
    assert_eq!((endpoint.streams, seen.reopens.active), (0, 0));
    assert_eq!((endpoint.streams_breaker, endpoint.messages_breaker), (BreakerState::Open, BreakerState::Closed));
}
