//! Routes that are split between a bridge and a WebSocket backend: who goes where, and that nobody flips.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use http::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::access::{self, Desk, bearer};
use crate::support::client::tls;
use crate::support::gateway::certificates;
use crate::support::http::plain;
use crate::support::native::Native;
use crate::support::process::GatewayProcess;
use crate::support::upstream::{Answer, Either, field};
use crate::support::{Client, FakeUpstream, Seen, TestGateway, must};

/// Two backends that send everything back: the new one as events, the old one over WebSockets.
struct Backends {
    new: SocketAddr,
    old: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Backends {
    async fn start() -> Self {
        let upstream = FakeUpstream::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (new, old) = (upstream.address, listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_new(upstream));
        tasks.spawn(serve_old(listener));
        Self { new, old, _tasks: tasks }
    }

    /// A configuration whose only route is split between them; its listener speaks no TLS.
    fn toml(&self, auth: &str, split: &str) -> String {
        let (new, old) = (self.new, self.old);
        format!(
            r#"
[log]
format = "json"

[admin]
address = "127.0.0.1:0"

[[listener]]
address = "127.0.0.1:0"
tls = false

[auth.bearer]
keys = [{{ id = "app", algorithm = "HS256", file = "app.secret" }}]

[upstream.new]
endpoints = ["http://{new}"]
breaker = {{ failures = 2, open_for = "1m", max_open_for = "1m" }}

[upstream.old]
endpoints = ["http://{old}"]

[[route]]
name = "chat"
path = "/chat"
auth = "{auth}"
legacy = {{ upstream = "old" }}
bridge = {{ upstream = "new", events = "/events", messages = "/messages", ping_interval = "1h", stall_timeout = "1h" }}

[route.split]
{split}
"#
        )
    }
}

async fn serve_new(mut upstream: FakeUpstream) {
    let mut streams = HashMap::new();
    loop {
        match upstream.next_of_either().await {
            Either::Open(open) => {
                let connection = field(&open.head.headers, "tidegate-connection").to_owned();
                streams.insert(connection, open.accept());
            }
            Either::Post(post) => {
                if let Some(stream) = streams.get(post.field("tidegate-connection")) {
                    let _ = stream.try_send(format!("data: new {}\n\n", post.text())).await;
                }
                post.accept();
            }
        }
    }
}

async fn serve_old(listener: TcpListener) {
    let mut sockets = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        sockets.spawn(async move {
            let Ok(mut socket) = accept_async(stream).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Text(text) = message {
                    let _ = socket.send(Message::text(format!("old {}", text.as_str()))).await;
                }
            }
        });
    }
}

