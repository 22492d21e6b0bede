//! How long a connection may be idle, how old it may become, and how long its client's identity holds.

use std::time::{Duration, Instant};

use super::cause::Cause;

/// The limits on one connection's time; most routes have none.
#[derive(Debug)]
pub struct Lifetime {
    idle_timeout: Option<Duration>,
    last_message: Instant,
    ends: Option<Instant>,
    /// Whether it is the identity that ends then.
    expires: bool,
}

impl Lifetime {
    /// Starts at `now`. `spread`, from 0 to 255, ends it up to a tenth earlier, so that connections which were opened
    /// together do not come back together. It does not touch `expires`, from when on nobody may speak for the client.
    #[must_use]
    pub fn new(
        idle_timeout: Option<Duration>,
        max_age: Option<Duration>,
        expires: Option<Instant>,
        spread: u8,
        now: Instant,
    ) -> Self {
        let old = max_age.and_then(|age| now.checked_add(age.saturating_sub(age / 10 * u32::from(spread) / 255)));
        let first = expires.filter(|expires| old.is_none_or(|old| *expires <= old));
        Self { idle_timeout, last_message: now, ends: first.or(old), expires: first.is_some() }
    }

    /// A message went one way or the other. `at` is when; later, if no other could follow it until then.
    pub fn message(&mut self, at: Instant) {
        self.last_message = self.last_message.max(at);
    }

    /// Why it ends at `now`, if it does.
    #[must_use]
    pub fn over(&self, now: Instant) -> Option<Cause> {
        if self.ends.is_some_and(|ends| ends <= now) {
            return Some(if self.expires { Cause::Expired } else { Cause::MaxAge });
        }
        self.idle_until().is_some_and(|until| until <= now).then_some(Cause::Idle)
    }

    /// When [`over`](Self::over) must be asked again.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ends.into_iter().chain(self.idle_until()).min()
    }

    fn idle_until(&self) -> Option<Instant> {
        self.idle_timeout.and_then(|timeout| self.last_message.checked_add(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn without_limits_a_connection_lives_for_ever() {
        let now = Instant::now();
        let lifetime = Lifetime::new(None, None, None, 0, now);
        assert_eq!((lifetime.next_deadline(), lifetime.over(now + 1000 * MINUTE)), (None, None));
    }

    #[test]
    fn every_message_begins_the_idle_time_anew() {
        let now = Instant::now();
        let mut lifetime = Lifetime::new(Some(MINUTE), None, None, 0, now);
        lifetime.message(now + MINUTE / 2);
        assert_eq!(lifetime.over(now + MINUTE), None);
        assert_eq!(lifetime.next_deadline(), Some(now + MINUTE / 2 + MINUTE));
        assert_eq!(lifetime.over(now + 2 * MINUTE), Some(Cause::Idle));
    }

    #[test]
    fn the_age_limit_is_spread_over_a_tenth_of_it() {
        let now = Instant::now();
        let ends = |spread| Lifetime::new(None, Some(10 * MINUTE), None, spread, now).next_deadline();
        assert_eq!(ends(0), Some(now + 10 * MINUTE));
        assert_eq!(ends(255), Some(now + 9 * MINUTE));
        assert!(ends(128) > ends(255) && ends(128) < ends(0));
        assert_eq!(Lifetime::new(None, Some(MINUTE), None, 0, now).over(now + MINUTE), Some(Cause::MaxAge));
    }

    #[test]
    fn an_identity_ends_on_the_dot_and_before_an_age_that_lies_behind_it() {
        let now = Instant::now();
        let ends = |expires, max_age: Option<Duration>, spread| {
            let lifetime = Lifetime::new(None, max_age, Some(now + expires), spread, now);
            let end = lifetime.next_deadline().unwrap();
            (end - now, lifetime.over(end).unwrap(), lifetime.over(end.checked_sub(Duration::from_nanos(1)).unwrap()))
        };
        for spread in [0, 255] {
            assert_eq!(ends(MINUTE, None, spread), (MINUTE, Cause::Expired, None));
            assert_eq!(ends(MINUTE, Some(10 * MINUTE), spread), (MINUTE, Cause::Expired, None));
        }
        assert_eq!(
            ends(9 * MINUTE, Some(10 * MINUTE), 255),
            (9 * MINUTE, Cause::Expired, None),
            "who is to blame is known"
        );
        assert_eq!(ends(10 * MINUTE, Some(MINUTE), 0), (MINUTE, Cause::MaxAge, None));
        let over = Lifetime::new(None, None, Some(now), 0, now);
        assert_eq!((over.over(now), over.next_deadline()), (Some(Cause::Expired), Some(now)));
    }
}
