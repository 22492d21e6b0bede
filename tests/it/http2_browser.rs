//! A real browser over HTTP/2: many event streams and WebSockets of one page, on one connection.

use bytes::Bytes;
use http::{Request, Response};
use rustix::process::Signal;
use serde_json::json;
use tidegate::config::Config;
use tidegate::edge::{Fallback, whole};
use tidegate::gateway::Gateway;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use crate::support::chromium::Page;
use crate::support::gateway::{certificates, toml};
use crate::support::process::GatewayProcess;
use crate::support::upstream::{Answer, EventSender, Open};
use crate::support::{FakeUpstream, must};

/// A page, for requests that no route takes.
fn page() -> Fallback {
    BoxCloneSyncService::new(service_fn(async |_: Request<()>| {
        let mut response = Response::new(whole(Bytes::from_static(b"<!doctype html><title>page</title>")));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/html"));
        Ok(response)
    }))
}

/// A gateway that serves the page as well, and lets in so few connections that a browser has to share them.
fn serve(upstream: &FakeUpstream, listener: &str, route: &str) -> Gateway {
    let toml = toml(&format!("http://{}", upstream.address), "", "")
        .replace("auth = \"none\"", &format!("auth = \"none\"\n{route}"))
        .replace("[upstream.app]", &format!("{listener}\n[upstream.app]"));
    let files = certificates();
    let config = Config::parse(&toml, "test.toml", files.path()).unwrap_or_else(|problems| panic!("{problems}"));
    Gateway::start(&config, Some(page())).unwrap()
}

/// An expression: what each of so many WebSockets gets first, in their order. They stay open, and say `up` and their number.
fn sockets(count: usize) -> String {
    format!(
        "Promise.all([...Array({count}).keys()].map((n) => new Promise((resolve) => {{
           const socket = new WebSocket(`wss://${{location.host}}/chat?n=${{n}}`);
           socket.onmessage = (event) => {{ socket.send(`up ${{n}}`); resolve(event.data); }};
           socket.onclose = (event) => {{ (window.ends ??= []).push(`${{event.code}} ${{event.wasClean}}`); resolve('closed'); }};
         }})))"
    )
}

/// Answers a request for events with its own query as the first of them.
async fn answer(open: Open) -> EventSender {
    let query = open.head.uri.query().unwrap_or_default().to_owned();
    let events = open.accept();
    events.send(format!("data: {query}\n\n")).await;
    events
}

const PROTOCOL: &str = "performance.getEntriesByType('navigation')[0].nextHopProtocol";

#[tokio::test]
async fn websockets_of_a_page_share_its_connection_and_close_cleanly_at_a_stop() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = serve(&upstream, "max_connections = 2", "");
    let mut page = Page::open(&format!("https://localhost:{}/", gateway.addresses()[0].port())).await;
    assert_eq!(page.evaluate(PROTOCOL).await, "h2");
    let sockets = sockets(5);
    let (seen, _events) = tokio::join!(page.evaluate(&sockets), async {
        let mut events = Vec::new();
        for _ in 0..5 {
            events.push(answer(upstream.next_open().await).await);
        }
        events
    });
    assert_eq!(seen, json!(["n=0", "n=1", "n=2", "n=3", "n=4"]));
    let mut said = Vec::new();
    for _ in 0..5 {
        let post = upstream.next_post().await;
        said.push(post.text().to_owned());
        post.accept();
    }
    said.sort();
    assert_eq!(said, ["up 0", "up 1", "up 2", "up 3", "up 4"]);
    assert_eq!(must("the gateway to stop", gateway.stop()).await.cut, 0);
    let closed = "new Promise((resolve) => { const look = () => window.ends?.length === 5 ? resolve(window.ends) : setTimeout(look, 10); look(); })";
    assert_eq!(page.evaluate(closed).await, json!(["1001 true", "1001 true", "1001 true", "1001 true", "1001 true"]));
}

#[tokio::test]
async fn with_the_switch_off_a_page_opens_its_websockets_over_http1() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = serve(&upstream, "", "websocket_over_http2 = false");
    let mut page = Page::open(&format!("https://localhost:{}/", gateway.addresses()[0].port())).await;
    assert_eq!(page.evaluate(PROTOCOL).await, "h2");
    let sockets = sockets(3);
    let (seen, _events) = tokio::join!(page.evaluate(&sockets), async {
        let mut events = Vec::new();
        for _ in 0..3 {
            events.push(answer(upstream.next_open().await).await);
        }
        events
    });
    assert_eq!(seen, json!(["n=0", "n=1", "n=2"]));
}

#[tokio::test]
async fn fifty_event_streams_and_five_websockets_of_one_page_are_open_at_once() {
    const STREAMS: usize = 50;
    const SOCKETS: usize = 5;
    let mut upstream = FakeUpstream::start().await;
    let routes = "[[route]]\npath = \"/{*rest}\"\nauth = \"none\"\nproxy = { upstream = \"app\" }\n";
    let toml = toml(&format!("http://{}", upstream.address), "", "")
        .replace("[upstream.app]", "max_connections = 3\n[upstream.app]");
    let mut gateway = GatewayProcess::start(&format!("[log]\nformat = \"json\"\n{toml}\n{routes}")).await;
    let url = format!("https://localhost:{}/page", gateway.address.port());
    let (mut page, ()) = tokio::join!(Page::open(&url), async {
        let html = Answer::status(200).with("content-type", "text/html").body("<!doctype html><title>page</title>");
        let open = upstream.next_open().await;
        assert_eq!(open.head.uri.path(), "/page");
        open.answer(html);
    });
    assert_eq!(page.until(PROTOCOL).await, "h2");
    let all = format!(
        "Promise.all([{}, Promise.all([...Array({STREAMS}).keys()].map((n) => new Promise((resolve) => {{
           const source = new EventSource(`/stream?n=${{n}}`);
           source.onmessage = (event) => resolve(event.data);
           source.onerror = () => resolve('error');
           (window.sources ??= []).push(source);
         }})))])",
        sockets(SOCKETS)
    );
    let (seen, _events) = tokio::join!(page.evaluate(&all), async {
        let mut events = Vec::new();
        while events.len() < STREAMS + SOCKETS {
            let open = upstream.next_open().await;
            match open.head.uri.path() {
                "/events" | "/stream" => events.push(answer(open).await),
                _ => open.answer(Answer::status(404)),
            }
        }
        events
    });
    let numbers = |count: usize| (0..count).map(|n| format!("n={n}")).collect::<Vec<_>>();
    assert_eq!(seen, json!([numbers(SOCKETS), numbers(STREAMS)]));
    assert_eq!(page.evaluate("window.sources.filter((source) => source.readyState === 1).length").await, STREAMS);
    for _ in 0..SOCKETS {
        upstream.next_post().await.accept();
    }
    gateway.process.signal(Signal::TERM);
    for _ in 0..SOCKETS {
        gateway.closed_line().await;
    }
    let lines = gateway.process.stderr.json();
    let opened: Vec<_> = lines.iter().filter(|line| line["message"] == "connection opened").collect();
    assert_eq!(opened.len(), SOCKETS);
    assert!(opened.iter().all(|line| line["http"] == "2"), "{opened:?}");
}
