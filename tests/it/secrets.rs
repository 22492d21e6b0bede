//! Nothing that lets somebody in is ever written down: not in a log at any level, not in an answer, not towards upstream.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::support::access::{APP_SECRET, Desk, SECTIONS, TICKET_SECRET, bearer, files, guarded, signed, write};
use crate::support::http2::{Http2, http2_tls};
use crate::support::legacy::OldBackend;
use crate::support::process::GatewayProcess;
use crate::support::redis::RedisServer;
use crate::support::upstream::{Answer, Either, field};
use crate::support::{Client, FakeUpstream};

/// What Redis wants to see.
const REDIS_PASSWORD: &str = "r3d1s-passw0rd-0123456789";

/// The cookie of a session with the application.
const COOKIE: &str = "c00k1e-0f-a-sess10n-0123456789";

/// A backend that answers everything and keeps what it heard: the questions about cookies apart from all else.
#[derive(Clone, Default)]
struct Heard {
    questions: Arc<Mutex<Vec<String>>>,
    others: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    async fn note(&self, head: &Parts, body: &[u8]) {
        let text = format!("{} {} {:?} {}", head.method, head.uri, head.headers, String::from_utf8_lossy(body));
        let kept = if head.uri.path() == "/session" { &self.questions } else { &self.others };
        kept.lock().await.push(text);
    }
}

