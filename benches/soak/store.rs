//! The backends' store: outlives them, keeps the books, and decides what goes wrong with a request.

use std::sync::{Mutex, MutexGuard};

use crate::ledger::Ledger;
use crate::wire::{Answer, Order, Told, What};

#[derive(Default)]
pub(crate) struct Store {
    ledger: Mutex<Ledger>,
    manners: Mutex<Manners>,
}

/// How requests are answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manners {
    /// How long it takes to answer a request for an event stream, in milliseconds.
    pub(crate) open_delay: u64,
    /// ... and a POST.
    pub(crate) post_delay: u64,
    /// HTTP/1.1: the connection of a POST is closed after it, so that the next one needs a new one.
    pub(crate) close_posts: bool,
    /// What happens to the next POSTs, and to how many.
    pub(crate) post_fault: Option<(PostFault, u32)>,
}

/// What can happen to a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostFault {
    /// 503 with `Retry-After: 1`, not recorded.
    Busy,
    /// Read, not recorded, connection reset.
    ResetBefore,
    /// Read, recorded, connection reset.
    ResetAfter,
    /// Read, recorded, no answer.
    Hold,
}

impl Store {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }

    pub(crate) fn endpoint_is_gone(&self, endpoint: usize) {
        self.ledger().endpoint_is_gone(endpoint);
    }

    /// Takes what a backend says; what it waits for is returned.
    pub(crate) fn take(&self, endpoint: usize, told: Told) -> Option<Order> {
        let mut ledger = self.ledger();
        let mut manners = self.manners.lock().unwrap();
        match told {
            Told::Ready { .. } => None,
            Told::Accepted => {
                ledger.accepted += 1;
                None
            }
            Told::Opening { request, visit, born, last, at } => {
                ledger.opening(endpoint, visit, born, last, at);
                let answer = Answer { what: What::Accept, delay_ms: manners.open_delay, close: false };
                Some(Order::Answer { request, answer })
            }
            Told::GivenUp { visit } => {
                ledger.answered_opening(endpoint, visit);
                None
            }
            Told::Opened { visit } => {
                ledger.opened(endpoint, visit);
                None
            }
            Told::Left { visit } => {
                ledger.left(endpoint, visit);
                None
            }
            Told::Posted { request, visit, key, sequence, number } => {
                ledger.posted(visit, &key, sequence, number);
                let fault = manners.next_fault();
                let (recorded, what) = match fault {
                    None => (true, What::Accept),
                    Some(PostFault::Busy) => (false, What::Busy(1)),
                    Some(PostFault::ResetBefore) => (false, What::Reset),
                    Some(PostFault::ResetAfter) => (true, What::Reset),
                    Some(PostFault::Hold) => (true, What::Hold),
                };
                if recorded {
                    ledger.record(visit, &key, number);
                }
                let answer = Answer { what, delay_ms: manners.post_delay, close: manners.close_posts };
                Some(Order::Answer { request, answer })
            }
            Told::Answering { visit, sequence, at } => {
                ledger.answering(visit, sequence, at);
                None
            }
        }
    }
}

impl Manners {
    fn next_fault(&mut self) -> Option<PostFault> {
        let (fault, left) = self.post_fault.as_mut()?;
        let fault = *fault;
        *left -= 1;
        if *left == 0 {
            self.post_fault = None;
        }
        Some(fault)
    }
}
