//! A stream of timed events, as a body.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::slots::Slot;
use crate::bridge::Stop;
use crate::protocol::diagnostic::{Beat, Events};
use crate::protocol::sse;

/// Sends each event at its time. It ends after the last, or when the gateway stops.
pub(super) struct Timed {
    events: Events,
    nonce: String,
    /// How many were sent.
    sent: u32,
    /// When the first was sent; the times of the others are counted from it.
    began: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: Slot,
}

impl Timed {
    pub(super) fn new(events: Events, nonce: String, stop: &Stop, slot: Slot) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        let stopping = Box::pin(stop.shutdown.clone().cancelled_owned());
        Self { events, nonce, sent: 0, began: None, timer, stopping, _slot: slot }
    }

    fn next(&mut self, now: Instant) -> Bytes {
        let began = *self.began.get_or_insert(now);
        self.sent += 1;
        let sent_us = u64::try_from(now.duration_since(began).as_micros()).unwrap_or(u64::MAX);
        self.timer.as_mut().reset(began + self.events.interval.saturating_mul(self.sent));
        let beat = Beat { event: self.sent, sent_us, nonce: self.nonce.clone() };
        let data = serde_json::to_string(&beat).unwrap_or_default();
        sse::encode(None, Some(&self.sent.to_string()), &data).unwrap_or_default().into()
    }
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.sent == this.events.count || this.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        ready!(this.timer.as_mut().poll(cx));
        Poll::Ready(Some(Ok(Frame::data(this.next(Instant::now())))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;

    use super::super::slots::Slots;
    use super::*;

    fn timed(count: u32, stop: &Stop) -> Timed {
        let slot = Slots::new(1).take(std::time::Instant::now(), Duration::from_secs(1)).unwrap();
        let events = Events { count, interval: Duration::from_millis(20), bare: false };
        Timed::new(events, "n1".to_owned(), stop, slot)
    }

    #[tokio::test]
    async fn each_event_comes_at_its_time_and_says_it() {
        let mut body = timed(3, &Stop::default());
        let mut parser = sse::Parser::new(sse::Limits { event: 1000, field: 10 });
        for number in 1..=3 {
            parser.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
            let beat: Beat = serde_json::from_str(&parser.next().unwrap().unwrap().data).unwrap();
            assert_eq!((beat.event, beat.nonce.as_str(), parser.last_event_id()), (number, "n1", &*number.to_string()));
            // Never early; how late, is the machine's business.
            assert!(beat.sent_us >= u64::from(number - 1) * 20_000, "{beat:?}");
        }
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_gateway_that_stops_ends_it() {
        let stop = Stop::default();
        let mut body = timed(100, &stop);
        assert!(body.frame().await.is_some());
        stop.shutdown.cancel();
        assert!(body.frame().await.is_none());
    }
}
