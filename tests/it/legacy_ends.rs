//! How a tunnel to a WebSocket backend ends, and what both sides and the log are told of it.

use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::legacy::Scene;
use crate::support::access;
use crate::support::http::plain;
use crate::support::legacy::OldBackend;
use crate::support::process::GatewayProcess;
use crate::support::{Client, Seen, TestGateway, must};

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
async fn a_tunnel_ends_with_the_proof_that_it_was_let_in_with() {
    let backend = OldBackend::start().await;
    let toml = format!("{}{}", access::SECTIONS, backend.toml("auth = \"bearer\"", ""));
    let gateway = TestGateway::from_files(&toml, access::files());
    let token = access::bearer_with(&json!({"sub": "ada", "exp": access::now() + 2}));
    let authorization = format!("Bearer {token}");
    let asked = [("authorization", authorization.as_str())];
    let (client, mut old) = tokio::join!(Client::ask(&gateway, "/chat", &asked), backend.accept());
    let (code, reason) = client.unwrap().closed().await;
    assert_eq!((code, reason.split(':').next()), (1008, Some("expired")));
    assert!(matches!(old.next().await, Seen::Close(1001, _)));
}
