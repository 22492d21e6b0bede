//! One listener: bind, accept, TLS, and which HTTP it is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::current::Current;
use super::diagnostic::Diagnostics;
use super::http::Client;
use super::proxy_protocol::Arrival;
use super::serve::http1;
use super::serve_http2::http2;
use super::settings::Listener as Settings;
use super::stream::ClientStream;
use super::target::Named;
use super::tls;
use super::work::{Slot, Work};
use crate::bridge::registry::Handshake;

/// Connections that the kernel holds for us before we accept them; it may hold fewer.
const BACKLOG: u32 = 4096;

/// Pause after an accept that failed for want of a resource: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// Counts the connections that are open: a place of it is taken for each.
    slots: Arc<Semaphore>,
    reception: Arc<ArcSwap<Reception>>,
}

/// What every connection of a listener needs. The socket is not part of it: that must be gone as soon as nobody accepts
/// any more, so that clients are refused and try elsewhere.
#[derive(Debug)]
pub struct Reception {
    tls: Option<Arc<ServerConfig>>,
    settings: Settings,
    diagnostics: Option<Arc<Diagnostics>>,
}

/// Where a listener that serves is given other settings. Connections that are open keep those that they came under.
#[derive(Clone, Debug)]
pub struct Desk(Arc<ArcSwap<Reception>>);

impl Desk {
    /// Looks for what of the present reception can serve on in another one; nothing has changed after it.
    ///
    /// # Errors
    ///
    /// [`BindError`], when the TLS library refuses the settings.
    pub fn prepare(&self, settings: Settings) -> Result<Reception, BindError> {
        Ok(Reception::new(settings)?.succeeding(&self.0.load()))
    }

    /// Connections that are accepted from now on are received like this.
    pub fn replace(&self, reception: Reception) {
        self.0.store(Arc::new(reception));
    }
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
        let reception = Arc::new(ArcSwap::from_pointee(Reception::new(settings)?));
        Ok(Self { socket, address, slots: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), reception })
    }

    /// Where it is given other settings while it serves.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk(self.reception.clone())
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop`. Every connection gets a task of its own on the edge's tracker.
    pub async fn run(self, current: Arc<Current>, stop: CancellationToken) {
        let Self { socket, address, slots, reception } = self;
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = stop.cancelled() => return,
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
            let reception = reception.load_full();
            let limit = reception.settings.max_connections;
            // Nobody else takes places, and a limit that was lowered holds for those who are already in as well.
            let is_full = Semaphore::MAX_PERMITS.saturating_sub(slots.available_permits()) >= limit;
            let slot = if is_full { None } else { slots.clone().try_acquire_owned().ok() };
            let Some(slot) = slot else {
                // Closed at once, so that the client knows; a place in the backlog would be a hang.
                current.now().bridges.registry().handshake_refused(Handshake::Full);
                if warned.is_none_or(|at| at.elapsed() >= FULL_WARNING_EVERY) {
                    warned = Some(Instant::now());
                    warn!(listener = %address, limit, "max_connections reached, closing new connections");
                }
                continue;
            };
            let shared = current.clone();
            let serve = async move { reception.serve(stream, peer, slot, shared).await };
            current.now().connections.spawn(serve);
        }
    }
}

impl Reception {
    fn new(settings: Settings) -> Result<Self, BindError> {
        let refused =
            |error| BindError { address: settings.address, source: io::Error::new(io::ErrorKind::InvalidInput, error) };
        let tls = settings.tls.clone();
        let tls =
            tls.map(|certificates| tls::server_config(certificates, settings.clients.clone(), settings.http2.enabled));
        let tls = tls.transpose().map_err(refused)?;
        let diagnostics = settings.diagnostics.clone().map(Diagnostics::new).map(Arc::new);
        Ok(Self { tls, settings, diagnostics })
    }

    /// The same, with the TLS of the one before if that is no different: its clients can then resume their sessions. Where
    /// client certificates are checked it always is different, because a session that is resumed is not checked again.
    fn succeeding(mut self, before: &Self) -> Self {
        let chains = |settings: &Settings| {
            let keys = settings.tls.iter().flatten();
            keys.map(|key| key.cert.clone()).collect::<Vec<_>>()
        };
        let unchecked = self.settings.clients.is_none() && before.settings.clients.is_none();
        if let (Some(tls), Some(earlier)) = (&self.tls, &before.tls)
            && unchecked
            && chains(&self.settings) == chains(&before.settings)
            && tls.alpn_protocols == earlier.alpn_protocols
        {
            self.tls = Some(earlier.clone());
        }
        self
    }

    async fn serve(&self, mut stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit, current: Arc<Current>) {
        // Messages are written whole; waiting for more would only add latency. A failure here shows on the first read.
        let _ = stream.set_nodelay(true);
        // A cold path with a large state: boxed, so that the task of an open connection stays small.
        let shutdown = current.now().stop.shutdown.clone();
        let arrived = tokio::select! {
            arrived = Arrival::of(&mut stream, peer, &self.settings) => arrived,
            () = shutdown.cancelled() => return,
        };
        let Arrival { client: peer, via, over_tls } = match arrived {
            Ok(arrival) => arrival,
            Err(error) => {
                current.now().bridges.registry().handshake_refused(Handshake::ProxyHeader);
                return debug!(%peer, error = &error as &dyn std::error::Error, "connection refused");
            }
        };
        let mut stream = tokio::select! {
            shaken = Box::pin(self.handshake(stream)) => match shaken {
                Ok(stream) => stream,
                Err(error) => {
                    current.now().bridges.registry().handshake_refused(Handshake::Tls);
                    return debug!(%peer, %error, "TLS handshake failed");
                }
            },
            () = shutdown.cancelled() => return,
        };
        let Some(is_http2) = self.speaks_http2(&mut stream).await else { return };
        let certificate = stream.certificate().map(Arc::new);
        let (named, name) = (Named::of(&stream, &self.settings), if is_http2 { stream.server_name() } else { None });
        let (tls, ticket_path) = (self.tls.is_some() || over_tls, self.settings.ticket_path.clone());
        let work = Work::new(slot, is_http2.then_some(self.settings.http2.max_resets));
        let (slot, max_headers) = (Slot::of(&work), self.settings.max_headers);
        let diagnostics = self.diagnostics.clone();
        let speaks_for_others = false;
        let client = Client {
            current,
            peer,
            via,
            speaks_for_others,
            tls,
            named,
            certificate,
            ticket_path,
            diagnostics,
            max_headers,
            slot,
        };
        if is_http2 {
            // The few connections that it is are not to make all others larger.
            Box::pin(http2(stream, client, work, &self.settings, name)).await;
        } else {
            http1(stream, client, work, &self.settings).await;
        }
    }

    /// Which of the two the client speaks; `None` if it left, or said nothing for as long as a head may take.
    async fn speaks_http2(&self, stream: &mut ClientStream) -> Option<bool> {
        if self.tls.is_some() || !self.settings.http2.prior_knowledge {
            return Some(stream.chose_http2());
        }
        let looked = tokio::time::timeout(self.settings.header_timeout, Box::pin(stream.begins_with_http2()));
        looked.await.ok()?.ok()
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
