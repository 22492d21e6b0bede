//! Reload: a configuration takes the place of another one, and nobody who is in notices.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tidegate::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::access::{self, Desk, bearer, guarded};
use crate::support::gateway::{certificates, toml, trusting};
use crate::support::http::plain;
use crate::support::process::GatewayProcess;
use crate::support::upstream::Either;
use crate::support::{Client, FakeUpstream, Seen, TestGateway, client, must};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:0\"\n";

/// The configuration of one bridged route in front of this backend, with an admin listener.
fn in_front_of(upstream: &FakeUpstream) -> String {
    format!("{ADMIN}{}", toml(&format!("http://{}", upstream.address), "", ""))
}

/// Has a gateway go on by another file.
fn reload(gateway: &TestGateway, files: &Path, toml: &str) {
    let config = Config::parse(toml, "test.toml", files).unwrap_or_else(|problems| panic!("{problems}"));
    gateway.gateway.reload(&config).unwrap();
}

/// A gateway with the folder of its files.
fn start(toml: &str) -> (TestGateway, TempDir) {
    let files = certificates();
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("certs")).unwrap();
    for file in ["certs/dev.pem", "certs/dev.key"] {
        fs::copy(files.path().join(file), copy.path().join(file)).unwrap();
    }
    (TestGateway::from_files(toml, files), copy)
}

/// The sample of a metric, by its whole name with labels.
async fn sample(gateway: &TestGateway, name: &str) -> Option<f64> {
    let admin = gateway.gateway.admin_address().unwrap();
    let page = plain(admin, Method::GET, "/metrics", &[], "").await.body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// Waits until a line with this message comes, and gives it.
async fn line(gateway: &mut GatewayProcess, message: &str) -> Value {
    let wanted = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == message).then_some(line)
    };
    gateway.process.stderr.next(message, wanted).await
}

#[tokio::test]
async fn another_upstream_is_for_those_who_come_and_who_is_in_stays_at_the_old_one() {
    let (mut old, mut new) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let (gateway, files) = start(&in_front_of(&old));
    let (mut first, first_events) = tokio::join!(Client::connect(&gateway), async { old.next_open().await.accept() });
    let idle = gateway.gateway.upstream_tasks();
    reload(&gateway, files.path(), &in_front_of(&new));

    let (mut second, second_events) = tokio::join!(Client::connect(&gateway), async { new.next_open().await.accept() });
    second_events.send("data: new\n\n").await;
    assert_eq!(second.next().await, Seen::text("new"));
    first_events.send("data: old\n\n").await;
    assert_eq!(first.next().await, Seen::text("old"));
    first.text("up").await;
    let post = old.next_post().await;
    assert_eq!(post.text(), "up");
    post.accept();

    // With the last connection of the old one its connections and whatever looked after it end.
    first.close(1000, "").await;
    first_events.cancelled().await;
    let ended = async {
        while gateway.gateway.upstream_tasks() > idle {
            tokio::task::yield_now().await;
        }
    };
    must("the end of the tasks of the old upstream", ended).await;
    second_events.send("data: still\n\n").await;
    assert_eq!(second.next().await, Seen::text("still"));
}

