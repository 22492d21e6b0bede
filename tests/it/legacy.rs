//! WebSockets that are passed through to a WebSocket backend.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::access::{self, Desk};
use crate::support::client::Refusal;
use crate::support::http::plain;
use crate::support::legacy::{OldBackend, OldSocket};
use crate::support::{Client, Seen, TestGateway, must};

pub(crate) const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\n";

/// A client that is let in, and the backend's end of its tunnel.
pub(crate) struct Scene {
    pub(crate) backend: OldBackend,
    pub(crate) gateway: TestGateway,
    pub(crate) client: Client,
    pub(crate) old: OldSocket,
}

impl Scene {
    /// With further keys for the pass-through, one a line.
    pub(crate) async fn with(keys: &str) -> Self {
        let backend = OldBackend::start().await;
        let gateway = TestGateway::from_toml(&format!("{ADMIN}{}", backend.toml("", keys)));
        let (client, old) = tokio::join!(Client::connect(&gateway), backend.accept());
        Self { backend, gateway, client, old }
    }

    pub(crate) async fn admin(&self, target: &str) -> String {
        plain(self.gateway.gateway.admin_address().unwrap(), Method::GET, target, &[], "").await.body
    }
}

#[tokio::test]
async fn messages_of_every_size_pass_both_ways() {
    let Scene { mut client, old, gateway: _gateway, .. } = Scene::with("").await;
    let conversation = async {
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            client.text(&"t".repeat(size)).await;
            assert_eq!(client.next().await, Seen::Text("t".repeat(size)));
            client.binary(vec![0xa5; size]).await;
            assert_eq!(client.next().await, Seen::Binary(vec![0xa5; size]));
        }
        // Answered by the backend, not by the gateway.
        client.synchronise().await;
        client.close(1000, "done").await;
        assert_eq!(client.next().await, Seen::Close(1000, "done".to_owned()));
        assert_eq!(client.next().await, Seen::Lost);
    };
    must("the conversation", async { tokio::join!(old.echo(), conversation) }).await;
}

#[tokio::test]
async fn fragments_stay_fragments_and_pings_between_them_stay_there() {
    let Scene { mut client, old, gateway: _gateway, .. } = Scene::with("").await;
    let part =
        |opcode, is_final, text: &'static str| Message::Frame(Frame::message(text, OpCode::Data(opcode), is_final));
    client.send(part(Data::Text, false, "Hel")).await;
    client.send(Message::Ping(Bytes::from_static(b"between"))).await;
    client.send(part(Data::Continue, true, "lo")).await;
    let mut socket = old.socket.into_inner();
    let mut frames = Vec::new();
    for length in [3, 7, 2] {
        let mut header = [0; 6];
        must("a frame", socket.read_exact(&mut header)).await.unwrap();
        let mut payload = vec![0; length];
        must("its payload", socket.read_exact(&mut payload)).await.unwrap();
        let [first, second, key @ ..] = header;
        assert_eq!(second, 0x80 | u8::try_from(length).unwrap(), "masked still");
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        frames.push((first, String::from_utf8(payload).unwrap()));
    }
    assert_eq!(frames, [(0x01, "Hel".to_owned()), (0x89, "between".to_owned()), (0x80, "lo".to_owned())]);
}

