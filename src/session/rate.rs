//! How much in how much time: a bucket that is emptied by what is taken and filled again at an even rate.

use std::num::NonZeroU32;
use std::time::Duration;

/// A rate and the burst that may run ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many units come back in `seconds`.
    units: NonZeroU32,
    seconds: NonZeroU32,
    /// How many units a full bucket holds.
    burst: NonZeroU32,
}

impl Rate {
    /// So many units a second, and a bucket of `burst` units.
    #[must_use]
    pub const fn per_second(units: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { units, seconds: NonZeroU32::MIN, burst }
    }

    /// So many units a minute, and a bucket of `burst` units.
    #[must_use]
    pub const fn per_minute(units: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { units, seconds: NonZeroU32::MIN.saturating_add(59), burst }
    }

    /// The most that can be had in a time that begins with a full bucket.
    #[cfg(test)]
    pub(crate) fn gives(&self, time: Duration) -> u128 {
        u128::from(self.burst.get()) + self.ticks_of(time) / self.ticks_of_unit()
    }

    /// The time of one unit in ticks. A nanosecond has as many ticks as `seconds` have units, so that both are whole
    /// numbers and nothing is ever rounded into the bucket.
    const fn ticks_of_unit(&self) -> u128 {
        self.seconds.get() as u128 * 1_000_000_000
    }

    const fn ticks_of(&self, time: Duration) -> u128 {
        // 2^94 nanoseconds at most, times 2^32: it fits.
        time.as_nanos() * self.units.get() as u128
    }

    /// Rounded up: whoever waits for it finds room.
    fn time_of(&self, ticks: u128) -> Duration {
        let nanos = ticks.div_ceil(u128::from(self.units.get()));
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }
}

/// A bucket, full at first (the generic cell rate algorithm). It holds the time at which it would be full again if nothing
/// more were taken.
///
/// 16 bytes. Its owner keeps the instant that all times are counted from, and gives the same [`Rate`] each time. Time
/// that goes back stands still here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: u128,
}

impl Bucket {
    /// Takes `units` if they are there. More than a full bucket holds can be taken from a full one, which owes the rest:
    /// otherwise it could never be taken.
    ///
    /// # Errors
    ///
    /// How long it takes until they are there, if nobody else takes any. Nothing was taken then.
    pub fn take(&mut self, units: u64, rate: &Rate, now: Duration) -> Result<(), Duration> {
        let wait = self.wait(units, rate, now);
        if wait.is_zero() {
            self.spend(units, rate, now);
            return Ok(());
        }
        Err(wait)
    }

    /// Takes `units`, there or not; what was not there is owed.
    pub fn spend(&mut self, units: u64, rate: &Rate, now: Duration) {
        let cost = u128::from(units).saturating_mul(rate.ticks_of_unit());
        self.full_at = self.full_at.max(rate.ticks_of(now)).saturating_add(cost);
    }

    /// How long it takes until `units` are there, or until the bucket is full if it does not hold as many.
    #[must_use]
    pub fn wait(&self, units: u64, rate: &Rate, now: Duration) -> Duration {
        let missing = u128::from(rate.burst.get()).saturating_sub(units.into());
        // How far the bucket may be from full, and then still hold as many.
        let slack = missing * rate.ticks_of_unit();
        rate.time_of(self.full_at.saturating_sub(rate.ticks_of(now)).saturating_sub(slack))
    }

