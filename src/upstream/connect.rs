//! One new connection to an endpoint: name lookup, TCP, TLS, HTTP.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::resolve::{Place, Resolve};
use super::settings::{Endpoint, Protocol};

/// HTTP/2 flow control per stream: what upstream may send ahead of a client that does not read, and so what such a client
/// costs in memory here. Half of the protocol's default: a thousand stalled clients are 32 MiB. It also bounds the speed of
/// one stream to a window per round trip, 32 MB/s at a millisecond; an event may be larger, it comes in several windows.
const STREAM_WINDOW: u32 = 32 * 1024;

/// HTTP/2 flow control of a whole connection: as much as the protocol allows. The streams' own windows bound what can be
/// buffered; a smaller one would let streams that are not read take the room of others, and half of it is also the budget
/// of small DATA frames, which all streams share and whose end is the end of the connection.
const CONNECTION_WINDOW: u32 = i32::MAX.unsigned_abs();

/// Streams that we have reset and whose late frames are still known for what they are.
const REMEMBERED_RESETS: usize = 1024;

/// A connection on which many clients depend must not be dead for long without anybody noticing.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long the answer to such a PING may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a new HTTP/2 connection is asked whether SETTINGS have come.
const LOOK_FOR_SETTINGS: Duration = Duration::from_millis(1);

/// HTTP/1.1 buffers start small and may grow to this; hyper takes no less than 8 KiB.
const MAX_BUFFER: usize = 64 * 1024;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or nobody accepts there.
    #[error("cannot connect to {endpoint}")]
    Tcp {
        /// Host and port.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS handshake failed; most often the certificate is not trusted.
    #[error("TLS handshake with {endpoint} failed")]
    Tls {
        /// Host and port.
        endpoint: String,
        /// What the TLS library said.
        source: io::Error,
    },
    /// The host is not a name that a certificate could be for.
    #[error("{endpoint} is not a name that a certificate can be checked against")]
    Name {
        /// Host and port.
        endpoint: String,
    },
    /// The HTTP handshake failed.
    #[error("{endpoint} does not speak the HTTP version that is expected of it")]
    Http {
        /// Host and port.
        endpoint: String,
        /// What the HTTP library said.
        source: hyper::Error,
    },
    /// HTTP/2 is asked for and ALPN did not settle it.
    #[error("{endpoint} does not offer HTTP/2 over TLS, which protocol = \"http2\" asks for")]
    Alpn {
        /// Host and port.
        endpoint: String,
    },
    /// It took too long.
    #[error("connecting to {endpoint} took longer than {limit:?}")]
    TimedOut {
        /// Host and port.
        endpoint: String,
        /// The limit.
        limit: Duration,
    },
    /// Every connection was closed before a request could go out on it.
    #[error("{endpoint} closes connections before a request can be sent")]
    Closed {
        /// Host and port.
        endpoint: String,
    },
    /// Another task has just tried and failed.
    #[error("connecting to {endpoint} has just failed for another client")]
    Shared {
        /// Host and port.
        endpoint: String,
    },
}

/// A new connection.
pub(super) struct Connected {
    /// The address at its other end.
    pub address: IpAddr,
    /// What requests are sent with.
    pub http: Http,
}

/// The handle of a new connection; the connection itself is driven by a task of its own.
pub(super) enum Http {
    /// HTTP/1.1: one request at a time.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2: many, up to what the peer allows, which the second field tells.
    Http2(http2::SendRequest<Full<Bytes>>, Arc<AtomicUsize>),
}

/// What is needed to connect to one endpoint.
#[derive(Debug)]
pub(super) struct Connector {
    /// Host and port.
    pub endpoint: Endpoint,
    /// Where that is.
    pub place: Place,
    /// Who knows the addresses of names.
    pub resolver: Arc<dyn Resolve>,
    /// Which HTTP versions are spoken.
    pub protocol: Protocol,
    /// Present for `https` endpoints.
    pub tls: Option<Arc<ClientConfig>>,
    /// Limit for all of it.
    pub timeout: Duration,
    /// Owner of the tasks that drive connections.
    pub tasks: TaskTracker,
    /// Ends those tasks.
    pub stop: CancellationToken,
}

/// TLS settings for one upstream.
pub(super) fn client_config(roots: Arc<RootCertStore>, protocol: Protocol) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (h2, http1) = (b"h2".to_vec(), b"http/1.1".to_vec());
    config.alpn_protocols = match protocol {
        Protocol::Auto => vec![h2, http1],
        Protocol::Http1 => vec![http1],
        Protocol::Http2 => vec![h2],
    };
    Ok(Arc::new(config))
}

