//! Spent tickets in the memory of one process.
//!
//! They are spread over shards with a lock each. There is no task that tidies up: each ticket that comes in makes room of
//! those in its shard that have expired, and of those in all shards when there is no room left.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use super::NotSpent;
use crate::access::lock;

/// Locks that tickets share, so that those which come at once seldom meet.
const SHARDS: usize = 16;

/// Spent tickets, at most so many.
#[derive(Debug)]
pub(super) struct Memory {
    shards: [Mutex<Tickets>; SHARDS],
    hasher: RandomState,
    /// Tickets in all shards, and places that are about to be taken.
    length: AtomicUsize,
    max: AtomicUsize,
}

impl Memory {
    pub(super) fn new(max: usize) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), length: AtomicUsize::new(0), max: max.into() }
    }

    /// At most so many from now on. Those that are remembered stay, however many they are.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Remembers a ticket until `until`. One that still holds is never forgotten for another.
    pub(super) fn spend(&self, id: &str, until: SystemTime, now: SystemTime) -> Result<(), NotSpent> {
        self.forget(&mut self.shard(id), now);
        if !self.take_place() {
            // Locked one after another: no two are ever held at once.
            self.shards.iter().for_each(|shard| self.forget(&mut lock(shard), now));
            if !self.take_place() {
                // A ticket that is known is spent, whether or not there is room.
                let spent = self.shard(id).holds(id);
                return Err(if spent { NotSpent::AlreadySpent } else { NotSpent::Full });
            }
        }
        if self.shard(id).insert(id, until) {
            return Ok(());
        }
        self.length.fetch_sub(1, Ordering::Relaxed);
        Err(NotSpent::AlreadySpent)
    }

    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    fn take_place(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let more = |length: usize| (length < max).then_some(length + 1);
        self.length.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn forget(&self, shard: &mut Tickets, now: SystemTime) {
        self.length.fetch_sub(shard.forget(now), Ordering::Relaxed);
    }

    fn shard(&self, id: &str) -> MutexGuard<'_, Tickets> {
        let at = usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or_default();
        let [first, ..] = &self.shards;
        lock(self.shards.get(at).unwrap_or(first))
    }
}

/// The rule, without a clock: tickets by id, and in the order in which they expire.
#[derive(Debug, Default)]
struct Tickets {
    ids: HashSet<Arc<str>>,
    order: BinaryHeap<Reverse<(SystemTime, Arc<str>)>>,
}

impl Tickets {
    fn holds(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Takes a ticket in; false if it is there.
    fn insert(&mut self, id: &str, until: SystemTime) -> bool {
        if self.holds(id) {
            return false;
        }
        let id: Arc<str> = id.into();
        self.order.push(Reverse((until, id.clone())));
        self.ids.insert(id)
    }

    /// Forgets those that have expired at `now`; gives their number.
    fn forget(&mut self, now: SystemTime) -> usize {
        let before = self.ids.len();
        while let Some(Reverse((until, _))) = self.order.peek()
            && *until <= now
        {
            if let Some(Reverse((_, id))) = self.order.pop() {
                self.ids.remove(&id);
            }
        }
        // Half of what is held is given back at a time, so that a burst does not cost memory for ever.
        if self.order.len() < self.order.capacity() / 4 {
            self.order.shrink_to(self.order.len() * 2);
            self.ids.shrink_to(self.order.len() * 2);
        }
        before - self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Barrier;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_ticket_is_honoured_once_for_as_long_as_it_holds() {
        let memory = Memory::new(10);
        assert_eq!(memory.spend("a", at(30), at(0)), Ok(()));
        assert_eq!(memory.spend("a", at(30), at(29)), Err(NotSpent::AlreadySpent));
        assert_eq!(memory.spend("b", at(30), at(29)), Ok(()));
        assert_eq!(memory.spend("a", at(60), at(30)), Ok(()), "it would be refused as expired before");
    }

    #[test]
    fn a_full_store_refuses_and_never_forgets_a_ticket_that_holds() {
        let memory = Memory::new(2);
        assert_eq!(memory.spend("a", at(30), at(0)), Ok(()));
        assert_eq!(memory.spend("b", at(10), at(0)), Ok(()));
        assert_eq!(memory.spend("c", at(40), at(0)), Err(NotSpent::Full));
        assert_eq!(memory.spend("a", at(30), at(0)), Err(NotSpent::AlreadySpent));
        assert_eq!(memory.spend("c", at(40), at(10)), Ok(()), "b has expired, in whatever shard");
        assert_eq!(memory.spend("a", at(30), at(10)), Err(NotSpent::AlreadySpent));
        assert_eq!(memory.len(), 2);
    }

    #[test]
    fn of_200_that_use_a_ticket_at_once_exactly_one_wins() {
        for _ in 0..20 {
            let (memory, barrier) = (Memory::new(1000), Barrier::new(200));
            let race = || {
                barrier.wait();
                memory.spend("a", at(30), at(0)).is_ok()
            };
            let won = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..200).map(|_| scope.spawn(race)).collect();
                racers.into_iter().filter_map(|racer| racer.join().ok()).filter(|won| *won).count()
            });
            assert_eq!((won, memory.len()), (1, 1));
        }
    }

    #[test]
    fn memory_is_given_back_when_tickets_have_expired() {
        let mut tickets = Tickets::default();
        assert!((0..10_000).all(|id| tickets.insert(&id.to_string(), at(30))));
        assert_eq!(tickets.forget(at(30)), 10_000);
        assert!(tickets.ids.capacity() < 100 && tickets.order.capacity() < 100);
    }

    proptest! {
        #[test]
        fn it_remembers_what_a_plain_list_would(
            steps in prop::collection::vec((0_u8..12, 1_u64..20, 0_u64..5), 0..200),
            max in 1_usize..8,
        ) {
            let memory = Memory::new(max);
            let mut list: HashMap<u8, u64> = HashMap::new();
            let mut now = 0;
            for (id, lasts, passed) in steps {
                now += passed;
                list.retain(|_, until| *until > now);
                let expected = match () {
                    () if list.contains_key(&id) => Err(NotSpent::AlreadySpent),
                    () if list.len() == max => Err(NotSpent::Full),
                    () => {
                        list.insert(id, now + lasts);
                        Ok(())
                    }
                };
                prop_assert_eq!(memory.spend(&id.to_string(), at(now + lasts), at(now)), expected);
                prop_assert!(memory.len() <= max);
            }
        }
    }
}
