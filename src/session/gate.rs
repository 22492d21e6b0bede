//! How fast a client may send: what counts its messages and bytes, and keeps it waiting where it is too fast.

use std::time::Instant;

use super::rate::{Bucket, Rate};
use super::settings::{OverRate, Settings};

/// The limits of one connection on what its client sends.
#[derive(Debug)]
pub(super) struct Gate {
    /// What the times of the buckets are counted from.
    began: Instant,
    messages: Bucket,
    bytes: Bucket,
    /// Until when the client is not read.
    until: Option<Instant>,
}

/// What follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It goes on, and the client is read on.
    Freely,
    /// It goes on, and the client is not read for a while.
    Last,
    /// It was too much, and does not go on.
    Refused,
}

impl Gate {
    /// `None` where the route has no limits, which then cost a connection nothing but that.
    pub(super) fn new(settings: &Settings, now: Instant) -> Option<Box<Self>> {
        let limited = settings.message_rate.is_some() || settings.byte_rate.is_some();
        limited
            .then(|| Box::new(Self { began: now, messages: Bucket::default(), bytes: Bucket::default(), until: None }))
    }

    /// A message of this size was read.
    ///
    /// How large a message is, is known only once it is read. Where the client is kept waiting, it is therefore read as long
    /// as nothing is owed, and what one message is too large by is waited for behind it.
    pub(super) fn message(&mut self, size: usize, settings: &Settings, now: Instant) -> Passed {
        let since = now.saturating_duration_since(self.began);
        let size = size as u64;
        let buckets = [(&mut self.messages, &settings.message_rate, 1), (&mut self.bytes, &settings.byte_rate, size)];
        let mut limited = buckets.into_iter().filter_map(|(bucket, rate, units)| Some((bucket, rate.as_ref()?, units)));
        if settings.over_rate == OverRate::Close {
            let passes = limited.all(|(bucket, rate, units)| bucket.take(units, rate, since).is_ok());
            return if passes { Passed::Freely } else { Passed::Refused };
        }
        let wait = |(bucket, rate, units): (&mut Bucket, &Rate, u64)| {
            bucket.spend(units, rate, since);
            bucket.wait(1, rate, since)
        };
        let wait = limited.map(wait).max().unwrap_or_default();
        if wait.is_zero() {
            return Passed::Freely;
        }
        // A wait that no clock can say is one without an end; limits and sizes that can be configured give none.
        self.until = now.checked_add(wait);
        Passed::Last
    }

    /// Until when the client is not read.
    pub(super) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Lets the client be read again if it is time.
    pub(super) fn lift(&mut self, now: Instant) {
        self.until = self.until.filter(|until| *until > now);
    }
}
