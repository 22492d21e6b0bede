//! The admin listener: what operators and their tools see, and who does not get to see it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use tidegate::identity::Algorithm;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gateway::toml;
use crate::support::http::{Answered, plain};
use crate::support::keys::Signer;
use crate::support::process::GatewayProcess;
use crate::support::upstream::{Answer, EventSender};
use crate::support::{Client, FakeUpstream, Seen, TestGateway, client, must};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\n";

/// A gateway with an admin listener, and further keys for upstream and bridge.
fn gateway(upstream: &FakeUpstream, bridge_keys: &str) -> TestGateway {
    TestGateway::from_toml(&format!("{ADMIN}{}", toml(&format!("http://{}", upstream.address), "", bridge_keys)))
}

async fn scene() -> (FakeUpstream, TestGateway, SocketAddr) {
    let upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "");
    let admin = gateway.gateway.admin_address().unwrap();
    (upstream, gateway, admin)
}

async fn open(upstream: &mut FakeUpstream, gateway: &TestGateway) -> (Client, EventSender) {
    tokio::join!(Client::connect(gateway), async { upstream.next_open().await.accept() })
}

async fn ask(admin: SocketAddr, method: Method, target: &str, host: &str) -> Answered {
    plain(admin, method, target, &[("host", host)], "").await
}

async fn get(admin: SocketAddr, target: &str) -> Answered {
    ask(admin, Method::GET, target, &admin.to_string()).await
}

/// The samples of `/metrics` by name and labels.
async fn samples(admin: SocketAddr) -> BTreeMap<String, u64> {
    let page = get(admin, "/metrics").await.body;
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    page.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// Asks for the metrics until one of them is as it must come to be.
async fn until(admin: SocketAddr, sample: &str, value: u64) -> BTreeMap<String, u64> {
    let look = async {
        loop {
            let samples = samples(admin).await;
            if samples.get(sample) == Some(&value) {
                return samples;
            }
        }
    };
    must(&format!("{sample} {value}"), look).await
}

#[tokio::test]
async fn without_the_section_there_is_no_admin_listener() {
    let upstream = FakeUpstream::start().await;
    assert_eq!(TestGateway::in_front_of(&upstream).gateway.admin_address(), None);
}

#[tokio::test]
async fn it_says_what_is_there_and_refuses_the_rest() {
    let (_upstream, _gateway, admin) = scene().await;
    let contents = get(admin, "/").await;
    assert_eq!(contents.status, 200);
    for path in ["/livez", "/readyz", "/metrics", "/connections", "/streams"] {
        assert!(contents.body.contains(path), "{}", contents.body);
        let answered = get(admin, path).await;
        assert_eq!((answered.status, answered.field("cache-control")), (200, "no-store"), "{path}");
        let head = ask(admin, Method::HEAD, path, "localhost").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.field("content-type"), answered.field("content-type"), "{path}");
        let posted = ask(admin, Method::POST, path, "localhost").await;
        assert_eq!((posted.status, posted.field("allow")), (405, "GET, HEAD"), "{path}");
    }
    assert_eq!(get(admin, "/livez").await.body, "ok\n");
    let nothing = get(admin, "/connection").await;
    assert_eq!((nothing.status, nothing.field("content-type")), (404, "application/problem+json"));
    assert_eq!(nothing.json()["type"], "urn:tidegate:not-found");
    assert_eq!(get(admin, "/connections?limit=all").await.status, 400);
}

#[tokio::test]
async fn a_page_that_leads_its_own_name_here_is_answered_nothing() {
    let (upstream, _gateway, admin) = scene().await;
    for path in ["/", "/metrics", "/connections"] {
        let answered = ask(admin, Method::GET, path, "evil.example").await;
        assert_eq!((answered.status, &answered.json()["type"]), (421, &Value::from("urn:tidegate:bad-host")), "{path}");
    }
    assert_eq!(ask(admin, Method::GET, "/livez", "localhost:9900").await.status, 200);

    let toml = toml(&format!("http://{}", upstream.address), "", "");
    let exposed = TestGateway::from_toml(&format!("{ADMIN}expose = true\n{toml}"));
    let admin = exposed.gateway.admin_address().unwrap();
    assert_eq!(ask(admin, Method::GET, "/livez", "tidegate.internal").await.status, 200);
}

