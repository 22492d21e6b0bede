//! The end of WebSocket: who still comes, through restarts and by real clients, and what each phase does to a handshake.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::access::{Desk, SECTIONS, bearer, files, guarded};
use crate::support::chromium::Page;
use crate::support::http::{Answered, exchange, plain};
use crate::support::native::Native;
use crate::support::process::{GatewayProcess, Process, tidegate};
use crate::support::upstream::{Answer, field};
use crate::support::{Client, FakeUpstream, TestGateway};

/// A backend that takes whoever asks, and keeps every stream open.
fn serve(mut upstream: FakeUpstream) -> JoinSet<()> {
    let mut backend = JoinSet::new();
    backend.spawn(async move {
        let mut streams = Vec::new();
        while let Some(open) = upstream.try_next_open().await {
            streams.push(open.accept());
        }
    });
    backend
}

const LINK: &str = "https://docs.example.com/migrate";

/// A gateway without TLS and with an admin listener; its route `chat` has this `sunset`.
fn in_phase(upstream: &FakeUpstream, sunset: &str) -> TestGateway {
    TestGateway::from_toml(&format!(
        r#"
[admin]
address = "127.0.0.1:0"
[[listener]]
address = "127.0.0.1:0"
tls = false
[upstream.app]
endpoints = ["http://{0}"]
[upstream.new]
endpoints = ["http://{0}"]
[[route]]
name = "chat"
path = "/chat"
auth = "none"
bridge = {{ upstream = "app", events = "/events", messages = "/messages" }}
proxy = {{ upstream = "new" }}
[route.sunset]
{sunset}
"#,
        upstream.address
    ))
}

/// A handshake from this address of the machine itself.
async fn handshake_from(gateway: &TestGateway, address: [u8; 4]) -> Answered {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address, 0))).unwrap();
    let stream = socket.connect(gateway.address()).await.unwrap();
    let fields = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("user-agent", "okhttp/4.9.3"),
    ];
    exchange(stream, &gateway.address().to_string(), Method::GET, "/chat", &fields, "").await
}

