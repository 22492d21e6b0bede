//! What is known of one upstream before anything is connected.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use rustls::RootCertStore;

pub use super::balance::Balance;
pub use super::breaker::BreakerRule;
pub use super::health::{HealthKind, HealthRule};

/// A named group of endpoints that speak the backend contract.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name in the configuration, for logs and errors.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// How new event streams are spread over them.
    pub balance: Balance,
    /// How long the weight of an endpoint that comes back grows to the whole; zero: it is whole at once.
    pub slow_start: Duration,
    /// When an endpoint that fails is left alone; event streams and messages each have a breaker of their own.
    pub breaker: BreakerRule,
    /// How endpoints are checked; `None`: they are not.
    pub health: Option<HealthRule>,
    /// How often the addresses of names are looked up again.
    pub resolve_interval: Duration,
    /// Most event streams opened again in any second, by all connections together.
    pub reopen_rate: NonZeroU32,
    /// Most event streams that are being opened again at once.
    pub reopen_concurrency: usize,
    /// Most messages posted again in any second, by all connections together.
    pub retry_rate: NonZeroU32,
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

/// Whether an upstream by one of them is as good as one by the other.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        // Named one by one, so that a new one cannot be forgotten.
        let Self {
            name,
            endpoints,
            balance,
            slow_start,
            breaker,
            health,
            resolve_interval,
            reopen_rate,
            reopen_concurrency,
            retry_rate,
            protocol,
            roots,
            connect_timeout,
            max_streams_per_connection,
            max_idle_connections,
            idle_timeout,
        } = self;
        let anchors = |roots: &Option<Arc<RootCertStore>>| roots.as_ref().map(|roots| roots.roots.clone());
        (name, endpoints, balance, slow_start) == (&other.name, &other.endpoints, &other.balance, &other.slow_start)
            && (breaker, health, resolve_interval) == (&other.breaker, &other.health, &other.resolve_interval)
            && (reopen_rate, reopen_concurrency) == (&other.reopen_rate, &other.reopen_concurrency)
            && (retry_rate, protocol) == (&other.retry_rate, &other.protocol)
            && (connect_timeout, idle_timeout) == (&other.connect_timeout, &other.idle_timeout)
            && *max_streams_per_connection == other.max_streams_per_connection
            && *max_idle_connections == other.max_idle_connections
            && anchors(roots) == anchors(&other.roots)
    }
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host and, where it is not the scheme's own, port.
    pub authority: Authority,
    /// Its share of the event streams, from 1 to 1000.
    pub weight: u32,
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
