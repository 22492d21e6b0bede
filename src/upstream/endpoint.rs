//! One endpoint: how a request finds a connection, and whether the endpoint is to be used at all.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::balance::{self, View};
use super::body::{Body, Lease};
use super::connect::{ConnectError, Connected, Connector, Http};
use super::connections::{Connections, Origin, StreamSlot, Use};
use super::error::{SendError, is_unprocessed};
use super::guard::{Guard, Permit, Traffic, Verdict};
use super::health::{Health, HealthRule, HealthState};
use super::lock;
use super::request::{Addressed, OutgoingRequest, take_back};
use super::resolve::{Place, Resolve};
use super::settings::{Endpoint, Settings};
use super::snapshot::EndpointSnapshot;
use crate::protocol::headers;

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

enum Ready {
    Http1(http1::SendRequest<Full<Bytes>>, Origin),
    Http2 {
        sender: http2::SendRequest<Full<Bytes>>,
        slot: StreamSlot,
        /// The connection was there already.
        shared: bool,
    },
}

/// Counts one event stream of an endpoint, or one WebSocket that is passed through, for as long as it is open.
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
        let permit = self.stream_guard.admit().map_err(|wait| self.ejected(wait))?;
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

    /// Leave to ask for one WebSocket.
    pub(super) fn admit_upgrade(&self) -> Result<Permit<'_>, SendError> {
        self.upgrade_guard.admit().map_err(|wait| self.ejected(wait))
    }

    /// Counts a stream that is being opened here until it is dropped.
    pub(super) fn count_stream(self: &Arc<Self>) -> StreamCount {
        self.streams.fetch_add(1, Ordering::Relaxed);
        StreamCount(self.clone())
    }

    fn ejected(&self, wait: Duration) -> SendError {
        SendError::Ejected { endpoint: self.name(), wait }
    }

    /// Sends `request` on a connection of this endpoint, a new one if need be, and waits for the head of the answer.
    ///
    /// A request that meets a connection which upstream has just closed, and which provably did not go out on it, goes
    /// out on another one. So does the request for an event stream that an HTTP/2 peer has given back unprocessed; of a
    /// POST no copy is kept, and it is for the rule on repeating to send it again. `handed_over` tells whoever gives this up
    /// whether a connection has the request.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: OutgoingRequest,
        purpose: Use,
        handed_over: &AtomicBool,
    ) -> Result<Response<Body>, SendError> {
        let copy = (purpose == Use::Events).then(|| request.clone());
        let mut request = request;
        let mut attempt = 1;
        while attempt <= ATTEMPTS {
            let ready = self.ready(purpose, attempt).await?;
            handed_over.store(true, Ordering::Relaxed);
            let (outcome, lease, shared) = match ready {
                Ready::Http1(mut sender, origin) => {
                    let sent = sender.try_send_request(self.addressed.http1(request)).await;
                    (sent, Lease::Http1 { sender, pool: self.clone(), origin }, false)
                }
                Ready::Http2 { mut sender, slot, shared } => {
                    let sent = sender.try_send_request(self.addressed.http2(request)).await;
                    (sent, Lease::Http2(slot), shared)
                }
            };
            let mut refused = match outcome {
                Ok(response) => {
                    let keep = keep_alive_hint(response.headers());
                    return Ok(response.map(|body| Body::new(body, lease, keep)));
                }
                Err(refused) => refused,
            };
            let unsent = refused.take_message();
            if unsent.is_none() && !is_unprocessed(refused.error()) {
                return Err(SendError::Broken { endpoint: self.name(), source: refused.into_error() });
            }
            handed_over.store(false, Ordering::Relaxed);
            // Closed, or about to be: no request goes there any more. There are only so many of those, so that meeting
            // one is no attempt yet.
            if let Lease::Http2(slot) = &lease {
                self.connections.retire(slot);
            }
            attempt += usize::from(!shared);
            request = match (unsent, &copy) {
                (Some(unsent), _) => take_back(unsent),
                (None, Some(copy)) => copy.clone(),
                (None, None) => {
                    return Err(SendError::Unprocessed { endpoint: self.name(), source: refused.into_error() });
                }
            };
        }
        Err(ConnectError::Closed { endpoint: self.name() }.into())
    }

    /// Closes idle HTTP/1.1 connections whose time is over.
    pub(super) fn close_idle(&self) {
        self.connections.sweep();
    }

    /// Takes back an HTTP/1.1 connection whose answer was read to its end.
    pub(super) fn recycle(&self, sender: http1::SendRequest<Full<Bytes>>, origin: Origin, hint: Option<Duration>) {
        self.connections.recycle(sender, origin, hint);
    }

    async fn ready(&self, purpose: Use, attempt: usize) -> Result<Ready, ConnectError> {
        match self.speaks.load(Ordering::Relaxed) {
            // The last attempt does not trust a connection that was idle: it may have met others of the same age.
            HTTP1 if attempt == ATTEMPTS => self.connect_now().await,
            HTTP1 => self.ready_http1().await,
            HTTP2 => self.ready_http2(purpose).await,
            _ => self.connect_first(purpose).await,
        }
    }

    async fn ready_http1(&self) -> Result<Ready, ConnectError> {
        while let Some((mut sender, origin)) = self.connections.take_idle() {
            // Most often it is ready, and then no timer is needed.
            let ready =
                sender.is_ready() || matches!(tokio::time::timeout(READY_AGAIN, sender.ready()).await, Ok(Ok(())));
            if ready {
                return Ok(Ready::Http1(sender, origin));
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

    fn place(&self, purpose: Use) -> Option<Ready> {
        let (sender, slot) = self.connections.place(purpose)?;
        Some(Ready::Http2 { sender, slot, shared: true })
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
        let epoch = self.connections.epoch();
        match Box::pin(self.connector.connect()).await {
            Ok(Connected { address, http: Http::Http1(sender) }) => {
                self.speaks.store(HTTP1, Ordering::Relaxed);
                Ok(Ready::Http1(sender, Origin { address, epoch }))
            }
            Ok(Connected { address, http: Http::Http2(sender, allowed) }) => {
                self.speaks.store(HTTP2, Ordering::Relaxed);
                let (sender, slot) = self.connections.add_http2(sender, allowed, address);
                Ok(Ready::Http2 { sender, slot, shared: false })
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }
}

/// The endpoint as a choice, under checks, and as operators see it.
impl Pool {
    pub(super) fn view(&self, now: Instant) -> View {
        self.view_through(&self.stream_guard, now)
    }

    /// As a choice for a WebSocket that is passed through.
    pub(super) fn view_for_upgrade(&self, now: Instant) -> View {
        self.view_through(&self.upgrade_guard, now)
    }

    fn view_through(&self, guard: &Guard, now: Instant) -> View {
        let breaker = guard.standing(now);
        let checked = lock(&self.health);
        View {
            key: self.key,
            weight: balance::ramp(self.weight, breaker.back.max(checked.back), now, self.slow_start),
            streams: u32::try_from(self.open_streams()).unwrap_or(u32::MAX),
            healthy: checked.health.state() != HealthState::Unhealthy,
            admits: breaker.admits,
        }
    }

    pub(super) fn snapshot(&self, now: Instant) -> EndpointSnapshot {
        let (http2_connections, idle_connections) = self.connections.counts();
        EndpointSnapshot {
            name: self.name.clone(),
            weight: self.weight,
            streams: self.open_streams(),
            http2_connections,
            idle_connections,
            health: lock(&self.health).health.state(),
            streams_breaker: self.stream_guard.standing(now).state,
            messages_breaker: self.message_guard.standing(now).state,
            questions_breaker: self.question_guard.standing(now).state,
            upgrades_breaker: self.upgrade_guard.standing(now).state,
        }
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(super) fn addressed(&self) -> &Addressed {
        &self.addressed
    }

    /// Takes in the result of a health check.
    pub(super) fn checked(&self, result: &Result<(), String>, rule: &HealthRule) {
        let change = {
            let mut checked = lock(&self.health);
            let before = checked.health.state();
            let change = checked.health.record(result.is_ok(), rule);
            if (before, change) == (HealthState::Unhealthy, Some(HealthState::Healthy)) {
                checked.back = Some(Instant::now());
            }
            change
        };
        let (upstream, endpoint) = (&*self.upstream, &*self.name);
        let reason = result.as_ref().err();
        match change {
            Some(HealthState::Unhealthy) => warn!(upstream, endpoint, reason, "an endpoint is unhealthy"),
            Some(_) => info!(upstream, endpoint, reason = "its health checks succeed", "an endpoint is healthy"),
            None if result.is_err() => debug!(upstream, endpoint, reason, "a health check failed"),
            None => {}
        }
    }

    /// Whether the endpoint is a name, whose addresses can change.
    pub(super) fn is_name(&self) -> bool {
        self.connector.place.is_name()
    }

    /// Looks the endpoint's name up again. A look-up that fails changes nothing: the connections are still there.
    pub(super) async fn resolve(&self) {
        let Connector { place, resolver, timeout, .. } = &self.connector;
        let (upstream, endpoint) = (&*self.upstream, &*self.name);
        match tokio::time::timeout(*timeout, place.addresses(&**resolver)).await {
            Ok(Ok(addresses)) => {
                let addresses: Vec<IpAddr> = addresses.into_iter().map(|address| address.ip()).collect();
                let gone = self.connections.keep_only(&addresses);
                if !gone.is_empty() {
                    info!(upstream, endpoint, ?gone, "addresses of an endpoint are gone");
                }
            }
            Ok(Err(error)) => debug!(upstream, endpoint, %error, "an endpoint's name could not be looked up"),
            Err(_) => debug!(upstream, endpoint, "looking up an endpoint's name took too long"),
        }
    }
}

/// What an answer says of the endpoint. An application that refuses is one that works; what stands in front of one that
/// does not answers 502, 503 or 504. `Retry-After` is only sent by who knows what it is doing.
pub(super) fn verdict(status: StatusCode, fields: &HeaderMap) -> Verdict {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Verdict::Bad,
        StatusCode::SERVICE_UNAVAILABLE if headers::retry_after(fields, SystemTime::now()).is_none() => Verdict::Bad,
        _ => Verdict::Good,
    }
}

/// How long upstream says that it keeps an idle connection, less a second: a POST must not meet the closing.
fn keep_alive_hint(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds: u64 = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?.parse().ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answers_of_a_backend_that_is_not_there_are_failures() {
        let fields = |retry: Option<&'static str>| {
            retry.map(|value| (http::header::RETRY_AFTER, http::HeaderValue::from_static(value))).into_iter().collect()
        };
        let of = |status, retry| verdict(StatusCode::from_u16(status).unwrap(), &fields(retry));
        for status in [200, 204, 401, 404, 429, 500] {
            assert_eq!(of(status, None), Verdict::Good, "{status}");
        }
        for status in [502, 503, 504] {
            assert_eq!(of(status, None), Verdict::Bad, "{status}");
        }
        assert_eq!(of(503, Some("1")), Verdict::Good);
        assert_eq!(of(502, Some("1")), Verdict::Bad);
    }
}
