//! Upstream knows who the client is, and by nobody but the gateway.

use std::net::SocketAddr;

use http::HeaderMap;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::access::{Desk, SECTIONS, bearer_with, by_ticket, files, guarded, now};
use crate::support::gateway::toml;
use crate::support::http::{Answered, plain};
use crate::support::upstream::field;
use crate::support::{Client, FakeUpstream, TestGateway, client};

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
    let text = toml(&format!("http://{}", upstream.address), "", &format!("notify_close = true\n{KEYS}"));
    let gateway = TestGateway::from_toml(&format!("[auth]\nclaims = [\"tenant\", \"roles\"]\n{text}"));
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

async fn get(admin: SocketAddr, target: &str) -> Answered {
    plain(admin, http::Method::GET, target, &[], "").await
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
    let Answered { status, fields, body } = get(admin, "/.well-known/jwks.json").await;
    assert_eq!((status, field(&fields, "cache-control")), (200, "max-age=300"));
    assert_eq!(field(&fields, "content-type"), "application/jwk-set+json");
    let set: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&set["keys"][0]["kid"], &set["keys"][0]["crv"]), (&"k1".into(), &"P-256".into()));
    assert!(set["keys"][0].get("d").is_none(), "{body}");
    assert!(get(admin, "/").await.body.contains("/.well-known/jwks.json"));
    let public = Client::ask(&gateway, "/.well-known/jwks.json", &[]).await.map(|_| ()).unwrap_err();
    assert_eq!(public.status, 404);

    let (_gateway, admin) = scene("");
    assert_eq!(get(admin, "/.well-known/jwks.json").await.status, 404);
}

/// A gateway that knows `tenant` and signs what it tells upstream.
fn signing(upstream: &FakeUpstream) -> TestGateway {
    let folder = files();
    let pair = rcgen::KeyPair::generate().unwrap();
    std::fs::write(folder.path().join("identity.key"), pair.serialize_pem()).unwrap();
    let sections = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n[auth]\nclaims = [\"tenant\"]\n{SECTIONS}\
         [identity]\nkeys = [{{ id = \"i1\", algorithm = \"ES256\", file = \"identity.key\" }}]\n"
    );
    let text = guarded(upstream, "\"ticket\"", &sections);
    let bridge = "[route.bridge]\nclaim_headers = { tenant = \"X-Tenant\" }\nidentity_token = true\n";
    TestGateway::from_files(&text.replace("[route.bridge]\n", bridge), folder)
}

#[tokio::test]
async fn upstream_is_told_who_the_client_is_in_fields_and_in_a_token_that_it_can_verify() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = signing(&upstream);
    let token = bearer_with(&json!({"sub": "Ada Löv", "tenant": "blue, green", "secret": "s", "exp": now() + 60}));
    let target = format!("/chat?ticket={}", Desk::of(&gateway).ticket_with(&token).await);
    let (client, open) = tokio::join!(
        async {
            let forged = [("tidegate-subject", "root"), ("x-tenant", "root"), ("tidegate-identity", "root")];
            Client::ask(&gateway, &target, &forged).await
        },
        async {
            let open = upstream.next_open().await;
            let head = open.head.headers.clone();
            (head, open.accept())
        }
    );
    let (head, _events) = open;
    let mut client = client.unwrap();
    client.text("hello").await;
    let post = upstream.next_post().await;
    let admin = gateway.gateway.admin_address().unwrap();
    let keys = plain(admin, http::Method::GET, "/.well-known/jwks.json", &[], "").await;
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&keys.body).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find("i1").unwrap()).unwrap();
    for fields in [&head, &post.head.headers] {
        assert_eq!(field(fields, "tidegate-subject"), "Ada%20L%C3%B6v");
        assert_eq!(field(fields, "x-tenant"), "blue%2C%20green");
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.set_audience(&["app"]);
        validation.set_issuer(&["tidegate"]);
        let said = jsonwebtoken::decode::<Value>(field(fields, "tidegate-identity"), &key, &validation).unwrap().claims;
        assert_eq!((&said["sub"], &said["claims"]), (&json!("Ada Löv"), &json!({"tenant": "blue, green"})));
        assert_eq!(said["tidegate_connection"], field(&head, "tidegate-connection"));
    }
    post.accept();
}

#[tokio::test]
async fn the_connection_ends_when_the_identity_does() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = by_ticket(&upstream);
    let token = bearer_with(&json!({"sub": "ada", "exp": now() + 2}));
    let target = format!("/chat?ticket={}", Desk::of(&gateway).ticket_with(&token).await);
    let (client, _events) =
        tokio::join!(Client::ask(&gateway, &target, &[]), async { upstream.next_open().await.accept() });
    let (code, reason) = client.unwrap().closed().await;
    assert_eq!((code, reason.as_str()), (1008, "expired: the identity has expired"));
}

#[tokio::test]
async fn an_identity_has_so_many_connections() {
    let mut upstream = FakeUpstream::start().await;
    let text = guarded(&upstream, "\"ticket\"", SECTIONS);
    let limits = "[route.limits]\nper_identity = 1\n\n[route.bridge]\n";
    let gateway = TestGateway::from_files(&text.replace("[route.bridge]\n", limits), files());
    let desk = Desk::of(&gateway);
    let (ada, again, grace) = (desk.ticket("ada").await, desk.ticket("ada").await, desk.ticket("grace").await);
    let target = |ticket: &str| format!("/chat?ticket={ticket}");
    let (first, second, third) = (target(&ada), target(&again), target(&grace));
    let (client, _events) =
        tokio::join!(Client::ask(&gateway, &first, &[]), async { upstream.next_open().await.accept() });
    let refused = Client::ask(&gateway, &second, &[]).await.err().unwrap();
    assert!(refused.status == 429 && refused.body.contains("too-many-connections-identity"), "{}", refused.body);
    let (other, _more) =
        tokio::join!(Client::ask(&gateway, &third, &[]), async { upstream.next_open().await.accept() });
    assert!(other.is_ok());
    // Whoever was refused for that has not spent its ticket.
    let mut client = client.unwrap();
    client.close(1000, "").await;
    while client.next().await != crate::support::Seen::Lost {}
    let (late, _late) = crate::support::must("a place", async {
        loop {
            tokio::select! {
                client = Client::ask(&gateway, &second, &[]) => assert_eq!(client.err().unwrap().status, 429),
                open = upstream.next_open() => break (true, open.accept()),
            }
        }
    })
    .await;
    assert!(late);
}
