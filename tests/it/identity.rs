//! Upstream knows who the client is, and by nobody but the gateway.

use std::net::SocketAddr;

use http::HeaderMap;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::gateway::toml;
use crate::support::upstream::field;
use crate::support::{Client, FakeUpstream, TestGateway, client, must};

/// Fields as a client may forge them. `root` is what none of the requests upstream may say.
const FORGED: &str = "Tidegate-Subject: root\r\nTIDEGATE-SUBJECT: root\r\ntidegate-subject: root\r\n\
    Tidegate_Subject: root\r\ntIdEgAtE_sUbJeCt: root\r\nTidegate-Identity: root\r\nTIDEGATE_IDENTITY: root\r\n\
    X-Tenant: root\r\nx_tenant: root\r\nX_TENANT: root\r\nTidegate-Roles: root\r\nTidegate-Connection: root\r\n\
    connection: x-request-id\r\nX-Forwarded-For: root\r\nForwarded: for=root\r\n";

const KEYS: &str = "claim_headers = { tenant = \"X-Tenant\", roles = \"Tidegate-Roles\" }";

fn assert_not_forged(fields: &HeaderMap) {
    let forged = fields.iter().find(|(_, value)| value.as_bytes().windows(4).any(|bytes| bytes == b"root"));
    assert!(forged.is_none(), "{forged:?}");
    for name in ["tidegate-subject", "tidegate_subject", "tidegate-identity", "x-tenant", "x_tenant", "tidegate-roles"]
    {
        assert!(!fields.contains_key(name), "{name} went along");
    }
}

#[tokio::test]
async fn what_a_client_says_of_itself_never_reaches_upstream() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", &format!("notify_close = true\n{KEYS}"));
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    stream.write_all(client::handshake(&gateway, "/chat", FORGED).as_bytes()).await.unwrap();
    let open = upstream.next_open().await;
    assert_not_forged(&open.head.headers);
    let id = field(&open.head.headers, "tidegate-connection").to_owned();
    let events = open.accept();
    // A masked text message, with a mask of nothing.
    stream.write_all(&[0x81, 0x85, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o']).await.unwrap();
    let post = upstream.next_post().await;
    assert_eq!(post.body, "hello");
    assert_not_forged(&post.head.headers);
    post.accept();
    // With a position the stream is opened again.
    events.send("id: 1\ndata: x\n\n").await;
    events.end();
    let open = upstream.next_open().await;
    assert_not_forged(&open.head.headers);
    let _events = open.accept();
    drop(stream);
    let leave = upstream.next_post().await;
    assert_eq!(field(&leave.head.headers, "tidegate-event"), "close");
    assert_eq!(field(&leave.head.headers, "tidegate-connection"), id);
    assert_not_forged(&leave.head.headers);
    leave.accept();
}

/// What the admin listener answers to a GET of `target`: status, fields and body.
async fn get(admin: SocketAddr, target: &str) -> (u16, HeaderMap, String) {
    let stream = TcpStream::connect(admin).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let request = http::Request::get(target).header("host", admin.to_string());
    let exchange = async move {
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        (head.status.as_u16(), head.headers, body)
    };
    must("an answer of the admin listener", async { tokio::join!(exchange, connection) }).await.0
}

#[tokio::test]
async fn the_keys_of_identity_tokens_are_published_on_the_admin_listener_alone() {
    let upstream = FakeUpstream::start().await;
    let scene = |identity: &str| {
        let admin = "[admin]\naddress = \"127.0.0.1:0\"\n";
        let toml = toml(&format!("http://{}", upstream.address), "", "");
        let gateway = TestGateway::from_toml(&format!("{admin}{identity}{toml}"));
        let address = gateway.gateway.admin_address().unwrap();
        (gateway, address)
    };
    let (gateway, admin) =
        scene("[identity]\nkeys = [{ id = \"k1\", algorithm = \"ES256\", file = \"certs/dev.key\" }]\n");
    let (status, fields, body) = get(admin, "/.well-known/jwks.json").await;
    assert_eq!((status, field(&fields, "cache-control")), (200, "max-age=300"));
    assert_eq!(field(&fields, "content-type"), "application/jwk-set+json");
    let set: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&set["keys"][0]["kid"], &set["keys"][0]["crv"]), (&"k1".into(), &"P-256".into()));
    assert!(set["keys"][0].get("d").is_none(), "{body}");
    assert!(get(admin, "/").await.2.contains("/.well-known/jwks.json"));
    let public = Client::ask(&gateway, "/.well-known/jwks.json", &[]).await.map(|_| ()).unwrap_err();
    assert_eq!(public.status, 404);

    let (_gateway, admin) = scene("");
    assert_eq!(get(admin, "/.well-known/jwks.json").await.0, 404);
}
