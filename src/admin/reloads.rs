//! What came of the attempts to reload the configuration, for operators.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Counts reloads.
#[derive(Debug)]
pub struct Reloads {
    began: Instant,
    applied: AtomicU64,
    refused: AtomicU64,
    /// When the configuration was loaded that is in use: milliseconds since it all began.
    loaded: AtomicU64,
    /// Whether the newest attempt was refused.
    stale: AtomicBool,
}

impl Reloads {
    /// The configuration that the gateway starts with was loaded at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let (applied, refused, loaded) = Default::default();
        Self { began: now, applied, refused, loaded, stale: AtomicBool::new(false) }
    }

    /// Another configuration is in use from `now` on.
    pub fn applied(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_millis();
        self.loaded.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
        self.applied.fetch_add(1, Relaxed);
        self.stale.store(false, Relaxed);
    }

    /// A configuration could not be used, and the one before still is.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
        self.stale.store(true, Relaxed);
    }

    /// How many were put in use, and how many could not be.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.applied.load(Relaxed), self.refused.load(Relaxed))
    }

    /// For how long the configuration has been in use at `now`.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.began);
        age.saturating_sub(Duration::from_millis(self.loaded.load(Relaxed)))
    }

    /// Whether the newest attempt was refused: then the file is not what the gateway runs with.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_leaves_the_age_and_is_seen_until_one_succeeds() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let reloads = Reloads::new(start);
        assert_eq!((reloads.age(start + 5 * second), reloads.is_stale()), (5 * second, false));
        reloads.refused();
        assert_eq!((reloads.age(start + 6 * second), reloads.is_stale()), (6 * second, true));
        reloads.applied(start + 7 * second);
        assert_eq!((reloads.age(start + 9 * second), reloads.is_stale()), (2 * second, false));
        assert_eq!(reloads.counts(), (1, 1));
    }
}
