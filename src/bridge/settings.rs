//! What the bridge is told about one route.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::protocol::template::Template;
use crate::session;

/// One route's bridge: where its streams and messages go, and what goes along with them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the upstream, one of those configured.
    pub upstream: Arc<str>,
    /// Path, with an optional query, of the event stream.
    pub events: Template,
    /// Path, with an optional query, that messages are posted to.
    pub messages: Template,
    /// `Content-Type` of a POST that carries a text message.
    pub text_type: HeaderValue,
    /// Client headers that go along to upstream, by name.
    pub forward_headers: Vec<HeaderName>,
    /// Names of the cookies that go along to upstream.
    pub forward_cookies: ForwardCookies,
    /// Claims of the client's identity that go along, each with its header.
    pub claim_headers: Vec<(String, HeaderName)>,
    /// For whom the tokens are that say who the client is; `None` if upstream gets none.
    pub identity_token: Option<Arc<str>>,
    /// Query parameters that are credentials: never sent upstream.
    pub credential_params: Vec<String>,
    /// Query parameter in which a client brings its last event id; empty turns this off.
    pub last_event_id_param: String,
    /// How long upstream may take to answer the request for the event stream, connecting included.
    pub open_timeout: Duration,
    /// How long upstream may take to answer one POST, connecting included.
    pub message_timeout: Duration,
    /// Largest `id` or `event` field of an event, in bytes.
    pub max_event_field: usize,
    /// Largest body, in bytes, of an upstream refusal that is handed on to the client.
    pub max_refusal_body: usize,
    /// The rules of the sessions themselves.
    pub session: Arc<session::Settings>,
}

/// Which of the client's cookies upstream may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ForwardCookies {
    /// None of them.
    #[default]
    None,
    /// Those with these names.
    Named(Vec<String>),
    /// All of them.
    All,
}
