//! Bodies through the reverse proxy: piece by piece, as fast as the reader takes them, and never more than that in memory.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::proxy::{raw, toml};
use crate::support::must;
use crate::support::process::GatewayProcess;
use crate::support::raw::Wire;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn every_piece_goes_on_before_the_next_one_comes() {
    let (_gateway, listener, mut client) = raw("").await;
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut upstream = Wire::accept(&listener).await;
    assert!(upstream.head().await.contains("transfer-encoding: chunked\r\n"));
    for piece in ["one", "two", "six"] {
        client.send(format!("3\r\n{piece}\r\n")).await;
        upstream.until(&format!("3\r\n{piece}\r\n")).await;
    }
    upstream.send(CHUNKED).await;
    client.head().await;
    for piece in ["uno", "due"] {
        // Both directions at once: the request is not over.
        upstream.send(format!("3\r\n{piece}\r\n")).await;
        client.until(&format!("3\r\n{piece}\r\n")).await;
        client.send("1\r\n+\r\n").await;
        upstream.until("1\r\n+\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    upstream.until("0\r\n\r\n").await;
    upstream.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let (_gateway, listener, mut client) = raw("").await;
    client
        .send(
            "POST /x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
        .await;
    let mut upstream = Wire::accept(&listener).await;
    let head = upstream.head().await;
    assert!(head.contains("trailer: x-sum\r\n") && head.contains("te: trailers\r\n"), "{head}");
    assert!(head.contains("connection: te\r\n"), "{head}");
    assert!(upstream.until("\r\n\r\n").await.to_ascii_lowercase().ends_with("0\r\nx-sum: 7\r\n\r\n"));
    upstream
        .send(
            "HTTP/1.1 200 OK\r\nTrailer: X-Took\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nX-Took: 9\r\n\r\n",
        )
        .await;
    assert!(client.head().await.contains("trailer: x-took\r\n"));
    assert!(client.until("\r\n\r\n").await.to_ascii_lowercase().ends_with("0\r\nx-took: 9\r\n\r\n"));
}

#[tokio::test]
async fn a_client_is_asked_for_its_body_when_upstream_wants_it_and_not_before() {
    let (_gateway, listener, mut client) = raw("").await;
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.send(post).await;
    let mut upstream = Wire::accept(&listener).await;
    assert!(upstream.head().await.contains("expect: 100-continue\r\n"));
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    assert!(client.until("\r\n").await.starts_with("HTTP/1.1 403 "), "the refusal comes without a 100");
    client.until("\r\n\r\nno").await;

    let mut client = Wire::connect(_gateway.address()).await;
    client.send(post).await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
    client.send("four").await;
    assert_eq!(upstream.take(4).await, b"four");
    upstream.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 201 created\r\n"));
}

#[tokio::test]
async fn an_upload_that_upstream_refuses_early_gets_its_answer() {
    let (_gateway, listener, mut client) = raw("").await;
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegun").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    assert_eq!(upstream.take(5).await, b"begun");
    upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge").await;
    assert!(client.head().await.starts_with("http/1.1 413 "));
    assert_eq!(client.take(5).await, b"large");
    // Nobody waits for the rest: both connections end.
    assert_eq!(upstream.rest().await, "");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_upload_is_read_no_faster_than_upstream_reads_it() {
    let (_gateway, listener, mut client) = raw("send_timeout = \"1h\"").await;
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    let sent = fill(&mut client).await;
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken that nobody reads");
    // As soon as it is read, it goes on.
    upstream.take(sent / 2).await;
    client.send([0; 64 * 1024]).await;
}

#[tokio::test]
async fn a_download_is_read_no_faster_than_the_client_reads_it() {
    let (_gateway, listener, mut client) = raw("").await;
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    client.head().await;
    let sent = fill(&mut upstream).await;
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken that nobody reads");
    client.take(sent / 2).await;
    upstream.send([0; 64 * 1024]).await;
}

/// Writes until nothing is taken any more, and gives how many bytes were.
async fn fill(wire: &mut Wire) -> usize {
    let piece = [0; 64 * 1024];
    let mut sent = 0;
    while sent < 200 * 1024 * 1024 {
        let Ok(written) = tokio::time::timeout(Duration::from_millis(500), wire.stream.write(&piece)).await else {
            break;
        };
        sent += written.unwrap();
    }
    sent
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_whether_it_says_its_size_or_not() {
    let (gateway, listener, mut client) = raw("max_request_body = \"4B\"").await;
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 413 "));
    let mut client = Wire::connect(gateway.address()).await;
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.until("four").await;
    client.send("1\r\n+\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 413 "));
    assert!(!upstream.rest().await.contains('+'), "upstream sees that the body broke off");
}

#[tokio::test]
async fn an_upload_of_a_gibibyte_costs_no_memory() {
    const PIECE: usize = 256 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let toml = format!("log.format = \"json\"\n{}", toml(&[listener.local_addr().unwrap()], "", ""));
    let gateway = GatewayProcess::start(&toml).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send(format!("PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1_usize << 30)).await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    let before = gateway.process.resident();
    let piece = vec![7; PIECE];
    let sending = async {
        for _ in 0..(1 << 30) / PIECE {
            must("room to write", client.stream.write_all(&piece)).await.unwrap();
        }
    };
    let mut most = before;
    let reading = async {
        for at in 0..(1 << 30) / PIECE {
            assert_eq!(upstream.take(PIECE).await.len(), PIECE);
            if at % 256 == 0 {
                most = most.max(gateway.process.resident());
            }
        }
    };
    tokio::join!(sending, reading);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
    client.until("\r\n\r\ndone").await;
    let grown = most.saturating_sub(before);
    assert!(grown < 16 << 20, "the process grew by {grown} bytes");
}
