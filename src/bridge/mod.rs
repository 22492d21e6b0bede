//! The meeting point: the only module that sees clients and upstream together.
//!
//! [`open::open`] asks upstream for the event stream; once upstream has accepted, [`open::Opened::run`] drives the
//! connection to its end.

pub(crate) mod alarm;
mod driver;
pub mod memory;
pub mod open;
pub mod registry;
mod reopen;
mod request;
mod settings;
pub mod sides;
pub mod socket;
mod token;
mod upstream_side;

use std::collections::HashMap;
use std::sync::Arc;

pub use settings::{ForwardCookies, Settings};

use tokio_util::sync::CancellationToken;

use self::memory::Memory;
use self::registry::Registry;
use crate::identity::signer::Signer;
use crate::upstream::Upstream;
pub use crate::upstream::{BreakerState, HealthState, UpstreamSnapshot};

/// How the gateway tells connections to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Asks them to, in order.
    pub shutdown: CancellationToken,
    /// Ends them, whatever is left undone.
    pub cut: CancellationToken,
}

/// A route's bridge with the upstream that its settings name.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Where its connections stand while they live.
    pub registry: Arc<Registry>,
    /// Whether there is room for further ones.
    pub memory: Arc<Memory>,
    /// What makes identity tokens, if anything does.
    pub signer: Option<Arc<Signer>>,
}

impl Bridge {
    /// Whether a new connection would find an endpoint that is neither unhealthy nor left alone because it fails.
    #[must_use]
    pub fn takes_newcomers(&self) -> bool {
        self.upstream.takes_streams()
    }
}

/// The upstreams by name, so that a route finds the one that its settings name, and what all bridges share.
#[derive(Clone, Debug, Default)]
pub struct Bridges {
    upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    registry: Arc<Registry>,
    memory: Arc<Memory>,
    signer: Option<Arc<Signer>>,
}

impl Bridges {
    /// Takes the upstreams in.
    #[must_use]
    pub fn new(
        upstreams: impl IntoIterator<Item = Arc<Upstream>>,
        registry: Arc<Registry>,
        memory: Arc<Memory>,
    ) -> Self {
        let upstreams = upstreams.into_iter().map(|upstream| (upstream.name().clone(), upstream)).collect();
        Self { upstreams, registry, memory, signer: None }
    }

    /// The same with what makes identity tokens.
    #[must_use]
    pub fn with_signer(self, signer: Option<Arc<Signer>>) -> Self {
        Self { signer, ..self }
    }

    /// The bridge for a route's settings; `None` when they name no upstream, which the configuration rules out.
    #[must_use]
    pub fn of(&self, settings: &Arc<Settings>) -> Option<Bridge> {
        let upstream = self.upstreams.get(&settings.upstream)?.clone();
        let (registry, memory, signer) = (self.registry.clone(), self.memory.clone(), self.signer.clone());
        Some(Bridge { settings: settings.clone(), upstream, registry, memory, signer })
    }

    /// The upstream of this name, which the configuration has checked.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<Arc<Upstream>> {
        self.upstreams.get(name).cloned()
    }

    /// Whether there is room for further connections.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What makes identity tokens, if anything does.
    #[must_use]
    pub fn signer(&self) -> Option<&Arc<Signer>> {
        self.signer.as_ref()
    }

    /// How the upstreams stand, by name.
    #[must_use]
    pub fn snapshots(&self) -> Vec<UpstreamSnapshot> {
        let mut snapshots: Vec<_> = self.upstreams.values().map(|upstream| upstream.snapshot()).collect();
        snapshots.sort_by(|one, other| one.name.cmp(&other.name));
        snapshots
    }

    /// Where connections, and requests that did not become one, are counted.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}
