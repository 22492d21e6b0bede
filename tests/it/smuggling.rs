//! No request gets by the gateway that another server might understand differently: it is refused, upstream hears nothing of it,
//! and nothing behind it is taken for a request.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::gateway::certificates;
use crate::support::upstream::Either;
use crate::support::{FakeUpstream, TestGateway, client, must};

const LIST: &str = include_str!("../requests/malformed.txt");

/// One of the list.
struct Case {
    name: &'static str,
    /// What is wrong is where it ends, or what it says; a good request behind it is none.
    broken: bool,
    /// Its bytes, with the placeholders.
    text: &'static str,
}

fn cases() -> Vec<Case> {
    let mut broken = true;
    let mut cases = Vec::new();
    for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#") {
        match line.split_once('|') {
            Some((name, text)) => cases.push(Case { name, broken, text }),
            None => broken = line == "[broken]",
        }
    }
    cases
}

/// The bytes of a case.
fn bytes(text: &str, path: &str, host: &str) -> Vec<u8> {
    let text = text.replace("{H}", "Host: {h}\\r\\n").replace("{h}", host).replace("{p}", path);
    let text = text.replace("{a*20000}", &"a".repeat(20_000)).replace("{a*70000}", &"a".repeat(70_000));
    let text = text.replace("{fields*200}", &"X: y\\r\\n".repeat(200));
    let mut chars = text.chars();
    let mut bytes = Vec::new();
    while let Some(char) = chars.next() {
        let byte = match (char, char == '\\') {
            (char, false) => u8::try_from(char).expect("ASCII"),
            (_, true) => match chars.next().unwrap() {
                'r' => b'\r',
                'n' => b'\n',
                't' => b'\t',
                '0' => 0,
                'x' => u8::from_str_radix(&chars.by_ref().take(2).collect::<String>(), 16).unwrap(),
                other => u8::try_from(other).unwrap(),
            },
        };
        bytes.push(byte);
    }
    bytes
}

fn gateway(upstream: &FakeUpstream) -> TestGateway {
    let files = certificates();
    std::fs::write(files.path().join("certs/k1.secret"), [b'k'; 32]).unwrap();
    let toml = format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificate = "certs/dev.pem", key = "certs/dev.key" }}

[auth.bearer]
keys = [{{ id = "k1", algorithm = "HS256", file = "certs/k1.secret" }}]

[upstream.app]
endpoints = ["http://{}"]

[[route]]
path = "/chat"
auth = "none"
bridge = {{ upstream = "app", events = "/events", messages = "/messages" }}

[[route]]
path = "/other"
auth = "ticket"
bridge = {{ upstream = "app", events = "/events", messages = "/messages" }}

[[route]]
path = "/app/{{*rest}}"
auth = "none"
proxy = {{ upstream = "app" }}
"#,
        upstream.address
    );
    TestGateway::from_files(&toml, files)
}

/// Sends bytes in pieces of this size, and gives all that comes back until the gateway ends the connection. One that may go on
/// is ended once the first answer begins to come.
async fn exchange(gateway: &TestGateway, bytes: &[u8], piece: usize, may_go_on: bool) -> String {
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    for piece in bytes.chunks(piece) {
        // The gateway may have had enough.
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; if may_go_on { 12 } else { 0 }];
    must("an answer", stream.read_exact(&mut answer)).await.unwrap();
    if may_go_on {
        stream.shutdown().await.unwrap();
    }
    let _ = must("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of each answer.
fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)).collect()
}

