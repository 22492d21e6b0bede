//! What the proxy is told about one route.

use std::sync::Arc;

/// One route's proxy: where its requests go, and what goes along with them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the upstream, one of those configured.
    pub upstream: Arc<str>,
    /// What holds for event streams.
    pub stream: super::stream::Settings,
    /// Who speaks CORS with pages of the route's `origins`.
    pub cors: Cors,
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
