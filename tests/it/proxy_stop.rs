//! Stopping while requests are passed on: what is under way is brought to its end within `drain_timeout`, and cut after it.

use tokio::net::TcpListener;

use crate::proxy::toml;
use crate::support::TestGateway;
use crate::support::raw::Wire;

/// A gateway with so much time to stop, a client, and the socket of its upstream.
async fn scene(drain_timeout: &str) -> (TestGateway, TcpListener, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let toml = toml(&[listener.local_addr().unwrap()], "", "");
    let gateway = TestGateway::from_toml(&format!("[server]\ndrain_timeout = \"{drain_timeout}\"\n{toml}"));
    let client = Wire::connect(gateway.address()).await;
    (gateway, listener, client)
}

/// A download of which half is there.
async fn download(drain_timeout: &str) -> (TestGateway, Wire, Wire) {
    let (gateway, listener, mut client) = scene(drain_timeout).await;
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").await;
    client.until("half").await;
    (gateway, client, upstream)
}

/// An upload of which half has come.
async fn upload(drain_timeout: &str) -> (TestGateway, Wire, Wire) {
    let (gateway, listener, mut client) = scene(drain_timeout).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf").await;
    let mut upstream = Wire::accept(&listener).await;
    upstream.until("half").await;
    (gateway, client, upstream)
}

/// Waits until the gateway lets nobody in any more.
async fn closed(address: std::net::SocketAddr) {
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_download_that_is_under_way_comes_whole() {
    let (gateway, mut client, mut upstream) = download("1m").await;
    let address = gateway.address();
    let rest = async {
        closed(address).await;
        upstream.send("half").await;
        client.rest().await
    };
    let (drained, rest) = tokio::join!(gateway.stop(), rest);
    assert_eq!((drained.cut, &*rest), (0, "half"));
}

#[tokio::test]
async fn an_upload_that_is_under_way_is_brought_to_its_answer() {
    let (gateway, mut client, mut upstream) = upload("1m").await;
    let address = gateway.address();
    let rest = async {
        closed(address).await;
        client.send("full").await;
        upstream.until("full").await;
        upstream.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
        client.rest().await
    };
    let (drained, rest) = tokio::join!(gateway.stop(), rest);
    assert_eq!(drained.cut, 0);
    assert!(rest.starts_with("HTTP/1.1 201 "), "{rest}");
}

#[tokio::test]
async fn what_is_not_over_at_drain_timeout_is_cut_on_both_sides() {
    for begin in [true, false] {
        let (gateway, mut client, mut upstream) = if begin { download("1s").await } else { upload("1s").await };
        let (drained, rest, seen) = tokio::join!(gateway.stop(), client.rest(), upstream.rest());
        assert_eq!((drained.cut, &*rest, &*seen), (1, "", ""));
    }
}
