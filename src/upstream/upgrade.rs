//! A WebSocket to a backend: a connection of its own, never one of the pool, that begins with an HTTP/1.1 handshake and is
//! a plain stream of bytes from the 101 on.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode, response};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use uuid::Uuid;

use super::Upstream;
use super::connect::{ConnectError, Connector};
use super::endpoint::{Pool, StreamCount, verdict};
use super::error::SendError;
use super::guard::Traffic;
use super::open::{Failures, OpenError};
use super::request::OutgoingRequest;

/// Largest head of an answer in bytes; hyper takes no less than 8 KiB.
const MAX_HEAD: usize = 64 * 1024;

/// A refusal whose body is slow is handed on without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The bytes of a WebSocket to a backend, as they come or through TLS. TLS is boxed: its state is more than a kilobyte.
pub type BackendStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// What a backend has answered to a handshake.
#[derive(Debug)]
pub enum UpgradeAnswer {
    /// A 101. Nobody has looked at its fields.
    Switched(Switched),
    /// Anything else.
    Refused {
        /// Host and port of the endpoint.
        endpoint: String,
        /// The status.
        status: StatusCode,
        /// The fields.
        headers: HeaderMap,
        /// The body, if it came in time and is not too large.
        body: Option<Bytes>,
    },
}

/// A backend that has switched protocols.
#[derive(Debug)]
pub struct Switched {
    /// The endpoint that has.
    pub pool: Arc<Pool>,
    /// Head of its answer.
    pub head: response::Parts,
    /// The stream that now begins.
    pub stream: BackendStream,
    /// What came of it with the answer.
    pub already_read: Bytes,
    /// Counts it among the streams of its endpoint until it is dropped.
    pub count: StreamCount,
}

impl Upstream {
    /// Asks for the WebSocket of `connection`, and asks the next endpoint for as long as one has provably not seen the
    /// request. `host` takes the place of the endpoint's own name in `Host`. Of a refusal at most `max_body` bytes are read.
    ///
    /// # Errors
    ///
    /// [`OpenError`], when none answers by `deadline`.
    pub async fn upgrade(
        &self,
        connection: &Uuid,
        request: &OutgoingRequest,
        host: Option<&HeaderValue>,
        deadline: Instant,
        max_body: usize,
    ) -> Result<UpgradeAnswer, OpenError> {
        let mut failures = Failures::default();
        for pool in self.candidates_for(Traffic::Upgrades, connection) {
            match pool.upgrade(request, host, deadline, max_body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    if failures.add(&error) {
                        break;
                    }
                }
            }
        }
        Err(failures.into_error(self.name()))
    }
}

impl Pool {
    async fn upgrade(
        self: &Arc<Self>,
        request: &OutgoingRequest,
        host: Option<&HeaderValue>,
        deadline: Instant,
        max_body: usize,
    ) -> Result<UpgradeAnswer, SendError> {
        let permit = self.admit_upgrade()?;
        // Counted from now on, so that the next choice knows of it.
        let count = self.count_stream();
        let mut sent = self.addressed().http1(request.clone()).map(|_| Empty::new());
        if let Some(host) = host {
            sent.headers_mut().insert(header::HOST, host.clone());
        }
        let exchange = async {
            let stream = self.connector().connect_stream().await?;
            self.shake(stream, sent, max_body).await
        };
        // Boxed: a cold path with a large state.
        let answered = tokio::time::timeout_at(deadline.into(), Box::pin(exchange))
            .await
            .unwrap_or_else(|_| Err(SendError::TimedOut { endpoint: self.name() }));
        permit.settle(match &answered {
            Ok(Shaken::Switched(head, ..)) => verdict(head.status, &head.headers),
            Ok(Shaken::Refused(status, headers, _)) => verdict(*status, headers),
            Err(error) => error.verdict(),
        });
        Ok(match answered? {
            Shaken::Switched(head, stream, already_read) => {
                UpgradeAnswer::Switched(Switched { pool: self.clone(), head, stream, already_read, count })
            }
            Shaken::Refused(status, headers, body) => {
                UpgradeAnswer::Refused { endpoint: self.name(), status, headers, body }
            }
        })
    }

