//! Logs of the real binary: two lines for every connection, and never a secret in any.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::gateway::{certificates, toml};
use crate::support::process::GatewayProcess;
use crate::support::upstream::{Answer, EventSender};
use crate::support::{Client, FakeUpstream, Seen};

/// A gateway with this filter, and further keys for upstream and bridge.
async fn scene(filter: &str, upstream_keys: &str, bridge_keys: &str) -> (FakeUpstream, GatewayProcess) {
    let upstream = FakeUpstream::start().await;
    let toml = toml(&format!("http://{}", upstream.address), upstream_keys, bridge_keys);
    let gateway = GatewayProcess::start(&format!("[log]\nfilter = \"{filter}\"\n{toml}")).await;
    (upstream, gateway)
}

async fn open(upstream: &mut FakeUpstream, gateway: &GatewayProcess) -> (Client, EventSender) {
    tokio::join!(gateway.client(), async { upstream.next_open().await.accept() })
}

/// Lines about connections and requests, without those about the process.
fn about_clients(lines: Vec<Value>) -> Vec<Value> {
    lines.into_iter().filter(|line| line["connection"].is_string()).collect()
}

#[tokio::test]
async fn a_connection_is_one_line_when_it_opens_and_one_when_it_closes() {
    let (mut upstream, mut gateway) = scene("info", "", "").await;
    let (mut client, events) = open(&mut upstream, &gateway).await;
    client.text("tide").await;
    upstream.next_post().await.accept();
    client.binary(vec![0; 100]).await;
    upstream.next_post().await.accept();
    events.send("data: é\n\n").await;
    assert_eq!(client.next().await, Seen::text("é"));
    client.close(4000, "a client's words stay out of the log").await;
    let line = gateway.closed_line().await;

    let lines = about_clients(gateway.process.stderr.json());
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let (opened, closed) = (&lines[0], &lines[1]);
    assert_eq!(&line, closed);
    assert_eq!(opened["message"], "connection opened");
    assert_eq!(
        (&opened["level"], &opened["route"], &opened["upstream"]),
        (&json!("INFO"), &json!("/chat"), &json!("app"))
    );
    assert_eq!(opened["connection"], client.answer["tidegate-connection"].to_str().unwrap());
    assert_eq!(opened["endpoint"], upstream.address.to_string());
    assert!(opened["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(opened["open_ms"].is_u64() && opened["timestamp"].is_string());
    assert_eq!((&closed["level"], &closed["message"]), (&json!("INFO"), &json!("connection closed")));
    for field in ["connection", "route", "peer", "endpoint"] {
        assert_eq!(closed[field], opened[field], "{field}");
    }
    assert_eq!((&closed["cause"], &closed["blames"]), (&json!("client-closed"), &json!("client")));
    assert_eq!(closed["detail"], "the client closed with 4000");
    assert_eq!((&closed["messages_up"], &closed["bytes_up"]), (&json!(2), &json!(104)));
    assert_eq!((&closed["messages_down"], &closed["bytes_down"]), (&json!(1), &json!(2)));
    assert_eq!((&closed["undelivered"], &closed["refused"], &closed["ignored"]), (&json!(0), &json!(0), &json!(0)));
    assert!(closed["duration_ms"].is_u64());
    assert!(closed.get("code").is_none(), "the gateway sent no code of its own");
}

#[tokio::test]
async fn the_line_about_the_end_says_who_has_to_look_into_it() {
    let (mut upstream, mut gateway) = scene("info", "", "").await;
    let (mut client, _events) = open(&mut upstream, &gateway).await;
    client.text("one").await;
    upstream.next_post().await.answer(Answer::status(500));
    assert_eq!(client.closed().await.0, 1013);
    let line = gateway.closed_line().await;
    assert_eq!((&line["cause"], &line["blames"]), (&json!("upstream-error"), &json!("upstream")));
    assert_eq!((&line["code"], &line["undelivered"]), (&json!(1013), &json!(1)));
    assert_eq!(line["detail"], "upstream failed on a message (500)");
}

#[tokio::test]
async fn a_refused_request_is_one_line_without_its_query() {
    let (mut upstream, mut gateway) = scene("info", "", "").await;
    let (refused, ()) = tokio::join!(Client::ask_at(gateway.address, &gateway.tls, "/chat?room=7", &[]), async {
        upstream.next_open().await.answer(Answer::status(503));
    });
    let id = refused.err().unwrap().field("tidegate-connection").to_owned();
    let refused = |line: &str| line.contains("request refused").then(|| serde_json::from_str::<Value>(line).unwrap());
    let line = gateway.process.stderr.next("the line about the refusal", refused).await;
    assert_eq!((&line["connection"], &line["path"]), (&json!(id), &json!("/chat")));
    assert_eq!((&line["status"], &line["kind"]), (&json!(503), &json!("upstream-unavailable")));
    assert_eq!(about_clients(gateway.process.stderr.json()).len(), 1);
}

/// Every place where a secret can be, at the loudest filters, in a run that opens, refuses, carries messages and closes.
async fn no_line_holds_a_secret(filter: &str, upstream_keys: &str, forwards: bool) {
    const QUERY: &str = "?ticket=SECRET1&room=7&access_token=SECRET2&token=SECRET3";
    const FIELDS: [(&str, &str); 3] =
        [("authorization", "Bearer SECRET4"), ("cookie", "sid=SECRET5"), ("sec-websocket-protocol", "app.v1")];
    let bridge_keys = if forwards { "forward_headers = [\"authorization\"]\nforward_cookies = [\"*\"]" } else { "" };
    let (mut upstream, mut gateway) = scene(filter, upstream_keys, bridge_keys).await;
    let target = format!("/chat{QUERY}");
    let ask = |target: &str| {
        let (address, tls, target) = (gateway.address, gateway.tls.clone(), target.to_owned());
        async move { Client::ask_at(address, &tls, &target, &FIELDS).await }
    };

    let (client, events) = tokio::join!(ask(&target), async {
        let open = upstream.next_open().await;
        assert_eq!(open.head.uri.path_and_query().unwrap(), "/events?room=7");
        let all = format!("{:?}", open.head.headers);
        assert!(!all.contains("SECRET1") && !all.contains("SECRET2") && !all.contains("SECRET3"), "{all}");
        assert_eq!((all.contains("SECRET4"), all.contains("SECRET5")), (forwards, forwards), "{all}");
        open.accept_with(&[("sec-websocket-protocol", "app.v1")])
    });
    let mut client = client.unwrap();
    client.text("SECRET6").await;
    let post = upstream.next_post().await;
    assert_eq!(post.head.uri.path_and_query().unwrap(), "/messages?room=7");
    assert_eq!(format!("{:?}", post.head.headers).contains("SECRET5"), forwards);
    post.accept();
    events.send("data: SECRET7\n\n").await;
    assert_eq!(client.next().await, Seen::text("SECRET7"));
    events.send("event: tidegate.close\ndata: {\"code\":4001,\"reason\":\"SECRET8\"}\n\n").await;
    assert_eq!(client.closed().await, (4001, "SECRET8".to_owned()));

    let (refused, ()) = tokio::join!(ask(&target), async {
        let refusal = Answer::status(401).with("www-authenticate", "Bearer realm=\"SECRET9\"");
        upstream.next_open().await.answer(refusal.with("content-type", "text/plain").body("SECRET9"));
    });
    assert_eq!(refused.err().unwrap().status, 401);
    assert_eq!(ask(&format!("/nowhere{QUERY}")).await.err().unwrap().status, 404);
    gateway.closed_line().await;
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit().await, 0);

    let lines = gateway.process.stderr.json();
    assert!(lines.iter().any(|line| line["level"] == "DEBUG"), "the filter had no effect: {lines:#?}");
    for line in lines.iter().filter(|line| line["level"] == "DEBUG" || line["level"] == "TRACE") {
        assert!(line["target"].as_str().unwrap().starts_with("tidegate"), "libraries speak of what they carry: {line}");
    }
    for line in gateway.process.stderr.all() {
        assert!(!line.contains("SECRET"), "{line}");
    }
}

#[tokio::test]
async fn no_line_holds_a_secret_at_trace_with_credentials_kept_back() {
    no_line_holds_a_secret("trace", "", false).await;
}

#[tokio::test]
async fn no_line_holds_a_secret_at_trace_with_credentials_forwarded_over_http2() {
    no_line_holds_a_secret("trace", "protocol = \"http2\"", true).await;
}

#[tokio::test]
async fn no_line_holds_a_secret_even_when_libraries_are_asked_for_all_they_know() {
    let libraries = "trace,hyper=trace,hyper::proto=trace,hyper_util::client=trace,h2=trace,h2::hpack=trace,\
                     h2::codec=trace,h2::proto=trace,rustls=trace,tungstenite=trace,tungstenite::protocol=trace,\
                     tungstenite::handshake=trace,tokio_tungstenite=trace,tower_http=trace,tokio_util=trace,mio=trace";
    no_line_holds_a_secret(libraries, "protocol = \"http2\"", true).await;
    no_line_holds_a_secret(libraries, "", true).await;
}

#[tokio::test]
async fn lines_for_people_are_not_json() {
    let mut upstream = FakeUpstream::start().await;
    let files = certificates();
    let toml = format!("[log]\nformat = \"json\"\n{}", toml(&format!("http://{}", upstream.address), "", ""));
    let mut process = GatewayProcess::run(&files, &toml, &["--log-format", "human"]);
    let address = |line: &str| line.split_once("listening address=")?.1.parse().ok();
    let address = process.stderr.next("the line that says where it listens", address).await;
    let tls = crate::support::gateway::trusting(&files.path().join("certs/dev.pem"));
    let (client, events) =
        tokio::join!(Client::ask_at(address, &tls, "/chat", &[]), async { upstream.next_open().await.accept() });
    client.unwrap().close(1000, "").await;
    events.cancelled().await;
    let closed = |line: &str| line.contains("connection closed").then(|| line.to_owned());
    let line = process.stderr.next("the line about the end", closed).await;
    assert!(
        line.contains("INFO") && line.contains("cause=\"client-closed\"") && line.contains("messages_up=0"),
        "{line}"
    );
    for line in process.stderr.all() {
        assert!(serde_json::from_str::<Value>(&line).is_err(), "{line}");
        assert!(!line.contains('\x1b'), "a pipe is no terminal: {line:?}");
    }
}

#[tokio::test]
async fn the_closing_line_says_what_the_connection_upstream_said() {
    let mut upstream = FakeUpstream::start().await;
    let toml = toml(&format!("http://{}", upstream.address), "", "");
    let mut gateway = GatewayProcess::start(&toml).await;
    let (mut client, events) = tokio::join!(gateway.client(), async { upstream.next_open().await.accept() });
    events.send("data: half").await;
    events.cut().await;
    assert_eq!(client.closed().await.0, 1012);
    let closed = gateway.closed_line().await;
    assert_eq!((&closed["cause"], &closed["blames"]), (&"stream-broken".into(), &"upstream".into()));
    assert!(closed["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{closed}");
}
