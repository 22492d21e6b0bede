//! When a connection has to be looked at though nothing has happened.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// The one timer of a connection. It is moved only when it goes off, or when a deadline comes sooner than it: a busy
/// connection does not touch the timer wheel.
pub(crate) struct Alarm {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    /// One that goes off at `due` first.
    pub(crate) fn new(due: Instant) -> Self {
        Self { due, sleep: Box::pin(tokio::time::sleep_until(due.into())) }
    }

    /// Ready once `deadline` has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if deadline < self.due {
            self.set(deadline);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.set(deadline);
        }
        Poll::Pending
    }

    fn set(&mut self, due: Instant) {
        self.due = due;
        self.sleep.as_mut().reset(due.into());
    }
}
