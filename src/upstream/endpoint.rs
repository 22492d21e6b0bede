//! One endpoint: what it is, who may use it and how much of it is used. `send` finds a connection for a request, `standing` says
//! whether the endpoint is to be used at all.

mod send;
mod standing;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Response;
use hyper::client::conn::http1;
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::balance;
use super::body::Body;
use super::connect::Connector;
use super::connections::{Connections, Origin, Use};
use super::error::SendError;
use super::guard::{Guard, Permit, Traffic};
use super::health::Health;
use super::request::{Addressed, OutgoingRequest, RequestBody};
use super::resolve::{Place, Resolve};
use super::settings::{Endpoint, Settings};
pub(super) use standing::verdict;

/// One endpoint and the connections to it.
#[derive(Debug)]
pub struct Pool {
    upstream: Arc<str>,
    name: Arc<str>,
    connector: Connector,
    addressed: Addressed,
    connections: Connections,
    /// Held while an HTTP/2 connection is made, so that many requests at once make one and not many.
    connecting: tokio::sync::Mutex<()>,
    /// Failed attempts to connect; who waited for an attempt that failed shares its failure.
    failures: AtomicU64,
    /// Which HTTP version the endpoint speaks: settled by the settings, or by the first ALPN.
    speaks: AtomicUsize,
    /// Event streams, and WebSockets that are passed through, that are open or being opened.
    streams: AtomicUsize,
    stream_guard: Guard,
    message_guard: Guard,
    question_guard: Guard,
    request_guard: Guard,
    /// Requests that are passed on for clients and whose answers are not over.
    requests: AtomicUsize,
    upgrade_guard: Guard,
    health: Mutex<Checked>,
    weight: u32,
    slow_start: Duration,
    /// Stands for the endpoint wherever one is drawn by its name.
    key: u64,
}

/// What the health checks have said.
#[derive(Debug, Default)]
struct Checked {
    health: Health,
    /// When an unhealthy endpoint last became healthy.
    back: Option<Instant>,
}

/// Counts one event stream of an endpoint, or one WebSocket that is passed through, for as long as it is open.
#[derive(Debug)]
pub struct StreamCount(Arc<Pool>);

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one request that is passed on for a client, until its answer is over.
#[derive(Debug)]
pub struct RequestCount(Arc<Pool>);

impl Drop for RequestCount {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

const UNKNOWN: usize = 0;
const HTTP1: usize = 1;
const HTTP2: usize = 2;

impl Pool {
    pub(super) fn new(
        endpoint: Endpoint,
        settings: &Settings,
        tls: Option<Arc<ClientConfig>>,
        resolver: Arc<dyn Resolve>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        use super::settings::Protocol::{Auto, Http1, Http2};
        let speaks = match settings.protocol {
            Http2 => HTTP2,
            Http1 => HTTP1,
            Auto if endpoint.tls => UNKNOWN,
            Auto => HTTP1,
        };
        let name: Arc<str> = endpoint.authority.as_str().into();
        let guard = |traffic| Guard::new(settings.name.clone(), name.clone(), traffic, settings.breaker);
        let default_port = if endpoint.tls { 443 } else { 80 };
        Self {
            upstream: settings.name.clone(),
            stream_guard: guard(Traffic::Streams),
            message_guard: guard(Traffic::Messages),
            question_guard: guard(Traffic::Questions),
            request_guard: guard(Traffic::Requests),
            upgrade_guard: guard(Traffic::Upgrades),
            key: balance::key(&name),
            name,
            addressed: Addressed::to(&endpoint),
            connections: Connections::new(
                settings.max_idle_connections,
                settings.idle_timeout,
                settings.max_streams_per_connection,
            ),
            connecting: tokio::sync::Mutex::default(),
            failures: AtomicU64::new(0),
            speaks: AtomicUsize::new(speaks),
            streams: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            health: Mutex::default(),
            weight: endpoint.weight,
            slow_start: settings.slow_start,
            connector: Connector {
                place: Place::new(endpoint.authority.host(), endpoint.authority.port_u16().unwrap_or(default_port)),
                endpoint,
                resolver,
                protocol: settings.protocol,
                tls,
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

    /// Event streams that are open at this endpoint, or being opened.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Asks for an event stream and waits for the head of the answer. The stream counts from now on, so that the next
    /// choice knows of it, and until the second value is dropped.
    ///
    /// # Errors
    ///
    /// [`SendError`]; one that [is unsent](SendError::is_unsent) leaves the request to another endpoint.
    pub async fn open_events(
        self: &Arc<Self>,
        request: OutgoingRequest,
        deadline: Instant,
    ) -> Result<(Response<Body>, StreamCount), SendError> {
        let permit = self.admit_stream()?;
        let count = self.count_stream();
        let handed_over = AtomicBool::new(false);
        let sent = tokio::time::timeout_at(deadline.into(), self.send(request, Use::Events, &handed_over))
            .await
            .unwrap_or_else(|_| Err(SendError::TimedOut { endpoint: self.name() }));
        permit
            .settle(sent.as_ref().map_or_else(SendError::verdict, |answer| verdict(answer.status(), answer.headers())));
        Ok((sent?, count))
    }

    /// An event stream of this endpoint broke off or stalled. Enough of them in a row, without one that could be opened
    /// in between, and no stream is opened here for a while.
    pub fn stream_failed(&self) {
        self.stream_guard.failed();
    }

    /// Leave to post one message.
    pub(super) fn admit_message(&self) -> Result<Permit<'_>, SendError> {
        self.message_guard.admit().map_err(|wait| self.ejected(wait))
    }

    /// Leave to ask one question.
    pub(super) fn admit_question(&self) -> Result<Permit<'_>, SendError> {
        self.question_guard.admit().map_err(|wait| self.ejected(wait))
    }

    /// Leave to pass one request on.
    pub(super) fn admit_request(&self) -> Result<Permit<'_>, SendError> {
        self.request_guard.admit().map_err(|wait| self.ejected(wait))
    }

    /// Leave to open one event stream.
    pub(super) fn admit_stream(&self) -> Result<Permit<'_>, SendError> {
        self.stream_guard.admit().map_err(|wait| self.ejected(wait))
    }

    /// Leave to ask for one WebSocket.
    pub(super) fn admit_upgrade(&self) -> Result<Permit<'_>, SendError> {
        self.upgrade_guard.admit().map_err(|wait| self.ejected(wait))
    }

    /// Counts a stream that is being opened here until it is dropped.
    pub(super) fn count_stream(self: &Arc<Self>) -> StreamCount {
        self.streams.fetch_add(1, Ordering::Relaxed);
        StreamCount(self.clone())
    }

    /// Counts a request from now on.
    pub(super) fn count_request(self: &Arc<Self>) -> RequestCount {
        self.requests.fetch_add(1, Ordering::Relaxed);
        RequestCount(self.clone())
    }

    fn ejected(&self, wait: Duration) -> SendError {
        SendError::Ejected { endpoint: self.name(), wait }
    }

    /// Closes idle HTTP/1.1 connections whose time is over.
    pub(super) fn close_idle(&self) {
        self.connections.sweep();
    }

    /// Takes back an HTTP/1.1 connection whose answer was read to its end.
    pub(super) fn recycle(&self, sender: http1::SendRequest<RequestBody>, origin: Origin, hint: Option<Duration>) {
        self.connections.recycle(sender, origin, hint);
    }
}