async fn backend(mut upstream: FakeUpstream, heard: Heard) {
    let mut streams = Vec::new();
    loop {
        match upstream.next_of_either().await {
            Either::Open(open) => {
                heard.note(&open.head, b"").await;
                if open.head.uri.path() != "/session" {
                    streams.push(open.accept());
                } else if field(&open.head.headers, "cookie").contains(COOKIE) {
                    open.answer(Answer::status(200).with("content-type", "application/json").body(r#"{"sub":"ada"}"#));
                } else {
                    open.answer(Answer::status(401));
                }
            }
            Either::Post(post) => {
                heard.note(&post.head, &post.body).await;
                post.accept();
            }
        }
    }
}

/// A Redis with a password, the folder of a gateway with all its secrets, and the key of identity tokens.
async fn folder() -> (RedisServer, TempDir, String) {
    let (redis, folder) = (RedisServer::with(&format!("requirepass {REDIS_PASSWORD}")).await, files());
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    write(folder.path(), "redis.password", REDIS_PASSWORD);
    write(folder.path(), "identity.key", &key);
    (redis, folder, key)
}

/// All that has a secret is in use, and the log says as much as it can.
fn sections(redis: u16) -> String {
    format!(
        "[log]\nformat = \"json\"\nfilter = \"trace\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         {SECTIONS}store = \"redis\"\n\
         [redis]\nurl = \"redis://127.0.0.1:{redis}\"\npassword = {{ file = \"redis.password\" }}\n\
         [identity]\nkeys = [{{ id = \"i1\", algorithm = \"ES256\", file = \"identity.key\" }}]\n\
         [auth.cookie]\nupstream = \"app\"\npath = \"/session\"\ncookies = [\"sid\"]\n"
    )
}

#[tokio::test]
async fn no_byte_that_is_written_holds_a_ticket_a_token_or_a_key() {
    let upstream = FakeUpstream::start().await;
    let (redis, folder, key) = folder().await;
    let sections = sections(redis.port);
    let auth = "[\"ticket\", \"bearer\", \"cookie\"]";
    let text =
        guarded(&upstream, auth, &sections).replace("[route.bridge]\n", "[route.bridge]\nidentity_token = true\n");
    let heard = Heard::default();
    let mut backends = JoinSet::new();
    backends.spawn(backend(upstream, heard.clone()));
    let mut gateway = GatewayProcess::start_in(folder, &text).await;
    let admin = gateway.admin().await;
    let desk = Desk { address: gateway.address, tls: gateway.tls.clone() };

    // Everything that must not be found, and every answer in which it must not be.
    let mut secrets = [COOKIE, APP_SECRET, TICKET_SECRET, REDIS_PASSWORD].map(str::to_owned).to_vec();
    secrets.extend(key.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    let mut answers = Vec::new();
    let (mut tickets, mut clients) = (Vec::new(), Vec::new());
    let cookie = format!("theme=dark; sid={COOKIE}");
    let wrong = signed(
        jsonwebtoken::Algorithm::HS256,
        Some("app"),
        &json!({"sub": "ada", "exp": 4_000_000_000_u64}),
        TICKET_SECRET,
    );
    secrets.push(wrong.clone());
    for subject in ["ada", "grace", "edsger"] {
        let token = bearer(subject);
        tickets.push(desk.ticket_with(&token).await);
        let fields = [("authorization", format!("Bearer {token}"))];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        clients.push(Client::ask_at(gateway.address, &gateway.tls, "/chat?x=1", &fields).await.unwrap());
        // In places where tokens do not belong, they must not come through either.
        let target = format!("/chat?access_token={token}&token={token}");
        clients.push(Client::ask_at(gateway.address, &gateway.tls, &target, &fields).await.unwrap());
        let refused = desk.ask_for_ticket(&[("authorization", &format!("Bearer {wrong}"))], "{}").await;
        answers.push(format!("{refused:?}"));
        let refused = desk.ask(Method::GET, &format!("/nowhere?ticket={token}"), &[("cookie", &cookie)], "").await;
        answers.push(format!("{refused:?}"));
        secrets.push(token);
    }
    let answered = desk.ask_for_ticket(&[("cookie", &cookie)], "{}").await;
    tickets.push(answered.json()["ticket"].as_str().unwrap().to_owned());
    clients.push(Client::ask_at(gateway.address, &gateway.tls, "/chat", &[("cookie", &cookie)]).await.unwrap());
    for (index, ticket) in tickets.iter().enumerate() {
        let subprotocol = format!("tidegate, tidegate.ticket.{ticket}");
        let (target, fields) = match index {
            0 => (format!("/chat?room=1&ticket={ticket}"), vec![]),
            1 => (format!("/chat?%74icket={ticket}"), vec![]),
            _ => ("/chat".to_owned(), vec![("sec-websocket-protocol", subprotocol.as_str())]),
        };
        for attempt in ["first", "second"] {
            match Client::ask_at(gateway.address, &gateway.tls, &target, &fields).await {
                Ok(client) => clients.push(client),
                Err(refused) => {
                    assert_eq!(attempt, "second", "{refused:?}");
                    answers.push(format!("{refused:?}"));
                }
            }
        }
        // Spoilt in the middle, too late, too often.
        let spoilt = format!("{}x{}", &ticket[..ticket.len() / 2], &ticket[ticket.len() / 2..]);
        for target in [format!("/chat?ticket={spoilt}"), format!("/chat?ticket={ticket}&ticket={ticket}")] {
            answers.push(format!(
                "{:?}",
                Client::ask_at(gateway.address, &gateway.tls, &target, &[]).await.err().unwrap()
            ));
        }
    }
    assert_eq!(clients.len(), 3 * 2 + 1 + 4);
    for client in &mut clients {
        client.text("hello").await;
        client.synchronise().await;
    }
    for target in ["/metrics", "/connections", "/streams", "/readyz", "/revocations", "/ledger"] {
        answers.push(crate::support::http::plain(admin, Method::GET, target, &[], "").await.body);
    }
    secrets.extend(tickets);
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit().await, 0);

    let (logged, printed) = (gateway.process.stderr.all(), gateway.process.stdout.all());
    assert!(logged.iter().any(|line| line.contains("\"level\":\"TRACE\"") || line.contains("\"level\":\"DEBUG\"")));
    let heard_of_cookie = heard.questions.lock().await.join("\n");
    assert!(heard_of_cookie.contains(COOKIE), "the application is asked whose cookie it is");
    let others = heard.others.lock().await.clone();
    assert!(others.iter().filter(|request| request.starts_with("POST")).count() >= clients.len());
    // What upstream is told of a client may stand nowhere else.
    let told = identity_tokens(&others);
    assert!(told.len() > clients.len(), "every request upstream says who the client is");
    for token in &told {
        for (place, lines) in [("log", &logged), ("output", &printed), ("answer", &answers)] {
            assert_nowhere(token, place, lines);
        }
    }
    for secret in &secrets {
        for (place, lines) in [("log", &logged), ("output", &printed), ("answer", &answers), ("upstream", &others)] {
            assert_nowhere(secret, place, lines);
        }
        let asked = secret == COOKIE || bearer_like(secret);
        assert!(asked || !heard_of_cookie.contains(secret.as_str()), "the application was told {secret}");
    }
}

/// Asserts that no line holds a secret, or a part of it that is of use.
fn assert_nowhere(secret: &str, place: &str, lines: &[String]) {
    // Of a token each part counts by itself: its claims are of no use to others, its signature is.
    let parts = secret.split('.').filter(|part| part.len() >= 30).chain([secret]);
    // The first part says only how a token is signed, and is the same for many.
    for part in parts.filter(|part| !secret.starts_with(&format!("{part}."))) {
        assert_eq!(lines.iter().find(|line| line.contains(part)), None, "{place} holds {part}");
    }
}

/// The tokens in which requests upstream say who the client is.
fn identity_tokens(requests: &[String]) -> Vec<String> {
    let behind = requests.iter().filter_map(|request| request.split("\"tidegate-identity\": \"").nth(1));
    behind.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Tokens of the application go to the application, when it is asked whose they are.
fn bearer_like(secret: &str) -> bool {
    secret.split('.').count() == 3
}

/// The ways beside the bridge: an event stream that is proxied, with its return pass; a WebSocket that is passed through; HTTP/2.
#[tokio::test]
async fn nothing_that_lets_in_to_streams_tunnels_and_http2_is_written_either() {
    let (upstream, old) = (FakeUpstream::start().await, OldBackend::start().await);
    let (_redis, folder, _) = folder().await;
    let sections =
        format!("[log]\nformat = \"json\"\nfilter = \"trace\"\n[admin]\naddress = \"127.0.0.1:0\"\n{SECTIONS}");
    let route = |path: &str, target: &str| {
        format!("\n[[route]]\nname = \"{path}\"\npath = \"/{path}\"\nauth = \"ticket\"\n{target}\n")
    };
    let text = [
        guarded(&upstream, "\"ticket\"", &sections)
            .replace("[route.bridge]\n", "[route.bridge]\nforward_cookies = [\"*\"]\n"),
        route("events", "proxy = { upstream = \"app\" }"),
        route("old", "legacy = { upstream = \"old\" }"),
        format!("[upstream.old]\nendpoints = [\"http://{}\"]\n", old.address),
    ]
    .concat();
    let heard = Heard::default();
    let mut backends = JoinSet::new();
    backends.spawn(backend(upstream, heard.clone()));
    let told = heard.clone();
    backends.spawn(async move {
        let mut sockets = JoinSet::new();
        loop {
            let socket = old.accept().await;
            told.others.lock().await.push(format!("{} {:?}", socket.target, socket.fields));
            sockets.spawn(socket.echo());
        }
    });
    let mut gateway = GatewayProcess::start_in(folder, &text).await;
    let desk = Desk { address: gateway.address, tls: gateway.tls.clone() };
    let stream = http2_tls(gateway.address, &gateway.tls).await;
    let mut http2 = Http2::over(stream, gateway.address, 64 * 1024).await;

    let (mut secrets, mut answers) = (Vec::new(), Vec::new());
    let token = bearer("ada");
    let mut tickets = Vec::new();
    for route in ["events", "old", "old", "chat"] {
        let fields = [("authorization", format!("Bearer {token}"))];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let path = format!("{{\"route\":\"/{route}\"}}");
        let answered = desk.ask_for_ticket(&fields, &path).await;
        tickets.push(answered.json()["ticket"].as_str().unwrap_or_else(|| panic!("{answered:?}")).to_owned());
    }
    // An event stream, once more with the pass, and once without.
    let events = format!("/events?x=1&ticket={}", tickets[0]);
    let accept = ("accept", "text/event-stream");
    let first = http2.ask(Method::GET, &events, &[accept]).await.unwrap();
    let cookie = field(first.headers(), "set-cookie").split(';').next().unwrap().to_owned();
    let pass = cookie.split_once('=').unwrap().1.to_owned();
    let cookies = format!("theme=dark; {cookie}");
    let again = http2.ask(Method::GET, &events, &[accept, ("cookie", &cookies)]).await.unwrap();
    assert_eq!((first.status(), again.status()), (StatusCode::OK, StatusCode::OK));
    answers.push(format!("{:?}", http2.get(&events, &[accept]).await));
    // WebSockets to both kinds of backend, with a pass that no browser would send there.
    let fields = [("cookie", cookies.as_str())];
    let mut tunnel = http2.websocket(&format!("/old?ticket={}", tickets[1]), &fields).await.unwrap();
    let subprotocol = format!("tidegate.ticket.{}", tickets[2]);
    let offered = [fields[0], ("sec-websocket-protocol", &*format!("tidegate, {subprotocol}"))];
    let mut plain = Client::ask_at(gateway.address, &gateway.tls, "/old", &offered).await.unwrap();
    let mut bridged = http2.websocket(&format!("/chat?ticket={}", tickets[3]), &fields).await.unwrap();
    for client in [&mut tunnel, &mut bridged] {
        client.text("hello").await;
        client.synchronise().await;
    }
    plain.text("hello").await;
    for ticket in &tickets[1..] {
        answers.push(format!("{:?}", http2.websocket(&format!("/old?ticket={ticket}"), &fields).await.err().unwrap()));
    }
    gateway.process.signal(Signal::TERM);
    assert_eq!(gateway.process.exit().await, 0);

    secrets.extend(tickets);
    secrets.extend([token, pass]);
    let (logged, printed) = (gateway.process.stderr.all(), gateway.process.stdout.all());
    let others = heard.others.lock().await.clone();
    for path in ["/events?x=1 ", "/old ", "/messages"] {
        assert!(others.iter().any(|request| request.contains(path)), "{path} in {others:#?}");
    }
    assert!(others.iter().any(|request| request.contains("theme=dark")), "cookies go along");
    for secret in &secrets {
        for (place, lines) in [("log", &logged), ("output", &printed), ("answer", &answers), ("upstream", &others)] {
            assert_nowhere(secret, place, lines);
        }
    }
}
