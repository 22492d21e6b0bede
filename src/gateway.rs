//! The composition root: the only file that knows every part. It builds them, owns their tasks, and ends them in order.

mod door;
mod generation;
mod lasting;
mod listeners;
mod memory;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use self::generation::Generation;
use self::lasting::Lasting;
use self::listeners::{AdminPlan, Plan, Running, RunningAdmin};
use crate::access;
use crate::admin;
use crate::config::{Config, Server};
use crate::edge::Fallback;
use crate::edge::current::Current;
use crate::edge::listener::BindError;
use crate::ledger;
use crate::telemetry;

/// How long connections that are cut may take to say so in the log.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Why the gateway cannot start, or cannot go on by another configuration.
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
    /// The ledger cannot be kept where it should be.
    #[error(transparent)]
    Ledger(#[from] ledger::OpenError),
    /// Two routes take the same requests, which the configuration rules out.
    #[error("two routes overlap")]
    Overlap,
    /// It is stopping, and nothing else is begun.
    #[error("the gateway is stopping")]
    Stopping,
}

/// A gateway that serves.
pub struct Gateway {
    lasting: Lasting,
    current: Arc<Current>,
    /// One reload at a time.
    serving: Mutex<Serving>,
}

/// What a reload exchanges.
struct Serving {
    generation: Generation,
    listeners: Vec<Running>,
    admin: Option<RunningAdmin>,
    /// As the process was started, which only a restart changes.
    server: Server,
    log: telemetry::Settings,
    ledger: ledger::Settings,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
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
    pub fn start(config: &Config, fallback: Option<Fallback>) -> Result<Self, StartError> {
        let lasting = Lasting::new(config, fallback)?;
        Self::begin(config, &lasting)
            .inspect_err(|_| {
                // What was begun until then ends.
                lasting.disconnect.cancel();
                lasting.look_away.cancel();
            })
            .map(|(current, serving)| Self { lasting, current, serving: Mutex::new(serving) })
    }

    fn begin(config: &Config, lasting: &Lasting) -> Result<(Arc<Current>, Serving), StartError> {
        // All are bound before one serves: a gateway that cannot start has not begun to.
        let plan = Plan::new(&config.listeners, &[])?;
        let admin = AdminPlan::new(config.admin.as_ref(), None)?;
        let generation = Generation::build(config, lasting, None)?;
        let current = Arc::new(Current::new(generation.edge(config, lasting)?));
        generation.begin(config, None);
        let listeners = plan.carry_out(Vec::new(), &current, lasting);
        let admin = admin.carry_out(None, generation.sources(lasting), lasting);
        let (server, log, ledger) = (config.server.clone(), config.log.clone(), config.ledger.clone());
        Ok((current, Serving { generation, listeners, admin, server, log, ledger }))
    }

    /// Goes on by another configuration: all of it is built and every new address bound first, and then it takes the place of
    /// the one before in one step. Connections that are open keep what they opened with; requests from now on find the new
    /// one.
    ///
    /// Needs a tokio runtime. One that comes while another is under way waits for it.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing has changed then.
    pub fn reload(&self, config: &Config) -> Result<(), StartError> {
        let mut serving = self.serving();
        let built = self.prepare(config, &serving);
        let (generation, edge, plan, admin) = built.inspect_err(|_| self.lasting.reloads.refused())?;
        // From here on nothing can fail.
        self.lasting.take_over(config);
        generation.begin(config, Some(&serving.generation));
        let (upstreams, new_upstreams) = generation.upstreams();
        self.current.replace(edge);
        let running = std::mem::take(&mut serving.listeners);
        serving.listeners = plan.carry_out(running, &self.current, &self.lasting);
        let running = serving.admin.take();
        serving.admin = admin.carry_out(running, generation.sources(&self.lasting), &self.lasting);
        serving.generation = generation;
        self.lasting.reloads.applied(Instant::now());
        for key in needs_restart(config, &serving) {
            warn!(key, "this key needs a restart and has not changed");
        }
        let (routes, listeners) = (config.routes.len(), serving.listeners.len());
        info!(routes, upstreams, new_upstreams, listeners, "configuration reloaded");
        Ok(())
    }

    /// Says that a configuration was to be loaded that cannot be used: the one before serves on.
    pub fn reload_refused(&self) {
        self.lasting.reloads.refused();
    }

    fn prepare(
        &self,
        config: &Config,
        serving: &Serving,
    ) -> Result<(Generation, crate::edge::Edge, Plan, AdminPlan), StartError> {
        if self.lasting.stop.shutdown.is_cancelled() {
            return Err(StartError::Stopping);
        }
        let plan = Plan::new(&config.listeners, &serving.listeners)?;
        let admin = AdminPlan::new(config.admin.as_ref(), serving.admin.as_ref())?;
        let generation = Generation::build(config, &self.lasting, Some(&serving.generation))?;
        let edge = generation.edge(config, &self.lasting)?;
        Ok((generation, edge, plan, admin))
    }

    /// Where it listens, in the order of the configuration, with real ports.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.serving().listeners.iter().map(Running::address).collect()
    }

    /// Where the admin listener is, with its real port; `None` if there is none.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.serving().admin.as_ref().map(RunningAdmin::address)
    }

    /// Tasks that are alive on the side of upstreams: their connections, and what looks after them.
    #[must_use]
    pub fn upstream_tasks(&self) -> usize {
        self.lasting.upstream.len()
    }

    /// A panic while it is held leaves a whole value: each field is exchanged at once.
    fn serving(&self) -> MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops: not ready any more, no new connections, a close frame to every client, and, once they are gone or the deadline
    /// has passed, an end to all connections upstream. The admin listener answers until all that is done.
    pub async fn stop(self) -> Drained {
        // Counted first: some are gone as soon as they are asked.
        let Self { lasting, .. } = self;
        let drain_timeout = lasting.drain_timeout();
        let open = lasting.connections.len();
        lasting.stop.shutdown.cancel();
        lasting.listeners.close();
        lasting.listeners.wait().await;
        info!(open, deadline_ms = u64::try_from(drain_timeout.as_millis()).unwrap_or(u64::MAX), "stopping");
        lasting.connections.close();
        let _ = tokio::time::timeout(drain_timeout, lasting.connections.wait()).await;
        let cut = lasting.connections.len();
        if cut > 0 {
            warn!(cut, "the deadline has passed, cutting the connections that are left");
            lasting.stop.cut.cancel();
            // Time to write their last line, and no more: what does not end now, ends with the process.
            let _ = tokio::time::timeout(LAST_LINE, lasting.connections.wait()).await;
        }
        lasting.disconnect.cancel();
        lasting.upstream.close();
        // Nothing there waits for anybody once it is told to end.
        lasting.upstream.wait().await;
        lasting.look_away.cancel();
        lasting.observers.close();
        // Answers under way there have a limit of their own.
        lasting.observers.wait().await;
        info!(cut, "stopped");
        Drained { cut }
    }
}

/// The keys that differ from those that the process was started with and that only a restart changes.
fn needs_restart(config: &Config, serving: &Serving) -> impl Iterator<Item = &'static str> {
    let differs = [
        ("server.threads", config.server.threads != serving.server.threads),
        ("log.format", config.log.format != serving.log.format),
        ("log.filter", config.log.filter != serving.log.filter),
        ("ledger", config.ledger != serving.ledger),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key)
}
