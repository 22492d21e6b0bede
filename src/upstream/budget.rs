//! What all connections of an upstream share: how many of them may start something in a second, and at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::pacer::Pacer;
use super::snapshot::BudgetSnapshot;

/// Gives turns, first come first served.
///
/// Only the first in the queue waits for a place and for its time; the others wait for it to be gone. So whoever gives up
/// waiting has taken nothing, and the next one moves up.
#[derive(Debug)]
pub struct Budget {
    queue: Mutex<Pacer>,
    /// `None`: any number at once.
    places: Option<Arc<Semaphore>>,
    waiting: AtomicUsize,
    active: AtomicUsize,
    granted: AtomicU64,
}

/// Leave to start. What was started is over when this is dropped.
#[derive(Debug)]
pub struct Turn {
    budget: Arc<Budget>,
    /// Held for its drop.
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.budget.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one that waits, until it no longer does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    /// At most `rate` turns in any second, and at most `concurrency` at once.
    pub(super) fn new(rate: NonZeroU32, concurrency: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Pacer::new(rate)),
            places: concurrency.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            waiting: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            granted: AtomicU64::new(0),
        })
    }

    /// Waits for a turn. The turn is held until what it was for has been answered. Dropping the future gives its place
    /// in the queue up, and costs the others nothing.
    pub fn turn(self: &Arc<Self>) -> impl Future<Output = Turn> + Send + use<> {
        let budget = self.clone();
        async move {
            let waiting = Waiting::new(&budget.waiting);
            let mut pacer = budget.queue.lock().await;
            let place = match &budget.places {
                // It is never closed, and if it were, the pace would still be kept.
                Some(places) => places.clone().acquire_owned().await.ok(),
                None => None,
            };
            let ready = pacer.ready_at(Instant::now().into_std());
            if ready > Instant::now().into_std() {
                tokio::time::sleep_until(ready.into()).await;
            }
            pacer.take(Instant::now().into_std());
            drop(pacer);
            drop(waiting);
            budget.active.fetch_add(1, Ordering::Relaxed);
            budget.granted.fetch_add(1, Ordering::Relaxed);
            Turn { budget, _place: place }
        }
    }

    /// Who waits, who has a turn, and how many turns there were.
    #[must_use]
    pub fn snapshot(&self) -> BudgetSnapshot {
        BudgetSnapshot {
            waiting: self.waiting.load(Ordering::Relaxed),
            active: self.active.load(Ordering::Relaxed),
            granted: self.granted.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    type Asked = Pin<Box<dyn Future<Output = Turn> + Send>>;

    fn budget(rate: u32, concurrency: Option<usize>) -> Arc<Budget> {
        Budget::new(NonZeroU32::new(rate).unwrap(), concurrency)
    }

    fn ask(budget: &Arc<Budget>) -> Asked {
        Box::pin(budget.turn())
    }

    fn poll(asked: &mut Asked) -> Poll<Turn> {
        asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn counts(budget: &Budget) -> (usize, usize, u64) {
        let BudgetSnapshot { waiting, active, granted } = budget.snapshot();
        (waiting, active, granted)
    }

    #[tokio::test]
    async fn whoever_comes_first_is_served_first_and_whoever_leaves_takes_nothing() {
        let budget = budget(100_000, Some(1));
        let first = budget.turn().await;
        let (mut second, mut third) = (ask(&budget), ask(&budget));
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
        assert_eq!(counts(&budget), (2, 1, 1));
        drop(second);
        assert!(poll(&mut third).is_pending());
        assert_eq!(counts(&budget), (1, 1, 1));
        drop(first);
        drop(third.await);
        assert_eq!(counts(&budget), (0, 0, 2));
    }

    #[tokio::test]
    async fn the_pace_is_kept() {
        let budget = budget(20, None);
        let began = Instant::now();
        for _ in 0..5 {
            drop(budget.turn().await);
        }
        assert!(began.elapsed() >= std::time::Duration::from_millis(200), "{:?}", began.elapsed());
        let mut late = ask(&budget);
        assert!(poll(&mut late).is_pending(), "the next is due after 50 ms");
    }

    proptest! {
        #[test]
        fn never_more_at_once_than_allowed_and_in_order(
            concurrency in 1_usize..5,
            steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..150),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                // So fast that the pace is never what is waited for.
                let budget = budget(u32::MAX, Some(concurrency));
                let mut queue: VecDeque<(u32, Asked)> = VecDeque::new();
                let (mut turns, mut number, mut granted) = (Vec::new(), 0, 0);
                for (what, which) in steps {
                    match what {
                        0 | 1 => {
                            number += 1;
                            queue.push_back((number, ask(&budget)));
                        }
                        2 if !queue.is_empty() => drop(queue.remove(which.index(queue.len()))),
                        3 if !turns.is_empty() => drop(turns.swap_remove(which.index(turns.len()))),
                        _ => {}
                    }
                    let mut served = true;
                    while std::mem::take(&mut served) {
                        let mut at = 0;
                        while at < queue.len() {
                            if let Poll::Ready(turn) = poll(&mut queue[at].1) {
                                prop_assert_eq!(at, 0, "out of order");
                                queue.pop_front();
                                turns.push(turn);
                                granted += 1;
                                served = true;
                            } else {
                                at += 1;
                            }
                        }
                    }
                    prop_assert!(turns.len() <= concurrency);
                    prop_assert!(queue.is_empty() || turns.len() == concurrency, "somebody waits for nothing");
                    prop_assert_eq!(counts(&budget), (queue.len(), turns.len(), granted));
                }
                Ok(())
            })?;
        }
    }
}
