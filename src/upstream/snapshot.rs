//! What operators are shown of an upstream: plain values, taken at one moment.

use std::sync::Arc;

use super::breaker::BreakerState;
use super::health::HealthState;

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSnapshot {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Event streams that are opened again.
    pub reopens: BudgetSnapshot,
    /// Messages that are posted again.
    pub retries: BudgetSnapshot,
    /// Its endpoints, in the order of the configuration.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// A shared budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetSnapshot {
    /// Who waits for a turn.
    pub waiting: usize,
    /// Who has a turn.
    pub active: usize,
    /// Turns since the start.
    pub granted: u64,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSnapshot {
    /// Host and port.
    pub name: Arc<str>,
    /// Its weight in the configuration, from 1 to 1000.
    pub weight: u32,
    /// Event streams, and WebSockets that are passed through, that are open or being opened.
    pub streams: usize,
    /// Open HTTP/2 connections that take requests.
    pub http2_connections: usize,
    /// Idle HTTP/1.1 connections.
    pub idle_connections: usize,
    /// What the health checks say.
    pub health: HealthState,
    /// Whether event streams are opened there.
    pub streams_breaker: BreakerState,
    /// Whether messages are posted there.
    pub messages_breaker: BreakerState,
    /// Whether questions, such as who a cookie belongs to, are asked there.
    pub questions_breaker: BreakerState,
    /// Whether WebSockets are passed through to it.
    pub upgrades_breaker: BreakerState,
}
