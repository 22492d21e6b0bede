//! Everything on the backend's side: endpoints and their connections, event streams, POSTs.
//!
//! `balance`, `breaker`, `health` and `pacer` are the rules, pure; `open` chooses an endpoint by them, `guard` and `budget`
//! share them among connections, and `maintain` looks after them. `endpoint` finds a connection for a request among
//! `connections`, or has a new one made by `connect`. `body`, `events` and `messages` read the answers; `ask`
//! is for questions on the side.

mod ask;
mod balance;
mod body;
mod breaker;
mod budget;
mod check;
mod connect;
mod connections;
mod endpoint;
mod error;
pub mod events;
mod guard;
mod health;
mod maintain;
pub mod messages;
mod open;
mod pacer;
mod pass;
mod request;
mod resolve;
mod settings;
mod snapshot;
mod upgrade;
mod upload;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use ask::{Answer, AskError};
pub use body::{Body, ReadError};
pub use breaker::BreakerState;
pub use budget::{Budget, Turn};
pub use connect::ConnectError;
pub use endpoint::{Pool, StreamCount};
pub use error::SendError;
pub use health::HealthState;
pub use open::{OpenAnswer, OpenError};
pub use pass::{PassError, PassRules, Passed, Passing, UnderWay};
pub use request::{OutgoingRequest, RequestBody};
pub use resolve::{Lookup, Resolve, SystemResolver};
pub use settings::{Balance, BreakerRule, Endpoint, HealthKind, HealthRule, Protocol, Settings};
pub use snapshot::{BudgetSnapshot, EndpointSnapshot, UpstreamSnapshot};
pub use upgrade::{BackendStream, Switched, UpgradeAnswer};
pub use upload::{Sent, Upload, UploadError, UploadRules, Watch};

/// A named group of endpoints and the connections to them.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    pools: Box<[Arc<Pool>]>,
    balance: Balance,
    /// Counts choices, so that equals take turns.
    turn: AtomicU64,
    /// No endpoint was healthy at the last choice.
    desperate: AtomicBool,
    reopens: Arc<Budget>,
    retries: Arc<Budget>,
    health: Option<HealthRule>,
    resolve_interval: Duration,
    tasks: TaskTracker,
    /// Ends what the upstream does by itself, with the last that uses it. Its connections end by themselves then: the idle ones
    /// at once, each other one with its last request.
    life: DropGuard,
}

impl Upstream {
    /// An upstream without a single connection yet. Connections live on `tasks` and end with `stop`.
    ///
    /// # Errors
    ///
    /// Fails when the TLS library refuses the settings.
    pub fn new(settings: &Settings, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Self, rustls::Error> {
        Self::with_resolver(settings, tasks, stop, &(Arc::new(SystemResolver) as Arc<dyn Resolve>))
    }

    /// The same, with names looked up by another resolver than the system's.
    ///
    /// # Errors
    ///
    /// Fails when the TLS library refuses the settings.
    pub fn with_resolver(
        settings: &Settings,
        tasks: &TaskTracker,
        stop: &CancellationToken,
        resolver: &Arc<dyn Resolve>,
    ) -> Result<Self, rustls::Error> {
        let tls = settings.roots.clone().map(|roots| connect::client_config(roots, settings.protocol)).transpose()?;
        let pool = |endpoint: &Endpoint| {
            Pool::new(endpoint.clone(), settings, tls.clone(), resolver.clone(), tasks.clone(), stop.clone())
        };
        Ok(Self {
            name: settings.name.clone(),
            pools: settings.endpoints.iter().map(pool).map(Arc::new).collect(),
            balance: settings.balance,
            turn: AtomicU64::new(0),
            desperate: AtomicBool::new(false),
            reopens: Budget::new(settings.reopen_rate, Some(settings.reopen_concurrency)),
            retries: Budget::new(settings.retry_rate, None),
            health: settings.health.clone(),
            resolve_interval: settings.resolve_interval,
            tasks: tasks.clone(),
            life: stop.child_token().drop_guard(),
        })
    }

    /// Name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Turns to open an event stream again, shared by all connections. A turn is held until the answer is there.
    #[must_use]
    pub fn reopens(&self) -> &Arc<Budget> {
        &self.reopens
    }

    /// Turns to post a message again, shared by all connections.
    #[must_use]
    pub fn retries(&self) -> &Arc<Budget> {
        &self.retries
    }

    /// How it stands, for operators.
    #[must_use]
    pub fn snapshot(&self) -> UpstreamSnapshot {
        let now = Instant::now();
        UpstreamSnapshot {
            name: self.name.clone(),
            reopens: self.reopens.snapshot(),
            retries: self.retries.snapshot(),
            endpoints: self.pools.iter().map(|pool| pool.snapshot(now)).collect(),
        }
    }
}

/// A panic while one of these is held leaves nothing half done: every critical section is a single change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
