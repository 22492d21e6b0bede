//! The meeting point: the only module that sees clients and upstream together.
//!
//! [`open::open`] asks upstream for the event stream; once upstream has accepted, [`open::Opened::run`] drives the
//! connection to its end.

mod driver;
pub mod open;
mod reopen;
mod request;
mod settings;
pub mod socket;
mod upstream_side;

use std::collections::HashMap;
use std::sync::Arc;

pub use settings::{ForwardCookies, Settings};

use tokio_util::sync::CancellationToken;

use crate::upstream::Upstream;

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
}

/// The upstreams by name, so that a route finds the one that its settings name.
#[derive(Clone, Debug, Default)]
pub struct Bridges(HashMap<Arc<str>, Arc<Upstream>>);

impl Bridges {
    /// Takes the upstreams in.
    #[must_use]
    pub fn new(upstreams: impl IntoIterator<Item = Arc<Upstream>>) -> Self {
        Self(upstreams.into_iter().map(|upstream| (upstream.name().clone(), upstream)).collect())
    }

    /// The bridge for a route's settings; `None` when they name no upstream, which the configuration rules out.
    #[must_use]
    pub fn of(&self, settings: &Arc<Settings>) -> Option<Bridge> {
        let upstream = self.0.get(&settings.upstream)?;
        Some(Bridge { settings: settings.clone(), upstream: upstream.clone() })
    }
}
