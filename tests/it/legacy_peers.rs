//! Clients and backends of other kinds at the two ends of a tunnel: HTTP/2, TLS, compression.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::support::access;
use crate::support::gateway::certificates;
use crate::support::http2::Http2;
use crate::support::legacy::OldBackend;
use crate::support::process::{GatewayProcess, Process};
use crate::support::{Client, Seen, TestGateway, must};

#[tokio::test]
async fn over_http2_the_backend_notices_no_difference() {
    let backend = OldBackend::start().await;
    let gateway = TestGateway::from_toml(&backend.toml("", ""));
    let mut http2 = Http2::connect(&gateway).await;
    let asked = [("sec-websocket-protocol", "app.v1"), ("cookie", "a=1"), ("cookie", "b=2")];
    let answered = [("sec-websocket-protocol", "app.v1"), ("set-cookie", "c=3")];
    let (client, mut old) = tokio::join!(http2.websocket("/chat?room=7", &asked), backend.accept_with(&answered));
    let mut client = client.unwrap();
    assert_eq!(old.target, "/chat?room=7");
    for (name, value) in [
        ("host", &*format!("localhost:{}", gateway.address().port())),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "app.v1"),
        ("cookie", "a=1; b=2"),
    ] {
        assert_eq!(old.field(name), value, "{name}");
    }
    assert_eq!(
        (&client.answer["sec-websocket-protocol"], &client.answer["set-cookie"]),
        (&"app.v1".parse().unwrap(), &"c=3".parse().unwrap())
    );
    assert!(!client.answer.contains_key("sec-websocket-accept") && !client.answer.contains_key("upgrade"));
    let large = "tide ".repeat(100_000);
    client.text(&large).await;
    assert_eq!(old.next().await, Seen::Text(large.clone()));
    old.text(&large).await;
    assert_eq!(client.next().await, Seen::Text(large));
    old.close(4002, "theirs").await;
    assert_eq!(client.closed().await, (4002, "theirs".to_owned()));

    let (client, mut old) = tokio::join!(http2.websocket("/chat", &[]), backend.accept());
    client.unwrap().vanish();
    assert_eq!(old.next().await, Seen::Lost);
    // The others of its connection are not touched by that.
    let (mut client, mut old) = {
        let (client, old) = tokio::join!(http2.websocket("/chat", &[]), backend.accept());
        (client.unwrap(), old)
    };
    let sides = async {
        let (closed, backend) = tokio::join!(client.closed(), old.next());
        assert_eq!((closed.0, matches!(backend, Seen::Close(1001, _))), (1001, true));
        drop(old);
    };
    let (drained, ()) = tokio::join!(gateway.stop(), sides);
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn a_backend_with_tls_is_asked_over_http1_alone() {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let backend = OldBackend::start().await;
    let files = certificates();
    access::write(files.path(), "ca.pem", &cert.pem());
    let (plain, secure) = (
        format!("http://{}\"]", backend.address),
        format!("https://localhost:{}\"]\nca = \"ca.pem\"", backend.address.port()),
    );
    let gateway = TestGateway::from_files(&backend.toml("", "").replace(&plain, &secure), files);
    let served = async {
        let stream = must("the TLS handshake", acceptor.accept(backend.next().await)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        tokio_tungstenite::accept_async(stream).await.unwrap()
    };
    let (mut client, mut old) = tokio::join!(Client::connect(&gateway), served);
    client.text("through TLS twice").await;
    let heard = must("the message", old.next()).await.unwrap().unwrap();
    assert_eq!(heard, Message::Text("through TLS twice".into()));
    old.send(heard).await.unwrap();
    assert_eq!(client.next().await, Seen::text("through TLS twice"));
    drop(old);
    assert_eq!(client.closed().await.0, 1012);
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
