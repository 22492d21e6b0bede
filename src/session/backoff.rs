//! How long to wait before something is tried again.

use std::time::Duration;

/// Waits with full jitter: random from nothing to a ceiling that doubles with each attempt. Connections that failed
/// together must not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    /// State of a `SplitMix64` generator: eight bytes, and as random as this needs.
    state: u64,
}

impl Backoff {
    /// `seed` should differ between connections.
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The wait before attempt number `attempt`, from 0: at most `first`, doubled that many times, and at most `max`.
    pub(super) fn wait(&mut self, attempt: u32, first: Duration, max: Duration) -> Duration {
        let ceiling = first.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(max);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos.saturating_add(1)))
    }

    /// A number from 0 to `limit`, which is left out.
    fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(limit);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(250);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn a_wait_is_anywhere_between_nothing_and_a_ceiling_that_doubles() {
        for attempt in 0..40 {
            let ceiling = FIRST.saturating_mul(1 << attempt.min(20)).min(MAX);
            let mut backoff = Backoff::new(7);
            let waits: Vec<_> = (0..1000).map(|_| backoff.wait(attempt, FIRST, MAX)).collect();
            assert!(waits.iter().all(|wait| *wait <= ceiling), "attempt {attempt}");
            assert!(waits.iter().any(|wait| *wait < ceiling / 10), "attempt {attempt}: no short one");
            assert!(waits.iter().any(|wait| *wait > ceiling / 10 * 9), "attempt {attempt}: no long one");
        }
    }

    #[test]
    fn connections_that_fail_together_do_not_come_back_together() {
        let waits: Vec<_> = (0..100).map(|seed| Backoff::new(seed).wait(0, FIRST, MAX)).collect();
        let early = waits.iter().filter(|wait| **wait < FIRST / 2).count();
        assert!((30..70).contains(&early), "{early} of 100 come in the first half");
    }
}
