//! The backend's process: HTTP on one side, the store on the other.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use self::reset::Resettable;
use super::events::{Body, CutOff, Fault, Log};
use crate::wire::{Answer, Order, Told, Visit, What, now};

mod reset;

/// Chunks of a stream that wait for the connection.
const CHUNKS: usize = 2;

struct Shared {
    told: mpsc::UnboundedSender<Told>,
    answers: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    streams: Mutex<HashMap<Visit, watch::Sender<Fault>>>,
    requests: AtomicU64,
}

/// The process; ends with its parent.
pub(crate) async fn run(address: SocketAddr) {
    let output = pipe::Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let (told, told_rx) = mpsc::unbounded_channel();
    tokio::spawn(tell(told_rx, output));
    let (listening, is_listening) = watch::channel(true);
    let shared =
        Arc::new(Shared { told, answers: Mutex::default(), streams: Mutex::default(), requests: AtomicU64::new(0) });
    tokio::spawn(listen(address, is_listening, shared.clone()));
    let mut orders = BufReader::new(input).lines();
    while let Ok(Some(line)) = orders.next_line().await {
        match serde_json::from_str(&line).unwrap() {
            Order::Answer { request, answer } => {
                // The gateway may have given the request up.
                let _ = shared.answers.lock().unwrap().remove(&request).map(|waiting| waiting.send(answer));
            }
            Order::Stall { visits } => shared.fault(&visits, Fault::Stall),
            Order::Cut { visits } => shared.fault(&visits, Fault::Cut),
            Order::Listen(whether) => drop(listening.send(whether)),
        }
    }
}

async fn tell(mut told: mpsc::UnboundedReceiver<Told>, mut output: pipe::Sender) {
    let mut batch = Vec::new();
    while told.recv_many(&mut batch, 256).await > 0 {
        let mut lines = Vec::new();
        for told in batch.drain(..) {
            serde_json::to_writer(&mut lines, &told).unwrap();
            lines.push(b'\n');
        }
        output.write_all(&lines).await.unwrap();
    }
}

