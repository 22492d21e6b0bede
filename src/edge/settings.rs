//! What the edge is told: listeners and routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;

use super::hosts::HostPattern;
use super::origin::OriginPattern;
use crate::access::limits::RouteLimits;
use crate::bridge;

/// One address on which clients are served.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// Certificates, the first of which answers clients that name no host or an unknown one; `None` is plain HTTP.
    pub tls: Option<Vec<Arc<CertifiedKey>>>,
    /// Most client connections at once; further ones are closed as soon as they are accepted.
    pub max_connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a request head may take to arrive; also how long a connection may stay idle between two requests.
    pub header_timeout: Duration,
    /// Largest request head in bytes; 8 KiB is the least.
    pub max_header_size: usize,
    /// Most header fields in a request.
    pub max_headers: usize,
}

/// What matches a request, and where it goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// Host that the request must name; `None` takes any.
    pub host: Option<HostPattern>,
    /// Path pattern: `{name}` captures one segment, `{*name}` at the end captures the rest.
    pub path: Arc<str>,
    /// Origins let in besides the same origin.
    pub origins: Vec<OriginPattern>,
    /// Who is let in.
    pub auth: Auth,
    /// How many are let in at once.
    pub limits: RouteLimits,
    /// What it is bridged to.
    pub bridge: Arc<bridge::Settings>,
}

/// How a route proves who its client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// It does not: anybody is let in.
    None,
}
