//! How many requests a client may take back before they are answered (CVE-2023-44487, "rapid reset"): each has cost us work and it
//! nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::session::rate::{Bucket, Rate};

/// More requests taken back than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// What one connection has taken back. So many may be in a minute, and one more for each request that was answered: on a connection
/// that many users share, a tenth of them may change their minds for ever.
#[derive(Debug)]
pub(super) struct Resets {
    bucket: Bucket,
    rate: Rate,
    /// Requests that were answered and not yet made up for, no more than a minute's worth.
    answered: u32,
    most: u32,
}

impl Resets {
    /// So many in a minute.
    pub(super) fn new(most: NonZeroU32) -> Self {
        Self { bucket: Bucket::default(), rate: Rate::per_minute(most, most), answered: 0, most: most.get() }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.answered = self.answered.saturating_add(1).min(self.most);
    }

    /// A request was taken back, at a time counted from the connection's start.
    ///
    /// # Errors
    ///
    /// [`TooMany`]: the connection is to be closed.
    pub(super) fn taken_back(&mut self, now: Duration) -> Result<(), TooMany> {
        if self.answered > 0 {
            self.answered -= 1;
            return Ok(());
        }
        self.bucket.take(1, &self.rate, now).map_err(|_| TooMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(resets: &mut Resets, now: Duration) -> usize {
        (0..10_000).take_while(|_| resets.taken_back(now).is_ok()).count()
    }

    #[test]
    fn so_many_in_a_minute_may_be_taken_back() {
        let mut resets = Resets::new(NonZeroU32::new(60).unwrap());
        assert_eq!(most(&mut resets, Duration::ZERO), 60);
        assert_eq!(most(&mut resets, Duration::from_secs(10)), 10);
        assert_eq!(most(&mut resets, Duration::from_hours(1)), 60);
    }

    #[test]
    fn a_client_that_waits_for_as_many_answers_is_never_cut() {
        let mut resets = Resets::new(NonZeroU32::MIN);
        for _ in 0..1000 {
            resets.answered();
            assert_eq!(resets.taken_back(Duration::ZERO), Ok(()));
        }
        (0..1000).for_each(|_| resets.answered());
        assert_eq!(most(&mut resets, Duration::ZERO), 2, "answers are not saved up for an attack");
    }
}
