//! Requests over HTTP/2 that are malformed (RFC 9113 section 8.1.1), or that would be once they are written as HTTP/1.1: each is
//! refused, is answered once at most, and upstream never has a whole request of it.

use crate::support::gateway::certificates;
use crate::support::http2_frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, frame, literal};
use crate::support::upstream::{Answer, Either};
use crate::support::{FakeUpstream, TestGateway, must};

fn gateway(upstream: &FakeUpstream) -> TestGateway {
    let toml = format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificate = "certs/dev.pem", key = "certs/dev.key" }}

[upstream.app]
endpoints = ["http://{}"]

[[route]]
path = "/app/{{*rest}}"
auth = "none"
proxy = {{ upstream = "app" }}

[[route]]
path = "/chat"
auth = "none"
websocket_over_http2 = true
bridge = {{ upstream = "app", events = "/events", messages = "/messages" }}
"#,
        upstream.address
    );
    TestGateway::from_files(&toml, certificates())
}

/// The fields of a request that is good.
const GOOD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/app/good")];

fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

fn head(fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, fields)
}

/// A good request with these fields behind its own.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    head(&[fields(&GOOD), fields(more)].concat())
}

/// The same with another value for one of its own.
fn but(name: &str, value: &str) -> Vec<u8> {
    head(&fields(&GOOD.map(|field| if field.0 == name { (name, value) } else { field })))
}

/// The same without one of its own.
fn without(name: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let kept: Vec<_> = GOOD.into_iter().filter(|field| field.0 != name).chain(more.iter().copied()).collect();
    head(&fields(&kept))
}

/// An upload whose head says this of its length, with what comes behind it.
fn upload(lengths: &[&str], behind: &[Vec<u8>]) -> Vec<u8> {
    let mut block = fields(&GOOD.map(|field| if field.0 == ":method" { (":method", "POST") } else { field }));
    block.extend(lengths.iter().flat_map(|length| literal("content-length", length)));
    [frame(HEADERS, END_HEADERS, 1, &block), behind.concat()].concat()
}

fn data(bytes: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, 1, bytes.as_bytes())
}

fn heads() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a name in upper case", with(&[("X-Upper", "1")])),
        ("an empty name", with(&[("", "1")])),
        ("a name with a space", with(&[("x y", "1")])),
        ("a name with a colon", with(&[("x:y", "1")])),
        ("a name with a line end", with(&[("x\r\ny", "1")])),
        ("a value with a line end", with(&[("x", "1\r\nhost: b")])),
        ("a value with LF", with(&[("x", "1\ny: 2")])),
        ("a value with NUL", with(&[("x", "1\0")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te: gzip", with(&[("te", "gzip")])),
        ("te: trailers and more", with(&[("te", "trailers, gzip")])),
        ("a pseudo-field behind a field", head(&fields(&[("x", "1"), GOOD[0], GOOD[1], GOOD[2], GOOD[3]]))),
        (":method twice", with(&[(":method", "POST")])),
        (":path twice", with(&[(":path", "/app/other")])),
        (":authority twice", with(&[(":authority", "b")])),
        ("an unknown pseudo-field", with(&[(":foo", "1")])),
        (":status", with(&[(":status", "200")])),
        ("no :method", without(":method", &[])),
        ("no :scheme", without(":scheme", &[])),
        ("no :path", without(":path", &[])),
        ("an empty :path", but(":path", "")),
        (":path with a space", but(":path", "/app/x HTTP/1.1")),
        (":path with a line end", but(":path", "/app/x HTTP/1.1\r\nhost: b\r\n\r\n")),
        (":path with NUL", but(":path", "/app/\0")),
        (":path beyond ASCII", but(":path", "/app/\u{e9}")),
        (":path with DEL", but(":path", "/app/\u{7f}")),
        (":path without a slash", but(":path", "app/x")),
        (":path of a whole URL", but(":path", "https://b/app/x")),
        (":path * of a GET", but(":path", "*")),
        (":method with a space", but(":method", "GET /app/x HTTP/1.1\r\n")),
        (":method TRACE", but(":method", "TRACE")),
        ("a CONNECT with a path", but(":method", "CONNECT")),
        (":protocol of a GET", with(&[(":protocol", "websocket")])),
        ("a WebSocket where there are none", without(":method", &[(":method", "CONNECT"), (":protocol", "websocket")])),
        ("a user in :authority", but(":authority", "u@localhost")),
        ("a path in :authority", but(":authority", "localhost/x")),
        ("a line end in :authority", but(":authority", "localhost\r\nx: y")),
        ("another Host than :authority", with(&[("host", "b")])),
        ("Host twice", with(&[("host", "localhost"), ("host", "localhost")])),
        ("neither Host nor :authority", without(":authority", &[])),
        ("two different Hosts and no :authority", without(":authority", &[("host", "localhost"), ("host", "b")])),
    ]
}

fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let trailers = |flags, more: &[(&str, &str)]| frame(HEADERS, END_HEADERS | flags, 1, &fields(more));
    vec![
        ("a body that is too short", upload(&["5"], &[data("four")])),
        ("a body that is too long", upload(&["5"], &[data("hello world")])),
        ("a length and no body", with(&[("content-length", "5")])),
        ("a length that is no number", upload(&["+5"], &[data("hello")])),
        ("a length of two numbers", upload(&["5, 5"], &[data("hello")])),
        ("two lengths", upload(&["5", "6"], &[data("hello")])),
        ("trailers before the end of the length", upload(&["5"], &[trailers(END_STREAM, &[("x", "1")])])),
        ("trailers with upper case", upload(&[], &[trailers(END_STREAM, &[("X-Sum", "1")])])),
        ("trailers with connection", upload(&[], &[trailers(END_STREAM, &[("connection", "close")])])),
        ("trailers that do not end it", upload(&[], &[trailers(0, &[("x", "1")]), data("hello")])),
    ]
}

