//! How a request finds a connection of its endpoint, and goes out on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Response;
use http::header::HeaderMap;
use hyper::client::conn::{http1, http2};

use super::super::body::{Body, Lease};
use super::super::connect::{ConnectError, Connected, Http};
use super::super::connections::{Origin, StreamSlot, Use};
use super::super::error::{SendError, is_unprocessed};
use super::super::request::{OutgoingRequest, RequestBody};
use super::{HTTP1, HTTP2, Pool, UNKNOWN};

enum Ready {
    Http1(http1::SendRequest<RequestBody>, Origin),
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        slot: StreamSlot,
        /// The connection was there already.
        shared: bool,
    },
}

/// How often a request that provably did not go out is given another connection. An endpoint that accepts and closes at
/// once would otherwise be connected to in a loop.
const ATTEMPTS: usize = 3;

/// How long a connection that was given back may take to be ready. One whose last request is still being sent, because
/// upstream answered before it had read all of it, may never be.
const READY_AGAIN: Duration = Duration::from_millis(50);

impl Pool {
    /// Sends `request` on a connection of this endpoint, a new one if need be, and waits for the head of the answer.
    ///
    /// A request that meets a connection which upstream has just closed, and which provably did not go out on it, goes
    /// out on another one. So does one without a body, or with a whole one, that an HTTP/2 peer has given back unprocessed; of a
    /// message no copy is kept, and it is for the rule on repeating to send it again. `handed_over` tells whoever gives this up
    /// whether a connection has the request.
    pub(in crate::upstream) async fn send(
        self: &Arc<Self>,
        request: impl Into<OutgoingRequest<RequestBody>>,
        purpose: Use,
        handed_over: &AtomicBool,
    ) -> Result<Response<Body>, SendError> {
        let mut request = request.into();
        let copy = if purpose == Use::Message { None } else { request.copy() };
        let mut attempt = 1;
        while attempt <= ATTEMPTS {
            let ready = self.ready(purpose, attempt).await?;
            handed_over.store(true, Ordering::Relaxed);
            let upload = request.body.watch();
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
                    return Ok(response.map(|body| Body::new(body, lease, keep, upload)));
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
            let copy = copy.as_ref().and_then(OutgoingRequest::copy);
            request = match (unsent, copy) {
                (Some(unsent), _) => self.addressed.take_back(unsent),
                (None, Some(copy)) => copy,
                (None, None) => {
                    return Err(SendError::Unprocessed { endpoint: self.name(), source: refused.into_error() });
                }
            };
        }
        Err(ConnectError::Closed { endpoint: self.name() }.into())
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

/// How long upstream says that it keeps an idle connection, less a second: a POST must not meet the closing.
fn keep_alive_hint(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds: u64 = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?.parse().ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}