/// A time so many seconds from now, as a configuration says it.
fn in_seconds(seconds: i64) -> String {
    let now = SystemTime::now();
    let by = Duration::from_secs(seconds.unsigned_abs());
    let at = if seconds < 0 { now - by } else { now + by };
    time::OffsetDateTime::from(at).format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// The only route that the admin listener shows.
async fn shown(gateway: &TestGateway) -> Value {
    let admin = gateway.gateway.admin_address().unwrap();
    plain(admin, Method::GET, "/ledger?route=chat", &[], "").await.json()["routes"][0].clone()
}

#[tokio::test]
async fn a_client_is_warned_in_the_answer_to_its_handshake_and_in_refusals_and_not_before() {
    let dates = format!("sunset = \"2027-03-01T00:00:00Z\"\ndeprecated = \"2026-12-01T00:00:00Z\"\nlink = \"{LINK}\"");
    for (phase, warned) in [("observe", false), ("warn", true)] {
        let mut upstream = FakeUpstream::start().await;
        let toml = crate::support::gateway::toml(&format!("http://{}", upstream.address), "", "");
        let gateway = TestGateway::from_toml(&format!("{toml}\n[route.sunset]\nphase = \"{phase}\"\n{dates}\n"));
        let (client, _events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
        let (refused, ()) = tokio::join!(Client::ask(&gateway, "/chat", &[]), async {
            upstream.next_open().await.answer(Answer::status(403));
        });
        let refused = refused.err().unwrap();
        assert_eq!(refused.status, 403);
        for fields in [&client.answer, &refused.headers] {
            let told =
                ["deprecation", "sunset", "link"].map(|name| fields.get(name).map(|value| value.to_str().unwrap()));
            let expected = [
                "@1796083200",
                "Mon, 01 Mar 2027 00:00:00 GMT",
                "<https://docs.example.com/migrate>; rel=\"deprecation sunset\"",
            ];
            assert_eq!(told, expected.map(|value| warned.then_some(value)));
        }
    }
}

#[tokio::test]
async fn a_brownout_refuses_its_share_in_its_window_and_the_same_clients_all_the_time() {
    let upstream = FakeUpstream::start().await;
    let brownout = format!(
        "phase = \"brownout\"\nlink = \"{LINK}\"\nbrownout = {{ percent = 50, windows = [{{ start = \"{}\", duration = \"1h\" }}] }}",
        in_seconds(-600)
    );
    let gateway = in_phase(&upstream, &brownout);
    let _backend = serve(upstream);
    let mut refused = 0_u16;
    for client in 0..200_u8 {
        let address = [127, 0, 1, client + 1];
        let answered = handshake_from(&gateway, address).await;
        assert_eq!(handshake_from(&gateway, address).await.status, answered.status, "trying again changes nothing");
        assert!(answered.field("tidegate-brownout").ends_with(", percent=50"), "{answered:?}");
        if answered.status == 101 {
            continue;
        }
        refused += 1;
        assert_eq!((answered.status, answered.kind().as_str()), (503, "websocket-brownout"));
        assert!(answered.body.contains(LINK) && answered.field("link").contains(LINK), "{answered:?}");
        let wait: u64 = answered.field("retry-after").parse().unwrap();
        assert!((2990..=3061).contains(&wait), "{wait} seconds lead behind the end of the window");
    }
    assert!((75..=125).contains(&refused), "{refused} of 200");
    let route = shown(&gateway).await;
    assert_eq!(route["total"]["brownout"], json!(2 * refused));
    assert_eq!(
        (&route["total"]["bridged"], &route["total"]["addresses"]),
        (&json!(400 - 2 * refused), &json!(200 - refused))
    );
    assert_eq!(route["clients"][0]["client"], "okhttp 4.9");
    assert_eq!((&route["phase"], &route["brownout"]["percent"]), (&json!("brownout"), &json!(50)));
    let admin = gateway.gateway.admin_address().unwrap();
    let metrics = plain(admin, Method::GET, "/metrics", &[], "").await.body;
    for line in [
        format!("tidegate_ledger_handshakes_total{{name=\"chat\",outcome=\"brownout\"}} {}", 2 * refused),
        format!("tidegate_ledger_addresses_today{{name=\"chat\"}} {}", 200 - refused),
        "tidegate_sunset_phase{name=\"chat\",phase=\"brownout\"} 1".to_owned(),
        "tidegate_sunset_phase{name=\"chat\",phase=\"off\"} 0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn outside_of_its_window_a_brownout_refuses_nobody_and_is_announced() {
    let upstream = FakeUpstream::start().await;
    let windows = [-7200, 3600].map(|start| format!("{{ start = \"{}\", duration = \"1h\" }}", in_seconds(start)));
    let brownout = format!("phase = \"brownout\"\nbrownout = {{ percent = 100, windows = [{}] }}", windows.join(", "));
    let gateway = in_phase(&upstream, &brownout);
    let _backend = serve(upstream);
    let answered = handshake_from(&gateway, [127, 0, 0, 1]).await;
    assert_eq!(answered.status, 101);
    let announced = answered.field("tidegate-brownout");
    let start: u64 = announced.strip_prefix("start=@").unwrap().split(',').next().unwrap().parse().unwrap();
    let now = crate::support::access::now();
    assert!((now + 3590..=now + 3600).contains(&start), "{announced}");
}

#[tokio::test]
async fn off_is_410_with_a_link_and_asks_nobody_while_everything_else_on_the_route_goes_on() {
    let mut upstream = FakeUpstream::start().await;
    let gateway =
        in_phase(&upstream, &format!("phase = \"off\"\nsunset = \"2026-11-01T00:00:00Z\"\nlink = \"{LINK}\""));
    let answered = handshake_from(&gateway, [127, 0, 0, 1]).await;
    assert_eq!((answered.status, answered.kind().as_str()), (410, "websocket-off"));
    assert!(answered.body.contains(LINK), "{answered:?}");
    assert_eq!(answered.field("link"), format!("<{LINK}>; rel=\"sunset\""));
    let route = shown(&gateway).await;
    assert_eq!((&route["total"]["off"], &route["total"]["connections"]), (&json!(1), &json!(0)));
    assert_eq!(route["last_7_days"]["refused"], json!(1));
    assert!(upstream.no_open_for(Duration::from_millis(10)).await);
    // What is no WebSocket is served as ever, and warned of nothing.
    let (page, ()) = tokio::join!(plain(gateway.address(), Method::GET, "/chat", &[], ""), async {
        upstream.next_open().await.answer(Answer::status(200).with("content-type", "text/html").body("page"));
    });
    assert_eq!((page.status, page.body.as_str(), page.fields.get("sunset")), (200, "page", None), "{page:?}");
    let opening = Native::events(gateway.address(), "/chat", &[]);
    let (mut stream, _events) = tokio::join!(opening, async {
        let events = upstream.next_open().await.accept();
        events.send("data: down\n\n").await;
        events
    });
    assert_eq!((stream.status, stream.field("sunset"), stream.field("deprecation")), (200, "", ""));
    assert!(stream.until("data: down\n\n").await.ends_with("data: down\n\n"));
}

#[tokio::test]
async fn a_ticket_is_not_spent_by_a_phase_that_refuses() {
    let upstream = FakeUpstream::start().await;
    let sections = format!("[admin]\naddress = \"127.0.0.1:0\"\n{SECTIONS}");
    let toml = guarded(&upstream, "\"ticket\"", &sections);
    let window = format!("{{ start = \"{}\", duration = \"1h\" }}", in_seconds(-60));
    let sunset = format!("phase = \"brownout\"\nbrownout = {{ percent = 100, windows = [{window}] }}");
    let gateway = TestGateway::from_files(&format!("{toml}\n[route.sunset]\n{sunset}\n"), files());
    let desk = Desk { address: gateway.address(), tls: gateway.tls.clone() };
    let target = format!("/chat?ticket={}", desk.ticket_with(&bearer("ada")).await);
    for _ in 0..2 {
        let refused = Client::ask(&gateway, &target, &[]).await.err().unwrap();
        assert!(refused.status == 503 && refused.body.contains("websocket-brownout"), "{refused:?}");
    }
    let admin = gateway.gateway.admin_address().unwrap();
    let metrics = plain(admin, Method::GET, "/metrics", &[], "").await.body;
    assert!(metrics.contains("\ntidegate_tickets_redeemed_total 0\n"), "{metrics}");
}

/// Two routes, `chat` for anybody and `members` by token, with a ledger in a folder that outlives the gateway.
fn kept(upstream: SocketAddr, ledger: &Path) -> String {
    let mut toml = format!(
        "[log]\nformat = \"json\"\nfilter = \"info,tidegate::ledger=debug\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [ledger]\npath = \"{}\"\nflush = \"1s\"\n{SECTIONS}\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }}\n\
         [upstream.app]\nendpoints = [\"http://{upstream}\"]\n",
        ledger.display()
    );
    for (name, auth) in [("chat", "none"), ("members", "bearer")] {
        let _ = write!(
            toml,
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\nauth = \"{auth}\"\n\
             bridge = {{ upstream = \"app\", events = \"/events\", messages = \"/messages\" }}\n"
        );
    }
    toml
}

/// What `tidegate ledger` prints.
async fn ledger(arguments: &[&str]) -> String {
    let mut process = Process::start(tidegate(&["ledger"]).args(arguments));
    let code = process.exit().await;
    assert_eq!(code, 0, "{:?}", process.stderr.all());
    process.stdout.all().join("\n")
}

/// Clients of a route with their connections and people, by name.
async fn clients(arguments: &[&str], route: &str) -> Vec<(String, u64, u64)> {
    let shown: Value = serde_json::from_str(&ledger(&[arguments, &["--json"]].concat()).await).unwrap();
    let routes = shown["routes"].as_array().unwrap();
    let route = routes.iter().find(|known| known["route"] == route).unwrap_or_else(|| panic!("{shown}"));
    let number = |value: &Value| value.as_u64().unwrap();
    let client = |client: &Value| {
        let people = number(&client["identities"]) + number(&client["addresses"]);
        (client["client"].as_str().unwrap().to_owned(), number(&client["connections"]), people)
    };
    let mut clients: Vec<_> = route["clients"].as_array().unwrap().iter().map(client).collect();
    clients.sort();
    clients
}

/// A member's client, open.
async fn member(gateway: &GatewayProcess, subject: &str, agent: &str) -> Client {
    let token = format!("Bearer {}", bearer(subject));
    let fields = [("authorization", token.as_str()), ("user-agent", agent)];
    Client::ask_at(gateway.address, &gateway.tls, "/members", &fields).await.unwrap()
}

fn program(name: &str, script: &str, gateway: &GatewayProcess) -> Process {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut command = if name == "node" { Command::new(name) } else { Command::new(folder.join(name)) };
    command.arg(folder.join(script)).arg("close").arg(gateway.url("/chat")).arg(gateway.certificate());
    Process::start(&mut command)
}

async fn written(gateway: &mut GatewayProcess) {
    let said = |line: &str| line.contains("the ledger was written").then_some(());
    gateway.process.stderr.next("the line that the ledger was written", said).await;
}

#[tokio::test]
async fn the_ledger_tells_real_clients_apart_and_survives_an_orderly_end_and_a_kill() {
    let upstream = FakeUpstream::start().await;
    let folder = TempDir::new().unwrap();
    let path: PathBuf = folder.path().join("ledger");
    let toml = kept(upstream.address, &path);
    let _backend = serve(upstream);
    let mut gateway = GatewayProcess::start_in(files(), &toml).await;
    let admin = gateway.admin().await.to_string();
    let mut page = Page::open(&gateway.url("/").replace("wss:", "https:")).await;
    let connect = "new Promise((resolve, reject) => { window.socket = new WebSocket(`wss://${location.host}/chat`);
        socket.onopen = () => resolve('open'); socket.onerror = () => reject(Error('refused')); })";
    assert_eq!(page.evaluate(connect).await, "open");
    let mut programs = [program("venv/bin/python", "client.py", &gateway), program("node", "client.mjs", &gateway)];
    for program in &mut programs {
        program.stdout.next("its connection", |line| line.contains("\"open\"").then_some(())).await;
    }
    let mut members = Vec::new();
    for (subject, agent) in
        [("ada", "MyApp/3.2.1"), ("ada", "MyApp/3.2.4"), ("grace", "MyApp/3.2.1"), ("ada", "okhttp/4.9.3")]
    {
        members.push(member(&gateway, subject, agent).await);
    }
    let of_members = [("MyApp 3.2".to_owned(), 3, 2), ("okhttp 4.9".to_owned(), 1, 1)];
    assert_eq!(clients(&["--admin", &admin], "members").await, of_members, "while it runs");
    let of_chat = clients(&["--admin", &admin], "chat").await;
    let names: Vec<_> =
        of_chat.iter().map(|(name, count, people)| (name.split(' ').next().unwrap(), *count, *people)).collect();
    assert_eq!(names, [("Chrome", 1, 1), ("unknown", 1, 1), ("websockets", 1, 1)], "{of_chat:?}");
    assert!(of_chat[0].0.starts_with("Chrome Headless 1"), "{of_chat:?}");

    drop(members);
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit().await, 0);
    let file = path.to_str().unwrap();
    assert_eq!(clients(&[file], "chat").await, of_chat, "after an orderly end");
    drop(page);

    let mut gateway = GatewayProcess::start_in(files(), &toml).await;
    let _member = member(&gateway, "grace", "okhttp/4.9.3").await;
    written(&mut gateway).await;
    gateway.process.signal(Signal::KILL);
    assert_eq!(gateway.process.exit().await, -1);
    let of_members = [("MyApp 3.2".to_owned(), 3, 2), ("okhttp 4.9".to_owned(), 2, 2)];
    assert_eq!(clients(&[file], "members").await, of_members, "after it was killed");
    let table = ledger(&[file, "--route", "members", "--days", "1"]).await;
    assert!(table.contains("5 connections: 5 bridged, 0 passed through; 2 identities"), "{table}");
    assert!(table.contains("switched off today, it would hit 2 identities with 2 clients: 5 connections"), "{table}");
    assert!(!table.contains("route chat") && table.contains("DAY (UTC)"), "{table}");
    let bytes = std::fs::read(&path).unwrap();
    for subject in ["ada", "grace"] {
        assert!(
            !bytes.windows(subject.len()).any(|window| window == subject.as_bytes()),
            "{subject} is not in the file"
        );
    }
}

