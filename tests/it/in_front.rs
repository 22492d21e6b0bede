//! Programs that stand in front of gateways: what they do to event streams and WebSockets, and that the doctor sees it.

use std::time::{Duration, Instant};

use crate::support::client::tls;
use crate::support::front::Front;
use crate::support::gateway::trusting;
use crate::support::native::Native;
use crate::support::{Client, FakeUpstream, Seen, TestGateway, must};

/// How late an event may be, in milliseconds.
const SOON: u64 = 50;

/// A gateway whose first listener has TLS and whose second has none, both with a diagnostic endpoint.
fn gateway(upstream: &FakeUpstream, server: &str) -> TestGateway {
    TestGateway::from_toml(&format!(
        r#"
[server]
{server}
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificate = "certs/dev.pem", key = "certs/dev.key" }}
diagnostics = "/.well-known/tidegate/doctor"

[[listener]]
address = "127.0.0.1:0"
tls = false
diagnostics = "/.well-known/tidegate/doctor"

[upstream.app]
endpoints = ["http://{}"]

[[route]]
path = "/chat"
auth = "none"
bridge = {{ upstream = "app", events = "/events", messages = "/messages" }}

[[route]]
path = "/stream"
auth = "none"
proxy = {{ upstream = "app", stream = {{ heartbeat = "100ms" }} }}
"#,
        upstream.address
    ))
}

async fn with_and_without_tls() -> (TestGateway, String, String) {
    let gateway = gateway(&FakeUpstream::start().await, "");
    let [tls, plain] = [0, 1].map(|listener| gateway.gateway.addresses()[listener]);
    (gateway, format!("https://{tls}"), format!("http://{plain}"))
}

/// Whether each event was here soon after it was sent. A machine that is busy with something else may be late once or twice,
/// a buffer is late each time.
async fn comes_soon(front: &Front) {
    let mut slowest = Vec::new();
    for _ in 0..3 {
        let diagnosis = front.diagnosis("0s").await;
        assert!(!diagnosis.found().iter().any(|id| ["stream-buffered", "stream-late"].contains(id)), "{diagnosis:?}");
        slowest.push(diagnosis.slowest_event());
        if slowest.iter().any(|slowest| *slowest <= SOON) {
            return;
        }
    }
    panic!("the slowest of ten events took {slowest:?} ms");
}

