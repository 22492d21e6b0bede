//! When a key set is fetched again. Pure: times and chance come in.

use std::time::{Duration, Instant};

/// The wait after the first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait after a failure, unless `refresh` is shorter: soon enough back, and no burden to who is down.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How often a key set is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshRule {
    /// Time between two regular fetches; up to a tenth less by chance, so that several gateways do not fetch at once.
    pub refresh: Duration,
    /// Least time between two fetches that tokens with unknown keys have asked for.
    pub cooldown: Duration,
}

/// What a token with an unknown key brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The set is to be fetched now, and the token to wait for that.
    Ask,
    /// It is being fetched, and the token is to wait for that.
    Wait,
    /// Nothing: the token is refused.
    Refuse,
}

/// What is known of the fetches of one set. Of these there is one at a time.
#[derive(Clone, Debug)]
pub struct Refresh {
    rule: RefreshRule,
    /// When it is to be fetched next.
    due: Instant,
    fetching: bool,
    /// Failures in a row.
    failures: u32,
    /// When a token last had it fetched.
    asked: Option<Instant>,
}

impl Refresh {
    /// Nothing is fetched yet, and the first fetch is due.
    #[must_use]
    pub const fn new(rule: RefreshRule, now: Instant) -> Self {
        Self { rule, due: now, fetching: false, failures: 0, asked: None }
    }

    /// The same by another rule, for whoever fetches from now on. A fetch that is under way is not theirs.
    #[must_use]
    pub fn taken_over(&self, rule: RefreshRule, now: Instant) -> Self {
        let latest = now.checked_add(rule.refresh).unwrap_or(now);
        let due = if self.fetching { now } else { self.due.min(latest) };
        Self { rule, due, fetching: false, ..self.clone() }
    }

    /// When the next fetch is due.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Whether the fetches of late have failed.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether a fetch is to begin now. If so it has begun, and one of [`succeeded`](Self::succeeded) and
    /// [`failed`](Self::failed) is to follow.
    pub fn begin(&mut self, now: Instant) -> bool {
        let begins = now >= self.due;
        self.fetching |= begins;
        begins
    }

    /// A token names a key that is not in the set.
    ///
    /// While fetches fail it can only wait for one that has begun: when the next begins is then a matter of the waits after
    /// failures.
    pub fn unknown_key(&mut self, now: Instant) -> Unknown {
        if self.fetching {
            return Unknown::Wait;
        }
        let is_warm = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < self.rule.cooldown);
        if is_warm || self.is_failing() {
            return Unknown::Refuse;
        }
        (self.asked, self.due, self.fetching) = (Some(now), now, true);
        Unknown::Ask
    }

    /// The set is there. `chance` is any number.
    pub fn succeeded(&mut self, now: Instant, chance: u64) {
        (self.fetching, self.failures) = (false, 0);
        self.due = after(now, self.rule.refresh, 10, chance);
    }

    /// It could not be fetched; gives whether that is the first failure in a row. `chance` is any number.
    pub fn failed(&mut self, now: Instant, chance: u64) -> bool {
        let longest = LONGEST_WAIT.min(self.rule.refresh);
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.fetching = false;
        self.due = after(now, wait, 2, chance);
        self.failures == 1
    }
}

/// The time after `wait`, less up to one `part`th of it by chance.
fn after(now: Instant, wait: Duration, part: u32, chance: u64) -> Instant {
    /// Steps that the part is divided into.
    const STEPS: u32 = 1024;
    let step = u32::try_from(chance % u64::from(STEPS + 1)).unwrap_or(0);
    let less = (wait / part).saturating_mul(step) / STEPS;
    now.checked_add(wait.saturating_sub(less)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: RefreshRule = RefreshRule { refresh: Duration::from_mins(10), cooldown: Duration::from_secs(30) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A rule whose first fetch has succeeded.
    fn loaded(now: Instant) -> Refresh {
        let mut refresh = Refresh::new(RULE, now);
        assert!(refresh.begin(now));
        refresh.succeeded(now, 0);
        refresh
    }

    #[test]
    fn it_is_fetched_at_once_and_then_regularly_a_little_spread() {
        let now = Instant::now();
        let mut refresh = loaded(now);
        assert!(!refresh.begin(now + seconds(599)));
        assert!(refresh.begin(now + seconds(600)));
        let dues: Vec<_> = (0..2000)
            .map(|chance| {
                refresh.succeeded(now, chance);
                refresh.due() - now
            })
            .collect();
        assert_eq!((dues.iter().min(), dues.iter().max()), (Some(&seconds(540)), Some(&seconds(600))));
    }

    #[test]
    fn an_unknown_key_has_it_fetched_at_once_but_once_per_cooldown() {
        let now = Instant::now();
        let mut refresh = loaded(now);
        assert_eq!(refresh.unknown_key(now), Unknown::Ask);
        assert_eq!(refresh.due(), now);
        assert_eq!(refresh.unknown_key(now), Unknown::Wait);
        assert!(refresh.begin(now));
        assert_eq!(refresh.unknown_key(now), Unknown::Wait);
        refresh.succeeded(now + seconds(1), 0);
        assert_eq!(refresh.unknown_key(now + seconds(29)), Unknown::Refuse);
        assert_eq!(refresh.unknown_key(now + seconds(30)), Unknown::Ask);
    }

    #[test]
    fn a_flood_of_unknown_keys_costs_one_fetch_per_cooldown() {
        let now = Instant::now();
        let mut refresh = loaded(now);
        let mut asked = 0;
        for millis in 0..100_000 {
            let now = now + Duration::from_millis(millis);
            if refresh.unknown_key(now) == Unknown::Ask {
                assert!(refresh.begin(now));
                refresh.succeeded(now, millis);
                asked += 1;
            }
        }
        assert_eq!(asked, 4, "at 0, 30, 60 and 90 seconds");
    }

    #[test]
    fn failures_back_off_and_unknown_keys_do_not_hurry_them() {
        let mut now = Instant::now();
        let mut refresh = Refresh::new(RULE, now);
        let mut waits = Vec::new();
        for nth in 0..9 {
            assert!(refresh.begin(now));
            assert_eq!(refresh.unknown_key(now), Unknown::Wait);
            assert_eq!(refresh.failed(now, 0), nth == 0, "only the first is news");
            assert_eq!(refresh.unknown_key(now), Unknown::Refuse);
            waits.push((refresh.due() - now).as_secs());
            now = refresh.due();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(refresh.begin(now));
        refresh.succeeded(now, 0);
        assert!(!refresh.is_failing());
        assert_eq!(refresh.unknown_key(now), Unknown::Ask);
        assert!(refresh.failed(now, 1024));
        assert_eq!(refresh.due() - now, FIRST_WAIT / 2, "spread, so that gateways do not come back at once");
    }

    #[test]
    fn waits_are_never_longer_than_a_refresh() {
        let now = Instant::now();
        let mut refresh = Refresh::new(RefreshRule { refresh: seconds(3), ..RULE }, now);
        for _ in 0..40 {
            refresh.failed(now, 0);
        }
        assert_eq!(refresh.due() - now, seconds(3));
    }
}
