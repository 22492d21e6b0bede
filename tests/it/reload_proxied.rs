//! Reloads while requests are passed on: who stays on a connection keeps nothing of what was replaced.

use std::net::SocketAddr;

use http::Method;
use http_body_util::BodyExt as _;
use tidegate::config::Config;
use tokio::net::TcpListener;

use crate::proxy::toml;
use crate::support::gateway::certificates;
use crate::support::http2::Http2;
use crate::support::raw::Wire;
use crate::support::{TestGateway, must};

fn configured(upstream: SocketAddr) -> String {
    let certificate = "tls = { certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }";
    toml(&[upstream], "", "").replace("tls = false", certificate).replace("/{*rest}", "/f/{*rest}")
}

/// Answers one request, and gives the connection that it came on.
async fn answer(listener: &TcpListener, answer: &str) -> Wire {
    let mut upstream = Wire::accept(listener).await;
    upstream.head().await;
    upstream.send(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
    upstream
}

#[tokio::test]
async fn an_upstream_that_was_replaced_ends_with_its_last_stream_though_the_connection_stays() {
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let two = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = TestGateway::from_toml(&configured(one.local_addr().unwrap()));
    let fresh = gateway.gateway.upstream_tasks();
    let mut client = Http2::connect(&gateway).await;
    let over = "Content-Length: 2\r\nConnection: close\r\n\r\nhi";
    let ((_, body), _) = tokio::join!(client.get("/f/x", &[]), answer(&one, over));
    assert_eq!(body, "hi");
    let fields = [("accept", "text/event-stream")];
    let events = "Content-Type: text/event-stream\r\n\r\ndata: one\n\n";
    let (stream, mut upstream) = tokio::join!(client.ask(Method::GET, "/f/events", &fields), answer(&one, events));
    let mut stream = stream.unwrap().into_body();

    let next = Config::parse(&configured(two.local_addr().unwrap()), "test.toml", certificates().path()).unwrap();
    gateway.gateway.reload(&next).unwrap();
    let ((_, body), _) = tokio::join!(client.get("/f/x", &[]), answer(&two, over));
    assert_eq!(body, "hi");
    upstream.send("data: two\n\n").await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: two\n\n") {
        let frame = must("the stream to go on", stream.frame()).await.unwrap().unwrap();
        seen.extend_from_slice(frame.data_ref().unwrap());
    }
    assert!(gateway.gateway.upstream_tasks() > fresh);

    drop(upstream);
    let ended = async { while stream.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    must("the end of the stream", ended).await;
    let settled = async {
        while gateway.gateway.upstream_tasks() > fresh {
            tokio::task::yield_now().await;
        }
    };
    must("what was replaced to end", settled).await;
    assert!(client.is_open());
}