/// The same of a backend's own stream, which sets nothing that would keep a proxy from buffering: that is the gateway's doing.
/// An event is sent when the one before it has come, so that a buffer would hold all of them for ever.
async fn comes_soon_from_upstream(front: &Front, upstream: &mut FakeUpstream) {
    let stream = tls(([127, 0, 0, 1], front.port).into(), &trusting(&front.certificate())).await;
    let opening = Native::events_over(stream, "/stream", &[]);
    let (mut client, events) = tokio::join!(opening, async { upstream.next_open().await.accept() });
    assert_eq!((client.status, client.field("content-type")), (200, "text/event-stream"));
    client.until("\n\n").await;
    let mut slowest = Vec::new();
    for round in 0..3 {
        let mut took = Duration::ZERO;
        for number in 0..10 {
            let event = format!("data: {round}.{number}\n\n");
            let sent = Instant::now();
            events.send(event.clone()).await;
            client.until(&event).await;
            took = took.max(sent.elapsed());
        }
        slowest.push(took);
    }
    assert!(
        slowest.iter().any(|slowest| *slowest <= Duration::from_millis(SOON)),
        "the slowest of each ten: {slowest:?}"
    );
    client.until(":\n\n").await;
    drop(client);
    must("the end of the event stream", events.cancelled()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_a_backend_and_the_heartbeats_between_them_come_through_each_proxy_at_once() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "");
    let [tls, plain] = [0, 1].map(|listener| gateway.gateway.addresses()[listener]);
    for front in [
        Front::nginx(&format!("proxy_pass http://{plain};")).await,
        Front::nginx(&format!("proxy_pass http://{plain}; proxy_http_version 1.1;")).await,
        Front::nginx(&format!("proxy_pass https://{tls};")).await,
        Front::haproxy(&format!(" option forwardfor\n server gate {plain}")).await,
        // With HTTP/2 on the last hop as well.
        Front::haproxy(&format!(" server gate {tls} ssl verify none alpn h2")).await,
        Front::caddy(&format!(" reverse_proxy {plain}")).await,
    ] {
        comes_soon_from_upstream(&front, &mut upstream).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_nginx_as_it_is_shipped_each_event_comes_when_it_is_sent() {
    let (_gateway, tls, plain) = with_and_without_tls().await;
    for (to, version) in
        [(&plain, ""), (&plain, "proxy_http_version 1.1;"), (&tls, ""), (&tls, "proxy_http_version 1.1;")]
    {
        let front = Front::nginx(&format!("proxy_pass {to}; {version}")).await;
        comes_soon(&front).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_the_buffering_of_nginx_and_its_cure() {
    let (_gateway, _, plain) = with_and_without_tls().await;
    let cure = ("nginx", "proxy_buffering off;  # and no proxy_ignore_headers X-Accel-Buffering");

    // As shipped: it is the fields that keep it from buffering, which a stream without them shows.
    let front = Front::nginx(&format!("proxy_pass {plain};")).await;
    let diagnosis = front.diagnosis("0s").await;
    let (severity, seen, first) = diagnosis.finding("stream-buffered-without-headers");
    assert_eq!((severity, first), ("note", cure));
    assert!(seen.starts_with("10 of 10 events sent 200 ms apart came all at once; "), "{seen}");
    assert!(!diagnosis.found().contains(&"stream-buffered"), "{diagnosis:?}");
    for (id, first) in [
        ("old-http-to-gateway", "proxy_http_version 1.1;"),
        ("client-address-hidden", "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"),
        ("host-changed", "proxy_set_header Host $http_host;"),
        ("scheme-hidden", "proxy_set_header X-Forwarded-Proto $scheme;"),
        ("upload-buffered", "proxy_request_buffering off;  # with proxy_http_version 1.1;"),
    ] {
        assert_eq!(diagnosis.finding(id).2, ("nginx", first), "{id}");
    }
    assert!(diagnosis.finding("websocket-fails").1.contains("426"), "{diagnosis:?}");

    // With the fields suppressed.
    let front = Front::nginx(&format!("proxy_pass {plain}; proxy_ignore_headers X-Accel-Buffering;")).await;
    let diagnosis = front.diagnosis("0s").await;
    let (severity, _, first) = diagnosis.finding("stream-buffered");
    assert_eq!((severity, first, diagnosis.exit), ("error", cure, 1));

    // And with the cures, of which the gateway has to take one itself.
    let lines = |to: &str| {
        format!(
            "proxy_pass {to}; proxy_ignore_headers X-Accel-Buffering; proxy_buffering off; proxy_http_version 1.1; \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Host $http_host; \
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_request_buffering off;"
        )
    };
    let diagnosis = Front::nginx(&lines(&plain)).await.diagnosis("0s").await;
    let (severity, seen, (front, cure)) = diagnosis.finding("front-untrusted");
    assert_eq!((severity, front), ("warning", "tidegate"));
    assert_eq!(seen, "it was said who asks and by which scheme, from an address that is not trusted");
    assert!(cure.starts_with("trusted_proxies = "), "{cure}");
    for id in ["client-address-hidden", "scheme-hidden"] {
        assert!(!diagnosis.found().contains(&id), "{diagnosis:?}");
    }
    let upstream = FakeUpstream::start().await;
    let unread = gateway(&upstream, "trusted_proxies = [\"127.0.0.1\"]\nforwarded = \"forwarded\"");
    let to = format!("http://{}", unread.gateway.addresses()[1]);
    let diagnosis = Front::nginx(&lines(&to)).await.diagnosis("0s").await;
    assert_eq!(diagnosis.finding("front-unread").2.0, "tidegate");
    let trusting = gateway(&upstream, "trusted_proxies = [\"127.0.0.1\"]");
    let to = format!("http://{}", trusting.gateway.addresses()[1]);
    let diagnosis = Front::nginx(&lines(&to)).await.diagnosis("0s").await;
    let left: Vec<_> = diagnosis.found().into_iter().filter(|id| *id != "tls-old").collect();
    assert_eq!((diagnosis.exit, left), (0, vec!["websocket-over-http2-missing"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_compression_and_a_short_patience_of_nginx() {
    let (_gateway, _, plain) = with_and_without_tls().await;
    let location = format!("proxy_pass {plain}; gzip on; gzip_types text/event-stream; proxy_read_timeout 2s;");
    let diagnosis = Front::nginx(&location).await.diagnosis("4s").await;
    let (severity, seen, cure) = diagnosis.finding("stream-compressed");
    assert_eq!((severity, cure.0), ("warning", "nginx"));
    assert!(seen.starts_with("Content-Encoding: gzip; "), "{seen}");
    let (severity, seen, cure) = diagnosis.finding("silence-cut");
    assert_eq!((severity, cure), ("warning", ("nginx", "proxy_read_timeout 1h;")));
    assert!(seen.starts_with("cut after 2."), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_passes_events_on_and_the_doctor_names_what_its_lines_do() {
    let (_gateway, _, plain) = with_and_without_tls().await;
    let server = format!(" server gate {}", plain.trim_start_matches("http://"));
    let front = Front::haproxy(&format!(" option forwardfor\n{server}")).await;
    comes_soon(&front).await;

    // It heeds Cache-Control: no-transform, and compresses what does not say that.
    let lines = format!(" timeout server 2s\n compression algo gzip\n compression type text/event-stream\n{server}");
    let diagnosis = Front::haproxy(&lines).await.diagnosis("4s").await;
    assert!(!diagnosis.found().contains(&"stream-compressed"), "{diagnosis:?}");
    let (severity, seen, _) = diagnosis.finding("stream-compressed-without-headers");
    assert_eq!(severity, "note");
    assert!(seen.starts_with("Content-Encoding: gzip; "), "{seen}");
    // It does not say what it is, so that the cures of all are shown.
    let cures = |id: &str| {
        let findings = diagnosis.report["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["id"] == id).unwrap()["cures"].to_string()
    };
    assert!(cures("silence-cut").contains(r#"["haproxy","timeout server 1h  # and timeout client 1h"]"#));
    assert!(cures("client-address-hidden").contains(r#"["haproxy","option forwardfor  # "#));
    assert!(diagnosis.finding("silence-cut").1.starts_with("cut after 2."), "{diagnosis:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caddy_passes_events_on_and_the_doctor_names_its_compression() {
    let (_gateway, _, plain) = with_and_without_tls().await;
    let front = Front::caddy(&format!(" reverse_proxy {plain}")).await;
    comes_soon(&front).await;

    let lines = format!(
        " encode {{\n  gzip\n  minimum_length 1\n  match {{\n   header Content-Type text/event-stream*\n  }}\n }}\n reverse_proxy {plain}"
    );
    let diagnosis = Front::caddy(&lines).await.diagnosis("0s").await;
    let compressed = ["stream-compressed", "stream-compressed-without-headers"];
    let id = compressed.into_iter().find(|id| diagnosis.found().contains(id));
    let (_, seen, cure) = diagnosis.finding(id.unwrap_or("stream-compressed"));
    assert!(seen.starts_with("Content-Encoding: gzip; "), "{seen}");
    assert_eq!(cure, ("caddy", "encode gzip { match { header Content-Type text/html* } }"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_through_nginx_is_bridged() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "");
    let front = Front::nginx(&format!(
        "proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection upgrade; proxy_set_header Host $host;",
        gateway.gateway.addresses()[1]
    ))
    .await;
    let (address, tls) = (([127, 0, 0, 1], front.port).into(), trusting(&front.certificate()));
    let (client, events) =
        tokio::join!(Client::ask_at(address, &tls, "/chat", &[]), async { upstream.next_open().await.accept() });
    let mut client = client.unwrap();
    events.send("data: down\n\n").await;
    assert_eq!(client.next().await, Seen::text("down"));
    client.text("up").await;
    let post = must("the message", upstream.next_post()).await;
    assert_eq!(post.text(), "up");
}