#[tokio::test]
async fn clients_do_not_reach_it_through_the_public_listener() {
    let (_upstream, gateway, _admin) = scene().await;
    for path in ["/metrics", "/connections", "/livez"] {
        assert_eq!(Client::ask(&gateway, path, &[]).await.err().unwrap().status, 404, "{path}");
    }
}

#[tokio::test]
async fn every_open_connection_is_listed_with_where_it_comes_from_and_where_it_leads() {
    let (mut upstream, gateway, admin) = scene().await;
    assert_eq!(get(admin, "/connections").await.json(), serde_json::json!({ "connections": [], "total": 0 }));
    let (client, _events) = open(&mut upstream, &gateway).await;
    let (_second, _events) = open(&mut upstream, &gateway).await;

    // A client may see its 101 just before its connection is listed.
    until(admin, "tidegate_connections_open{route=\"/chat\"}", 2).await;
    let listed = get(admin, "/connections").await.json();
    let connections = listed["connections"].as_array().unwrap();
    assert_eq!((connections.len(), &listed["total"]), (2, &Value::from(2)));
    let first = &connections[0];
    assert_eq!(first["id"], client.answer["tidegate-connection"].to_str().unwrap());
    assert_eq!((&first["route"], &first["upstream"]), (&Value::from("/chat"), &Value::from("app")));
    assert_eq!(first["endpoint"], upstream.address.to_string());
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(first["age_ms"].is_u64());
    assert_eq!((&first["stream"], &first["queued_up_bytes"]), (&Value::from("open"), &Value::from(0)));
    for count in ["messages_up", "bytes_up", "messages_down", "bytes_down", "undelivered", "refused", "ignored"] {
        assert!(first[count].is_u64(), "{count} in {first}");
    }

    let listed = get(admin, "/connections?limit=1").await.json();
    assert_eq!((listed["connections"].as_array().unwrap().len(), &listed["total"]), (1, &Value::from(2)));
    assert_eq!(get(admin, "/connections?route=%2Fchat").await.json()["total"], 2);
    assert_eq!(get(admin, "/connections?route=/other").await.json()["total"], 0);
}

#[tokio::test]
async fn what_connections_carried_is_counted_by_route_and_cause() {
    let (mut upstream, gateway, admin) = scene().await;
    let quiet = samples(admin).await;
    assert_eq!(quiet["tidegate_connections_opened_total{route=\"/chat\"}"], 0, "routes are there from the start");
    let (mut client, events) = open(&mut upstream, &gateway).await;
    let open = until(admin, "tidegate_connections_open{route=\"/chat\"}", 1).await;
    assert_eq!(open["tidegate_event_streams{route=\"/chat\",state=\"open\"}"], 1);

    client.text("tide").await;
    upstream.next_post().await.accept();
    events.send("data: é\n\n").await;
    assert_eq!(client.next().await, Seen::text("é"));
    client.text("lost").await;
    upstream.next_post().await.answer(Answer::status(500));
    assert_eq!(client.closed().await.0, 1013);
    let ended = until(admin, "tidegate_connections_open{route=\"/chat\"}", 0).await;
    for (sample, value) in [
        ("tidegate_connections_opened_total{route=\"/chat\"}", 1),
        ("tidegate_connections_closed_total{route=\"/chat\",cause=\"upstream-error\"}", 1),
        ("tidegate_messages_up_total{route=\"/chat\"}", 1),
        ("tidegate_messages_up_bytes_total{route=\"/chat\"}", 4),
        ("tidegate_messages_down_total{route=\"/chat\"}", 1),
        ("tidegate_messages_down_bytes_total{route=\"/chat\"}", 2),
        ("tidegate_messages_undelivered_total{route=\"/chat\"}", 1),
    ] {
        assert_eq!(ended.get(sample), Some(&value), "{sample} in {ended:#?}");
    }
}

