//! The connections to one endpoint, and how a request finds one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::{Body, Lease};
use super::connect::{ConnectError, Connected, Connector};
use super::settings::{Endpoint, Settings};

/// A request before it is known which kind of connection it goes out on.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    /// GET or POST.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// Everything but `Host` and the framing.
    pub headers: HeaderMap,
    /// Empty for GET.
    pub body: Bytes,
}

/// What a request is for; event streams must not take the last places from POSTs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Opens an event stream, which stays for as long as the client does.
    Events,
    /// Carries one message.
    Message,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It was not sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It may have been sent, but the connection broke before an answer came.
    #[error("the connection to {endpoint} broke before an answer came")]
    Broken {
        /// Host and port.
        endpoint: String,
        /// What the HTTP library said.
        source: hyper::Error,
    },
}

/// The connections to one endpoint.
#[derive(Debug)]
pub struct Pool {
    connector: Connector,
    host: HeaderValue,
    max_idle: usize,
    idle_timeout: Duration,
    http1: Mutex<Vec<IdleHttp1>>,
    http2: Mutex<Vec<Http2>>,
    /// Held while an HTTP/2 connection is made, so that many requests at once make one and not many.
    connecting: tokio::sync::Mutex<()>,
    /// Failed attempts to connect; who waited for an attempt that failed shares its failure.
    failures: AtomicU64,
    /// Which HTTP version the endpoint speaks: settled by the settings, or by the first ALPN.
    speaks: AtomicUsize,
    streams: AtomicUsize,
}

#[derive(Debug)]
struct IdleHttp1 {
    sender: http1::SendRequest<Full<Bytes>>,
    until: Instant,
}

#[derive(Debug)]
struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    /// Streams that the peer allows.
    allowed: Arc<AtomicUsize>,
    /// Streams that we have open.
    open: Arc<AtomicUsize>,
}

enum Ready {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>, StreamSlot),
}

/// One place on an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct StreamSlot(Arc<AtomicUsize>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one event stream of an endpoint for as long as it is open.
#[derive(Debug)]
pub struct StreamCount(Arc<Pool>);

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often a request that provably did not go out is given another connection. An endpoint that accepts and closes at
/// once would otherwise be connected to in a loop.
const ATTEMPTS: usize = 3;

/// How long a connection that was given back may take to be ready. One whose last request is still being sent, because
/// upstream answered before it had read all of it, may never be.
const READY_AGAIN: Duration = Duration::from_millis(50);

const UNKNOWN: usize = 0;
const HTTP1: usize = 1;
const HTTP2: usize = 2;

impl Pool {
    pub(super) fn new(
        endpoint: Endpoint,
        settings: &Settings,
        tls: Option<Arc<ClientConfig>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        use super::settings::Protocol::{Auto, Http1, Http2};
        // An authority holds only what a header value may hold.
        let host =
            HeaderValue::from_str(endpoint.authority.as_str()).unwrap_or_else(|_| HeaderValue::from_static("invalid"));
        let speaks = match settings.protocol {
            Http2 => HTTP2,
            Http1 => HTTP1,
            Auto if endpoint.tls => UNKNOWN,
            Auto => HTTP1,
        };
        Self {
            host,
            max_idle: settings.max_idle_connections,
            idle_timeout: settings.idle_timeout,
            http1: Mutex::default(),
            http2: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            failures: AtomicU64::new(0),
            speaks: AtomicUsize::new(speaks),
            streams: AtomicUsize::new(0),
            connector: Connector {
                endpoint,
                protocol: settings.protocol,
                tls,
                max_streams: settings.max_streams_per_connection,
                timeout: settings.connect_timeout,
                tasks,
                stop,
            },
        }
    }

    /// Host and port, for people.
    #[must_use]
    pub fn name(&self) -> String {
        self.connector.name()
    }

