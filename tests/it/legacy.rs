//! WebSockets that are passed through to a WebSocket backend.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::access::{self, Desk};
use crate::support::client::Refusal;
use crate::support::http::plain;
use crate::support::legacy::{OldBackend, OldSocket};
use crate::support::process::{GatewayProcess, Process};
use crate::support::{Client, Seen, TestGateway, must};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\n";

/// A client that is let in, and the backend's end of its tunnel.
struct Scene {
    backend: OldBackend,
    gateway: TestGateway,
    client: Client,
    old: OldSocket,
}

impl Scene {
    /// With further keys for the pass-through, one a line.
    async fn with(keys: &str) -> Self {
        let backend = OldBackend::start().await;
        let gateway = TestGateway::from_toml(&format!("{ADMIN}{}", backend.toml("", keys)));
        let (client, old) = tokio::join!(Client::connect(&gateway), backend.accept());
        Self { backend, gateway, client, old }
    }

    async fn admin(&self, target: &str) -> String {
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

#[tokio::test]
async fn a_close_passes_with_its_code_and_is_the_cause_in_the_log() {
    let backend = OldBackend::start().await;
    let mut gateway = GatewayProcess::start(&format!("[log]\nformat = \"json\"\n{}", backend.toml("", ""))).await;
    let (mut client, mut old) = tokio::join!(gateway.client(), backend.accept());
    client.text("one").await;
    assert_eq!(old.next().await, Seen::text("one"));
    client.close(4001, "my own").await;
    assert_eq!(old.next().await, Seen::Close(4001, "my own".to_owned()));
    assert_eq!(old.next().await, Seen::Lost);
    assert_eq!(client.next().await, Seen::Close(4001, "my own".to_owned()));
    assert_eq!(client.next().await, Seen::Lost);
    let line = gateway.closed_line().await;
    let facts = ["cause", "detail", "messages_up", "bytes_up", "messages_down"].map(|name| line[name].clone());
    assert_eq!(facts, [json!("client-closed"), json!("the client closed with 4001"), json!(1), json!(3), json!(0)]);

    let (mut client, mut old) = tokio::join!(gateway.client(), backend.accept());
    old.text("bye").await;
    old.close(4002, "theirs").await;
    assert_eq!(client.next().await, Seen::text("bye"));
    assert_eq!(client.closed().await, (4002, "theirs".to_owned()));
    assert_eq!(old.next().await, Seen::Close(4002, "theirs".to_owned()));
    drop(old);
    let line = gateway.closed_line().await;
    let facts = ["cause", "code", "blames", "messages_down", "bytes_down"].map(|name| line[name].clone());
    assert_eq!(facts, [json!("upstream-closed"), json!(4002), json!("upstream"), json!(1), json!(3)]);
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
async fn a_tunnel_without_a_byte_for_too_long_ends_with_1001_on_both_sides() {
    let Scene { mut client, mut old, gateway: _gateway, .. } = Scene::with("idle_timeout = \"1s\"").await;
    let closed = async { tokio::join!(client.closed(), old.next()) };
    let ((code, reason), backend) = closed.await;
    assert_eq!((code, reason.split(':').next()), (1001, Some("idle")));
    assert!(matches!(&backend, Seen::Close(1001, reason) if reason.starts_with("idle: ")), "{backend:?}");
    assert_eq!(old.next().await, Seen::Lost);
}

#[tokio::test]
async fn a_gateway_that_stops_tells_both_sides_so() {
    let Scene { mut client, mut old, gateway, .. } = Scene::with("").await;
    old.text("first").await;
    assert_eq!(client.next().await, Seen::text("first"));
    let sides = async {
        let (closed, backend) = tokio::join!(client.closed(), old.next());
        assert_eq!((closed.0, closed.1.split(':').next()), (1001, Some("shutdown")));
        assert!(matches!(&backend, Seen::Close(1001, reason) if reason.starts_with("shutdown: ")), "{backend:?}");
        assert_eq!(old.next().await, Seen::Lost);
    };
    let (drained, ()) = tokio::join!(gateway.stop(), sides);
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn a_close_of_the_gateways_never_falls_into_a_frame() {
    let Scene { mut client, old, gateway, .. } = Scene::with("").await;
    let mut backend = old.socket.into_inner();
    // Ten bytes of a frame of twenty.
    backend.write_all(&[&[0x82, 20][..], &[7; 10]].concat()).await.unwrap();
    let admin = plain(gateway.gateway.admin_address().unwrap(), Method::GET, "/connections", &[], "").await.json();
    let id = admin["connections"][0]["id"].clone();
    let revoked = json!({ "connection": id }).to_string();
    let json_body = [("content-type", "application/json")];
    let admin = gateway.gateway.admin_address().unwrap();
    assert_eq!(plain(admin, Method::POST, "/revocations", &json_body, &revoked).await.status, 200);
    // The backend hears of it at once, because nothing of the client's is under way to it.
    let mut close = [0; 2];
    must("the backend's close frame", backend.read_exact(&mut close)).await.unwrap();
    assert_eq!(close[0], 0x88);
    backend.write_all(&[&[7; 10][..], &[0x82, 1, 9]].concat()).await.unwrap();
    assert_eq!(client.next().await, Seen::Binary(vec![7; 20]));
    assert_eq!(client.closed().await, (1008, "revoked: the client was sent away".to_owned()));
}

#[tokio::test]
async fn a_backend_that_dies_between_frames_is_1012_and_within_one_a_cut() {
    let Scene { mut client, mut old, gateway, backend } = Scene::with("").await;
    old.text("last").await;
    drop(old);
    assert_eq!(client.next().await, Seen::text("last"));
    let (code, reason) = client.closed().await;
    assert_eq!((code, reason.split(':').next()), (1012, Some("upstream-lost")));

    let (mut client, old) = tokio::join!(Client::connect(&gateway), backend.accept());
    let mut stream = old.socket.into_inner();
    stream.write_all(&[0x82, 20, 7]).await.unwrap();
    drop(stream);
    assert_eq!(client.next().await, Seen::Lost);
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_backend_connection_along_and_what_it_said_arrives() {
    let Scene { mut client, mut old, gateway, .. } = Scene::with("").await;
    client.text("last words").await;
    client.vanish();
    assert_eq!(old.next().await, Seen::text("last words"));
    assert_eq!(old.next().await, Seen::Lost);
    drop(old);
    let admin = gateway.gateway.admin_address().unwrap();
    let is_counted = async {
        loop {
            let page = plain(admin, Method::GET, "/metrics", &[], "").await.body;
            if page.contains(r#"tidegate_connections_closed_total{route="/chat",cause="client-lost"} 1"#) {
                return;
            }
        }
    };
    must("the connection to be counted", is_counted).await;
}

#[tokio::test]
async fn what_is_no_frame_ends_the_tunnel_and_reaches_nobody() {
    let Scene { client, mut old, gateway, backend } = Scene::with("").await;
    let mut raw = client.into_raw();
    raw.write_all(&[0x81, 0x02, b'h', b'i']).await.unwrap();
    let mut frame = vec![0; 4];
    must("a close frame", raw.read_exact(&mut frame)).await.unwrap();
    assert_eq!((frame[0], [frame[2], frame[3]]), (0x88, 1002_u16.to_be_bytes()));
    assert!(matches!(old.next().await, Seen::Close(1001, _)));

    let (mut client, old) = tokio::join!(Client::connect(&gateway), backend.accept());
    let mut stream = old.socket.into_inner();
    // A whole frame, and then a masked one, which no server sends.
    stream.write_all(&[0x81, 2, b'h', b'i', 0x81, 0x82, 1, 2, 3, 4, 5, 6]).await.unwrap();
    assert_eq!(client.next().await, Seen::text("hi"));
    let (code, reason) = client.closed().await;
    assert_eq!((code, reason.as_str()), (1013, "upstream-invalid: a frame is masked"));
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
    must("all messages", async { tokio::join!(writer, reader) }).await;
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

/// An echo of the Python library `websockets`, which compresses if it is asked to.
async fn compressing() -> (Process, GatewayProcess) {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut command = Command::new(clients.join("venv/bin/python"));
    let mut backend = Process::start(command.arg(clients.join("server.py")));
    let port = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
    let address = backend.stdout.next("the backend's address", port).await;
    let old = OldBackend::start().await;
    let toml = old.toml("", "").replace(&old.address.to_string(), &address);
    (backend, GatewayProcess::start(&format!("[log]\nformat = \"json\"\n{toml}")).await)
}

#[tokio::test]
async fn clients_and_backends_compress_between_themselves() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut python = Command::new(clients.join("venv/bin/python"));
    let mut npm = Command::new("node");
    let (_backend, mut gateway) = compressing().await;
    for command in [python.arg(clients.join("client.py")), npm.arg(clients.join("client.mjs"))] {
        command.arg("echo").arg(gateway.url("/chat")).arg(gateway.certificate());
        let mut client = Process::start(command);
        assert_eq!(client.exit().await, 0, "{:?}", client.stderr.all());
        let opened = &client.stdout.json()[0];
        assert!(opened["extensions"].to_string().to_ascii_lowercase().contains("deflate"), "{opened}");
        let line = gateway.closed_line().await;
        assert_eq!(
            (&line["cause"], &line["messages_up"], &line["messages_down"]),
            (&json!("client-closed"), &json!(15), &json!(15))
        );
        assert!(line["bytes_up"].as_u64().unwrap() < 1 << 20, "compressed all the way: {line}");
    }
}
