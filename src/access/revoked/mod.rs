//! Who was sent away: what was taken back before its time, here and, with Redis, on all gateways.
//!
//! `set` is what is kept of that, and asked for every client; `shared` is where gateways tell each other.

mod set;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

pub use self::set::{Full, Revocations};
use self::shared::{Position, Shared};
use super::redis::{Redis, Unusable};
use crate::identity::{Holder, Identity, Revocation, What};

/// How often other gateways are listened to.
const LISTEN: Duration = Duration::from_secs(1);

/// For how long and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a revocation is kept, and so how long whatever it is about must have lasted at most.
    pub keep: Duration,
    /// Most that are kept at once.
    pub max_entries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keep: Duration::from_hours(24), max_entries: 100_000 }
    }
}

/// Ends live connections that a revocation is about; gives their number.
pub type End = dyn Fn(&Revocation) -> usize + Send + Sync;

/// Takes back what was proven.
pub struct Revoker {
    set: Revocations,
    shared: ArcSwapOption<Shared>,
    end: Box<End>,
}

impl fmt::Debug for Revoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker").field("kept", &self.set.len()).finish_non_exhaustive()
    }
}

/// What came of a revocation here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Live connections of this gateway that it ended.
    pub closed: usize,
    /// Whether other gateways get to know of it; without Redis there are none to tell.
    pub told_others: bool,
}

/// What is not done of a revocation. Live connections of this gateway were ended in any case, and the same may be asked for
/// again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// It is not kept, so that the same client may come back.
    #[error(transparent)]
    Full(#[from] Full),
    /// It is kept here, but other gateways may not know of it.
    #[error("other gateways were not told: {0}")]
    NotTold(#[from] Unusable),
}

impl Revoker {
    /// One that has taken nothing back yet. `end` is called with each that is new, from here or from elsewhere.
    #[must_use]
    pub fn new(
        settings: Settings,
        redis: Option<Arc<Redis>>,
        end: impl Fn(&Revocation) -> usize + Send + Sync + 'static,
    ) -> Self {
        let set = Revocations::new(settings.keep, settings.max_entries);
        Self { set, shared: ArcSwapOption::new(shared(redis)), end: Box::new(end) }
    }

    /// Goes on by these settings and with this Redis. What was taken back stays so.
    pub fn reconfigure(&self, settings: Settings, redis: Option<Arc<Redis>>) {
        self.set.limit(settings.keep, settings.max_entries);
        let is_same = match (&*self.shared.load(), &redis) {
            (Some(present), Some(redis)) => present.is_in(redis),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            self.shared.store(shared(redis));
        }
    }

    /// Listens to other gateways and forgets what is over, in a task on `tasks` that ends with `stop`.
    pub fn follow(self: &Arc<Self>, tasks: &TaskTracker, stop: CancellationToken) {
        let follow = self.clone().listen();
        tasks.spawn(async move { stop.run_until_cancelled_owned(follow).await });
    }

    /// Whether an identity that is offered now was taken back. It has to be asked before a client is let in, and again once
    /// its connection stands in the registry: one that was being opened meanwhile was not ended.
    #[must_use]
    pub fn refuses(&self, identity: &Identity) -> bool {
        !self.set.is_empty() && self.set.refuses(identity, SystemTime::now())
    }

    /// Whether a connection has to end that has just come to stand in the registry: what it belongs to was taken back while it
    /// was being opened.
    #[must_use]
    pub fn ends(&self, holder: &Holder) -> bool {
        !self.set.is_empty() && self.set.ends(holder, SystemTime::now())
    }

    /// How much is remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.set.len()
    }

    /// What is taken back at the moment, the oldest first.
    #[must_use]
    pub fn kept(&self) -> Vec<Revocation> {
        self.set.list(SystemTime::now())
    }

    /// Takes something back: here at once, and then on all gateways.
    ///
    /// # Errors
    ///
    /// [`RevokeError`], if not all of that was done.
    pub async fn revoke(&self, what: What) -> Result<Report, RevokeError> {
        let now = SystemTime::now();
        let revocation = Revocation { what, at: whole_millis(now), id: Uuid::now_v7() };
        // First, so that whoever is just coming in finds it.
        let inserted = self.set.insert(&revocation, now);
        let closed = (self.end)(&revocation);
        // A subject is a name of somebody: it is said in the lines of the connections that end, and not here.
        info!(kind = revocation.what.kind(), closed, "revoked");
        inserted?;
        let shared = self.shared.load_full();
        if let Some(shared) = &shared {
            let told = shared.append(&revocation, self.set.max(), self.set.keep()).await;
            told.inspect_err(|error| warn!(%error, "other gateways were not told of a revocation"))?;
        }
        Ok(Report { closed, told_others: shared.is_some() })
    }

    async fn listen(self: Arc<Self>) {
        let (mut position, mut complained) = (Position::default(), false);
        let mut read: Option<Arc<Shared>> = None;
        loop {
            self.set.forget(SystemTime::now());
            let shared = self.shared.load_full();
            if shared.as_ref().map(Arc::as_ptr) != read.as_ref().map(Arc::as_ptr) {
                // Another Redis: where the first one was read to means nothing there.
                (position, read) = (Position::default(), shared);
            }
            if let Some(shared) = &read {
                match self.catch_up(shared, &mut position).await {
                    Ok(()) => complained = false,
                    // That it is down is said elsewhere.
                    Err(Unusable::Down(_)) => {}
                    Err(error) if !complained => {
                        complained = true;
                        warn!(error = %error, "cannot read what other gateways revoked");
                    }
                    Err(_) => {}
                }
            }
            tokio::time::sleep(LISTEN).await;
        }
    }

    /// Applies all that is new.
    async fn catch_up(&self, shared: &Shared, position: &mut Position) -> Result<(), Unusable> {
        loop {
            let (page, more) = shared.read(position, self.set.keep(), SystemTime::now()).await?;
            for revocation in page {
                // One that has no room still ends who is here; every gateway has the same limit, so that the one where it was
                // asked for has said so.
                if self.set.insert(&revocation, SystemTime::now()) != Ok(false) {
                    let closed = (self.end)(&revocation);
                    info!(kind = revocation.what.kind(), closed, "revoked by another gateway");
                }
            }
            if !more {
                return Ok(());
            }
        }
    }
}

