//! A breaker that many connections share, and that costs a working endpoint nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::breaker::{Admission, Breaker, BreakerRule, BreakerState, Change};
use super::lock;

/// What a breaker lets out: an endpoint has one for each, because event streams can fail where POSTs do not, and the
/// other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Streams,
    Messages,
    Questions,
    Upgrades,
}

impl Traffic {
    const fn label(self) -> &'static str {
        match self {
            Self::Streams => "event streams",
            Self::Messages => "messages",
            Self::Questions => "questions",
            Self::Upgrades => "WebSockets",
        }
    }
}

/// What the end of a request says of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers.
    Good,
    /// It does not.
    Bad,
    /// Nothing.
    Neither,
}

/// One endpoint's breaker for one kind of traffic.
#[derive(Debug)]
pub(super) struct Guard {
    upstream: Arc<str>,
    endpoint: Arc<str>,
    traffic: Traffic,
    /// Nothing has failed since the last success: then there is nothing to ask and nothing to tell, and no lock to take.
    quiet: AtomicBool,
    breaker: Mutex<Breaker>,
}

/// Leave for one request. Dropped without a verdict, it says nothing of the endpoint.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    guard: &'a Guard,
    trial: bool,
}

/// What an opening has to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) admits: bool,
    pub(super) state: BreakerState,
    pub(super) back: Option<Instant>,
}

impl Guard {
    pub(super) fn new(upstream: Arc<str>, endpoint: Arc<str>, traffic: Traffic, rule: BreakerRule) -> Self {
        let breaker = Mutex::new(Breaker::new(rule));
        Self { upstream, endpoint, traffic, quiet: AtomicBool::new(true), breaker }
    }

    /// Leave for one request; otherwise how long to wait, as far as that is known.
    pub(super) fn admit(&self) -> Result<Permit<'_>, Duration> {
        let trial = if self.quiet.load(Ordering::Relaxed) {
            false
        } else {
            match lock(&self.breaker).admit(Instant::now()) {
                Admission::Free => false,
                Admission::Trial => true,
                Admission::Refused(wait) => return Err(wait),
            }
        };
        Ok(Permit { guard: self, trial })
    }

    /// Something that had been let out before has failed.
    pub(super) fn failed(&self) {
        self.tell(false, Verdict::Bad);
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let breaker = lock(&self.breaker);
        Standing { admits: breaker.admits(now), state: breaker.state(now), back: breaker.back_since() }
    }

    fn tell(&self, trial: bool, verdict: Verdict) {
        if self.quiet.load(Ordering::Relaxed) && verdict != Verdict::Bad {
            return;
        }
        let change = {
            let mut breaker = lock(&self.breaker);
            let now = Instant::now();
            let change = match verdict {
                Verdict::Good => breaker.succeeded(trial, now),
                Verdict::Bad => breaker.failed(trial, now),
                Verdict::Neither if trial => {
                    breaker.trial_given_up();
                    None
                }
                Verdict::Neither => None,
            };
            self.quiet.store(breaker.is_quiet(), Ordering::Relaxed);
            change
        };
        let (upstream, endpoint, traffic) = (&*self.upstream, &*self.endpoint, self.traffic.label());
        match change {
            Some(Change::Opened(period)) => {
                let open_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
                warn!(upstream, endpoint, traffic, open_ms, "an endpoint fails and is left alone for a while");
            }
            Some(Change::Closed) => info!(upstream, endpoint, traffic, "an endpoint is used again"),
            None => {}
        }
    }
}

impl Permit<'_> {
    /// Says how the request ended.
    pub(super) fn settle(mut self, verdict: Verdict) {
        let trial = std::mem::take(&mut self.trial);
        self.guard.tell(trial, verdict);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.trial {
            self.guard.tell(true, Verdict::Neither);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(open_for: Duration) -> Guard {
        let rule = BreakerRule { failures: 2, open_for, max_open_for: Duration::from_secs(9) };
        Guard::new("app".into(), "127.0.0.1:1".into(), Traffic::Messages, rule)
    }

    #[test]
    fn a_guard_refuses_after_enough_failures() {
        let guard = guard(Duration::from_secs(9));
        guard.admit().unwrap().settle(Verdict::Bad);
        guard.admit().unwrap().settle(Verdict::Good);
        guard.admit().unwrap().settle(Verdict::Bad);
        guard.admit().unwrap().settle(Verdict::Neither);
        guard.failed();
        assert!(guard.admit().is_err());
        assert_eq!(guard.standing(Instant::now()).state, BreakerState::Open);
    }

    #[test]
    fn a_trial_that_is_dropped_is_given_to_the_next() {
        let guard = guard(Duration::ZERO);
        guard.failed();
        guard.failed();
        let trial = guard.admit().unwrap();
        assert!(guard.admit().is_err());
        drop(trial);
        guard.admit().unwrap().settle(Verdict::Neither);
        guard.admit().unwrap().settle(Verdict::Good);
        assert!(guard.admit().is_ok() && guard.admit().is_ok());
    }
}
