//! One URL for everybody: what a page in the middle of a migration does, at once and through one gateway.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::chromium::Page;
use crate::support::process::GatewayProcess;
use crate::support::upstream::field;

/// The value of the cookie that a login gives.
const SESSION: &str = "s3ss10n-of-ada-0123456789";
const GIB: u64 = 1 << 30;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A backend that has moved to HTTP: a page, event streams, and POSTs that everybody hears of.
struct Backend {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Streams(Arc<Mutex<Vec<mpsc::Sender<String>>>>);

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let streams = Streams::default();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let streams = streams.clone();
                let service = hyper::service::service_fn(move |request| {
                    let streams = streams.clone();
                    async move { Ok::<_, Infallible>(streams.answer(request).await) }
                });
                connections.spawn(async move {
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

impl Streams {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, mut body) = request.into_parts();
        let subject = field(&head.headers, "tidegate-subject").to_owned();
        let by = if head.uri.path() == "/events" { "WebSocket" } else { "EventSource" };
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/") => whole("text/html", "<!doctype html><title>an ordinary page</title>"),
            (&Method::GET, "/login") => {
                let mut response = whole("text/plain", "");
                let cookie = format!("sid={SESSION}; Path=/; Secure; HttpOnly; SameSite=Lax");
                response.headers_mut().insert("set-cookie", cookie.parse().unwrap());
                response
            }
            (&Method::GET, "/session") if field(&head.headers, "cookie").contains(SESSION) => {
                whole("application/json", r#"{"sub":"ada"}"#)
            }
            (&Method::GET, "/events" | "/chat") => self.stream(&format!("data: hello {subject} by {by}\n\n")),
            (&Method::POST, "/messages" | "/chat") => {
                let said = body.collect().await.unwrap().to_bytes();
                self.tell(&format!("data: {subject} said {}\n\n", String::from_utf8_lossy(&said)));
                whole("text/plain", "")
            }
            (&Method::PUT, "/chat") => {
                let mut bytes = 0;
                while let Some(frame) = body.frame().await {
                    bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
                }
                whole("application/json", &json!({"subject": subject, "bytes": bytes}).to_string())
            }
            _ => {
                let mut response = whole("text/plain", "");
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    fn stream(&self, first: &str) -> Response<Body> {
        let (sender, mut events) = mpsc::channel(64);
        sender.try_send(first.to_owned()).unwrap();
        self.0.lock().unwrap().push(sender);
        let events = futures_util::stream::poll_fn(move |cx| events.poll_recv(cx));
        let frames = futures_util::StreamExt::map(events, |event: String| Ok(Frame::data(Bytes::from(event))));
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    }

    fn tell(&self, event: &str) {
        self.0.lock().unwrap().retain(|stream| stream.try_send(event.to_owned()).is_ok());
    }
}

fn whole(media_type: &'static str, body: &str) -> Response<Body> {
    let mut response = Response::new(Full::from(body.to_owned()).boxed_unsync());
    response.headers_mut().insert("content-type", media_type.parse().unwrap());
    response
}

fn config(backend: SocketAddr) -> String {
    format!(
        r#"
[log]
format = "json"

[[listener]]
address = "127.0.0.1:0"
tls = {{ certificate = "certs/dev.pem", key = "certs/dev.key" }}

[auth.cookie]
upstream = "app"
path = "/session"
cookies = ["sid"]

[upstream.app]
endpoints = ["http://{backend}"]

[[route]]
name = "chat"
path = "/chat"
auth = "ticket"
bridge = {{ upstream = "app", events = "/events", messages = "/messages" }}
proxy = {{ upstream = "app" }}

[[route]]
path = "/{{*rest}}"
auth = "none"
proxy = {{ upstream = "app" }}

[[route]]
path = "/"
auth = "none"
proxy = {{ upstream = "app" }}
"#
    )
}

/// What the page has to begin with: tickets of its own, and everything that it has heard.
const PREPARED: &str = r"
window.ticketed = async () => {
  const options = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ route: 'chat' }) };
  const { ticket } = await (await fetch('/stream-ticket', options)).json();
  return `/chat?ticket=${ticket}`;
};
window.heard = { socket: [], source: [] };
const hear = (by, text) => { heard[by].push(text); document.body.dataset.heard = JSON.stringify(heard); };
window.open = {
  socket: async () => {
    window.socket = new WebSocket(`wss://${location.host}${await ticketed()}`);
    socket.onmessage = (event) => hear('socket', event.data);
  },
  source: async () => {
    window.source = new EventSource(await ticketed());
    source.onmessage = (event) => hear('source', event.data);
  },
};
";

/// Sends 1 GiB in pieces of 1 MiB, and counts them.
const UPLOAD: &str = r"
let sent = 0;
const piece = new Uint8Array(1 << 20);
const body = new ReadableStream({
  pull(controller) {
    if (sent === 1024) return controller.close();
    controller.enqueue(piece.slice());
    document.body.dataset.sent = ++sent;
  },
});
window.uploaded = ticketed()
  .then((url) => fetch(url, { method: 'PUT', body, duplex: 'half' }))
  .then((answer) => answer.json());
null;
";

#[tokio::test]
async fn one_page_speaks_websocket_event_source_and_fetch_to_the_same_url() {
    let backend = Backend::start().await;
    let gateway = GatewayProcess::start(&config(backend.address)).await;
    let mut page = Page::open(&format!("https://localhost:{}/", gateway.address.port())).await;
    page.until("document.title === 'an ordinary page'").await;
    page.evaluate("fetch('/login')").await;
    page.evaluate(PREPARED).await;

    page.evaluate("open.socket()").await;
    page.until("heard.socket[0] === 'hello ada by WebSocket'").await;
    page.evaluate("open.source()").await;
    page.until("heard.source[0] === 'hello ada by EventSource'").await;
    // By fetch as by WebSocket, what one says all hear.
    let said =
        "ticketed().then((url) => fetch(url, { method: 'POST', body: 'hi by fetch' })).then((answer) => answer.status)";
    assert_eq!(page.evaluate(said).await, 200);
    page.until("heard.source[1] === 'ada said hi by fetch' && heard.socket[1] === 'ada said hi by fetch'").await;
    page.evaluate("socket.send('hi by WebSocket')").await;
    page.until("heard.source[2] === 'ada said hi by WebSocket' && heard.socket[2] === heard.source[2]").await;
    let without = "fetch('/chat', { method: 'POST', body: 'x' }).then((answer) => answer.status)";
    assert_eq!(page.evaluate(without).await, 401, "each needs a ticket of its own");

    // A body that is made while it is sent: neither the page nor the gateway could hold all of it.
    let before = gateway.process.resident();
    page.evaluate(UPLOAD).await;
    // As long as it moves, it may take its time.
    for sent in (128..=1024).step_by(128) {
        page.until(&format!("Number(document.body.dataset.sent) >= {sent}")).await;
    }
    assert_eq!(page.evaluate("uploaded").await, json!({"subject": "ada", "bytes": GIB}));
    let grown = gateway.process.peak_resident().saturating_sub(before);
    assert!(grown < 32 << 20, "1 GiB went through, and the gateway grew by {grown} bytes");

    // All that while the streams were open, and they still are.
    page.evaluate("socket.send('still here')").await;
    page.until("heard.source[3] === 'ada said still here' && heard.socket[3] === heard.source[3]").await;
    page.close().await;
}
