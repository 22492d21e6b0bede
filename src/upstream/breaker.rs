//! When an endpoint that fails is left alone, and when it is tried again. Pure: the time comes in.

use std::time::{Duration, Instant};

/// How many failures are too many, and for how long an endpoint is then left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    /// Failures in a row, at least one.
    pub failures: u32,
    /// How long the first time.
    pub open_for: Duration,
    /// It doubles each time that the trial fails, up to this.
    pub max_open_for: Duration,
}

/// What a breaker says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests go out.
    Closed,
    /// None goes out.
    Open,
    /// The time is over: one request goes out, and how it ends decides.
    HalfOpen,
}

impl BreakerState {
    /// The word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As any other.
    Free,
    /// As the one trial of a half-open breaker.
    Trial,
    /// No; perhaps after this time.
    Refused(Duration),
}

/// What changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It opened, for this long.
    Opened(Duration),
    /// It closed again.
    Closed,
}

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: BreakerRule,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
        /// When it was last open; `None` if it never was.
        back: Option<Instant>,
    },
    Open {
        until: Instant,
        /// How long this time.
        period: Duration,
        /// Whether the trial is under way.
        trial: bool,
    },
}

impl Breaker {
    pub(super) fn new(rule: BreakerRule) -> Self {
        Self { rule, state: State::Closed { failures: 0, back: None } }
    }