#[tokio::test]
async fn who_was_not_let_in_is_counted_without_a_word_of_what_was_asked() {
    let (mut upstream, gateway, admin) = scene().await;
    assert_eq!(Client::ask(&gateway, "/some-scanners-path", &[]).await.err().unwrap().status, 404);
    let (refused, ()) = tokio::join!(Client::ask(&gateway, "/chat?room=7", &[]), async {
        upstream.next_open().await.answer(Answer::status(503));
    });
    assert_eq!(refused.err().unwrap().status, 503);
    let mut no_tls = TcpStream::connect(gateway.address()).await.unwrap();
    no_tls.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let _ = must("the end of it", no_tls.read_to_end(&mut Vec::new())).await;

    let counted = until(admin, "tidegate_handshakes_refused_total{reason=\"tls\"}", 1).await;
    assert_eq!(counted["tidegate_requests_refused_total{kind=\"no-route\"}"], 1);
    assert_eq!(counted["tidegate_requests_refused_total{kind=\"upstream-unavailable\"}"], 1);
    assert!(!counted.keys().any(|sample| sample.contains("scanner") || sample.contains("room")), "{counted:#?}");
}

#[tokio::test]
async fn a_client_above_max_connections_is_counted() {
    let upstream = FakeUpstream::start().await;
    let toml = toml(&format!("http://{}", upstream.address), "", "")
        .replace("[upstream.app]", "max_connections = 1\n\n[upstream.app]");
    let gateway = TestGateway::from_toml(&format!("{ADMIN}{toml}"));
    let _first = client::tls(gateway.address(), &gateway.tls).await;
    let mut second = TcpStream::connect(gateway.address()).await.unwrap();
    assert!(matches!(must("the end of it", second.read(&mut [0])).await, Ok(0) | Err(_)));
    until(gateway.gateway.admin_address().unwrap(), "tidegate_handshakes_refused_total{reason=\"full\"}", 1).await;
}

/// Name, type and labels of every metric in the table of the operations manual.
fn documented() -> BTreeSet<(String, String, String)> {
    let manual = include_str!("../../docs/operations.md");
    let table = manual.split_once("\n### Metrics\n").unwrap().1.split("\nAlerts").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `tidegate_"));
    let cell = |cell: &str| cell.trim().replace('`', "");
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').collect();
        (format!("tidegate_{}", cell(cells[0])), cell(cells[1]), cell(cells[2]))
    })
    .collect()
}