#[tokio::test]
async fn requests_on_one_connection_find_the_routes_that_there_are_when_they_come() {
    let upstream = FakeUpstream::start().await;
    let before = in_front_of(&upstream);
    let (gateway, files) = start(&before);
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    for (reloaded, status) in
        [(None, "404"), (Some(before.replace("\"/chat\"", "\"/talk\"")), "426"), (Some(before), "404")]
    {
        if let Some(toml) = reloaded {
            reload(&gateway, files.path(), &toml);
        }
        stream.write_all(b"GET /talk HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(must("an answer", stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        must("its body", stream.read_exact(&mut vec![0; length])).await.unwrap();
    }
}

#[tokio::test]
async fn listeners_come_and_go_and_those_that_stay_keep_their_ports_and_connections() {
    let mut upstream = FakeUpstream::start().await;
    let one = in_front_of(&upstream);
    let second = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n\n[upstream.app]";
    let two = one.replace("[upstream.app]", second);
    let (gateway, files) = start(&one);
    let address = gateway.address();
    reload(&gateway, files.path(), &two);
    let [kept, added] = gateway.gateway.addresses()[..] else { panic!("two listeners") };
    assert_eq!(kept, address);
    let request = format!("ws://localhost:{}/chat", added.port());
    let stream = TcpStream::connect(added).await.unwrap();
    let (connected, events) =
        tokio::join!(must("a WebSocket", tokio_tungstenite::client_async(request, stream)), async {
            upstream.next_open().await.accept()
        });
    let (mut socket, _) = connected.unwrap();

    reload(&gateway, files.path(), &one);
    assert_eq!(gateway.gateway.addresses(), [kept]);
    let refused = async { while TcpStream::connect(added).await.is_ok() {} };
    must("the port that is no longer listened on to be refused", refused).await;
    events.send("data: here\n\n").await;
    let message = must("a message", futures_util::StreamExt::next(&mut socket)).await.unwrap().unwrap();
    assert_eq!(message.into_text().unwrap(), "here");

    // An address that cannot be had changes nothing at all.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let third = two.replace("\"/chat\"", "\"/talk\"");
    let (head, tail) = third.rsplit_once("127.0.0.1:0").unwrap();
    let third = format!("{head}{}{tail}", taken.local_addr().unwrap());
    let config = Config::parse(&third, "test.toml", files.path()).unwrap();
    assert!(gateway.gateway.reload(&config).is_err());
    assert_eq!(gateway.gateway.addresses(), [kept]);
    assert_eq!(Client::ask(&gateway, "/talk", &[]).await.err().unwrap().status, 404);
    assert_eq!(sample(&gateway, "tidegate_config_stale").await, Some(1.0));
    assert_eq!(sample(&gateway, "tidegate_config_reloads_total{result=\"failed\"}").await, Some(1.0));
    assert_eq!(sample(&gateway, "tidegate_config_reloads_total{result=\"ok\"}").await, Some(2.0));
}

#[tokio::test]
async fn spent_tickets_rates_and_places_survive_and_tickets_of_a_random_key_hold_on() {
    let mut upstream = FakeUpstream::start().await;
    let files = access::files();
    let limits = "auth = \"ticket\"\nlimits = { per_identity = 1 }";
    let sections =
        "[ticket]\nper_identity = 2\n\n[auth.bearer]\nkeys = [{ algorithm = \"HS256\", file = \"app.secret\" }]";
    let toml = guarded(&upstream, "\"ticket\"", sections).replace("auth = \"ticket\"", limits);
    let config = Config::parse(&toml, "test.toml", files.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let gateway = TestGateway::from_files(&toml, files);
    let desk = Desk::of(&gateway);
    let (one, two) = (desk.ticket("ada").await, desk.ticket("ada").await);
    gateway.gateway.reload(&config).unwrap();

    let target = format!("/chat?ticket={one}");
    let (let_in, _events) =
        tokio::join!(Client::ask(&gateway, &target, &[]), async { upstream.next_open().await.accept() });
    let client = let_in.unwrap();
    gateway.gateway.reload(&config).unwrap();
    let ask = &gateway;
    let of = |target: String| async move { Client::ask(ask, &target, &[]).await.err().unwrap() };
    assert!(of(format!("/chat?ticket={two}")).await.body.contains("too-many-connections-identity"));
    let authorization = format!("Bearer {}", bearer("ada"));
    let asked = desk.ask_for_ticket(&[("authorization", &authorization)], "{\"route\":\"/chat\"}").await;
    assert_eq!(asked.status, 429, "two a minute is what it has had: {}", asked.body);
    drop(client);
    let spent = async {
        loop {
            let refusal = of(target.clone()).await;
            if !refusal.body.contains("too-many-connections-identity") {
                return refusal;
            }
        }
    };
    let refusal = must("its place to be free", spent).await;
    assert!(refusal.status == 401 && refusal.body.contains("ticket-spent"), "{}", refusal.body);
}

#[tokio::test]
async fn a_thousand_reloads_leave_nothing_behind() {
    let (one, two) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let health = "health = { kind = \"http\", path = \"/healthz\", interval = \"1h\" }";
    let of = |upstream: &FakeUpstream| {
        let endpoint = format!("http://{}", upstream.address);
        let toml = toml(&endpoint, health, "");
        Config::parse(&format!("{ADMIN}{toml}"), "test.toml", certificates().path()).unwrap()
    };
    let configs = [of(&one), of(&two)];
    let (gateway, _files) = start(&in_front_of(&one));
    gateway.gateway.reload(&configs[0]).unwrap();
    for round in 0..1000 {
        gateway.gateway.reload(&configs[round % 2]).unwrap();
    }
    let settled = async {
        // A sweep and a health check of the upstream that there is, and a connection under way for each.
        while gateway.gateway.upstream_tasks() > 6 {
            tokio::task::yield_now().await;
        }
    };
    must("the tasks of 1000 upstreams to end", settled).await;
    assert_eq!(sample(&gateway, "tidegate_config_reloads_total{result=\"ok\"}").await, Some(1001.0));
    let began = Instant::now();
    assert_eq!(gateway.stop().await.cut, 0);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn sighup_reads_the_file_and_its_certificates_again_and_a_bad_file_changes_nothing() {
    let mut upstream = FakeUpstream::start().await;
    let toml = format!("[log]\nformat = \"json\"\n{}", in_front_of(&upstream));
    let files = certificates();
    let folder = files.path().to_owned();
    let mut gateway = GatewayProcess::start_in(files, &toml).await;
    let (mut live, events) = tokio::join!(gateway.client(), async { upstream.next_open().await.accept() });

    fs::write(folder.join("tidegate.toml"), toml.replace("events =", "evnts =")).unwrap();
    gateway.process.signal(Signal::HUP);
    let refused = line(&mut gateway, "configuration not reloaded, the one before serves on").await;
    let report = refused["report"].as_str().unwrap();
    assert!(report.contains("evnts") && report.contains("did you mean `events`?"), "{report}");
    let (second, _events) = tokio::join!(gateway.client(), async { upstream.next_open().await.accept() });
    drop(second);

    // Another certificate, and keys that only a restart changes.
    let other = certificates();
    for file in ["certs/dev.pem", "certs/dev.key"] {
        fs::copy(other.path().join(file), folder.join(file)).unwrap();
    }
    fs::write(folder.join("tidegate.toml"), format!("[server]\nthreads = 3\n{toml}")).unwrap();
    gateway.process.signal(Signal::HUP);
    assert_eq!(line(&mut gateway, "this key needs a restart and has not changed").await["key"], "server.threads");
    assert_eq!(line(&mut gateway, "configuration reloaded").await["new_upstreams"], 0);
    let trusted = trusting(&other.path().join("certs/dev.pem"));
    let (third, _events) = tokio::join!(Client::ask_at(gateway.address, &trusted, "/chat", &[]), async {
        upstream.next_open().await.accept()
    });
    drop(third.unwrap());
    events.send("data: still in\n\n").await;
    assert_eq!(live.next().await, Seen::text("still in"));
    live.text("up").await;
    upstream.next_post().await.accept();

    gateway.process.signal(Signal::TERM);
    assert_eq!(live.closed().await.0, 1001);
    assert_eq!(gateway.process.exit().await, 0);
}

/// Accepts streams and messages; gives the messages of each connection, once no more are to come.
async fn accepting(mut upstream: FakeUpstream, expected: usize) -> HashMap<String, Vec<String>> {
    let (mut streams, mut messages, mut seen) = (Vec::new(), HashMap::<_, Vec<_>>::new(), 0);
    while seen < expected {
        match must("a request", upstream.next_of_either()).await {
            Either::Open(open) => streams.push(open.accept()),
            Either::Post(post) => {
                seen += 1;
                messages.entry(post.field("tidegate-connection").to_owned()).or_default().push(post.text().to_owned());
                post.accept();
            }
        }
    }
    messages
}

#[tokio::test]
async fn reloads_under_load_cost_nobody_a_message_or_a_handshake() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 10;
    const MESSAGES: usize = 5;
    let upstream = FakeUpstream::start().await;
    let endpoint = format!("http://{}", upstream.address);
    let with_rate = |rate: usize| format!("{ADMIN}{}", toml(&endpoint, &format!("retry_rate = {rate}"), ""));
    let (gateway, files) = start(&with_rate(1));
    let (gateway, folder) = (&gateway, files.path());
    let clients = (0..CLIENTS).map(|client| async move {
        for round in 0..ROUNDS {
            let mut socket = Client::ask(gateway, "/chat", &[]).await.unwrap();
            for number in 0..MESSAGES {
                socket.text(&number.to_string()).await;
                if number == client % MESSAGES {
                    // A new upstream each time, while the others open, send and close.
                    reload(gateway, folder, &with_rate(2 + (round + client) % 2));
                }
            }
            socket.close(1000, "").await;
            assert_eq!(socket.closed().await.0, 1000);
        }
    });
    let clients = futures_util::future::join_all(clients);
    let (messages, _) = tokio::join!(accepting(upstream, CLIENTS * ROUNDS * MESSAGES), clients);
    assert_eq!(messages.len(), CLIENTS * ROUNDS);
    let whole: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert!(messages.values().all(|messages| *messages == whole), "{messages:?}");
}
