//! The composition root: the only file that knows every part. It builds them, owns their tasks, and ends them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::bridge::{Bridges, Stop};
use crate::config::Config;
use crate::edge::listener::{BindError, Listener};
use crate::edge::routes::RouteTable;
use crate::edge::{Edge, Fallback};
use crate::upstream::Upstream;

/// How long connections that are cut may take to say so in the log.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TLS library refuses an upstream's settings.
    #[error("TLS settings for upstream {upstream} cannot be used")]
    Tls {
        /// Its name.
        upstream: Arc<str>,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// Two routes take the same requests, which the configuration rules out.
    #[error("two routes overlap")]
    Overlap,
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    listeners: TaskTracker,
    connections: TaskTracker,
    upstream: TaskTracker,
    /// Tells listeners and connections to end.
    stop: Stop,
    /// Ends upstream connections, once nobody needs them.
    disconnect: CancellationToken,
    drain_timeout: Duration,
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Client connections that were still open at the deadline, and were cut.
    pub cut: usize,
}

impl Gateway {
    /// Binds all listeners and begins to serve. Needs a tokio runtime. `fallback` answers requests that no route takes.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running then.
    pub fn start(config: Config, fallback: Option<Fallback>) -> Result<Self, StartError> {
        let gateway = Self {
            addresses: Vec::new(),
            listeners: TaskTracker::new(),
            connections: TaskTracker::new(),
            upstream: TaskTracker::new(),
            stop: Stop::default(),
            disconnect: CancellationToken::new(),
            drain_timeout: config.server.drain_timeout,
        };
        let upstreams = config
            .upstreams
            .iter()
            .map(|settings| {
                Upstream::new(settings, &gateway.upstream, &gateway.disconnect)
                    .map(Arc::new)
                    .map_err(|source| StartError::Tls { upstream: settings.name.clone(), source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        // All are bound before one serves: a gateway that cannot start has not begun to.
        let listeners = config.listeners.into_iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        let edge = Arc::new(Edge {
            routes: RouteTable::build(config.routes).map_err(|_| StartError::Overlap)?,
            bridges: Bridges::new(upstreams.iter().cloned()),
            fallback,
            connections: gateway.connections.clone(),
            stop: gateway.stop.clone(),
        });
        upstreams.iter().for_each(Upstream::maintain);
        let addresses = listeners.iter().map(Listener::address).collect();
        for listener in listeners {
            info!(address = %listener.address(), "listening");
            gateway.listeners.spawn(listener.run(edge.clone()));
        }
        Ok(Self { addresses, ..gateway })
    }

    /// Where it listens, in the order of the configuration, with real ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops: no new connections, a close frame to every client, and, once they are gone or the deadline has passed, an
    /// end to all connections upstream.
    pub async fn stop(self) -> Drained {
        // Counted first: some are gone as soon as they are asked.
        let open = self.connections.len();
        self.stop.shutdown.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        info!(open, deadline_ms = u64::try_from(self.drain_timeout.as_millis()).unwrap_or(u64::MAX), "stopping");
        self.connections.close();
        let _ = tokio::time::timeout(self.drain_timeout, self.connections.wait()).await;
        let cut = self.connections.len();
        if cut > 0 {
            warn!(cut, "the deadline has passed, cutting the connections that are left");
            self.stop.cut.cancel();
            // Time to write their last line, and no more: what does not end now, ends with the process.
            let _ = tokio::time::timeout(LAST_LINE, self.connections.wait()).await;
        }
        self.disconnect.cancel();
        self.upstream.close();
        // Nothing there waits for anybody once it is told to end.
        self.upstream.wait().await;
        info!(cut, "stopped");
        Drained { cut }
    }
}
