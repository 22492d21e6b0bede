//! Sending clients away through the admin listener.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::gateway::toml;
use crate::support::http::plain;
use crate::support::process::GatewayProcess;
use crate::support::redis::RedisServer;
use crate::support::{Client, FakeUpstream, TestGateway, must};

fn gateway(upstream: &FakeUpstream, keys: &str) -> TestGateway {
    let toml = toml(&format!("http://{}", upstream.address), "", "");
    TestGateway::from_toml(&format!("[admin]\naddress = \"127.0.0.1:0\"\n{keys}{toml}"))
}

async fn ask(admin: SocketAddr, method: &str, fields: &[(&str, &str)], body: &str) -> (u16, Value) {
    let answered = plain(admin, method.parse().unwrap(), "/revocations", fields, body).await;
    (answered.status, answered.json())
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_connection_that_is_taken_back_ends_and_others_stay() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "");
    let admin = gateway.gateway.admin_address().unwrap();
    let (mut client, events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    let (mut other, _others) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    let id = client.answer["tidegate-connection"].to_str().unwrap().to_owned();
    let revoked = ask(admin, "POST", &[JSON], &json!({ "connection": id }).to_string()).await;
    assert_eq!(revoked, (200, json!({ "closed": 1, "told_others": false })));
    assert_eq!(client.closed().await, (1008, "revoked: the client was sent away".to_owned()));
    must("the end of the event stream", events.cancelled()).await;
    other.text("still here").await;
    upstream.next_post().await.accept();
    let (status, listed) = ask(admin, "GET", &[], "").await;
    assert_eq!((status, &listed["total"], &listed["revocations"][0]["connection"]), (200, &json!(1), &json!(id)));
    assert!(listed["revocations"][0]["at_ms"].is_u64());
}

#[tokio::test]
async fn web_pages_and_bodies_that_are_none_are_refused() {
    let upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "");
    let admin = gateway.gateway.admin_address().unwrap();
    let body = r#"{"subject":"ada"}"#;
    let kind = |(status, problem): (u16, Value)| (status, problem["type"].as_str().unwrap_or_default().to_owned());
    let origin = ask(admin, "POST", &[JSON, ("origin", "http://127.0.0.1:9900")], body).await;
    assert_eq!(kind(origin), (403, "urn:tidegate:origin-refused".to_owned()));
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        let other = ask(admin, "POST", &[("content-type", media_type)], body).await;
        assert_eq!(kind(other), (415, "urn:tidegate:bad-content-type".to_owned()));
    }
    assert_eq!(kind(ask(admin, "POST", &[], body).await).0, 415);
    let bad = ask(admin, "POST", &[JSON], r#"{"user":"ada"}"#).await;
    assert_eq!(kind(bad), (400, "urn:tidegate:bad-revocation".to_owned()));
    let large = ask(admin, "POST", &[JSON], &"x".repeat(5000)).await;
    assert_eq!(kind(large), (413, "urn:tidegate:body-too-large".to_owned()));
    assert_eq!(kind(ask(admin, "DELETE", &[], "").await), (405, "urn:tidegate:method-not-allowed".to_owned()));
    assert_eq!(ask(admin, "GET", &[], "").await.1["total"], 0);
}

#[tokio::test]
async fn a_gateway_says_when_it_has_no_room_and_when_others_were_not_told() {
    let upstream = FakeUpstream::start().await;
    let full = gateway(&upstream, "[revocation]\nmax_entries = 1\n");
    let admin = full.gateway.admin_address().unwrap();
    assert_eq!(ask(admin, "POST", &[JSON], r#"{"subject":"ada"}"#).await.0, 200);
    let (status, problem) = ask(admin, "POST", &[JSON], r#"{"subject":"eve"}"#).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:tidegate:revocations-full")));

    let server = RedisServer::start().await;
    let keys = format!("[redis]\nurl = \"redis://127.0.0.1:{}\"\ntimeout = \"5s\"\n", server.port);
    let shared = gateway(&upstream, &keys);
    let admin = shared.gateway.admin_address().unwrap();
    let told = ask(admin, "POST", &[JSON], r#"{"subject":"ada"}"#).await;
    assert_eq!(told, (200, json!({ "closed": 0, "told_others": true })));
    server.stop().await;
    let (status, problem) = ask(admin, "POST", &[JSON], r#"{"subject":"eve"}"#).await;
    assert_eq!((status, &problem["type"]), (503, &json!("urn:tidegate:revocation-not-shared")));
    assert_eq!(ask(admin, "GET", &[], "").await.1["total"], 2);
    shared.stop().await;
}

#[tokio::test]
async fn the_log_says_once_that_redis_is_down_and_once_that_it_is_back() {
    let (upstream, server) = (FakeUpstream::start().await, RedisServer::start().await);
    let redis = format!("[redis]\nurl = \"redis://127.0.0.1:{}\"\n", server.port);
    let toml = toml(&format!("http://{}", upstream.address), "", "");
    let mut gateway = GatewayProcess::start(&format!("{redis}{toml}")).await;
    let line = |message: &'static str| {
        move |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == message).then_some(line)
        }
    };
    let port = server.stop().await;
    let down = gateway.process.stderr.next("the line that it is down", line("Redis cannot be used")).await;
    assert_eq!((&down["level"], &down["redis"]), (&json!("WARN"), &json!(format!("127.0.0.1:{port}"))));
    assert!(down["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    let _server = RedisServer::again(port).await;
    let back = gateway.process.stderr.next("the line that it is back", line("Redis is back")).await;
    assert_eq!(back["level"], "INFO");
    let said = gateway.process.stderr.all().iter().filter(|line| line.contains("Redis cannot be used")).count();
    assert_eq!(said, 1);
}
