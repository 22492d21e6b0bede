//! Everything on the backend's side: endpoints and their connections, event streams, POSTs.

mod body;
mod connect;
mod endpoint;
pub mod events;
pub mod messages;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use body::{Body, ReadError};
pub use connect::ConnectError;
pub use endpoint::{OutgoingRequest, Pool, SendError, Use};
pub use settings::{Endpoint, Protocol, Settings};

/// A named group of endpoints and the connections to them.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    pools: Box<[Arc<Pool>]>,
    /// Where the search for the least used endpoint begins, so that equals take turns.
    next: AtomicUsize,
}

impl Upstream {
    /// An upstream without a single connection yet. Connections live on `tasks` and end with `stop`.
    ///
    /// # Errors
    ///
    /// Fails when the TLS library refuses the settings.
    pub fn new(settings: &Settings, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Self, rustls::Error> {
        let tls = settings.roots.clone().map(|roots| connect::client_config(roots, settings.protocol)).transpose()?;
        let pools = settings
            .endpoints
            .iter()
            .map(|endpoint| Pool::new(endpoint.clone(), settings, tls.clone(), tasks.clone(), stop.clone()))
            .map(Arc::new)
            .collect();
        Ok(Self { name: settings.name.clone(), pools, next: AtomicUsize::new(0) })
    }

    /// Name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The endpoints in the order in which a new event stream should try them: fewest open streams first.
    #[must_use]
    pub fn by_load(&self) -> Vec<Arc<Pool>> {
        let mut pools: Vec<_> = self.pools.to_vec();
        if pools.len() > 1 {
            let first = self.next.fetch_add(1, Ordering::Relaxed) % pools.len();
            pools.rotate_left(first);
            pools.sort_by_key(|pool| pool.open_streams());
        }
        pools
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        self.pools.iter().for_each(|pool| pool.close_idle());
    }
}
