//! Stopping: nobody is left without a word, and nobody who has nothing to say holds it up.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Client, FakeUpstream, Seen, TestGateway, client, gateway, must};

/// A gateway whose limits are all far longer than a scene.
fn patient(upstream: &FakeUpstream, upstream_keys: &str) -> TestGateway {
    let toml = gateway::toml(&format!("http://{}", upstream.address), upstream_keys, "open_timeout = \"1m\"")
        .replace("[upstream.app]", "handshake_timeout = \"1m\"\nheader_timeout = \"1m\"\n\n[upstream.app]");
    TestGateway::from_toml(&format!("[server]\ndrain_timeout = \"1m\"\n{toml}"))
}

#[tokio::test]
async fn connections_without_a_request_do_not_hold_up_a_stop() {
    let upstream = FakeUpstream::start().await;
    let gateway = patient(&upstream, "");
    let (address, tls) = (gateway.address(), gateway.tls.clone());
    let _no_handshake = TcpStream::connect(address).await.unwrap();
    let _no_request = client::tls(address, &tls).await;
    let mut half_a_request = client::tls(address, &tls).await;
    half_a_request.write_all(b"GET /chat HTTP/1.1\r\nho").await.unwrap();
    let mut idle = client::tls(address, &tls).await;
    idle.write_all(b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    must("an answer", idle.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");

    let began = Instant::now();
    assert_eq!(gateway.stop().await.cut, 0);
    assert!(began.elapsed() < Duration::from_secs(15), "stopping took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_handshake_that_waits_for_upstream_is_answered_503() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = patient(&upstream, "");
    let request = client::handshake(&gateway, "/chat", "");
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut held = upstream.next_open().await.hold();
    let mut answer = Vec::new();
    let (drained, read) = tokio::join!(gateway.stop(), must("an answer", stream.read_to_end(&mut answer)));
    assert_eq!((read.is_ok(), drained.cut), (true, 0), "{read:?} after {:?}", String::from_utf8_lossy(&answer));
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting-down"), "{answer}");
    must("upstream to see the request cancelled", held.closed()).await;
}

#[tokio::test]
async fn every_client_is_told_1001_and_upstream_sees_every_stream_end() {
    for upstream_keys in ["", "protocol = \"http2\""] {
        let mut upstream = FakeUpstream::start().await;
        let gateway = patient(&upstream, upstream_keys);
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() }));
        }
        let farewells = async {
            for (client, events) in &mut clients {
                assert_eq!(client.closed().await, (1001, "shutdown: the gateway is stopping".to_owned()));
                events.cancelled().await;
            }
        };
        let (drained, ()) = tokio::join!(gateway.stop(), farewells);
        assert_eq!(drained.cut, 0);
    }
}

#[tokio::test]
async fn messages_on_their_way_are_delivered_before_the_stop() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = patient(&upstream, "");
    let (mut client, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    for text in ["one", "two"] {
        client.text(text).await;
    }
    let first = upstream.next_post().await;
    client.synchronise().await;
    let rest = async {
        assert!(matches!(client.next().await, Seen::Close(1001, _)));
        assert_eq!(client.next().await, Seen::Lost);
        first.accept();
        let second = upstream.next_post().await;
        assert_eq!(second.text(), "two");
        second.accept();
    };
    let (drained, ()) = tokio::join!(gateway.stop(), rest);
    assert_eq!(drained.cut, 0);
}