async fn listen(address: SocketAddr, mut wanted: watch::Receiver<bool>, shared: Arc<Shared>) {
    loop {
        let listener = TcpListener::bind(address).await.unwrap();
        shared.tell(Told::Ready { address });
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.unwrap();
                    stream.set_nodelay(true).unwrap();
                    shared.tell(Told::Accepted);
                    tokio::spawn(serve(stream, shared.clone()));
                }
                _ = wanted.wait_for(|wanted| !wanted) => break,
            }
        }
        drop(listener);
        wanted.wait_for(|wanted| *wanted).await.unwrap();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (stream, reset) = Resettable::new(stream);
    let service = service_fn(move |request| answer(request, shared.clone(), reset.clone()));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().max_concurrent_streams(2000);
    // Peers go away in the middle of answers; that is no failure here.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    reset: reset::Switch,
) -> Result<Response<Body>, CutOff> {
    let is_http1 = request.version() == http::Version::HTTP_11;
    let asked = Asked::of(&request);
    let answered = if request.method() == Method::GET {
        stream(&request, &asked, &shared).await
    } else {
        post(request, &asked, &shared).await
    };
    let Some((answer, mut response)) = answered else {
        // Over HTTP/2 the failure resets the stream; its neighbours have nothing to do with it.
        if is_http1 {
            reset.on();
        }
        return Err(CutOff);
    };
    if answer.close && is_http1 {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// `None` where the connection is to be reset.
async fn stream(request: &Request<Incoming>, asked: &Asked, shared: &Arc<Shared>) -> Option<(Answer, Response<Body>)> {
    let born = born(request.headers());
    let last = field(request.headers(), "last-event-id").and_then(|last| last.parse().ok());
    let visit = asked.visit;
    let asked_for = AskedFor { visit, shared, answered: false };
    let answer = shared.ask(|request| Told::Opening { request, visit, born, last, at: now() }).await?;
    if let What::Busy(seconds) = answer.what {
        return Some((answer, busy(seconds)));
    }
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    let (fault, faults) = watch::channel(Fault::None);
    // A stream that was there before loses its switch and is left alone.
    shared.streams.lock().unwrap().insert(visit, fault);
    asked_for.answered();
    let log = Log { visit, born, period: asked.period, size: asked.size, beat: asked.beat };
    let told = shared.told.clone();
    tokio::spawn(async move {
        log.serve(last, faults, chunks).await;
        let _ = told.send(Told::Left { visit });
    });
    let mut response = Response::new(Body::Events(receiver));
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    Some((answer, response))
}

/// `None` where the connection is to be reset.
async fn post(request: Request<Incoming>, asked: &Asked, shared: &Arc<Shared>) -> Option<(Answer, Response<Body>)> {
    let visit = asked.visit;
    let (head, body) = request.into_parts();
    let key = field(&head.headers, "idempotency-key").unwrap_or_default().to_owned();
    let sequence = field(&head.headers, "tidegate-sequence").and_then(|text| text.parse().ok()).expect("a sequence");
    // Broken off before it was whole: not received.
    let body = body.collect().await.ok()?.to_bytes();
    let text = std::str::from_utf8(&body).expect("a text");
    let number = text.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a numbered message");
    let answer = shared.ask(|request| Told::Posted { request, visit, key, sequence, number }).await?;
    shared.tell(Told::Answering { visit, sequence, at: now() });
    let response = match answer.what {
        What::Busy(seconds) => busy(seconds),
        What::Accept | What::Reset | What::Hold => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
    };
    Some((answer, response))
}

fn busy(seconds: u64) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert("retry-after", seconds.into());
    response
}

impl Shared {
    fn tell(&self, told: Told) {
        let _ = self.told.send(told);
    }

    fn fault(&self, visits: &[Visit], fault: Fault) {
        let streams = self.streams.lock().unwrap();
        for visit in visits {
            // One that is over does not listen.
            let _ = streams.get(visit).map(|stream| stream.send(fault));
        }
    }

    /// Asks the store what to answer, and takes the time that this is to take. `None` is a reset.
    async fn ask(&self, told: impl FnOnce(u64) -> Told) -> Option<Answer> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let (sender, answered) = oneshot::channel();
        self.answers.lock().unwrap().insert(request, sender);
        self.tell(told(request));
        let answer = answered.await.expect("a store that answers");
        tokio::time::sleep(Duration::from_millis(answer.delay_ms)).await;
        match answer.what {
            What::Accept | What::Busy(_) => Some(answer),
            What::Reset => None,
            What::Hold => match std::future::pending::<Infallible>().await {},
        }
    }
}

/// A request for an event stream. What is dropped before it gets one was refused, or given up by the gateway.
struct AskedFor<'a> {
    visit: Visit,
    shared: &'a Shared,
    answered: bool,
}

impl AskedFor<'_> {
    fn answered(mut self) {
        self.answered = true;
        self.shared.tell(Told::Opened { visit: self.visit });
    }
}

impl Drop for AskedFor<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.tell(Told::GivenUp { visit: self.visit });
        }
    }
}

/// What the query of a request says.
struct Asked {
    visit: Visit,
    period: u64,
    size: usize,
    beat: Duration,
}

impl Asked {
    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let number = |name: &str, default: u64| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map_or(default, |(_, value)| value.parse().unwrap())
        };
        Self {
            visit: number("visit", 0),
            period: number("period", 1000) * 1000,
            size: usize::try_from(number("size", 32)).unwrap(),
            beat: Duration::from_millis(number("beat", 1000)),
        }
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The time that a connection's id holds (RFC 9562 section 5.7), in milliseconds there.
fn born(headers: &HeaderMap) -> u64 {
    let id: uuid::Uuid = field(headers, "tidegate-connection").and_then(|id| id.parse().ok()).expect("a connection");
    let (seconds, nanos) = id.get_timestamp().expect("a version 7 id").to_unix();
    seconds * 1_000_000 + u64::from(nanos) / 1000
}