/// Asks for `/app/last`, and gives the targets that upstream has seen before it.
async fn seen_before_the_last(gateway: &TestGateway, upstream: &mut FakeUpstream) -> Vec<String> {
    let last =
        format!("GET /app/last HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", gateway.address().port());
    let mut seen = Vec::new();
    let (answer, ()) = tokio::join!(client::exchange(gateway, last.as_bytes()), async {
        loop {
            let head = match must("the last request", upstream.next_of_either()).await {
                Either::Open(open) if open.head.uri.path() == "/app/last" => break open.accept().end(),
                Either::Open(open) => open.head,
                Either::Post(post) => post.head,
            };
            seen.push(head.uri.to_string());
        }
    });
    assert_eq!(statuses(&answer), ["200"]);
    seen
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_and_nothing_of_it_reaches_upstream() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream);
    let host = format!("localhost:{}", gateway.address().port());
    let cases = cases();
    assert!(cases.len() >= 150 && cases.iter().any(|case| !case.broken), "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut request = bytes(case.text, &format!("/app/{number}"), &host);
        if case.broken {
            request.extend(format!("GET /app/{number}/behind HTTP/1.1\r\nHost: {host}\r\n\r\n").bytes());
        }
        // Whole, and byte by byte where that does not take too long: what is wrong may be seen late.
        for piece in [request.len(), if request.len() < 1000 { 1 } else { 1000 }] {
            let answers = exchange(&gateway, &request, piece, !case.broken).await;
            let statuses = statuses(&answers);
            let refused = statuses.iter().all(|status| status.starts_with('4') || ["501", "505"].contains(status));
            if !refused || statuses.len() > 1 || !case.broken && statuses.is_empty() {
                wrong.push(format!("{number} {}, in pieces of {piece}: {statuses:?}", case.name));
            }
        }
    }
    for target in seen_before_the_last(&gateway, &mut upstream).await {
        let number =
            target.trim_start_matches("/app/").split('/').next().and_then(|number| number.parse::<usize>().ok());
        let name = number.and_then(|number| cases.get(number)).map_or("?", |case| case.name);
        wrong.push(format!("upstream has seen {target}: {name}"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The list would prove nothing if its frame were refused as well.
#[tokio::test]
async fn requests_in_the_common_form_pass_and_others_may_follow_them() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream);
    let host = format!("localhost:{}", gateway.address().port());
    let chunked = "POST {p} HTTP/1.1\\r\\n{H}Transfer-Encoding: Chunked\\r\\n\\r\\n5;a=\"b\"\\r\\nhello\\r\\n0\\r\\nX-Sum: 1\\r\\n\\r\\n";
    for (text, body) in [
        ("POST {p} HTTP/1.1\\r\\n{H}Content-Length: 5\\r\\n\\r\\nhello", "hello"),
        (chunked, "hello"),
        ("\\r\\nPOST https://{h}{p} HTTP/1.1\\r\\n{H}Content-Length: 0\\r\\n\\r\\n", ""),
        (
            "POST {p} HTTP/1.1\\r\\nHost: LOCALHOST\\r\\nX:\\t\\xc3\\xa4 \\r\\nContent-Length:\\t5 \\r\\n\\r\\nhello",
            "hello",
        ),
    ] {
        let first = bytes(text, "/app/first", &host);
        let second =
            format!("POST /app/second HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\nConnection: close\r\n\r\n2");
        let both = [&first[..], second.as_bytes()].concat();
        let (answers, ()) = tokio::join!(client::exchange(&gateway, &both), async {
            for (path, body) in [("/app/first", body), ("/app/second", "2")] {
                let post = upstream.next_post().await;
                assert_eq!((post.head.uri.path(), post.text()), (path, body), "{text}");
                post.accept();
            }
        });
        assert_eq!(statuses(&answers), ["204", "204"], "{text}");
    }
}

#[tokio::test]
async fn nothing_behind_an_upgrade_that_was_not_granted_is_a_request() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream);
    let host = format!("localhost:{}", gateway.address().port());
    let hidden = bytes("POST /app/hidden HTTP/1.1\\r\\n{H}Content-Length: 5\\r\\n\\r\\nhello", "", &host);
    let first = bytes(
        "POST /app/first HTTP/1.1\\r\\n{H}Upgrade: h2c\\r\\nConnection: Upgrade\\r\\nContent-Length: 0\\r\\n\\r\\n",
        "",
        &host,
    );
    let both = [first, hidden].concat();
    let (answers, ()) = tokio::join!(client::exchange(&gateway, &both), async {
        let post = upstream.next_post().await;
        assert_eq!(post.head.uri.path(), "/app/first");
        assert!(post.field("upgrade").is_empty(), "h2c is not passed on");
        post.accept();
    });
    assert_eq!(statuses(&answers), ["204"]);
    assert!(answers.to_lowercase().contains("connection: close"), "{answers}");
    assert_eq!(seen_before_the_last(&gateway, &mut upstream).await, [""; 0]);
}

/// Whatever reads the bytes behind it may take it for a tunnel.
#[tokio::test]
async fn nothing_behind_a_connect_in_other_letters_is_a_request() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream);
    let host = format!("localhost:{}", gateway.address().port());
    for method in ["CONNECT", "connect", "Connect"] {
        let first = format!("{method} /app/first HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let hidden = format!("GET /app/hidden HTTP/1.1\r\nHost: {host}\r\nX: a\n\r\n\r\n");
        let answers = client::exchange(&gateway, &[first, hidden].concat().into_bytes()).await;
        let statuses = statuses(&answers);
        assert!(statuses.len() == 1 && statuses[0].starts_with('4'), "{method}: {statuses:?}");
        assert!(answers.to_lowercase().contains("connection: close"), "{answers}");
    }
    assert_eq!(seen_before_the_last(&gateway, &mut upstream).await, [""; 0]);
}

#[tokio::test]
async fn a_body_that_turns_out_wrong_never_becomes_a_whole_request() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream);
    let host = format!("localhost:{}", gateway.address().port());
    let head =
        bytes("POST /app/begun HTTP/1.1\\r\\n{H}Transfer-Encoding: chunked\\r\\n\\r\\n5\\r\\nhello\\r\\n", "", &host);
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    stream.write_all(&head).await.unwrap();
    stream.flush().await.unwrap();
    let before = upstream.connections();
    // It has begun upstream, or is about to.
    must("upstream to be asked", async {
        while upstream.connections() == before && before == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stream.write_all(b"5\nhello\r\n0\r\n\r\nGET /app/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = must("the end of the connection", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        statuses(&answer).iter().all(|status| status.starts_with(['4', '5'])) && statuses(&answer).len() < 2,
        "{answer}"
    );
    assert_eq!(seen_before_the_last(&gateway, &mut upstream).await, [""; 0]);
}