    /// Event streams open at this endpoint.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Counts one more event stream until the value is dropped.
    #[must_use]
    pub fn count_stream(self: &Arc<Self>) -> StreamCount {
        self.streams.fetch_add(1, Ordering::Relaxed);
        StreamCount(self.clone())
    }

    /// Sends `request` on a connection of this endpoint, a new one if need be, and waits for the head of the answer.
    ///
    /// A request that meets a connection which upstream has just closed, and which provably did not go out on it, goes
    /// out on another one.
    ///
    /// # Errors
    ///
    /// [`SendError::Connect`] when it was not sent, [`SendError::Broken`] when it may have been.
    pub async fn send(self: &Arc<Self>, request: OutgoingRequest, purpose: Use) -> Result<Response<Body>, SendError> {
        let mut request = request;
        for attempt in 1..=ATTEMPTS {
            // The last attempt does not trust a connection that was idle: it may have met others of the same age.
            let ready = if attempt == ATTEMPTS { self.connect_now().await } else { self.ready(purpose).await };
            let (outcome, lease) = match ready? {
                Ready::Http1(mut sender) => {
                    let sent = sender.try_send_request(self.http1_request(request)).await;
                    (sent, Lease::Http1 { sender, pool: self.clone() })
                }
                Ready::Http2(mut sender, slot) => {
                    let sent = sender.try_send_request(self.http2_request(request)).await;
                    (sent, Lease::Http2(slot))
                }
            };
            match outcome {
                Ok(response) => {
                    let keep = keep_alive_hint(response.headers());
                    return Ok(response.map(|body| Body::new(body, lease, keep)));
                }
                Err(mut refused) => {
                    let Some(unsent) = refused.take_message() else {
                        return Err(SendError::Broken { endpoint: self.name(), source: refused.into_error() });
                    };
                    request = take_back(unsent);
                }
            }
        }
        Err(ConnectError::Closed { endpoint: self.name() }.into())
    }

    /// Closes idle HTTP/1.1 connections whose time is over.
    pub fn close_idle(&self) {
        let now = Instant::now();
        lock(&self.http1).retain(|idle| idle.until > now && !idle.sender.is_closed());
        lock(&self.http2).retain(|connection| !connection.sender.is_closed());
    }

    /// Takes back an HTTP/1.1 connection whose answer was read to its end.
    pub(super) fn recycle(&self, sender: http1::SendRequest<Full<Bytes>>, hint: Option<Duration>) {
        let keep = hint.map_or(self.idle_timeout, |hint| hint.min(self.idle_timeout));
        if sender.is_closed() || keep.is_zero() {
            return;
        }
        let mut idle = lock(&self.http1);
        if idle.len() < self.max_idle {
            idle.push(IdleHttp1 { sender, until: Instant::now() + keep });
        }
    }

    async fn ready(&self, purpose: Use) -> Result<Ready, ConnectError> {
        match self.speaks.load(Ordering::Relaxed) {
            HTTP1 => self.ready_http1().await,
            HTTP2 => self.ready_http2(purpose).await,
            _ => self.connect_first(purpose).await,
        }
    }

    async fn ready_http1(&self) -> Result<Ready, ConnectError> {
        loop {
            let Some(mut idle) = lock(&self.http1).pop() else { break };
            if idle.until <= Instant::now() {
                continue;
            }
            // Most often it is ready, and then no timer is needed.
            let ready = idle.sender.is_ready()
                || matches!(tokio::time::timeout(READY_AGAIN, idle.sender.ready()).await, Ok(Ok(())));
            if ready {
                return Ok(Ready::Http1(idle.sender));
            }
        }
        self.connect_now().await
    }