    /// When it is full again, and as good as new.
    #[must_use]
    pub fn full_at(&self, rate: &Rate) -> Duration {
        rate.time_of(self.full_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZERO: Duration = Duration::ZERO;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::per_second(number(per_second), number(burst))
    }

    #[test]
    fn a_burst_is_there_at_once_and_then_the_rate() {
        let rate = rate(4, 3);
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(1, &rate, ZERO), Ok(()));
        }
        let quarter = Duration::from_millis(250);
        assert_eq!(bucket.take(1, &rate, ZERO), Err(quarter));
        assert_eq!(bucket.take(1, &rate, quarter), Ok(()));
        assert_eq!(bucket.take(3, &rate, quarter), Err(3 * quarter));
        assert_eq!(bucket.full_at(&rate), 4 * quarter);
    }

    #[test]
    fn a_rate_that_no_nanosecond_divides_does_not_drift() {
        // With a burst of one, what is taken late is late for ever, be it by a part of a nanosecond.
        let rate = rate(3, 2);
        let (mut bucket, mut now) = (Bucket::default(), ZERO);
        for _ in 0..3_000_000 {
            now += bucket.wait(1, &rate, now);
            assert_eq!(bucket.take(1, &rate, now), Ok(()));
        }
        assert_eq!(now.as_nanos(), 999_999_333_333_334, "two at once, then one each third of a second");
    }

    #[test]
    fn more_than_a_bucket_holds_waits_for_a_full_one_and_is_paid_off() {
        let rate = rate(10, 5);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(1, &rate, ZERO), Ok(()));
        assert_eq!(bucket.take(25, &rate, ZERO), Err(Duration::from_millis(100)));
        let now = Duration::from_millis(100);
        assert_eq!(bucket.take(25, &rate, now), Ok(()));
        assert_eq!(bucket.take(1, &rate, now), Err(Duration::from_millis(2100)));
    }

    #[test]
    fn rates_of_minutes_are_exact_too() {
        let rate = Rate::per_minute(number(7), number(1));
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(1, &rate, ZERO), Ok(()));
        assert_eq!(bucket.take(1, &rate, ZERO), Err(Duration::from_nanos(8_571_428_572)));
    }

    #[test]
    fn a_bucket_is_small() {
        assert_eq!(size_of::<Bucket>(), 16);
    }

    /// Units and the time since the last.
    fn takes() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let wait = prop_oneof![Just(0_u64), 0_u64..1_000_000, 0_u64..3_000_000_000];
        prop::collection::vec((prop_oneof![Just(1_u64), 0_u64..40], wait), 1..200)
    }

    fn rates() -> impl Strategy<Value = Rate> {
        let units = || prop_oneof![1_u32..20, 900_u32..1100, Just(u32::MAX)];
        (units(), prop_oneof![1_u32..30, Just(u32::MAX)], any::<bool>()).prop_map(|(units, burst, minutes)| {
            let (units, burst) = (number(units), number(burst));
            if minutes { Rate::per_minute(units, burst) } else { Rate::per_second(units, burst) }
        })
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_the_burst_and_what_came_back_in_it(rate in rates(), takes in takes()) {
            let (mut bucket, mut now) = (Bucket::default(), ZERO);
            let mut taken: Vec<(Duration, u64)> = Vec::new();
            for (units, wait) in takes {
                now += Duration::from_nanos(wait);
                if bucket.take(units, &rate, now).is_ok() {
                    taken.push((now, units));
                }
            }
            for (first, (begin, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (end, units) in &taken[first..] {
                    sum += u128::from(*units);
                    // One that is more than a bucket holds is taken from a full bucket.
                    let most = u128::from(*units).max(rate.burst.get().into());
                    let back = end.saturating_sub(*begin).as_nanos() * u128::from(rate.units.get());
                    prop_assert!(sum * rate.ticks_of_unit() <= most * rate.ticks_of_unit() + back);
                }
            }
        }

        #[test]
        fn a_wait_is_exact(rate in rates(), takes in takes(), asked in 1_u64..50) {
            let (mut bucket, mut now) = (Bucket::default(), ZERO);
            for (units, wait) in takes {
                now += Duration::from_nanos(wait);
                bucket.spend(units, &rate, now);
            }
            let before = bucket;
            if let Err(wait) = bucket.take(asked, &rate, now) {
                prop_assert_eq!(bucket, before, "a refusal costs nothing");
                let then = now + wait;
                let too_soon = then.saturating_sub(Duration::from_nanos(1));
                prop_assert_eq!(bucket.take(asked, &rate, too_soon), Err(Duration::from_nanos(1)));
                prop_assert_eq!(bucket.take(asked, &rate, then), Ok(()));
            }
        }

        #[test]
        fn whoever_keeps_to_the_rate_never_waits(per_second in 1_u32..1000, count in 1_u32..500) {
            let rate = rate(per_second, 2);
            let mut bucket = Bucket::default();
            for at in 0..u64::from(count) {
                let now = Duration::from_nanos((at * 1_000_000_000).div_ceil(per_second.into()));
                prop_assert_eq!(bucket.take(1, &rate, now), Ok(()));
            }
        }

        #[test]
        fn no_number_is_too_large(rate in rates(), units: u64, nanos: u64, seconds: u64) {
            let mut bucket = Bucket::default();
            for now in [Duration::new(seconds, 0), Duration::from_nanos(nanos), Duration::MAX, ZERO] {
                bucket.spend(units, &rate, now);
                let _ = (bucket.take(units, &rate, now), bucket.full_at(&rate));
            }
        }
    }
}
