//! Clients that take what they are sent slowly, or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, interval};

use crate::proxy::toml;
use crate::support::http::plain;
use crate::support::http2::Http2;
use crate::support::http2_frames::{END_HEADERS, END_STREAM, Frames, HEADERS, SETTINGS, WINDOW_UPDATE, frame, get};
use crate::support::raw::Wire;
use crate::support::{TestGateway, client, must};

const LIMIT: Duration = Duration::from_millis(400);

/// A gateway with this limit on writing, and the socket of its upstream.
async fn gateway(tls: bool) -> (TestGateway, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut toml = toml(&[listener.local_addr().unwrap()], "", "")
        .replace("/{*rest}", "/f/{*rest}")
        .replace("tls = false", &format!("tls = false\nwrite_timeout = \"{}ms\"", LIMIT.as_millis()));
    if tls {
        let certificate = "tls = { certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }";
        toml = toml.replace("tls = false", certificate);
    }
    (TestGateway::from_toml(&toml), listener)
}

/// A connection whose kernel holds little for a client that does not read.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(address).await.unwrap()
}

/// Answers the next request with so many bytes, and gives how many were sent before it was cancelled.
async fn answer(listener: &TcpListener, length: usize) -> usize {
    let mut upstream = Wire::accept(listener).await;
    upstream.head().await;
    upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
    let (mut sent, piece) = (0, vec![b'x'; 64 * 1024]);
    while sent < length {
        match upstream.stream.write(&piece[..piece.len().min(length - sent)]).await {
            Ok(more) => sent += more,
            Err(_) => break,
        }
    }
    sent
}

/// How many clients were cut.
async fn cut(gateway: &TestGateway) -> String {
    let page = plain(gateway.gateway.admin_address().unwrap(), Method::GET, "/metrics", &[], "").await.body;
    page.lines().find_map(|line| line.strip_prefix("tidegate_write_timeouts_total ")).unwrap().to_owned()
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_its_request_cancelled() {
    for tls in [false, true] {
        let (gateway, listener) = gateway(tls).await;
        let request = b"GET /f/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (plain, encrypted);
        if tls {
            let mut stream = client::tls(gateway.address(), &gateway.tls).await;
            stream.write_all(request).await.unwrap();
            (plain, encrypted) = (None, Some(stream));
        } else {
            let mut stream = narrow(gateway.address()).await;
            stream.write_all(request).await.unwrap();
            (plain, encrypted) = (Some(stream), None);
        }
        let sent = must("the request to be cancelled", answer(&listener, 1 << 30)).await;
        assert!(sent < 1 << 30, "{sent}");
        assert_eq!(cut(&gateway).await, "1");
        drop((plain, encrypted));
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_but_steady_is_not_cut() {
    const LENGTH: usize = 16 << 20;
    let (gateway, listener) = gateway(false).await;
    let mut stream = narrow(gateway.address()).await;
    stream.write_all(b"GET /f/x HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let read = async {
        // Longer than the limit for what the system holds, of which it says so only when a third of it is gone.
        let (mut count, mut buffer, began) = (0, vec![0; 4096], Instant::now());
        let mut turn = interval(Duration::from_millis(20));
        while began.elapsed() < 5 * LIMIT {
            turn.tick().await;
            count += must("some of the answer", stream.read(&mut buffer)).await.unwrap();
        }
        buffer.resize(1 << 20, 0);
        while count < LENGTH {
            let more = must("the rest of it", stream.read(&mut buffer)).await.unwrap();
            assert!(more > 0, "it ended after {count} bytes");
            count += more;
        }
    };
    let (sent, ()) = tokio::join!(answer(&listener, LENGTH), read);
    assert_eq!(sent, LENGTH);
    assert_eq!(cut(&gateway).await, "0");
}

/// Settings and a window that let everything come.
fn wide() -> Vec<u8> {
    let settings = [&4_u16.to_be_bytes()[..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    let update = (0x7fff_ffff_u32 - 65_535).to_be_bytes();
    [frame(SETTINGS, 0, 0, &settings), frame(WINDOW_UPDATE, 0, 0, &update)].concat()
}

#[tokio::test]
async fn over_http2_a_connection_of_which_nothing_is_taken_is_cut() {
    let (gateway, listener) = gateway(true).await;
    let mut client = Frames::connect(gateway.address(), &gateway.tls).await;
    client.send(&[wide(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/f/x"))].concat()).await;
    let sent = must("the request to be cancelled", answer(&listener, 1 << 30)).await;
    assert!(sent < 1 << 30, "{sent}");
    assert_eq!(cut(&gateway).await, "1");
    drop(client);
}

#[tokio::test]
async fn over_http2_a_stream_of_which_nothing_is_taken_harms_no_other() {
    let (gateway, listener) = gateway(true).await;
    let mut client = Http2::connect(&gateway).await;
    let (stuck, upstream) = tokio::join!(client.ask(Method::GET, "/f/x", &[]), async {
        let mut upstream = Wire::accept(&listener).await;
        upstream.head().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
        upstream.send(vec![b'x'; 1_000_000]).await;
        upstream
    });
    let began = Instant::now();
    while began.elapsed() < 3 * LIMIT {
        let ((parts, body), ()) = tokio::join!(client.get("/f/y", &[]), async {
            let mut upstream = Wire::accept(&listener).await;
            upstream.head().await;
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").await;
        });
        assert_eq!((parts.status.as_u16(), &*body), (200, "hi"));
    }
    assert_eq!(cut(&gateway).await, "0");
    drop((stuck, upstream));
}
