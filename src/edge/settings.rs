//! What the edge is told: listeners and routes.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use super::diagnostic;
use super::hosts::HostPattern;
use super::origin::{Origin, OriginPattern};
use super::proxy_protocol::Balancers;
use super::split::Split;
use crate::access::limits::RouteLimits;
use crate::identity::Way;
use crate::ledger::phase::Sunset;
use crate::{bridge, proxy, tunnel};

/// One address on which clients are served.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// Certificates, the first of which answers clients that name no host or an unknown one; `None` is plain HTTP.
    pub tls: Option<Vec<Arc<CertifiedKey>>>,
    /// What checks the certificates of clients; `None`: they are not asked for any.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Most client connections at once; further ones are closed as soon as they are accepted.
    pub max_connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a request head may take to arrive; also how long a connection may stay idle between two requests.
    pub header_timeout: Duration,
    /// How long a client may take nothing of what it is sent. WebSockets have limits of their own.
    pub write_timeout: Duration,
    /// Largest request head in bytes; 8 KiB is the least.
    pub max_header_size: usize,
    /// Most header fields in a request.
    pub max_headers: usize,
    /// Who puts the PROXY protocol in front of its connections; `None`: nobody does.
    pub balancers: Option<Balancers>,
    /// Whether requests are refused whose host the connection's certificate is not for.
    pub misdirected: Misdirected,
    /// Where tickets are issued, if there are any; `None` is nowhere.
    pub ticket_path: Option<Arc<str>>,
    /// Where `tidegate doctor` asks; `None` is nowhere.
    pub diagnostics: Option<diagnostic::Settings>,
    /// HTTP/2.
    pub http2: Http2,
}

/// HTTP/2 on a listener.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Whether clients may choose it in TLS.
    pub enabled: bool,
    /// Whether clients without TLS may begin with it (RFC 9113 section 3.3).
    pub prior_knowledge: bool,
    /// Most streams at once on a connection, WebSockets included.
    pub max_streams: u32,
    /// Most requests in a minute that a connection takes back before they are answered, beyond as many as were answered.
    pub max_resets: NonZeroU32,
    /// Bytes of one request or WebSocket that may come before somebody takes them.
    pub stream_window: u32,
    /// Bytes of all requests of a connection that may come before somebody takes them.
    pub connection_window: u32,
    /// How long a connection may stay open with nothing under way, after its first request.
    pub idle_timeout: Duration,
    /// How long nothing may come of a client before it is sent a ping.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            enabled: true,
            prior_knowledge: false,
            max_streams: 100,
            max_resets: NonZeroU32::MIN.saturating_add(199),
            stream_window: 128 * 1024,
            connection_window: 2 * 1024 * 1024,
            idle_timeout: Duration::from_mins(1),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// What becomes of requests for a host that their TLS connection was not opened for, and its certificate is not for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misdirected {
    /// They are refused (RFC 9110 section 15.5.20).
    #[default]
    Refuse,
    /// They go where their host says.
    Allow,
}

/// What matches a request, and where it goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// What it is called in tickets and by those who ask for one.
    pub name: Arc<str>,
    /// Host that the request must name; `None` takes any.
    pub host: Option<HostPattern>,
    /// Path pattern: `{name}` captures one segment, `{*name}` at the end captures the rest.
    pub path: Arc<str>,
    /// Origins let in besides the same origin.
    pub origins: Vec<OriginPattern>,
    /// Whether those are let in that name no origin.
    pub missing_origin: MissingOrigin,
    /// Whether WebSockets may come over HTTP/2 (RFC 8441), several on one connection.
    pub websocket_over_http2: bool,
    /// Who is let in.
    pub auth: Auth,
    /// How many are let in at once.
    pub limits: RouteLimits,
    /// What WebSockets are bridged to. A route has this, `legacy` or `proxy`, or several of them.
    pub bridge: Option<Arc<bridge::Settings>>,
    /// The WebSocket backend that WebSockets are passed through to.
    pub legacy: Option<Arc<tunnel::Settings>>,
    /// Which of the two a WebSocket takes, where there is a bridge and a backend to pass it through to.
    pub split: Option<Arc<Split>>,
    /// Where everything else goes.
    pub proxy: Option<Arc<proxy::Settings>>,
    /// What is said of the end of WebSocket on it; `None`: nothing, and everybody is served.
    pub sunset: Option<Arc<Sunset>>,
}

impl Route {
    /// Whether it takes requests for this host, as [`host_of`](super::hosts::host_of) gives it.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        self.host.as_ref().is_none_or(|pattern| pattern.matches(host))
    }

    /// Whether it lets pages of this origin in besides those of its own.
    #[must_use]
    pub fn lists(&self, origin: &Origin) -> bool {
        self.origins.iter().any(|pattern| pattern.matches(origin))
    }
}

/// How a route proves who its client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// It does not: anybody is let in.
    None,
    /// In one of these ways, asked in this order; at least one, none of them twice.
    OneOf(Vec<Way>),
}

impl Auth {
    /// Whether clients may prove themselves in this way.
    #[must_use]
    pub fn takes(&self, way: Way) -> bool {
        match self {
            Self::None => false,
            Self::OneOf(ways) => ways.contains(&way),
        }
    }
}

/// What becomes of clients that are not browsers, and therefore name no origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingOrigin {
    /// They are let in if they prove who they are.
    #[default]
    Allow,
    /// They are refused.
    Refuse,
}
