//! The memory budget: nobody new is let in while the process holds more than it may, so that those who are in are not
//! killed together with it.
//!
//! The gateway's sampler says every now and then what the process holds; between two samples every newcomer counts with an
//! estimate. The rule reads no clock and no file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;

use crate::protocol::problem::Problem;

/// What a newcomer is taken to need until a sample shows it. An idle connection holds some 14 KiB (`benches/README.md`), its
/// handshake, first messages and buffers a few times that.
const NEWCOMER: u64 = 64 * 1024;

/// When to try again: time enough for connections to end, or for what is queued to go out.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// What the process holds and may hold. Without a budget it lets everybody in.
#[derive(Debug, Default)]
pub struct Memory {
    /// 0 is none.
    budget: AtomicU64,
    /// As it was sampled last; 0 while it is not known, and then the budget holds nobody up.
    resident: AtomicU64,
    over: AtomicBool,
    /// Connections that are being opened.
    opening: AtomicU64,
    /// Connections that were opened, or were refused by upstream, since the last sample.
    settled: AtomicU64,
}

/// What is known of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Resident memory in bytes when it was last looked at; 0 if it cannot be read.
    pub resident: u64,
    /// The most that it may be before nobody is let in; `None` is no limit.
    pub budget: Option<u64>,
    /// Whether it is above it, or has been and has not yet fallen far enough below.
    pub over: bool,
}

/// The budget was reached, or is kept again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From now on nobody is let in.
    Over,
    /// Newcomers are let in again.
    Kept,
}

impl Memory {
    /// A budget in bytes; `None` is no limit.
    #[must_use]
    pub fn new(budget: Option<u64>) -> Self {
        let memory = Self::default();
        memory.set_budget(budget);
        memory
    }

    /// Another budget from now on; the next sample says what that changes.
    pub fn set_budget(&self, budget: Option<u64>) {
        // Nothing fits into a budget of none, nor of one byte.
        self.budget.store(budget.map_or(0, |bytes| bytes.max(1)), Relaxed);
    }

    fn budget(&self) -> Option<u64> {
        Some(self.budget.load(Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Takes a sample: `read` gives the bytes that the process holds. Says what the sample has changed.
    ///
    /// # Errors
    ///
    /// That of `read`, after which everybody is let in: a budget that nobody watches must not refuse for ever.
    pub fn sample<E>(&self, read: impl FnOnce() -> Result<u64, E>) -> Result<Option<Change>, E> {
        // Only those that had settled before the sample are sure to be in it.
        let seen = self.settled.load(Relaxed);
        let resident = read().inspect_err(|_| {
            self.resident.store(0, Relaxed);
            self.over.store(false, Relaxed);
        })?;
        self.resident.store(resident, Relaxed);
        self.settled.fetch_sub(seen, Relaxed);
        let Some(budget) = self.budget() else {
            return Ok(self.over.swap(false, Relaxed).then_some(Change::Kept));
        };
        let over = is_over(self.over.load(Relaxed), resident, budget);
        Ok(match (self.over.swap(over, Relaxed), over) {
            (false, true) => Some(Change::Over),
            (true, false) => Some(Change::Kept),
            (true, true) | (false, false) => None,
        })
    }

    /// Lets a newcomer in, who counts until it is dropped and then until the next sample.
    ///
    /// # Errors
    ///
    /// 503 with `Retry-After` while there is no room.
    pub fn admit(self: &Arc<Self>) -> Result<Newcomer, Problem> {
        let newcomers = self.opening.fetch_add(1, Relaxed).saturating_add(1).saturating_add(self.settled.load(Relaxed));
        let resident = self.resident.load(Relaxed);
        let has_room = self.budget().is_none_or(|budget| resident == 0 || has_room(resident, newcomers, budget));
        if has_room && !self.over.load(Relaxed) {
            return Ok(Newcomer(self.clone()));
        }
        self.opening.fetch_sub(1, Relaxed);
        let detail = "the gateway has no room for further connections now";
        Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "out-of-memory-budget", detail).with_retry_after(TRY_AGAIN))
    }

    /// How it stands.
    #[must_use]
    pub fn held(&self) -> Held {
        Held { resident: self.resident.load(Relaxed), budget: self.budget(), over: self.over.load(Relaxed) }
    }
}

/// A connection that is being opened.
#[derive(Debug)]
pub struct Newcomer(Arc<Memory>);

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.0.settled.fetch_add(1, Relaxed);
        self.0.opening.fetch_sub(1, Relaxed);
    }
}

