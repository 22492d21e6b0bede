//! How many starts a second: an even pace with a small burst. Pure: the time comes in.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Spaces starts so that never more than the rate fall into any second (the generic cell rate algorithm).
///
/// A timer goes off up to a few milliseconds late. A hundredth of a second's starts may therefore be made up for in a
/// burst; that burst is taken off the pace, so that the promise holds for every window of one second all the same.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Time between two starts at the even pace.
    interval: Duration,
    /// How far starts may run ahead of the pace.
    slack: Duration,
    /// When the next start would be due at the even pace.
    due: Option<Instant>,
}

impl Pacer {
    /// At most `rate` starts in any second.
    pub(super) fn new(rate: NonZeroU32) -> Self {
        let burst = (rate.get() / 100).max(1);
        // Rounded up: down would let one more start into the second.
        let nanos = 1_000_000_000_u64.div_ceil(u64::from(rate.get() - (burst - 1)));
        let interval = Duration::from_nanos(nanos);
        Self { interval, slack: interval.saturating_mul(burst - 1), due: None }
    }

    /// When the next start may be, if nobody else is granted one before: `now`, or later.
    pub(super) fn ready_at(&self, now: Instant) -> Instant {
        let earliest = self.due.and_then(|due| due.checked_sub(self.slack));
        earliest.map_or(now, |earliest| earliest.max(now))
    }

    /// Takes the start that [`ready_at`](Self::ready_at) gave as due by `now`.
    pub(super) fn take(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pacer(rate: u32) -> Pacer {
        Pacer::new(NonZeroU32::new(rate).unwrap())
    }

    #[test]
    fn starts_are_evenly_spaced() {
        let mut now = Instant::now();
        let mut pacer = pacer(10);
        for _ in 0..50 {
            assert_eq!(pacer.ready_at(now), now);
            pacer.take(now);
            assert_eq!(pacer.ready_at(now), now + Duration::from_millis(100));
            now += Duration::from_millis(100);
        }
    }

    #[test]
    fn a_late_timer_is_made_up_for() {
        let begin = Instant::now();
        let mut now = begin;
        let mut pacer = pacer(1000);
        let mut starts = 0;
        while now < begin + Duration::from_secs(10) {
            // Looks every 3 ms alone.
            now += Duration::from_millis(3);
            while pacer.ready_at(now) == now {
                pacer.take(now);
                starts += 1;
            }
        }
        assert!((9_800..=10_000).contains(&starts), "{starts}");
    }

    proptest! {
        #[test]
        fn no_second_has_more_starts_than_the_rate(
            rate in prop_oneof![1_u32..20, 90_u32..400],
            waits in prop::collection::vec(prop_oneof![Just(0_u64), 0_u64..5_000, 0_u64..2_000_000], 1..1_000),
        ) {
            let mut now = Instant::now();
            let mut pacer = pacer(rate);
            let mut starts = Vec::new();
            for micros in waits {
                now += Duration::from_micros(micros);
                // Whoever asks too early comes back when it is time.
                now = pacer.ready_at(now);
                pacer.take(now);
                starts.push(now);
            }
            for window in starts.windows(rate as usize + 1) {
                let (first, last) = (window[0], window[rate as usize]);
                prop_assert!(last - first >= Duration::from_secs(1), "{rate} + 1 starts within {:?}", last - first);
            }
        }
    }
}