    /// The handshake on a new connection.
    async fn shake(
        &self,
        stream: BackendStream,
        request: Request<Empty<Bytes>>,
        max_body: usize,
    ) -> Result<Shaken, SendError> {
        let broken = |source| SendError::Broken { endpoint: self.name(), source };
        let http_error = |source| ConnectError::Http { endpoint: self.name(), source };
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake::<_, Empty<Bytes>>(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(http_error)?;
        // Driven here, beside what waits for it: no task of its own is needed for one exchange.
        let mut connection = pin!(Driven(Some(connection.with_upgrades())));
        let mut response = connection.as_mut().beside(sender.send_request(request)).await.map_err(broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (head, body) = response.into_parts();
            let body = connection.as_mut().beside(read(body, max_body)).await;
            return Ok(Shaken::Refused(head.status, head.headers, body));
        }
        let upgrade = hyper::upgrade::on(&mut response);
        let upgraded = connection.as_mut().beside(upgrade).await.map_err(broken)?;
        let parts = upgraded.downcast::<TokioIo<BackendStream>>();
        // It is the stream that was given above.
        let parts = parts.map_err(|_| ConnectError::Closed { endpoint: self.name() })?;
        // Copied, however little: even an empty slice keeps the whole buffer of the HTTP library alive.
        let already_read = Bytes::copy_from_slice(&parts.read_buf);
        Ok(Shaken::Switched(response.into_parts().0, parts.io.into_inner(), already_read))
    }
}

/// What came of a handshake.
enum Shaken {
    Switched(response::Parts, BackendStream, Bytes),
    Refused(StatusCode, HeaderMap, Option<Bytes>),
}

/// A body, if it comes in time and has no more than `limit` bytes.
async fn read(body: Incoming, limit: usize) -> Option<Bytes> {
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, limit).collect());
    Some(read.await.ok()?.ok()?.to_bytes())
}

/// The connection that an exchange goes over, until it has ended.
struct Driven<C>(Option<C>);

impl<C: Future + Unpin> Driven<C> {
    /// Waits for something that comes over the connection. How the connection ends is told to whoever waits for it.
    async fn beside<T>(mut self: Pin<&mut Self>, wanted: impl Future<Output = T>) -> T {
        let mut wanted = pin!(wanted);
        std::future::poll_fn(|cx| {
            if let Some(connection) = &mut self.0
                && Pin::new(connection).poll(cx).is_ready()
            {
                self.0 = None;
            }
            wanted.as_mut().poll(cx)
        })
        .await
    }
}

impl Connector {
    /// A connection on which HTTP/1.1 is spoken and nothing else, within the time limit.
    async fn connect_stream(&self) -> Result<BackendStream, ConnectError> {
        tokio::time::timeout(self.timeout, self.connect_stream_unlimited())
            .await
            .unwrap_or_else(|_| Err(ConnectError::TimedOut { endpoint: self.name(), limit: self.timeout }))
    }

    async fn connect_stream_unlimited(&self) -> Result<BackendStream, ConnectError> {
        let tcp_error = |source| ConnectError::Tcp { endpoint: self.name(), source };
        let tcp = self.tcp().await.map_err(tcp_error)?;
        tcp.set_nodelay(true).map_err(tcp_error)?;
        let Some(tls) = self.tls.as_ref().filter(|_| self.endpoint.tls) else { return Ok(Either::Left(tcp)) };
        let name = ServerName::try_from(self.place.host().to_owned())
            .map_err(|_| ConnectError::Name { endpoint: self.name() })?;
        let stream = TlsConnector::from(tls.clone())
            // A WebSocket is asked for over HTTP/1.1, whatever else the endpoint speaks.
            .with_alpn(vec![b"http/1.1".to_vec()])
            .connect(name, tcp)
            .await
            .map_err(|source| ConnectError::Tls { endpoint: self.name(), source })?;
        Ok(Either::Right(Box::new(stream)))
    }
}
