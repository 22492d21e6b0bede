//! The listener itself: few connections, short ones, none that could hold the gateway up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::answer::answer;
use super::rights::Rights;
use super::{Settings, Sources};

/// Connections at once: a scraper, a few probes and some people.
const MAX_CONNECTIONS: usize = 64;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// How long a request head may take to arrive, and a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest request head in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How long a connection may last, however busy it is or slowly it reads: nobody can take all the places for good.
const MAX_AGE: Duration = Duration::from_mins(1);

/// How long the answer under way may take when a connection has lasted long enough, or the gateway ends.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Pause after an accept that failed for want of a resource: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin listener shows and to whom, exchanged as a whole while it serves.
#[derive(Debug)]
pub struct Inside(ArcSwap<Seen>);

#[derive(Debug)]
struct Seen {
    rights: Rights,
    sources: Sources,
}

impl Inside {
    /// Shows this, to those whom the settings let see it.
    #[must_use]
    pub fn new(settings: &Settings, sources: Sources) -> Self {
        Self(ArcSwap::from_pointee(Seen { rights: Rights::of(settings), sources }))
    }

    /// From the next request on it is this.
    pub fn replace(&self, settings: &Settings, sources: Sources) {
        self.0.store(Arc::new(Seen { rights: Rights::of(settings), sources }));
    }
}

/// The admin address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for the admin listener")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// A bound admin address that does not accept yet.
#[derive(Debug)]
pub struct Server {
    socket: TcpListener,
    address: SocketAddr,
    slots: Arc<Semaphore>,
}

impl Server {
    /// Binds.
    ///
    /// # Errors
    ///
    /// [`BindError`], with the address.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let failed = |source| BindError { address: settings.address, source };
        let socket = if settings.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(failed)?;
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(settings.address).map_err(failed)?;
        let socket = socket.listen(BACKLOG).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)) })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`; every connection gets a task of its own on `tasks`.
    pub async fn run(self, inside: Arc<Inside>, tasks: TaskTracker, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                        debug!(%peer, limit = MAX_CONNECTIONS, "too many admin connections, closing this one");
                        continue;
                    };
                    let served = serve(stream, peer, inside.clone(), stop.clone());
                    tasks.spawn(async move {
                        served.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!(listener = %self.address, %error, "cannot accept admin connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, inside: Arc<Inside>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        // Each request sees what there is when it comes.
        let seen = inside.0.load_full();
        async move { Ok::<_, std::convert::Infallible>(answer(request, &seen.rights, &seen.sources).await) }
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = end_of(stop) => {
            served.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%peer, error = &error as &dyn std::error::Error, "admin connection ended with an error");
    }
}

/// Resolves when a connection has to end.
async fn end_of(stop: CancellationToken) {
    let _ = tokio::time::timeout(MAX_AGE, stop.cancelled()).await;
}
