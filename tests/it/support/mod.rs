//! What the scenes are played with.

pub(crate) mod access;
pub(crate) mod application;
pub(crate) mod chromium;
pub(crate) mod client;
pub(crate) mod front;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod http2_frames;
pub(crate) mod keys;
pub(crate) mod legacy;
pub(crate) mod native;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod replica;
pub(crate) mod scene;
pub(crate) mod upstream;

use std::time::Duration;

pub(crate) use client::{Client, Seen};
pub(crate) use gateway::TestGateway;
pub(crate) use replica::Replica;
pub(crate) use scene::Scene;
pub(crate) use upstream::FakeUpstream;

/// How long a scene waits for what must come. Generous: it is reached only when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come, and says what did not.
pub(crate) async fn must<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else { panic!("waited in vain for {what}") };
    value
}
