//! The whole command against a real server on this machine.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::mpsc as blocking;

use clap::Parser as _;
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::*;
use crate::commands::dev_cert;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// Serves one connection with `serve` and returns the port. The set ends it with the test.
async fn server<F, R>(tasks: &mut JoinSet<()>, serve: F) -> u16
where
    F: FnOnce(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move { serve(listener.accept().await.unwrap().0).await });
    port
}

async fn accept<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    tokio_tungstenite::accept_async(stream).await.unwrap()
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S) {
    let mut socket = accept(stream).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            socket.send(message).await.unwrap();
        }
    }
}

/// Runs the command and returns how it ended and what it printed.
async fn run_with(arguments: &[&str], input: impl Read + Send + 'static) -> (Exit, String) {
    let mut all = vec!["connect", "--linger", "100ms"];
    all.extend(arguments);
    let args = Cli::parse_from(all).args;
    let screen = Screen::new(Vec::new(), Style { hints: false, echo: false });
    let lines = || Lines::read(input, MAX_LINE);
    let exit = connect(&args, lines, &screen, false, std::future::pending()).await;
    (exit, String::from_utf8(screen.into_output()).unwrap())
}

/// Input that stays open until the sender is dropped.
struct Open(blocking::Receiver<()>);

impl Read for Open {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

fn url(port: u16) -> String {
    format!("ws://127.0.0.1:{port}/echo?x=1")
}

#[tokio::test]
async fn lines_become_messages_and_messages_become_lines() {
    let mut tasks = JoinSet::new();
    let port = server(&mut tasks, echo).await;
    let got = run_with(&[&url(port)], Cursor::new("one\n\nzwei – 二\r\nlast")).await;
    assert_eq!(got, (Exit::Fine, "one\n\nzwei – 二\nlast\n".into()));
}

#[tokio::test]
async fn base64_lines_are_binary_messages_and_a_bad_one_costs_the_exit_code_only() {
    let mut tasks = JoinSet::new();
    let port = server(&mut tasks, echo).await;
    let got = run_with(&["--binary", &url(port)], Cursor::new("AP8=\n\n")).await;
    assert_eq!(got, (Exit::Fine, "base64:AP8=\nbase64:\n".into()));
    let port = server(&mut tasks, echo).await;
    let got = run_with(&["--binary", &url(port)], Cursor::new("AP8=\nno!\nAA==\n")).await;
    assert_eq!(got, (Exit::Failed, "base64:AP8=\nbase64:AA==\n".into()));
    let port = server(&mut tasks, echo).await;
    let got = run_with(&[&url(port)], Cursor::new(b"a\n\xff\nb\n")).await;
    assert_eq!(got, (Exit::Failed, "a\nb\n".into()));
}

#[tokio::test]
async fn large_lines_and_floods_pass_while_the_server_answers_before_it_has_read_all() {
    let mut tasks = JoinSet::new();
    for (line, count) in [("x".repeat(16 << 20), 2), ("y".repeat(1 << 20), 16), ("z".into(), 100_000)] {
        let port = server(&mut tasks, echo).await;
        let text = format!("{line}\n").repeat(count);
        let (exit, printed) = run_with(&["--linger", "1s", &url(port)], Cursor::new(text.clone())).await;
        assert_eq!((exit, printed.len()), (Exit::Fine, text.len()));
        assert!(printed == text, "what came back is not what was sent");
    }
}

#[tokio::test]
async fn the_servers_close_code_decides_the_exit_code_even_while_stdin_is_open() {
    let mut tasks = JoinSet::new();
    for (code, exit) in [(1000, Exit::Fine), (1001, Exit::Fine), (1013, Exit::Closed), (4001, Exit::Closed)] {
        let port = server(&mut tasks, move |stream| async move {
            let mut socket = accept(stream).await;
            socket.send(Message::text("last words")).await.unwrap();
            let frame = CloseFrame { code: u16::into(code), reason: "because".into() };
            socket.close(Some(frame)).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
        })
        .await;
        let (keep_open, open) = blocking::channel();
        assert_eq!(run_with(&[&url(port)], Open(open)).await, (exit, "last words\n".into()));
        drop(keep_open);
    }
    let port = server(&mut tasks, |stream| async move { drop(accept(stream).await) }).await;
    assert_eq!(run_with(&[&url(port)], Cursor::new("")).await.0, Exit::Closed);
}

#[tokio::test]
async fn a_refusal_is_read_to_its_end_and_named() {
    let mut tasks = JoinSet::new();
    let port = server(&mut tasks, |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let head = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 19\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(br#"{"detail":"ebbing"}"#).await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    assert_eq!(run_with(&[&url(port)], Cursor::new("never sent\n")).await, (Exit::Refused, String::new()));

    let mut body = &br#"ail":"ebbing"}"#[..];
    let mut response = http::Response::new(Some(br#"{"det"#.to_vec()));
    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert("retry-after", http::HeaderValue::from_static("5"));
    let refusal = handshake::refusal(&mut body, response).await;
    assert_eq!(refusal.to_string(), "refused: 503 Service Unavailable: ebbing\nretry after: 5");
}

#[tokio::test]
async fn what_cannot_be_connected_is_a_failure() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for arguments in [vec![url(free)], vec!["http://localhost/".into()]] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(run_with(&arguments, Cursor::new("")).await.0, Exit::Failed);
    }
}

#[tokio::test]
async fn a_certificate_is_verified_unless_told_otherwise() {
    let made = dev_cert::generate(&[]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("dev.pem");
    std::fs::write(&ca, &made.certificate_pem).unwrap();
    let other = directory.path().join("other.pem");
    std::fs::write(&other, dev_cert::generate(&[]).unwrap().certificate_pem).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(made.certificate_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (ca, other) = (ca.to_str().unwrap(), other.to_str().unwrap());
    let mut tasks = JoinSet::new();
    for (trust, exit) in [
        (vec!["--ca", ca], Exit::Fine),
        (vec!["--insecure"], Exit::Fine),
        (vec!["--ca", other], Exit::Failed),
        (vec!["--ca", "/nonexistent.pem"], Exit::Failed),
    ] {
        let acceptor = acceptor.clone();
        let port = server(&mut tasks, |stream| async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                echo(stream).await;
            }
        })
        .await;
        let url = format!("wss://localhost:{port}/");
        let mut arguments = trust.clone();
        arguments.push(&url);
        assert_eq!(run_with(&arguments, Cursor::new("hello\n")).await.0, exit, "{trust:?}");
    }
}

#[tokio::test]
async fn ctrl_c_closes_with_1000() {
    let mut tasks = JoinSet::new();
    let (closed, mut codes) = tokio::sync::mpsc::channel(1);
    let port = server(&mut tasks, |stream| async move {
        let mut socket = accept(stream).await;
        socket.send(Message::Ping(Bytes::new())).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                closed.send(frame.map(|frame| u16::from(frame.code))).await.unwrap();
            }
        }
    })
    .await;
    let args = Cli::parse_from(["connect", &url(port)]).args;
    let screen = Screen::new(Vec::new(), Style { hints: false, echo: false });
    let (keep_open, open) = blocking::channel();
    let (interrupt, interrupted) = tokio::sync::oneshot::channel();
    let lines = || {
        let _ = interrupt.send(()); // the handshake is over
        Lines::read(Open(open), MAX_LINE)
    };
    let exit = connect(&args, lines, &screen, true, async { drop(interrupted.await) }).await;
    assert_eq!((exit, codes.recv().await), (Exit::Fine, Some(Some(1000))));
    drop(keep_open);
}