/// Whether nobody is let in: from the moment when not even one newcomer fits in, until 5 % of the budget are free, so that
/// it does not go to and fro with every sample.
fn is_over(was_over: bool, resident: u64, budget: u64) -> bool {
    if was_over { resident > budget - budget / 20 } else { !has_room(resident, 1, budget) }
}

/// Whether these newcomers, which no sample has shown yet, fit in.
fn has_room(resident: u64, newcomers: u64, budget: u64) -> bool {
    resident.saturating_add(newcomers.saturating_mul(NEWCOMER)) <= budget
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 100 * NEWCOMER;

    fn memory() -> Arc<Memory> {
        Arc::new(Memory::new(Some(BUDGET)))
    }

    fn sample(memory: &Memory, resident: u64) -> Option<Change> {
        memory.sample(|| Ok::<_, ()>(resident)).expect("read")
    }

    #[test]
    fn without_room_for_one_more_nobody_is_let_in_until_a_twentieth_of_it_is_free_again() {
        let memory = memory();
        assert_eq!(sample(&memory, BUDGET - NEWCOMER), None);
        assert!(memory.admit().is_ok());
        assert_eq!(sample(&memory, BUDGET - NEWCOMER + 1), Some(Change::Over));
        assert_eq!(sample(&memory, BUDGET + 2), None);
        let problem = memory.admit().expect_err("no room");
        assert_eq!((problem.status.as_u16(), problem.kind), (503, "out-of-memory-budget"));
        assert!(problem.headers.contains_key(http::header::RETRY_AFTER));
        assert_eq!(sample(&memory, 96 * NEWCOMER), None);
        assert!(memory.admit().is_err(), "it is below the budget, but not by far enough");
        assert_eq!(sample(&memory, 95 * NEWCOMER), Some(Change::Kept));
        assert!(memory.admit().is_ok());
    }

    #[test]
    fn a_burst_between_two_samples_stays_within_the_budget() {
        let memory = memory();
        sample(&memory, 90 * NEWCOMER);
        let let_in: Vec<_> = (0..1000).filter_map(|_| memory.admit().ok()).collect();
        assert_eq!(let_in.len(), 10);
        // Open now, and still not in any sample.
        drop(let_in);
        assert!(memory.admit().is_err());
        sample(&memory, 91 * NEWCOMER);
        assert_eq!((0..1000).map_while(|_| memory.admit().ok()).count(), 9);
    }

    #[test]
    fn who_is_being_opened_counts_across_samples_and_who_was_sent_away_does_not_count() {
        let memory = memory();
        sample(&memory, 99 * NEWCOMER);
        let slow = memory.admit().expect("room for one");
        for _ in 0..5 {
            assert!(memory.admit().is_err());
            sample(&memory, 99 * NEWCOMER);
        }
        drop(slow);
        sample(&memory, 99 * NEWCOMER);
        assert!(memory.admit().is_ok());
    }

    #[test]
    fn who_settles_while_a_sample_is_taken_counts_until_the_next_one() {
        let memory = memory();
        sample(&memory, 99 * NEWCOMER);
        let newcomer = memory.admit().expect("room for one");
        let read = || {
            drop(newcomer);
            Ok::<_, ()>(99 * NEWCOMER)
        };
        memory.sample(read).expect("read");
        assert!(memory.admit().is_err());
        sample(&memory, 99 * NEWCOMER);
        assert!(memory.admit().is_ok());
    }

    #[test]
    fn without_a_budget_or_without_samples_everybody_is_let_in() {
        let unlimited = Arc::new(Memory::new(None));
        assert_eq!(sample(&unlimited, u64::MAX), None);
        assert!((0..1000).all(|_| unlimited.admit().is_ok()));
        let unwatched = Arc::new(Memory::new(Some(1)));
        assert!((0..1000).all(|_| unwatched.admit().is_ok()));
        let lost = memory();
        sample(&lost, BUDGET + 1);
        assert_eq!(lost.sample(|| Err("no such file")), Err("no such file"));
        assert!((0..1000).all(|_| lost.admit().is_ok()) && !lost.held().over);
    }
}
