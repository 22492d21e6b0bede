//! What the edge serves by now, and a client connection that outlives it.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;

use super::diagnostic::Diagnostics;
use super::http::Edge;
use super::target::Named;
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
    /// The client, as far as it is known; port 0 if only its address is.
    pub peer: SocketAddr,
    /// The trusted proxy or balancer that speaks for it.
    pub via: Option<SocketAddr>,
    /// Whether the request comes from a trusted proxy, which has connections for many hosts.
    pub speaks_for_others: bool,
    /// Whether the client came over TLS.
    pub tls: bool,
    /// For which host it has opened its TLS connection; `None` where that is not checked.
    pub named: Option<Named>,
    /// The client's own certificate, which TLS has verified.
    pub certificate: Option<Arc<CertificateDer<'static>>>,
    /// Where its listener gives tickets.
    pub ticket_path: Option<Arc<str>>,
    /// Where its listener is asked by a doctor.
    pub diagnostics: Option<Arc<Diagnostics>>,
    /// Most header fields in a request.
    pub max_headers: usize,
    /// What holds the connection open and its place taken; a WebSocket keeps it.
    pub slot: Slot,
}

impl Client {
    /// The connection as one request sees it, with the edge as it is now.
    pub(super) fn connection(&self) -> Connection {
        Connection { edge: self.current.now(), client: self.clone() }
    }
}

/// A client connection as one request sees it: with the edge that was there when it came.
#[derive(Clone)]
pub(super) struct Connection {
    pub edge: Arc<Edge>,
    pub client: Client,
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// For what one request says of its client and the next need not.
impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
