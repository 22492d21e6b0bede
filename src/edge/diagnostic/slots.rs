//! How many probes may be open at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Places that come back when they are dropped, or when their time is over, whichever is first: a client that stops reading
/// keeps its answer unfinished, and is not to keep others out.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Number and end of each; the numbers never come again.
    until: Vec<(u64, Instant)>,
    next: u64,
}

/// A place.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Slots {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for this long, if there is one.
    pub(super) fn take(self: &Arc<Self>, now: Instant, duration: Duration) -> Option<Slot> {
        let mut taken = self.lock();
        taken.until.retain(|(_, until)| *until > now);
        if taken.until.len() >= self.most {
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        taken.until.push((number, now + duration));
        Some(Slot { slots: self.clone(), number })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().until.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_when_it_is_dropped_or_its_time_is_over() {
        let (slots, now) = (Slots::new(2), Instant::now());
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        let first = slots.take(now, minute).unwrap();
        let stuck = slots.take(now, second).unwrap();
        assert!(slots.take(now, second).is_none());
        drop(first);
        let again = slots.take(now, minute).unwrap();
        assert!(slots.take(now, second).is_none());
        let after = slots.take(now + second, minute).unwrap();
        // One that is late gives back nothing but its own.
        drop(stuck);
        assert!(slots.take(now + second, second).is_none());
        drop((again, after));
    }
}
