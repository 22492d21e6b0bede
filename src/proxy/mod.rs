//! The reverse proxy: everything that is no WebSocket, streamed to an upstream and back.
//!
//! `request` and `response` are the rules for heads, pure. `forward` passes a request on, `answer` is the answer's body on its
//! way to the client, `stream` makes event streams of those that are. `registry` counts.

pub mod answer;
mod forward;
pub mod registry;
mod request;
mod response;
mod settings;
pub mod stream;
mod trailers;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::combinators::UnsyncBoxBody;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use forward::{Prepared, forward};
pub use settings::{Cors, Edits, Settings};

use crate::identity::signer::Signer;
use crate::identity::{Holder, Identity};
use crate::upstream::Upstream;
use registry::{Counters, Registry};
use stream::Streams;

/// A body on its way, in either direction. One that fails ends so that its reader can tell: by a reset, or a close.
pub type Body = UnsyncBoxBody<Bytes, tower::BoxError>;

/// What is held for the life of an answer, for its drop alone: the client's place on the route.
pub type Held = Box<dyn Any + Send>;

/// A request that was let in.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// By which the log knows it.
    pub id: Uuid,
    /// Its head as it came.
    pub head: &'a Parts,
    /// What the route's path captured, raw.
    pub captures: &'a [(&'a str, &'a str)],
    /// The host that it is for, as it stands there.
    pub host: &'a str,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Who asks, where that has to be proven.
    pub identity: Option<&'a Identity>,
}

/// Without the head: tickets, tokens and cookies stand there.
impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asked({:?} from {})", self.host, self.peer)
    }
}

/// The proxies of all routes.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    registry: Arc<Registry>,
    signer: Option<Arc<Signer>>,
    shutdown: CancellationToken,
    streams: Arc<Streams>,
}

/// One route's proxy with all that it needs.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// What makes identity tokens, if anything does.
    pub signer: Option<Arc<Signer>>,
    /// Asks what is under way to end, in order.
    pub shutdown: CancellationToken,
    /// The event streams of all routes.
    pub streams: Arc<Streams>,
}

/// What an answer under way belongs to.
#[derive(Clone, Debug)]
pub struct Context {
    /// By which the log knows the request.
    pub id: Uuid,
    /// Path pattern of the route.
    pub route: Arc<str>,
    /// Where the request comes from.
    pub peer: SocketAddr,
    /// The proxy.
    pub proxy: Proxy,
    /// Whom it belongs to, if its client had to prove that.
    pub holder: Option<Arc<Holder>>,
    /// When what the client has proven ends.
    pub expires: Option<SystemTime>,
    /// Whether the client asks for an event stream, as an `EventSource` does.
    pub asks_for_events: bool,
}

impl Proxies {
    /// Takes the upstreams in. `shutdown` asks what is under way to end.
    #[must_use]
    pub fn new(
        upstreams: impl IntoIterator<Item = Arc<Upstream>>,
        registry: Arc<Registry>,
        signer: Option<Arc<Signer>>,
        shutdown: CancellationToken,
    ) -> Self {
        let upstreams = upstreams.into_iter().map(|upstream| (upstream.name().clone(), upstream)).collect();
        Self { upstreams, registry, signer, shutdown, streams: Arc::default() }
    }

    /// The same with these event streams.
    #[must_use]
    pub fn with_streams(self, streams: Arc<Streams>) -> Self {
        Self { streams, ..self }
    }

    /// The proxy for a route's settings; `None` when they name no upstream, which the configuration rules out.
    #[must_use]
    pub fn of(&self, settings: &Arc<Settings>, route: &Arc<str>) -> Option<Proxy> {
        let upstream = self.upstreams.get(&settings.upstream)?.clone();
        let (counters, signer) = (self.registry.of(route), self.signer.clone());
        let (shutdown, streams) = (self.shutdown.clone(), self.streams.clone());
        Some(Proxy { settings: settings.clone(), upstream, counters, signer, shutdown, streams })
    }

    /// The event streams of all routes.
    #[must_use]
    pub const fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// Where requests are counted.
    #[must_use]
    pub const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

/// Settings as they are when nothing is said.
#[cfg(test)]
fn test_settings() -> Settings {
    use std::time::Duration;

    use crate::protocol::passing::Host;
    Settings {
        stream: stream::Settings::default(),
        cors: Cors::default(),
        upstream: "app".into(),
        path: None,
        host: Host::Client,
        request_headers: Edits::default(),
        response_headers: Edits::default(),
        credential_params: vec!["ticket".to_owned()],
        claim_headers: Vec::new(),
        identity_token: None,
        max_request_body: None,
        response_timeout: Duration::from_mins(1),
        read_timeout: Duration::from_mins(1),
        send_timeout: Duration::from_secs(30),
        retries: 1,
    }
}
