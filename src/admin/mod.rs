//! The admin listener: a first look inside, for operators and their tools. Its own port, never a public one.
//!
//! `server` accepts and ends connections, `answer` knows the paths, and each other file is behind one of them.

mod answer;
mod connections;
mod ledger;
mod metrics;
mod ready;
mod reloads;
mod revocations;
mod rights;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::access::Door;
use crate::bridge::Bridges;
use crate::bridge::memory::Memory;
use crate::bridge::registry::Registry;
use crate::ledger::Ledger;
use crate::proxy;

pub use reloads::Reloads;
pub use server::{BindError, Inside, Server};

/// Where the admin listener is, and who may see it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes any free one. A loopback address unless `expose`.
    pub address: SocketAddr,
    /// Whether others than this machine may reach it, under whatever name.
    pub expose: bool,
    /// What whoever changes something has to show; without it, nothing can be changed by others than this machine.
    pub token: Option<SecretString>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 9900)), expose: false, token: None }
    }
}

/// What is shown.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Connections, and what was counted of them.
    pub registry: Arc<Registry>,
    /// What was counted of the requests that are passed on.
    pub proxied: Arc<proxy::registry::Registry>,
    /// Event streams that are passed on.
    pub streams: Arc<proxy::stream::Streams>,
    /// The upstreams.
    pub bridges: Bridges,
    /// Who is let in, and who was sent away.
    pub door: Arc<Door>,
    /// Memory and its budget.
    pub memory: Arc<Memory>,
    /// Who still comes by WebSocket.
    pub ledger: Arc<Ledger>,
    /// Cancelled once the gateway was told to stop.
    pub draining: CancellationToken,
    /// What came of the attempts to reload the configuration.
    pub reloads: Arc<Reloads>,
    /// When the gateway started.
    pub started: Instant,
    /// The version of the program.
    pub version: &'static str,
    /// The keys that verify identity tokens (RFC 7517), if there are any.
    pub jwks: Option<Arc<str>>,
}
