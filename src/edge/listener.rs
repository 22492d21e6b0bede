//! One listener: bind, accept, TLS, HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::http::{Connection, Edge, stack};
use super::proxy_protocol::Arrival;
use super::settings::Listener as Settings;
use super::stream::ClientStream;
use super::strict::Strict;
use super::target::Named;
use super::tls;
use crate::bridge::registry::Handshake;

/// Connections that the kernel holds for us before we accept them; it may hold fewer.
const BACKLOG: u32 = 4096;

/// Pause after an accept that failed for want of a resource: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long an HTTP connection may take to end once the gateway stops: its request is answered at once, so that what is
/// left is a head that does not come or an answer that is not read.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// How often a full listener says so.
const FULL_WARNING_EVERY: Duration = Duration::from_secs(10);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// A bound address that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    slots: Arc<Semaphore>,
    reception: Arc<Reception>,
}

/// What every connection of a listener needs. The socket is not part of it: that must be gone as soon as nobody accepts
/// any more, so that clients are refused and try elsewhere.
#[derive(Debug)]
struct Reception {
    tls: Option<Arc<ServerConfig>>,
    settings: Settings,
}

impl Listener {
    /// Binds; the settings were checked before, so the socket is all that can fail.
    ///
    /// # Errors
    ///
    /// [`BindError`], with the address.
    pub fn bind(settings: Settings) -> Result<Self, BindError> {
        let failed = |source| BindError { address: settings.address, source };
        let socket = if settings.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(failed)?;
        // A restart must not wait for the connections of the process before.
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(settings.address).map_err(failed)?;
        let socket = socket.listen(BACKLOG).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let tls = settings
            .tls
            .clone()
            .map(|certificates| tls::server_config(certificates, settings.clients.clone()))
            .transpose()
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let slots = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
        Ok(Self { socket, address, slots, reception: Arc::new(Reception { tls, settings }) })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until the gateway stops. Every connection gets a task of its own on the edge's tracker.
    pub async fn run(self, edge: Arc<Edge>) {
        let Self { socket, address, slots, reception } = self;
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = edge.stop.shutdown.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_about_one_connection(&error) => continue,
                Err(error) => {
                    warn!(listener = %address, %error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                // Closed at once, so that the client knows; a place in the backlog would be a hang.
                edge.bridges.registry().handshake_refused(Handshake::Full);
                if warned.is_none_or(|at| at.elapsed() >= FULL_WARNING_EVERY) {
                    warned = Some(Instant::now());
                    let limit = reception.settings.max_connections;
                    warn!(listener = %address, limit, "max_connections reached, closing new connections");
                }
                continue;
            };
            let (reception, shared) = (reception.clone(), edge.clone());
            edge.connections.spawn(async move { reception.serve(stream, peer, slot, shared).await });
        }
    }
}

impl Reception {
    async fn serve(&self, mut stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit, edge: Arc<Edge>) {
        // Messages are written whole; waiting for more would only add latency. A failure here shows on the first read.
        let _ = stream.set_nodelay(true);
        // A cold path with a large state: boxed, so that the task of an open connection stays small.
        let shutdown = edge.stop.shutdown.clone();
        let arrived = tokio::select! {
            arrived = Arrival::of(&mut stream, peer, &self.settings) => arrived,
            () = shutdown.cancelled() => return,
        };
        let Arrival { client: peer, via, over_tls } = match arrived {
            Ok(arrival) => arrival,
            Err(error) => {
                edge.bridges.registry().handshake_refused(Handshake::ProxyHeader);
                return debug!(%peer, error = &error as &dyn std::error::Error, "connection refused");
            }
        };
        let stream = tokio::select! {
            shaken = Box::pin(self.handshake(stream)) => match shaken {
                Ok(stream) => stream,
                Err(error) => {
                    edge.bridges.registry().handshake_refused(Handshake::Tls);
                    return debug!(%peer, %error, "TLS handshake failed");
                }
            },
            () = shutdown.cancelled() => return,
        };
        let certificate = stream.certificate().map(Arc::new);
        let (tls, ticket_path) = (self.tls.is_some() || over_tls, self.settings.ticket_path.clone());
        let named = Named::of(&stream, &self.settings);
        let stream = Strict::new(stream, peer, edge.bridges.registry().clone());
        let slot = Arc::new(slot);
        let connection =
            Connection { edge, peer, via, speaks_for_others: false, tls, named, certificate, ticket_path, slot };
        let mut served = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.settings.header_timeout)
                .max_headers(self.settings.max_headers)
                .max_header_size(self.settings.max_header_size)
                .max_buf_size(self.settings.max_header_size)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack(connection)))
                .with_upgrades()
        );
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                match tokio::time::timeout(LAST_ANSWER, served).await {
                    Ok(ended) => ended,
                    Err(_) => return debug!(%peer, "HTTP connection cut at shutdown"),
                }
            }
        };
        if let Err(error) = ended {
            debug!(%peer, error = &error as &dyn std::error::Error, "HTTP connection ended with an error");
        }
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<ClientStream> {
        let Some(tls) = &self.tls else { return Ok(ClientStream::from(stream)) };
        let accept = TlsAcceptor::from(tls.clone()).accept(stream);
        let stream = tokio::time::timeout(self.settings.handshake_timeout, accept)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it took longer than handshake_timeout"))??;
        Ok(ClientStream::Tls(Box::new(stream)))
    }
}

/// A client that was gone before it was accepted is no trouble of the listener's.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
