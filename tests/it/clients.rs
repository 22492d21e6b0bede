//! Clients that are not ours, and the one that is, through the real binary to the backend that the README prints.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::FakeUpstream;
use crate::support::gateway::toml;
use crate::support::process::{GatewayProcess, Process, adapted, readme_block, tidegate};
use crate::support::upstream::Answer;

/// Sizes at which frame headers and buffers change, up to the largest message by default.
const SIZES: [usize; 7] = [0, 1, 125, 126, 65535, 65536, 1 << 20];

/// The README's backend and a gateway on the README's file; only ports are changed.
struct ReadmeScene {
    _backend: Process,
    gateway: GatewayProcess,
    _files: tempfile::TempDir,
}

impl ReadmeScene {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let script = files.path().join("backend.py");
        std::fs::write(&script, adapted(&readme_block("python"), "9000", "0")).unwrap();
        let mut backend = Process::start(Command::new("python3").arg(&script));
        let listens = |line: &str| Some(line.strip_prefix("listening on ")?.to_owned());
        let endpoint = backend.stdout.next("the backend's address", listens).await;
        let toml = adapted(&readme_block("toml"), "127.0.0.1:8443", "127.0.0.1:0");
        let gateway = GatewayProcess::start(&adapted(&toml, "http://127.0.0.1:9000", &endpoint)).await;
        Self { _backend: backend, gateway, _files: files }
    }

    /// Runs `tidegate connect` on these lines and gives what it printed.
    async fn connect(&self, arguments: &[&str], lines: &[String]) -> Vec<String> {
        let url = self.gateway.url("/chat");
        let command = &mut tidegate(&["connect", &url, "--insecure"]);
        let mut connect = Process::start_with_input(command.args(arguments), (lines.join("\n") + "\n").into());
        let code = connect.exit().await;
        assert_eq!(code, 0, "{:?}", connect.stderr.all());
        connect.stdout.all()
    }
}