fn shared(redis: Option<Arc<Redis>>) -> Option<Arc<Shared>> {
    redis.map(|redis| Arc::new(Shared::new(redis)))
}

/// The time in whole milliseconds, as it is told to others; later rather than earlier, so that nothing proven before it is
/// taken for later.
fn whole_millis(now: SystemTime) -> SystemTime {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn revoker(max_entries: usize) -> (Arc<Mutex<Vec<String>>>, Revoker) {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let settings = Settings { max_entries, ..Settings::default() };
        let seen = ended.clone();
        let end = move |revocation: &Revocation| {
            seen.lock().expect("no panic").push(revocation.what.to_string());
            2
        };
        (ended, Revoker::new(settings, None, end))
    }

    fn subject(name: &str) -> What {
        What::read("subject", name).expect("sound")
    }

    #[tokio::test]
    async fn a_revocation_ends_who_is_here_and_is_kept() {
        let (ended, revoker) = revoker(10);
        assert_eq!(revoker.revoke(subject("ada")).await, Ok(Report { closed: 2, told_others: false }));
        assert_eq!(*ended.lock().expect("no panic"), ["subject ada"]);
        assert_eq!(revoker.kept().iter().map(|one| one.what.clone()).collect::<Vec<_>>(), [subject("ada")]);
    }

    #[tokio::test]
    async fn without_room_who_is_here_still_has_to_go() {
        let (ended, revoker) = revoker(1);
        assert!(revoker.revoke(subject("ada")).await.is_ok());
        assert_eq!(revoker.revoke(subject("eve")).await, Err(RevokeError::Full(Full)));
        assert_eq!(*ended.lock().expect("no panic"), ["subject ada", "subject eve"]);
        assert!(revoker.revoke(subject("ada")).await.is_ok(), "the same again needs no room");
    }

    #[test]
    fn the_time_of_a_revocation_is_never_before_it() {
        let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
        assert_eq!(whole_millis(at(1_000_001)), at(2_000_000));
        assert_eq!(whole_millis(at(2_000_000)), at(2_000_000));
    }
}