    async fn ready_http2(&self, purpose: Use) -> Result<Ready, ConnectError> {
        if let Some(ready) = self.place(purpose) {
            return Ok(ready);
        }
        let failures = self.failures.load(Ordering::Acquire);
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(ready) = self.place(purpose) {
            return Ok(ready);
        }
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(ConnectError::Shared { endpoint: self.name() });
        }
        self.connect_now().await
    }

    /// The first connection to an endpoint whose protocol ALPN has still to settle.
    async fn connect_first(&self, purpose: Use) -> Result<Ready, ConnectError> {
        let failures = self.failures.load(Ordering::Acquire);
        let one_at_a_time = self.connecting.lock().await;
        match self.speaks.load(Ordering::Relaxed) {
            UNKNOWN => {}
            settled => {
                drop(one_at_a_time);
                return if settled == HTTP2 { self.ready_http2(purpose).await } else { self.ready_http1().await };
            }
        }
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(ConnectError::Shared { endpoint: self.name() });
        }
        self.connect_now().await
    }

    /// A new connection, whatever there is already. Boxed: a cold path with a large state.
    async fn connect_now(&self) -> Result<Ready, ConnectError> {
        match Box::pin(self.connector.connect()).await {
            Ok(Connected::Http1(sender)) => {
                self.speaks.store(HTTP1, Ordering::Relaxed);
                Ok(Ready::Http1(sender))
            }
            Ok(Connected::Http2(sender, allowed)) => {
                self.speaks.store(HTTP2, Ordering::Relaxed);
                Ok(self.add_http2(sender, allowed))
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }

    /// A place on an HTTP/2 connection that is there already.
    fn place(&self, purpose: Use) -> Option<Ready> {
        let mut connections = lock(&self.http2);
        connections.retain(|connection| !connection.sender.is_closed());
        connections.iter().find_map(|connection| {
            let allowed = connection.allowed.load(Ordering::Relaxed).min(self.connector.max_streams);
            let limit = match purpose {
                // A stream above the peer's limit would wait without an error, and a POST behind streams for ever.
                Use::Events => allowed.saturating_sub((allowed / 8).max(1)),
                Use::Message => allowed,
            };
            (connection.open.load(Ordering::Relaxed) < limit.max(1)).then(|| connection.take_place())
        })
    }

    fn add_http2(&self, sender: http2::SendRequest<Full<Bytes>>, allowed: Arc<AtomicUsize>) -> Ready {
        let connection = Http2 { sender, allowed, open: Arc::default() };
        let ready = connection.take_place();
        lock(&self.http2).push(connection);
        ready
    }

    fn http1_request(&self, request: OutgoingRequest) -> Request<Full<Bytes>> {
        let mut sent = Request::new(Full::new(request.body));
        *sent.method_mut() = request.method;
        *sent.uri_mut() = Uri::from(request.target);
        *sent.headers_mut() = request.headers;
        sent.headers_mut().insert(header::HOST, self.host.clone());
        sent
    }

    fn http2_request(&self, request: OutgoingRequest) -> Request<Full<Bytes>> {
        let mut sent = Request::new(Full::new(request.body));
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(if self.connector.endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(self.connector.endpoint.authority.clone());
        uri.path_and_query = Some(request.target);
        *sent.method_mut() = request.method;
        // All three parts are there, so that this cannot fail.
        *sent.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *sent.version_mut() = Version::HTTP_2;
        *sent.headers_mut() = request.headers;
        sent
    }
}

/// A request that did not go out, as it was before it was made for a connection.
fn take_back(request: Request<Full<Bytes>>) -> OutgoingRequest {
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::HOST);
    OutgoingRequest {
        method: head.method,
        target: head.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")),
        headers: head.headers,
        body: body.into_inner().unwrap_or_default(),
    }
}

impl Http2 {
    fn take_place(&self) -> Ready {
        self.open.fetch_add(1, Ordering::Relaxed);
        Ready::Http2(self.sender.clone(), StreamSlot(self.open.clone()))
    }
}

/// How long upstream says that it keeps an idle connection, less a second: a POST must not meet the closing.
fn keep_alive_hint(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds: u64 = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?.parse().ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

/// A panic while one of these is held leaves nothing half done: every critical section is a single change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
