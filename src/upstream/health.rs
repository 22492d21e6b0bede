//! What a row of health checks says. Pure.

use std::time::Duration;

use http::uri::PathAndQuery;

/// How an endpoint is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRule {
    /// What is asked, and what is a good answer.
    pub kind: HealthKind,
    /// Path, with an optional query.
    pub path: PathAndQuery,
    /// Time between two checks; a tenth more or less by chance, so that several gateways do not check at once.
    pub interval: Duration,
    /// How long a check may take, connecting included.
    pub timeout: Duration,
    /// Good answers in a row that make an unhealthy endpoint healthy.
    pub healthy_after: u32,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_after: u32,
}

/// What a health check asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthKind {
    /// A GET; any 2xx is good.
    #[default]
    Http,
    /// A GET for an event stream; good when the first byte of the stream has come.
    Stream,
}

/// What the health checks say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Nothing yet, or there are none; it is used.
    #[default]
    Unknown,
    /// It is used.
    Healthy,
    /// It is not used while there is another.
    Unhealthy,
}

impl HealthState {
    /// The word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The state, and how many answers in a row speak against it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    state: HealthState,
    against: u32,
}

impl Health {
    pub(super) fn state(self) -> HealthState {
        self.state
    }

    /// Takes in one check. Gives the new state if it has changed. The very first good answer is enough.
    pub(super) fn record(&mut self, good: bool, rule: &HealthRule) -> Option<HealthState> {
        let (other, needed) = match (self.state, good) {
            (HealthState::Unknown, true) => (HealthState::Healthy, 1),
            (HealthState::Unknown | HealthState::Healthy, false) => (HealthState::Unhealthy, rule.unhealthy_after),
            (HealthState::Unhealthy, true) => (HealthState::Healthy, rule.healthy_after),
            (HealthState::Healthy, true) | (HealthState::Unhealthy, false) => {
                self.against = 0;
                return None;
            }
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        *self = Self { state: other, against: 0 };
        Some(other)
    }
}

/// The time until the next check: `interval`, a tenth more or less by `random`.
pub(super) fn next_check(interval: Duration, random: u64) -> Duration {
    /// Steps that the tenth is divided into.
    const STEPS: u32 = 1024;
    let step = u32::try_from(random % u64::from(2 * STEPS + 1)).unwrap_or(STEPS);
    let tenth = interval / 10;
    interval.saturating_sub(tenth) + tenth.saturating_mul(step) / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> HealthRule {
        HealthRule {
            kind: HealthKind::Http,
            path: PathAndQuery::from_static("/"),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }

    /// Every change, with the number of the check that made it.
    fn changes(answers: &str) -> Vec<(usize, &'static str)> {
        let mut health = Health::default();
        let answers = answers.chars().enumerate();
        answers.filter_map(|(at, c)| Some((at + 1, health.record(c == '+', &rule())?.label()))).collect()
    }

    #[test]
    fn a_state_changes_after_enough_answers_in_a_row() {
        assert_eq!(changes("+++"), [(1, "healthy")]);
        assert_eq!(changes("---"), [(3, "unhealthy")]);
        assert_eq!(changes("+--+--+---"), [(1, "healthy"), (10, "unhealthy")]);
        assert_eq!(changes("---+-+-++"), [(3, "unhealthy"), (9, "healthy")]);
    }

    #[test]
    fn checks_are_spread_by_a_tenth() {
        let second = Duration::from_secs(1);
        let times: Vec<_> = (0..5000).map(|random| next_check(second, random)).collect();
        assert_eq!(times.iter().min(), Some(&Duration::from_millis(900)));
        assert_eq!(times.iter().max(), Some(&Duration::from_millis(1100)));
    }
}