/// Status and side of a handshake with these fields. The connection is over afterwards.
async fn handshake(gateway: SocketAddr, target: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n{fields}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(must("an answer", stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let side = head.split("\r\ntidegate-side: ").nth(1).map(|rest| rest.split("\r\n").next().unwrap().to_owned());
    (head[9..12].parse().unwrap(), side.unwrap_or_default())
}

/// The sides of a thousand identities.
async fn sides(gateway: SocketAddr) -> Vec<String> {
    let side = |client: usize| async move {
        let fields = format!("authorization: Bearer {}\r\n", bearer(&format!("client-{client}")));
        let (status, side) = handshake(gateway, "/chat", &fields).await;
        assert_eq!(status, 101);
        side
    };
    // A few at a time.
    futures_util::stream::iter(0..1000).map(side).buffered(16).collect().await
}

async fn live(gateway: SocketAddr, subject: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://localhost:{}/chat", gateway.port()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", bearer(subject)).parse().unwrap());
    let stream = TcpStream::connect(gateway).await.unwrap();
    must("a WebSocket", client_async(request, stream)).await.unwrap().0
}

/// What comes back for a text.
async fn answer(socket: &mut WebSocketStream<TcpStream>, text: &str) -> String {
    socket.send(Message::text(text)).await.unwrap();
    loop {
        if let Message::Text(text) = must("an answer", socket.next()).await.unwrap().unwrap() {
            return text.as_str().to_owned();
        }
    }
}

fn on_the_bridge(sides: &[String]) -> usize {
    sides.iter().filter(|side| *side == "bridge").count()
}

#[tokio::test]
async fn thirty_percent_become_sixty_by_reload_and_nobody_who_is_in_notices_nor_moves_back() {
    let backends = Backends::start().await;
    let files = access::files();
    let file = files.path().join("tidegate.toml");
    let toml = backends.toml("bearer", "bridge_percent = 30");
    let mut gateway = GatewayProcess::start_in(files, &toml).await;
    let before = sides(gateway.address).await;
    assert!((270..=330).contains(&on_the_bridge(&before)), "{}", on_the_bridge(&before));

    let mut sockets = Vec::new();
    for (client, side) in before.iter().enumerate().take(10) {
        let mut socket = live(gateway.address, &format!("client-{client}")).await;
        let word = if side == "bridge" { "new" } else { "old" };
        assert_eq!(answer(&mut socket, "1").await, format!("{word} 1"));
        sockets.push((socket, word));
    }
    fs::write(&file, toml.replace("bridge_percent = 30", "bridge_percent = 60")).unwrap();
    gateway.process.signal(Signal::HUP);
    let reloaded = |line: &str| line.contains("\"configuration reloaded\"").then_some(());
    gateway.process.stderr.next("the line about the reload", reloaded).await;

    let after = sides(gateway.address).await;
    assert!((570..=630).contains(&on_the_bridge(&after)), "{}", on_the_bridge(&after));
    let moved_back = before.iter().zip(&after).filter(|(before, after)| *before == "bridge" && *after == "legacy");
    assert_eq!(moved_back.count(), 0);
    for (socket, word) in &mut sockets {
        assert_eq!(answer(socket, "2").await, format!("{word} 2"), "who was in is where it was");
    }
    let side_of_line = |line: Value| Some((line["subject"].as_str()?.to_owned(), line["side"].as_str()?.to_owned()));
    let opened = gateway.process.stderr.json().into_iter().filter(|line| line["message"] == "connection opened");
    let said: HashMap<_, _> = opened.filter_map(side_of_line).collect();
    assert_eq!((said.len(), &said["client-7"]), (1000, &after[7]), "the log says the side");
}

/// A gateway in this process with the address of its listener and of its admin listener.
fn start(toml: &str) -> (TestGateway, SocketAddr, SocketAddr) {
    let gateway = TestGateway::from_files(toml, access::files());
    let (address, admin) = (gateway.address(), gateway.gateway.admin_address().unwrap());
    (gateway, address, admin)
}

#[tokio::test]
async fn rules_decide_before_the_share_and_the_share_by_the_cookie() {
    let backends = Backends::start().await;
    let rules = r#"bridge_percent = 50
by = ["cookie:sid", "address"]
rules = [
    { header = "X-Beta", equals = "1", to = "bridge" },
    { cookie = "ws", equals = "old", to = "legacy" },
    { query = "side", to = "bridge" },
]
"#;
    let (_gateway, address, _) = start(&backends.toml("none", rules));
    let side = |target: &'static str, fields: String| async move { handshake(address, target, &fields).await.1 };
    let share = |sid: usize| side("/chat", format!("cookie: sid={sid}\r\n"));
    let mut seen = Vec::new();
    for sid in 0..16 {
        let chosen = share(sid).await;
        assert_eq!(share(sid).await, chosen);
        assert_eq!(side("/chat", format!("cookie: sid={sid}\r\nx-beta: 1\r\n")).await, "bridge");
        assert_eq!(side("/chat?side=x", format!("cookie: sid={sid}; ws=old\r\n")).await, "legacy");
        assert_eq!(side("/chat?side=x", format!("cookie: sid={sid}\r\n")).await, "bridge");
        seen.push(chosen);
    }
    assert!((1..16).contains(&on_the_bridge(&seen)), "{seen:?}");
}

#[tokio::test]
async fn while_the_bridge_takes_nobody_newcomers_go_to_the_old_backend_and_are_marked() {
    let mut backends = Backends::start().await;
    // Nobody listens there.
    backends.new = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (fallback, status, side) in [("legacy", 101, "legacy"), ("none", 503, "bridge")] {
        let split = format!("bridge_percent = 100\nfallback = \"{fallback}\"");
        let (_gateway, address, admin) = start(&backends.toml("none", &split));
        for _ in 0..2 {
            assert_eq!(handshake(address, "/chat", "").await, (502, "bridge".to_owned()), "until the circuit is open");
        }
        assert_eq!(handshake(address, "/chat", "").await, (status, side.to_owned()));
        let page = plain(admin, Method::GET, "/metrics", &[], "").await.body;
        let sample = r#"tidegate_split_handshakes_total{route="/chat",side="legacy",reason="fallback"} 1"#;
        assert_eq!(page.contains(sample), fallback == "legacy", "{page}");
    }
}

#[tokio::test]
async fn a_ticket_opens_one_connection_on_whichever_side() {
    let backends = Backends::start().await;
    for (percent, word) in [(0, "old"), (100, "new")] {
        let toml = backends.toml("ticket", &format!("bridge_percent = {percent}\nheader = \"\""));
        let toml = toml.replace("tls = false", "tls = { certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }");
        let gateway = TestGateway::from_files(&toml, access::files());
        let ticket = Desk::of(&gateway).ticket("ada").await;
        let target = format!("/chat?ticket={ticket}");
        let mut client = Client::ask(&gateway, &target, &[]).await.unwrap();
        assert!(!client.answer.contains_key("tidegate-side"), "the operator has turned that off");
        client.text("1").await;
        assert_eq!(client.next().await, crate::support::Seen::Text(format!("{word} 1")));
        let refusal = Client::ask(&gateway, &target, &[]).await.err().unwrap();
        assert!(refusal.status == 401 && refusal.body.contains("ticket-spent"), "{}", refusal.body);
    }
}

/// The new backend of the example: a login that knows everybody with a cookie, an event stream, and pages.
async fn serve_example(mut upstream: FakeUpstream) {
    let mut streams = Vec::new();
    while let Some(open) = upstream.try_next_open().await {
        let head = &open.head;
        match (head.uri.path(), field(&head.headers, "accept")) {
            ("/session", _) => {
                let answer = Answer::status(200).with("content-type", "application/json");
                open.answer(answer.body("{\"sub\":\"ada\"}"));
            }
            ("/chat", "text/event-stream") => {
                let subject = field(&head.headers, "tidegate-subject").to_owned();
                let events = open.accept();
                events.send(format!("data: new {subject}\n\n")).await;
                streams.push(events);
            }
            _ => open.answer(Answer::status(200).with("content-type", "text/html").body("page")),
        }
    }
}

#[tokio::test]
async fn the_example_of_a_migration_does_what_it_says() {
    let upstream = FakeUpstream::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut toml = include_str!("../../config/migration.toml").to_owned();
    for (given, here) in [
        ("127.0.0.1:9900", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:8443", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:9000", upstream.address.to_string()),
        ("127.0.0.1:9001", listener.local_addr().unwrap().to_string()),
        ("../certs", "certs".to_owned()),
    ] {
        assert!(toml.contains(given), "{given}");
        toml = toml.replace(given, &here);
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_example(upstream));
    tasks.spawn(serve_old(listener));
    let gateway = TestGateway::from_files(&toml, certificates());

    let cookie = ("cookie", "sid=1");
    let mut tester = Client::ask(&gateway, "/chat", &[cookie, ("x-beta", "1")]).await.unwrap();
    let heard = tester.next().await;
    assert_eq!((field(&tester.answer, "tidegate-side"), heard), ("bridge", Seen::text("new ada")));
    let mut user = Client::ask(&gateway, "/chat", &[cookie]).await.unwrap();
    user.text("hi").await;
    let heard = user.next().await;
    assert_eq!((field(&user.answer, "tidegate-side"), heard), ("legacy", Seen::text("old hi")));
    for client in [&tester, &user] {
        assert_eq!(field(&client.answer, "sunset"), "Mon, 01 Mar 2027 00:00:00 GMT");
    }
    let stream = tls(gateway.address(), &gateway.tls).await;
    let mut native = Native::events_over(stream, "/chat", &[cookie]).await;
    assert_eq!((native.status, native.field("sunset")), (200, ""));
    assert!(native.until("data: new ada\n\n").await.starts_with("retry: "));
    let desk = Desk::of(&gateway);
    for path in ["/", "/about/us"] {
        assert_eq!(desk.ask(Method::GET, path, &[], "").await.body, "page");
    }
    assert_eq!(desk.ask(Method::GET, "/chat", &[], "").await.status, 401);
    let admin = gateway.gateway.admin_address().unwrap();
    let ledger = plain(admin, Method::GET, "/ledger?route=chat", &[], "").await.json();
    let total = &ledger["routes"][0]["total"];
    assert_eq!((&total["bridged"], &total["legacy"]), (&Value::from(1), &Value::from(1)));
}
