//! The backend: an event stream for every connection, POSTs, and a WebSocket echo for those who only tunnel.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on one port. What a stream does is in the query of its request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::clients::MARK;
use crate::process::Process;

/// The backend as its own process.
pub(crate) struct Upstream {
    _process: Process,
    pub(crate) http: SocketAddr,
    pub(crate) websocket: SocketAddr,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let mut process = Process::again("upstream", &[]);
        let line = process.first_line();
        let (http, websocket) = line.trim().split_once(' ').expect("two addresses");
        Self { http: http.parse().unwrap(), websocket: websocket.parse().unwrap(), _process: process }
    }

    /// How many POSTs have come in.
    pub(crate) async fn posts(&self) -> u64 {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(b"GET /posts HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.rsplit("\r\n\r\n").next().unwrap().trim().parse().unwrap()
    }
}

/// One event with `size` bytes of data. The mark stands last, so that whoever sees it has seen all of it.
pub(crate) fn event(size: usize) -> Vec<u8> {
    [b"data: ".as_slice(), &vec![b'x'; size - 1], &[MARK], b"\n\n"].concat()
}

type Streams = Mutex<HashMap<HeaderValue, mpsc::UnboundedSender<Bytes>>>;

struct Shared {
    began: Instant,
    streams: Streams,
    posts: AtomicU64,
    opened: AtomicU64,
}

/// The other process.
pub(crate) async fn run() {
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let websocket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{} {}", http.local_addr().unwrap(), websocket.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = websocket.accept().await.unwrap();
            tokio::spawn(echo(stream));
        }
    });
    let shared = Arc::new(Shared {
        began: Instant::now(),
        streams: Streams::default(),
        posts: AtomicU64::new(0),
        opened: AtomicU64::new(0),
    });
    loop {
        let (stream, _) = http.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, shared.clone()));
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http2().max_concurrent_streams(1000);
            // Peers go away in the middle of answers; that is no failure here.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A WebSocket that says everything again.
async fn echo(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let config = WebSocketConfig::default().read_buffer_size(16 * 1024).write_buffer_size(4 * 1024);
    let Ok(mut socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        // A close frame is answered by the library.
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Infallible> {
    let response = match (request.method(), request.uri().path()) {
        (&Method::GET, "/posts") => {
            Response::new(Body::Whole(Some(shared.posts.load(Ordering::Relaxed).to_string().into())))
        }
        (&Method::GET, _) => stream(&request, shared),
        _ => post(request, &shared).await,
    };
    Ok(response)
}

/// A POST is said again on the stream of its connection, where that was opened for it.
async fn post(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let connection = request.headers().get("tidegate-connection").cloned();
    let message = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    shared.posts.fetch_add(1, Ordering::Relaxed);
    if let Some(connection) = connection
        && let Some(stream) = shared.streams.lock().unwrap().get(&connection)
    {
        let _ = stream.send([b"data: ".as_slice(), &message, b"\n\n"].concat().into());
    }
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn stream(request: &Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let asked: HashMap<_, usize> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect();
    let nth = shared.opened.fetch_add(1, Ordering::Relaxed);
    let size = asked.get("size").copied().unwrap_or(128);
    let body = if let Some(rate) = asked.get("pace") {
        let period = Duration::from_secs(1) / u32::try_from(*rate).unwrap();
        let millis = u64::try_from(shared.began.elapsed().as_millis()).unwrap();
        let whole = shared.began + Duration::from_millis(millis + 100 - millis % 100);
        // Streams tick at different times, as those of many users do, or together, as a broadcast does.
        let phase = if asked.contains_key("together") { 0.0 } else { nth as f64 * 0.37 % 1.0 };
        let mut every = interval_at(whole + period.mul_f64(phase), period);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Body::Paced { every, event: event(size).into() }
    } else if let Some(chunk) = asked.get("flood") {
        let event = event(size);
        Body::Flood { chunk: event.repeat(chunk / event.len()).into() }
    } else {
        let connection = request.headers().get("tidegate-connection").cloned();
        let (sender, events) = mpsc::unbounded_channel();
        if asked.contains_key("hello") {
            let _ = sender.send(event(32).into());
        }
        if let Some(connection) = connection.clone().filter(|_| asked.contains_key("echo")) {
            shared.streams.lock().unwrap().insert(connection.clone(), sender);
            Body::Events { events, quiet: None, connection, shared }
        } else {
            Body::Events { events, quiet: Some(sender), connection: connection.unwrap_or(nth.into()), shared }
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    response
}

enum Body {
    /// An ordinary answer.
    Whole(Option<Bytes>),
    /// What comes in from elsewhere; `quiet` holds the other end where nothing will.
    Events {
        events: mpsc::UnboundedReceiver<Bytes>,
        #[expect(dead_code, reason = "held so that the stream does not end")]
        quiet: Option<mpsc::UnboundedSender<Bytes>>,
        connection: HeaderValue,
        shared: Arc<Shared>,
    },
    /// One event at a time.
    Paced { every: Interval, event: Bytes },
    /// As many as are taken.
    Flood { chunk: Bytes },
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Events { events, .. } => events.poll_recv(cx),
            Self::Paced { every, event } => every.poll_tick(cx).map(|_| Some(event.clone())),
            Self::Flood { chunk } => Poll::Ready(Some(chunk.clone())),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => http_body::SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            _ => http_body::SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Self::Events { connection, shared, .. } = self {
            shared.streams.lock().unwrap().remove(connection);
        }
    }
}
