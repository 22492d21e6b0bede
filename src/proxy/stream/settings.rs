//! What holds for the event streams of one route.

use std::time::Duration;

/// `[route.proxy.stream]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long nothing may be sent before a comment is; `None`: none ever is.
    pub heartbeat: Option<Duration>,
    /// How long upstream may send nothing before it counts as gone; `None`: for ever.
    pub stall_timeout: Option<Duration>,
    /// How long there may be no event before the stream ends; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// The shortest time that clients are told to wait before they come back.
    pub reconnect_min: Duration,
    /// The longest. Each client is told a time between the two.
    pub reconnect_max: Duration,
    /// What a client is answered that asks for a stream while upstream is away.
    pub on_failure: OnFailure,
}

/// What a client is answered that asks for an event stream which upstream cannot give at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// A stream that ends at once and says when to come back: a browser's `EventSource` gives up for good on a 5xx.
    Retry,
    /// The failure as it is.
    Pass,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Half of what the shortest idle limits of proxies on the way are known to be.
            heartbeat: Some(Duration::from_secs(15)),
            // That of the bridge.
            stall_timeout: Some(Duration::from_secs(90)),
            idle_timeout: None,
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(5),
            on_failure: OnFailure::Retry,
        }
    }
}

impl Settings {
    /// How long the client of this number is told to wait, in milliseconds: evenly spread from the shortest to the longest,
    /// and `least` longer if that is asked for.
    #[must_use]
    pub fn reconnect(&self, random: u64, least: Duration) -> u64 {
        let spread = self.reconnect_max.saturating_sub(self.reconnect_min).as_millis();
        // Of 64 random bits, the remainder is even enough for a spread of minutes.
        let jitter = u128::from(random) % (spread + 1);
        let least = least.max(self.reconnect_min).as_millis();
        u64::try_from(least + jitter).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_to_come_back_at_different_times_within_the_limits() {
        let settings = Settings::default();
        let times: Vec<u64> = (0..10_000).map(|seed| settings.reconnect(seed * 7_919, Duration::ZERO)).collect();
        assert!(times.iter().all(|time| (1000..=5000).contains(time)));
        let early = times.iter().filter(|time| **time < 2000).count();
        assert!((2000..3000).contains(&early), "{early} of 10000 in the first of four seconds");
    }

    #[test]
    fn nobody_comes_back_before_upstream_wants_it() {
        let settings = Settings::default();
        assert_eq!(settings.reconnect(0, Duration::from_mins(1)), 60_000);
        assert_eq!(settings.reconnect(4000, Duration::from_mins(1)), 64_000, "and not all at that moment");
        let fixed = Settings { reconnect_max: Duration::from_secs(1), ..settings };
        assert_eq!(fixed.reconnect(u64::MAX, Duration::ZERO), 1000);
    }
}
