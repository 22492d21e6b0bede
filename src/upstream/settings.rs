//! What is known of one upstream before anything is connected.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use rustls::RootCertStore;

/// A named group of endpoints that speak the backend contract.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name in the configuration, for logs and errors.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Which HTTP versions are spoken.
    pub protocol: Protocol,
    /// Who vouches for `https` endpoints; absent when there are none.
    pub roots: Option<Arc<RootCertStore>>,
    /// How long connecting may take: name lookup, TCP, TLS and HTTP/2 preface together.
    pub connect_timeout: Duration,
    /// HTTP/2: most streams put on one connection; fewer if the peer allows fewer.
    pub max_streams_per_connection: usize,
    /// HTTP/1.1: most idle connections kept per endpoint for the next POST.
    pub max_idle_connections: usize,
    /// HTTP/1.1: how long an idle connection is kept.
    pub idle_timeout: Duration,
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host and, where it is not the scheme's own, port.
    pub authority: Authority,
}

/// Which HTTP versions an upstream is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 for `http`; for `https` whatever ALPN settles, HTTP/2 first.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; with prior knowledge for `http`.
    Http2,
}