/// A gateway in front of an upstream whose every answer the scene decides.
async fn scene() -> (FakeUpstream, GatewayProcess) {
    let upstream = FakeUpstream::start().await;
    let gateway = GatewayProcess::start(&toml(&format!("http://{}", upstream.address), "", "")).await;
    (upstream, gateway)
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn python() -> Command {
    let mut command = Command::new(clients().join("venv/bin/python"));
    command.arg(clients().join("client.py"));
    command
}

fn npm() -> Command {
    assert!(clients().join("node_modules/ws").is_dir(), "the npm client is missing; tests/run installs it");
    let mut command = Command::new("node");
    command.arg(clients().join("client.mjs"));
    command
}

/// Every message comes back through the README's backend, and the client's pong and close work.
async fn echoes(mut client: Command, no_extension: Value) {
    let mut scene = ReadmeScene::start().await;
    client.arg("echo").arg(scene.gateway.url("/chat")).arg(scene.gateway.certificate());
    let mut client = Process::start(&mut client);
    assert_eq!(client.exit().await, 0, "{:?}", client.stderr.all());

    let mut seen = client.stdout.json().into_iter();
    let opened = seen.next().unwrap();
    assert_eq!((&opened["event"], &opened["extensions"]), (&json!("open"), &no_extension));
    let mut number = 0;
    let mut wanted = |kind: &str, size: usize| {
        number += 1;
        json!({"event": "echo", "number": number, "kind": kind, "size": size})
    };
    for size in SIZES {
        assert_eq!(seen.next().unwrap(), wanted("text", size));
        assert_eq!(seen.next().unwrap(), wanted("binary", size));
    }
    assert_eq!(seen.next().unwrap(), wanted("binary", "carriage\rreturn".len()));
    assert_eq!(seen.next().unwrap(), json!({"event": "pong"}));
    // The server's answer to a close frame repeats its code; whether it repeats the reason is up to it.
    let closed = seen.next().unwrap();
    assert_eq!((&closed["event"], &closed["code"]), (&json!("close"), &json!(1000)));

    let line = scene.gateway.closed_line().await;
    assert_eq!((&line["cause"], &line["messages_up"]), (&json!("client-closed"), &json!(number)));
    assert_eq!((&line["messages_down"], &line["undelivered"]), (&json!(number), &json!(0)));
}

/// Upstream's choice of a subprotocol, and its close with code and reason, reach the client.
async fn learns_how_it_was_closed(mut client: Command) {
    let (mut upstream, gateway) = scene().await;
    client.arg("close").arg(gateway.url("/chat")).arg(gateway.certificate()).args(["app.v2", "app.v1"]);
    let mut client = Process::start(&mut client);
    let open = upstream.next_open().await;
    let offered = open.head.headers["tidegate-subprotocols"].to_str().unwrap().replace(' ', "");
    assert_eq!(offered, "app.v2,app.v1");
    let events = open.accept_with(&[("sec-websocket-protocol", "app.v1")]);
    events.send("data: last words\n\nevent: tidegate.close\ndata: {\"code\":4001,\"reason\":\"ebb é\"}\n\n").await;
    assert_eq!(client.exit().await, 0, "{:?}", client.stderr.all());
    let seen = client.stdout.json();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!((&seen[0]["event"], &seen[0]["subprotocol"]), (&json!("open"), &json!("app.v1")));
    assert_eq!(seen[1], json!({"event": "message", "data": "last words"}));
    assert_eq!(seen[2], json!({"event": "close", "code": 4001, "reason": "ebb é"}));
}

#[tokio::test]
async fn the_python_client_gets_every_message_back() {
    echoes(python(), json!([])).await;
}

#[tokio::test]
async fn the_npm_client_gets_every_message_back() {
    echoes(npm(), json!("")).await;
}

#[tokio::test]
async fn the_python_client_learns_subprotocol_and_close() {
    learns_how_it_was_closed(python()).await;
}

#[tokio::test]
async fn the_npm_client_learns_subprotocol_and_close() {
    learns_how_it_was_closed(npm()).await;
}

#[tokio::test]
async fn connect_gets_every_line_back_as_text() {
    let scene = ReadmeScene::start().await;
    let filler = "tide é ".repeat(1 << 17);
    let line = |size: usize| {
        let whole = &filler[..filler.floor_char_boundary(size)];
        format!("{whole}{}", ".".repeat(size - whole.len())) // in place of half a character
    };
    let lines = SIZES.map(line).to_vec();
    assert!(lines.iter().map(String::len).eq(SIZES));
    assert_eq!(scene.connect(&[], &lines).await, lines);
}

#[tokio::test]
async fn connect_gets_every_line_back_as_binary() {
    let scene = ReadmeScene::start().await;
    let octets = |size: usize| (0..=u8::MAX).cycle().take(size).collect::<Vec<u8>>();
    let lines: Vec<_> = SIZES.iter().map(|size| STANDARD.encode(octets(*size))).collect();
    let printed: Vec<_> = lines.iter().map(|line| format!("base64:{line}")).collect();
    assert_eq!(scene.connect(&["--binary"], &lines).await, printed);
}

#[tokio::test]
async fn connect_sends_headers_and_offers_subprotocols() {
    let (mut upstream, gateway) = scene().await;
    let url = gateway.url("/chat?room=7");
    let ca = gateway.certificate();
    let fields = ["--header", "User-Agent: tide/1", "--header", "Accept-Language: is", "--subprotocol", "app.v1"];
    let command = &mut tidegate(&["connect", &url, "--linger", "100ms", "--ca"]);
    let mut connect = Process::start_with_input(command.arg(ca).args(fields), b"up\n".to_vec());
    let open = upstream.next_open().await;
    assert_eq!(open.head.uri, "/events?room=7");
    for (name, value) in [("user-agent", "tide/1"), ("accept-language", "is"), ("tidegate-subprotocols", "app.v1")] {
        assert_eq!(open.head.headers[name], value);
    }
    let events = open.accept_with(&[("sec-websocket-protocol", "app.v1")]);
    let post = upstream.next_post().await;
    assert_eq!(post.text(), "up");
    post.accept();
    assert_eq!(connect.exit().await, 0, "{:?}", connect.stderr.all());
    let told = connect.stderr.all();
    assert!(told[0].starts_with("connected, subprotocol app.v1, connection "), "{told:?}");
    assert_eq!(told[1], "closed by us: 1000 (clean)");
    events.cancelled().await;
}

#[tokio::test]
async fn connect_ends_with_3_when_the_handshake_is_refused() {
    let (mut upstream, gateway) = scene().await;
    let mut connect = Process::start(&mut tidegate(&["connect", &gateway.url("/chat"), "--insecure"]));
    let answer = Answer::status(429).with("retry-after", "7").with("content-type", "application/problem+json");
    upstream.next_open().await.answer(answer.body(r#"{"detail":"the tide is high"}"#));
    assert_eq!(connect.exit().await, 3);
    let told = connect.stderr.all().join("\n");
    assert!(told.contains("refused: 429 Too Many Requests: the tide is high\nretry after: 7"), "{told}");

    let mut connect = Process::start(&mut tidegate(&["connect", &gateway.url("/nowhere"), "--insecure"]));
    assert_eq!(connect.exit().await, 3);
    assert!(connect.stderr.all().join("\n").contains("refused: 404 Not Found"));
}

#[tokio::test]
async fn the_close_code_decides_how_connect_ends() {
    let (mut upstream, gateway) = scene().await;
    for (event, code, told) in [
        ("event: tidegate.close\ndata: {\"code\":1000}\n\n", 0, "closed by the server: 1000 (clean)"),
        ("event: tidegate.close\ndata: {\"code\":1001,\"reason\":\"bye\"}\n\n", 0, "1001 bye (clean)"),
        ("event: tidegate.close\ndata: {\"code\":4001,\"reason\":\"ebb\"}\n\n", 4, "4001 ebb (clean)"),
        ("event: tidegate.binary\ndata: ?\n\n", 4, "1013 upstream-invalid: "),
    ] {
        let command = &mut tidegate(&["connect", &gateway.url("/chat"), "--insecure"]);
        let mut connect = Process::start_with_silent_input(command);
        let events = upstream.next_open().await.accept();
        events.send(event).await;
        assert_eq!(connect.exit().await, code, "{event}");
        assert!(connect.stderr.all().join("\n").contains(told), "{:?}", connect.stderr.all());
    }
}

#[tokio::test]
async fn connect_ends_with_1_when_nothing_answers_and_with_2_when_it_is_called_wrongly() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut connect = Process::start(&mut tidegate(&["connect", &format!("wss://{free}/chat")]));
    assert_eq!(connect.exit().await, 1);
    let told = connect.stderr.all().join("\n");
    assert!(told.contains(&format!("cannot connect to {}:{}", free.ip(), free.port())), "{told}");
    assert_eq!(Process::start(&mut tidegate(&["connect", "wss://localhost/", "--nonsense"])).exit().await, 2);
}