#[tokio::test]
async fn what_is_malformed_is_refused_and_nothing_whole_of_it_reaches_upstream() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream);
    let mut wrong = Vec::new();
    for (name, request) in heads().into_iter().chain(bodies()) {
        let mut frames = Frames::connect(gateway.address(), &gateway.tls).await;
        frames.send(&request).await;
        let mut seen = Vec::new();
        let answers = {
            let mut answers = std::pin::pin!(frames.answers(1));
            loop {
                tokio::select! {
                    answers = &mut answers => break answers,
                    either = upstream.next_of_either() => seen.push(target(either)),
                }
            }
        };
        // 200, 204, 206 and 304 in HPACK's table (RFC 7541 appendix A).
        if answers.len() > 1 || answers.iter().any(|first| (0x88..=0x8b).contains(first)) {
            wrong.push(format!("{name}: {answers:x?}"));
        }
        wrong.extend(seen.iter().map(|seen| format!("{name}: upstream has seen {seen}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    upstream.assert_untouched();
}

/// What upstream was asked for. It is answered, so that the scene goes on.
fn target(request: Either) -> String {
    let (head, ()) = match request {
        Either::Open(open) => (open.head.clone(), open.answer(Answer::status(200))),
        Either::Post(post) => (post.head.clone(), post.answer(Answer::status(200))),
    };
    format!("{} {}", head.method, head.uri)
}

/// The list would prove nothing if its frame were refused as well.
#[tokio::test]
async fn the_same_requests_without_their_flaws_pass() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x-sum", "1")]));
    let pseudo = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[(":path", "/app/other")]));
    let body = frame(DATA, 0, 1, b"hello");
    for (request, body) in [
        (with(&[("te", "trailers"), ("host", "localhost")]), None),
        (without(":authority", &[("host", "localhost")]), None),
        (upload(&["5"], &[data("hello")]), Some("hello")),
        (upload(&[], &[body.clone(), trailers]), Some("hello")),
        // Malformed, but the HTTP library takes these out itself, so that nobody behind it sees them.
        (upload(&[], &[body, pseudo]), Some("hello")),
    ] {
        let mut frames = Frames::connect(gateway.address(), &gateway.tls).await;
        frames.send(&request).await;
        let (answers, ()) = tokio::join!(frames.answers(1), async {
            match (must("a request", upstream.next_of_either()).await, body) {
                (Either::Open(open), None) => open.answer(Answer::status(200)),
                (Either::Post(post), Some(body)) => {
                    assert_eq!((post.text(), post.head.uri.path()), (body, "/app/good"));
                    post.answer(Answer::status(200));
                }
                (other, _) => panic!("{}", target(other)),
            }
        });
        assert_eq!(answers, [0x88]);
    }
}
