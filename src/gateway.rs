//! The composition root: the only file that knows every part. It builds them, owns their tasks, and ends them in order.

mod door;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::access;
use crate::access::limits::Limits;
use crate::admin;
use crate::bridge::memory::{Change, Memory};
use crate::bridge::registry::Registry;
use crate::bridge::{Bridges, Stop};
use crate::config::Config;
use crate::edge::listener::{BindError, Listener};
use crate::edge::routes::RouteTable;
use crate::edge::{Edge, Fallback};
use crate::identity::Way;
use crate::process;
use crate::process::memory::{Resident, Tidying};
use crate::proxy::{self, Proxies};
use crate::upstream::Upstream;

/// How long connections that are cut may take to say so in the log.
const LAST_LINE: Duration = Duration::from_secs(1);

/// How often the memory of the process is looked at: ten thousand new connections a second are 35 MiB in that time.
const SAMPLE: Duration = Duration::from_millis(250);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The same of the admin listener's address.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The TLS library refuses an upstream's settings.
    #[error("TLS settings for upstream {upstream} cannot be used")]
    Tls {
        /// Its name.
        upstream: Arc<str>,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The TLS library refuses what bearer keys are fetched with.
    #[error("TLS settings for auth.bearer.jwks cannot be used")]
    Keys(#[source] rustls::Error),
    /// Redis cannot be asked with these settings.
    #[error("the settings of [redis] cannot be used")]
    Redis(#[from] access::redis::Unusable),
    /// The system gives no random bytes, without which there are no tickets.
    #[error(transparent)]
    Random(#[from] access::ticket::NoRandomness),
    /// Two routes take the same requests, which the configuration rules out.
    #[error("two routes overlap")]
    Overlap,
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    listeners: TaskTracker,
    connections: TaskTracker,
    upstream: TaskTracker,
    /// What looks at the others, and therefore ends last.
    observers: TaskTracker,
    /// Tells listeners and connections to end.
    stop: Stop,
    /// Ends upstream connections, once nobody needs them.
    disconnect: CancellationToken,
    /// Ends the observers.
    look_away: CancellationToken,
    drain_timeout: Duration,
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Client connections that were still open at the deadline, and were cut.
    pub cut: usize,
}

impl Gateway {
    /// Binds all listeners and begins to serve. Needs a tokio runtime. `fallback` answers requests that no route takes.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running then.
    pub fn start(config: Config, fallback: Option<Fallback>) -> Result<Self, StartError> {
        let gateway = Self {
            addresses: Vec::new(),
            admin_address: None,
            listeners: TaskTracker::new(),
            connections: TaskTracker::new(),
            upstream: TaskTracker::new(),
            observers: TaskTracker::new(),
            stop: Stop::default(),
            disconnect: CancellationToken::new(),
            look_away: CancellationToken::new(),
            drain_timeout: config.server.drain_timeout,
        };
        let upstreams = config
            .upstreams
            .iter()
            .map(|settings| {
                Upstream::new(settings, &gateway.upstream, &gateway.disconnect)
                    .map(Arc::new)
                    .map_err(|source| StartError::Tls { upstream: settings.name.clone(), source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        // All are bound before one serves: a gateway that cannot start has not begun to.
        let listeners = config.listeners.into_iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        let admin = config.admin.as_ref().map(admin::Server::bind).transpose()?;
        let registry = Arc::new(Registry::new(config.routes.iter().map(|route| route.path.clone())));
        let passed = Arc::new(proxy::registry::Registry::new(
            config.routes.iter().filter(|route| route.proxy.is_some()).map(|route| route.path.clone()),
        ));
        let streams = Arc::new(proxy::stream::Streams::new(
            config.routes.iter().filter(|route| route.proxy.is_some()).map(|route| route.path.clone()),
        ));
        let limits = Limits::new(config.routes.iter().map(|route| route.limits), config.server.prefixes);
        let ticket_routes = config.routes.iter().filter(|route| route.auth.takes(Way::Ticket)).cloned().collect();
        let routes = RouteTable::build(config.routes).map_err(|_| StartError::Overlap)?;
        let plans = door::Plans {
            proofs: config.auth,
            ticket: config.ticket,
            redis: config.redis,
            revocation: config.revocation,
            prefixes: config.server.prefixes,
        };
        let door = door::build(plans, &upstreams, &registry, &streams, &gateway.upstream, &gateway.disconnect)
            // What it has begun until then ends.
            .inspect_err(|_| gateway.disconnect.cancel())?;
        let door = Arc::new(door);
        let memory = gateway.watch_memory(config.server.max_memory);
        let bridges = Bridges::new(upstreams.iter().cloned(), registry.clone(), memory.clone())
            .with_signer(config.identity.clone());
        let proxies = Proxies::new(
            upstreams.iter().cloned(),
            passed.clone(),
            config.identity.clone(),
            gateway.stop.shutdown.clone(),
        )
        .with_streams(streams.clone());
        let edge = Arc::new(Edge {
            routes,
            ticket_routes,
            door: door.clone(),
            limits,
            bridges: bridges.clone(),
            proxies,
            fallback,
            connections: gateway.connections.clone(),
            stop: gateway.stop.clone(),
        });
        upstreams.iter().for_each(Upstream::maintain);
        let addresses = listeners.iter().map(Listener::address).collect();
        for listener in listeners {
            info!(address = %listener.address(), "listening");
            gateway.listeners.spawn(listener.run(edge.clone()));
        }
        let admin_address = admin.as_ref().map(admin::Server::address);
        if let Some(admin) = admin {
            info!(address = %admin.address(), "admin listening");
            let draining = gateway.stop.shutdown.clone();
            let sources = admin::Sources {
                registry,
                proxied: passed,
                streams,
                bridges,
                door,
                memory,
                draining,
                started: Instant::now(),
                version: process::VERSION,
                jwks: config.identity.map(|signer| signer.jwks().clone()),
            };
            gateway.observers.spawn(admin.run(sources, gateway.observers.clone(), gateway.look_away.clone()));
        }
        Ok(Self { addresses, admin_address, ..gateway })
    }

    /// Looks at the memory of the process from now on, with this budget or with four fifths of what the process may have:
    /// the rest is for what those who are in still need.
    fn watch_memory(&self, budget: Option<u64>) -> Arc<Memory> {
        let budget = budget.or_else(|| process::memory::limit().map(|limit| limit / 5 * 4));
        let memory = Arc::new(Memory::new(budget));
        match Resident::open() {
            Ok(resident) => drop(self.observers.spawn(sample(
                memory.clone(),
                resident,
                self.observers.clone(),
                self.look_away.clone(),
            ))),
            Err(error) => info!(%error, "the memory of the process cannot be read here, max_memory has no effect"),
        }
        memory
    }

    /// Where it listens, in the order of the configuration, with real ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener is, with its real port; `None` if there is none.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Stops: not ready any more, no new connections, a close frame to every client, and, once they are gone or the deadline
    /// has passed, an end to all connections upstream. The admin listener answers until all that is done.
    pub async fn stop(self) -> Drained {
        // Counted first: some are gone as soon as they are asked.
        let open = self.connections.len();
        self.stop.shutdown.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        info!(open, deadline_ms = u64::try_from(self.drain_timeout.as_millis()).unwrap_or(u64::MAX), "stopping");
        self.connections.close();
        let _ = tokio::time::timeout(self.drain_timeout, self.connections.wait()).await;
        let cut = self.connections.len();
        if cut > 0 {
            warn!(cut, "the deadline has passed, cutting the connections that are left");
            self.stop.cut.cancel();
            // Time to write their last line, and no more: what does not end now, ends with the process.
            let _ = tokio::time::timeout(LAST_LINE, self.connections.wait()).await;
        }
        self.disconnect.cancel();
        self.upstream.close();
        // Nothing there waits for anybody once it is told to end.
        self.upstream.wait().await;
        self.look_away.cancel();
        self.observers.close();
        // Answers under way there have a limit of their own.
        self.observers.wait().await;
        info!(cut, "stopped");
        Drained { cut }
    }
}

/// Compares the memory of the process with its budget, again and again, and has what is free given back.
async fn sample(memory: Arc<Memory>, resident: Resident, tasks: TaskTracker, stop: CancellationToken) {
    let mut tidying = Tidying::default();
    let mut every = tokio::time::interval(SAMPLE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        let change = memory.sample(|| resident.read());
        let held = memory.held();
        match change {
            Ok(None) => {}
            Ok(Some(Change::Over)) => {
                let (resident, budget) = (held.resident, held.budget);
                warn!(resident, budget, "memory above its budget, refusing new connections");
            }
            Ok(Some(Change::Kept)) => {
                let (resident, budget) = (held.resident, held.budget);
                info!(resident, budget, "memory within its budget again, letting new connections in");
            }
            Err(error) => {
                return warn!(%error, "the memory of the process cannot be read any more, max_memory has no effect");
            }
        }
        if tidying.is_due(held.resident, Instant::now()) {
            // On a thread of its own: it waits for locks of the allocator.
            let _ = tasks.spawn_blocking(process::give_memory_back).await;
            tidying.done(resident.read().unwrap_or(held.resident), Instant::now());
        }
    }
}
