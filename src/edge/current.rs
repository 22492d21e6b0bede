//! What the edge serves by now, and a client connection that outlives it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use super::http::Edge;
use super::side::Decided;
use super::work::Slot;

/// The edge as the newest configuration makes it. Whoever asks holds what it was given for one request and no longer, so that
/// what a reload has replaced can end.
pub struct Current(ArcSwap<Edge>);

impl Current {
    /// Begins with this one.
    #[must_use]
    pub fn new(edge: Edge) -> Self {
        Self(ArcSwap::from_pointee(edge))
    }

    /// The newest one. Costs a few atomic operations and no lock.
    #[must_use]
    pub fn now(&self) -> Arc<Edge> {
        self.0.load_full()
    }

    /// Requests that come from now on are served by this one; those under way keep theirs.
    pub fn replace(&self, edge: Edge) {
        self.0.store(Arc::new(edge));
    }
}

/// One client connection before it is upgraded: what it keeps from one request to the next.
#[derive(Clone)]
pub(super) struct Client {
    /// Where each request finds its edge.
    pub current: Arc<Current>,
    pub peer: SocketAddr,
    pub tls: bool,
    /// The client's own certificate, which TLS has verified.
    pub certificate: Option<Arc<CertificateDer<'static>>>,
    /// Where its listener gives tickets.
    pub ticket_path: Option<Arc<str>>,
    /// Most header fields in a request.
    pub max_headers: usize,
    /// What holds the connection open and its place taken; a WebSocket keeps it.
    pub slot: Slot,
}

impl Client {
    /// The connection as one request sees it, with the edge as it is now.
    pub(super) fn connection(&self) -> Connection {
        Connection { edge: self.current.now(), decided: None, client: self.clone() }
    }
}

/// A client connection as one request sees it: with the edge that was there when it came.
#[derive(Clone)]
pub(super) struct Connection {
    pub edge: Arc<Edge>,
    /// On a split route, once it is known which side this request takes.
    pub decided: Option<Arc<Decided>>,
    pub client: Client,
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
