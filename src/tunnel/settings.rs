//! What the pass-through is told about one route.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::protocol::passing::Host;
use crate::protocol::template::Template;

/// One route's WebSocket backend.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the upstream, one of those configured.
    pub upstream: Arc<str>,
    /// Path, with an optional query, that its WebSocket is asked for at; `None`: the client's own.
    pub path: Option<Template>,
    /// What it is told in `Host`.
    pub host: Host,
    /// Claims of the client's identity that go along, each with its header.
    pub claim_headers: Vec<(String, HeaderName)>,
    /// For whom the token is that says who the client is; `None` if the backend gets none.
    pub identity_token: Option<Arc<str>>,
    /// Query parameters that are credentials: never sent upstream.
    pub credential_params: Vec<String>,
    /// How long the backend may take to answer the handshake, connecting included.
    pub open_timeout: Duration,
    /// How long no byte may go either way.
    pub idle_timeout: Duration,
    /// How old a tunnel may become; `None` is no limit.
    pub max_age: Option<Duration>,
    /// How long both sides may take to end, once one has begun to.
    pub close_timeout: Duration,
    /// Most bytes held, each way, for a side that does not take them.
    pub buffer: usize,
    /// Largest body, in bytes, of a refusal that is handed on to the client.
    pub max_refusal_body: usize,
}
