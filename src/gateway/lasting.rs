//! What lasts as long as the process, whatever is reloaded: the owners of tasks, what was counted, who is in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::memory;
use crate::admin::Reloads;
use crate::bridge::Stop;
use crate::bridge::memory::Memory;
use crate::bridge::registry::Registry;
use crate::config::{self, Config};
use crate::edge::Fallback;
use crate::ledger::keeper::Keeper;
use crate::ledger::{Ledger, OpenError};
use crate::proxy;

/// What every configuration finds and leaves.
pub(super) struct Lasting {
    pub(super) listeners: TaskTracker,
    pub(super) connections: TaskTracker,
    pub(super) upstream: TaskTracker,
    /// What looks at the others, and therefore ends last.
    pub(super) observers: TaskTracker,
    /// Tells listeners and connections to end.
    pub(super) stop: Stop,
    /// Ends upstream connections, once nobody needs them.
    pub(super) disconnect: CancellationToken,
    /// Ends the observers.
    pub(super) look_away: CancellationToken,
    pub(super) registry: Arc<Registry>,
    pub(super) proxied: Arc<proxy::registry::Registry>,
    /// The event streams that clients read natively.
    pub(super) streams: Arc<proxy::stream::Streams>,
    pub(super) memory: Arc<Memory>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) fallback: Option<Fallback>,
    pub(super) started: Instant,
    pub(super) reloads: Arc<Reloads>,
    /// Milliseconds; as the newest configuration has it.
    drain_timeout: AtomicU64,
}

impl Lasting {
    /// Begins with what the first configuration says.
    ///
    /// # Errors
    ///
    /// The ledger cannot be kept where it should be; nothing is left running then.
    pub(super) fn new(config: &Config, fallback: Option<Fallback>) -> Result<Self, OpenError> {
        let (observers, look_away, now) = (TaskTracker::new(), CancellationToken::new(), Instant::now());
        let (ledger, store) = Ledger::open(&config.ledger, SystemTime::now())?;
        let lasting = Self {
            listeners: TaskTracker::new(),
            connections: TaskTracker::new(),
            upstream: TaskTracker::new(),
            stop: Stop::default(),
            disconnect: CancellationToken::new(),
            registry: Arc::default(),
            proxied: Arc::default(),
            streams: Arc::default(),
            memory: memory::watch(memory::budget(config.server.max_memory), &observers, &look_away),
            ledger,
            observers,
            look_away,
            fallback,
            started: now,
            reloads: Arc::new(Reloads::new(now)),
            drain_timeout: AtomicU64::new(0),
        };
        if let Some(store) = store {
            let keeper = Keeper::new(lasting.ledger.clone(), store);
            let (tasks, stop) = (lasting.upstream.clone(), lasting.disconnect.clone());
            lasting.upstream.spawn(keeper.run(config.ledger.flush, tasks, stop));
        }
        lasting.take_over(config);
        Ok(lasting)
    }

    /// Goes on by this configuration.
    pub(super) fn take_over(&self, config: &Config) {
        let millis = u64::try_from(config.server.drain_timeout.as_millis()).unwrap_or(u64::MAX);
        self.drain_timeout.store(millis, Relaxed);
        self.memory.set_budget(memory::budget(config.server.max_memory));
        let routes: Vec<_> = config.routes.iter().map(|route| route.path.clone()).collect();
        self.registry.show(&routes);
        self.ledger.plan(config::sunsets(&config.routes));
        let proxied = config.routes.iter().filter(|route| route.proxy.is_some()).map(|route| route.path.clone());
        self.proxied.show(proxied.clone());
        self.streams.show(proxied);
    }

    /// How long connections may take to end.
    pub(super) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout.load(Relaxed))
    }
}
