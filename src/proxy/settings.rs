//! What the proxy is told about one route.

use std::sync::Arc;

/// One route's proxy: where its requests go, and what goes along with them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the upstream, one of those configured.
    pub upstream: Arc<str>,
}