#[tokio::test]
async fn the_manual_has_every_metric_and_no_other() {
    let mut upstream = FakeUpstream::start().await;
    let mut keys = FakeUpstream::start().await;
    // Whether Redis is there does not matter.
    let sections = format!(
        "[redis]\nurl = \"redis://127.0.0.1:1\"\n[ticket]\n[auth.bearer]\njwks = {{ url = \"http://{}/keys\" }}\n",
        keys.address
    );
    let toml = toml(&format!("http://{}", upstream.address), "", "");
    let proxied = "[[route]]\npath = \"/pages\"\nauth = \"none\"\nproxy = { upstream = \"app\" }\n";
    let split = "[[route]]\npath = \"/split\"\nauth = \"none\"\nlegacy = { upstream = \"app\" }\nsplit = { bridge_percent = 100 }\n\
                 bridge = { upstream = \"app\", events = \"/e\", messages = \"/m\" }\n";
    let gateway = TestGateway::from_toml(&format!("{ADMIN}{sections}{toml}{proxied}{split}"));
    let admin = gateway.gateway.admin_address().unwrap();
    let set = json!({"keys": [Signer::new("k", Algorithm::ES256).jwk()]});
    keys.next_open().await.answer(Answer::status(200).with("content-type", "application/json").body(set.to_string()));
    until(admin, "tidegate_key_set_fetches_total{result=\"ok\"}", 1).await;
    // So that every metric has a sample, and with it its labels.
    let (mut client, _events) = open(&mut upstream, &gateway).await;
    client.close(1000, "").await;
    assert_eq!(Client::ask(&gateway, "/nowhere", &[]).await.err().unwrap().status, 404);
    let no_room = async { upstream.next_open().await.answer(Answer::status(404)) };
    assert_eq!(tokio::join!(Client::ask(&gateway, "/split", &[]), no_room).0.err().unwrap().status, 404);
    let counted = until(admin, "tidegate_connections_closed_total{route=\"/chat\",cause=\"client-closed\"}", 1).await;
    let page = get(admin, "/metrics").await;
    assert_eq!(page.field("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(page.body.ends_with("# EOF\n"));

    let mut shown = BTreeSet::new();
    for line in page.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let is_sample = |sample: &&String| sample.split('{').next().unwrap() == name;
        let sample = counted.keys().find(is_sample).unwrap_or_else(|| panic!("{name} has no sample"));
        let labels = sample.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        let labels: Vec<_> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
        shown.insert((name, kind.to_owned(), labels.join(", ")));
    }
    assert!(shown.len() > 15, "{shown:#?}");
    let (manual, difference) = (documented(), |a: &BTreeSet<_>, b: &BTreeSet<_>| a.difference(b).cloned().collect());
    let (missing, stale): (Vec<_>, Vec<_>) = (difference(&shown, &manual), difference(&manual, &shown));
    assert!(missing.is_empty() && stale.is_empty(), "missing in the manual: {missing:#?}, only there: {stale:#?}");
}

#[tokio::test]
async fn while_clients_drain_it_is_alive_and_not_ready() {
    let (mut upstream, gateway, admin) = scene().await;
    assert_eq!(get(admin, "/readyz").await.json()["ready"], true);
    let (mut client, _events) = open(&mut upstream, &gateway).await;
    client.text("the last word").await;
    let post = upstream.next_post().await;
    let drain = async {
        assert_eq!(client.closed().await.0, 1001);
        // The message is still on its way, and so the gateway is not done.
        let ready = get(admin, "/readyz").await;
        assert_eq!((ready.status, &ready.json()["ready"]), (503, &Value::from(false)));
        assert!(ready.body.contains("the gateway is stopping"), "{}", ready.body);
        assert_eq!(get(admin, "/livez").await.status, 200);
        let counted = samples(admin).await;
        assert_eq!(counted["tidegate_draining"], 1);
        assert_eq!(counted["tidegate_connections_open{route=\"/chat\"}"], 1);
        post.accept();
    };
    let (drained, ()) = tokio::join!(gateway.stop(), drain);
    assert_eq!(drained.cut, 0);
    assert!(TcpStream::connect(admin).await.is_err(), "it ends with the gateway");
}

#[tokio::test]
async fn an_idle_admin_connection_does_not_hold_up_a_stop() {
    let (_upstream, gateway, admin) = scene().await;
    let _idle = TcpStream::connect(admin).await.unwrap();
    let mut half = TcpStream::connect(admin).await.unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\nho").await.unwrap();
    gateway.stop().await;
}

/// What one message of the scene below takes, and how many of them.
const MESSAGE: usize = 1024 * 1024;
const MESSAGES: usize = 64;

#[tokio::test]
async fn above_the_memory_budget_new_clients_are_refused_and_those_who_are_in_go_on() {
    let mut upstream = FakeUpstream::start().await;
    let toml = toml(&format!("http://{}", upstream.address), "", "queue = \"1GiB\"");
    let mut gateway = GatewayProcess::start(&format!("[server]\nmax_memory = \"64MiB\"\n{ADMIN}{toml}")).await;
    let line = |message: &'static str| {
        move |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"].as_str()? == message).then_some(line)
        }
    };
    let address = gateway.process.stderr.next("the admin listener's line", line("admin listening")).await;
    let admin: SocketAddr = address["address"].as_str().unwrap().parse().unwrap();
    let (mut client, events) = tokio::join!(gateway.client(), async { upstream.next_open().await.accept() });

    // The first message has no answer yet, and the rest waits behind it.
    for _ in 0..MESSAGES {
        client.binary(vec![0; MESSAGE]).await;
    }
    let full = "memory above its budget, refusing new connections";
    let told = gateway.process.stderr.next("a warning", line(full)).await;
    assert_eq!((&told["level"], &told["budget"]), (&Value::from("WARN"), &Value::from(64 << 20)));
    let first = upstream.next_post().await;
    let refused = Client::ask_at(gateway.address, &gateway.tls, "/chat", &[]).await.err().unwrap();
    assert_eq!((refused.status, refused.field("retry-after")), (503, "5"));
    assert!(refused.body.contains("urn:tidegate:out-of-memory-budget"), "{}", refused.body);
    upstream.assert_untouched();
    let ready = get(admin, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("max_memory"), "{}", ready.body);
    let counted = samples(admin).await;
    assert_eq!(counted["tidegate_memory_budget_bytes"], 64 << 20);
    assert!(counted["tidegate_memory_resident_bytes"] > 60 << 20);
    assert_eq!(counted["tidegate_memory_over_budget"], 1);
    assert_eq!(counted["tidegate_requests_refused_total{kind=\"out-of-memory-budget\"}"], 1);

    events.send("data: still here\n\n").await;
    assert_eq!(client.next().await, Seen::text("still here"));
    first.accept();
    for _ in 1..MESSAGES {
        upstream.next_post().await.accept();
    }
    let room = "memory within its budget again, letting new connections in";
    gateway.process.stderr.next("the line about room again", line(room)).await;
    assert_eq!(get(admin, "/readyz").await.status, 200);
    let (_second, _events) = tokio::join!(gateway.client(), async { upstream.next_open().await.accept() });
}