#[tokio::test]
async fn the_backend_sees_the_clients_handshake_and_the_client_the_backends_answer() {
    let backend = OldBackend::start().await;
    let gateway = TestGateway::from_toml(&backend.toml("", "host = \"old.example\""));
    let asked = [
        ("sec-websocket-protocol", "app.v2, app.v1"),
        ("cookie", "session=1"),
        ("user-agent", "old/1.0"),
        ("tidegate-subject", "eve"),
        ("x-forwarded-for", "10.9.8.7"),
    ];
    let answered = [("sec-websocket-protocol", "app.v1"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
    let (client, old) = tokio::join!(
        Client::ask(&gateway, "/chat?room=7&ticket=x&token=theirs", &asked),
        backend.accept_with(&answered)
    );
    let client = client.unwrap();
    assert_eq!(old.target, "/chat?room=7&token=theirs");
    for (name, value) in [
        ("host", "old.example"),
        ("cookie", "session=1"),
        ("user-agent", "old/1.0"),
        ("sec-websocket-protocol", "app.v2, app.v1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
    ] {
        assert_eq!(old.field(name), value, "{name}");
    }
    assert!(!old.fields.contains_key("tidegate-subject"));
    assert_eq!(client.answer["sec-websocket-protocol"], "app.v1");
    assert_eq!(client.answer.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(client.answer["tidegate-connection"], old.fields["tidegate-connection"]);
}

async fn refused(backend: &OldBackend, gateway: &TestGateway, answer: &str) -> Refusal {
    let (client, _) = tokio::join!(Client::ask(gateway, "/chat", &[]), backend.answer(answer));
    let Err(refusal) = client else { panic!("{answer} let the client in") };
    refusal
}

#[tokio::test]
async fn a_backend_that_refuses_is_quoted_and_one_that_answers_something_else_is_not() {
    let backend = OldBackend::start().await;
    let gateway = TestGateway::from_toml(&backend.toml("", ""));
    for (status, head, wanted) in [
        (401, "www-authenticate: Basic realm=x\r\n", 401),
        (403, "", 403),
        (404, "", 404),
        (410, "", 410),
        (429, "retry-after: 7\r\n", 429),
        (503, "retry-after: 9\r\n", 503),
        (200, "", 502),
        (302, "location: http://internal/\r\n", 502),
        (500, "", 502),
    ] {
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n{head}\r\nsay");
        let refusal = refused(&backend, &gateway, &answer).await;
        assert_eq!(refusal.status, wanted, "{status}");
        assert_eq!(refusal.body == "say", wanted == status, "{}", refusal.body);
        assert!(!refusal.headers.contains_key("location"));
        for name in ["www-authenticate", "retry-after"] {
            assert_eq!(refusal.headers.contains_key(name), head.starts_with(name), "{status} {name}");
        }
    }
    // A 101 that does not belong to the key that was asked with.
    let stolen = "HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let refusal = refused(&backend, &gateway, stolen).await;
    assert!(refusal.status == 502 && refusal.body.contains("upstream-unusable"), "{}", refusal.body);
}

#[tokio::test]
async fn what_the_client_does_not_offer_is_not_agreed_to_for_it() {
    let backend = OldBackend::start().await;
    let gateway = TestGateway::from_toml(&backend.toml("", ""));
    for field in [("sec-websocket-protocol", "other"), ("sec-websocket-extensions", "permessage-deflate")] {
        let answered = [field];
        let (client, mut old) = tokio::join!(Client::ask(&gateway, "/chat", &[]), backend.accept_with(&answered));
        assert_eq!(client.err().map(|refusal| refusal.status), Some(502), "{field:?}");
        assert_eq!(old.next().await, Seen::Lost);
    }
}

#[tokio::test]
async fn a_backend_that_is_silent_or_not_there_is_told_apart() {
    let backend = OldBackend::start().await;
    let gateway = TestGateway::from_toml(&backend.toml("", "open_timeout = \"100ms\""));
    let (client, _silent) = tokio::join!(Client::ask(&gateway, "/chat", &[]), backend.next());
    assert_eq!(client.err().map(|refusal| refusal.status), Some(504));
    let OldBackend { listener, .. } = backend;
    drop(listener);
    let refusal = Client::ask(&gateway, "/chat", &[]).await.err().unwrap();
    assert!(refusal.status == 502 && refusal.body.contains("upstream-unreachable"), "{}", refusal.body);
}

#[tokio::test]
async fn operators_see_tunnels_beside_bridged_connections() {
    let mut scene = Scene::with("").await;
    scene.client.text("up").await;
    assert_eq!(scene.old.next().await, Seen::text("up"));
    scene.old.text("down").await;
    assert_eq!(scene.client.next().await, Seen::text("down"));
    let listed: Value = serde_json::from_str(&scene.admin("/connections").await).unwrap();
    let listed = &listed["connections"][0];
    let facts = ["route", "upstream", "stream", "messages_up", "messages_down", "bytes_down", "queued_down_bytes"];
    let seen = facts.map(|name| listed[name].clone());
    assert_eq!(seen, [json!("/chat"), json!("old"), json!("legacy"), json!(1), json!(1), json!(4), json!(0)]);
    assert_eq!(listed["endpoint"], json!(scene.backend.address.to_string()));
    let metrics = scene.admin("/metrics").await;
    for line in [
        r#"tidegate_event_streams{route="/chat",state="legacy"} 1"#,
        r#"tidegate_connections_open{route="/chat"} 1"#,
        &format!(r#"tidegate_endpoint_streams{{upstream="old",endpoint="{}"}} 1"#, scene.backend.address),
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_backend_and_loses_nothing() {
    let Scene { mut client, mut old, gateway, .. } = Scene::with("buffer = \"4KiB\"").await;
    let sent: Vec<Vec<u8>> = (0..64).map(|number| vec![number; 1 << 20]).collect();
    let admin = gateway.gateway.admin_address().unwrap();
    let writer = async {
        for message in &sent {
            old.send(Message::Binary(message.clone().into())).await;
        }
    };
    let reader = async {
        // As much as the sockets take has gone when the gateway holds what it may.
        loop {
            let listed = plain(admin, Method::GET, "/connections", &[], "").await.json();
            let held = listed["connections"][0]["queued_down_bytes"].as_u64().unwrap();
            assert!(held <= 4096, "{held}");
            if held == 4096 {
                break;
            }
        }
        for message in &sent {
            assert_eq!(client.next().await, Seen::Binary(message.clone()));
        }
    };
    Box::pin(must("all messages", async { tokio::join!(writer, reader) })).await;
}

#[tokio::test]
async fn a_place_is_taken_while_the_tunnel_lasts() {
    let backend = OldBackend::start().await;
    let gateway = TestGateway::from_toml(&backend.toml("limits = { connections = 1 }", ""));
    let (mut client, old) = tokio::join!(Client::connect(&gateway), backend.accept());
    let refusal = Client::ask(&gateway, "/chat", &[]).await.err().unwrap();
    assert_eq!((refusal.status, refusal.field("retry-after")), (503, "5"));
    client.close(1000, "").await;
    old.echo().await;
    assert!(matches!(client.next().await, Seen::Close(1000, _)));
    assert_eq!(client.next().await, Seen::Lost);
    drop(client);
    let again = async {
        loop {
            // Refused until the place is free, which is right behind the end of the first.
            let (client, stream) = tokio::select! {
                client = Client::ask(&gateway, "/chat", &[]) => (Some(client), None),
                stream = backend.next() => (None, Some(stream)),
            };
            if stream.is_some() {
                return;
            }
            assert_eq!(client.unwrap().err().map(|refusal| refusal.status), Some(503));
        }
    };
    must("the place to be free again", again).await;
}

#[tokio::test]
async fn the_rules_for_tickets_and_origins_hold_as_on_the_bridge() {
    let backend = OldBackend::start().await;
    let toml = format!("{}{}", access::SECTIONS, backend.toml("auth = \"ticket\"", ""));
    let gateway = TestGateway::from_files(&toml, access::files());
    let ticket = Desk::of(&gateway).ticket("ada").await;
    let elsewhere =
        Client::ask(&gateway, &format!("/chat?ticket={ticket}"), &[("origin", "https://evil.example")]).await;
    assert_eq!(elsewhere.err().map(|refusal| refusal.status), Some(403));
    let offered = format!("tidegate.ticket.{ticket}, app.v1, tidegate");
    let asked = [("sec-websocket-protocol", offered.as_str())];
    let (client, old) = tokio::join!(Client::ask(&gateway, "/chat", &asked), backend.accept());
    assert_eq!(client.unwrap().answer["sec-websocket-protocol"], "tidegate");
    assert_eq!((old.field("sec-websocket-protocol"), old.field("tidegate-subject")), ("app.v1", "ada"));
    assert!(!format!("{:?}", old.fields).contains(&ticket));
    for target in ["/chat".to_owned(), format!("/chat?ticket={ticket}")] {
        let refusal = Client::ask(&gateway, &target, &[]).await.err().unwrap();
        assert_eq!(refusal.status, 401, "{target}: none, or one that was used");
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_leaves_the_client_to_the_next() {
    let backend = OldBackend::start().await;
    let gone = OldBackend::start().await.address;
    let both = format!("endpoints = [\"http://{gone}\", \"http://{}\"]", backend.address);
    let one = format!("endpoints = [\"http://{}\"]", backend.address);
    let gateway = TestGateway::from_toml(&backend.toml("", "").replace(&one, &both));
    // More often than a breaker lets pass, and equals take turns.
    for _ in 0..12 {
        let (_client, old) = tokio::join!(Client::connect(&gateway), backend.accept());
        assert_eq!(old.target, "/chat");
    }
}