impl Connector {
    /// Host and port, for people.
    pub(super) fn name(&self) -> String {
        self.endpoint.authority.to_string()
    }

    /// Connects, within the time limit.
    pub(super) async fn connect(&self) -> Result<Connected, ConnectError> {
        tokio::time::timeout(self.timeout, self.connect_unlimited())
            .await
            .unwrap_or_else(|_| Err(ConnectError::TimedOut { endpoint: self.name(), limit: self.timeout }))
    }

    async fn connect_unlimited(&self) -> Result<Connected, ConnectError> {
        let tcp_error = |source| ConnectError::Tcp { endpoint: self.name(), source };
        let tcp = self.tcp().await.map_err(tcp_error)?;
        tcp.set_nodelay(true).map_err(tcp_error)?;
        let address = tcp.peer_addr().map_err(tcp_error)?.ip();
        let http = self.tls_and_http(tcp).await?;
        Ok(Connected { address, http })
    }

    /// A connection to the first address that accepts one. Each has an equal part of the time that is left, so that one
    /// that swallows packets does not keep the others from being tried.
    pub(super) async fn tcp(&self) -> io::Result<TcpStream> {
        let end = Instant::now() + self.timeout;
        let addresses = self.place.next_addresses(&*self.resolver).await?;
        let mut failure = io::ErrorKind::NotFound.into();
        for (left, address) in (1..=addresses.len()).rev().zip(addresses) {
            let share = end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            failure = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
            };
        }
        Err(failure)
    }

    async fn tls_and_http(&self, tcp: TcpStream) -> Result<Http, ConnectError> {
        let Some(tls) = self.tls.as_ref().filter(|_| self.endpoint.tls) else {
            return self.handshake(tcp, self.protocol == Protocol::Http2).await;
        };
        let name = ServerName::try_from(self.place.host().to_owned())
            .map_err(|_| ConnectError::Name { endpoint: self.name() })?;
        let stream = TlsConnector::from(tls.clone())
            .connect(name, tcp)
            .await
            .map_err(|source| ConnectError::Tls { endpoint: self.name(), source })?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if self.protocol == Protocol::Http2 && !h2 {
            return Err(ConnectError::Alpn { endpoint: self.name() });
        }
        self.handshake(Box::new(stream), h2).await
    }

    async fn handshake<S>(&self, stream: S, h2: bool) -> Result<Http, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let http_error = |source| ConnectError::Http { endpoint: self.name(), source };
        if h2 { self.handshake_http2(stream).await } else { self.handshake_http1(stream).await }.map_err(http_error)
    }

    async fn handshake_http1<S>(&self, stream: S) -> Result<Http, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            // How it ends is told to whoever waits for an answer on it.
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Http::Http1(sender))
    }

    async fn handshake_http2<S>(&self, stream: S) -> Result<Http, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, mut connection) =
            http2::Builder::new(Executor { tasks: self.tasks.clone(), stop: self.stop.clone() })
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_max_send_streams(0)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                // Every client that leaves is a stream that we reset, and a frame that was on its way is no error of the
                // peer's. The library counts such frames over the whole life of a connection, and would end it at 1024.
                .max_local_error_reset_streams(None)
                .max_concurrent_reset_streams(REMEMBERED_RESETS)
                .handshake(TokioIo::new(stream))
                .await?;
        // How many streams the peer allows stands in its SETTINGS, and a stream above that would hold up every request
        // behind it. Nothing wakes us for SETTINGS, so we look; the time limit of connecting ends this too.
        while connection.current_max_send_streams() == 0 {
            let polled = std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut connection).poll(cx))).await;
            if let Poll::Ready(ended) = polled {
                ended?;
                break;
            }
            tokio::time::sleep(LOOK_FOR_SETTINGS).await;
        }
        let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let (stop, tell) = (self.stop.clone(), allowed.clone());
        self.tasks.spawn(async move {
            let driven = std::future::poll_fn(|cx| {
                let polled = std::pin::Pin::new(&mut connection).poll(cx);
                tell.store(connection.current_max_send_streams(), Ordering::Relaxed);
                if polled.is_ready() { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::select! {
                () = driven => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Http::Http2(sender, allowed))
    }
}

/// Lets hyper put the helper tasks of an HTTP/2 connection where they have an owner.
#[derive(Clone)]
struct Executor {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = task => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