    /// Asks for a request to go out. A trial is promised to the one who asked: its end must be told, by one of the three
    /// methods below.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match &mut self.state {
            State::Closed { .. } => Admission::Free,
            State::Open { until, .. } if now < *until => Admission::Refused(until.duration_since(now)),
            State::Open { trial: true, .. } => Admission::Refused(Duration::ZERO),
            State::Open { trial, .. } => {
                *trial = true;
                Admission::Trial
            }
        }
    }

    /// Whether [`admit`](Self::admit) would let a request out.
    pub(super) fn admits(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until, trial, .. } => now >= until && !trial,
        }
    }

    /// A request was answered. One that went out before the breaker opened tells nothing new.
    pub(super) fn succeeded(&mut self, trial: bool, now: Instant) -> Option<Change> {
        match &mut self.state {
            State::Closed { failures, .. } => {
                *failures = 0;
                None
            }
            State::Open { .. } if trial => {
                self.state = State::Closed { failures: 0, back: Some(now) };
                Some(Change::Closed)
            }
            State::Open { .. } => None,
        }
    }

    /// A request failed. One that went out before the breaker opened tells nothing new.
    pub(super) fn failed(&mut self, trial: bool, now: Instant) -> Option<Change> {
        let period = match &mut self.state {
            State::Closed { failures, .. } => {
                *failures = failures.saturating_add(1);
                (*failures >= self.rule.failures).then_some(self.rule.open_for)
            }
            State::Open { period, .. } if trial => Some(period.saturating_mul(2).min(self.rule.max_open_for)),
            State::Open { .. } => None,
        }?;
        self.state = State::Open { until: now + period, period, trial: false };
        Some(Change::Opened(period))
    }

    /// The trial was given up before it could tell anything: the next request is the trial.
    pub(super) fn trial_given_up(&mut self) {
        if let State::Open { trial, .. } = &mut self.state {
            *trial = false;
        }
    }

    /// Whether a success would change nothing, so that it need not be told.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.state, State::Closed { failures: 0, .. })
    }

    /// Since when the endpoint is back, or may be tried again.
    pub(super) fn back_since(&self) -> Option<Instant> {
        match self.state {
            State::Closed { back, .. } => back,
            State::Open { until, .. } => Some(until),
        }
    }

    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until, .. } if now < until => BreakerState::Open,
            State::Open { .. } => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: BreakerRule =
        BreakerRule { failures: 3, open_for: Duration::from_secs(1), max_open_for: Duration::from_secs(3) };
    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(RULE);
        for _ in 0..2 {
            assert_eq!(breaker.failed(false, now), None);
        }
        assert_eq!(breaker.failed(false, now), Some(Change::Opened(SECOND)));
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(RULE);
        for _ in 0..10 {
            assert_eq!((breaker.failed(false, now), breaker.failed(false, now)), (None, None));
            assert!(!breaker.is_quiet());
            breaker.succeeded(false, now);
            assert!(breaker.is_quiet());
        }
        assert_eq!(breaker.admit(now), Admission::Free);
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn open_it_refuses_until_its_time_is_over_and_then_lets_one_trial_out() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now + SECOND / 4), Admission::Refused(SECOND * 3 / 4));
        assert_eq!(breaker.state(now), BreakerState::Open);
        assert!(!breaker.admits(now));
        let later = now + SECOND;
        assert!(breaker.admits(later));
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(later), Admission::Trial);
        assert_eq!(breaker.admit(later), Admission::Refused(Duration::ZERO));
        assert!(!breaker.admits(later));
        assert_eq!(breaker.succeeded(true, later), Some(Change::Closed));
        assert_eq!(breaker.admit(later), Admission::Free);
        assert_eq!(breaker.back_since(), Some(later));
    }

    #[test]
    fn each_trial_that_fails_doubles_the_time_up_to_the_most() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [2, 3, 3] {
            now += Duration::from_secs(10);
            assert_eq!(breaker.admit(now), Admission::Trial);
            assert_eq!(breaker.failed(true, now), Some(Change::Opened(Duration::from_secs(seconds))));
        }
        now += Duration::from_secs(10);
        assert_eq!(breaker.admit(now), Admission::Trial);
        breaker.succeeded(true, now);
        for _ in 0..3 {
            breaker.failed(false, now);
        }
        assert_eq!(breaker.admit(now), Admission::Refused(SECOND), "the time begins anew");
    }

    #[test]
    fn what_went_out_before_it_opened_tells_nothing() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.failed(false, now + SECOND / 2), None);
        assert_eq!(breaker.succeeded(false, now + SECOND / 2), None);
        assert_eq!(breaker.admit(now + SECOND), Admission::Trial);
        assert_eq!(breaker.failed(false, now + SECOND), None);
        assert_eq!(breaker.succeeded(false, now + SECOND), None);
        assert_eq!(breaker.admit(now + SECOND), Admission::Refused(Duration::ZERO), "the trial is still under way");
    }

    #[test]
    fn a_trial_that_is_given_up_leaves_its_place_to_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now + SECOND), Admission::Trial);
        breaker.trial_given_up();
        assert_eq!(breaker.admit(now + SECOND), Admission::Trial);
    }

    proptest! {
        #[test]
        fn at_most_one_trial_is_under_way_and_nothing_goes_out_while_it_is_open(
            steps in prop::collection::vec((0_u8..5, 0_u64..1500), 1..200),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(RULE);
            let (mut trial, mut free) = (false, 0_u32);
            for (what, millis) in steps {
                now += Duration::from_millis(millis);
                let before = breaker.state(now);
                match what {
                    0 | 1 => match breaker.admit(now) {
                        Admission::Trial => {
                            prop_assert!(!trial && before == BreakerState::HalfOpen);
                            trial = true;
                        }
                        Admission::Free => {
                            prop_assert_eq!(before, BreakerState::Closed);
                            free += 1;
                        }
                        Admission::Refused(wait) => {
                            prop_assert!(before == BreakerState::Open || trial);
                            prop_assert!(wait <= RULE.max_open_for);
                        }
                    },
                    2 if trial => {
                        breaker.failed(true, now);
                        trial = false;
                        prop_assert_eq!(breaker.state(now), BreakerState::Open);
                    }
                    3 if trial => {
                        breaker.trial_given_up();
                        trial = false;
                    }
                    4 if trial => {
                        breaker.succeeded(true, now);
                        trial = false;
                        prop_assert_eq!(breaker.state(now), BreakerState::Closed);
                    }
                    _ if free > 0 => {
                        free -= 1;
                        if what == 2 { breaker.failed(false, now) } else { breaker.succeeded(false, now) };
                    }
                    _ => {}
                }
            }
        }
    }
}
