//! What the proxy is told about one route.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::protocol::passing::Host;
use crate::protocol::template::Template;

/// One route's proxy: where its requests go, and what goes along with them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the upstream, one of those configured.
    pub upstream: Arc<str>,
    /// The path there; `None`: the one that came, byte for byte.
    pub path: Option<Template>,
    /// Which host upstream is told that the request is for.
    pub host: Host,
    /// What is changed about the fields of requests.
    pub request_headers: Edits,
    /// What is changed about the fields of answers.
    pub response_headers: Edits,
    /// Query parameters that do not go along, the ticket's among them.
    pub credential_params: Vec<String>,
    /// Claims of the client's identity, and the fields that tell them.
    pub claim_headers: Vec<(String, HeaderName)>,
    /// Whom the identity token is for, if requests have one.
    pub identity_token: Option<Arc<str>>,
    /// Largest body of a request in bytes; `None`: any.
    pub max_request_body: Option<u64>,
    /// How long upstream may take for the head of an answer, once it has what there is of the request.
    pub response_timeout: Duration,
    /// How long upstream may be silent within an answer that is no event stream.
    pub read_timeout: Duration,
    /// How long a client may be silent within the body of its request.
    pub send_timeout: Duration,
    /// How often a request that can be repeated is sent again when a connection breaks before the answer.
    pub retries: u32,
    /// What holds for event streams.
    pub stream: super::stream::Settings,
    /// Who speaks CORS with pages of the route's `origins`.
    pub cors: Cors,
}

/// Fields that are put in and taken out; taking out comes first.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Put in, in place of any of the same name.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Taken out.
    pub remove: Vec<HeaderName>,
}

/// Who speaks CORS (WHATWG Fetch, "CORS protocol") with the pages of other origins that a route lets in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// The gateway, by the route's `origins`; upstream does where the route lists none.
    #[default]
    Route,
    /// Upstream, whatever the route lists.
    Upstream,
}