#[tokio::test]
async fn the_command_finds_a_gateway_by_its_configuration_and_otherwise_its_file() {
    let upstream = FakeUpstream::start().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml = kept(upstream.address, &path);
    let toml = toml.replace("[admin]\naddress = \"127.0.0.1:0\"", &format!("[admin]\naddress = \"127.0.0.1:{port}\""));
    let _backend = serve(upstream);
    let config = files();
    let file = config.path().join("tidegate.toml");
    let file = file.to_str().unwrap().to_owned();
    std::fs::write(&file, &toml).unwrap();

    let mut gateway = GatewayProcess::start_in(files(), &toml).await;
    let _client = member(&gateway, "ada", "MyApp/3.2.1").await;
    let seen = [("MyApp 3.2".to_owned(), 1, 1)];
    assert_eq!(clients(&["--config", &file], "members").await, seen);
    let refused = async |arguments: &[&str]| {
        let mut process = Process::start(tidegate(&["ledger"]).args(arguments));
        let code = process.exit().await;
        (code, process.stderr.all().join("\n"))
    };
    let (code, told) = refused(&[path.to_str().unwrap()]).await;
    assert!(code == 1 && told.contains("in use by another process") && told.contains("--admin"), "{told}");
    let (code, told) = refused(&["--config", &file, "--route", "nowhere"]).await;
    assert!(code == 1 && told.contains("known are: chat, members"), "{told}");
    let (code, told) = refused(&["--admin", "127.0.0.1:1"]).await;
    assert!(code == 1 && told.contains("nothing listens there"), "{told}");
    assert_eq!(refused(&[]).await.0, 2);

    // Another gateway on the same file does not start, and says why.
    let folder = files();
    let mut second = GatewayProcess::run(&folder, &toml.replace(&port.to_string(), "0"), &[]);
    assert_eq!(second.exit().await, 1);
    let told = second.stderr.all().join("\n");
    assert!(told.contains("in use by another process"), "{told}");

    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit().await, 0);
    assert_eq!(clients(&["--config", &file], "members").await, seen);
    let table = ledger(&["--config", &file]).await;
    assert!(table.contains("route chat: phase observe") && table.contains("nobody came by WebSocket"), "{table}");
}

#[tokio::test]
async fn a_damaged_ledger_is_told_at_start_with_the_way_out() {
    let upstream = FakeUpstream::start().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger");
    std::fs::write(&path, "no ledger at all").unwrap();
    let toml = kept(upstream.address, &path);
    let config = files();
    let mut gateway = GatewayProcess::run(&config, &toml, &[]);
    assert_eq!(gateway.exit().await, 1);
    let told = gateway.stderr.all().join("\n");
    assert!(told.contains("cannot be read") && told.contains("move it away"), "{told}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no ledger at all");
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    let _backend = serve(upstream);
    let gateway = GatewayProcess::start_in(files(), &toml).await;
    let client = member(&gateway, "ada", "MyApp/3.2.1").await;
    assert!(!field(&client.answer, "tidegate-connection").is_empty());
}
