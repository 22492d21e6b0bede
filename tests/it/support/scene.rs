//! The usual cast: one client, let in, and the upstream that it talks to.

use super::upstream::EventSender;
use super::{Client, FakeUpstream, TestGateway};

/// A client with an open event stream. Modules add their own lines to it.
pub(crate) struct Scene {
    pub(crate) upstream: FakeUpstream,
    /// Held: it serves for as long as the scene lasts.
    pub(crate) _gateway: TestGateway,
    pub(crate) client: Client,
    pub(crate) events: EventSender,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With further keys for the bridge, one a line.
    pub(crate) async fn with(bridge_keys: &str) -> Self {
        let mut upstream = FakeUpstream::start().await;
        let gateway = TestGateway::with(&upstream, "", bridge_keys);
        let (client, events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
        Self { upstream, _gateway: gateway, client, events }
    }
}
