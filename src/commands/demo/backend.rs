//! The demo's chat backend: plain HTTP handlers that follow the backend contract.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::{ACCEPT, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Body, event_stream, full, problem};
use super::hub::{Event, Hub, Seat, Verdict, Who};
use super::query;
use super::trace::{Client, Row, StreamState, Trace, interesting, shown};

/// Largest body of a message.
const MAX_BODY: usize = 64 << 10;
/// Connections at the same time: a stream each for all members, and some for messages.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to send a request's headers, or its body.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// A stream with nothing to say sends a comment this often, so that silence always means a fault.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long open answers may take to end when the backend stops.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// How long to wait when the system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running backend.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    trace: Trace,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Clone)]
struct Desk {
    hub: Hub,
    trace: Trace,
    stop: CancellationToken,
}

impl Backend {
    /// Listens on a free port of 127.0.0.1 and serves until [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// What the system says when no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let trace = Trace::new(stop.child_token());
        let tasks = TaskTracker::new();
        let desk = Desk { hub: Hub::default(), trace: trace.clone(), stop: stop.clone() };
        tasks.spawn(accept(listener, desk, tasks.clone()));
        Ok(Self { address, trace, stop, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it tells about itself.
    pub fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// Ends every stream and waits until no task of the backend is left.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // For whoever forgets to stop it: the tasks end, only nobody waits for them.
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, desk: Desk, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    tasks.spawn(async move {
                        serve(stream, desk).await;
                        drop(slot);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = desk.stop.cancelled() => {}
    }
}

async fn serve(stream: TcpStream, desk: Desk) {
    let _ = stream.set_nodelay(true); // events are small, and somebody waits for each
    let stop = desk.stop.clone();
    let service = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_LIMIT);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return, // a client that breaks off is nothing to report
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(STOP_LIMIT, connection).await;
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/events") => self.events(&request),
            (&Method::POST, "/messages") => self.message(request).await,
            _ => problem(StatusCode::NOT_FOUND, "this backend has GET /events and POST /messages"),
        }
    }

    /// Opens the event stream of a connection.
    fn events(&self, request: &Request<Incoming>) -> Response<Body> {
        let headers = request.headers();
        let path = request.uri().path_and_query().map_or("/events", |path| path.as_str());
        let query = request.uri().query().unwrap_or_default();
        let connection = text(headers, "tidegate-connection").unwrap_or_default();
        let name = query::clean(&query::value(query, "name").unwrap_or_default());
        let tab = shown(&query::value(query, "tab").unwrap_or_default());
        let who = Who { connection: connection.to_owned(), name, tab };
        let row = |state, status: StatusCode, who: &Who| {
            let (headers, status) = (interesting(headers), status.as_u16());
            self.trace.tell(&Row::Get { state, path, headers, status, client: client(who) });
        };
        let refuse = |status, detail| {
            row(StreamState::Refused, status, &who);
            problem(status, detail)
        };
        if connection.is_empty() {
            return refuse(StatusCode::BAD_REQUEST, "the header Tidegate-Connection is missing; the gateway sends it");
        }
        if !headers.get_all(ACCEPT).iter().any(|value| contains(value.as_bytes(), b"text/event-stream")) {
            return refuse(StatusCode::NOT_ACCEPTABLE, "/events is an event stream; ask for text/event-stream");
        }
        let last_event_id = text(headers, "last-event-id").and_then(|id| id.parse().ok());
        let Ok(seat) = self.hub.join(who.clone(), last_event_id) else {
            let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, "the chat is full; try again later");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            return response;
        };
        row(StreamState::Opened, StatusCode::OK, &who);
        let open = OpenStream { seat, path: path.to_owned(), trace: self.trace.clone() };
        event_stream(blocks(open, self.stop.clone()))
    }

    /// Takes one message of a connection and tells it to everybody.
    async fn message(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let connection = text(&parts.headers, "tidegate-connection").unwrap_or_default();
        let body = match timeout(REQUEST_LIMIT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => String::from_utf8(body.to_bytes().into())
                .map_err(|_| (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a chat line is text in UTF-8")),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err((StatusCode::PAYLOAD_TOO_LARGE, "a chat line has 64 KiB at most"))
            }
            Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body broke off")),
            Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        };
        let verdict = match &body {
            Ok(_) => self.hub.admit(connection, text(&parts.headers, "idempotency-key")),
            Err(_) => Verdict::Unknown,
        };
        let unknown = Who { connection: connection.to_owned(), name: String::new(), tab: String::new() };
        let (status, detail, who) = match (&body, &verdict) {
            (Err((status, detail)), _) => (*status, *detail, &unknown),
            (Ok(_), Verdict::Unknown) => {
                (StatusCode::NOT_FOUND, "no event stream is open for this connection", &unknown)
            }
            (Ok(_), Verdict::New(who) | Verdict::Repeated(who)) => (StatusCode::NO_CONTENT, "", &**who),
        };
        let line = body.as_deref().unwrap_or_default();
        // Told before it is said, so that a watcher sees the cause before its effects.
        self.trace.tell(&Row::Post {
            path: parts.uri.path(),
            headers: interesting(&parts.headers),
            body: shown(line),
            status: status.as_u16(),
            client: client(who),
        });
        if let Verdict::New(who) = &verdict {
            self.hub.say(who, line);
        }
        if status.is_success() { full(status, "", Bytes::new()) } else { problem(status, detail) }
    }
}

/// An event stream that is being sent; dropped, it has ended, whichever side ended it.
struct OpenStream {
    seat: Seat,
    path: String,
    trace: Trace,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let client = client(&self.seat.who);
        let headers = BTreeMap::new();
        self.trace.tell(&Row::Get { state: StreamState::Closed, path: &self.path, headers, status: 200, client });
    }
}

fn blocks(open: OpenStream, stop: CancellationToken) -> impl Stream<Item = Bytes> + Send {
    let welcome = stream::iter([Bytes::from_static(b": welcome\n\n")]);
    let events = stream::unfold((open, stop), |(mut open, stop)| async {
        let block = tokio::select! {
            () = stop.cancelled() => None,
            next = timeout(HEARTBEAT, open.seat.next()) => match next {
                Ok(Some(event)) => Some(open.block(&event)),
                Ok(None) => None,
                Err(_) => Some(Bytes::from_static(b": still here\n\n")),
            },
        };
        block.map(|block| (block, (open, stop)))
    });
    futures_util::StreamExt::chain(welcome, events)
}

impl OpenStream {
    fn block(&self, event: &Event) -> Bytes {
        let Event { id, name, data } = event;
        let client = client(&self.seat.who);
        self.trace.tell(&Row::Event { id: *id, event: name, data: shown(data), client });
        let field = if *name == "message" { String::new() } else { format!("event: {name}\n") };
        Bytes::from(format!("id: {id}\n{field}data: {data}\n\n"))
    }
}

fn client(who: &Who) -> Client<'_> {
    Client { connection: &who.connection, name: &who.name, tab: &who.tab }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}