#[tokio::test]
async fn above_the_budget_nobody_is_asked_who_a_client_is() {
    let mut upstream = FakeUpstream::start().await;
    // Less than the tests themselves hold.
    let sections =
        "[server]\nmax_memory = \"16MiB\"\n[auth.cookie]\nupstream = \"app\"\npath = \"/who\"\ncookies = [\"sid\"]\n";
    let toml = toml(&format!("http://{}", upstream.address), "", "").replace("auth = \"none\"", "auth = \"cookie\"");
    let split = "[[route]]\npath = \"/split\"\nauth = \"cookie\"\nlegacy = { upstream = \"app\" }\n\
                 split = { bridge_percent = 50 }\nbridge = { upstream = \"app\", events = \"/e\", messages = \"/m\" }\n";
    let gateway = TestGateway::from_toml(&format!("{ADMIN}{sections}{toml}{split}"));
    until(gateway.gateway.admin_address().unwrap(), "tidegate_memory_over_budget", 1).await;
    for path in ["/chat", "/split"] {
        let refused = Client::ask(&gateway, path, &[("cookie", "sid=a")]).await.err().unwrap();
        assert!(refused.status == 503 && refused.body.contains("out-of-memory-budget"), "{}", refused.body);
    }
    upstream.assert_untouched();
}

#[tokio::test]
async fn above_the_budget_event_streams_are_not_opened_and_ordinary_requests_pass() {
    let mut upstream = FakeUpstream::start().await;
    let toml = crate::proxy::toml(&[upstream.address], "", "");
    let gateway = TestGateway::from_toml(&format!("[server]\nmax_memory = \"16MiB\"\n{toml}"));
    let admin = gateway.gateway.admin_address().unwrap();
    until(admin, "tidegate_memory_over_budget", 1).await;
    let told = plain(gateway.address(), Method::GET, "/events", &[("accept", "text/event-stream")], "").await;
    assert!(told.body.contains("retry:"), "it comes back: {told:?}");
    upstream.assert_untouched();
    assert_eq!(samples(admin).await["tidegate_requests_refused_total{kind=\"out-of-memory-budget\"}"], 1);
    let (page, ()) = tokio::join!(plain(gateway.address(), Method::GET, "/page", &[], ""), async {
        upstream.next_open().await.answer(Answer::status(200));
    });
    assert_eq!(page.status, 200);
}
