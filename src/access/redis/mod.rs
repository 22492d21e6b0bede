//! Redis: one server or a cluster, shared by several gateways.
//!
//! One task keeps the connection (`keeper`): it connects, looks every second whether Redis still answers, and connects again
//! with growing pauses when it does not. While it is known to be down, commands fail at once; otherwise each gets its answer
//! within the time limit or none. No command is sent a second time by us.

mod keeper;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, FromRedisValue, RedisFuture, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::keeper::Servers;
pub use self::settings::{Node, Settings, Trust};

/// Longest text of an error that is passed on, in bytes.
const MAX_ERROR: usize = 300;

/// A Redis that others use, whether or not it can be reached at the moment.
pub struct Redis {
    settings: Settings,
    state: watch::Sender<State>,
    /// Asks the keeper to look now and not only in a second.
    look: Notify,
    succeeded: AtomicU64,
    failed: AtomicU64,
    connected: AtomicU64,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("snapshot", &self.snapshot()).finish_non_exhaustive()
    }
}

/// How it stands with Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisSnapshot {
    /// Whether it answered when it was last asked.
    pub up: bool,
    /// Commands that it answered.
    pub succeeded: u64,
    /// Commands that it refused, or did not answer in time.
    pub failed: u64,
}

/// Redis cannot be used. The text is for the log; it holds no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is known to be down, so that it was not asked.
    #[error("Redis is down: {0}")]
    Down(Arc<str>),
    /// It did not answer in time: whether it has carried the command out is not known.
    #[error("Redis did not answer in time")]
    TimedOut,
    /// It answered by an error, or the connection broke: then it is not known either.
    #[error("Redis failed: {0}")]
    Failed(String),
}

impl From<redis::RedisError> for Unusable {
    fn from(error: redis::RedisError) -> Self {
        Self::Failed(clipped(&error.to_string()))
    }
}

#[derive(Clone)]
enum State {
    /// Nothing is known yet.
    Connecting,
    Up(Link),
    Down(Arc<str>),
}

/// A connection that many commands share. The library drives it in a task of its own, which ends with the last clone.
#[derive(Clone)]
enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Redis {
    /// A Redis that is connected to from now on, in a task on `tasks` that ends with `stop`. Whether it is there does not
    /// matter yet. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// What the library says of settings that cannot be used, which the configuration rules out.
    pub fn start(settings: Settings, tasks: &TaskTracker, stop: CancellationToken) -> Result<Arc<Self>, Unusable> {
        let servers = Servers::new(&settings)?;
        let redis = Arc::new(Self {
            settings,
            state: watch::Sender::new(State::Connecting),
            look: Notify::new(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            connected: AtomicU64::new(0),
        });
        let keep = redis.clone().keep(servers);
        tasks.spawn(async move { stop.run_until_cancelled_owned(keep).await });
        Ok(redis)
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> RedisSnapshot {
        RedisSnapshot {
            up: matches!(*self.state.borrow(), State::Up(_)),
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// How often it was connected to: another number means that something may have been missed.
    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// The name of a key of ours.
    pub(super) fn key(&self, parts: &[&str]) -> String {
        let mut key = self.settings.prefix.clone();
        key.extend(parts.iter().copied());
        key
    }

    /// Sends a command and waits for its answer, up to the time limit, whatever the library does.
    ///
    /// # Errors
    ///
    /// [`Unusable`]. Only after [`Unusable::Down`] is it known that nothing was sent.
    pub(super) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unusable> {
        let exchange = async {
            let mut link = self.link().await?;
            Ok(command.query_async(&mut link).await?)
        };
        let answered = tokio::time::timeout(self.settings.timeout, exchange).await.unwrap_or(Err(Unusable::TimedOut));
        let counter = if answered.is_ok() { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        if answered.is_err() {
            self.look.notify_one();
        }
        answered
    }

    /// The connection, which is waited for only as long as the very first attempt takes.
    async fn link(&self) -> Result<Link, Unusable> {
        let mut states = self.state.subscribe();
        let known = states.wait_for(|state| !matches!(state, State::Connecting)).await;
        match known.as_deref() {
            Ok(State::Up(link)) => Ok(link.clone()),
            Ok(State::Down(why)) => Err(Unusable::Down(why.clone())),
            // The sender is `self`.
            Ok(State::Connecting) | Err(_) => Err(Unusable::TimedOut),
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(link) => link.req_packed_command(cmd),
            Self::Cluster(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(link) => link.req_packed_commands(cmd, offset, count),
            Self::Cluster(link) => link.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}

/// As much of a text as an error may hold, on one line.
fn clipped(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_ERROR);
    text.get(..end).unwrap_or_default().replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;
