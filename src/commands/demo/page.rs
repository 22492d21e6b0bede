//! The demo's page, and the live trace that it shows.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::util::{BoxCloneSyncService, service_fn};

pub use super::answer::Body;
use super::answer::{event_stream, full, problem};
use super::trace::{Trace, Watcher};

/// Serves the page, its script and style, and the trace.
pub type PageService = BoxCloneSyncService<Request<()>, Response<Body>, Infallible>;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("page.svg");
/// Everything comes from this origin, and nothing is written into the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// An idle trace sends a comment this often, so that no proxy takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Traces watched at the same time.
const MAX_WATCHERS: usize = 64;

/// The service for requests that no route takes.
pub fn service(trace: Trace) -> PageService {
    let slots = Arc::new(Semaphore::new(MAX_WATCHERS));
    BoxCloneSyncService::new(service_fn(move |request: Request<()>| ready(Ok(answer(&request, &trace, &slots)))))
}

fn answer(request: &Request<()>, trace: &Trace, slots: &Arc<Semaphore>) -> Response<Body> {
    let path = if matches!(*request.method(), Method::GET | Method::HEAD) { request.uri().path() } else { "" };
    match path {
        "/" => asset("text/html; charset=utf-8", PAGE),
        "/demo.css" => asset("text/css; charset=utf-8", STYLE),
        "/demo.js" => asset("text/javascript; charset=utf-8", SCRIPT),
        "/demo.svg" => asset("image/svg+xml", ICON),
        "/trace" => watch(trace, slots),
        _ => problem(StatusCode::NOT_FOUND, "the demo has a page at / and a WebSocket at /chat"),
    }
}

fn asset(content_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = full(StatusCode::OK, content_type, text);
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn watch(trace: &Trace, slots: &Arc<Semaphore>) -> Response<Body> {
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "too many pages watch the trace");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    event_stream(blocks(trace.subscribe(), slot))
}

fn blocks(watcher: Watcher, slot: OwnedSemaphorePermit) -> impl Stream<Item = Bytes> + Send {
    // Said at once, so that the browser knows that the stream is open before there is anything to show.
    let greeting = stream::iter([Bytes::from_static(b": watching\n\n")]);
    let rows = stream::unfold((watcher, slot), |(mut watcher, slot)| async {
        let block = match timeout(HEARTBEAT, watcher.next()).await {
            Ok(Some(row)) => Bytes::from(format!("data: {row}\n\n")),
            Ok(None) => return None,
            Err(_) => Bytes::from_static(b": still watching\n\n"),
        };
        Some((block, (watcher, slot)))
    });
    greeting.chain(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::trace::Row;
    use http_body_util::BodyExt as _;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    async fn get(service: &PageService, path: &str) -> Response<Body> {
        service.clone().oneshot(Request::get(path).body(()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn page_loads_only_what_is_served_beside_it() {
        let service = service(Trace::new(CancellationToken::new()));
        for (path, kind) in [("/", "text/html"), ("/demo.css", "text/css"), ("/demo.js", "text/javascript")] {
            let response = get(&service, path).await;
            assert_eq!(response.status(), 200);
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with(kind));
            assert!(response.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        }
        for foreign in ["http://", "https://", "style=", "onclick", "innerHTML"] {
            assert!(!PAGE.contains(foreign) && !SCRIPT.contains(foreign), "{foreign}");
        }
        let response = get(&service, "/nothing").await;
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let post = Request::post("/").body(()).unwrap();
        assert_eq!(service.oneshot(post).await.unwrap().status(), 404);
    }

    #[tokio::test]
    async fn trace_is_an_unbuffered_event_stream_that_ends_with_the_backend() {
        let stop = CancellationToken::new();
        let trace = Trace::new(stop.clone());
        let service = service(trace.clone());
        let mut response = get(&service, "/trace").await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache, no-transform");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        trace.tell(&Row::Missed { rows: 1 });
        let mut blocks = Vec::new();
        for _ in 0..2 {
            blocks.push(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(blocks[0], ": watching\n\n");
        assert!(blocks[1].starts_with(b"data: {\"at\":") && blocks[1].ends_with(b"}\n\n"), "{:?}", blocks[1]);
        stop.cancel();
        assert!(response.body_mut().frame().await.is_none());
    }

    #[tokio::test]
    async fn watchers_are_limited_and_a_place_is_free_again_when_one_leaves() {
        let service = service(Trace::new(CancellationToken::new()));
        let mut open = Vec::new();
        for _ in 0..MAX_WATCHERS {
            open.push(get(&service, "/trace").await);
        }
        assert_eq!(get(&service, "/trace").await.status(), 503);
        open.pop();
        assert_eq!(get(&service, "/trace").await.status(), 200);
    }
}
