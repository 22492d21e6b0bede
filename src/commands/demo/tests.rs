//! The backend over real sockets, as the gateway talks to it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::backend::Backend;
use super::trace::Watcher;

/// A backend and the client connections of one test.
struct Scene {
    backend: Backend,
    tasks: JoinSet<()>,
}

impl Scene {
    async fn start() -> Self {
        Self { backend: Backend::start().await.unwrap(), tasks: JoinSet::new() }
    }

    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Response<Incoming> {
        let stream = TcpStream::connect(self.backend.address()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.tasks.spawn(async { drop(connection.await) });
        let mut request = Request::builder().method(method).uri(path).header("host", "demo");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap()
    }

    async fn open(&mut self, connection: &str, query: &str) -> Events {
        let headers = [("accept", "text/event-stream"), ("tidegate-connection", connection)];
        let response = self.send(Method::GET, &format!("/events?{query}"), &headers, Bytes::new()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
        let mut events = Events { body: response.into_body(), text: String::new() };
        assert_eq!(events.next().await.unwrap(), ": welcome");
        events
    }

    async fn post(&mut self, connection: &str, sequence: u32, body: impl Into<Bytes>) -> u16 {
        let (number, key) = (sequence.to_string(), format!("\"{connection}-{sequence}\""));
        let headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("tidegate-connection", connection),
            ("tidegate-sequence", &number),
            ("idempotency-key", &key),
        ];
        self.send(Method::POST, "/messages", &headers, body.into()).await.status().as_u16()
    }
}

struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// The next block of the stream; `None` at its proper end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let frame = timeout(Duration::from_secs(5), self.body.frame()).await.expect("nothing came")?;
            self.text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }
}

async fn row(watcher: &mut Watcher) -> Value {
    serde_json::from_str(&watcher.next().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_message_of_one_is_an_event_for_all_and_the_trace_tells_it_in_order() {
    let mut scene = Scene::start().await;
    let mut trace = scene.backend.trace().subscribe();
    let mut ada = scene.open("c-1", "name=Ada+L.&tab=t1").await;
    assert_eq!(ada.next().await.unwrap(), "id: 1\nevent: presence\ndata: {\"joined\":\"Ada L.\"}");
    let mut grace = scene.open("c-2", "name=grace").await;
    for events in [&mut ada, &mut grace] {
        assert_eq!(events.next().await.unwrap(), "id: 2\nevent: presence\ndata: {\"joined\":\"grace\"}");
    }
    assert_eq!(scene.post("c-1", 1, "line\none").await, 204);
    for events in [&mut ada, &mut grace] {
        assert_eq!(events.next().await.unwrap(), "id: 3\ndata: {\"from\":\"Ada L.\",\"text\":\"line\\none\"}");
    }
    drop(grace);
    assert_eq!(ada.next().await.unwrap(), "id: 4\nevent: presence\ndata: {\"left\":\"grace\"}");

    let opened = row(&mut trace).await;
    assert_eq!((&opened["kind"], &opened["state"]), (&"GET".into(), &"opened".into()));
    assert_eq!((&opened["client"]["tab"], &opened["path"]), (&"t1".into(), &"/events?name=Ada+L.&tab=t1".into()));
    let mut kinds = String::new();
    let post = loop {
        let row = row(&mut trace).await;
        kinds.push_str(row["kind"].as_str().unwrap());
        if row["kind"] == "POST" {
            break row;
        }
    };
    assert_eq!(kinds, "EVENTGETEVENTEVENTPOST");
    assert_eq!((&post["body"], &post["status"]), (&"line\none".into(), &204.into()));
    assert_eq!(post["headers"]["tidegate-sequence"], "1");
    assert_eq!(post["headers"]["idempotency-key"], "\"c-1-1\"");
    let event = row(&mut trace).await;
    assert_eq!((&event["kind"], &event["id"], &event["event"]), (&"EVENT".into(), &3.into(), &"message".into()));
}

#[tokio::test]
async fn a_repeated_post_is_accepted_and_said_once() {
    let mut scene = Scene::start().await;
    let mut ada = scene.open("c-1", "name=ada").await;
    ada.next().await.unwrap();
    for (sequence, text) in [(1, "once"), (1, "once"), (2, "twice")] {
        assert_eq!(scene.post("c-1", sequence, text).await, 204);
    }
    assert!(ada.next().await.unwrap().contains("once"));
    assert!(ada.next().await.unwrap().contains("twice"));
}

#[tokio::test]
async fn what_cannot_be_taken_is_answered_as_the_contract_says() {
    let mut scene = Scene::start().await;
    assert_eq!(scene.post("nobody", 1, "hi").await, 404);
    let _ada = scene.open("c-1", "name=ada").await;
    assert_eq!(scene.post("c-1", 1, vec![b'x'; 64 << 10]).await, 204);
    assert_eq!(scene.post("c-1", 2, vec![b'x'; (64 << 10) + 1]).await, 413);
    assert_eq!(scene.post("c-1", 3, vec![0xff]).await, 415);
    let stream = ("accept", "text/event-stream");
    for (path, headers, status) in [
        ("/events", vec![stream], 400),
        ("/events", vec![("tidegate-connection", "c-9"), ("accept", "text/html")], 406),
        ("/other", vec![], 404),
    ] {
        let response = scene.send(Method::GET, path, &headers, Bytes::new()).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_stream_that_comes_back_gets_what_it_missed() {
    let mut scene = Scene::start().await;
    let _ada = scene.open("c-1", "name=ada").await;
    assert_eq!(scene.post("c-1", 1, "one").await, 204);
    let headers = [("accept", "text/event-stream"), ("tidegate-connection", "c-1"), ("last-event-id", "1")];
    let response = scene.send(Method::GET, "/events?name=ada", &headers, Bytes::new()).await;
    let mut again = Events { body: response.into_body(), text: String::new() };
    assert_eq!(again.next().await.unwrap(), ": welcome");
    assert!(again.next().await.unwrap().starts_with("id: 2\ndata: {\"from\":\"ada\""));
}

#[tokio::test]
async fn stop_ends_every_stream_properly_and_leaves_no_task() {
    let mut scene = Scene::start().await;
    let mut trace = scene.backend.trace().subscribe();
    let mut ada = scene.open("c-1", "name=ada").await;
    let address = scene.backend.address();
    timeout(Duration::from_secs(5), scene.backend.stop()).await.expect("a task does not end");
    while ada.next().await.is_some() {}
    while trace.next().await.is_some() {}
    assert!(TcpStream::connect(address).await.is_err());
}
