//! What the pass-through is told about one route.

use std::sync::Arc;

/// One route's WebSocket backend.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the upstream, one of those configured.
    pub upstream: Arc<str>,
}
